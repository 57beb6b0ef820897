//! Copying the log: frame by frame, verified, each to the same place in the copy, so that the
//! positions that `control` names hold there too.
//!
//! The first segment is copied from its beginning, because readers without a better hint begin at a
//! segment's first frame. A copied segment ends with its last frame, and its header says so. The
//! hold on the source's log follows the copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::control::{ControlState, LogPosition, MasterRecord};
use seawall_wal::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, OpenMode};
use seawall_wal::log::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use seawall_wal::log::{Frame, LogFiles};
use seawall_wal::{Error, Lsn, Result};

use super::target::{CopiedFile, TargetFile};
use crate::checkpoint::LogHold;
use crate::names::WAL_NAME;

/// A copy of the log in progress.
pub(super) struct LogCopy<'b> {
    disk: Arc<dyn Disk>,
    source_dir: &'b Path,
    target_dir: PathBuf,
    state: &'b ControlState,
    hold: &'b LogHold<'b>,
    /// Where the frame lies that was copied first.
    first_at: Option<LogPosition>,
    /// Where the frame lies that was copied last, or one in front of the first to be copied.
    last_at: LogPosition,
    /// The copy reaches up to here.
    end_lsn: Lsn,
    current: Option<(SegmentHeader, TargetFile)>,
    copied: Vec<CopiedFile>,
}

impl<'b> LogCopy<'b> {
    /// A copy from where recovery from `master` begins, which `hold` keeps.
    pub(super) fn new(
        disk: &Arc<dyn Disk>,
        source_dir: &'b Path,
        target_dir: PathBuf,
        state: &'b ControlState,
        master: &MasterRecord,
        hold: &'b LogHold<'b>,
    ) -> Self {
        Self {
            disk: Arc::clone(disk),
            source_dir,
            target_dir,
            state,
            hold,
            first_at: None,
            last_at: master.start_at,
            end_lsn: master.start_lsn(),
            current: None,
            copied: Vec::new(),
        }
    }

    /// The copy reaches up to here.
    pub(super) const fn end_lsn(&self) -> Lsn {
        self.end_lsn
    }

    /// Where the frame lies that was copied first.
    ///
    /// # Panics
    /// Before anything was copied.
    pub(super) fn first_at(&self) -> LogPosition {
        self.first_at.expect("a checkpoint's end lies behind its start, in a frame that was copied")
    }

    /// Copies on up to `until`, which is durable.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the hold was revoked; [`Error::Corrupt`]; those of reading and
    /// writing.
    pub(super) fn copy_to(&mut self, until: Lsn) -> Result<()> {
        if until <= self.end_lsn {
            return Ok(());
        }
        // Segments that were taken from under the reader look damaged.
        let copied = self.copy_frames(until);
        self.hold.check(self.source_dir)?;
        copied
    }

    fn copy_frames(&mut self, until: Lsn) -> Result<()> {
        let files = LogFiles::of(Arc::clone(&self.disk), self.source_dir, self.state)?;
        let mut reader = files.reader(self.end_lsn, Some(self.last_at), Some(until))?;
        let mut last_lsn = self.end_lsn;
        while let Some(frame) = reader.next_frame()? {
            self.copy_frame(&frame)?;
            last_lsn = frame.header.frame_lsn;
        }
        // The next call begins to read at the last frame.
        self.hold.raise(last_lsn, self.source_dir)
    }

    fn copy_frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let at = frame.at;
        if self.current.as_ref().is_none_or(|(header, _)| header.number != at.segment) {
            self.begin_segment(frame)?;
        }
        self.first_at.get_or_insert(at);
        let (_, file) = self.current.as_mut().expect("begun above");
        file.pad_to(at.offset)?;
        file.append(frame.bytes)?;
        self.last_at = at;
        self.end_lsn = frame.end_lsn;
        Ok(())
    }

    /// Starts the copy of a segment behind its header, and of the first one with all that lies in
    /// front of the frame.
    ///
    /// A segment that an epoch begins can be read without its header, and a torn write may have left
    /// the header of the file's earlier use: the copy gets one of its own.
    fn begin_segment(&mut self, frame: &Frame<'_>) -> Result<()> {
        let at = frame.at;
        self.finish_segment()?;
        let source_path = segment::path(self.source_dir, at.segment);
        let front = if self.first_at.is_none() { at.offset } else { to_u64(SEGMENT_HEADER_BYTES) };
        let source = self.disk.open(&source_path, OpenMode::ReadOnly, Access::Direct);
        let source = source.map_err(|error| Error::io(&source_path, error))?;
        let target_path = segment::path(&self.target_dir, at.segment);
        let header_bytes = to_u64(SEGMENT_HEADER_BYTES);
        let mut target = TargetFile::create_behind(&*self.disk, &target_path, header_bytes)?;
        let mut block = AlignedBuf::new(BLOCK_BYTES);
        let read = |block: &mut AlignedBuf, offset| {
            source.read_at(block, offset).map_err(|error| Error::io(&source_path, error))
        };
        read(&mut block, 0)?;
        let found = SegmentHeader::decode(&block).ok().filter(|found| found.number == at.segment);
        let header = found.unwrap_or(SegmentHeader {
            identity: frame.header.identity,
            epoch: frame.header.epoch,
            number: at.segment,
            // Set when the copy of the segment is finished.
            segment_bytes: 0,
            first_lsn: frame.header.frame_lsn,
            durable_lsn: frame.header.durable_lsn,
        });
        for offset in (header_bytes..front).step_by(BLOCK_BYTES) {
            read(&mut block, offset)?;
            target.append(&block)?;
        }
        self.current = Some((header, target));
        Ok(())
    }

    fn finish_segment(&mut self) -> Result<()> {
        if let Some((header, file)) = self.current.take() {
            let path = segment::path(Path::new(WAL_NAME), header.number);
            let header = SegmentHeader { segment_bytes: file.bytes(), ..header };
            let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
            header.encode(&mut block);
            self.copied.push(file.finish_with_front(&block, path.display().to_string())?);
        }
        Ok(())
    }

    /// Makes the copy durable, names included.
    pub(super) fn finish(mut self) -> Result<Vec<CopiedFile>> {
        self.finish_segment()?;
        let synced = self.disk.sync_dir(&self.target_dir);
        synced.map_err(|error| Error::io(&self.target_dir, error))?;
        Ok(self.copied)
    }
}
