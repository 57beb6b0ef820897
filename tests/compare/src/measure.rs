//! Running an operation on several threads for a while, and how long it took.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::engine::{Engine, RELAXED_SYNC, RelaxedSync};
use crate::input::Stream;
use crate::outcome::{LatencyUs, Row};

/// Longest latency that is told apart from longer ones: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Decimal digits of a latency that count.
const DIGITS: u8 = 3;
/// Operations are counted for each span of this length.
const SPAN: Duration = Duration::from_millis(100);
/// Spans in a second.
const SPANS: usize = 10;

/// How an operation is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) threads: usize,
    pub(crate) duration: Duration,
    /// One operation of so many is timed, and the clock looked at: 1 where an operation takes long enough for
    /// the clock not to matter.
    pub(crate) timed_every: u64,
    pub(crate) seed: u64,
}

/// What an operation gets.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Number of the thread, from 0.
    pub(crate) thread: u64,
    /// Operations that this thread has done.
    pub(crate) step: u64,
    pub(crate) stream: Stream,
    /// Room for a value.
    pub(crate) buffer: Vec<u8>,
}

/// What threads have done.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) operations: u64,
    /// Sum of what the operations returned: pairs that they touched.
    pub(crate) pairs: u64,
    pub(crate) elapsed: Duration,
    latencies: Histogram<u64>,
    /// Pairs of each [`SPAN`].
    spans: Vec<u64>,
}

impl Measured {
    fn new() -> Self {
        let latencies = Histogram::new_with_max(LATENCY_NS_MAX, DIGITS)
            .expect("the bound is above 1 and the digits are at most 5");
        let (operations, pairs, elapsed) = (0, 0, Duration::ZERO);
        Self { operations, pairs, elapsed, latencies, spans: Vec::new() }
    }

    fn record(&mut self, since: Duration, took: Duration) {
        self.latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        let span = (since.as_millis() / SPAN.as_millis()) as usize;
        if self.spans.len() <= span {
            self.spans.resize(span + 1, 0);
        }
        self.spans[span] += 1;
    }

    /// Threads that ran side by side, as one.
    pub(crate) fn sum(threads: &[Self]) -> Self {
        let mut sum = Self::new();
        for thread in threads {
            sum.operations += thread.operations;
            sum.pairs += thread.pairs;
            sum.elapsed = sum.elapsed.max(thread.elapsed);
            sum.latencies.add(&thread.latencies).expect("both histograms have the same bounds");
            sum.spans.resize(sum.spans.len().max(thread.spans.len()), 0);
            sum.spans.iter_mut().zip(&thread.spans).for_each(|(all, one)| *all += one);
        }
        sum
    }

    /// Pairs in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.pairs as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn latency(&self) -> LatencyUs {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        LatencyUs {
            p50: us(self.latencies.value_at_quantile(0.5)),
            p99: us(self.latencies.value_at_quantile(0.99)),
            p999: us(self.latencies.value_at_quantile(0.999)),
            max: us(self.latencies.max()),
        }
    }

    /// The rate as a row.
    pub(crate) fn row(&self, workload: impl Into<String>) -> Row {
        let mut row = Row::new(workload, self.rate());
        row.latency = Some(self.latency());
        row
    }

    /// Operations of each second that lies whole within the run; one begins every tenth of a second.
    pub(crate) fn seconds(&self) -> Vec<f64> {
        let whole = (self.elapsed.as_millis() / SPAN.as_millis()) as usize;
        let spans = &self.spans[..whole.min(self.spans.len())];
        spans.windows(SPANS).map(|second| second.iter().sum::<u64>() as f64).collect()
    }
}

/// Runs `operation` on each thread until the time is over. What each thread has done.
pub(crate) fn run<E: Engine>(
    engine: &E,
    spec: &Spec,
    operation: impl Fn(&mut E::Session<'_>, &mut Worker) -> Result<u64> + Sync,
) -> Result<Vec<Measured>> {
    let barrier = Barrier::new(spec.threads);
    let run_one = |thread: usize| -> Result<Measured> {
        let session = engine.session();
        barrier.wait();
        let mut session = session?;
        let mut measured = Measured::new();
        let thread = thread as u64;
        let stream = Stream::new(spec.seed << 16 | thread);
        let mut worker = Worker { thread, step: 0, stream, buffer: Vec::new() };
        let started = Instant::now();
        loop {
            for _ in 1..spec.timed_every {
                measured.pairs += operation(&mut session, &mut worker)?;
                worker.step += 1;
            }
            let before = started.elapsed();
            measured.pairs += operation(&mut session, &mut worker)?;
            worker.step += 1;
            let after = started.elapsed();
            measured.record(after, after - before);
            if after >= spec.duration {
                measured.operations = worker.step;
                measured.elapsed = after;
                return Ok(measured);
            }
        }
    };
    thread::scope(|scope| {
        let run_one = &run_one;
        let handles: Vec<_> =
            (0..spec.threads).map(|thread| scope.spawn(move || run_one(thread))).collect();
        let panicked = |_| Err(anyhow!("a thread of the workload panicked"));
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(panicked)).collect()
    })
}

/// Runs `work` while relaxed commits are synced as often as Seawall does by itself.
pub(crate) fn with_relaxed_syncs<E: Engine, T>(
    engine: &E,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if E::RELAXED_SYNC_BY != RelaxedSync::Harness {
        return work();
    }
    let is_over = parking_lot::Mutex::new(false);
    let over = parking_lot::Condvar::new();
    thread::scope(|scope| {
        let syncer = scope.spawn(|| -> Result<()> {
            let mut guard = is_over.lock();
            while !*guard {
                over.wait_for(&mut guard, RELAXED_SYNC);
                if !*guard {
                    parking_lot::MutexGuard::unlocked(&mut guard, || engine.sync())?;
                }
            }
            Ok(())
        });
        let worked = work();
        *is_over.lock() = true;
        over.notify_one();
        syncer.join().map_err(|_| anyhow!("the thread that syncs panicked"))??;
        worked
    })
}
