//! SW.BEGIN, SW.COMMIT, SW.ROLLBACK.

use redis::{Connection, Value};
use seawall_server::limits::{BEGUN_MS_MAX, OPEN_BYTES_MAX};

use crate::served::{Served, error_of, until};
use crate::{ask, figure, tell, texts};

fn all(connection: &mut Connection) -> Vec<String> {
    texts(tell(connection, "SW.RANGE '' ''").unwrap())
}

fn run(connection: &mut Connection, lines: &[&str]) {
    for line in lines {
        tell(connection, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

/// Begins a transaction with a short life and writes in it, in one turn of the connection.
fn begin_and_write(connection: &mut Connection, timeout_ms: u64) {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SW.BEGIN").arg("TIMEOUT").arg(timeout_ms).cmd("SET").arg("a").arg(1);
    pipeline.exec(connection).unwrap();
}

/// Transactions that the engine knows of.
fn active(connection: &mut Connection) -> i64 {
    figure(tell(connection, "SW.STATS").unwrap(), "active_transactions").unwrap()
}

#[test]
fn a_transaction_ends_at_its_time_while_its_client_takes_no_reply() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    redis::cmd("SET").arg("large").arg(vec![1_u8; 1 << 20]).exec(&mut other).unwrap();
    let mut pipeline = redis::pipe();
    pipeline.cmd("SW.BEGIN").arg("TIMEOUT").arg(1000).cmd("SET").arg("a").arg(1);
    // More than the system keeps for a socket.
    for _ in 0..100 {
        pipeline.cmd("GET").arg("large");
    }
    one.send_packed_command(&pipeline.get_packed_pipeline()).unwrap();
    assert_eq!(one.recv_response().unwrap(), Value::Okay);
    until("the transaction ends", || active(&mut other) == 0);
}

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does_before_it_commits() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    run(
        &mut one,
        &["MSET a 1 b 2 c 3 e 5", "SW.BEGIN", "INCR a", "DEL b", "SET d 4", "APPEND e x"],
    );
    let before = ["a", "1", "b", "2", "c", "3", "e", "5"];
    let after = ["a", "2", "c", "3", "d", "4", "e", "5x"];
    assert_eq!(all(&mut one), after);
    assert_eq!(all(&mut other), before);
    let mut of = |line: &str| tell(&mut one, line).unwrap();
    assert_eq!(texts(of("SW.RANGE '' '' REV KEYS")), ["e", "d", "c", "a"]);
    assert_eq!(texts(of("SW.RANGE b d KEYS LIMIT 1")), ["c"]);
    assert_eq!(texts(of("SW.PREFIX d")), ["d", "4"]);
    assert_eq!(texts(of("MGET a c")), ["2", "3"]);
    assert_eq!(texts(of("KEYS *")), ["a", "c", "d", "e"]);
    assert_eq!(texts(of("SCAN 0")), ["0", "a", "c", "d", "e"]);
    for (line, count) in [("SW.COUNT '' ''", 4), ("DBSIZE", 4), ("EXISTS a b d", 2)] {
        assert_eq!(of(line), Value::Int(count), "{line}");
    }
    // An empty range is one for a map of changes, too.
    assert_eq!(of("SW.COUNT d b"), Value::Int(0));
    assert!(matches!(of("SW.COMMIT"), Value::Int(1..)));
    assert_eq!(all(&mut other), after);
    assert!(error_of(tell(&mut one, "SW.COMMIT")).contains("SW.COMMIT without SW.BEGIN"));
}

#[test]
fn a_transaction_that_is_rolled_back_leaves_nothing() {
    let served = Served::start();
    let mut connection = served.connect();
    run(
        &mut connection,
        &["MSET a 1 b 2", "SW.BEGIN", "SET a 2", "SW.DELRANGE b ''", "SET c 3 EX 9"],
    );
    assert_eq!(all(&mut connection), ["a", "2", "c", "3"]);
    run(&mut connection, &["SW.ROLLBACK"]);
    assert_eq!(all(&mut connection), ["a", "1", "b", "2"]);
    assert!(
        error_of(tell(&mut connection, "SW.ROLLBACK")).contains("SW.ROLLBACK without SW.BEGIN")
    );
    run(&mut connection, &["SW.BEGIN", "SET a 3", "RESET"]);
    assert_eq!(all(&mut connection), ["a", "1", "b", "2"]);
}

#[test]
fn whoever_commits_first_wins_and_the_other_has_changed_nothing() {
    for (mine, theirs) in [
        ("SET a mine", "SET a theirs"),
        ("GET a", "SET a theirs"),
        ("GET a", "DEL a"),
        ("GET missing", "SET missing theirs"),
        ("SW.COUNT m n", "SET missing theirs"),
        ("SW.RANGE '' b", "SET aa theirs"),
        ("KEYS *", "SET aa theirs"),
        ("DEL a", "INCR a"),
        ("GET a", "SWAPDB 0 1"),
        ("GET a", "FLUSHALL"),
        ("PING", "FLUSHDB"),
    ] {
        let served = Served::start();
        let (mut one, mut other) = (served.connect(), served.connect());
        run(&mut one, &["MSET a 1 b 2", "SW.BEGIN", mine, "SET mine mine"]);
        run(&mut other, &[theirs]);
        let theirs_alone = all(&mut other);
        let told = error_of(tell(&mut one, "SW.COMMIT"));
        assert!(told.starts_with("CONFLICT"), "{mine} beside {theirs}: {told}");
        assert_eq!(all(&mut one), theirs_alone, "{mine} beside {theirs}");
    }
}

#[test]
fn transactions_of_other_keys_do_not_conflict() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    run(&mut one, &["SW.BEGIN", "GET a", "SET a 1"]);
    run(&mut other, &["SW.BEGIN", "GET b", "SET b 2", "SW.COMMIT", "SET c 3"]);
    run(&mut one, &["SW.COMMIT"]);
    assert_eq!(all(&mut one), ["a", "1", "b", "2", "c", "3"]);
}

