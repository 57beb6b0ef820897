//! fjall: a log-structured merge tree in Rust.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode,
};

use crate::adapters::key_locks::KeyLocks;
use crate::engine::{Engine, RelaxedSync, Session, Settings, Setup, Writer};

/// Values from here on are kept apart from keys, fjall's own advice for large ones.
const SEPARATED_VALUE_BYTES: usize = 4096;

/// How often it is asked whether background work is done.
const SETTLE_POLL: Duration = Duration::from_millis(5);

pub(crate) struct Fjall {
    database: Database,
    pairs: Keyspace,
    is_durable: bool,
    locks: KeyLocks,
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall";
    const SETTINGS: Settings = Settings {
        version: "3.1",
        cache: "`cache_size`; memtables of 64 MiB beside it",
        durable: "`persist(SyncData)` after each commit",
        relaxed: "no persist, `persist(SyncData)` by the harness every 100 ms",
        reads: "`Keyspace::get`, `range`: shared slices",
        other: "no compression; Bloom filters of 10 bits a key; values from 4 KiB apart from keys; read-modify-write under striped locks of the harness",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Harness;

    type Session<'e> = FjallSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let database = Database::builder(dir).cache_size(setup.cache_bytes).open()?;
        let is_large = setup.value_bytes >= SEPARATED_VALUE_BYTES;
        let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
        let pairs = database.keyspace("pairs", || {
            KeyspaceCreateOptions::default()
                .filter_policy(FilterPolicy::all(filter))
                .with_kv_separation(is_large.then(KvSeparationOptions::default))
        })?;
        let is_durable = setup.is_durable;
        Ok(Self { database, pairs, is_durable, locks: KeyLocks::new() })
    }

    fn session(&self) -> Result<FjallSession<'_>> {
        Ok(FjallSession(self))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn settle(&self) -> Result<()> {
        while self.database.outstanding_flushes() + self.database.active_compactions() > 0 {
            std::thread::sleep(SETTLE_POLL);
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.sync()
    }
}

pub(crate) struct FjallSession<'e>(&'e Fjall);

impl Session for FjallSession<'_> {
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
            let (key, value) = pair.into_inner()?;
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
        if self.0.is_durable { self.0.sync() } else { Ok(()) }
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let mode = self.0.is_durable.then_some(PersistMode::SyncData);
        let mut writer =
            FjallWriter { batch: self.0.database.batch().durability(mode), pairs: &self.0.pairs };
        write(&mut writer)?;
        Ok(writer.batch.commit()?)
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let locked = self.0.locks.lock(key);
        let Some(old) = self.0.pairs.get(key)? else { return Ok(false) };
        let mut value = Vec::new();
        change(&old, &mut value);
        self.0.pairs.insert(key, value)?;
        // Whoever reads the new value before it is durable builds on a later part of the same log.
        drop(locked);
        if self.0.is_durable {
            self.0.sync()?;
        }
        Ok(true)
    }
}

struct FjallWriter<'e> {
    batch: OwnedWriteBatch,
    pairs: &'e Keyspace,
}

impl Writer for FjallWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.insert(self.pairs, key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.batch.remove(self.pairs, key);
        Ok(())
    }
}
