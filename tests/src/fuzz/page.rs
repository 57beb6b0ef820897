//! Pages under a right checksum, and under none.
//!
//! | input | |
//! |---|---|
//! | 1 byte | 1: the page is sealed |
//! | piece | a key to ask for |
//! | piece | the page from its start |
//! | the rest | the page up to its end; between them are zeros |

use std::hint::black_box;
use std::path::Path;

use seawall::page::{
    self, ApplyError, BitmapView, InnerView, LeafView, OverflowView, PageBuf, PageKind, PageRead,
    PageView, Verified, apply, image_of, is_sparse,
};
use seawall_wal::PageId;
use seawall_wal::record::{Cell, EXTENT_PAGES_MAX, Extent, Op, WriteKind};

use super::input::{Input, piece};

/// Size of the pages.
const PAGE_BYTES: usize = 4096;
/// Seed of their checksums.
const SEED: u32 = 0x5ea_3a11;

/// Bytes as a page: nothing that looks at them panics; what a read lets through says one thing in
/// every way of asking, and may be changed.
pub fn page(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_sealed = input.byte() & 1 == 1;
    let key = input.piece();
    let mut page = PageBuf::zeroed(PAGE_BYTES);
    let front = input.piece();
    let front = &front[..front.len().min(PAGE_BYTES)];
    page.bytes_mut()[..front.len()].copy_from_slice(front);
    let back = input.rest();
    let back = &back[..back.len().min(PAGE_BYTES - front.len())];
    page.bytes_mut()[PAGE_BYTES - back.len()..].copy_from_slice(back);
    if is_sealed {
        seal(&mut page);
    }
    ask_anything(page.bytes(), key);
    match verify(&page) {
        Ok(Verified::NeverWritten) | Err(_) => {}
        Ok(Verified::Page(kind)) => {
            let is_sound = page::check(page.bytes()).is_ok();
            match kind {
                PageKind::Leaf => ask_leaf(LeafView::new(page.bytes())),
                PageKind::Inner => ask_inner(InnerView::new(page.bytes())),
                PageKind::Bitmap => ask_bitmap(BitmapView::new(page.bytes())),
                PageKind::Overflow => ask_overflow(OverflowView::new(page.bytes())),
                PageKind::Free => panic!("a page without a kind was let through"),
            }
            copy(&page, is_sound);
            change(&page, key, is_sound);
        }
    }
}

/// The input for a page and a key.
pub(super) fn input(page: &[u8], key: &[u8]) -> Vec<u8> {
    let gap = longest_zeros(page);
    let front = piece(&page[..gap.start]);
    [&[1][..], &piece(key), &front, &page[gap.end..]].concat()
}

fn longest_zeros(bytes: &[u8]) -> std::ops::Range<usize> {
    let mut longest = bytes.len()..bytes.len();
    let mut start = 0;
    for (end, byte) in bytes.iter().chain([&1]).enumerate() {
        if *byte != 0 {
            if end - start > longest.len() {
                longest = start..end;
            }
            start = end + 1;
        }
    }
    longest
}

fn seal(page: &mut PageBuf) {
    let id = PageView::new(page.bytes()).page_id();
    page::seal(SEED, id, page.bytes_mut());
}

fn verify(page: &PageBuf) -> seawall::Result<Verified> {
    let id = PageView::new(page.bytes()).page_id();
    page::verify(SEED, id, Path::new("pages"), page.bytes())
}

/// Everything that may be asked of bytes that nobody vouches for.
fn ask_anything(bytes: &[u8], key: &[u8]) {
    let header = PageView::new(bytes);
    black_box((header.kind(), header.tree(), header.level(), header.page_lsn(), header.format()));
    let (leaf, inner) = (LeafView::new(bytes), InnerView::new(bytes));
    let node = leaf.node();
    for slot in (0..node.count().min(600)).chain([node.count(), 5000, 1 << 20]) {
        black_box((leaf.key_at(slot).to_vec(), leaf.cell_at(slot)));
        black_box((inner.child(slot), inner.child_page(slot)));
        black_box((inner.separator(slot).to_vec(), inner.next_separator(slot)));
    }
    for key in [key, b"", &[0xff; 2000]] {
        assert!(leaf.lower_bound(key) <= node.count(), "a place behind the last");
        black_box((leaf.get(key), leaf.fits_put(key, &Cell::inline(b"value"))));
        black_box((inner.child_for(key), inner.find_separator(key).is_ok()));
        black_box((inner.fits_insert_child(key), node.contains_key_range(key)));
    }
    black_box((node.low_fence().to_vec(), node.high_fence().map(|key| key.to_vec())));
    black_box((node.prefix(), node.right_sibling(), node.used_bytes_logical(), is_sparse(bytes)));
    let overflow = OverflowView::new(bytes);
    black_box((overflow.payload(), overflow.owner_key()));
    let bitmap = BitmapView::new(bytes);
    for from in [0, 1, 77, bitmap.len(), usize::MAX] {
        black_box((bitmap.find_free(from), bitmap.find_free_run(from, 9)));
        black_box(bitmap.is_allocated(from));
    }
    black_box((bitmap.count(), page::check(bytes).is_ok()));
}

