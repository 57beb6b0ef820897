//! One command's, or one EXEC's, look at the keys and its writes.
//!
//! A unit is used under the locks that the dispatcher holds for the command. Its writes are kept back
//! until [`Unit::commit`]: a single row becomes one auto-commit record, more become a transaction, so a
//! command happens whole or not at all. Reads of the unit see its own writes. Since the locks keep
//! everybody else away from these keys, its transaction needs no validation and meets no conflict.
//!
//! A unit of a [`View`] reads one moment and writes nothing; one of an [`Open`] transaction reads and writes
//! that, and commits nothing.
//!
//! If we crash before the commit is logged, nothing has happened; behind it, everything, and the reply
//! leaves only when the log is flushed to [`Unit::rests_on`].

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use seawall::{Durability, Isolation, Lsn, Transaction, TransactionOptions, Tree};

use super::row::{Kind, Row, client_key, engine_key, expiry_key};
use super::{KeySpan, Keyspace, Open, Order, Rows, Space, TreeBounds, View};
use crate::failure::{Failure, Outcome};
use crate::limits;

/// A key as a command finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// What a unit looks at.
#[derive(Debug)]
pub(crate) enum Moment {
    Present,
    /// Who took the view has waited for all that is seen in it: answers rest on nothing.
    View(Arc<View>),
    /// What is read is provisional until it commits: answers rest on nothing.
    Open(Box<Open>),
}

#[derive(Debug)]
enum Pending {
    Nothing,
    One { tree: Tree, key: Vec<u8>, value: Option<Vec<u8>> },
    Many(Transaction),
}

/// Reads and writes that belong together.
#[derive(Debug)]
pub(crate) struct Unit<'k> {
    keyspace: &'k Keyspace,
    now_ms: u64,
    pending: Pending,
    touched: Vec<(usize, Vec<u8>)>,
    /// Keys were written that `touched` does not name.
    is_wide: bool,
    moment: Moment,
    /// Databases that show another space once this is committed.
    spaces: Vec<(usize, Arc<Space>)>,
    /// The commit that what was read rests on.
    rests_on: Lsn,
    /// The last commit.
    committed: Option<Lsn>,
    is_sync: bool,
}

impl<'k> Unit<'k> {
    pub(crate) fn new(keyspace: &'k Keyspace, now_ms: u64, is_sync: bool) -> Self {
        Self {
            keyspace,
            now_ms,
            pending: Pending::Nothing,
            touched: Vec::new(),
            is_wide: false,
            moment: Moment::Present,
            spaces: Vec::new(),
            rests_on: Lsn::default(),
            committed: None,
            is_sync,
        }
    }

    /// A unit that looks at a moment, whose time it has.
    pub(crate) fn at(keyspace: &'k Keyspace, moment: Moment, is_sync: bool) -> Self {
        let now_ms = match &moment {
            Moment::Present => crate::clock::now_ms(),
            Moment::View(view) => view.now_ms,
            Moment::Open(open) => open.now_ms,
        };
        Self { moment, ..Self::new(keyspace, now_ms, is_sync) }
    }

    /// The open transaction, behind a command that has succeeded or failed.
    pub(crate) fn take_open(&mut self, has_succeeded: bool) -> Option<Box<Open>> {
        let Moment::Open(mut open) = std::mem::replace(&mut self.moment, Moment::Present) else {
            return None;
        };
        if has_succeeded {
            open.keep(self.touched.drain(..));
        } else {
            open.take_back();
        }
        Some(open)
    }

    /// Commits the open transaction, under the exclusive gate; returns where. The unit is one of the
    /// present from then on. Any error: nothing of the transaction has happened.
    pub(crate) fn commit_open(&mut self) -> Outcome<Lsn> {
        if let Moment::Open(open) = std::mem::replace(&mut self.moment, Moment::Present) {
            let (transaction, touched) =
                open.settle().map_err(|error| Failure::from(error).of_transaction())?;
            (self.pending, self.touched) = (Pending::Many(transaction), touched);
        }
        let lsn = self.commit().map_err(Failure::of_transaction)?;
        // What it has read is told with it.
        self.rest_on_all();
        Ok(lsn)
    }

