//! The files of the log, as the append side uses them: where the next frame goes, which files may be
//! used again, and how much space is left under the bound. Holds invariant C3 together with its
//! caller, who passes [`Segments::recycle_below`] only what a durable master record no longer needs.
//!
//! A segment's life:
//!
//! ```text
//!   (nothing) -- SparePlan::build --> spare -- begin_segment --> current --> live
//!                                       ^                                     |
//!                                       +----------- recycle_below -----------+--> (removed)
//! ```
//!
//! * A new file is made under a temporary name, filled with real zero writes (a synced write into
//!   unwritten or growing space costs a journal commit of the file system), synced, renamed, and the
//!   directory synced. If we crash before the rename is durable, the next open removes or ignores it.
//! * A recycled file is renamed to the next free number. Its old frames need no zeroing: they carry
//!   lower positions, so none of them fits. If we crash before the rename is durable, the file has
//!   its old name and lies below the truncation point.
//! * A spare becomes part of the log by its header, which is durable before the first frame behind
//!   it is written.
//!
//! Errors: [`Error::NoSpace`] means that a new file could not be made (a full disk, or the bound
//! `max_wal_bytes`); nothing is broken, what was half made is removed, and the call may be tried
//! again. Every other error of [`Segments::place`] concerns space that the log already owned: the
//! caller poisons the database (invariant W2).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{to_u64, to_usize};
use crate::control::{EpochEntry, LogPosition};
use crate::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, DiskFile, OpenMode};
use crate::planted::{Bug, is_planted};
use crate::{Epoch, Error, Lsn, Result};

use super::credit::FRAME_OVERHEAD_MAX;
use super::frame::frame_bytes;
use super::index::FrameIndex;
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};

/// Segments that the bound is divided into.
const SEGMENTS_PER_BOUND: u64 = 16;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Fewest segments that the bound must have room for: one in use, one that a checkpoint still needs,
/// one spare.
const SEGMENTS_MIN: u64 = 3;
/// Blocks that the file system may allocate for its own use on behalf of a segment.
const METADATA_BYTES: u64 = 2 * BLOCK_U64;
/// Bytes of one write of zeros.
const FILL_BYTES: usize = 1 << 20;

const BLOCK_U64: u64 = to_u64(BLOCK_BYTES);
const HEADER_U64: u64 = to_u64(SEGMENT_HEADER_BYTES);

/// Sizes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Bytes of a segment's file; a multiple of [`BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// Bound of the bytes allocated to all files of the log, temporary ones included.
    pub max_wal_bytes: u64,
    /// Longest record, see [`record_bytes_max`](crate::record::record_bytes_max).
    pub record_bytes_max: usize,
}

impl SegmentOptions {
    /// The usual segment size for a bound: a sixteenth of it, from 1 MiB to 64 MiB.
    #[must_use]
    pub fn for_bound(max_wal_bytes: u64, record_bytes_max: usize) -> Self {
        let share = max_wal_bytes / SEGMENTS_PER_BOUND / BLOCK_U64 * BLOCK_U64;
        let segment_bytes = share.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        Self { segment_bytes, max_wal_bytes, record_bytes_max }
    }

    /// What making one more segment may allocate.
    const fn cost_bytes(&self) -> u64 {
        self.segment_bytes + METADATA_BYTES
    }

    /// The most that stays unused at the end of a segment whose frames are cut to fit: just too
    /// little for a frame with the longest record.
    const fn tail_bytes_max(&self) -> u64 {
        to_u64(frame_bytes(self.record_bytes_max)) - BLOCK_U64
    }

    fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::InvalidArgument(why));
        if !self.segment_bytes.is_multiple_of(BLOCK_U64) {
            return refuse(format!("a segment is a multiple of {BLOCK_BYTES} bytes"));
        }
        let segment_min = HEADER_U64 + to_u64(frame_bytes(self.record_bytes_max));
        if self.segment_bytes < segment_min {
            return refuse(format!("a segment takes at least {segment_min} bytes"));
        }
        let bound_min = SEGMENTS_MIN * self.cost_bytes();
        if self.max_wal_bytes < bound_min {
            return refuse(format!("the log takes at least {bound_min} bytes"));
        }
        Ok(())
    }
}

