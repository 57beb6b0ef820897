//! Markdown tables.

use std::fmt::Write as _;

use super::Results;
use super::rows::{GROUPS, Group, LATENCIES, Unit, Workload};
use crate::adapters::ENGINES;

/// Seawall's name among the engines; the others are its peers.
const OWN: &str = "seawall";

/// The whole report.
pub(super) fn report(results: &Results, plots: &[(&'static str, String)]) -> String {
    let mut text = String::from("# Seawall beside its peers\n\n");
    let machines: Vec<_> = results.machines.iter().map(String::as_str).collect();
    let scale = results.scale;
    push(
        &mut text,
        format_args!(
            "Measured on {}, at scale {scale}: {}. Medians of {} repetition(s). The best figure of a row is bold; \
         the last column is Seawall's figure over that of its best peer, turned round where less is better, so that \
         above 1 Seawall leads. Method and settings: tests/compare/README.md.\n\n",
            machines.join("; "),
            if (scale - 1.0).abs() < f64::EPSILON {
                "the full sizes and times".to_owned()
            } else {
                format!(
                    "sizes and times are {scale} of the full ones, which the rows name, with a second and some pairs at least"
                )
            },
            results.repetitions,
        ),
    );
    for group in GROUPS {
        table(&mut text, results, group);
        if let Some((_, file)) = plots.iter().find(|(title, _)| *title == group.title) {
            push(&mut text, format_args!("![{}]({file})\n\n", group.title));
        }
    }
    latencies(&mut text, results);
    failures(&mut text, results);
    text
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes whatever is written to it");
}

fn head(text: &mut String, first: &str, columns: &[&str]) {
    push(text, format_args!("| {first} | {} |\n", columns.join(" | ")));
    push(text, format_args!("|---|{}\n", "--:|".repeat(columns.len())));
}

fn table(text: &mut String, results: &Results, group: &Group) {
    let engines = results.engines();
    let has_figures = |row: &&Workload| engines.iter().any(|e| results.figure(row, e).is_some());
    let rows: Vec<_> = group.rows.iter().filter(has_figures).collect();
    if rows.is_empty() {
        return;
    }
    push(text, format_args!("## {}\n\n", group.title));
    let mut columns = engines.clone();
    columns.push("ratio");
    head(text, "", &columns);
    for row in rows {
        push(text, format_args!("| {} |", row.title));
        let best = best(results, row, &engines);
        for engine in &engines {
            let cell = match results.figure(row, engine) {
                None => "-".to_owned(),
                Some(figure) if best == Some(figure) && row.id != "disk-overwrites" => {
                    format!("**{}**", row.unit.show(figure))
                }
                Some(figure) => row.unit.show(figure),
            };
            push(text, format_args!(" {cell} |"));
        }
        push(text, format_args!(" {} |\n", ratio(results, row, &engines)));
    }
    text.push('\n');
}

fn best(results: &Results, row: &Workload, engines: &[&'static str]) -> Option<f64> {
    let figures = engines.iter().filter_map(|engine| results.figure(row, engine));
    if row.is_more_better { figures.max_by(f64::total_cmp) } else { figures.min_by(f64::total_cmp) }
}

fn ratio(results: &Results, row: &Workload, engines: &[&'static str]) -> String {
    let peers: Vec<_> = engines.iter().copied().filter(|&engine| engine != OWN).collect();
    let (Some(own), Some(peer)) = (results.figure(row, OWN), best(results, row, &peers)) else {
        return "-".to_owned();
    };
    if row.id == "disk-overwrites" {
        return "-".to_owned();
    }
    format!("{:.2}", if row.is_more_better { own / peer } else { peer / own })
}

fn latencies(text: &mut String, results: &Results) {
    let engines = results.engines();
    let has_latency = |(id, _): &&(&str, &str)| {
        engines.iter().any(|engine| results.latency(id, engine).is_some())
    };
    let rows: Vec<_> = LATENCIES.iter().filter(has_latency).collect();
    if rows.is_empty() {
        return;
    }
    text.push_str("## Latencies\n\np50 / p99 / p99.9 / longest.\n\n");
    head(text, "", &engines);
    for (id, title) in rows {
        push(text, format_args!("| {title} |"));
        for engine in &engines {
            let cell = results.latency(id, engine).map_or("-".to_owned(), |latency| {
                let figures = [latency.p50, latency.p99, latency.p999, latency.max];
                figures.map(|figure| Unit::Microseconds.show(figure)).join(" / ")
            });
            push(text, format_args!(" {cell} |"));
        }
        text.push('\n');
    }
    text.push('\n');
}

fn failures(text: &mut String, results: &Results) {
    if results.failures.is_empty() {
        return;
    }
    text.push_str("## What failed\n\nRows before the failure count.\n\n");
    head(text, "session", &["engine", "why"]);
    for (session, engine, error) in &results.failures {
        push(text, format_args!("| {session} | {engine} | {} |\n", error.replace('|', "\\|")));
    }
    text.push('\n');
}

/// The one table of settings.
pub(crate) fn settings_table() -> String {
    let mut text = String::new();
    text.push_str("| engine | version | cache | durable | relaxed | reads | other |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for engine in ENGINES {
        let s = &engine.settings;
        push(
            &mut text,
            format_args!(
                "| {} | {} | {} | {} | {} | {} | {} |\n",
                engine.name, s.version, s.cache, s.durable, s.relaxed, s.reads, s.other
            ),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_has_the_table_of_settings() {
        let readme = include_str!("../../README.md");
        for line in super::settings_table().lines() {
            assert!(readme.contains(line), "README.md lacks: {line}");
        }
    }
}
