//! Pacing: how much log recovery may have to redo, so that it ends within the target the user gave.
//!
//! Recovery takes time for the log it works off and for the pages it reads, which are those that
//! are dirty now. Both rates are measured by each recovery that had enough to do, and kept in
//! `control`. The budget is the log that both allow in the target's time if as many pages come with
//! each byte of it as now: few where keys are written over and over, one a record where they are
//! random and the log is short. A quarter of the target is kept for what rates do not tell: a disk or
//! a machine that is busier than last time. The page cleaner aims at half of the budget and checkpoints come
//! every quarter of it, so that the log behind the master record's redo point stays within it.
//! Where writers outrun the cleaner all the same, each is held back before it takes log credit, and
//! so latch-free, by a pause that grows with the square of the excess, and that is at its longest
//! before the log behind the redo point reaches the bound. So writers are slowed to what the
//! cleaner manages, where they would else run into the bound and stand still until a round of
//! cleaning is over. The hard bound of the log does not depend on any of this.
//!
//! After an unclean start the target is halved for a while, since failures cluster.

use std::time::{Duration, Instant};

use seawall_wal::control::Rates;
use seawall_wal::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{RecoveryReport, StallReason};

/// Rates that are assumed until a recovery has been measured: log worked off, pages aside, and
/// pages read.
const ASSUMED: Rates = Rates { redo_bytes_per_s: 50 << 20, page_reads_per_s: 30_000 };
/// What an open takes beside working off log.
const OPENING: Duration = Duration::from_millis(50);
/// Quarters of the target that the budget may take.
const BUDGET_QUARTERS: u32 = 3;
/// The budget is never smaller: some log is needed for the cleaner to batch pages at all.
const BUDGET_BYTES_MIN: u64 = 1 << 20;
/// The budget is at most one part in this many of the log's bound.
const BOUND_SHARE: u64 = 2;
/// The cleaner lets this part of the budget come together.
const CLEANER_SHARE: u64 = 2;
/// Checkpoints come every so large a part of the budget.
const CHECKPOINT_SHARE: u64 = 4;
/// A checkpoint comes at the latest after this much log.
const CHECKPOINT_BYTES_MAX: u64 = 32 << 20;
/// Log of so many quarters of the budget is near it.
const NEAR_QUARTERS: u64 = 3;
/// How often the cleaner's gentle steps have doubled their pieces when the log is nearly that far.
const DOUBLINGS_MAX: u32 = 3;
/// Recoveries of less log, or of fewer pages, say little about the rate.
const MEASURED_BYTES_MIN: u64 = 4 << 20;
const MEASURED_PAGES_MIN: u64 = 1000;
/// A new measurement counts for one part in this many of the rate where it is better, so that one
/// lucky recovery does not decide,
const BETTER_SHARE: u64 = 4;
/// and for one in this many where it is worse, since the target is a promise.
const WORSE_SHARE: u64 = 2;
/// Pause of a writer when the log is twice the budget.
const PAUSE_AT_TWICE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// The pause is at its longest when the log behind the redo point has so many eighths of the bound:
/// the other master record needs some more, and the reserve is not for writers.
const FULL_EIGHTHS: u64 = 6;
/// After an unclean start the target is this part of what was asked for.
const WARY_SHARE: u32 = 2;
/// For so long.
const WARY_FOR: Duration = Duration::from_secs(60);

/// Works out budget and pauses.
#[derive(Debug)]
pub(crate) struct Pacing {
    target: Duration,
    bound_bytes: u64,
    rates: Rates,
    wary_until: Option<Instant>,
    pause_micros: AtomicU64,
    is_pausing: AtomicBool,
}

/// What recovery would have to do after a crash now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Log behind the redo point.
    pub(crate) log_bytes: u64,
    /// Pages that are dirty, and so would be read. A page that its first record creates would not
    /// be; it counts all the same.
    pub(crate) pages: u64,
}

/// A change of whether writers are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaceChange {
    None,
    Begins,
    Ends,
}

impl Pacing {
    /// `is_clean`: the database had been shut down cleanly.
    pub(crate) fn new(target: Duration, bound_bytes: u64, rates: Rates, is_clean: bool) -> Self {
        let or_assumed = |rate, assumed| if rate == 0 { assumed } else { rate };
        let rates = Rates {
            redo_bytes_per_s: or_assumed(rates.redo_bytes_per_s, ASSUMED.redo_bytes_per_s),
            page_reads_per_s: or_assumed(rates.page_reads_per_s, ASSUMED.page_reads_per_s),
        };
        Self {
            target,
            bound_bytes,
            rates,
            wary_until: (!is_clean).then(|| Instant::now() + WARY_FOR),
            pause_micros: AtomicU64::new(0),
            is_pausing: AtomicBool::new(false),
        }
    }

