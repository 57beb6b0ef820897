//! Saving what can still be read of a damaged database into a new one. The damaged one is only read.
//!
//! Opening a database refuses damage, since whoever goes on with it would build on it. Salvage answers
//! another question: which records are still there? It does without whatever can be lost: inner nodes,
//! the order of the log, a checkpoint, `control` itself. In this order:
//!
//! 1. `identity`: which database it is, by `control`, or by the checksums of its pages.
//! 2. `log`: every frame of the log that is whole, however many are missing between them. Pages go on
//!    with it as in redo; what a lost page cannot take is kept by itself.
//! 3. `undo`: what transactions that had not committed found is put in the place of what they left.
//! 4. `leaves`: all leaves of a tree by their fences, the newest first, instead of the way from the root.
//! 5. The catalogue, a tree like others, names them; then records are written, one tree after another.
//!    A large value is saved whole or not at all.
//!
//! What must hold: without damage, what is saved is what opening would find (R3), and nothing is told as
//! lost. With damage, every record of an undamaged leaf is saved as of the newest position known; whatever
//! may be missing, or older than it was, is told. No change of the damaged directory, no panic.
//!
//! Memory: about what the cache of the crashed process had changed, and a directory of all leaves.

mod identity;
mod leaves;
mod log;
mod pages;
mod report;
mod undo;

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::control::{ControlState, MasterRecord, Shutdown};
use seawall_wal::disk::{Access, DirectoryLock, Disk, OpenMode};
use seawall_wal::log::{LogFiles, Survivors};
use seawall_wal::record::{Cell, record_bytes_max};
use seawall_wal::{Error, Lsn, Result, TreeId};

use self::identity::Source;
use self::leaves::{Leaf, Place, Slice, slices};
use self::log::{Checkpoint, Loose, Replayed, TreeKey};
use self::pages::Pages;
use self::report::Sentences;
pub use self::report::{SalvageReport, SalvagedTree};
use self::undo::Before;
use crate::catalogue::row::{decode_name_value, name_of, trail_of, tree_of};
use crate::catalogue::{TreeRow, TreeState};
use crate::engine::OverflowLink;
use crate::lock::take_lock;
use crate::names::{DOUBLEWRITE_NAME, PAGES_NAME, WAL_NAME};
use crate::page::{LeafView, OverflowView, PageKind, PageRead};
use crate::pagefile::{PageFile, PageFormat};
use crate::version::CellBuf;
use crate::writeback::doublewrite::{DoublewriteFile, Slot};
use crate::writeback::restore::find_log_end;
use crate::{Durability, Options, Tree};

/// Saves what can be read of the database in `dir` into a new one in `target`, which is made as `options`
/// say, with pages as long as the old ones. `dir` is on the disk of `options` as well.
///
/// # Errors
/// [`Error::Locked`] where somebody has it open; [`Error::UnsupportedFormat`] where a newer program has
/// written it; [`Error::NotFound`] where nothing of a database is there; [`Error::InvalidArgument`] where
/// `target` holds anything, or lies in `dir`; those of writing the new database, which is incomplete then.
pub fn salvage(options: &Options, dir: &Path, target: &Path) -> Result<SalvageReport> {
    let started = Instant::now();
    let disk = options.select_disk(dir)?;
    refuse_target(&*disk, dir, target)?;
    let _lock = lock(&*disk, dir)?;
    let mut damage = Sentences::default();
    let Some(source) = identity::identify(&*disk, dir, &mut damage)? else {
        return Err(Error::NotFound { what: format!("a database in {}", dir.display()) });
    };
    let page_bytes =
        u32::try_from(source.format.page_bytes).expect("a page size is one of a few small numbers");
    let mut wreck = Wreck::look(disk, dir, source, damage)?;
    let database = options.clone().page_bytes(page_bytes).create_if_missing(true).open(target)?;
    let trees = wreck.save_all(|name| database.tree(name))?;
    database.sync()?;
    database.close()?;
    let mut report = wreck.into_report();
    report.trees = trees;
    report.elapsed = started.elapsed();
    Ok(report)
}

