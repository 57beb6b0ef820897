//! Fuzzy checkpoints: the table of what they write, when they are due, what keeps the log, and the
//! steps of one (invariants C1, C2, C3).

mod holds;
pub(crate) mod pacing;
#[cfg(not(loom))]
mod spill;
pub(crate) mod tables;
#[cfg(not(loom))]
mod take;

pub(crate) use holds::LogHold;
#[cfg(not(loom))]
pub(crate) use spill::Spill;
#[cfg(not(loom))]
pub(crate) use take::Checkpointer;
