//! Reads outside of transactions, snapshots, and the comparison of everything.

use super::pairs::{collect, count, describe, ends, part};
use super::{Session, Taken};
use crate::check::{compare_backwards, read_all, verify};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::operation::{Span, key};
use crate::oracle::{Bytes, Forest, difference};

impl Session {
    /// Compares what a read gave with what is visible: one of the states from before the read to
    /// after it, which are the same unless commits are pending.
    fn is_visible<T: PartialEq>(
        &mut self,
        visible_before: usize,
        got: &T,
        expected: impl Fn(&Forest) -> T,
    ) -> bool {
        let visible_after = self.visible();
        (visible_before..=visible_after).any(|commit| expected(self.oracle.state(commit)) == *got)
    }

    /// The newest commit that readers see. A synchronous one must be durable by now (T1).
    fn visible(&mut self) -> usize {
        let visible = self.oracle.visible_at(self.database.stats().visible_lsn);
        self.oracle.is_read(visible, self.disk.operation_count());
        visible
    }

    pub(super) fn get(&mut self, tree: u8, number: u16) -> Outcome<bool> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(false) };
        let key = key(number);
        let before = self.visible();
        let got = tree.get(&key)?.map(|value| Bytes::from(&*value));
        let is_right = self.is_visible(before, &got, |forest| forest.get(uid, &key).cloned());
        ensure!(is_right, "get gives {:?}", got.map(|value| value.len()));
        let is_there = tree.contains_key(&key)?;
        let is_right = self.is_visible(before, &is_there, |it| it.get(uid, &key).is_some());
        ensure!(is_right, "contains_key gives {is_there}");
        Ok(true)
    }

    pub(super) fn range(&mut self, tree: u8, span: Span) -> Outcome<bool> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(false) };
        let (from, to) = ends(span);
        let before = self.visible();
        let range = tree.range(&*from..=&*to)?;
        let got = collect(range, span)?;
        let expected = |forest: &Forest| part(&forest.contents(uid), span);
        let is_right = self.is_visible(before, &got, expected);
        ensure!(is_right, "range gives {}", describe(&got, &expected(self.oracle.latest())));
        Ok(true)
    }

    pub(super) fn ends(&mut self, tree: u8) -> Outcome<bool> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(false) };
        let before = self.visible();
        let key_of = |pair: Option<(seawall::Value, _)>| pair.map(|(key, _)| Bytes::from(&*key));
        let (first, last) = (key_of(tree.first()?), key_of(tree.last()?));
        let is_right =
            self.is_visible(before, &first, |it| it.contents(uid).keys().next().cloned());
        ensure!(is_right, "first gives {first:?}");
        let is_right =
            self.is_visible(before, &last, |it| it.contents(uid).keys().next_back().cloned());
        ensure!(is_right, "last gives {last:?}");
        let len = tree.len()?;
        let is_right = self.is_visible(before, &len, |it| count(&it.contents(uid)));
        ensure!(is_right, "len gives {len}, expected {}", {
            count(&self.oracle.latest().contents(uid))
        });
        Ok(true)
    }

    pub(super) fn take_snapshot(&mut self, slot: usize) -> Outcome<bool> {
        let snapshot = self.database.snapshot()?;
        self.take_over()?;
        let commit = self.oracle.visible_at(snapshot.lsn());
        let forest = self.oracle.state(commit).clone();
        let trees = self.trees.clone();
        self.snapshots[slot] = Some(Taken { snapshot, forest, trees });
        Ok(true)
    }

    pub(super) fn compare_snapshot(&mut self, slot: usize) -> Outcome<bool> {
        let Some(taken) = &self.snapshots[slot] else { return Ok(false) };
        let Taken { snapshot, forest, trees } = taken;
        for (name, uid) in &forest.names {
            let Some(tree) = trees.get(uid) else { continue };
            let expected = forest.contents(*uid);
            let at = |why: Failure| why.at(format!("snapshot of {name}"));
            let len = snapshot.len(tree)?;
            ensure!(len == count(&expected), "snapshot of {name}: len gives {len}");
            let whole = Span { from: 0, to: 0, is_backwards: false, pairs_max: u16::MAX };
            let got = collect(snapshot.range(tree, ..)?, whole).map_err(at)?;
            let all: Vec<_> =
                expected.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            ensure!(got == all, "snapshot of {name} gives {}", describe(&got, &all));
            compare_backwards(snapshot.range(tree, ..)?, &expected).map_err(at)?;
            for (key, value) in expected.iter().step_by(7) {
                let got = snapshot.get(tree, key)?;
                ensure!(got.as_deref() == Some(&**value), "snapshot of {name}: get {key:?}");
            }
        }
        Ok(true)
    }

    /// Compares everything that is visible, and the structure.
    ///
    /// # Errors
    /// When it differs.
    pub fn compare_all(&mut self) -> Outcome {
        let before = self.visible();
        let found = read_all(&self.database)?;
        let after = self.visible();
        let is_right = (before..=after).any(|commit| self.oracle.state(commit).is_same(&found));
        ensure!(is_right, "contents: {}", difference(self.oracle.state(after), &found));
        let snapshot = self.database.snapshot()?;
        let forest = self.oracle.state(self.oracle.visible_at(snapshot.lsn())).clone();
        for (name, contents) in forest.trees() {
            if let Some(tree) = self.database.open_tree(name)? {
                compare_backwards(snapshot.range(&tree, ..)?, &contents)
                    .map_err(|why| why.at(format!("tree {name}")))?;
            }
        }
        verify(&self.database)
    }
}
