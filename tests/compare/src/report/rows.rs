//! The rows of the table: what each workload is called, what its figure is, and who is ahead.

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Pairs or operations in a second.
    Rate,
    /// Bytes in a second.
    Bandwidth,
    Seconds,
    Microseconds,
    /// A plain number.
    Ratio,
    Bytes,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    /// As in the results' file.
    pub(super) id: &'static str,
    /// Figure beside the row's own one that is meant, or the row's own one.
    pub(super) beside: Option<&'static str>,
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    pub(super) is_more_better: bool,
}

/// Rows that belong together, in a table and, with a file name, a plot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) plot: Option<&'static str>,
    pub(super) rows: &'static [Workload],
}

const fn rate(id: &'static str, title: &'static str) -> Workload {
    Workload { id, beside: None, title, unit: Unit::Rate, is_more_better: true }
}

const fn bandwidth(id: &'static str, title: &'static str) -> Workload {
    Workload { id, beside: None, title, unit: Unit::Bandwidth, is_more_better: true }
}

const fn less(id: &'static str, title: &'static str, unit: Unit) -> Workload {
    Workload { id, beside: None, title, unit, is_more_better: false }
}

const fn beside(id: &'static str, figure: &'static str, title: &'static str) -> Workload {
    Workload { beside: Some(figure), ..less(id, title, Unit::Ratio) }
}

const fn share(id: &'static str, title: &'static str) -> Workload {
    Workload { id, beside: None, title, unit: Unit::Ratio, is_more_better: true }
}

/// All tables.
pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "Durable commits",
        plot: Some("durable"),
        rows: &[
            rate("put-1", "single puts, 1 thread"),
            rate("put-4", "single puts, 4 threads"),
            rate("put-16", "single puts, 16 threads"),
            rate("put-64", "single puts, 64 threads"),
            rate("put-batches", "pairs in transactions of 1000"),
            rate("kilobyte-put-1", "single puts of 1 KiB, 1 thread"),
        ],
    },
    Group {
        title: "Durable commits beside the disk",
        plot: None,
        rows: &[
            rate("disk-overwrites", "the disk's own synced overwrites, beside each engine's run"),
            share("put-1-of-disk", "single puts, 1 thread, as a share of that"),
        ],
    },
    Group {
        title: "Loads, random keys",
        plot: Some("loads"),
        rows: &[
            rate("load-one", "0.8 million in one transaction, within the cache"),
            rate("load-batches", "0.8 million in transactions of 1000, within the cache"),
            rate("big-load-one", "5 million in one transaction"),
            rate("big-load-batches", "5 million in transactions of 1000"),
            rate("kilobyte-load", "values of 1 KiB in transactions of 1000"),
            rate("delete-half", "deletes of half, in one transaction"),
        ],
    },
    Group {
        title: "Reads in memory",
        plot: Some("reads"),
        rows: &[
            rate("get-1", "random point reads, 1 thread"),
            rate("get-2", "random point reads, 2 threads"),
            rate("range-100", "pairs in ranges of 100, 1 thread"),
            rate("scan", "pairs in full scans, 1 thread"),
            rate("get-during-writes", "point reads while a thread writes"),
            rate("writes-during-get", "and what that thread writes"),
            rate("kilobyte-get", "point reads of 1 KiB, 1 thread"),
            rate("kilobyte-range-100", "pairs of 1 KiB in ranges of 100"),
        ],
    },
    Group {
        title: "YCSB, relaxed, 2 threads",
        plot: Some("ycsb"),
        rows: &[
            rate("ycsb-a", "A: half reads, half updates"),
            rate("ycsb-b", "B: 95 % reads, 5 % updates"),
            rate("ycsb-c", "C: reads"),
            rate("ycsb-d", "D: 95 % reads of the newest, 5 % inserts"),
            rate("ycsb-e", "E: 95 % ranges of up to 100, 5 % inserts"),
            rate("ycsb-f", "F: half reads, half read-modify-writes"),
        ],
    },
    Group {
        title: "YCSB, durable, 16 threads",
        plot: Some("ycsb-durable"),
        rows: &[
            rate("ycsb-durable-a", "A"),
            rate("ycsb-durable-b", "B"),
            rate("ycsb-durable-c", "C"),
            rate("ycsb-durable-d", "D"),
            rate("ycsb-durable-e", "E"),
            rate("ycsb-durable-f", "F"),
        ],
    },
    Group {
        title: "Large values",
        plot: Some("large-values"),
        rows: &[
            bandwidth("large-put-4k", "puts of 4 KiB"),
            bandwidth("large-put-64k", "puts of 64 KiB"),
            bandwidth("large-put-2m", "puts of 2 MiB"),
            bandwidth("large-get-4k", "reads of 4 KiB"),
            bandwidth("large-get-64k", "reads of 64 KiB"),
            bandwidth("large-get-2m", "reads of 2 MiB"),
        ],
    },
    Group {
        title: "Larger than memory",
        plot: Some("confined"),
        rows: &[
            rate("confined-load", "load in transactions of 1000"),
            rate("confined-get-2", "random point reads, 2 threads"),
            rate("confined-get-16", "random point reads, 16 threads"),
            rate("confined-update", "random updates in transactions of 1000"),
        ],
    },
    Group {
        title: "Reads beside the disk",
        plot: None,
        rows: &[
            share(
                "confined-get-2-of-disk",
                "2 threads, as a share of the disk's own reads of 4 KiB",
            ),
            share(
                "confined-get-16-of-disk",
                "16 threads, as a share of the disk's own reads of 4 KiB",
            ),
        ],
    },
    Group {
        title: "A minute of durable puts, 8 threads",
        plot: None,
        rows: &[
            rate("steady", "rate"),
            share("steady-evenness", "worst second / median second"),
            less("steady-slowest", "slowest commit", Unit::Microseconds),
            less("steady-written", "bytes written to the device per user byte", Unit::Ratio),
        ],
    },
    Group {
        title: "Opening after SIGKILL",
        plot: Some("recovery"),
        rows: &[
            less("recovery-warm", "open and first read, warm page cache", Unit::Seconds),
            less("recovery-cold", "open and first read, cold page cache", Unit::Seconds),
        ],
    },
    Group {
        title: "Space",
        plot: None,
        rows: &[
            beside("load-batches", "disk_per_byte", "disk per user byte, load within the cache"),
            beside("big-load-batches", "disk_per_byte", "disk per user byte, load of 5 million"),
            beside(
                "load-batches",
                "written_per_byte",
                "written per user byte, load within the cache",
            ),
            beside(
                "big-load-batches",
                "written_per_byte",
                "written per user byte, load of 5 million",
            ),
            less(
                "big-batches-memory",
                "most memory, load of 5 million in transactions of 1000",
                Unit::Bytes,
            ),
            less(
                "big-one-memory",
                "most memory, load of 5 million in one transaction",
                Unit::Bytes,
            ),
            less("memory-memory", "most memory, reads in memory", Unit::Bytes),
        ],
    },
];

