//! Fuzz targets: functions that take any bytes, and panic where the engine does something wrong.
//!
//! There is one for each parser of bytes that others may have written, with the checksum put right
//! where one would stop the fuzzer; [`operations`](self::operations()) cuts the power under operations,
//! and [`files`](self::files()) changes files. A fuzzer looks for bytes that fail (`tests/fuzz`); what it
//! has found so far, failing or not, stands in `tests/fuzz/corpus`, which the suite `corpus` replays.
//! [`seeds`] are where a fuzzer starts: what real databases contain.

mod checkpoint;
mod control;
mod doublewrite;
mod files;
mod formats;
mod frame;
mod input;
mod key_syntax;
mod operations;
mod page;
mod record;
pub mod seeds;

pub use checkpoint::checkpoint_chunk;
pub use control::control;
pub use doublewrite::doublewrite;
pub use files::files;
pub use formats::{csv, ndjson, tsv};
pub use frame::frame;
pub use key_syntax::key_syntax;
pub use operations::operations;
pub use page::page;
pub use record::record;

/// What a fuzzer calls.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("page", page),
    ("record", record),
    ("frame", frame),
    ("control", control),
    ("doublewrite", doublewrite),
    ("checkpoint_chunk", checkpoint_chunk),
    ("tsv", tsv),
    ("ndjson", ndjson),
    ("csv", csv),
    ("key_syntax", key_syntax),
    ("operations", operations),
    ("files", files),
];
