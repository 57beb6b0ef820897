//! The subcommands, one file each.

mod backup;
mod bench;
mod checkpoint;
mod del;
mod dump;
mod get;
mod load;
mod log;
mod page;
mod put;
mod recover;
mod scan;
mod serve;
mod stat;
mod verify;

use clap::Subcommand;

use crate::failure::Failure;
use crate::output::Output;

/// A subcommand with its arguments. The help of each stands with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(get::Get),
    Put(put::Put),
    Del(del::Del),
    Scan(scan::Scan),
    Load(load::Load),
    Dump(dump::Dump),
    Recover(recover::Recover),
    Verify(verify::Verify),
    Stat(stat::Stat),
    Log(log::Log),
    Page(page::Page),
    Checkpoint(checkpoint::Checkpoint),
    Backup(backup::Backup),
    Bench(bench::Bench),
    Serve(serve::Serve),
}

impl Command {
    /// Does what was asked for.
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Get(get) => get.run(out),
            Self::Put(put) => put.run(out),
            Self::Del(del) => del.run(out),
            Self::Scan(scan) => scan.run(out),
            Self::Load(load) => load.run(out),
            Self::Dump(dump) => dump.run(out),
            Self::Recover(recover) => recover.run(out),
            Self::Verify(verify) => verify.run(out),
            Self::Stat(stat) => stat.run(out),
            Self::Log(log) => log.run(out),
            Self::Page(page) => page.run(out),
            Self::Checkpoint(checkpoint) => checkpoint.run(out),
            Self::Backup(backup) => backup.run(out),
            Self::Bench(bench) => bench.run(out),
            Self::Serve(serve) => serve.run(out),
        }
    }
}
