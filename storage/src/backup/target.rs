//! Files of the copy: written from front to back, counted and summed up on the way. None counts as
//! copied before it is synced; the names are made durable by the caller.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{Access, Disk, DiskFile, OpenMode};
use seawall_wal::{Error, Result};

/// Zeros written at once.
const ZEROS: [u8; 4096] = [0; 4096];

/// A file of the copy that is being written.
#[derive(Debug)]
pub(super) struct TargetFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    bytes: u64,
    /// Of everything behind `front_bytes`.
    checksum: u32,
    /// What [`TargetFile::finish_with_front`] writes.
    front_bytes: u64,
}

/// A file of the copy, written and synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopiedFile {
    /// Relative to the copy's directory.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// CRC-32C of the whole.
    pub(super) checksum: u32,
}

impl TargetFile {
    /// Creates the file; its name is durable once the caller has synced the directory.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self> {
        Self::create_behind(disk, path, 0)
    }

    /// The same, with room at its start for what is known at its end.
    pub(super) fn create_behind(disk: &dyn Disk, path: &Path, front_bytes: u64) -> Result<Self> {
        let file = disk.open(path, OpenMode::Create, Access::Buffered);
        let file = file.map_err(|error| Error::io(path, error))?;
        let path = path.to_path_buf();
        Ok(Self { file, path, bytes: front_bytes, checksum: 0, front_bytes })
    }

    /// Its length so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_at(bytes, self.bytes);
        written.map_err(|error| Error::io(&self.path, error))?;
        self.bytes += to_u64(bytes.len());
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        Ok(())
    }

    /// Appends zeros up to `offset`.
    pub(super) fn pad_to(&mut self, offset: u64) -> Result<()> {
        while self.bytes < offset {
            let count = to_usize((offset - self.bytes).min(to_u64(ZEROS.len())));
            self.append(&ZEROS[..count])?;
        }
        Ok(())
    }

    /// Fills the room at the start, and makes the file durable.
    ///
    /// # Panics
    /// When `front` is not what fits there.
    pub(super) fn finish_with_front(mut self, front: &[u8], name: String) -> Result<CopiedFile> {
        assert_eq!(to_u64(front.len()), self.front_bytes, "the front fills the room left for it");
        let written = self.file.write_at(front, 0);
        written.map_err(|error| Error::io(&self.path, error))?;
        let behind = to_usize(self.bytes - self.front_bytes);
        self.checksum = crc32c::crc32c_combine(crc32c::crc32c(front), self.checksum, behind);
        self.front_bytes = 0;
        self.finish(name)
    }

    /// Makes the file durable.
    ///
    /// # Panics
    /// When room was left at its start.
    pub(super) fn finish(self, name: String) -> Result<CopiedFile> {
        assert_eq!(self.front_bytes, 0, "the room at the start is filled");
        self.file.sync().map_err(|error| Error::io(&self.path, error))?;
        Ok(CopiedFile { name, bytes: self.bytes, checksum: self.checksum })
    }
}