    pub(crate) const fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What the reply has to wait for: everything below must be durable.
    pub(crate) const fn rests_on(&self) -> Lsn {
        self.rests_on
    }

    /// What was committed, if anything was.
    pub(crate) const fn committed(&self) -> Option<Lsn> {
        self.committed
    }

    /// Whether anything is to be written.
    pub(crate) fn has_written(&self) -> bool {
        !matches!(self.pending, Pending::Nothing)
    }

    pub(crate) fn space(&self, database: usize) -> Arc<Space> {
        match &self.moment {
            Moment::Present => {}
            Moment::View(view) => return view.space(database),
            Moment::Open(open) => return open.space(database),
        }
        let own = self.spaces.iter().rev().find(|(of, _)| *of == database);
        own.map_or_else(|| self.keyspace.space(database), |(_, space)| Arc::clone(space))
    }

    /// Calls `read` with the raw row of a tree.
    fn row<R>(&self, tree: &Tree, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Outcome<Option<R>> {
        match &self.moment {
            Moment::Present => {}
            Moment::View(view) => return Ok(view.snapshot.get_with(tree, key, read)?),
            Moment::Open(open) => return open.row(tree, key, read),
        }
        Ok(match &self.pending {
            Pending::Many(transaction) => transaction.get_with(tree, key, read)?,
            Pending::One { tree: written, key: of, value }
                if of == key && written.name() == tree.name() =>
            {
                value.as_deref().map(read)
            }
            _ => tree.get_with(key, read)?,
        })
    }

    /// Calls `read` with the row of a key, if the key is there.
    pub(crate) fn read<R>(
        &mut self,
        database: usize,
        key: &[u8],
        read: impl FnOnce(Row<'_>) -> R,
    ) -> Outcome<Option<R>> {
        self.rest_on(self.keyspace.unsettled.newest(self.keyspace.locks.hash(key)));
        if key.len() > limits::KEY_BYTES_MAX {
            return Ok(None);
        }
        let space = self.space(database);
        let now_ms = self.now_ms;
        let found = self.row(&space.keys, &engine_key(key), |bytes| -> Outcome<Option<R>> {
            let row = Row::decode(bytes)?;
            Ok((!row.is_expired(now_ms)).then(|| read(row)))
        })?;
        found.transpose().map(Option::flatten)
    }

    /// A key, copied.
    pub(crate) fn find(&mut self, database: usize, key: &[u8]) -> Outcome<Option<Found>> {
        self.read(database, key, |row| Found {
            kind: row.kind,
            expires_ms: row.expires_ms,
            body: row.body.to_vec(),
        })
    }

    /// A string's value and expiry; another type is an error.
    pub(crate) fn string(&mut self, database: usize, key: &[u8]) -> Outcome<Option<Found>> {
        match self.find(database, key)? {
            Some(found) if found.kind != Kind::String => Err(Failure::WRONG_TYPE),
            found => Ok(found),
        }
    }

    /// Whether a key is there.
    pub(crate) fn exists(&mut self, database: usize, key: &[u8]) -> Outcome<bool> {
        Ok(self.read(database, key, |_| ())?.is_some())
    }

    /// The expiry that a row has, expired or not.
    pub(super) fn raw_expiry(&self, space: &Space, key: &[u8]) -> Outcome<Option<u64>> {
        if !space.may_expire() {
            return Ok(None);
        }
        let expiry = |bytes: &[u8]| Row::decode(bytes).map(|row| row.expires_ms);
        self.row(&space.keys, &engine_key(key), expiry)?.unwrap_or(Ok(None))
    }

    /// Refuses a key that nothing can be put under.
    pub(crate) fn check_key(key: &[u8]) -> Outcome {
        let (length, most) = (key.len(), limits::KEY_BYTES_MAX);
        if length <= most {
            return Ok(());
        }
        Err(Failure::new(format!("ERR the key has {length} bytes; at most {most} are allowed")))
    }

    /// Puts a row under a key, whatever stood there.
    pub(crate) fn put(&mut self, database: usize, key: &[u8], row: &Row<'_>) -> Outcome {
        Self::check_key(key)?;
        let space = self.space(database);
        let before = self.raw_expiry(&space, key)?;
        if row.expires_ms.is_some() {
            space.expects_expiry();
        }
        self.write(&space.keys, &engine_key(key), Some(row.encode()))?;
        if before != row.expires_ms {
            if let Some(expires_ms) = before {
                self.write(&space.expiry, &expiry_key(expires_ms, key), None)?;
            }
            if let Some(expires_ms) = row.expires_ms {
                self.write(&space.expiry, &expiry_key(expires_ms, key), Some(Vec::new()))?;
            }
        }
        self.touched.push((database, key.to_vec()));
        Ok(())
    }

    pub(crate) fn put_string(
        &mut self,
        database: usize,
        key: &[u8],
        expires_ms: Option<u64>,
        value: &[u8],
    ) -> Outcome {
        self.put(database, key, &Row { kind: Kind::String, expires_ms, body: value })
    }

    /// Removes a key. Returns whether it was there.
    pub(crate) fn remove(&mut self, database: usize, key: &[u8]) -> Outcome<bool> {
        let Some(expires_ms) = self.read(database, key, |row| row.expires_ms)? else {
            return Ok(false);
        };
        let space = self.space(database);
        self.remove_rows(&space, key, expires_ms)?;
        self.touched.push((database, key.to_vec()));
        Ok(true)
    }

    pub(super) fn remove_rows(
        &mut self,
        space: &Space,
        key: &[u8],
        expires_ms: Option<u64>,
    ) -> Outcome {
        self.write(&space.keys, &engine_key(key), None)?;
        if let Some(expires_ms) = expires_ms {
            self.write(&space.expiry, &expiry_key(expires_ms, key), None)?;
        }
        Ok(())
    }

    fn write(&mut self, tree: &Tree, key: &[u8], value: Option<Vec<u8>>) -> Outcome {
        match &mut self.moment {
            Moment::Present => {}
            Moment::View(_) => return Err(Failure::READS_SNAPSHOT),
            Moment::Open(open) => return open.write(tree, key, value),
        }
        if matches!(self.pending, Pending::Nothing) {
            self.pending = Pending::One { tree: tree.clone(), key: key.to_vec(), value };
            return Ok(());
        }
        write_row(self.transaction()?, tree, key, value.as_deref())
    }

    /// The unit's transaction, begun where there was none.
    fn transaction(&mut self) -> Outcome<&mut Transaction> {
        if !matches!(self.moment, Moment::Present) {
            // Writes whole databases, which such a connection is refused by name.
            return Err(Failure::READS_SNAPSHOT);
        }
        if !matches!(self.pending, Pending::Many(_)) {
            let options = TransactionOptions::new()
                .isolation(Isolation::Snapshot)
                .durability(Durability::Relaxed);
            let mut transaction = self.keyspace.engine.begin_with(options)?;
            if let Pending::One { tree, key, value } = &self.pending {
                write_row(&mut transaction, tree, key, value.as_deref())?;
            }
            self.pending = Pending::Many(transaction);
        }
        match &mut self.pending {
            Pending::Many(transaction) => Ok(transaction),
            Pending::Nothing | Pending::One { .. } => unreachable!("it was begun above"),
        }
    }

    /// The raw rows of a tree between bounds, this unit's own writes among them. The caller says with
    /// [`Unit::rest_on_all`] that its answer rests on all of them.
    pub(crate) fn rows(
        &mut self,
        tree: &Tree,
        bounds: TreeBounds,
        order: Order,
    ) -> Outcome<Rows<'_>> {
        let is_written = self.has_written();
        let range = match &self.moment {
            Moment::Open(_) => return self.open_rows(tree, bounds, order),
            Moment::View(view) => view.snapshot.range(tree, bounds)?,
            Moment::Present if !is_written => tree.range(bounds)?,
            Moment::Present => self.transaction()?.range(tree, bounds)?,
        };
        Ok(Rows::new(range, order))
    }

    fn open_rows(&self, tree: &Tree, bounds: TreeBounds, order: Order) -> Outcome<Rows<'_>> {
        match &self.moment {
            Moment::Open(open) => open.rows(tree, bounds, order),
            Moment::Present | Moment::View(_) => unreachable!("the caller has looked"),
        }
    }

