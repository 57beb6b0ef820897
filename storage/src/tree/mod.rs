//! The B+tree: finding pages by key, and changing the tree's shape.

mod descent;

pub(crate) use descent::{Descent, Seek};
