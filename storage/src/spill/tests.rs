use std::cell::Cell;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::sim::{CrashPlan, EIO, ENOSPC, Fault, FaultEffect, OperationKind};
use seawall_wal::disk::{BLOCK_BYTES, BlockingDisk, Disk, SimDisk};
use seawall_wal::record::{
    Body, Cell as RecordCell, Op, PageRef, RECORD_HEADER_BYTES, RecordEncoder, WriteKind,
};
use seawall_wal::{DatabaseId, Error, Lsn, PageId, Result, TreeId, TxnId};

use super::block::{BlockHeader, Owner, RECORD_BYTES_MAX, STREAM};
use super::reader::READER_BYTES_MAX;
use super::*;

const DATABASE: DatabaseId = DatabaseId::new(*b"a test database.");
const TXN: TxnId = TxnId::new(0x1_0000_00f0);
const OWNER: Owner = Owner { database: DATABASE, txn: TXN };
const DIR: &str = "/db";
const FIRST_LSN: u64 = 0x1_0000_0100;
const BLOCK: u64 = to_u64(BLOCK_BYTES);

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn file_path() -> PathBuf {
    path(dir(), TXN)
}

/// A disk with a database's directory, durable.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(dir()).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn create(disk: &SimDisk) -> Result<SpillWriter> {
    SpillWriter::create(&shared(disk), dir(), DATABASE, TXN)
}

fn resume(disk: &SimDisk, length: u64) -> Result<SpillWriter> {
    SpillWriter::resume(&shared(disk), dir(), DATABASE, TXN, length)
}

fn open(disk: &SimDisk, length: u64) -> Result<SpillReader> {
    SpillReader::open(disk, dir(), DATABASE, TXN, length)
}

/// Numbers of a congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// A record with an envelope and a body of arbitrary bytes.
fn record(txn: TxnId, length: usize, seed: u64) -> Vec<u8> {
    let mut encoder = RecordEncoder::new();
    let mut bytes = encoder.encode(txn, Lsn::new(seed), &Body::RollbackEnd).bytes.to_vec();
    assert_eq!(bytes.len(), RECORD_HEADER_BYTES);
    let mut random = Random(seed);
    bytes.resize_with(length, || random.below(256).to_le_bytes()[0]);
    let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
    bytes[..4].copy_from_slice(&number(length));
    bytes[12..16].copy_from_slice(&number(length - RECORD_HEADER_BYTES));
    bytes
}

/// Records in the order of their LSNs.
type Records = Vec<(Lsn, Vec<u8>)>;

/// `lengths` one behind the other, with gaps between: other transactions write as well.
fn records(lengths: impl IntoIterator<Item = usize>) -> Records {
    let mut lsn = FIRST_LSN;
    let mut next = |length: usize| {
        let at = lsn;
        lsn += to_u64(length.next_multiple_of(8)) + at % 3 * 64;
        (Lsn::new(at), record(TXN, length, at))
    };
    lengths.into_iter().map(&mut next).collect()
}

fn small(count: u64) -> Records {
    let mut random = Random(count);
    records((0..count).map(|_| RECORD_HEADER_BYTES + to_usize(random.below(400))))
}

/// Short ones, long ones, and some of the longest.
fn mixed(count: u64) -> Records {
    let mut random = Random(count);
    let mut length = |index: u64| {
        let span = match index % 8 {
            0..6 => 300,
            6 => 9000,
            _ => RECORD_BYTES_MAX - RECORD_HEADER_BYTES,
        };
        RECORD_HEADER_BYTES + to_usize(random.below(to_u64(span)))
    };
    let mut lengths: Vec<_> = (0..count).map(&mut length).collect();
    lengths.extend([RECORD_BYTES_MAX, RECORD_BYTES_MAX, RECORD_HEADER_BYTES]);
    records(lengths)
}

fn append(writer: &mut SpillWriter, records: &[(Lsn, Vec<u8>)]) -> Result<()> {
    records.iter().try_for_each(|(lsn, bytes)| writer.append(*lsn, bytes))
}

/// A synced file of these records.
fn filled(disk: &SimDisk, records: &Records) -> SpillMark {
    let mut writer = create(disk).unwrap();
    append(&mut writer, records).unwrap();
    writer.sync().unwrap()
}

