//! Options that the measurements share: where, and how the database is opened.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use seawall::{DiskKind, Options};
use tempfile::TempDir;

use super::loaded::KEY_BYTES;
use crate::failure::{Failure, Outcome};

/// Which disk the database is opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DiskArg {
    /// io_uring where it is allowed
    Auto,
    /// io_uring
    Uring,
    /// Positional system calls
    Blocking,
}

/// Where, and how the database is opened.
#[derive(Args, Clone, Debug)]
pub(super) struct Setup {
    /// Folder on the disk to be measured; a private one is made inside, and removed at the end
    #[arg(long, default_value = ".")]
    pub(super) dir: PathBuf,
    /// Size of the cache
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 20))]
    pub(super) cache_mib: u64,
    /// How files are accessed
    #[arg(long, value_enum, default_value_t = DiskArg::Auto)]
    pub(super) disk: DiskArg,
}

impl From<DiskArg> for DiskKind {
    fn from(disk: DiskArg) -> Self {
        match disk {
            DiskArg::Auto => Self::Auto,
            DiskArg::Uring => Self::Uring,
            DiskArg::Blocking => Self::Blocking,
        }
    }
}

impl Setup {
    /// The default options, with what was asked for.
    pub(super) fn options(&self) -> Options {
        Options::new().cache_bytes(self.cache_mib << 20).disk(self.disk.into())
    }

    /// A private folder, gone when it is dropped.
    pub(super) fn folder(&self) -> Outcome<TempDir> {
        tempfile::Builder::new()
            .prefix("seawall-measure-")
            .tempdir_in(&self.dir)
            .map_err(|error| Failure::new(format!("{}: {error}", self.dir.display())))
    }

    /// A sentence about what was measured on: pairs with keys of the usual size and such values.
    pub(super) fn describe(&self, pairs: u64, value_bytes: usize) -> String {
        let threads = std::thread::available_parallelism().map_or(0, usize::from);
        let disk = seawall_wal::disk::select(self.disk.into());
        let disk = disk.map_or_else(|error| error.to_string(), |disk| disk.name().to_owned());
        format!(
            "{pairs} pairs of {KEY_BYTES} + {value_bytes} bytes, cache {} MiB, disk `{disk}`, \
             {threads} hardware threads.",
            self.cache_mib,
        )
    }
}
