//! Building frames: which records go into the next one, where it goes, and what its header says.
//!
//! Owns the chain (previous frame's position and header checksum), the end of what is framed, the
//! frame buffers, and the rule that no write ends more than [`IN_FLIGHT_BYTES_MAX`] of file behind
//! the start of the oldest frame that `durable_lsn` does not cover; the decision where the log ends
//! relies on it. A frame takes whole records only, as many as are contiguous, fit the segment's room
//! and the longest payload. Nothing has changed when a build fails.
//!
//! It writes nothing: the frame goes to the disk outside of the writer's mutex.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::sync::Arc;

use crate::codec::{to_u64, to_usize};
use crate::control::EpochEntry;
use crate::disk::{AlignedBuf, BLOCK_BYTES};
use crate::record::RECORD_ALIGN;
use crate::{Epoch, Lsn, Result};

use super::books::{Demand, FrameCost, Room};
use super::credit::CreditPool;
use super::frame::{
    FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FrameHeader, IN_FLIGHT_BYTES_MAX,
    IN_FLIGHT_FRAMES_MAX, frame_bytes,
};
use super::ring::Ring;
use super::segment::SEGMENT_HEADER_BYTES;
use super::segments::{Place, Segments};

/// Smallest frame buffer; they grow in powers of two from here.
const BUFFER_BYTES_MIN: usize = 16 * BLOCK_BYTES;

/// Where frames go: [`Segments`], or a single file without end in the models.
pub(super) trait Space: Debug + Send {
    /// See [`Segments::place`].
    fn place(&mut self, frame_bytes: u64, frame_lsn: Lsn, durable_lsn: Lsn) -> Place;
    /// See [`Segments::current_room_bytes`].
    fn current_room_bytes(&self) -> u64;
    /// See [`Segments::next_room_bytes`].
    fn next_room_bytes(&self) -> Option<u64>;
    /// See [`Segments::room`].
    fn room(&self) -> Room;
}

impl Space for Segments {
    fn place(&mut self, frame_bytes: u64, frame_lsn: Lsn, durable_lsn: Lsn) -> Place {
        self.place(frame_bytes, frame_lsn, durable_lsn)
    }

    fn current_room_bytes(&self) -> u64 {
        self.current_room_bytes()
    }

    fn next_room_bytes(&self) -> Option<u64> {
        self.next_room_bytes()
    }

    fn room(&self) -> Room {
        self.room()
    }
}

/// A frame ready to be written. In front of it the buffer has room for the header of the segment that
/// it begins.
pub(super) struct Frame {
    buffer: AlignedBuf,
    length: usize,
    /// Position of its payload.
    pub(super) lsn: Lsn,
    /// Position behind its payload.
    pub(super) end: Lsn,
    /// Where it goes.
    pub(super) place: Place,
}

impl Frame {
    /// What goes to the disk, and the byte offset where it goes: the frame, behind the header of a
    /// segment that it begins.
    pub(super) fn write(&self) -> (&[u8], u64) {
        let front = if self.place.begins.is_some() { SEGMENT_HEADER_BYTES } else { 0 };
        let bytes = &self.buffer[SEGMENT_HEADER_BYTES - front..][..front + self.length];
        (bytes, self.place.offset - to_u64(front))
    }

    /// Its records.
    pub(super) fn payload(&self) -> &[u8] {
        let start = SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES;
        &self.buffer[start..][..to_usize(self.end.since(self.lsn))]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}..{} at {:?})", self.lsn, self.end, self.place)
    }
}

/// The records of the next frame.
#[derive(Clone, Copy, Debug)]
struct Cut {
    payload_bytes: usize,
    record_count: u32,
    prepaid_count: u64,
    /// Bytes left unused at the end of the current segment.
    skipped_bytes: u64,
}

impl Cut {
    const fn cost(&self) -> FrameCost {
        FrameCost {
            payload_bytes: to_u64(self.payload_bytes),
            prepaid_count: self.prepaid_count,
            frame_bytes: to_u64(frame_bytes(self.payload_bytes)),
        }
    }
}

/// What came of a build.
#[derive(Debug)]
pub(super) enum Built {
    /// A frame to write.
    Frame(Frame),
    /// Older frames must be durable first.
    TooFarAhead,
    /// The current segment has no room, and there is no spare.
    NeedsFile,
    /// The books do not allow a short frame that nobody waits for.
    NotWorthIt,
}

/// Makes the next frame in memory, and knows the chain that it goes on with; see the module.
#[derive(Debug)]
pub(super) struct Builder<S> {
    pub(super) space: S,
    identity: u64,
    epoch: Epoch,
    prev_frame_lsn: Lsn,
    prev_checksum: u32,
    /// Everything below is in a frame.
    framed: Lsn,
    /// `durable_lsn` of the last header.
    stamped: Lsn,
    /// File bytes used since the start, unused ends of segments included.
    file_bytes: u64,
    /// Frames that `durable_lsn` did not cover when last looked at: end, and file bytes before.
    uncovered: VecDeque<(Lsn, u64)>,
    buffers: Vec<AlignedBuf>,
    /// For tests: each record gets a frame of its own.
    pub(super) is_record_alone: bool,
}

impl<S: Space> Builder<S> {
    /// Starts the chain of the epoch `entry`.
    pub(super) fn new(space: S, entry: &EpochEntry, identity: u64) -> Self {
        Self {
            space,
            identity,
            epoch: entry.epoch,
            prev_frame_lsn: entry.continues_from_lsn,
            prev_checksum: 0,
            framed: entry.start_lsn,
            stamped: Lsn::NONE,
            file_bytes: 0,
            uncovered: VecDeque::new(),
            buffers: Vec::new(),
            is_record_alone: false,
        }
    }