fn assert_reads(reader: &mut SpillReader, (lsn, bytes): &(Lsn, Vec<u8>)) {
    let found = reader.read(*lsn).unwrap();
    assert_eq!((found.lsn, &found.bytes), (*lsn, bytes));
    assert_eq!(found.end, lsn.advance(to_u64(bytes.len().next_multiple_of(8))));
    assert_eq!((found.header.txn, found.header.length), (TXN, bytes.len()));
}

/// The file up to `mark` holds these records, and nothing else.
fn check_holds(disk: &SimDisk, mark: SpillMark, records: &[(Lsn, Vec<u8>)]) -> Result<()> {
    let mut expected = records.iter();
    let contents = check(disk, dir(), DATABASE, TXN, mark.length, |found| {
        let (lsn, bytes) = expected.next().expect("no more records than were appended");
        assert_eq!((found.lsn, &found.bytes), (*lsn, bytes));
        Ok(())
    })?;
    assert_eq!(contents, SpillContents { records: to_u64(records.len()), mark });
    let mut reader = open(disk, mark.length)?;
    for (lsn, bytes) in records.iter().rev() {
        assert_eq!(&reader.read(*lsn)?.bytes, bytes);
    }
    Ok(())
}

fn is_corrupt<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Corrupt { file, .. }) if *file == file_path())
}

#[test]
fn records_are_read_back_in_any_order() {
    let disk = new_disk();
    let records = mixed(200);
    let mark = filled(&disk, &records);
    let (last_lsn, _) = records.last().unwrap();
    assert_eq!(mark.spilled_upto, last_lsn.advance(1));
    assert_eq!(disk.read_file(&file_path()).unwrap().len(), to_usize(mark.length));
    check_holds(&disk, mark, &records).unwrap();
    let mut reader = open(&disk, mark.length).unwrap();
    records.iter().for_each(|record| assert_reads(&mut reader, record));
    let mut random = Random(5);
    for _ in 0..1000 {
        let index = to_usize(random.below(to_u64(records.len())));
        assert_reads(&mut reader, &records[index]);
    }
}

#[test]
fn a_record_of_the_engine_is_decodable_without_the_log() {
    let disk = new_disk();
    let value = [b'v'; 3000];
    let op = Op::Put {
        tree: TreeId::new(3),
        key: b"key",
        kind: WriteKind::Replace,
        after: RecordCell::inline(b"new"),
        before: Some(RecordCell::inline(&value)),
    };
    let page_ref = PageRef {
        page: PageId::new(9),
        page_prev_lsn: Lsn::new(800),
        is_init: false,
        ops: vec![op].into(),
    };
    let body = Body::Update { refs: vec![page_ref] };
    let mut encoder = RecordEncoder::new();
    let bytes = encoder.encode(TXN, Lsn::new(900), &body).bytes.to_vec();
    assert!(bytes.len() < 1000, "the body is compressed");
    let mark = filled(&disk, &vec![(Lsn::new(1000), bytes)]);
    let found = open(&disk, mark.length).unwrap().read(Lsn::new(1000)).unwrap();
    let raw = found.body().unwrap();
    let decoded = found.decode(&raw).unwrap();
    assert_eq!((decoded.txn, decoded.prev_lsn, decoded.body), (TXN, Lsn::new(900), body));
}

#[test]
fn a_position_without_a_record_is_corrupt() {
    let disk = new_disk();
    let records = mixed(40);
    let mark = filled(&disk, &records);
    let mut reader = open(&disk, mark.length).unwrap();
    for (lsn, bytes) in &records {
        for absent in [lsn.get() - 1, lsn.get() + 1, lsn.get() + to_u64(bytes.len()) - 1] {
            assert!(is_corrupt(&reader.read(Lsn::new(absent))), "{absent}");
        }
    }
    for absent in [Lsn::NONE, Lsn::new(1), mark.spilled_upto, Lsn::MAX] {
        assert!(is_corrupt(&reader.read(absent)), "{absent}");
    }
    assert_reads(&mut reader, &records[7]);
}

#[test]
fn a_file_without_records_is_one_block_long() {
    let disk = new_disk();
    let mark = filled(&disk, &Vec::new());
    assert_eq!(mark, SpillMark { spilled_upto: Lsn::NONE, length: BLOCK });
    check_holds(&disk, mark, &[]).unwrap();
    assert!(is_corrupt(&open(&disk, mark.length).unwrap().read(Lsn::new(5))));
    let records = small(3);
    let mut writer = resume(&disk, mark.length).unwrap();
    append(&mut writer, &records).unwrap();
    check_holds(&disk, writer.sync().unwrap(), &records).unwrap();
}

