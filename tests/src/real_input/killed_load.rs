//! A load that is killed at random moments, spread over the whole of its input.
//!
//! The input is cut into as many parts as there are kills. Load `n` is resumed, and killed in part `n`:
//! when it has read up to a random byte of it and a random pause is over, at the latest when it has
//! read the part. So each kill hits a load that runs, and the last one hits the last part. Some resumed
//! loads are killed once more before they read at all: most often that is in recovery.
//!
//! How far a load has read is the position of its file, which the kernel shows. How much of that was
//! committed, the next load says when it goes on, and that must never become less.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::random::Random;

/// Longest pause between the byte at which a load is to be killed and the kill.
const PAUSE_MS: u64 = 50;
/// Longest life of a load that is killed right after its start.
const EARLY_LIFE_MS: u64 = 500;
/// How often it is looked how far a load has come.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long all loads together may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The last kill comes at the latest when this many per cent of the input were read.
const LAST_PERCENT: u64 = 97;
/// The signal that kills.
const SIGKILL: i32 = 9;

/// A load, and who kills it.
#[derive(Debug)]
pub struct KilledLoad {
    program: PathBuf,
    /// Canonical, as the kernel shows it.
    input: PathBuf,
    input_bytes: u64,
    dir: PathBuf,
    random: Random,
    started: Instant,
    /// Pairs that the last resumed load has found committed.
    committed: u64,
    /// What has happened so far.
    pub counts: Counts,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kills that hit a load somewhere in its input.
    pub kills: u64,
    /// Kills right after the start.
    pub early_kills: u64,
}

/// Where a load was when it was killed.
#[derive(Clone, Copy, Debug)]
struct Killed {
    after: Duration,
    read_bytes: u64,
}

impl KilledLoad {
    /// A load of `input` into the database in `dir`, done by the command `program`.
    ///
    /// # Errors
    /// When there is no such input, or there is something in `dir`.
    pub fn new(program: &Path, input: &Path, dir: &Path, seed: u64) -> Outcome<Self> {
        let failed = |error| Failure::new(format!("cannot read {}: {error}", input.display()));
        let input = input.canonicalize().map_err(failed)?;
        let input_bytes = fs::metadata(&input).map_err(failed)?.len();
        ensure!(!dir.exists(), "there is something in {} already", dir.display());
        Ok(Self {
            program: program.to_path_buf(),
            input,
            input_bytes,
            dir: dir.to_path_buf(),
            random: Random::new(seed),
            started: Instant::now(),
            committed: 0,
            counts: Counts::default(),
        })
    }

    /// Makes `kills` kills, and tells of each. What is left is for one more load to finish.
    ///
    /// # Errors
    /// A load that ends by itself, or has lost what was committed; a standard output that is closed.
    pub fn kill_often(&mut self, kills: u64, out: &mut impl Write) -> Outcome {
        for kill in 0..kills {
            if kill > 0 && self.random.one_in(2) {
                self.kill_early(out)?;
            }
            self.kill_within(kill, kills, out)?;
        }
        Ok(())
    }

    fn kill_within(&mut self, part: u64, parts: u64, out: &mut impl Write) -> Outcome {
        let last = self.input_bytes / 100 * LAST_PERCENT;
        let part_bytes = (self.input_bytes / parts).max(1);
        let byte = last.min(part * part_bytes + self.random.below(part_bytes));
        let part_end = last.min((part + 1) * part_bytes);
        let pause = Duration::from_millis(self.random.below(PAUSE_MS));
        let mut load = self.start()?;
        self.listen_until(&mut load, None, byte)?;
        self.listen_until(&mut load, Some(Instant::now() + pause), part_end)?;
        let killed = self.kill(load)?;
        self.counts.kills += 1;
        self.tell(out, &format!("kill {:2}", self.counts.kills), killed)
    }

    fn kill_early(&mut self, out: &mut impl Write) -> Outcome {
        let life = Duration::from_millis(self.random.below(EARLY_LIFE_MS));
        let mut load = self.start()?;
        let end = load.started + life;
        self.listen_until(&mut load, Some(end), 1)?;
        let killed = self.kill(load)?;
        self.counts.early_kills += 1;
        self.tell(out, "  early", killed)
    }