/// A new database must not touch anything, least of all what is to be saved.
fn refuse_target(disk: &dyn Disk, dir: &Path, target: &Path) -> Result<()> {
    let names = match disk.list(target) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io(target, error)),
    };
    if let Some(name) = names.first() {
        let why = format!("{} is not empty: it holds `{}`", target.display(), name.display());
        return Err(Error::InvalidArgument(why));
    }
    if is_inside(target, dir) {
        let why = format!("{} lies in the database that is to be saved", target.display());
        return Err(Error::InvalidArgument(why));
    }
    Ok(())
}

/// Whether `path`, or what of it is there, lies in `dir` or is it.
fn is_inside(path: &Path, dir: &Path) -> bool {
    let real = |path: &Path| {
        let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
        match there {
            Some((above, real)) => real.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
            None => path.to_path_buf(),
        }
    };
    real(path).starts_with(real(dir))
}

/// Keeps everybody else out; where neither lock nor `control` is there, nobody can be in.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<Option<Box<dyn DirectoryLock>>> {
    match take_lock(disk, dir, OpenMode::ReadOnly) {
        Ok(lock) => Ok(Some(lock)),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A damaged database, and all that could be read of it.
struct Wreck {
    pages: Pages,
    replayed: Replayed,
    before: Before,
    leaves: BTreeMap<TreeId, Vec<Leaf>>,
    /// Whether the sizes of trees are known.
    has_sizes: bool,
    undone: u64,
    damage: Sentences,
    losses: Sentences,
}

impl Wreck {
    /// Steps 1 to 4.
    fn look(
        disk: Arc<dyn Disk>,
        dir: &Path,
        source: Source,
        mut damage: Sentences,
    ) -> Result<Self> {
        let mut losses = Sentences::default();
        let Source { format, state } = source;
        let path = dir.join(PAGES_NAME);
        let mode = OpenMode::ReadOnly;
        let file = PageFile::open(Arc::clone(&disk), &path, mode, Access::Direct, format);
        let file = file.map_err(|error| damage.add(error.to_string())).ok();
        let mut wreck = Self {
            pages: Pages::new(None, format, Vec::new(), None),
            replayed: Replayed::default(),
            before: Before::new(),
            leaves: BTreeMap::new(),
            has_sizes: false,
            undone: 0,
            damage: Sentences::default(),
            losses: Sentences::default(),
        };
        match state {
            Some(state) => {
                let slots = slots(&*disk, dir, &state, format.page_bytes, &mut damage);
                let log = Log::open(&disk, dir, &state, &slots);
                let mut reading = Reading { disk, dir, state, damage, losses };
                match log {
                    Ok(log) => reading.log(log, &mut wreck, file, slots)?,
                    Err(error) => {
                        wreck.pages = Pages::new(file, format, slots, None);
                        reading.lose_log(error.to_string());
                    }
                }
                (damage, losses) = (reading.damage, reading.losses);
            }
            None => {
                wreck.pages = Pages::new(file, format, Vec::new(), None);
                losses.add(
                    "nothing of `control` can be read, and so neither can the log: what it says beyond the \
                     pages is lost, and changes that were not committed may be among what is saved",
                );
            }
        }
        wreck.leaves = leaves::all(&mut wreck.pages, &wreck.replayed.leaves);
        for why in wreck.pages.damaged().values() {
            damage.add(why.clone());
        }
        if !wreck.pages.has_all_bitmaps() && wreck.pages.damaged().len() > 1 {
            losses.add(
                "pages that say which ones are in use are damaged, and so are others: in their place, \
                 leaves may count that had been given up",
            );
        }
        (wreck.damage, wreck.losses) = (damage, losses);
        Ok(wreck)
    }

    /// Step 5: writes every tree to the one that `make` gives for its name.
    fn save_all(&mut self, make: impl Fn(&str) -> Result<Tree>) -> Result<Vec<SalvagedTree>> {
        let catalogue = Catalogue::read(self)?;
        let mut saved = Vec::new();
        for (id, name) in catalogue.trees {
            let tree = make(&name)?;
            let mut records = 0;
            self.walk(id, &name, |key, value| {
                records += 1;
                tree.insert_with(key, value, Durability::Relaxed)
            })?;
            let expected = self.has_sizes.then(|| self.replayed.sizes.get(&id).copied());
            let expected =
                expected.map(|size| u64::try_from(size.unwrap_or_default()).unwrap_or(0));
            if let Some(expected) = expected.filter(|&expected| expected != records) {
                let sentence = format!("tree {name:?} had {expected} records, {records} are saved");
                self.losses.add(sentence);
            }
            saved.push(SalvagedTree { name, records, expected });
        }
        Ok(saved)
    }

    /// Calls `each` with every record of a tree, in the order of keys, and notes what is missing.
    fn walk(
        &mut self,
        tree: TreeId,
        name: &str,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let leaves = self.leaves.remove(&tree).unwrap_or_default();
        for slice in slices(&leaves) {
            let cells = self.cells(tree, &slice);
            self.tell(name, &slice, cells.len());
            for (key, cell) in cells {
                let cell = cell.as_cell();
                if !cell.is_overflow {
                    each(&key, cell.value)?;
                    continue;
                }
                match self.large_value(tree, &key, cell) {
                    Ok(value) => each(&key, &value)?,
                    Err(why) => {
                        let key = key.escape_ascii();
                        self.losses.add(format!("the value of \"{key}\" in tree {name:?}: {why}"));
                    }
                }
            }
        }
        self.leaves.insert(tree, leaves);
        Ok(())
    }

    /// The live cells of a slice: those of its leaf, with loose changes that are newer, and without what had not
    /// committed.
    fn cells(&mut self, tree: TreeId, slice: &Slice<'_>) -> BTreeMap<Vec<u8>, CellBuf> {
        let mut cells = BTreeMap::new();
        let page = slice.leaf.and_then(|leaf| match leaf.place {
            Place::Page(id) => self.pages.newest(id).map(|version| version.page),
            Place::Loose(index) => self.replayed.leaves.get(index).cloned(),
        });
        if let Some(page) = page {
            let leaf = LeafView::new(page.bytes());
            for slot in leaf.lower_bound(slice.low)..leaf.count() {
                let key = leaf.key_at(slot).to_vec();
                if slice.high.is_some_and(|high| key.as_slice() >= high) {
                    break;
                }
                cells.insert(key, CellBuf::from(leaf.cell_at(slot)));
            }
        }
        let lsn = slice.leaf.map_or(Lsn::NONE, |leaf| leaf.lsn);
        let mut put = |key: &[u8], cell: Option<&CellBuf>| match cell {
            Some(cell) => drop(cells.insert(key.to_vec(), cell.clone())),
            None => drop(cells.remove(key)),
        };
        for ((_, key), loose) in within(&self.replayed.loose, tree, slice) {
            let Loose { cell, lsn: changed } = loose;
            if *changed > lsn {
                put(key, cell.as_ref());
            }
        }
        for ((_, key), cell) in within(&self.before, tree, slice) {
            put(key, cell.as_ref());
        }
        cells.retain(|_, cell| !cell.as_cell().is_ghost);
        cells
    }

    /// Notes what a slice says about losses.
    fn tell(&mut self, name: &str, slice: &Slice<'_>, saved: usize) {
        let range = range(slice);
        match slice.leaf {
            None => {
                let rest =
                    if saved > 0 { format!(", all but {saved} records") } else { String::new() };
                self.losses.add(format!("tree {name:?}: keys {range}{rest}, with their page"));
            }
            Some(leaf) if !leaf.is_newest => {
                let lsn = leaf.lsn;
                self.losses.add(format!(
                    "tree {name:?}: keys {range} are as they were at {lsn}, where changes since are not \
                     in the log any more"
                ));
            }
            Some(_) => {}
        }
    }

    /// The value that a link leads to, if every page of it is there and of the time when it was written.
    fn large_value(&mut self, tree: TreeId, key: &[u8], cell: Cell<'_>) -> Result<Vec<u8>, String> {
        let link = OverflowLink::decode(cell.value).map_err(|error| error.to_string())?;
        let record_max = to_u64(record_bytes_max(self.pages.page_bytes()));
        let written = link.first_lsn..=Lsn::new(link.last_lsn.get().saturating_add(record_max));
        let mut value = Vec::new();
        let mut owner = key;
        for page in link.pages() {
            let version =
                self.pages.newest(page).ok_or_else(|| format!("page {page} of it is lost"))?;
            let view = OverflowView::new(version.page.bytes());
            let header = view.page();
            let is_own = header.kind() == PageKind::Overflow
                && header.tree() == tree
                && view.owner_key() == owner
                && written.contains(&header.page_lsn())
                && value.len() + view.payload().len() <= link.length;
            if !is_own {
                return Err(format!(
                    "page {page} of it is not there, but another version of the page"
                ));
            }
            value.extend_from_slice(view.payload());
            owner = &[];
        }
        match value.len() == link.length {
            true => Ok(value),
            false => Err(format!("{} of its {} bytes are there", value.len(), link.length)),
        }
    }

    fn into_report(self) -> SalvageReport {
        SalvageReport {
            pages: self.pages.count(),
            pages_damaged: to_u64(self.pages.damaged().len()),
            log_records: self.replayed.records,
            transactions_undone: self.undone,
            trees: Vec::new(),
            damage: self.damage.into_vec(),
            losses: self.losses.into_vec(),
            elapsed: std::time::Duration::ZERO,
        }
    }
}

/// What a map has of a tree, within a slice.
fn within<'m, V>(
    map: &'m BTreeMap<TreeKey, V>,
    tree: TreeId,
    slice: &Slice<'_>,
) -> impl Iterator<Item = (&'m TreeKey, &'m V)> + use<'m, V> {
    let low = Bound::Included((tree, slice.low.to_vec()));
    let high = match slice.high {
        Some(high) => Bound::Excluded((tree, high.to_vec())),
        None => Bound::Excluded((TreeId::new(tree.get().saturating_add(1)), Vec::new())),
    };
    map.range((low, high))
}