    /// How long recovery would take.
    pub(crate) fn estimate(&self, backlog: Backlog) -> Duration {
        let micros = self.work_micros(backlog);
        OPENING + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// What both rates make of a backlog.
    fn work_micros(&self, backlog: Backlog) -> u128 {
        let micros = |count: u64, per_s: u64| u128::from(count) * 1_000_000 / u128::from(per_s);
        micros(backlog.log_bytes, self.rates.redo_bytes_per_s)
            + micros(backlog.pages, self.rates.page_reads_per_s)
    }

    /// Log behind the redo point that recovery works off within the target, with as many pages to
    /// each byte as the backlog has.
    pub(crate) fn budget_bytes(&self, now: Instant, backlog: Backlog) -> u64 {
        let is_wary = self.wary_until.is_some_and(|until| now < until);
        let target = if is_wary { self.target / WARY_SHARE } else { self.target };
        let target = target / 4 * BUDGET_QUARTERS;
        let micros = target.saturating_sub(OPENING).as_micros();
        // A handful of bytes says nothing about how many pages come with more.
        let log_bytes = backlog.log_bytes.max(BUDGET_BYTES_MIN);
        let work_micros = self.work_micros(Backlog { log_bytes, ..backlog }).max(1);
        let bytes = u128::from(log_bytes) * micros / work_micros;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        bytes.min(self.bound_bytes / BOUND_SHARE).max(BUDGET_BYTES_MIN)
    }

    /// Log behind the redo point that the cleaner aims at.
    pub(crate) const fn cleaner_bytes(&self, budget_bytes: u64) -> u64 {
        budget_bytes / CLEANER_SHARE
    }

    /// Log between two checkpoints.
    pub(crate) fn checkpoint_bytes(&self, budget_bytes: u64) -> u64 {
        (budget_bytes / CHECKPOINT_SHARE).min(CHECKPOINT_BYTES_MAX)
    }

    /// Whether so much log comes near the budget.
    pub(crate) const fn is_near(&self, redo_bytes: u64, budget_bytes: u64) -> bool {
        redo_bytes > budget_bytes / 4 * NEAR_QUARTERS
    }

    /// How often a gentle step of the cleaner doubles its pieces with so much log: once for each quarter
    /// of the way from what the cleaner aims at to what is near the budget.
    pub(crate) fn doublings(&self, redo_bytes: u64, budget_bytes: u64) -> u32 {
        let aim_bytes = self.cleaner_bytes(budget_bytes);
        let way_bytes = budget_bytes / 4 * NEAR_QUARTERS - aim_bytes;
        let quarter_bytes = (way_bytes / 4).max(1);
        let quarters = redo_bytes.saturating_sub(aim_bytes) / quarter_bytes;
        u32::try_from(quarters).unwrap_or(DOUBLINGS_MAX).min(DOUBLINGS_MAX)
    }

    /// Sets the pause of writers by how far the log exceeds the budget.
    pub(crate) fn set_pause(&self, redo_bytes: u64, budget_bytes: u64) -> PaceChange {
        let pause = pause(redo_bytes, budget_bytes).max(self.pause_for_bound(redo_bytes));
        let micros = u64::try_from(pause.as_micros()).expect("a pause is short");
        self.pause_micros.store(micros, Ordering::Relaxed);
        let is_pausing = micros > 0;
        match (self.is_pausing.swap(is_pausing, Ordering::SeqCst), is_pausing) {
            (false, true) => PaceChange::Begins,
            (true, false) => PaceChange::Ends,
            _ => PaceChange::None,
        }
    }

    /// What writers are held back for with this budget.
    pub(crate) fn reason(&self, budget_bytes: u64) -> StallReason {
        let is_for_bound = budget_bytes >= self.bound_bytes / BOUND_SHARE;
        if is_for_bound { StallReason::WalBound } else { StallReason::RecoveryTarget }
    }

    /// The pause that keeps the log off its bound: from the largest budget on.
    fn pause_for_bound(&self, redo_bytes: u64) -> Duration {
        let begin_bytes = self.bound_bytes / BOUND_SHARE;
        let end_bytes = self.bound_bytes / 8 * FULL_EIGHTHS;
        let excess = u128::from(redo_bytes.saturating_sub(begin_bytes));
        let range = u128::from(end_bytes.saturating_sub(begin_bytes)).max(1);
        let micros = PAUSE_MAX.as_micros() * excess.min(range).pow(2) / range.pow(2);
        Duration::from_micros(u64::try_from(micros).expect("at most the longest pause"))
    }

    /// Whether a checkpoint pays that the clock does not ask for yet: the log behind the redo point
    /// comes near its budget, and the cleaner has made much of it superfluous (held-back writers
    /// would never reach the clock's).
    pub(crate) fn is_checkpoint_worth_it(
        &self,
        redo_bytes: u64,
        redo_bytes_after: u64,
        budget_bytes: u64,
    ) -> bool {
        self.is_near(redo_bytes, budget_bytes)
            && redo_bytes.saturating_sub(redo_bytes_after) >= self.checkpoint_bytes(budget_bytes)
    }

    /// How long a writer is held back now.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_micros(self.pause_micros.load(Ordering::Relaxed))
    }
}