#[test]
fn every_sync_begins_a_new_block_and_one_without_records_does_nothing() {
    let disk = new_disk();
    let records = mixed(60);
    let mut writer = create(&disk).unwrap();
    assert_eq!(writer.mark(), SpillMark { spilled_upto: Lsn::NONE, length: 0 });
    let mut marks = Vec::new();
    for (index, (lsn, bytes)) in records.iter().enumerate() {
        writer.append(*lsn, bytes).unwrap();
        if index % 3 == 0 {
            let mark = writer.sync().unwrap();
            let operations = disk.operation_count();
            assert_eq!(writer.sync().unwrap(), mark);
            assert_eq!(writer.mark(), mark);
            assert_eq!(disk.operation_count(), operations);
            marks.push((mark, index + 1));
        }
    }
    for (mark, count) in marks {
        check_holds(&disk, mark, &records[..count]).unwrap();
    }
}

#[test]
fn a_reader_reads_below_its_mark_while_the_writer_goes_on() {
    let disk = new_disk();
    let records = small(3000);
    let (early, late) = records.split_at(1000);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    let mut reader = open(&disk, mark.length).unwrap();
    for (appended, record) in late.iter().zip(early.iter().cycle()) {
        writer.append(appended.0, &appended.1).unwrap();
        assert_reads(&mut reader, record);
    }
    writer.sync().unwrap();
    assert!(is_corrupt(&reader.read(late[0].0)), "it lies behind the reader's mark");
    check_holds(&disk, mark, early).unwrap();
}

#[test]
fn files_on_a_file_system_are_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(BlockingDisk::new());
    let records = mixed(100);
    let (early, late) = records.split_at(50);
    let mut writer = SpillWriter::create(&disk, parent.path(), DATABASE, TXN).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    append(&mut writer, late).unwrap();
    drop(writer);
    let mut writer = SpillWriter::resume(&disk, parent.path(), DATABASE, TXN, mark.length).unwrap();
    append(&mut writer, late).unwrap();
    let mark = writer.sync().unwrap();
    assert_eq!(files(&*disk, parent.path()).unwrap(), [(TXN, mark.length)]);
    let mut reader = SpillReader::open(&*disk, parent.path(), DATABASE, TXN, mark.length).unwrap();
    records.iter().rev().for_each(|record| assert_reads(&mut reader, record));
    remove(&*disk, parent.path(), TXN).unwrap();
    assert_eq!(files(&*disk, parent.path()).unwrap(), []);
}

/// Read operations and bytes of a disk.
#[derive(Default)]
struct Reads {
    count: AtomicU64,
    bytes: AtomicU64,
}

impl Reads {
    fn of(disk: &SimDisk) -> Arc<Self> {
        let reads = Arc::new(Self::default());
        let counted = Arc::clone(&reads);
        disk.set_monitor(Arc::new(move |operation| {
            if operation.kind == OperationKind::Read {
                counted.count.fetch_add(1, Ordering::SeqCst);
                counted.bytes.fetch_add(to_u64(operation.length), Ordering::SeqCst);
            }
        }));
        reads
    }

    fn take(&self) -> (u64, u64) {
        (self.count.swap(0, Ordering::SeqCst), self.bytes.swap(0, Ordering::SeqCst))
    }
}

#[test]
fn reading_backwards_reads_every_block_about_once_in_long_reads() {
    let disk = new_disk();
    let records = small(60_000);
    let mark = filled(&disk, &records);
    assert!(mark.length > 12 << 20, "{} bytes", mark.length);
    let reads = Reads::of(&disk);
    let mut reader = open(&disk, mark.length).unwrap();
    records.iter().rev().for_each(|record| assert_reads(&mut reader, record));
    let (count, bytes) = reads.take();
    assert!(bytes < mark.length + mark.length / 50, "{bytes} bytes read of {}", mark.length);
    assert!(count < 2 * (mark.length >> 20) + 20, "{count} reads of {} bytes", mark.length);
}

