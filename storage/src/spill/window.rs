//! The blocks of an undo file, verified and kept in windows, and the search for a record's block.
//!
//! Rollback reads backwards, a check forwards, a reader of old versions here and there. So a window
//! that touches the one before is twice as long, up to a maximum, and any other is short. Two windows
//! are kept: an entry may begin in one and end in the next.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{AlignedBuf, BLOCK_BYTES, DiskFile};
use seawall_wal::{Error, Lsn, Result};

use super::block::{BlockHeader, Owner, STREAM, STREAM_BYTES_MAX, offset_of};
use super::{read, read_block};

/// Windows that are kept.
const WINDOWS: usize = 2;
/// Blocks of a window that touches no other.
const WINDOW_BLOCKS_MIN: u64 = 16;
/// Blocks of the longest window, 1 MiB.
const WINDOW_BLOCKS_MAX: u64 = 256;
/// Last LSNs that are remembered of blocks met in searches: the upper twelve halvings.
const FENCES_MAX: usize = 1 << 12;

const WINDOW_BYTES_MAX: usize =
    to_usize(WINDOW_BLOCKS_MAX) * (BLOCK_BYTES + size_of::<BlockHeader>());
/// Generous: a map's nodes are at least half full.
const FENCE_BYTES: usize = 4 * size_of::<(u64, Lsn)>();

/// Most memory of a [`Blocks`].
pub(super) const BLOCKS_BYTES_MAX: usize = WINDOWS * WINDOW_BYTES_MAX + FENCES_MAX * FENCE_BYTES;

/// The blocks below a mark.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    owner: Owner,
    /// Blocks below the mark, the header block too.
    count: u64,
    /// The one used last in front.
    windows: Vec<Window>,
    /// Blocks of the next window, if it touches one.
    reach: u64,
    fences: BTreeMap<u64, Lsn>,
}

/// Neighbouring blocks, verified.
#[derive(Debug)]
struct Window {
    first: u64,
    headers: Vec<BlockHeader>,
    bytes: AlignedBuf,
}

impl Window {
    fn end(&self) -> u64 {
        self.first + to_u64(self.headers.len())
    }

    fn header(&self, number: u64) -> Option<&BlockHeader> {
        self.headers.get(to_usize(number.checked_sub(self.first)?))
    }

    /// Entries of the window begin above.
    fn prev_lsn(&self) -> Lsn {
        self.headers.first().map_or(Lsn::MAX, |header| header.prev_lsn)
    }

    /// They begin here at the latest.
    fn last_lsn(&self) -> Lsn {
        self.headers.last().map_or(Lsn::NONE, |header| header.last_lsn)
    }

    /// The block in which the record at `lsn` begins, if it does in one of these.
    fn locate(&self, lsn: Lsn) -> Option<u64> {
        let is_inside = self.prev_lsn() < lsn && lsn <= self.last_lsn();
        let index = self.headers.partition_point(|header| header.last_lsn < lsn);
        is_inside.then_some(self.first + to_u64(index))
    }
}

