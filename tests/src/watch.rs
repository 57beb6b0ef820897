//! What must hold at each operation of the disk, watched while the engine runs.
//!
//! * W1: a page goes to its place only when the log of every record on it is synced.
//! * W2: bytes of the log are not written over, but by the same bytes, while their segment lives.
//! * W4: a frame begins at or beyond the end of every frame written before it, in this life of the
//!   database or in one that a crash ended.
//! * P3: no page is written while an earlier write of it is not synced.
//!
//! It believes nothing that the engine says of itself: what is durable follows from the writes and
//! syncs that it has seen. One thread uses the disk.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use seawall::Lsn;
use seawall::page::PageView;
use seawall_wal::codec::to_u64;
use seawall_wal::disk::sim::{OperationKind, SimOperation};
use seawall_wal::log::frame::FrameHeader;
use seawall_wal::log::segment::SEGMENT_HEADER_BYTES;

use crate::failure::{Failure, Outcome};
use crate::settings::PATH;

/// Where the first frame of a segment lies.
const FIRST_OFFSET: u64 = to_u64(SEGMENT_HEADER_BYTES);

/// Sees every operation of a disk.
#[derive(Debug)]
pub struct Watch {
    page_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last operation seen.
    operation: u64,
    /// Of the frames written: number of the operation, and the highest end so far.
    issued: Vec<(u64, Lsn)>,
    /// The highest end of a frame of an earlier life.
    floor: Lsn,
    /// Frames that are not synced.
    unsynced: Vec<Unsynced>,
    /// What each segment holds: offset, length, and a hash of the bytes.
    segments: HashMap<PathBuf, Vec<Piece>>,
    /// Pages written in place since their file was synced.
    pages: BTreeSet<u64>,
    violation: Option<String>,
}

#[derive(Debug)]
struct Unsynced {
    path: PathBuf,
    offset: u64,
    start: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    length: u64,
    hash: u64,
}

impl Watch {
    /// Watches a disk with this many operations behind it. Frames that end at `floor` or below were
    /// written in an earlier life.
    #[must_use]
    pub fn new(page_bytes: u32, operations: u64, floor: Lsn) -> Self {
        let page_bytes = usize::try_from(page_bytes).expect("usize has at least 32 bits");
        let state = State { operation: operations, floor, ..State::default() };
        Self { page_bytes, state: Mutex::new(state) }
    }

    /// The database is about to be opened again: nobody waits for the syncs of the life before.
    pub fn begin_life(&self) {
        self.state.lock().expect("nothing panics under the lock").pages.clear();
    }

    /// The same after operations have failed, which the watch cannot tell from others: what it has
    /// seen of the log need not be there.
    pub fn begin_life_after_errors(&self) {
        let mut state = self.state.lock().expect("nothing panics under the lock");
        state.segments.clear();
        state.unsynced.clear();
    }

    /// An operation is about to run.
    pub fn see(&self, operation: &SimOperation<'_>) {
        let mut state = self.state.lock().expect("nothing panics under the lock");
        if operation.kind != OperationKind::Read {
            state.operation += 1;
        }
        let is_control = operation.path == Path::new(PATH).join("control.tmp");
        if is_control && operation.kind == OperationKind::Create {
            // A creation that a crash cut short is begun again, by a database of another identity.
            (state.floor, state.issued) = (Lsn::NONE, Vec::new());
        }
        let seen = if is_segment(operation.path) {
            state.see_log(operation)
        } else if operation.path == Path::new(PATH).join("pages") {
            state.see_pages(operation, self.page_bytes)
        } else {
            Ok(())
        };
        if let (Err(why), None) = (seen, &state.violation) {
            let number = state.operation;
            let Some(name) = operation.path.file_name() else { return };
            let (kind, offset) = (operation.kind, operation.offset);
            let place = format!("operation {number}, {kind:?} {} {offset}", name.display());
            state.violation = Some(format!("{place}: {why}"));
        }
    }

    /// Everything seen so far was as it must be.
    ///
    /// # Errors
    /// The first thing that was not.
    pub fn check(&self) -> Outcome {
        let state = self.state.lock().expect("nothing panics under the lock");
        state.violation.clone().map_or(Ok(()), |why| Err(Failure::new(why)))
    }

