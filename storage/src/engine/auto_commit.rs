//! Writes that commit by themselves: one record that carries the change and its commit. There is
//! nothing to undo, so it carries no before-image and keeps no capacity.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{Credit, CreditRequest, Purpose};
use seawall_wal::record::{Body, Cell, CommitInfo, Extent, Op, PageRef, TreeDelta, WriteKind};
use seawall_wal::sync::Instant;
use seawall_wal::{Lsn, Result};

use super::Engine;
use super::append::{Chain, page_lsn};
use crate::catalogue::{SharedTree, TreeInfo};
use crate::page::{Incoming, LeafView, PageRead};
use crate::planted::{Bug, is_planted};
use crate::pool::ExclusivePage;
use crate::tree::Seek;
use crate::txn::{AppenderGuard, CommitCell, Written};
use crate::version::{Head, VersionKey};
use crate::{Durability, Error};

/// How long an auto-commit write waits for other writers of its key or tree.
pub(crate) const CONFLICT_WAIT: Duration = Duration::from_secs(1);
/// Envelope, commit information, reference and operation around keys and values, at most.
pub(super) const CHANGE_RECORD_BYTES: u64 = 256;

/// What to do with a key once its cell is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision<'a> {
    Keep,
    Put(&'a [u8]),
    /// Put the link to an overflow value.
    PutLink(&'a [u8]),
    Delete,
}

/// What an auto-commit write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) is_written: bool,
    /// Where the operation may end: its commit, or the commit that its answer rests on (T1).
    pub(crate) lsn: Lsn,
}

/// A write that is decided, and is logged next.
struct Write<'a> {
    key: &'a VersionKey,
    op: Op<'a>,
    writer: Arc<CommitCell>,
    commit: CommitInfo,
    is_sync: bool,
}

/// How one try ended.
enum Try {
    Done(Outcome),
    /// Another writer holds the key.
    Held(Arc<CommitCell>),
    /// The leaf has no room.
    Full,
}

impl<'v> Decision<'v> {
    /// What this does to a key with this live cell, and the cell that the key has then; `None` where
    /// nothing changes.
    pub(super) fn write(self, live: Option<Cell<'_>>) -> Option<(WriteKind, Cell<'v>)> {
        let put_kind = if live.is_some() { WriteKind::Replace } else { WriteKind::Insert };
        match self {
            Self::Keep => None,
            Self::Put(value) => Some((put_kind, Cell::inline(value))),
            Self::PutLink(link) => Some((put_kind, Cell::overflow(link))),
            Self::Delete => live.map(|_| (WriteKind::Delete, Cell::GHOST)),
        }
    }
}

impl Engine {
    /// Writes one inline value, or deletes one key, as `decide` says when it sees the key's live
    /// cell. Returns when the outcome is logged; the caller waits for [`Outcome::lsn`] to be visible.
    pub(crate) fn auto_commit<'v>(
        &self,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value_bytes_max: usize,
        durability: Durability,
        decide: impl Fn(Option<Cell<'_>>) -> Decision<'v>,
    ) -> Result<Outcome> {
        let deadline = Instant::now() + CONFLICT_WAIT;
        let version_key = VersionKey::new(tree.id, key);
        loop {
            let shared = self.share_until(tree, deadline)?;
            self.check_tree(tree)?;
            match self.try_auto_commit(tree, &version_key, value_bytes_max, durability, &decide)? {
                Try::Done(outcome) => return Ok(outcome),
                Try::Full => self.make_room(tree, key, value_bytes_max)?,
                Try::Held(holder) => {
                    drop(shared);
                    if !self.txns.wait_for(&holder, deadline) {
                        return Err(self.conflict());
                    }
                }
            }
        }
    }

    /// Shares a tree, and waits for whoever holds it exclusive, until the deadline.
    fn share_until(&self, tree: &Arc<TreeInfo>, deadline: Instant) -> Result<SharedTree> {
        loop {
            match tree.share(None) {
                Err(Error::Conflict) if Instant::now() < deadline => {
                    self.txns.wait_for_an_end(deadline);
                }
                shared => return shared,
            }
        }
    }

