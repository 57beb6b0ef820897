//! The `doublewrite` file: images of pages, durable before the pages are overwritten in place, so
//! that a write torn by a crash can be mended.
//!
//! A header block, then two areas of equal size. Batch `n` of an epoch is written into area
//! `n % 2`, from its start, slot behind slot (their format is in `slot`); the rest of the area
//! keeps what stood there. The file has its full size from its creation, so that no batch meets a
//! full disk.
//!
//! | offset | size | field of the header block |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | CRC-32C of the block from offset 12, seeded with the database |
//! | 12 | 4 | format version |
//! | 16 | 4 | page bytes |
//! | 20 | 4 | slots per area |
//! | 24 | 16 | database id |
//! | 40 | 4056 | reserved, zero |
//!
//! A slot is valid if and only if its CRC is right, its batch is that of the area's first slot and
//! its index is its place. A reader stops at the first slot that is not: if a crash tore the batch,
//! its pages were not yet being overwritten, and what is behind it is of a batch that has ended.
//!
//! What must hold: an area is written only when the batch that used it last has ended: its data sync has
//! returned, or none of its pages was written in place. So of the two areas at most one is incomplete, and
//! the images of every batch whose pages may be torn are there.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use seawall_wal::codec::{DecodeError, Encode, Reader, to_u64, to_usize};
use seawall_wal::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, DiskFile, OpenMode};
use seawall_wal::sync::{Condvar, Mutex};
use seawall_wal::{DatabaseId, Epoch, Error, Lsn, PageId, Result};

use super::slot::{SLOT_HEADER_BYTES, SlotEncoder, SlotHeader};
use crate::page::{self, PageView, Verified};
use crate::pagefile::PageFormat;
use crate::planted::{Bug, is_planted};
use crate::sync_gate::SyncGate;

pub use super::slot::{BatchId, SlotImage};

const MAGIC: u64 = u64::from_le_bytes(*b"SEAWALLD");
const FORMAT: u32 = 1;
const CHECKSUM: usize = 8;
const CHECKED: usize = CHECKSUM + 4;
const PAGE_BYTES: usize = CHECKED + 4;
const SLOT_COUNT: usize = PAGE_BYTES + 4;
const DATABASE: usize = SLOT_COUNT + 4;
const RESERVED: usize = DATABASE + 16;
const _: () = assert!(PAGE_BYTES == 16 && DATABASE == 24 && RESERVED == 40);

/// Slots that an area may have.
const SLOTS: RangeInclusive<usize> = 1..=256;
pub(super) const AREAS: u64 = 2;

/// A page image found in the file, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The page.
    pub page: PageId,
    /// Its `page_lsn`.
    pub page_lsn: Lsn,
    /// The batch it was written in.
    pub batch: BatchId,
    /// Its bytes.
    pub image: Vec<u8>,
}

/// Which database a doublewrite file belongs to, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub struct DoublewriteFile<'a> {
    /// The disk.
    pub disk: &'a dyn Disk,
    /// The file.
    pub path: &'a Path,
    /// How its bytes travel.
    pub access: Access,
    /// The database.
    pub database: DatabaseId,
    /// Bytes of its pages.
    pub page_bytes: usize,
}

/// Sizes of a doublewrite file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    page_bytes: usize,
    slots: usize,
}

impl Geometry {
    fn area_bytes(self) -> usize {
        (self.slots * (SLOT_HEADER_BYTES + self.page_bytes)).next_multiple_of(BLOCK_BYTES)
    }

    fn area_offset(self, area: u64) -> u64 {
        to_u64(BLOCK_BYTES) + area * to_u64(self.area_bytes())
    }

    /// Where the areas begin.
    fn area_offsets(self) -> impl Iterator<Item = u64> {
        (0..AREAS).map(move |area| self.area_offset(area))
    }

    fn file_bytes(self) -> u64 {
        self.area_offset(AREAS)
    }

    fn encode(self, database: DatabaseId) -> Vec<u8> {
        let number = |size| u32::try_from(size).expect("pages and slots are bounded");
        let mut checked = Vec::with_capacity(BLOCK_BYTES);
        checked.put_u32(FORMAT);
        checked.put_u32(number(self.page_bytes));
        checked.put_u32(number(self.slots));
        checked.extend_from_slice(database.as_bytes());
        debug_assert_eq!(CHECKED + checked.len(), RESERVED);
        checked.resize(BLOCK_BYTES - CHECKED, 0);
        let mut header = Vec::with_capacity(BLOCK_BYTES);
        header.put_u64(MAGIC);
        header.put_u32(crc32c::crc32c_append(database.checksum_seed(), &checked));
        header.extend_from_slice(&checked);
        header
    }

