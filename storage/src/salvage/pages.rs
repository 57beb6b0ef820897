//! The newest version of each page that can be had: from the page file, from the doublewrite file, and
//! with what the log still says.
//!
//! A page goes on with the log as redo has it: a record applies where the page is in the state that the
//! record was written for. Where it is not, or cannot be read, it *lacks changes* from there on, until a
//! record gives it its whole content. Nothing is written; changed pages are kept in memory, and there
//! are no more of them than the cache of the crashed process held, and those that are damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use seawall_wal::codec::to_u64;
use seawall_wal::disk::AlignedBuf;
use seawall_wal::record::{Extent, PageRef};
use seawall_wal::{Lsn, PageId};

use crate::page::{
    BitmapView, PageBuf, PageKind, PageRead, PageView, Verified, apply, index_of, page_of,
    set_page_lsn,
};
use crate::pagefile::{PageFile, PageFormat};
use crate::writeback::doublewrite::{BatchId, Slot};

/// A page as it could be had.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) page: PageBuf,
    /// Whether it is the newest one for all that is known.
    pub(super) is_newest: bool,
}

/// All pages.
pub(super) struct Pages {
    file: Option<PageFile>,
    page_bytes: usize,
    /// Images of the doublewrite file, the newest of each page.
    images: HashMap<PageId, Image>,
    /// Pages that the log names.
    touched: BTreeMap<PageId, Touched>,
    /// Pages that the log frees, and the end of the last record that does.
    freed: HashMap<PageId, Lsn>,
    /// Pages that the file does not give out, and why.
    damaged: BTreeMap<PageId, String>,
}

struct Image {
    page: PageBuf,
    /// Recovery would put it in place of a damaged page.
    is_restored: bool,
}

struct Touched {
    content: Content,
    lacks_changes: bool,
}

enum Content {
    /// As it is read; its position, [`Lsn::NONE`] where there is none.
    AsRead(Lsn),
    Changed(PageBuf),
}

impl Version {
    pub(super) fn view(&self) -> PageView<'_> {
        PageView::new(self.page.bytes())
    }
}

impl Pages {
    /// The pages of `file`, and the images of `slots`. Batches up to `synced` were in place when the last
    /// checkpoint was taken.
    pub(super) fn new(
        file: Option<PageFile>,
        format: PageFormat,
        slots: Vec<Slot>,
        synced: Option<BatchId>,
    ) -> Self {
        let mut images: HashMap<PageId, Image> = HashMap::new();
        for slot in slots {
            let is_newer = images
                .get(&slot.page)
                .is_none_or(|image| PageView::new(image.page.bytes()).page_lsn() < slot.page_lsn);
            if is_newer {
                let is_restored = Some(slot.batch) > synced;
                let page = PageBuf::copy_of(&slot.image);
                images.insert(slot.page, Image { page, is_restored });
            }
        }
        let (touched, freed, damaged) = Default::default();
        Self { file, page_bytes: format.page_bytes, images, touched, freed, damaged }
    }

    /// Bytes of a page.
    pub(super) const fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Does to a page what the record from `start` to `end` says. `false` where the page cannot take it,
    /// now and from here on.
    pub(super) fn redo(&mut self, page_ref: &PageRef<'_>, start: Lsn, end: Lsn) -> bool {
        let id = page_ref.page;
        if !self.touched.contains_key(&id) {
            let read = self.read(id);
            let lacks_changes = read.is_none();
            let lsn = read.map_or(Lsn::NONE, |read| read.view().page_lsn());
            self.touched.insert(id, Touched { content: Content::AsRead(lsn), lacks_changes });
        }
        let touched = &self.touched[&id];
        let lsn = match &touched.content {
            Content::AsRead(lsn) => *lsn,
            Content::Changed(page) => PageView::new(page.bytes()).page_lsn(),
        };
        if lsn >= end {
            return true;
        }
        let fits = !touched.lacks_changes && lsn == page_ref.page_prev_lsn;
        let before = match &touched.content {
            _ if page_ref.is_init => Some(PageBuf::zeroed(self.page_bytes)),
            _ if !fits => None,
            Content::Changed(page) => Some(page.clone()),
            Content::AsRead(_) => self.read(id).map(|read| read.page),
        };
        let changed = before.and_then(|mut page| {
            let applied =
                page_ref.ops.iter().all(|op| apply(&mut page, id, &op.in_record_at(start)).is_ok());
            set_page_lsn(&mut page, end);
            applied.then_some(page)
        });
        let Some(touched) = self.touched.get_mut(&id) else { return false };
        touched.lacks_changes = changed.is_none();
        match changed {
            Some(page) => {
                touched.content = Content::Changed(page);
                true
            }
            None => false,
        }
    }

