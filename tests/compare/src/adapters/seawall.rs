//! Seawall.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use seawall::{Database, Durability, Options, Transaction, TransactionOptions, Tree};

use crate::engine::{Engine, RELAXED_SYNC, RelaxedSync, Session, Settings, Setup, Writer};

#[derive(Debug)]
pub(crate) struct Seawall {
    database: Database,
    tree: Tree,
    durability: Durability,
}

impl Engine for Seawall {
    const NAME: &'static str = "seawall";
    const SETTINGS: Settings = Settings {
        version: "0.1.0",
        cache: "`cache_bytes`",
        durable: "`Durability::Sync`, the default",
        relaxed: "`Durability::Relaxed`, `flush_interval` 100 ms",
        reads: "`Tree::get_with`, `Tree::scan`",
        other: "defaults: 8 KiB pages, checksums verified at every read from disk, serializable, recovery target 2 s, log of 1 GiB at most",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Engine;

    type Session<'e> = SeawallSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let durability = if setup.is_durable { Durability::Sync } else { Durability::Relaxed };
        let database = Options::new()
            .cache_bytes(setup.cache_bytes)
            .durability(durability)
            .flush_interval(RELAXED_SYNC)
            .open(dir)?;
        let tree = database.tree("pairs")?;
        Ok(Self { database, tree, durability })
    }

    fn session(&self) -> Result<SeawallSession<'_>> {
        Ok(SeawallSession(self))
    }

    fn sync(&self) -> Result<()> {
        self.database.sync()?;
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.database.checkpoint()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.close()?)
    }
}

#[derive(Debug)]
pub(crate) struct SeawallSession<'e>(&'e Seawall);

impl SeawallSession<'_> {
    fn options(&self) -> TransactionOptions {
        TransactionOptions::new().durability(self.0.durability)
    }
}

impl Session for SeawallSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.0.tree.get_with(key, read)?)
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut count = 0;
        let visit = |key: &[u8], value: &[u8]| {
            visit(key, value);
            count += 1;
            if count == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if from.is_empty() {
            self.0.tree.scan(.., visit)?;
        } else {
            self.0.tree.scan(from.., visit)?;
        }
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.0.tree.insert(key, value)?)
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        self.0.database.transact_with(self.options(), |transaction| {
            write(&mut SeawallWriter { transaction, tree: &self.0.tree })
        })
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let mut value = Vec::new();
        let is_there =
            self.0.database.transact_with(self.options(), |transaction| -> Result<bool> {
                let found =
                    transaction.get_with(&self.0.tree, key, |old| change(old, &mut value))?;
                if found.is_some() {
                    transaction.insert(&self.0.tree, key, &value)?;
                }
                Ok(found.is_some())
            })?;
        Ok(is_there)
    }
}

struct SeawallWriter<'t> {
    transaction: &'t mut Transaction,
    tree: &'t Tree,
}

impl Writer for SeawallWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.transaction.insert(self.tree, key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.transaction.remove(self.tree, key)?;
        Ok(())
    }
}
