//! Trying many things side by side: two threads, a panic is a failure, and a run that does not come to
//! its end ends the program with its name.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

/// Threads that try.
const THREADS: usize = 2;
/// Longest time that one trial may take on a machine that is busy with other things.
const TRIAL_MAX: Duration = Duration::from_secs(240);
/// How often somebody looks at the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs `body`; a panic is a failure.
pub fn contain<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure::new(format!("panic: {}", text.unwrap_or_default())))
    })
}

/// Calls `run` with each index below `count` and adds up what it returns, until `is_enough` says so.
/// `name` names a trial.
pub fn try_all<R: Default + Send>(
    count: usize,
    name: impl Fn(usize) -> String + Sync,
    run: impl Fn(usize) -> R + Sync,
    add: impl Fn(&mut R, R) + Sync,
    is_enough: impl Fn(&R) -> bool + Sync,
) -> R {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let sum = Mutex::new(R::default());
    let under_way = Mutex::new([None::<(usize, Instant)>; THREADS]);
    let (done, is_done) = channel::<()>();
    let work = |thread: usize, done: std::sync::mpsc::Sender<()>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || is_over.load(Ordering::Relaxed) {
                break;
            }
            set(&under_way, thread, Some((index, Instant::now())));
            let found = run(index);
            set(&under_way, thread, None);
            let mut sum = sum.lock().expect("nothing panics under the lock");
            add(&mut sum, found);
            is_over.fetch_or(is_enough(&sum), Ordering::Relaxed);
        }
        drop(done);
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, done) = (&work, done.clone());
            scope.spawn(move || work(thread, done));
        }
        drop(done);
        while is_done.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let under_way = *under_way.lock().expect("nothing panics under the lock");
            for (index, since) in under_way.into_iter().flatten() {
                if since.elapsed() > TRIAL_MAX {
                    give_up(&name(index));
                }
            }
        }
    });
    sum.into_inner().expect("nothing panics under the lock")
}

type UnderWay = Mutex<[Option<(usize, Instant)>; THREADS]>;

fn set(under_way: &UnderWay, thread: usize, trial: Option<(usize, Instant)>) {
    under_way.lock().expect("nothing panics under the lock")[thread] = trial;
}

/// A trial that hangs cannot be ended but with the program.
#[expect(clippy::print_stderr, reason = "nobody else can tell")]
fn give_up(name: &str) {
    eprintln!("it has not come to its end in {TRIAL_MAX:?}: {name}");
    std::process::abort();
}
