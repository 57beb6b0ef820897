use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seawall_wal::codec::to_u64;
use seawall_wal::disk::OpenMode;
use seawall_wal::disk::sim::{EIO, ENOSPC, Fault, FaultEffect, OperationKind, SimOperation};
use seawall_wal::{Epoch, Error, Lsn, PageId};

use super::cleaner::CleanerTarget;
use super::doublewrite::SlotImage;
use super::restore::{known_durable_lsn, restore};
use super::rig::{PAGE_BYTES, Rig, doublewrite_file, noise_page, open_pages, value_of};
use super::writer::LogWatermark;
use crate::page::PageRead;
use crate::pool::dirty::{DirtyPage, DirtyTable};

fn page(number: u64) -> PageId {
    PageId::new(number)
}

#[test]
fn cleaned_pages_leave_the_dirty_table_and_read_back() {
    let rig = Rig::new(16, 64, 4);
    for number in 1..=10 {
        rig.put(number, number * 7);
    }
    assert_eq!(rig.pool.dirty().len(), 10);
    rig.clean();
    assert!(rig.pool.dirty().is_empty());
    assert_eq!(rig.cleaner.writer().last_synced_batch(), 3);
    let file = open_pages(&rig.disk, OpenMode::ReadOnly);
    let mut buffer = seawall_wal::disk::AlignedBuf::new(PAGE_BYTES);
    for number in 1..=10 {
        file.read_page(page(number), &mut buffer).unwrap();
        assert_eq!(value_of(&buffer), Ok(number * 7));
    }
}

#[test]
fn oldest_pages_are_written_first_and_no_more_than_the_target_needs() {
    let rig = Rig::new(16, 64, 4);
    for number in [9, 3, 7, 5, 1] {
        rig.put(number, number);
    }
    let third = rig.pool.dirty().oldest(3)[2];
    assert_eq!(third.1, page(7));
    let step = rig.cleaner.step(CleanerTarget::RedoLsn(third.0)).unwrap();
    assert_eq!((step.pages_written, step.is_reached), (2, true));
    assert!(!rig.pool.dirty().contains(page(9)) && !rig.pool.dirty().contains(page(3)));
    assert_eq!(rig.pool.dirty().min_rec_lsn(), Some(third.0));
}

#[test]
fn of_pages_in_many_shards_the_oldest_are_found_in_order() {
    let dirty = DirtyTable::with_shards(256, 16);
    // All different: 1009 is prime.
    let aged = (1..200).map(|number| (Lsn::new(number * 7919 % 1009 + 1), page(number)));
    let mut aged: Vec<_> = aged.collect();
    for &(rec_lsn, page) in &aged {
        dirty.enter(page, || rec_lsn);
        if page.get().is_multiple_of(3) {
            assert!(dirty.begin_write(page).is_some());
        }
    }
    aged.retain(|(_, page)| !page.get().is_multiple_of(3));
    aged.sort_unstable();
    for count in [0, 1, 5, 64, 1000] {
        assert_eq!(dirty.oldest(count), aged[..count.min(aged.len())], "{count}");
    }
    for below in [0, 1, 40, 5000].map(Lsn::new) {
        let older = aged.iter().filter(|(rec_lsn, _)| *rec_lsn < below).map(|(_, page)| *page);
        let in_order: BTreeSet<_> = older.collect();
        assert_eq!(dirty.below(below), in_order.into_iter().collect::<Vec<_>>(), "{below}");
    }
}

#[test]
fn a_batch_is_smaller_while_somebody_waits_for_a_commit() {
    let rig = Rig::new(512, 512, 256);
    for number in 1..=400 {
        rig.put(number, number);
    }
    let all = CleanerTarget::RedoLsn(Lsn::MAX);
    let pages_of_step = |is_awaited| {
        rig.log.is_awaited.store(is_awaited, Ordering::SeqCst);
        rig.cleaner.step(all).unwrap().pages_written
    };
    assert_eq!([pages_of_step(true), pages_of_step(false)], [64, 256]);
}

