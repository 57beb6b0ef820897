//! Waiting for a watermark, and waking when it moves.
//!
//! Four queues, each ordered by LSN: for bytes to be *published* (contiguous), *visible*, *written*
//! and *durable*. An event pops exactly those it covers, so that the completion of one frame among 64
//! committers wakes no committer of the next frame except the one that shall write it.
//!
//! No wake-up is lost: a waiter registers under the mutex and then looks at the watermark again;
//! who moves a watermark stores it first and then takes the mutex. The one exception is the
//! publication of a record, which must not take a mutex for nothing: it looks at `published_hint`
//! after a sequentially consistent fence, and the one who registers stores the hint before one.
//!
//! It never calls a waker while it holds the mutex.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Mutex};
use crate::{Error, Lsn};

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Everything below its LSN is published.
    Published,
    /// Everything below its LSN is visible.
    Visible,
    /// Everything below its LSN is written, synced or not.
    Written,
    /// Everything below its LSN is durable.
    Durable,
}

/// Where one thread sleeps until it is woken; wake-ups before the sleep count.
#[derive(Debug, Default)]
pub(super) struct Parker {
    alarm: Mutex<Alarm>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Alarm {
    is_rung: bool,
    /// A failure that concerns the sleeper alone.
    failure: Option<Error>,
}

impl Parker {
    /// Nobody has woken it.
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sleeps until the next wake-up.
    pub(super) fn park(&self) -> Result<(), Error> {
        let mut alarm = self.alarm.lock();
        while !alarm.is_rung {
            self.rung.wait(&mut alarm);
        }
        alarm.is_rung = false;
        alarm.failure.take().map_or(Ok(()), Err)
    }

    fn wake(&self, failure: Option<Error>) {
        let mut alarm = self.alarm.lock();
        alarm.is_rung = true;
        alarm.failure = failure.or(alarm.failure.take());
        drop(alarm);
        self.rung.notify_one();
    }
}

/// How a waiter is woken.
#[derive(Clone, Debug)]
pub(super) enum Wake {
    /// A sleeping thread.
    Thread(Arc<Parker>),
    /// A task of somebody's executor; it cannot write frames.
    Task(Waker),
}

impl Wake {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Thread(one), Self::Thread(other)) => Arc::ptr_eq(one, other),
            (Self::Task(one), Self::Task(other)) => one.will_wake(other),
            _ => false,
        }
    }

    fn wake(self) {
        match self {
            Self::Thread(parker) => parker.wake(None),
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// Position in a queue: LSN, then order of arrival.
type Key = (Lsn, u64);

#[derive(Debug, Default)]
struct Queues {
    published: BTreeMap<Key, Wake>,
    visible: BTreeMap<Key, Wake>,
    written: BTreeMap<Key, Wake>,
    durable: BTreeMap<Key, Wake>,
    next_arrival: u64,
}

impl Queues {
    fn of(&mut self, goal: Goal) -> &mut BTreeMap<Key, Wake> {
        match goal {
            Goal::Published => &mut self.published,
            Goal::Visible => &mut self.visible,
            Goal::Written => &mut self.written,
            Goal::Durable => &mut self.durable,
        }
    }

    fn pop_covered(&mut self, goal: Goal, up_to: Lsn, woken: &mut Vec<Wake>) {
        let queue = self.of(goal);
        while let Some(first) = queue.first_entry()
            && first.key().0 <= up_to
        {
            woken.push(first.remove());
        }
    }
}

/// Who can make the next step that some waiter needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Designated {
    /// Nobody waits for it.
    Nobody,
    /// A thread was woken to do it.
    Thread,
    /// Only tasks wait; the flusher has to do it.
    Flusher,
}

impl Designated {
    fn wake(first: Option<Wake>) -> Self {
        match first {
            None => Self::Nobody,
            Some(Wake::Task(_)) => Self::Flusher,
            Some(wake) => {
                wake.wake();
                Self::Thread
            }
        }
    }
}

/// The first thread among waiters, or a task where there is no thread.
fn first_waiter<'a>(waiting: impl Iterator<Item = (&'a Key, &'a Wake)>) -> Option<Wake> {
    let mut task = None;
    for (_, wake) in waiting {
        if matches!(wake, Wake::Thread(_)) {
            return Some(wake.clone());
        }
        task = task.or(Some(wake));
    }
    task.cloned()
}

/// All waiters of a log.
#[derive(Debug)]
pub(super) struct Waiters {
    queues: Mutex<Queues>,
    /// Smallest LSN anybody waits for to be published.
    published_hint: AtomicU64,
}

