//! Where logs on a simulated disk end, intact, cut and damaged.

mod crashes;
mod durable;
mod ends;
mod epochs;
mod rewrite;
mod rows;

use super::*;
use crate::log::{segment, testing};

/// The log is damaged in the block at `at`, where `expected_text` should stand.
fn assert_corrupt(result: Result<LogEnd>, at: LogPosition, expected_text: &str) {
    match result {
        Err(Error::Corrupt { file, offset, expected, .. }) => {
            assert_eq!(file, segment::path(&testing::wal_dir(), at.segment));
            assert!((at.offset..at.offset + BLOCK_U64).contains(&offset), "{offset} {at}");
            assert!(expected.contains(expected_text), "{expected}");
        }
        other => panic!("corruption at {at} was taken for {other:?}"),
    }
}