    /// A record that ends at `end` frees these pages.
    pub(super) fn free(&mut self, extent: &Extent, end: Lsn) {
        for page in extent.pages() {
            self.freed.insert(page, end);
        }
    }

    /// The newest version of a page; `None` where there is none.
    pub(super) fn newest(&mut self, id: PageId) -> Option<Version> {
        match self.touched.get(&id) {
            Some(Touched { content: Content::Changed(page), lacks_changes }) => {
                Some(Version { page: page.clone(), is_newest: !lacks_changes })
            }
            Some(Touched { lacks_changes, .. }) => {
                let lacks_changes = *lacks_changes;
                let read = self.read(id)?;
                Some(Version { is_newest: read.is_newest && !lacks_changes, ..read })
            }
            None => self.read(id),
        }
    }

    /// Every page of which there may be a version, in order.
    pub(super) fn ids(&self) -> BTreeSet<PageId> {
        let pages = self.file.as_ref().map_or(0, PageFile::pages);
        let ids = (0..pages).map(PageId::new);
        ids.chain(self.images.keys().copied()).chain(self.touched.keys().copied()).collect()
    }

    /// Whether a page with this position was freed later, as far as the log and the bitmap tell.
    pub(super) fn is_free(&mut self, id: PageId, lsn: Lsn) -> bool {
        if self.freed.get(&id).is_some_and(|&freed| lsn < freed) {
            return true;
        }
        let Some(bitmap) = self.newest(page_of(self.page_bytes, id)) else { return false };
        let view = bitmap.view();
        view.kind() == PageKind::Bitmap
            && view.page_lsn() >= lsn
            && !BitmapView::new(bitmap.page.bytes()).is_allocated(index_of(self.page_bytes, id))
    }

    /// Pages that the file did not give out, and why.
    pub(super) const fn damaged(&self) -> &BTreeMap<PageId, String> {
        &self.damaged
    }

    /// Whether the pages that say which ones are in use are all there.
    pub(super) fn has_all_bitmaps(&self) -> bool {
        let is_bitmap = |id: &PageId| page_of(self.page_bytes, *id) == *id;
        !self.damaged.keys().any(is_bitmap)
    }

    /// How many pages the file has.
    pub(super) fn count(&self) -> u64 {
        self.file.as_ref().map_or(0, PageFile::pages)
    }

    /// The newer of what the files say.
    fn read(&mut self, id: PageId) -> Option<Version> {
        let on_disk = self.read_file(id);
        let is_damaged = self.damaged.contains_key(&id);
        let Some(image) = self.images.get(&id) else {
            return on_disk.map(|page| Version { page, is_newest: true });
        };
        let lsn = |page: &PageBuf| PageView::new(page.bytes()).page_lsn();
        match on_disk {
            Some(page) if lsn(&page) >= lsn(&image.page) => Some(Version { page, is_newest: true }),
            _ => {
                let is_newest = image.is_restored || !is_damaged;
                Some(Version { page: image.page.clone(), is_newest })
            }
        }
    }

    fn read_file(&mut self, id: PageId) -> Option<PageBuf> {
        let file = self.file.as_ref().filter(|file| id.get() < file.pages())?;
        let mut buffer = AlignedBuf::new(self.page_bytes);
        match file.read_page(id, &mut buffer) {
            Ok(Verified::NeverWritten) => None,
            Ok(Verified::Page(_)) => Some(PageBuf::copy_of(&buffer)),
            Err(error) => {
                self.damaged.entry(id).or_insert_with(|| error.to_string());
                None
            }
        }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let touched = to_u64(self.touched.len());
        f.debug_struct("Pages").field("count", &self.count()).field("touched", &touched).finish()
    }
}
