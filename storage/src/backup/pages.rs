//! Copying the page file, while pages change and are written.
//!
//! A page is copied as it is in the pool if it is dirty, else from disk, verified (P4). Either is a
//! state that redo of the copied log can start from: whatever the image lacks was logged behind the
//! redo point of the checkpoint that the copy names. The image may also be newer than that
//! checkpoint; the copied log ends behind everything that was reserved when the last page was copied,
//! so no image is newer than the log (W1).
//!
//! Pages that the copied image of their bitmap page says are free become zeros: one that is allocated
//! later is initialised by the log.

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::AlignedBuf;
use seawall_wal::sync::thread;
use seawall_wal::{Error, PageId, Result};

use super::target::TargetFile;
use crate::engine::Engine;
use crate::page::{BitmapView, PageBuf, PageRead, PageView, Verified, seal};

/// Pages read and written at once.
const BATCH_PAGES: usize = 32;
/// Reads of a page that looks damaged, in case it is just being written.
const TRIES: u32 = 16;

/// Copies all pages to `target`; calls `between` after each batch.
///
/// # Errors
/// [`Error::Corrupt`] for a page in use that is damaged; those of reading and writing.
pub(super) fn copy_pages(
    engine: &Engine,
    target: &mut TargetFile,
    mut between: impl FnMut() -> Result<()>,
) -> Result<()> {
    // A page beyond was not there at the checkpoint: the log initialises it, and redo grows the file.
    let pages = engine.file.pages();
    let mut batch = AlignedBuf::new(BATCH_PAGES * engine.page_bytes);
    for bitmap_id in engine.space.bitmaps().take_while(|bitmap| bitmap.get() < pages) {
        let mut bitmap = PageBuf::zeroed(engine.page_bytes);
        copy_page(engine, bitmap_id, bitmap.bytes_mut())?;
        let view = BitmapView::new(bitmap.bytes());
        let covered = to_usize((pages - bitmap_id.get()).min(to_u64(view.len())));
        for first in (0..covered).step_by(BATCH_PAGES) {
            let indices = first..covered.min(first + BATCH_PAGES);
            let length = indices.len() * engine.page_bytes;
            batch[..length].fill(0);
            let places = batch[..length].chunks_exact_mut(engine.page_bytes);
            for (index, place) in indices.zip(places) {
                if index == 0 {
                    place.copy_from_slice(bitmap.bytes());
                } else if view.is_allocated(index) {
                    copy_page(engine, view.page_at(index), place)?;
                }
            }
            target.append(&batch[..length])?;
            between()?;
        }
    }
    target.pad_to(pages * to_u64(engine.page_bytes))
}

/// Copies one page that is, or was a moment ago, in use; sealed.
fn copy_page(engine: &Engine, page: PageId, out: &mut [u8]) -> Result<()> {
    let mut buffer = AlignedBuf::new(engine.page_bytes);
    let mut tries = 0;
    loop {
        tries += 1;
        if engine.dirty.contains(page)
            && let Some(pin) = engine.pool.pin_resident(page)
        {
            out.copy_from_slice(pin.shared().bytes());
            // A frame that was emptied for a page about to be created anew has no id: the page was
            // freed, and the log says so.
            if PageView::new(out).page_id() == page {
                seal(engine.file.format().seed, page, out);
            } else {
                out.fill(0);
            }
            return Ok(());
        }
        let error = match engine.file.read_page(page, &mut buffer) {
            Ok(Verified::Page(_)) => {
                out.copy_from_slice(&buffer);
                return Ok(());
            }
            Ok(Verified::NeverWritten) => {
                engine.corrupt_page(page, format!("page {page}, which is in use"), "zeros")
            }
            Err(error) => error,
        };
        if tries >= TRIES || !matches!(error, Error::Corrupt { .. }) {
            return Err(error);
        }
        thread::yield_now();
    }
}
