//! Fuzzy checkpoints (DESIGN section 7).

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
