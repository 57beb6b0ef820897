//! "Checkpoints nobody notices": commits in windows with a checkpoint, and in windows without.
//!
//! One thread (or more) commits single keys durably all the time. Windows come in pairs, one with a
//! checkpoint and one without, and with each pair a third window, in which a bare loop gives the disk
//! what a checkpoint would: what commits suffer there is the disk's doing, and no engine's. The three come in
//! random order, so that all meet the device in the same states.
//! Around each window stands a transaction that has written and stays open. Before each, outside of
//! the measured time, a checkpoint is taken and the load runs on for a while, so that all kinds begin
//! with the same pages dirty, and no window pays for the one before it.
//!
//! A commit belongs to the window in which it begins. A window without a checkpoint in which the
//! engine took one by itself is measured again.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::{Database, Durability, Event, Tree};

use super::bare::BareWrites;
use super::committers::{Commits, Stop, join};
use super::latencies::Latencies;
use super::loaded::{VALUE_BYTES, key, load, value};
use super::setup::Setup;
use super::table::{Table, median_time, ratio, time};
use super::{print, progress};
use crate::failure::{Failure, Outcome};
use crate::random::Random;

/// Median of the windows' maxima with a checkpoint over that without: the aim.
const AIM_MAXIMA: f64 = 2.0;
/// The same for the windows' p99.9.
const AIM_P99_9: f64 = 1.2;
/// Times that all windows together may be measured again, for each round.
const REPEATS_PER_ROUND: u64 = 2;
/// Between windows.
const NO_WINDOW: usize = usize::MAX;

/// Options of the measurement.
#[derive(Args, Debug)]
pub struct Checkpoints {
    #[command(flatten)]
    setup: Setup,
    /// Pairs of windows
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1000))]
    rounds: u64,
    /// Length of a window
    #[arg(long, value_name = "MS", default_value_t = 4000,
          value_parser = RangedU64ValueParser::<u64>::new().range(10..=60_000))]
    window_ms: u64,
    /// Load before each window, not measured
    #[arg(long, value_name = "MS", default_value_t = 1000,
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=60_000))]
    lead_ms: u64,
    /// Pairs in the database
    #[arg(long, value_name = "N", default_value_t = 500_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 30))]
    pairs: u64,
    /// Threads that commit
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=64))]
    threads: u64,
    /// Writes of the transaction that stays open
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    open_writes: u64,
    /// The engine's target: higher than its default, so that it seldom takes a checkpoint by itself
    #[arg(long, value_name = "MS", default_value_t = 10_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(10..=3_600_000))]
    recovery_target_ms: u64,
    /// Decides about the order of the windows and the moments of the checkpoints
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What goes on beside the commits of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Checkpoint,
    BareWrites,
}

/// Pages that were written in a window.
#[derive(Clone, Copy, Debug)]
struct Written {
    dirty_pages: u64,
    elapsed: Duration,
}

/// What was measured in a window.
#[derive(Clone, Copy, Debug)]
struct Window {
    index: usize,
    written: Option<Written>,
}

/// A window of each kind, in the order of [`Beside`].
type Round = [Window; 3];

/// What commits and windows share.
struct Stage<'a> {
    database: &'a Database,
    tree: &'a Tree,
    bare: BareWrites,
    /// The window that is measured now.
    current: &'a AtomicUsize,
    /// Windows begun so far.
    windows: usize,
    /// Checkpoints begun, the engine's own too.
    begun: Arc<AtomicU64>,
    random: Random,
    repeats_left: u64,
}

