//! Fuzzy checkpoints (DESIGN section 7).

mod holds;
pub(crate) mod tables;
mod take;

pub(crate) use holds::LogHold;
pub(crate) use take::Checkpointer;
