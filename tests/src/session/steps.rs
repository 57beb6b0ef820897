//! Steps of transactions and their ends, with what the engine must answer to each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use seawall::{Durability, Error, Tree};

use super::pairs::{collect, describe, ends, part};
use super::{Open, Session};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::operation::{End, Span, Step, key, tree_name};
use crate::oracle::{Bytes, CommitState, TreeKey, TreeUid};
use crate::transaction::Verdict;

impl Session {
    pub(super) fn step(&mut self, slot: usize, step: Step) -> Outcome<bool> {
        let Some(mut open) = self.open[slot].take() else { return Ok(false) };
        if seawall::testing::is_poisoned(&self.database) {
            // It sees what is visible, and no commit that is in doubt (W2).
            let visible_lsn = self.database.stats().visible_lsn;
            open.model.fix_state_at(self.oracle.visible_at(visible_lsn));
        }
        let others = &self.open;
        let is_alone = others.iter().all(Option::is_none);
        let stepped = match step {
            Step::Insert(tree, number, value) => {
                let value = Some(Bytes::from(value.make()));
                self.write(&mut open, tree, number, value)?
            }
            Step::Remove(tree, number) => self.write(&mut open, tree, number, None)?,
            Step::RemoveRange(tree, span) => self.remove_range(&mut open, tree, span)?,
            Step::Get(tree, number) => self.get_in(&mut open, tree, number)?,
            Step::Range(tree, span) => self.range_in(&mut open, tree, span)?,
            Step::Tree(_) | Step::DropTree(_) | Step::RenameTree(..) if !is_alone => {
                Stepped::Skipped
            }
            Step::Tree(tree) => self.tree_in(&mut open, tree)?,
            Step::DropTree(tree) => self.drop_tree_in(&mut open, tree)?,
            Step::RenameTree(from, to) => self.rename_tree_in(&mut open, from, to)?,
            Step::Savepoint => {
                let savepoint = open.transaction.savepoint();
                open.model.mark(savepoint);
                Stepped::Done
            }
            Step::RollbackTo(before_newest) => match open.model.go_back(before_newest) {
                None => Stepped::Skipped,
                Some(savepoint) => {
                    open.transaction.rollback_to(&savepoint)?;
                    Stepped::Done
                }
            },
        };
        match stepped {
            Stepped::Done => self.open[slot] = Some(open),
            Stepped::Skipped => {
                self.open[slot] = Some(open);
                return Ok(false);
            }
            // Parts of what conflicted may have been done.
            Stepped::Conflicted => open.transaction.rollback()?,
        }
        Ok(true)
    }

    /// The tree of this number as a transaction sees it, and its handle.
    fn tree_of(&mut self, open: &mut Open, number: u8) -> Outcome<Option<(TreeUid, Tree)>> {
        let names = open.model.names.as_ref();
        let names = names.unwrap_or_else(|| &self.oracle.latest().names);
        let Some(&uid) = names.get(&tree_name(number)) else { return Ok(None) };
        if let Some(tree) = open.created.get(&uid).or_else(|| self.trees.get(&uid)) {
            return Ok(Some((uid, tree.clone())));
        }
        self.tree(number)
    }

    /// What is to be expected of a write of this key.
    fn write_verdict(&self, open: &Open, key: &TreeKey) -> Verdict {
        let mut verdict = open.model.write_verdict(&self.oracle, key);
        for other in self.open.iter().flatten() {
            match (other.model.holds(key), verdict) {
                (Verdict::Must, _) => return Verdict::Must,
                (Verdict::May, Verdict::MustNot) => verdict = Verdict::May,
                _ => {}
            }
        }
        verdict
    }

    fn write(
        &mut self,
        open: &mut Open,
        tree: u8,
        number: u16,
        value: Option<Bytes>,
    ) -> Outcome<Stepped> {
        let Some((uid, tree)) = self.tree_of(open, tree)? else { return Ok(Stepped::Skipped) };
        let key = (uid, Bytes::from(key(number)));
        if value.is_none() {
            open.model.fix_state(&self.oracle);
        }
        let verdict = self.write_verdict(open, &key);
        open.model.note_write();
        let written = match &value {
            Some(value) => open.transaction.insert(&tree, &*key.1, &**value).map(|()| None),
            None => open.transaction.remove(&tree, &*key.1).map(Some),
        };
        let was_there = match judge(verdict, written)? {
            None => return Ok(Stepped::Conflicted),
            Some(was_there) => was_there,
        };
        if let Some(was_there) = was_there {
            let expected = open.model.get(&self.oracle, &key).is_some();
            ensure!(was_there == expected, "remove says {was_there}");
            open.model.note_point(&key);
            if !was_there {
                return Ok(Stepped::Done);
            }
        }
        open.model.write(key, value);
        Ok(Stepped::Done)
    }

