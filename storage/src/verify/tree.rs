//! The walk over a tree, leaf by leaf in key order, while writers go on.
//!
//! For each leaf the walk descends from the root by key, and keeps the shared latches of the whole
//! path: under them parent and child must agree, whatever writers do, so what disagrees is damage.
//! Full checks run on copies, after the latches. As everywhere, no latch is held across I/O: a page
//! that is not resident is loaded with no latch held, and the descent begins again (invariant L1).
//! The walk goes on at the leaf's high fence, so that each key is seen once, on whichever leaf it is
//! then.
//!
//! A tree that is being dismantled has fences and siblings that lead nowhere; of it, only what hangs
//! below its root is looked at.

use std::collections::HashSet;

use seawall_wal::codec::to_u64;
use seawall_wal::{Error, PageId, Result, TreeId};

use super::scan::Scan;
use crate::catalogue::TreeInfo;
use crate::engine::{Behind, ReadAt};
use crate::page::{
    InnerView, LeafView, NodeView, PageBuf, PageKind, PageRead, PageView, check as check_page,
};
use crate::pool::SharedPage;

/// A key of a tree with the cell of an overflow value.
#[derive(Clone, Debug)]
pub(super) struct LinkCell {
    pub(super) leaf: PageId,
    pub(super) key: Vec<u8>,
    pub(super) link: Vec<u8>,
}

/// The walk over one tree.
pub(super) struct TreeWalk<'s, 'e> {
    pub(super) scan: &'s mut Scan<'e>,
    pub(super) tree: &'s TreeInfo,
    /// Counts keys as they are seen here.
    pub(super) at: ReadAt<'s>,
    /// Pages that could not be loaded; the finding is noted.
    unreadable: HashSet<PageId>,
    /// The page seen last on each level.
    seen: Vec<Option<PageId>>,
    /// What was found; see [`TreeWalk::run`].
    pub(super) findings: Vec<(Vec<PageId>, String)>,
    /// Keys that are seen.
    pub(super) live: u64,
    /// Whether nothing was left out.
    pub(super) is_whole: bool,
}

/// Where the descent is, and what must be found there.
struct Place {
    page: PageId,
    /// `None` for the root.
    level: Option<u8>,
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

/// How one descent ended.
enum Visit {
    /// Load this page, and try again.
    Missing(PageId),
    /// The subtree cannot be walked.
    Skip(Visited),
    Leaf(Visited),
}

#[derive(Default)]
struct Visited {
    /// Whether the descent came to a leaf.
    is_leaf: bool,
    /// Copies of the pages not seen before, root first.
    fresh: Vec<PageBuf>,
    findings: Vec<(Vec<PageId>, String)>,
    live: u64,
    /// Cells of the leaf that are seen or not as undo information tells.
    behind: Vec<Behind>,
    high: Option<Vec<u8>>,
}

impl<'s, 'e> TreeWalk<'s, 'e> {
    pub(super) fn new(scan: &'s mut Scan<'e>, tree: &'s TreeInfo, at: ReadAt<'s>) -> Self {
        Self {
            scan,
            tree,
            at,
            unreadable: HashSet::new(),
            seen: vec![None; usize::from(u8::MAX) + 1],
            findings: Vec::new(),
            live: 0,
            is_whole: true,
        }
    }

