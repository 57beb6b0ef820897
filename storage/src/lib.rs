//! Seawall: an embedded transactional key-value database.
#![deny(unsafe_op_in_unsafe_fn)]

pub use seawall_wal::{Error, Lsn, Result};
