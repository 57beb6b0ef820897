//! A real client against a server in this process.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

mod served;

use std::io::{ErrorKind, Read as _, Write as _};

use redis::{Commands as _, Value};
use seawall_server::{Config, start};

use served::{Served, answers_to, error_of, until};

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
fn connections_beyond_the_most_are_told_so_while_their_worker_is_busy() {
    let served = Served::with(|config| config.threads = 1);
    let mut first = served.connect();
    redis::cmd("SETRANGE").arg("large").arg(1 << 20).arg("x").exec(&mut first).unwrap();
    redis::cmd("CONFIG").arg(&["SET", "maxclients", "3"]).exec(&mut first).unwrap();
    let mut busy = served.stream();
    busy.write_all(b"MULTI\r\n").unwrap();
    busy.write_all(&b"BITCOUNT large\r\n".repeat(300)).unwrap();
    let mut queued = [0; 5 + 300 * 9];
    busy.read_exact(&mut queued).unwrap();
    busy.write_all(b"EXEC\r\n").unwrap();
    let _third = served.stream();
    let mut told = String::new();
    served.stream().read_to_string(&mut told).unwrap();
    assert_eq!(told, "-ERR max number of clients reached\r\n");
    busy.set_nonblocking(true).unwrap();
    let early = busy.peek(&mut [0]);
    assert!(early.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "after the reply");
    busy.set_nonblocking(false).unwrap();
    busy.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_field_may_begin_at_the_last_bit_that_there_can_be() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut fields = |line: &str| {
        let mut command = redis::cmd("BITFIELD");
        command.arg("key").arg(line.split(' ').collect::<Vec<_>>());
        command.query::<Vec<i64>>(&mut connection)
    };
    assert_eq!(fields("GET u8 4294967295 GET i64 4294967290").unwrap(), [0, 0]);
    assert!(error_of(fields("GET u8 4294967296")).contains("bit offset"));
    assert!(error_of(fields("SET u8 4294967295 1")).contains("bit offset"));
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
fn others_of_the_same_thread_are_served_between_slow_commands_of_a_pipeline() {
    const COMMANDS: i64 = 200;
    let served = Served::with(|config| config.threads = 1);
    let (mut one, mut other) = (served.connect(), served.connect());
    let text = "abcdefgh".repeat(200);
    let _: () = one.mset(&[("a", text.as_str()), ("b", &text[1..])]).unwrap();
    let mut pipeline = redis::pipe();
    for _ in 0..COMMANDS {
        pipeline.cmd("LCS").arg("a").arg("b").arg("LEN").cmd("INCR").arg("count");
    }
    one.send_packed_command(&pipeline.get_packed_pipeline()).unwrap();
    one.recv_response().unwrap();
    let count = other.get::<_, Option<i64>>("count").unwrap().unwrap_or(0);
    assert!(count < COMMANDS, "served after {count} of {COMMANDS}");
}

#[test]
fn a_client_that_takes_no_reply_is_idle() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    let _: () = other.set("large", vec![1_u8; 1 << 20]).unwrap();
    redis::cmd("CONFIG").arg("SET").arg("timeout").arg(1).exec(&mut other).unwrap();
    let mut pipeline = redis::pipe();
    // More than the system keeps for a socket.
    for _ in 0..100 {
        pipeline.cmd("GET").arg("large");
    }
    one.send_packed_command(&pipeline.get_packed_pipeline()).unwrap();
    until("its connection ends", || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut other).unwrap();
        clients.lines().count() == 1
    });
}

