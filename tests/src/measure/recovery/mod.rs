//! What recovery takes after a kill, beside what the database had estimated.
//!
//! A child process, this program once more, writes with the default options and says all the time how
//! long recovery would take. It is killed when that is a certain share of the recovery target: from
//! nothing to all of it, which is as far as pacing lets it come, in random order. What it leaves is
//! copied; the copy is opened with cold caches, the original with warm ones, and in both the clock
//! runs from the call of `open` to the return of the first `get`. Then the original is closed cleanly,
//! and the next child goes on with it: so the rate of recovery is learned from one to the next, as in
//! real life, and the log of an unclean start does not make the next child wary.

mod image;
mod writer;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::RecoveryReport;
use seawall_wal::codec::{to_u64, to_usize};

use self::image::{copy, drop_cache, is_read_past_the_cache, read_all};
pub(super) use self::writer::Writer;
use self::writer::{Child, Told};
use super::loaded::{TREE, VALUE_BYTES, key, load};
use super::setup::Setup;
use super::table::{Table, median, mib, ratio, time};
use super::{print, progress};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::random::Random;

/// Options of the measurement.
#[derive(Args, Clone, Debug)]
pub struct Recovery {
    #[command(flatten)]
    setup: Setup,
    /// Recoveries
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1000))]
    recoveries: u64,
    /// Pairs in the database
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 30))]
    pairs: u64,
    /// Threads of the child that write
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=64))]
    threads: u64,
    /// Wait until each write of the child is durable; it takes much longer then to come far
    #[arg(long)]
    durable: bool,
    /// The engine's target
    #[arg(long, value_name = "MS", default_value_t = 2000,
          value_parser = RangedU64ValueParser::<u64>::new().range(10..=3_600_000))]
    recovery_target_ms: u64,
    /// How long a child may take to come as far as it shall; then it is killed further below
    #[arg(long, value_name = "S", default_value_t = 30,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=3600))]
    patience: u64,
    /// Have the kernel drop the caches of the whole machine, not only of the copied files; for root
    #[arg(long)]
    drop_caches: bool,
    /// Decides about the order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What an open found and took.
#[derive(Debug)]
struct Opened {
    report: RecoveryReport,
    /// To the return of the first `get`.
    elapsed: Duration,
}

/// A recovery.
#[derive(Debug)]
struct Measured {
    number: usize,
    told: Told,
    warm: Opened,
    cold: Opened,
}

impl Recovery {
    /// Measures; see [`super::Measurement::run`].
    pub(super) fn run(&self, out: &mut dyn Write) -> Outcome {
        let folder = self.setup.folder()?;
        let (path, copied) = (folder.path().join("db"), folder.path().join("copy"));
        let database = self.options().open(&path)?;
        load(&database, self.pairs)?;
        database.close()?;
        let mut measured = Vec::new();
        for (number, share) in self.shares().into_iter().enumerate() {
            let target = self.target().mul_f64(share);
            let about = format!("recovery {} of {}: {target:.1?}", number + 1, self.recoveries);
            progress(&about);
            let told = Child::start(self, &path)?.kill_at(target, self.patience())?;
            copy(&path, &copied)?;
            read_all(&path)?;
            drop_cache(&copied, self.drop_caches)?;
            let cold = self.open(&copied)?;
            read_all(&path)?;
            let warm = self.open(&path)?;
            std::fs::remove_dir_all(&copied)
                .map_err(|error| Failure::new(format!("{}: {error}", copied.display())))?;
            measured.push(Measured { number: number + 1, told, warm, cold });
        }
        let is_direct = is_read_past_the_cache(&path, self.setup.disk.into())?;
        self.report(measured, is_direct, out)
    }

    fn options(&self) -> seawall::Options {
        self.setup.options().recovery_target(self.target())
    }

