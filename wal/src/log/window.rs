//! Read-ahead over the segments of a log: a few large aligned reads instead of many small ones.

use std::sync::Arc;

use crate::codec::{to_u64, to_usize};
use crate::disk::{AlignedBuf, BLOCK_BYTES, DiskFile, OpenMode};
use crate::{Error, Result};

use super::files::{LogFiles, file_length};

/// Bytes of one segment, kept in memory from one request to the next.
#[derive(Debug)]
pub(super) struct Window {
    segment: Option<OpenSegment>,
    read_ahead_bytes: usize,
    /// As long as the longest request so far.
    buf: AlignedBuf,
    /// Offset in the file of the buffer's first byte.
    start: u64,
    /// Valid bytes in the buffer.
    length: usize,
}

#[derive(Debug)]
struct OpenSegment {
    number: u64,
    file: Arc<dyn DiskFile>,
    length_bytes: u64,
}

impl Window {
    /// A window that reads at least `read_ahead_bytes` at once, where the file has them.
    pub(super) fn new(read_ahead_bytes: usize) -> Self {
        let read_ahead_bytes = read_ahead_bytes.next_multiple_of(BLOCK_BYTES);
        Self { segment: None, read_ahead_bytes, buf: AlignedBuf::new(0), start: 0, length: 0 }
    }

    /// Turns to a segment. Says how long its file is; `None` where there is none.
    pub(super) fn enter(&mut self, files: &LogFiles, number: u64) -> Result<Option<u64>> {
        if let Some(segment) = &self.segment
            && segment.number == number
        {
            return Ok(Some(segment.length_bytes));
        }
        let Some(file) = files.open_segment(number, OpenMode::ReadOnly)? else { return Ok(None) };
        let length_bytes = file_length(file.as_ref())?;
        self.segment = Some(OpenSegment { number, file, length_bytes });
        self.length = 0;
        Ok(Some(length_bytes))
    }

    /// The file of the segment turned to.
    pub(super) fn file(&self) -> &dyn DiskFile {
        self.segment.as_ref().expect("a segment was entered").file.as_ref()
    }

    /// `count` bytes at `offset`; `None` where the file ends before. Both are multiples of the block
    /// size.
    pub(super) fn bytes(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>> {
        let segment = self.segment.as_ref().expect("a segment was entered");
        let is_held = self.length > 0
            && offset >= self.start
            && offset + to_u64(count) <= self.start + to_u64(self.length);
        if !is_held {
            let left = segment.length_bytes.saturating_sub(offset);
            if left < to_u64(count) {
                return Ok(None);
            }
            let wanted = to_u64(self.read_ahead_bytes.max(count)).min(left);
            let wanted = to_usize(wanted) / BLOCK_BYTES * BLOCK_BYTES;
            if self.buf.len() < wanted {
                self.buf = AlignedBuf::new(wanted);
            }
            self.length = 0;
            segment
                .file
                .read_at(&mut self.buf[..wanted], offset)
                .map_err(|error| Error::io(segment.file.path(), error))?;
            self.start = offset;
            self.length = wanted;
        }
        Ok(Some(self.held(offset, count)))
    }

    /// What the last call of [`Window::bytes`] gave out.
    pub(super) fn held(&self, offset: u64, count: usize) -> &[u8] {
        let within = to_usize(offset - self.start);
        &self.buf[within..within + count]
    }
}
