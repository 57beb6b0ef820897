//! How the databases of the suites are opened: on a simulated disk, with every step by hand, and so
//! small that pages are evicted and segments recycled all the time.

use std::sync::Arc;

use seawall::{Database, Isolation, Options, Result};
use seawall_wal::disk::SimDisk;

use crate::random::Random;

/// Where databases are on a simulated disk.
pub const PATH: &str = "/db";

/// What the log's ring and the batch buffers of a small database take of its cache.
const BUFFERS_BYTES: u64 = 400 << 10;

/// Sizes of a database under test, in bytes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Page size.
    pub page_bytes: u32,
    /// Cache.
    pub cache_bytes: u64,
    /// Bound of the log.
    pub max_wal_bytes: u64,
    /// Segment of the log.
    pub segment_bytes: u64,
    /// Memory for the versions of one transaction, where not the engine's own share.
    pub bulk_budget_bytes: Option<u64>,
    /// Log that the undo of one transaction may hold, where not the engine's own share.
    pub held_log_bytes: Option<u64>,
    /// Isolation of transactions that do not say.
    pub isolation: Isolation,
    /// Whether each record of the log gets a frame of its own, so that a crash can come between any
    /// two.
    pub is_record_alone: bool,
    /// From which ids, nonces and times follow.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            page_bytes: 4096,
            cache_bytes: 256 << 10,
            max_wal_bytes: 4 << 20,
            segment_bytes: 256 << 10,
            bulk_budget_bytes: None,
            held_log_bytes: None,
            isolation: Isolation::Serializable,
            is_record_alone: false,
            seed: 0,
        }
    }
}

impl Settings {
    /// Settings by seed.
    pub fn random(random: &mut Random) -> Self {
        let page_bytes = if random.one_in(2) { 4096 } else { 8192 };
        let isolation =
            if random.one_in(2) { Isolation::Serializable } else { Isolation::Snapshot };
        let cache_bytes = BUFFERS_BYTES + u64::from(page_bytes) * (16 + random.below(48));
        // Transactions of a few writes become huge, and are spilled by the next checkpoint.
        let bulk_budget_bytes = random.one_in(2).then(|| random.below(2) * 600);
        let held_log_bytes = random.one_in(2).then_some(0);
        // A segment must hold the largest record: a few pages' images.
        let segment_bytes = (128 << 10) << random.below(3);
        Self {
            page_bytes,
            cache_bytes,
            segment_bytes,
            bulk_budget_bytes,
            held_log_bytes,
            isolation,
            seed: random.next(),
            ..Self::default()
        }
    }

    /// Opens the database on `disk`, creating or recovering it.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn open(&self, disk: &SimDisk) -> Result<Database> {
        self.open_at(disk, PATH)
    }

    /// Opens the database in another place on `disk`.
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn open_at(&self, disk: &SimDisk, path: &str) -> Result<Database> {
        self.options(disk).open(path)
    }

    /// The options with which that is done. What depends on chance or clocks follows from the seed and
    /// from what has become of the disk so far: the same in a repetition, and in no two lives.
    #[must_use]
    pub fn options(&self, disk: &SimDisk) -> Options {
        let mut options = Options::new();
        if let Some(bytes) = self.bulk_budget_bytes {
            options = options.bulk_budget_bytes(bytes);
        }
        if let Some(bytes) = self.held_log_bytes {
            options = options.held_log_bytes(bytes);
        }
        options
            .disk_injected(Arc::new(disk.clone()))
            .manual_background(true)
            .unchecked_limits()
            .cache_bytes(self.cache_bytes)
            .max_wal_bytes(self.max_wal_bytes)
            .segment_bytes(self.segment_bytes)
            .record_alone(self.is_record_alone)
            .page_bytes(self.page_bytes)
            .isolation(self.isolation)
            .seed(self.seed_on(disk))
    }

    fn seed_on(&self, disk: &SimDisk) -> u64 {
        let mut random = Random::new(self.seed);
        for number in [disk.lineage(), disk.operation_count()] {
            random = Random::new(random.next() ^ number);
        }
        random.next()
    }
}
