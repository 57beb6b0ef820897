//! A database with something in it: keys and values as functions of a number, and their loading.

use seawall::{Database, Durability, TransactionOptions, Tree};

use super::progress;
use crate::failure::Outcome;
use crate::random::Random;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 24;
/// Bytes of a value.
pub(super) const VALUE_BYTES: usize = 150;
/// The tree that is written.
pub(super) const TREE: &str = "measured";
/// Pairs in a transaction of the load.
const BATCH_PAIRS: u64 = 1000;

/// The key with this number. Keys in the order of their numbers are in random order as bytes.
pub(super) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let mut random = Random::new(number);
    key[..8].copy_from_slice(&random.next().to_be_bytes());
    key[8..16].copy_from_slice(&random.next().to_be_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A value; its bytes do not compress.
pub(super) fn value(random: &mut Random) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for chunk in value.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    value
}

/// Writes the pairs with these numbers in one relaxed transaction.
pub(super) fn write_batch(
    database: &Database,
    tree: &Tree,
    numbers: impl Iterator<Item = u64> + Clone,
    random: &mut Random,
) -> Outcome {
    let options = TransactionOptions::new().durability(Durability::Relaxed);
    let written = database.transact_with(options, |transaction| -> seawall::Result<()> {
        numbers.clone().try_for_each(|number| transaction.insert(tree, key(number), value(random)))
    });
    Ok(written?)
}

/// Loads the pairs with the numbers below `pairs`, and leaves them in the page file.
pub(super) fn load(database: &Database, pairs: u64) -> Outcome<Tree> {
    progress(&format!("loading {pairs} pairs"));
    let tree = database.tree(TREE)?;
    let mut random = Random::new(pairs);
    let mut first = 0;
    while first < pairs {
        let end = pairs.min(first + BATCH_PAIRS);
        write_batch(database, &tree, first..end, &mut random)?;
        first = end;
    }
    database.checkpoint()?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{key, load};

    #[test]
    fn everything_is_loaded_once_in_random_order() {
        let keys: Vec<_> = (0..1500).map(key).collect();
        assert!(!keys.is_sorted());
        let dir = tempfile::tempdir().unwrap();
        let database = seawall::Database::open(dir.path().join("db")).unwrap();
        let tree = load(&database, 1500).unwrap();
        assert_eq!(tree.len().unwrap(), 1500);
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 1500);
        assert!(keys.iter().all(|key| tree.contains_key(key).unwrap()));
    }
}
