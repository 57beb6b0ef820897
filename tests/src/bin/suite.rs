//! `cargo suite`: runs every test of the workspace in the builds that they need, one after another:
//! the ordinary tests and doc tests, the loom models (`--cfg loom`), the shuttle models
//! (`--cfg seawall_shuttle`), and the crash runner with bugs planted on purpose
//! (`--cfg seawall_planted`). Each build has a target folder of its own, so that
//! none throws away what another one compiled.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// One build, and what is run in it.
struct Suite {
    name: &'static str,
    /// Flags for rustc; a target folder of its own goes with them.
    cfg: Option<&'static str>,
    arguments: &'static [&'static str],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "tests",
        cfg: None,
        arguments: &["test", "--workspace", "--exclude", "seawall-tests", "--no-fail-fast"],
    },
    // These say how much they have tried.
    Suite {
        name: "model, crashes and kills",
        cfg: None,
        arguments: &["test", "--package", "seawall-tests", "--no-fail-fast", "--", "--show-output"],
    },
    Suite {
        name: "loom models of the log",
        cfg: Some("loom"),
        arguments: &["test", "--profile", "models", "--package", "seawall-wal", "--lib", "models"],
    },
    Suite {
        name: "loom models of the engine",
        cfg: Some("loom"),
        arguments: &["test", "--profile", "models", "--package", "seawall", "--lib", "loom_models"],
    },
    Suite {
        name: "shuttle models",
        cfg: Some("seawall_shuttle"),
        arguments: &[
            "test",
            "--package",
            "seawall-tests",
            "--test",
            "shuttle",
            "--",
            "--show-output",
        ],
    },
    // The feature `tracing` needs a build of its own as well.
    Suite {
        name: "planted bugs, tracing",
        cfg: Some("seawall_planted"),
        arguments: &[
            "test",
            "--package",
            "seawall",
            "--package",
            "seawall-tests",
            "--features",
            "seawall/tracing",
            "--test",
            "tracing",
            "--test",
            "planted",
            "--test",
            "dropped",
            "--test",
            "freeing",
            "--",
            "--show-output",
        ],
    },
];

fn main() -> ExitCode {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    let mut failed = Vec::new();
    for suite in SUITES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| suite.name.contains(wanted.as_str())) {
            continue;
        }
        println!("\n== {}", suite.name);
        let started = Instant::now();
        let is_passed = suite.run();
        println!("-- {}: {:.0} s", suite.name, started.elapsed().as_secs_f64());
        if !is_passed {
            failed.push(suite.name);
        }
    }
    if failed.is_empty() {
        println!("\nall suites passed");
        ExitCode::SUCCESS
    } else {
        println!("\nfailed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

impl Suite {
    fn run(&self) -> bool {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(self.arguments);
        if let Some(cfg) = self.cfg {
            let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
            command.env("RUSTFLAGS", format!("{flags} --cfg {cfg}"));
            command.env("CARGO_TARGET_DIR", target_folder().join(cfg));
        }
        match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                println!("cargo could not be started: {error}");
                false
            }
        }
    }
}

/// The workspace's target folder, or the one that is set.
fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}