    fn try_auto_commit<'v>(
        &self,
        tree: &Arc<TreeInfo>,
        version_key: &VersionKey,
        value_bytes_max: usize,
        durability: Durability,
        decide: &impl Fn(Option<Cell<'_>>) -> Decision<'v>,
    ) -> Result<Try> {
        let key = version_key.key();
        let is_sync = durability == Durability::Sync;
        let mut credit = self.credit(&CreditRequest {
            payload_bytes: CHANGE_RECORD_BYTES + to_u64(key.len() + value_bytes_max),
            is_sync_commit: is_sync,
            purpose: Purpose::Normal,
        })?;
        let mut appender = self.appenders.acquire();
        let mut page: ExclusivePage<'_> = self.descent(tree).leaf(Seek::Key(key))?;

        let leaf = LeafView::new(page.bytes());
        let cell = leaf.get(key);
        let seen_lsn = match self.head(version_key, cell.as_ref(), None) {
            Head::Active(holder) => return Ok(Try::Held(holder)),
            Head::Committed(lsn) => lsn,
            Head::None | Head::Own => Lsn::NONE,
        };
        let live = cell.filter(|cell| !cell.is_ghost);
        let Some((kind, after)) = decide(live).write(live) else {
            return Ok(Try::Done(Outcome { is_written: false, lsn: seen_lsn }));
        };
        if !leaf.fits_put(key, &after) {
            return Ok(Try::Full);
        }

        let freed = self.freed_with(live)?;
        let (writer, commit) = self.enter_auto_commit(tree, version_key, cell, kind, freed);
        let op = Op::Put { tree: tree.id, key, kind, after, before: None };
        let write = Write { key: version_key, op, writer, commit, is_sync };
        let lsn = self.log_auto_commit(&mut appender, &mut credit, &mut page, write);
        self.counters.commit();
        Ok(Try::Done(Outcome { is_written: true, lsn }))
    }

    /// Leaves what others have to find of a commit once it is logged: the extents that it frees, the
    /// version that it replaces, and the change of the tree's size.
    fn enter_auto_commit(
        &self,
        tree: &TreeInfo,
        key: &VersionKey,
        replaced: Option<Cell<'_>>,
        kind: WriteKind,
        freed: Vec<Extent>,
    ) -> (Arc<CommitCell>, CommitInfo) {
        let writer = Arc::new(CommitCell::new());
        self.enter_frees(&freed, &writer);
        let is_delete = kind == WriteKind::Delete;
        self.versions.push(key, &writer, replaced, is_delete, self.horizon_hint());
        let deltas = self.push_delta(tree, &writer, kind);
        let mut commit =
            CommitInfo { wall_ms: self.wall_ms(), deltas, freed, ..CommitInfo::default() };
        if is_planted(Bug::CommitDeltaLost) {
            commit.deltas.clear();
        }
        (writer, commit)
    }

    /// Logs a write with its commit. Returns the commit.
    fn log_auto_commit(
        &self,
        appender: &mut AppenderGuard<'_>,
        credit: &mut Credit,
        page: &mut ExclusivePage<'_>,
        write: Write<'_>,
    ) -> Lsn {
        let Write { key, op, writer, commit, is_sync } = write;
        let refs = vec![PageRef {
            page: page.id(),
            page_prev_lsn: page_lsn(page),
            is_init: false,
            ops: Cow::Borrowed(std::slice::from_ref(&op)),
        }];
        let body = Body::AutoCommit { commit, refs };
        let pass = self.gate.pass(|| Written::keys(std::slice::from_ref(key)));
        let mut pending = is_sync.then(|| self.log.begin_sync_commit());
        let appended = self.append(appender, credit, Chain::NONE, &body, &mut [page], |appended| {
            writer.commit(appended.end);
            if let Some(pending) = &mut pending {
                pending.set_end(appended.end);
            }
        });
        drop(pass);
        appended.end
    }

    /// Notes the change of the tree's size by a commit to come.
    fn push_delta(
        &self,
        tree: &TreeInfo,
        writer: &Arc<CommitCell>,
        kind: WriteKind,
    ) -> Vec<TreeDelta> {
        let delta = delta_of(kind);
        if delta == 0 {
            return Vec::new();
        }
        tree.size.push(writer, delta, self.fold_limit());
        vec![TreeDelta { tree: tree.id, delta }]
    }

    /// Makes room on the leaf of `key` for a value of up to `value_bytes`.
    fn make_room(&self, tree: &TreeInfo, key: &[u8], value_bytes: usize) -> Result<()> {
        let value = vec![0; value_bytes];
        let incoming = Incoming::Cell { key, cell: Cell::inline(&value) };
        self.split_for(tree, &incoming, None)
    }
}

/// Change of a tree's size by one write.
pub(super) const fn delta_of(kind: WriteKind) -> i64 {
    match kind {
        WriteKind::Insert => 1,
        WriteKind::Replace => 0,
        WriteKind::Delete => -1,
    }
}
