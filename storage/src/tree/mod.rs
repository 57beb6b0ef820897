//! The B+tree: finding pages by key, and changing the tree's shape.

mod descent;
mod optimistic;

pub(crate) use descent::{Descent, Seek};
