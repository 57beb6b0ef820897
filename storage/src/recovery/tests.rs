use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use seawall_wal::Error;
use seawall_wal::codec::to_u64;
use seawall_wal::control::{
    Control, ControlState, EPOCHS_MAX, EPOCHS_SHORTEN_AT, MasterRecord, Shutdown,
};
use seawall_wal::disk::sim::{CrashPlan, Fault, FaultEffect, OperationKind, SimDisk, SimOperation};
use seawall_wal::log::frame::FrameHeader;
use seawall_wal::log::{CreditRequest, Purpose, segment};
use seawall_wal::record::{Body, CheckpointChunk};

use crate::engine::{Appended, Chain, Engine};
use crate::page::{PageBuf, PageKind, PageRead, PageView, seal, set_page_lsn, verify};
use crate::writeback::cleaner::CleanerTarget;
use crate::{Database, Durability, Event, Lsn, Options, RecoveryPhase, Result, Tree};

fn open(disk: &SimDisk) -> Result<Database> {
    options(disk).open("/db")
}

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(1 << 20)
        .max_wal_bytes(8 << 20)
        .segment_bytes(512 << 10)
        .page_bytes(4096)
}

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

/// Several leaves of keys.
fn fill(database: &Database) -> Tree {
    let tree = database.tree("t").unwrap();
    for i in 0..3000 {
        tree.insert_with(key(i), [b'a'; 100], Durability::Relaxed).unwrap();
    }
    tree
}

/// Makes every leaf dirty, page by page in the order of the keys.
fn touch_all(database: &Database, value: u8) {
    let tree = database.tree("t").unwrap();
    for i in (0..3000).step_by(10) {
        tree.insert_with(key(i), [value; 100], Durability::Relaxed).unwrap();
    }
}

#[test]
fn a_page_that_is_newer_than_the_log_is_corruption() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    let tree = fill(&database);
    database.checkpoint().unwrap();
    // The hot page is the one that is dirty for longest.
    touch_all(&database, b'b');
    let end_lsn = database.sync().unwrap();
    // From here on the drive calls the log synced, and it is not.
    for kind in [OperationKind::WriteSync, OperationKind::Sync] {
        let of_log = |path: &Path| path.starts_with("/db/wal");
        disk.add_fault(Fault::new(FaultEffect::Ignored).kind(kind).path(of_log).lasting());
    }
    let mut transaction = database.begin().unwrap();
    transaction.insert(&tree, key(0), "half of it").unwrap();
    transaction.insert(&tree, key(2999), "the other half").unwrap();
    transaction.commit().unwrap();
    let cleaner = &database.shared_core().engine.cleaner;
    let mut batches = 0;
    while !cleaner.step(CleanerTarget::RedoLsn(end_lsn)).unwrap().is_reached {
        batches += 1;
    }
    assert!(batches > 2, "the image of the hot page is still there");

    let cut = disk.crash(CrashPlan::NothingUnsynced);
    match open(&cut) {
        Err(Error::Corrupt { file, expected, found, .. }) => {
            assert_eq!(file, Path::new("/db/pages"));
            assert!(expected.contains(&format!("at or below {end_lsn}, where")), "{expected}");
            assert!(found.contains("the page at"), "{found}");
        }
        other => panic!("the lost log was taken for {other:?}"),
    }
}

fn state(disk: &SimDisk) -> ControlState {
    Control::open(disk, Path::new("/db"), true).unwrap().unwrap().state()
}

/// Gives the last leaf of a database that nobody has open this position; returns the leaf's place.
fn forge_page_lsn(disk: &SimDisk, page_lsn: Lsn) -> u64 {
    let seed = state(disk).identity.database.checksum_seed();
    let path = Path::new("/db/pages");
    let mut file = disk.read_file(path).unwrap();
    let is_leaf = |bytes: &[u8]| PageView::new(bytes).kind() == PageKind::Leaf;
    let number = file.chunks(4096).rposition(is_leaf).unwrap();
    let bytes = &mut file[number * 4096..][..4096];
    let id = PageView::new(bytes).page_id();
    let mut page = PageBuf::copy_of(bytes);
    set_page_lsn(&mut page, page_lsn);
    bytes.copy_from_slice(page.bytes());
    seal(seed, id, bytes);
    verify(seed, id, path, bytes).unwrap();
    disk.write_file(path, &file);
    id.get() * 4096
}

