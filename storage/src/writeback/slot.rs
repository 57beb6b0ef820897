//! Format of a slot of the doublewrite file: one page image.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | CRC-32C of the slot from offset 8 to the end of its payload, seeded with the database |
//! | 8 | 8 | page id |
//! | 16 | 8 | `page_lsn` of the image |
//! | 24 | 8 | epoch of the batch |
//! | 32 | 8 | number of the batch in its epoch, from 1 |
//! | 40 | 4 | index of the slot in the batch |
//! | 44 | 4 | slots of the batch |
//! | 48 | 4 | payload bytes |
//! | 52 | 1 | encoding of the payload: 0 raw, 1 lz4, 2 without its longest run of zeros |
//! | 53 | 11 | reserved, zero |
//! | 64 | | payload: the sealed page |
//!
//! The payload of an image without its longest run of zeros (as full-page images of PostgreSQL go without
//! the hole of a page); valid if and only if the run's offset is at most the bytes stored, and these at most
//! a page. What they lack of a page are the zeros.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | offset of the run in the page, *o* |
//! | 4 | *o* | the page in front of it |
//! | 4 + *o* | | the page behind it |

use std::fmt;
use std::ops::Range;

use seawall_wal::codec::{DecodeError, Encode, Reader, to_usize};
use seawall_wal::{Epoch, Lsn, PageId};

use super::let_others_run;
use crate::page::{self, PageView};
use crate::pagefile::PageFormat;

const MAGIC: u32 = u32::from_le_bytes(*b"DWSL");
const CHECKSUM: usize = 4;
const CHECKED: usize = CHECKSUM + 4;
const PAGE: usize = CHECKED;
const PAGE_LSN: usize = PAGE + 8;
const EPOCH: usize = PAGE_LSN + 8;
const NUMBER: usize = EPOCH + 8;
const INDEX: usize = NUMBER + 8;
const BATCH_SLOTS: usize = INDEX + 4;
const PAYLOAD_BYTES: usize = BATCH_SLOTS + 4;
const ENCODING: usize = PAYLOAD_BYTES + 4;
const RESERVED: usize = ENCODING + 1;
/// Bytes in front of the payload.
pub(super) const SLOT_HEADER_BYTES: usize = 64;
const _: () = assert!(EPOCH == 24 && INDEX == 40 && RESERVED == 53);

const RAW: u8 = 0;
const LZ4: u8 = 1;
const WITHOUT_ZEROS: u8 = 2;
/// Bytes of the run's offset.
const RUN_OFFSET_BYTES: usize = 4;
/// A run of zeros that is left out consists of whole blocks of this size, from a multiple of it on.
const ZERO_BLOCK_BYTES: usize = 64;

/// Names a batch of page writes; ordered as they were begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId {
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// Its number in the epoch, from 1.
    pub number: u64,
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of epoch {}", self.number, self.epoch)
    }
}

/// What stands in front of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotHeader {
    pub(super) page: PageId,
    pub(super) page_lsn: Lsn,
    pub(super) batch: BatchId,
    pub(super) index: usize,
    pub(super) batch_slots: usize,
    pub(super) payload_bytes: usize,
    encoding: u8,
}

/// A page image about to be written, sealed.
#[derive(Clone, Copy, Debug)]
pub struct SlotImage<'a> {
    /// The page.
    pub page: PageId,
    /// Its `page_lsn`.
    pub page_lsn: Lsn,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Images of a batch that are not tried behind one that compression did not halve: trying one takes some
/// 20 µs of the processor that commits need, and what it saves is mostly zeros, which are left out anyway.
const UNTRIED_IMAGES: usize = 7;

/// Appends slots; keeps the space that payloads need.
#[derive(Debug)]
pub(super) struct SlotEncoder {
    seed: u32,
    packed: Vec<u8>,
    /// How many of the next images are not tried.
    untried: usize,
}

impl SlotEncoder {
    pub(super) fn new(format: PageFormat) -> Self {
        let packed_max = lz4_flex::block::get_maximum_output_size(format.page_bytes);
        Self { seed: format.seed, packed: vec![0; packed_max], untried: 0 }
    }