    /// [`Unit::rows`] in order, without a copy of each, until `visit` breaks.
    pub(crate) fn scan<R>(
        &mut self,
        tree: &Tree,
        bounds: TreeBounds,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Outcome<Option<R>> {
        let is_written = self.has_written();
        Ok(match &self.moment {
            Moment::Open(open) => {
                for pair in open.rows(tree, bounds, Order::Ascending)? {
                    let (key, value) = pair?;
                    if let ControlFlow::Break(result) = visit(&key, &value) {
                        return Ok(Some(result));
                    }
                }
                None
            }
            Moment::View(view) => view.snapshot.scan(tree, bounds, visit)?,
            Moment::Present if !is_written => tree.scan(bounds, visit)?,
            Moment::Present => self.transaction()?.scan(tree, bounds, visit)?,
        })
    }

    /// Removes the keys of a span, under the exclusive gate. Returns how many there were; expired ones
    /// go as well and do not count.
    pub(crate) fn remove_span(&mut self, database: usize, span: &KeySpan) -> Outcome<u64> {
        if matches!(self.moment, Moment::Open(_)) {
            return self.remove_each(database, span);
        }
        for key in self.keyspace.watches.of(database) {
            if span.contains(&key) && self.exists(database, &key)? {
                self.touched.push((database, key));
            }
        }
        let space = self.space(database);
        let bounds = span.bounds();
        let expired = self.remove_expiries(&space, bounds.clone())?;
        let removed = self.transaction()?.remove_range(&space.keys, bounds)?;
        self.is_wide |= removed > 0;
        Ok(removed - expired)
    }

    /// Removes the keys of a span one by one. Returns how many there were; expired ones are left to the
    /// purge.
    fn remove_each(&mut self, database: usize, span: &KeySpan) -> Outcome<u64> {
        let space = self.space(database);
        let (mut lower, upper) = span.bounds();
        let mut count = 0;
        loop {
            let mut keys = Vec::new();
            let rows = self.rows(&space.keys, (lower, upper.clone()), Order::Ascending)?;
            for pair in rows.take(limits::PURGE_KEYS_MAX) {
                keys.push(client_key(&pair?.0).to_vec());
            }
            for key in &keys {
                count += u64::from(self.remove(database, key)?);
            }
            match keys.last() {
                Some(last) if keys.len() == limits::PURGE_KEYS_MAX => {
                    lower = Bound::Excluded(engine_key(last).into_owned());
                }
                _ => return Ok(count),
            }
        }
    }

    /// Removes the rows of the time index for keys between bounds. Returns how many of these have
    /// expired.
    fn remove_expiries(&mut self, space: &Space, bounds: TreeBounds) -> Outcome<u64> {
        if !space.may_expire() {
            return Ok(0);
        }
        let (mut expired, now_ms) = (0, self.now_ms);
        let (mut lower, upper) = bounds;
        loop {
            let mut rows = Vec::new();
            let mut last = None;
            for pair in self.rows(&space.keys, (lower, upper.clone()), Order::Ascending)? {
                let (key, bytes) = pair?;
                let row = Row::decode(&bytes)?;
                let Some(expires_ms) = row.expires_ms else { continue };
                expired += u64::from(row.is_expired(now_ms));
                rows.push(expiry_key(expires_ms, client_key(&key)));
                if rows.len() == limits::PURGE_KEYS_MAX {
                    last = Some(key.into_vec());
                    break;
                }
            }
            for row in &rows {
                self.write(&space.expiry, row, None)?;
            }
            match last {
                Some(last) => lower = Bound::Excluded(last),
                None => return Ok(expired),
            }
        }
    }

    /// Number of keys of a database, expired ones that are not purged yet among them.
    pub(crate) fn key_count(&mut self, database: usize) -> Outcome<u64> {
        let space = self.space(database);
        let mut count = 0;
        match &self.moment {
            Moment::View(view) => count = view.snapshot.len(&space.keys)?,
            Moment::Present if !self.has_written() => count = space.keys.len()?,
            // Inside a transaction sizes are not known.
            Moment::Present | Moment::Open(_) => {
                let all = (Bound::Unbounded, Bound::Unbounded);
                let counted = self.scan(&space.keys, all, |_, _| -> ControlFlow<()> {
                    count += 1;
                    ControlFlow::Continue(())
                });
                counted?;
            }
        }
        // Behind the look: what has been committed before it, it may have seen.
        self.rest_on_all();
        Ok(count)
    }

    /// Whether a database has keys, expired ones that are not purged yet among them.
    fn has_keys(&mut self, space: &Space) -> Outcome<bool> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let first = self.scan(&space.keys, all, |_, _| ControlFlow::Break(()))?;
        // Behind the look: what has been committed before it, it may have seen.
        self.rest_on_all();
        Ok(first.is_some())
    }

