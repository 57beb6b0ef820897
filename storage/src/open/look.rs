//! Opening for reading only: nothing of the database is written.
//!
//! The engine wants a log and a doublewrite file beneath it. Here they lie in memory, on a simulated
//! disk that is thrown away: the log starts an epoch of its own behind the clean end, nobody appends
//! to it, and no page ever becomes dirty.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use seawall_wal::control::{Control, ControlState};
use seawall_wal::disk::{DirectoryLock, OpenMode, SimDisk};
use seawall_wal::log::{SegmentOptions, Segments};
use seawall_wal::{Error, Result};

use super::layout::Layout;
use super::recover::Plan;
use super::sizing::Sizing;
use super::{Opened, Opening};

/// Where the files in memory lie.
const MEMORY_DIR: &str = "/memory";
/// Bound of the log in memory; it stays empty.
const MEMORY_WAL_BYTES: u64 = 16 << 20;

impl Opening<'_> {
    /// Puts a database together that was shut down cleanly, as `plan` has found it.
    pub(super) fn look_at(
        &self,
        control: Control,
        lock: Box<dyn DirectoryLock>,
        plan: &Plan,
        sizing: Sizing,
    ) -> Result<Opened> {
        if !plan.analysis().losers.is_empty() {
            return Err(Error::RecoveryNeeded);
        }
        let mut state: ControlState = control.state();
        let database = state.identity.database;
        let memory = Opening {
            options: self.options,
            disk: Arc::new(SimDisk::new()),
            layout: Layout::new(Path::new(MEMORY_DIR)),
            started: Instant::now(),
        };
        let dir = &memory.layout.dir;
        memory.disk.create_dir(dir).map_err(|error| Error::io(dir, error))?;
        let segments =
            SegmentOptions::for_bound(MEMORY_WAL_BYTES, sizing.segments.record_bytes_max);
        let sizing = Sizing { segments, reserve_bytes: 0, ..sizing };
        memory.doublewrite(database, &sizing).create(sizing.batch_pages)?;
        let segments = Segments::create(&*memory.disk, &memory.layout.wal, sizing.segments)?;
        let resume_at = segments.next_position();
        let end = plan.end();
        let nonce = self.options.source.nonce(state.last_epoch().epoch.get())?;
        let entry = state.start_epoch(nonce, end.end_lsn, end.last_accepted, resume_at)?;

        let file = self.page_file(OpenMode::ReadOnly, database, &sizing)?;
        let file = file.with_epochs(&state.epochs);
        let base = memory.base(segments, entry, database, file, sizing)?;
        let engine = self.engine(&base, plan.analysis())?;
        let mut opened = base.opened(engine, control, lock, plan.report(true));
        opened.report.total = self.started.elapsed();
        Ok(opened)
    }
}