    /// Appends the slots of a batch.
    pub(super) fn batch(&mut self, batch: BatchId, images: &[SlotImage<'_>], out: &mut Vec<u8>) {
        let seed = self.seed;
        for (index, image) in images.iter().enumerate() {
            let (encoding, payload) = self.payload(image.bytes);
            let header = SlotHeader {
                page: image.page,
                page_lsn: image.page_lsn,
                batch,
                index,
                batch_slots: images.len(),
                payload_bytes: payload.len(),
                encoding,
            };
            header.encode(payload, seed, out);
            let_others_run();
        }
    }

    /// The encoding, and what is stored.
    fn payload<'a>(&'a mut self, image: &'a [u8]) -> (u8, &'a [u8]) {
        if let Some(count) = self.compress(image) {
            (LZ4, &self.packed[..count])
        } else if let Some(count) = self.leave_zeros_out(image) {
            (WITHOUT_ZEROS, &self.packed[..count])
        } else {
            (RAW, image)
        }
    }

    /// Bytes of the payload without the image's longest run of zeros, where it has one.
    fn leave_zeros_out(&mut self, image: &[u8]) -> Option<usize> {
        let zeros = longest_zeros(image);
        if zeros.is_empty() {
            return None;
        }
        let (before, behind) = (&image[..zeros.start], &image[zeros.end..]);
        let offset = u32::try_from(zeros.start).expect("pages are bounded");
        let mut at = 0;
        for part in [&offset.to_le_bytes()[..], before, behind] {
            self.packed[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Some(at)
    }

    /// Bytes of the compressed image, where that is worth it.
    fn compress(&mut self, image: &[u8]) -> Option<usize> {
        if self.untried > 0 {
            self.untried -= 1;
            return None;
        }
        let packed = lz4_flex::block::compress_into(image, &mut self.packed);
        let halved = packed.ok().filter(|count| 2 * count <= image.len());
        if halved.is_none() {
            self.untried = UNTRIED_IMAGES;
        }
        halved
    }
}

/// The longest run of whole blocks of zeros.
fn longest_zeros(image: &[u8]) -> Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (index, block) in image.chunks_exact(ZERO_BLOCK_BYTES).enumerate() {
        let end = (index + 1) * ZERO_BLOCK_BYTES;
        if block.iter().fold(0, |any, byte| any | byte) != 0 {
            start = end;
        } else if end - start > longest.len() {
            longest = start..end;
        }
    }
    longest
}

/// The page of which such a payload is left.
fn with_zeros(payload: &[u8], page_bytes: usize) -> Option<Vec<u8>> {
    let (offset, stored) = payload.split_first_chunk::<RUN_OFFSET_BYTES>()?;
    let (before, behind) =
        stored.split_at_checked(to_usize(u64::from(u32::from_le_bytes(*offset))))?;
    let zeros = page_bytes.checked_sub(stored.len())?;
    let mut image = before.to_vec();
    image.resize(before.len() + zeros, 0);
    image.extend_from_slice(behind);
    Some(image)
}

impl SlotHeader {
    fn encode(&self, payload: &[u8], seed: u32, out: &mut Vec<u8>) {
        let number = |size| u32::try_from(size).expect("slots and pages are bounded");
        let start = out.len();
        out.put_u32(MAGIC);
        out.put_u32(0);
        out.put_u64(self.page.get());
        out.put_u64(self.page_lsn.get());
        out.put_u64(self.batch.epoch.get());
        out.put_u64(self.batch.number);
        out.put_u32(number(self.index));
        out.put_u32(number(self.batch_slots));
        out.put_u32(number(self.payload_bytes));
        out.put_u8(self.encoding);
        debug_assert_eq!(out.len() - start, RESERVED);
        out.resize(start + SLOT_HEADER_BYTES, 0);
        out.extend_from_slice(payload);
        let sum = crc32c::crc32c_append(seed, &out[start + CHECKED..]);
        out[start + CHECKSUM..start + CHECKED].copy_from_slice(&sum.to_le_bytes());
    }

