//! The writes of a checkpoint without an engine: what the disk itself does to commits beside them.
//!
//! As the engine writes dirty pages, with as many of them, in batches and pieces of the same sizes and with
//! the same rests between them: images in a row and a sync, then the pages in the order of their places and
//! a sync. But nothing is copied, compressed or looked up.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use seawall::{Database, DiskKind, Error};
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{self, Access, AlignedBuf, BLOCK_BYTES, DiskFile, OpenMode};

use crate::failure::Outcome;
use crate::random::Random;

/// Bytes of a page: the engine's default.
const PAGE_BYTES: usize = 8192;
/// Bytes of an image in the doublewrite file: what is left of a page of random keys and values without its
/// longest run of zeros, some two thirds.
const IMAGE_BYTES: usize = 5500;
/// Pages of a batch.
const BATCH_PAGES: usize = 64;
/// Pages that are written before a rest.
const PIECE_PAGES: usize = 2;
/// A rest looks for a flush of the log so often, and so many times.
const POLL: Duration = Duration::from_micros(10);
const POLLS: usize = 16;
/// Bytes that are written at once while a file is made.
const FILL_BYTES: usize = 1 << 20;

/// Two files of full size, written by nobody else.
#[derive(Debug)]
pub(super) struct BareWrites {
    pages: Arc<dyn DiskFile>,
    images: Arc<dyn DiskFile>,
    /// Places in the file of pages.
    places: usize,
    noise: AlignedBuf,
}

impl BareWrites {
    /// Makes the files in `folder`; the one of pages has as many places as a page file of so many bytes.
    pub(super) fn create(folder: &Path, kind: DiskKind, page_file_bytes: u64) -> Outcome<Self> {
        let places = to_usize(page_file_bytes) / PAGE_BYTES;
        let mut noise = AlignedBuf::new(FILL_BYTES);
        let mut random = Random::new(page_file_bytes);
        noise.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
        let disk = disk::select(kind).map_err(|error| Error::io(folder, error))?;
        let create = |name: &str, bytes: usize| {
            let path = folder.join(name);
            let create = || {
                let file = disk.open(&path, OpenMode::Create, Access::Direct)?;
                for offset in (0..bytes).step_by(noise.len()) {
                    file.write_at(&noise, to_u64(offset))?;
                }
                file.sync().map(|()| file)
            };
            create().map_err(|error| Error::io(&path, error))
        };
        let pages = create("pages", places * PAGE_BYTES)?;
        let images = create("images", blocks(0..BATCH_PAGES).end)?;
        Ok(Self { pages, images, places, noise })
    }

    /// Writes `dirty` pages at random places beside the commits of `database`.
    pub(super) fn write(&self, database: &Database, dirty: u64, random: &mut Random) -> Outcome {
        let write = || {
            self.sample(dirty, random).chunks(BATCH_PAGES).try_for_each(|batch| {
                for piece in pieces(batch.len()) {
                    let bytes = blocks(piece);
                    self.images.write_at(&self.noise[..bytes.len()], to_u64(bytes.start))?;
                    rest(database);
                }
                self.images.sync()?;
                for piece in pieces(batch.len()) {
                    for run in batch[piece].chunk_by(|one, next| one + 1 == *next) {
                        let bytes = &self.noise[..run.len() * PAGE_BYTES];
                        self.pages.write_at(bytes, to_u64(run[0] * PAGE_BYTES))?;
                    }
                    rest(database);
                }
                self.pages.sync()
            })
        };
        Ok({ write }().map_err(|error: io::Error| Error::io(self.pages.path(), error))?)
    }

    /// So many of the places, in their order.
    fn sample(&self, count: u64, random: &mut Random) -> Vec<usize> {
        let mut missing = to_usize(count).min(self.places);
        let is_taken = |place: &usize| {
            let is_taken = random.below_usize(self.places - place) < missing;
            missing -= usize::from(is_taken);
            is_taken
        };
        (0..self.places).filter(is_taken).collect()
    }
}

/// The pieces of a batch.
fn pieces(pages: usize) -> impl Iterator<Item = Range<usize>> {
    (0..pages).step_by(PIECE_PAGES).map(move |start| start..pages.min(start + PIECE_PAGES))
}

/// The blocks that the images at these places take, with the ones that they share.
fn blocks(images: Range<usize>) -> Range<usize> {
    let start = images.start * IMAGE_BYTES / BLOCK_BYTES * BLOCK_BYTES;
    start..(images.end * IMAGE_BYTES).next_multiple_of(BLOCK_BYTES)
}

/// Lets a flush of the log end.
fn rest(database: &Database) {
    let durable = database.durable_lsn();
    for _ in 0..POLLS {
        if database.durable_lsn() != durable {
            return;
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use seawall::DiskKind;

    use super::{BareWrites, PAGE_BYTES, blocks};
    use crate::random::Random;

    #[test]
    fn a_sample_has_distinct_places_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = u64::try_from(100 * PAGE_BYTES).unwrap();
        let writes = BareWrites::create(dir.path(), DiskKind::Blocking, bytes).unwrap();
        for count in [0, 1, 70, 100] {
            let sample = writes.sample(count, &mut Random::new(1));
            assert_eq!(sample.len(), usize::try_from(count).unwrap());
            assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(sample.last().is_none_or(|last| *last < 100));
        }
        assert_eq!(writes.sample(1000, &mut Random::new(1)).len(), 100);
    }

    #[test]
    fn the_blocks_of_images_overlap_where_they_share_one() {
        assert_eq!(blocks(0..1), 0..8192);
        assert_eq!(blocks(1..2), 4096..12288);
    }
}