#[test]
fn a_page_from_between_two_epochs_is_corruption_when_it_is_first_read() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    fill(&database);
    database.close().unwrap();
    let closed = disk.fork();
    let Shutdown::Clean { lsn: end_lsn } = state(&closed).shutdown else { panic!("it was closed") };
    let database = open(&disk).unwrap();
    database.tree("t").unwrap().insert(key(0), "in the next epoch").unwrap();
    let killed = disk.fork();
    assert_eq!(state(&killed).last_epoch().continues_from_lsn, end_lsn);

    for disk in [closed, killed] {
        let offset = forge_page_lsn(&disk, end_lsn.advance(8));
        let database = open(&disk).unwrap();
        let tree = database.tree("t").unwrap();
        match (0..3000).try_for_each(|i| tree.get(key(i)).map(drop)) {
            Err(Error::Corrupt { file, offset: at, expected, .. }) => {
                assert_eq!((&*file, at), (Path::new("/db/pages"), offset));
                assert!(expected.contains(&end_lsn.to_string()), "{expected}");
            }
            other => panic!("a page behind the log was taken for {other:?}"),
        }
        assert!(!database.verify(|_| {}).unwrap().findings.is_empty());
        let copied = database.backup("/copy");
        assert!(matches!(copied, Err(Error::Corrupt { .. })), "{copied:?}");
    }
}

#[test]
fn workers_side_by_side_redo_what_one_redoes() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    let tree = fill(&database);
    database.checkpoint().unwrap();
    for i in (0..3000).rev().step_by(3) {
        tree.insert_with(key(i), vec![b'l'; 300], Durability::Relaxed).unwrap();
        tree.remove_with(key(i / 2), Durability::Relaxed).unwrap();
    }
    tree.insert("of many pages", vec![b'o'; 100_000]).unwrap();
    let killed = disk.fork();
    let replay = |is_alone: bool| {
        let options = options(&killed.fork()).cache_bytes(8 << 20).manual_background(is_alone);
        crate::open::replay(&options, Path::new("/db")).unwrap()
    };
    let (alone, together) = (replay(true), replay(false));
    assert!(alone.len() > 200, "{} pages", alone.len());
    assert!(alone == together);
}

/// More openings than the history of epochs has room for.
const OPENINGS: usize = EPOCHS_MAX + 40;

#[test]
fn a_database_that_is_killed_after_each_of_a_thousand_openings_opens() {
    let mut disk = SimDisk::new();
    for round in 0..OPENINGS {
        let database = open(&disk).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let tree = database.tree("t").unwrap();
        assert_eq!(tree.len().unwrap(), to_u64(round.min(7)), "round {round}");
        let mut transaction = database.begin().unwrap();
        transaction.insert(&tree, "never committed", round.to_be_bytes()).unwrap();
        tree.insert((round % 7).to_be_bytes(), round.to_be_bytes()).unwrap();
        assert!(state(&disk).epochs.len() <= EPOCHS_SHORTEN_AT, "round {round}");
        disk = disk.fork();
    }
    let database = open(&disk).unwrap();
    assert_eq!(database.tree("t").unwrap().len().unwrap(), 7);
    assert_eq!(database.verify(|_| {}).unwrap().findings, [""; 0]);
}

fn append(engine: &Engine, body: &Body<'_>) -> Appended {
    let purpose = Purpose::Reserve;
    let request = CreditRequest { payload_bytes: 1000, is_sync_commit: false, purpose };
    let mut credit = engine.credit(&request).unwrap();
    let mut appender = engine.appenders.acquire();
    engine.append(&mut appender, &mut credit, Chain::NONE, body, &mut [], |_| {})
}

