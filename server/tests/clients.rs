//! A real client against a server in this process.

use redis::{Commands as _, RedisResult, Value};
use seawall_server::{Config, RunningServer, start};

struct Served {
    running: Option<RunningServer>,
    client: redis::Client,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("db"));
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.options = config.options.cache_bytes(8 << 20);
        change(&mut config);
        let running = start(config).unwrap();
        let client = redis::Client::open(format!("redis://{}", running.addresses()[0])).unwrap();
        Self { running: Some(running), client, _dir: dir }
    }

    /// A connection, once the database is open.
    fn connect(&self) -> redis::Connection {
        let mut connection = self.client.get_connection().unwrap();
        loop {
            match redis::cmd("DBSIZE").query::<i64>(&mut connection) {
                Err(error)
                    if error.to_string().contains("LOADING")
                        || error.to_string().contains("loading") =>
                {
                    std::thread::yield_now();
                }
                Err(error) if error.to_string().contains("NOAUTH") => return connection,
                other => {
                    other.unwrap();
                    return connection;
                }
            }
        }
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

fn error_of<T: std::fmt::Debug>(result: RedisResult<T>) -> String {
    let error = result.unwrap_err();
    format!("{} {}", error.code().unwrap_or("ERR"), error.detail().unwrap_or_default())
}

#[test]
fn a_pipeline_reads_its_own_writes_in_order() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut pipeline = redis::pipe();
    for number in 0..500 {
        pipeline.cmd("SET").arg("key").arg(number).ignore().cmd("GET").arg("key");
        pipeline.cmd("INCR").arg("count");
    }
    let replies: Vec<i64> = pipeline.query(&mut connection).unwrap();
    let expected: Vec<i64> = (0..500).flat_map(|number| [number, number + 1]).collect();
    assert_eq!(replies, expected);
}

#[test]
fn increments_of_many_connections_are_not_lost() {
    let served = Served::start();
    let mut reader = served.connect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = served.client.get_connection().unwrap();
                for _ in 0..100 {
                    let _: i64 = connection.incr("count", 1).unwrap();
                }
            });
        }
    });
    assert_eq!(reader.get::<_, i64>("count").unwrap(), 800);
}

#[test]
fn exec_gives_up_when_a_watched_key_was_written_with_the_same_value() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    let _: () = one.set("key", "same").unwrap();
    redis::cmd("WATCH").arg("key").exec(&mut one).unwrap();
    let _: () = other.set("key", "same").unwrap();
    redis::cmd("MULTI").exec(&mut one).unwrap();
    redis::cmd("SET").arg("key").arg("mine").query::<Value>(&mut one).unwrap();
    assert_eq!(redis::cmd("EXEC").query::<Value>(&mut one).unwrap(), Value::Nil);
    assert_eq!(other.get::<_, String>("key").unwrap(), "same");
}

#[test]
fn a_failing_command_undoes_exec_only_when_asked_to() {
    let served = Served::start();
    let mut connection = served.connect();
    let run = |connection: &mut redis::Connection| {
        redis::cmd("MULTI").exec(connection).unwrap();
        for (name, argument) in [("SET", "1"), ("INCR", ""), ("APPEND", "x"), ("INCR", "")] {
            let mut command = redis::cmd(name);
            command.arg("key");
            if !argument.is_empty() {
                command.arg(argument);
            }
            assert_eq!(command.query::<String>(connection).unwrap(), "QUEUED");
        }
        redis::cmd("EXEC").query::<Value>(connection)
    };
    run(&mut connection).ok();
    assert_eq!(connection.get::<_, String>("key").unwrap(), "2x");
    let _: () = connection.set("key", "before").unwrap();
    redis::cmd("CONFIG").arg("SET").arg("exec-rollback").arg("yes").exec(&mut connection).unwrap();
    assert!(error_of(run(&mut connection)).contains("EXECABORT"));
    assert_eq!(connection.get::<_, String>("key").unwrap(), "before");
}

#[test]
fn an_expired_key_is_absent_and_then_purged() {
    let served = Served::start();
    let mut connection = served.connect();
    let _: () = connection.pset_ex("key", "value", 1).unwrap();
    loop {
        let is_there: bool = connection.exists("key").unwrap();
        let count: i64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
        if !is_there && count == 0 {
            break;
        }
    }
    let _: () = connection.set_ex("key", "value", 100).unwrap();
    assert!((99_000..=100_000).contains(&connection.pttl::<_, i64>("key").unwrap()));
}

#[test]
fn databases_are_swapped_and_emptied_at_once() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut query = |line: &str| {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query::<Value>(&mut connection).unwrap()
    };
    query("MSET a 1 b 2");
    assert_eq!(query("DBSIZE"), Value::Int(2));
    query("SWAPDB 0 7");
    assert_eq!(query("DBSIZE"), Value::Int(0));
    query("SELECT 7");
    assert_eq!(query("GET a"), Value::BulkString(b"1".to_vec()));
    query("FLUSHDB");
    assert_eq!(query("DBSIZE"), Value::Int(0));
    query("SET a 3");
    assert_eq!(query("DBSIZE"), Value::Int(1));
}

#[test]
fn without_the_password_little_is_answered() {
    let served = Served::with(|config| config.password = Some("open sesame".into()));
    let mut connection = served.connect();
    let refused = redis::cmd("GET").arg("key").query::<Value>(&mut connection);
    assert!(error_of(refused).contains("NOAUTH"));
    let wrong = redis::cmd("AUTH").arg("open").query::<Value>(&mut connection);
    assert!(error_of(wrong).contains("WRONGPASS"));
    redis::cmd("AUTH").arg("open sesame").exec(&mut connection).unwrap();
    assert_eq!(redis::cmd("GET").arg("key").query::<Value>(&mut connection).unwrap(), Value::Nil);
}

#[test]
fn beyond_loopback_a_password_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.listen = vec!["0.0.0.0:0".parse().unwrap()];
    assert!(matches!(start(config), Err(seawall_server::ServeError::Unprotected(_))));
}

#[test]
fn what_was_acknowledged_is_there_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3_i64 {
        let served = Served::with(|config| config.dir = dir.path().join("kept"));
        let mut connection = served.connect();
        assert_eq!(connection.incr::<_, _, i64>("rounds", 1).unwrap(), round + 1);
    }
}

#[test]
fn missing_commands_are_refused_by_name() {
    let served = Served::start();
    let mut connection = served.connect();
    let hashes = redis::cmd("HSET").arg("k").arg("f").arg("v").query::<Value>(&mut connection);
    assert!(error_of(hashes).contains("no hashes"));
    let typo = redis::cmd("GTE").arg("k").query::<Value>(&mut connection);
    assert!(error_of(typo).contains("unknown command 'GTE'"));
}
