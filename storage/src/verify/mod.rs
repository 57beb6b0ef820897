//! Verification of an open database: every page, tree, value and record, while writers go on.
//!
//! 1. The log is held, its records from where recovery would begin are decoded, and those of undo
//!    files; the position where the verification begins is noted.
//! 2. Every tree whose row is in the catalogue is walked (`tree`), with the values of its keys
//!    (`value`); its keys are counted as a registered reader sees them, and compared with its size
//!    as of the same position. Each page met is noted as owned (`owners`), and so are bitmap pages
//!    and extents that commits have freed.
//! 3. Owners are compared with the bitmap pages (invariant P5): a page in use without owner is a leak,
//!    one with an owner and marked as free would be given out again.
//! 4. Every page in use is read from disk past the pool and verified (P4, `files`), and compared with
//!    its copy in memory if that is clean (P2).
//! 5. What steps 2 and 3 suspect stands for sure where nothing was logged meanwhile. Otherwise a page
//!    may have changed owners between the looks: suspicions about pages that the log since step 1
//!    names, or that a running transaction needs for its undo, are dropped (`moved`). What is left
//!    is damage, because whatever moves a page is in the log.
//!
//! What the walk finds in the path to a leaf stands at once: it was seen under the latches of the
//! whole path. Only where the tree was dropped and is being dismantled does it count as a suspicion.
//!
//! So with no writers the verification is exact. With writers it reports nothing false, and may miss
//! what is wrong with the ownership of a page that was changed while it ran.
//!
//! Writers are never stopped: at most the latches of one path and one sibling are held, without I/O.
//! The hold on the log is revoked before a writer would have to wait for it; the verification then
//! ends with an error if it needs that log. Old versions are kept while a tree is walked.

mod files;
mod findings;
mod moved;
mod owners;
mod scan;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod tree;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use seawall_wal::codec::to_u64;
use seawall_wal::control::{ControlState, Shutdown};
use seawall_wal::log::LogFiles;
use seawall_wal::record::Cell;
use seawall_wal::{Lsn, PageId, Result, TreeId};

use self::files::{Memory, check_pages, log_start, read_log};
use self::findings::Findings;
use self::moved::Window;
use self::owners::{Owned, pages_of};
use self::scan::{Progress, Reader, Scan};
use self::tree::{TreeWalk, is_damage, link_cells};
use crate::catalogue::row::{decode_name_value, name_of, trail_of, tree_of};
use crate::catalogue::{TrailRow, TreeInfo, TreeRow};
use crate::checkpoint::{Checkpointer, LogHold};
use crate::engine::Engine;
use crate::page::{
    BitmapView, InnerView, LeafView, PageBuf, PageKind, PageRead, PageView, pages_per_bitmap,
};
use crate::pool::dirty::OnDisk;
use crate::{VerifyProgress, VerifyReport};

/// Verifies the database; see the module. Calls `tell` with the progress, with nothing held.
///
/// # Errors
/// [`Error::Closed`](crate::Error::Closed); [`Error::NoSpace`](crate::Error::NoSpace) where writers
/// needed the log that the verification held. Damage is no error: it is in the report.
pub(crate) fn verify(
    engine: &Engine,
    checkpointer: &Checkpointer,
    tell: &mut dyn FnMut(&VerifyProgress),
) -> Result<VerifyReport> {
    let started = Instant::now();
    engine.check_open()?;
    let (hold, state) = checkpointer.hold_log();
    let start = engine.log.reserved_lsn();
    // What was reserved before has changed its pages, or holds their latches.
    engine.appenders.wait_for_appends();

    let bitmaps = read_bitmaps(engine)?;
    let in_use = bitmaps.iter().filter_map(|(_, copy)| copy.as_ref().ok());
    let in_use: usize = in_use.map(|copy| BitmapView::new(copy.bytes()).count()).sum();
    let mut scan = Scan {
        engine,
        owned: Owned::new(engine.file.pages()),
        findings: Findings::default(),
        suspects: Vec::new(),
        is_whole: true,
        records: 0,
        trees: 0,
        progress: Progress::new(2 * to_u64(in_use), tell),
    };
    scan.verify_log(&state, &hold)?;
    scan.verify_undo_files()?;
    scan.verify_trees(start)?;
    scan.own_the_rest();
    let pages = scan.compare_bitmaps()?;
    scan.verify_disk(&pages);
    scan.settle(&state, &hold, start)?;
    Ok(VerifyReport {
        pages: to_u64(pages.len()),
        records: scan.records,
        trees: scan.trees,
        findings: scan.findings.into_sentences(),
        elapsed: started.elapsed(),
    })
}

