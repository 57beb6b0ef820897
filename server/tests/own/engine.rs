//! SW.LSN, SW.DURABILITY, SW.CHECKPOINT, SW.STATS, SW.VERIFY, SW.BACKUP.

use std::time::Duration;

use redis::{Connection, Value};

use crate::served::{Served, answers_to, error_of, until};
use crate::{bytes, figure, tell, texts};

fn lsn(connection: &mut Connection, name: &str) -> Option<i64> {
    figure(tell(connection, "SW.LSN").unwrap(), name)
}

/// A server that flushes nothing but what somebody waits for.
fn never_flushing(is_relaxed: bool) -> Served {
    Served::with(|config| {
        config.options = config.options.clone().flush_interval(Duration::from_secs(60));
        config.is_relaxed = is_relaxed;
    })
}

#[test]
fn an_acknowledged_commit_lies_below_the_durable_end_of_the_log() {
    let served = never_flushing(false);
    let mut connection = served.connect();
    assert_eq!(lsn(&mut connection, "commit"), Some(0));
    let mut last = 0;
    for number in 0..20 {
        tell(&mut connection, &format!("SET key {number}")).unwrap();
        let commit = lsn(&mut connection, "commit").unwrap();
        assert!(last < commit && Some(commit) <= lsn(&mut connection, "durable"));
        assert!(lsn(&mut connection, "durable") <= lsn(&mut connection, "logged"));
        tell(&mut connection, "GET key").unwrap();
        assert_eq!(lsn(&mut connection, "commit"), Some(commit), "a read is no commit");
        last = commit;
    }
    assert_eq!(lsn(&mut connection, "snapshot"), None);
    assert_eq!(lsn(&mut served.connect(), "commit"), Some(0), "it is that of the connection");
}

#[test]
fn replies_of_a_relaxed_connection_do_not_wait_for_the_flush_until_it_is_reset() {
    let served = never_flushing(false);
    let mut connection = served.connect();
    let is_durable = |connection: &mut Connection| {
        tell(connection, "SET key value").unwrap();
        lsn(connection, "commit") <= lsn(connection, "durable")
    };
    assert_eq!(tell(&mut connection, "SW.DURABILITY relaxed").unwrap(), Value::Okay);
    until("a write that is not durable", || !is_durable(&mut connection));
    for back in ["SW.DURABILITY SYNC", "RESET"] {
        tell(&mut connection, "SW.DURABILITY RELAXED").unwrap();
        tell(&mut connection, back).unwrap();
        assert!((0..20).all(|_| is_durable(&mut connection)), "{back}");
    }
    tell(&mut connection, "SW.DURABILITY relaxed").unwrap();
    assert!((0..20).all(|_| is_durable(&mut served.connect())), "another connection");
}

#[test]
fn a_connection_may_wait_for_the_flush_where_the_server_does_not() {
    let served = never_flushing(true);
    let mut connection = served.connect();
    tell(&mut connection, "SW.DURABILITY sync").unwrap();
    for number in 0..20 {
        tell(&mut connection, &format!("SET key {number}")).unwrap();
        assert!(lsn(&mut connection, "commit") <= lsn(&mut connection, "durable"));
    }
}

#[test]
fn the_engines_figures_are_told_by_name() {
    let served = Served::start();
    let mut connection = served.connect();
    let of = |connection: &mut Connection, name: &str| {
        figure(tell(connection, "SW.STATS").unwrap(), name)
    };
    let before = of(&mut connection, "commits").unwrap();
    tell(&mut connection, "SET key value").unwrap();
    assert!(of(&mut connection, "commits").unwrap() > before);
    assert_eq!(of(&mut connection, "oldest_snapshot_age_us"), None);
    for name in ["end_lsn", "cache_pages", "wal_bytes", "page_file_bytes", "estimated_recovery_us"]
    {
        assert!(of(&mut connection, name).is_some(), "{name}");
    }
    let answers = answers_to(&served, "HELLO 3\r\nSW.STATS\r\nSW.LSN\r\nQUIT\r\n");
    assert!(answers.contains("%25\r\n$7\r\nend_lsn\r\n:"), "{answers}");
    assert!(answers.contains("%4\r\n$6\r\nlogged\r\n:"), "{answers}");
    assert!(answers.ends_with("$8\r\nsnapshot\r\n_\r\n+OK\r\n"), "{answers}");
}

