//! The way from a tree's root downwards without pins and latches.
//!
//! One step: load the child's number from the page; begin to read the child, which notes its version;
//! validate the page. What validates then says that the child was the page's child at the moment its
//! version was noted, so it is read as the right one for as long as that version holds. The last page
//! of the way is validated by whoever uses it, behind his last load or his latch.
//! (Leis et al., "The ART of Practical Synchronization", 2016: optimistic lock coupling.)
//!
//! Nothing is believed before it is validated, least of all what looks like damage: a page of another
//! tree, or one that is not resident, counts only when the page that led there has not changed.

use seawall_wal::{PageId, Result};

use super::descent::{Descent, Seek, Way};
use crate::page::OptimisticNode;
use crate::pool::Optimistic;
use crate::pool::arena::OptimisticPage;

/// Ways that are tried before latches are taken: what stands in the way is held for well under a
/// microsecond.
pub(super) const TRIES: usize = 4;

/// The page above the one that was looked for.
#[derive(Debug)]
pub(super) struct Above<'p> {
    page: OptimisticPage<'p>,
    /// The page looked for, as long as `page` validates.
    pub(super) child: PageId,
}

impl Above<'_> {
    /// Whether the child is still the right one.
    pub(super) fn validate(&self) -> bool {
        self.page.validate()
    }
}

impl<'p> Descent<'p> {
    /// The leaf that `seek` leads to, to be read and validated; `None` where that takes a latch, or a
    /// read from disk.
    #[inline]
    pub(crate) fn optimistic_leaf(&self, seek: Seek<'_>) -> Result<Option<OptimisticPage<'p>>> {
        for _ in 0..TRIES {
            match self.walk(seek, 0)? {
                Way::Found(page) => return Ok(Some(page)),
                Way::Missing(_) => return Ok(None),
                Way::Again => {}
                Way::NotThatTall => unreachable!("every tree has a leaf level"),
            }
        }
        Ok(None)
    }

    /// The page above the page of `level` that `seek` leads to, and that page's number. `NotThatTall`
    /// where there is none above it.
    pub(super) fn above(&self, seek: Seek<'_>, level: u8) -> Result<Way<Above<'p>>> {
        Ok(match self.walk(seek, level + 1)? {
            Way::Found(page) => {
                let child = turn(&page, seek);
                Way::Found(Above { page, child })
            }
            Way::NotThatTall => Way::NotThatTall,
            Way::Missing(page) => Way::Missing(page),
            Way::Again => Way::Again,
        })
    }

    /// Goes down to the page of `level`.
    #[inline]
    fn walk(&self, seek: Seek<'_>, level: u8) -> Result<Way<OptimisticPage<'p>>> {
        let mut page = match self.pool.optimistic(self.root) {
            Optimistic::Page(page) => page,
            Optimistic::Busy => return Ok(Way::Again),
            Optimistic::Missing => return Ok(Way::Missing(self.root)),
        };
        let Some(mut at) = self.level_of(&page, self.root, None)? else { return Ok(Way::Again) };
        if at < level {
            return Ok(if page.validate() { Way::NotThatTall } else { Way::Again });
        }
        let mut seen = 1;
        while at > level {
            let child = turn(&page, seek);
            let next = self.pool.optimistic(child);
            if !page.validate() {
                return Ok(Way::Again);
            }
            page = match next {
                Optimistic::Page(page) => page,
                Optimistic::Busy => return Ok(Way::Again),
                Optimistic::Missing => return Ok(Way::Missing(child)),
            };
            if self.level_of(&page, child, Some(at - 1))?.is_none() {
                return Ok(Way::Again);
            }
            at -= 1;
            seen += 1;
        }
        self.pool.count_hits(seen);
        Ok(Way::Found(page))
    }

    /// The level of a page of this tree; `None` where it has changed. A page that stays as it is and
    /// is none of this tree, or not of the level asked for, is damage.
    #[inline]
    fn level_of(
        &self,
        page: &OptimisticPage<'p>,
        id: PageId,
        level: Option<u8>,
    ) -> Result<Option<u8>> {
        let label = OptimisticNode::new(page).label();
        if self.is_expected(&label, level) {
            return Ok(Some(label.level));
        }
        if !page.validate() {
            return Ok(None);
        }
        Err(self.misplaced(id, level, &label))
    }
}

/// The child of an inner page that `seek` leads to.
#[inline]
fn turn(page: &OptimisticPage<'_>, seek: Seek<'_>) -> PageId {
    let inner = OptimisticNode::new(page);
    match seek {
        Seek::Key(key) => inner.child_for(key),
        // Separator 0 is the low fence, which lies below the key: the parent saw to that.
        Seek::Below(key) => inner.child_below(key),
        Seek::Last => inner.last_child(),
    }
}
