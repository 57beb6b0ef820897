//! sled 0.34, the last stable release: known not to be durable against power loss, whatever is flushed. It is
//! here because people use it.

use std::path::Path;

use anyhow::{Context, Result};
use sled::{Batch, Config, Db, Mode, Tree};

use crate::adapters::key_locks::KeyLocks;
use crate::engine::{Engine, RELAXED_SYNC, RelaxedSync, Session, Settings, Setup, Writer};

pub(crate) struct Sled {
    database: Db,
    pairs: Tree,
    is_durable: bool,
    locks: KeyLocks,
}

impl Engine for Sled {
    const NAME: &'static str = "sled";
    const SETTINGS: Settings = Settings {
        version: "0.34.7",
        cache: "`cache_capacity`",
        durable: "`flush` after each commit; NOT durable against power loss",
        relaxed: "`flush_every_ms` 100",
        reads: "`Tree::get`, `range`: shared slices",
        other: "`HighThroughput`; no compression; read-modify-write under striped locks of the harness",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Engine;

    type Session<'e> = SledSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let interval = u64::try_from(RELAXED_SYNC.as_millis())?;
        let database = Config::new()
            .path(dir)
            .cache_capacity(setup.cache_bytes)
            .mode(Mode::HighThroughput)
            .flush_every_ms((!setup.is_durable).then_some(interval))
            .open()?;
        let pairs = database.open_tree("pairs")?;
        let is_durable = setup.is_durable;
        Ok(Self { database, pairs, is_durable, locks: KeyLocks::new() })
    }

    fn session(&self) -> Result<SledSession<'_>> {
        Ok(SledSession(self))
    }

    fn sync(&self) -> Result<()> {
        self.database.flush().map(|_| ()).context("sled failed to flush")
    }

    fn settle(&self) -> Result<()> {
        self.sync()
    }

    fn close(self) -> Result<()> {
        self.sync()
    }
}

pub(crate) struct SledSession<'e>(&'e Sled);

impl SledSession<'_> {
    fn commit(&self) -> Result<()> {
        if self.0.is_durable { self.0.sync() } else { Ok(()) }
    }
}

impl Session for SledSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        Ok(self.0.pairs.get(key)?.map(|value| read(&value)))
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut count = 0;
        for pair in self.0.pairs.range(from..) {
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
        self.0.pairs.insert(key, value)?;
        self.commit()
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let mut writer = SledWriter(Batch::default());
        write(&mut writer)?;
        self.0.pairs.apply_batch(writer.0)?;
        self.commit()
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let locked = self.0.locks.lock(key);
        let Some(old) = self.0.pairs.get(key)? else { return Ok(false) };
        let mut value = Vec::new();
        change(&old, &mut value);
        self.0.pairs.insert(key, value)?;
        drop(locked);
        self.commit()?;
        Ok(true)
    }
}

struct SledWriter(Batch);

impl Writer for SledWriter {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }
}
