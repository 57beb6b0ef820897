use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;
use seawall_wal::record::{Cell, Extent, Op};
use seawall_wal::{PageId, TreeId};

use crate::catalogue::row::{encode_name_value, name_key};
use crate::engine::{Decision, Unit};
use crate::page::{
    InnerView, LeafView, NodeView, PageBuf, PageKind, PageRead, PageView, PageWrite, apply, seal,
};
use crate::{Database, Durability, Isolation, Options, Tree};

const PAGE_BYTES: usize = 4096;
const PAGES: &str = "/db/pages";

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(512 << 10)
        .max_wal_bytes(8 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(4096)
}

fn open(disk: &SimDisk) -> Database {
    options(disk).open("/db").unwrap()
}

fn findings(database: &Database) -> Vec<String> {
    let (mut done, mut total) = (0, 0);
    let report = database.verify(|progress| (done, total) = (progress.done, progress.total));
    let report = report.unwrap();
    assert!(done > 0 && done <= total, "{done} of {total}");
    assert!(report.pages > 1 && report.trees > 0 && report.records > 0, "{report:?}");
    report.findings
}

#[track_caller]
fn assert_clean(database: &Database) {
    assert_eq!(findings(database), [""; 0]);
}

/// Asserts that something is found, and that one of the sentences has all of these words.
#[track_caller]
fn assert_found(database: &Database, words: &[&str]) {
    let findings = findings(database);
    let names = |finding: &String| words.iter().all(|word| finding.contains(word));
    assert!(findings.iter().any(names), "none of {findings:#?} has {words:?}");
}

fn key(i: u32) -> [u8; 4] {
    i.wrapping_mul(0x9e37_79b9).to_be_bytes()
}

fn fill(tree: &Tree, count: u32) {
    for i in 0..count {
        tree.insert_with(key(i), vec![b'v'; 60], crate::Durability::Relaxed).unwrap();
    }
}

fn collect(database: &Database) {
    while database.shared_core().collect_step().unwrap() {}
}

/// A database with pages of every kind, shut down.
fn shut_down_with_every_kind(disk: &SimDisk) {
    let database = open(disk);
    let tree = database.tree("t").unwrap();
    fill(&tree, 2000);
    tree.insert("large", vec![7; 50_000]).unwrap();
    tree.insert("larger", vec![8; 90_000]).unwrap();
    assert_clean(&database);
    drop(tree);
    database.close().unwrap();
}

/// The page file of a database that nobody has open.
struct OnDisk<'d> {
    disk: &'d SimDisk,
    seed: u32,
    bytes: Vec<u8>,
}

impl<'d> OnDisk<'d> {
    fn of(disk: &'d SimDisk) -> Self {
        let database = open(disk);
        let seed = database.shared_core().engine.file.format().seed;
        database.close().unwrap();
        Self { disk, seed, bytes: disk.read_file(Path::new(PAGES)).unwrap() }
    }

    fn page(&self, page: PageId) -> &[u8] {
        &self.bytes[to_usize(page.get()) * PAGE_BYTES..][..PAGE_BYTES]
    }

    fn pages_of(&self, kind: PageKind, tree: TreeId) -> Vec<PageId> {
        let ids = (0..to_u64(self.bytes.len() / PAGE_BYTES)).map(PageId::new);
        let is_wanted = |&page: &PageId| {
            let view = PageView::new(self.page(page));
            view.kind() == kind && view.tree() == tree
        };
        ids.filter(is_wanted).collect()
    }

    /// Changes a page, seals it, and puts it back.
    fn change(&mut self, page: PageId, change: impl FnOnce(&mut PageBuf)) {
        let mut copy = PageBuf::copy_of(self.page(page));
        change(&mut copy);
        seal(self.seed, page, copy.bytes_mut());
        self.put(page, copy.bytes());
    }

