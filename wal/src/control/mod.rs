//! The `control` file: identity, format, epochs, master records.
//!
//! Owns the only state that is changed in place, by two slots that take turns (invariant C4). It
//! knows places in the log, but never reads it.

mod epoch;
mod file;
mod position;
mod slots;
mod state;

pub use epoch::EpochEntry;
pub use file::Control;
pub use position::LogPosition;
#[doc(hidden)]
pub use slots::seal;
pub use slots::{FORMAT_VERSION, is_foreign};
pub use state::{
    ControlState, EPOCHS_MAX, EPOCHS_SHORTEN_AT, Identity, MasterRecord, Rates, Shutdown,
};

/// Name of the file in the database's directory.
pub const CONTROL_NAME: &str = "control";
