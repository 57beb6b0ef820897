//! The way from a tree's root to one of its pages.
//!
//! Latches are coupled: the child is latched while its parent still is, so the child found is the
//! right one and cannot have been freed. No latch is held across I/O (invariant L1): where a child
//! is not resident, every latch is let go, the child is loaded and pinned, and the search starts
//! again at the root. The pins of a search are kept until it ends, so it gets further each time.

use seawall_wal::{Error, PageId, Result, TreeId};

use crate::page::{InnerView, PageKind, PageRead, PageView};
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
enum Try<L> {
    Found(L),
    NotThatTall,
    /// Load this page, and try again.
    Missing(PageId),
    /// The root grew or shrank in between; try again.
    RootChanged,
}

impl<'p> Descent<'p> {
    /// The leaf that `seek` leads to.
    pub(crate) fn leaf<L: Latched<'p>>(&self, seek: Seek<'_>) -> Result<L> {
        let leaf = self.at_level(seek, 0)?;
        Ok(leaf.expect("every tree has a leaf level"))
    }

    /// The page of `level` that `seek` leads to; `None` where the tree is not that tall.
    pub(crate) fn at_level<L: Latched<'p>>(&self, seek: Seek<'_>, level: u8) -> Result<Option<L>> {
        let mut pins = Vec::new();
        loop {
            match self.search(seek, level)? {
                Try::Found(page) => return Ok(Some(page)),
                Try::NotThatTall => return Ok(None),
                Try::Missing(page) => pins.push(self.pool.pin(page)?),
                Try::RootChanged => {}
            }
        }
    }

    fn search<L: Latched<'p>>(&self, seek: Seek<'_>, level: u8) -> Result<Try<L>> {
        let Some(pin) = self.pool.pin_resident(self.root) else {
            return Ok(Try::Missing(self.root));
        };
        let mut parent = pin.into_shared();
        let root_level = self.check(self.root, parent.bytes(), None)?;
        if root_level < level {
            return Ok(Try::NotThatTall);
        }
        if root_level == level {
            drop(parent);
            return self.latch_root(level);
        }
        let mut child_level = root_level - 1;
        loop {
            let child = turn(parent.bytes(), seek);
            let Some(pin) = self.pool.pin_resident(child) else {
                return Ok(Try::Missing(child));
            };
            if child_level == level {
                let page = L::latch(pin);
                self.check(child, page.bytes(), Some(level))?;
                return Ok(Try::Found(page));
            }
            parent = pin.into_shared();
            self.check(child, parent.bytes(), Some(child_level))?;
            child_level -= 1;
        }
    }

    /// The root has no parent whose latch would hold its level, so its level is asked again.
    fn latch_root<L: Latched<'p>>(&self, level: u8) -> Result<Try<L>> {
        let Some(pin) = self.pool.pin_resident(self.root) else {
            return Ok(Try::Missing(self.root));
        };
        let page = L::latch(pin);
        let is_same = self.check(self.root, page.bytes(), None)? == level;
        Ok(if is_same { Try::Found(page) } else { Try::RootChanged })
    }

    /// Checks that a page is what its parent says: of this tree and on this level. A checksum does
    /// not tell a page that was written whole but belongs elsewhere by now.
    fn check(&self, page: PageId, bytes: &[u8], level: Option<u8>) -> Result<u8> {
        let view = PageView::new(bytes);
        let is_node = match view.kind() {
            PageKind::Leaf => view.level() == 0,
            PageKind::Inner => view.level() > 0,
            _ => false,
        };
        if is_node && view.tree() == self.tree && level.is_none_or(|level| level == view.level()) {
            return Ok(view.level());
        }
        let level = level.map_or_else(|| "root".into(), |level| format!("level {level}"));
        let expected = format!("page {page} as {level} of tree {}", self.tree);
        let found = format!("{:?}, level {}, tree {}", view.kind(), view.level(), view.tree());
        let file = self.pool.page_file();
        Err(Error::corrupt(file.path(), file.offset(page), expected, found))
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
