//! Damaged bytes are errors, never other records.

use std::cell::Cell;

use seawall_wal::disk::BLOCK_BYTES;
use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};

use super::*;
use crate::spill::block::{BlockHeader, STREAM};

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
fn a_read_error_is_an_error_and_not_damage() {
    let disk = new_disk();
    let records = small(100);
    let mark = filled(&disk, &records);
    let mut reader = open(&disk, mark.length).unwrap();
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read));
    assert!(matches!(reader.read(records[50].0), Err(Error::Io { .. })));
    assert_reads(&mut reader, &records[50]);
}