    fn target(&self) -> Duration {
        Duration::from_millis(self.recovery_target_ms)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// Shares of the target at which children are killed, in random order.
    fn shares(&self) -> Vec<f64> {
        let count = u32::try_from(self.recoveries).expect("at most a thousand, by the options");
        let steps = f64::from(count.saturating_sub(1).max(1));
        let mut shares: Vec<_> = (0..count).map(|step| f64::from(step) / steps).collect();
        let mut random = Random::new(self.seed);
        for index in (1..shares.len()).rev() {
            shares.swap(index, to_usize(random.below(to_u64(index) + 1)));
        }
        shares
    }

    /// Opens what a child has left, reads a key, and closes it again.
    fn open(&self, dir: &Path) -> Outcome<Opened> {
        let key = key(self.pairs / 2);
        let started = Instant::now();
        let database = self.options().open(dir)?;
        let tree = database.open_tree(TREE)?;
        let tree = tree.ok_or_else(|| Failure::new("the tree is not there"))?;
        let found = tree.get(key)?;
        let elapsed = started.elapsed();
        ensure!(found.is_some(), "a key that was loaded is not there");
        let report = database.recovery_report().clone();
        ensure!(!report.clean, "there was nothing to recover");
        let len = tree.len()?;
        ensure!(len == self.pairs, "{len} pairs are there");
        database.close()?;
        Ok(Opened { report, elapsed })
    }

    fn report(&self, mut measured: Vec<Measured>, is_direct: bool, out: &mut dyn Write) -> Outcome {
        let durability = if self.durable { "durably" } else { "relaxed" };
        let about = format!(
            "## Recovery after a kill\n\n{} {} thread(s) overwrite single random keys, {durability}. \
             `recovery_target` {} ms; clock from the call of `open` to the return of the first `get`.",
            self.setup.describe(self.pairs, VALUE_BYTES),
            self.threads,
            self.recovery_target_ms,
        );
        print(out, &about)?;
        measured.sort_by_key(|measured| measured.warm.report.log_bytes);
        let mut table = Table::new([
            "recovery",
            "log distance",
            "as told",
            "dirty pages",
            "estimate",
            "measured warm",
            "measured cold",
            "warm/estimate",
            "cold/estimate",
            "pages read",
            "records redone",
            "warm: analysis",
            "redo",
            "the rest",
        ]);
        for Measured { number, told, warm, cold } in &measured {
            table.row([
                number.to_string(),
                mib(warm.report.log_bytes),
                mib(told.log_bytes),
                told.dirty_pages.to_string(),
                time(told.estimate),
                time(warm.elapsed),
                time(cold.elapsed),
                format!("{:.2}", ratio(warm.elapsed, told.estimate)),
                format!("{:.2}", ratio(cold.elapsed, told.estimate)),
                cold.report.pages_read.to_string(),
                cold.report.records_redone.to_string(),
                time(warm.report.analysis),
                time(warm.report.redo),
                time(warm.elapsed.saturating_sub(warm.report.analysis + warm.report.redo)),
            ]);
        }
        print(out, &table)?;
        let times = |of: fn(&Measured) -> &Opened| {
            let of = |measured| ratio(of(measured).elapsed, measured.told.estimate);
            let median = median(measured.iter().map(of).collect());
            let largest = measured.iter().map(of).fold(0.0, f64::max);
            format!("median {median:.2}, largest {largest:.2}")
        };
        let about = format!(
            "Measured over estimate: warm {}; cold {}.\n\nCold: {}. {}",
            times(|measured| &measured.warm),
            times(|measured| &measured.cold),
            if self.drop_caches {
                "the copy's files were synced, and the kernel dropped the caches of the machine"
            } else {
                "the copy's files were synced and dropped from the page cache (`POSIX_FADV_DONTNEED`)"
            },
            if is_direct {
                "The engine reads past the page cache here (direct I/O), so warm and cold differ by \
                 what lies below it alone."
            } else {
                "The engine reads through the page cache here."
            }
        );
        print(out, &about)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Recovery;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        recovery: Recovery,
    }

    #[test]
    fn children_are_killed_at_every_share_of_the_target_once() {
        for count in [1, 2, 10] {
            let arguments = ["", "--recoveries", &count.to_string()].map(str::to_owned);
            let mut shares = Arguments::parse_from(arguments).recovery.shares();
            shares.sort_unstable_by(f64::total_cmp);
            assert_eq!(shares.len(), count);
            assert!(shares[0].abs() < 1e-9 && shares.is_sorted());
            assert!(count == 1 || (shares[count - 1] - 1.0).abs() < 1e-9);
        }
    }
}
