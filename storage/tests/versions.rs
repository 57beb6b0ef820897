//! Memory for versions is bounded: who reads an old moment for too long has to begin again, and
//! learns of it; writers wait for a moment, and go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall::{Durability, Error, Event, Options, Result, StallReason};

/// What a quarter of the cache of these tests comes to.
const VERSIONS_BYTES_MAX: u64 = 1 << 20;

#[test]
fn the_oldest_snapshots_end_when_versions_take_too_much_memory() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let stalls = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&stalls);
    let database = Options::new()
        .unchecked_limits()
        .cache_bytes(4 * VERSIONS_BYTES_MAX)
        .on_event(move |event| {
            if matches!(event, Event::StallEnd { reason: StallReason::VersionMemory, .. }) {
                noted.fetch_add(1, Ordering::Relaxed);
            }
        })
        .open(dir.path())?;
    let tree = database.tree("t")?;
    let put = |key: u64, round: u8| {
        tree.insert_with(key.to_be_bytes(), [round; 200], Durability::Relaxed)
    };
    (0..2000).try_for_each(|key| put(key, 0))?;
    tree.insert(b"large", vec![7; 100_000])?;

    let old = database.snapshot()?;
    let mut transaction = database.begin()?;
    assert!(transaction.contains_key(&tree, b"large")?, "nobody overwrites it");
    transaction.insert(&tree, b"written", b"by one who has read")?;
    let mut range = old.range(&tree, ..)?;
    assert!(range.next().unwrap().is_ok());
    for round in 1..=4 {
        (0..2000).try_for_each(|key| put(key, round))?;
    }

    assert!(stalls.load(Ordering::Relaxed) > 0, "writers have waited for the reader first");
    let stats = database.stats();
    assert!(stats.version_bytes <= VERSIONS_BYTES_MAX * 5 / 4, "{} bytes", stats.version_bytes);
    assert!(matches!(old.get(&tree, 5_u64.to_be_bytes()), Err(Error::SnapshotTooOld)));
    assert!(matches!(old.get(&tree, b"large"), Err(Error::SnapshotTooOld)));
    assert!(matches!(old.get(&tree, b"absent"), Err(Error::SnapshotTooOld)));
    assert!(matches!(old.len(&tree), Err(Error::SnapshotTooOld)));
    let last = range.find_map(Result::err);
    assert!(matches!(last, Some(Error::SnapshotTooOld)), "{last:?}");
    assert!(matches!(transaction.insert(&tree, b"x", b"y"), Err(Error::SnapshotTooOld)));
    assert!(matches!(transaction.commit(), Err(Error::SnapshotTooOld)));
    assert_eq!(tree.get(b"written")?, None);

    let young = database.snapshot()?;
    assert_eq!(young.get(&tree, 5_u64.to_be_bytes())?.unwrap(), [4; 200]);
    assert_eq!(young.len(&tree)?, 2001);
    Ok(())
}
