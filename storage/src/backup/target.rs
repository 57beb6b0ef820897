//! Files of the copy: written from front to back, counted and summed up on the way.

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
    checksum: u32,
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
        let file = disk.open(path, OpenMode::Create, Access::Buffered);
        let file = file.map_err(|error| Error::io(path, error))?;
        Ok(Self { file, path: path.to_path_buf(), bytes: 0, checksum: 0 })
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

    /// Makes the file durable.
    pub(super) fn finish(self, name: String) -> Result<CopiedFile> {
        self.file.sync().map_err(|error| Error::io(&self.path, error))?;
        Ok(CopiedFile { name, bytes: self.bytes, checksum: self.checksum })
    }
}
