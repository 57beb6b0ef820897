//! The kill loop: real processes on a real directory, killed at random, or by a power cut of the file
//! system that the directory lies on.
//!
//! A child writes with several threads and acknowledges each durable operation by a line on its
//! standard output; the parent kills it, opens the database, and checks. Each thread numbers its
//! operations, and operation `n` leaves the key `n` of the thread with a value that follows from
//! both. A thread's operations commit in their order, so what is there of a thread must be a prefix,
//! at least as long as what it has acknowledged (R3):
//!
//! | `n % 8` | operation |
//! |---|---|
//! | 0 to 2 | synchronous auto-commit insert |
//! | 3 | relaxed auto-commit insert |
//! | 4 | transaction: the key, and the same in the second tree |
//! | 5 | transaction: the key, and the key `n - 5` is removed |
//! | 6 | insert of a value with pages of its own |
//! | 7 | relaxed transaction: the key, and the same in the second tree |

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use seawall::{Database, DiskKind, Durability, Options, Snapshot, TransactionOptions, Tree};
use seawall_wal::disk::BlockingDisk;

use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::file_system::LoopMount;
use crate::log_space::check_bound;
use crate::random::Random;

/// Threads that write in the child.
pub const THREADS: u64 = 4;
/// Set in a child, to the directory of the database.
const CHILD_DIR: &str = "SEAWALL_KILL_DIR";
/// Set in a child, to the disk's name.
const CHILD_DISK: &str = "SEAWALL_KILL_DISK";
/// Set in a child that is to find no memory, to the number of the allocation that fails.
pub const CHILD_ALLOCATION: &str = "SEAWALL_KILL_ALLOCATION";
/// Longest time that a child which is to find no memory may take.
const NO_MEMORY: Duration = Duration::from_secs(2);
/// Longest time between the first operation of a child and its end.
const LIFE_MS: u64 = 160;
/// How long a child may take until it writes.
const START: Duration = Duration::from_secs(30);
/// Operations of the first thread between two checkpoints.
const CHECKPOINT_EVERY: u64 = 200;

/// Bound of the log, which holds at every moment.
const MAX_WAL_BYTES: u64 = 16 << 20;

/// The options of child and parent.
#[must_use]
pub fn options(disk: DiskKind) -> Options {
    Options::new().disk(disk).cache_bytes(2 << 20).max_wal_bytes(MAX_WAL_BYTES)
}

fn key(thread: u64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&thread.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn value(thread: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(thread << 40 | number);
    let length = if number % 8 == 6 { 9000 } else { random.below_usize(300) };
    (0..length).map(|_| random.next().to_le_bytes()[0]).collect()
}

/// Where a thread goes on: behind the last key it has.
fn next_number(snapshot: &Snapshot, tree: &Tree, thread: u64) -> Outcome<u64> {
    let prefix = thread.to_be_bytes();
    let Some(pair) = snapshot.prefix(tree, prefix)?.next_back() else { return Ok(0) };
    let bytes = pair?.0[8..].try_into();
    let bytes = bytes.map_err(|_| Failure::new("a key that nobody wrote"))?;
    Ok(u64::from_be_bytes(bytes) + 1)
}

fn tell(line: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    let told = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    told.map_err(|error| Failure::new(format!("standard output: {error}")))
}

/// What a child test does: it writes where the kill loop has started it, and nothing elsewhere.
///
/// # Panics
/// When something goes wrong; then the parent fails as well.
pub fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let disk = match std::env::var(CHILD_DISK).as_deref() {
        Ok("auto") => DiskKind::Auto,
        Ok("uring") => DiskKind::Uring,
        _ => DiskKind::Blocking,
    };
    write_for_ever(Path::new(&dir), disk).unwrap_or_else(|why| panic!("{why}"));
}

/// The child: writes until it is killed.
///
/// # Errors
/// Whatever goes wrong; then the parent fails as well.
fn write_for_ever(dir: &Path, disk: DiskKind) -> Outcome {
    let database = options(disk).open(dir)?;
    let (first, second) = (database.tree("first")?, database.tree("second")?);
    std::thread::scope(|scope| {
        let snapshot = database.snapshot()?;
        let mut writers = Vec::new();
        for thread in 0..THREADS {
            let from = next_number(&snapshot, &first, thread)?;
            tell(&format!("\nresumed {thread} {from}\n"))?;
            let (database, first, second) = (&database, &first, &second);
            writers.push(scope.spawn(move || {
                for number in from.. {
                    write(database, first, second, thread, number)?;
                    if thread == 0 && number % CHECKPOINT_EVERY == 0 {
                        database.checkpoint()?;
                    }
                }
                Ok(())
            }));
        }
        drop(snapshot);
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().map_err(|_| Failure::new("a writer panicked"))?)
    })
}

