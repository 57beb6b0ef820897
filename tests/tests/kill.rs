//! Real processes, killed at random. `SEAWALL_KILLS=N` kills N for each disk.

#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use seawall::DiskKind;
use seawall_tests::counts;
use seawall_tests::kill::{self, End, KillLoop, options};
use seawall_tests::ring::or_leave_out;

/// Kills for each disk when nobody says how many.
const KILLS: u64 = 50;

/// Does nothing unless the kill loop starts it.
#[test]
fn child() {
    kill::child();
}

fn kill_on(disk: DiskKind) {
    let kills = std::env::var("SEAWALL_KILLS").ok();
    let kills = kills.map_or(KILLS, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut kill_loop = KillLoop::new(&path, disk, End::Kill, 1);
    for round in 0..kills {
        kill_loop.round("child").unwrap_or_else(|why| panic!("{disk:?}, round {round}: {why}"));
    }
    kill_loop.check().unwrap_or_else(|why| panic!("{disk:?}, at the end: {why}"));
    eprintln!("{disk:?}: {:?}", kill_loop.counts);
    counts::tell("kills", kill_loop.counts.kills);
    counts::tell("commits acknowledged before kills", kill_loop.counts.acknowledged);
}

#[test]
fn killed_writers_leave_everything_acknowledged_on_the_blocking_disk() {
    kill_on(DiskKind::Blocking);
}

#[test]
fn killed_writers_leave_everything_acknowledged_on_the_ring_disk() {
    let dir = tempfile::tempdir().unwrap();
    let opened = options(DiskKind::Uring).open(dir.path().join("db"));
    if or_leave_out("kills on the ring disk", opened).is_some() {
        kill_on(DiskKind::Uring);
    }
}
