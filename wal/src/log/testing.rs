//! A log written frame by frame on a simulated disk, for the tests of this folder.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{to_u64, to_usize};
use crate::control::{ControlState, EpochEntry, Identity, LogPosition, Shutdown};
use crate::disk::sim::SimDisk;
use crate::disk::{Access, AlignedBuf, Disk, OpenMode};
use crate::record::{Body, RecordEncoder, header, padded, record_bytes_max};
use crate::{DatabaseId, EpochNonce, Lsn, Result, TxnId};

use super::credit::no_space;
use super::files::LogFiles;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, frame_bytes};
use super::segment::{self, SEGMENT_HEADER_BYTES};
use super::segments::{Place, Segments};
use super::sizes::SegmentOptions;
use super::spares::{Made, SharedSegments, SpareMaker};
use super::tail::{LogEnd, TailQuery, find_end};

pub(super) const DATABASE: DatabaseId = DatabaseId::new(*b"database for log");
pub(super) const PAGE_BYTES: usize = 4096;
/// Small segments, so that tests cross them.
pub(super) const OPTIONS: SegmentOptions = SegmentOptions {
    first_bytes: 128 << 10,
    segment_bytes: 128 << 10,
    max_wal_bytes: 1 << 20,
    record_bytes_max: record_bytes_max(PAGE_BYTES),
};

pub(super) fn wal_dir() -> PathBuf {
    PathBuf::from("/db/wal")
}

/// Segments, and what makes and recycles their files, used by one thread.
#[derive(Debug)]
pub(super) struct TestSegments {
    segments: Segments,
    maker: SpareMaker,
}

struct Lent<'s>(RefCell<&'s mut Segments>);

