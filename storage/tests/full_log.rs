//! A full log, and more extents that wait to be freed than the permanent reserve has room to list.

use std::sync::Arc;

use seawall::{Database, Durability, Error, Options, Result};
use seawall_wal::disk::SimDisk;

/// Large values that are replaced while nobody collects.
const VALUES: u32 = 60_000;

fn open(disk: &SimDisk) -> Result<Database> {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    options.page_bytes(4096).cache_bytes(8 << 20).max_wal_bytes(16 << 20).open("/db")
}

#[test]
fn a_full_log_is_emptied_however_much_waits_to_be_freed() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    let insert = |number: u32, bytes: usize| {
        tree.insert_with(number.to_be_bytes(), vec![7; bytes], Durability::Relaxed)
    };
    (0..VALUES).try_for_each(|number| insert(number, 1100))?;
    database.checkpoint()?;
    (0..VALUES).try_for_each(|number| insert(number, 4))?;
    let full = (0..40_000).try_for_each(|number| insert(1_000_000 + number, 900));
    if let Err(error) = full {
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }
    database.checkpoint()?;
    while seawall::testing::collect_step(&database)? {}
    insert(7, 900)?;
    database.close()?;
    let database = open(&disk)?;
    assert_eq!(database.tree("t")?.get(7_u32.to_be_bytes())?.map(|value| value.len()), Some(900));
    Ok(())
}