    /// Walks the whole tree, and calls `each_leaf` with a copy of each leaf, and the key from
    /// which on its cells were not seen before, outside of all latches.
    /// Findings stand if the tree was not dismantled meanwhile.
    ///
    /// # Errors
    /// What is no damage: the database was closed, or every frame of the pool is pinned.
    pub(super) fn run(
        &mut self,
        mut each_leaf: impl FnMut(&mut Self, LeafView<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut from = Vec::new();
        loop {
            self.scan.engine.check_open()?;
            let visited = self.visit(&from)?;
            self.live += visited.live;
            self.findings.extend(visited.findings);
            self.is_whole &= visited.is_leaf;
            for copy in &visited.fresh {
                self.check_copy(copy);
            }
            if let (true, Some(leaf)) = (visited.is_leaf, visited.fresh.last()) {
                // A merge may have brought back keys that were seen on the leaf before.
                let leaf = LeafView::new(leaf.bytes());
                self.scan.records += to_u64(leaf.count() - leaf.lower_bound(&from));
                each_leaf(self, leaf, &from)?;
            }
            match visited.high {
                Some(high) if high > from => from = high,
                // Beyond the last leaf, or in a circle, which a disagreement of fences told of.
                _ => return Ok(()),
            }
        }
    }

    fn visit(&mut self, from: &[u8]) -> Result<Visited> {
        let pool = &self.scan.engine.pool;
        let mut pins = Vec::new();
        loop {
            match self.try_visit(from) {
                Visit::Leaf(mut visited) => {
                    let behind = std::mem::take(&mut visited.behind);
                    if let Some(live) = self.scan.engine.count_behind(behind, self.at)? {
                        visited.live += live;
                        return Ok(Visited { is_leaf: true, ..visited });
                    }
                }
                Visit::Skip(visited) => return Ok(visited),
                Visit::Missing(page) => match pool.pin(page) {
                    Ok(pin) => pins.push(pin),
                    Err(error) if is_damage(&error) => {
                        let finding = format!("page {page} of tree {}: {error}", self.tree.id);
                        self.findings.push((vec![page], finding));
                        self.unreadable.insert(page);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// One descent to the leaf that holds `from`.
    fn try_visit(&mut self, from: &[u8]) -> Visit {
        let engine = self.scan.engine;
        let mut path: Vec<SharedPage<'e>> = Vec::new();
        let mut visited = Visited::default();
        let mut place = Place { page: self.tree.root, level: None, low: Vec::new(), high: None };
        loop {
            let skip = |mut visited: Visited, high: Option<Vec<u8>>| {
                visited.high = high;
                Visit::Skip(visited)
            };
            if self.unreadable.contains(&place.page) {
                return skip(visited, place.high);
            }
            if path.iter().any(|above| above.id() == place.page) {
                // Never latched twice: a latch is not reentrant.
                visited.findings.push(self.disagree(
                    &place,
                    &path,
                    "a page that lies below its parent",
                    "one of its ancestors",
                ));
                return skip(visited, place.high);
            }
            let Some(pin) = engine.pool.pin_resident(place.page) else {
                return Visit::Missing(place.page);
            };
            let page = pin.into_shared();
            if let Some((expected, found)) = mismatch(&place, self.tree.id, page.bytes()) {
                visited.findings.push(self.disagree(&place, &path, &expected, &found));
                return skip(visited, place.high);
            }
            let view = PageView::new(page.bytes());
            let is_leaf = view.kind() == PageKind::Leaf;
            if self.seen[usize::from(view.level())] != Some(page.id()) || is_leaf {
                match self.check_sibling(&path, &page) {
                    Ok(finding) => visited.findings.extend(finding),
                    Err(missing) => return Visit::Missing(missing),
                }
                visited.fresh.push(PageBuf::copy_of(page.bytes()));
            }
            if is_leaf {
                (visited.live, visited.behind) = engine.count_seen(self.tree, &page, from, self.at);
                visited.high = place.high;
                return Visit::Leaf(visited);
            }
            let inner = InnerView::new(page.bytes());
            let Some(child) = inner.child_for(from) else {
                visited.findings.push(self.disagree(&place, &path, "a child", "none"));
                return skip(visited, place.high);
            };
            place = Place {
                page: child.page,
                level: Some(view.level() - 1),
                low: child.low.to_vec(),
                high: child.high.map(|high| high.to_vec()),
            };
            path.push(page);
        }
    }

    /// Checks the link to the right sibling of a page whose path is latched: the sibling's range
    /// begins where the page's ends. `Err` names a page to be loaded first.
    fn check_sibling(
        &self,
        path: &[SharedPage<'_>],
        page: &SharedPage<'_>,
    ) -> Result<Option<(Vec<PageId>, String)>, PageId> {
        let engine = self.scan.engine;
        let node = NodeView::new(page.bytes());
        let sibling = node.right_sibling();
        let wrong = |expected: &str, found: String| {
            let expected = format!("{expected} behind page {} of tree {}", page.id(), self.tree.id);
            let error = engine.corrupt_page(page.id(), expected, found);
            Ok(Some((vec![page.id(), sibling], error.to_string())))
        };
        let Some(high) = node.high_fence().map(|high| high.to_vec()) else {
            let is_last = sibling == PageId::NONE;
            return if is_last { Ok(None) } else { wrong("no sibling", format!("page {sibling}")) };
        };
        if sibling == PageId::NONE {
            return wrong("a sibling", "none".into());
        }
        if sibling == page.id() || path.iter().any(|above| above.id() == sibling) {
            return wrong("a sibling on its level", format!("page {sibling}"));
        }
        if self.unreadable.contains(&sibling) {
            return Ok(None);
        }
        let Some(pin) = engine.pool.pin_resident(sibling) else { return Err(sibling) };
        let right = pin.into_shared();
        let (view, own) = (PageView::new(right.bytes()), PageView::new(page.bytes()));
        let is_alike = view.kind() == own.kind()
            && view.level() == own.level()
            && view.tree() == own.tree()
            && NodeView::new(right.bytes()).low_fence().compare(&high).is_eq();
        if is_alike {
            return Ok(None);
        }
        wrong("the sibling whose range goes on", describe(view))
    }

    fn disagree(
        &self,
        place: &Place,
        path: &[SharedPage<'_>],
        expected: &str,
        found: &str,
    ) -> (Vec<PageId>, String) {
        let parent = path.last().map(SharedPage::id);
        let whose = match parent {
            Some(parent) => format!("child {} of page {parent}", place.page),
            None => format!("root {}", place.page),
        };
        let expected = format!("{expected}, as {whose} of tree {}", self.tree.id);
        let error = self.scan.engine.corrupt_page(place.page, expected, found);
        let pages = [Some(place.page), parent].into_iter().flatten().collect();
        (pages, error.to_string())
    }

    /// Checks what a page must satisfy by itself, and notes it as owned.
    fn check_copy(&mut self, copy: &PageBuf) {
        let page = PageView::new(copy.bytes()).page_id();
        let level = usize::from(PageView::new(copy.bytes()).level());
        if self.seen[level] != Some(page) {
            self.scan.own(page, || format!("tree {}", self.tree.id));
            self.scan.progress.advance(1);
        }
        self.seen[level] = Some(page);
        if let Err(finding) = check_page(copy.bytes()) {
            let file = &self.scan.engine.file;
            let error = finding.in_file(file.path(), file.offset(page));
            self.findings.push((vec![page], format!("page {page}: {error}")));
        }
    }
}

/// The cells of a leaf from `from` on whose values lie in overflow pages.
pub(super) fn link_cells(leaf: LeafView<'_>, from: &[u8]) -> Vec<LinkCell> {
    let cells = (leaf.lower_bound(from)..leaf.count()).map(|slot| (slot, leaf.cell_at(slot)));
    let links = cells.filter(|(_, cell)| cell.is_overflow && !cell.is_ghost);
    let copied = links.map(|(slot, cell)| LinkCell {
        leaf: leaf.page().page_id(),
        key: leaf.key_at(slot).to_vec(),
        link: cell.value.to_vec(),
    });
    copied.collect()
}

/// What in a page contradicts its parent: expected, and found.
fn mismatch(place: &Place, tree: TreeId, bytes: &[u8]) -> Option<(String, String)> {
    let view = PageView::new(bytes);
    let is_node = match view.kind() {
        PageKind::Leaf => view.level() == 0,
        PageKind::Inner => view.level() > 0,
        _ => false,
    };
    let is_placed = view.page_id() == place.page
        && view.tree() == tree
        && place.level.is_none_or(|level| level == view.level());
    if !is_node || !is_placed {
        let level = place.level.map_or_else(String::new, |level| format!(" on level {level}"));
        return Some((format!("page {}{level}", place.page), describe(view)));
    }
    let node = NodeView::new(bytes);
    let (low, high) = (node.low_fence().to_vec(), node.high_fence().map(|high| high.to_vec()));
    if low == place.low && high == place.high {
        return None;
    }
    Some((show_range(&place.low, place.high.as_deref()), show_range(&low, high.as_deref())))
}

fn describe(view: PageView<'_>) -> String {
    let (kind, level) = (view.kind(), view.level());
    format!("page {} of tree {}, {kind:?} on level {level}", view.page_id(), view.tree())
}

fn show_range(low: &[u8], high: Option<&[u8]>) -> String {
    let low = low.escape_ascii();
    match high {
        Some(high) => format!("keys from \"{low}\" to \"{}\"", high.escape_ascii()),
        None => format!("keys from \"{low}\" on"),
    }
}

/// Whether an error is damage of a file rather than a refusal.
pub(super) const fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::UnsupportedFormat { .. } | Error::Io { .. })
}
