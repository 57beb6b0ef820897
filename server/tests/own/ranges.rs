//! SW.RANGE, SW.PREFIX, SW.COUNT, SW.DELRANGE, SW.CAS.

use redis::{Connection, Value};
use seawall_server::limits::{RANGE_KEYS_DEFAULT, RANGE_KEYS_MAX, RANGE_REPLY_BYTES_MAX};

use crate::served::{Served, answers_to, error_of, until};
use crate::{ask, bytes, tell, texts};

/// A server and a connection with these keys, each its own value.
fn with_keys(keys: &[&[u8]]) -> (Served, Connection) {
    let served = Served::start();
    let mut connection = served.connect();
    for key in keys {
        ask(&mut connection, &[b"SET", *key, *key]).unwrap();
    }
    (served, connection)
}

fn with_letters() -> (Served, Connection) {
    with_keys(&[b"a", b"b", b"c", b"d"])
}

#[test]
fn a_range_holds_its_start_and_not_its_end() {
    let (_served, mut connection) = with_letters();
    let mut of = |line: &str| texts(tell(&mut connection, line).unwrap());
    assert_eq!(of("SW.RANGE b d"), ["b", "b", "c", "c"]);
    assert_eq!(of("SW.RANGE b d KEYS"), ["b", "c"]);
    assert_eq!(of("SW.RANGE aa cc keys"), ["b", "c"]);
    assert_eq!(of("SW.RANGE b d REV KEYS"), ["c", "b"]);
}

#[test]
fn an_empty_bound_is_open_and_every_other_key_can_be_a_bound() {
    let keys: [&[u8]; 9] =
        [b"", b"\0", b"\0\0", b"\x01", b"+", b"-", b"a\0\r\n", b"\xff", b"\xff\xff"];
    let (_served, mut connection) = with_keys(&keys);
    for (from, &start) in keys.iter().enumerate() {
        let open = ask(&mut connection, &[b"SW.RANGE", start, b"", b"KEYS"]).unwrap();
        assert_eq!(bytes(open), keys[from..], "from {start:?}");
        for (upto, &end) in keys.iter().enumerate().skip(1) {
            let expected = keys.get(from..upto).unwrap_or_default();
            let found = ask(&mut connection, &[b"SW.RANGE", start, end, b"KEYS"]).unwrap();
            assert_eq!(bytes(found), expected, "{start:?} to {end:?}");
            let count = ask(&mut connection, &[b"SW.COUNT", start, end]).unwrap();
            assert_eq!(count, Value::Int(i64::try_from(expected.len()).unwrap()));
        }
    }
}

#[test]
fn a_bound_may_be_longer_than_any_key() {
    let (_served, mut connection) = with_letters();
    let long = [b"b".to_vec(), vec![0; 5000]].concat();
    let found = ask(&mut connection, &[b"SW.RANGE", &long, b"", b"KEYS"]).unwrap();
    assert_eq!(texts(found), ["c", "d"]);
    let found = ask(&mut connection, &[b"SW.RANGE", b"", &long, b"KEYS"]).unwrap();
    assert_eq!(texts(found), ["a", "b"]);
}

#[test]
fn an_empty_or_inverted_range_has_no_keys() {
    let (_served, mut connection) = with_letters();
    for bounds in ["b b", "c b", "bb bc", "e ''"] {
        let listed = tell(&mut connection, &format!("SW.RANGE {bounds}")).unwrap();
        assert_eq!(listed, Value::Array(Vec::new()), "{bounds}");
        for command in ["SW.COUNT", "SW.DELRANGE"] {
            let count = tell(&mut connection, &format!("{command} {bounds}")).unwrap();
            assert_eq!(count, Value::Int(0), "{command} {bounds}");
        }
    }
    assert_eq!(tell(&mut connection, "DBSIZE").unwrap(), Value::Int(4));
}

