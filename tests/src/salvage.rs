//! Salvage of changed files: every record of the pages that are whole is saved, none that nobody wrote,
//! and what may be missing is told. The damaged database is not touched.
//!
//! What a page holds is known from an undamaged twin of the specimen that was opened and closed: there
//! every page is in its place. So after a change of one page the records of that page alone may be
//! missing, and after a change of any other file of a database that was shut down none may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall::page::{LeafView, OverflowView, PageKind, PageView};
use seawall::salvage::{SalvageReport, salvage};
use seawall::{Error, Options};
use seawall_wal::codec::to_u64;
use seawall_wal::disk::SimDisk;

use crate::damage::{Change, Contents, Specimen, contents_of};
use crate::ensure;
use crate::failure::Outcome;
use crate::settings::PATH;
use crate::trials::contain;

/// Where the saved database is put.
const TARGET: &str = "/saved";

/// What came of the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes tried.
    pub tried: u64,
    /// Everything was saved, and nothing was told as lost.
    pub whole: u64,
    /// Everything was saved, and something was told as lost or uncertain.
    pub doubtful: u64,
    /// Records were missing, or older, and that was told.
    pub lossy: u64,
    /// Records saved in all.
    pub records: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tried, whole, doubtful, lossy, records } = self;
        write!(
            f,
            "{tried} changes, {records} records saved: {whole} whole, {doubtful} whole but "
        )?;
        write!(f, "doubtful, {lossy} with losses that were told")
    }
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.whole += other.whole;
        self.doubtful += other.doubtful;
        self.lossy += other.lossy;
        self.records += other.records;
    }
}

/// A tree's name and a key.
type Key = (String, Vec<u8>);

/// A specimen, and where its records lie.
#[derive(Debug)]
pub struct Wreck {
    specimen: Specimen,
    /// Of each page, the records that need it.
    records: BTreeMap<u64, BTreeSet<Key>>,
    /// Pages of the catalogue: without them no tree has a name.
    catalogue: BTreeSet<u64>,
    page_bytes: u64,
}

