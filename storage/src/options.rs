//! How a database is opened: the options, their defaults and their limits.
//!
//! Options are only checked when a database is opened with them; a value outside its limits is
//! [`Error::InvalidArgument`] with a sentence that names both, and touches nothing.

use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use seawall_wal::codec::to_u64;
use seawall_wal::disk::{BLOCK_BYTES, Disk, DiskKind};

use crate::source::Source;
use crate::{Durability, Error, Event, Isolation, Result, trace};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Least cache: room for the pages that one operation holds, the log ring and batch buffers.
const CACHE_BYTES_MIN: u64 = MIB;
/// Most cache, where the machine has that much memory: its frames are counted in 32 bits.
const CACHE_BYTES_MAX: u64 = 8 * TIB;
const CACHE_BYTES_DEFAULT: u64 = 256 * MIB;
const PAGE_BYTES: RangeInclusive<u32> = 4 << 10..=32 << 10;
/// Page size of a new database that asks for none.
pub(crate) const PAGE_BYTES_DEFAULT: u32 = 8 << 10;
/// Least log bound: sixteen segments of the smallest size.
const MAX_WAL_BYTES_MIN: u64 = 16 * MIB;
/// Most log bound: far from where the arithmetic of credit would overflow.
const MAX_WAL_BYTES_MAX: u64 = 256 * TIB;
const MAX_WAL_BYTES_DEFAULT: u64 = GIB;
const RECOVERY_TARGET: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60 * 60);
const RECOVERY_TARGET_DEFAULT: Duration = Duration::from_secs(2);
const FLUSH_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const FLUSH_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

type EventFn = Arc<dyn Fn(&Event) + Send + Sync>;

/// How a database is opened.
///
/// ```
/// use std::time::Duration;
/// use seawall::{Durability, Options};
///
/// let options = Options::new()
///     .cache_bytes(64 << 20)
///     .durability(Durability::Relaxed)
///     .recovery_target(Duration::from_secs(1))
///     .on_event(|event| eprintln!("{event}"));
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) cache_bytes: u64,
    pub(crate) page_bytes: Option<u32>,
    pub(crate) max_wal_bytes: u64,
    pub(crate) recovery_target: Duration,
    pub(crate) flush_interval: Duration,
    pub(crate) disk: DiskKind,
    pub(crate) durability: Durability,
    pub(crate) isolation: Isolation,
    pub(crate) create_if_missing: bool,
    pub(crate) read_only: bool,
    pub(crate) on_event: Option<EventFn>,
    /// Seam for tests: no thread runs the background work, the test does.
    pub(crate) manual_background: bool,
    /// Seam for tests: the disk to use whatever was asked for.
    pub(crate) disk_injected: Option<Arc<dyn Disk>>,
    /// Seam for tests: segment size in place of the one that follows from the log bound.
    pub(crate) segment_bytes: Option<u64>,
    /// Seam for tests: memory for one transaction's versions in place of its share of the cache.
    pub(crate) bulk_budget_bytes: Option<u64>,
    /// Seam for tests: log that one transaction's undo may hold in place of its share of the bound.
    pub(crate) held_log_bytes: Option<u64>,
    /// Seam for tests: fewer pages may be dirty than the log's reserve allows.
    pub(crate) dirty_pages_max: Option<usize>,
    /// Seam for tests: each record gets a frame of its own.
    pub(crate) is_record_alone: bool,
    /// Seam for tests: ids, nonces and times follow from a seed.
    pub(crate) source: Source,
    /// Seam for tests: cache and log may be smaller than is any use.
    pub(crate) has_unchecked_limits: bool,
}

