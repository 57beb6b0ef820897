//! How the options' bytes are shared out: memory over pool, ring and buffers, log space over
//! segments and the permanent reserve.

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::log::SegmentOptions;
use seawall_wal::record::record_bytes_max;
use seawall_wal::{Error, Result};

use crate::Options;

/// Largest ring between appenders and the disk, in bytes.
const RING_BYTES_MAX: usize = 4 << 20;
/// The ring takes one part in this many of the memory, where that is within its limits.
const RING_SHARE: usize = 16;
/// Longest records that the ring holds at least.
const RING_RECORDS_MIN: usize = 4;
/// The ring's links take one part in this many of its size again.
const LINKS_SHARE: usize = 2;
/// Fewest frames of a pool: what a few operations pin at once on a tall tree.
const FRAMES_MIN: usize = 16;
/// The versions of one transaction take at most one part in this many of the memory; beyond that it
/// writes stamps.
const BULK_SHARE: u64 = 64;
/// Most bytes of that.
const BULK_BUDGET_BYTES_MAX: u64 = 16 << 20;
/// Versions take at most one part in this many of the memory, beside the pool.
const VERSIONS_SHARE: u64 = 4;
/// Less than this is not worth a stall.
const VERSIONS_BYTES_MIN: u64 = 1 << 20;
/// The undo of one transaction may hold one part in this many of the log before it is spilled.
const HELD_SHARE: u64 = 4;
/// A doublewrite batch has one page for this many of the memory's.
const BATCH_SHARE: usize = 16;
/// Bytes that a page of a batch takes, in pages: its copy and its slot's image, of two batches.
const BATCH_COPIES: usize = 4;
/// Most pages of a doublewrite batch.
const BATCH_PAGES_MAX: usize = 128;
/// One part in this many of the frames is kept clean for those who need one.
const CLEAN_SHARE: usize = 32;
/// Fewest frames kept clean: those that one operation pins, and as many again.
const CLEAN_FRAMES_MIN: usize = 8;
/// The permanent reserve takes at most one part in this many of the log.
const RESERVE_SHARE: u64 = 8;
/// What a checkpoint writes for one dirty page, at most: page id, rec LSN, last LSN.
const DIRTY_ENTRY_BYTES: u64 = 30;
/// What a checkpoint and the records that follow garbage take beside the dirty pages.
const RESERVE_BYTES_MIN: u64 = 256 << 10;

/// Sizes of the parts of a database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizing {
    pub(crate) page_bytes: usize,
    pub(crate) frames: usize,
    /// Pages that may be dirty: a checkpoint that lists them all fits the permanent reserve.
    pub(crate) dirty_max: usize,
    /// Frames that the page cleaner keeps clean.
    pub(crate) clean_frames: usize,
    pub(crate) batch_pages: usize,
    pub(crate) ring_bytes: usize,
    pub(crate) bulk_budget_bytes: u64,
    /// Memory for the versions of all transactions.
    pub(crate) versions_bytes_max: u64,
    /// Log that the undo of one transaction may hold.
    pub(crate) held_log_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) segments: SegmentOptions,
}

impl Sizing {
    pub(crate) fn new(options: &Options, page_bytes: usize) -> Result<Self> {
        let cache_bytes = to_usize(options.cache_bytes);
        let record_max = record_bytes_max(page_bytes);
        let ring_bytes = (cache_bytes / RING_SHARE)
            .clamp(RING_RECORDS_MIN * record_max, RING_BYTES_MAX)
            .next_power_of_two();
        let batch_pages = (cache_bytes / page_bytes / BATCH_SHARE).clamp(1, BATCH_PAGES_MAX);
        let ring_and_links_bytes = ring_bytes + ring_bytes / LINKS_SHARE;
        let buffers_bytes = ring_and_links_bytes + BATCH_COPIES * batch_pages * page_bytes;
        let frames = (cache_bytes.saturating_sub(buffers_bytes) / page_bytes).max(FRAMES_MIN);
        if u32::try_from(frames).is_err() {
            let why = format!("cache_bytes asks for {frames} pages; at most {} fit", u32::MAX);
            return Err(Error::InvalidArgument(why));
        }
        let mut segments = SegmentOptions::for_bound(options.max_wal_bytes, record_max);
        if let Some(bytes) = options.segment_bytes {
            segments = segments.with_segment_bytes(bytes);
        }
        let checkpoint_bytes = DIRTY_ENTRY_BYTES * to_u64(frames) + RESERVE_BYTES_MIN;
        let reserve_bytes = checkpoint_bytes.min(options.max_wal_bytes / RESERVE_SHARE);
        let dirty_bytes = reserve_bytes - RESERVE_BYTES_MIN.min(reserve_bytes / 2);
        let dirty_max = to_usize(dirty_bytes / DIRTY_ENTRY_BYTES).clamp(FRAMES_MIN, frames);
        let dirty_max = options.dirty_pages_max.map_or(dirty_max, |pages| dirty_max.min(pages));
        let uncapped = (frames / CLEAN_SHARE).max(CLEAN_FRAMES_MIN);
        // The cleaner stays an eighth below a cap, so that writers seldom meet it.
        let capped = if dirty_max < frames { frames - dirty_max / 8 * 7 } else { 0 };
        let bulk_budget_bytes = (options.cache_bytes / BULK_SHARE).min(BULK_BUDGET_BYTES_MAX);
        let held_log_bytes = options.max_wal_bytes / HELD_SHARE;
        Ok(Self {
            page_bytes,
            frames,
            dirty_max,
            clean_frames: uncapped.max(capped),
            batch_pages,
            ring_bytes,
            bulk_budget_bytes: options.bulk_budget_bytes.unwrap_or(bulk_budget_bytes),
            versions_bytes_max: (options.cache_bytes / VERSIONS_SHARE).max(VERSIONS_BYTES_MIN),
            held_log_bytes: options.held_log_bytes.unwrap_or(held_log_bytes),
            reserve_bytes,
            segments,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_lists_all_dirty_pages_fits_the_reserve() {
        for cache_bytes in [1 << 20, 256 << 20, 1 << 30, 64 << 30] {
            for max_wal_bytes in [16 << 20, 64 << 20, 1 << 30, 64 << 30] {
                let options = Options::new().cache_bytes(cache_bytes).max_wal_bytes(max_wal_bytes);
                let sizing = Sizing::new(&options, 4096).unwrap();
                let listed_bytes = to_u64(sizing.dirty_max) * DIRTY_ENTRY_BYTES;
                assert!(listed_bytes + RESERVE_BYTES_MIN <= sizing.reserve_bytes, "{sizing:?}");
                assert!(sizing.frames - sizing.clean_frames < sizing.dirty_max, "{sizing:?}");
                let is_capped = sizing.dirty_max < sizing.frames;
                let all_bytes = to_u64(sizing.frames) * DIRTY_ENTRY_BYTES + RESERVE_BYTES_MIN;
                assert_eq!(is_capped, all_bytes > max_wal_bytes / RESERVE_SHARE, "{sizing:?}");
            }
        }
    }
}