#[test]
fn a_checkpoint_that_is_waited_for_covers_what_was_written_before_it() {
    let served = Served::start();
    let mut connection = served.connect();
    tell(&mut connection, "SET key value").unwrap();
    let commit = lsn(&mut connection, "commit").unwrap();
    let report = tell(&mut connection, "SW.CHECKPOINT WAIT").unwrap();
    assert!(figure(report.clone(), "redo_lsn").unwrap() >= commit);
    assert!(figure(report.clone(), "end_lsn") > figure(report, "begin_lsn"));
}

#[test]
fn a_checkpoint_that_is_not_waited_for_is_taken_all_the_same() {
    let served = Served::start();
    let mut connection = served.connect();
    let count = |connection: &mut Connection| {
        figure(tell(connection, "SW.STATS").unwrap(), "checkpoints").unwrap()
    };
    let before = count(&mut connection);
    let started = tell(&mut connection, "SW.CHECKPOINT").unwrap();
    assert_eq!(texts(started), ["Checkpoint started"]);
    until("the checkpoint", || count(&mut connection) > before);
}

#[test]
fn a_sound_database_is_verified_without_findings() {
    let served = Served::start();
    let mut connection = served.connect();
    tell(&mut connection, "MSET a 1 b 2").unwrap();
    let report = tell(&mut connection, "SW.VERIFY").unwrap();
    assert!(figure(report.clone(), "pages").unwrap() > 0);
    assert!(figure(report.clone(), "trees").unwrap() > 0);
    let Value::Array(fields) = report else { panic!("no map") };
    let at = fields.iter().position(|field| *field == Value::BulkString(b"findings".to_vec()));
    assert_eq!(fields[at.unwrap() + 1], Value::Array(Vec::new()));
}

#[test]
fn a_backup_holds_what_was_acknowledged_before_it_and_can_be_served() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("copy");
    {
        let served = Served::start();
        let mut connection = served.connect();
        tell(&mut connection, "SET key before").unwrap();
        let commit = lsn(&mut connection, "commit").unwrap();
        let path = target.to_str().unwrap();
        let report = tell(&mut connection, &format!("SW.BACKUP {path}")).unwrap();
        assert!(figure(report.clone(), "lsn").unwrap() >= commit);
        assert!(figure(report, "bytes").unwrap() > 0);
        tell(&mut connection, "SET key after").unwrap();
        let again = error_of(tell(&mut connection, &format!("SW.BACKUP {path}")));
        assert!(again.contains("is not empty"), "{again}");
    }
    let copy = Served::with(|config| config.dir = target);
    assert_eq!(texts(tell(&mut copy.connect(), "GET key").unwrap()), ["before"]);
}

#[test]
fn a_backup_goes_to_an_absolute_path_outside_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let served = Served::with(|config| config.dir.clone_from(&path));
    let mut connection = served.connect();
    for target in ["copy", "./copy", "''"] {
        let told = error_of(tell(&mut connection, &format!("SW.BACKUP {target}")));
        assert!(told.contains("must be an absolute path"), "{target}: {told}");
    }
    let inside = path.join("copy");
    let told = error_of(tell(&mut connection, &format!("SW.BACKUP {}", inside.display())));
    assert!(told.contains("lies in the database"), "{told}");
    assert_eq!(texts(tell(&mut connection, "PING").unwrap()), ["PONG"]);
}

/// Some megabytes, so that a look at all of it takes a while.
fn fill(connection: &mut Connection) {
    let value = vec![b'x'; 1000];
    for batch in 0..20 {
        let mut pipeline = redis::pipe();
        for number in 0..500 {
            pipeline.cmd("SET").arg(format!("{batch}:{number}")).arg(&value);
        }
        pipeline.exec(connection).unwrap();
    }
}

