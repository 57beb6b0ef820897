//! "Checkpoints nobody notices": commits in windows with a checkpoint, and in windows without.
//!
//! One thread (or more) commits single keys durably all the time. Windows come in pairs, one with a
//! checkpoint and one without, in random order, so that both meet the device in the same states.
//! Around each window stands a transaction that has written and stays open. Before each, outside of
//! the measured time, a checkpoint is taken and the load runs on for a while, so that both kinds begin
//! with the same pages dirty, and no window pays for the one before it.
//!
//! A commit belongs to the window in which it begins. A window without a checkpoint in which the
//! engine took one by itself is measured again.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::{Database, Durability, Event, Tree};

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

/// The checkpoint of a window.
#[derive(Clone, Copy, Debug)]
struct Taken {
    dirty_pages: u64,
    elapsed: Duration,
}

/// What was measured in a window.
#[derive(Debug)]
struct Window {
    index: usize,
    taken: Option<Taken>,
}

/// A pair of windows.
#[derive(Debug)]
struct Round {
    without: Window,
    with: Window,
}

/// What commits and windows share.
struct Stage<'a> {
    database: &'a Database,
    tree: &'a Tree,
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
        let mut stage = Stage {
            database: &database,
            tree: &tree,
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
        if stage.random.one_in(2) {
            let with = self.window(stage, true)?;
            Ok(Round { without: self.window(stage, false)?, with })
        } else {
            let without = self.window(stage, false)?;
            Ok(Round { without, with: self.window(stage, true)? })
        }
    }

    /// A window; one that the engine's own checkpoint falls into is measured again.
    fn window(&self, stage: &mut Stage<'_>, has_checkpoint: bool) -> Outcome<Window> {
        loop {
            if let Some(window) = self.try_window(stage, has_checkpoint)? {
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

    fn try_window(&self, stage: &mut Stage<'_>, has_checkpoint: bool) -> Outcome<Option<Window>> {
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
        let taken = thread::scope(|scope| {
            stage.current.store(index, Ordering::SeqCst);
            let checkpoint = has_checkpoint.then(|| scope.spawn(|| take(database, moment)));
            thread::sleep(Duration::from_millis(self.window_ms));
            stage.current.store(NO_WINDOW, Ordering::SeqCst);
            checkpoint.map(join).transpose()
        })?;
        open.commit().map_err(|why| Failure::from(why).at("the transaction that stayed open"))?;
        let begun = stage.begun.load(Ordering::SeqCst) - begun_before;
        let is_clean = has_checkpoint || begun == 0;
        Ok(is_clean.then_some(Window { index, taken }))
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
            "pair",
            "p99.9 without",
            "p99.9 with",
            "max without",
            "max with",
            "commits without",
            "commits with",
            "dirty pages",
            "checkpoint took",
        ]);
        for (number, round) in rounds.iter().enumerate() {
            let [without, with] =
                [&round.without, &round.with].map(|window| &latencies[window.index]);
            let taken = round.with.taken.ok_or_else(|| Failure::new("no checkpoint was taken"))?;
            table.row([
                (number + 1).to_string(),
                time(without.quantile(0.999)),
                time(with.quantile(0.999)),
                time(without.max()),
                time(with.max()),
                without.count().to_string(),
                with.count().to_string(),
                taken.dirty_pages.to_string(),
                time(taken.elapsed),
            ]);
        }
        print(out, &table)?;
        let mut table = Table::new(["median of", "without", "with", "ratio", "aim"]);
        let mut summary = |name: &str, figure: &dyn Fn(&Latencies) -> Duration, aim: f64| {
            let of = |window: fn(&Round) -> &Window| {
                median_time(rounds.iter().map(|round| figure(&latencies[window(round).index])))
            };
            let (without, with) = (of(|round| &round.without), of(|round| &round.with));
            let ratio = format!("{:.2}", ratio(with, without));
            table.row([name.into(), time(without), time(with), ratio, format!("<= {aim}")]);
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

/// Takes a checkpoint after `moment`.
fn take(database: &Database, moment: Duration) -> Outcome<Taken> {
    thread::sleep(moment);
    let dirty_pages = database.stats().dirty_pages;
    let report = database.checkpoint()?;
    Ok(Taken { dirty_pages, elapsed: report.elapsed })
}
