//! The `control` file: identity, format, epochs, master records.

mod epoch;
mod position;

pub use epoch::EpochEntry;
pub use position::LogPosition;
