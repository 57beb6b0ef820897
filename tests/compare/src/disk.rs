//! What the system tells of a disk: bytes written to it, bytes that a folder takes; and dropping a folder's
//! files from the page cache.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise, syncfs};

/// Bytes of a sector in the kernel's statistics, whatever the device's own sectors are.
const SECTOR_BYTES: u64 = 512;
/// Field of a block device's statistics that counts sectors written.
const SECTORS_WRITTEN: usize = 6;

/// Bytes written so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// By everybody, to the device that a folder lies on; none where the file system has no device.
    device: Option<u64>,
    /// Sent to storage on behalf of this process, as the kernel accounts for it.
    process: Option<u64>,
}

impl Written {
    /// Syncs the file system of `dir` and counts.
    pub(crate) fn count(dir: &Path) -> Result<Self> {
        let folder = File::open(dir)?;
        syncfs(&folder).with_context(|| format!("the file system of {}", dir.display()))?;
        Ok(Self { device: device_bytes(dir), process: process_bytes() })
    }

    /// Bytes written between the two: to the device, or where there is none, by the process.
    pub(crate) fn since(&self, earlier: &Self) -> Option<u64> {
        let difference = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?);
        difference(self.device, earlier.device)
            .or_else(|| difference(self.process, earlier.process))
    }
}

fn device_bytes(dir: &Path) -> Option<u64> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let statistics = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = statistics.split_ascii_whitespace().nth(SECTORS_WRITTEN)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

fn process_bytes() -> Option<u64> {
    let counters = fs::read_to_string("/proc/self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Bytes that the files of a folder take on disk.
pub(crate) fn allocated_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            allocated_bytes(&entry.path())?
        } else {
            metadata.blocks() * SECTOR_BYTES
        };
    }
    Ok(bytes)
}

/// Copies the files of a folder, and syncs the copies.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
            File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

/// Drops the files of a folder, which are synced, from the page cache.
pub(crate) fn drop_from_cache(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            drop_from_cache(&entry.path())?;
        } else if kind.is_file() {
            fadvise(File::open(entry.path())?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The most memory that this process has had resident, in bytes.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
