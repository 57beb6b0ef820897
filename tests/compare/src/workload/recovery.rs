//! Opening after SIGKILL: a child loads, overwrites random keys, syncs, and is killed at once. What it leaves is copied; the
//! original is opened with what the page cache has of it, the copy with nothing. Everything must be there.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::load::{BATCH_PAIRS, insert};
use super::{Context, VALUE_BYTES};
use crate::disk::{copy_folder, drop_from_cache};
use crate::engine::{Engine, Session};
use crate::input::{Stream, Values, key};
use crate::measure::with_relaxed_syncs;
use crate::outcome::Row;

/// Pairs, and updates of them, at scale 1.
const COUNT: u64 = 1_000_000;
const COUNT_MIN: u64 = 20_000;
/// Updates of a transaction.
const UPDATES: u64 = 100;
/// What the child says when everything is synced.
const READY: &str = "ready";

/// Numbers of the keys that are updated, in order.
fn updated(count: u64) -> impl Iterator<Item = u64> {
    let mut stream = Stream::new(0x6b69_6c6c);
    (0..count).map(move |_| stream.below(count))
}

pub(super) fn run<E: Engine>(context: &Context) -> Result<()> {
    let count = context.count(COUNT, COUNT_MIN);
    let (warm, cold) = (context.dir().join("warm"), context.dir().join("cold"));
    std::fs::create_dir(&warm)?;
    write_and_kill::<E>(context, &warm)?;
    copy_folder(&warm, &cold)?;

    let mut is_updated = vec![false; usize::try_from(count)?];
    updated(count).for_each(|number| is_updated[number as usize] = true);
    open::<E>(&warm, "recovery-warm", context, &is_updated)?;
    std::fs::remove_dir_all(&warm)?;
    drop_from_cache(&cold)?;
    open::<E>(&cold, "recovery-cold", context, &is_updated)
}

fn write_and_kill<E: Engine>(context: &Context, dir: &Path) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("write-until-killed")
        .args(["--engine", E::NAME, "--dir"])
        .arg(dir)
        .args(["--scale", &context.scale.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().context("the child's output is piped")?;
    let read = BufReader::new(out).read_line(&mut line);
    // SIGKILL, at once: background work that has not caught up stays where it is.
    child.kill()?;
    child.wait()?;
    read?;
    ensure!(line.trim_end() == READY, "the child that was to be killed failed: {line:?}");
    Ok(())
}

/// What the child does.
pub(crate) fn write_until_killed<E: Engine>(context: &Context) -> Result<()> {
    // Whoever would kill this process may be killed first.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let count = context.count(COUNT, COUNT_MIN);
    let values = Values::new(VALUE_BYTES);
    let engine = E::open(context.dir(), &Context::setup(false))?;
    with_relaxed_syncs(&engine, || {
        insert(&engine, &values, 0..count, BATCH_PAIRS)?;
        let mut session = engine.session()?;
        let mut value = values.buffer();
        let numbers: Vec<_> = updated(count).collect();
        for numbers in numbers.chunks(UPDATES as usize) {
            session.transaction(&mut |writer| {
                numbers.iter().try_for_each(|&number| {
                    values.fill(number, 1, &mut value);
                    writer.put(&key(number), &value)
                })
            })?;
        }
        Ok(())
    })?;
    engine.sync()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}")?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

/// Opens what the child has left and reads a key; the time for both is the figure, in seconds.
fn open<E: Engine>(
    dir: &Path,
    workload: &str,
    context: &Context,
    is_updated: &[bool],
) -> Result<()> {
    let values = Values::new(VALUE_BYTES);
    let started = Instant::now();
    let engine = E::open(dir, &Context::setup(false))?;
    let first = engine.session()?.get(&key(0), |value| values.check(&key(0), value))?;
    let elapsed = started.elapsed();
    ensure!(first.flatten().is_some(), "the first key is not there");

    let mut session = engine.session()?;
    for (number, &is_updated) in (0..).zip(is_updated) {
        let key = key(number);
        let head = session.get(&key, |value| values.check_whole(&key, value))?.flatten();
        let expected = Values::head(number, u64::from(is_updated));
        ensure!(head == Some(expected), "key number {number} has lost a synced update");
    }
    drop(session);
    engine.close()?;
    context.emit(&Row::new(workload, elapsed.as_secs_f64()))
}
