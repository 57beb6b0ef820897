//! An online backup: the database is copied while another thread writes to it. Opening the copy
//! recovers it: what had been acknowledged before the backup began is there, and of what came later
//! the first part.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use seawall::{Database, Result, Tree};

/// Commits that the backup waits for.
const COMMITS: u64 = 2000;

/// What the writer and the thread that takes the backup tell one another.
#[derive(Default)]
struct Progress {
    /// Commits that have returned.
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

fn write(entries: &Tree, progress: &Progress) -> Result<()> {
    for number in 0_u64.. {
        if progress.is_over.load(Ordering::SeqCst) {
            break;
        }
        entries.insert(number.to_be_bytes(), format!("entry {number}"))?;
        progress.acknowledged.store(number + 1, Ordering::SeqCst);
    }
    Ok(())
}

fn main() -> Result<()> {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let copy_dir = parent.path().join("copy");
    let database = Database::open(parent.path().join("db"))?;
    let entries = database.tree("entries")?;
    let progress = Progress::default();
    let acknowledged = || progress.acknowledged.load(Ordering::SeqCst);

    let (before, report, after) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&entries, &progress));
        while acknowledged() < COMMITS && !writer.is_finished() {
            thread::yield_now();
        }
        let before = acknowledged();
        let report = database.backup(&copy_dir);
        let after = acknowledged();
        progress.is_over.store(true, Ordering::SeqCst);
        writer.join().expect("the writer does not panic")?;
        report.map(|report| (before, report, after))
    })?;
    println!("{before} commits were acknowledged when the backup began, {after} when it was done");
    println!("{report}");
    database.close()?;

    let copy = Database::open(&copy_dir)?;
    println!("\nopened the copy:\n{}\n", copy.recovery_report());
    let copied = copy.open_tree("entries")?.expect("the tree was there before the backup");
    let mut count = 0_u64;
    for pair in copied.range(..)? {
        let (key, value) = pair?;
        assert_eq!(key, count.to_be_bytes(), "what is there is a prefix of the commits");
        assert_eq!(value, format!("entry {count}").as_bytes());
        count += 1;
    }
    assert!(count >= before, "a commit that was acknowledged before the backup was lost");
    let findings = copy.verify(|_| ())?.findings;
    assert!(findings.is_empty(), "{findings:?}");
    println!("the copy has the first {count} commits and verifies");
    copy.close()
}
