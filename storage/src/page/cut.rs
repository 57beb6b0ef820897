//! The weighing of cuts: what the halves of a split would take, for every place where a node may be
//! cut. [`super::split`] chooses among them and says why there always is one.

use super::build::{Frame, NodeSpec};
use super::header::{PageKind, PageView};
use super::inner::InnerView;
use super::key::Key;
use super::node::{NodeView, SLOT_BYTES, content_bytes};
use super::split::Incoming;

/// A cut that was weighed.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    /// The first slot that goes to the right.
    pub(super) slot: usize,
    pub(super) separator: Key<'a>,
    /// Bytes of the fuller half.
    pub(super) fuller: usize,
    /// Whether both halves, the incoming entry included, fit.
    pub(super) is_enough: bool,
    /// Whether a half gets no cells, although the incoming key goes to the other one.
    pub(super) is_at_fence: bool,
}

/// Every cut whose halves fit without the incoming entry.
pub(super) fn weigh_cuts<'a>(page: &'a [u8], incoming: &Incoming<'a>) -> Vec<Cut<'a>> {
    let node = NodeView::new(page);
    let count = node.count();
    let spec = NodeSpec::of(node);
    let scale = Scale {
        node,
        spec,
        prefix_len: spec.prefix_len(),
        is_inner: PageView::new(page).kind() == PageKind::Inner,
        replaced: node.search(0, incoming.key()).ok().map(|slot| cell_bytes(node, slot)),
    };
    let total: usize = (0..count).map(|slot| cell_bytes(node, slot)).sum();
    let mut cuts = Vec::with_capacity(count + 1);
    let mut left_bytes = 0;
    for slot in 0..=count {
        if let Some(separator) = separator_at(node, scale.is_inner, slot, incoming.key()) {
            let left = Half { cells: slot, bytes: left_bytes };
            let right = Half { cells: count - slot, bytes: total - left_bytes };
            cuts.extend(scale.weigh(separator, left, right, incoming));
        }
        if slot < count {
            left_bytes += cell_bytes(node, slot);
        }
    }
    cuts
}

/// The separator of a cut in front of `slot`; `None` where a cut would part nothing.
///
/// On a leaf, a cut at either end leaves one half without cells: either the incoming key goes there,
/// or the other half trades a fence for a shorter one.
fn separator_at<'a>(
    node: NodeView<'a>,
    is_inner: bool,
    slot: usize,
    incoming: &'a [u8],
) -> Option<Key<'a>> {
    let count = node.count();
    if is_inner {
        return (1..count).contains(&slot).then(|| InnerView::new(node.bytes()).separator(slot));
    }
    if count == 0 {
        return None;
    }
    let incoming = Key::whole(incoming);
    let below = match slot.checked_sub(1) {
        Some(below) => node.key_at(below),
        None if incoming.compare_key(node.key_at(0)).is_lt() => incoming,
        None => node.low_fence(),
    };
    let above = match slot {
        slot if slot < count => node.key_at(slot),
        _ if incoming.compare_key(below).is_gt() => incoming,
        _ => node.high_fence()?,
    };
    below.compare_key(above).is_lt().then(|| above.take(below.common_len(above) + 1))
}

/// Cells on one side of a cut: their bytes as the node stores them now, and how many of them have a
/// stored key.
#[derive(Clone, Copy)]
struct Half {
    cells: usize,
    bytes: usize,
}

impl Half {
    /// The half of an inner node, whose first separator is its low fence and stored only there.
    const fn without_first(self, suffix_len: usize) -> Self {
        Self { cells: self.cells - 1, bytes: self.bytes - suffix_len }
    }
}

/// What stays the same while cuts of a node are weighed.
struct Scale<'a> {
    node: NodeView<'a>,
    spec: NodeSpec<'a>,
    prefix_len: usize,
    is_inner: bool,
    /// Bytes of the cell that the incoming one replaces.
    replaced: Option<usize>,
}