#[test]
fn who_writes_a_key_of_an_open_transaction_does_not_wait_for_it() {
    let served = Served::with(|config| config.threads = 1);
    let (mut one, mut other) = (served.connect(), served.connect());
    run(&mut one, &["SW.BEGIN TIMEOUT 60000", "SET a mine", "SW.DELRANGE b c"]);
    // If it waited, it would be for a second, on the thread that serves both, and then fail.
    run(&mut other, &["SET a theirs", "MSET a theirs b theirs", "INCR count"]);
    assert_eq!(all(&mut other), ["a", "theirs", "b", "theirs", "count", "1"]);
    assert!(error_of(tell(&mut one, "SW.COMMIT")).starts_with("CONFLICT"));
}

#[test]
fn increments_by_transactions_and_beside_them_are_not_lost() {
    let served = Served::start();
    let mut reader = served.connect();
    run(&mut reader, &["SET count 0"]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut connection = served.client.get_connection().unwrap();
                (0..300).for_each(|_| run(&mut connection, &["INCR count"]));
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = served.client.get_connection().unwrap();
                let mut done = 0;
                while done < 25 {
                    run(&mut connection, &["SW.BEGIN"]);
                    let old: i64 = redis::cmd("GET").arg("count").query(&mut connection).unwrap();
                    run(&mut connection, &[&format!("SET count {}", old + 1)]);
                    match tell(&mut connection, "SW.COMMIT") {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.code(), Some("CONFLICT")),
                    }
                }
            });
        }
    });
    assert_eq!(texts(tell(&mut reader, "GET count").unwrap()), ["700"]);
}

#[test]
fn a_command_that_fails_leaves_nothing_of_it_in_the_transaction() {
    let served = Served::start();
    let mut connection = served.connect();
    run(&mut connection, &["SET a 1", "SW.BEGIN", "SET b 2"]);
    let long = vec![b'x'; 2000];
    let told = error_of(ask(&mut connection, &[b"MSET", b"a", b"3", b"c", b"3", &long, b"3"]));
    assert!(told.contains("the key has 2000 bytes"), "{told}");
    assert!(error_of(tell(&mut connection, "INCRBY a x")).contains("not an integer"));
    assert_eq!(all(&mut connection), ["a", "1", "b", "2"]);
    run(&mut connection, &["SW.COMMIT"]);
    assert_eq!(all(&mut connection), ["a", "1", "b", "2"]);
}