impl Blocks {
    /// Blocks 1 to `count` of a file whose header block was verified.
    pub(super) fn new(file: Arc<dyn DiskFile>, path: PathBuf, owner: Owner, count: u64) -> Self {
        let (windows, fences) = (Vec::with_capacity(WINDOWS), BTreeMap::new());
        Self { file, path, owner, count, windows, reach: WINDOW_BLOCKS_MIN, fences }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn owner(&self) -> Owner {
        self.owner
    }

    /// Number of the first block beyond the mark.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// A block's fields and its stream.
    pub(super) fn block(&mut self, number: u64) -> Result<(BlockHeader, &[u8])> {
        if !self.windows.iter().any(|window| window.header(number).is_some()) {
            let is_next = self.windows.iter().any(|window| window.end() == number);
            let length = if is_next { self.lengthen() } else { WINDOW_BLOCKS_MIN };
            self.load(number..(number + length).min(self.count))?;
        }
        let index = self.windows.iter().position(|window| window.header(number).is_some());
        let Some(index) = index else {
            return Err(self.damage(number, "a block below the mark", "the end of the file"));
        };
        self.windows[..=index].rotate_right(1);
        let window = &self.windows[0];
        let index = to_usize(number - window.first);
        let stream = &window.bytes[index * BLOCK_BYTES + STREAM..][..STREAM_BYTES_MAX];
        Ok((window.headers[index], stream))
    }

    /// The block in which the record at `lsn` begins if it is in the file.
    pub(super) fn locate(&mut self, lsn: Lsn) -> Result<Option<u64>> {
        if let Some(number) = self.windows.iter().find_map(|window| window.locate(lsn)) {
            return Ok(Some(number));
        }
        let range = match self.near(lsn)? {
            Some(range) => range,
            None => self.search(lsn)?,
        };
        if range.is_empty() {
            return Ok(None);
        }
        self.load(range)?;
        Ok(self.windows[0].locate(lsn))
    }

    /// What the windows say about the first block whose last LSN is not below `lsn`: it is one of
    /// these, the last of which may be one too many.
    fn bounds(&self, lsn: Lsn) -> (u64, u64) {
        let before = self.windows.iter().filter(|window| window.last_lsn() < lsn);
        let behind = self.windows.iter().filter(|window| lsn <= window.prev_lsn());
        let low = before.map(Window::end).max().unwrap_or(1);
        let high = behind.map(|window| window.first - 1).min().unwrap_or(self.count);
        (low, high)
    }

    /// The next window, if it touches one and `lsn` is in it.
    fn near(&mut self, lsn: Lsn) -> Result<Option<Range<u64>>> {
        let (low, high) = self.bounds(lsn);
        if low > high || self.windows.is_empty() {
            return Ok(None);
        }
        if high < self.count {
            let from = low.max((high + 1).saturating_sub(self.reach));
            if from == low || self.last_lsn(from - 1)? < lsn {
                self.lengthen();
                return Ok(Some(from..high + 1));
            }
        }
        if low > 1 {
            let to = high.min(low + self.reach - 1);
            if to == high || self.last_lsn(to)? >= lsn {
                self.lengthen();
                return Ok(Some(low..(to + 1).min(self.count)));
            }
        }
        Ok(None)
    }

    /// A short window with the block of `lsn`, by binary search; empty if there is none.
    fn search(&mut self, lsn: Lsn) -> Result<Range<u64>> {
        self.reach = WINDOW_BLOCKS_MIN;
        // From the whole file on, so that the blocks in the middle are the same each time.
        let (mut low, mut high) = (1, self.count);
        while high - low >= WINDOW_BLOCKS_MIN {
            let middle = low.midpoint(high);
            let last_lsn = match self.fences.get(&middle) {
                Some(&last_lsn) => last_lsn,
                None => self.last_lsn(middle)?,
            };
            if self.fences.len() < FENCES_MAX {
                self.fences.insert(middle, last_lsn);
            }
            if last_lsn < lsn {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let end = (high + 1).min(self.count);
        Ok(low.min(end.saturating_sub(WINDOW_BLOCKS_MIN)).max(1)..end)
    }

    /// The last LSN of one block.
    fn last_lsn(&self, number: u64) -> Result<Lsn> {
        if let Some(header) = self.windows.iter().find_map(|window| window.header(number)) {
            return Ok(header.last_lsn);
        }
        let block = read_block(&*self.file, &self.path, number)?;
        Ok(self.verify(number, &block)?.last_lsn)
    }

    /// How long a window may be that touches another; the next one may be longer.
    fn lengthen(&mut self) -> u64 {
        let reach = self.reach;
        self.reach = (2 * reach).min(WINDOW_BLOCKS_MAX);
        reach
    }

    /// Reads blocks into a window in front of the others.
    fn load(&mut self, range: Range<u64>) -> Result<()> {
        let count = to_usize(range.end.saturating_sub(range.start).min(WINDOW_BLOCKS_MAX));
        let oldest = if self.windows.len() == WINDOWS { self.windows.pop() } else { None };
        let mut bytes = match oldest {
            Some(window) if window.bytes.len() == count * BLOCK_BYTES => window.bytes,
            _ => AlignedBuf::new(count * BLOCK_BYTES),
        };
        read(&*self.file, &self.path, range.start, &mut bytes)?;
        let numbered = bytes.chunks_exact(BLOCK_BYTES).zip(range.start..);
        let headers = numbered.map(|(block, number)| self.verify(number, block));
        let headers = headers.collect::<Result<Vec<_>>>()?;
        self.windows.insert(0, Window { first: range.start, headers, bytes });
        Ok(())
    }

    fn verify(&self, number: u64, block: &[u8]) -> Result<BlockHeader> {
        BlockHeader::verify(self.owner, number, block)
            .map_err(|error| error.in_file(&self.path, offset_of(number)))
    }

    /// Damage that a single block does not show.
    pub(super) fn damage(
        &self,
        number: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::corrupt(&self.path, offset_of(number), expected, found)
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let windows = self.windows.iter().map(|window| {
            window.bytes.len() + window.headers.capacity() * size_of::<BlockHeader>()
        });
        windows.sum::<usize>() + self.fences.len() * FENCE_BYTES
    }
}
