//! Taking apart trees that were dropped, or whose creation was undone, page by page.
//!
//! Nobody reads the tree any more, so its shape only has to lead to every page that is left. Each
//! record takes the last leaf away from its parent and frees it; a parent without another child
//! becomes an empty leaf in the same record. The root goes last, together with the tree's row. If we
//! crash in between, the row still says `dropping`, and what is left hangs below the root
//! (invariant P5).

use std::collections::BTreeMap;
use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, Extent, Op, PageRef};
use seawall_wal::{Lsn, PageId, Result, TreeId};

use super::Engine;
use super::append::{Chain, RECORD_PAGES_MAX, page_lsn};
use super::auto_commit::CHANGE_RECORD_BYTES;
use super::structure::{init_ref, page_ref};
use crate::catalogue::TreeInfo;
use crate::catalogue::row::tree_key;
use crate::page::{
    InnerView, LeafView, NodeSpec, PageKind, PageRead, PageView, empty_leaf, image_of,
};
use crate::planted::{Bug, Point, is_planted, reach};
use crate::pool::{ExclusivePage, Pin};
use crate::space::PendingFree;
use crate::tree::Seek;
use crate::version::VersionKey;

/// Overflow values freed by one record.
const VALUES_PER_RECORD: usize = 2;

/// A tree to be taken apart once the horizon has passed the commit that dropped it.
#[derive(Clone, Debug)]
pub(crate) struct Doomed {
    pub(crate) tree: Arc<TreeInfo>,
    pub(crate) dropped_lsn: Lsn,
}

impl Engine {
    /// Has a tree taken apart once nobody can need it.
    pub(crate) fn doom(&self, tree: Arc<TreeInfo>, dropped_lsn: Lsn) {
        self.doomed.lock().push(Doomed { tree, dropped_lsn });
    }

    /// Has a tree taken apart whose row says so, unless it is known already.
    pub(crate) fn doom_once(&self, tree: Arc<TreeInfo>) {
        let is_known = self.doomed.lock().iter().any(|doomed| doomed.tree.id == tree.id);
        if !is_known {
            self.doom_now(tree);
        }
    }

    /// Has a tree taken apart that no reader can have: dropped at or below every snapshot.
    pub(super) fn doom_now(&self, tree: Arc<TreeInfo>) {
        // 0 would say that it is live.
        tree.set_dropped(Lsn::new(1));
        self.doom(tree, Lsn::NONE);
    }

