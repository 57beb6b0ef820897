//! The `control` file: identity, format, epochs, master records.

mod epoch;

pub use epoch::EpochEntry;