/// One operation of a thread, and its acknowledgement.
fn write(database: &Database, first: &Tree, second: &Tree, thread: u64, number: u64) -> Outcome {
    if operate(database, first, second, thread, number)? == Durability::Sync {
        tell(&format!("done {thread} {number}\n"))?;
    }
    Ok(())
}

/// Does one operation of a thread, and says how durable it is on return.
///
/// # Errors
/// Those of the database.
pub fn operate(
    database: &Database,
    first: &Tree,
    second: &Tree,
    thread: u64,
    number: u64,
) -> Outcome<Durability> {
    let (key_of, value) = (key(thread, number), value(thread, number));
    let durability =
        if matches!(number % 8, 3 | 7) { Durability::Relaxed } else { Durability::Sync };
    match number % 8 {
        4 | 5 | 7 => {
            let options = TransactionOptions::new().durability(durability);
            database.transact_with(options, |transaction| -> seawall::Result<()> {
                transaction.insert(first, key_of, &value)?;
                if number % 8 == 5 {
                    transaction.remove(first, key(thread, number - 5))?;
                } else {
                    transaction.insert(second, key_of, &value)?;
                }
                Ok(())
            })?;
        }
        _ => first.insert_with(key_of, &value, durability)?,
    }
    Ok(durability)
}

/// Compares all of the database with what it may contain: of each thread a prefix of its operations, and
/// no fewer than it is owed.
///
/// # Errors
/// When something that was acknowledged is missing, or half of something is there.
pub fn check_contents(database: &Database, owed: &BTreeMap<u64, u64>) -> Outcome {
    let (first, second) = (database.tree("first")?, database.tree("second")?);
    let snapshot = database.snapshot()?;
    for thread in 0..THREADS {
        let next = next_number(&snapshot, &first, thread)?;
        let owed = owed.get(&thread).copied().unwrap_or_default();
        ensure!(next >= owed, "thread {thread} has {next} operations, owed {owed}");
        for number in 0..next {
            let found = snapshot.get(&first, key(thread, number))?;
            let is_removed = number % 8 == 0 && number + 5 < next;
            let expected = (!is_removed).then(|| value(thread, number));
            let is_right = found.as_deref() == expected.as_deref();
            ensure!(is_right, "thread {thread}, operation {number} of {next} is wrong");
            let in_second = snapshot.get(&second, key(thread, number))?;
            let expected = expected.filter(|_| matches!(number % 8, 4 | 7));
            let is_whole = in_second.as_deref() == expected.as_deref();
            ensure!(is_whole, "thread {thread}, operation {number} of {next} is half there");
        }
    }
    let len = snapshot.len(&first)?;
    let count = snapshot.range(&first, ..)?.count();
    ensure!(u64::try_from(count) == Ok(len), "len is {len}, a scan gives {count}");
    Ok(())
}

/// The whole lines of a child, up to its end.
fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while stdout.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line.ends_with('\n') && send.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receive
}

/// What ends a child's life.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// SIGKILL.
    Kill,
    /// The child finds no memory, at the allocation that it is told in [`CHILD_ALLOCATION`], and aborts. One
    /// that does not, since it has ended its part with an error or makes too few, is killed.
    NoMemory,
    /// A power cut of the file system that the database lies on; the child is killed behind it.
    PowerCut(&'a LoopMount),
}

/// Counts of a kill loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kills {
    /// Children that were killed, or whose power was cut.
    pub kills: u64,
    /// Times the parent opened and compared.
    pub checks: u64,
    /// Operations acknowledged.
    pub acknowledged: u64,
    /// Children that found no memory and aborted.
    pub aborts: u64,
}

/// A database whose writers are killed.
#[derive(Debug)]
pub struct KillLoop<'a> {
    dir: &'a Path,
    disk: DiskKind,
    end: End<'a>,
    /// Of each thread, how many operations must be there: everything up to the last acknowledged.
    owed: BTreeMap<u64, u64>,
    random: Random,
    /// The allocation that fails in the next child, with [`End::NoMemory`].
    pub allocation: u64,
    /// What has happened so far.
    pub counts: Kills,
}

impl<'a> KillLoop<'a> {
    /// A loop on the database in `dir`.
    #[must_use]
    pub fn new(dir: &'a Path, disk: DiskKind, end: End<'a>, seed: u64) -> Self {
        let (owed, random) = (BTreeMap::new(), Random::new(seed));
        Self { dir, disk, end, owed, random, allocation: 0, counts: Kills::default() }
    }