    fn decode(header: &[u8], database: DatabaseId, page_bytes: usize) -> Result<Self, DecodeError> {
        let wrong =
            |at, expected: String, found: String| Err(DecodeError::new(at, expected, found));
        let mut reader = Reader::new(header);
        let magic = reader.u64()?;
        if magic != MAGIC {
            return wrong(0, format!("magic {MAGIC:#x}"), format!("{magic:#x}"));
        }
        let stored = reader.u32()?;
        let sum = crc32c::crc32c_append(database.checksum_seed(), &header[CHECKED..]);
        if stored != sum {
            return wrong(CHECKSUM, format!("checksum {sum:#010x}"), format!("{stored:#010x}"));
        }
        let format = reader.u32()?;
        if format != FORMAT {
            return wrong(CHECKED, format!("format {FORMAT}"), format.to_string());
        }
        let found_bytes = reader.u32()?;
        if to_usize(u64::from(found_bytes)) != page_bytes {
            return wrong(PAGE_BYTES, format!("{page_bytes} page bytes"), found_bytes.to_string());
        }
        let slots = to_usize(u64::from(reader.u32()?));
        if !SLOTS.contains(&slots) {
            return wrong(SLOT_COUNT, format!("{SLOTS:?} slots"), slots.to_string());
        }
        if reader.take(16)? != database.as_bytes() {
            return wrong(DATABASE, format!("database {database}"), "another one".to_owned());
        }
        reader.zeros(BLOCK_BYTES - RESERVED)?;
        Ok(Self { page_bytes, slots })
    }
}

