//! `seawall log stat`: records by kind, segments, and where the log ends.

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use seawall_wal::codec::to_u64;
use serde::Serialize;

use super::describe::kind_name;
use super::end_behind;
use super::filter::{Filter, Selection};
use crate::failure::Failure;
use crate::inspect::{Files, describe_end, undecodable};
use crate::output::{Output, counted};

/// Count the records of the log by kind
#[derive(Args, Debug)]
pub(super) struct Stat {
    #[command(flatten)]
    filter: Filter,
}

#[derive(Default, Serialize)]
struct Count {
    records: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Summary {
    segments: usize,
    epochs: usize,
    /// Position of the first record counted.
    first_lsn: u64,
    /// Position behind the last record counted.
    end_lsn: u64,
    /// Why the log ends there, or what is wrong with it; absent where counting ended before.
    end: Option<String>,
    total: Count,
    by_kind: BTreeMap<&'static str, Count>,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }
}

impl Stat {
    pub(super) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let files = Files::open(&self.filter.database)?;
        let selection = self.filter.select(&files)?;
        let mut summary = Summary {
            segments: selection.log().segments().len(),
            epochs: selection.log().epochs().len(),
            first_lsn: 0,
            end_lsn: 0,
            end: None,
            total: Count::default(),
            by_kind: BTreeMap::new(),
        };
        // Of a damaged log, what is in front of the damage is counted.
        let end = count(&files, &selection, &mut summary);
        summary.end = match &end {
            Ok(end) => end.map(str::to_owned),
            Err(failure) => failure.message().map(str::to_owned),
        };
        out.result(&summary)?;
        end.map(|_| ())
    }
}

/// Counts records; why the log ends where it does, where it was read to its end.
fn count(
    files: &Files,
    selection: &Selection<'_>,
    summary: &mut Summary,
) -> Result<Option<&'static str>, Failure> {
    let mut reader = selection.reader()?;
    while let Some(found) = reader.next_record()? {
        if selection.is_behind(found.lsn) {
            return Ok(None);
        }
        let body = found.body().map_err(undecodable(selection.log(), &found))?;
        let decoded = found.decode(&body).map_err(undecodable(selection.log(), &found))?;
        if !selection.wants(&decoded.body) {
            continue;
        }
        let bytes = to_u64(found.header.padded_length());
        if summary.total.records == 0 {
            summary.first_lsn = found.lsn.get();
        }
        summary.end_lsn = found.end_lsn.get();
        summary.total.add(bytes);
        summary.by_kind.entry(kind_name(decoded.body.kind())).or_default().add(bytes);
    }
    end_behind(files, selection.log(), &reader).map(|end| Some(describe_end(end.case)))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_lsn, end_lsn, .. } = self;
        let (segments, epochs) = (counted(self.segments, "segment"), counted(self.epochs, "epoch"));
        writeln!(f, "{segments}, {epochs}, records from {first_lsn} to {end_lsn}")?;
        writeln!(f, "{:<18}{:>14}{:>18}", "kind", "records", "bytes")?;
        for (kind, count) in &self.by_kind {
            writeln!(f, "{kind:<18}{:>14}{:>18}", count.records, count.bytes)?;
        }
        write!(f, "{:<18}{:>14}{:>18}", "total", self.total.records, self.total.bytes)?;
        match &self.end {
            Some(end) => write!(f, "\nend of the log: {end}"),
            None => Ok(()),
        }
    }
}
