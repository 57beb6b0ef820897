//! Commits from asynchronous code: `commit_async` logs the commit and returns a future that resolves
//! when it is durable, so that many tasks share one flush. Any runtime will do; this is tokio.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use seawall::{Database, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(parent.path().join("db"))?;
    let events = database.tree("events")?;

    let commits = (0..1000_u32).map(|i| {
        let (database, events) = (database.clone(), events.clone());
        tokio::spawn(async move {
            let mut transaction = database.begin()?;
            transaction.insert(&events, i.to_be_bytes(), format!("event {i}"))?;
            transaction.commit_async()?.await
        })
    });
    for commit in commits.collect::<Vec<_>>() {
        commit.await.expect("the task ends")?;
    }
    let stats = database.stats();
    println!("1000 durable commits by 1000 tasks took {} flushes of the log", stats.flushes);
    assert_eq!(events.len()?, 1000);
    database.close()
}