impl DoublewriteFile<'_> {
    /// Creates the file in its full size, durable but for its name: the caller syncs the directory.
    /// An area holds `slots` pages, 1 to 256.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Io`]; [`Error::InvalidArgument`] for another number of slots.
    pub fn create(&self, slots: usize) -> Result<()> {
        if !SLOTS.contains(&slots) {
            return Err(Error::InvalidArgument(format!("doublewrite areas of {slots} pages")));
        }
        let geometry = Geometry { page_bytes: self.page_bytes, slots };
        let mut header = AlignedBuf::new(BLOCK_BYTES);
        header.copy_from_slice(&geometry.encode(self.database));
        let zeros = AlignedBuf::new(geometry.area_bytes());
        let write = || -> io::Result<()> {
            let file = self.disk.open(self.path, OpenMode::Create, self.access)?;
            for offset in geometry.area_offsets() {
                file.write_at(&zeros, offset)?;
            }
            file.write_at(&header, 0)?;
            file.sync()
        };
        write().map_err(|error| Error::io(self.path, error))
    }

    /// Reads every valid slot, in the order of batches. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the header is damaged, or a valid slot holds something else than
    /// its page; [`Error::Io`].
    pub fn scan(&self) -> Result<Vec<Slot>> {
        let (file, geometry) = self.open_file(OpenMode::ReadOnly)?;
        let mut area = AlignedBuf::new(geometry.area_bytes());
        let mut slots = Vec::new();
        for offset in geometry.area_offsets() {
            file.read_at(&mut area, offset).map_err(|error| Error::io(self.path, error))?;
            self.scan_area(offset, &area, geometry, &mut slots)?;
        }
        slots.sort_by_key(|slot| (slot.batch, slot.page));
        Ok(slots)
    }

    /// Makes what [`Self::scan`] finds durable, before anything is put back from it: a crash then finds
    /// the image of a page that it tears. With buffered access the bytes are written again first: after
    /// a failed sync the page cache shows some that the disk does not have.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the header is damaged; [`Error::Io`].
    pub fn make_durable(&self) -> Result<()> {
        let (file, geometry) = self.open_file(OpenMode::ReadWrite)?;
        let write_again = || -> io::Result<()> {
            let mut area = AlignedBuf::new(geometry.area_bytes());
            for offset in geometry.area_offsets() {
                file.read_at(&mut area, offset)?;
                file.write_at(&area, offset)?;
            }
            Ok(())
        };
        let made = if file.is_direct() { Ok(()) } else { write_again() };
        made.and_then(|()| file.sync()).map_err(|error| Error::io(self.path, error))
    }

    /// Opens the file for the batches of `epoch`, which must be greater than any that wrote to it,
    /// and after everything worth restoring was restored.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the header is damaged; [`Error::Io`].
    pub fn open(&self, epoch: Epoch) -> Result<Doublewrite> {
        let (file, geometry) = self.open_file(OpenMode::ReadWrite)?;
        Ok(Doublewrite {
            path: self.path.to_path_buf(),
            geometry,
            format: PageFormat::new(self.database, self.page_bytes),
            epoch,
            turns: Mutex::new(Turns { next: 1, in_flight: [None; 2], has_failed: false }),
            turn_ended: Condvar::new(),
            sync_gate: SyncGate::new(file.is_direct()),
            file,
        })
    }

    /// Gives whatever stands in `bytes` the checksums of a header, of slots and of raw images, where
    /// those would be. Fuzzing needs what is behind them.
    #[doc(hidden)]
    pub fn seal(&self, bytes: &mut [u8]) {
        let seed = self.database.checksum_seed();
        let Some((header, _)) = bytes.split_at_mut_checked(BLOCK_BYTES) else { return };
        let sum = crc32c::crc32c_append(seed, &header[CHECKED..]);
        header[CHECKSUM..CHECKED].copy_from_slice(&sum.to_le_bytes());
        let Ok(geometry) = Geometry::decode(header, self.database, self.page_bytes) else { return };
        for offset in geometry.area_offsets().map(to_usize) {
            let mut area = bytes.get_mut(offset..).unwrap_or_default();
            for _ in 0..geometry.slots {
                let format = PageFormat::new(self.database, self.page_bytes);
                let Some(sealed) = SlotHeader::seal(area, format) else { break };
                area = &mut area[sealed..];
            }
        }
    }

    fn open_file(&self, mode: OpenMode) -> Result<(Arc<dyn DiskFile>, Geometry)> {
        let path = self.path;
        let io = |error| Error::io(path, error);
        let file = self.disk.open(path, mode, self.access).map_err(io)?;
        let length_bytes = file.size().map_err(io)?.length_bytes;
        let check_length = |bytes: u64| {
            if length_bytes >= bytes {
                return Ok(());
            }
            let found = "the end of the file";
            Err(Error::corrupt(path, length_bytes, format!("{bytes} bytes"), found))
        };
        check_length(to_u64(BLOCK_BYTES))?;
        let mut header = AlignedBuf::new(BLOCK_BYTES);
        file.read_at(&mut header, 0).map_err(io)?;
        let geometry = Geometry::decode(&header, self.database, self.page_bytes)
            .map_err(|error| error.in_file(path, 0))?;
        check_length(geometry.file_bytes())?;
        Ok((file, geometry))
    }

    /// A finding in an image, placed where its slot begins: images may be compressed.
    fn in_slot(&self, error: Error, offset: u64) -> Error {
        match error {
            Error::Corrupt { expected, found, .. } => {
                let expected = format!("the image of a page with {expected}");
                Error::corrupt(self.path, offset, expected, found)
            }
            other => other,
        }
    }

    fn scan_area(
        &self,
        offset: u64,
        area: &[u8],
        geometry: Geometry,
        slots: &mut Vec<Slot>,
    ) -> Result<()> {
        let format = PageFormat::new(self.database, self.page_bytes);
        let mut at = 0;
        let mut first_batch = None;
        for index in 0..geometry.slots {
            let Some(header) = SlotHeader::decode(&area[at..], format) else { break };
            let batch = *first_batch.get_or_insert(header.batch);
            if header.batch != batch || header.index != index || header.batch_slots <= index {
                break;
            }
            let damaged = |error: DecodeError| error.in_file(self.path, offset + to_u64(at));
            let payload = &area[at + SLOT_HEADER_BYTES..][..header.payload_bytes];
            let image = header.image(payload, self.page_bytes).map_err(damaged)?;
            let verified = page::verify(format.seed, header.page, self.path, &image);
            let verified = verified.map_err(|error| self.in_slot(error, offset + to_u64(at)))?;
            let page_lsn = PageView::new(&image).page_lsn();
            if verified == Verified::NeverWritten || page_lsn != header.page_lsn {
                let expected = format!("page_lsn {}", header.page_lsn);
                let found = page_lsn.to_string();
                return Err(damaged(DecodeError::new(SLOT_HEADER_BYTES, expected, found)));
            }
            slots.push(Slot { page: header.page, page_lsn, batch, image });
            at += SLOT_HEADER_BYTES + header.payload_bytes;
        }
        Ok(())
    }
}

/// The file, open for the batches of one epoch.
pub struct Doublewrite {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    geometry: Geometry,
    format: PageFormat,
    epoch: Epoch,
    turns: Mutex<Turns>,
    turn_ended: Condvar,
    sync_gate: SyncGate,
}