#[test]
fn a_read_anywhere_takes_few_reads_and_little_memory() {
    let disk = new_disk();
    let records = small(60_000);
    let mark = filled(&disk, &records);
    let reads = Reads::of(&disk);
    let mut reader = open(&disk, mark.length).unwrap();
    let mut random = Random(11);
    for round in 0..2000 {
        reads.take();
        assert_reads(&mut reader, &records[to_usize(random.below(60_000))]);
        let (count, bytes) = reads.take();
        // Halvings down to a short window, less those that are remembered.
        let most = if round < 1000 { 12 } else { 4 };
        assert!(count <= most && bytes < 256 << 10, "{count} reads of {bytes} bytes at {round}");
    }
}

#[test]
fn a_reader_keeps_within_its_memory() {
    let disk = new_disk();
    let records = small(60_000);
    let mark = filled(&disk, &records);
    let mut reader = open(&disk, mark.length).unwrap();
    let mut most = 0;
    let mut read = |index: usize| {
        assert_reads(&mut reader, &records[index]);
        most = most.max(reader.memory_bytes());
    };
    (0..60_000).rev().for_each(&mut read);
    (0..60_000).for_each(&mut read);
    let mut random = Random(3);
    (0..5000).for_each(|_| read(to_usize(random.below(60_000))));
    assert!(most > 2 << 20, "two long windows were in use: {most}");
    assert!(most + RECORD_BYTES_MAX <= READER_BYTES_MAX, "{most} of {READER_BYTES_MAX}");
}

/// What a damaged file answers: every record is either what was appended or damage; the check finds
/// it. Returns whether any record was hit.
fn judge_damage(disk: &SimDisk, mark: SpillMark, records: &Records) -> bool {
    let checked = check(disk, dir(), DATABASE, TXN, mark.length, |_| Ok(()));
    assert!(is_corrupt(&checked), "{checked:?}");
    let Ok(mut reader) = open(disk, mark.length) else { return true };
    let mut is_hit = false;
    for (lsn, bytes) in records.iter().rev() {
        match reader.read(*lsn) {
            Ok(found) => assert_eq!(&found.bytes, bytes),
            error => {
                assert!(is_corrupt(&error), "{error:?}");
                is_hit = true;
            }
        }
    }
    is_hit
}

#[test]
fn damage_of_any_byte_is_corrupt() {
    let disk = new_disk();
    let records = mixed(24);
    let mark = filled(&disk, &records);
    let blocks = mark.length / BLOCK;
    let headers = [0, 1, 2, blocks / 2, blocks - 1];
    let in_headers = headers.iter().flat_map(|block| (0..64).map(move |at| block * BLOCK + at));
    let in_bodies = (0..mark.length).step_by(2039);
    let mut bit = 0;
    for offset in in_headers.chain(in_bodies) {
        bit = (bit + 1) % 8;
        let damaged = disk.fork();
        damaged.flip_bit(&file_path(), offset, bit);
        assert!(judge_damage(&damaged, mark, &records), "byte {offset}");
        if offset < BLOCK || offset >= mark.length - BLOCK {
            assert!(is_corrupt(&resume(&damaged, mark.length)), "byte {offset}");
        }
    }
}

#[test]
fn a_block_in_the_wrong_place_is_corrupt() {
    let disk = new_disk();
    let records = mixed(24);
    let mark = filled(&disk, &records);
    let bytes = disk.read_file(&file_path()).unwrap();
    for (from, to) in [(1, 2), (3, 2), (0, 1), (1, 0), (9, 5)] {
        let mut moved = bytes.clone();
        moved.copy_within(from * BLOCK_BYTES..(from + 1) * BLOCK_BYTES, to * BLOCK_BYTES);
        disk.write_file(&file_path(), &moved);
        assert!(judge_damage(&disk, mark, &records), "{from} in place of {to}");
    }
    disk.write_file(&path(dir(), TxnId::new(5)), &bytes);
    let other = SpillReader::open(&disk, dir(), DATABASE, TxnId::new(5), mark.length);
    assert!(matches!(other, Err(Error::Corrupt { .. })));
    disk.write_file(&file_path(), &bytes);
    let other = SpillReader::open(&disk, dir(), DatabaseId::new([1; 16]), TXN, mark.length);
    assert!(is_corrupt(&other));
    check_holds(&disk, mark, &records).unwrap();
}