#[test]
fn a_prefix_holds_what_begins_with_it_whatever_its_bytes() {
    let keys: [&[u8]; 8] = [b"", b"\0", b"\0a", b"a", b"a\0", b"a\xff\xff", b"b", b"\xff\xff\x01"];
    let (_served, mut connection) = with_keys(&keys);
    for prefix in [&b""[..], b"\0", b"a", b"a\xff", b"b", b"\xff", b"\xff\xff", b"c"] {
        let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        let found = ask(&mut connection, &[b"SW.PREFIX", prefix, b"KEYS"]).unwrap();
        assert_eq!(bytes(found), expected.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
    }
    let last = ask(&mut connection, &[b"SW.PREFIX", b"a", b"LIMIT", b"1", b"REV"]).unwrap();
    assert_eq!(bytes(last), [b"a\xff\xff", b"a\xff\xff"]);
}

#[test]
fn a_limit_counts_from_the_end_that_is_read_first() {
    let (_served, mut connection) = with_letters();
    let mut of = |line: &str| texts(tell(&mut connection, line).unwrap());
    assert_eq!(of("SW.RANGE '' '' LIMIT 2 KEYS"), ["a", "b"]);
    assert_eq!(of("SW.RANGE '' '' KEYS REV LIMIT 2"), ["d", "c"]);
    assert_eq!(of("SW.RANGE '' '' LIMIT 9 KEYS").len(), 4);
    assert_eq!(of("SW.RANGE '' '' LIMIT 0"), [""; 0]);
}

#[test]
fn pages_of_a_range_meet_every_key_once_in_either_direction() {
    let (_served, mut connection) = with_keys(&[b"a", b"a\0", b"a\0\0", b"b", b"c", b"c\0", b"d"]);
    let all = bytes(tell(&mut connection, "SW.RANGE '' '' KEYS").unwrap());
    assert_eq!(all.len(), 7);
    let mut page = |start: &[u8], end: &[u8], options: &[&[u8]]| {
        let words: [&[u8]; 6] = [b"SW.RANGE", start, end, b"LIMIT", b"2", b"KEYS"];
        let words = [&words[..], options].concat();
        bytes(ask(&mut connection, &words).unwrap())
    };
    let (mut forward, mut start) = (Vec::new(), Vec::new());
    loop {
        let found = page(&start, b"", &[]);
        let Some(last) = found.last() else { break };
        // Behind the last key: the same with a zero byte.
        start = [last, &b"\0"[..]].concat();
        forward.extend(found);
    }
    assert_eq!(forward, all);
    let (mut backward, mut end) = (Vec::new(), Vec::new());
    loop {
        let found = page(b"", &end, &[b"REV"]);
        let Some(last) = found.last() else { break };
        end.clone_from(last);
        backward.extend(found);
        if end == all[0] {
            break;
        }
    }
    backward.reverse();
    assert_eq!(backward, all);
}

#[test]
fn without_a_limit_too_many_keys_are_an_error_and_not_cut() {
    let (_served, mut connection) = with_letters();
    for numbers in (0..=RANGE_KEYS_DEFAULT).collect::<Vec<_>>().chunks(1000) {
        let mut mset = redis::cmd("MSET");
        for number in numbers {
            mset.arg(format!("n{number:05}")).arg("");
        }
        mset.exec(&mut connection).unwrap();
    }
    let told = error_of(tell(&mut connection, "SW.PREFIX n KEYS"));
    assert!(told.contains("more than 10000 keys: give a LIMIT"), "{told}");
    let most = texts(tell(&mut connection, "SW.RANGE n n10000 KEYS").unwrap());
    assert_eq!((most.len(), most[9999].as_str()), (RANGE_KEYS_DEFAULT, "n09999"));
    let limited = tell(&mut connection, "SW.PREFIX n LIMIT 10001 KEYS").unwrap();
    assert_eq!(texts(limited).len(), RANGE_KEYS_DEFAULT + 1);
}

#[test]
fn a_reply_beyond_its_bytes_is_an_error_and_a_single_key_always_fits() {
    let (_served, mut connection) = with_letters();
    let large = vec![b'x'; RANGE_REPLY_BYTES_MAX];
    ask(&mut connection, &[b"SET", b"b", &large]).unwrap();
    let told = error_of(tell(&mut connection, "SW.RANGE a c"));
    assert!(told.contains("more than 67108864 bytes: give a LIMIT below 2"), "{told}");
    assert_eq!(texts(tell(&mut connection, "SW.RANGE a c LIMIT 1").unwrap()), ["a", "a"]);
    assert_eq!(bytes(tell(&mut connection, "SW.RANGE b c").unwrap()), [b"b".to_vec(), large]);
    assert_eq!(texts(tell(&mut connection, "SW.RANGE a c KEYS").unwrap()), ["a", "b"]);
}

#[test]
fn a_key_that_has_expired_and_is_not_purged_yet_is_in_no_range_and_no_count() {
    let (_served, mut connection) = with_keys(&[b"stays"]);
    until("to see a key between its expiry and its purge", || {
        tell(&mut connection, "SET goes x PX 1").unwrap();
        until("expiry", || tell(&mut connection, "GET goes").unwrap() == Value::Nil);
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("DBSIZE").cmd("SW.COUNT").arg("").arg("");
        pipeline.cmd("SW.RANGE").arg("").arg("").arg("KEYS");
        pipeline.cmd("SW.DELRANGE").arg("g").arg("h").cmd("DBSIZE");
        let (before, count, keys, deleted, after): (i64, i64, Vec<String>, i64, i64) =
            pipeline.query(&mut connection).unwrap();
        assert_eq!((count, keys, deleted, after), (1, vec!["stays".into()], 0, 1));
        before == 2
    });
}

#[test]
fn a_deleted_range_takes_its_rows_of_the_time_index_along() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut pipeline = redis::pipe();
    for number in 0..700 {
        pipeline.cmd("SET").arg(format!("n{number:03}")).arg(number);
        if number % 7 != 0 {
            pipeline.arg("EX").arg(1000 + number);
        }
    }
    pipeline.exec(&mut connection).unwrap();
    assert_eq!(tell(&mut connection, "SW.COUNT n010 n690").unwrap(), Value::Int(680));
    assert_eq!(tell(&mut connection, "SW.DELRANGE n010 n690").unwrap(), Value::Int(680));
    assert_eq!(tell(&mut connection, "SW.COUNT '' ''").unwrap(), Value::Int(20));
    let left = texts(tell(&mut connection, "SW.RANGE n009 n691 KEYS").unwrap());
    assert_eq!(left, ["n009", "n690"]);
    // Of ten keys at either end those stay without expiry: n000 and n007, n693.
    let info: String = redis::cmd("INFO").arg("keyspace").query(&mut connection).unwrap();
    assert!(info.contains("db0:keys=20,expires=17,"), "{info}");
}

