//! Bare synced overwrites: what the device takes for a durable write of one block.
//!
//! The file lies beside the database's directory, on the same file system, and is removed at the end.
//! Its blocks are written once before the clock starts, so that the file system has nothing to do
//! but to write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall::{DiskKind, Error};
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{self, Access, AlignedBuf, BLOCK_BYTES, Disk, DiskFile, OpenMode};

use super::measure::Run;
use super::pairs::Random;
use crate::failure::Failure;

/// Size of the file, of which one block after the other is overwritten.
const FILE_BLOCKS: u64 = 4096;
/// Blocks that are written at once while the file is made.
const FILL_BLOCKS: usize = 256;

/// Overwrites blocks of a file, one after the other.
pub(super) struct Overwriter {
    file: Arc<dyn DiskFile>,
    block: AlignedBuf,
    random: Random,
    /// The block that is overwritten next.
    next: u64,
}

/// Lets `measure` overwrite blocks of a file beside `database`.
pub(super) fn with_overwriter<T>(
    database: &Path,
    kind: DiskKind,
    measure: impl FnOnce(&mut Overwriter) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let path = path_beside(database);
    let failed = |error| Failure::from(Error::io(&path, error));
    let disk = disk::select(kind).map_err(failed)?;
    let measured = Overwriter::create(&*disk, &path)
        .map_err(failed)
        .and_then(|mut overwriter| measure(&mut overwriter));
    let removed = disk.remove_file(&path).map_err(failed);
    let measured = measured?;
    removed?;
    Ok(measured)
}

fn path_beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".overwrite");
    name.into()
}

impl Overwriter {
    fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Create, Access::Direct)?;
        let zeros = AlignedBuf::new(FILL_BLOCKS * BLOCK_BYTES);
        for offset in (0..FILE_BLOCKS * to_u64(BLOCK_BYTES)).step_by(zeros.len()) {
            file.write_at(&zeros, offset)?;
        }
        file.sync()?;
        let mut block = AlignedBuf::new(BLOCK_BYTES);
        let mut random = Random::new(0);
        block.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
        Ok(Self { file, block, random, next: 0 })
    }

    /// Overwrites for `duration`.
    pub(super) fn run(&mut self, duration: Duration) -> Result<Run, Failure> {
        let mut run = Run::new();
        let started = Instant::now();
        while started.elapsed() < duration {
            let offset = self.next * to_u64(BLOCK_BYTES);
            self.next = (self.next + 1) % FILE_BLOCKS;
            self.block[..8].copy_from_slice(&self.random.next().to_le_bytes());
            run.latencies.time(|| {
                let written = self.file.write_sync_at(&self.block, offset);
                Ok(written.map_err(|error| Error::io(self.file.path(), error))?)
            })?;
        }
        run.elapsed = started.elapsed();
        Ok(run)
    }
}

const _: () = assert!(to_usize(FILE_BLOCKS).is_multiple_of(FILL_BLOCKS));

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seawall::DiskKind;

    #[test]
    fn the_file_beside_the_database_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        let run = super::with_overwriter(&database, DiskKind::Blocking, |overwriter| {
            overwriter.run(Duration::from_millis(20))
        });
        assert!(run.unwrap().elapsed >= Duration::from_millis(20));
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}
