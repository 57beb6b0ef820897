//! Undo files on a simulated disk: what stands here is what the tests of this folder share.

mod costs;
mod crashes;
mod damage;
mod folder;
mod reading;

use std::path::Path;
use std::sync::Arc;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{BLOCK_BYTES, Disk, SimDisk};
use seawall_wal::record::{Body, RECORD_HEADER_BYTES, RecordEncoder};
use seawall_wal::{DatabaseId, Error, Lsn, Result, TxnId};

use super::block::{Owner, RECORD_BYTES_MAX};
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
