//! Appending to an undo file.
//!
//! Records are rendered into blocks in memory, whole blocks are written, a sync ends the block that is
//! not full. What lies below the last mark is never written again.
//!
//! After an error the writer stands at its last mark: what was appended since is forgotten, the file
//! is cut there, and the caller appends it again. A failed sync allows nothing less, since the kernel
//! may have dropped any of the writes before it and calls the next sync a success (W2). Cutting gives
//! a full disk its room back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, DiskFile, OpenMode};
use seawall_wal::record::Header;
use seawall_wal::{DatabaseId, Error, Lsn, Result, TxnId};

use super::block::{
    BlockHeader, ENTRY_BYTES, Entry, Owner, RECORD_BYTES_MAX, STREAM, STREAM_BYTES_MAX, offset_of,
};
use super::{SpillMark, check_length, folder, missing, path, read_block};

/// Blocks that are rendered before they are written. The longest record fits beside the header block
/// and a block that is not full.
const BUFFER_BLOCKS: usize = 64;
/// Memory of a writer.
const WRITER_BYTES: usize = BUFFER_BLOCKS * BLOCK_BYTES;
const _: () = assert!(
    2 + (ENTRY_BYTES + RECORD_BYTES_MAX).div_ceil(STREAM_BYTES_MAX) <= BUFFER_BLOCKS,
    "the longest record fits"
);

/// The undo file of one transaction, open for appending. There is at most one writer of a file.
pub(crate) struct SpillWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    owner: Owner,
    /// What is durable, with its name.
    mark: SpillMark,
    buffer: AlignedBuf,
    /// Number of the block at the start of the buffer: those in front of it are written.
    first_block: u64,
    /// Rendered blocks.
    full_blocks: usize,
    /// The block behind these.
    open: Option<BlockHeader>,
    last_lsn: Lsn,
}