    fn put(&mut self, page: PageId, bytes: &[u8]) {
        self.bytes[to_usize(page.get()) * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(bytes);
        self.disk.write_file(Path::new(PAGES), &self.bytes);
    }
}

/// The first tree that a user makes.
const TREE: TreeId = TreeId::new(1);

fn named(page: PageId) -> String {
    format!("page {page}")
}

#[test]
fn a_new_database_verifies_clean() {
    assert_clean(&open(&SimDisk::new()));
}

#[test]
fn trees_that_grew_shrank_and_were_dropped_verify_clean() {
    let disk = SimDisk::new();
    let database = open(&disk);
    for name in ["a", "b", "c"] {
        fill(&database.tree(name).unwrap(), 3000);
    }
    assert_clean(&database);
    let tree = database.tree("a").unwrap();
    for i in 0..2900 {
        tree.remove_with(key(i), crate::Durability::Relaxed).unwrap();
    }
    assert_clean(&database);
    collect(&database);
    assert_clean(&database);
    database.drop_tree("b").unwrap();
    assert_clean(&database);
    for _ in 0..20 {
        database.shared_core().collect_step().unwrap();
    }
    assert_clean(&database);
    collect(&database);
    assert_clean(&database);
    database.checkpoint().unwrap();
    assert_clean(&database);
    for plan in [CrashPlan::NothingUnsynced, CrashPlan::Everything] {
        assert_clean(&open(&disk.crash(plan)));
    }
}

#[test]
fn long_keys_and_a_tall_tree_verify_clean() {
    let database = open(&SimDisk::new());
    let tree = database.tree("t").unwrap();
    for i in 0..1500_u32 {
        let long = [&[b'k'; 700][..], &key(i)[..]].concat();
        tree.insert_with(&long, i.to_string(), crate::Durability::Relaxed).unwrap();
    }
    assert_clean(&database);
}

#[test]
fn values_in_every_stage_of_their_life_verify_clean() {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t").unwrap();
    let value = |i: u8| vec![i; 20_000 + 1000 * usize::from(i)];
    for i in 0..10 {
        tree.insert([i], value(i)).unwrap();
    }
    assert_clean(&database);
    // Replaced and removed, with extents that a snapshot still needs.
    let snapshot = database.snapshot().unwrap();
    tree.insert([0], value(11)).unwrap();
    tree.remove([1]).unwrap();
    collect(&database);
    assert_clean(&database);
    drop(snapshot);
    collect(&database);
    assert_clean(&database);
    // Replaced by a transaction that is open, and by one that is undone.
    let mut open_one = database.begin().unwrap();
    open_one.insert(&tree, [2], value(12)).unwrap();
    open_one.insert(&tree, [2], value(13)).unwrap();
    open_one.remove(&tree, [3]).unwrap();
    assert_clean(&database);
    assert_clean(&open(&disk.crash(CrashPlan::Everything)));
    open_one.rollback().unwrap();
    assert_clean(&database);
    assert_eq!(tree.get([2]).unwrap().unwrap(), value(2));
    // Dropped with the tree.
    database.drop_tree("t").unwrap();
    database.shared_core().collect_step().unwrap();
    assert_clean(&database);
    collect(&database);
    assert_clean(&database);
}

#[test]
fn catalogue_changes_of_open_transactions_verify_clean() {
    let database = open(&SimDisk::new());
    fill(&database.tree("kept").unwrap(), 500);
    let mut transaction = database.begin().unwrap();
    let created = transaction.tree("created").unwrap();
    for i in 0..500 {
        transaction.insert(&created, key(i), vec![1; 50]).unwrap();
    }
    transaction.drop_tree("kept").unwrap();
    assert_clean(&database);
    transaction.rollback().unwrap();
    assert_clean(&database);
    collect(&database);
    assert_clean(&database);
}

#[test]
fn a_flipped_bit_is_found_in_every_kind_of_page_though_it_is_resident() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let on_disk = OnDisk::of(&disk);
    let kinds = [
        (PageKind::Bitmap, TreeId::CATALOGUE),
        (PageKind::Leaf, TreeId::CATALOGUE),
        (PageKind::Inner, TREE),
        (PageKind::Leaf, TREE),
        (PageKind::Overflow, TREE),
    ];
    for (kind, tree) in kinds {
        let page = *on_disk.pages_of(kind, tree).last().unwrap();
        let disk = disk.fork();
        let database = open(&disk);
        assert_clean(&database);
        disk.flip_bit(Path::new(PAGES), page.get() * to_u64(PAGE_BYTES) + 1000, 3);
        assert_found(&database, &[&named(page), PAGES, "checksum"]);
    }
}