fn range(slice: &Slice<'_>) -> String {
    let low = slice.low.escape_ascii();
    match slice.high {
        Some(high) => format!("from \"{low}\" to below \"{}\"", high.escape_ascii()),
        None if slice.low.is_empty() => "of any kind".to_owned(),
        None => format!("from \"{low}\" on"),
    }
}

/// Images of the doublewrite file, if it can be read.
fn slots(
    disk: &dyn Disk,
    dir: &Path,
    state: &ControlState,
    page_bytes: usize,
    damage: &mut Sentences,
) -> Vec<Slot> {
    let file = DoublewriteFile {
        disk,
        path: &dir.join(DOUBLEWRITE_NAME),
        access: Access::Direct,
        database: state.identity.database,
        page_bytes,
    };
    file.scan().map_err(|error| damage.add(error.to_string())).unwrap_or_default()
}

/// The log, as far as it is whole.
struct Log {
    survivors: Survivors,
    /// Where it ends, if that is known; else why not.
    end: Result<Lsn>,
}

impl Log {
    fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        state: &ControlState,
        slots: &[Slot],
    ) -> Result<Self> {
        let files = LogFiles::of(Arc::clone(disk), &dir.join(WAL_NAME), state)?;
        let end = find_log_end(&files, state, slots).map(|end| end.end_lsn);
        let survivors = Survivors::look(&files, end.as_ref().ok().copied());
        Ok(Self { survivors, end })
    }
}

