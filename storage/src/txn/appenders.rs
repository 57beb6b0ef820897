//! Appenders: whoever appends a record holds one, for its scratch memory and its append sequence.
//!
//! The sequence is odd from before the first dirty entry of a record until after the stores that
//! must not be missed (`last_lsn` of transaction and dirty entries, `commit_lsn`). A checkpoint
//! reserves `begin_lsn` and then waits until every sequence that was odd has turned
//! ([`Appenders::wait_for_appends`]): from then on all stores of records below `begin_lsn` are there
//! (invariant C1). It waits for a bounded copy, never for I/O, and nobody waits for it (C2).

use seawall_wal::record::RecordEncoder;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::sync::{Mutex, MutexGuard, hint};

/// Appends that can be under way at once; a thread beyond them waits for a free appender before it
/// takes any latch.
#[cfg(not(any(loom, seawall_shuttle)))]
const APPENDERS: usize = 128;
#[cfg(any(loom, seawall_shuttle))]
const APPENDERS: usize = 2;

#[derive(Debug)]
#[repr(align(128))]
struct Appender {
    sequence: AtomicU64,
    encoder: Mutex<RecordEncoder>,
}

/// The appenders of a database.
#[derive(Debug)]
pub(crate) struct Appenders {
    appenders: Box<[Appender]>,
    /// For what has to happen in one with the append of a record: see [`Appenders::fence`].
    fence: Appender,
}

/// An appender in use.
#[derive(Debug)]
pub(crate) struct AppenderGuard<'a> {
    sequence: &'a AtomicU64,
    /// Scratch memory for one record at a time.
    pub(crate) encoder: MutexGuard<'a, RecordEncoder>,
}

impl Appenders {
    pub(crate) fn new() -> Self {
        let appender =
            || Appender { sequence: AtomicU64::new(0), encoder: Mutex::new(RecordEncoder::new()) };
        let appenders = (0..APPENDERS).map(|_| appender()).collect();
        Self { appenders, fence: appender() }
    }

    /// Takes a free appender: the one that this thread had last, if it can, whose memory is in its
    /// cache. Call it before any latch: it waits when all are in use.
    pub(crate) fn acquire(&self) -> AppenderGuard<'_> {
        let start = first_choice();
        let at = |i: usize| &self.appenders[start.wrapping_add(i) % self.appenders.len()];
        let free = (0..self.appenders.len()).find_map(|i| {
            let encoder = at(i).encoder.try_lock()?;
            Some(AppenderGuard { sequence: &at(i).sequence, encoder })
        });
        free.unwrap_or_else(|| AppenderGuard {
            sequence: &at(0).sequence,
            encoder: at(0).encoder.lock(),
        })
    }

    /// Takes the one that nobody appends with: checkpoints wait for its sequence as for any other.
    /// Called before [`Appenders::acquire`], and before any latch. Were it one of the others, its
    /// holder could wait for itself once all of them are in use.
    pub(crate) fn fence(&self) -> AppenderGuard<'_> {
        AppenderGuard { sequence: &self.fence.sequence, encoder: self.fence.encoder.lock() }
    }

    /// Waits until every append that is under way has made its stores.
    pub(crate) fn wait_for_appends(&self) {
        for appender in self.appenders.iter().chain([&self.fence]) {
            let seen = appender.sequence.load(Ordering::SeqCst);
            if seen % 2 == 0 {
                continue;
            }
            while appender.sequence.load(Ordering::SeqCst) == seen {
                hint::spin_loop();
                seawall_wal::sync::thread::yield_now();
            }
        }
    }
}

/// The append sequence of an appender in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppendSequence<'a>(&'a AtomicU64);

impl<'a> AppenderGuard<'a> {
    pub(crate) fn sequence(&self) -> AppendSequence<'a> {
        AppendSequence(self.sequence)
    }
}

impl AppendSequence<'_> {
    /// Marks the append as under way. SeqCst: ordered before the reservation, which the checkpoint
    /// orders against its own.
    pub(crate) fn begin(self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Marks the append's stores as made.
    pub(crate) fn end(self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Where this thread begins to look for a free appender. Threads that come one after the other begin
/// at different ones.
fn first_choice() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    thread_local! {
        static CHOICE: usize = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    // A model has threads of its own in every run, and has to take the same way again.
    if cfg!(any(loom, seawall_shuttle)) { 0 } else { CHOICE.with(|&choice| choice) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_holds_the_fence_never_waits_for_himself() {
        let appenders = Arc::new(Appenders::new());
        // None of them is free, whichever the other thread begins with.
        let mut taken: Vec<_> = (0..APPENDERS).map(|_| appenders.acquire()).collect();
        let (fenced, is_fenced) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let shared = Arc::clone(&appenders);
        thread::spawn(move || {
            let fence = shared.fence();
            fence.sequence().begin();
            fenced.send(()).expect("somebody listens");
            drop(shared.acquire());
            fence.sequence().end();
            done.send(()).expect("somebody listens");
        });
        is_fenced.recv().expect("it is fenced");
        taken.clear();
        is_done.recv_timeout(Duration::from_secs(10)).expect("all others are free");
        appenders.wait_for_appends();
    }
}
