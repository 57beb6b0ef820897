//! What reading costs: reads of the disk, and memory.

use std::sync::atomic::{AtomicU64, Ordering};

use seawall_wal::disk::sim::OperationKind;

use super::*;
use crate::spill::reader::READER_BYTES_MAX;

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