#[test]
fn a_flipped_bit_is_found_where_the_page_is_not_resident() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let on_disk = OnDisk::of(&disk);
    for kind in [PageKind::Leaf, PageKind::Overflow] {
        let page = on_disk.pages_of(kind, TREE)[3];
        let disk = disk.fork();
        disk.flip_bit(Path::new(PAGES), page.get() * to_u64(PAGE_BYTES) + 500, 0);
        assert_found(&open(&disk), &[&named(page), PAGES, "checksum"]);
    }
}

#[test]
fn a_lost_write_of_a_clean_page_is_found() {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t").unwrap();
    fill(&tree, 10);
    database.checkpoint().unwrap();
    let old = disk.read_file(Path::new(PAGES)).unwrap();
    tree.insert("one", "more").unwrap();
    database.checkpoint().unwrap();
    assert_clean(&database);
    let new = disk.read_file(Path::new(PAGES)).unwrap();
    // Put the old bytes back, bit by bit, under the open file.
    for (offset, (old, new)) in old.iter().zip(&new).enumerate() {
        let bits = (0..8).filter(|bit| (old ^ new) >> bit & 1 == 1);
        bits.for_each(|bit| disk.flip_bit(Path::new(PAGES), to_u64(offset), bit));
    }
    assert_found(&database, &["page 2", "a write was lost"]);
}

#[test]
fn a_misdirected_page_is_found() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let leaves = on_disk.pages_of(PageKind::Leaf, TREE);
    let other = on_disk.page(leaves[5]).to_vec();
    on_disk.put(leaves[2], &other);
    assert_found(&open(&disk), &[&named(leaves[2]), &format!("a valid {}", named(leaves[5]))]);
}

#[test]
fn a_leaked_page_is_found() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let leaked = Extent { first: PageId::new(200), count: 1 };
    assert!(PageView::new(on_disk.page(leaked.first)).kind() == PageKind::Free);
    let written = on_disk.page(on_disk.pages_of(PageKind::Leaf, TREE)[0]).to_vec();
    on_disk.put(leaked.first, &written);
    on_disk.change(leaked.first, |page| page.write(16, &leaked.first.get().to_le_bytes()));
    let bitmap = PageId::new(0);
    on_disk.change(bitmap, |page| apply(page, bitmap, &Op::Allocate(leaked)).unwrap());
    let database = open(&disk);
    assert_eq!(findings(&database).len(), 1);
    assert_found(&database, &["page 200 is leaked", "bitmap page 0"]);
}

#[test]
fn a_page_in_use_that_is_marked_as_free_is_found() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let leaf = on_disk.pages_of(PageKind::Leaf, TREE)[4];
    let bitmap = PageId::new(0);
    let freed = Extent { first: leaf, count: 1 };
    on_disk.change(bitmap, |page| apply(page, bitmap, &Op::Release(freed)).unwrap());
    let database = open(&disk);
    assert_eq!(findings(&database).len(), 1);
    assert_found(&database, &[&named(leaf), "says it is free"]);
}

#[test]
fn a_wrong_child_is_found_though_every_checksum_is_right() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let root = on_disk.pages_of(PageKind::Inner, TREE)[0];
    let inner = InnerView::new(on_disk.page(root));
    let (second, third) = (inner.child_page(1), inner.child_page(2));
    let separator = inner.separator(1).to_vec();
    on_disk.change(root, |page| {
        apply(page, root, &Op::RemoveChild { separator: &separator }).unwrap();
        apply(page, root, &Op::InsertChild { separator: &separator, child: third }).unwrap();
    });
    let child = format!("child {third} of page {root}");
    assert_found(&open(&disk), &[&child, "expected keys from"]);
    // A child that is the root itself must not stop the walk.
    on_disk.change(root, |page| {
        apply(page, root, &Op::RemoveChild { separator: &separator }).unwrap();
        apply(page, root, &Op::InsertChild { separator: &separator, child: second }).unwrap();
    });
    assert_clean(&open(&disk));
}

