//! What fuzzers have found so far, failing once or not: every file of every target's corpus is replayed.
#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]

use std::fs;
use std::path::{Path, PathBuf};

use seawall_tests::fuzz::TARGETS;
use seawall_tests::trials::contain;

/// Bounds of what is committed.
const FILES_MAX: usize = 40;
const FILE_BYTES_MAX: usize = 8 << 10;
const CORPUS_BYTES_MAX: usize = 400 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus().join(target);
    let listed =
        fs::read_dir(&folder).unwrap_or_else(|why| panic!("{target} has no corpus: {why}"));
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let input =
        |path: PathBuf| (path.clone(), fs::read(path).expect("a file that was just listed"));
    paths.into_iter().map(input).collect()
}

#[test]
fn nothing_in_a_corpus_fails() {
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, bytes) in &inputs {
            let replayed = contain(|| {
                target(bytes);
                Ok(())
            });
            failures.extend(replayed.err().map(|why| why.at(path.display())));
        }
        eprintln!("{name}: {} inputs", inputs.len());
    }
    let sentences: Vec<_> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), sentences.join("\n"));
}

#[test]
fn corpora_are_small_and_each_is_of_a_target() {
    let mut bytes = 0;
    for (name, _) in TARGETS {
        let inputs = inputs(name);
        assert!(inputs.len() <= FILES_MAX, "{name}: {} files", inputs.len());
        for (path, input) in inputs {
            assert!(input.len() < FILE_BYTES_MAX, "{}: {} bytes", path.display(), input.len());
            bytes += input.len();
        }
    }
    assert!(bytes < CORPUS_BYTES_MAX, "{bytes} bytes");
    for entry in fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|(target, _)| name == *target), "{name:?} is of no target");
    }
}

#[test]
fn no_bytes_at_all_fail_nowhere() {
    for (_, target) in TARGETS {
        target(&[]);
        target(&[0; 200]);
        target(&[0xff; 200]);
    }
}
