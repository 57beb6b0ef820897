//! Changed files: a bit is flipped, a sector or block is zeroed, a file ends early or is gone; the
//! database must give the right answers, or errors that say what is wrong; never a panic, never other
//! bytes.
//!
//! The specimens are a database that was shut down, and one whose process was killed: with a log to
//! redo, images in the doublewrite file and a transaction to undo. Of every file each byte of the
//! headers is changed in turn, and a sample of the others (`offsets`).
//!
//! After a flip or zeros in the log of the killed one its last commit may be gone, whole: a last frame,
//! where no later one says that it was durable, cannot be told from one that was never finished.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use seawall::catalogue::row;
use seawall::page::{LeafView, PageKind};
use seawall::{Database, Error, Result};
use seawall_wal::TreeId;
use seawall_wal::codec::to_u64;
use seawall_wal::disk::sim::SECTOR_BYTES;
use seawall_wal::disk::{Disk, SimDisk};

use crate::ensure;
use crate::failure::Outcome;
use crate::settings::{PATH, Settings};
use crate::trials::contain;

/// What a transaction without an end has written.
const LOSER: (&str, &str) = ("loser", "never");
/// Keys of the first tree.
const KEYS: u32 = 60;
/// A value with pages of its own.
const LARGE_VALUE_BYTES: usize = 9000;
/// Bytes at the start of a block that are all tried: the header of a page, or of a frame and its first
/// record.
const HEADER_BYTES: usize = 160;
/// A block with no more than this is tried whole: the states in `control`, small frames.
const SMALL_BYTES: usize = 400;
/// A block is what a header can stand at the start of.
const BLOCK_BYTES: usize = 4096;
/// Of the rest, one byte in this many; a prime, so that every place in a structure comes up.
const STRIDE: usize = 61;
/// Of bytes that were never written, one in this many.
const EMPTY_STRIDE: usize = 4099;

/// Trees, their pairs in order.
pub type Contents = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// A database to damage.
#[derive(Debug)]
pub struct Specimen {
    settings: Settings,
    disk: SimDisk,
    /// What it contains, last, and what it contained before.
    states: Vec<Contents>,
    /// The same for each commit before those, from the empty database on.
    history: Vec<Contents>,
}

/// A change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A bit is another one.
    Flip {
        /// Of the byte.
        offset: u64,
        /// From 0, the lowest.
        bit: u8,
    },
    /// It ends early.
    Cut {
        /// Bytes that are left.
        length: usize,
    },
    /// Some bytes are all the same.
    Fill {
        /// Of the first byte.
        offset: usize,
        /// How many bytes, as far as there are any.
        length: usize,
        /// What they are.
        byte: u8,
    },
    /// It is not there.
    Gone,
}

/// What came of the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes tried.
    pub tried: u64,
    /// Opening was an error.
    pub refused: u64,
    /// It opened; an error came up in reading, verifying or writing, or verifying found something.
    pub reported: u64,
    /// Everything was there, and nothing was noticed: the byte means nothing, or recovery mended it.
    pub harmless: u64,
    /// The last commit was gone.
    pub cut: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tried, refused, reported, harmless, cut } = self;
        write!(f, "{tried} changes: {refused} refused at open, {reported} reported later, ")?;
        write!(f, "{harmless} without effect, {cut} took the last commit")
    }
}