impl Wreck {
    /// Finds out where the records of a specimen lie.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new(specimen: Specimen) -> Outcome<Self> {
        let twin = specimen.disk().fork();
        let names = specimen.tree_ids()?;
        specimen.settings().open(&twin)?.close()?;
        let page_bytes = usize::try_from(specimen.settings().page_bytes).expect("a page size");
        let pages = twin.read_file(&Path::new(PATH).join("pages")).expect("the page file");
        let mut records: BTreeMap<u64, BTreeSet<Key>> = BTreeMap::new();
        let mut catalogue = BTreeSet::new();
        let state = specimen.newest();
        let is_there = |name: &String, key: &[u8]| {
            state.get(name).is_some_and(|pairs| pairs.iter().any(|(there, _)| there == key))
        };
        // A later page of a large value does not name its key: it belongs to the one before it.
        let mut owner: Option<Key> = None;
        for (number, bytes) in (0..).zip(pages.chunks_exact(page_bytes)) {
            let view = PageView::new(bytes);
            let tree = view.tree().get();
            match view.kind() {
                PageKind::Leaf if tree == 0 => {
                    catalogue.insert(number);
                }
                PageKind::Leaf => {
                    let Some(name) = names.get(&tree) else { continue };
                    let leaf = LeafView::new(bytes);
                    let keys = (0..leaf.count()).map(|slot| leaf.key_at(slot).to_vec());
                    let here = keys.filter(|key| is_there(name, key));
                    records.entry(number).or_default().extend(here.map(|key| (name.clone(), key)));
                }
                PageKind::Overflow => {
                    let key = OverflowView::new(bytes).owner_key();
                    let name = names.get(&tree).filter(|_| !key.is_empty());
                    owner = name.map(|name| (name.clone(), key.to_vec())).or(owner);
                    records.entry(number).or_default().extend(owner.clone());
                }
                _ => {}
            }
        }
        Ok(Self { specimen, records, catalogue, page_bytes: to_u64(page_bytes) })
    }

    /// Paths of the files, with the changes to try with each.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<Change>)> {
        self.specimen.files()
    }

    /// Records that lie on pages, all together.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.values().flatten().collect::<BTreeSet<_>>().len()
    }

    /// Salvages the specimen as it is: everything is saved, and nothing is told.
    ///
    /// # Errors
    /// When that is not so.
    pub fn try_whole(&self) -> Outcome<SalvageReport> {
        let (disk, report) = self.save(&self.specimen.disk().fork())?;
        let found = contents_of(self.specimen.settings(), &disk, TARGET)?;
        ensure!(found == *self.specimen.newest(), "not everything was saved");
        let told = (&report.damage, &report.losses);
        ensure!(report.losses.is_empty() && report.damage.is_empty(), "told of {told:?}");
        for tree in &report.trees {
            let is_known = tree.expected == Some(tree.records);
            ensure!(is_known, "{:?}: expected {:?}", tree.name, tree.expected);
        }
        Ok(report)
    }

    /// Salvages the specimen with a change.
    ///
    /// # Errors
    /// A panic or an error; records of undamaged pages that are missing; records that nobody wrote; losses
    /// that are not told; changes of what is saved from.
    pub fn try_change(&self, path: &Path, change: Change, counts: &mut Counts) -> Outcome {
        counts.tried += 1;
        let damaged = self.specimen.disk().fork();
        change.apply(&damaged, path);
        let tried = contain(|| self.check(path, change, &damaged, counts));
        tried.map_err(|why| why.at(format!("{}, {change:?}", path.display())))
    }

    fn check(
        &self,
        path: &Path,
        change: Change,
        damaged: &SimDisk,
        counts: &mut Counts,
    ) -> Outcome {
        let before = files(damaged);
        let saved = self.save(damaged);
        ensure!(files(damaged) == before, "the damaged database is another one now");
        let (disk, report) = match saved {
            // Without any page and without `control` nothing is there to be told from others.
            Err(why) if self.is_nothing_left(damaged) => {
                let is_expected = matches!(why.error(), Some(Error::NotFound { .. }));
                return if is_expected { Ok(()) } else { Err(why) };
            }
            saved => saved?,
        };
        let found = contents_of(self.specimen.settings(), &disk, TARGET)?;
        let newest = self.specimen.newest();
        counts.records += to_u64(found.values().map(Vec::len).sum());
        for tree in &report.trees {
            let saved = found.get(&tree.name).map_or(0, Vec::len);
            ensure!(to_u64(saved) == tree.records, "{:?} has {saved} records", tree.name);
        }
        if found == *newest {
            let is_told = !report.losses.is_empty();
            *(if is_told { &mut counts.doubtful } else { &mut counts.whole }) += 1;
            return Ok(());
        }
        // A last frame that no later one covers cannot be told from one that was never finished.
        if report.losses.is_empty() {
            let is_cut = self.may_cut(path, change) && self.specimen.states().contains(&found);
            ensure!(is_cut, "a loss that is not told: {}", difference(&found, newest));
        }
        counts.lossy += 1;
        self.check_kept(path, change, &found)?;
        self.check_written(&found)
    }

    /// No record is missing but those of the changed page.
    fn check_kept(&self, path: &Path, change: Change, found: &Contents) -> Outcome {
        let Some(lost) = self.may_lose(path, change) else { return Ok(()) };
        for (name, pairs) in self.specimen.newest() {
            for (key, value) in pairs {
                let saved = found.get(name).and_then(|saved| {
                    let place = saved.binary_search_by(|(there, _)| there.cmp(key)).ok()?;
                    Some(&saved[place].1)
                });
                let may_be_lost = lost.contains(&(name.clone(), key.clone()));
                let key = key.escape_ascii();
                ensure!(may_be_lost || saved == Some(value), "{name:?}, \"{key}\" was not saved");
            }
        }
        Ok(())
    }

    /// Every record that was saved is one that was there once, whole, under this name or one made up.
    fn check_written(&self, found: &Contents) -> Outcome {
        for (name, pairs) in found {
            let is_made_up = name.starts_with("salvaged-");
            for pair in pairs {
                let is_of = |state: &Contents| match is_made_up {
                    true => state.values().any(|pairs| pairs.contains(pair)),
                    false => state.get(name).is_some_and(|pairs| pairs.contains(pair)),
                };
                let is_known = self.specimen.history().iter().any(is_of)
                    || self.specimen.states().iter().any(is_of)
                    || self.specimen.uncommitted().contains(pair);
                let key = pair.0.escape_ascii();
                ensure!(is_known, "{name:?}, \"{key}\" was never written so");
            }
        }
        Ok(())
    }

    /// The records that a change may take along; `None` where that is any.
    fn may_lose(&self, path: &Path, change: Change) -> Option<BTreeSet<Key>> {
        if path != Path::new(PATH).join("pages") {
            let is_log = path.starts_with(Path::new(PATH).join("wal"));
            let is_needed = is_log || path.ends_with("control");
            // A database that was shut down has everything on its pages.
            return (self.specimen.is_closed() || !is_needed).then(BTreeSet::new);
        }
        let length = to_u64(self.specimen.disk().read_file(path).map_or(0, |bytes| bytes.len()));
        let (from, to) = match change {
            Change::Flip { offset, .. } => (offset, offset + 1),
            Change::Cut { length: left } => (to_u64(left), length),
            Change::Fill { offset, length, .. } => (to_u64(offset), to_u64(offset + length)),
            Change::Gone => (0, length),
        };
        let pages = from / self.page_bytes..to.div_ceil(self.page_bytes);
        if self.catalogue.range(pages.clone()).next().is_some() {
            return None;
        }
        Some(self.records.range(pages).flat_map(|(_, records)| records.clone()).collect())
    }

    fn may_cut(&self, path: &Path, change: Change) -> bool {
        matches!(change, Change::Flip { .. } | Change::Fill { .. })
            && !self.specimen.is_closed()
            && path.starts_with(Path::new(PATH).join("wal"))
    }

    fn is_nothing_left(&self, damaged: &SimDisk) -> bool {
        let read = |name| damaged.read_file(&Path::new(PATH).join(name)).unwrap_or_default();
        let page_bytes = usize::try_from(self.page_bytes).expect("a page size");
        read("control").len() < 4096 && read("pages").len() < 2 * page_bytes
    }

    /// Saves into an empty disk. The report has been shown.
    fn save(&self, damaged: &SimDisk) -> Outcome<(SimDisk, SalvageReport)> {
        let report = salvage(&self.options(damaged), Path::new(PATH), Path::new(TARGET))?;
        ensure!(!report.to_string().is_empty(), "a report says something");
        Ok((damaged.clone(), report))
    }

    fn options(&self, disk: &SimDisk) -> Options {
        let mut options = self.specimen.settings().options(disk);
        options = options.disk_injected(Arc::new(disk.clone()));
        options
    }
}

/// Everything of the database, but not of the saved one.
fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let own = files.filter(|path| !path.starts_with(TARGET));
    own.map(|path| (path.clone(), disk.read_file(&path).expect("a file that was listed"))).collect()
}

fn difference(found: &Contents, newest: &Contents) -> String {
    let sizes = |contents: &Contents| {
        let sizes = contents.iter().map(|(name, pairs)| format!("{name} {}", pairs.len()));
        sizes.collect::<Vec<_>>().join(", ")
    };
    format!("{} instead of {}", sizes(found), sizes(newest))
}
