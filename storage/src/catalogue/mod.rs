//! The catalogue: which trees exist, where their roots are, how many keys they hold.

mod registry;
pub mod row;
mod size;

pub(crate) use registry::{ExclusiveTree, Registry, SharedTree, TreeInfo};
pub(crate) use row::{CATALOGUE_ROOT, TrailRow, TreeRow, TreeState};