impl SpillWriter {
    /// Begins the file of a transaction; one that is there is from before a crash, or from an attempt
    /// that was given up, and is emptied. Nothing of it is durable before the first
    /// [`SpillWriter::sync`].
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`]. The call may be repeated.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        database: DatabaseId,
        txn: TxnId,
    ) -> Result<Self> {
        let folder = folder(dir);
        disk.create_dir(&folder).map_err(|error| Error::io(&folder, error))?;
        let path = path(dir, txn);
        let file = disk.open(&path, OpenMode::Create, Access::Direct);
        let file = file.map_err(|error| Error::io(&path, error))?;
        let mark = SpillMark { spilled_upto: Lsn::NONE, length: 0 };
        Ok(Self::at(disk, dir, file, path, Owner { database, txn }, mark))
    }

    /// Goes on behind `length`, which a mark named. What lies beyond was never named by one, and is
    /// cut off.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the file ends before, or its last block is damaged; [`Error::Io`].
    pub(crate) fn resume(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        database: DatabaseId,
        txn: TxnId,
        length: u64,
    ) -> Result<Self> {
        let path = path(dir, txn);
        let owner = Owner { database, txn };
        let file = disk.open(&path, OpenMode::ReadWrite, Access::Direct);
        let file = file.map_err(|error| missing(&path, error))?;
        let blocks = check_length(&*file, &path, length)?;
        let header = read_block(&*file, &path, 0)?;
        owner.verify(&header).map_err(|error| error.in_file(&path, 0))?;
        let mut last_lsn = Lsn::NONE;
        if blocks > 1 {
            let number = blocks - 1;
            let block = read_block(&*file, &path, number)?;
            let header = BlockHeader::verify(owner, number, &block)
                .map_err(|error| error.in_file(&path, offset_of(number)))?;
            last_lsn = header.last_lsn;
        }
        file.set_len(length).map_err(|error| Error::io(&path, error))?;
        let mark = SpillMark::behind(last_lsn, length);
        Ok(Self::at(disk, dir, file, path, owner, mark))
    }

    fn at(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        owner: Owner,
        mark: SpillMark,
    ) -> Self {
        let mut writer = Self {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            file,
            path,
            owner,
            mark,
            buffer: AlignedBuf::new(WRITER_BYTES),
            first_block: 0,
            full_blocks: 0,
            open: None,
            last_lsn: Lsn::NONE,
        };
        writer.stand_at_mark();
        writer
    }

    /// What the last sync made durable; after [`SpillWriter::create`] nothing, at length 0.
    #[cfg(test)]
    pub(crate) const fn mark(&self) -> SpillMark {
        self.mark
    }

    /// Appends a record of the transaction: envelope and stored body, as the log hands it out.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`]: the writer stands at its last mark, and everything behind
    /// that has to be appended again.
    ///
    /// # Panics
    /// When the record is not one of this transaction, or not behind the last one.
    pub(crate) fn append(&mut self, lsn: Lsn, record: &[u8]) -> Result<()> {
        assert!(lsn > self.last_lsn, "record at {lsn} is appended behind {}", self.last_lsn);
        let envelope = Header::decode(record, RECORD_BYTES_MAX);
        assert!(
            envelope.is_ok_and(|it| it.txn == self.owner.txn && it.length == record.len()),
            "what is appended at {lsn} is not a whole record of transaction {}",
            self.owner.txn
        );
        let open_bytes = self.open.as_ref().map_or(0, |open| open.used);
        let blocks = (open_bytes + ENTRY_BYTES + record.len()).div_ceil(STREAM_BYTES_MAX);
        if self.full_blocks + blocks > BUFFER_BLOCKS {
            self.write_full_blocks().map_err(|error| self.fail(error))?;
        }
        self.begin_entry(lsn);
        self.render(&Entry { lsn, length: record.len() }.encode());
        self.render(record);
        Ok(())
    }

    /// Makes durable what was appended, with the file's name: file, then folder and database
    /// directory the first time. Appends go on in a new block.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`]: as with [`SpillWriter::append`].
    pub(crate) fn sync(&mut self) -> Result<SpillMark> {
        self.close_block();
        if self.full_blocks == 0 && self.length() == self.mark.length {
            return Ok(self.mark);
        }
        self.try_sync().map_err(|error| self.fail(error))?;
        self.mark = SpillMark::behind(self.last_lsn, self.length());
        Ok(self.mark)
    }

    fn try_sync(&mut self) -> Result<()> {
        self.write_full_blocks()?;
        self.file.sync().map_err(|error| Error::io(&self.path, error))?;
        if self.mark.length == 0 {
            // The folder may be there without being durable: whoever made it may have been killed.
            for named in [folder(&self.dir), self.dir.clone()] {
                self.disk.sync_dir(&named).map_err(|error| Error::io(&named, error))?;
            }
        }
        Ok(())
    }

    /// Bytes of the blocks that were written.
    fn length(&self) -> u64 {
        offset_of(self.first_block)
    }

    fn write_full_blocks(&mut self) -> Result<()> {
        if self.full_blocks == 0 {
            return Ok(());
        }
        let bytes = self.full_blocks * BLOCK_BYTES;
        let written = self.file.write_at(&self.buffer[..bytes], self.length());
        written.map_err(|error| Error::io(&self.path, error))?;
        if self.open.is_some() {
            self.buffer.copy_within(bytes..bytes + BLOCK_BYTES, 0);
        }
        self.first_block += to_u64(self.full_blocks);
        self.full_blocks = 0;
        Ok(())
    }

    /// Goes back to the last mark.
    fn fail(&mut self, error: Error) -> Error {
        self.stand_at_mark();
        match self.file.set_len(self.mark.length) {
            // Where cutting fails as well, what lies beyond is written over.
            Ok(()) | Err(_) => error,
        }
    }

    fn stand_at_mark(&mut self) {
        self.first_block = self.mark.length / to_u64(BLOCK_BYTES);
        self.full_blocks = 0;
        self.open = None;
        self.last_lsn = self.mark.last_lsn();
        if self.first_block == 0 {
            self.owner.encode(&mut self.buffer[..BLOCK_BYTES]);
            self.full_blocks = 1;
        }
    }

    fn begin_entry(&mut self, lsn: Lsn) {
        self.open_block().entries += 1;
        self.last_lsn = lsn;
    }

    /// Adds bytes of the entry that was begun last. The buffer has room for them.
    fn render(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let start = self.full_blocks * BLOCK_BYTES + STREAM;
            let open = self.open_block();
            let used = open.used;
            let count = bytes.len().min(STREAM_BYTES_MAX - used);
            open.used += count;
            if open.entries == 0 {
                open.continued += count;
            }
            let (now, later) = bytes.split_at(count);
            self.buffer[start + used..][..count].copy_from_slice(now);
            bytes = later;
            if used + count == STREAM_BYTES_MAX {
                self.close_block();
            }
        }
    }

    /// The block that is not full; a new one where there is none.
    fn open_block(&mut self) -> &mut BlockHeader {
        let (last_lsn, at) = (self.last_lsn, self.full_blocks * BLOCK_BYTES);
        if self.open.is_none() {
            self.buffer[at..][..BLOCK_BYTES].fill(0);
        }
        self.open.get_or_insert(BlockHeader {
            used: 0,
            continued: 0,
            entries: 0,
            prev_lsn: last_lsn,
            last_lsn,
        })
    }

    /// Seals the open block, full or not.
    fn close_block(&mut self) {
        let Some(open) = self.open.take() else { return };
        let number = self.first_block + to_u64(self.full_blocks);
        let block = &mut self.buffer[self.full_blocks * BLOCK_BYTES..][..BLOCK_BYTES];
        BlockHeader { last_lsn: self.last_lsn, ..open }.seal(self.owner, number, block);
        self.full_blocks += 1;
    }
}

impl fmt::Debug for SpillWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillWriter")
            .field("path", &self.path)
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}
