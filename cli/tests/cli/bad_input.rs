//! What is not right is refused, and what was refused has changed nothing.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Place, Run, argument, binary, run};

/// Commands that do not create a database, with their arguments.
const COMMANDS: [(&str, &[&str]); 12] = [
    ("get", &["k"]),
    ("scan", &[]),
    ("dump", &[]),
    ("del", &["k"]),
    ("verify", &[]),
    ("stat", &[]),
    ("page", &["1"]),
    ("recover", &["--dry-run"]),
    ("recover", &[]),
    ("checkpoint", &[]),
    ("backup", &["COPY"]),
    ("log", &[]),
];
/// Commands that do.
const CREATING: [(&str, &[&str]); 4] = [
    ("put", &["k", "v"]),
    ("load", &["-"]),
    ("bench", &["put"]),
    ("serve", &["--listen", "127.0.0.1:0"]),
];

/// Runs a command of the lists above.
fn run_command(place: &Place, command: &str, arguments: &[&str]) -> Run {
    match command {
        "log" => place.run_log("dump", arguments),
        "backup" => place.run(command, &[argument(&place.path("copy"))]),
        _ => place.run(command, arguments),
    }
}

/// A folder's files with contents and times, and the folder's own.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64)> {
    let times = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    let (seconds, nanoseconds) = times(folder);
    let mut found = BTreeMap::from([(folder.to_owned(), (Vec::new(), seconds, nanoseconds))]);
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            let (seconds, nanoseconds) = times(&path);
            let bytes = fs::read(&path).unwrap();
            found.insert(path, (bytes, seconds, nanoseconds));
        }
    }
    found
}

/// A database with a pair, shut down.
fn filled() -> Place {
    let place = Place::new();
    place.run("put", &["k", "v"]).ok();
    place
}

#[test]
fn what_no_database_can_hold_creates_none() {
    let place = Place::new();
    let (key, name) = ("k".repeat(1025), "t".repeat(256));
    for arguments in
        [&["", "v"][..], &[&key, "v"], &["k", "v", "--tree", ""], &["k", "v", "--tree", &name]]
    {
        place.run("put", arguments).failed(1);
        assert!(!place.database().exists(), "{arguments:?}");
    }
    let file = place.file("in.tsv", "k\tv\n");
    for name in ["", &name] {
        place.run("load", &[argument(&file), "--tree", name]).failed(1);
        assert!(!place.database().exists(), "{name}");
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let place = Place::new();
    let (key, name) = ("k".repeat(1024), "t".repeat(255));
    place.run("put", &[&key, "", "--tree", &name]).ok();
    assert_eq!(place.run("get", &[&key, "--tree", &name, "--raw"]).ok(), b"");
    for (key, name) in [(&"k".repeat(1025), &name), (&String::new(), &name)] {
        for command in ["get", "del"] {
            place.run(command, &[key, "--tree", name]).failed(1);
        }
    }
    for command in ["scan", "dump"] {
        place.run(command, &["--tree", &"t".repeat(256)]).failed(1);
    }
    // A bound of a range is no key.
    place.run("scan", &["--tree", &name, "--from", "", "--to", &"l".repeat(2000)]).ok();
}

#[test]
fn numbers_out_of_range_are_usage_errors() {
    let place = filled();
    let before = everything(&place.database());
    for (command, arguments) in [
        ("scan", &["--limit", "99999999999999999999"][..]),
        ("scan", &["--limit=-1"]),
        ("load", &["-", "--batch", "0"]),
        ("load", &["-", "--batch", "1048577"]),
        ("load", &["-", "--format", "xml"]),
        ("page", &["18446744073709551616"]),
        ("bench", &["--cache-mib", "0"]),
        // More than the machine has.
        ("bench", &["--cache-mib", "1048576"]),
        ("bench", &["--seconds", "0"]),
        ("bench", &["--count", "0"]),
        ("serve", &["--cache-mib", "0"]),
        ("serve", &["--cache-mib", "1048576"]),
        ("serve", &["--cache-mib", "17592186044417"]),
        ("serve", &["--threads", "0"]),
        ("load", &["-", "--tree", "seawall.load"]),
    ] {
        place.run(command, arguments).failed(2);
    }
    place.run_log("dump", &["--from", "x"]).failed(2);
    place.run("page", &["18446744073709551615"]).failed(1);
    assert!(everything(&place.database()) == before, "a refused command changed a file");
}

#[test]
fn what_does_not_create_leaves_what_is_not_there_alone() {
    let place = Place::new();
    for (command, arguments) in COMMANDS {
        let message = run_command(&place, command, arguments).failed(3);
        assert!(message.contains("is not a database: there is no such"), "{command}: {message}");
        assert!(!place.database().exists() && !place.path("copy").exists(), "{command}");
    }
}

#[test]
fn a_folder_of_another_program_is_never_touched() {
    type Fill = fn(&Path);
    let fills: [(&str, Fill); 4] = [
        ("a letter", |folder| fs::write(folder.join("letter"), "dear").unwrap()),
        ("an empty control", |folder| fs::write(folder.join("control"), "").unwrap()),
        ("a folder named control", |folder| fs::create_dir(folder.join("control")).unwrap()),
        ("a control and a LOCK", |folder| {
            fs::write(folder.join("control"), vec![b'x'; 300_000]).unwrap();
            fs::write(folder.join("LOCK"), "mine").unwrap();
        }),
    ];
    for (what, fill) in fills {
        let place = Place::new();
        fs::create_dir(place.database()).unwrap();
        fill(&place.database());
        let before = everything(&place.database());
        for (command, arguments) in COMMANDS.iter().chain(&CREATING) {
            let run = run_command(&place, command, arguments);
            assert_eq!(run.code, Some(3), "{what}, {command}: {run:?}");
            assert!(everything(&place.database()) == before, "{what}: {command} changed it");
            assert!(!place.path("copy").exists(), "{what}: {command} made a copy of it");
        }
    }
}

#[test]
fn a_database_of_a_newer_format_is_never_touched() {
    let place = filled();
    let control = OpenOptions::new().read(true).write(true).open(place.database().join("control"));
    let control = control.unwrap();
    // Magic, version, and their checksum, which are the same in every format.
    for copy in 0..4_u64 {
        let mut front = [0; 16];
        control.read_exact_at(&mut front, copy << 16).unwrap();
        front[8..12].copy_from_slice(&7_u32.to_le_bytes());
        let checksum = crc32c::crc32c(&front[..12]);
        front[12..].copy_from_slice(&checksum.to_le_bytes());
        control.write_all_at(&front, copy << 16).unwrap();
    }
    let before = everything(&place.database());
    for (command, arguments) in COMMANDS.iter().chain(&CREATING) {
        let message = run_command(&place, command, arguments).failed(1);
        assert!(message.contains("format 7"), "{command}: {message}");
        assert!(everything(&place.database()) == before, "{command} changed it");
    }
}

#[test]
fn no_command_opens_a_database_that_is_in_use() {
    let place = filled();
    let database = seawall::Database::open(place.database()).unwrap();
    for (command, arguments) in COMMANDS.iter().chain(&CREATING) {
        let message = run_command(&place, command, arguments).failed(3);
        assert!(message.contains("open elsewhere"), "{command}: {message}");
    }
    database.close().unwrap();
    assert_eq!(place.run("get", &["k"]).text(), "v\n");
}

/// Those of the commands that change nothing of a clean database.
fn reading() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let is_reading = |(command, arguments): &(&str, &[&str])| {
        !matches!(*command, "del" | "checkpoint" | "backup")
            && (*command != "recover" || !arguments.is_empty())
    };
    COMMANDS.into_iter().filter(is_reading)
}

