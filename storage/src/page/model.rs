//! A level of leaves, and one of inner nodes, changed only by operations, beside a plain map: after
//! every step the pages hold what the map holds, are sound, and equal a replica that replayed the
//! same operations.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use seawall_wal::record::{Cell, Op, Stamp, WriteKind};
use seawall_wal::{Lsn, PageId, TreeId, TxnId};

use super::build::NodeSpec;
use super::*;

const PAGE: usize = 4096;
const TREE: TreeId = TreeId::new(7);

/// A cell that owns its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    is_ghost: bool,
    is_overflow: bool,
    stamp: Option<Stamp>,
    capacity_bytes: usize,
    value: Vec<u8>,
}

impl Owned {
    fn of(cell: &Cell<'_>) -> Self {
        Self {
            is_ghost: cell.is_ghost,
            is_overflow: cell.is_overflow,
            stamp: cell.stamp,
            capacity_bytes: cell.capacity_bytes,
            value: cell.value.to_vec(),
        }
    }

    fn cell(&self) -> Cell<'_> {
        Cell {
            is_ghost: self.is_ghost,
            is_overflow: self.is_overflow,
            stamp: self.stamp,
            capacity_bytes: self.capacity_bytes,
            value: &self.value,
        }
    }
}

fn put_op<'a>(key: &'a [u8], after: Cell<'a>) -> Op<'a> {
    let kind = if after.is_ghost { WriteKind::Delete } else { WriteKind::Replace };
    Op::Put { tree: TREE, key, kind, after, before: None }
}

/// Nodes of one level from left to right, and their replica.
struct Level {
    pages: Vec<PageBuf>,
    replica: Vec<PageBuf>,
    next_page: u64,
}

impl Level {
    fn new(first: PageBuf) -> Self {
        Self { pages: vec![first.clone()], replica: vec![first], next_page: 100 }
    }

    fn index_for(&self, key: &[u8]) -> usize {
        let is_for = |page: &PageBuf| NodeView::new(page.bytes()).contains_key_range(key);
        self.pages.iter().position(is_for).expect("the fences cover every key")
    }

    /// Applies to page and replica, which must not differ.
    fn apply(&mut self, index: usize, op: &Op<'_>) {
        for pages in [&mut self.pages, &mut self.replica] {
            let page = &mut pages[index];
            let id = PageView::new(page.bytes()).page_id();
            apply(page, id, op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        }
        assert!(self.pages[index] == self.replica[index], "redo differs after {op:?}");
        let found = check(self.pages[index].bytes());
        assert_eq!(found, Ok(()), "after {op:?}");
        optimistic::check_agrees(&self.pages[index]);
    }

    /// Splits a page as the tree does.
    fn split(&mut self, index: usize, incoming: &Incoming<'_>) {
        let page = self.pages[index].bytes();
        split::check_cuts(page, incoming);
        let plan = split_plan(page, incoming);
        let right_id = PageId::new(self.next_page);
        self.next_page += 1;
        let right = right_half(page, &plan, right_id);
        check(right.bytes()).unwrap();
        self.apply(index, &Op::SplitOff { separator: &plan.separator, right: right_id });
        for pages in [&mut self.pages, &mut self.replica] {
            let mut page = PageBuf::zeroed(PAGE);
            let (low, high) = image_of(right.bytes());
            apply(&mut page, right_id, &Op::Image { low, high }).unwrap();
            assert!(page == right, "an image gives the page back");
            pages.insert(index + 1, page);
        }
    }

    /// Merges a page with its right neighbour where that is allowed.
    fn merge(&mut self, index: usize) {
        let Some(right) = self.pages.get(index + 1).cloned() else { return };
        let left = self.pages[index].bytes();
        if !can_merge(left, right.bytes()) {
            return;
        }
        let expected = split::merged_bytes(left, right.bytes());
        let (low, high) = image_of(right.bytes());
        self.apply(index, &Op::Absorb { low, high });
        self.pages.remove(index + 1);
        self.replica.remove(index + 1);
        let used = NodeView::new(self.pages[index].bytes()).used_bytes_logical();
        assert_eq!(used, expected);
    }

    /// The chain of fences and siblings has no gap.
    fn check_chain(&self) {
        for pair in self.pages.windows(2) {
            let (left, right) = (NodeView::new(pair[0].bytes()), NodeView::new(pair[1].bytes()));
            assert_eq!(left.right_sibling(), right.page().page_id());
            let (high, low) = (left.high_fence().unwrap(), right.low_fence());
            assert_eq!(high.to_vec(), low.to_vec());
        }
        let last = NodeView::new(self.pages.last().unwrap().bytes());
        assert!(last.high_fence().is_none() && last.right_sibling().is_none());
    }
}

/// Leaves beside a map.
struct Leaves {
    level: Level,
    map: BTreeMap<Vec<u8>, Owned>,
}

impl Leaves {
    fn new() -> Self {
        let root = empty_leaf(PAGE, &NodeSpec::root(PageId::new(1), TREE, 0));
        Self { level: Level::new(root), map: BTreeMap::new() }
    }

