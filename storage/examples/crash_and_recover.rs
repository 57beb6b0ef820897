//! The main job: open, load, crash, recover, read.
//!
//! A child process loads pairs and tells this one of each commit that has returned; it is killed in
//! the middle, with a transaction open. The database is then opened again, and everything that was
//! acknowledged must be there, and nothing of the open transaction.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use seawall::Database;

/// Commits after which the child is killed.
const COMMITS: u64 = 5_000;
/// Set for the child; the directory to write to.
const CHILD_DIR: &str = "SEAWALL_EXAMPLE_DIR";

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var_os(CHILD_DIR) {
        Some(dir) => load_for_ever(Path::new(&dir)),
        None => crash_and_recover(),
    }
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn load_for_ever(dir: &Path) -> Result<(), Box<dyn Error>> {
    let database = Database::open(dir)?;
    let tree = database.tree("pairs")?;
    let mut open = database.begin()?;
    let uncommitted = open.tree("uncommitted")?;
    for i in 0.. {
        open.insert(&uncommitted, key(i), b"never committed")?;
        tree.insert(key(i), i.to_string())?;
        println!("{i}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn crash_and_recover() -> Result<(), Box<dyn Error>> {
    let parent = tempfile::tempdir()?;
    let dir = parent.path().join("db");
    let mut child = Command::new(std::env::current_exe()?)
        .env(CHILD_DIR, &dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the child has a pipe")?;
    let mut acknowledged = 0;
    for line in BufReader::new(stdout).lines() {
        acknowledged = line?.parse::<u64>()? + 1;
        if acknowledged == COMMITS {
            child.kill()?;
        }
    }
    child.wait()?;
    println!("killed the writer after it had acknowledged {acknowledged} commits");

    let database = Database::open(&dir)?;
    println!("\n{}\n", database.recovery_report());
    let tree = database.open_tree("pairs")?.ok_or("the tree was created")?;
    for i in 0..acknowledged {
        let value = tree.get(key(i))?.ok_or_else(|| format!("commit {i} was lost"))?;
        assert_eq!(value, i.to_string().as_bytes());
    }
    assert!(database.open_tree("uncommitted")?.is_none(), "its creation was never committed");
    println!("all {acknowledged} acknowledged commits are there; {} keys in all", tree.len()?);
    database.close()?;
    Ok(())
}