    /// The header at the start of `bytes`, its payload checked with it; `None` where no valid slot
    /// stands there.
    pub(super) fn decode(bytes: &[u8], format: PageFormat) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(..SLOT_HEADER_BYTES)?);
        let (magic, stored) = (reader.u32().ok()?, reader.u32().ok()?);
        let header = Self {
            page: PageId::new(reader.u64().ok()?),
            page_lsn: Lsn::new(reader.u64().ok()?),
            batch: BatchId { epoch: Epoch::new(reader.u64().ok()?), number: reader.u64().ok()? },
            index: to_usize(u64::from(reader.u32().ok()?)),
            batch_slots: to_usize(u64::from(reader.u32().ok()?)),
            payload_bytes: to_usize(u64::from(reader.u32().ok()?)),
            encoding: reader.u8().ok()?,
        };
        reader.zeros(SLOT_HEADER_BYTES - RESERVED).ok()?;
        if magic != MAGIC || header.payload_bytes > format.page_bytes {
            return None;
        }
        let checked = bytes.get(CHECKED..SLOT_HEADER_BYTES + header.payload_bytes)?;
        (crc32c::crc32c_append(format.seed, checked) == stored).then_some(header)
    }

    /// Gives what stands at the start of `bytes` the checksums of a slot and of a raw image, and
    /// returns the length of the slot. `None` where its payload would not fit.
    pub(super) fn seal(bytes: &mut [u8], format: PageFormat) -> Option<usize> {
        let mut reader = Reader::new(bytes.get(..SLOT_HEADER_BYTES)?);
        reader.take(PAGE).ok()?;
        let page = PageId::new(reader.u64().ok()?);
        reader.take(PAYLOAD_BYTES - PAGE_LSN).ok()?;
        let payload_bytes = to_usize(u64::from(reader.u32().ok()?));
        let slot_bytes = SLOT_HEADER_BYTES.checked_add(payload_bytes)?;
        let slot = bytes.get_mut(..slot_bytes)?;
        let image = &mut slot[SLOT_HEADER_BYTES..];
        if payload_bytes == format.page_bytes && PageView::new(image).page_id() == page {
            page::seal(format.seed, page, image);
        }
        let sum = crc32c::crc32c_append(format.seed, &slot[CHECKED..]);
        slot[CHECKSUM..CHECKED].copy_from_slice(&sum.to_le_bytes());
        Some(slot_bytes)
    }

    /// The page in the payload.
    ///
    /// # Errors
    /// Where it does not give one page, with offsets from the start of the slot.
    pub(super) fn image(&self, payload: &[u8], page_bytes: usize) -> Result<Vec<u8>, DecodeError> {
        let refused = |found: String| {
            DecodeError::new(SLOT_HEADER_BYTES, format!("a page of {page_bytes} bytes"), found)
        };
        match self.encoding {
            RAW if payload.len() == page_bytes => Ok(payload.to_vec()),
            LZ4 => {
                let mut image = vec![0; page_bytes];
                match lz4_flex::block::decompress_into(payload, &mut image) {
                    Ok(count) if count == page_bytes => Ok(image),
                    Ok(count) => Err(refused(format!("{count} bytes"))),
                    Err(error) => Err(refused(error.to_string())),
                }
            }
            WITHOUT_ZEROS => with_zeros(payload, page_bytes)
                .ok_or_else(|| refused(format!("{} bytes around zeros", payload.len()))),
            encoding => Err(refused(format!("{} bytes in encoding {encoding}", payload.len()))),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::ops::Range;

    use seawall_wal::{Epoch, Lsn, PageId};

    use super::{
        BatchId, LZ4, RAW, RUN_OFFSET_BYTES, SLOT_HEADER_BYTES, SlotEncoder, SlotHeader, SlotImage,
        WITHOUT_ZEROS, with_zeros,
    };
    use crate::pagefile::PageFormat;
    use crate::writeback::rig::{DATABASE, PAGE_BYTES, noise_page};

    /// Writes the images as one batch, and gives encoding and payload length of each, once it was read back.
    fn encoded(images: &[&Vec<u8>]) -> Vec<(u8, usize)> {
        let format = PageFormat::new(DATABASE, PAGE_BYTES);
        let slot = |bytes| SlotImage { page: PageId::new(1), page_lsn: Lsn::new(1), bytes };
        let slots: Vec<_> = images.iter().map(|bytes| slot(bytes)).collect();
        let mut bytes = Vec::new();
        let batch = BatchId { epoch: Epoch::new(1), number: 1 };
        SlotEncoder::new(format).batch(batch, &slots, &mut bytes);
        let (mut at, mut encodings) = (0, Vec::new());
        for image in images {
            let header = SlotHeader::decode(&bytes[at..], format).unwrap();
            let payload = &bytes[at + SLOT_HEADER_BYTES..][..header.payload_bytes];
            assert!(header.image(payload, PAGE_BYTES).unwrap() == **image);
            encodings.push((header.encoding, header.payload_bytes));
            at += SLOT_HEADER_BYTES + header.payload_bytes;
        }
        assert_eq!(at, bytes.len());
        encodings
    }

    #[test]
    fn behind_an_image_that_is_not_halved_seven_are_not_tried() {
        let (zeros, noise) = (vec![0; PAGE_BYTES], noise_page());
        let images: Vec<_> = [&zeros, &noise].into_iter().chain([&zeros; 8]).collect();
        let encodings: Vec<_> =
            encoded(&images).into_iter().map(|(encoding, _)| encoding).collect();
        assert_eq!(encodings[..2], [LZ4, RAW]);
        assert_eq!(encodings[2..9], [WITHOUT_ZEROS; 7]);
        assert_eq!(encodings[9..], [LZ4]);
    }

    #[test]
    fn an_image_that_is_not_halved_goes_without_its_longest_run_of_zeros() {
        let page = |zeros: [Range<usize>; 2]| {
            let mut page: Vec<_> = noise_page().into_iter().map(|byte| byte | 1).collect();
            zeros.into_iter().for_each(|run| page[run].fill(0));
            page
        };
        let quarter = PAGE_BYTES / 4;
        let whole = page([0..0, 0..0]);
        let middle = page([0..0, quarter..2 * quarter]);
        let longer_second = page([64..128, quarter..2 * quarter]);
        let longer_first = page([0..quarter, 2 * quarter..2 * quarter + 64]);
        let last = page([0..0, 3 * quarter..PAGE_BYTES]);
        let uneven = page([0..0, quarter - 1..quarter + 65]);
        let short = page([0..0, 100..180]);
        let images = [&whole, &middle, &longer_second, &longer_first, &last, &uneven, &short];
        let without = |bytes| (WITHOUT_ZEROS, RUN_OFFSET_BYTES + PAGE_BYTES - bytes);
        let [raw, quarter_less] = [(RAW, PAGE_BYTES), without(quarter)];
        let expected =
            [raw, quarter_less, quarter_less, quarter_less, quarter_less, without(64), raw];
        // Tried first, and behind one that was tried.
        assert_eq!(images.map(|image| encoded(&[image])[0]), expected);
        assert_eq!(encoded(&images), expected);
    }

    #[test]
    fn a_payload_around_zeros_fits_a_page_or_is_refused() {
        let payload = |offset: u32, stored: usize| {
            let bytes = offset.to_le_bytes().into_iter().chain(std::iter::repeat_n(7, stored));
            bytes.collect::<Vec<u8>>()
        };
        assert_eq!(with_zeros(&payload(3, 4), 6), Some(vec![7, 7, 7, 0, 0, 7]));
        assert_eq!(with_zeros(&payload(4, 4), 4), Some(vec![7; 4]));
        assert_eq!(with_zeros(&payload(0, 0), 2), Some(vec![0; 2]));
        for (bytes, page_bytes) in [(payload(5, 4), 6), (payload(0, 7), 6), (vec![0; 3], 6)] {
            assert_eq!(with_zeros(&bytes, page_bytes), None);
        }
    }
}
