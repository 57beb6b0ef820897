//! Iteration over a range of keys, from either end, while writers run.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::AtomicBool;
use seawall_wal::{Result, TreeId};

use super::core::{Core, Shared};
use super::registered::Registered;
use crate::Value;
use crate::catalogue::TreeInfo;
use crate::engine::{Engine, Found, LeafPairs, ReadAt, Rest};
use crate::key_range::KeyBounds;
use crate::txn::{CommitCell, ReadRange, ReadSet};

type Pair = (Value, Value);

/// An iterator over the pairs of a range, in key order, from both ends. It reads one leaf at a time
/// and sees one moment of the database (in a transaction, also the transaction's own writes).
///
/// An error ends it. It keeps old versions from being collected while it lives, never the log.
/// Where that takes too much memory for too long it is revoked, and ends with
/// [`Error::SnapshotTooOld`](crate::Error::SnapshotTooOld).
pub struct Range<'tx> {
    shared: Arc<Shared>,
    tree: Arc<TreeInfo>,
    reader: Reader,
    /// What has not been read yet; `None` when everything has.
    rest: Option<KeyBounds>,
    front: VecDeque<Pair>,
    back: VecDeque<Pair>,
    leaf: LeafPairs,
    transaction: PhantomData<&'tx ()>,
}

/// Whose view a range has.
pub(super) enum Reader {
    Snapshot(Arc<Registered>),
    Transaction(TransactionReader),
}

/// The view of a transaction, which is registered for as long as the range borrows it.
pub(super) struct TransactionReader {
    pub(super) read_lsn: seawall_wal::Lsn,
    pub(super) low_lsn: seawall_wal::Lsn,
    pub(super) own: Arc<CommitCell>,
    pub(super) revoked: Option<Arc<AtomicBool>>,
    pub(super) reads: Option<TrackedReads>,
}

/// The two ends of a range as far as they were read, in the read set of a serializable transaction.
pub(super) struct TrackedReads {
    reads: Arc<Mutex<ReadSet>>,
    tree: TreeId,
    whole: KeyBounds,
    front: Option<usize>,
    back: Option<usize>,
}

impl TrackedReads {
    pub(super) fn new(reads: &Arc<Mutex<ReadSet>>, tree: TreeId, whole: &KeyBounds) -> Self {
        let reads = Arc::clone(reads);
        Self { reads, tree, whole: whole.clone(), front: None, back: None }
    }

    /// Notes that the range was read from its lower end up to `rest`.
    fn read_front(&mut self, rest: &Rest) {
        let upper = match rest {
            Rest::Done => own(&self.whole.upper),
            Rest::From(key) => Bound::Excluded(key.clone()),
        };
        let range = ReadRange { tree: self.tree, lower: own(&self.whole.lower), upper };
        note(&self.reads, &mut self.front, range);
    }

    /// Notes that the range was read from its upper end down to `rest`.
    fn read_back(&mut self, rest: &Rest) {
        let lower = match rest {
            Rest::Done => own(&self.whole.lower),
            Rest::From(key) => Bound::Included(key.clone()),
        };
        let range = ReadRange { tree: self.tree, lower, upper: own(&self.whole.upper) };
        note(&self.reads, &mut self.back, range);
    }
}

fn note(reads: &Mutex<ReadSet>, index: &mut Option<usize>, range: ReadRange) {
    let mut reads = reads.lock();
    match *index {
        Some(index) => reads.grow_range(index, range),
        None => *index = Some(reads.add_range(range)),
    }
}

fn own(bound: &Bound<Value>) -> Bound<Vec<u8>> {
    bound.as_ref().map(|key| key.to_vec())
}

fn borrow(bounds: &KeyBounds) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.lower.as_ref().map(|key| &key[..]), bounds.upper.as_ref().map(|key| &key[..]))
}

impl Reader {
    fn at(&self) -> ReadAt<'_> {
        match self {
            Self::Snapshot(registered) => registered.at(None),
            Self::Transaction(reader) => ReadAt {
                read_lsn: reader.read_lsn,
                low_lsn: reader.low_lsn,
                own: Some(&reader.own),
                revoked: reader.revoked.as_deref(),
            },
        }
    }

    fn tracked(&mut self) -> Option<&mut TrackedReads> {
        match self {
            Self::Snapshot(_) => None,
            Self::Transaction(reader) => reader.reads.as_mut(),
        }
    }
}