#[test]
fn gentle_steps_grow_only_while_the_log_is_quiet() {
    let rig = Rig::new(1024, 1024, 256);
    for number in 1..=600 {
        rig.put(number, number);
    }
    rig.cleaner.reach_gently(Lsn::MAX).unwrap();
    // Six of 64 pages, in pieces of 2, 4, 8, 16, 32 and 64, one of 128, and one of 88.
    assert_eq!(rig.cleaner.writer().last_synced_batch(), 8);

    let rig = Rig::new(1024, 1024, 256);
    for number in 1..=600 {
        rig.put(number, number);
    }
    let redo_lsn = rig.log.reserved_lsn();
    let (log, longest) = (Arc::clone(&rig.log), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&longest);
    rig.disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        if operation.path == Path::new("/pages") && operation.kind == OperationKind::Write {
            log.reserve();
            seen.fetch_max(operation.bytes.len() / PAGE_BYTES, Ordering::SeqCst);
        }
    }));
    rig.cleaner.reach_gently(redo_lsn).unwrap();
    assert_eq!((rig.cleaner.writer().last_synced_batch(), longest.load(Ordering::SeqCst)), (10, 2));
}

/// Has `pages` list the runs of pages that are written in place: the first one, and how many.
fn watch_runs(rig: &Rig) -> Arc<std::sync::Mutex<Vec<(u64, usize)>>> {
    let runs = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    rig.disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        if operation.path == Path::new("/pages") && operation.kind == OperationKind::Write {
            let first = operation.offset / to_u64(PAGE_BYTES);
            seen.lock().unwrap().push((first, operation.bytes.len() / PAGE_BYTES));
        }
    }));
    runs
}

#[test]
fn a_checkpoint_writes_pages_in_the_order_of_their_ids_and_neighbours_at_once() {
    let rig = Rig::new(512, 512, 256);
    // Every tenth is clean, and those of odd ids are older.
    let dirty = |is_odd| (1..=200).filter(move |id| id % 10 != 0 && (id % 2 == 1) == is_odd);
    for id in dirty(true).chain(dirty(false)) {
        rig.put(id, id);
    }
    rig.log.is_awaited.store(true, Ordering::SeqCst);
    let runs = watch_runs(&rig);
    rig.cleaner.reach_gently(Lsn::MAX).unwrap();
    let runs = runs.lock().unwrap();
    assert_eq!(rig.cleaner.writer().last_synced_batch(), 3);
    assert!(runs.is_sorted());
    // The first batch has pieces of two.
    assert_eq!(runs[..7], [(1, 2), (3, 2), (5, 2), (7, 2), (9, 1), (11, 1), (12, 2)]);
    assert_eq!(runs.iter().map(|(_, pages)| pages).sum::<usize>(), 180);
    assert!(rig.pool.dirty().is_empty());
}

#[test]
fn between_two_pieces_there_are_rests_while_others_commit() {
    let looks_of_step = |is_awaited| {
        let rig = Rig::new(64, 64, 32);
        for number in 1..=12 {
            rig.put(number, number);
        }
        rig.log.is_awaited.store(is_awaited, Ordering::SeqCst);
        let step = rig.cleaner.step_gently(CleanerTarget::RedoLsn(Lsn::MAX), 0).unwrap();
        assert_eq!((step.pages_written, rig.cleaner.writer().last_synced_batch()), (12, 1));
        rig.log.looks.load(Ordering::SeqCst)
    };
    // Six pieces of pages, images that are a little less, and nobody flushes the log.
    let [awaited, quiet] = [true, false].map(looks_of_step);
    assert!(awaited >= quiet + 10 * 16, "{awaited} looks at the log, {quiet} without commits");
}

#[test]
fn a_rest_ends_with_a_flush_of_the_log_or_when_somebody_waits_for_pages() {
    let looks_of = |is_flushed: bool, is_hurried: bool| {
        let rig = Rig::new(64, 64, 32);
        for number in 1..=12 {
            rig.put(number, number);
        }
        rig.log.is_awaited.store(true, Ordering::SeqCst);
        rig.log.flushes_when_looked_at.store(is_flushed, Ordering::SeqCst);
        let hurry = is_hurried.then(|| rig.cleaner.writer().hurry());
        rig.cleaner.step_gently(CleanerTarget::RedoLsn(Lsn::MAX), 0).unwrap();
        drop(hurry);
        rig.log.looks.load(Ordering::SeqCst)
    };
    let full = looks_of(false, false);
    for (is_flushed, is_hurried) in [(true, false), (false, true)] {
        let ended = looks_of(is_flushed, is_hurried);
        assert!(ended + 10 * 10 < full, "{ended} looks at the log, {full} without an end");
    }
}

