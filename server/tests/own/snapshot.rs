//! SW.SNAPSHOT and SW.RELEASE.

use redis::{Connection, Value};

use crate::served::{Served, error_of, until};
use crate::{figure, tell, texts};

/// What every way of reading gives.
fn look(connection: &mut Connection) -> Vec<Value> {
    [
        "GET a",
        "MGET a b c d",
        "EXISTS a b c d",
        "STRLEN b",
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
        "TYPE b",
        "SW.RANGE '' ''",
        "SW.RANGE '' '' REV LIMIT 1",
        "SW.PREFIX b",
        "SW.COUNT '' ''",
        "OBJECT ENCODING c",
        "GETRANGE b 0 1",
        "GETBIT b 1",
    ]
    .map(|line| tell(connection, line).unwrap())
    .to_vec()
}

#[test]
fn every_read_sees_the_snapshot_whatever_others_write() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    tell(&mut one, "MSET a old b word c 3").unwrap();
    let before = look(&mut one);
    let Value::Int(lsn) = tell(&mut one, "SW.SNAPSHOT").unwrap() else { panic!("no position") };
    assert_eq!(figure(tell(&mut one, "SW.LSN").unwrap(), "snapshot"), Some(lsn));
    for line in [
        "SET a new",
        "DEL b",
        "SET d 4",
        "SW.DELRANGE c d",
        "SWAPDB 0 1",
        "SET z z",
        "FLUSHDB",
        "FLUSHALL",
        "SET a newest",
    ] {
        tell(&mut other, line).unwrap();
        assert_eq!(look(&mut one), before, "behind {line}");
        let random = texts(tell(&mut one, "RANDOMKEY").unwrap());
        assert!(["a", "b", "c"].contains(&random[0].as_str()), "behind {line}: {random:?}");
    }
    assert_eq!(tell(&mut one, "SW.RELEASE").unwrap(), Value::Okay);
    assert_eq!(texts(tell(&mut one, "SW.RANGE '' ''").unwrap()), ["a", "newest"]);
    assert_eq!(figure(tell(&mut one, "SW.LSN").unwrap(), "snapshot"), None);
}

#[test]
fn a_snapshot_is_of_all_databases_at_one_moment() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    tell(&mut other, "SET a 0").unwrap();
    tell(&mut other, "SELECT 5").unwrap();
    tell(&mut other, "SET a 5").unwrap();
    tell(&mut one, "SW.SNAPSHOT").unwrap();
    tell(&mut other, "SWAPDB 0 5").unwrap();
    tell(&mut other, "FLUSHALL").unwrap();
    assert_eq!(texts(tell(&mut one, "GET a").unwrap()), ["0"]);
    tell(&mut one, "SELECT 5").unwrap();
    assert_eq!(texts(tell(&mut one, "GET a").unwrap()), ["5"]);
}

#[test]
fn other_connections_do_not_see_the_snapshot() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    tell(&mut one, "SW.SNAPSHOT").unwrap();
    tell(&mut other, "SET a 1").unwrap();
    assert_eq!(tell(&mut one, "GET a").unwrap(), Value::Nil);
    assert_eq!(texts(tell(&mut other, "GET a").unwrap()), ["1"]);
}

#[test]
fn writes_are_refused_while_a_snapshot_is_read() {
    let served = Served::start();
    let mut connection = served.connect();
    tell(&mut connection, "MSET a 1 b 2").unwrap();
    tell(&mut connection, "SW.SNAPSHOT").unwrap();
    for line in [
        "SET a 2",
        "DEL a",
        "INCR a",
        "APPEND a x",
        "GETDEL a",
        "GETEX a PERSIST",
        "EXPIRE a 100",
        "RENAME a b",
        "COPY a c",
        "MOVE a 1",
        "SETBIT a 1 1",
        "FLUSHDB",
        "FLUSHALL",
        "SWAPDB 0 1",
        "SW.CAS a 1 2",
        "SW.DELRANGE '' ''",
    ] {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains("SNAPSHOT this connection reads a snapshot"), "{line}: {told}");
    }
    tell(&mut connection, "MULTI").unwrap();
    assert_eq!(texts(tell(&mut connection, "GET a").unwrap()), ["QUEUED"]);
    assert!(error_of(tell(&mut connection, "SET a 2")).contains("SNAPSHOT"));
    assert!(error_of(tell(&mut connection, "EXEC")).contains("EXECABORT"));
    tell(&mut connection, "SW.RELEASE").unwrap();
    tell(&mut connection, "INCR a").unwrap();
    assert_eq!(texts(tell(&mut connection, "MGET a b").unwrap()), ["2", "2"]);
}