    /// Everything below is in a frame.
    pub(super) const fn framed(&self) -> Lsn {
        self.framed
    }

    /// `durable_lsn` of the last header.
    pub(super) const fn stamped(&self) -> Lsn {
        self.stamped
    }

    /// Whether the epoch has a frame.
    pub(super) const fn has_chain(&self) -> bool {
        self.file_bytes > 0
    }

    /// Builds the next frame from the published records below `contiguous`; without any, a stamp.
    pub(super) fn build(
        &mut self,
        ring: &Ring,
        credits: &CreditPool,
        contiguous: Lsn,
        durable: Lsn,
        demand: Demand,
    ) -> Result<Built> {
        let Some(cut) = self.cut(ring, contiguous) else { return Ok(Built::NeedsFile) };
        let cost = cut.cost();
        if !self.fits_window(&cut, durable) {
            return Ok(Built::TooFarAhead);
        }
        if !credits.allows(&cost, demand) {
            return match demand {
                Demand::Idle => Ok(Built::NotWorthIt),
                Demand::Waited => Err(credits.no_space()),
            };
        }
        let place = self.space.place(cost.frame_bytes, self.framed, durable);
        let frame = self.fill(ring, &cut, place, durable);
        credits.framed(&cost, self.space.room());
        Ok(Built::Frame(frame))
    }

    /// As many records as fit; `None` where they need a segment that is not there.
    fn cut(&self, ring: &Ring, contiguous: Lsn) -> Option<Cut> {
        let limit = |room: u64| {
            to_usize(room).saturating_sub(FRAME_HEADER_BYTES).min(FRAME_PAYLOAD_BYTES_MAX)
        };
        let room = self.space.current_room_bytes();
        let first = (self.framed < contiguous).then(|| self.link_length(ring, self.framed));
        let is_new_segment = room == 0 || first.is_some_and(|(length, _)| length > limit(room));
        let limit = limit(if is_new_segment { self.space.next_room_bytes()? } else { room });
        let mut cut = Cut {
            payload_bytes: 0,
            record_count: 0,
            prepaid_count: 0,
            skipped_bytes: if is_new_segment { room } else { 0 },
        };
        let mut at = self.framed;
        while at < contiguous {
            let (length, is_prepaid) = self.link_length(ring, at);
            if cut.payload_bytes + length > limit {
                break;
            }
            cut.payload_bytes += length;
            cut.record_count += 1;
            cut.prepaid_count += u64::from(is_prepaid);
            at = at.advance(to_u64(length));
            if self.is_record_alone {
                break;
            }
        }
        assert!(at > self.framed || first.is_none(), "a record that fits no segment");
        Some(cut)
    }

    fn link_length(&self, ring: &Ring, at: Lsn) -> (usize, bool) {
        let link = ring.link(at).expect("records below contiguous stay linked until framed");
        (link.padded_length, link.is_prepaid)
    }

    fn fits_window(&mut self, cut: &Cut, durable: Lsn) -> bool {
        while self.uncovered.front().is_some_and(|&(end, _)| end <= durable) {
            self.uncovered.pop_front();
        }
        let end = self.file_bytes + cut.skipped_bytes + cut.cost().frame_bytes;
        self.uncovered.front().is_none_or(|&(_, start)| end - start <= IN_FLIGHT_BYTES_MAX)
    }

    fn fill(&mut self, ring: &Ring, cut: &Cut, place: Place, durable: Lsn) -> Frame {
        let length = frame_bytes(cut.payload_bytes);
        let mut buffer = self.buffer(SEGMENT_HEADER_BYTES + length);
        let (front, frame) = buffer.split_at_mut(SEGMENT_HEADER_BYTES);
        if let Some(segment) = &place.begins {
            segment.encode(front);
        }
        let payload_end = FRAME_HEADER_BYTES + cut.payload_bytes;
        ring.read(self.framed, &mut frame[FRAME_HEADER_BYTES..payload_end]);
        frame[payload_end..length].fill(0);
        let header = FrameHeader {
            identity: self.identity,
            epoch: self.epoch,
            frame_lsn: self.framed,
            payload_bytes: cut.payload_bytes,
            prev_frame_lsn: self.prev_frame_lsn,
            prev_checksum: self.prev_checksum,
            durable_lsn: durable,
            record_count: cut.record_count,
        };
        self.prev_checksum = header.encode(frame);
        self.prev_frame_lsn = self.framed;
        self.stamped = durable;
        let end = header.end_lsn();
        let mut at = self.framed;
        while at < end {
            let (length, _) = self.link_length(ring, at);
            ring.clear(at);
            at = at.advance(to_u64(length));
        }
        let start = self.file_bytes + cut.skipped_bytes;
        self.file_bytes = start + to_u64(length);
        if end > durable {
            self.uncovered.push_back((end, start));
        }
        let lsn = std::mem::replace(&mut self.framed, end);
        Frame { buffer, length, lsn, end, place }
    }

    fn buffer(&mut self, length: usize) -> AlignedBuf {
        match self.buffers.pop() {
            Some(buffer) if buffer.len() >= length => buffer,
            _ => AlignedBuf::new(length.next_power_of_two().max(BUFFER_BYTES_MIN)),
        }
    }

    /// Takes back the buffer of a written frame that nobody reads any more.
    pub(super) fn recycle(&mut self, frame: Arc<Frame>) {
        if let Some(frame) = Arc::into_inner(frame)
            && self.buffers.len() < IN_FLIGHT_FRAMES_MAX
        {
            self.buffers.push(frame.buffer);
        }
    }
}

const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX.is_multiple_of(RECORD_ALIGN));