#[derive(Debug)]
struct Turns {
    next: u64,
    /// The batch that uses each area.
    in_flight: [Option<u64>; 2],
    /// A batch ended without its data sync: its area is never free again.
    has_failed: bool,
}

impl Doublewrite {
    /// Pages that one batch may have.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.geometry.slots
    }

    /// Number of the highest batch of this epoch at or below which every one has ended; 0 before the
    /// first. For `CheckpointEnd`.
    #[must_use]
    pub fn last_synced_batch(&self) -> u64 {
        let turns = self.turns.lock();
        let first_in_flight = turns.in_flight.iter().flatten().min();
        first_in_flight.unwrap_or(&turns.next) - 1
    }

    /// Starts a batch; waits while the batch before last is in flight.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when an earlier batch failed.
    pub fn begin(&self) -> Result<Batch<'_>> {
        let mut turns = self.turns.lock();
        loop {
            if turns.has_failed {
                return Err(Error::Poisoned { source: None });
            }
            let number = turns.next;
            let area = &mut turns.in_flight[to_usize(number % AREAS)];
            if area.is_none() {
                *area = Some(number);
                turns.next += 1;
                let id = BatchId { epoch: self.epoch, number };
                return Ok(Batch { doublewrite: self, id, is_synced: false });
            }
            self.turn_ended.wait(&mut turns);
        }
    }

    fn end(&self, number: u64, is_synced: bool) {
        let mut turns = self.turns.lock();
        if is_synced {
            turns.in_flight[to_usize(number % AREAS)] = None;
        } else {
            turns.has_failed = true;
        }
        self.turn_ended.notify_all();
    }
}

impl fmt::Debug for Doublewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doublewrite")
            .field("path", &self.path)
            .field("slots", &self.geometry.slots)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// A batch in flight; it has its area for itself. Dropped without [`Batch::synced`], it leaves its area, and
/// so the file, unusable: the database is poisoned then.
#[derive(Debug)]
#[must_use]
pub struct Batch<'d> {
    doublewrite: &'d Doublewrite,
    id: BatchId,
    is_synced: bool,
}

