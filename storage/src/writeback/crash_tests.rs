//! Power cuts at every operation of a run of page writes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use seawall_wal::disk::sim::{CrashPlan, OperationKind, SimDisk, SimOperation};
use seawall_wal::disk::{AlignedBuf, OpenMode};
use seawall_wal::{Epoch, Lsn, PageId};

use super::cleaner::CleanerTarget;
use super::doublewrite::BatchId;
use super::restore::restore;
use super::rig::{PAGE_BYTES, Rig, doublewrite_file, open_pages, value_of};
use super::writer::LogWatermark;
use crate::page::{PageView, Verified};

const PAGES: Range<u64> = 1..13;
/// Two pieces, and half of all pages.
const CROSSING_SLOTS: usize = 6;

/// What must be on disk from some operation on.
struct Synced {
    operation: u64,
    pages: BTreeMap<PageId, Lsn>,
    batch: u64,
}

/// A run of changes and cleaner steps, and what each step made durable.
fn run(rig: &Rig, seed: u64) -> Vec<Synced> {
    let mut timeline = vec![Synced { operation: 0, pages: BTreeMap::new(), batch: 0 }];
    let mut pages = BTreeMap::new();
    let mut random = seed;
    for round in 0..12 {
        let mut latest = BTreeMap::new();
        for page in PAGES {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if random >> 62 != 0 || round == 0 {
                // The value of a page is its LSN: the log says what stands there.
                let value = rig.log.reserved_lsn().get() + 100;
                latest.insert(PageId::new(page), rig.put(page, value));
            }
        }
        let target = CleanerTarget::RedoLsn(Lsn::MAX);
        // In pieces every other time.
        let step = || match round % 2 {
            0 => rig.cleaner.step(target),
            _ => rig.cleaner.step_gently(target, 0),
        };
        while !step().unwrap().is_reached {}
        pages.extend(latest);
        let batch = rig.cleaner.writer().last_synced_batch();
        let operation = rig.disk.operation_count();
        timeline.push(Synced { operation, pages: pages.clone(), batch });
    }
    timeline
}

/// Restores, and checks that every page is readable and no older than what was synced.
fn check(disk: &SimDisk, synced: &Synced, end_lsn: Lsn) -> Result<(), String> {
    let text = |error: seawall_wal::Error| error.to_string();
    let slots = doublewrite_file(disk).scan().map_err(text)?;
    let file = open_pages(disk, OpenMode::ReadWrite);
    let known = BatchId { epoch: Epoch::new(1), number: synced.batch };
    for known in [None, Some(known)] {
        restore(&slots, &file, known, end_lsn).map_err(text)?;
        if known.is_none() {
            let again = restore(&slots, &file, known, end_lsn).map_err(text)?;
            if !again.is_empty() {
                return Err(format!("restored again: {again:?}"));
            }
        }
    }
    let mut buffer = AlignedBuf::new(PAGE_BYTES);
    for page in PAGES.map(PageId::new) {
        let verified = file.read_page(page, &mut buffer).map_err(text)?;
        let page_lsn = PageView::new(&buffer).page_lsn();
        let floor = synced.pages.get(&page).copied().unwrap_or(Lsn::NONE);
        if page_lsn < floor {
            return Err(format!("page {page} has {page_lsn}, {floor} was synced"));
        }
        if verified != Verified::NeverWritten && value_of(&buffer)? != page_lsn.get() {
            return Err(format!("page {page} has a value that was never written"));
        }
    }
    Ok(())
}

/// Has another batch run, whole, whenever one is about to do `kind` to `path`: two in flight, in an
/// order that a seed replays. Returns how many pages those batches have written.
fn cross(rig: &Rig, kind: OperationKind, path: &'static Path) -> Arc<AtomicUsize> {
    let is_inside = AtomicBool::new(false);
    let cleaner = Arc::downgrade(&rig.cleaner);
    let pages = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&pages);
    rig.disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        let is_place = operation.kind == kind && operation.path == path;
        if is_place && !is_inside.swap(true, Ordering::SeqCst) {
            let cleaner = cleaner.upgrade().unwrap();
            let step = cleaner.step(CleanerTarget::RedoLsn(Lsn::MAX)).unwrap();
            written.fetch_add(step.pages_written, Ordering::SeqCst);
            is_inside.store(false, Ordering::SeqCst);
        }
    }));
    pages
}