#[test]
fn a_record_that_analysis_cannot_read_is_damage_of_its_segment_at_its_frame() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    fill(&database);
    let engine = &database.shared_core().engine;
    let begin_lsn = append(engine, &Body::CheckpointBegin).start;
    let chunk = CheckpointChunk { section: u8::MAX, index: 0, data: b"of no table" };
    let chunk = append(engine, &Body::CheckpointChunk(chunk));
    database.sync().unwrap();
    let killed = disk.fork();
    let begin_at = engine.log.locate(begin_lsn).unwrap();
    let master = MasterRecord {
        begin_lsn,
        end_lsn: chunk.end,
        redo_lsn: begin_lsn,
        undo_lsn: Lsn::NONE,
        begin_at,
        start_at: begin_at,
    };
    let control = Control::open(&killed, Path::new("/db"), false).unwrap().unwrap();
    control.update(|state| state.master = Some(master)).unwrap();
    drop(control);
    match open(&killed) {
        Err(Error::Corrupt { file, offset, expected, .. }) => {
            assert_eq!(file, segment::path(Path::new("/db/wal"), begin_at.segment));
            let bytes = killed.read_file(&file).unwrap();
            let frame = &bytes[usize::try_from(offset).unwrap()..];
            let (frame, _) = FrameHeader::decode_any(frame).unwrap();
            assert!((frame.frame_lsn..frame.end_lsn()).contains(&chunk.start), "{offset}");
            assert!(expected.contains(&format!("in the record at {}", chunk.start)), "{expected}");
        }
        other => panic!("a table that is none was taken for {other:?}"),
    }
}

#[test]
fn a_damaged_segment_header_that_analysis_passes_does_not_stop_redo_in_a_new_epoch() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    fill(&database);
    database.checkpoint().unwrap();
    touch_all(&database, b'b');
    database.sync().unwrap();
    let killed = disk.fork();
    let master = state(&killed).master.unwrap();
    assert!(master.start_at.segment > 1, "the header counts");
    let path = segment::path(Path::new("/db/wal"), master.start_at.segment);
    killed.flip_bit(&path, 20, 3);
    let database = open(&killed).unwrap();
    assert!(database.recovery_report().records_redone > 0);
    let tree = database.tree("t").unwrap();
    assert_eq!(tree.get(key(0)).unwrap().as_deref(), Some(&[b'b'; 100][..]));
    assert_eq!(tree.len().unwrap(), 3000);
}

/// Opens the database, and gives the disk as it is when the power goes off as undo is done and before
/// the checkpoint that says so is durable.
fn cut_in_undo(disk: &SimDisk) -> Result<SimDisk> {
    let is_undone = Arc::new(AtomicBool::new(false));
    let cut = Arc::new(std::sync::Mutex::new(None));
    let (of_monitor, into, source) = (Arc::clone(&is_undone), Arc::clone(&cut), disk.clone());
    disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        let is_published = operation.path == Path::new("/db/control");
        if is_published && of_monitor.swap(false, Ordering::SeqCst) {
            *into.lock().unwrap() = Some(source.crash(CrashPlan::Everything));
        }
    }));
    let on_event = move |event: &Event| {
        if let Event::RecoveryProgress { phase: RecoveryPhase::Checkpoint, done: 0, .. } = event {
            is_undone.store(true, Ordering::SeqCst);
        }
    };
    drop(options(disk).on_event(on_event).open("/db")?);
    let cut = cut.lock().unwrap().take();
    Ok(cut.expect("a checkpoint was taken"))
}

#[test]
fn recovery_that_is_cut_a_thousand_times_in_undo_comes_to_its_end() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    let tree = database.tree("t").unwrap();
    tree.insert(key(0), "kept").unwrap();
    let mut transactions = Vec::new();
    for i in 0..20 {
        let mut transaction = database.begin().unwrap();
        transaction.insert(&tree, key(i + 1), "undone").unwrap();
        transactions.push(transaction);
    }
    database.sync().unwrap();
    let mut disk = disk.fork();
    for round in 0..OPENINGS {
        disk = cut_in_undo(&disk).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(state(&disk).epochs.len() <= EPOCHS_SHORTEN_AT + 1, "round {round}");
    }
    let database = open(&disk).unwrap();
    let tree = database.tree("t").unwrap();
    assert_eq!(tree.len().unwrap(), 1);
    assert_eq!(tree.get(key(0)).unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(database.verify(|_| {}).unwrap().findings, [""; 0]);
}
