//! The files of a database, read without opening it: for the commands that never change a byte and
//! also work where opening fails.
//!
//! The database's lock is held meanwhile, so that nothing changes underneath.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall::catalogue::row;
use seawall::lock::take_lock;
use seawall::names::{DOUBLEWRITE_NAME, PAGES_NAME, UNDO_NAME, WAL_NAME};
use seawall::page::{LeafView, PAGE_BYTES, PageKind, Verified};
use seawall::pagefile::{PageFile, PageFormat};
use seawall::recovery::Outlook;
use seawall::writeback::doublewrite::{DoublewriteFile, Slot};
use seawall::writeback::restore::find_log_end;
use seawall::{DiskKind, Error, Lsn};
use seawall_wal::codec::{DecodeError, to_usize};
use seawall_wal::control::{Control, ControlState, Shutdown};
use seawall_wal::disk::{self, Access, AlignedBuf, DirectoryLock, Disk, OpenMode};
use seawall_wal::log::{LogEnd, LogFiles, LogRecord, TailCase};
use seawall_wal::{PageId, TreeId};

use crate::database::DatabaseArg;
use crate::failure::Failure;

/// What is told of a database whose creation a crash interrupted.
pub(crate) const UNFINISHED: &str = "creation did not finish: opening starts over";

/// The files of a database.
pub(crate) struct Files {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    state: ControlState,
    _lock: Box<dyn DirectoryLock>,
}

/// Lengths of the files, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    pub(crate) pages: u64,
    pub(crate) doublewrite: u64,
    pub(crate) wal: u64,
    pub(crate) undo: u64,
}

impl Files {
    /// Reads `control`.
    pub(crate) fn open(database: &DatabaseArg) -> Result<Self, Failure> {
        database.require()?;
        let dir = database.dir.clone();
        let disk = disk::select(DiskKind::Blocking).map_err(|error| Error::io(&dir, error))?;
        let lock = take_lock(&*disk, &dir, OpenMode::ReadOnly)?;
        let Some(control) = Control::open(&*disk, &dir, true)? else {
            return Err(database.not_a_database());
        };
        let state = control.state();
        let page_bytes = to_usize(u64::from(state.identity.page_bytes));
        if !PAGE_BYTES.contains(&page_bytes) {
            let path = control.path().display().to_string();
            return Err(Failure::Failed(format!("{path} names a page size of {page_bytes}")));
        }
        Ok(Self { dir, disk, state, _lock: lock })
    }

    /// What `control` says.
    pub(crate) const fn state(&self) -> &ControlState {
        &self.state
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self) -> usize {
        to_usize(u64::from(self.state.identity.page_bytes))
    }

    /// Whether opening the database for writing would recover it.
    pub(crate) fn needs_recovery(&self) -> bool {
        !matches!(self.state.shutdown, Shutdown::Clean { .. })
    }

