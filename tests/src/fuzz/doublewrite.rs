//! The doublewrite file.
//!
//! | input | |
//! |---|---|
//! | 1 byte | 1: checksums are put right; 2: the header's fields are those of the input |
//! | 1 byte | modulo 4, plus one: slots of an area |
//! | 28 bytes | fields of the header, where the first byte says so |
//! | piece | the first area from its start |
//! | the rest | the second area from its start |

use std::path::Path;

use seawall::writeback::doublewrite::{DoublewriteFile, Slot, SlotImage};
use seawall_wal::codec::to_usize;
use seawall_wal::disk::{Access, SimDisk};
use seawall_wal::{DatabaseId, Epoch};

use super::input::{Input, piece};

/// Size of the pages.
const PAGE_BYTES: usize = 4096;
/// Where the header's fields lie that a checksum covers, and where the areas begin; the table is in the
/// file that encodes them.
const FIELDS_AT: usize = 12;
const FIELDS_BYTES: usize = 28;
const AREAS_AT: usize = 4096;
const AREAS: usize = 2;

/// Bytes as the file: the images in it are pages, and can be written and read again.
pub fn doublewrite(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, slots) = (input.byte(), usize::from(input.byte() % 4) + 1);
    let fields = input.take(FIELDS_BYTES);
    let disk = SimDisk::new();
    let file = DoublewriteFile {
        disk: &disk,
        path: Path::new("/doublewrite"),
        access: Access::Direct,
        database: database(),
        page_bytes: PAGE_BYTES,
    };
    file.create(slots).expect("the disk works");
    let mut bytes = disk.read_file(file.path).expect("it was just created");
    if flags & 2 == 2 {
        bytes[FIELDS_AT..][..fields.len()].copy_from_slice(fields);
    }
    let area_bytes = (bytes.len() - AREAS_AT) / AREAS;
    for (area, there) in [input.piece(), input.rest()].into_iter().enumerate() {
        let there = &there[..there.len().min(area_bytes)];
        bytes[AREAS_AT + area * area_bytes..][..there.len()].copy_from_slice(there);
    }
    if flags & 1 == 1 {
        file.seal(&mut bytes);
    }
    disk.write_file(file.path, &bytes);
    if let Ok(found) = file.scan() {
        assert!(found.len() <= AREAS * 256, "more images than a file may have");
        assert!(found.is_sorted_by_key(|slot| slot.batch), "batches out of order");
        assert!(found.iter().all(|slot| slot.image.len() == PAGE_BYTES), "an image of no page");
        write_again(&file, &found);
    }
}

/// The input for a file whose areas begin so.
pub(super) fn input(slots: u8, first: &[u8], second: &[u8]) -> Vec<u8> {
    [&[1, slots - 1][..], &[0; FIELDS_BYTES], &piece(first), second].concat()
}

/// Of these the checksums are right without being put so.
pub(super) fn database() -> DatabaseId {
    DatabaseId::new(*b"0123456789abcdef")
}

/// Writes what was found in a batch of a later epoch, as many as it takes.
fn write_again(file: &DoublewriteFile<'_>, found: &[Slot]) {
    let newest = found.iter().map(|slot| slot.batch.epoch).max();
    let Some(epoch) = newest.map_or(Some(1), |epoch| epoch.get().checked_add(1)) else { return };
    let doublewrite = file.open(Epoch::new(epoch)).expect("it was just scanned");
    let images = found.iter().take(doublewrite.slots());
    let images: Vec<_> = images
        .map(|slot| SlotImage { page: slot.page, page_lsn: slot.page_lsn, bytes: &slot.image })
        .collect();
    let batch = doublewrite.begin().expect("nothing has failed");
    batch.write(&images).expect("the disk works");
    let id = batch.id();
    batch.synced();
    let again = file.scan().expect("what was just written");
    let again: Vec<_> = again.iter().filter(|slot| slot.batch == id).collect();
    assert_eq!(again.len(), images.len(), "images of a batch");
    for image in images {
        let is_there = again.iter().any(|slot| {
            (slot.page, slot.page_lsn) == (image.page, image.page_lsn) && slot.image == image.bytes
        });
        assert!(is_there, "the image of page {} is gone", image.page);
    }
}

/// The slots at the start of an area, zeros at its end left out.
pub(super) fn written(area: &[u8]) -> &[u8] {
    let last = area.iter().rposition(|byte| *byte != 0);
    &area[..last.map_or(0, |last| last + 1)]
}

/// The areas of a file with so many slots.
pub(super) fn areas(file: &[u8]) -> [&[u8]; AREAS] {
    let slots = u32::from_le_bytes(std::array::from_fn(|at| file[20 + at]));
    assert!(to_usize(u64::from(slots)) > 0, "a file without slots");
    let (first, second) = file[AREAS_AT..].split_at((file.len() - AREAS_AT) / AREAS);
    [first, second]
}
