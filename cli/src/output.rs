//! Results, for people or for machines, on stdout; messages and progress on stderr.

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use seawall_wal::record::Cell;
use serde::Serialize;

use crate::bytes;
use crate::failure::Failure;
use crate::format::Format;

/// How often a progress bar is drawn at most, per second.
const DRAWS_PER_SECOND: u8 = 5;
/// Bytes of a value that are shown beside others.
const SHOWN_BYTES_MAX: usize = 40;

/// Where a command's results go.
pub(crate) struct Output {
    is_json: bool,
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// With `is_json`, every result is one line of JSON.
    pub(crate) fn new(is_json: bool) -> Self {
        Self { is_json, stdout: BufWriter::new(io::stdout().lock()) }
    }

    /// Whether results are for machines.
    pub(crate) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// One result, in whichever form was asked for.
    pub(crate) fn result(&mut self, result: &(impl Display + Serialize)) -> Result<(), Failure> {
        if self.is_json { self.json(result) } else { self.text(result) }
    }

    /// A line for people.
    pub(crate) fn text(&mut self, text: &impl Display) -> Result<(), Failure> {
        writeln!(self.stdout, "{text}").map_err(|error| Failure::stdout(&error))
    }

    /// A line for machines.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.stdout, value)
            .map_err(|error| Failure::stdout(&io::Error::from(error)))?;
        self.bytes(b"\n")
    }

    /// A pair for machines, in the canonical form of a dump.
    pub(crate) fn json_pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let mut writer = Format::Ndjson.writer(&mut self.stdout);
        writer.write(key, value).map_err(|error| Failure::stdout(&error))
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    /// The stream itself, for what is written piece by piece.
    pub(crate) fn stream(&mut self) -> &mut impl Write {
        &mut self.stdout
    }

    /// What was written so far is out.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| Failure::stdout(&error))
    }
}

/// A sentence for the person in front of the terminal. A closed stderr is no reason to stop.
pub(crate) fn message(text: &impl Display) {
    drop(writeln!(io::stderr(), "seawall: {text}"));
}

/// A progress bar on stderr over `total` units, 0 where that is not known yet. Hidden when stderr is
/// not a terminal.
pub(crate) fn progress(what: &str, total: u64, unit: Unit) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let template = match unit {
        Unit::Bytes => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        Unit::Count => "{msg} {wide_bar} {human_pos}/{human_len} {eta}",
    };
    let style =
        ProgressStyle::with_template(template).expect("the templates above are well-formed");
    ProgressBar::with_draw_target((total > 0).then_some(total), target)
        .with_style(style)
        .with_message(what.to_owned())
}

/// A sign of life on stderr for what tells no progress. Hidden when stderr is not a terminal.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
        .expect("the template is well-formed");
    let spinner =
        ProgressBar::with_draw_target(None, target).with_style(style).with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_secs(1) / u32::from(DRAWS_PER_SECOND));
    spinner
}

/// What a progress bar counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Bytes,
    Count,
}

/// A value in the notation of arguments, cut where it is long.
pub(crate) fn shortened(value: &[u8]) -> String {
    if value.len() <= SHOWN_BYTES_MAX {
        return bytes::show(value);
    }
    format!("{}.. ({} bytes)", bytes::show(&value[..SHOWN_BYTES_MAX]), value.len())
}

/// What a leaf's cell is beside its value, in words.
pub(crate) fn cell_marks(cell: &Cell<'_>) -> Vec<String> {
    let stamp = cell.stamp.map(|stamp| format!("stamped by {} at {}", stamp.txn, stamp.undo_lsn));
    let capacity =
        (cell.capacity_bytes > 0).then(|| format!("keeps {} bytes", cell.capacity_bytes));
    let named = [(cell.is_ghost, "ghost"), (cell.is_overflow, "overflow link")];
    let named = named.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned());
    named.chain(stamp).chain(capacity).collect()
}

/// So many of a thing, in words: `1 byte`, `2 bytes`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A duration as machines get it.
pub(crate) fn seconds<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