impl Waiters {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self { queues: Mutex::default(), published_hint: AtomicU64::new(u64::MAX) }
    }

    /// Registers a waiter, unless `is_reached` says afterwards that there is nothing to wait for:
    /// then it answers false, and no one will be woken. A waiter that is registered already, for
    /// the same goal and LSN, stays.
    pub(super) fn register(
        &self,
        goal: Goal,
        lsn: Lsn,
        wake: &Wake,
        is_reached: impl FnOnce() -> bool,
    ) -> bool {
        let mut queues = self.queues.lock();
        let arrival = queues.next_arrival;
        queues.next_arrival += 1;
        let queue = queues.of(goal);
        let is_known =
            queue.range((lsn, 0)..=(lsn, u64::MAX)).any(|(_, registered)| registered.is_same(wake));
        if !is_known {
            queue.insert((lsn, arrival), wake.clone());
        }
        self.store_hint(&queues);
        // Pairs with the fence in `Frontier::advance`, between its step and its look at the hint.
        fence(Ordering::SeqCst);
        if !is_reached() {
            return true;
        }
        queues
            .of(goal)
            .extract_if((lsn, 0)..=(lsn, u64::MAX), |_, registered| registered.is_same(wake))
            .for_each(drop);
        self.store_hint(&queues);
        false
    }

    fn store_hint(&self, queues: &Queues) {
        let hint = queues.published.first_key_value().map_or(u64::MAX, |((lsn, _), _)| lsn.get());
        self.published_hint.store(hint, Ordering::Relaxed);
    }

    /// Wakes those who wait for publication up to `contiguous`. The caller has moved the watermark
    /// and passed a sequentially consistent fence since.
    pub(super) fn published(&self, contiguous: Lsn) {
        if self.published_hint.load(Ordering::Relaxed) <= contiguous.get() {
            let mut woken = Vec::new();
            let mut queues = self.queues.lock();
            queues.pop_covered(Goal::Published, contiguous, &mut woken);
            self.store_hint(&queues);
            drop(queues);
            woken.into_iter().for_each(Wake::wake);
        }
    }

    /// Wakes those whom the watermarks cover, which were stored before.
    pub(super) fn settled(&self, written: Lsn, durable: Lsn, visible: Lsn) {
        let mut woken = Vec::new();
        let mut queues = self.queues.lock();
        queues.pop_covered(Goal::Durable, durable, &mut woken);
        queues.pop_covered(Goal::Visible, visible, &mut woken);
        queues.pop_covered(Goal::Written, written, &mut woken);
        drop(queues);
        woken.into_iter().for_each(Wake::wake);
    }

    /// Wakes the first thread that waits for an LSN above `framed` to be durable or written, so that
    /// it writes the next frame itself. It stays registered.
    pub(super) fn designate_writer(&self, framed: Lsn) -> Designated {
        let queues = self.queues.lock();
        let above = (framed.advance(1), 0)..;
        let waiting = queues.durable.range(above.clone()).chain(queues.written.range(above));
        let first = first_waiter(waiting);
        drop(queues);
        Designated::wake(first)
    }

    /// Wakes the first thread that waits for an LSN above `durable` and at most `written` to be
    /// durable, so that it syncs what is written. It stays registered.
    pub(super) fn designate_syncer(&self, durable: Lsn, written: Lsn) -> Designated {
        let queues = self.queues.lock();
        let range = (durable.advance(1), 0)..=(written, u64::MAX);
        let first = first_waiter(queues.durable.range(range));
        drop(queues);
        Designated::wake(first)
    }

    /// Wakes everyone who waits for anything; what they wait for will not come (poison).
    pub(super) fn wake_all(&self) {
        let queues = std::mem::take(&mut *self.queues.lock());
        self.published_hint.store(u64::MAX, Ordering::Relaxed);
        let Queues { published, visible, written, durable, next_arrival: _ } = queues;
        for queue in [published, visible, written, durable] {
            queue.into_values().for_each(Wake::wake);
        }
    }

    /// Hands a failure that does not poison to every thread that waits for what lies above `above`
    /// to be written or durable. Tasks stay: they are woken when a later try succeeds.
    pub(super) fn fail_threads(&self, above: Lsn, error: &Error) {
        let mut failed = Vec::new();
        let mut queues = self.queues.lock();
        let Queues { written, durable, .. } = &mut *queues;
        for queue in [written, durable] {
            let is_thread = |_: &Key, wake: &mut Wake| matches!(wake, Wake::Thread(_));
            let above = (above.advance(1), 0);
            failed.extend(queue.extract_if(above.., is_thread).map(|(_, wake)| wake));
        }
        drop(queues);
        for wake in failed {
            match wake {
                Wake::Thread(parker) => parker.wake(Some(error.clone())),
                Wake::Task(waker) => waker.wake(),
            }
        }
    }
}