/// Bytes that no writer leaves, under checksums that hold: errors, whatever they say, and no panic.
#[test]
fn hostile_bytes_under_right_checksums_are_corrupt_or_harmless() {
    let disk = new_disk();
    let records = mixed(24);
    let mark = filled(&disk, &records);
    let bytes = disk.read_file(&file_path()).unwrap();
    let blocks = mark.length / BLOCK;
    let mut random = Random(77);
    let found = Cell::new(0);
    for round in 0..1500 {
        let number = 1 + random.below(blocks - 1);
        let at = to_usize(number) * BLOCK_BYTES;
        let mut hostile = bytes.clone();
        let block = &mut hostile[at..at + BLOCK_BYTES];
        let mut header = BlockHeader::verify(OWNER, number, block).unwrap();
        let value = to_usize(random.below(4200));
        match round % 6 {
            0 => header.used = value,
            1 => header.continued = value,
            2 => header.entries = value,
            3 => header.prev_lsn = Lsn::new(FIRST_LSN + random.below(1 << 22)),
            4 => header.last_lsn = Lsn::new(FIRST_LSN + random.below(1 << 22)),
            // The first entry's LSN or length, or the envelope behind.
            _ => {
                let at = STREAM + header.continued + to_usize(random.below(48));
                block[at.min(BLOCK_BYTES - 1)] ^= 1 << random.below(8);
            }
        }
        header.seal(OWNER, number, block);
        disk.write_file(&file_path(), &hostile);
        let checked = check(&disk, dir(), DATABASE, TXN, mark.length, |_| Ok(()));
        found.set(found.get() + u64::from(is_corrupt(&checked)));
        let mut reader = open(&disk, mark.length).unwrap();
        for (lsn, _) in records.iter().rev().chain(&records) {
            let answer = reader.read(*lsn);
            assert!(answer.is_ok() || is_corrupt(&answer), "{answer:?}");
        }
    }
    assert!(found.get() > 1100, "the check notices all but some changed envelopes: {found:?}");
}

#[test]
fn a_missing_block_under_right_checksums_is_found_by_the_check() {
    let disk = new_disk();
    let records = small(200);
    let mark = filled(&disk, &records);
    let mut bytes = disk.read_file(&file_path()).unwrap();
    bytes.drain(3 * BLOCK_BYTES..4 * BLOCK_BYTES);
    for number in 3..mark.length / BLOCK - 1 {
        let block = &mut bytes[to_usize(number) * BLOCK_BYTES..][..BLOCK_BYTES];
        BlockHeader::verify(OWNER, number + 1, block).unwrap().seal(OWNER, number, block);
    }
    disk.write_file(&file_path(), &bytes);
    assert!(judge_damage(&disk, SpillMark { length: mark.length - BLOCK, ..mark }, &records));
}

#[test]
fn a_file_that_is_missing_or_too_short_is_corrupt() {
    let disk = new_disk();
    assert!(is_corrupt(&open(&disk, BLOCK)));
    assert!(is_corrupt(&resume(&disk, BLOCK)));
    let records = small(100);
    let mark = filled(&disk, &records);
    for length in [mark.length + BLOCK, mark.length - 1, 0, 100] {
        assert!(is_corrupt(&open(&disk, length)), "{length}");
        assert!(is_corrupt(&resume(&disk, length)), "{length}");
    }
    let mut reader = open(&disk, mark.length).unwrap();
    let bytes = disk.read_file(&file_path()).unwrap();
    disk.write_file(&file_path(), &bytes[..2 * BLOCK_BYTES]);
    assert!(is_corrupt(&reader.read(records[99].0)), "cut under the reader");
}

#[test]
fn a_torn_tail_beyond_the_mark_is_ignored_and_cut() {
    let disk = new_disk();
    let records = mixed(60);
    let (early, late) = records.split_at(30);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    append(&mut writer, late).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let mut bytes = disk.read_file(&file_path()).unwrap();
    bytes[to_usize(mark.length)..].fill(0x55);
    disk.write_file(&file_path(), &bytes);
    check_holds(&disk, mark, early).unwrap();
    let mut writer = resume(&disk, mark.length).unwrap();
    assert_eq!(writer.mark(), mark);
    assert_eq!(files(&disk, dir()).unwrap(), [(TXN, mark.length)]);
    // It may go on differently: the crash may have undone some of it.
    append(&mut writer, &late[..10]).unwrap();
    append(&mut writer, &late[20..]).unwrap();
    let mark = writer.sync().unwrap();
    let left = [early, &late[..10], &late[20..]].concat();
    check_holds(&disk, mark, &left).unwrap();
}

