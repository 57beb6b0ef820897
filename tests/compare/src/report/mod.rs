//! The report: medians of what was measured, as Markdown tables and plots.

mod markdown;
mod plot;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::adapters::ENGINES;
use crate::outcome::{LatencyUs, Line, Row, RunKey};

pub(crate) use markdown::settings_table;

/// The file of all results.
pub(crate) const RESULTS: &str = "results.ndjson";
const REPORT: &str = "report.md";

/// Reads the results' file. A line that an interruption has cut off at its end does not count.
pub(crate) fn lines(path: &Path) -> Result<Vec<Line>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut lines = Vec::new();
    let mut cut = None;
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line?;
        ensure!(cut.is_none(), "{}: line {} is damaged", path.display(), number - 1);
        match serde_json::from_str(&line) {
            Ok(line) => lines.push(line),
            Err(error) => cut = Some(error),
        }
    }
    Ok(lines)
}

/// Results of one scale.
#[derive(Debug, Default)]
struct Results {
    scale: f64,
    machines: BTreeSet<String>,
    /// Rows of each workload and engine, one for each repetition.
    rows: BTreeMap<(String, &'static str), Vec<Row>>,
    /// What has failed: session, engine, why.
    failures: BTreeSet<(String, &'static str, String)>,
    repetitions: u32,
}

impl Results {
    /// Gathers the runs of the scale that was measured last; of a run that was repeated, the last one.
    fn gather(lines: Vec<Line>) -> Result<Self> {
        let last = lines.iter().rev().find_map(|line| match line {
            Line::End { run, .. } => Some(run.scale),
            _ => None,
        });
        let mut results = Self { scale: last.context("nothing was measured")?, ..Self::default() };
        let mut runs: Vec<(RunKey, Vec<Row>, Option<String>)> = Vec::new();
        let mut pending: Vec<Row> = Vec::new();
        for line in lines {
            match line {
                Line::Machine { machine } => drop(results.machines.insert(machine)),
                Line::Row { row, .. } => pending.push(row),
                Line::End { run, error, .. } => {
                    runs.retain(|(key, ..)| *key != run);
                    runs.push((run, std::mem::take(&mut pending), error));
                }
            }
        }
        for (run, rows, error) in runs {
            let Some(engine) = ENGINES.iter().find(|engine| engine.name == run.engine) else {
                continue;
            };
            if run.scale.to_bits() != results.scale.to_bits() {
                continue;
            }
            results.repetitions = results.repetitions.max(run.repetition + 1);
            if let Some(error) = error {
                results.failures.insert((run.session, engine.name, error));
            }
            for row in rows {
                let key = (row.workload.clone(), engine.name);
                results.rows.entry(key).or_default().push(row);
            }
        }
        Ok(results)
    }

    /// Engines that have rows, in the order of the tables.
    fn engines(&self) -> Vec<&'static str> {
        let has_rows = |name: &&str| self.rows.keys().any(|(_, engine)| engine == name);
        ENGINES.iter().map(|engine| engine.name).filter(has_rows).collect()
    }

    /// The median figure of a workload, or of one beside it.
    fn figure(&self, workload: &rows::Workload, engine: &'static str) -> Option<f64> {
        let rows = self.rows.get(&(workload.id.to_owned(), engine))?;
        let figure = |row: &Row| match workload.beside {
            Some(name) => row.beside.get(name).copied(),
            None => Some(row.figure),
        };
        median(rows.iter().filter_map(figure).collect())
    }

    /// The medians of a workload's percentiles.
    fn latency(&self, workload: &str, engine: &'static str) -> Option<LatencyUs> {
        let rows = self.rows.get(&(workload.to_owned(), engine))?;
        let of = |select: fn(&LatencyUs) -> f64| {
            median(rows.iter().filter_map(|row| row.latency.as_ref().map(select)).collect())
        };
        Some(LatencyUs {
            p50: of(|latency| latency.p50)?,
            p99: of(|latency| latency.p99)?,
            p999: of(|latency| latency.p999)?,
            max: of(|latency| latency.max)?,
        })
    }

    /// The seconds of one run of a workload.
    fn seconds(&self, workload: &str, engine: &'static str) -> Option<&[f64]> {
        let rows = self.rows.get(&(workload.to_owned(), engine))?;
        rows.first().map(|row| row.seconds.as_slice())
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        count if count % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

/// Writes the report and the plots into the folder of the results.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let results = Results::gather(lines(&folder.join(RESULTS))?)?;
    let plots = plot::write(&results, folder)?;
    let path = folder.join(REPORT);
    std::fs::write(&path, markdown::report(&results, &plots))?;
    eprintln!("written: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Results, median};
    use crate::outcome::{Line, Row, RunKey};

    fn run(repetition: u32) -> RunKey {
        let (session, engine) = ("durable".to_owned(), "seawall".to_owned());
        RunKey { session, engine, repetition, scale: 1.0 }
    }

    fn ended(repetition: u32, figure: f64) -> [Line; 2] {
        let row = Row::new("put-1", figure);
        let end = Line::End { run: run(repetition), seconds: 1.0, error: None };
        [Line::Row { run: run(repetition), row }, end]
    }

    #[test]
    fn the_median_of_all_repetitions_counts_and_of_a_repeated_run_the_last() {
        let lines = [ended(0, 1.0), ended(1, 5.0), ended(2, 9.0), ended(0, 7.0)];
        let results = Results::gather(lines.into_iter().flatten().collect()).unwrap();
        let workload = &super::rows::GROUPS[0].rows[0];
        assert_eq!(results.figure(workload, "seawall"), Some(7.0));
        assert_eq!(results.repetitions, 3);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
