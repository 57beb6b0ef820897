//! The catalogue: which trees exist, where their roots are, how many keys they hold.
//!
//! It is a tree itself, whose rows transactions write like any other: `row` has their format, `registry`
//! what is known of trees in memory, `size` the numbers of their keys. Reading and writing rows is the
//! engine's business.

mod registry;
pub mod row;
mod size;

pub(crate) use registry::{ExclusiveTree, Registry, SharedTree, TreeInfo};
pub(crate) use row::{CATALOGUE_ROOT, TrailRow, TreeRow, TreeState};