#[test]
#[should_panic(expected = "is appended behind")]
fn records_are_appended_in_order() {
    let disk = new_disk();
    let records = small(2);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, &records).unwrap();
    append(&mut writer, &records[1..]).unwrap();
}

#[test]
#[should_panic(expected = "is not a whole record of transaction")]
fn a_record_of_another_transaction_is_refused() {
    let mut writer = create(&new_disk()).unwrap();
    writer.append(Lsn::new(8), &record(TxnId::new(1), 100, 0)).unwrap();
}

/// What a mark promised from some operation on.
struct Promise {
    operation: u64,
    mark: SpillMark,
    records: usize,
}

/// Writes the records with a sync behind every `step`, and says what was promised when.
fn run(disk: &SimDisk, records: &Records, step: usize) -> Vec<Promise> {
    let mut writer = create(disk).unwrap();
    let mut promises = Vec::new();
    let mut count = 0;
    for chunk in records.chunks(step) {
        append(&mut writer, chunk).unwrap();
        count += chunk.len();
        let mark = writer.sync().unwrap();
        promises.push(Promise { operation: disk.operation_count(), mark, records: count });
    }
    promises
}

#[test]
fn what_a_mark_promised_survives_a_crash_at_any_operation() {
    let disk = new_disk();
    let records = mixed(40);
    disk.record_forks();
    let promises = run(&disk, &records, 4);
    let mut cuts = 0;
    for fork in disk.take_forks() {
        let before = |promise: &&Promise| promise.operation < fork.operation();
        let promise = promises.iter().rev().find(before);
        for (plan, crashed) in fork.disk().crash_states(0..8) {
            let cut = format!("before {} ({plan:?})", fork.describe());
            cuts += 1;
            let (mut writer, count) = match promise {
                Some(&Promise { mark, records: count, .. }) => {
                    let held = check_holds(&crashed, mark, &records[..count]);
                    held.unwrap_or_else(|error| panic!("{error}; cut {cut}"));
                    let writer = resume(&crashed, mark.length).unwrap();
                    assert_eq!(writer.mark(), mark, "cut {cut}");
                    (writer, count)
                }
                None => (create(&crashed).unwrap(), 0),
            };
            // Whatever is left beyond, the next mark promises as much, and a crash keeps it.
            append(&mut writer, &records[count..]).unwrap();
            let mark = writer.sync().unwrap();
            let again = crashed.crash(CrashPlan::NothingUnsynced);
            let held = check_holds(&again, mark, &records);
            held.unwrap_or_else(|error| panic!("{error}; cut {cut} and again"));
        }
    }
    assert!(cuts > 200, "{cuts} cuts only");
}

#[test]
fn a_folder_that_a_killed_process_made_is_durable_with_the_first_file() {
    let disk = new_disk();
    disk.create_dir(&folder(dir())).unwrap();
    let killed = disk.fork();
    let records = small(5);
    let mark = filled(&killed, &records);
    check_holds(&killed.crash(CrashPlan::NothingUnsynced), mark, &records).unwrap();
}

