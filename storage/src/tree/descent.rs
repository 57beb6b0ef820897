//! The way from a tree's root to one of its pages.
//!
//! The inner pages of the way are read without latches (`optimistic`); the page that was looked for is
//! latched, and then the page above it is validated: it was the right one when it was latched, and
//! cannot have been freed. Where others keep changing the way, and for a tree of one page, latches are
//! coupled instead: the child is latched while its parent still is.
//!
//! No latch is held across I/O (invariant L1): where a child is not resident, every latch is let go,
//! the child is loaded and pinned, and the search starts again at the root. The pins of a search are
//! kept until it ends, so it gets further each time.

use seawall_wal::{Error, PageId, Result, TreeId};

use super::optimistic::TRIES;
use crate::page::{InnerView, NodeLabel, PageKind, PageRead, PageView};
use crate::pool::{ExclusivePage, Pin, Pool, SharedPage};

/// Which way to turn at each inner page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seek<'k> {
    /// To the page whose range holds the key.
    Key(&'k [u8]),
    /// To the page whose range holds the keys just below this one.
    Below(&'k [u8]),
    /// To the last page.
    Last,
}

/// A tree to search in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descent<'p> {
    pub(crate) pool: &'p Pool,
    pub(crate) tree: TreeId,
    pub(crate) root: PageId,
}

/// A latched page of either mode.
pub(crate) trait Latched<'p>: PageRead + Sized {
    fn latch(pin: Pin<'p>) -> Self;
}

impl<'p> Latched<'p> for SharedPage<'p> {
    fn latch(pin: Pin<'p>) -> Self {
        pin.into_shared()
    }
}

impl<'p> Latched<'p> for ExclusivePage<'p> {
    fn latch(pin: Pin<'p>) -> Self {
        pin.into_exclusive()
    }
}

/// Where one try led.
#[derive(Debug)]
pub(super) enum Way<T> {
    Found(T),
    NotThatTall,
    /// Load this page, and try again.
    Missing(PageId),
    /// Somebody changed a page of the way; try again.
    Again,
}

