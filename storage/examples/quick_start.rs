//! Opening a database, and using a tree as a durable map.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use seawall::{Database, Result};

fn main() -> Result<()> {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(parent.path().join("db"))?;
    let cities = database.tree("cities")?;

    // Each write is durable when it returns.
    cities.insert("oslo", "norway")?;
    cities.insert("lima", "peru")?;
    assert_eq!(cities.get("lima")?.as_deref(), Some(&b"peru"[..]));

    // A single key can be changed atomically.
    assert!(cities.compare_and_swap("lima", Some(b"peru"), Some(b"Peru"))?);
    assert!(!cities.compare_and_swap("lima", Some(b"peru"), None)?);

    assert!(cities.remove("oslo")?);
    assert_eq!(cities.len()?, 1);
    println!("{}", database.stats());
    database.close()
}