#[test]
fn reading_a_clean_database_changes_no_byte_and_no_time() {
    let place = filled();
    let before = everything(&place.database());
    for (command, arguments) in reading() {
        run_command(&place, command, arguments).ok();
        assert!(everything(&place.database()) == before, "{command} changed a file");
    }
}

#[test]
fn a_database_without_a_lock_file_is_in_use_while_somebody_reads_it() {
    let place = filled();
    fs::remove_file(place.database().join("LOCK")).unwrap();
    let before = everything(&place.database());
    let reader = seawall::Options::new().read_only(true).open(place.database()).unwrap();
    for (command, arguments) in reading() {
        let message = run_command(&place, command, arguments).failed(3);
        assert!(message.contains("open elsewhere"), "{command}: {message}");
    }
    reader.close().unwrap();
    for (command, arguments) in reading() {
        run_command(&place, command, arguments).ok();
    }
    assert!(everything(&place.database()) == before, "a file was changed");
}

/// The lock of a killed writer is waited for, since the system gives it up late. A reader leaves the
/// writer's process id where it is; it must not be taken for a dead holder.
#[cfg(target_os = "linux")]
#[test]
fn a_reader_behind_a_dead_writer_is_not_waited_for() {
    let place = filled();
    fs::write(place.database().join("LOCK"), i32::MAX.to_string()).unwrap();
    let reader = seawall::Options::new().read_only(true).open(place.database()).unwrap();
    let started = Instant::now();
    let message = place.run("get", &["k"]).failed(3);
    assert!(message.contains("open elsewhere"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    reader.close().unwrap();
}

#[test]
fn results_that_cannot_be_written_are_a_failure() {
    let place = filled();
    for command in ["dump", "scan", "stat", "verify"] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut process = place.command(command, &[]);
        let output = process.stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("cannot write the results"), "{command}: {message}");
    }
}

#[test]
fn a_database_that_has_lost_its_control_file_is_damaged_and_can_be_salvaged() {
    let place = filled();
    let control = place.database().join("control");
    let length = usize::try_from(fs::metadata(&control).unwrap().len()).unwrap();
    let lost = [Some(vec![0; length]), Some(Vec::new()), Some(vec![b'x'; 100]), None];
    for (number, bytes) in lost.into_iter().enumerate() {
        match bytes {
            Some(bytes) => fs::write(&control, bytes).unwrap(),
            None => fs::remove_file(&control).unwrap(),
        }
        for (command, arguments) in [("get", &["k"][..]), ("put", &["k", "v"]), ("verify", &[])] {
            let message = place.run(command, arguments).failed(1);
            assert!(message.contains("--salvage"), "{command}: {message}");
        }
        let saved = place.path(&number.to_string());
        // It tells that the log is lost, which nobody can tell from another one now.
        let told = place.run("recover", &["--salvage", argument(&saved)]).failed(1);
        assert!(told.contains("lost part"), "{told}");
    }
}

#[test]
fn a_folder_that_cannot_be_looked_into_is_not_called_no_database() {
    let place = Place::new();
    let through_a_file = place.file("file", "").join("db");
    let message = run(binary().arg("get").arg(&through_a_file).arg("k")).failed(3);
    assert!(message.contains("is not a database"), "{message}");
    let too_long = place.path(&"x".repeat(300));
    let message = run(binary().arg("get").arg(&too_long).arg("k")).failed(1);
    assert!(message.contains("name too long"), "{message}");
}