    /// Starts the child test `child` of this program, ends it, and every other time checks what is
    /// there; the other times, the next child recovers.
    ///
    /// # Errors
    /// When something that was acknowledged is missing, or half of something is there.
    pub fn round(&mut self, child: &str) -> Outcome {
        let io = |error: std::io::Error| Failure::new(format!("the child: {error}"));
        let program = std::env::current_exe().map_err(io)?;
        let disk = match self.disk {
            DiskKind::Auto => "auto",
            DiskKind::Uring => "uring",
            _ => "blocking",
        };
        let mut command = Command::new(program);
        command.args([child, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(CHILD_DIR, self.dir).env(CHILD_DISK, disk);
        match self.end {
            End::Kill => {}
            // It panics when its power goes off, as it should.
            End::PowerCut(_) => drop(command.stderr(Stdio::null())),
            End::NoMemory => {
                command.stderr(Stdio::null());
                command.env(CHILD_ALLOCATION, self.allocation.to_string());
            }
        }
        let mut process = command.stdout(Stdio::piped()).spawn().map_err(io)?;
        let heard = self.hear_until_ended(&mut process);
        process.kill().map_err(io)?;
        let status = process.wait().map_err(io)?;
        let lines = heard?;
        self.counts.aborts +=
            u64::from(status.signal() == Some(rustix::process::Signal::ABORT.as_raw()));
        if let End::PowerCut(mount) = self.end {
            mount.restart()?;
        }
        self.counts.kills += 1;
        self.check_log_space()?;
        lines.iter().try_for_each(|line| self.note(line))?;
        if self.random.one_in(2) {
            self.check()?;
        }
        Ok(())
    }

    /// Waits a random time, sometimes from the start, sometimes from the first operation of the
    /// child, and ends it; gives everything that it said.
    fn hear_until_ended(&mut self, process: &mut Child) -> Outcome<Vec<String>> {
        let stdout = process.stdout.take().ok_or_else(|| Failure::new("no standard output"))?;
        let said = lines(stdout);
        let mut heard = Vec::new();
        if let End::NoMemory = self.end {
            // It is over when it has aborted, and says everything before.
            let end = Instant::now() + NO_MEMORY;
            while let Ok(line) = said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                heard.push(line);
            }
            process.kill().map_err(|error| Failure::new(format!("the child: {error}")))?;
            heard.extend(said);
            return Ok(heard);
        }
        if !self.random.one_in(4) {
            while !heard.iter().any(|line: &String| line.starts_with("done")) {
                let line = said.recv_timeout(START);
                heard.push(line.map_err(|_| Failure::new("the child acknowledges nothing"))?);
            }
        }
        let end = Instant::now() + Duration::from_millis(self.random.below(LIFE_MS));
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match said.recv_timeout(left) {
                Ok(line) => heard.push(line),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new("the child ended by itself"));
                }
            }
            if left.is_zero() {
                break;
            }
        }
        match self.end {
            End::Kill | End::NoMemory => {
                process.kill().map_err(|error| Failure::new(format!("the child: {error}")))?;
                heard.extend(said);
            }
            // What it says behind that it says too late.
            End::PowerCut(mount) => {
                heard.extend(said.try_iter());
                mount.cut_power(self.random.one_in(2))?;
            }
        }
        Ok(heard)
    }

    fn note(&mut self, line: &str) -> Outcome {
        let mut words = line.split_whitespace();
        let (word, thread, number) = (words.next(), words.next(), words.next());
        let parse = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        let (Some(thread), Some(number)) = (parse(thread), parse(number)) else { return Ok(()) };
        let owed = self.owed.entry(thread).or_default();
        match word {
            Some("done") => {
                self.counts.acknowledged += 1;
                *owed = (*owed).max(number + 1);
            }
            Some("resumed") => {
                ensure!(number >= *owed, "thread {thread} resumes at {number}, owed {owed}");
            }
            _ => {}
        }
        Ok(())
    }

    /// Opens the database and compares all of it.
    ///
    /// # Errors
    /// When something that was acknowledged is missing, or half of something is there.
    pub fn check(&mut self) -> Outcome {
        self.counts.checks += 1;
        let database = options(self.disk).open(self.dir)?;
        check_contents(&database, &self.owed)?;
        crate::check::verify(&database)?;
        self.check_log_space()?;
        database.close()?;
        self.check_log_space()
    }

    /// Whatever was killed in the middle of, the log's files take no more than they may.
    fn check_log_space(&self) -> Outcome {
        check_bound(&BlockingDisk::new(), self.dir, MAX_WAL_BYTES)
    }
}