#[test]
fn a_page_changed_while_it_is_written_stays_dirty_from_its_image_on() {
    let rig = Rig::new(8, 64, 4);
    let first = rig.put(1, 1);
    let dirty = rig.pool.dirty();
    assert!(dirty.begin_write(page(1)).is_some());
    assert!(dirty.begin_write(page(1)).is_none(), "P3: one write at a time");
    let second = rig.put(1, 2);
    dirty.written(page(1), first);
    assert!(dirty.begin_write(page(1)).is_none(), "P3: not before the sync");
    dirty.complete(page(1), Some(second));
    let entries: Vec<_> = (0..dirty.shards()).flat_map(|shard| dirty.copy_shard(shard)).collect();
    assert_eq!(entries, [DirtyPage { page: page(1), rec_lsn: first, last_lsn: second }]);
}

#[test]
fn a_latched_page_is_not_taken_for_clean() {
    let rig = Rig::new(8, 64, 4);
    let lsn = rig.put(1, 1);
    let dirty = rig.pool.dirty();
    assert!(dirty.begin_write(page(1)).is_some());
    dirty.written(page(1), lsn);
    dirty.complete(page(1), None);
    assert_eq!(dirty.oldest(1), [(lsn, page(1))]);
}

#[test]
fn a_failed_log_flush_leaves_the_pages_dirty_and_unwritten() {
    let rig = Rig::new(8, 64, 4);
    rig.put(1, 1);
    let operations = rig.disk.operation_count();
    rig.log.fails.store(true, Ordering::SeqCst);
    let target = CleanerTarget::RedoLsn(Lsn::MAX);
    assert!(matches!(rig.cleaner.step(target), Err(Error::Poisoned { .. })));
    assert_eq!(rig.disk.operation_count(), operations);
    assert_eq!(rig.pool.dirty().oldest(1).len(), 1);
    rig.log.fails.store(false, Ordering::SeqCst);
    rig.clean();
}

#[test]
fn a_failed_write_or_sync_poisons_and_keeps_the_entries_in_flight() {
    for (path, kind, is_gentle) in [
        ("/doublewrite", OperationKind::Write, true),
        ("/doublewrite", OperationKind::Sync, true),
        ("/doublewrite", OperationKind::WriteSync, false),
        ("/pages", OperationKind::Write, true),
        ("/pages", OperationKind::Sync, false),
    ] {
        for errno in [EIO, ENOSPC] {
            let rig = Rig::new(16, 64, 8);
            for number in 3..9 {
                rig.put(number, number);
            }
            rig.put(1, 1);
            let fault = Fault::new(FaultEffect::Errno(errno)).kind(kind);
            rig.disk.add_fault(fault.path(move |at| at == Path::new(path)));
            let target = CleanerTarget::RedoLsn(Lsn::MAX);
            let failed = match is_gentle {
                true => rig.cleaner.step_gently(target, 0),
                false => rig.cleaner.step(target),
            };
            assert!(matches!(failed, Err(Error::Poisoned { source: Some(_) })), "{failed:?}");
            assert!(rig.log.poisoned.load(Ordering::SeqCst));
            assert!(rig.pool.dirty().contains(page(1)));
            assert!(rig.pool.dirty().oldest(1).is_empty(), "nobody may write the page again");
            rig.put(2, 2);
            assert!(rig.cleaner.step(target).is_err(), "a batch after a failed one");
        }
    }
}

#[test]
fn nothing_is_written_after_the_end_of_the_writer() {
    let rig = Rig::new(8, 64, 4);
    rig.put(1, 1);
    rig.cleaner.writer().end();
    let operations = rig.disk.operation_count();
    let step = rig.cleaner.step(CleanerTarget::RedoLsn(Lsn::MAX));
    assert!(matches!(step, Err(Error::Closed)), "{step:?}");
    assert_eq!(rig.disk.operation_count(), operations);
    assert_eq!(rig.pool.dirty().oldest(1).len(), 1);
}