    /// The highest end of a frame that operations below `cut` wrote.
    #[must_use]
    pub fn issued_before(&self, cut: u64) -> Lsn {
        let state = self.state.lock().expect("nothing panics under the lock");
        let before = state.issued.partition_point(|&(operation, _)| operation < cut);
        before.checked_sub(1).map_or(state.floor, |last| state.issued[last].1)
    }
}

impl State {
    fn see_log(&mut self, operation: &SimOperation<'_>) -> Result<(), String> {
        let path = operation.path;
        match operation.kind {
            OperationKind::Write if operation.offset == 0 => {
                // The header of a segment that is used from now on, and its first frame.
                self.segments.insert(path.to_owned(), Vec::new());
                let (_, frame) = operation.bytes.split_at(SEGMENT_HEADER_BYTES);
                if frame.is_empty() { Ok(()) } else { self.see_frame(path, FIRST_OFFSET, frame) }
            }
            OperationKind::Write => self.see_frame(path, operation.offset, operation.bytes),
            OperationKind::WriteSync => {
                let length = u64::try_from(operation.length).expect("usize has at most 64 bits");
                let written = operation.offset..operation.offset + length;
                self.unsynced
                    .retain(|frame| frame.path != path || !written.contains(&frame.offset));
                Ok(())
            }
            OperationKind::Sync => {
                self.unsynced.retain(|frame| frame.path != path);
                Ok(())
            }
            OperationKind::Rename | OperationKind::Remove => {
                self.segments.remove(path);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn see_frame(&mut self, path: &Path, offset: u64, frame: &[u8]) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        hasher.write(frame);
        let length = u64::try_from(frame.len()).expect("usize has at most 64 bits");
        let piece = Piece { offset, length, hash: hasher.finish() };
        let pieces = self.segments.entry(path.to_owned()).or_default();
        if pieces.contains(&piece) {
            return Ok(());
        }
        let meets = |other: &&Piece| {
            other.offset < piece.offset + piece.length && piece.offset < other.offset + other.length
        };
        if let Some(other) = pieces.iter().find(meets) {
            return Err(format!("W2: written over {} bytes at {}", other.length, other.offset));
        }
        pieces.push(piece);
        let (header, _) = FrameHeader::decode_any(frame)
            .map_err(|error| format!("no frame: {}, {}", error.expected, error.found))?;
        let (start, end) = (header.frame_lsn, header.end_lsn());
        let highest = self.issued.last().map_or(self.floor, |&(_, end)| end);
        if start < highest {
            return Err(format!("W4: a frame from {start} on, with log up to {highest}"));
        }
        self.issued.push((self.operation, end));
        self.unsynced.push(Unsynced { path: path.to_owned(), offset, start });
        Ok(())
    }

    fn see_pages(&mut self, operation: &SimOperation<'_>, bytes: usize) -> Result<(), String> {
        match operation.kind {
            OperationKind::Sync => self.pages.clear(),
            OperationKind::Write => {
                let page_bytes = u64::try_from(bytes).expect("usize has at most 64 bits");
                let first = operation.offset / page_bytes;
                for (page, bytes) in (first..).zip(operation.bytes.chunks(bytes)) {
                    if bytes.iter().any(|&byte| byte != 0) {
                        self.see_page(page, PageView::new(bytes).page_lsn())?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn see_page(&mut self, page: u64, page_lsn: Lsn) -> Result<(), String> {
        if !self.pages.insert(page) {
            return Err(format!("P3: page {page} is written again before its sync"));
        }
        let highest = self.issued.last().map_or(self.floor, |&(_, end)| end);
        if page_lsn > highest {
            return Err(format!("W1: page {page} at {page_lsn}, log written to {highest}"));
        }
        match self.unsynced.iter().map(|frame| frame.start).min() {
            Some(start) if start < page_lsn => {
                Err(format!("W1: page {page} at {page_lsn}, log synced to {start}"))
            }
            _ => Ok(()),
        }
    }
}

fn is_segment(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent == Path::new(PATH).join("wal"))
        && path.extension().is_some_and(|extension| extension == "wal")
}