    /// Empties databases: each shows a new space.
    pub(crate) fn flush(&mut self, databases: impl IntoIterator<Item = usize>) -> Outcome {
        for database in databases {
            self.touch_watched(&[database])?;
            let old = self.space(database);
            if !self.has_keys(&old)? {
                continue;
            }
            let id = self.keyspace.next_space_id();
            let transaction = self.transaction()?;
            let new = Space::create(transaction, id)?;
            for name in old.tree_names() {
                transaction.drop_tree(&name)?;
            }
            self.show(database, new)?;
        }
        Ok(())
    }

    /// Exchanges two databases.
    pub(crate) fn swap(&mut self, one: usize, other: usize) -> Outcome {
        self.touch_watched(&[one, other])?;
        let (first, second) = (self.space(one), self.space(other));
        self.show(one, second)?;
        self.show(other, first)
    }

    fn show(&mut self, database: usize, space: Arc<Space>) -> Outcome {
        let keyspace = self.keyspace;
        let (key, value) = keyspace.database_row(database, &space);
        write_row(self.transaction()?, &keyspace.databases, &key, Some(&value))?;
        self.spaces.push((database, space));
        Ok(())
    }

    /// Whoever watches a key that is there in any of these databases, or in a database to be exchanged
    /// for it, sees it changed.
    fn touch_watched(&mut self, databases: &[usize]) -> Outcome {
        for &database in databases {
            for key in self.keyspace.watches.of(database) {
                let mut is_there = false;
                for &of in databases {
                    is_there |= self.exists(of, &key)?;
                }
                if is_there {
                    self.touched.push((database, key));
                }
            }
        }
        Ok(())
    }