#[test]
fn a_deleted_range_is_deleted_after_a_restart_and_others_are_there() {
    let dir = tempfile::tempdir().unwrap();
    {
        let served = Served::with(|config| config.dir = dir.path().join("kept"));
        let mut connection = served.connect();
        tell(&mut connection, "MSET a 1 b 2 c 3").unwrap();
        assert_eq!(tell(&mut connection, "SW.DELRANGE b c").unwrap(), Value::Int(1));
    }
    let served = Served::with(|config| config.dir = dir.path().join("kept"));
    let mut connection = served.connect();
    assert_eq!(texts(tell(&mut connection, "SW.RANGE '' '' KEYS").unwrap()), ["a", "c"]);
}

#[test]
fn a_deleted_range_dooms_who_watches_a_key_in_it_and_nobody_else() {
    let (served, mut connection) = with_letters();
    for (key, is_doomed) in [("b", true), ("d", false), ("bb", false)] {
        tell(&mut connection, &format!("WATCH {key}")).unwrap();
        assert_eq!(tell(&mut served.connect(), "SW.DELRANGE b d").unwrap(), Value::Int(2));
        tell(&mut connection, "MULTI").unwrap();
        tell(&mut connection, "MSET b b c c").unwrap();
        assert_eq!(tell(&mut connection, "EXEC").unwrap() == Value::Nil, is_doomed, "{key}");
        tell(&mut connection, "MSET b b c c").unwrap();
    }
}

