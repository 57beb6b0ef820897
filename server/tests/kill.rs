//! A server in a child process is killed with SIGKILL while sixteen connections write: what was
//! acknowledged is there after a restart, and each MULTI/EXEC is there whole or not at all.

#![expect(clippy::unwrap_used, reason = "a test, though one without the harness")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seawall_server::{Config, serve};

const CHILD: &str = "SEAWALL_KILLED_SERVER_DIR";
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 4;
/// Acknowledged writes of all connections before the kill.
const ACKNOWLEDGED: usize = 600;

fn main() {
    match std::env::var_os(CHILD) {
        Some(dir) => serve_until_killed(Path::new(&dir)),
        None => acknowledged_writes_survive_a_kill_and_exec_is_whole_or_absent(),
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads where to connect")]
fn serve_until_killed(dir: &Path) {
    let mut config = Config::new(dir);
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.options = config.options.cache_bytes(8 << 20);
    serve(config, |addresses| println!("{}", addresses[0])).unwrap();
}

/// A server in a child process, killed with this.
struct Server(Child);

impl Server {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(dir: &Path) -> (Server, redis::Client) {
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).env(CHILD, dir).stdout(Stdio::piped()).spawn().unwrap();
    let mut server = Server(child);
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (server, redis::Client::open(format!("redis://{}", address.trim())).unwrap())
}

fn wait_open(client: &redis::Client) -> redis::Connection {
    let mut connection = client.get_connection().unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    while let Err(error) = redis::cmd("DBSIZE").exec(&mut connection) {
        assert!(error.to_string().contains("BusyLoading"), "the server has gone: {error}");
        std::thread::yield_now();
    }
    connection
}

/// Writes until the server is gone; returns the last number that was acknowledged for its keys. Odd
/// connections write both keys with EXEC, even ones with two commands of a pipeline.
fn write(client: &redis::Client, name: usize, round: usize, tell: &dyn Fn()) -> Option<usize> {
    let mut connection = client.get_connection().ok()?;
    let mut acknowledged = None;
    for number in 0.. {
        let value = round * 1_000_000 + number;
        let mut pipeline = redis::pipe();
        if name % 2 == 1 {
            pipeline.atomic();
        }
        pipeline.cmd("SET").arg(format!("a{name}")).arg(value);
        pipeline.cmd("SET").arg(format!("b{name}")).arg(value);
        if pipeline.exec(&mut connection).is_err() {
            return acknowledged;
        }
        acknowledged = Some(value);
        tell();
    }
    acknowledged
}

fn acknowledged_writes_survive_a_kill_and_exec_is_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("db");
    let mut acknowledged = [None; CONNECTIONS];
    for round in 0..ROUNDS {
        let (mut server, client) = start(&database);
        drop(wait_open(&client));
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let client = &client;
            let writers: Vec<_> = (0..CONNECTIONS)
                .map(|name| {
                    let sender = sender.clone();
                    scope.spawn(move || write(client, name, round, &|| sender.send(()).unwrap()))
                })
                .collect();
            for _ in 0..ACKNOWLEDGED {
                receiver.recv().unwrap();
            }
            server.kill();
            for (name, writer) in writers.into_iter().enumerate() {
                acknowledged[name] = writer.join().unwrap().or(acknowledged[name]);
            }
        });

        let (_server, client) = start(&database);
        let mut connection = wait_open(&client);
        for (name, &acknowledged) in acknowledged.iter().enumerate() {
            let mut get = |key: &str| -> Option<usize> {
                redis::cmd("GET").arg(format!("{key}{name}")).query(&mut connection).unwrap()
            };
            let (a, b) = (get("a"), get("b"));
            assert!(a >= acknowledged && b >= acknowledged, "{name}: {acknowledged:?} {a:?} {b:?}");
            assert!(name % 2 == 0 || a == b, "half of an EXEC: {a:?} {b:?}");
            assert!(a >= b, "a later write without an earlier one of the pipeline: {a:?} {b:?}");
        }
        assert!(acknowledged.iter().flatten().count() > CONNECTIONS / 2, "{acknowledged:?}");
    }
}