impl<'p> Descent<'p> {
    /// The leaf that `seek` leads to.
    pub(crate) fn leaf<L: Latched<'p>>(&self, seek: Seek<'_>) -> Result<L> {
        let leaf = self.at_level(seek, 0)?;
        Ok(leaf.expect("every tree has a leaf level"))
    }

    /// A page on the way to the leaf of `key`, most often that leaf, which would have to be read first;
    /// as far as a look without latches tells.
    pub(crate) fn absent_leaf(&self, key: &[u8]) -> Result<Option<PageId>> {
        Ok(match self.above(Seek::Key(key), 0)? {
            Way::Found(above) if !self.pool.is_resident(above.child) => {
                above.validate().then_some(above.child)
            }
            Way::Missing(page) => Some(page),
            _ => None,
        })
    }

    /// The page of `level` that `seek` leads to; `None` where the tree is not that tall.
    pub(crate) fn at_level<L: Latched<'p>>(&self, seek: Seek<'_>, level: u8) -> Result<Option<L>> {
        let mut pins = Vec::new();
        let mut tries = 0;
        loop {
            let way = if tries < TRIES {
                self.latch_below(seek, level)
            } else {
                self.couple(seek, level)
            };
            match way? {
                Way::Found(page) => return Ok(Some(page)),
                Way::NotThatTall => return Ok(None),
                Way::Missing(page) => pins.push(self.pool.pin(page)?),
                Way::Again => tries += 1,
            }
        }
    }

    /// Latches the page of `level` below one that nobody has changed since it was read.
    fn latch_below<L: Latched<'p>>(&self, seek: Seek<'_>, level: u8) -> Result<Way<L>> {
        let above = match self.above(seek, level)? {
            Way::Found(above) => above,
            Way::NotThatTall => return self.couple(seek, level),
            Way::Missing(page) => return Ok(Way::Missing(page)),
            Way::Again => return Ok(Way::Again),
        };
        let Some(pin) = self.pool.pin_resident(above.child) else {
            return Ok(if above.validate() { Way::Missing(above.child) } else { Way::Again });
        };
        let page = L::latch(pin);
        if !above.validate() {
            return Ok(Way::Again);
        }
        self.check(above.child, page.bytes(), Some(level))?;
        Ok(Way::Found(page))
    }

    /// Goes down with coupled latches.
    fn couple<L: Latched<'p>>(&self, seek: Seek<'_>, level: u8) -> Result<Way<L>> {
        let Some(pin) = self.pool.pin_resident(self.root) else {
            return Ok(Way::Missing(self.root));
        };
        let mut parent = pin.into_shared();
        let root_level = self.check(self.root, parent.bytes(), None)?;
        if root_level < level {
            return Ok(Way::NotThatTall);
        }
        if root_level == level {
            drop(parent);
            return self.latch_root(level);
        }
        let mut child_level = root_level - 1;
        loop {
            let child = turn(parent.bytes(), seek);
            let Some(pin) = self.pool.pin_resident(child) else {
                return Ok(Way::Missing(child));
            };
            if child_level == level {
                let page = L::latch(pin);
                self.check(child, page.bytes(), Some(level))?;
                return Ok(Way::Found(page));
            }
            parent = pin.into_shared();
            self.check(child, parent.bytes(), Some(child_level))?;
            child_level -= 1;
        }
    }

    /// The root has no parent whose latch would hold its level, so its level is asked again.
    fn latch_root<L: Latched<'p>>(&self, level: u8) -> Result<Way<L>> {
        let Some(pin) = self.pool.pin_resident(self.root) else {
            return Ok(Way::Missing(self.root));
        };
        let page = L::latch(pin);
        let is_same = self.check(self.root, page.bytes(), None)? == level;
        Ok(if is_same { Way::Found(page) } else { Way::Again })
    }

    /// Checks that a page is what its parent says: of this tree and on this level. A checksum does
    /// not tell a page that was written whole but belongs elsewhere by now.
    fn check(&self, page: PageId, bytes: &[u8], level: Option<u8>) -> Result<u8> {
        let label = PageView::new(bytes).label();
        if self.is_expected(&label, level) {
            return Ok(label.level);
        }
        Err(self.misplaced(page, level, &label))
    }

    /// Whether a page that says this of itself belongs on `level` of this tree, or on any.
    #[inline]
    pub(super) fn is_expected(&self, label: &NodeLabel, level: Option<u8>) -> bool {
        let is_node = match label.kind {
            PageKind::Leaf => label.level == 0,
            PageKind::Inner => label.level > 0,
            _ => false,
        };
        is_node && label.tree == self.tree && level.is_none_or(|level| level == label.level)
    }

    /// The error for a page that is not what led there says.
    #[cold]
    pub(super) fn misplaced(&self, page: PageId, level: Option<u8>, label: &NodeLabel) -> Error {
        let level = level.map_or_else(|| "root".into(), |level| format!("level {level}"));
        let expected = format!("page {page} as {level} of tree {}", self.tree);
        let found = format!("{:?}, level {}, tree {}", label.kind, label.level, label.tree);
        let file = self.pool.page_file();
        Error::corrupt(file.path(), file.offset(page), expected, found)
    }
}

/// The child of an inner page that `seek` leads to.
fn turn(bytes: &[u8], seek: Seek<'_>) -> PageId {
    let inner = InnerView::new(bytes);
    let slot = match seek {
        Seek::Key(key) => inner.slot_for(key),
        // Separator 0 is the low fence, which lies below the key: the parent saw to that.
        Seek::Below(key) => match inner.find_separator(key) {
            Ok(slot) | Err(slot) => slot.saturating_sub(1),
        },
        Seek::Last => inner.count() - 1,
    };
    inner.child_page(slot)
}
