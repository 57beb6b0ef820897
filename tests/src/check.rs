//! Comparing what a database contains with a state of the oracle, in every way of reading it.

use std::ops::ControlFlow;

use seawall::{Database, Range, Snapshot, Tree};

use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::oracle::{Bytes, Contents, Forest};

/// Everything a database contains at one moment. Sizes are compared with it.
///
/// # Errors
/// When one way of reading disagrees with another, or fails.
pub fn read_all(database: &Database) -> Outcome<Forest> {
    let snapshot = database.snapshot()?;
    let mut forest = Forest::default();
    for name in database.tree_names()? {
        let tree = database.open_tree(&name)?;
        let tree =
            tree.ok_or_else(|| Failure::new(format!("{name} has a name, and is no tree")))?;
        let contents = read_tree(&snapshot, &tree);
        forest.add(&name, contents.map_err(|why| why.at(format!("tree {name}")))?);
    }
    Ok(forest)
}

fn read_tree(snapshot: &Snapshot, tree: &Tree) -> Outcome<Contents> {
    let mut contents = Contents::new();
    let mut last: Option<Bytes> = None;
    let broken = snapshot.scan(tree, .., |key, value| {
        let key = Bytes::from(key);
        if last.as_ref().is_some_and(|last| *last >= key) {
            return ControlFlow::Break(());
        }
        last = Some(key.clone());
        contents.insert(key, value.into());
        ControlFlow::Continue(())
    })?;
    ensure!(broken.is_none(), "a scan gives keys out of order");
    let len = snapshot.len(tree)?;
    let count = u64::try_from(contents.len()).expect("usize has at most 64 bits");
    ensure!(len == count, "len is {len}, a scan gives {count}");
    Ok(contents)
}

/// Compares a whole tree read backwards.
///
/// # Errors
/// When it differs.
pub fn compare_backwards(range: Range<'_>, expected: &Contents) -> Outcome {
    let mut expected = expected.iter().rev();
    for pair in range.rev() {
        let (key, value) = pair?;
        match expected.next() {
            Some((k, v)) if **k == *key && **v == *value => {}
            other => {
                let other = other.map(|(key, _)| key);
                return Err(Failure::new(format!("backwards: {key:?}, expected {other:?}")));
            }
        }
    }
    let rest = expected.count();
    ensure!(rest == 0, "backwards: {rest} pairs are missing");
    Ok(())
}

/// The structure and the space of a database are sound.
///
/// # Errors
/// What is found that is not.
pub fn verify(database: &Database) -> Outcome {
    let report = database.verify(|_| ())?;
    if report.findings.is_empty() {
        return Ok(());
    }
    Err(Failure::finding(format!("verify: {}", report.findings.join("; "))))
}