impl Specimen {
    /// A database that was shut down.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn closed() -> Outcome<Self> {
        let (settings, disk) = (Settings::default(), SimDisk::new());
        let database = settings.open(&disk)?;
        let mut history = Vec::new();
        let states = vec![fill(&database, &mut history)?];
        database.close()?;
        Ok(Self { settings, disk, states, history })
    }

    /// The same, opened and shut down once more: the log of its first life is given up.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn closed_twice() -> Outcome<Self> {
        let specimen = Self::closed()?;
        let database = specimen.settings.open(&specimen.disk)?;
        for _ in 0..2 {
            database.checkpoint()?;
        }
        database.close()?;
        Ok(specimen)
    }

    /// A database whose process was killed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn killed() -> Outcome<Self> {
        let (settings, disk) = (Settings::default(), SimDisk::new());
        let database = settings.open(&disk)?;
        let mut history = Vec::new();
        let mut states = vec![fill(&database, &mut history)?];
        let first = database.tree("first")?;
        let mut loser = database.begin()?;
        let (key, value) = LOSER;
        loser.insert(&first, key, value)?;
        while seawall::testing::maintain_step(&database)? {}
        for number in 0..3_u32 {
            first.insert(format!("late {number}"), [9; 50])?;
            states.push(contents(&database)?);
        }
        let killed = disk.fork();
        drop(loser);
        seawall::testing::abandon(database);
        Ok(Self { settings, disk: killed, states, history })
    }

    /// Paths of the database's files, with the changes to try with each.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<Change>)> {
        let files = self.disk.files().into_iter();
        files
            .map(|(path, _)| {
                let bytes = self.disk.read_file(&path).expect("a file that was just listed");
                (path, changes(&bytes))
            })
            .collect()
    }

    /// How it is opened.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The disk that it lies on, undamaged.
    #[must_use]
    pub const fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// What it contains.
    #[must_use]
    pub fn newest(&self) -> &Contents {
        self.states.last().expect("the state it was left in")
    }

    /// That, and what it contained before the last commits.
    #[must_use]
    pub fn states(&self) -> &[Contents] {
        &self.states
    }

    /// What it contained before those, from the empty database on.
    #[must_use]
    pub fn history(&self) -> &[Contents] {
        &self.history
    }

    /// What was written and never committed.
    #[must_use]
    pub fn uncommitted(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (key, value) = LOSER;
        vec![(key.into(), value.into())]
    }

    /// Whether it was shut down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.states.len() == 1
    }

    /// Numbers of its trees, with their names.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn tree_ids(&self) -> Outcome<BTreeMap<u64, String>> {
        let disk = self.disk.fork();
        self.settings.open(&disk)?.close()?;
        let pages = disk.read_file(&Path::new(PATH).join("pages")).expect("the page file");
        let page_bytes = usize::try_from(self.settings.page_bytes).expect("a page size");
        let mut names = BTreeMap::new();
        for bytes in pages.chunks_exact(page_bytes) {
            let leaf = LeafView::new(bytes);
            let page = leaf.page();
            if page.kind() != PageKind::Leaf || page.tree() != TreeId::CATALOGUE {
                continue;
            }
            for slot in 0..leaf.count() {
                let (key, cell) = (leaf.key_at(slot).to_vec(), leaf.cell_at(slot));
                if let (Ok(name), Ok(tree)) =
                    (row::name_of(&key), row::decode_name_value(cell.value))
                {
                    names.insert(tree.get(), name.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// Paths and lengths of the database's files.
    #[must_use]
    pub fn lengths(&self) -> Vec<(PathBuf, u64)> {
        self.disk.files()
    }

    /// Opens a copy of the database in which a file is changed, and counts what comes of it.
    ///
    /// # Errors
    /// A panic; other answers than the right ones.
    pub fn try_change(&self, path: &Path, change: Change, counts: &mut Counts) -> Outcome {
        self.try_changes(&[(path, change)], counts)
    }

    /// The same with several changes at once. Together they may take the log's end and the mark that says
    /// how far it went: then what was committed last may be gone, as far back as there is a commit, but
    /// each whole.
    ///
    /// # Errors
    /// A panic; other answers than the right ones.
    pub fn try_changes(&self, changes: &[(&Path, Change)], counts: &mut Counts) -> Outcome {
        counts.tried += 1;
        let disk = self.disk.fork();
        changes.iter().for_each(|(path, change)| change.apply(&disk, path));
        let wal = Path::new(PATH).join("wal");
        let is_gone = changes.iter().any(|(_, change)| *change == Change::Gone);
        let older = match changes {
            [(path, Change::Flip { .. } | Change::Fill { .. })] if path.starts_with(&wal) => {
                self.states.iter().nth_back(1)
            }
            _ => None,
        };
        let allowed: Vec<_> = match changes {
            [_] => older.into_iter().chain([self.newest()]).collect(),
            _ => self.history.iter().chain(&self.states).collect(),
        };
        let trial = Trial { specimen: self, disk: &disk, allowed, is_gone };
        let examined = contain(|| {
            trial.look()?;
            trial.examine(counts)
        });
        examined.map_err(|why| {
            let changes =
                changes.iter().map(|(path, change)| format!("{}, {change:?}", path.display()));
            why.at(changes.collect::<Vec<_>>().join("; "))
        })
    }
}

/// A changed copy, and what may be found there.
struct Trial<'a> {
    specimen: &'a Specimen,
    disk: &'a SimDisk,
    /// What it may contain, the newest state last.
    allowed: Vec<&'a Contents>,
    /// Whether a file is not there.
    is_gone: bool,
}

impl Trial<'_> {
    /// Opens for reading only: that it must be recovered first is an answer, too.
    fn look(&self) -> Outcome {
        match self.specimen.settings.options(self.disk).read_only(true).open(PATH) {
            Err(Error::RecoveryNeeded) => Ok(()),
            Err(error) => self.expect(&error),
            Ok(database) => {
                let read = Reading::of(&database);
                let sizes = sizes(&read.contents);
                // Nothing is left out where the database says that it was shut down cleanly.
                ensure!(read.is_of(self.specimen.newest()), "read only, it contains {sizes:?}");
                read.error.map_or(Ok(()), |error| self.expect(&error))
            }
        }
    }

    fn examine(&self, counts: &mut Counts) -> Outcome {
        let database = match self.specimen.settings.open(self.disk) {
            Ok(database) => database,
            Err(error) => {
                counts.refused += 1;
                return self.expect(&error);
            }
        };
        let read = Reading::of(&database);
        let is_whole = read.is_of(self.specimen.newest());
        if !is_whole {
            let is_cut = self.allowed.iter().any(|state| read.is_of(state));
            ensure!(is_cut, "it contains {:?} {:?}", sizes(&read.contents), read.error);
            counts.cut += 1;
        }
        let used = match read.error {
            Some(error) => Err(error),
            None => self.go_on(database, read.contents)?,
        };
        match used {
            Err(error) => {
                counts.reported += 1;
                self.expect(&error)?;
            }
            Ok(findings) if findings > 0 => counts.reported += 1,
            Ok(_) => counts.harmless += u64::from(is_whole),
        }
        Ok(())
    }

    /// Verifies and writes, and opens again: what was there and what was written must still be there;
    /// then drops every tree. Gives how many findings there were.
    fn go_on(&self, database: Database, mut expected: Contents) -> Outcome<Result<usize>> {
        let report = match database.verify(|_| ()) {
            Ok(report) => report,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = write(&database, &mut expected).and_then(|()| database.close()) {
            return Ok(Err(error));
        }
        let database = match self.specimen.settings.open(self.disk) {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let again = Reading::of(&database);
        ensure!(again.is_of(&expected), "after a write it contains {:?}", sizes(&again.contents));
        let dropped = again.error.map_or(Ok(()), Err).and_then(|()| drop_all(database));
        Ok(dropped.map(|()| report.findings.len()))
    }

    /// Whether an error says what is wrong.
    fn expect(&self, error: &Error) -> Outcome {
        let is_expected = match error {
            Error::Corrupt { .. } => true,
            Error::Poisoned { source: Some(source) } => return self.expect(source),
            // A file that is not there cannot be opened; without `control` it is no database.
            Error::Io { .. } | Error::InvalidArgument(_) => self.is_gone,
            _ => false,
        };
        ensure!(is_expected, "{error:?}");
        Ok(())
    }
}

/// Drops every tree and takes it apart, down to its last page.
fn drop_all(database: Database) -> Result<()> {
    for name in database.tree_names()? {
        database.drop_tree(&name)?;
    }
    while seawall::testing::collect_step(&database)? {}
    database.close()
}

/// Writes to every tree, small and large values; notes what must be there then.
fn write(database: &Database, contents: &mut Contents) -> Result<()> {
    for (name, pairs) in contents {
        let tree = database.tree(name)?;
        for value in [vec![5; 10], vec![6; LARGE_VALUE_BYTES]] {
            let key = format!("written {}", value.len()).into_bytes();
            tree.insert(&key, &value)?;
            pairs.retain(|(there, _)| *there != key);
            pairs.push((key, value));
        }
        pairs.sort();
    }
    Ok(())
}

/// What was read of a database, up to an error.
struct Reading {
    contents: Contents,
    error: Option<Error>,
}

impl Reading {
    fn of(database: &Database) -> Self {
        let mut contents = Contents::new();
        let error = read_into(database, &mut contents).err();
        Self { contents, error }
    }

    /// Whether it is what `state` has; before an error, whether it is part of that.
    fn is_of(&self, state: &Contents) -> bool {
        match self.error {
            None => self.contents == *state,
            Some(_) => self.contents.iter().all(|(name, pairs)| {
                state.get(name).is_some_and(|expected| expected.starts_with(pairs))
            }),
        }
    }
}

fn read_into(database: &Database, contents: &mut Contents) -> Result<()> {
    for name in database.tree_names()? {
        let Some(tree) = database.open_tree(&name)? else { continue };
        let pairs = contents.entry(name).or_default();
        for pair in tree.range(..)? {
            let (key, value) = pair?;
            pairs.push((key.into_vec(), value.into_vec()));
        }
        let count = u64::try_from(pairs.len()).expect("usize has at most 64 bits");
        assert_eq!(tree.len()?, count, "len and a scan disagree");
    }
    Ok(())
}

fn sizes(contents: &Contents) -> Vec<(&str, usize)> {
    contents.iter().map(|(name, pairs)| (name.as_str(), pairs.len())).collect()
}

impl Change {
    /// Changes the file, as far as changes before this one have left it.
    pub(crate) fn apply(self, disk: &SimDisk, path: &Path) {
        let Ok(mut bytes) = disk.read_file(path) else { return };
        match self {
            Self::Flip { offset, .. } if offset >= to_u64(bytes.len()) => {}
            Self::Flip { offset, bit } => disk.flip_bit(path, offset, bit),
            Self::Cut { length } => disk.write_file(path, &bytes[..length.min(bytes.len())]),
            Self::Fill { offset, length, byte } => {
                let behind = bytes.iter_mut().skip(offset).take(length);
                behind.for_each(|there| *there = byte);
                disk.write_file(path, &bytes);
            }
            Self::Gone => disk.remove_file(path).expect("the file to remove is there"),
        }
    }
}

/// The changes of a file to try.
fn changes(bytes: &[u8]) -> Vec<Change> {
    let flips = offsets(bytes).into_iter().map(|offset| {
        let bit = u8::try_from(offset / 7 % 8).expect("below 8");
        Change::Flip { offset, bit }
    });
    let cuts =
        (0..bytes.len()).step_by(BLOCK_BYTES).flat_map(|block| [block, block + SECTOR_BYTES]);
    let cuts = cuts.filter(|length| *length < bytes.len()).map(|length| Change::Cut { length });
    flips.chain(cuts).chain(zeros(bytes)).chain([Change::Gone]).collect()
}

/// Every sector, and every block, that is not all zeros is zeroed.
fn zeros(bytes: &[u8]) -> impl Iterator<Item = Change> {
    let lengths = [SECTOR_BYTES, BLOCK_BYTES].into_iter();
    lengths.flat_map(move |length| {
        let parts = bytes.chunks(length).enumerate();
        let written = parts.filter(|(_, part)| part.iter().any(|&byte| byte != 0));
        written.map(move |(number, _)| Change::Fill { offset: number * length, length, byte: 0 })
    })
}

/// The bytes of a file to change: all at the start of each block that was written, a sample of the
/// others.
fn offsets(bytes: &[u8]) -> Vec<u64> {
    let mut offsets = Vec::new();
    for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        let written = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let start = number * BLOCK_BYTES;
        for (place, offset) in (start..start + block.len()).enumerate() {
            let is_tried = match place {
                _ if place >= written => offset % EMPTY_STRIDE == 0,
                _ if place < HEADER_BYTES || written <= SMALL_BYTES => true,
                _ => offset % STRIDE == 0,
            };
            if is_tried {
                offsets.push(u64::try_from(offset).expect("usize has at most 64 bits"));
            }
        }
    }
    offsets
}

/// Two trees, one with large values, and one that is dropped, so that pages are free. Notes what was
/// there after each commit but the last.
fn fill(database: &Database, history: &mut Vec<Contents>) -> Outcome<Contents> {
    let mut note = || contents(database).map(|now| history.push(now));
    note()?;
    let first = database.tree("first")?;
    note()?;
    let second = database.tree("second")?;
    note()?;
    let dropped = database.tree("dropped")?;
    note()?;
    database.transact(|transaction| {
        for number in 0..KEYS {
            transaction.insert(&first, format!("key {number:03}"), [7; 100])?;
            transaction.insert(&dropped, number.to_be_bytes(), [1; 200])?;
        }
        transaction.insert(&second, "large", vec![b'L'; LARGE_VALUE_BYTES])
    })?;
    note()?;
    database.drop_tree("dropped")?;
    note()?;
    while seawall::testing::collect_step(database)? {}
    database.checkpoint()?;
    database.transact(|transaction| {
        for number in 0..KEYS / 4 {
            transaction.insert(&first, format!("key {:03}", number * 3), [8; 120])?;
        }
        transaction.remove(&first, "key 001")
    })?;
    note()?;
    second.insert("larger", vec![b'M'; 2 * LARGE_VALUE_BYTES])?;
    contents(database)
}

/// What the database in `path` contains.
///
/// # Errors
/// When it cannot be opened and read whole.
pub(crate) fn contents_of(settings: &Settings, disk: &SimDisk, path: &str) -> Outcome<Contents> {
    let database = settings.open_at(disk, path)?;
    let found = contents(&database)?;
    crate::check::verify(&database)?;
    database.close()?;
    Ok(found)
}

fn contents(database: &Database) -> Outcome<Contents> {
    let Reading { contents, error } = Reading::of(database);
    error.map_or(Ok(contents), |error| Err(error.into()))
}
