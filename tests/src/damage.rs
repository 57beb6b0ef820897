//! Changed files: a bit is flipped, a file ends early or is gone; the database must give the right
//! answers, or errors that say what is wrong; never a panic, never other bytes.
//!
//! The specimens are a database that was shut down, and one whose process was killed: with a log to
//! redo, images in the doublewrite file and a transaction to undo. Of every file each byte of the
//! headers is changed in turn, and a sample of the others (`offsets`).
//!
//! After a flip in the log of the killed one its last commit may be gone, whole: a last frame, where no
//! later one says that it was durable, cannot be told from one that was never finished.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use seawall::{Database, Error, Result};
use seawall_wal::disk::sim::SECTOR_BYTES;
use seawall_wal::disk::{Disk, SimDisk};

use crate::ensure;
use crate::failure::Outcome;
use crate::settings::{PATH, Settings};
use crate::trials::contain;

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
        let states = vec![fill(&database)?];
        database.close()?;
        Ok(Self { settings, disk, states })
    }

    /// A database whose process was killed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn killed() -> Outcome<Self> {
        let (settings, disk) = (Settings::default(), SimDisk::new());
        let database = settings.open(&disk)?;
        let mut states = vec![fill(&database)?];
        let first = database.tree("first")?;
        let mut loser = database.begin()?;
        loser.insert(&first, "loser", "never")?;
        while seawall::testing::maintain_step(&database)? {}
        for number in 0..3_u32 {
            first.insert(format!("late {number}"), [9; 50])?;
            states.push(contents(&database)?);
        }
        let killed = disk.fork();
        drop(loser);
        seawall::testing::abandon(database);
        Ok(Self { settings, disk: killed, states })
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

    /// Opens a copy of the database in which a file is changed, and counts what comes of it.
    ///
    /// # Errors
    /// A panic; other answers than the right ones.
    pub fn try_change(&self, path: &Path, change: Change, counts: &mut Counts) -> Outcome {
        counts.tried += 1;
        let disk = self.disk.fork();
        change.apply(&disk, path);
        let is_flip = matches!(change, Change::Flip { .. });
        let may_cut = is_flip && path.starts_with(Path::new(PATH).join("wal"));
        let examined = contain(|| {
            self.look(&disk, change)?;
            self.examine(&disk, change, may_cut, counts)
        });
        examined.map_err(|why| why.at(format!("{}, {change:?}", path.display())))
    }

    /// Opens for reading only: that it must be recovered first is an answer, too.
    fn look(&self, disk: &SimDisk, change: Change) -> Outcome {
        match self.settings.options(disk).read_only(true).open(PATH) {
            Err(Error::RecoveryNeeded) => Ok(()),
            Err(error) => expect(&error, change),
            Ok(database) => {
                let read = Reading::of(&database);
                let sizes = sizes(&read.contents);
                ensure!(read.is_of(self.newest()), "read only, it contains {sizes:?}");
                read.error.map_or(Ok(()), |error| expect(&error, change))
            }
        }
    }

    fn examine(
        &self,
        disk: &SimDisk,
        change: Change,
        may_cut: bool,
        counts: &mut Counts,
    ) -> Outcome {
        let database = match self.settings.open(disk) {
            Ok(database) => database,
            Err(error) => {
                counts.refused += 1;
                return expect(&error, change);
            }
        };
        let read = Reading::of(&database);
        let is_whole = read.is_of(self.newest());
        if !is_whole {
            let before = self.states.iter().nth_back(1).filter(|_| may_cut);
            let is_cut = before.is_some_and(|before| read.is_of(before));
            ensure!(is_cut, "it contains {:?} {:?}", sizes(&read.contents), read.error);
            counts.cut += 1;
        }
        let used = match read.error {
            Some(error) => Err(error),
            None => self.go_on(database, disk, read.contents)?,
        };
        match used {
            Err(error) => {
                counts.reported += 1;
                expect(&error, change)?;
            }
            Ok(findings) if findings > 0 => counts.reported += 1,
            Ok(_) => counts.harmless += u64::from(is_whole),
        }
        Ok(())
    }

    fn newest(&self) -> &Contents {
        self.states.last().expect("the state it was left in")
    }

    /// Verifies and writes, and opens again: what was there and what was written must still be there.
    /// Gives how many findings there were.
    fn go_on(
        &self,
        database: Database,
        disk: &SimDisk,
        mut expected: Contents,
    ) -> Outcome<Result<usize>> {
        let report = match database.verify(|_| ()) {
            Ok(report) => report,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = write(&database, &mut expected).and_then(|()| database.close()) {
            return Ok(Err(error));
        }
        let database = match self.settings.open(disk) {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let again = Reading::of(&database);
        ensure!(again.is_of(&expected), "after a write it contains {:?}", sizes(&again.contents));
        Ok(again.error.map_or(Ok(report.findings.len()), Err))
    }
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

/// Whether an error says what is wrong.
fn expect(error: &Error, change: Change) -> Outcome {
    let is_expected = match error {
        Error::Corrupt { .. } => true,
        Error::Poisoned { source: Some(source) } => return expect(source, change),
        // A file that is not there cannot be opened; without `control` it is no database.
        Error::Io { .. } | Error::InvalidArgument(_) => change == Change::Gone,
        _ => false,
    };
    ensure!(is_expected, "{error:?}");
    Ok(())
}

impl Change {
    fn apply(self, disk: &SimDisk, path: &Path) {
        let bytes = disk.read_file(path).expect("the file to change is there");
        match self {
            Self::Flip { offset, bit } => disk.flip_bit(path, offset, bit),
            Self::Cut { length } => disk.write_file(path, &bytes[..length]),
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
    flips.chain(cuts).chain([Change::Gone]).collect()
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

/// Two trees, one with large values, and one that is dropped, so that pages are free.
fn fill(database: &Database) -> Outcome<Contents> {
    let (first, second) = (database.tree("first")?, database.tree("second")?);
    let dropped = database.tree("dropped")?;
    database.transact(|transaction| {
        for number in 0..KEYS {
            transaction.insert(&first, format!("key {number:03}"), [7; 100])?;
            transaction.insert(&dropped, number.to_be_bytes(), [1; 200])?;
        }
        transaction.insert(&second, "large", vec![b'L'; LARGE_VALUE_BYTES])
    })?;
    database.drop_tree("dropped")?;
    while seawall::testing::collect_step(database)? {}
    database.checkpoint()?;
    database.transact(|transaction| {
        for number in 0..KEYS / 4 {
            transaction.insert(&first, format!("key {:03}", number * 3), [8; 120])?;
        }
        transaction.remove(&first, "key 001")
    })?;
    second.insert("larger", vec![b'M'; 2 * LARGE_VALUE_BYTES])?;
    contents(database)
}

fn contents(database: &Database) -> Outcome<Contents> {
    let Reading { contents, error } = Reading::of(database);
    error.map_or(Ok(contents), |error| Err(error.into()))
}
