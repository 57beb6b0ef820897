//! A short run of the load generator.

use crate::support::Place;
use serde_json::Value;

#[test]
fn every_workload_reports_rates_and_percentiles() {
    let place = Place::new();
    let arguments = ["--count", "2000", "--seconds", "1", "--cache-mib", "16", "--json"];
    let rows: Vec<Value> = place
        .run("bench", &arguments)
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = rows.iter().map(|row| row["workload"].as_str().unwrap()).collect();
    assert_eq!(names, ["overwrite", "put", "put16", "batch", "load", "get", "range", "mixed"]);
    for row in &rows {
        assert!(row["operations_per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["p50"].as_f64() <= row["p99_9"].as_f64(), "{row}");
        assert!(row["p99_9"].as_f64() <= row["max"].as_f64(), "{row}");
    }
    assert!(rows[1]["of_overwrites"].as_f64().unwrap() > 0.0);
    assert_eq!(rows[4]["pairs"], 2000);
}

#[test]
fn the_table_says_how_many_keys_and_how_much_cache() {
    let place = Place::new();
    let arguments = ["load", "--count", "2000", "--cache-mib", "16"];
    let table = place.run("bench", &arguments).text();
    let first = table.lines().next().unwrap();
    assert!(first.contains("2000 keys of 24 bytes") && first.contains("cache 16 MiB"), "{table}");
}