#[test]
fn a_reply_has_a_bound_and_an_exec_beyond_it_is_undone() {
    let served = Served::start();
    let mut connection = served.connect();
    let _: () = connection.set("large", vec![1_u8; 8 << 20]).unwrap();
    let too_long = |result: redis::RedisResult<Value>| {
        result.unwrap_err().to_string().contains("the reply would have more than")
    };
    let names = vec!["large"; 40];
    assert!(too_long(redis::cmd("MGET").arg(&names).query(&mut connection)));
    redis::cmd("MULTI").exec(&mut connection).unwrap();
    let queued = |command: &mut redis::Cmd, connection: &mut redis::Connection| {
        assert_eq!(command.query::<String>(connection).unwrap(), "QUEUED");
    };
    queued(redis::cmd("SET").arg("key").arg("value"), &mut connection);
    for name in names {
        queued(redis::cmd("GET").arg(name), &mut connection);
    }
    assert!(too_long(redis::cmd("EXEC").query(&mut connection)));
    assert_eq!(connection.get::<_, Option<String>>("key").unwrap(), None);
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

    let lines = "MULTI\r\nSELECT 5\r\nHELLO 3\r\nSET key x\r\nINCR key\r\nEXEC\r\nGET key\r\nGET nothing\r\nQUIT\r\n";
    let answers = answers_to(&served, lines);
    let (_, behind) = answers.split_once("-EXECABORT").unwrap();
    let (_, behind) = behind.split_once("\r\n").unwrap();
    assert_eq!(behind, "$6\r\nbefore\r\n$-1\r\n+OK\r\n", "database 0, and RESP2");
}

#[test]
fn an_expired_key_is_absent_and_then_purged() {
    let served = Served::start();
    let mut connection = served.connect();
    let _: () = connection.pset_ex("key", "value", 1).unwrap();
    until("the purge", || {
        let is_there: bool = connection.exists("key").unwrap();
        let count: i64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
        !is_there && count == 0
    });
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
    let mut connection = served.client.get_connection().unwrap();
    let refused = redis::cmd("GET").arg("key").query::<Value>(&mut connection);
    assert!(error_of(refused).contains("NOAUTH"));
    let wrong = redis::cmd("AUTH").arg("open").query::<Value>(&mut connection);
    assert!(error_of(wrong).contains("WRONGPASS"));
    redis::cmd("AUTH").arg("open sesame").exec(&mut connection).unwrap();
    assert_eq!(redis::cmd("ECHO").arg("in").query::<String>(&mut connection).unwrap(), "in");
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
fn client_reply_off_and_skip_are_not_answered_themselves() {
    let served = Served::start();
    let off = "CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\nCLIENT REPLY ON\r\nQUIT\r\n";
    assert_eq!(answers_to(&served, off), "+OK\r\n+OK\r\n");
    let skip = "CLIENT REPLY SKIP\r\nSET key value\r\nECHO seen\r\nGET key\r\nQUIT\r\n";
    assert_eq!(answers_to(&served, skip), "$4\r\nseen\r\n$5\r\nvalue\r\n+OK\r\n");
}

#[test]
fn the_empty_key_and_keys_of_zero_bytes_are_keys_like_others() {
    let served = Served::start();
    let mut connection = served.connect();
    let keys: [&[u8]; 5] = [b"", b"\0", b"\0\0", b"\x01", b"a"];
    for (number, key) in keys.iter().enumerate() {
        let _: () = connection.set_ex(*key, number, 100).unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(connection.get::<_, usize>(*key).unwrap(), number);
        assert!(connection.ttl::<_, i64>(*key).unwrap() > 0);
    }
    assert_eq!(connection.keys::<_, Vec<Vec<u8>>>("*").unwrap(), keys);
    let _: () = connection.rename(&b""[..], &b"\0b"[..]).unwrap();
    let left: Vec<Vec<u8>> = connection.keys("*").unwrap();
    assert_eq!(left, [&b"\0"[..], b"\0\0", b"\0b", b"\x01", b"a"]);
    assert_eq!(connection.del::<_, usize>(&left[..]).unwrap(), 5);
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut connection).unwrap(), 0);
}

#[test]
fn a_scan_with_a_cursor_that_nobody_gave_out_begins_again() {
    let served = Served::start();
    let mut connection = served.connect();
    for key in ["a", "b", "c"] {
        let _: () = connection.set(key, key).unwrap();
    }
    let mut scan = |cursor: u64| -> (u64, Vec<String>) {
        redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(2).query(&mut connection).unwrap()
    };
    let (next, found) = scan(0);
    assert_eq!(found, ["a", "b"]);
    assert_eq!(scan(next), (0, vec!["c".to_owned()]));
    let (again, found) = scan(12345);
    assert_ne!(again, 0);
    assert_eq!(found, ["a", "b"]);
    // Nor does a cursor lead into another database.
    redis::cmd("SELECT").arg(1).exec(&mut connection).unwrap();
    let _: () = connection.set("0", "first").unwrap();
    let (_, found): (u64, Vec<String>) =
        redis::cmd("SCAN").arg(next).query(&mut connection).unwrap();
    assert_eq!(found, ["0"]);
}

