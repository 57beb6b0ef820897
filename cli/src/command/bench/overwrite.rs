//! Bare synced overwrites: what the device takes for a durable write of one block.
//!
//! The file lies beside the database's directory, on the same file system, and is removed at the end. It is
//! never one that was there before.
//! Its blocks are written once before the clock starts, so that the file system has nothing to do
//! but to write.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, process};

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
    drop(File::create_new(&path).map_err(failed)?);
    let measured = Overwriter::create(&*disk, &path)
        .map_err(failed)
        .and_then(|mut overwriter| measure(&mut overwriter));
    let removed = disk.remove_file(&path).map_err(failed);
    let measured = measured?;
    removed?;
    Ok(measured)
}

fn path_beside(database: &Path) -> PathBuf {
    // Without a slash at the end, which would make it a path inside.
    let mut name = database.components().as_path().as_os_str().to_owned();
    name.push(format!(".overwrite-{}", process::id()));
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

    #[test]
    fn a_file_that_was_there_is_neither_overwritten_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        let theirs = [dir.path().join("db.overwrite"), super::path_beside(&database)];
        theirs.iter().for_each(|path| std::fs::write(path, "precious").unwrap());
        let beside = dir.path().join("db/");
        let measured = super::with_overwriter(&beside, DiskKind::Blocking, |_| Ok(()));
        assert!(measured.is_err(), "the name is taken");
        for path in &theirs {
            assert_eq!(std::fs::read(path).unwrap(), b"precious");
        }
    }
}
