//! A server in this process, and what tests ask of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use redis::RedisResult;
use seawall_server::{Config, RunningServer, start};

/// A server with a database of its own, or one that it is given.
pub(crate) struct Served {
    running: Option<RunningServer>,
    pub(crate) client: redis::Client,
    _dir: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("db"));
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.options = config.options.cache_bytes(8 << 20);
        change(&mut config);
        let running = start(config).unwrap();
        let client = redis::Client::open(format!("redis://{}", running.addresses()[0])).unwrap();
        Self { running: Some(running), client, _dir: dir }
    }

    /// A bare connection.
    pub(crate) fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.running.as_ref().unwrap().addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection, once the database is open.
    pub(crate) fn connect(&self) -> redis::Connection {
        let mut connection = self.client.get_connection().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        until("opening", || match redis::cmd("DBSIZE").query::<i64>(&mut connection) {
            Err(error) if error.to_string().contains("BusyLoading") => false,
            other => other.is_ok_and(|count| count >= 0),
        });
        connection
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            running.wait().unwrap();
        }
    }
}

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that is sure to happen.
pub(crate) fn until(what: &str, mut has_happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !has_happened() {
        assert!(started.elapsed() < PATIENCE, "{what} takes longer than {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Code and text of what was refused.
pub(crate) fn error_of<T: std::fmt::Debug>(result: RedisResult<T>) -> String {
    let error = result.unwrap_err();
    format!("{} {}", error.code().unwrap_or("ERR"), error.detail().unwrap_or_default())
}

/// What the server sends back for inline commands, up to its end of the connection.
pub(crate) fn answers_to(served: &Served, lines: &str) -> String {
    drop(served.connect());
    let mut stream = served.stream();
    stream.write_all(lines.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    answers
}