#[test]
fn checkpoints_are_taken_when_asked_for_and_told_by_info() {
    let served = Served::start();
    let mut connection = served.connect();
    let figure = |connection: &mut redis::Connection, name: &str| -> u64 {
        let info: String = redis::cmd("INFO").query(connection).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.strip_prefix(':').unwrap().parse().unwrap()
    };
    let before = figure(&mut connection, "checkpoints");
    redis::cmd("SAVE").exec(&mut connection).unwrap();
    assert!(figure(&mut connection, "checkpoints") > before);
    let before = figure(&mut connection, "checkpoints");
    redis::cmd("BGSAVE").exec(&mut connection).unwrap();
    until("the checkpoint", || figure(&mut connection, "rdb_bgsave_in_progress") == 0);
    assert!(figure(&mut connection, "checkpoints") > before);
    assert!(redis::cmd("LASTSAVE").query::<u64>(&mut connection).unwrap() > 0);
}

#[test]
fn missing_commands_are_refused_by_name() {
    let served = Served::start();
    let mut connection = served.connect();
    for (line, what) in [
        ("LPUSH k v", "'lpush' is not supported: this server has no lists"),
        ("EVAL x 0", "'eval' is not supported: this server has no scripts"),
    ] {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        let told = error_of(command.query::<Value>(&mut connection));
        assert!(told.contains(what), "{line}: {told}");
    }
    let hashes = redis::cmd("HSET").arg("k").arg("f").arg("v").query::<Value>(&mut connection);
    assert!(error_of(hashes).contains("no hashes"));
    let typo = redis::cmd("GTE").arg("k").query::<Value>(&mut connection);
    assert!(error_of(typo).contains("unknown command 'GTE'"));
}

#[test]
fn msets_that_fail_put_nothing_in_a_transaction_either() {
    let served = Served::start();
    let mut connection = served.connect();
    let long = "k".repeat(2000);
    for command in ["MSET", "MSETNX"] {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd(command).arg("key").arg("1").arg(&long).arg("2");
        let error = pipeline.query::<Value>(&mut connection).unwrap_err();
        assert!(error.to_string().contains("2000 bytes"), "{error}");
        assert!(!connection.exists::<_, bool>("key").unwrap(), "{command}");
    }
}

#[test]
fn config_set_sets_all_of_its_parameters_or_none() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut set = |values: &[&str]| {
        let mut command = redis::cmd("CONFIG");
        error_of(command.arg("SET").arg(values).query::<Value>(&mut connection))
    };
    assert!(set(&["appendfsync", "no", "maxmemory", "100mb"]).contains("maxmemory"));
    assert!(set(&["appendfsync", "no", "APPENDFSYNC", "always"]).contains("duplicate parameter"));
    let mut get = redis::cmd("CONFIG");
    let (_, fsync): (String, String) =
        get.arg("GET").arg("appendfsync").query(&mut connection).unwrap();
    assert_eq!(fsync, "always");
}

#[test]
fn too_many_keys_are_watched_all_or_none() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    let watch = |connection: &mut redis::Connection, numbers: std::ops::Range<u32>| {
        let keys: Vec<_> = numbers.map(|number| number.to_string()).collect();
        redis::cmd("WATCH").arg(&keys).arg(&keys).query::<Value>(connection)
    };
    assert!(error_of(watch(&mut one, 0..65_537)).contains("too many keys"));
    let _: () = other.set("0", "changed").unwrap();
    redis::cmd("MULTI").exec(&mut one).unwrap();
    assert_eq!(redis::cmd("EXEC").query::<Value>(&mut one).unwrap(), Value::Array(Vec::new()));
    watch(&mut one, 0..65_536).unwrap();
    assert!(error_of(watch(&mut one, 65_536..65_537)).contains("too many keys"));
    watch(&mut one, 5..6).unwrap();
    let _: () = other.set("65535", "changed").unwrap();
    redis::cmd("MULTI").exec(&mut one).unwrap();
    assert_eq!(redis::cmd("EXEC").query::<Value>(&mut one).unwrap(), Value::Nil);
}
