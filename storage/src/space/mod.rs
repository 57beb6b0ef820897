//! Space of the page file: which pages are free, and which will be once no snapshot needs them.

mod allocator;
mod pending;

pub(crate) use allocator::{Allocator, Reservation, Reserved, ReservedRun};
pub(crate) use pending::PendingFree;