/// Where a frame goes.
#[derive(Clone, Debug)]
pub struct Place {
    /// The segment's file.
    pub file: Arc<dyn DiskFile>,
    /// Byte offset in it.
    pub offset: u64,
    /// Number of the segment.
    pub segment: u64,
}

/// The files of a log that is being written.
#[derive(Debug)]
pub struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: SegmentOptions,
    epoch: Option<CurrentEpoch>,
    /// Segments with frames, in ascending order; the current one is the last.
    live: VecDeque<Live>,
    current: Option<Current>,
    /// In ascending order of their numbers, all of which are at or above `next_number`.
    spares: VecDeque<Spare>,
    /// Number of the segment that will be begun next.
    next_number: u64,
    /// Plans that are being built.
    planned_count: u64,
    /// Plans ever made; names their temporary files.
    plans_made: u64,
    /// Half-made files that could not be removed.
    leftovers: Vec<PathBuf>,
    /// Whether a name has changed since the directory was last synced.
    is_dir_changed: bool,
    index: FrameIndex,
}

#[derive(Clone, Copy, Debug)]
struct CurrentEpoch {
    epoch: Epoch,
    identity: u64,
    /// Where its first frame must go, until it has gone there.
    first_frame_at: Option<LogPosition>,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    number: u64,
    /// No frame inside begins below.
    first_lsn: Lsn,
    length_bytes: u64,
    allocated_bytes: u64,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: Arc<dyn DiskFile>,
    length_bytes: u64,
    next_offset: u64,
}

#[derive(Debug)]
struct Spare {
    number: u64,
    allocated_bytes: u64,
}

/// The making of a spare, apart from [`Segments`] so that no lock need be held meanwhile. Goes back
/// into [`Segments::finish_spare`], built or not.
#[must_use = "the planned space stays taken until the plan is finished"]
#[derive(Debug)]
pub struct SparePlan {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    segment_bytes: u64,
}

/// A file made by [`SparePlan::build`].
#[derive(Debug)]
pub struct BuiltSpare {
    allocated_bytes: u64,
}