    fn remove_range(&mut self, open: &mut Open, tree: u8, span: Span) -> Outcome<Stepped> {
        let Some((uid, tree)) = self.tree_of(open, tree)? else { return Ok(Stepped::Skipped) };
        let (from, to) = ends(span);
        let contents = open.model.contents(&self.oracle, uid);
        let keys: Vec<_> =
            contents.range(from.clone()..=to.clone()).map(|(key, _)| (uid, key.clone())).collect();
        let verdicts = keys.iter().map(|key| self.write_verdict(open, key));
        let verdict = verdicts.fold(Verdict::MustNot, |all, one| match (all, one) {
            (Verdict::Must, _) | (_, Verdict::Must) => Verdict::Must,
            (Verdict::May, _) | (_, Verdict::May) => Verdict::May,
            _ => Verdict::MustNot,
        });
        if !keys.is_empty() {
            open.model.note_write();
        }
        let removed = open.transaction.remove_range(&tree, &*from..=&*to);
        let Some(removed) = judge(verdict, removed)? else { return Ok(Stepped::Conflicted) };
        let expected = keys.len();
        ensure!(usize::try_from(removed) == Ok(expected), "removes {removed}, not {expected}");
        open.model.note_range(uid, from, to, None);
        for key in keys {
            open.model.write(key, None);
        }
        Ok(Stepped::Done)
    }

    fn get_in(&mut self, open: &mut Open, tree: u8, number: u16) -> Outcome<Stepped> {
        let Some((uid, tree)) = self.tree_of(open, tree)? else { return Ok(Stepped::Skipped) };
        let key = (uid, Bytes::from(key(number)));
        let expected = open.model.get(&self.oracle, &key);
        let got = open.transaction.get(&tree, &*key.1)?;
        ensure!(
            got.as_deref() == expected.as_deref(),
            "get gives {:?}, expected {:?}",
            got.as_deref().map(<[u8]>::len),
            expected.map(|value| value.len())
        );
        open.model.note_point(&key);
        Ok(Stepped::Done)
    }

    fn range_in(&mut self, open: &mut Open, tree: u8, span: Span) -> Outcome<Stepped> {
        let Some((uid, tree)) = self.tree_of(open, tree)? else { return Ok(Stepped::Skipped) };
        let (from, to) = ends(span);
        let expected = part(&open.model.contents(&self.oracle, uid), span);
        let got = collect(open.transaction.range(&tree, &*from..=&*to)?, span)?;
        ensure!(got == expected, "range gives {}", describe(&got, &expected));
        let is_all = got.len() < usize::from(span.pairs_max);
        let reached = (!is_all).then(|| {
            let end = got.last().map_or_else(|| from.clone(), |(key, _)| key.clone());
            if span.is_backwards { (end, to.clone()) } else { (from.clone(), end) }
        });
        let reached = reached.filter(|_| !got.is_empty()).or((!is_all).then(|| {
            // Nothing was read at all: no part of it was reached.
            (Bytes::from(&[0xff; 64][..]), Bytes::from(&[][..]))
        }));
        open.model.note_range(uid, from, to, reached);
        Ok(Stepped::Done)
    }

    /// The names of trees as a transaction sees them, which reads them; `None` where others have
    /// changed them since its state, so that a change of its own would conflict.
    fn names_of(&self, open: &mut Open) -> Option<BTreeMap<String, TreeUid>> {
        if open.model.names.is_none() {
            let latest = &self.oracle.latest().names;
            let is_old =
                open.model.state().is_some_and(|at| self.oracle.state(at).names != *latest);
            if is_old {
                return None;
            }
        }
        Some(open.model.names(&self.oracle))
    }

