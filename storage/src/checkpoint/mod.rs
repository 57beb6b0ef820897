//! Fuzzy checkpoints (DESIGN section 7).

mod holds;
pub(crate) mod pacing;
pub(crate) mod tables;
#[cfg(not(loom))]
mod take;

pub(crate) use holds::LogHold;
#[cfg(not(loom))]
pub(crate) use take::Checkpointer;