impl SharedSegments for Lent<'_> {
    fn with<R>(&self, f: impl FnOnce(&mut Segments) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

impl Deref for TestSegments {
    type Target = Segments;

    fn deref(&self) -> &Segments {
        &self.segments
    }
}

impl DerefMut for TestSegments {
    fn deref_mut(&mut self) -> &mut Segments {
        &mut self.segments
    }
}

impl TestSegments {
    pub(super) fn create(disk: Arc<dyn Disk>, dir: &Path, options: SegmentOptions) -> Self {
        let segments = Segments::create(disk.as_ref(), dir, options).unwrap();
        let maker = SpareMaker::new(disk, dir);
        Self { segments, maker }
    }

    /// The next step of making a file.
    pub(super) fn make_part(&mut self) -> Result<Made> {
        let lent = Lent(RefCell::new(&mut self.segments));
        self.maker.step(&lent, || true).map(|made| made.expect("it is wanted"))
    }

    /// Makes a file; says whether the bound has room for it.
    pub(super) fn make_spare(&mut self) -> Result<bool> {
        loop {
            match self.make_part()? {
                Made::Part => {}
                Made::File => return Ok(true),
                Made::NoRoom => return Ok(false),
            }
        }
    }

    /// Stops making a file.
    pub(super) fn stop(&mut self) {
        self.maker.stop(&Lent(RefCell::new(&mut self.segments)));
    }

    pub(super) fn recycle_below(&mut self, lsn: Lsn) -> Result<u64> {
        self.maker.recycle(&Lent(RefCell::new(&mut self.segments)), lsn)
    }

    /// Places a frame, which a file is made for where there is no room.
    pub(super) fn place_or_make(
        &mut self,
        frame_bytes: u64,
        frame_lsn: Lsn,
        durable_lsn: Lsn,
    ) -> Result<Place> {
        let is_short = self.current_room_bytes() < frame_bytes && self.spare_count() == 0;
        if is_short && !self.make_spare()? {
            return Err(no_space(self.dir()));
        }
        Ok(self.place(frame_bytes, frame_lsn, durable_lsn))
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct TestLog {
    pub(super) disk: SimDisk,
    pub(super) state: ControlState,
    pub(super) segments: TestSegments,
    entry: EpochEntry,
    next_lsn: Lsn,
    durable_lsn: Lsn,
    prev_frame_lsn: Lsn,
    prev_checksum: u32,
    /// What the first record says; until it is written.
    epoch_start: Option<EpochEntry>,
}

/// A frame that was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) at: LogPosition,
    pub(super) lsn: Lsn,
    pub(super) end_lsn: Lsn,
    /// Where the notes begin.
    pub(super) records: Vec<Lsn>,
    /// Where every record begins and ends, that at the start of an epoch too.
    pub(super) spans: Vec<(Lsn, Lsn)>,
    pub(super) path: PathBuf,
}

impl TestLog {
    pub(super) fn create(options: SegmentOptions) -> Self {
        let disk = SimDisk::new();
        disk.create_dir(Path::new("/db")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let segments = TestSegments::create(Arc::new(disk.clone()), &wal_dir(), options);
        let identity = Identity {
            database: DATABASE,
            page_bytes: u32::try_from(PAGE_BYTES).unwrap(),
            created_ms: 1,
        };
        let state = ControlState::new(identity, EpochNonce::new(1), segments.next_position());
        Self::in_epoch(disk, state, segments)
    }

    /// A process that goes on with the log after `end`.
    pub(super) fn reopen(
        disk: SimDisk,
        mut state: ControlState,
        options: SegmentOptions,
        end: &LogEnd,
    ) -> Self {
        let index = end.index.clone();
        let segments = Segments::open(&disk, &wal_dir(), options, end.resume_at, index).unwrap();
        let maker = SpareMaker::new(Arc::new(disk.clone()), &wal_dir());
        let segments = TestSegments { segments, maker };
        let nonce = EpochNonce::new(state.last_epoch().nonce.get() + 1);
        let resume_at = segments.next_position();
        state.start_epoch(nonce, end.end_lsn, end.last_accepted, resume_at).unwrap();
        Self::in_epoch(disk, state, segments)
    }

    fn in_epoch(disk: SimDisk, state: ControlState, mut segments: TestSegments) -> Self {
        let entry = *state.last_epoch();
        segments.start_epoch(&entry, DATABASE.log_identity(entry.nonce));
        Self {
            disk,
            state,
            segments,
            entry,
            next_lsn: entry.start_lsn,
            durable_lsn: entry.continues_from_lsn,
            prev_frame_lsn: entry.continues_from_lsn,
            prev_checksum: 0,
            epoch_start: Some(entry),
        }
    }

    /// Has the epoch's first record say this in place of the truth.
    pub(super) fn lie_about_epoch(&mut self, entry: Option<EpochEntry>) {
        self.epoch_start = entry;
    }

    /// Writes a frame with these notes and syncs it, so that the next frame's stamp covers it.
    pub(super) fn synced(&mut self, notes: &[&[u8]]) -> Written {
        let (written, place, bytes) = self.build(notes);
        place.file.write_sync_at(&bytes, write_offset(&place)).unwrap();
        self.durable_lsn = self.next_lsn;
        written
    }

    /// Writes a frame with these notes and does not sync it.
    pub(super) fn unsynced(&mut self, notes: &[&[u8]]) -> Written {
        let (written, place, bytes) = self.build(notes);
        place.file.write_at(&bytes, write_offset(&place)).unwrap();
        written
    }

    /// Syncs all segments: what was written is durable, and the next frame's stamp says so.
    pub(super) fn sync_all(&mut self) {
        for (path, _) in self.disk.files() {
            if path.starts_with(wal_dir()) {
                let file = self.disk.open(&path, OpenMode::ReadWrite, Access::Direct).unwrap();
                file.sync().unwrap();
            }
        }
        self.durable_lsn = self.next_lsn;
    }

    fn build(&mut self, notes: &[&[u8]]) -> (Written, Place, AlignedBuf) {
        let lsn = self.next_lsn;
        let identity = DATABASE.log_identity(self.entry.nonce);
        let seed = header::epoch_seed(identity);
        let mut encoder = RecordEncoder::new();
        let mut payload = Vec::new();
        let (mut records, mut spans) = (Vec::new(), Vec::new());
        let first = self.epoch_start.take().map(Body::EpochStart);
        for body in first.into_iter().chain(notes.iter().map(|note| Body::Note(note))) {
            let at = lsn.advance(to_u64(payload.len()));
            let encoded = encoder.encode(TxnId::NONE, Lsn::NONE, &body);
            let mut record = encoded.bytes.to_vec();
            header::seal(&mut record, header::checksum(seed, at, encoded.content_checksum));
            record.resize(padded(record.len()), 0);
            payload.extend_from_slice(&record);
            spans.push((at, lsn.advance(to_u64(payload.len()))));
            if matches!(body, Body::Note(_)) {
                records.push(at);
            }
        }
        let frame = FrameHeader {
            identity,
            epoch: self.entry.epoch,
            frame_lsn: lsn,
            payload_bytes: payload.len(),
            prev_frame_lsn: self.prev_frame_lsn,
            prev_checksum: self.prev_checksum,
            durable_lsn: self.durable_lsn,
            record_count: u32::try_from(spans.len()).unwrap(),
        };
        let mut bytes = AlignedBuf::new(frame_bytes(payload.len()));
        self.prev_checksum = frame.encode(&mut bytes);
        bytes[FRAME_HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
        self.prev_frame_lsn = lsn;
        self.next_lsn = frame.end_lsn();
        let length = to_u64(bytes.len());
        let place = self.segments.place_or_make(length, lsn, self.durable_lsn).unwrap();
        if let Some(header) = &place.begins {
            let mut with_header = AlignedBuf::new(SEGMENT_HEADER_BYTES + bytes.len());
            header.encode(&mut with_header[..SEGMENT_HEADER_BYTES]);
            with_header[SEGMENT_HEADER_BYTES..].copy_from_slice(&bytes);
            bytes = with_header;
        }
        let at = LogPosition { segment: place.segment, offset: place.offset };
        let path = segment::path(&wal_dir(), at.segment);
        let written = Written { at, lsn, end_lsn: frame.end_lsn(), records, spans, path };
        (written, place, bytes)
    }

    /// Position behind the last frame.
    pub(super) fn end_lsn(&self) -> Lsn {
        self.next_lsn
    }

    pub(super) fn close(&mut self) {
        self.state.shutdown = Shutdown::Clean { lsn: self.next_lsn };
    }

    pub(super) fn files(&self) -> Result<Arc<LogFiles>> {
        files(&self.disk, &self.state)
    }

    pub(super) fn end(&self) -> Result<LogEnd> {
        end(&self.disk, &self.state)
    }
}

/// Where the bytes of a frame go: in front of it those of a segment's header, where it begins one.
fn write_offset(place: &Place) -> u64 {
    if place.begins.is_some() { 0 } else { place.offset }
}

pub(super) fn files(disk: &SimDisk, state: &ControlState) -> Result<Arc<LogFiles>> {
    LogFiles::open(
        Arc::new(disk.clone()),
        &wal_dir(),
        DATABASE,
        &state.epochs,
        OPTIONS.record_bytes_max,
    )
}

/// The end of the whole log.
pub(super) fn end(disk: &SimDisk, state: &ControlState) -> Result<LogEnd> {
    find_end(&files(disk, state)?, &TailQuery::new(state))
}

/// Bytes that do not compress, so that a record is as long as it looks.
pub(super) fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) << 32 | 0x9e37_79b9;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.take(length).collect()
}

/// Overwrites part of a file, as damage does.
pub(super) fn damage(disk: &SimDisk, path: &Path, offset: u64, bytes: &[u8]) {
    let mut content = disk.read_file(path).unwrap();
    content[to_usize(offset)..][..bytes.len()].copy_from_slice(bytes);
    disk.write_file(path, &content);
}

pub(super) const FIRST_OFFSET: u64 = to_u64(SEGMENT_HEADER_BYTES);
