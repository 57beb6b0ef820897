//! Changed files of a database that was shut down.
//!
//! | input, for each change | |
//! |---|---|
//! | 1 byte | the file |
//! | 1 byte | what is changed; modulo 8, see `change_of` |
//! | 3 bytes | where |
//! | 1 byte | the bit, the length, or the byte that is written |

use std::path::Path;
use std::sync::OnceLock;

use seawall_wal::codec::{to_u64, to_usize};

use super::input::Input;
use crate::damage::{Change, Counts, Specimen};

/// Bytes of a change.
const CHANGE_BYTES: usize = 6;
/// Changes of an input; the rest of it says nothing.
const CHANGES_MAX: usize = 12;
const BLOCK_BYTES: usize = 4096;

/// Changes files, opens what they are now, reads, verifies, writes and drops: right answers or errors
/// that say what is wrong.
pub fn files(bytes: &[u8]) {
    static SPECIMEN: OnceLock<Specimen> = OnceLock::new();
    let specimen = SPECIMEN.get_or_init(|| Specimen::closed().expect("nothing is wrong yet"));
    let files = specimen.lengths();
    let changes = bytes.chunks(CHANGE_BYTES).take(CHANGES_MAX).map(|bytes| {
        let mut input = Input::new(bytes);
        let (path, length) = &files[usize::from(input.byte()) % files.len()];
        (path.as_path(), change_of(&mut input, *length))
    });
    let changes: Vec<(&Path, Change)> = changes.collect();
    if let Err(why) = specimen.try_changes(&changes, &mut Counts::default()) {
        panic!("{why}");
    }
}

/// A change of a file of this length.
fn change_of(input: &mut Input<'_>, length: u64) -> Change {
    let (kind, place, last) = (input.byte() % 8, input.number(3), input.byte());
    let offset = place % length.max(1);
    let start = to_usize(offset);
    let block = start / BLOCK_BYTES * BLOCK_BYTES;
    match kind {
        0 => Change::Flip { offset, bit: last % 8 },
        // Early, where headers and states are.
        1 => Change::Flip { offset: offset % to_u64(BLOCK_BYTES), bit: last % 8 },
        2 => Change::Fill { offset: start, length: 1 << (last % 14), byte: 0 },
        3 => Change::Fill { offset: block, length: BLOCK_BYTES << (last % 6), byte: 0 },
        4 => Change::Fill { offset: start, length: usize::from(last % 16) + 1, byte: last },
        5 => Change::Fill { offset: block + usize::from(last), length: 8, byte: 0xff },
        6 => Change::Cut { length: start },
        _ if last == 0 => Change::Gone,
        _ => Change::Cut { length: block },
    }
}
