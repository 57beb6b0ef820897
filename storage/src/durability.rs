//! What a transaction asks of the engine: how it sees others, and when its commit returns.

/// When a commit returns.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// When it is on stable storage: it survives a kill and a power cut.
    #[default]
    Sync,
    /// At once. Written within a few milliseconds and synced within
    /// [`Options::flush_interval`](crate::Options::flush_interval): a kill of the process loses at
    /// most the first, a power cut at most the second, and what is lost is always the latest
    /// commits, never one from among them.
    Relaxed,
}

/// What transactions that run side by side see of each other.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// As if they had run one after the other: point reads and ranges, empty ones too, are validated
    /// at commit, which gives [`Error::Conflict`](crate::Error::Conflict) when another commit
    /// changed what was read.
    #[default]
    Serializable,
    /// All reads come from one state; only writes of the same key conflict. Write skew is possible.
    Snapshot,
}
