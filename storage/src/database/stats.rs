//! Where the database stands, in figures. Each is read by itself, so they need not fit together; nothing
//! is waited for but short mutexes.

use seawall_wal::Lsn;
use seawall_wal::codec::to_u64;

use super::core::Core;
use crate::Stats;

impl Core {
    pub(super) fn stats(&self) -> Stats {
        let engine = &self.engine;
        let log = engine.log.stats();
        let pool = engine.pool.stats();
        let counted = engine.counters.read();
        let end_lsn = engine.log.reserved_lsn();
        let redo_lsn = engine.dirty.min_rec_lsn().unwrap_or(end_lsn);
        let undo_lsns = engine.active_txns().into_iter().map(|txn| txn.needed_lsn());
        let undo_lsn = undo_lsns.fold(end_lsn, Lsn::min);
        let (stalls, stall_time) = engine.hooks.stalls();
        Stats {
            end_lsn,
            durable_lsn: engine.log.durable_lsn(),
            visible_lsn: engine.log.visible_lsn(),
            redo_lsn,
            undo_lsn,
            wal_bytes: engine.log.wal_bytes(),
            undo_bytes: engine.spills.bytes(),
            page_file_bytes: engine.file.pages() * to_u64(engine.page_bytes),
            cache_pages: to_u64(engine.pool.frames()),
            dirty_pages: to_u64(engine.dirty.len()),
            cache_hits: pool.hits,
            cache_misses: pool.misses,
            version_bytes: engine.versions.bytes(),
            active_transactions: to_u64(self.live_count()),
            checkpoints: counted.checkpoints,
            stalls,
            stall_time,
            commits: counted.commits,
            rollbacks: counted.rollbacks,
            conflicts: counted.conflicts,
            flushes: log.flushes,
            wal_bytes_written: log.bytes_written,
            page_bytes_written: engine.cleaner.writer().bytes_written(),
            estimated_recovery: self.estimated_recovery(),
            oldest_snapshot_age: engine.snapshots.oldest_age(),
        }
    }
}