#[test]
fn a_wrong_sibling_is_found() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let leaves = on_disk.pages_of(PageKind::Leaf, TREE);
    let first =
        leaves.iter().find(|&&leaf| NodeView::new(on_disk.page(leaf)).low_fence().is_empty());
    let first = *first.unwrap();
    let right = NodeView::new(on_disk.page(first)).right_sibling();
    let beyond = NodeView::new(on_disk.page(right)).right_sibling();
    on_disk.change(first, |page| page.write(32, &beyond.get().to_le_bytes()));
    let found = format!("found page {beyond} of tree 1");
    assert_found(&open(&disk), &["sibling", &format!("behind page {first}"), &found]);
}

#[test]
fn a_lost_key_is_found() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let leaf = on_disk.pages_of(PageKind::Leaf, TREE)[1];
    let lost = LeafView::new(on_disk.page(leaf)).key_at(0).to_vec();
    let op = Op::Remove { tree: TREE, key: &lost };
    on_disk.change(leaf, |page| apply(page, leaf, &op).unwrap());
    assert_found(&open(&disk), &["expected 2002 keys in tree 1", "found 2001"]);
}

#[test]
fn the_pages_of_another_value_are_found() {
    let disk = SimDisk::new();
    shut_down_with_every_kind(&disk);
    let mut on_disk = OnDisk::of(&disk);
    let overflow = on_disk.pages_of(PageKind::Overflow, TREE);
    let is_first = |page: &&PageId| {
        !crate::page::OverflowView::new(on_disk.page(**page)).owner_key().is_empty()
    };
    let firsts: Vec<_> = overflow.iter().filter(is_first).copied().collect();
    let [one, other] = firsts[..] else { panic!("{firsts:?}") };
    let other = on_disk.page(other).to_vec();
    on_disk.put(one, &other);
    on_disk.change(one, |page| page.write(16, &one.get().to_le_bytes()));
    assert_found(&open(&disk), &[&named(one), "the value of key \"large\""]);
}

#[test]
fn a_damaged_record_of_the_log_is_found() {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t").unwrap();
    fill(&tree, 100);
    database.sync().unwrap();
    assert_clean(&database);
    let segment = Path::new("/db/wal").join(format!("{:020}.wal", 1));
    let segment = disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .unwrap_or(segment);
    // The last byte that is not zero lies in the last frame.
    let bytes = disk.read_file(&segment).unwrap();
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    disk.flip_bit(&segment, to_u64(last) - 300, 1);
    assert_found(&database, &["the log", "wal"]);
}

#[test]
fn a_small_pool_is_enough() {
    let disk = SimDisk::new();
    let database = options(&disk).cache_bytes(64 << 10).open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    fill(&tree, 5000);
    tree.insert("large", vec![7; 300_000]).unwrap();
    assert_clean(&database);
}

#[test]
fn a_verification_whose_versions_were_collected_finds_nothing_false_but_is_ended() {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    (0..500).for_each(|i| tree.insert(key(i), [b'v'; 100]).unwrap());
    let core = database.shared_core();
    let (mut is_revoked, mut next) = (false, 0);
    let outcome = database.verify(|_| {
        // Whoever stands at the newest commit holds nothing, and is left alone.
        assert!(tree.remove(key(next)).unwrap());
        next += 1;
        if !is_revoked && core.engine.snapshots.revoke_oldest(core.engine.log.visible_lsn()) {
            is_revoked = true;
            (250..500).for_each(|i| assert!(tree.remove(key(i)).unwrap()));
            while crate::testing::collect_step(&database).unwrap() {}
        }
    });
    assert!(is_revoked);
    assert!(matches!(outcome, Err(crate::Error::SnapshotTooOld)), "{outcome:?}");
    assert_clean(&database);
}

#[test]
fn a_tree_whose_creation_is_between_name_and_row_is_no_damage() {
    let database = open(&SimDisk::new());
    let engine = &database.shared_core().engine;
    let mut unit = Unit::new(Isolation::Snapshot);
    let (name, id) = (name_key("half"), encode_name_value(TreeId::new(77)));
    let put = |_: Option<Cell<'_>>| Decision::Put(&id[..]);
    engine.unit_write(&mut unit, &engine.catalogue, &name, 64, put).unwrap();
    assert_clean(&database);
    engine.commit_unit(unit, Durability::Relaxed).unwrap();
    assert_found(&database, &["a row of tree 77", "half"]);
}

