//! How a server is started.

use std::net::SocketAddr;
use std::path::PathBuf;

use seawall::Options;

/// What `seawall serve` is told. What may change while the server runs is in `settings`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database's directory.
    pub dir: PathBuf,
    /// Where RESP is spoken.
    pub listen: Vec<SocketAddr>,
    /// How the database is opened. Its durability is the server's matter: see `is_relaxed`.
    pub options: Options,
    /// Whether replies to writes leave before the write is durable: `appendfsync everysec`.
    pub is_relaxed: bool,
    /// The password that clients have to give, if any.
    pub password: Option<String>,
    /// Threads that serve connections.
    pub threads: usize,
}

impl Config {
    /// The defaults: one loopback address, no password, durable writes.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        Self {
            dir: dir.into(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))],
            options: Options::new(),
            is_relaxed: false,
            password: None,
            threads,
        }
    }
}

/// Where `seawall serve` listens unless told otherwise.
const DEFAULT_PORT: u16 = 6380;
/// Threads for connections unless told otherwise.
const THREADS_MAX: usize = 4;
