//! The engines, each set up as its own experts would: one file an engine, and one list of them all.

#[cfg(feature = "canopydb")]
mod canopydb;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(any(feature = "fjall", feature = "rocksdb", feature = "sled"))]
mod key_locks;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod seawall;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;

use anyhow::{Result, bail};

use crate::engine::{Engine, Settings};
use crate::workload::{Context, Session};

/// An engine that this program was built with.
pub(crate) struct Registered {
    pub(crate) name: &'static str,
    pub(crate) settings: Settings,
    run: fn(Session, &Context) -> Result<()>,
    /// What is killed by the recovery session.
    write_until_killed: fn(&Context) -> Result<()>,
}

const fn register<E: Engine>() -> Registered {
    Registered {
        name: E::NAME,
        settings: E::SETTINGS,
        run: crate::workload::run::<E>,
        write_until_killed: crate::workload::recovery::write_until_killed::<E>,
    }
}

/// Every engine, in the order of the tables.
pub(crate) const ENGINES: &[Registered] = &[
    register::<seawall::Seawall>(),
    #[cfg(feature = "redb")]
    register::<redb::Redb>(),
    #[cfg(feature = "lmdb")]
    register::<lmdb::Lmdb>(),
    #[cfg(feature = "rocksdb")]
    register::<rocksdb::Rocksdb>(),
    #[cfg(feature = "fjall")]
    register::<fjall::Fjall>(),
    #[cfg(feature = "canopydb")]
    register::<canopydb::Canopydb>(),
    #[cfg(feature = "sqlite")]
    register::<sqlite::Sqlite>(),
    #[cfg(feature = "sled")]
    register::<sled::Sled>(),
];

/// The engine of this name.
pub(crate) fn named(name: &str) -> Result<&'static Registered> {
    let Some(engine) = ENGINES.iter().find(|engine| engine.name == name) else {
        let names: Vec<_> = ENGINES.iter().map(|engine| engine.name).collect();
        bail!("there is no engine {name:?} in this build, which has {}", names.join(", "));
    };
    Ok(engine)
}

impl Registered {
    pub(crate) fn run(&self, session: Session, context: &Context) -> Result<()> {
        (self.run)(session, context)
    }

    pub(crate) fn write_until_killed(&self, context: &Context) -> Result<()> {
        (self.write_until_killed)(context)
    }
}
