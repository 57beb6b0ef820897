//! The server beside Redis: the same random commands to both, whose replies must be the same to the
//! byte. Seawall is killed in the middle of some streams, and goes on with what it has acknowledged.

mod commands;
mod wire;

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seawall_server::{Config, serve};

use crate::failure::{Failure, Outcome};
use crate::random::Random;
use wire::{Client, Reply};

/// The version whose replies the server gives.
const VERSION: &str = "v=7.0.";
/// Set in a child, to the directory where it serves.
const CHILD_DIR: &str = "SEAWALL_BESIDE_REDIS_DIR";
/// Commands of a stream.
const COMMANDS: usize = 600;
/// Connections that send them, by turns.
const CONNECTIONS: usize = 2;
/// One stream in so many is cut by a kill.
const KILL_EVERY: u64 = 4;
/// Commands of the same stream that are told of before the one whose replies differ.
const TOLD: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Both servers.
pub struct Beside {
    dir: tempfile::TempDir,
    seawall: Option<Killed>,
    _redis: Killed,
}

/// A connection to each.
struct Pair {
    seawall: Client,
    redis: Client,
}

/// Why there is no Redis to compare with; `None` where there is one.
#[must_use]
pub fn missing() -> Option<String> {
    match Command::new("redis-server").arg("--version").output() {
        Ok(output) => {
            let version = String::from_utf8_lossy(&output.stdout).into_owned();
            (!version.contains(VERSION)).then(|| format!("it is {}", version.trim()))
        }
        Err(error) => Some(format!("redis-server: {error}")),
    }
}

/// What a child test does: it serves where [`Beside`] has started it, and nothing elsewhere.
///
/// # Panics
/// When the server fails; then the parent fails as well.
pub fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let dir = Path::new(&dir);
    let mut config = Config::new(dir.join("db"));
    config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.options = config.options.cache_bytes(8 << 20);
    let served = serve(config, |addresses| {
        let (new, place) = (dir.join("address.new"), dir.join("address"));
        let told = std::fs::write(&new, addresses[0].to_string());
        told.and_then(|()| std::fs::rename(&new, &place)).expect("the parent is told the address");
    });
    served.unwrap_or_else(|error| panic!("{error}"));
}

/// Waits for what is sure to happen.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Outcome<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(format!("{what} takes longer than {PATIENCE:?}")));
        }
        std::thread::yield_now();
    }
}

fn failed(what: &str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(format!("{what}: {error}"))
}

impl Beside {
    /// Starts both, with nothing in them.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn start() -> Outcome<Self> {
        let dir = tempfile::tempdir().map_err(failed("a directory"))?;
        let redis = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(dir.path().join("redis"))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed("redis-server"))?;
        let mut beside = Self { dir, seawall: None, _redis: Killed(redis) };
        beside.restart()?;
        Ok(beside)
    }

    /// Kills Seawall, if it runs, and starts it.
    fn restart(&mut self) -> Outcome {
        drop(self.seawall.take());
        drop(std::fs::remove_file(self.address_path()));
        let program = std::env::current_exe().map_err(failed("the test's program"))?;
        let seawall = Command::new(program)
            .args(["child", "--exact"])
            .env(CHILD_DIR, self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed("the server"))?;
        self.seawall = Some(Killed(seawall));
        Ok(())
    }

    fn address_path(&self) -> PathBuf {
        self.dir.path().join("address")
    }

    fn connect(&self) -> Outcome<Pair> {
        let address = until("starting", || std::fs::read_to_string(self.address_path()).ok())?;
        let stream = TcpStream::connect(&address).map_err(failed("the server"))?;
        stream.set_nodelay(true).map_err(failed("the server"))?;
        let redis = || UnixStream::connect(self.dir.path().join("redis")).ok();
        let (mut seawall, redis) = (Client::new(stream), until("redis-server", redis)?);
        until("opening", || {
            let reply = seawall.call(&[b"DBSIZE".to_vec()]).ok()?;
            matches!(reply, Reply::Line(b':', _)).then_some(())
        })?;
        Ok(Pair { seawall, redis: Client::new(redis) })
    }

    fn connections(&self, seed: u64) -> Outcome<Vec<Pair>> {
        let mut pairs = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut pair = self.connect()?;
            if seed % 2 == 1 {
                // What it answers tells the version, among others.
                for client in [&mut pair.seawall, &mut pair.redis] {
                    let hello = [b"HELLO".to_vec(), b"3".to_vec()];
                    client.call(&hello).map_err(failed("HELLO"))?;
                }
            }
            pairs.push(pair);
        }
        Ok(pairs)
    }

    /// Sends the stream of this seed to both, and compares the replies and, at the end, what is there.
    /// Returns how many commands that were.
    ///
    /// # Errors
    /// The command whose replies differ, and what came before it.
    pub fn compare(&mut self, seed: u64) -> Outcome<usize> {
        let mut random = Random::new(seed);
        let mut pairs = self.connections(seed)?;
        let mut sent = Vec::new();
        let mut ask = |pair: &mut Pair, command: wire::Command, number: usize| {
            sent.push(format!("{number}: {}", told(&command)));
            let compared = pair.compare(&command);
            compared.map_err(|why| {
                let before = &sent[sent.len().saturating_sub(TOLD)..];
                Failure::new(format!("stream {seed}\n{}\n{why}", before.join("\n")))
            })
        };
        ask(&mut pairs[0], vec![b"FLUSHALL".to_vec()], 0)?;
        let kill_at = seed.is_multiple_of(KILL_EVERY).then(|| random.below_usize(COMMANDS));
        for step in 0..COMMANDS {
            if kill_at == Some(step) {
                drop(pairs);
                self.restart()?;
                pairs = self.connections(seed)?;
            }
            let number = random.below_usize(CONNECTIONS);
            ask(&mut pairs[number], commands::draw(&mut random), number)?;
        }
        let mut pair = self.connect()?;
        for database in 0..16_u8 {
            let words =
                |words: &str| words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            ask(&mut pair, words(&format!("SELECT {database}")), CONNECTIONS)?;
            ask(&mut pair, words("KEYS *"), CONNECTIONS)?;
            for key in 0..6 {
                ask(&mut pair, words(&format!("GET k{key}")), CONNECTIONS)?;
                ask(&mut pair, words(&format!("PEXPIRETIME k{key}")), CONNECTIONS)?;
            }
        }
        Ok(sent.len())
    }
}

fn told(command: &[Vec<u8>]) -> String {
    let words = command.iter().map(|word| format!("\"{}\"", word.escape_ascii()));
    words.collect::<Vec<_>>().join(" ")
}

impl Pair {
    fn compare(&mut self, command: &[Vec<u8>]) -> Outcome {
        let ask = |client: &mut Client, name: &str| -> Outcome<Reply> {
            let reply = client.call(command).map_err(failed(name))?;
            // The order of keys is each server's own, also where KEYS was queued.
            Ok(match command[0].to_ascii_uppercase().as_slice() {
                b"KEYS" => reply.sorted(),
                b"EXEC" => reply.sorted_within(),
                _ => reply,
            })
        };
        let (seawall, redis) = (ask(&mut self.seawall, "seawall")?, ask(&mut self.redis, "redis")?);
        if seawall == redis {
            return Ok(());
        }
        Err(Failure::new(format!("seawall: {seawall:?}\nredis:   {redis:?}")))
    }
}