impl Options {
    /// The defaults that each method names.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cache_bytes: CACHE_BYTES_DEFAULT,
            page_bytes: None,
            max_wal_bytes: MAX_WAL_BYTES_DEFAULT,
            recovery_target: RECOVERY_TARGET_DEFAULT,
            flush_interval: FLUSH_INTERVAL_DEFAULT,
            disk: DiskKind::Auto,
            durability: Durability::Sync,
            isolation: Isolation::Serializable,
            create_if_missing: true,
            read_only: false,
            on_event: None,
            manual_background: false,
            disk_injected: None,
            segment_bytes: None,
            bulk_budget_bytes: None,
            held_log_bytes: None,
            dirty_pages_max: None,
            is_record_alone: false,
            source: Source::System,
            has_unchecked_limits: false,
        }
    }

    /// Memory for pages, log ring and batch buffers together. 256 MiB; at least 1 MiB, at most the
    /// machine's memory and 8 TiB.
    ///
    /// Old versions take memory beside it: a quarter as much, at least 1 MiB, before writers wait
    /// for the readers who hold them and the oldest snapshot ends with [`Error::SnapshotTooOld`].
    #[must_use]
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Page size of a database that is created: 4, 8, 16 or 32 KiB; 8 KiB when unset. A database
    /// keeps the size it was created with; opening it with another one is
    /// [`Error::InvalidArgument`]. A value that would take more than about a quarter of a page has
    /// pages of its own, the last of them filled in part: for many values of 2 KiB larger pages take
    /// less space.
    #[must_use]
    pub const fn page_bytes(mut self, bytes: u32) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// Hard bound of the space that the log takes on disk; writers are slowed near it, never
    /// failed. 1 GiB; from 16 MiB to 256 TiB.
    #[must_use]
    pub const fn max_wal_bytes(mut self, bytes: u64) -> Self {
        self.max_wal_bytes = bytes;
        self
    }

    /// How long recovery after a crash should take at most; pages are written early enough for
    /// that. 2 s; from 10 ms to 1 h.
    ///
    /// An aim and no bound: it rests on rates of earlier recoveries. While there is more to redo than it
    /// allows, writers are slowed and not failed, with [`StallReason::RecoveryTarget`](crate::StallReason).
    #[must_use]
    pub const fn recovery_target(mut self, target: Duration) -> Self {
        self.recovery_target = target;
        self
    }

    /// How long after a relaxed commit the log is synced at the latest. 100 ms; from 1 ms to 60 s.
    #[must_use]
    pub const fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// Which system interface the file operations go through. [`DiskKind::Auto`].
    #[must_use]
    pub const fn disk(mut self, kind: DiskKind) -> Self {
        self.disk = kind;
        self
    }

    /// When commits return that do not say themselves. [`Durability::Sync`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What transactions see of each other that do not say themselves. [`Isolation::Serializable`].
    #[must_use]
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Whether a directory that is missing or empty becomes a new database. Yes.
    #[must_use]
    pub const fn create_if_missing(mut self, yes: bool) -> Self {
        self.create_if_missing = yes;
        self
    }

    /// Whether the database is opened for reading only: nothing is written, and a database that was
    /// not shut down cleanly is refused with [`Error::RecoveryNeeded`]. While it is open nobody else
    /// opens it, for reading neither. No.
    #[must_use]
    pub const fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// Calls `receiver` for everything worth telling, see [`Event`]. A second receiver replaces the
    /// first.
    ///
    /// It runs on the thread where the event happens, one of the database's own or one in the middle of
    /// a call. It may call [`Database::stats`](crate::Database::stats) and nothing else of the database.
    /// A panic of it ends there: the call that it interrupts could be a commit or a rollback.
    #[must_use]
    pub fn on_event(mut self, receiver: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(receiver));
        self
    }

    /// Tells of an event, on the thread where it happens.
    pub(crate) fn tell(&self, event: &Event) {
        trace::event(event);
        if let Some(on_event) = &self.on_event {
            // The program's panic hook has told of it.
            drop(catch_unwind(AssertUnwindSafe(|| on_event(event))));
        }
    }

    /// Test seam: runs no background thread; the test steps the work itself.
    #[doc(hidden)]
    #[must_use]
    pub const fn manual_background(mut self, yes: bool) -> Self {
        self.manual_background = yes;
        self
    }

    /// Test seam: every file operation goes to `disk`.
    #[doc(hidden)]
    #[must_use]
    pub fn disk_injected(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk_injected = Some(disk);
        self
    }

    /// Test seam: size of a log segment, a multiple of 4 KiB.
    #[doc(hidden)]
    #[must_use]
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Test seam: memory for the versions of one transaction, in bytes; beyond it writes stamps.
    #[doc(hidden)]
    #[must_use]
    pub const fn bulk_budget_bytes(mut self, bytes: u64) -> Self {
        self.bulk_budget_bytes = Some(bytes);
        self
    }

    /// Test seam: log that the undo of one transaction may hold, in bytes; what is older is
    /// spilled.
    #[doc(hidden)]
    #[must_use]
    pub const fn held_log_bytes(mut self, bytes: u64) -> Self {
        self.held_log_bytes = Some(bytes);
        self
    }

    /// Test seam: at most so many pages may be dirty before writers wait.
    #[doc(hidden)]
    #[must_use]
    pub const fn dirty_pages_max(mut self, pages: usize) -> Self {
        self.dirty_pages_max = Some(pages);
        self
    }

    /// Test seam: each record gets a frame of its own, so that the power can be cut between any
    /// two.
    #[doc(hidden)]
    #[must_use]
    pub const fn record_alone(mut self, yes: bool) -> Self {
        self.is_record_alone = yes;
        self
    }

    /// Test seam: ids, nonces and times follow from `seed`, and nothing depends on a clock, so that the
    /// same calls write the same bytes. Another seed for each time that a database is opened.
    #[doc(hidden)]
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.source = Source::Seed(seed);
        self
    }

    /// Test seam: lifts the lower limits of cache and log, so that evictions and recycling happen
    /// all the time.
    #[doc(hidden)]
    #[must_use]
    pub const fn unchecked_limits(mut self) -> Self {
        self.has_unchecked_limits = true;
        self
    }

    /// Whether every option lies within its limits; opening asks this first.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where one does not.
    #[doc(hidden)]
    pub fn validate(&self) -> Result<()> {
        if !self.has_unchecked_limits {
            at_least("cache_bytes", self.cache_bytes, CACHE_BYTES_MIN)?;
            at_least("max_wal_bytes", self.max_wal_bytes, MAX_WAL_BYTES_MIN)?;
        }
        at_most("max_wal_bytes", self.max_wal_bytes, MAX_WAL_BYTES_MAX)?;
        at_most("cache_bytes", self.cache_bytes, CACHE_BYTES_MAX)?;
        if let Some(memory_bytes) = memory_bytes()
            && self.cache_bytes > memory_bytes
        {
            return Err(Error::InvalidArgument(format!(
                "cache_bytes must be at most the machine's memory of {memory_bytes} bytes; it is {}",
                self.cache_bytes
            )));
        }
        if let Some(bytes) = self.page_bytes
            && !(bytes.is_power_of_two() && PAGE_BYTES.contains(&bytes))
        {
            return Err(Error::InvalidArgument(format!(
                "page_bytes must be 4096, 8192, 16384 or 32768 bytes; it is {bytes}"
            )));
        }
        within("recovery_target", self.recovery_target, &RECOVERY_TARGET)?;
        within("flush_interval", self.flush_interval, &FLUSH_INTERVAL)?;
        match self.segment_bytes {
            Some(bytes) if bytes == 0 || !bytes.is_multiple_of(to_u64(BLOCK_BYTES)) => {
                Err(Error::InvalidArgument(format!(
                    "segment_bytes must be a multiple of {BLOCK_BYTES} bytes; it is {bytes}"
                )))
            }
            _ => Ok(()),
        }
    }
}