/// Workloads whose latencies are shown.
pub(super) const LATENCIES: &[(&str, &str)] = &[
    ("put-1", "durable puts, 1 thread"),
    ("put-4", "durable puts, 4 threads"),
    ("put-16", "durable puts, 16 threads"),
    ("put-64", "durable puts, 64 threads"),
    ("put-batches", "durable transactions of 1000"),
    ("ycsb-durable-a", "YCSB A durable, 16 threads"),
    ("steady", "a minute of durable puts, 8 threads"),
    ("confined-get-16", "reads larger than memory, 16 threads"),
];

/// The workload whose seconds are plotted.
pub(super) const STEADY: &str = "steady";

impl Unit {
    /// A figure for people.
    pub(super) fn show(self, figure: f64) -> String {
        match self {
            Self::Rate => scaled(figure, 1e3, ["", " k", " M", " G"], "/s"),
            Self::Bandwidth => scaled(figure, 1e3, ["", " k", " M", " G"], "B/s"),
            Self::Bytes => scaled(figure, 1024.0, ["", " Ki", " Mi", " Gi"], "B"),
            Self::Seconds => Self::Microseconds.show(figure * 1e6),
            Self::Microseconds if figure >= 1e6 => format!("{} s", digits(figure / 1e6)),
            Self::Microseconds if figure >= 1e3 => format!("{} ms", digits(figure / 1e3)),
            Self::Microseconds => format!("{} µs", digits(figure)),
            Self::Ratio => format!("{figure:.2}"),
        }
    }
}

fn scaled(mut figure: f64, base: f64, prefixes: [&str; 4], unit: &str) -> String {
    let mut prefixes = prefixes.into_iter();
    let mut prefix = prefixes.next().unwrap_or_default();
    while figure >= base * 0.9995
        && let Some(next) = prefixes.next()
    {
        figure /= base;
        prefix = next;
    }
    format!("{}{prefix}{unit}", digits(figure))
}

/// Three digits that count.
fn digits(figure: f64) -> String {
    match figure {
        f if f >= 99.95 => format!("{f:.0}"),
        f if f >= 9.995 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{GROUPS, LATENCIES, Unit};

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(Unit::Rate.show(904_321.0), "904 k/s");
        assert_eq!(Unit::Rate.show(999_999.0), "1.00 M/s");
        assert_eq!(Unit::Rate.show(87.25), "87.2/s");
        assert_eq!(Unit::Seconds.show(0.0123), "12.3 ms");
        assert_eq!(Unit::Bytes.show(1536.0), "1.50 KiB");
    }

    #[test]
    fn each_workload_with_latencies_has_a_row() {
        let has_row = |id| GROUPS.iter().any(|group| group.rows.iter().any(|row| row.id == id));
        assert!(LATENCIES.iter().all(|&(id, _)| has_row(id)));
    }
}