    fn leaf(&self, index: usize) -> LeafView<'_> {
        LeafView::new(self.level.pages[index].bytes())
    }

    fn put(&mut self, key: &[u8], owned: &Owned) {
        let cell = owned.cell();
        loop {
            let index = self.level.index_for(key);
            let fits = self.leaf(index).fits_put(key, &cell);
            self.check_fit(index, key, &cell, fits);
            if fits {
                self.level.apply(index, &put_op(key, cell));
                self.map.insert(key.to_vec(), owned.clone());
                return;
            }
            let before = self.leaf(index).count();
            self.level.split(index, &Incoming::Cell { key, cell });
            let after = self.leaf(self.level.index_for(key)).count();
            assert!(after < before, "a split takes cells away from the incoming key's half");
        }
    }

    /// `fits_put` says what `apply` does, and a leaf of the same content without history agrees.
    fn check_fit(&self, index: usize, key: &[u8], cell: &Cell<'_>, fits: bool) {
        let page = &self.level.pages[index];
        let id = PageView::new(page.bytes()).page_id();
        let mut copy = page.clone();
        let applied = apply(&mut copy, id, &put_op(key, *cell));
        assert_eq!(applied.is_ok(), fits);
        if !fits {
            assert_eq!(applied, Err(ApplyError::Full));
            assert!(copy == *page, "an operation that fails changes nothing");
        }
        let leaf = LeafView::new(page.bytes());
        let mut fresh = empty_leaf(PAGE, &NodeSpec::of(leaf.node()));
        for slot in (0..leaf.count()).rev() {
            let key = leaf.key_at(slot).to_vec();
            apply(&mut fresh, id, &put_op(&key, leaf.cell_at(slot))).unwrap();
        }
        let fresh = LeafView::new(fresh.bytes());
        assert_eq!(fresh.free_bytes_logical(), leaf.free_bytes_logical());
        assert_eq!(fresh.fits_put(key, cell), fits);
    }

    /// Deletes a key and keeps room for the way back; says whether it was there.
    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(before) = self.map.get(key).cloned() else { return false };
        let ghost = Cell { is_ghost: true, ..Cell::inline(b"") };
        let capacity_bytes = kept_capacity_bytes(&before.cell(), &ghost);
        let owned = Owned { capacity_bytes, ..Owned::of(&ghost) };
        let index = self.level.index_for(key);
        let free = self.leaf(index).free_bytes_logical();
        self.level.apply(index, &put_op(key, owned.cell()));
        assert_eq!(self.leaf(index).free_bytes_logical(), free, "a delete needs no space");
        self.map.insert(key.to_vec(), owned);
        true
    }

    /// A deleted key goes back in place, whatever filled the leaf in between.
    fn restore(&mut self, key: &[u8], before: &Owned) {
        let index = self.level.index_for(key);
        assert!(self.leaf(index).fits_put(key, &before.cell()), "rollback fits in place");
        self.level.apply(index, &put_op(key, before.cell()));
        self.map.insert(key.to_vec(), before.clone());
    }

    fn check(&self) {
        self.level.check_chain();
        let mut expected = self.map.iter();
        for page in &self.level.pages {
            let leaf = LeafView::new(page.bytes());
            for slot in 0..leaf.count() {
                let (key, owned) = expected.next().expect("no more cells than keys");
                assert!(leaf.key_at(slot) == key[..]);
                assert_eq!(leaf.cell_at(slot), owned.cell());
                assert_eq!(leaf.find(key), Ok(slot));
                let mut beyond = key.clone();
                beyond.push(0);
                let next = leaf.find(&beyond);
                assert!(next == Err(slot + 1) || next == Ok(slot + 1));
                assert_eq!(leaf.get(key), Some(owned.cell()));
            }
        }
        assert!(expected.next().is_none(), "every key has its cell");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Owned),
    Replace(Index, Owned),
    Delete(Index),
    DeleteFillRestore(Index, Vec<(Vec<u8>, Owned)>),
    Settle(Index),
    Remove(Index),
    RemoveMany(Index, usize),
    Merge(Index),
}