fn ask_leaf(leaf: LeafView<'_>) {
    let mut last: Option<Vec<u8>> = None;
    for slot in 0..leaf.count() {
        let key = leaf.key_at(slot).to_vec();
        assert!(last.is_none_or(|last| last < key), "keys out of order");
        assert!(leaf.contains_key_range(&key), "a key outside of the fences");
        assert_eq!(leaf.find(&key), Ok(slot), "a key that is not found");
        assert_eq!(leaf.lower_bound(&key), slot, "a key that is not found");
        assert_eq!(leaf.get(&key), Some(leaf.cell_at(slot)), "another cell");
        last = Some(key);
    }
    assert!(leaf.free_bytes_logical() < PAGE_BYTES, "more room than the page has");
}

fn ask_inner(inner: InnerView<'_>) {
    for slot in 0..inner.count() {
        let separator = inner.separator(slot).to_vec();
        assert_eq!(inner.find_separator(&separator), Ok(slot), "a separator that is not found");
        assert_eq!(inner.slot_for(&separator), slot, "another child");
        let child = inner.child(slot).expect("a slot that is there has a child");
        assert_eq!(child.page, inner.child_page(slot), "another child");
        assert_eq!(inner.child_for(&separator).map(|child| child.page), Some(child.page));
    }
    assert!(inner.free_bytes_logical() < PAGE_BYTES, "more room than the page has");
}

fn ask_bitmap(bitmap: BitmapView<'_>) {
    let used = (0..bitmap.len()).filter(|&index| bitmap.is_allocated(index)).count();
    assert_eq!(bitmap.count(), used, "the count of pages in use");
    let free = bitmap.find_free(0);
    assert_eq!(free.is_none(), used == bitmap.len(), "free pages, and none is found");
    assert!(free.is_none_or(|index| !bitmap.is_allocated(index)), "a page in use is called free");
    if let Some(first) = bitmap.find_free_run(0, 9) {
        assert!((first..first + 9).all(|index| !bitmap.is_allocated(index)), "not all are free");
    }
}

fn ask_overflow(overflow: OverflowView<'_>) {
    let used = overflow.payload().len() + overflow.owner_key().len();
    assert!(used <= PAGE_BYTES - page::HEADER_BYTES, "more than the page has");
}

/// An image of the page gives the same page. It leaves out the hole, where only a check looks.
fn copy(page: &PageBuf, is_sound: bool) {
    let (low, high) = image_of(page.bytes());
    let mut copy = PageBuf::zeroed(PAGE_BYTES);
    let id = PageView::new(page.bytes()).page_id();
    match apply(&mut copy, id, &Op::Image { low, high }) {
        Ok(()) => {
            let [page, copy] = [page, &copy].map(|page| &page.bytes()[page::IMAGE_START..]);
            assert!(page == copy || !is_sound, "an image gives another page");
        }
        Err(error) => panic!("the image of a valid page is refused: {error:?}"),
    }
}

/// Everything that may be done to a verified page leaves one, or leaves the page as it was.
fn change(page: &PageBuf, key: &[u8], is_sound: bool) {
    let view = PageView::new(page.bytes());
    let (id, tree) = (view.page_id(), view.tree());
    let (far, count) = (PageId::new(1 << 40), EXTENT_PAGES_MAX);
    let put = |value| Op::Put {
        tree,
        key,
        kind: WriteKind::Insert,
        after: Cell::inline(value),
        before: None,
    };
    let (low, high) = image_of(page.bytes());
    let mut page = page.clone();
    for op in [
        put(b"small"),
        put(&[b'x'; 700]),
        Op::Settle { tree, key },
        Op::InsertChild { separator: key, child: far },
        Op::Remove { tree, key },
        Op::RemoveChild { separator: key },
        Op::Allocate(Extent { first: PageId::new(9), count: 3 }),
        Op::Release(Extent { first: PageId::new(9), count }),
        Op::SplitOff { separator: key, right: far },
        Op::Absorb { low, high },
        Op::Image { low, high },
    ] {
        let before = page.clone();
        let done: Result<(), ApplyError> = apply(&mut page, id, &op);
        assert!(done.is_ok() || page == before, "{op:?} failed and changed the page");
        seal(&mut page);
        let verified = verify(&page);
        assert!(verified.is_ok(), "after {op:?}: {verified:?}");
        if is_sound {
            assert_eq!(page::check(page.bytes()), Ok(()), "after {op:?}");
        }
    }
}