#[test]
fn a_timeout_rolls_back_and_every_command_is_told_until_the_client_ends_it() {
    let served = Served::start();
    let mut connection = served.connect();
    for end in ["SW.COMMIT", "SW.ROLLBACK"] {
        begin_and_write(&mut connection, 50);
        until("the timeout", || tell(&mut connection, "GET a").is_err());
        for line in ["GET a", "SET a 2", "SW.RANGE '' ''", "PING"] {
            let told = error_of(tell(&mut connection, line));
            assert!(told.starts_with("TIMEOUT") && told.contains("after 50 ms"), "{line}: {told}");
        }
        let ended = tell(&mut connection, end);
        assert_eq!(ended.is_err(), end == "SW.COMMIT", "{end}: {ended:?}");
        assert_eq!(tell(&mut connection, "DBSIZE").unwrap(), Value::Int(0));
    }
}

#[test]
fn a_transaction_of_an_idle_client_ends_by_itself_and_one_of_a_client_that_is_gone_at_once() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    let before = active(&mut other);
    begin_and_write(&mut one, 100);
    until("the timeout", || active(&mut other) == before);
    run(&mut one, &["SW.ROLLBACK", "SW.BEGIN TIMEOUT 60000", "SET a 1"]);
    assert!(active(&mut other) > before);
    drop(one);
    until("the end of the connection", || active(&mut other) == before);
    assert_eq!(tell(&mut other, "DBSIZE").unwrap(), Value::Int(0));
}

#[test]
fn a_readonly_transaction_sees_one_moment_and_writes_nothing() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    run(&mut one, &["SET a 1", "SW.BEGIN READONLY"]);
    run(&mut other, &["SET a 2", "SET b 2"]);
    assert_eq!(all(&mut one), ["a", "1"]);
    let told = error_of(tell(&mut one, "SET a 3"));
    assert!(told.contains("this transaction is READONLY"), "{told}");
    assert!(matches!(tell(&mut one, "SW.COMMIT").unwrap(), Value::Int(1..)));
    assert_eq!(all(&mut one), ["a", "2", "b", "2"]);
}

#[test]
fn what_cannot_run_inside_is_refused_by_name_and_ends_nothing() {
    let served = Served::start();
    let mut connection = served.connect();
    run(&mut connection, &["SW.BEGIN", "SET a 1"]);
    for line in [
        "MULTI",
        "WATCH a",
        "UNWATCH",
        "SW.SNAPSHOT",
        "SW.RELEASE",
        "SW.BEGIN",
        "SW.VERIFY",
        "SW.CHECKPOINT WAIT",
        "SW.BACKUP /nowhere",
        "SW.DURABILITY sync",
        "SAVE",
        "SHUTDOWN",
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
    ] {
        let told = error_of(tell(&mut connection, line));
        let name = line.split(' ').next().unwrap();
        assert!(told.contains(&format!("{name} inside SW.BEGIN is not allowed")), "{line}: {told}");
    }
    run(&mut connection, &["SW.COMMIT"]);
    assert_eq!(all(&mut connection), ["a", "1"]);
    for (before, after) in [("WATCH a", "UNWATCH"), ("SW.SNAPSHOT", "SW.RELEASE")] {
        run(&mut connection, &[before]);
        let told = error_of(tell(&mut connection, "SW.BEGIN"));
        assert!(told.contains("SW.BEGIN while"), "{before}: {told}");
        run(&mut connection, &[after]);
    }
    for line in ["SW.BEGIN", "SW.COMMIT", "SW.ROLLBACK"] {
        run(&mut connection, &["MULTI"]);
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains("not allowed inside a transaction"), "{line}: {told}");
        assert!(error_of(tell(&mut connection, "EXEC")).contains("EXECABORT"));
    }
}

