//! All runs: which there are, in which order, what is done already. Engines take turns repetition by repetition, each
//! run in a process and a folder of its own, so that none finds the memory, the caches or the files of another.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::adapters::{self, ENGINES};
use crate::confine::remove_group;
use crate::outcome::{Line, Row, RunKey};
use crate::report::{self, RESULTS};
use crate::workload::Session;
use crate::{disk, machine};

/// Smaller scales do not make everything shorter.
const TIME_SCALE_MIN: f64 = 0.2;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Folder on the disk that is compared; each run has a folder of its own in it.
    #[arg(long)]
    dir: PathBuf,
    /// Folder for results.ndjson, the report and the plots. What results.ndjson has is not measured again.
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Sizes and times, as a share of the full ones.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// How often everything is measured; medians are compared.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// Only these sessions.
    #[arg(long, value_delimiter = ',')]
    sessions: Vec<Session>,
    /// Only these engines.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Measures again what has failed.
    #[arg(long)]
    retry_failed: bool,
    /// Begins no run when so many seconds are over; the same command goes on later.
    #[arg(long)]
    stop_after: Option<u64>,
}

struct Run {
    key: RunKey,
    session: Session,
}

/// Measures what there is to measure, and writes the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.scale > 0.0, "the scale must be above 0");
    for name in &options.engines {
        adapters::named(name)?;
    }
    fs::create_dir_all(&options.results)?;
    fs::create_dir_all(&options.dir)?;
    let path = options.results.join(RESULTS);
    let done = done(&path, options.retry_failed)?;
    let runs: Vec<_> = plan(options).into_iter().filter(|run| !done.contains(&run.key)).collect();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if !runs.is_empty() {
        append(&mut file, &[Line::Machine { machine: machine::describe(&options.dir) }])?;
    }

    let bar = ProgressBar::new(runs.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{elapsed_precise} {wide_bar} {pos}/{len} {msg} (left: {eta})",
    )?);
    let started = Instant::now();
    for run in &runs {
        if options.stop_after.is_some_and(|seconds| started.elapsed().as_secs() >= seconds) {
            bar.abandon_with_message("time is over; the same command goes on");
            break;
        }
        let RunKey { session, engine, repetition, .. } = &run.key;
        bar.set_message(format!("{session}, {engine}, repetition {}", repetition + 1));
        let lines = measure(options, run)?;
        if let Some(Line::End { error: Some(error), .. }) = lines.last() {
            bar.suspend(|| eprintln!("{session}, {engine}: {error}"));
        }
        append(&mut file, &lines)?;
        bar.inc(1);
    }
    bar.finish();
    report::write(&options.results)
}

/// Every run, in order: session by session, repetition by repetition, the engines in turn, beginning with another
/// one each time.
fn plan(options: &Options) -> Vec<Run> {
    let sessions: &[Session] =
        if options.sessions.is_empty() { Session::value_variants() } else { &options.sessions };
    let is_asked =
        |name: &str| options.engines.is_empty() || options.engines.iter().any(|e| e == name);
    let engines: Vec<_> =
        ENGINES.iter().map(|engine| engine.name).filter(|name| is_asked(name)).collect();
    let mut runs = Vec::new();
    for &session in sessions {
        for repetition in 0..options.repetitions {
            for place in 0..engines.len() {
                let engine = engines[(place + repetition as usize) % engines.len()].to_owned();
                let (name, scale) = (session.name(), options.scale);
                let key = RunKey { session: name, engine, repetition, scale };
                runs.push(Run { key, session });
            }
        }
    }
    runs
}

/// Runs that have ended.
fn done(path: &Path, is_failure_retried: bool) -> Result<Vec<RunKey>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut done = Vec::new();
    for line in report::lines(path)? {
        if let Line::End { run, error, .. } = line {
            done.retain(|key| *key != run);
            if error.is_none() || !is_failure_retried {
                done.push(run);
            }
        }
    }
    Ok(done)
}

/// Appends lines as one write, so that an interruption leaves whole runs.
fn append(file: &mut File, lines: &[Line]) -> Result<()> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    file.write_all(&bytes)?;
    Ok(file.sync_data()?)
}

/// Runs a session in a child and gathers its rows.
fn measure(options: &Options, run: &Run) -> Result<Vec<Line>> {
    let RunKey { session, engine, repetition, scale } = &run.key;
    let folder = options.dir.join(format!("compare-{}", std::process::id()));
    let dir = folder.join("run");
    fs::create_dir_all(&dir)?;
    let logs = options.results.join("logs");
    fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{session}-{engine}-{repetition}.log"));
    let started = Instant::now();
    let child = Command::new(std::env::current_exe()?)
        .args(["run-session", "--session", session, "--engine", engine, "--dir"])
        .arg(&dir)
        .args(["--scale", &scale.to_string(), "--repetition", &repetition.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()?;
    let time_max = run.session.time_max().mul_f64(scale.max(TIME_SCALE_MIN));
    let (rows, end) = watch(child, time_max)?;
    let seconds = started.elapsed().as_secs_f64();
    let error = match end {
        End::Done => None,
        End::Failed(status) => Some(last_line(&log).unwrap_or(format!("ended with {status}"))),
        End::Late => Some(format!("stopped after {} s", time_max.as_secs())),
    };
    fs::remove_dir_all(&folder)?;
    // Writes of this run must not be left for the next one to wait for.
    disk::Written::count(&options.dir)?;

    let mut lines: Vec<_> =
        rows.into_iter().map(|row| Line::Row { run: run.key.clone(), row }).collect();
    lines.push(Line::End { run: run.key.clone(), seconds, error });
    Ok(lines)
}

/// How a child ended.
enum End {
    Done,
    Failed(ExitStatus),
    Late,
}

/// Gathers rows until the child has ended or its time is over; then it is killed.
fn watch(mut child: Child, time_max: Duration) -> Result<(Vec<Row>, End)> {
    let out = child.stdout.take().context("the child's output is piped")?;
    let (sender, receiver) = channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let (rows, is_late) = receive(&receiver, Instant::now() + time_max)?;
    if is_late {
        child.kill()?;
    }
    let pid = child.id();
    let status = child.wait()?;
    remove_group(pid);
    ensure!(reader.join().is_ok(), "the thread that reads the child's rows panicked");
    let end = match (is_late, status.success()) {
        (true, _) => End::Late,
        (false, true) => End::Done,
        (false, false) => End::Failed(status),
    };
    Ok((rows, end))
}

fn receive(lines: &Receiver<String>, deadline: Instant) -> Result<(Vec<Row>, bool)> {
    let mut rows = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => rows.push(
                serde_json::from_str(&line).with_context(|| format!("a child said {line:?}"))?,
            ),
            Err(RecvTimeoutError::Disconnected) => return Ok((rows, false)),
            Err(RecvTimeoutError::Timeout) => return Ok((rows, true)),
        }
    }
}

/// What a child has said last on standard error.
fn last_line(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Options, plan};

    #[test]
    fn engines_take_turns_within_each_repetition() {
        let options = Options {
            dir: "d".into(),
            results: "r".into(),
            scale: 1.0,
            repetitions: 2,
            sessions: vec![crate::workload::Session::Durable],
            engines: Vec::new(),
            retry_failed: false,
            stop_after: None,
        };
        let runs = plan(&options);
        let engines = crate::adapters::ENGINES.len();
        assert_eq!(runs.len(), 2 * engines);
        for (place, run) in runs.iter().enumerate() {
            assert_eq!(run.key.repetition as usize, place / engines);
        }
    }
}
