//! Creating a database.
//!
//! `control` is written first, and says that the database is being created; it says so until the
//! first checkpoint is durable. If we crash in between, nobody can have stored anything, and the
//! next open starts over.

use seawall_wal::codec::to_u64;
use seawall_wal::control::{Control, ControlState, Identity, LogPosition, Shutdown};
use seawall_wal::disk::{BLOCK_BYTES, DirectoryLock, OpenMode};
use seawall_wal::log::{CreditRequest, Purpose, Segments};
use seawall_wal::record::{Body, Extent, Op, PageRef};
use seawall_wal::{Error, Lsn, PageId, Result, TreeId};

use super::{Opened, Opening};
use crate::RecoveryReport;
use crate::catalogue::{CATALOGUE_ROOT, Registry, TreeInfo};
use crate::checkpoint::Spill;
use crate::engine::{Chain, Engine};
use crate::options::PAGE_BYTES_DEFAULT;
use crate::page::{NodeSpec, PageRead, apply, empty_bitmap, empty_leaf, image_of};

/// The first bitmap page.
const FIRST_BITMAP: PageId = PageId::new(0);
/// Log bytes of a record that gives a page its content, beside the content.
const IMAGE_RECORD_BYTES: u64 = 256;
/// Id of the first tree that a user creates; 0 is the catalogue.
pub(super) const FIRST_TREE: TreeId = TreeId::new(1);

impl Opening<'_> {
    pub(super) fn create(&self, lock: Box<dyn DirectoryLock>) -> Result<Opened> {
        let page_bytes = self.options.page_bytes.unwrap_or(PAGE_BYTES_DEFAULT);
        let sizing = self.sizing(page_bytes)?;
        let disk = &*self.disk;
        let layout = &self.layout;
        self.remove_unfinished()?;

        let source = self.options.source;
        let database = source.database_id()?;
        let created_ms = source.now_ms(0);
        let identity = Identity { database, page_bytes, created_ms };
        let first_at = LogPosition { segment: 1, offset: to_u64(BLOCK_BYTES) };
        let state = ControlState::new(identity, source.nonce(0)?, first_at);
        let entry = *state.last_epoch();
        let control = Control::create(disk, &layout.dir, state)?;

        let segments = Segments::create(disk, &layout.wal, sizing.segments)?;
        let file = self.page_file(OpenMode::Create, database, &sizing)?;
        self.doublewrite(database, &sizing).create(sizing.batch_pages)?;
        disk.sync_dir(&layout.dir).map_err(|error| Error::io(&layout.dir, error))?;

        let base = self.base(segments, entry, database, file, sizing)?;
        let catalogue = TreeInfo::new(TreeId::CATALOGUE, CATALOGUE_ROOT, 0);
        let trees = Registry::new(FIRST_TREE, vec![catalogue]);
        let engine = self.put_together(&base, trees, 1, created_ms)?;
        init_pages(&engine)?;
        let mut opened = base.opened(engine, control, lock, RecoveryReport::default());
        opened.checkpointer.take(Spill::BeyondShare)?;
        opened.checkpointer.control().update(|state| state.shutdown = Shutdown::Open)?;
        opened.report.created = true;
        opened.report.clean = true;
        opened.report.end_lsn = entry.start_lsn;
        opened.report.redo_lsn = entry.start_lsn;
        opened.report.total = self.started.elapsed();
        Ok(opened)
    }

    /// Removes what an earlier creation left that did not come to its end.
    fn remove_unfinished(&self) -> Result<()> {
        let (disk, layout) = (&*self.disk, &self.layout);
        let remove = |path: &std::path::Path| match disk.remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(path, error))
            }
            _ => Ok(()),
        };
        match disk.list(&layout.wal) {
            Ok(names) => names.iter().try_for_each(|name| remove(&layout.wal.join(name)))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&layout.wal, error)),
        }
        remove(&layout.pages)?;
        remove(&layout.doublewrite)
    }
}

/// Logs the first bitmap page and the empty catalogue.
fn init_pages(engine: &Engine) -> Result<()> {
    engine.file.grow_to(CATALOGUE_ROOT.get() + 1)?;
    let mut bitmap = empty_bitmap(engine.page_bytes, FIRST_BITMAP);
    let root = Extent { first: CATALOGUE_ROOT, count: 1 };
    apply(&mut bitmap, FIRST_BITMAP, &Op::Allocate(root)).expect("page 1 is free in a new bitmap");
    let spec = NodeSpec::root(CATALOGUE_ROOT, TreeId::CATALOGUE, 0);
    let leaf = empty_leaf(engine.page_bytes, &spec);
    for (page, image) in [(FIRST_BITMAP, &bitmap), (CATALOGUE_ROOT, &leaf)] {
        let (low, high) = image_of(image.bytes());
        let payload_bytes = IMAGE_RECORD_BYTES + to_u64(low.len() + high.len());
        let purpose = Purpose::Normal;
        let mut credit =
            engine.credit(&CreditRequest { payload_bytes, is_sync_commit: false, purpose })?;
        let mut appender = engine.appenders.acquire();
        let mut frame = engine.pool.pin_new(page)?.into_exclusive();
        let op = Op::Image { low, high };
        let page_ref =
            PageRef { page, page_prev_lsn: Lsn::NONE, is_init: true, ops: vec![op].into() };
        let body = Body::Structure { refs: vec![page_ref] };
        engine.append(&mut appender, &mut credit, Chain::NONE, &body, &mut [&mut frame], |_| {});
    }
    Ok(())
}
