//! RocksDB: a log-structured merge tree in C++.

use std::path::Path;

use anyhow::Result;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, Options, ReadOptions,
    WaitForCompactOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use crate::adapters::key_locks::KeyLocks;
use crate::engine::{Engine, RelaxedSync, Session, Settings, Setup, Writer};

const BLOOM_BITS: f64 = 10.0;
/// Values from here on go to blob files.
const SEPARATED_VALUE_BYTES: usize = 4096;

pub(crate) struct Rocksdb {
    database: DB,
    is_durable: bool,
    locks: KeyLocks,
}

impl Engine for Rocksdb {
    const NAME: &'static str = "rocksdb";
    const SETTINGS: Settings = Settings {
        version: "11.8 (rocksdb 0.25)",
        cache: "LRU block cache with memtables charged to it (half of it at most), filters and indices too",
        durable: "`WriteOptions::sync`",
        relaxed: "unsynced log, `flush_wal(sync)` by the harness every 100 ms",
        reads: "`get_pinned_opt`, raw iterator",
        other: "no compression; Bloom filters of 10 bits a key; hash index in data blocks; memtables of 64 MiB; 4 background jobs; pipelined writes, recycled log files; values from 4 KiB in blob files; read-modify-write under striped locks of the harness",
    };
    const RELAXED_SYNC_BY: RelaxedSync = RelaxedSync::Harness;

    type Session<'e> = RocksdbSession<'e>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let cache_bytes = usize::try_from(setup.cache_bytes)?;
        let cache = Cache::new_lru_cache(cache_bytes);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        blocks.set_bloom_filter(BLOOM_BITS, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_format_version(6);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size((cache_bytes / 4).clamp(4 << 20, 64 << 20));
        options.set_max_write_buffer_number(4);
        let charged =
            WriteBufferManager::new_write_buffer_manager_with_cache(cache_bytes / 2, false, cache);
        options.set_write_buffer_manager(&charged);
        options.set_max_background_jobs(4);
        options.set_bytes_per_sync(1 << 20);
        options.set_enable_pipelined_write(true);
        // A synced write into a recycled log need not change the file's length.
        options.set_recycle_log_file_num(4);
        options.set_level_compaction_dynamic_level_bytes(true);
        if setup.value_bytes >= SEPARATED_VALUE_BYTES {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(SEPARATED_VALUE_BYTES as u64);
            options.set_enable_blob_gc(true);
        }
        let database = DB::open(&options, dir)?;
        Ok(Self { database, is_durable: setup.is_durable, locks: KeyLocks::new() })
    }

    fn session(&self) -> Result<RocksdbSession<'_>> {
        let mut write_options = WriteOptions::default();
        write_options.set_sync(self.is_durable);
        Ok(RocksdbSession { engine: self, write_options, read_options: ReadOptions::default() })
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.database.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn close(self) -> Result<()> {
        self.sync()
    }
}

pub(crate) struct RocksdbSession<'e> {
    engine: &'e Rocksdb,
    write_options: WriteOptions,
    read_options: ReadOptions,
}

impl Session for RocksdbSession<'_> {
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let value = self.engine.database.get_pinned_opt(key, &self.read_options)?;
        Ok(value.map(|value| read(&value)))
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut iterator = self.engine.database.raw_iterator();
        if from.is_empty() {
            iterator.seek_to_first();
        } else {
            iterator.seek(from);
        }
        let mut count = 0;
        while let Some((key, value)) = iterator.item() {
            visit(key, value);
            count += 1;
            if count == limit {
                break;
            }
            iterator.next();
        }
        iterator.status()?;
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.engine.database.put_opt(key, value, &self.write_options)?)
    }

    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()> {
        let mut writer = RocksdbWriter(WriteBatch::default());
        write(&mut writer)?;
        Ok(self.engine.database.write_opt(writer.0, &self.write_options)?)
    }

    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool> {
        let _locked = self.engine.locks.lock(key);
        let Some(old) = self.engine.database.get_pinned_opt(key, &self.read_options)? else {
            return Ok(false);
        };
        let mut value = Vec::new();
        change(&old, &mut value);
        self.put(key, &value)?;
        Ok(true)
    }
}

struct RocksdbWriter(WriteBatch);

impl Writer for RocksdbWriter {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.put(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.delete(key);
        Ok(())
    }
}
