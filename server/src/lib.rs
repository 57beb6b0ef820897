//! A Seawall database as a server that Redis clients can talk to.
//!
//! [`serve`] runs one until a signal ends it; [`start`] runs one in threads of this process. See the
//! crate's README for its map and protocols.
#![forbid(unsafe_code)]

mod begun;
mod blocked;
mod calls;
mod clients;
mod clock;
mod command;
mod config;
mod connection;
mod descriptors;
mod dispatch;
mod failure;
mod glob;
mod job;
mod keyspace;
mod latency;
pub mod limits;
mod monitor;
mod number;
mod outbox;
mod process;
mod pubsub;
mod redact;
mod resp;
mod run;
mod server;
mod session;
mod settings;
mod slowlog;

pub use config::Config;
pub use run::{RunningServer, STOP_TIME_MAX, ServeError, serve, start};