    fn tree_in(&mut self, open: &mut Open, number: u8) -> Outcome<Stepped> {
        let name = tree_name(number);
        let Some(mut names) = self.names_of(open) else { return Ok(Stepped::Skipped) };
        let tree = open.transaction.tree(&name)?;
        if let Entry::Vacant(entry) = names.entry(name) {
            let uid = self.oracle.new_tree();
            entry.insert(uid);
            open.created.insert(uid, tree);
            open.model.change_names(names);
        }
        Ok(Stepped::Done)
    }

    fn drop_tree_in(&mut self, open: &mut Open, number: u8) -> Outcome<Stepped> {
        let Some(mut names) = self.names_of(open) else { return Ok(Stepped::Skipped) };
        let uid = names.remove(&tree_name(number));
        let was_there = open.transaction.drop_tree(&tree_name(number))?;
        ensure!(was_there == uid.is_some(), "drop_tree says {was_there}");
        if was_there {
            open.model.change_names(names);
        }
        Ok(Stepped::Done)
    }

    fn rename_tree_in(&mut self, open: &mut Open, from: u8, to: u8) -> Outcome<Stepped> {
        let (from, to) = (tree_name(from), tree_name(to));
        let names = open.model.names.as_ref();
        if names.unwrap_or_else(|| &self.oracle.latest().names).contains_key(&to) {
            return Ok(Stepped::Skipped);
        }
        let Some(mut names) = self.names_of(open) else { return Ok(Stepped::Skipped) };
        let uid = names.remove(&from);
        let was_there = open.transaction.rename_tree(&from, &to)?;
        ensure!(was_there == uid.is_some(), "rename_tree says {was_there}");
        if let Some(uid) = uid {
            names.insert(to, uid);
            open.model.change_names(names);
        }
        Ok(Stepped::Done)
    }

    pub(super) fn finish(&mut self, slot: usize, end: End) -> Outcome<bool> {
        let Some(Open { transaction, model, created }) = self.open[slot].take() else {
            return Ok(false);
        };
        let begun_at = self.disk.operation_count();
        let durability = match end {
            End::Rollback => {
                transaction.rollback()?;
                return Ok(true);
            }
            End::Drop => return Ok(true),
            End::Commit(durability) => durability,
            End::CommitAsync => Durability::Sync,
        };
        let has_changed = !model.writes.is_empty() || model.names.is_some();
        let committed = if matches!(end, End::CommitAsync) {
            transaction.commit_async().map(Some)
        } else {
            transaction.commit_with(durability).map(|_| None)
        };
        // What others have done in between counts for the verdict.
        self.take_over()?;
        let verdict = model.commit_verdict(&self.oracle);
        let (writes, names) = (&model.writes, model.names.as_ref());
        let committed = match committed {
            Err(Error::CommitUnknown { .. }) if has_changed => {
                self.or_in_doubt(committed, begun_at, writes, names, durability)?
            }
            committed => {
                let Some(committed) = judge(verdict, committed)? else { return Ok(true) };
                committed
            }
        };
        if !has_changed {
            return Ok(true);
        }
        let future = committed;
        let state = match (&future, durability) {
            (Some(future), _) => CommitState::Pending { lsn: future.lsn(), is_sync: true },
            (None, Durability::Sync) => CommitState::Durable { at: self.disk.operation_count() },
            (None, _) => CommitState::Visible,
        };
        let commit = self.commit(begun_at, writes, names, state)?;
        self.oracle.touch(model.taken_back());
        self.futures.extend(future.map(|future| (future, commit)));
        self.trees.extend(created);
        let names = &self.oracle.latest().names;
        self.trees.retain(|uid, _| names.values().any(|named| named == uid));
        Ok(true)
    }
}

/// What became of a step.
enum Stepped {
    Done,
    Skipped,
    Conflicted,
}

/// Compares a conflict, or none, with what was to be expected; `None` is a conflict.
fn judge<T>(verdict: Verdict, result: seawall::Result<T>) -> Outcome<Option<T>> {
    match (result, verdict) {
        (Ok(_), Verdict::Must) => Err(Failure::new("no conflict, where there is one")),
        (Ok(value), _) => Ok(Some(value)),
        (Err(error), Verdict::MustNot) if error.is_conflict() => {
            Err(Failure::new("a conflict, where there is none"))
        }
        (Err(error), _) if error.is_conflict() => Ok(None),
        (Err(error), _) => Err(error.into()),
    }
}
