//! What a receiver of events is told.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use seawall::{Database, Durability, Error, Event, Options, RecoveryPhase, Result, testing};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};

type Told = Arc<Mutex<Vec<Event>>>;

/// Longest time for a thread of the database to notice something.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(disk: &SimDisk) -> Options {
    Options::new().disk_injected(Arc::new(disk.clone())).cache_bytes(8 << 20)
}

/// Opens with a receiver that keeps what it is told.
fn open_noting(options: Options) -> Result<(Database, Told)> {
    let told = Told::default();
    let noted = Arc::clone(&told);
    let database =
        options.on_event(move |event| noted.lock().expect("unpoisoned").push(event.clone()));
    Ok((database.open("/db")?, told))
}

#[test]
fn a_checkpoint_is_told_of_with_the_position_of_its_begin_record() -> Result<()> {
    let disk = SimDisk::new();
    let (database, told) = open_noting(options(&disk).manual_background(true))?;
    let tree = database.tree("t")?;
    for number in 0..10_u8 {
        tree.insert_with([number], "value", Durability::Relaxed)?;
        testing::take_checkpoint(&database)?;
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    let begun: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Event::CheckpointBegin { begin_lsn } => Some(*begin_lsn),
            _ => None,
        })
        .collect();
    let ended: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Event::CheckpointEnd(report) => Some(report.begin_lsn),
            _ => None,
        })
        .collect();
    assert_eq!((begun.len(), &begun), (10, &ended));
    Ok(())
}

#[test]
fn every_phase_of_recovery_is_told_from_its_beginning_to_its_end() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).manual_background(true).open("/db")?;
    let tree = database.tree("t")?;
    let mut open: Vec<_> = (0..3).map(|_| database.begin()).collect::<Result<_>>()?;
    for (transaction, number) in open.iter_mut().zip(0..3_u8) {
        transaction.insert(&tree, [number], "never committed")?;
    }
    tree.insert("key", "value")?;
    testing::abandon(database);
    drop((open, tree));

    let (database, told) = open_noting(options(&disk).manual_background(true))?;
    let report = database.recovery_report();
    assert_eq!(report.losers, 3);
    let mut phases: Vec<(RecoveryPhase, Vec<(u64, u64)>)> = Vec::new();
    for event in told.lock().unwrap().iter() {
        let Event::RecoveryProgress { phase, done, total } = event else { continue };
        match phases.last_mut() {
            Some((last, steps)) if last == phase => steps.push((*done, *total)),
            _ => phases.push((*phase, vec![(*done, *total)])),
        }
    }
    let totals = [
        (RecoveryPhase::Analysis, report.log_bytes),
        (RecoveryPhase::Doublewrite, 0),
        (RecoveryPhase::Redo, report.log_bytes),
        (RecoveryPhase::Undo, 3),
        (RecoveryPhase::Checkpoint, 1),
    ];
    assert_eq!(phases.len(), totals.len(), "{phases:?}");
    for ((phase, steps), (expected, total)) in phases.iter().zip(totals) {
        assert_eq!((*phase, steps[0].0), (expected, 0), "{steps:?}");
        assert_eq!(steps.last(), Some(&(total, total)), "{phase}: {steps:?}");
        assert!(steps.is_sorted(), "{phase}: {steps:?}");
    }
    database.close()
}

#[test]
fn a_failed_write_of_the_log_is_told_once_with_what_failed() -> Result<()> {
    let disk = SimDisk::new();
    let (tell, told) = mpsc::channel();
    let database = options(&disk)
        .on_event(move |event| {
            if matches!(event, Event::Poisoned { .. } | Event::CloseFailed { .. }) {
                tell.send(event.clone()).expect("the test listens");
            }
        })
        .open("/db")?;
    let tree = database.tree("t")?;
    let is_log = |path: &Path| path.extension().is_some_and(|name| name == "wal");
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).lasting().path(is_log));
    assert!(tree.insert("key", "value").is_err());
    let event = told.recv_timeout(PATIENCE).expect("the flusher notices");
    assert!(matches!(event, Event::Poisoned { error: Error::Io { .. } }), "{event:?}");
    drop((tree, database));
    let rest: Vec<_> = told.iter().collect();
    assert!(
        matches!(&rest[..], [Event::CloseFailed { error: Error::Poisoned { .. } }]),
        "{rest:?}"
    );
    Ok(())
}

#[test]
fn a_shutdown_that_fails_poisons_nothing_and_is_told_as_what_it_is() -> Result<()> {
    let disk = SimDisk::new();
    let (database, told) = open_noting(options(&disk).manual_background(true))?;
    database.tree("t")?.insert("key", "value")?;
    // The sync of the checkpoint's master record is let pass, that of the clean-shutdown mark
    // fails.
    let syncs = AtomicU32::new(0);
    let is_second =
        move |path: &Path| path.ends_with("control") && syncs.fetch_add(1, Ordering::Relaxed) == 1;
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync).path(is_second));
    drop(database);
    let told = told.lock().unwrap();
    let is_told = |is: fn(&Event) -> bool| told.iter().filter(|event| is(event)).count();
    assert_eq!(is_told(|event| matches!(event, Event::CloseFailed { .. })), 1, "{told:?}");
    assert_eq!(is_told(|event| matches!(event, Event::Poisoned { .. })), 0, "{told:?}");
    Ok(())
}
