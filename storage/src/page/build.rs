//! New page contents: empty pages, the new pages of a split and of a root that grows or collapses,
//! and the composer that lays out a node from its logical content.
//!
//! A composed node has its cells in slot order from the end of the heap downwards, without garbage.
//! Redo and the live path compose through the same code, so they get the same bytes.

use seawall_wal::{PageId, TreeId};

use super::bytes::{PageBuf, PageRead, PageWrite, short};
use super::header::{
    self, FLAG_HIGH_FENCE, FLAGS, HEADER_BYTES, HEAP_START, HIGH_LEN, IMAGE_START, LEVEL, LOW_LEN,
    PAYLOAD_LEN, PREFIX_LEN, PageKind, PageView, RIGHT_SIBLING, SLOT_COUNT,
};
use super::inner::InnerView;
use super::key::Key;
use super::node::{NodeView, SLOT_BYTES, head_of};
use super::split::SplitPlan;
use super::{bitmap, overflow};

/// The content does not fit the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Everything a node's header says apart from its keys.
#[derive(Clone, Copy, Debug)]
pub struct NodeSpec<'a> {
    /// The page's number.
    pub page: PageId,
    /// The tree it belongs to.
    pub tree: TreeId,
    /// Distance from the leaves; 0 makes a leaf.
    pub level: u8,
    /// Lowest key it may hold.
    pub low: Key<'a>,
    /// First key beyond it.
    pub high: Option<Key<'a>>,
    /// The next node on the level.
    pub right_sibling: PageId,
}

impl<'a> NodeSpec<'a> {
    /// What an existing node says.
    pub(super) fn of(node: NodeView<'a>) -> Self {
        Self {
            page: node.page().page_id(),
            tree: node.page().tree(),
            level: node.page().level(),
            low: node.low_fence(),
            high: node.high_fence(),
            right_sibling: node.right_sibling(),
        }
    }

    /// The whole key range and no sibling: a root.
    #[must_use]
    pub fn root(page: PageId, tree: TreeId, level: u8) -> Self {
        let low = Key::default();
        Self { page, tree, level, low, high: None, right_sibling: PageId::NONE }
    }

    pub(super) fn prefix_len(&self) -> usize {
        self.high.map_or(0, |high| self.low.common_len(high))
    }

    /// What the fences cost and save.
    pub(super) fn frame(&self) -> Frame {
        let prefix_len = self.prefix_len();
        let high_len = self.high.map_or(0, |high| high.len() - prefix_len);
        Frame { prefix_len, fence_bytes: self.low.len() + high_len }
    }
}

/// What a node's fences cost and save.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Bytes that no key of the node stores.
    pub(super) prefix_len: usize,
    /// Bytes that the fences take.
    pub(super) fence_bytes: usize,
}

/// Lays out a node. Cells are pushed in key order.
pub(super) struct Composer {
    page: PageBuf,
    prefix_len: usize,
    count: usize,
    heap_start: usize,
}

impl Composer {
    pub(super) fn new(page_bytes: usize, spec: &NodeSpec<'_>) -> Self {
        let kind = if spec.level == 0 { PageKind::Leaf } else { PageKind::Inner };
        let mut page = PageBuf::zeroed(page_bytes);
        header::write_identity(&mut page, kind, spec.page, spec.tree);
        page.write(RIGHT_SIBLING, &spec.right_sibling.get().to_le_bytes());
        page.write(LEVEL, &[spec.level]);
        let prefix_len = spec.prefix_len();
        page.write(PREFIX_LEN, &short(prefix_len));
        page.write(LOW_LEN, &short(spec.low.len()));
        let mut composer = Self { page, prefix_len, count: 0, heap_start: page_bytes };
        composer.prepend(&[spec.low.prefix, spec.low.suffix]);
        if let Some(high) = spec.high {
            composer.page.write(HIGH_LEN, &short(high.len()));
            composer.page.write(FLAGS, &[FLAG_HIGH_FENCE]);
            let rest = high.skip(prefix_len);
            composer.prepend(&[rest.prefix, rest.suffix]);
        }
        composer
    }

    /// Adds a cell whose key begins with the node's prefix.
    pub(super) fn push(&mut self, key: Key<'_>, tail: &[u8]) -> Result<(), Full> {
        self.push_suffix(key.skip(self.prefix_len), tail)
    }

    /// Adds the cells of `node` in `slots`; the first separator of an inner node is stored only
    /// where it is not the low fence.
    pub(super) fn push_all(
        &mut self,
        node: NodeView<'_>,
        slots: std::ops::Range<usize>,
    ) -> Result<(), Full> {
        // A prefix that is no shorter than the old one begins with it: what is stored is cut.
        let cut = self.prefix_len.checked_sub(node.prefix_len());
        for slot in slots {
            let tail = node.tail(slot);
            match (node.page().kind(), cut) {
                (PageKind::Inner, _) if self.count == 0 => {
                    self.push_suffix(Key::default(), tail)?;
                }
                (PageKind::Inner, _) => {
                    self.push(InnerView::new(node.bytes()).separator(slot), tail)?;
                }
                (_, Some(cut)) => {
                    let suffix_len = node.slot(slot).suffix_len.saturating_sub(cut);
                    let cell = node.cell(slot).get(cut..).unwrap_or_default();
                    self.push_pieces(suffix_len, &[cell])?;
                }
                (_, None) => self.push(node.key_at(slot), tail)?,
            }
        }
        Ok(())
    }