/// One of two batches is told what could not be written, and the next sync is called a success.
#[test]
fn no_batch_goes_on_after_the_failed_durable_write_of_another() {
    for is_direct in [true, false] {
        let rig = Rig::new(8, 64, 4);
        rig.disk.set_direct(is_direct);
        let file = doublewrite_file(&rig.disk).open(Epoch::new(2)).unwrap();
        let (first, second) = (file.begin().unwrap(), file.begin().unwrap());
        let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::WriteSync);
        rig.disk.add_fault(fault);
        assert!(matches!(first.write(&[]), Err(Error::Io { .. })));
        assert!(matches!(second.write(&[]), Err(Error::Io { .. })));
    }
}

/// While one batch rests, what it has written may be lost in the failed sync of another.
#[test]
fn a_batch_in_pieces_does_not_go_on_after_the_failed_sync_of_another() {
    let rig = Rig::new(8, 64, 4);
    let file = doublewrite_file(&rig.disk).open(Epoch::new(2)).unwrap();
    let bytes = noise_page();
    let image = SlotImage { page: page(1), page_lsn: Lsn::new(1), bytes: &bytes };
    let (first, second) = (file.begin().unwrap(), file.begin().unwrap());
    let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync);
    rig.disk.add_fault(fault);
    let mut others = None;
    let written = second.write_in_pieces(&[image; 4], 2, || {
        others.get_or_insert_with(|| first.write_in_pieces(&[image; 4], 2, || {}));
    });
    assert!(others.is_some_and(|other| other.is_err()));
    assert!(written.is_err(), "its first piece is gone, and its own sync found no fault");
}

/// What a drive had cached may be gone with the failed flush of any file, images that nobody synced too.
#[test]
fn no_page_is_overwritten_once_the_log_is_poisoned_behind_the_images() {
    let rig = Rig::new(32, 64, 32);
    for number in 1..=12 {
        rig.put(number, number);
    }
    let (log, writes) = (Arc::clone(&rig.log), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&writes);
    rig.disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        match (operation.path.to_str(), operation.kind) {
            (Some("/doublewrite"), OperationKind::Write) => log.poison(Error::Closed),
            (Some("/pages"), OperationKind::Write) => {
                seen.fetch_add(operation.bytes.len() / PAGE_BYTES, Ordering::SeqCst);
            }
            _ => {}
        }
    }));
    let all = CleanerTarget::RedoLsn(Lsn::MAX);
    assert!(matches!(rig.cleaner.step_gently(all, 0), Err(Error::Poisoned { .. })));
    assert_eq!(writes.load(Ordering::SeqCst), 0);
    // Whoever reads still gets clean frames.
    rig.clean();
    assert_eq!(writes.load(Ordering::SeqCst), 12);
}

/// The same of pages in their places: their images must stay.
#[test]
fn no_page_is_clean_that_was_written_while_the_log_was_poisoned() {
    let rig = Rig::new(32, 64, 32);
    for number in 1..=12 {
        rig.put(number, number);
    }
    let log = Arc::clone(&rig.log);
    rig.disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        if operation.path == Path::new("/pages") && operation.kind == OperationKind::Write {
            log.poison(Error::Closed);
        }
    }));
    let all = CleanerTarget::RedoLsn(Lsn::MAX);
    assert!(matches!(rig.cleaner.step_gently(all, 0), Err(Error::Poisoned { .. })));
    assert_eq!(rig.pool.dirty().len(), 12);
    assert!(rig.pool.dirty().oldest(1).is_empty(), "nobody may write the pages again");
    assert_eq!(rig.cleaner.writer().last_synced_batch(), 0);
}

/// Pages that it had taken would be waited for until the end of days.
#[test]
fn a_panic_while_pages_are_written_poisons() {
    let rig = Rig::new(32, 64, 32);
    rig.put(1, 1);
    rig.disk.set_monitor(Arc::new(|operation: &SimOperation<'_>| {
        assert_ne!(operation.path, Path::new("/doublewrite"), "planted by the test");
    }));
    let all = CleanerTarget::RedoLsn(Lsn::MAX);
    let stepped = catch_unwind(AssertUnwindSafe(|| rig.cleaner.step(all)));
    assert!(stepped.is_err());
    assert!(matches!(rig.cleaner.reach(all), Err(Error::Poisoned { .. })));
}

