//! canopydb: a B-tree with a write-ahead log and copy-on-write checkpoints.

use std::path::Path;

use anyhow::{Context, Result};
use canopydb::{Database, DbOptions, EnvOptions, Error, Tree, TreeOptions, WriteTransaction};

use crate::engine::{Engine, RELAXED_SYNC, RelaxedSync, Session, Settings, Setup, Writer};

const TREE: &[u8] = b"pairs";

pub(crate) struct Canopydb {
    database: Database,
    is_durable: bool,
    /// Whether writers run side by side and are tried again where they conflict.
    is_concurrent: bool,
}

impl Engine for Canopydb {
    const NAME: &'static str = "canopydb";
    const SETTINGS: Settings = Settings {
        version: "0.2.5",
        cache: "`page_cache_size`; changes not checkpointed yet beside it, 256 MiB at most",
        durable: "log on, `commit_with(sync)`",
        relaxed: "log on, `wal_background_sync_interval` 100 ms",
        reads: "`Tree::get`, `range`: shared bytes",
        other: "defaults; no compression; no page checksums (its default); concurrent write transactions where several threads write",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Engine;

    type Session<'e> = CanopydbSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut env = EnvOptions::new(dir);
        env.page_cache_size = usize::try_from(setup.cache_bytes)?;
        env.wal_background_sync_interval = (!setup.is_durable).then_some(RELAXED_SYNC);
        let database = Database::with_options(env, DbOptions::new())?;
        let mut tree = TreeOptions::default();
        tree.compress_overflow_values = None;
        let transaction = database.begin_write()?;
        transaction.get_or_create_tree_with(TREE, tree)?;
        transaction.commit_with(true)?;
        let (is_durable, is_concurrent) = (setup.is_durable, setup.writers > 1);
        Ok(Self { database, is_durable, is_concurrent })
    }

    fn session(&self) -> Result<CanopydbSession<'_>> {
        Ok(CanopydbSession(self))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.sync()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.database.checkpoint()?)
    }

    fn close(self) -> Result<()> {
        self.sync()
    }
}

pub(crate) struct CanopydbSession<'e>(&'e Canopydb);

impl CanopydbSession<'_> {
    /// Runs a write transaction until it meets no conflict.
    fn write<T>(&self, mut write: impl FnMut(&mut Tree<'_>) -> Result<T>) -> Result<T> {
        loop {
            let transaction = self.0.database.begin_write_with(self.0.is_concurrent)?;
            let result = {
                let mut tree = tree_of(&transaction)?;
                write(&mut tree)?
            };
            match transaction.commit_with(self.0.is_durable) {
                Ok(_) => return Ok(result),
                Err(Error::WriteConflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn tree_of(transaction: &WriteTransaction) -> Result<Tree<'_>> {
    transaction.get_tree(TREE)?.context("the tree was created when the database was opened")
}

impl Session for CanopydbSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let transaction = self.0.database.begin_read()?;
        let tree = transaction.get_tree(TREE)?.context("the tree is there")?;
        Ok(tree.get(key)?.map(|value| read(&value)))
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let transaction = self.0.database.begin_read()?;
        let tree = transaction.get_tree(TREE)?.context("the tree is there")?;
        let mut count = 0;
        for pair in tree.range(from..)? {
            let (key, value) = pair?;
            visit(&key, &value);
            count += 1;
            if count == limit {
                break;
            }
        }
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(|tree| Ok(tree.insert(key, value)?))
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        self.write(|tree| write(&mut CanopydbWriter(tree)))
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let mut value = Vec::new();
        self.write(|tree| {
            let Some(old) = tree.get(key)? else { return Ok(false) };
            change(&old, &mut value);
            tree.insert(key, &value)?;
            Ok(true)
        })
    }
}

struct CanopydbWriter<'t, 'x>(&'t mut Tree<'x>);

impl Writer for CanopydbWriter<'_, '_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.0.insert(key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.delete(key)?;
        Ok(())
    }
}
