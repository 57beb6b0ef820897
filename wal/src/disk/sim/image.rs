//! The bytes of a file, shared between copies until one of them writes.
//!
//! A copy costs one reference for every [`BLOCKS_PER_REGION`] blocks, so that a disk can be forked
//! before each of thousands of operations.

use std::sync::{Arc, LazyLock};

use crate::codec::{to_u64, to_usize};
use crate::disk::BLOCK_BYTES;

/// Blocks that are shared as one.
const BLOCKS_PER_REGION: usize = 256;

type Block = [u8; BLOCK_BYTES];

/// What blocks of written zeros share.
static ZEROS: LazyLock<Arc<Block>> = LazyLock::new(|| Arc::new([0; BLOCK_BYTES]));

/// Part of an image; a block that was never written is absent.
#[derive(Clone, Debug)]
struct Region {
    blocks: [Option<Arc<Block>>; BLOCKS_PER_REGION],
}

/// Bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    length: u64,
    regions: Vec<Option<Arc<Region>>>,
    allocated_blocks: u64,
}

impl Image {
    /// Length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the blocks that were written.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated_blocks * to_u64(BLOCK_BYTES)
    }

    /// Fills `buf` from `offset` on; what was never written is zero.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) {
        for (index, within, part) in spans(offset, buf.len()) {
            let found = &mut buf[part];
            match self.block(index) {
                Some(block) => found.copy_from_slice(&block[within..within + found.len()]),
                None => found.fill(0),
            }
        }
    }

    /// Writes `bytes` at `offset`, and grows the file where they end behind it. No bytes do nothing.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        for (index, within, part) in spans(offset, bytes.len()) {
            let bytes = &bytes[part];
            let block = self.block_mut(index);
            if bytes.len() == BLOCK_BYTES && bytes.iter().all(|&byte| byte == 0) {
                *block = Arc::clone(&ZEROS);
            } else {
                Arc::make_mut(block)[within..within + bytes.len()].copy_from_slice(bytes);
            }
        }
        self.length = self.length.max(offset + to_u64(bytes.len()));
    }

    /// Cuts or extends the file.
    pub(super) fn set_len(&mut self, length: u64) {
        if length < self.length {
            let whole_blocks = to_usize(length).div_ceil(BLOCK_BYTES);
            for index in whole_blocks..self.regions.len() * BLOCKS_PER_REGION {
                self.forget(index);
            }
            self.regions.truncate(whole_blocks.div_ceil(BLOCKS_PER_REGION));
            // What lies behind the end in its block must not come back with a later extension.
            let within = to_usize(length) % BLOCK_BYTES;
            if within != 0 && self.block(whole_blocks - 1).is_some() {
                Arc::make_mut(self.block_mut(whole_blocks - 1))[within..].fill(0);
            }
        }
        self.length = length;
    }

    fn block(&self, index: usize) -> Option<&Arc<Block>> {
        let region = self.regions.get(index / BLOCKS_PER_REGION)?.as_ref()?;
        region.blocks[index % BLOCKS_PER_REGION].as_ref()
    }

    /// A block for writing, zeros where there was none.
    fn block_mut(&mut self, index: usize) -> &mut Arc<Block> {
        let number = index / BLOCKS_PER_REGION;
        if self.regions.len() <= number {
            self.regions.resize(number + 1, None);
        }
        let region = self.regions[number].get_or_insert_with(|| {
            Arc::new(Region { blocks: [const { None }; BLOCKS_PER_REGION] })
        });
        let place = &mut Arc::make_mut(region).blocks[index % BLOCKS_PER_REGION];
        if place.is_none() {
            self.allocated_blocks += 1;
        }
        place.get_or_insert_with(|| Arc::clone(&ZEROS))
    }

    /// Makes a block one that was never written.
    fn forget(&mut self, index: usize) {
        if self.block(index).is_some() {
            let region = self.regions[index / BLOCKS_PER_REGION].as_mut();
            let region = region.expect("the block is in this region");
            Arc::make_mut(region).blocks[index % BLOCKS_PER_REGION] = None;
            self.allocated_blocks -= 1;
        }
    }
}

/// Cuts a transfer at the blocks: block index, offset in the block, range of the transfer's bytes.
fn spans(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let start = to_usize(offset);
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let (index, within) = ((start + done) / BLOCK_BYTES, (start + done) % BLOCK_BYTES);
        let part = done..(done + BLOCK_BYTES - within).min(length);
        done = part.end;
        Some((index, within, part))
    })
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, BLOCKS_PER_REGION, Image};
    use crate::codec::to_u64;

    const REGION_BYTES: usize = BLOCKS_PER_REGION * BLOCK_BYTES;

    fn read(image: &Image, offset: u64, length: usize) -> Vec<u8> {
        let mut buf = vec![255; length];
        image.read(offset, &mut buf);
        buf
    }

    #[test]
    fn write_across_regions_is_read_back() {
        let mut image = Image::default();
        let start = to_u64(REGION_BYTES) - 3;
        image.write(start, b"abcdef");
        assert_eq!(image.length(), start + 6);
        assert_eq!(read(&image, start - 2, 8), b"\0\0abcdef");
        assert_eq!(image.allocated_bytes(), 2 * to_u64(BLOCK_BYTES));
    }

    #[test]
    fn copy_does_not_see_later_writes() {
        let mut image = Image::default();
        image.write(0, b"before");
        let copy = image.clone();
        image.write(0, b"after!");
        assert_eq!(read(&copy, 0, 6), b"before");
        assert_eq!(read(&image, 0, 6), b"after!");
    }

    #[test]
    fn cut_bytes_do_not_come_back() {
        let mut image = Image::default();
        image.write(0, &vec![7; REGION_BYTES + 10]);
        image.set_len(10);
        assert_eq!(image.allocated_bytes(), to_u64(BLOCK_BYTES));
        image.set_len(to_u64(REGION_BYTES) + 10);
        assert_eq!(read(&image, 0, 10), [7; 10]);
        assert!(read(&image, 10, REGION_BYTES).iter().all(|&byte| byte == 0));
        image.set_len(0);
        assert_eq!(image.allocated_bytes(), 0);
    }

    #[test]
    fn written_zeros_take_blocks_but_holes_do_not() {
        let mut image = Image::default();
        image.set_len(1 << 20);
        assert_eq!(image.allocated_bytes(), 0);
        image.write(0, &vec![0; 2 * BLOCK_BYTES]);
        assert_eq!(image.allocated_bytes(), 2 * to_u64(BLOCK_BYTES));
    }
}
