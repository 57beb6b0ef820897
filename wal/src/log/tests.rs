//! The append side as a whole, on the simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::to_u64;
use crate::control::EpochEntry;
use crate::disk::{Disk, SimDisk};
use crate::record::{Body, RecordEncoder};
use crate::{DatabaseId, Epoch, EpochNonce, Error, Lsn, TxnId};

use super::{CreditRequest, Log, LogOptions, PendingSync, Purpose, SegmentOptions, Segments};

const PAGE_BYTES: usize = 4096;
const START: u64 = 1 << 32;
const DATABASE: DatabaseId = DatabaseId::new([7; 16]);

fn options() -> LogOptions {
    let record_bytes_max = crate::record::record_bytes_max(PAGE_BYTES);
    LogOptions {
        page_bytes: PAGE_BYTES,
        ring_bytes: 1 << 18,
        flush_interval: Duration::from_millis(50),
        segments: SegmentOptions {
            segment_bytes: 1 << 18,
            max_wal_bytes: 16 << 20,
            record_bytes_max,
        },
        reserve_bytes: 1 << 18,
        on_wal_full: None,
        is_stepped: true,
    }
}

fn start_with(disk: &Arc<SimDisk>, options: LogOptions) -> Log {
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    let segments =
        Segments::create(Arc::clone(&disk), Path::new("/db/wal"), options.segments).unwrap();
    let at = segments.next_position();
    let entry = EpochEntry {
        epoch: Epoch::new(1),
        nonce: EpochNonce::new(99),
        start_lsn: Lsn::new(START),
        continues_from_lsn: Lsn::NONE,
        segment: at.segment,
        offset: at.offset,
    };
    Log::start(disk, segments, entry, DATABASE, options).unwrap()
}

fn start(disk: &Arc<SimDisk>) -> Log {
    start_with(disk, options())
}

/// Appends a note and returns where it lies.
fn append(log: &Log, bytes: &[u8], is_sync_commit: bool) -> (Lsn, Lsn, Option<PendingSync>) {
    let mut encoder = RecordEncoder::new();
    let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(bytes));
    let payload_bytes = to_u64(record.padded_length());
    let request = CreditRequest { payload_bytes, is_sync_commit, purpose: Purpose::Normal };
    let mut credit = log.credit(&request).unwrap();
    let pending = is_sync_commit.then(|| log.begin_sync_commit());
    let reservation = log.reserve(&mut credit, record.padded_length());
    let (start, end) = (reservation.start(), reservation.end());
    if let Some(pending) = &pending {
        pending.set_end(end);
    }
    log.publish(reservation, record);
    (start, end, pending)
}

fn note(log: &Log, lsn: Lsn) -> Vec<u8> {
    let record = log.read(lsn).unwrap();
    let body = record.body().unwrap().into_owned();
    match record.decode(&body).unwrap().body {
        Body::Note(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_durable_record_is_read_back_from_the_file() {
    let disk = Arc::new(SimDisk::new());
    let log = start(&disk);
    let (lsn, end, _pending) = append(&log, b"hello", true);
    assert_eq!(note(&log, lsn), b"hello");
    assert!(log.visible_lsn() < end);
    log.wait_durable(end).unwrap();
    log.wait_visible(end).unwrap();
    assert_eq!(log.durable_lsn(), end);
    assert_eq!(log.visible_lsn(), end);
    assert_eq!(note(&log, lsn), b"hello");
    assert_eq!(log.shutdown().unwrap(), end);
    assert!(matches!(log.credit(&CreditRequest::default()), Err(Error::Closed)));
}

#[test]
fn records_of_all_sizes_survive_many_segments() {
    let disk = Arc::new(SimDisk::new());
    let log = start(&disk);
    let mut at = Vec::new();
    for index in 0..600_usize {
        let bytes: Vec<u8> =
            (0..index * 53 % 9000).map(|byte| u8::try_from(byte * index % 251).unwrap()).collect();
        let (lsn, end, _pending) = append(&log, &bytes, index % 3 == 0);
        at.push((lsn, bytes));
        if index % 7 == 0 {
            log.wait_durable(end).unwrap();
        }
        while log.step().unwrap().is_busy {}
    }
    for (lsn, bytes) in &at {
        assert_eq!(&note(&log, *lsn), bytes);
    }
}
