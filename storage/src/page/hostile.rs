//! Pages that nobody vouches for: valid samples of every kind, damaged under a right checksum, and
//! random bytes. Nothing that looks at them panics, and what [`verify()`] lets through may be changed.

use std::hint::black_box;
use std::path::Path;

use proptest::prelude::*;
use seawall_wal::record::{Cell, Extent, Op, WriteKind};
use seawall_wal::{Lsn, PageId, Result, TreeId};

use super::build::NodeSpec;
use super::header::KIND;
use super::verify::verify_structure;
use super::*;

pub(super) const SEED: u32 = 0x5ea_3a11;
pub(super) const TREE: TreeId = TreeId::new(3);

pub(super) fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    let after = Cell::inline(value);
    Op::Put { tree: TREE, key, kind: WriteKind::Insert, after, before: None }
}

/// A valid page of each kind, sealed.
pub(super) fn samples(page_bytes: usize) -> Vec<PageBuf> {
    let (low, high) = (&b"key:a"[..], &b"key:z"[..]);
    let spec = |id, level| NodeSpec {
        page: PageId::new(id),
        tree: TREE,
        level,
        low: Key::whole(low),
        high: Some(Key::whole(high)),
        right_sibling: PageId::new(77),
    };
    let mut leaf = empty_leaf(page_bytes, &spec(9, 0));
    let mut inner = inner_with_child(page_bytes, &spec(10, 2), PageId::new(100));
    for number in 0..30_u64 {
        let key = format!("key:b{:03}", number * 7 % 30);
        let value = vec![b'v'; 20];
        apply(&mut leaf, PageId::new(9), &put(key.as_bytes(), &value)).unwrap();
        let child = PageId::new(200 + number);
        let op = Op::InsertChild { separator: key.as_bytes(), child };
        apply(&mut inner, PageId::new(10), &op).unwrap();
    }
    let mut bitmap = empty_bitmap(page_bytes, PageId::NONE);
    let extent = Extent { first: PageId::new(5), count: 40 };
    apply(&mut bitmap, PageId::NONE, &Op::Allocate(extent)).unwrap();
    let overflow = overflow_page(page_bytes, PageId::new(11), TREE, b"owner", &[b'o'; 900]);
    let mut pages = vec![leaf, inner, bitmap, overflow];
    for page in &mut pages {
        set_page_lsn(page, Lsn::new(12_345));
        seal_page(page);
    }
    pages
}

pub(super) fn seal_page(page: &mut PageBuf) {
    let id = PageView::new(page.bytes()).page_id();
    seal(SEED, id, page.bytes_mut());
}

pub(super) fn verify_page(page: &PageBuf) -> Result<Verified> {
    verify(SEED, PageView::new(page.bytes()).page_id(), Path::new("pages"), page.bytes())
}

/// Everything that may be asked of bytes that nobody vouches for.
fn look_at_everything(bytes: &[u8], key: &[u8]) {
    let (leaf, inner) = (LeafView::new(bytes), InnerView::new(bytes));
    let node = leaf.node();
    for slot in (0..node.count().min(600)).chain([node.count(), 5000, 1 << 20]) {
        black_box((leaf.key_at(slot).to_vec(), leaf.cell_at(slot)));
        black_box((inner.child(slot), inner.child_page(slot)));
        black_box((inner.separator(slot).to_vec(), inner.next_separator(slot)));
    }
    for key in [key, b"", &[0xff; 2000]] {
        assert!(leaf.lower_bound(key) <= node.count());
        black_box((leaf.get(key), leaf.fits_put(key, &Cell::inline(b"value"))));
        black_box((inner.child_for(key), inner.find_separator(key).is_ok()));
        black_box((inner.fits_insert_child(key), node.contains_key_range(key)));
    }
    black_box((inner.fits_any_child(), node.used_bytes_logical(), is_sparse(bytes)));
    let overflow = OverflowView::new(bytes);
    black_box((overflow.payload(), overflow.owner_key()));
    let bitmap = BitmapView::new(bytes);
    for from in [0, 1, 77, bitmap.len(), usize::MAX] {
        black_box((bitmap.find_free(from), bitmap.find_free_run(from, 9)));
        black_box(bitmap.is_allocated(from));
    }
    black_box(bitmap.count());
    let page = PageBuf::copy_of(bytes);
    let node = OptimisticNode::new(&page);
    for key in [key, b"", &[0xff; 2000]] {
        black_box((node.label(), node.child_for(key), node.child_below(key), node.last_child()));
        if let Some(cell) = node.cell(key) {
            node.append_value(&cell, &mut Vec::new());
        }
    }
}