impl Checkpoints {
    /// Measures; see [`super::Measurement::run`].
    pub(super) fn run(&self, out: &mut dyn Write) -> Outcome {
        let folder = self.setup.folder()?;
        let begun = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&begun);
        let count = move |event: &Event| {
            if matches!(event, Event::CheckpointBegin { .. }) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        };
        let target = Duration::from_millis(self.recovery_target_ms);
        let options = self.setup.options().recovery_target(target).on_event(count);
        let database = options.open(folder.path().join("db"))?;
        let tree = load(&database, self.pairs)?;
        let page_file_bytes = database.stats().page_file_bytes;
        let bare = BareWrites::create(folder.path(), self.setup.disk.into(), page_file_bytes)?;
        let mut stage = Stage {
            database: &database,
            tree: &tree,
            bare,
            current: &AtomicUsize::new(NO_WINDOW),
            windows: 0,
            begun,
            random: Random::new(self.seed),
            repeats_left: self.rounds * REPEATS_PER_ROUND,
        };
        let (rounds, latencies) = self.measure(&mut stage)?;
        let repeats = self.rounds * REPEATS_PER_ROUND - stage.repeats_left;
        database.close()?;
        self.report(&rounds, &latencies, repeats, out)
    }

    /// The rounds, and the latencies of the windows by their index.
    fn measure(&self, stage: &mut Stage<'_>) -> Outcome<(Vec<Round>, Vec<Latencies>)> {
        let stop = AtomicBool::new(false);
        let current = stage.current;
        let commits = Commits {
            tree: stage.tree,
            pairs: self.pairs,
            durability: Durability::Sync,
            stop: &stop,
        };
        thread::scope(|scope| {
            let stopping = Stop::new(&stop);
            let handles: Vec<_> = (1..=self.threads)
                .map(|seed| {
                    let timed = |windows: &mut Vec<Latencies>, commit: &mut dyn FnMut() -> _| {
                        let window = current.load(Ordering::SeqCst);
                        if window == NO_WINDOW {
                            return commit();
                        }
                        while windows.len() <= window {
                            windows.push(Latencies::new());
                        }
                        windows[window].time(commit)
                    };
                    commits.spawn(scope, seed, Vec::new(), timed)
                })
                .collect();
            let mut rounds = Vec::new();
            for round in 1..=self.rounds {
                progress(&format!("pair of windows {round} of {}", self.rounds));
                if handles.iter().any(thread::ScopedJoinHandle::is_finished) {
                    break;
                }
                rounds.push(self.round(stage)?);
            }
            drop(stopping);
            let mut all = vec![Latencies::new(); stage.windows];
            for handle in handles {
                for (window, latencies) in all.iter_mut().zip(join(handle)?) {
                    window.add(&latencies);
                }
            }
            Ok((rounds, all))
        })
    }

    fn round(&self, stage: &mut Stage<'_>) -> Outcome<Round> {
        let mut order = [Beside::Nothing, Beside::Checkpoint, Beside::BareWrites];
        for last in (1..order.len()).rev() {
            order.swap(last, stage.random.below_usize(last + 1));
        }
        let mut round = [Window { index: 0, written: None }; 3];
        for beside in order {
            round[beside as usize] = self.window(stage, beside)?;
        }
        Ok(round)
    }

    /// A window; one that the engine's own checkpoint falls into is measured again.
    fn window(&self, stage: &mut Stage<'_>, beside: Beside) -> Outcome<Window> {
        loop {
            if let Some(window) = self.try_window(stage, beside)? {
                return Ok(window);
            }
            if stage.repeats_left == 0 {
                return Err(Failure::new(
                    "the engine takes checkpoints by itself all the time; a longer recovery target \
                     or shorter windows would help",
                ));
            }
            stage.repeats_left -= 1;
        }
    }

    fn try_window(&self, stage: &mut Stage<'_>, beside: Beside) -> Outcome<Option<Window>> {
        let (database, tree) = (stage.database, stage.tree);
        database.checkpoint()?;
        let begun_before = stage.begun.load(Ordering::SeqCst);
        let mut open = database.begin()?;
        for number in self.pairs..self.pairs + self.open_writes {
            open.insert(tree, key(number), value(&mut stage.random))?;
        }
        thread::sleep(Duration::from_millis(self.lead_ms));

        let index = stage.windows;
        stage.windows += 1;
        let moment = Duration::from_millis(stage.random.below(self.window_ms / 4 + 1));
        let (bare, random) = (&stage.bare, &mut stage.random);
        let written = thread::scope(|scope| {
            stage.current.store(index, Ordering::SeqCst);
            let writing = (beside != Beside::Nothing).then(|| {
                scope.spawn(move || {
                    write(database, moment, |dirty_pages| match beside {
                        Beside::BareWrites => bare.write(database, dirty_pages, random),
                        _ => Ok(database.checkpoint().map(drop)?),
                    })
                })
            });
            thread::sleep(Duration::from_millis(self.window_ms));
            stage.current.store(NO_WINDOW, Ordering::SeqCst);
            writing.map(join).transpose()
        })?;
        open.commit().map_err(|why| Failure::from(why).at("the transaction that stayed open"))?;
        let begun = stage.begun.load(Ordering::SeqCst) - begun_before;
        let is_clean = beside == Beside::Checkpoint || begun == 0;
        Ok(is_clean.then_some(Window { index, written }))
    }

    fn report(
        &self,
        rounds: &[Round],
        latencies: &[Latencies],
        repeats: u64,
        out: &mut dyn Write,
    ) -> Outcome {
        print(out, &format!("## Commits with and without a checkpoint\n\n{}", self.describe()))?;
        let mut table = Table::new([
            "round",
            "p99.9 without",
            "with",
            "bare",
            "max without",
            "with",
            "bare",
            "commits without",
            "with",
            "bare",
            "dirty pages",
            "checkpoint took",
            "bare took",
        ]);
        for (number, round) in rounds.iter().enumerate() {
            let [nothing, checkpoint, bare] = round.map(|window| &latencies[window.index]);
            let [_, taken, bare_taken] = round.map(|window| window.written);
            let took = |written: Option<Written>| {
                written.map(|written| time(written.elapsed)).unwrap_or_default()
            };
            let p99_9 = |commits: &Latencies| time(commits.quantile(0.999));
            table.row([
                (number + 1).to_string(),
                p99_9(nothing),
                p99_9(checkpoint),
                p99_9(bare),
                time(nothing.max()),
                time(checkpoint.max()),
                time(bare.max()),
                nothing.count().to_string(),
                checkpoint.count().to_string(),
                bare.count().to_string(),
                taken.map(|taken| taken.dirty_pages.to_string()).unwrap_or_default(),
                took(taken),
                took(bare_taken),
            ]);
        }
        print(out, &table)?;
        let heading = ["median of", "without", "with", "ratio", "aim", "bare", "ratio"];
        let mut table = Table::new(heading);
        let mut summary = |name: &str, figure: &dyn Fn(&Latencies) -> Duration, aim: f64| {
            let of = |beside: Beside| {
                let windows = rounds.iter().map(|round| round[beside as usize]);
                median_time(windows.map(|window| figure(&latencies[window.index])))
            };
            let without = of(Beside::Nothing);
            let [with, bare] = [Beside::Checkpoint, Beside::BareWrites].map(of);
            let [with_ratio, bare_ratio] =
                [with, bare].map(|figure| format!("{:.2}", ratio(figure, without)));
            let aim = format!("<= {aim}");
            let [without, with, bare] = [without, with, bare].map(time);
            table.row([name.into(), without, with, with_ratio, aim, bare, bare_ratio]);
        };
        summary("the windows' maxima", &Latencies::max, AIM_MAXIMA);
        summary("the windows' p99.9", &|window| window.quantile(0.999), AIM_P99_9);
        print(out, &table)?;
        print(
            out,
            &format!("Windows measured again for a checkpoint of the engine's own: {repeats}."),
        )
    }

    fn describe(&self) -> String {
        format!(
            "{} {} thread(s) commit single random keys durably. Windows of {} ms, {} ms of load \
             before each; in every window a transaction with {} writes stays open. `recovery_target` \
             {} ms.",
            self.setup.describe(self.pairs, VALUE_BYTES),
            self.threads,
            self.window_ms,
            self.lead_ms,
            self.open_writes,
            self.recovery_target_ms,
        )
    }
}

/// Runs `write` after `moment` for the pages that are dirty then.
fn write(
    database: &Database,
    moment: Duration,
    write: impl FnOnce(u64) -> Outcome,
) -> Outcome<Written> {
    thread::sleep(moment);
    let dirty_pages = database.stats().dirty_pages;
    let started = Instant::now();
    write(dirty_pages)?;
    Ok(Written { dirty_pages, elapsed: started.elapsed() })
}