    fn rest_on(&mut self, lsn: Lsn) {
        if matches!(self.moment, Moment::Present) {
            self.rests_on = self.rests_on.max(lsn);
        }
    }

    /// The answer rests on everything that has been committed; to be called behind the last look.
    pub(crate) fn rest_on_all(&mut self) {
        self.rest_on(self.keyspace.engine.logged_lsn());
    }

    /// Logs the writes, so that everybody sees them when this returns. Returns where the commit ends; 0
    /// where there was nothing to commit.
    pub(crate) fn commit(&mut self) -> Outcome<Lsn> {
        let lsn = match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => return Ok(Lsn::default()),
            Pending::One { tree, key, value: Some(value) } => tree.insert_visible(key, value)?,
            Pending::One { tree, key, value: None } => {
                tree.remove_visible(key)?.unwrap_or_default()
            }
            Pending::Many(transaction) => transaction.commit_with(Durability::Relaxed)?,
        };
        let is_wide = self.is_wide || !self.spaces.is_empty();
        if is_wide || !self.touched.is_empty() {
            self.committed = self.committed.max(Some(lsn));
        }
        self.keyspace.show(self.spaces.drain(..));
        for (database, key) in &self.touched {
            if self.is_sync {
                self.keyspace.unsettled.note(self.keyspace.locks.hash(key), lsn);
            }
            self.keyspace.watches.touch(*database, key);
        }
        if self.is_sync {
            if is_wide {
                self.keyspace.unsettled.note_all(lsn);
            }
            self.rest_on(lsn);
        }
        self.touched.clear();
        self.is_wide = false;
        Ok(lsn)
    }
}

fn write_row(
    transaction: &mut Transaction,
    tree: &Tree,
    key: &[u8],
    value: Option<&[u8]>,
) -> Outcome {
    match value {
        Some(value) => transaction.insert(tree, key, value)?,
        None => {
            transaction.remove(tree, key)?;
        }
    }
    Ok(())
}