#[test]
fn a_page_that_redo_recreates_goes_without_an_image() {
    let rig = Rig::new(8, 64, 4);
    let dirty = rig.pool.dirty();
    for (number, is_recreated) in [(1, true), (2, false)] {
        let pin = rig.pool.pin_new(page(number)).unwrap();
        let mut latched = pin.exclusive();
        let reserved = || seawall_wal::Lsn::new(1);
        if is_recreated {
            dirty.enter_recreated(page(number), reserved);
        }
        rig.change(&mut latched, number);
    }
    rig.clean();
    let pages: Vec<_> = rig.slots().iter().map(|slot| slot.page).collect();
    assert_eq!(pages, [page(2)]);
    // A second dirty period, whose first record changes the page only.
    rig.put(1, 9);
    rig.clean();
    assert_eq!(rig.slots().last().unwrap().page, page(1));
}

#[test]
fn the_exemption_of_a_recreated_page_ends_when_rec_lsn_is_raised() {
    let rig = Rig::new(8, 64, 4);
    let dirty = rig.pool.dirty();
    dirty.enter_recreated(page(1), || Lsn::new(500));
    assert!(dirty.begin_write(page(1)).unwrap().is_recreated);
    dirty.written(page(1), Lsn::new(600));
    dirty.complete(page(1), None);
    assert!(!dirty.begin_write(page(1)).unwrap().is_recreated);
}

#[test]
fn forgetting_a_freed_page_waits_for_its_write() {
    let rig = Rig::new(8, 64, 4);
    let dirty = rig.pool.dirty();
    let lsn = rig.put(1, 1);
    dirty.forget(page(1));
    assert!(dirty.is_empty() && dirty.min_rec_lsn().is_none());
    rig.put(1, 1);
    assert!(dirty.begin_write(page(1)).is_some());
    dirty.forget(page(1));
    assert!(dirty.contains(page(1)), "P3: the write is in flight");
    dirty.written(page(1), lsn);
    dirty.complete(page(1), Some(lsn));
    assert!(dirty.is_empty());
}

#[test]
fn an_image_beyond_the_end_of_the_log_is_corruption() {
    let rig = Rig::new(8, 64, 4);
    let lsn = rig.put(1, 1);
    rig.clean();
    let slots = rig.slots();
    assert_eq!(known_durable_lsn(&slots), lsn);
    let file = open_pages(&rig.disk, OpenMode::ReadWrite);
    assert_eq!(restore(&slots, &file, None, lsn).unwrap(), []);
    let short = Lsn::new(lsn.get() - 1);
    assert!(matches!(restore(&slots, &file, None, short), Err(Error::Corrupt { .. })));
    assert_eq!(restore(&slots, &file, Some(slots[0].batch), short).unwrap(), []);
}

#[test]
fn an_old_image_does_not_replace_a_newer_page_and_a_new_one_replaces_an_older_page() {
    let rig = Rig::new(8, 64, 4);
    rig.put(1, 1);
    rig.clean();
    let before = rig.disk.read_file(Path::new("/pages")).unwrap();
    let lsn = rig.put(1, 2);
    rig.clean();
    let slots = rig.slots();
    assert_eq!(slots.len(), 2);
    let file = open_pages(&rig.disk, OpenMode::ReadWrite);
    assert_eq!(restore(&slots[..1], &file, None, lsn).unwrap(), []);
    // The last write of the page never landed.
    rig.disk.write_file(Path::new("/pages"), &before);
    let file = open_pages(&rig.disk, OpenMode::ReadWrite);
    assert_eq!(restore(&slots, &file, None, lsn).unwrap(), [page(1)]);
    let mut buffer = seawall_wal::disk::AlignedBuf::new(PAGE_BYTES);
    file.read_page(page(1), &mut buffer).unwrap();
    assert_eq!(value_of(&buffer), Ok(2));
}

#[test]
fn every_damaged_bit_of_a_slot_makes_it_vanish_and_none_panics() {
    let rig = Rig::new(8, 64, 4);
    rig.put(1, 1);
    rig.clean();
    let slot = &rig.slots()[0];
    let bytes = rig.disk.read_file(Path::new("/doublewrite")).unwrap();
    let start = bytes.windows(4).position(|window| window == b"DWSL").unwrap();
    assert!(start > 4096 + 4 * PAGE_BYTES, "batch 1 is in the second area");
    for offset in start..start + 64 + 16 {
        for bit in 0..8 {
            rig.disk.flip_bit(Path::new("/doublewrite"), to_u64(offset), bit);
            assert_eq!(rig.slots(), [], "bit {bit} of byte {offset}");
            rig.disk.flip_bit(Path::new("/doublewrite"), to_u64(offset), bit);
        }
    }
    assert_eq!(&rig.slots()[0], slot);
}

