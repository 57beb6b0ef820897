//! A transaction that a client holds open from command to command.
//!
//! Reads go to a serializable transaction of the engine, which began with it and sees that moment; writes
//! are laid over them, in memory, and reach the engine only when it commits. So it keeps no key from
//! anybody for as long as it is open, and whoever commits first wins: the engine compares what was read
//! and written with what others have committed since, under the exclusive gate, where no other command
//! is half-way.
//!
//! 1. SW.BEGIN: the rows of all databases are read, so that their trees are those of the moment, and
//!    SWAPDB and FLUSHDB of others are conflicts.
//! 2. A command reads and writes. If it fails, what it has laid over is taken back.
//! 3. SW.COMMIT: everything laid over is written and committed, as one. A conflict, or any other error:
//!    nothing has happened.
//!
//! If we crash before 3, nothing has happened either. Time stands still in it, as within EXEC.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seawall::{Durability, Isolation, Transaction, TransactionOptions, Tree};

use super::rows::{Change, Order, Rows};
use super::watch::WatchedKey;
use super::{Keyspace, Space, TreeBounds};
use crate::failure::{Failure, Outcome};
use crate::limits::OPEN_BYTES_MAX;

/// What is laid over one tree.
#[derive(Debug)]
struct Overlay {
    tree: Tree,
    rows: BTreeMap<Vec<u8>, Change>,
}

/// What a command has changed of the overlay: the row before, if it was laid over already.
#[derive(Debug)]
struct Undo {
    tree: String,
    key: Vec<u8>,
    before: Option<Change>,
}

/// An open transaction.
#[derive(Debug)]
pub(crate) struct Open {
    transaction: Transaction,
    spaces: Vec<Arc<Space>>,
    pub(super) now_ms: u64,
    /// By the tree's name.
    overlays: BTreeMap<String, Overlay>,
    /// Bytes of keys and values that were laid over, replaced ones too.
    bytes: usize,
    touched: BTreeSet<WatchedKey>,
    undo: Vec<Undo>,
}

impl Open {
    /// Begins one. The caller holds the gate, shared at least.
    pub(crate) fn begin(keyspace: &Keyspace, now_ms: u64) -> seawall::Result<Self> {
        let options = TransactionOptions::new()
            .isolation(Isolation::Serializable)
            .durability(Durability::Relaxed);
        let transaction = keyspace.engine.begin_with(options)?;
        for row in transaction.range(&keyspace.databases, ..)? {
            row?;
        }
        Ok(Self {
            transaction,
            spaces: keyspace.spaces.read().clone(),
            now_ms,
            overlays: BTreeMap::new(),
            bytes: 0,
            touched: BTreeSet::new(),
            undo: Vec::new(),
        })
    }

    pub(super) fn space(&self, database: usize) -> Arc<Space> {
        Arc::clone(&self.spaces[database])
    }

    pub(super) fn row<R>(
        &self,
        tree: &Tree,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Outcome<Option<R>> {
        match self.overlays.get(tree.name()).and_then(|overlay| overlay.rows.get(key)) {
            Some(change) => Ok(change.as_deref().map(read)),
            None => Ok(self.transaction.get_with(tree, key, read)?),
        }
    }

    pub(super) fn rows(&self, tree: &Tree, bounds: TreeBounds, order: Order) -> Outcome<Rows<'_>> {
        let base = self.transaction.range(tree, bounds.clone())?;
        Ok(match self.overlays.get(tree.name()) {
            Some(overlay) => Rows::changed(base, &overlay.rows, &bounds, order),
            None => Rows::new(base, order),
        })
    }

    pub(super) fn write(&mut self, tree: &Tree, key: &[u8], change: Change) -> Outcome {
        self.bytes += key.len() + change.as_ref().map_or(0, Vec::len);
        if self.bytes > OPEN_BYTES_MAX {
            return Err(Failure::new(format!(
                "ERR the transaction has written more than {OPEN_BYTES_MAX} bytes"
            )));
        }
        let name = tree.name().to_owned();
        let overlay = self
            .overlays
            .entry(name.clone())
            .or_insert_with(|| Overlay { tree: tree.clone(), rows: BTreeMap::new() });
        let before = overlay.rows.insert(key.to_vec(), change);
        self.undo.push(Undo { tree: name, key: key.to_vec(), before });
        Ok(())
    }

    /// The command that ran has succeeded: its writes stay.
    pub(super) fn keep(&mut self, touched: impl IntoIterator<Item = WatchedKey>) {
        self.undo.clear();
        self.touched.extend(touched);
    }

    /// The command that ran has failed: its writes are taken back.
    pub(super) fn take_back(&mut self) {
        while let Some(Undo { tree, key, before }) = self.undo.pop() {
            let Some(overlay) = self.overlays.get_mut(&tree) else { continue };
            match before {
                Some(change) => drop(overlay.rows.insert(key, change)),
                None => drop(overlay.rows.remove(&key)),
            }
        }
    }

    /// Writes everything into the engine's transaction; returns it, and the keys that it touches.
    pub(super) fn settle(self) -> seawall::Result<(Transaction, Vec<WatchedKey>)> {
        let Self { mut transaction, overlays, touched, .. } = self;
        for Overlay { tree, rows } in overlays.into_values() {
            for (key, change) in rows {
                match change {
                    Some(value) => transaction.insert(&tree, key, value)?,
                    None => {
                        transaction.remove(&tree, key)?;
                    }
                }
            }
        }
        Ok((transaction, touched.into_iter().collect()))
    }
}
