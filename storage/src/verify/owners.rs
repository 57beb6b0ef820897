//! Which pages something refers to: one bit a page.

use seawall_wal::PageId;
use seawall_wal::codec::to_usize;
use seawall_wal::record::Extent;

/// A set of page ids below a bound.
#[derive(Debug)]
pub(super) struct Owned {
    words: Vec<u64>,
    pages: u64,
}

/// What [`Owned::note`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    First,
    /// Something else refers to the page as well.
    Again,
    /// The file has no such page.
    Beyond,
}

impl Owned {
    /// Nothing is referred to yet, in a file of `pages` pages.
    pub(super) fn new(pages: u64) -> Self {
        Self { words: vec![0; to_usize(pages.div_ceil(64))], pages }
    }

    /// The file has grown to so many pages.
    pub(super) fn grow_to(&mut self, pages: u64) {
        if pages > self.pages {
            self.words.resize(to_usize(pages.div_ceil(64)), 0);
            self.pages = pages;
        }
    }

    pub(super) fn note(&mut self, page: PageId) -> Noted {
        if page.get() >= self.pages {
            return Noted::Beyond;
        }
        let (word, bit) = place(page);
        let was_set = self.words[word] & bit != 0;
        self.words[word] |= bit;
        if was_set { Noted::Again } else { Noted::First }
    }

    pub(super) fn contains(&self, page: PageId) -> bool {
        let (word, bit) = place(page);
        self.words.get(word).is_some_and(|found| found & bit != 0)
    }
}

const fn place(page: PageId) -> (usize, u64) {
    (to_usize(page.get() / 64), 1 << (page.get() % 64))
}

/// The pages of an extent that lies within a file of `pages` pages; `None` for any other.
pub(super) fn pages_of(
    extent: &Extent,
    pages: u64,
) -> Option<impl Iterator<Item = PageId> + use<>> {
    let end = extent.first.get().checked_add(extent.count)?;
    let is_inside = extent.count > 0 && end <= pages;
    is_inside.then(|| (extent.first.get()..end).map(PageId::new))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_noted_once_and_inside_of_the_file() {
        let mut owned = Owned::new(65);
        assert_eq!(owned.note(PageId::new(64)), Noted::First);
        assert_eq!(owned.note(PageId::new(64)), Noted::Again);
        assert_eq!(owned.note(PageId::new(65)), Noted::Beyond);
        owned.grow_to(200);
        assert_eq!(owned.note(PageId::new(199)), Noted::First);
        assert!(owned.contains(PageId::new(64)) && !owned.contains(PageId::new(63)));
        assert!(!owned.contains(PageId::new(1 << 40)));
    }

    #[test]
    fn extents_beyond_the_file_have_no_pages() {
        let extent = |first, count| Extent { first: PageId::new(first), count };
        assert_eq!(pages_of(&extent(8, 2), 10).map(Iterator::count), Some(2));
        for wrong in [extent(9, 2), extent(3, 0), extent(u64::MAX, 2)] {
            assert!(pages_of(&wrong, 10).is_none());
        }
    }
}