    /// Frees one page of a tree that is due. Returns whether there was one.
    pub(super) fn dismantle_step(&self, horizon: Lsn) -> Result<bool> {
        // The row of a tree that was created and undone is its transaction's until that ends.
        let is_due = |doomed: &&Doomed| {
            let row_key = VersionKey::new(TreeId::CATALOGUE, &tree_key(doomed.tree.id));
            doomed.dropped_lsn <= horizon && !self.versions.is_needed(&row_key)
        };
        let due = self.doomed.lock().iter().find(is_due).cloned();
        let Some(due) = due else { return Ok(false) };
        let forget = || self.doomed.lock().retain(|doomed| doomed.tree.id != due.tree.id);
        match self.free_last_leaf(&due.tree) {
            Ok(false) => {}
            Ok(true) => {
                self.trees.remove(due.tree.id);
                forget();
            }
            // Nobody misses the tree; its pages stay taken, and verification names the damage. Its
            // row still says `dropping`, so the next open tries again.
            Err(error) if self.tell_damage(&error) => forget(),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Returns whether that was the root.
    fn free_last_leaf(&self, tree: &TreeInfo) -> Result<bool> {
        let mut parent: Option<Pin<'_>> = None;
        let mut leaf = self.pool.pin(tree.root)?;
        loop {
            let child = {
                let page = leaf.shared();
                let view = PageView::new(page.bytes());
                match view.kind() {
                    PageKind::Leaf if view.tree() == tree.id => break,
                    PageKind::Inner if view.tree() == tree.id => {
                        let inner = InnerView::new(page.bytes());
                        inner.child_page(inner.count() - 1)
                    }
                    other => {
                        let expected = format!("a page of tree {}", tree.id);
                        let found = format!("{other:?} of tree {}", view.tree());
                        return Err(self.corrupt_page(leaf.id(), expected, found));
                    }
                }
            };
            let child = self.pool.pin(child)?;
            parent = Some(std::mem::replace(&mut leaf, child));
        }
        if self.free_values(tree, &leaf)? {
            return Ok(false);
        }
        match parent {
            Some(parent) => self.free_child(tree, &parent, &leaf).map(|()| false),
            None => self.free_root(tree, &leaf).map(|()| true),
        }
    }

    fn free_child(&self, tree: &TreeInfo, parent: &Pin<'_>, leaf: &Pin<'_>) -> Result<()> {
        let bitmap = self.pool.pin(self.space.bitmap_of(leaf.id()))?;
        let mut credit = self.dismantle_credit()?;
        let mut appender = self.appenders.acquire();
        let mut parent = parent.exclusive();
        let freed = leaf.exclusive();
        let mut bitmap = bitmap.exclusive();
        let inner = InnerView::new(parent.bytes());
        let last = inner.count() - 1;
        if inner.child_page(last) != freed.id() {
            // Nobody writes to a tree that is dropped; the next step would look again.
            return Ok(());
        }
        let separator = inner.separator(last).to_vec();
        let empty = empty_leaf(self.page_bytes, &NodeSpec::root(parent.id(), tree.id, 0));
        let (low, high) = image_of(empty.bytes());
        let shrunk = if last > 0 {
            page_ref(&parent, Op::RemoveChild { separator: &separator })
        } else {
            init_ref(parent.id(), Op::Image { low, high })
        };
        let release = Op::Release(Extent { first: freed.id(), count: 1 });
        let refs = vec![shrunk, page_ref(&bitmap, release)];
        let body = Body::Free { horizon: self.horizon_hint(), refs };
        let pages = &mut [&mut parent, &mut bitmap];
        self.append(&mut appender, &mut credit, Chain::NONE, &body, pages, |_| {});
        self.space.freed(freed.id());
        Ok(())
    }

    /// Frees the root and removes the tree's row, in one record.
    fn free_root(&self, tree: &TreeInfo, root: &Pin<'_>) -> Result<()> {
        let bitmap = self.pool.pin(self.space.bitmap_of(tree.root))?;
        let mut credit = self.dismantle_credit()?;
        let mut appender = self.appenders.acquire();
        let key = tree_key(tree.id);
        let mut row: ExclusivePage<'_> = self.descent(&self.catalogue).leaf(Seek::Key(&key))?;
        let freed = root.exclusive();
        let mut bitmap = bitmap.exclusive();
        let refs = vec![
            page_ref(&row, Op::Remove { tree: TreeId::CATALOGUE, key: &key }),
            page_ref(&bitmap, Op::Release(Extent { first: tree.root, count: 1 })),
        ];
        let body = Body::Free { horizon: self.horizon_hint(), refs };
        let pages = &mut [&mut row, &mut bitmap];
        self.append(&mut appender, &mut credit, Chain::NONE, &body, pages, |_| {});
        self.space.freed(freed.id());
        Ok(())
    }

    /// Frees a few overflow values of a leaf. Returns whether there were any.
    fn free_values(&self, tree: &TreeInfo, leaf: &Pin<'_>) -> Result<bool> {
        let mut keys = Vec::new();
        let mut extents: BTreeMap<PageId, Vec<Extent>> = BTreeMap::new();
        {
            let page = leaf.shared();
            let view = LeafView::new(page.bytes());
            for slot in 0..view.count() {
                let cell = view.cell_at(slot);
                if !cell.is_overflow || cell.is_ghost || keys.len() == VALUES_PER_RECORD {
                    continue;
                }
                let more = self.link_extents(cell.value)?;
                if !keys.is_empty() && extents.len() + more.len() >= RECORD_PAGES_MAX {
                    break;
                }
                for extent in more {
                    extents.entry(self.space.bitmap_of(extent.first)).or_default().push(extent);
                }
                keys.push(view.key_at(slot).to_vec());
            }
        }
        if keys.is_empty() {
            return Ok(false);
        }
        let bitmaps =
            extents.keys().map(|&page| self.pool.pin(page)).collect::<Result<Vec<_>>>()?;
        let mut credit = self.dismantle_credit()?;
        let mut appender = self.appenders.acquire();
        let mut page = leaf.exclusive();
        let mut bitmaps: Vec<_> = bitmaps.iter().map(Pin::exclusive).collect();
        let with_ops = |page: &ExclusivePage<'_>, ops: Vec<_>| PageRef {
            page: page.id(),
            page_prev_lsn: page_lsn(page),
            is_init: false,
            ops: ops.into(),
        };
        let removes = keys.iter().map(|key| Op::Remove { tree: tree.id, key }).collect();
        let mut refs = vec![with_ops(&page, removes)];
        for (bitmap, extents) in bitmaps.iter().zip(extents.values()) {
            refs.push(with_ops(
                bitmap,
                extents.iter().map(|&extent| Op::Release(extent)).collect(),
            ));
        }
        let mut pages: Vec<_> = std::iter::once(&mut page).chain(&mut bitmaps).collect();
        let body = Body::Free { horizon: self.horizon_hint(), refs };
        self.append(&mut appender, &mut credit, Chain::NONE, &body, &mut pages, |_| {});
        extents.values().flatten().for_each(|extent| self.space.freed(extent.first));
        Ok(true)
    }

    /// Frees extents whose commits the horizon has passed. Returns how many.
    pub(super) fn free_step(&self, horizon: Lsn, most: usize) -> Result<usize> {
        let mut freed = 0;
        while freed < most {
            let horizon = if is_planted(Bug::FreeExtentEarly) { Lsn::MAX } else { horizon };
            let Some(due) = self.space.pending().first_due(horizon) else { break };
            match self.free_pending(&due, horizon) {
                // Checkpoints go on to list it, so the next open tries again.
                Err(error) if self.tell_damage(&error) => self.space.pending().park(&due),
                done => done?,
            }
            freed += 1;
        }
        Ok(freed)
    }

    fn free_pending(&self, due: &PendingFree, horizon: Lsn) -> Result<()> {
        let bitmap = self.pool.pin(self.space.bitmap_of(due.extent.first))?;
        let mut credit = self.dismantle_credit()?;
        // The entry leaves the table under an append sequence: a checkpoint that does not list it any
        // more waits for this record, and ends behind it in the log.
        let fence = self.appenders.fence();
        let mut appender = self.appenders.acquire();
        let mut bitmap = bitmap.exclusive();
        fence.sequence().begin();
        self.space.pending().remove(due);
        reach(Point::Freeing);
        let refs = vec![page_ref(&bitmap, Op::Release(due.extent))];
        let body = Body::Free { horizon, refs };
        self.append(&mut appender, &mut credit, Chain::NONE, &body, &mut [&mut bitmap], |_| {});
        fence.sequence().end();
        self.space.freed(due.extent.first);
        Ok(())
    }

    fn dismantle_credit(&self) -> Result<seawall_wal::log::Credit> {
        self.credit(&CreditRequest {
            payload_bytes: 2 * CHANGE_RECORD_BYTES
                + to_u64(VALUES_PER_RECORD * (crate::MAX_KEY_BYTES + 16 * 20)),
            is_sync_commit: false,
            purpose: Purpose::Garbage,
        })
    }
}
