//! What shuttle lacks of std: timed waits that end, a clock by which they do, and threads that say
//! whether they have ended.
//!
//! The clock goes on by [`TICK`] with each timed wait, however long that was to be, and at no other
//! time: so a deadline passes after as many turns each time that a schedule is run, and a schedule that
//! failed can be run again. All threads of a model run on one thread of the system, by turns; the clock
//! is that thread's.

use std::cell::Cell;
use std::io;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shuttle::thread::{Builder as ModelBuilder, JoinHandle as ModelHandle, Result, Thread};

/// How long each timed wait takes: no less than any whose length is drawn by an address.
const TICK: Duration = Duration::from_millis(10);

std::thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Lets the others run, for as long as a timed wait takes.
pub(super) fn pass_time() {
    shuttle::thread::yield_now();
    NOW.set(NOW.get() + TICK);
}

/// A moment on the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self(NOW.get())
    }

    /// Time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// Time from `earlier` to this moment; none where it came later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0 + later)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// Lets the others run once. Nobody is ever unparked by name here: a caller looks again.
pub fn park_timeout(_at_most: Duration) {
    pass_time();
}

/// A running thread.
#[derive(Debug)]
pub struct JoinHandle<T> {
    inner: ModelHandle<T>,
    is_finished: Arc<AtomicBool>,
}

impl<T> JoinHandle<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> Result<T> {
        self.inner.join()
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.inner.thread()
    }

    /// Whether its function has returned.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // Whoever asks in a loop lets the thread run.
        shuttle::thread::yield_now();
        self.is_finished.load(Ordering::SeqCst)
    }
}

/// Begins a thread.
///
/// # Panics
/// Outside a model.
#[track_caller]
pub fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().spawn(run).expect("a model refuses no thread")
}

/// Begins threads with a name.
#[derive(Debug, Default)]
pub struct Builder(ModelBuilder);

impl Builder {
    /// A thread without a name.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it a name.
    #[must_use]
    pub fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    /// Begins the thread.
    ///
    /// # Errors
    /// None; it has the shape of std's.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let is_finished = Arc::new(AtomicBool::new(false));
        let ending = Ending(Arc::clone(&is_finished));
        let inner = self.0.spawn(move || {
            let _ending = ending;
            run()
        })?;
        Ok(JoinHandle { inner, is_finished })
    }
}

/// Tells the end of a thread when it is dropped, after a panic too.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
