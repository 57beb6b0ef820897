//! LMDB, through heed: a copy-on-write B-tree in a memory map, with one writer.

use std::ops::Bound;
use std::path::Path;

use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RwTxn, WithTls};

use crate::engine::{Engine, RelaxedSync, Session, Settings, Setup, Writer};

/// Address space for the map; the file takes only what is written.
const MAP_BYTES: usize = 64 << 30;
/// More than any workload's threads.
const READERS: u32 = 256;

pub(crate) struct Lmdb {
    env: Env<WithTls>,
    pairs: Database<'static, Bytes, Bytes>,
}

impl Engine for Lmdb {
    const NAME: &'static str = "lmdb";
    const SETTINGS: Settings = Settings {
        version: "0.9.70 (heed 0.23)",
        cache: "none of its own: it uses the page cache, as much of it as there is",
        durable: "the default flags",
        relaxed: "`NO_SYNC`, `force_sync` by the harness every 100 ms; a power cut may then damage the database",
        reads: "slices of the map, a read transaction for each call",
        other: "`NO_READ_AHEAD`, map of 64 GiB; one writer at a time",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Harness;

    type Session<'e> = LmdbSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_readers(READERS);
        let flags = if setup.is_durable { EnvFlags::empty() } else { EnvFlags::NO_SYNC };
        // SAFETY: relaxed databases are never read after a power cut.
        unsafe { options.flags(flags | EnvFlags::NO_READ_AHEAD) };
        // SAFETY: the directory is this run's own, and nothing else changes files in it.
        let env = unsafe { options.open(dir) }?;
        let created: CommitOrAbort<_, ()> = env.create_databases_and_commit(
            env.write_txn()?,
            |opener, transaction| -> heed::Result<_> {
                let pairs = opener.create_database::<Bytes, Bytes>(transaction, None)?;
                Ok(CommitOrAbort::Commit(pairs))
            },
        )?;
        let pairs = created.commit().context("the database was not created")?;
        Ok(Self { env, pairs })
    }

    fn session(&self) -> Result<LmdbSession<'_>> {
        Ok(LmdbSession(self))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

pub(crate) struct LmdbSession<'e>(&'e Lmdb);

impl Session for LmdbSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let transaction = self.0.env.read_txn()?;
        Ok(self.0.pairs.get(&transaction, key)?.map(read))
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let transaction = self.0.env.read_txn()?;
        let mut count = 0;
        let mut each = |pair: heed::Result<(&[u8], &[u8])>| -> Result<bool> {
            let (key, value) = pair?;
            visit(key, value);
            count += 1;
            Ok(count < limit)
        };
        if from.is_empty() {
            for pair in self.0.pairs.iter(&transaction)? {
                if !each(pair)? {
                    break;
                }
            }
        } else {
            let bounds = (Bound::Included(from), Bound::Unbounded);
            for pair in self.0.pairs.range(&transaction, &bounds)? {
                if !each(pair)? {
                    break;
                }
            }
        }
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.0.env.write_txn()?;
        self.0.pairs.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let mut transaction = self.0.env.write_txn()?;
        write(&mut LmdbWriter { transaction: &mut transaction, pairs: self.0.pairs })?;
        Ok(transaction.commit()?)
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let mut transaction = self.0.env.write_txn()?;
        let mut value = Vec::new();
        let found = self.0.pairs.get(&transaction, key)?.map(|old| change(old, &mut value));
        if found.is_some() {
            self.0.pairs.put(&mut transaction, key, &value)?;
        }
        transaction.commit()?;
        Ok(found.is_some())
    }
}

struct LmdbWriter<'t, 'e> {
    transaction: &'t mut RwTxn<'e>,
    pairs: Database<'static, Bytes, Bytes>,
}

impl Writer for LmdbWriter<'_, '_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.pairs.put(self.transaction, key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.pairs.delete(self.transaction, key)?;
        Ok(())
    }
}
