//! The buffer pool: a fixed arena of page frames, the latches on them, and the table of the pages
//! that are newer in memory than on disk.

pub mod arena;
pub mod dirty;
mod hash;
pub mod latch;
