//! Chunks of a checkpoint's tables.
//!
//! | input | |
//! |---|---|
//! | 1 byte | the section |
//! | the rest | entries |

use seawall::testing::recode_chunk;

/// The section of the next ids, of which the last entry counts.
const NEXT_IDS: u8 = 6;

/// Bytes as a chunk: what decodes has one encoding.
pub fn checkpoint_chunk(bytes: &[u8]) {
    let Some((&section, data)) = bytes.split_first() else { return };
    let Ok(chunks) = recode_chunk(section, data) else { return };
    let mut same = Vec::new();
    for (found, chunk) in &chunks {
        assert!([section, NEXT_IDS].contains(found), "section {section} has become {found}");
        if *found == section {
            same.extend_from_slice(chunk);
        }
        assert!(recode_chunk(*found, chunk).is_ok(), "an encoding that does not decode");
    }
    let is_same =
        if section == NEXT_IDS { data.ends_with(&same) || data.is_empty() } else { same == data };
    assert!(is_same, "section {section}: {data:?} has become {same:?}");
}

/// The input for a chunk.
pub(super) fn input(section: u8, data: &[u8]) -> Vec<u8> {
    [&[section], data].concat()
}
