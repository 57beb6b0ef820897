//! Writes that commit by themselves, and what is noted of a commit that has returned or may have
//! taken place.

use std::collections::BTreeMap;

use seawall::{Durability, Error, Tree};

use super::Session;
use crate::ensure;
use crate::failure::Outcome;
use crate::operation::{ValueSpec, key, tree_name};
use crate::oracle::{Bytes, CommitState, TreeKey, TreeUid, Writes};

impl Session {
    /// The tree and key of an auto-commit write, unless it is impossible or would wait.
    pub(super) fn target(&mut self, tree: u8, number: u16) -> Outcome<Option<(Tree, TreeKey)>> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(None) };
        let key = (uid, Bytes::from(key(number)));
        Ok((!self.would_wait(&key)).then_some((tree, key)))
    }

    pub(super) fn insert(
        &mut self,
        tree: u8,
        number: u16,
        value: ValueSpec,
        durability: Durability,
    ) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let value = Bytes::from(value.make());
        let begun_at = self.disk.operation_count();
        let written = tree.insert_with(&*key.1, &*value, durability);
        let writes = Writes::from([(key, Some(value))]);
        self.or_in_doubt(written, begun_at, &writes, None, durability)?;
        self.committed(begun_at, &writes, None, durability)?;
        Ok(true)
    }

    pub(super) fn insert_async(
        &mut self,
        tree: u8,
        number: u16,
        value: ValueSpec,
    ) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let value = Bytes::from(value.make());
        let begun_at = self.disk.operation_count();
        let future = tree.insert_async(&*key.1, &*value)?;
        let writes = Writes::from([(key, Some(value))]);
        let state = CommitState::Pending { lsn: future.lsn(), is_sync: true };
        let commit = self.commit(begun_at, &writes, None, state)?;
        self.futures.push((future, commit));
        Ok(true)
    }

    pub(super) fn remove(
        &mut self,
        tree: u8,
        number: u16,
        durability: Durability,
    ) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let begun_at = self.disk.operation_count();
        let expected = self.oracle.latest().get(key.0, &key.1).is_some();
        let removed = tree.remove_with(&*key.1, durability);
        let writes = if expected { Writes::from([(key, None)]) } else { Writes::new() };
        let was_there = self.or_in_doubt(removed, begun_at, &writes, None, durability)?;
        ensure!(was_there == expected, "remove says {was_there}");
        if was_there {
            self.committed(begun_at, &writes, None, durability)?;
        }
        Ok(true)
    }

    pub(super) fn swap(
        &mut self,
        tree: u8,
        number: u16,
        is_right: bool,
        new: Option<ValueSpec>,
    ) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let current = self.oracle.latest().get(key.0, &key.1).cloned();
        let old = if is_right {
            current.clone()
        } else {
            match &current {
                Some(value) if number.is_multiple_of(2) => Some([value, &b"x"[..]].concat().into()),
                Some(_) => None,
                None => Some(Bytes::from(&b"other"[..])),
            }
        };
        let new = new.map(|value| Bytes::from(value.make()));
        let begun_at = self.disk.operation_count();
        let swapped = tree.compare_and_swap(&*key.1, old.as_deref(), new.as_deref());
        let expected = old == current;
        let is_change = expected && !(old.is_none() && new.is_none());
        let writes = if is_change { Writes::from([(key, new)]) } else { Writes::new() };
        let is_swapped = self.or_in_doubt(swapped, begun_at, &writes, None, Durability::Sync)?;
        ensure!(is_swapped == expected, "compare_and_swap says {is_swapped}");
        if is_change {
            self.committed(begun_at, &writes, None, Durability::Sync)?;
        }
        Ok(true)
    }

    pub(super) fn create_tree(&mut self, number: u8) -> Outcome<bool> {
        let name = tree_name(number);
        if self.open_count() > 0 || self.oracle.latest().names.contains_key(&name) {
            return Ok(false);
        }
        let begun_at = self.disk.operation_count();
        let uid = self.oracle.new_tree();
        let mut names = self.oracle.latest().names.clone();
        names.insert(name.clone(), uid);
        let tree = self.database.tree(&name);
        let tree = self.or_in_doubt_names(tree, begun_at, &names)?;
        ensure!(tree.name() == name, "the tree's name is {}", tree.name());
        self.committed(begun_at, &Writes::new(), Some(&names), Durability::Sync)?;
        self.trees.insert(uid, tree);
        Ok(true)
    }

    pub(super) fn drop_tree(&mut self, number: u8) -> Outcome<bool> {
        if self.open_count() > 0 {
            return Ok(false);
        }
        let mut names = self.oracle.latest().names.clone();
        let uid = names.remove(&tree_name(number));
        let begun_at = self.disk.operation_count();
        let dropped = self.database.drop_tree(&tree_name(number));
        let was_there = self.or_in_doubt_names(dropped, begun_at, &names)?;
        ensure!(was_there == uid.is_some(), "drop_tree says {was_there}");
        let Some(uid) = uid else { return Ok(true) };
        self.committed(begun_at, &Writes::new(), Some(&names), Durability::Sync)?;
        if let Some(tree) = self.trees.remove(&uid) {
            let answer = tree.get("k");
            let is_gone = matches!(answer, Err(seawall::Error::NotFound { .. }));
            ensure!(is_gone, "a dropped tree answers {answer:?}");
        }
        Ok(true)
    }

    pub(super) fn rename_tree(&mut self, from: u8, to: u8) -> Outcome<bool> {
        let (from, to) = (tree_name(from), tree_name(to));
        let mut names = self.oracle.latest().names.clone();
        if self.open_count() > 0 || names.contains_key(&to) {
            return Ok(false);
        }
        let uid = names.remove(&from);
        let begun_at = self.disk.operation_count();
        if let Some(uid) = uid {
            names.insert(to.clone(), uid);
        }
        let renamed = self.database.transact(|it| it.rename_tree(&from, &to));
        let was_there = self.or_in_doubt_names(renamed, begun_at, &names)?;
        ensure!(was_there == uid.is_some(), "rename_tree says {was_there}");
        if was_there {
            self.committed(begun_at, &Writes::new(), Some(&names), Durability::Sync)?;
        }
        Ok(true)
    }

    /// Notes a commit that has returned, or is on its way.
    pub(super) fn commit(
        &mut self,
        begun_at: u64,
        writes: &Writes,
        names: Option<&BTreeMap<String, TreeUid>>,
        state: CommitState,
    ) -> Outcome<usize> {
        self.take_over()?;
        Ok(self.oracle.commit(begun_at, writes, names, state))
    }

    /// Notes a commit that has returned.
    fn committed(
        &mut self,
        begun_at: u64,
        writes: &Writes,
        names: Option<&BTreeMap<String, TreeUid>>,
        durability: Durability,
    ) -> Outcome {
        let state = match durability {
            Durability::Sync => CommitState::Durable { at: self.disk.operation_count() },
            _ => CommitState::Visible,
        };
        self.commit(begun_at, writes, names, state).map(drop)
    }

    /// Notes a commit of which nobody knows whether it took place; after any other error it has not.
    pub(super) fn or_in_doubt<T>(
        &mut self,
        result: seawall::Result<T>,
        begun_at: u64,
        writes: &Writes,
        names: Option<&BTreeMap<String, TreeUid>>,
        durability: Durability,
    ) -> Outcome<T> {
        if let Err(Error::CommitUnknown { lsn, .. }) = &result {
            let is_sync = durability == Durability::Sync;
            let state = CommitState::Pending { lsn: *lsn, is_sync };
            self.commit(begun_at, writes, names, state)?;
        }
        Ok(result?)
    }

    fn or_in_doubt_names<T>(
        &mut self,
        result: seawall::Result<T>,
        begun_at: u64,
        names: &BTreeMap<String, TreeUid>,
    ) -> Outcome<T> {
        self.or_in_doubt(result, begun_at, &Writes::new(), Some(names), Durability::Sync)
    }
}
