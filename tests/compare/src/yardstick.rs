//! What the disk does by itself: bare synced overwrites and bare reads of 4 KiB, past the page cache. No engine
//! can be faster with a single thread that waits for each commit.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{pread, pwrite};

use crate::input::Stream;

const BLOCK_BYTES: usize = 4096;
/// Blocks of the file that is overwritten.
const OVERWRITE_BLOCKS: u64 = 4096;
/// Blocks written at once while a file is made.
const FILL_BLOCKS: usize = 256;

/// A file for the yardstick, removed at the end.
#[derive(Debug)]
pub(crate) struct Yardstick {
    path: PathBuf,
    blocks: u64,
}

impl Yardstick {
    /// A file to overwrite.
    pub(crate) fn for_overwrites(dir: &Path) -> Result<Self> {
        Self::create(dir.join("yardstick"), OVERWRITE_BLOCKS)
    }

    /// A file of `bytes` to read from.
    pub(crate) fn for_reads(dir: &Path, bytes: u64) -> Result<Self> {
        let blocks = bytes.div_ceil(BLOCK_BYTES as u64).next_multiple_of(FILL_BLOCKS as u64);
        Self::create(dir.join("yardstick"), blocks)
    }

    fn create(path: PathBuf, blocks: u64) -> Result<Self> {
        let yardstick = Self { path, blocks };
        let file = yardstick.open(OFlags::CREATE)?;
        let mut bytes = Aligned::new(FILL_BLOCKS * BLOCK_BYTES);
        let mut stream = Stream::new(blocks);
        for first in (0..blocks).step_by(FILL_BLOCKS) {
            let numbers = bytes.get().chunks_mut(8);
            numbers.for_each(|chunk| chunk.copy_from_slice(&stream.next().to_le_bytes()));
            let written = pwrite(&file, bytes.get(), first * BLOCK_BYTES as u64)?;
            ensure!(written == FILL_BLOCKS * BLOCK_BYTES, "a short write");
        }
        file.sync_all()?;
        Ok(yardstick)
    }

    fn open(&self, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = open(&self.path, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("direct I/O on {}", self.path.display()))?;
        Ok(File::from(file))
    }

    /// Synced overwrites of one block after the other: their rate.
    pub(crate) fn overwrites(&self, duration: Duration) -> Result<f64> {
        let file = self.open(OFlags::DSYNC)?;
        let mut block = Aligned::new(BLOCK_BYTES);
        let started = Instant::now();
        let mut count = 0_u64;
        while started.elapsed() < duration {
            block.get()[..8].copy_from_slice(&count.to_le_bytes());
            let offset = count % self.blocks * BLOCK_BYTES as u64;
            ensure!(pwrite(&file, block.get(), offset)? == BLOCK_BYTES, "a short write");
            count += 1;
        }
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }

    /// Reads of random blocks by several threads: their rate.
    pub(crate) fn reads(&self, threads: u64, duration: Duration) -> Result<f64> {
        let file = self.open(OFlags::empty())?;
        let started = Instant::now();
        let read = |thread: u64| -> Result<u64> {
            let mut block = Aligned::new(BLOCK_BYTES);
            let mut stream = Stream::new(thread);
            let mut count = 0;
            while started.elapsed() < duration {
                let offset = stream.below(self.blocks) * BLOCK_BYTES as u64;
                ensure!(pread(&file, block.get(), offset)? == BLOCK_BYTES, "a short read");
                count += 1;
            }
            Ok(count)
        };
        let count = thread::scope(|scope| -> Result<u64> {
            let handles: Vec<_> = (0..threads).map(|t| scope.spawn(move || read(t))).collect();
            let panicked = |_| Err(anyhow!("a thread that reads panicked"));
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(panicked)).sum()
        })?;
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

/// Bytes that begin at a multiple of the block's length, as direct I/O wants them.
struct Aligned {
    bytes: Vec<u8>,
    offset: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + BLOCK_BYTES];
        let offset = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, offset, len }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + self.len]
    }
}
