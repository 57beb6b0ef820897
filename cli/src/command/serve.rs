//! `seawall serve`: a database as a server for Redis clients.

use std::env::VarError;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall_server::{Config, ServeError};

use crate::database::DatabaseArg;
use crate::failure::Failure;
use crate::output::{self, Output};

/// Where the password is looked for, so that no list of processes shows it.
const PASSWORD_VARIABLE: &str = "SEAWALL_PASSWORD";
/// Most threads that may be asked for.
const THREADS_MAX: u64 = 1024;

/// Run the database as a server that Redis clients can talk to
///
/// The database is created where it is missing. The server ends with SIGTERM or SIGINT: what runs is
/// finished, and the database is closed cleanly. A second signal ends it at once, which is as safe as a
/// kill. Clients that may connect from elsewhere have to give a password; it is read from a file, or from
/// the environment variable SEAWALL_PASSWORD.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    database: DatabaseArg,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6380")]
    listen: Vec<SocketAddr>,
    /// Reply to writes before they are durable; a power cut may take back the last 100 ms
    #[arg(long)]
    relaxed: bool,
    /// A file that holds the password clients have to give, and nothing else
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Size of the cache
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 20))]
    cache_mib: u64,
    /// Threads that serve connections; the number of processors, at most 4, when not given
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=THREADS_MAX))]
    threads: Option<usize>,
}

impl Serve {
    pub(crate) fn run(&self, _out: &mut Output) -> Result<(), Failure> {
        let mut config = Config::new(&self.database.dir);
        config.listen.clone_from(&self.listen);
        config.is_relaxed = self.relaxed;
        config.password = self.password()?;
        config.options = config.options.cache_bytes(self.cache_mib << 20);
        config.options.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        config.threads = self.threads.unwrap_or(config.threads);
        let tell = |addresses: &[SocketAddr]| {
            for address in addresses {
                output::message(&format!("listening on {address}"));
            }
        };
        seawall_server::serve(config, tell).map_err(|error| match error {
            ServeError::Database(error) => self.database.failure(error),
            error @ ServeError::Unprotected(_) => Failure::Usage(error.to_string()),
            other => Failure::Failed(other.to_string()),
        })
    }

    fn password(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.password_file else {
            return match std::env::var(PASSWORD_VARIABLE) {
                Ok(password) => Ok((!password.is_empty()).then_some(password)),
                Err(VarError::NotPresent) => Ok(None),
                Err(VarError::NotUnicode(_)) => {
                    Err(Failure::Usage(format!("{PASSWORD_VARIABLE} is not UTF-8")))
                }
            };
        };
        let password = std::fs::read_to_string(file).map_err(|error| {
            Failure::Failed(format!("{} cannot be read: {error}", file.display()))
        })?;
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(Failure::Usage(format!("{} holds no password", file.display())));
        }
        Ok(Some(password.to_owned()))
    }
}
