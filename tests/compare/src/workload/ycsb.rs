//! YCSB's core workloads A to F (Cooper et al., "Benchmarking cloud serving systems with YCSB", 2010), with its
//! zipfian choice of keys (0.99), scattered over the key space. Differences: an update writes the whole value; the
//! newest keys of D are those of the thread that reads, so that each key asked for is there.

use anyhow::{Result, ensure};

use super::durable::THREAD_NUMBERS;
use super::load::{BATCH_PAIRS, load};
use super::verify::{ScanCheck, get, highest, verify};
use super::{Context, VALUE_BYTES};
use crate::engine::{Engine, Session, Setup};
use crate::input::{Skewed, Values, key, mix};
use crate::measure::{Measured, Spec, Worker, run as run_threads, with_relaxed_syncs};

/// Pairs at scale 1; with what D and E insert they stay within the cache.
const COUNT: u64 = 800_000;
const COUNT_MIN: u64 = 20_000;
const RELAXED_THREADS: usize = 2;
const DURABLE_THREADS: usize = 16;
/// Longest scan of E.
const SCAN_PAIRS_MAX: u64 = 100;
/// Where the numbers of inserted keys begin.
const INSERTED: u64 = 1 << 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    A,
    B,
    C,
    D,
    E,
    F,
}

/// In YCSB's own order, but for E, which is last because it inserts.
const KINDS: [(Kind, &str); 6] = [
    (Kind::A, "a"),
    (Kind::B, "b"),
    (Kind::C, "c"),
    (Kind::F, "f"),
    (Kind::D, "d"),
    (Kind::E, "e"),
];

impl Kind {
    /// Operations of a hundred that only read.
    const fn reads_percent(self) -> u64 {
        match self {
            Self::A | Self::F => 50,
            Self::B | Self::D | Self::E => 95,
            Self::C => 100,
        }
    }
}

pub(super) fn run_relaxed<E: Engine>(context: &Context) -> Result<()> {
    let count = context.count(COUNT, COUNT_MIN);
    let values = Values::new(VALUE_BYTES);
    let setup = Setup { writers: RELAXED_THREADS, ..Context::setup(false) };
    load::<E>(context, &setup, &values, count, BATCH_PAIRS, "load-batches")?;
    let engine = E::open(context.dir(), &setup)?;
    engine.session()?.scan(&[], u64::MAX, |_, _| ())?;
    let spec = Spec { timed_every: 8, ..context.timed(RELAXED_THREADS, 8.0, 6) };
    let total = with_relaxed_syncs(&engine, || {
        run_all(context, &engine, &values, count, count, &spec, "ycsb")
    })?;
    engine.sync()?;
    verify(&engine, &values, total)?;
    engine.close()
}

/// On what the durable workloads have left: numbers below `count`, and others.
pub(super) fn run_durable<E: Engine>(context: &Context, count: u64, total: u64) -> Result<()> {
    let values = Values::new(VALUE_BYTES);
    let engine =
        E::open(context.dir(), &Setup { writers: DURABLE_THREADS, ..Context::setup(true) })?;
    let spec = context.timed(DURABLE_THREADS, 5.0, 7);
    let total = run_all(context, &engine, &values, count, total, &spec, "ycsb-durable")?;
    verify(&engine, &values, total)?;
    engine.close()
}

/// All of them, one after the other. Returns how many pairs are there then.
fn run_all<E: Engine>(
    context: &Context,
    engine: &E,
    values: &Values,
    count: u64,
    mut total: u64,
    spec: &Spec,
    name: &str,
) -> Result<u64> {
    let skewed = Skewed::new(count, 0x7963_7362);
    let highest = highest(count);
    for (kind, letter) in KINDS {
        let inputs = Inputs { kind, values, count, skewed: &skewed, highest };
        let measured = run_threads(engine, spec, |session, worker| inputs.step(session, worker))?;
        if matches!(kind, Kind::D | Kind::E) {
            total += measured.iter().map(|thread| inserts(thread.operations)).sum::<u64>();
        }
        let mut sum = Measured::sum(&measured);
        sum.pairs = sum.operations;
        context.emit(&sum.row(format!("{name}-{letter}")))?;
    }
    Ok(total)
}

/// Inserts among the first operations of a thread: D and E make each twentieth one.
const fn inserts(operations: u64) -> u64 {
    operations / 20
}

struct Inputs<'a> {
    kind: Kind,
    values: &'a Values,
    count: u64,
    skewed: &'a Skewed,
    highest: u64,
}

impl Inputs<'_> {
    fn step<S: Session>(&self, session: &mut S, worker: &mut Worker) -> Result<u64> {
        // Threads begin at different places of the same samples.
        let rank = self.skewed.rank(worker.thread * 0x1_0f3d + worker.step);
        let chosen = mix(rank) % self.count;
        if matches!(self.kind, Kind::D | Kind::E) {
            return if worker.step % 20 == 19 {
                self.insert(session, worker)
            } else if self.kind == Kind::D {
                get(session, self.values, self.newest(worker, rank))
            } else {
                self.scan(session, worker, chosen)
            };
        }
        if worker.stream.below(100) < self.kind.reads_percent() {
            return get(session, self.values, chosen);
        }
        let version = worker.stream.next();
        worker.buffer.resize(self.values.bytes(), 0);
        if self.kind == Kind::F {
            return self.modify(session, chosen, version);
        }
        self.values.fill(chosen, version, &mut worker.buffer);
        session.put(&key(chosen), &worker.buffer)?;
        Ok(1)
    }

    fn first_inserted(&self, thread: u64) -> u64 {
        INSERTED + self.kind as u64 * 64 * THREAD_NUMBERS + thread * THREAD_NUMBERS
    }

    fn insert<S: Session>(&self, session: &mut S, worker: &mut Worker) -> Result<u64> {
        let number = self.first_inserted(worker.thread) + inserts(worker.step);
        worker.buffer.resize(self.values.bytes(), 0);
        self.values.fill(number, 0, &mut worker.buffer);
        session.put(&key(number), &worker.buffer)?;
        Ok(1)
    }

    /// The newest key but `rank` that this thread has inserted, or that was loaded.
    fn newest(&self, worker: &Worker, rank: u64) -> u64 {
        let inserted = inserts(worker.step);
        match inserted.checked_sub(rank + 1) {
            Some(place) => self.first_inserted(worker.thread) + place,
            None => self.count - 1 - (rank - inserted),
        }
    }

    fn scan<S: Session>(&self, session: &mut S, worker: &mut Worker, chosen: u64) -> Result<u64> {
        let limit = 1 + worker.stream.below(SCAN_PAIRS_MAX);
        let mut check = ScanCheck::new(self.values);
        let found = session.scan(&key(chosen), limit, |key, value| check.visit(key, value))?;
        check.finish(found, limit, self.highest)
    }

    /// A read-modify-write. The new value follows from the old one's, as those of a counter would.
    fn modify<S: Session>(&self, session: &mut S, number: u64, version: u64) -> Result<u64> {
        let key = key(number);
        let mut is_right = false;
        let is_there = session.update(&key, &mut |old, new| {
            is_right = self.values.check(&key, old).is_some();
            let previous = old.first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
            new.resize(self.values.bytes(), 0);
            self.values.fill(number, version ^ previous, new);
        })?;
        ensure!(is_there && is_right, "key number {number} is not there, or has another's value");
        Ok(1)
    }
}