impl Segments {
    /// Starts the log of a new database: makes its directory, which must hold no log yet.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, options: SegmentOptions) -> Result<Self> {
        disk.create_dir(dir).map_err(|error| Error::io(dir, error))?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(|error| Error::io(parent, error))?;
        }
        let first = LogPosition { segment: 1, offset: HEADER_U64 };
        Self::open(disk, dir, options, first, FrameIndex::new())
    }

    /// Takes over the files of a log that goes on at `resume`, as the decision where the log ends
    /// says, and that was accepted in front of it. Files behind `resume` become spares; what was
    /// left half made is removed. `index` is what is known about places in the log.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SegmentOptions,
        resume: LogPosition,
        index: FrameIndex,
    ) -> Result<Self> {
        options.check()?;
        let mut segments = Self {
            disk,
            dir: dir.to_path_buf(),
            options,
            epoch: None,
            live: VecDeque::new(),
            current: None,
            spares: VecDeque::new(),
            next_number: resume.segment,
            planned_count: 0,
            plans_made: 0,
            leftovers: Vec::new(),
            // The process before may have died between a rename and its sync.
            is_dir_changed: true,
            index,
        };
        segments.adopt_files(resume)?;
        if resume.offset > HEADER_U64 {
            segments.resume_segment(resume)?;
        }
        Ok(segments)
    }

    fn adopt_files(&mut self, resume: LogPosition) -> Result<()> {
        let is_live = |number: u64| {
            number < resume.segment || (number == resume.segment && resume.offset > HEADER_U64)
        };
        for name in self.disk.list(&self.dir).map_err(|error| Error::io(&self.dir, error))? {
            let path = self.dir.join(&name);
            let Some(number) = segment::parse_name(&name) else {
                if segment::is_temporary_name(&name) {
                    self.disk.remove_file(&path).map_err(|error| Error::io(&path, error))?;
                }
                continue;
            };
            let size = self.disk.size(&path).map_err(|error| Error::io(&path, error))?;
            let allocated_bytes = size.allocated_bytes.max(size.length_bytes);
            if is_live(number) {
                let first_lsn = self.first_lsn(number)?;
                let length_bytes = size.length_bytes;
                self.live.push_back(Live { number, first_lsn, length_bytes, allocated_bytes });
            } else if size.length_bytes == self.options.segment_bytes
                && self.spares.len() < self.spares_max()
            {
                self.spares.push_back(Spare { number, allocated_bytes });
            } else {
                self.disk.remove_file(&path).map_err(|error| Error::io(&path, error))?;
            }
        }
        self.bound_unknown_starts();
        Ok(())
    }

    /// Position of a segment's first frame; [`Lsn::NONE`] where the header does not tell.
    fn first_lsn(&self, number: u64) -> Result<Lsn> {
        let path = segment::path(&self.dir, number);
        let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
        self.disk
            .open(&path, OpenMode::ReadOnly, Access::Direct)
            .and_then(|file| file.read_at(&mut block, 0))
            .map_err(|error| Error::io(&path, error))?;
        Ok(match SegmentHeader::decode(&block) {
            Ok(header) if header.number == number => header.first_lsn,
            // Left over from below the truncation point, in the middle of being recycled. Had the
            // log needed it, the decision where the log ends would have refused it.
            _ => Lsn::NONE,
        })
    }

    /// A segment with unknown start counts as beginning where the one behind it does, so that none in
    /// front of it is given up too early. The first one has none in front, and keeps what lies below
    /// every other.
    fn bound_unknown_starts(&mut self) {
        let mut behind = Lsn::MAX;
        for live in self.live.iter_mut().skip(1).rev() {
            if live.first_lsn.is_none() {
                live.first_lsn = behind;
            }
            behind = live.first_lsn;
        }
    }

    fn resume_segment(&mut self, resume: LogPosition) -> Result<()> {
        let path = segment::path(&self.dir, resume.segment);
        let found = self.live.back().filter(|live| live.number == resume.segment);
        let Some(live) = found.filter(|live| live.length_bytes >= resume.offset) else {
            let found = found.map_or(0, |live| live.length_bytes);
            return Err(Error::corrupt(
                &path,
                resume.offset,
                format!("the end of the log at {resume}"),
                format!("a file of {found} bytes"),
            ));
        };
        let length_bytes = live.length_bytes;
        let file = self.open_segment(&path)?;
        let next_offset = resume.offset;
        self.current = Some(Current { number: resume.segment, file, length_bytes, next_offset });
        self.next_number = resume.segment + 1;
        Ok(())
    }

    /// Where the next frame goes unless it is longer than what is left of the current segment. A new
    /// epoch takes this as the place of its first frame.
    #[must_use]
    pub fn next_position(&self) -> LogPosition {
        match &self.current {
            Some(current) if self.current_room_bytes() > 0 => {
                LogPosition { segment: current.number, offset: current.next_offset }
            }
            _ => LogPosition { segment: self.next_number, offset: HEADER_U64 },
        }
    }

    /// Frames placed from now on belong to this epoch, whose entry is durable in `control`.
    ///
    /// # Panics
    /// When the entry does not begin at [`Segments::next_position`].
    pub fn start_epoch(&mut self, entry: &EpochEntry, identity: u64) {
        let first = LogPosition { segment: entry.segment, offset: entry.offset };
        assert_eq!(first, self.next_position(), "an epoch begins where the log goes on");
        self.index.note_epoch(entry.start_lsn, first);
        self.epoch =
            Some(CurrentEpoch { epoch: entry.epoch, identity, first_frame_at: Some(first) });
    }

    /// Where the next frame of `frame_bytes` goes; moves on to the next segment when the current one
    /// has no room. The new segment's header carries `frame_lsn` and `durable_lsn`. The first frame
    /// of an epoch must be cut to [`Segments::current_room_bytes`] where that is above 0, since the
    /// entry in `control` names its place.
    ///
    /// # Errors
    /// See the module: only [`Error::NoSpace`] leaves the log usable.
    ///
    /// # Panics
    /// Without an epoch, and when the frame is not whole blocks or longer than a segment.
    pub fn place(&mut self, frame_bytes: u64, frame_lsn: Lsn, durable_lsn: Lsn) -> Result<Place> {
        assert!(
            frame_bytes > 0
                && frame_bytes.is_multiple_of(BLOCK_U64)
                && frame_bytes <= self.segment_room_bytes(),
            "a frame of {frame_bytes} bytes fits no segment"
        );
        if self.current_room_bytes() < frame_bytes {
            self.begin_segment(frame_lsn, durable_lsn)?;
        }
        let current = self.current.as_mut().expect("a segment with room was begun");
        let at = LogPosition { segment: current.number, offset: current.next_offset };
        current.next_offset += frame_bytes;
        let file = Arc::clone(&current.file);
        let epoch = self.epoch.as_mut().expect("an epoch was started before the first frame");
        if let Some(first) = epoch.first_frame_at.take() {
            assert_eq!(at, first, "the first frame of an epoch goes where its entry says");
        }
        Ok(Place { file, offset: at.offset, segment: at.segment })
    }

    /// Bytes left in the current segment, so that the caller can cut its frame to fit.
    #[must_use]
    pub fn current_room_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| {
            current.length_bytes.saturating_sub(current.next_offset) / BLOCK_U64 * BLOCK_U64
        })
    }

    /// Frame bytes that a new segment takes: the longest frame.
    #[must_use]
    pub const fn segment_room_bytes(&self) -> u64 {
        self.options.segment_bytes - HEADER_U64
    }

    /// Frame bytes that can still be placed before the bound, segments not yet created included,
    /// headers and unusable tails excluded.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        let tail = self.options.tail_bytes_max();
        let usable = self.segment_room_bytes().saturating_sub(tail);
        let cost = self.options.cost_bytes();
        let creatable = self.options.max_wal_bytes.saturating_sub(self.wal_bytes()) / cost;
        let whole = to_u64(self.spares.len()) + self.planned_count + creatable;
        self.current_room_bytes().saturating_sub(tail) + whole * usable
    }

    /// Frame bytes that can still be placed in files that exist, less a frame's overhead for each: the
    /// frame that is cut to the end of a segment may be short.
    #[must_use]
    pub fn owned_bytes(&self) -> u64 {
        let tail = self.options.tail_bytes_max() + FRAME_OVERHEAD_MAX;
        let usable = self.segment_room_bytes().saturating_sub(tail);
        self.current_room_bytes().saturating_sub(tail) + to_u64(self.spares.len()) * usable
    }

    /// Plans one more spare, whether or not there are any, unless one is being made or the bound
    /// leaves no room.
    pub fn plan_another(&mut self) -> Option<SparePlan> {
        if self.planned_count == 0 { self.plan() } else { None }
    }

    /// Bytes allocated to the files of the log, a spare being made included.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        let live: u64 = self.live.iter().map(|live| live.allocated_bytes).sum();
        let spare: u64 = self.spares.iter().map(|spare| spare.allocated_bytes).sum();
        let unnamed = self.planned_count + to_u64(self.leftovers.len());
        live + spare + unnamed * self.options.cost_bytes()
    }

    /// Directory of the files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Segments that hold part of the log.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Segments that are ready for use.
    #[must_use]
    pub fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Notes a placed frame in the sparse index.
    pub fn note_frame(&mut self, lsn: Lsn, segment: u64, offset: u64) {
        self.index.note(lsn, LogPosition { segment, offset });
    }

    /// Segment and offset of the nearest known frame at or below `lsn`.
    #[must_use]
    pub fn locate(&self, lsn: Lsn) -> Option<(u64, u64)> {
        if let Some((_, at)) = self.index.locate(lsn) {
            return Some((at.segment, at.offset));
        }
        let below = self.live.iter().take_while(|live| live.first_lsn <= lsn);
        below.last().map(|live| (live.number, HEADER_U64))
    }

    /// The sparse index, for checkpoints to store.
    #[must_use]
    pub const fn index(&self) -> &FrameIndex {
        &self.index
    }

    /// Gives up the segments wholly below `lsn`, which no durable master record needs any more
    /// (invariant C3): they become spares, or are removed when there are enough. Returns their
    /// number. After an error the segments not yet given up are still there.
    pub fn recycle_below(&mut self, lsn: Lsn) -> Result<u64> {
        let mut count = 0;
        while self.live.get(1).is_some_and(|next| next.first_lsn <= lsn) {
            self.recycle_first()?;
            count += 1;
        }
        if count > 0 {
            self.sync_dir()?;
            let first = self.live.front().expect("the last segment is never given up");
            self.index.forget_below(first.number);
        }
        Ok(count)
    }

    fn recycle_first(&mut self) -> Result<()> {
        let first = *self.live.front().expect("the caller looked");
        let path = segment::path(&self.dir, first.number);
        let is_wanted = first.length_bytes == self.options.segment_bytes
            && self.spares.len() + to_usize(self.planned_count) < self.spares_max()
            && self.wal_bytes() <= self.options.max_wal_bytes;
        if is_wanted {
            let number = self.free_number();
            let to = segment::path(&self.dir, number);
            self.disk.rename(&path, &to).map_err(|error| owned(&path, error))?;
            let allocated_bytes = first.allocated_bytes;
            self.add_spare(Spare { number, allocated_bytes });
        } else {
            self.disk.remove_file(&path).map_err(|error| owned(&path, error))?;
        }
        self.is_dir_changed = true;
        self.live.pop_front();
        Ok(())
    }

    /// Makes a spare when there is none and the bound leaves room for it; says whether it did. This
    /// takes as long as writing a segment; [`Segments::plan_spare`] does the same in three steps.
    pub fn prepare_spare(&mut self) -> Result<bool> {
        let Some(plan) = self.plan_spare() else { return Ok(false) };
        let built = plan.build();
        self.finish_spare(plan, built)?;
        Ok(true)
    }

    /// Plans a spare when there is none, none is being made, and the bound leaves room for it.
    pub fn plan_spare(&mut self) -> Option<SparePlan> {
        if self.spares.is_empty() && self.planned_count == 0 { self.plan() } else { None }
    }

    fn plan(&mut self) -> Option<SparePlan> {
        self.remove_leftovers();
        if self.wal_bytes() + self.options.cost_bytes() > self.options.max_wal_bytes {
            return None;
        }
        self.planned_count += 1;
        self.plans_made += 1;
        Some(SparePlan {
            disk: Arc::clone(&self.disk),
            path: segment::temporary_path(&self.dir, self.plans_made),
            segment_bytes: self.options.segment_bytes,
        })
    }

    /// Takes in what [`SparePlan::build`] made: gives it its name.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the build or the renaming failed; nothing is broken.
    pub fn finish_spare(&mut self, plan: SparePlan, built: Result<BuiltSpare>) -> Result<()> {
        self.planned_count -= 1;
        let named = built.and_then(|built| {
            let number = self.free_number();
            let path = segment::path(&self.dir, number);
            self.disk.rename(&plan.path, &path).map_err(|error| growth(&plan.path, error))?;
            Ok(Spare { number, allocated_bytes: built.allocated_bytes })
        });
        let spare = named.inspect_err(|_| {
            self.leftovers.push(plan.path);
            self.remove_leftovers();
        })?;
        self.add_spare(spare);
        self.is_dir_changed = true;
        // If this fails, the spare may lose its name in a crash, and `take_spare` syncs again before
        // it relies on that name.
        self.disk.sync_dir(&self.dir).map_err(|error| growth(&self.dir, error))?;
        self.is_dir_changed = false;
        Ok(())
    }

    /// Removes half-made files. One that cannot be removed stays counted, and is tried again before
    /// the next plan.
    fn remove_leftovers(&mut self) {
        let disk = &self.disk;
        self.leftovers.retain(|path| match disk.remove_file(path) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
    }

    /// Moves on to the next segment, whose first frame begins at `first_lsn`.
    fn begin_segment(&mut self, first_lsn: Lsn, durable_lsn: Lsn) -> Result<()> {
        let epoch = self.epoch.expect("an epoch was started before the first frame");
        if self.spares.is_empty() {
            let Some(plan) = self.plan() else {
                let why =
                    format!("the log has reached its bound of {}", self.options.max_wal_bytes);
                return Err(growth(&self.dir, io::Error::new(io::ErrorKind::StorageFull, why)));
            };
            let built = plan.build();
            self.finish_spare(plan, built)?;
        }
        let number = self.next_number;
        let spare = self.take_spare(number)?;
        let path = segment::path(&self.dir, number);
        let file = self.open_segment(&path)?;
        let length_bytes = self.options.segment_bytes;
        let header = SegmentHeader {
            identity: epoch.identity,
            epoch: epoch.epoch,
            number,
            segment_bytes: length_bytes,
            first_lsn,
            durable_lsn,
        };
        let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
        header.encode(&mut block);
        let written = if is_planted(Bug::SkipSegmentHeaderSync) {
            file.write_at(&block, 0)
        } else {
            file.write_sync_at(&block, 0)
        };
        written.map_err(|error| owned(&path, error))?;
        let allocated_bytes = spare.allocated_bytes;
        self.live.push_back(Live { number, first_lsn, length_bytes, allocated_bytes });
        self.index.note(first_lsn, LogPosition { segment: number, offset: HEADER_U64 });
        self.current = Some(Current { number, file, length_bytes, next_offset: HEADER_U64 });
        self.next_number = number + 1;
        Ok(())
    }

    /// Takes a spare and sees to it that its name is `number`, durably.
    fn take_spare(&mut self, number: u64) -> Result<Spare> {
        let spare = self.spares.front().expect("the caller saw to a spare");
        if spare.number != number {
            let from = segment::path(&self.dir, spare.number);
            let to = segment::path(&self.dir, number);
            self.disk.rename(&from, &to).map_err(|error| owned(&from, error))?;
            self.is_dir_changed = true;
        }
        self.sync_dir()?;
        Ok(self.spares.pop_front().expect("looked at above"))
    }

    fn add_spare(&mut self, spare: Spare) {
        let behind = self.spares.partition_point(|other| other.number < spare.number);
        self.spares.insert(behind, spare);
    }

    /// The lowest number that a spare can be given.
    fn free_number(&self) -> u64 {
        self.spares.iter().fold(self.next_number, |free, spare| {
            if spare.number == free { free + 1 } else { free }
        })
    }

    /// Spares worth keeping: half of what the bound has room for.
    fn spares_max(&self) -> usize {
        to_usize((self.options.max_wal_bytes / self.options.cost_bytes() / 2).max(1))
    }

    fn open_segment(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        let opened = self.disk.open(path, OpenMode::ReadWrite, Access::Direct);
        opened.map_err(|error| owned(path, error))
    }

    /// Makes the names of the files durable.
    fn sync_dir(&mut self) -> Result<()> {
        if self.is_dir_changed && !is_planted(Bug::SkipDirectorySync) {
            self.disk.sync_dir(&self.dir).map_err(|error| owned(&self.dir, error))?;
            self.is_dir_changed = false;
        }
        Ok(())
    }
}