#[test]
fn exec_reads_the_snapshot_too() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    tell(&mut one, "SET a old").unwrap();
    tell(&mut one, "SW.SNAPSHOT").unwrap();
    tell(&mut other, "SET a new").unwrap();
    tell(&mut one, "MULTI").unwrap();
    tell(&mut one, "GET a").unwrap();
    tell(&mut one, "SW.COUNT '' ''").unwrap();
    let expected = Value::Array(vec![Value::BulkString(b"old".to_vec()), Value::Int(1)]);
    assert_eq!(tell(&mut one, "EXEC").unwrap(), expected);
}

#[test]
fn what_does_not_go_with_a_snapshot_is_refused_by_name() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut refused = |line: &str, expected: &str| {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains(expected), "{line}: {told}");
    };
    refused("SW.RELEASE", "SW.RELEASE without SW.SNAPSHOT");
    refused("SW.SNAPSHOT now", "wrong number of arguments for 'sw.snapshot' command");
    tell(&mut connection, "SW.SNAPSHOT").unwrap();
    let mut refused = |line: &str, expected: &str| {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains(expected), "{line}: {told}");
    };
    refused("SW.SNAPSHOT", "SW.SNAPSHOT calls can not be nested");
    refused("WATCH a", "WATCH while reading a snapshot is not allowed");
    tell(&mut connection, "SW.RELEASE").unwrap();
    tell(&mut connection, "WATCH a").unwrap();
    let told = error_of(tell(&mut connection, "SW.SNAPSHOT"));
    assert!(told.contains("SW.SNAPSHOT while keys are watched is not allowed"), "{told}");
    tell(&mut connection, "UNWATCH").unwrap();
    for line in ["SW.SNAPSHOT", "SW.RELEASE"] {
        tell(&mut connection, "MULTI").unwrap();
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains("not allowed inside a transaction"), "{line}: {told}");
        assert!(error_of(tell(&mut connection, "EXEC")).contains("EXECABORT"));
    }
}

#[test]
fn reset_and_the_end_of_the_connection_release_the_snapshot() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    let is_held = |other: &mut Connection| {
        figure(tell(other, "SW.STATS").unwrap(), "oldest_snapshot_age_us").is_some()
    };
    tell(&mut one, "SW.SNAPSHOT").unwrap();
    assert!(is_held(&mut other));
    tell(&mut other, "SET a 1").unwrap();
    assert_eq!(texts(tell(&mut one, "RESET").unwrap()), ["RESET"]);
    assert!(!is_held(&mut other));
    assert_eq!(texts(tell(&mut one, "GET a").unwrap()), ["1"]);
    tell(&mut one, "SW.SNAPSHOT").unwrap();
    assert!(is_held(&mut other));
    drop(one);
    until("the end of the connection", || !is_held(&mut other));
}

#[test]
fn time_stands_still_in_a_snapshot() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    until("a snapshot with a key that lives", || {
        tell(&mut one, "SET a value PX 50").unwrap();
        tell(&mut one, "SW.SNAPSHOT").unwrap();
        let is_there = tell(&mut one, "EXISTS a").unwrap() == Value::Int(1);
        if !is_there {
            tell(&mut one, "SW.RELEASE").unwrap();
        }
        is_there
    });
    let left = tell(&mut one, "PTTL a").unwrap();
    until("the purge", || tell(&mut other, "DBSIZE").unwrap() == Value::Int(0));
    assert_eq!(texts(tell(&mut one, "GET a").unwrap()), ["value"]);
    assert_eq!(tell(&mut one, "SW.COUNT '' ''").unwrap(), Value::Int(1));
    assert_eq!(tell(&mut one, "PTTL a").unwrap(), left);
    tell(&mut one, "SW.RELEASE").unwrap();
    assert_eq!(tell(&mut one, "GET a").unwrap(), Value::Nil);
}

#[test]
fn a_snapshot_that_was_given_up_for_memory_says_so_until_it_is_released() {
    let served = Served::start();
    let (mut one, mut other) = (served.connect(), served.connect());
    let value = vec![b'x'; 1000];
    let write_all = |other: &mut Connection| {
        let mut pipeline = redis::pipe();
        for number in 0..4000 {
            pipeline.cmd("SET").arg(number).arg(&value);
        }
        pipeline.exec(other).unwrap();
    };
    write_all(&mut other);
    tell(&mut one, "SW.SNAPSHOT").unwrap();
    until("the snapshot's end", || {
        // More than the quarter of the cache that old versions may take.
        write_all(&mut other);
        tell(&mut one, "GET 0").is_err()
    });
    for line in ["GET 0", "SW.RANGE 0 1", "DBSIZE", "SW.COUNT '' ''", "KEYS 1"] {
        let told = error_of(tell(&mut one, line));
        assert!(told.contains("TOOOLD") && told.contains("SW.RELEASE"), "{line}: {told}");
    }
    assert!(error_of(tell(&mut one, "SET a 1")).contains("SNAPSHOT"));
    tell(&mut one, "SW.RELEASE").unwrap();
    assert_eq!(tell(&mut one, "DBSIZE").unwrap(), Value::Int(4000));
}