impl Batch<'_> {
    /// Its name.
    #[must_use]
    pub const fn id(&self) -> BatchId {
        self.id
    }

    /// Makes the images durable, in one write.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`]; both poison.
    ///
    /// # Panics
    /// When there are more images than slots.
    pub fn write(&self, images: &[SlotImage<'_>]) -> Result<()> {
        self.write_in_pieces(images, images.len().max(1), || {})
    }

    /// [`Batch::write`] in pieces of as many bytes as so many whole images take, each followed by a rest
    /// where they are several, and one sync.
    ///
    /// # Errors
    /// Those of [`Batch::write`].
    ///
    /// # Panics
    /// When there are more images than slots, or pieces of no pages.
    pub fn write_in_pieces(
        &self,
        images: &[SlotImage<'_>],
        piece_pages: usize,
        mut rest: impl FnMut(),
    ) -> Result<()> {
        let Doublewrite { file, path, geometry, sync_gate, .. } = self.doublewrite;
        assert!(images.len() <= geometry.slots, "{} images in a batch", images.len());
        let images = self.encode(images);
        let piece_slots_bytes = piece_pages * (SLOT_HEADER_BYTES + geometry.page_bytes);
        let piece_bytes = piece_slots_bytes.next_multiple_of(BLOCK_BYTES);
        let mut offset = geometry.area_offset(self.id.number % AREAS);
        let mut write_all = || {
            if images.len() <= piece_bytes {
                return sync_gate.pass(|| write_durably(&**file, &images, offset));
            }
            for piece in images.chunks(piece_bytes) {
                file.write_at(piece, offset)?;
                offset += to_u64(piece.len());
                rest();
            }
            sync_gate.pass_alone(|| sync(&**file))
        };
        write_all().map_err(|error| Error::io(path, error))
    }

    /// The batch as it stands in its area.
    fn encode(&self, images: &[SlotImage<'_>]) -> AlignedBuf {
        let Doublewrite { geometry, format, .. } = self.doublewrite;
        let mut bytes = Vec::with_capacity(geometry.area_bytes());
        SlotEncoder::new(*format).batch(self.id, images, &mut bytes);
        let mut buffer = AlignedBuf::new(bytes.len().next_multiple_of(BLOCK_BYTES));
        buffer[..bytes.len()].copy_from_slice(&bytes);
        buffer
    }

    /// The data sync of the batch has returned, or none of its pages was written in place: its area may
    /// be used again.
    pub fn synced(mut self) {
        self.is_synced = true;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.doublewrite.end(self.id.number, self.is_synced);
    }
}

fn write_durably(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    if is_planted(Bug::SkipDoublewriteSync) {
        file.write_at(bytes, offset)
    } else {
        file.write_sync_at(bytes, offset)
    }
}

fn sync(file: &dyn DiskFile) -> io::Result<()> {
    if is_planted(Bug::SkipDoublewriteSync) { Ok(()) } else { file.sync() }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::path::Path;
    use std::thread;

    use seawall_wal::disk::{Disk, SimDisk};
    use seawall_wal::{Epoch, Error, Lsn, PageId};

    use super::{Doublewrite, SLOTS, SlotImage};
    use crate::writeback::rig::{doublewrite_file, noise_page};

    fn opened(disk: &SimDisk) -> Doublewrite {
        doublewrite_file(disk).create(4).unwrap();
        doublewrite_file(disk).open(Epoch::new(3)).unwrap()
    }

    #[test]
    fn a_batch_waits_for_the_data_sync_of_the_one_before_last() {
        let file = opened(&SimDisk::new());
        let (first, second) = (file.begin().unwrap(), file.begin().unwrap());
        assert_eq!((first.id().number, second.id().number), (1, 2));
        assert!(first.id() < second.id());
        second.synced();
        thread::scope(|scope| {
            let third = scope.spawn(|| {
                let third = file.begin().unwrap();
                let number = third.id().number;
                third.synced();
                number
            });
            thread::yield_now();
            assert!(!third.is_finished(), "batch 1 still has its area");
            first.synced();
            assert_eq!(third.join().unwrap(), 3);
        });
        assert_eq!(file.last_synced_batch(), 3);
    }

    #[test]
    fn last_synced_batch_stays_below_the_first_in_flight() {
        let file = opened(&SimDisk::new());
        assert_eq!(file.last_synced_batch(), 0);
        let (first, second) = (file.begin().unwrap(), file.begin().unwrap());
        second.synced();
        assert_eq!(file.last_synced_batch(), 0);
        first.synced();
        assert_eq!(file.last_synced_batch(), 2);
    }

    #[test]
    fn a_batch_without_its_data_sync_ends_all_others() {
        let file = opened(&SimDisk::new());
        let (first, _second) = (file.begin().unwrap(), file.begin().unwrap());
        thread::scope(|scope| {
            let waits = scope.spawn(|| file.begin().map(drop));
            drop(first);
            assert!(matches!(waits.join().unwrap(), Err(Error::Poisoned { .. })));
        });
        assert_eq!(file.last_synced_batch(), 0);
    }

    #[test]
    fn a_batch_in_pieces_is_that_of_one_write_and_synced_once() {
        let bytes = noise_page();
        let image = SlotImage { page: PageId::new(1), page_lsn: Lsn::new(1), bytes: &bytes };
        let images = [image; 4];
        let written = |piece_pages| {
            let disk = SimDisk::new();
            let file = opened(&disk);
            disk.sync_dir(Path::new("/")).unwrap();
            let (before, mut rests) = (disk.operation_count(), 0);
            let batch = file.begin().unwrap();
            batch.write_in_pieces(&images, piece_pages, || rests += 1).unwrap();
            batch.synced();
            assert_eq!(disk.unsynced_changes(), 0);
            let operations = disk.operation_count() - before;
            (disk.read_file(Path::new("/doublewrite")).unwrap(), operations, rests)
        };
        let whole = written(4);
        let pieces = written(2);
        assert_eq!((whole.1, whole.2), (2, 0), "a write and its sync");
        assert_eq!((pieces.1, pieces.2), (3, 2), "two writes and a sync");
        assert!(whole.0 == pieces.0, "the bytes differ");
    }

    #[test]
    fn the_bounds_of_an_area_are_kept() {
        let disk = SimDisk::new();
        for slots in [0, SLOTS.end() + 1] {
            let refused = doublewrite_file(&disk).create(slots);
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{slots}");
        }
        for slots in [*SLOTS.start(), *SLOTS.end()] {
            doublewrite_file(&disk).create(slots).unwrap();
            assert_eq!(doublewrite_file(&disk).scan().unwrap(), []);
        }
    }

    #[test]
    fn a_full_disk_is_met_when_the_file_is_created() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(10_000));
        assert!(matches!(doublewrite_file(&disk).create(4), Err(Error::NoSpace { .. })));
    }
}