#[test]
fn every_damaged_bit_of_the_file_header_is_corruption() {
    let rig = Rig::new(8, 64, 4);
    for offset in 0..48 {
        rig.disk.flip_bit(Path::new("/doublewrite"), offset, 3);
        assert!(matches!(doublewrite_file(&rig.disk).scan(), Err(Error::Corrupt { .. })));
        rig.disk.flip_bit(Path::new("/doublewrite"), offset, 3);
    }
    let mut other = doublewrite_file(&rig.disk);
    other.database = seawall_wal::DatabaseId::new([7; 16]);
    assert!(matches!(other.scan(), Err(Error::Corrupt { .. })));
}

#[test]
fn images_that_do_not_shrink_are_stored_raw() {
    let rig = Rig::new(8, 64, 2);
    let pin = rig.pool.pin_new(page(2)).unwrap();
    let mut latched = pin.exclusive();
    rig.change(&mut latched, 1);
    let mut state = 1_u64;
    for word in 16..PAGE_BYTES / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        crate::page::PageWrite::write(&mut latched, word * 8, &state.to_le_bytes());
    }
    let expected = latched.bytes().to_vec();
    drop(latched);
    rig.clean();
    assert_eq!(rig.slots()[0].image[8..], expected[8..]);
}

#[test]
fn bytes_that_only_the_page_cache_has_are_written_again() {
    let rig = Rig::new(8, 64, 4);
    rig.disk.set_direct(false);
    rig.put(1, 1);
    rig.clean();
    let lsn = rig.put(1, 2);
    let fails = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync);
    rig.disk.add_fault(fails.path(|path| path == Path::new("/pages")));
    assert!(rig.cleaner.step(CleanerTarget::RedoLsn(Lsn::MAX)).is_err());
    // The next process sees the page through the cache, on a machine that goes on.
    let format = crate::pagefile::PageFormat::new(super::rig::DATABASE, PAGE_BYTES);
    let disk = rig.disk.fork();
    let file = crate::pagefile::PageFile::open(
        std::sync::Arc::new(disk.clone()),
        Path::new("/pages"),
        OpenMode::ReadWrite,
        seawall_wal::disk::Access::Buffered,
        format,
    )
    .unwrap();
    let slots = doublewrite_file(&disk).scan().unwrap();
    assert_eq!(restore(&slots, &file, None, lsn).unwrap(), [], "everything looks well");
    disk.drop_caches();
    let mut buffer = seawall_wal::disk::AlignedBuf::new(PAGE_BYTES);
    file.read_page(page(1), &mut buffer).unwrap();
    assert_eq!(value_of(&buffer), Ok(2));
}

/// Threads that change pages against threads that clean; the disk watches W1, the table P2 and P3.
#[test]
fn cleaners_side_by_side_lose_no_change() {
    const PAGES: u64 = 12;
    let rig = Rig::new(16, 64, 4);
    for number in 1..PAGES {
        rig.put(number, 0);
    }
    std::thread::scope(|scope| {
        for seed in 1..3 {
            let rig = &rig;
            scope.spawn(move || {
                for round in 0..2000 {
                    let pin = rig.pool.pin(page((round * seed) % (PAGES - 1) + 1)).unwrap();
                    let mut latched = pin.exclusive();
                    let value = value_of(latched.bytes()).unwrap();
                    rig.change(&mut latched, value + 1);
                }
            });
            scope.spawn(move || {
                for round in 0..400 {
                    let target = CleanerTarget::RedoLsn(Lsn::new(round * 2000));
                    rig.cleaner.step(target).unwrap();
                }
            });
        }
    });
    rig.clean();
    let file = open_pages(&rig.disk, OpenMode::ReadOnly);
    let mut buffer = seawall_wal::disk::AlignedBuf::new(PAGE_BYTES);
    let mut sum = 0;
    for number in 1..PAGES {
        file.read_page(page(number), &mut buffer).unwrap();
        sum += value_of(&buffer).unwrap();
    }
    assert_eq!(sum, 4000);
}
