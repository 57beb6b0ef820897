//! Values too large for a leaf: extents of pages that are never changed once they are linked.
//!
//! The link, which takes the value's place in the cell (numbers are varints):
//!
//! | field | meaning |
//! |---|---|
//! | length | bytes of the value |
//! | first LSN, last LSN | START of the first and of the last record that wrote its pages |
//! | count | number of extents |
//! | extents | first page and number of pages each, in the order of the value |

use std::sync::Arc;

use seawall_wal::codec::{DecodeError, Encode, Reader, to_u64};
use seawall_wal::record::{Cell, Extent};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::Engine;
use super::auto_commit::Decision;
use super::unit::Unit;
use crate::catalogue::TreeInfo;
use crate::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::page::{
    OverflowView, PAGE_BYTES, PageBuf, PageKind, PageRead, PageView, overflow_page,
    pages_per_bitmap, payload_bytes_max,
};
use crate::space::ReservedRun;

/// Most extents of a value.
pub(crate) const EXTENTS_MAX: usize = 16;

// A run is as long as what is left of the value, or as what a bitmap page covers, however the free
// pages lie: where no bitmap page has such a run free, the next one is made. So the longest value
// on the smallest pages takes the most extents.
const _: () = {
    let page_bytes = PAGE_BYTES[0];
    let first_max = payload_bytes_max(page_bytes, MAX_KEY_BYTES);
    let rest_max = payload_bytes_max(page_bytes, 0);
    let pages = 1 + (MAX_VALUE_BYTES - first_max).div_ceil(rest_max);
    assert!(pages.div_ceil(pages_per_bitmap(page_bytes) - 1) <= EXTENTS_MAX);
};

/// Pages written by one record.
const CHUNK_PAGES: usize = 4;

/// Where an overflow value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OverflowLink {
    pub(crate) length: usize,
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    pub(crate) extents: Vec<Extent>,
}

impl OverflowLink {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_varint(to_u64(self.length));
        out.put_varint(self.first_lsn.get());
        out.put_varint(self.last_lsn.get());
        out.put_varint(to_u64(self.extents.len()));
        for extent in &self.extents {
            out.put_varint(extent.first.get());
            out.put_varint(extent.count);
        }
        out
    }

    pub(crate) fn decode(link: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(link);
        let length = reader.count(MAX_VALUE_BYTES)?;
        let first_lsn = Lsn::new(reader.varint()?);
        let last_lsn = Lsn::new(reader.varint()?);
        let count = reader.count(EXTENTS_MAX)?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            extents.push(Extent::decode(&mut reader)?);
        }
        reader.finish()?;
        Ok(Self { length, first_lsn, last_lsn, extents })
    }

    pub(crate) fn pages(&self) -> impl Iterator<Item = PageId> {
        let pages = |extent: &Extent| extent.first.get()..extent.first.get() + extent.count;
        self.extents.iter().flat_map(pages).map(PageId::new)
    }
}

impl Engine {
    /// Puts a value too large for a leaf under a key, as part of a unit.
    pub(crate) fn unit_write_large(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        self.unit_whole(unit, |unit| {
            let link = self.write_overflow(unit, tree, key, value)?.encode();
            self.unit_write(unit, tree, key, link.len(), |_| Decision::PutLink(&link))?;
            Ok(())
        })
    }

    /// Writes the pages of a value in extents as long as can be had, a few pages a record. Each
    /// record allocates and initialises its pages; its undo frees them again.
    fn write_overflow(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value: &[u8],
    ) -> Result<OverflowLink> {
        let mut link = OverflowLink {
            length: value.len(),
            first_lsn: Lsn::NONE,
            last_lsn: Lsn::NONE,
            extents: Vec::new(),
        };
        let mut rest = value;
        while !rest.is_empty() {
            let owner: &[u8] = if link.extents.is_empty() { key } else { &[] };
            let first_max = payload_bytes_max(self.page_bytes, owner.len());
            let other_max = payload_bytes_max(self.page_bytes, 0);
            let pages = 1 + rest.len().saturating_sub(first_max).div_ceil(other_max);
            let run = self.reserve_run(pages, unit.slot())?;
            let mut owner = Some(owner);
            for chunk in run.pages().chunks(CHUNK_PAGES) {
                let images: Vec<_> = chunk
                    .iter()
                    .map(|&page| {
                        let owner = owner.take().unwrap_or_default();
                        let length =
                            rest.len().min(payload_bytes_max(self.page_bytes, owner.len()));
                        let (payload, left) = rest.split_at(length);
                        rest = left;
                        overflow_page(self.page_bytes, page, tree.id, owner, payload)
                    })
                    .collect();
                let start = self.log_chunk(unit, &run, chunk, &images)?;
                link.last_lsn = start;
                if link.first_lsn.is_none() {
                    link.first_lsn = start;
                }
            }
            link.extents.push(run.extent());
        }
        assert!(link.extents.len() <= EXTENTS_MAX, "{} extents", link.extents.len());
        Ok(link)
    }

