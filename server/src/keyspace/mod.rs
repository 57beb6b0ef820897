//! The databases of a server, on the engine.
//!
//! 1. [`Locks`] says which commands may run at the same time.
//! 2. A [`Unit`] reads and writes for one command, or one EXEC, and commits.
//! 3. [`Unsettled`](unsettled) says what a reply has to wait for.
//! 4. [`Watches`] tells connections that keys they watch have changed.
//! 5. The purge removes expired keys.
//! 6. [`Cursors`] remembers where scans go on.
//! 7. [`Saves`](saves) are checkpoints that clients ask for.
//! 8. A [`View`] is what a connection sees that holds a snapshot; an [`Open`] transaction is what it
//!    reads and writes from command to command.
//!
//! The format stands in `row`.

mod cursors;
mod key_span;
mod locks;
mod open;
mod purge;
mod row;
mod rows;
mod saves;
mod unit;
mod unsettled;
mod view;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use seawall::{Database, Durability, Error, Options, Transaction, Tree};

pub(crate) use cursors::Cursors;
pub(crate) use key_span::{KeySpan, TreeBounds};
pub(crate) use locks::{Held, Hold, Locks};
pub(crate) use open::Open;
pub(crate) use purge::Purger;
pub(crate) use row::{Kind, Row, client_key, engine_key};
pub(crate) use rows::{Order, Rows};
pub(crate) use unit::{Found, Moment, Unit};
pub(crate) use view::View;
pub(crate) use watch::{Watch, Watches};

use crate::job::Single;
use crate::limits::DATABASES;
use saves::Saves;
use unsettled::Unsettled;

const DATABASES_TREE: &str = "redis.databases";

/// The trees that show one database.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) id: u64,
    pub(crate) keys: Tree,
    expiry: Tree,
    /// Set before a key of this space first gets an expiry. Never reset: it only spares reads.
    may_expire: AtomicBool,
}

impl Space {
    fn names(id: u64) -> [String; 3] {
        ["keys", "expiry", "members"].map(|what| format!("redis.{what}.{id}"))
    }

    fn tree_names(&self) -> [String; 3] {
        Self::names(self.id)
    }

    /// The space of this number; its trees are made where they are missing.
    fn create(transaction: &mut Transaction, id: u64) -> seawall::Result<Arc<Self>> {
        let [keys, expiry, members] = Self::names(id);
        transaction.tree(&members)?;
        let (keys, expiry) = (transaction.tree(&keys)?, transaction.tree(&expiry)?);
        Ok(Arc::new(Self { id, keys, expiry, may_expire: AtomicBool::new(false) }))
    }

    fn may_expire(&self) -> bool {
        self.may_expire.load(Ordering::SeqCst)
    }

    fn expects_expiry(&self) {
        self.may_expire.store(true, Ordering::SeqCst);
    }

    /// Number of keys with an expiry.
    pub(crate) fn expiring(&self) -> seawall::Result<u64> {
        self.expiry.len()
    }
}

/// All databases.
#[derive(Debug)]
pub(crate) struct Keyspace {
    pub(crate) engine: Database,
    pub(crate) locks: Locks,
    pub(crate) watches: Watches,
    pub(crate) cursors: Cursors,
    pub(crate) saves: Saves,
    /// Verifications and backups that clients ask for.
    pub(crate) verifying: Single,
    pub(crate) copying: Single,
    unsettled: Unsettled,
    databases: Tree,
    spaces: RwLock<Vec<Arc<Space>>>,
    next_space: AtomicU64,
    /// Keys that the purge has removed.
    pub(crate) expired: AtomicU64,
}

impl Keyspace {
    /// Opens the database of a directory, recovering it where it must.
    pub(crate) fn open(dir: &Path, options: Options) -> seawall::Result<Self> {
        let engine = options.durability(Durability::Relaxed).open(dir)?;
        let databases = engine.tree(DATABASES_TREE)?;
        let mut ids = vec![None; DATABASES];
        for pair in databases.range(..)? {
            let (key, value) = pair?;
            let (number, id) = decode_database_row(&key, &value)?;
            ids[number] = Some(id);
        }
        let mut next = ids.iter().flatten().max().map_or(0, |id| id + 1);
        let spaces = engine.transact(|transaction| {
            let mut spaces = Vec::with_capacity(DATABASES);
            for (number, id) in ids.iter().enumerate() {
                let id = id.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                });
                let space = Space::create(transaction, id)?;
                if ids[number].is_none() {
                    transaction.insert(&databases, number_key(number), id.to_le_bytes())?;
                }
                spaces.push(space);
            }
            Ok(spaces)
        })?;
        for space in &spaces {
            space.may_expire.store(!space.expiry.is_empty()?, Ordering::SeqCst);
        }
        engine.sync()?;
        Ok(Self {
            engine,
            locks: Locks::new(),
            watches: Watches::default(),
            cursors: Cursors::new(crate::clock::now_us()),
            saves: Saves::new(crate::clock::now_ms() / 1000),
            verifying: Single::default(),
            copying: Single::default(),
            unsettled: Unsettled::new(),
            databases,
            spaces: RwLock::new(spaces),
            next_space: AtomicU64::new(next),
            expired: AtomicU64::new(0),
        })
    }

    pub(crate) fn space(&self, database: usize) -> Arc<Space> {
        Arc::clone(&self.spaces.read()[database])
    }

    fn show(&self, spaces: impl ExactSizeIterator<Item = (usize, Arc<Space>)>) {
        if spaces.len() == 0 {
            return;
        }
        let mut shown = self.spaces.write();
        for (database, space) in spaces {
            shown[database] = space;
        }
    }

    fn next_space_id(&self) -> u64 {
        self.next_space.fetch_add(1, Ordering::SeqCst)
    }

    fn database_row(&self, database: usize, space: &Space) -> (Vec<u8>, Vec<u8>) {
        (number_key(database).to_vec(), space.id.to_le_bytes().to_vec())
    }
}

fn number_key(database: usize) -> [u8; 1] {
    [u8::try_from(database).expect("there are sixteen databases")]
}

fn decode_database_row(key: &[u8], value: &[u8]) -> seawall::Result<(usize, u64)> {
    match (key, <[u8; 8]>::try_from(value)) {
        (&[number], Ok(id)) if usize::from(number) < DATABASES => {
            Ok((usize::from(number), u64::from_le_bytes(id)))
        }
        _ => {
            let why =
                format!("the tree {DATABASES_TREE} is not a server's: it has the key {key:02x?}");
            Err(Error::InvalidArgument(why))
        }
    }
}