    fn push_suffix(&mut self, suffix: Key<'_>, tail: &[u8]) -> Result<(), Full> {
        self.push_pieces(suffix.len(), &[suffix.prefix, suffix.suffix, tail])
    }

    /// Adds a cell of these pieces, which begins with a suffix of `suffix_len` bytes.
    fn push_pieces(&mut self, suffix_len: usize, pieces: &[&[u8]]) -> Result<(), Full> {
        let slot = HEADER_BYTES + self.count * SLOT_BYTES;
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        if slot + SLOT_BYTES + len > self.heap_start {
            return Err(Full);
        }
        self.prepend(pieces);
        let stored = &self.page.bytes()[self.heap_start..][..suffix_len];
        let entry = encode_slot(stored, self.heap_start);
        self.page.write(slot, &entry);
        self.count += 1;
        Ok(())
    }

    /// Puts the pieces in front of the heap.
    fn prepend(&mut self, pieces: &[&[u8]]) {
        self.heap_start -= pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut offset = self.heap_start;
        for piece in pieces {
            self.page.write(offset, piece);
            offset += piece.len();
        }
    }

    pub(super) fn finish(mut self) -> PageBuf {
        self.page.write(SLOT_COUNT, &short(self.count));
        self.page.write(HEAP_START, &short(self.heap_start));
        self.page
    }
}

/// A slot for a key with this suffix and a cell at `offset`.
pub(super) fn encode_slot(suffix: &[u8], offset: usize) -> [u8; SLOT_BYTES] {
    let [a, b, c, d] = head_of(suffix).to_be_bytes();
    let ([e, f], [g, h]) = (short(offset), short(suffix.len()));
    [a, b, c, d, e, f, g, h]
}

/// An empty leaf.
#[must_use]
pub fn empty_leaf(page_bytes: usize, spec: &NodeSpec<'_>) -> PageBuf {
    assert_eq!(spec.level, 0, "leaves are on level 0");
    Composer::new(page_bytes, spec).finish()
}

/// An inner node with one child for its whole range.
#[must_use]
pub fn inner_with_child(page_bytes: usize, spec: &NodeSpec<'_>, child: PageId) -> PageBuf {
    assert!(spec.level > 0, "inner nodes are above the leaves");
    let mut composer = Composer::new(page_bytes, spec);
    composer
        .push_suffix(Key::default(), &child.get().to_le_bytes())
        .expect("two fences leave room for a child");
    composer.finish()
}

/// The bitmap page `page`, which covers itself and marks itself as used.
#[must_use]
pub fn empty_bitmap(page_bytes: usize, page: PageId) -> PageBuf {
    assert_eq!(bitmap::page_of(page_bytes, page), page, "bitmap pages stand at their multiples");
    let mut bitmap = PageBuf::zeroed(page_bytes);
    header::write_identity(&mut bitmap, PageKind::Bitmap, page, TreeId::default());
    bitmap.write(HEADER_BYTES, &[1]);
    bitmap
}

/// A page of a large value: `payload`, and on the extent's first page the key it belongs to.
///
/// # Panics
/// When both together are longer than [`overflow::payload_bytes_max`].
#[must_use]
pub fn overflow_page(
    page_bytes: usize,
    page: PageId,
    tree: TreeId,
    owner: &[u8],
    payload: &[u8],
) -> PageBuf {
    assert!(payload.len() <= overflow::payload_bytes_max(page_bytes, owner.len()));
    let mut out = PageBuf::zeroed(page_bytes);
    header::write_identity(&mut out, PageKind::Overflow, page, tree);
    header::write_short(&mut out, LOW_LEN, owner.len());
    header::write_short(&mut out, PAYLOAD_LEN, payload.len());
    out.write(HEADER_BYTES, payload);
    out.write(page_bytes - owner.len(), owner);
    out
}

/// The new page of a split: the cells from `plan.slot` on, up to the old high fence.
///
/// # Panics
/// When `plan` was not made for this page.
#[must_use]
pub fn right_half(bytes: &[u8], plan: &SplitPlan, page: PageId) -> PageBuf {
    let node = NodeView::new(bytes);
    let spec = NodeSpec { page, low: Key::whole(&plan.separator), ..NodeSpec::of(node) };
    let mut composer = Composer::new(bytes.len(), &spec);
    composer
        .push_all(node, plan.slot..node.count())
        .expect("a split plan is made of halves that fit");
    composer.finish()
}