#[test]
fn ranges_are_those_of_the_selected_database() {
    let (_served, mut connection) = with_letters();
    tell(&mut connection, "SELECT 3").unwrap();
    assert_eq!(tell(&mut connection, "SW.COUNT '' ''").unwrap(), Value::Int(0));
    tell(&mut connection, "SET z z").unwrap();
    assert_eq!(tell(&mut connection, "SW.DELRANGE '' ''").unwrap(), Value::Int(1));
    tell(&mut connection, "SELECT 0").unwrap();
    assert_eq!(tell(&mut connection, "SW.COUNT '' ''").unwrap(), Value::Int(4));
}

#[test]
fn a_value_is_swapped_only_for_the_one_that_is_named_and_keeps_its_expiry() {
    let served = Served::start();
    let mut connection = served.connect();
    assert_eq!(tell(&mut connection, "SW.CAS key '' new").unwrap(), Value::Int(0));
    assert_eq!(tell(&mut connection, "EXISTS key").unwrap(), Value::Int(0));
    tell(&mut connection, "SET key old EX 100").unwrap();
    for (old, is_swapped) in [("ol", 0), ("old2", 0), ("OLD", 0), ("old", 1), ("old", 0)] {
        let swapped = tell(&mut connection, &format!("SW.CAS key {old} new")).unwrap();
        assert_eq!(swapped, Value::Int(is_swapped), "{old}");
    }
    assert_eq!(texts(tell(&mut connection, "GET key").unwrap()), ["new"]);
    let Value::Int(left) = tell(&mut connection, "TTL key").unwrap() else { panic!("no number") };
    assert!((90..=100).contains(&left));
    let zeros = [0, b'\r', b'\n', 0xff];
    ask(&mut connection, &[b"SW.CAS", b"key", b"new", &zeros]).unwrap();
    assert_eq!(bytes(tell(&mut connection, "GET key").unwrap()), [zeros]);
}

#[test]
fn increments_by_swapping_are_not_lost_between_connections() {
    let served = Served::start();
    let mut reader = served.connect();
    tell(&mut reader, "SET count 0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = served.client.get_connection().unwrap();
                let mut done = 0;
                while done < 50 {
                    let old: i64 = redis::cmd("GET").arg("count").query(&mut connection).unwrap();
                    let mut swap = redis::cmd("SW.CAS");
                    swap.arg("count").arg(old).arg(old + 1);
                    done += swap.query::<i64>(&mut connection).unwrap();
                }
            });
        }
    });
    assert_eq!(texts(tell(&mut reader, "GET count").unwrap()), ["200"]);
}

#[test]
fn a_swap_dooms_who_watches_the_key_only_where_it_took_place() {
    let (served, mut connection) = with_letters();
    for (old, is_doomed) in [("other", false), ("a", true)] {
        tell(&mut connection, "WATCH a").unwrap();
        tell(&mut served.connect(), &format!("SW.CAS a {old} a")).unwrap();
        tell(&mut connection, "MULTI").unwrap();
        tell(&mut connection, "PING").unwrap();
        assert_eq!(tell(&mut connection, "EXEC").unwrap() == Value::Nil, is_doomed, "{old}");
    }
}