    /// Whether a crash interrupted the creation. Any of the other files may be missing or half made;
    /// opening the database for writing makes them anew.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.state.shutdown == Shutdown::Creating
    }

    /// The page file.
    pub(crate) fn pages(&self) -> Result<PageFile, Failure> {
        let format = PageFormat::new(self.state.identity.database, self.page_bytes());
        let path = self.dir.join(PAGES_NAME);
        let disk = Arc::clone(&self.disk);
        Ok(PageFile::open(disk, &path, OpenMode::ReadOnly, Access::Direct, format)?)
    }

    /// Page images in the doublewrite file.
    pub(crate) fn doublewrite_slots(&self) -> Result<Vec<Slot>, Failure> {
        let file = DoublewriteFile {
            disk: &*self.disk,
            path: &self.dir.join(DOUBLEWRITE_NAME),
            access: Access::Direct,
            database: self.state.identity.database,
            page_bytes: self.page_bytes(),
        };
        Ok(file.scan()?)
    }

    /// The log.
    pub(crate) fn log(&self) -> Result<Arc<LogFiles>, Failure> {
        Ok(LogFiles::of(Arc::clone(&self.disk), &self.dir.join(WAL_NAME), &self.state)?)
    }

    /// Where the log ends, by the decision that recovery makes as well: with what these images of
    /// pages prove.
    pub(crate) fn log_end(&self, log: &Arc<LogFiles>, slots: &[Slot]) -> Result<LogEnd, Failure> {
        Ok(find_log_end(log, &self.state, slots)?)
    }

    /// What recovery would do.
    pub(crate) fn outlook(&self, log: &Arc<LogFiles>, end_lsn: Lsn) -> Result<Outlook, Failure> {
        Ok(Outlook::make(log, &self.state, end_lsn)?)
    }

    /// What is wrong with the undo files that recovery would read.
    pub(crate) fn undo_findings(&self, outlook: &Outlook) -> Vec<Error> {
        outlook.undo_findings(&*self.disk, &self.dir, self.state.identity.database)
    }

    /// The lowest position that the log still holds.
    pub(crate) fn log_start(&self, log: &LogFiles) -> Lsn {
        let first_epoch = log.epochs()[0].entry;
        if log.segments().contains_key(&first_epoch.segment) {
            return first_epoch.start_lsn;
        }
        let known = |identity| log.epochs().iter().any(|epoch| epoch.identity == identity);
        let headers = log.segments().values().filter_map(|info| info.header.as_ref().ok());
        let first = headers.filter(|header| known(header.identity)).map(|header| header.first_lsn);
        first.min().unwrap_or(first_epoch.start_lsn)
    }

    /// Names and numbers of trees, from those leaves of the catalogue that have reached the page
    /// file.
    pub(crate) fn tree_ids(&self) -> Result<Vec<(String, TreeId)>, Failure> {
        let pages = self.pages()?;
        let mut page = AlignedBuf::new(self.page_bytes());
        let mut names = Vec::new();
        for number in 0..pages.pages() {
            if !matches!(
                pages.read_page(PageId::new(number), &mut page),
                Ok(Verified::Page(PageKind::Leaf))
            ) {
                continue;
            }
            let leaf = LeafView::new(&page);
            if leaf.page().tree() == TreeId::CATALOGUE {
                names.extend((0..leaf.count()).filter_map(|slot| name_in(leaf, slot)));
            }
        }
        Ok(names)
    }

    /// Lengths of the files; a file or folder that is not there has none.
    pub(crate) fn sizes(&self) -> Result<Sizes, Failure> {
        Ok(Sizes {
            pages: self.size_of(&self.dir.join(PAGES_NAME))?,
            doublewrite: self.size_of(&self.dir.join(DOUBLEWRITE_NAME))?,
            wal: self.size_of_folder(&self.dir.join(WAL_NAME))?,
            undo: self.size_of_folder(&self.dir.join(UNDO_NAME))?,
        })
    }

    fn size_of(&self, path: &Path) -> Result<u64, Failure> {
        match self.disk.size(path) {
            Ok(size) => Ok(size.length_bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::io(path, error).into()),
        }
    }

    fn size_of_folder(&self, path: &Path) -> Result<u64, Failure> {
        let names = match self.disk.list(path) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::io(path, error).into()),
        };
        names.iter().map(|name| self.size_of(&path.join(name))).sum()
    }
}

/// Turns what is wrong with a record's content, whose checksum is right, into a failure.
pub(crate) fn undecodable(
    log: &LogFiles,
    found: &LogRecord<'_>,
) -> impl Fn(DecodeError) -> Failure {
    let (lsn, frame_at) = (found.lsn, found.frame_at);
    move |error| log.damaged_record(lsn, frame_at, error).into()
}

/// Why the log ends where it does, in words. The other cases of the table are errors of
/// [`Files::log_end`], with sentences of their own.
pub(crate) fn describe_end(case: TailCase) -> &'static str {
    match case {
        TailCase::CleanEnd => "where a clean shutdown noted it",
        TailCase::OpenEnd => "nothing follows",
        TailCase::TornTail => "what follows was never finished, and is cut",
        TailCase::NewerEpoch | TailCase::LostDurable | TailCase::BeyondClean => {
            unreachable!("a log with such an end is refused")
        }
    }
}

/// The name and number in a row of the catalogue; `None` for another row.
fn name_in(leaf: LeafView<'_>, slot: usize) -> Option<(String, TreeId)> {
    let cell = leaf.cell_at(slot);
    let key = leaf.key_at(slot).to_vec();
    let name = row::name_of(&key).ok().filter(|_| !cell.is_ghost)?;
    Some((name.to_owned(), row::decode_name_value(cell.value).ok()?))
}