#[test]
fn options_of_begin_are_bounded() {
    let served = Served::start();
    let mut connection = served.connect();
    let between = format!("TIMEOUT must be between 1 and {BEGUN_MS_MAX} milliseconds");
    let above = format!("SW.BEGIN TIMEOUT {}", BEGUN_MS_MAX + 1);
    for (line, expected) in [
        ("SW.BEGIN TIMEOUT", "syntax error"),
        ("SW.BEGIN WRITE", "syntax error"),
        ("SW.BEGIN TIMEOUT x", "value is not an integer or out of range"),
        ("SW.BEGIN TIMEOUT 0", &between),
        ("SW.BEGIN TIMEOUT -1", &between),
        (&above, &between),
        ("SW.COMMIT now", "wrong number of arguments for 'sw.commit' command"),
    ] {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains(expected), "{line}: {told}");
    }
    run(&mut connection, &["SW.BEGIN readonly timeout 60000", "SW.ROLLBACK"]);
}

#[test]
fn a_commit_dooms_who_watches_a_key_of_it_and_nobody_else() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    for (key, is_doomed) in [("a", true), ("b", false)] {
        run(&mut other, &[&format!("WATCH {key}")]);
        run(&mut one, &["SW.BEGIN", "SET a 1", "GET b", "SW.COMMIT"]);
        run(&mut other, &["MULTI", "PING"]);
        assert_eq!(tell(&mut other, "EXEC").unwrap() == Value::Nil, is_doomed, "{key}");
    }
}

#[test]
fn expiry_set_and_removed_inside_is_that_of_the_commit() {
    let served = Served::start();
    let mut connection = served.connect();
    run(&mut connection, &["SET a 1 EX 100", "SET b 2 EX 100", "SET c 3", "SW.BEGIN"]);
    run(&mut connection, &["PERSIST a", "SW.DELRANGE b c", "EXPIRE c 100", "SET d 4 EX 100"]);
    run(&mut connection, &["SW.COMMIT"]);
    let mut of = |line: &str| tell(&mut connection, line).unwrap();
    assert_eq!(of("TTL a"), Value::Int(-1));
    assert_eq!(of("EXISTS b"), Value::Int(0));
    for key in ["c", "d"] {
        assert!(matches!(of(&format!("TTL {key}")), Value::Int(90..=100)), "{key}");
    }
    let info = texts(of("INFO keyspace"));
    assert!(info[0].contains("db0:keys=3,expires=2,"), "{info:?}");
}

#[test]
fn more_bytes_than_a_transaction_may_write_are_an_error_and_what_was_written_stays() {
    let served = Served::start();
    let mut connection = served.connect();
    let large = vec![b'x'; OPEN_BYTES_MAX / 2 + 1];
    run(&mut connection, &["SW.BEGIN TIMEOUT 60000", "SET a 1"]);
    ask(&mut connection, &[b"SET", b"b", &large]).unwrap();
    let told = error_of(ask(&mut connection, &[b"SET", b"c", &large]));
    assert!(told.contains("has written more than 67108864 bytes"), "{told}");
    assert_eq!(texts(tell(&mut connection, "KEYS *").unwrap()), ["a", "b"]);
    run(&mut connection, &["SW.COMMIT"]);
    assert_eq!(texts(tell(&mut connection, "KEYS *").unwrap()), ["a", "b"]);
}

#[test]
fn a_commit_is_durable_when_it_is_answered_and_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    {
        let served = Served::with(|config| {
            config.dir = dir.path().join("kept");
            let long = std::time::Duration::from_secs(60);
            config.options = config.options.clone().flush_interval(long);
        });
        let mut connection = served.connect();
        run(&mut connection, &["SW.BEGIN", "MSET a 1 b 2"]);
        let Value::Int(lsn) = tell(&mut connection, "SW.COMMIT").unwrap() else { panic!("none") };
        let positions = tell(&mut connection, "SW.LSN").unwrap();
        assert_eq!(figure(positions.clone(), "commit"), Some(lsn));
        assert!(figure(positions, "durable") >= Some(lsn));
    }
    let served = Served::with(|config| config.dir = dir.path().join("kept"));
    assert_eq!(all(&mut served.connect()), ["a", "1", "b", "2"]);
}