/// Cuts at every operation, in many ways; the first finding.
fn cut_everywhere(seed: u64) -> Result<u64, String> {
    cut_run(&Rig::new(32, 64, 16), seed)
}

fn cut_run(rig: &Rig, seed: u64) -> Result<u64, String> {
    rig.disk.record_forks();
    let timeline = run(rig, seed);
    let mut cuts = 0;
    for fork in rig.disk.take_forks() {
        let before = |synced: &&Synced| synced.operation < fork.operation();
        let synced = timeline.iter().rev().find(before).expect("the first entry is at 0");
        for (plan, crashed) in fork.disk().crash_states(0..6) {
            cuts += 1;
            check(&crashed, synced, rig.log.reserved_lsn()).map_err(|finding| {
                format!("{finding}; cut before {} ({plan:?}, seed {seed})", fork.describe())
            })?;
        }
    }
    Ok(cuts)
}

#[test]
fn every_page_is_whole_after_a_cut_at_any_operation() {
    let cuts: u64 = (1..4).map(|seed| cut_everywhere(seed).unwrap()).sum();
    assert!(cuts > 1000, "{cuts} cuts only");
}

#[test]
fn every_page_is_whole_after_a_cut_with_two_batches_in_flight() {
    for (kind, path) in [
        (OperationKind::Write, "/doublewrite"),
        (OperationKind::WriteSync, "/doublewrite"),
        (OperationKind::Write, "/pages"),
        (OperationKind::Sync, "/pages"),
    ] {
        for seed in 1..3 {
            let rig = Rig::new(32, 64, CROSSING_SLOTS);
            let crossing_pages = cross(&rig, kind, Path::new(path));
            let cuts = cut_run(&rig, seed).unwrap_or_else(|finding| panic!("{kind:?}: {finding}"));
            assert!(cuts > 300, "{cuts} cuts only");
            let crossing_pages = crossing_pages.load(Ordering::SeqCst);
            assert!(
                crossing_pages > 10,
                "{kind:?} {path}: {crossing_pages} pages of a second batch"
            );
        }
    }
}

/// A process is killed at any operation; the next one restores, and reuses the areas at once (here
/// they are wiped); then the power goes. What the first one left unsynced must be synced by then.
#[test]
fn what_a_killed_process_left_is_durable_before_the_areas_are_reused() {
    let rig = Rig::new(16, 64, 4);
    rig.disk.record_forks();
    let timeline = run(&rig, 5);
    for fork in rig.disk.take_forks() {
        let before = |synced: &&Synced| synced.operation < fork.operation();
        let synced = timeline.iter().rev().find(before).expect("the first entry is at 0");
        let killed = fork.disk();
        check(killed, synced, rig.log.reserved_lsn()).unwrap();
        killed.write_file(Path::new("/doublewrite"), &wiped(killed));
        for plan in CrashPlan::all(0..3) {
            check(&killed.crash(plan), synced, rig.log.reserved_lsn())
                .unwrap_or_else(|finding| panic!("{finding}; killed before {}", fork.describe()));
        }
    }
}

/// The doublewrite file with its areas empty.
fn wiped(disk: &SimDisk) -> Vec<u8> {
    let mut bytes = disk.read_file(Path::new("/doublewrite")).unwrap();
    bytes[4096..].fill(0);
    bytes
}

/// Run with `--test-threads=1`: a planted bug is there for the whole process.
#[cfg(seawall_planted)]
mod planted_bugs {
    use super::cut_everywhere;
    use crate::planted::{Bug, plant};

    #[test]
    fn a_skipped_doublewrite_sync_is_found() {
        plant(Bug::SkipDoublewriteSync, true);
        let found = (1..4).any(|seed| cut_everywhere(seed).is_err());
        plant(Bug::SkipDoublewriteSync, false);
        assert!(found);
    }

    #[test]
    fn a_skipped_log_flush_is_found() {
        plant(Bug::SkipLogFlushBeforePageWrite, true);
        let found = std::panic::catch_unwind(|| cut_everywhere(1));
        plant(Bug::SkipLogFlushBeforePageWrite, false);
        assert!(found.is_err(), "the disk's monitor watches W1");
    }

    #[test]
    fn nothing_is_found_without_a_bug() {
        cut_everywhere(1).unwrap();
    }
}