fn pause(redo_bytes: u64, budget_bytes: u64) -> Duration {
    let excess = u128::from(redo_bytes.saturating_sub(budget_bytes));
    let budget = u128::from(budget_bytes);
    let linear = PAUSE_AT_TWICE.as_micros() * excess / budget;
    let micros = linear.saturating_mul(excess) / budget;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).min(PAUSE_MAX)
}

/// The rates after a recovery that spent `reading` on the pages it read: moving averages that fall
/// faster than they rise.
pub(crate) fn measured(before: Rates, report: &RecoveryReport, reading: Duration) -> Rates {
    let working = (report.analysis + report.redo).saturating_sub(reading);
    let rate = |old: u64, count: u64, count_min: u64, elapsed: Duration| {
        if count < count_min || elapsed.is_zero() {
            return old;
        }
        let new = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
        let new = u64::try_from(new).unwrap_or(u64::MAX).max(1);
        if old == 0 {
            return new;
        }
        let share = if new < old { WORSE_SHARE } else { BETTER_SHARE };
        (share - 1) * (old / share) + new / share
    };
    Rates {
        redo_bytes_per_s: rate(
            before.redo_bytes_per_s,
            report.log_bytes,
            MEASURED_BYTES_MIN,
            working,
        ),
        page_reads_per_s: rate(
            before.page_reads_per_s,
            report.pages_read,
            MEASURED_PAGES_MIN,
            reading,
        ),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Of each MiB of log, 10 ms; of each page, 20 us.
    fn pacing(target: Duration, is_clean: bool) -> Pacing {
        let rates = Rates { redo_bytes_per_s: 100 * MIB, page_reads_per_s: 50_000 };
        Pacing::new(target, 1024 * MIB, rates, is_clean)
    }

    fn of_log(log_bytes: u64) -> Backlog {
        Backlog { log_bytes, pages: 0 }
    }

    #[test]
    fn pages_to_be_read_count_beside_the_log() {
        let pacing = pacing(Duration::from_secs(2), true);
        let backlog = Backlog { log_bytes: 10 * MIB, pages: 25_000 };
        assert_eq!(pacing.estimate(backlog), OPENING + Duration::from_millis(100 + 500));
        let budget = pacing.budget_bytes(Instant::now(), backlog);
        assert_eq!(budget, 10 * MIB * 1450 / 600);
        assert!(budget < pacing.budget_bytes(Instant::now(), of_log(10 * MIB)));
    }

    #[test]
    fn a_budget_is_worked_off_within_the_target() {
        for millis in [100, 500, 2_000] {
            for pages_per_mib in [0, 1, 1000, 4000] {
                let pacing = pacing(Duration::from_millis(millis), true);
                let of =
                    |log_bytes: u64| Backlog { log_bytes, pages: log_bytes / MIB * pages_per_mib };
                let budget = pacing.budget_bytes(Instant::now(), of(8 * MIB));
                let estimate = pacing.estimate(of(budget));
                let is_met = estimate <= Duration::from_millis(millis) / 4 * BUDGET_QUARTERS;
                assert!(is_met || budget == BUDGET_BYTES_MIN, "{millis} ms: {estimate:?}");
                assert!(pacing.checkpoint_bytes(budget) <= budget / 4);
            }
        }
    }

    #[test]
    fn a_few_dirty_pages_with_hardly_any_log_leave_a_budget() {
        let pacing = pacing(Duration::from_secs(2), true);
        let backlog = Backlog { log_bytes: 10, pages: 5 };
        assert!(pacing.budget_bytes(Instant::now(), backlog) > 140 * MIB);
    }

    #[test]
    fn the_budget_stays_within_half_of_the_bound_and_is_halved_after_a_crash() {
        let hour = Duration::from_secs(3600);
        let none = Backlog::default();
        assert_eq!(pacing(hour, true).budget_bytes(Instant::now(), none), 512 * MIB);
        let (calm, wary) = (pacing(2 * OPENING, true), pacing(2 * OPENING, false));
        let now = Instant::now();
        assert!(wary.budget_bytes(now, none) < calm.budget_bytes(now, none));
        assert_eq!(wary.budget_bytes(now + 2 * WARY_FOR, none), calm.budget_bytes(now, none));
        assert_eq!(calm.reason(calm.budget_bytes(now, none)), StallReason::RecoveryTarget);
        assert_eq!(calm.reason(512 * MIB), StallReason::WalBound);
    }

    #[test]
    fn writers_are_held_back_more_the_further_they_are_ahead_and_not_within_the_budget() {
        assert_eq!(pause(100 * MIB, 100 * MIB), Duration::ZERO);
        let pauses: Vec<_> = (11..40).map(|i| pause(i * 10 * MIB, 100 * MIB)).collect();
        assert!(pauses.is_sorted() && !pauses[0].is_zero());
        assert_eq!(pause(200 * MIB, 100 * MIB), PAUSE_AT_TWICE);
        assert_eq!(pause(u64::MAX, MIB), PAUSE_MAX);
    }

    #[test]
    fn writers_are_held_back_as_long_as_can_be_before_the_log_meets_its_bound() {
        let pacing = pacing(Duration::from_secs(3600), true);
        let budget = pacing.budget_bytes(Instant::now(), Backlog::default());
        assert_eq!(budget, 512 * MIB);
        let pause_at = |mib: u64| {
            pacing.set_pause(mib * MIB, budget);
            pacing.pause()
        };
        assert_eq!(pause_at(512), Duration::ZERO);
        let pauses: Vec<_> = (513..=768).map(pause_at).collect();
        assert!(pauses.is_sorted() && pauses[20] < Duration::from_millis(1), "{pauses:?}");
        assert_eq!([768, 1024, 4096].map(pause_at), [PAUSE_MAX; 3]);
    }

    #[test]
    fn a_checkpoint_pays_near_the_budget_when_it_gives_up_as_much_as_one_of_the_clocks() {
        let pacing = pacing(Duration::from_secs(3600), true);
        let budget = 100 * MIB;
        let pays = |before: u64, after: u64| {
            pacing.is_checkpoint_worth_it(before * MIB, after * MIB, budget)
        };
        assert!(pays(76, 51) && pays(300, 275));
        assert!(!pays(75, 0), "the log is short");
        assert!(!pays(76, 52) && !pays(300, 300) && !pays(300, 301), "it gives up little");
    }

    #[test]
    fn the_cleaner_takes_larger_pieces_the_nearer_the_log_comes_to_its_budget() {
        let pacing = pacing(Duration::from_secs(10), true);
        let doublings = |mib: u64| pacing.doublings(mib * MIB, 64 * MIB);
        let all = [0, 32, 35, 36, 39, 40, 43, 44, 47, 1000].map(doublings);
        assert_eq!(all, [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]);
        assert!(!pacing.is_near(48 * MIB, 64 * MIB) && pacing.is_near(49 * MIB, 64 * MIB));
    }

    #[test]
    fn a_change_of_pace_is_told_once() {
        let pacing = pacing(Duration::from_secs(2), true);
        assert_eq!(pacing.set_pause(3 * MIB, MIB), PaceChange::Begins);
        assert_eq!(pacing.set_pause(4 * MIB, MIB), PaceChange::None);
        assert!(!pacing.pause().is_zero());
        assert_eq!(pacing.set_pause(MIB, MIB), PaceChange::Ends);
        assert!(pacing.pause().is_zero());
    }

    #[test]
    fn small_recoveries_are_not_measured_and_slow_ones_count_for_more_than_fast_ones() {
        let before = Rates { redo_bytes_per_s: 100 * MIB, page_reads_per_s: 1000 };
        let mut report = RecoveryReport {
            log_bytes: MIB,
            pages_read: 999,
            redo: Duration::from_secs(2),
            ..RecoveryReport::default()
        };
        let reading = Duration::from_secs(1);
        assert_eq!(measured(before, &report, reading), before);
        report.log_bytes = 500 * MIB;
        report.pages_read = 5000;
        let after = Rates { redo_bytes_per_s: 200 * MIB, page_reads_per_s: 2000 };
        assert_eq!(measured(before, &report, reading), after);
        report.log_bytes = 20 * MIB;
        let worse = Rates { redo_bytes_per_s: 60 * MIB, page_reads_per_s: 2000 };
        assert_eq!(measured(before, &report, reading), worse);
        report.log_bytes = 500 * MIB;
        let first = Rates { redo_bytes_per_s: 500 * MIB, page_reads_per_s: 5000 };
        assert_eq!(measured(Rates::default(), &report, reading), first);
    }
}
