//! Redo alone, for the suites: what it makes of the pages in a directory, with the log that is there.
//! Nothing is undone, no epoch begins, and nobody is kept out.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use seawall_wal::control::Control;
use seawall_wal::disk::{AlignedBuf, OpenMode};
use seawall_wal::{Error, PageId, Result};

use super::{Layout, Opening};
use crate::Options;
use crate::page::{PageRead, Verified};
use crate::pool::Pool;
use crate::pool::dirty::DirtyTable;
use crate::recovery::redo;
use crate::writeback::restore::restore;

/// Every page that was ever written, with its bytes; the checksum is of no account.
pub(crate) type Pages = Vec<(PageId, Vec<u8>)>;

/// Redoes the log in `dir` on the pages there, all of which must fit the cache that `options` ask for.
pub(crate) fn replay(options: &Options, dir: &Path) -> Result<Pages> {
    let disk = options.select_disk(dir)?;
    let opening = Opening { options, disk, layout: Layout::new(dir), started: Instant::now() };
    let Some(control) = Control::open(&*opening.disk, dir, true)? else {
        return Err(Error::NotFound { what: format!("a database in {}", dir.display()) });
    };
    opening.replay(&control)
}

impl Opening<'_> {
    fn replay(&self, control: &Control) -> Result<Pages> {
        let state = control.state();
        let sizing = self.sizing(state.identity.page_bytes)?;
        let plan = self.plan(&state, &sizing)?;
        let file = self.page_file(OpenMode::ReadWrite, state.identity.database, &sizing)?;
        restore(&plan.slots, &file, plan.analysis.synced_batch(), plan.end.end_lsn)?;
        let dirty = Arc::new(DirtyTable::new(sizing.frames));
        let pool = Pool::new(Arc::new(file), sizing.frames, dirty)?;
        redo(&plan.files, &plan.analysis, &pool, self.redo_workers(), |_| ())?;
        pages(&pool)
    }
}

fn pages(pool: &Pool) -> Result<Pages> {
    let file = pool.page_file();
    let mut buffer = AlignedBuf::new(file.page_bytes());
    let mut pages = Vec::new();
    for page in (0..file.pages()).map(PageId::new) {
        if let Some(pin) = pool.pin_resident(page) {
            pages.push((page, pin.shared().bytes().to_vec()));
        } else if file.read_page(page, &mut buffer)? != Verified::NeverWritten {
            pages.push((page, buffer.to_vec()));
        }
    }
    Ok(pages)
}