impl<'a> Scale<'a> {
    /// `None` where a half does not fit.
    fn weigh(
        &self,
        separator: Key<'a>,
        left: Half,
        right: Half,
        incoming: &Incoming<'_>,
    ) -> Option<Cut<'a>> {
        let slot = left.cells;
        let frames = [
            NodeSpec { high: Some(separator), ..self.spec }.frame(),
            NodeSpec { low: separator, ..self.spec }.frame(),
        ];
        let halves = if self.is_inner {
            [left.without_first(0), right.without_first(self.node.suffix(slot).len())]
        } else {
            [left, right]
        };
        let mut bytes = [self.used(frames[0], halves[0]), self.used(frames[1], halves[1])];
        let content = content_bytes(self.node.bytes().len());
        if bytes[0].max(bytes[1]) > content {
            return None;
        }
        let side = usize::from(separator.compare(incoming.key()).is_le());
        bytes[side] += incoming.bytes(frames[side].prefix_len);
        if let Some(replaced) = self.replaced {
            bytes[side] -= replaced - (frames[side].prefix_len - self.prefix_len);
        }
        // The other half gets no cells: that is worth it only where this one's fences shrink, which
        // also makes sure that splitting comes to an end.
        let is_at_fence = halves[1 - side].cells == 0 && !self.is_inner;
        if is_at_fence && frames[side].fence_bytes >= self.spec.frame().fence_bytes {
            return None;
        }
        let fuller = bytes[0].max(bytes[1]);
        let is_enough = fuller <= content;
        Some(Cut { slot, separator, fuller, is_enough, is_at_fence })
    }

    /// Bytes of a node with these cells, whose stored keys still lack only the old prefix.
    fn used(&self, frame: Frame, half: Half) -> usize {
        frame.fence_bytes + half.bytes - half.cells * (frame.prefix_len - self.prefix_len)
    }
}

/// Bytes of a cell with its slot.
fn cell_bytes(node: NodeView<'_>, slot: usize) -> usize {
    SLOT_BYTES + node.cell_len(slot)
}

/// Makes every cut that was weighed and checks that its halves take what the weighing said.
#[cfg(test)]
pub(super) fn check_cuts(page: &[u8], incoming: &Incoming<'_>) {
    use super::{PageBuf, PageRead, PageView, SplitPlan, apply, check, right_half};
    use seawall_wal::PageId;
    use seawall_wal::record::{Op, WriteKind};

    let (view, right_id, child) = (PageView::new(page), PageId::new(1 << 40), PageId::new(1 << 41));
    let cuts = weigh_cuts(page, incoming);
    assert!(!cuts.is_empty(), "a node that lacks room has a cut");
    for cut in cuts {
        let plan = SplitPlan { separator: cut.separator.to_vec(), slot: cut.slot };
        let mut right = right_half(page, &plan, right_id);
        let mut left = PageBuf::copy_of(page);
        let separator = &plan.separator;
        apply(&mut left, view.page_id(), &Op::SplitOff { separator, right: right_id }).unwrap();
        let op = match *incoming {
            Incoming::Cell { key, cell } => {
                let (tree, kind) = (view.tree(), WriteKind::Insert);
                Op::Put { tree, key, kind, after: cell, before: None }
            }
            Incoming::Child { separator } => Op::InsertChild { separator, child },
        };
        let (half, id) = match cut.separator.compare(incoming.key()).is_le() {
            true => (&mut right, right_id),
            false => (&mut left, view.page_id()),
        };
        assert_eq!(apply(half, id, &op).is_ok(), cut.is_enough);
        check(left.bytes()).unwrap();
        check(right.bytes()).unwrap();
        if cut.is_enough {
            let used = [&left, &right].map(|half| NodeView::new(half.bytes()).used_bytes_logical());
            assert_eq!(used[0].max(used[1]), cut.fuller);
        }
    }
}
