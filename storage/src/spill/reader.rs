//! Reading records of an undo file, below a mark, and never what lies behind it. What is damaged below
//! the mark is [`Error::Corrupt`] with the block's place (L2); memory is bounded by
//! [`READER_BYTES_MAX`] (L3).

use std::mem;
use std::path::Path;

use seawall_wal::codec::{DecodeError, to_u64};
use seawall_wal::disk::{Access, Disk, OpenMode};
use seawall_wal::log::{OwnedRecord, RecordPlace};
use seawall_wal::record::{Header, RECORD_HEADER_BYTES};
use seawall_wal::{DatabaseId, Error, Lsn, Result, TxnId};

use super::block::{
    BlockHeader, ENTRY_BYTES, Entry, Owner, RECORD_BYTES_MAX, STREAM, STREAM_BYTES_MAX, offset_of,
};
use super::window::{BLOCKS_BYTES_MAX, Blocks};
use super::{SpillContents, SpillMark, check_length, missing, path, read_block};

/// Most memory of a reader, the record that it hands out included.
pub(super) const READER_BYTES_MAX: usize =
    BLOCKS_BYTES_MAX + DIRECTORY_BYTES_MAX + RECORD_BYTES_MAX;
const _: () = assert!(READER_BYTES_MAX <= 4 << 20, "a reader takes little of the memory");

/// Most entries that begin in a block.
const ENTRIES_MAX: usize = STREAM_BYTES_MAX.div_ceil(ENTRY_BYTES + RECORD_HEADER_BYTES);
/// A vector that grows may be half empty.
const DIRECTORY_BYTES_MAX: usize = 2 * ENTRIES_MAX * size_of::<(Lsn, usize)>();

/// Reads the undo file of one transaction up to a mark, beside its writer and any number of others.
/// It is at its fastest when it reads backwards.
#[derive(Debug)]
pub(crate) struct SpillReader {
    blocks: Blocks,
    directory: Directory,
}

/// The entries that begin in the block read last: the next read is often of one of them.
#[derive(Debug)]
struct Directory {
    block: u64,
    header: BlockHeader,
    /// LSN of each, and its offset in the block's stream.
    entries: Vec<(Lsn, usize)>,
}

impl Directory {
    /// Of no block, and so covering nothing.
    const fn empty() -> Self {
        let (prev_lsn, last_lsn) = (Lsn::NONE, Lsn::NONE);
        let header = BlockHeader { used: 0, continued: 0, entries: 0, prev_lsn, last_lsn };
        Self { block: 0, header, entries: Vec::new() }
    }

    /// Whether the record at `lsn` begins in the block, if it is in the file.
    fn covers(&self, lsn: Lsn) -> bool {
        self.header.prev_lsn < lsn && lsn <= self.header.last_lsn
    }
}

/// A place in the stream.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    block: u64,
    /// Offset in the block's stream.
    byte: usize,
    /// Where the entry's bytes in this block end at the latest.
    end: usize,
}

