//! What recovery finds out and repeats: analysis and redo. Undo is the engine's, since it is the same
//! as a rollback's; the order of the steps is that of [`crate::open`].

mod analysis;
mod redo;

pub(crate) use analysis::{Analysis, analyse};
pub(crate) use redo::redo;