/// Everything that may be done to a verified page.
fn change_everything(page: &PageBuf, key: &[u8]) {
    let id = PageView::new(page.bytes()).page_id();
    let tree = PageView::new(page.bytes()).tree();
    let mut page = page.clone();
    let run = |page: &mut PageBuf, op: &Op<'_>| {
        let before = page.clone();
        if apply(page, id, op).is_err() {
            assert!(*page == before, "{op:?} failed and changed the page");
        }
        assert_eq!(verify_structure(page.bytes()), Ok(()), "after {op:?}");
    };
    let put = |value| Op::Put {
        tree,
        key,
        kind: WriteKind::Insert,
        after: Cell::inline(value),
        before: None,
    };
    run(&mut page, &put(b"small"));
    run(&mut page, &put(&[b'x'; 700]));
    run(&mut page, &Op::Settle { tree, key });
    run(&mut page, &Op::InsertChild { separator: key, child: PageId::new(5) });
    let node = NodeView::new(page.bytes());
    let large = Cell::inline(&[b'y'; 800]);
    let kind = node.page().kind();
    let fits = LeafView::new(page.bytes()).fits_put(key, &large);
    if kind == PageKind::Leaf && node.contains_key_range(key) && !fits {
        let plan = split_plan(page.bytes(), &Incoming::Cell { key, cell: large });
        let right = right_half(page.bytes(), &plan, PageId::new(1 << 40));
        assert_eq!(verify_structure(right.bytes()), Ok(()));
        let separator = &plan.separator;
        run(&mut page, &Op::SplitOff { separator, right: PageId::new(1 << 40) });
    }
    run(&mut page, &Op::Remove { tree, key });
    run(&mut page, &Op::RemoveChild { separator: key });
    run(&mut page, &Op::SplitOff { separator: key, right: PageId::new(5) });
    run(&mut page, &Op::Allocate(Extent { first: PageId::new(9), count: 3 }));
    run(&mut page, &Op::Release(Extent { first: PageId::new(9), count: u64::MAX }));
    let copy = page.clone();
    let (low, high) = image_of(copy.bytes());
    run(&mut page, &Op::Image { low, high });
    run(&mut page, &Op::Absorb { low, high });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_under_a_right_checksum_never_panics(
        sample in 0_usize..4,
        pokes in proptest::collection::vec((0_usize..4096, any::<u8>()), 0..6),
        fields in proptest::collection::vec((16_usize..400, 0_u8..20), 0..3),
        key in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut page = samples(4096).swap_remove(sample);
        for (offset, byte) in pokes.into_iter().chain(fields) {
            page.bytes_mut()[offset] = byte;
        }
        let id = PageView::new(page.bytes()).page_id();
        seal(SEED, id, page.bytes_mut());
        let key = [b"key:b0", &key[..]].concat();
        look_at_everything(page.bytes(), &key);
        if verify(SEED, id, Path::new("pages"), page.bytes()).is_ok() {
            change_everything(&page, &key);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 4096),
        kind in 0_u8..6,
    ) {
        let mut page = PageBuf::copy_of(&bytes);
        page.write(KIND, &[kind]);
        look_at_everything(page.bytes(), &bytes[..5]);
        seal_page(&mut page);
        assert!(verify_page(&page).is_err());
    }
}