/// Reading the log of a database whose `control` is known.
struct Reading<'d> {
    disk: Arc<dyn Disk>,
    dir: &'d Path,
    state: ControlState,
    damage: Sentences,
    losses: Sentences,
}

impl Reading<'_> {
    /// Steps 2 and 3.
    fn log(
        &mut self,
        log: Log,
        wreck: &mut Wreck,
        file: Option<PageFile>,
        slots: Vec<Slot>,
    ) -> Result<()> {
        let Log { mut survivors, end } = log;
        let master = self.state.master;
        let first = self.state.epochs.first().map_or(Lsn::NONE, |epoch| epoch.start_lsn);
        let start = master.as_ref().map_or(first, MasterRecord::start_lsn);
        let holes = survivors.holes(start, end.as_ref().ok().copied());
        if let Err(why) = &end {
            self.lose_log(why.to_string());
        }
        for hole in &holes {
            self.lose_log(format!("the log from {} to {} cannot be read", hole.from, hole.to));
        }
        if survivors.later_frames() > 0 {
            self.lose_log("the log goes on beyond what `control` knows".to_owned());
        }
        let checkpoint = match &master {
            Some(master) => log::checkpoint(&mut survivors, master),
            None => Ok(Checkpoint::default()),
        };
        wreck.has_sizes = checkpoint.is_ok() && holes.is_empty() && end.is_ok();
        let checkpoint = checkpoint.unwrap_or_else(|why| {
            self.lose_log(why);
            Checkpoint::default()
        });
        let identity = &self.state.identity;
        let page_bytes = to_usize(u64::from(identity.page_bytes));
        let format = PageFormat::new(identity.database, page_bytes);
        wreck.pages = Pages::new(file, format, slots, checkpoint.synced);
        let begin = master.as_ref().map_or(first, |master| master.begin_lsn);
        let from = survivors.run_start(start);
        let (pages, damage) = (&mut wreck.pages, &mut self.damage);
        let replayed = Replayed::replay(&mut survivors, from, begin, checkpoint, pages, damage)?;
        for txn in replayed.open.values() {
            let is_known = end.is_ok() && !holes.iter().any(|hole| hole.to > txn.last_lsn);
            if !is_known {
                self.losses.add(format!(
                    "whether transaction {} has committed cannot be known: what it wrote is kept",
                    txn.id
                ));
                continue;
            }
            let database = self.state.identity.database;
            let before = &mut wreck.before;
            match undo::undo(&*self.disk, self.dir, database, &mut survivors, txn, before) {
                Ok(()) => wreck.undone += 1,
                Err(why) => self.losses.add(format!(
                    "transaction {} had not committed, and could not be taken back whole: {why}",
                    txn.id
                )),
            }
        }
        for failure in survivors.failures() {
            self.damage.add(failure.to_string());
        }
        wreck.replayed = replayed;
        Ok(())
    }

    /// Something of the log cannot be read. After a clean shutdown the pages say everything by themselves.
    fn lose_log(&mut self, why: String) {
        match self.state.shutdown {
            Shutdown::Clean { .. } => self.damage.add(why),
            _ => self.losses.add(format!("{why}: commits may be missing")),
        }
    }
}