/// Keys that share long prefixes, keys in a tight alphabet with zeros, and the longest ones.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(b'a'), Just(255)], 1..8),
        4 => (0_u32..5000).prop_map(|number| format!("user:{number:08}").into_bytes()),
        2 => (0_u8..40, 1_usize..200).prop_map(|(last, len)| {
            let mut key = vec![b'p'; len];
            key.push(last);
            key
        }),
        1 => (0_u8..30, 0_u8..4).prop_map(|(first, last)| {
            let mut key = vec![first];
            key.resize(MAX_KEY_BYTES - 1, b'x');
            key.push(last);
            key
        }),
    ]
}

fn any_cell() -> impl Strategy<Value = Owned> {
    let len = prop_oneof![3 => 0_usize..40, 1 => 0_usize..=64, 1 => 120_usize..140];
    let stamp = proptest::option::weighted(0.2, (1_u64..u64::MAX, any::<u64>()));
    let capacity = prop_oneof![3 => Just(0_usize), 1 => 0_usize..6, 1 => 120_usize..300];
    (len, any::<u8>(), stamp, capacity, any::<bool>()).prop_map(
        |(len, byte, stamp, capacity_bytes, is_overflow)| Owned {
            is_ghost: false,
            is_overflow,
            stamp: stamp.map(|(txn, lsn)| Stamp { txn: TxnId::new(txn), undo_lsn: Lsn::new(lsn) }),
            capacity_bytes,
            value: vec![byte; len],
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let fill = proptest::collection::vec((any_key(), any_cell()), 0..12);
    prop_oneof![
        12 => (any_key(), any_cell()).prop_map(|(key, cell)| Step::Put(key, cell)),
        4 => (any::<Index>(), any_cell()).prop_map(|(at, cell)| Step::Replace(at, cell)),
        2 => any::<Index>().prop_map(Step::Delete),
        1 => (any::<Index>(), fill).prop_map(|(at, fill)| Step::DeleteFillRestore(at, fill)),
        2 => any::<Index>().prop_map(Step::Settle),
        3 => any::<Index>().prop_map(Step::Remove),
        1 => (any::<Index>(), 1_usize..30).prop_map(|(at, count)| Step::RemoveMany(at, count)),
        3 => any::<Index>().prop_map(Step::Merge),
    ]
}

impl Leaves {
    fn pick(&self, at: &Index) -> Option<Vec<u8>> {
        (!self.map.is_empty())
            .then(|| self.map.keys().nth(at.index(self.map.len())).unwrap().clone())
    }

    fn remove(&mut self, key: &[u8]) {
        let index = self.level.index_for(key);
        self.level.apply(index, &Op::Remove { tree: TREE, key });
        self.map.remove(key);
    }

    fn run(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Put(key, cell) => self.put(key, cell),
            Step::Replace(at, cell) => self.put(&self.pick(at)?, cell),
            Step::Delete(at) => {
                self.delete(&self.pick(at)?);
            }
            Step::DeleteFillRestore(at, fill) => {
                let key = self.pick(at)?;
                let before = self.map[&key].clone();
                self.delete(&key);
                for (other, cell) in fill.iter().filter(|(other, _)| *other != key) {
                    self.put(other, cell);
                }
                self.restore(&key, &before);
            }
            Step::Settle(at) => {
                let key = self.pick(at)?;
                let index = self.level.index_for(&key);
                self.level.apply(index, &Op::Settle { tree: TREE, key: &key });
                let owned = self.map.get_mut(&key)?;
                (owned.stamp, owned.capacity_bytes) = (None, 0);
            }
            Step::Remove(at) => self.remove(&self.pick(at)?),
            Step::RemoveMany(at, count) => {
                let first = self.pick(at)?;
                let keys: Vec<_> =
                    self.map.range(first..).take(*count).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.remove(&key);
                }
            }
            Step::Merge(at) => self.level.merge(at.index(self.level.pages.len())),
        }
        Some(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn leaves_hold_what_a_map_holds(steps in proptest::collection::vec(any_step(), 1..300)) {
        let mut leaves = Leaves::new();
        for step in &steps {
            leaves.run(step);
        }
        leaves.check();
    }

    #[test]
    fn inner_nodes_hold_what_a_map_holds(
        steps in proptest::collection::vec((any_key(), any::<Index>(), 0_u8..10), 1..150),
    ) {
        let first = PageId::new(5000);
        let root = inner_with_child(PAGE, &NodeSpec::root(PageId::new(1), TREE, 1), first);
        let mut level = Level::new(root);
        let mut map = BTreeMap::from([(Vec::new(), first)]);
        for (number, (key, at, choice)) in (5001..).zip(&steps) {
            match choice {
                0..=6 => insert_child(&mut level, &mut map, key, PageId::new(number)),
                7..=8 => remove_child(&mut level, &mut map, at),
                _ => level.merge(at.index(level.pages.len())),
            }
        }
        check_inner(&level, &map);
    }
}

fn insert_child(
    level: &mut Level,
    map: &mut BTreeMap<Vec<u8>, PageId>,
    separator: &[u8],
    child: PageId,
) {
    let is_there = map.contains_key(separator);
    loop {
        let index = level.index_for(separator);
        let inner = InnerView::new(level.pages[index].bytes());
        let op = Op::InsertChild { separator, child };
        if is_there {
            let mut copy = level.pages[index].clone();
            let id = inner.page().page_id();
            assert_eq!(apply(&mut copy, id, &op), Err(ApplyError::DuplicateSeparator));
            return;
        }
        if inner.fits_insert_child(separator) {
            level.apply(index, &op);
            map.insert(separator.to_vec(), child);
            return;
        }
        assert!(!inner.fits_any_child());
        let mut copy = level.pages[index].clone();
        assert_eq!(apply(&mut copy, inner.page().page_id(), &op), Err(ApplyError::Full));
        assert!(inner.count() >= 2, "a node with one child has room for another");
        level.split(index, &Incoming::Child { separator });
    }
}

fn remove_child(level: &mut Level, map: &mut BTreeMap<Vec<u8>, PageId>, at: &Index) {
    let separator = map.keys().nth(at.index(map.len())).unwrap().clone();
    let index = level.index_for(&separator);
    let inner = InnerView::new(level.pages[index].bytes());
    let slot = inner.find_separator(&separator).unwrap();
    if slot == 0 {
        // It goes only when its node does, and then with its parent's cell.
        return;
    }
    level.apply(index, &Op::RemoveChild { separator: &separator });
    map.remove(&separator);
}

fn check_inner(level: &Level, map: &BTreeMap<Vec<u8>, PageId>) {
    level.check_chain();
    let mut expected = map.iter().peekable();
    for page in &level.pages {
        let inner = InnerView::new(page.bytes());
        for slot in 0..inner.count() {
            let (separator, page) = expected.next().unwrap();
            let child = inner.child_for(separator).unwrap();
            assert_eq!((child.slot, child.page), (slot, *page));
            assert!(child.low == separator[..]);
            let next = expected.peek().map(|(next, _)| (*next).clone());
            assert_eq!(child.high.map(Key::to_vec), next);
            let mut inside = separator.clone();
            inside.push(0);
            if next.is_none_or(|next| inside < next) {
                assert_eq!(inner.slot_for(&inside), slot);
            }
        }
    }
    assert!(expected.next().is_none());
}