#[test]
fn after_a_failure_at_any_operation_the_writer_goes_on_from_its_mark() {
    let records = mixed(30);
    let operations = {
        let disk = new_disk();
        run(&disk, &records, 9);
        disk.operation_count()
    };
    let effects = [
        FaultEffect::Errno(ENOSPC),
        FaultEffect::Errno(EIO),
        FaultEffect::TornWrite { sectors: 3, errno: ENOSPC },
    ];
    let before = new_disk().operation_count();
    let faults = (before + 1..=operations).flat_map(|at| effects.map(|effect| (at, effect)));
    for ((number, effect), is_direct) in faults.flat_map(|it| [(it, true), (it, false)]) {
        let disk = new_disk();
        disk.set_direct(is_direct);
        disk.add_fault(Fault::new(effect).at(number));
        let mut failures = 0;
        let mut check_kind = |error: &Error| {
            failures += 1;
            let is_full = matches!(error, Error::NoSpace { .. });
            assert_eq!(is_full, effect != FaultEffect::Errno(EIO), "{error} at {number}");
        };
        let mut writer = loop {
            match create(&disk) {
                Ok(writer) => break writer,
                Err(error) => check_kind(&error),
            }
        };
        let mut until = 0;
        while until < records.len() {
            until = (until + 9).min(records.len());
            loop {
                let upto = writer.mark().spilled_upto;
                let from = records.partition_point(|(lsn, _)| *lsn < upto);
                let appended = append(&mut writer, &records[from..until]);
                match appended.and_then(|()| writer.sync()) {
                    Ok(mark) => {
                        assert_eq!(mark.spilled_upto, records[until - 1].0.advance(1));
                        break;
                    }
                    Err(error) => {
                        check_kind(&error);
                        assert_eq!(writer.mark().spilled_upto, upto);
                    }
                }
            }
        }
        assert_eq!(failures, 1, "fault at {number}");
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        let held = check_holds(&crashed, writer.mark(), &records);
        held.unwrap_or_else(|error| panic!("{error}; {effect:?} at {number}"));
    }
}

#[test]
fn a_full_disk_gets_its_room_back_and_is_tried_again() {
    let disk = new_disk();
    let records = small(20_000);
    let (early, late) = records.split_at(2000);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    disk.set_capacity(Some(mark.length + (1 << 20)));
    for _ in 0..2 {
        let full = append(&mut writer, late).and_then(|()| writer.sync());
        assert!(matches!(full, Err(Error::NoSpace { .. })), "{full:?}");
        assert_eq!((writer.mark(), disk.used_bytes()), (mark, mark.length));
        check_holds(&disk, mark, early).unwrap();
    }
    disk.set_capacity(None);
    append(&mut writer, late).unwrap();
    check_holds(&disk, writer.sync().unwrap(), &records).unwrap();
}

#[test]
fn files_of_unknown_transactions_are_removed_and_strangers_are_left_alone() {
    let disk = new_disk();
    assert_eq!(files(&disk, dir()).unwrap(), []);
    assert_eq!(remove_unknown(&disk, dir(), |_| false).unwrap(), 0);
    let ids = [7, 3, u64::MAX].map(TxnId::new);
    for txn in ids {
        let mut writer = SpillWriter::create(&shared(&disk), dir(), DATABASE, txn).unwrap();
        writer.append(Lsn::new(8), &record(txn, 100, 1)).unwrap();
        writer.sync().unwrap();
    }
    let strangers = ["readme", "0000000000000003.tmp", "000000000000000A", "0000000000000000", "3"];
    for name in strangers {
        disk.write_file(&folder(dir()).join(name), b"not ours");
    }
    let sizes = [3, 7, u64::MAX].map(|id| (TxnId::new(id), 2 * BLOCK));
    assert_eq!(files(&disk, dir()).unwrap(), sizes);
    assert_eq!(remove_unknown(&disk, dir(), |txn| txn == TxnId::new(7)).unwrap(), 2);
    assert_eq!(files(&disk, dir()).unwrap(), [(TxnId::new(7), 2 * BLOCK)]);
    remove(&disk, dir(), TxnId::new(7)).unwrap();
    remove(&disk, dir(), TxnId::new(7)).unwrap();
    assert_eq!(files(&disk, dir()).unwrap(), []);
    assert_eq!(disk.list(&folder(dir())).unwrap().len(), strangers.len());
}

#[test]
fn names_round_trip_and_sort_like_ids() {
    assert_eq!(path(dir(), TXN), Path::new("/db/undo/00000001000000f0"));
    for id in [1, 0xf0, u64::MAX].map(TxnId::new) {
        assert_eq!(parse_name(path(dir(), id).file_name().unwrap()), Some(id));
    }
    for name in ["", "+000000000000001", "1", "00000000000000g0", "00000000000000000"] {
        assert_eq!(parse_name(OsStr::new(name)), None, "{name}");
    }
}

#[test]
fn a_read_error_is_an_error_and_not_damage() {
    let disk = new_disk();
    let records = small(100);
    let mark = filled(&disk, &records);
    let mut reader = open(&disk, mark.length).unwrap();
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read));
    assert!(matches!(reader.read(records[50].0), Err(Error::Io { .. })));
    assert_reads(&mut reader, &records[50]);
}