    fn log_chunk(
        &self,
        unit: &mut Unit,
        run: &ReservedRun<'_>,
        pages: &[PageId],
        images: &[PageBuf],
    ) -> Result<Lsn> {
        let frames =
            pages.iter().map(|&page| self.pool.pin_new(page)).collect::<Result<Vec<_>>>()?;
        let bitmap = self.pool.pin(run.bitmap())?;
        let count = to_u64(pages.len());
        let extent = Extent { first: pages[0], count };
        self.unit_log_pages(unit, &frames, &bitmap, images, extent)
    }

    fn link(&self, link: &[u8]) -> Result<OverflowLink> {
        OverflowLink::decode(link).map_err(|error| {
            let expected = format!("the link of an overflow value, {}", error.expected);
            Error::corrupt(self.file.path(), 0, expected, error.found)
        })
    }

    /// The extents that a link names.
    pub(super) fn link_extents(&self, link: &[u8]) -> Result<Vec<Extent>> {
        Ok(self.link(link)?.extents)
    }

    /// The extents that are free once this live cell of a key has been replaced.
    pub(super) fn freed_with(&self, live: Option<Cell<'_>>) -> Result<Vec<Extent>> {
        match live {
            Some(cell) if cell.is_overflow => self.link_extents(cell.value),
            _ => Ok(Vec::new()),
        }
    }

    /// Reads the value behind a link. The caller is registered, so that its pages are not freed.
    pub(crate) fn read_overflow(&self, link: &[u8]) -> Result<Vec<u8>> {
        let link = self.link(link)?;
        let mut value = Vec::with_capacity(link.length);
        for id in link.pages() {
            let page = self.pool.pin(id)?.into_shared();
            let view = PageView::new(page.bytes());
            if view.kind() != PageKind::Overflow {
                let found = format!("{:?}", view.kind());
                return Err(self.corrupt_page(id, "a page of an overflow value", found));
            }
            value.extend_from_slice(OverflowView::new(page.bytes()).payload());
            if value.len() > link.length {
                break;
            }
        }
        if value.len() != link.length {
            let expected = format!("an overflow value of {} bytes", link.length);
            let first = link.extents.first().map_or(PageId::NONE, |extent| extent.first);
            return Err(self.corrupt_page(first, expected, format!("{} bytes", value.len())));
        }
        Ok(value)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use seawall_wal::TreeId;
    use seawall_wal::disk::SimDisk;

    use super::*;
    use crate::{Durability, Isolation, Options};

    /// A value as large would take 620 MB: one that is cut into short extents stands for it.
    #[test]
    fn a_dropped_tree_with_a_value_under_many_bitmap_pages_is_taken_apart() -> Result<()> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let database = options.manual_background(true).page_bytes(4096).open("/db")?;
        let handle = database.tree("t")?;
        let engine = &database.shared_core().engine;
        let tree = engine.trees.get(TreeId::new(1)).expect("made above");
        let mut unit = Unit::new(Isolation::Snapshot);
        let (first_lsn, last_lsn) = (Lsn::NONE, Lsn::NONE);
        let mut link = OverflowLink { length: 0, first_lsn, last_lsn, extents: Vec::new() };
        for owner in [&b"key"[..]].into_iter().chain([&[][..]; EXTENTS_MAX - 1]) {
            // No bitmap page has room for another run as long, so each is under one of its own.
            let run = engine.reserve_run(pages_per_bitmap(engine.page_bytes) - 1, unit.slot())?;
            let page = run.pages()[0];
            let payload = vec![7; payload_bytes_max(engine.page_bytes, owner.len())];
            let image = overflow_page(engine.page_bytes, page, tree.id, owner, &payload);
            link.last_lsn = engine.log_chunk(&mut unit, &run, &[page], &[image])?;
            if link.first_lsn.is_none() {
                link.first_lsn = link.last_lsn;
            }
            link.extents.push(Extent { first: page, count: 1 });
            link.length += payload.len();
        }
        let bytes = link.encode();
        engine.unit_write(&mut unit, &tree, b"key", bytes.len(), |_| Decision::PutLink(&bytes))?;
        engine.commit_unit(unit, Durability::Sync)?;
        database.sync()?;
        assert_eq!(handle.get("key")?.map(|value| value.len()), Some(link.length));
        assert!(database.drop_tree("t")?);
        while database.shared_core().collect_step()? {}
        assert!(engine.trees.get(TreeId::new(1)).is_none(), "it is gone");
        assert!(database.verify(|_| {})?.findings.is_empty());
        database.close()
    }

    #[test]
    fn links_round_trip_and_damaged_ones_are_refused() {
        let link = OverflowLink {
            length: 1 << 20,
            first_lsn: Lsn::new(1 << 40),
            last_lsn: Lsn::new((1 << 40) + 77),
            extents: vec![Extent { first: PageId::new(9), count: 128 }],
        };
        let bytes = link.encode();
        assert_eq!(OverflowLink::decode(&bytes), Ok(link));
        for cut in 0..bytes.len() {
            assert!(OverflowLink::decode(&bytes[..cut]).is_err());
        }
    }
}
