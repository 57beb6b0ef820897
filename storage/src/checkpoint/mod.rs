//! Fuzzy checkpoints (DESIGN section 7).

pub(crate) mod tables;
mod take;

pub(crate) use take::Checkpointer;
