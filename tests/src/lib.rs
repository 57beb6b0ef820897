//! Harness shared by the suites: what the engine is compared with, and what tries to break it.
//!
//! [`operation`] says what can be done to a database, [`generate`] draws workloads of it by seed
//! and [`scenario`] writes them by hand. A [`session`] does the operations and compares every
//! answer with the [`oracle`]; [`transaction`] is its idea of a transaction, and a [`watch`] looks
//! at every operation of the disk. The [`crash`] runner cuts the power at each of them, the
//! [`sweep`] has each fail; [`damage`] changes every byte of two databases, which [`mod@salvage`] saves
//! what is left of, and [`rot`] every block of many. A [`history`] is what many threads saw of each other. A kill loop kills real processes,
//! or cuts the power of the [`file_system`] below them, or behind each write of a [`recording`], and [`real_input`] a load of the command line.
//! [`planted`] says which check finds which bug. [`mod@fuzz`] has functions that a fuzzer calls. [`log_space`] watches the bound of the log's files;
//! [`ring`] says what is left out where there is no io_uring. The programs of [`mod@measure`] give
//! figures instead of verdicts.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod check;
pub mod counts;
pub mod crash;
pub mod damage;
pub mod discard;
pub mod effort;
pub mod failure;
pub mod file_system;
pub mod fuzz;
pub mod generate;
pub mod history;
pub mod kill;
pub mod log_space;
pub mod measure;
pub mod operation;
pub mod oracle;
pub mod planted;
pub mod random;
pub mod real_input;
pub mod recording;
pub mod redis;
pub mod replay;
pub mod ring;
pub mod rot;
pub mod salvage;
pub mod scenario;
pub mod session;
pub mod settings;
pub mod shrink;
pub mod sweep;
pub mod trace;
pub mod transaction;
pub mod trials;
pub mod watch;