    /// Hears what a load says until `end`, and at the latest until it has read `bytes`.
    fn listen_until(&mut self, load: &mut Load, end: Option<Instant>, bytes: u64) -> Outcome {
        while load.look(&self.input)? < bytes && end.is_none_or(|end| Instant::now() < end) {
            ensure!(self.started.elapsed() < LIMIT, "the loads take longer than {LIMIT:?}");
            match load.said.recv_timeout(LOOK_EVERY) {
                Ok(line) => self.note(&line)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
        Ok(())
    }

    fn tell(&self, out: &mut impl Write, what: &str, killed: Killed) -> Outcome {
        let Killed { after, read_bytes } = killed;
        let (total, committed) = (self.input_bytes, self.committed);
        let percent = read_bytes * 100 / total.max(1);
        let (at, after) = (self.started.elapsed().as_secs_f64(), after.as_secs_f64());
        let line = format!(
            "{what} at {at:6.1} s, {after:5.2} s after its start: {read_bytes} of {total} bytes read \
             ({percent} %); {committed} pairs were known to be committed"
        );
        writeln!(out, "{line}").map_err(|error| Failure::new(format!("standard output: {error}")))
    }

    fn start(&self) -> Outcome<Load> {
        let failed =
            |error| Failure::new(format!("cannot start {}: {error}", self.program.display()));
        let mut command = Command::new(&self.program);
        command.arg("load").arg(&self.dir).arg(&self.input);
        command.args(["--format", "ndjson", "--resume"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let stderr = process.stderr.take().expect("it was asked for");
        Ok(Load { said: lines(stderr), process, started: Instant::now(), read_bytes: 0 })
    }

    /// Notes the line with which a load goes on; any other line is a message of what is wrong.
    fn note(&mut self, line: &str) -> Outcome {
        let pairs = line
            .strip_prefix("seawall: going on behind ")
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        let pairs: u64 = pairs.ok_or_else(|| Failure::new(format!("the load says: {line}")))?;
        let before = std::mem::replace(&mut self.committed, pairs);
        ensure!(pairs >= before, "{pairs} pairs are there, it were {before} before");
        Ok(())
    }

    fn kill(&mut self, mut load: Load) -> Outcome<Killed> {
        let failed = |error| Failure::new(format!("cannot kill the load: {error}"));
        let killed = Killed { after: load.started.elapsed(), read_bytes: load.read_bytes };
        load.process.kill().map_err(failed)?;
        let status = load.process.wait().map_err(failed)?;
        load.said.iter().try_for_each(|line| self.note(&line))?;
        ensure!(status.signal() == Some(SIGKILL), "the load ended by itself: {status}");
        Ok(killed)
    }
}

/// A running load. It does not outlive this.
struct Load {
    process: Child,
    said: Receiver<String>,
    started: Instant,
    /// How far it had read its input when it was last looked at; 0 before it opened it.
    read_bytes: u64,
}

impl Load {
    /// Looks how far it has read its input.
    fn look(&mut self, input: &Path) -> Outcome<u64> {
        match position(self.process.id(), input) {
            Some(position) => self.read_bytes = position,
            // It has closed it again.
            None if self.read_bytes > 0 => return Err(ended()),
            None => {}
        }
        Ok(self.read_bytes)
    }
}

fn ended() -> Failure {
    Failure::new("the load was done before it was killed; take a larger input, or fewer kills")
}

impl Drop for Load {
    fn drop(&mut self) {
        // On the way out of an error; a process that is gone already is what is wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The position of the file `path` where a process has it open.
fn position(process: u32, path: &Path) -> Option<u64> {
    let process = PathBuf::from(format!("/proc/{process}"));
    let descriptors = fs::read_dir(process.join("fd")).ok()?;
    let descriptor = descriptors
        .filter_map(Result::ok)
        .find(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target == path))?;
    let about = fs::read_to_string(process.join("fdinfo").join(descriptor.file_name())).ok()?;
    about.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
}

/// What a process says, line by line, up to its end.
fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::{KilledLoad, position};

    #[test]
    fn the_position_of_an_open_file_is_how_far_it_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("input");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(position(std::process::id(), &path), None);
        let mut file = File::open(&path).unwrap();
        file.read_exact(&mut [0; 42]).unwrap();
        assert_eq!(position(std::process::id(), &path), Some(42));
    }

    #[test]
    fn pairs_that_were_committed_and_are_gone_are_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("input");
        std::fs::write(&input, "").unwrap();
        let program = "seawall".as_ref();
        let mut load = KilledLoad::new(program, &input, &dir.path().join("db"), 1).unwrap();
        load.note("seawall: going on behind 7 pairs, at byte 90 of 100").unwrap();
        load.note("seawall: going on behind 7 pairs, at byte 90 of 100").unwrap();
        assert!(load.note("seawall: going on behind 6 pairs, at byte 80 of 100").is_err());
        assert!(load.note("seawall: the disk is on fire").is_err());
    }

    #[test]
    fn a_load_that_ends_before_it_is_killed_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("input");
        std::fs::write(&input, [b'x'; 1000]).unwrap();
        let mut load = KilledLoad::new("true".as_ref(), &input, &dir.path().join("db"), 1).unwrap();
        let mut out = Vec::new();
        let why = load.kill_often(1, &mut out).unwrap_err().to_string();
        assert!(why.starts_with("the load was done before it was killed"), "{why}");
        assert_eq!(out, b"");
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("input");
        std::fs::write(&input, "").unwrap();
        assert!(KilledLoad::new("true".as_ref(), &input, dir.path(), 1).is_err());
    }
}