/// The two pages of a root that grows: the child that takes over the root's content under the id
/// `child`, and the root one level higher above this only child.
#[must_use]
pub fn grow_root(root: &[u8], child: PageId) -> (PageBuf, PageBuf) {
    let view = PageView::new(root);
    let level = view.level() + 1;
    assert!(level <= header::LEVEL_MAX, "no tree has more than {} levels", header::LEVEL_MAX);
    let spec = NodeSpec::root(view.page_id(), view.tree(), level);
    (with_id(root, child), inner_with_child(root.len(), &spec, child))
}

/// The root after it took over the content of its only child.
#[must_use]
pub fn collapse_root(child: &[u8], root: PageId) -> PageBuf {
    with_id(child, root)
}

/// The content of a page under another id, with no `page_lsn` yet.
fn with_id(bytes: &[u8], page: PageId) -> PageBuf {
    let mut out = PageBuf::copy_of(bytes);
    out.fill_zero(0..IMAGE_START);
    out.write(IMAGE_START, &page.get().to_le_bytes());
    out
}

/// What an image of the page carries: its bytes from [`IMAGE_START`] in front of the hole, and those
/// behind it. The hole is zero.
#[must_use]
pub fn image_of(bytes: &[u8]) -> (&[u8], &[u8]) {
    let view = PageView::new(bytes);
    let hole = match view.kind() {
        PageKind::Inner | PageKind::Leaf => {
            let node = NodeView::new(bytes);
            node.slots_end()..node.heap_start()
        }
        PageKind::Overflow => {
            let view = overflow::OverflowView::new(bytes);
            HEADER_BYTES + view.payload().len()..bytes.len() - view.owner_key().len()
        }
        PageKind::Bitmap | PageKind::Free => {
            let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            used.max(HEADER_BYTES)..bytes.len()
        }
    };
    (&bytes[IMAGE_START..hole.start], &bytes[hole.end..])
}

#[cfg(test)]
mod tests {
    use seawall_wal::Lsn;
    use seawall_wal::record::{Cell, Op, WriteKind};

    use super::super::{LeafView, OverflowView, apply, check, set_page_lsn};
    use super::*;

    const PAGE: usize = 4096;
    const TREE: TreeId = TreeId::new(4);
    const ROOT: PageId = PageId::new(2);

    fn filled_root() -> PageBuf {
        let mut root = empty_leaf(PAGE, &NodeSpec::root(ROOT, TREE, 0));
        for key in [&b"b"[..], b"a", b"c"] {
            let after = Cell::inline(b"value");
            let op = Op::Put { tree: TREE, key, kind: WriteKind::Insert, after, before: None };
            apply(&mut root, ROOT, &op).unwrap();
        }
        root
    }

    #[test]
    fn a_root_that_grows_keeps_its_id_and_gives_its_content_away() {
        let mut root = filled_root();
        set_page_lsn(&mut root, Lsn::new(99));
        let (child, new_root) = grow_root(root.bytes(), PageId::new(50));
        check(child.bytes()).unwrap();
        check(new_root.bytes()).unwrap();

        let inner = InnerView::new(new_root.bytes());
        assert_eq!((inner.page().page_id(), inner.page().level()), (ROOT, 1));
        let only = inner.child_for(b"anything").unwrap();
        assert_eq!((inner.count(), only.page), (1, PageId::new(50)));
        assert!(only.low.is_empty() && only.high.is_none());

        let leaf = LeafView::new(child.bytes());
        assert_eq!((leaf.page().page_id(), leaf.page().page_lsn()), (PageId::new(50), Lsn::NONE));
        assert_eq!(leaf.get(b"b").unwrap().value, b"value");
        assert_eq!(leaf.count(), 3);

        let again = collapse_root(child.bytes(), ROOT);
        assert_eq!(image_of(again.bytes()), image_of(root.bytes()));
    }

    #[test]
    fn an_image_restores_everything_but_checksum_and_page_lsn() {
        let root = filled_root();
        let (low, high) = image_of(root.bytes());
        let mut page = PageBuf::copy_of(&[0xee; PAGE]);
        set_page_lsn(&mut page, Lsn::new(1234));
        apply(&mut page, ROOT, &Op::Image { low, high }).unwrap();
        assert_eq!(page.bytes()[IMAGE_START..], root.bytes()[IMAGE_START..]);
        assert_eq!(PageView::new(page.bytes()).page_lsn(), Lsn::new(1234));
        assert_eq!(PageView::new(page.bytes()).checksum(), 0xeeee_eeee);
    }

    #[test]
    fn overflow_pages_carry_their_payload_and_their_owner() {
        for (owner, payload_len) in [(&b"key"[..], 10), (b"", PAGE - HEADER_BYTES), (b"", 0)] {
            let payload = vec![7; payload_len];
            let page = overflow_page(PAGE, PageId::new(8), TREE, owner, &payload);
            check(page.bytes()).unwrap();
            let view = OverflowView::new(page.bytes());
            assert_eq!((view.owner_key(), view.payload()), (owner, &payload[..]));
            let (low, high) = image_of(page.bytes());
            let mut copy = PageBuf::zeroed(PAGE);
            apply(&mut copy, PageId::new(8), &Op::Image { low, high }).unwrap();
            assert!(copy == page);
        }
    }
}