/// A copy of every bitmap page, or what is wrong with it.
fn read_bitmaps(engine: &Engine) -> Result<Vec<(PageId, Result<PageBuf, String>)>> {
    let copy = |page: PageId| match engine.pool.pin(page) {
        Ok(pin) => {
            let shared = pin.into_shared();
            let kind = PageView::new(shared.bytes()).kind();
            if kind == PageKind::Bitmap {
                return Ok((page, Ok(PageBuf::copy_of(shared.bytes()))));
            }
            let error =
                engine.corrupt_page(page, format!("bitmap page {page}"), format!("{kind:?}"));
            Ok((page, Err(error.to_string())))
        }
        Err(error) if is_damage(&error) => Ok((page, Err(format!("bitmap page {page}: {error}")))),
        Err(error) => Err(error),
    };
    engine.space.bitmaps().map(copy).collect()
}

/// Rows found in the catalogue.
#[derive(Default)]
struct Rows {
    trees: BTreeMap<TreeId, TreeRow>,
    names: BTreeMap<TreeId, String>,
}

impl Scan<'_> {
    fn verify_log(&mut self, state: &ControlState, hold: &LogHold<'_>) -> Result<()> {
        let engine = self.engine;
        let (disk, dir) = (engine.file.disk(), engine.wal_dir());
        // Of a database that is open for reading only, the engine's own log is not that of the files.
        let until = match state.shutdown {
            Shutdown::Clean { lsn } => lsn,
            _ => engine.log.durable_lsn(),
        };
        let from = log_start(state);
        let mut records = 0;
        let read = LogFiles::of(Arc::clone(disk), dir, state).and_then(|files| {
            if until <= from {
                return Ok(());
            }
            read_log(&files, state, from, until, |_, _| records += 1)
        });
        self.records += records;
        match read {
            Ok(()) => Ok(()),
            Err(error) if is_damage(&error) => {
                // Segments that were taken from under the reader look damaged.
                hold.check(dir)?;
                self.findings.add(format!("the log: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn verify_undo_files(&mut self) -> Result<()> {
        let spills = &self.engine.spills;
        for file in spills.all() {
            match spills.check(&file, |_| Ok(())) {
                Ok(records) => self.records += records,
                Err(_) if !spills.has(&file) => {}
                Err(error) if is_damage(&error) => self.findings.add(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Step 2.
    fn verify_trees(&mut self, start: Lsn) -> Result<()> {
        let catalogue = Arc::clone(&self.engine.catalogue);
        let mut rows = Rows::default();
        self.verify_tree(&catalogue, Some(&mut rows))?;
        let engine = self.engine;
        for (&id, row) in &rows.trees {
            match engine.trees.get(id).filter(|tree| tree.dropped_lsn().is_none()) {
                Some(tree) => self.verify_tree(&tree, None)?,
                None => self.verify_remains(id, row.root)?,
            }
        }
        // A creation that is under way has written the name and not yet the row.
        let is_quiet = engine.log.reserved_lsn() == start && engine.active_txns().is_empty();
        if is_quiet && self.is_whole {
            for (id, name) in rows.names.iter().filter(|(id, _)| !rows.trees.contains_key(id)) {
                let root = engine.catalogue.root;
                let expected = format!("a row of tree {id}, named {name}, in the catalogue");
                self.findings.add(engine.corrupt_page(root, expected, "none").to_string());
            }
        }
        Ok(())
    }

    fn verify_tree(&mut self, tree: &Arc<TreeInfo>, mut rows: Option<&mut Rows>) -> Result<()> {
        let reader = Reader::new(self.engine);
        self.trees += 1;
        let mut walk = TreeWalk::new(self, tree, reader.at());
        walk.run(|walk, leaf, from| {
            if let Some(rows) = &mut rows {
                let findings = collect_rows(walk.scan.engine, leaf, rows);
                walk.findings.extend(findings.into_iter().map(|text| (Vec::new(), text)));
            }
            for cell in link_cells(leaf, from) {
                match value::own_value(walk.scan, tree, &cell) {
                    Ok(link) => {
                        let finding = value::check_value(walk.scan, tree, &cell, &link)?;
                        walk.findings.extend(finding);
                    }
                    Err(finding) => {
                        walk.is_whole = false;
                        walk.findings.push((vec![cell.leaf], finding));
                    }
                }
            }
            Ok(())
        })?;
        let TreeWalk { findings, live, is_whole, .. } = walk;
        // Had the versions that it needs been collected, what it found would say nothing.
        reader.at().check()?;
        self.is_whole &= is_whole;
        let size = tree.size.at(reader.read_lsn);
        // Rows of dropped trees go without being counted.
        if is_whole && tree.id != TreeId::CATALOGUE && size != live {
            let expected = format!("{size} keys in tree {}", tree.id);
            let error = self.engine.corrupt_page(tree.root, expected, live.to_string());
            self.findings.add(error.to_string());
        }
        let is_gone = tree.dropped_lsn().is_some();
        for (pages, finding) in findings {
            if is_gone {
                self.suspect(pages, finding);
            } else {
                self.findings.add(finding);
            }
        }
        Ok(())
    }

    /// Notes what is left of a tree that is being dismantled, or whose creation is just beginning.
    fn verify_remains(&mut self, id: TreeId, root: PageId) -> Result<()> {
        self.trees += 1;
        let tree = TreeInfo::new(id, root, 0);
        let mut pages = vec![root];
        while let Some(page) = pages.pop() {
            let copy = match self.engine.pool.pin(page) {
                Ok(pin) => PageBuf::copy_of(pin.shared().bytes()),
                Err(error) if is_damage(&error) => {
                    self.suspect(vec![page], format!("page {page} of tree {id}: {error}"));
                    self.is_whole = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let view = PageView::new(copy.bytes());
            let is_node = matches!(view.kind(), PageKind::Leaf | PageKind::Inner);
            if !is_node || view.tree() != id {
                let found = format!("{:?} of tree {}", view.kind(), view.tree());
                let error =
                    self.engine.corrupt_page(page, format!("page {page} of tree {id}"), found);
                self.suspect(vec![page], error.to_string());
                self.is_whole = false;
                continue;
            }
            let is_known = self.owned.contains(page);
            self.own(page, || format!("tree {id}"));
            self.progress.advance(1);
            if is_known {
                continue;
            }
            if view.kind() == PageKind::Inner {
                let inner = InnerView::new(copy.bytes());
                pages.extend((0..inner.count()).map(|slot| inner.child_page(slot)));
                continue;
            }
            for cell in link_cells(LeafView::new(copy.bytes()), &[]) {
                if let Err(finding) = value::own_value(self, &tree, &cell) {
                    self.suspect(vec![page], finding);
                    self.is_whole = false;
                }
            }
        }
        Ok(())
    }

    /// Owners outside of trees: bitmap pages, and commits whose freed extents are still needed.
    fn own_the_rest(&mut self) {
        let engine = self.engine;
        for bitmap in engine.space.bitmaps() {
            self.own(bitmap, || "the bitmap pages".into());
        }
        for free in engine.space.pending().committed() {
            let who = || format!("the extents freed by the commit at {}", free.commit_lsn);
            match pages_of(&free.extent, engine.file.pages()) {
                Some(pages) => pages.for_each(|page| self.own(page, who)),
                None => {
                    let (first, count) = (free.extent.first, free.extent.count);
                    let finding = format!(
                        "{}: {count} pages from page {first}, which is beyond the end of the file",
                        who()
                    );
                    self.findings.add(finding);
                }
            }
        }
    }

    /// Step 3. Returns the pages in use: those of damaged bitmap pages by their owners.
    fn compare_bitmaps(&mut self) -> Result<Vec<PageId>> {
        let mut in_use = Vec::new();
        for (bitmap, copy) in read_bitmaps(self.engine)? {
            let copy = match copy {
                Ok(copy) => copy,
                Err(finding) => {
                    self.findings.add(finding);
                    let covered = to_u64(pages_per_bitmap(self.engine.page_bytes));
                    let ids = (bitmap.get()..bitmap.get() + covered).map(PageId::new);
                    in_use.extend(ids.filter(|&page| self.owned.contains(page)));
                    continue;
                }
            };
            let pages = self.engine.file.pages();
            let view = BitmapView::new(copy.bytes());
            for index in 0..view.len() {
                let page = view.page_at(index);
                match (view.is_allocated(index), self.owned.contains(page)) {
                    (true, _) if page.get() >= pages => {
                        let end = pages * to_u64(self.engine.page_bytes);
                        let path = self.engine.file.path();
                        let expected =
                            format!("page {page}, which bitmap page {bitmap} says is in use");
                        let error =
                            crate::Error::corrupt(path, end, expected, "the end of the file");
                        self.findings.add(error.to_string());
                    }
                    (true, is_owned) => {
                        in_use.push(page);
                        if !is_owned && self.is_whole {
                            let finding = format!(
                                "page {page} is leaked: bitmap page {bitmap} says it is in use, and nothing refers to it"
                            );
                            self.suspect(vec![page], finding);
                        }
                    }
                    (false, true) => {
                        let finding = format!(
                            "page {page} is in use, and bitmap page {bitmap} says it is free"
                        );
                        self.suspect(vec![page], finding);
                    }
                    (false, false) => {}
                }
            }
        }
        Ok(in_use)
    }

    /// Step 4.
    fn verify_disk(&mut self, pages: &[PageId]) {
        let engine = self.engine;
        let (findings, progress) = (&mut self.findings, &mut self.progress);
        let found = |finding| findings.add(finding);
        let memory = Memory {
            on_disk: &|page| engine.dirty.on_disk(page),
            clean_lsn: &|page| clean_lsn(engine, page),
        };
        check_pages(&engine.file, pages, memory, found, |done| progress.advance(done));
    }

    /// Step 5.
    fn settle(&mut self, state: &ControlState, hold: &LogHold<'_>, start: Lsn) -> Result<()> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        let engine = self.engine;
        // In this order: a transaction that ends in between is in the log before `end`.
        let active = engine.active_txns();
        let end = engine.log.reserved_lsn();
        let suspects = std::mem::take(&mut self.suspects);
        let mut moved = std::collections::HashSet::new();
        if end != start || !active.is_empty() {
            engine.log.wait_durable(end)?;
            let wanted: BTreeSet<_> =
                suspects.iter().flat_map(|suspect| suspect.pages.iter().copied()).collect();
            let dir = engine.wal_dir();
            let log = LogFiles::of(Arc::clone(engine.file.disk()), dir, state);
            let found = log.and_then(|files| {
                let window = Window {
                    files: &files,
                    state,
                    start,
                    end,
                    active: &active,
                    spills: &engine.spills,
                };
                window.moved(&wanted)
            });
            hold.check(dir)?;
            match found {
                Ok(found) => moved = found,
                // What cannot be excluded is not claimed; the damage of the log is.
                Err(error) if is_damage(&error) => {
                    self.findings.add(format!("the log: {error}"));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        for suspect in suspects {
            if !suspect.pages.iter().any(|page| moved.contains(page)) {
                self.findings.add(suspect.finding);
            }
        }
        Ok(())
    }
}

/// The `page_lsn` of a page that is in memory, and clean.
fn clean_lsn(engine: &Engine, page: PageId) -> Option<Lsn> {
    let pin = engine.pool.pin_resident(page)?;
    let shared = pin.shared();
    // The latch keeps the page from being changed. A frame emptied for a page that is about to be
    // created anew has no id.
    let is_clean = engine.dirty.on_disk(page) == OnDisk::Current;
    let view = PageView::new(shared.bytes());
    (is_clean && view.page_id() == page).then(|| view.page_lsn())
}

/// Takes in the rows of a leaf of the catalogue; returns what is wrong with them.
fn collect_rows(engine: &Engine, leaf: LeafView<'_>, rows: &mut Rows) -> Vec<String> {
    let mut findings = Vec::new();
    for slot in 0..leaf.count() {
        let (key, cell): (Vec<u8>, Cell<'_>) = (leaf.key_at(slot).to_vec(), leaf.cell_at(slot));
        if cell.is_ghost {
            continue;
        }
        let taken = match tree_of(&key) {
            Some(id) => TreeRow::decode(cell.value).map(|row| {
                rows.trees.insert(id, row);
            }),
            None if trail_of(&key).is_some() => TrailRow::decode(cell.value).map(drop),
            None => decode_name_value(cell.value).and_then(|id| {
                rows.names.insert(id, name_of(&key)?.to_owned());
                Ok(())
            }),
        };
        if let Err(error) = taken {
            let page = leaf.page().page_id();
            let expected =
                format!("{} in the catalogue's row \"{}\"", error.expected, key.escape_ascii());
            findings.push(engine.corrupt_page(page, expected, error.found).to_string());
        }
    }
    findings
}