impl Range<'_> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        tree: &Arc<TreeInfo>,
        reader: Reader,
        bounds: KeyBounds,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            tree: Arc::clone(tree),
            reader,
            rest: (!bounds.is_empty()).then_some(bounds),
            front: VecDeque::new(),
            back: VecDeque::new(),
            leaf: LeafPairs::default(),
            transaction: PhantomData,
        }
    }

    /// Reads the next leaf from the lower end.
    fn fill_front(&mut self) -> Result<()> {
        let Some(bounds) = &mut self.rest else { return Ok(()) };
        let core = &self.shared.core;
        core.engine.check_open()?;
        self.leaf.clear();
        let at = self.reader.at();
        let rest = core.engine.copy_first_leaf(&self.tree, borrow(bounds), at, &mut self.leaf)?;
        let appended = append_pairs(core, &self.leaf, &mut self.front);
        self.reader.at().check()?;
        appended?;
        if let Some(tracked) = self.reader.tracked() {
            tracked.read_front(&rest);
        }
        match rest {
            Rest::Done => self.rest = None,
            Rest::From(key) => bounds.lower = Bound::Included(Value::from(key)),
        }
        Ok(())
    }

    /// Reads the next leaf from the upper end.
    fn fill_back(&mut self) -> Result<()> {
        let Some(bounds) = &mut self.rest else { return Ok(()) };
        let core = &self.shared.core;
        core.engine.check_open()?;
        self.leaf.clear();
        let at = self.reader.at();
        let rest = core.engine.copy_last_leaf(&self.tree, borrow(bounds), at, &mut self.leaf)?;
        let appended = append_pairs(core, &self.leaf, &mut self.back);
        self.reader.at().check()?;
        appended?;
        if let Some(tracked) = self.reader.tracked() {
            tracked.read_back(&rest);
        }
        match rest {
            Rest::Done => self.rest = None,
            Rest::From(key) => bounds.upper = Bound::Excluded(Value::from(key)),
        }
        Ok(())
    }

    fn end(&mut self) {
        self.rest = None;
        self.front.clear();
        self.back.clear();
    }

    /// Calls `visit` for each pair without allocating one by one.
    pub(super) fn visit<R>(
        mut self,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Result<Option<R>> {
        while let Some(bounds) = &mut self.rest {
            let engine = &self.shared.core.engine;
            engine.check_open()?;
            self.leaf.clear();
            let at = self.reader.at();
            let rest = engine.copy_first_leaf(&self.tree, borrow(bounds), at, &mut self.leaf)?;
            for index in 0..self.leaf.len() {
                let (key, value, found) = self.leaf.get(index);
                let flow = match found {
                    Found::Inline => visit(key, value),
                    Found::Overflow => {
                        let value = engine.read_overflow(value);
                        self.reader.at().check()?;
                        visit(key, &value?)
                    }
                };
                if let ControlFlow::Break(result) = flow {
                    let read_to = Rest::From(successor(key));
                    if let Some(tracked) = self.reader.tracked() {
                        tracked.read_front(&read_to);
                    }
                    return Ok(Some(result));
                }
            }
            if let Some(tracked) = self.reader.tracked() {
                tracked.read_front(&rest);
            }
            match rest {
                Rest::Done => self.rest = None,
                Rest::From(key) => bounds.lower = Bound::Included(Value::from(key)),
            }
        }
        Ok(None)
    }
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn append_pairs(core: &Core, leaf: &LeafPairs, out: &mut VecDeque<Pair>) -> Result<()> {
    let engine: &Engine = &core.engine;
    let from = out.len();
    for index in 0..leaf.len() {
        let (key, value, found) = leaf.get(index);
        let value = match found {
            Found::Inline => Value::from(value),
            Found::Overflow => Value::from(engine.read_overflow(value)?),
        };
        out.push_back((Value::from(key), value));
    }
    debug_assert_eq!(out.len() - from, leaf.len());
    Ok(())
}

impl Iterator for Range<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.front.pop_front() {
                return Some(Ok(pair));
            }
            if self.rest.is_none() {
                return self.back.pop_front().map(Ok);
            }
            if let Err(error) = self.fill_front() {
                self.end();
                return Some(Err(error));
            }
        }
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.back.pop_back() {
                return Some(Ok(pair));
            }
            if self.rest.is_none() {
                return self.front.pop_back().map(Ok);
            }
            if let Err(error) = self.fill_back() {
                self.end();
                return Some(Err(error));
            }
        }
    }
}

impl FusedIterator for Range<'_> {}

impl fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").field("tree", &self.tree.id).field("rest", &self.rest).finish()
    }
}