/// Two connections of one thread ask for the same, which takes long, until one is refused: that can only
/// be where both were served at the same time.
fn meets_itself(command: &str, refusal: &str) {
    let served = Served::with(|config| config.threads = 1);
    let (mut one, mut other) = (served.connect(), served.connect());
    fill(&mut one);
    until("to be served while another connection works", || {
        one.send_packed_command(&redis::cmd(command).get_packed_command()).unwrap();
        let asked = tell(&mut other, command);
        let told = one.recv_response().and_then(Value::extract_error);
        let is_done = |value: &Value| matches!(value, Value::Array(_) | Value::Okay);
        match (told, asked) {
            (Ok(done), Err(error)) | (Err(error), Ok(done)) if is_done(&done) => {
                let told = error_of::<Value>(Err(error));
                assert!(told.contains(refusal), "{told}");
                true
            }
            (Ok(one), Ok(other)) if is_done(&one) && is_done(&other) => false,
            neither => panic!("{neither:?}"),
        }
    });
}

#[test]
fn while_one_verifies_others_of_the_same_thread_are_served_and_a_second_one_is_refused() {
    meets_itself("SW.VERIFY", "a verification is under way already");
}

#[test]
fn while_one_saves_others_of_the_same_thread_are_served_and_a_second_one_is_refused() {
    meets_itself("SAVE", "already in progress");
}

#[test]
fn replies_keep_their_order_around_one_that_takes_long() {
    let served = Served::start();
    let mut connection = served.connect();
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg("key").arg(1).cmd("SW.CHECKPOINT").arg("WAIT").cmd("INCR").arg("key");
    pipeline.cmd("SW.VERIFY").cmd("GET").arg("key");
    let replies: Vec<Value> = pipeline.query(&mut connection).unwrap();
    assert_eq!(replies[0], Value::Okay);
    assert!(figure(replies[1].clone(), "redo_lsn").is_some());
    assert_eq!(replies[2], Value::Int(2));
    assert!(figure(replies[3].clone(), "pages").is_some());
    assert_eq!(bytes(replies[4].clone()), [b"2"]);
}

#[test]
fn a_reply_that_takes_long_is_skipped_where_the_client_wants_none() {
    let served = Served::start();
    let skip = "CLIENT REPLY SKIP\r\nSW.CHECKPOINT WAIT\r\nECHO seen\r\nQUIT\r\n";
    assert_eq!(answers_to(&served, skip), "$4\r\nseen\r\n+OK\r\n");
    let off = "CLIENT REPLY OFF\r\nSW.VERIFY\r\nCLIENT REPLY ON\r\nQUIT\r\n";
    assert_eq!(answers_to(&served, off), "+OK\r\n+OK\r\n");
}

#[test]
fn what_takes_long_is_not_queued_and_wrong_words_are_refused() {
    let served = Served::start();
    let mut connection = served.connect();
    for (line, expected) in [
        ("SW.DURABILITY", "wrong number of arguments for 'sw.durability' command"),
        ("SW.DURABILITY maybe", "syntax error"),
        ("SW.CHECKPOINT NOW", "syntax error"),
        ("SW.CHECKPOINT WAIT WAIT", "syntax error"),
        ("SW.LSN 1", "wrong number of arguments for 'sw.lsn' command"),
        ("SW.BACKUP", "wrong number of arguments for 'sw.backup' command"),
    ] {
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains(expected), "{line}: {told}");
    }
    tell(&mut connection, "MULTI").unwrap();
    assert_eq!(texts(tell(&mut connection, "SW.LSN").unwrap()), ["QUEUED"]);
    assert_eq!(texts(tell(&mut connection, "SW.STATS").unwrap()), ["QUEUED"]);
    let Value::Array(replies) = tell(&mut connection, "EXEC").unwrap() else { panic!("no array") };
    assert!(figure(replies[0].clone(), "durable").is_some());
    assert!(figure(replies[1].clone(), "commits").is_some());
    for line in ["SW.VERIFY", "SW.CHECKPOINT", "SW.BACKUP /nowhere", "SW.DURABILITY sync"] {
        tell(&mut connection, "MULTI").unwrap();
        let told = error_of(tell(&mut connection, line));
        assert!(told.contains("not allowed inside a transaction"), "{line}: {told}");
        assert!(error_of(tell(&mut connection, "EXEC")).contains("EXECABORT"), "{line}");
    }
}