#[test]
fn nothing_false_is_found_while_writers_are_at_work() {
    let disk = SimDisk::new();
    let database = options(&disk)
        .manual_background(false)
        .cache_bytes(4 << 20)
        .max_wal_bytes(64 << 20)
        .open("/db")
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3_u32 {
            let (database, stop) = (&database, &stop);
            scope.spawn(move || {
                let tree = database.tree("shared").unwrap();
                for round in 0_u32.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    churn(database, &tree, writer, round);
                }
            });
        }
        let mut verified = 0;
        for _ in 0..12 {
            match database.verify(|_| {}) {
                Ok(report) => {
                    if !report.findings.is_empty() {
                        stop.store(true, Ordering::SeqCst);
                    }
                    assert_eq!(report.findings, [""; 0]);
                    verified += 1;
                }
                Err(crate::Error::NoSpace { .. } | crate::Error::SnapshotTooOld) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert!(verified > 0);
    });
    assert_clean(&database);
}

/// Grows, shrinks, replaces large values, rolls back, makes and drops trees.
fn churn(database: &Database, tree: &Tree, writer: u32, round: u32) {
    let relaxed = crate::Durability::Relaxed;
    let own = |i: u32| [&writer.to_be_bytes()[..], &key(i)[..]].concat();
    for i in 0..300 {
        tree.insert_with(own(i), vec![b'x'; 100], relaxed).unwrap();
    }
    tree.insert_with(own(7), vec![9; 9_000], relaxed).unwrap();
    let undo = || -> crate::Result<()> {
        let mut undone = database.begin()?;
        undone.insert(tree, own(7), vec![3; 15_000])?;
        undone.remove(tree, own(8))?;
        undone.rollback()
    };
    match undo() {
        // The others outran it, and versions have little memory here.
        Ok(()) | Err(crate::Error::SnapshotTooOld) => {}
        Err(error) => panic!("{error}"),
    }
    let name = format!("{writer} {}", round % 2);
    let own_tree = database.tree(&name).unwrap();
    for i in 0..100 {
        own_tree.insert_with(key(i), vec![b'y'; 200], relaxed).unwrap();
    }
    own_tree.insert_with("large", vec![4; 10_000], relaxed).unwrap();
    drop(own_tree);
    if round % 2 == 1 {
        database.drop_tree(&name).unwrap();
    }
    for i in 0..300 {
        tree.remove_with(own(i), relaxed).unwrap();
    }
}

#[test]
fn after_a_crash_at_any_operation_every_page_has_one_owner() {
    let disk = SimDisk::new();
    let database = open(&disk);
    disk.record_forks_where(|number| number % 7 == 0);
    let tree = database.tree("t").unwrap();
    for round in 0..6_u32 {
        for i in 0..60 {
            tree.insert(key(round * 60 + i), vec![b'v'; 150]).unwrap();
        }
        tree.insert("large", vec![9; 9_000 + 1000 * to_usize(u64::from(round))]).unwrap();
        let mut undone = database.begin().unwrap();
        undone.insert(&tree, "large", vec![3; 15_000]).unwrap();
        undone.tree(&format!("undone {round}")).unwrap();
        undone.rollback().unwrap();
        let other = database.tree(&format!("other {round}")).unwrap();
        other.insert("large", vec![4; 10_000]).unwrap();
        fill(&other, 100);
        for i in 0..50 {
            tree.remove(key(round * 60 + i)).unwrap();
        }
        database.drop_tree(&format!("other {round}")).unwrap();
        collect(&database);
        if round % 2 == 1 {
            database.checkpoint().unwrap();
        }
    }
    let forks = disk.take_forks();
    assert!(forks.len() > 100, "{} operations", 7 * forks.len());
    for fork in forks {
        for (plan, crashed) in fork.disk().crash_states(0..1) {
            let recovered = open(&crashed);
            for _ in 0..2 {
                let found = recovered.verify(|_| {}).unwrap().findings;
                assert_eq!(found, [""; 0], "{plan:?} at {}: {}", fork.operation(), fork.describe());
                // What was dropped, or undone, is dismantled now.
                collect(&recovered);
            }
        }
    }
}