fn at_least(name: &str, bytes: u64, min: u64) -> Result<()> {
    if bytes >= min {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "{name} must be at least {min} bytes ({} MiB); it is {bytes}",
        min / MIB
    )))
}

fn at_most(name: &str, bytes: u64, max: u64) -> Result<()> {
    if bytes <= max {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "{name} must be at most {max} bytes ({} TiB); it is {bytes}",
        max / TIB
    )))
}

/// Memory of the machine; `None` where the system does not tell.
fn memory_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        Some(info.totalram.saturating_mul(u64::from(info.mem_unit)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

fn within(name: &str, value: Duration, limits: &RangeInclusive<Duration>) -> Result<()> {
    if limits.contains(&value) {
        return Ok(());
    }
    let (min, max) = (limits.start(), limits.end());
    Err(Error::InvalidArgument(format!("{name} must be from {min:?} to {max:?}; it is {value:?}")))
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("cache_bytes", &self.cache_bytes)
            .field("page_bytes", &self.page_bytes)
            .field("max_wal_bytes", &self.max_wal_bytes)
            .field("recovery_target", &self.recovery_target)
            .field("flush_interval", &self.flush_interval)
            .field("disk", &self.disk)
            .field("durability", &self.durability)
            .field("isolation", &self.isolation)
            .field("create_if_missing", &self.create_if_missing)
            .field("read_only", &self.read_only)
            .field("has_on_event", &self.on_event.is_some())
            .field("manual_background", &self.manual_background)
            .field("disk_injected", &self.disk_injected)
            .field("segment_bytes", &self.segment_bytes)
            .field("bulk_budget_bytes", &self.bulk_budget_bytes)
            .field("held_log_bytes", &self.held_log_bytes)
            .field("dirty_pages_max", &self.dirty_pages_max)
            .field("is_record_alone", &self.is_record_alone)
            .field("has_unchecked_limits", &self.has_unchecked_limits)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        CACHE_BYTES_MAX, CACHE_BYTES_MIN, FLUSH_INTERVAL, GIB, MAX_WAL_BYTES_MAX,
        MAX_WAL_BYTES_MIN, MIB, Options, PAGE_BYTES_DEFAULT, RECOVERY_TARGET,
    };
    use crate::Error;

    /// The sentence with which the options are refused.
    fn refusal(options: &Options) -> String {
        match options.validate() {
            Err(Error::InvalidArgument(why)) => why,
            other => panic!("expected InvalidArgument, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_within_their_limits() {
        assert!(Options::new().validate().is_ok());
        let options = Options::default();
        assert_eq!((options.cache_bytes, options.max_wal_bytes), (256 * MIB, GIB));
        assert_eq!(options.recovery_target, Duration::from_secs(2));
        assert_eq!(options.flush_interval, Duration::from_millis(100));
        assert!(options.create_if_missing && !options.read_only);
        assert!(Options::new().page_bytes(PAGE_BYTES_DEFAULT).validate().is_ok());
    }

    #[test]
    fn every_limit_itself_is_allowed() {
        let smallest = Options::new()
            .cache_bytes(CACHE_BYTES_MIN)
            .max_wal_bytes(MAX_WAL_BYTES_MIN)
            .recovery_target(*RECOVERY_TARGET.start())
            .flush_interval(*FLUSH_INTERVAL.start());
        let largest = Options::new()
            .max_wal_bytes(MAX_WAL_BYTES_MAX)
            .recovery_target(*RECOVERY_TARGET.end())
            .flush_interval(*FLUSH_INTERVAL.end());
        assert!(smallest.validate().is_ok() && largest.validate().is_ok());
        for kib in [4, 8, 16, 32] {
            assert!(Options::new().page_bytes(kib << 10).validate().is_ok());
        }
    }

    #[test]
    fn just_outside_a_limit_is_refused_by_name() {
        let step = Duration::from_nanos(1);
        let new = Options::new;
        for (name, options) in [
            ("cache_bytes", new().cache_bytes(CACHE_BYTES_MIN - 1)),
            ("cache_bytes", new().cache_bytes(CACHE_BYTES_MAX + 1)),
            ("max_wal_bytes", new().max_wal_bytes(MAX_WAL_BYTES_MIN - 1)),
            ("max_wal_bytes", new().max_wal_bytes(MAX_WAL_BYTES_MAX + 1)),
            ("recovery_target", new().recovery_target(*RECOVERY_TARGET.start() - step)),
            ("recovery_target", new().recovery_target(*RECOVERY_TARGET.end() + step)),
            ("flush_interval", new().flush_interval(*FLUSH_INTERVAL.start() - step)),
            ("flush_interval", new().flush_interval(*FLUSH_INTERVAL.end() + step)),
            ("segment_bytes", new().segment_bytes(0)),
            ("segment_bytes", new().segment_bytes(4097)),
        ] {
            assert!(refusal(&options).starts_with(name), "{name}: {}", refusal(&options));
        }
        for bytes in [0, 1, 2048, 4095, 6144, 65536] {
            assert!(refusal(&new().page_bytes(bytes)).starts_with("page_bytes"), "{bytes}");
        }
    }

    #[test]
    fn a_refusal_is_a_sentence_with_limit_and_value() {
        assert_eq!(
            refusal(&Options::new().cache_bytes(7)),
            "cache_bytes must be at least 1048576 bytes (1 MiB); it is 7"
        );
        assert_eq!(
            refusal(&Options::new().flush_interval(Duration::from_secs(90))),
            "flush_interval must be from 1ms to 60s; it is 90s"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_cache_beyond_the_machine_s_memory_is_refused() {
        let memory_bytes = super::memory_bytes().unwrap();
        assert!(Options::new().cache_bytes(memory_bytes).validate().is_ok());
        let why = refusal(&Options::new().cache_bytes(memory_bytes + 1));
        assert!(why.starts_with("cache_bytes must be at most the machine's memory"), "{why}");
    }

    #[cfg(not(loom))]
    #[test]
    fn the_seam_lifts_the_lower_limits_of_cache_and_log() {
        let tiny = Options::new().cache_bytes(64 << 10).max_wal_bytes(128 << 10);
        assert!(tiny.clone().unchecked_limits().validate().is_ok());
        assert!(tiny.validate().is_err());
    }

    #[test]
    fn debug_says_whether_there_is_a_receiver() {
        assert!(format!("{:?}", Options::new()).contains("has_on_event: false"));
        assert!(format!("{:?}", Options::new().on_event(|_| ())).contains("has_on_event: true"));
    }
}
