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
//! | 52 | 1 | encoding of the payload: 0 raw, 1 lz4 |
//! | 53 | 11 | reserved, zero |
//! | 64 | | payload: the sealed page |

use std::fmt;

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

/// Images that are not tried behind one that compression did not halve: trying one takes some 20 µs of the
/// processor that commits need, and what it saves is the free space in the page's middle.
const UNTRIED_IMAGES: usize = 7;

/// Appends slots; keeps the space that compression needs.
#[derive(Debug)]
pub(super) struct SlotEncoder {
    seed: u32,
    compressed: Vec<u8>,
    /// Images that will not be tried.
    untried: usize,
}

impl SlotEncoder {
    pub(super) fn new(format: PageFormat) -> Self {
        let compressed_max = lz4_flex::block::get_maximum_output_size(format.page_bytes);
        Self { seed: format.seed, compressed: vec![0; compressed_max], untried: 0 }
    }

    /// Appends the slots of a batch.
    pub(super) fn batch(&mut self, batch: BatchId, images: &[SlotImage<'_>], out: &mut Vec<u8>) {
        for (index, image) in images.iter().enumerate() {
            let (encoding, payload) = match self.compress(image.bytes) {
                Some(count) => (LZ4, &self.compressed[..count]),
                None => (RAW, image.bytes),
            };
            let header = SlotHeader {
                page: image.page,
                page_lsn: image.page_lsn,
                batch,
                index,
                batch_slots: images.len(),
                payload_bytes: payload.len(),
                encoding,
            };
            header.encode(payload, self.seed, out);
            let_others_run();
        }
    }

    /// Bytes of the compressed image, where that is worth it.
    fn compress(&mut self, image: &[u8]) -> Option<usize> {
        if self.untried > 0 {
            self.untried -= 1;
            return None;
        }
        let packed = lz4_flex::block::compress_into(image, &mut self.compressed);
        let halved = packed.ok().filter(|count| 2 * count <= image.len());
        if halved.is_none() {
            self.untried = UNTRIED_IMAGES;
        }
        halved
    }
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
    /// Where it is not a page long, with offsets from the start of the slot.
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
            encoding => Err(refused(format!("{} bytes in encoding {encoding}", payload.len()))),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use seawall_wal::{Epoch, Lsn, PageId};

    use super::{BatchId, LZ4, RAW, SLOT_HEADER_BYTES, SlotEncoder, SlotHeader, SlotImage};
    use crate::pagefile::PageFormat;
    use crate::writeback::rig::{DATABASE, PAGE_BYTES, noise};

    #[test]
    fn behind_an_image_that_is_not_halved_seven_are_not_tried() {
        let format = PageFormat::new(DATABASE, PAGE_BYTES);
        let noise: Vec<_> = noise().flat_map(u64::to_le_bytes).take(PAGE_BYTES).collect();
        let zeros = vec![0; PAGE_BYTES];
        let shrinks: Vec<_> = noise[..PAGE_BYTES / 8 * 5].iter().chain(&zeros).copied().collect();
        let shrinks = shrinks[..PAGE_BYTES].to_vec();
        let all = [&zeros, &shrinks].into_iter().chain([&zeros; 8]);
        let images: Vec<_> = all
            .map(|bytes| SlotImage { page: PageId::new(1), page_lsn: Lsn::new(1), bytes })
            .collect();
        let mut bytes = Vec::new();
        let batch = BatchId { epoch: Epoch::new(1), number: 1 };
        SlotEncoder::new(format).batch(batch, &images, &mut bytes);
        let (mut at, mut encodings) = (0, Vec::new());
        for image in &images {
            let header = SlotHeader::decode(&bytes[at..], format).unwrap();
            let payload = &bytes[at + SLOT_HEADER_BYTES..][..header.payload_bytes];
            assert_eq!(header.image(payload, PAGE_BYTES).unwrap(), image.bytes);
            encodings.push(header.encoding);
            at += SLOT_HEADER_BYTES + header.payload_bytes;
        }
        assert_eq!(encodings, [LZ4, RAW, RAW, RAW, RAW, RAW, RAW, RAW, RAW, LZ4]);
    }
}
