//! Crashes at every operation, and many in a row: the log ends between what was synced and what was
//! written.

use super::*;
use crate::disk::sim::CrashPlan;
use crate::log::testing::{OPTIONS, TestLog, noise};

#[test]
fn after_every_crash_the_log_ends_between_what_was_synced_and_what_was_written() {
    for seed in 0..6 {
        let mut log = TestLog::create(OPTIONS);
        let mut synced_lsn = log.synced(&[b"first"]).end_lsn;
        log.disk.record_forks();
        let mut synced_at = vec![(0, synced_lsn)];
        for i in 0..24_u32 {
            let note = noise(usize::try_from((i * 977 + seed * 331) % 9000).unwrap(), i);
            if (i + seed).is_multiple_of(3) {
                log.unsynced(&[&note]);
            } else {
                // Syncs every frame in front of it as well, as the append side does.
                let written = log.unsynced(&[&note]);
                log.sync_all();
                synced_lsn = written.end_lsn;
                synced_at.push((log.disk.operation_count(), synced_lsn));
            }
        }
        for fork in log.disk.take_forks() {
            let promised = synced_at
                .iter()
                .rev()
                .find(|(operation, _)| *operation < fork.operation())
                .map_or(Lsn::NONE, |(_, lsn)| *lsn);
            for (plan, disk) in fork.disk().crash_states(0..3) {
                let what = format!("{} {} {plan:?}", seed, fork.describe());
                let end = testing::end(&disk, &log.state).unwrap_or_else(|error| {
                    panic!("{what}: {error}");
                });
                assert!(end.end_lsn >= promised, "{what}: lost {promised}");
                // And again after a new epoch has begun behind it.
                let mut next = TestLog::reopen(disk, log.state.clone(), OPTIONS, &end);
                let written = next.synced(&[b"next epoch"]);
                assert_eq!(next.end().unwrap().end_lsn, written.end_lsn, "{what}");
            }
        }
    }
}

/// A small generator of numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn over_many_crashes_the_log_is_a_prefix_of_each_epoch_and_keeps_what_was_synced() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut log = TestLog::create(OPTIONS);
        // All records that should be there, from the master on.
        let mut records: Vec<(Lsn, Lsn)> = Vec::new();
        let mut master: Option<(Lsn, LogPosition)> = None;
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            let mut synced_lsn = Lsn::NONE;
            for i in 0..dice.below(30) {
                let length = usize::try_from(dice.below(9000)).unwrap();
                let note = noise(length, u32::try_from(i).unwrap());
                let written = if dice.below(8) == 0 {
                    log.unsynced(&[])
                } else {
                    log.unsynced(&[&note, b"second"])
                };
                records.extend(&written.spans);
                let is_full = log.segments.available_bytes() < 100 << 10;
                if is_full || dice.below(3) == 0 {
                    log.sync_all();
                    synced_lsn = written.end_lsn;
                    if is_full || dice.below(4) == 0 && !written.records.is_empty() {
                        master = Some((written.lsn, written.at));
                        log.segments.recycle_below(written.lsn).unwrap();
                        log.state.forget_epochs_below(written.lsn);
                        records.retain(|(lsn, _)| *lsn >= written.lsn);
                    }
                }
                if dice.below(6) == 0 {
                    log.segments.make_spare().unwrap();
                }
            }
            let plan = match dice.below(5) {
                0 => CrashPlan::NothingUnsynced,
                1 => CrashPlan::Everything,
                2 => CrashPlan::Sectors { seed: dice.below(1 << 20) },
                3 => CrashPlan::Reordered { seed: dice.below(1 << 20) },
                _ => CrashPlan::Torn { seed: dice.below(1 << 20) },
            };
            let disk = log.disk.crash(plan);
            let state = log.state.clone();
            let query = TailQuery {
                start_lsn: master.map_or(state.epochs[0].start_lsn, |(lsn, _)| lsn),
                start_at: master.map(|(_, at)| at),
                ..TailQuery::new(&state)
            };
            let files = testing::files(&disk, &state).unwrap();
            let end = find_end(&files, &query).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(end.end_lsn >= synced_lsn, "{what}");
            assert_eq!(rewrite_tail(&files, &end).unwrap(), 0);
            records.retain(|(_, end_lsn)| *end_lsn <= end.end_lsn);

            log = TestLog::reopen(disk, state, OPTIONS, &end);
            let first = log.synced(&[b"first of its epoch"]);
            records.extend(&first.spans);
            let start = master.map_or(log.state.epochs[0].start_lsn, |(lsn, _)| lsn);
            let mut reader =
                log.files().unwrap().reader(start, query.start_at, Some(first.end_lsn)).unwrap();
            let mut found = Vec::new();
            while let Some(record) = reader.next_record().unwrap() {
                found.push((record.lsn, record.end_lsn));
            }
            assert_eq!(found, records, "{what}");
        }
    }
}
