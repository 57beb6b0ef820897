//! Iteration over a range of keys, from either end, while writers run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::AtomicBool;
use seawall_wal::{Result, TreeId};

use super::core::Shared;
use super::registered::Registered;
use crate::Value;
use crate::catalogue::TreeInfo;
use crate::engine::{End, Found, LeafPairs, ReadAt, Rest, View};
use crate::key_range::KeyBounds;
use crate::txn::{CommitCell, ReadRange, ReadSet};

type Pair = (Value, Value);

/// A pair as it was copied from its leaf: of a large value only the link, which is followed when the
/// pair is taken. A leaf can link to far more than memory holds.
struct Copied {
    key: Value,
    value: Value,
    found: Found,
}

thread_local! {
    /// Memory for the copies of leaves, kept from one scan to the next.
    static LEAF: RefCell<LeafPairs> = RefCell::default();
}

/// An iterator over the pairs of a range, in key order, from both ends. It reads one leaf at a time, and
/// a large value when its pair is taken; it sees one moment of the database (in a transaction, also the
/// transaction's own writes).
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
    front: VecDeque<Copied>,
    back: VecDeque<Copied>,
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

    /// Notes that the range was read from `end` to `rest`.
    fn note(&mut self, end: End, rest: &Rest) {
        let whole = &self.whole;
        let (lower, upper) = match (rest, end) {
            (Rest::Done, _) => (own(&whole.lower), own(&whole.upper)),
            (Rest::From(key), End::Front) => (own(&whole.lower), Bound::Excluded(key.clone())),
            (Rest::From(key), End::Back) => (Bound::Included(key.clone()), own(&whole.upper)),
        };
        let range = ReadRange { tree: self.tree, lower, upper };
        let index = match end {
            End::Front => &mut self.front,
            End::Back => &mut self.back,
        };
        let mut reads = self.reads.lock();
        match *index {
            Some(index) => reads.grow_range(index, range),
            None => *index = Some(reads.add_range(range)),
        }
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

    /// Notes how far the range was read from `end`, where it will be validated.
    fn note(&mut self, end: End, rest: &Rest) {
        if let Self::Transaction(TransactionReader { reads: Some(reads), .. }) = self {
            reads.note(end, rest);
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

    /// Copies the next leaf from `end`. Returns what remains behind it, which [`Range::advance`] is
    /// told once the pairs are read; `None` when nothing was left.
    fn copy_leaf(&mut self, end: End) -> Result<Option<Rest>> {
        let Some(bounds) = &self.rest else { return Ok(None) };
        let (bounds, at) = (borrow(bounds), self.reader.at());
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        self.leaf.clear();
        engine.copy_leaf(&self.tree, end, bounds, at, &mut self.leaf).map(Some)
    }

    /// Goes on to what remains behind a leaf that was read from `end`.
    fn advance(&mut self, end: End, rest: Rest) {
        self.reader.note(end, &rest);
        match (rest, &mut self.rest) {
            (Rest::From(key), Some(bounds)) => match end {
                End::Front => bounds.lower = Bound::Included(Value::from(key)),
                End::Back => bounds.upper = Bound::Excluded(Value::from(key)),
            },
            _ => self.rest = None,
        }
    }

    /// Reads the next leaf from `end`, whose pairs were all taken.
    fn fill(&mut self, end: End) -> Result<()> {
        let Some(rest) = self.copy_leaf(end)? else { return Ok(()) };
        let pairs = match end {
            End::Front => &mut self.front,
            End::Back => &mut self.back,
        };
        pairs.extend((0..self.leaf.len()).map(|index| {
            let (key, value, found) = self.leaf.get(index);
            Copied { key: Value::from(key), value: Value::from(value), found }
        }));
        self.advance(end, rest);
        Ok(())
    }

    /// Takes the next pair from `end`, its value not looked for.
    fn pop(&mut self, end: End) -> Option<Result<Copied>> {
        loop {
            let (first, other) = match end {
                End::Front => (self.front.pop_front(), &mut self.back),
                End::Back => (self.back.pop_back(), &mut self.front),
            };
            if let Some(copied) = first {
                return Some(Ok(copied));
            }
            if self.rest.is_none() {
                let last = match end {
                    End::Front => other.pop_front(),
                    End::Back => other.pop_back(),
                };
                return last.map(Ok);
            }
            if let Err(error) = self.fill(end) {
                self.end();
                return Some(Err(error));
            }
        }
    }

    /// The next key, whose value is not looked for.
    pub(super) fn next_key(&mut self) -> Option<Result<Value>> {
        self.pop(End::Front).map(|taken| taken.map(|copied| copied.key))
    }

    fn next_from(&mut self, end: End) -> Option<Result<Pair>> {
        let taken = self.pop(end)?;
        let pair = taken.and_then(|Copied { key, value, found }| match found {
            Found::Inline => Ok((key, value)),
            Found::Overflow => Ok((key, Value::from(self.large_value(&value)?))),
        });
        Some(pair.inspect_err(|_| self.end()))
    }

    /// The value behind a link that was copied.
    fn large_value(&self, link: &[u8]) -> Result<Vec<u8>> {
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        let value = engine.read_overflow(link);
        engine.check_read(&self.tree, View::At(self.reader.at()))?;
        value
    }

    fn end(&mut self) {
        self.rest = None;
        self.front.clear();
        self.back.clear();
    }

    /// Calls `visit` for each pair without allocating one by one.
    pub(super) fn visit<R>(
        mut self,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Result<Option<R>> {
        // A closure that scans by itself finds none here, and leaves one.
        self.leaf = LEAF.take();
        let visited = self.visit_leaves(visit);
        LEAF.set(std::mem::take(&mut self.leaf));
        visited
    }

    fn visit_leaves<R>(
        &mut self,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Result<Option<R>> {
        while let Some(rest) = self.copy_leaf(End::Front)? {
            // Before anything of the leaf is shown: the closure may panic.
            self.reader.note(End::Front, &rest);
            for index in 0..self.leaf.len() {
                let (key, value, found) = self.leaf.get(index);
                let flow = match found {
                    Found::Inline => visit(key, value),
                    Found::Overflow => visit(key, &self.large_value(value)?),
                };
                if let ControlFlow::Break(result) = flow {
                    self.reader.note(End::Front, &Rest::From(successor(key)));
                    return Ok(Some(result));
                }
            }
            self.advance(End::Front, rest);
        }
        Ok(None)
    }
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Iterator for Range<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_from(End::Front)
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_from(End::Back)
    }
}

impl FusedIterator for Range<'_> {}

impl fmt::Debug for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Range").field("tree", &self.tree.id).field("rest", &self.rest).finish()
    }
}
