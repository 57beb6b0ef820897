//! `seawall serve`: a database as a server for Redis clients.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use seawall_server::{Config, ServeError};

use crate::failure::Failure;
use crate::output::{self, Output};

/// Where the password is looked for, so that no list of processes shows it.
const PASSWORD_VARIABLE: &str = "SEAWALL_PASSWORD";

/// Run the database as a server that Redis clients can talk to
///
/// It ends with SIGTERM or SIGINT: what runs is finished, and the database is closed cleanly. A second
/// signal ends it at once, which is as safe as a kill. Clients that may connect from elsewhere have to
/// give a password; it is read from a file, or from the environment variable SEAWALL_PASSWORD.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The database's directory; it is created where it is missing
    dir: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6380")]
    listen: Vec<SocketAddr>,
    /// Reply to writes before they are durable; a power cut may take back the last 100 ms
    #[arg(long)]
    relaxed: bool,
    /// A file that holds the password clients have to give, and nothing else
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Memory for pages, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    cache: u64,
    /// Threads that serve connections; the number of processors, at most 4, when not given
    #[arg(long)]
    threads: Option<usize>,
}

impl Serve {
    pub(crate) fn run(&self, _out: &mut Output) -> Result<(), Failure> {
        let mut config = Config::new(&self.dir);
        config.listen.clone_from(&self.listen);
        config.is_relaxed = self.relaxed;
        config.password = self.password()?;
        config.options = config.options.cache_bytes(self.cache << 20);
        config.threads = self.threads.unwrap_or(config.threads);
        let tell = |addresses: &[SocketAddr]| {
            for address in addresses {
                output::message(&format!("listening on {address}"));
            }
        };
        seawall_server::serve(config, tell).map_err(|error| match error {
            ServeError::Database(error) => Failure::from(error),
            error @ ServeError::Unprotected(_) => Failure::Usage(error.to_string()),
            other => Failure::Failed(other.to_string()),
        })
    }

    fn password(&self) -> Result<Option<String>, Failure> {
        let Some(file) = &self.password_file else {
            return Ok(std::env::var(PASSWORD_VARIABLE)
                .ok()
                .filter(|password| !password.is_empty()));
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