impl SpillReader {
    /// Opens the file up to `length`, which a mark named.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is missing, too short or another one; [`Error::Io`].
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        database: DatabaseId,
        txn: TxnId,
        length: u64,
    ) -> Result<Self> {
        let path = path(dir, txn);
        let owner = Owner { database, txn };
        let file = disk.open(&path, OpenMode::ReadOnly, Access::Direct);
        let file = file.map_err(|error| missing(&path, error))?;
        let count = check_length(&*file, &path, length)?;
        let header = read_block(&*file, &path, 0)?;
        owner.verify(&header).map_err(|error| error.in_file(&path, 0))?;
        let blocks = Blocks::new(file, path, owner, count);
        Ok(Self { blocks, directory: Directory::empty() })
    }

    /// The record at exactly `lsn`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is not there, or anything on the way to it is damaged;
    /// [`Error::Io`].
    pub(crate) fn read(&mut self, lsn: Lsn) -> Result<OwnedRecord> {
        if !self.directory.covers(lsn) {
            let Some(block) = self.blocks.locate(lsn)? else {
                let expected = format!("the record at {lsn}");
                return Err(self.blocks.damage(self.blocks.count(), expected, "the mark"));
            };
            self.list(block)?;
        }
        let Directory { block, header, entries } = &self.directory;
        let Ok(index) = entries.binary_search_by_key(&lsn, |(lsn, _)| *lsn) else {
            let found = "none that begins in this block";
            return Err(self.blocks.damage(*block, format!("the record at {lsn}"), found));
        };
        let mut cursor = Cursor { block: *block, byte: entries[index].1, end: header.used };
        let entry = self.entry(&mut cursor)?;
        self.record(entry, &mut cursor)
    }

    /// Makes the directory that of a block; where that fails, of none.
    fn list(&mut self, block: u64) -> Result<()> {
        let mut entries = mem::replace(&mut self.directory, Directory::empty()).entries;
        entries.clear();
        let (header, _) = self.blocks.block(block)?;
        let mut byte = header.continued;
        let mut last_lsn = header.prev_lsn;
        for _ in 0..header.entries {
            let entry = self.entry(&mut self.begin(block, byte, &header)?)?;
            self.check_order(block, last_lsn, entry.lsn)?;
            entries.push((entry.lsn, byte));
            last_lsn = entry.lsn;
            byte += ENTRY_BYTES + entry.length;
        }
        self.directory = Directory { block, header, entries };
        Ok(())
    }

    /// Reads every block and calls `each` with every record in order; see [`check`](super::check).
    pub(super) fn check(
        mut self,
        mut each: impl FnMut(&OwnedRecord) -> Result<()>,
    ) -> Result<SpillContents> {
        let mut records = 0;
        let mut last_lsn = Lsn::NONE;
        // Bytes of the last entry that lie behind the block it begins in.
        let mut rest = 0;
        for number in 1..self.blocks.count() {
            let (header, _) = self.blocks.block(number)?;
            let continued = STREAM_BYTES_MAX.min(rest);
            if header.prev_lsn != last_lsn || header.continued != continued {
                let expected = format!("{continued} more bytes of the entry at {last_lsn}");
                return Err(self.blocks.damage(number, expected, format!("{header:?}")));
            }
            rest -= continued;
            let mut byte = continued;
            for _ in 0..header.entries {
                let mut cursor = self.begin(number, byte, &header)?;
                let entry = self.entry(&mut cursor)?;
                self.check_order(number, last_lsn, entry.lsn)?;
                each(&self.record(entry, &mut cursor)?)?;
                last_lsn = entry.lsn;
                byte += ENTRY_BYTES + entry.length;
                records += 1;
            }
            if byte < header.used || last_lsn != header.last_lsn {
                let expected = format!("{header:?}");
                let found = format!("{byte} bytes up to the entry at {last_lsn}");
                return Err(self.blocks.damage(number, expected, found));
            }
            rest += byte - header.used;
        }
        let length = offset_of(self.blocks.count());
        Ok(SpillContents { records, mark: SpillMark::behind(last_lsn, length) })
    }

    /// A cursor at an entry that the block says begins in it.
    fn begin(&self, block: u64, byte: usize, header: &BlockHeader) -> Result<Cursor> {
        if byte < header.used {
            return Ok(Cursor { block, byte, end: header.used });
        }
        let expected = format!("{} entries", header.entries);
        Err(self.blocks.damage(block, expected, "fewer"))
    }

    fn check_order(&self, block: u64, last_lsn: Lsn, lsn: Lsn) -> Result<()> {
        if lsn > last_lsn {
            return Ok(());
        }
        let expected = format!("a record behind {last_lsn}");
        Err(self.blocks.damage(block, expected, lsn.to_string()))
    }

    /// The entry at the cursor, which is then at its record.
    fn entry(&mut self, cursor: &mut Cursor) -> Result<Entry> {
        let start = *cursor;
        let mut bytes = [0; ENTRY_BYTES];
        self.copy(cursor, &mut bytes)?;
        Entry::decode(&bytes).map_err(|error| self.in_stream(start, error))
    }

    /// The record at the cursor.
    fn record(&mut self, entry: Entry, cursor: &mut Cursor) -> Result<OwnedRecord> {
        let start = *cursor;
        let mut bytes = vec![0; entry.length];
        self.copy(cursor, &mut bytes)?;
        let header = Header::decode(&bytes, RECORD_BYTES_MAX);
        let header = header.map_err(|error| self.in_stream(start, error))?;
        let Owner { txn, .. } = self.blocks.owner();
        if header.length != bytes.len() || header.txn != txn {
            let expected = format!("a record of {} bytes of transaction {txn}", bytes.len());
            let found = format!("one of {} bytes of transaction {}", header.length, header.txn);
            return Err(self.in_stream(start, DecodeError::new(0, expected, found)));
        }
        let end = entry.lsn.advance(to_u64(header.padded_length()));
        let place = RecordPlace::TxnFile(self.offset(start));
        Ok(OwnedRecord { lsn: entry.lsn, end, header, bytes, place })
    }

    /// Fills `out` from the cursor on, across blocks where its entry goes on.
    fn copy(&mut self, cursor: &mut Cursor, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if cursor.byte == cursor.end {
                *cursor = self.next_block(*cursor)?;
            }
            let (_, stream) = self.blocks.block(cursor.block)?;
            let count = out.len().min(cursor.end - cursor.byte);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&stream[cursor.byte..][..count]);
            cursor.byte += count;
            out = later;
        }
        Ok(())
    }

    /// The next block's share of an entry that goes on there.
    fn next_block(&mut self, cursor: Cursor) -> Result<Cursor> {
        let block = cursor.block + 1;
        if cursor.end == STREAM_BYTES_MAX && block < self.blocks.count() {
            let (header, _) = self.blocks.block(block)?;
            if header.continued > 0 {
                return Ok(Cursor { block, byte: 0, end: header.continued });
            }
        }
        Err(self.blocks.damage(cursor.block, "an entry that goes on", "its end"))
    }

    /// A finding at a place in the stream, whose offset in the file is exact within the block.
    fn in_stream(&self, at: Cursor, error: DecodeError) -> Error {
        error.in_file(self.blocks.path(), self.offset(at))
    }

    /// Offset in the file of a place in the stream.
    fn offset(&self, at: Cursor) -> u64 {
        offset_of(at.block) + to_u64(STREAM + at.byte)
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let entries = self.directory.entries.capacity() * size_of::<(Lsn, usize)>();
        self.blocks.memory_bytes() + entries
    }
}