#[test]
fn between_multi_and_exec_ranges_see_what_was_done_before_them() {
    let (_served, mut connection) = with_letters();
    let lines = [
        "SET bb new EX 100",
        "DEL c",
        "SW.RANGE b d",
        "SW.CAS bb new newer",
        "SW.DELRANGE a bb",
        "SW.COUNT '' ''",
        "SW.PREFIX b REV",
        "SW.DELRANGE b c",
        "SW.RANGE '' '' KEYS",
    ];
    tell(&mut connection, "MULTI").unwrap();
    for line in lines {
        assert_eq!(texts(tell(&mut connection, line).unwrap()), ["QUEUED"]);
    }
    let Value::Array(replies) = tell(&mut connection, "EXEC").unwrap() else { panic!("no array") };
    assert_eq!(texts(replies[2].clone()), ["b", "b", "bb", "new"]);
    assert_eq!(replies[3..6], [Value::Int(1), Value::Int(2), Value::Int(2)]);
    assert_eq!(texts(replies[6].clone()), ["bb", "newer"]);
    assert_eq!(replies[7], Value::Int(1));
    assert_eq!(texts(replies[8].clone()), ["d"]);
    assert_eq!(texts(tell(&mut connection, "KEYS *").unwrap()), ["d"]);
}

#[test]
fn an_exec_that_is_undone_undoes_deleted_ranges() {
    let (_served, mut connection) = with_letters();
    tell(&mut connection, "CONFIG SET exec-rollback yes").unwrap();
    tell(&mut connection, "MULTI").unwrap();
    for line in ["SW.DELRANGE '' ''", "SET a word", "INCR a"] {
        tell(&mut connection, line).unwrap();
    }
    assert!(error_of(tell(&mut connection, "EXEC")).contains("EXECABORT"));
    assert_eq!(texts(tell(&mut connection, "SW.RANGE '' '' KEYS").unwrap()), ["a", "b", "c", "d"]);
}

#[test]
fn what_is_wrong_with_a_range_is_said_as_redis_does() {
    let (_served, mut connection) = with_letters();
    let most = format!("LIMIT can't be greater than {RANGE_KEYS_MAX}");
    let above = format!("SW.RANGE a b LIMIT {}", RANGE_KEYS_MAX + 1);
    for (line, expected) in [
        ("SW.RANGE a", "wrong number of arguments for 'sw.range' command"),
        ("SW.PREFIX", "wrong number of arguments for 'sw.prefix' command"),
        ("SW.COUNT a", "wrong number of arguments for 'sw.count' command"),
        ("SW.COUNT a b c", "wrong number of arguments for 'sw.count' command"),
        ("SW.DELRANGE a b c", "wrong number of arguments for 'sw.delrange' command"),
        ("SW.CAS a b", "wrong number of arguments for 'sw.cas' command"),
        ("SW.RANGE a b c", "syntax error"),
        ("SW.RANGE a b LIMIT", "syntax error"),
        ("SW.RANGE a b KEYS VALUES", "syntax error"),
        ("SW.PREFIX a b", "syntax error"),
        ("SW.RANGE a b LIMIT x", "value is not an integer or out of range"),
        ("SW.RANGE a b LIMIT 1.5", "value is not an integer or out of range"),
        ("SW.RANGE a b LIMIT -1", "LIMIT can't be negative"),
        (&above, &most),
    ] {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains(expected), "{line}: {told}");
    }
    assert_eq!(tell(&mut connection, "DBSIZE").unwrap(), Value::Int(4));
}

#[test]
fn a_key_of_another_type_has_no_value_to_tell_and_is_a_key_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kept");
    {
        let served = Served::with(|config| config.dir.clone_from(&path));
        tell(&mut served.connect(), "MSET a a z z").unwrap();
    }
    // A hash, whose commands this server has not: its version, and no members.
    let database = seawall::Database::open(&path).unwrap();
    database.tree("redis.keys.0").unwrap().insert("hash", [&[4][..], &[0; 16]].concat()).unwrap();
    database.close().unwrap();
    let served = Served::with(|config| config.dir.clone_from(&path));
    let mut connection = served.connect();
    assert_eq!(texts(tell(&mut connection, "TYPE hash").unwrap()), ["hash"]);
    for line in ["SW.RANGE '' ''", "SW.PREFIX h", "SW.CAS hash a b"] {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains("WRONGTYPE"), "{line}: {told}");
    }
    let keys = texts(tell(&mut connection, "SW.RANGE '' '' KEYS").unwrap());
    assert_eq!(keys, ["a", "hash", "z"]);
    assert_eq!(tell(&mut connection, "SW.COUNT '' ''").unwrap(), Value::Int(3));
    assert_eq!(tell(&mut connection, "SW.DELRANGE b y").unwrap(), Value::Int(1));
}