/// Trees that are to be saved, by id, with their names.
struct Catalogue {
    trees: BTreeMap<TreeId, String>,
}

impl Catalogue {
    fn read(wreck: &mut Wreck) -> Result<Self> {
        let mut names: BTreeMap<TreeId, String> = BTreeMap::new();
        let mut rows: HashMap<TreeId, TreeState> = HashMap::new();
        let mut wrong = Vec::new();
        wreck.walk(TreeId::CATALOGUE, "(names of trees)", |key, value| {
            match tree_of(key) {
                Some(tree) => match TreeRow::decode(value) {
                    Ok(row) => drop(rows.insert(tree, row.state)),
                    Err(error) => wrong.push(error.to_string()),
                },
                // What a huge transaction left to be swept: a new database has none of it.
                None if trail_of(key).is_some() => {}
                None => match (name_of(key), decode_name_value(value)) {
                    (Ok(name), Ok(tree)) => drop(names.insert(tree, name.to_owned())),
                    (Err(error), _) | (_, Err(error)) => wrong.push(error.to_string()),
                },
            }
            Ok(())
        })?;
        wrong.into_iter().for_each(|why| wreck.losses.add(format!("a row of a tree: {why}")));
        let leaves = wreck.leaves.get(&TreeId::CATALOGUE);
        let is_whole = slices(leaves.map_or(&[], Vec::as_slice))
            .iter()
            .all(|slice| slice.leaf.is_some_and(|leaf| leaf.is_newest));
        let found = wreck.leaves.keys().copied().filter(|&tree| tree != TreeId::CATALOGUE);
        let mut ids: Vec<_> = found.chain(rows.keys().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        let dropped = |tree: &TreeId| match rows.get(tree) {
            Some(state) => *state == TreeState::Dropping,
            None => is_whole,
        };
        for tree in ids {
            if names.contains_key(&tree) || dropped(&tree) {
                continue;
            }
            let taken = |name: &String| names.values().any(|there| there == name);
            let mut name = format!("salvaged-{tree}");
            while taken(&name) {
                name.push('-');
            }
            wreck.losses.add(format!("the name of tree {tree}, which is saved as {name:?}"));
            names.insert(tree, name);
        }
        names.retain(|tree, _| rows.get(tree) != Some(&TreeState::Dropping));
        Ok(Self { trees: names })
    }
}
