//! The log: frames, segments, group commit, reading, and the decision where it ends.

pub mod frame;
mod index;
pub mod segment;
mod segments;

pub use index::FrameIndex;
pub use segments::{BuiltSpare, Place, SegmentOptions, Segments, SparePlan};