impl SparePlan {
    /// Makes the file: zeros written and synced under a temporary name.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; the half-made file is removed when the plan is finished.
    pub fn build(&self) -> Result<BuiltSpare> {
        self.fill().map_err(|error| growth(&self.path, error))
    }

    fn fill(&self) -> io::Result<BuiltSpare> {
        let file = self.disk.open(&self.path, OpenMode::Create, Access::Direct)?;
        // The length first: a file system that allocates ahead of a growing end would break the
        // bound.
        file.set_len(self.segment_bytes)?;
        let zeros = AlignedBuf::new(FILL_BYTES.min(to_usize(self.segment_bytes)));
        let mut offset = 0;
        while offset < self.segment_bytes {
            let count = zeros.len().min(to_usize(self.segment_bytes - offset));
            file.write_at(&zeros[..count], offset)?;
            offset += to_u64(count);
        }
        file.sync()?;
        let size = file.size()?;
        Ok(BuiltSpare { allocated_bytes: size.allocated_bytes.max(size.length_bytes) })
    }
}

/// A failure to make new space, whatever the system calls it (invariant W2).
fn growth(path: &Path, source: io::Error) -> Error {
    Error::NoSpace { path: path.to_path_buf(), source: Arc::new(source) }
}

/// A failure on space that the log already owned: never [`Error::NoSpace`], even if the system says
/// that the disk is full.
fn owned(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_path_buf(), source: Arc::new(source) }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