#[test]
fn pairs_are_flat_in_resp2_and_arrays_in_resp3() {
    let (served, _connection) = with_keys(&[b"a", b"b"]);
    let both = "SW.RANGE a \"\"\r\nSW.PREFIX a KEYS\r\nSW.RANGE b a\r\nQUIT\r\n";
    let (a, b) = ("$1\r\na\r\n$1\r\na\r\n", "$1\r\nb\r\n$1\r\nb\r\n");
    let rest = "*1\r\n$1\r\na\r\n*0\r\n+OK\r\n";
    assert_eq!(answers_to(&served, both), format!("*4\r\n{a}{b}{rest}"));
    let answers = answers_to(&served, &format!("HELLO 3\r\n{both}"));
    let expected = format!("*2\r\n*2\r\n{a}*2\r\n{b}{rest}");
    assert!(answers.starts_with('%') && answers.ends_with(&expected), "{answers}");
}

#[test]
fn command_tells_of_them_with_arity_flags_and_keys() {
    let served = Served::start();
    let mut connection = served.connect();
    for (name, arity, keys, flag) in [
        ("sw.backup", 2, [0, 0, 0], "admin"),
        ("sw.begin", -1, [0, 0, 0], "no_multi"),
        ("sw.cas", 4, [1, 1, 1], "write"),
        ("sw.checkpoint", -1, [0, 0, 0], "no_multi"),
        ("sw.commit", 1, [0, 0, 0], "no_multi"),
        ("sw.count", 3, [0, 0, 0], "readonly"),
        ("sw.delrange", 3, [0, 0, 0], "write"),
        ("sw.durability", 2, [0, 0, 0], "no_multi"),
        ("sw.lsn", 1, [0, 0, 0], "fast"),
        ("sw.prefix", -2, [0, 0, 0], "readonly"),
        ("sw.range", -3, [0, 0, 0], "readonly"),
        ("sw.release", 1, [0, 0, 0], "no_multi"),
        ("sw.rollback", 1, [0, 0, 0], "no_multi"),
        ("sw.snapshot", 1, [0, 0, 0], "no_multi"),
        ("sw.stats", 1, [0, 0, 0], "fast"),
        ("sw.verify", 1, [0, 0, 0], "admin"),
    ] {
        let told = tell(&mut connection, &format!("COMMAND INFO {name}")).unwrap();
        let Value::Array(told) = told else { panic!("no array") };
        let Value::Array(told) = &told[0] else { panic!("{name} is not known") };
        assert_eq!(texts(told[0].clone()), [name]);
        assert_eq!(told[1], Value::Int(arity), "{name}");
        assert!(texts(told[2].clone()).iter().any(|of| of == flag), "{name}: {told:?}");
        assert_eq!(told[3..6], keys.map(Value::Int), "{name}");
        assert!(texts(told[6].clone()).iter().any(|of| of == "@seawall"), "{name}: {told:?}");
        let docs = tell(&mut connection, &format!("COMMAND DOCS {name}")).unwrap();
        assert!(texts(docs).iter().any(|text| text == "seawall"), "{name}");
    }
    let keys = tell(&mut connection, "COMMAND GETKEYS SW.CAS key old new").unwrap();
    assert_eq!(texts(keys), ["key"]);
    let listed = tell(&mut connection, "COMMAND LIST FILTERBY PATTERN SW.*").unwrap();
    assert_eq!(texts(listed).len(), 16);
}
