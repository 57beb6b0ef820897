//! The slots of the `control` file: their format, and the decision which one counts.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | [`COPY_BYTES`] | slot 0, first copy |
//! | 64 KiB | [`COPY_BYTES`] | slot 1, first copy |
//! | 128 KiB | [`COPY_BYTES`] | slot 0, second copy |
//! | 192 KiB | [`COPY_BYTES`] | slot 1, second copy |
//!
//! A copy:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | format version of the whole database |
//! | 12 | 4 | CRC-32C of bytes 0 to 12 |
//! | 16 | 8 | sequence; modulo 2 it is the slot |
//! | 24 | 4 | length of the state |
//! | 28 | 4 | CRC-32C of bytes 0 to 28 and the state |
//! | 32 | | the state, see [`ControlState`] |
//!
//! Sixteen bytes at the front stay the same in every format to come, so that a program can always
//! say that a database is too new for it. A copy is valid if and only if both checksums hold, the
//! sequence belongs to the slot and has others behind it, and the state decodes.
//!
//! | copies | decision |
//! |---|---|
//! | one of a newer format | [`Error::UnsupportedFormat`] |
//! | both of a slot could not be read | that error: what they say may be newer than the rest |
//! | none with the magic | [`Error::Corrupt`]: not a control file |
//! | none valid | [`Error::Corrupt`] |
//! | valid ones of several databases | [`Error::Corrupt`] |
//! | valid ones of one slot | that slot |
//! | valid ones of both slots | the highest sequence |
//!
//! An invalid copy is never repaired (invariant C4); the update after next overwrites it with news.
//! When the highest slot is lost with both copies, an older one wins: that its log is gone, or that
//! the log goes on in an epoch it does not know, is found where the log is read.

use std::io;
use std::path::Path;

use crate::codec::{DecodeError, Reader, to_u64, to_usize};
use crate::disk::{AlignedBuf, BLOCK_BYTES};
use crate::{Error, Result};

use super::state::{ControlState, STATE_BYTES_MAX};

/// The newest format of a database that this program reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"SEAWALL\0";
const VERSION_AT: usize = 8;
const PREAMBLE_CHECKSUM_AT: usize = 12;
const SEQUENCE_AT: usize = 16;
const LENGTH_AT: usize = 24;
const CHECKSUM_AT: usize = 28;
const STATE_AT: usize = 32;

/// No state has had a higher sequence.
const SEQUENCE_MAX: u64 = 1 << 62;

/// Space of one copy of a slot.
pub(super) const COPY_BYTES: usize = 64 << 10;
const SLOTS: usize = 2;
const COPIES: usize = 2;
/// Length of the `control` file.
pub(super) const CONTROL_BYTES: u64 = to_u64(SLOTS * COPIES * COPY_BYTES);
const _: () = assert!(STATE_AT + STATE_BYTES_MAX <= COPY_BYTES);
const _: () = assert!(COPY_BYTES.is_multiple_of(BLOCK_BYTES));

/// The slot that holds the state with this sequence.
const fn slot_of(sequence: u64) -> usize {
    if sequence.is_multiple_of(2) { 0 } else { 1 }
}

/// Offsets of the two copies of the slot that holds the state with this sequence.
pub(super) const fn copy_offsets(sequence: u64) -> [u64; COPIES] {
    let slot = slot_of(sequence);
    [to_u64(slot * COPY_BYTES), to_u64((SLOTS + slot) * COPY_BYTES)]
}

/// The four copies in the order of the file, each with its slot.
pub(super) fn all_copies() -> [(usize, u64); SLOTS * COPIES] {
    std::array::from_fn(|index| (index % SLOTS, to_u64(index * COPY_BYTES)))
}

/// Encodes a copy, padded to whole blocks.
pub(super) fn encode(sequence: u64, state: &ControlState) -> AlignedBuf {
    let mut encoded = Vec::new();
    state.encode(&mut encoded);
    seal(sequence, &encoded)
}

/// The copy with these bytes as its state, be they one or not. Fuzzing needs what is behind the
/// checksum.
///
/// # Panics
/// When they are more than a copy has room for.
#[doc(hidden)]
#[must_use]
pub fn seal(sequence: u64, encoded: &[u8]) -> AlignedBuf {
    let mut copy = AlignedBuf::new((STATE_AT + encoded.len()).next_multiple_of(BLOCK_BYTES));
    let length = u32::try_from(encoded.len()).expect("at most STATE_BYTES_MAX");
    copy[..8].copy_from_slice(&MAGIC);
    copy[VERSION_AT..][..4].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let preamble_checksum = crc32c::crc32c(&copy[..PREAMBLE_CHECKSUM_AT]);
    copy[PREAMBLE_CHECKSUM_AT..][..4].copy_from_slice(&preamble_checksum.to_le_bytes());
    copy[SEQUENCE_AT..][..8].copy_from_slice(&sequence.to_le_bytes());
    copy[LENGTH_AT..][..4].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&copy[..CHECKSUM_AT]), encoded);
    copy[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
    copy[STATE_AT..][..encoded.len()].copy_from_slice(encoded);
    copy
}

/// Whether bytes are not those of a control file of ours, not even of a damaged one: none of the copies
/// begins with the magic.
#[must_use]
pub fn is_foreign(file: &[u8]) -> bool {
    let has_magic = |offset| file.get(to_usize(offset)..).is_some_and(|at| at.starts_with(&MAGIC));
    !all_copies().into_iter().any(|(_, offset)| has_magic(offset))
}

/// What a copy turned out to be.
#[derive(Debug)]
pub(super) enum SlotCopy {
    /// A state with its sequence.
    Valid(u64, Box<ControlState>),
    /// The front is that of a control file; the rest is torn or damaged.
    Damaged(DecodeError),
    /// Nothing that a program of ours wrote.
    Foreign(DecodeError),
    /// Written by a program that knows more.
    Newer(u32),
    /// The disk did not give it out.
    Unreadable(io::Error),
}

impl SlotCopy {
    /// Looks at a copy of `slot`.
    pub(super) fn examine(bytes: &[u8], slot: usize) -> Self {
        match preamble(bytes) {
            Err(error) => Self::Foreign(error),
            Ok(version) if version > FORMAT_VERSION => Self::Newer(version),
            Ok(_) => match decode(bytes, slot) {
                Ok((sequence, state)) => Self::Valid(sequence, Box::new(state)),
                Err(error) => Self::Damaged(error),
            },
        }
    }
}

/// Checks the bytes that are the same in every format; returns the version.
fn preamble(bytes: &[u8]) -> Result<u32, DecodeError> {
    let mut reader = Reader::new(bytes);
    let magic = reader.take(8)?;
    if magic != MAGIC {
        return Err(DecodeError::new(0, "the magic of a control file", format!("{magic:02x?}")));
    }
    let version = reader.u32()?;
    let computed = crc32c::crc32c(&bytes[..PREAMBLE_CHECKSUM_AT]);
    let found = reader.u32()?;
    if found != computed {
        let expected = format!("checksum {computed:#010x}");
        return Err(DecodeError::new(PREAMBLE_CHECKSUM_AT, expected, format!("{found:#010x}")));
    }
    Ok(version)
}

fn decode(bytes: &[u8], slot: usize) -> Result<(u64, ControlState), DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.take(VERSION_AT)?;
    let version = reader.u32()?;
    if version != FORMAT_VERSION {
        let expected = format!("format {FORMAT_VERSION}");
        return Err(DecodeError::new(VERSION_AT, expected, version.to_string()));
    }
    reader.take(SEQUENCE_AT - PREAMBLE_CHECKSUM_AT)?;
    let sequence = reader.u64()?;
    let length = to_usize(u64::from(reader.u32()?));
    let checksum = reader.u32()?;
    if length > STATE_BYTES_MAX.min(reader.remaining()) {
        let expected = format!("a state of at most {STATE_BYTES_MAX} bytes");
        return Err(DecodeError::new(LENGTH_AT, expected, length.to_string()));
    }
    let encoded = reader.take(length)?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKSUM_AT]), encoded);
    if checksum != computed {
        let expected = format!("checksum {computed:#010x}");
        return Err(DecodeError::new(CHECKSUM_AT, expected, format!("{checksum:#010x}")));
    }
    if slot_of(sequence) != slot || sequence > SEQUENCE_MAX {
        let expected = format!("a sequence of slot {slot}, at most {SEQUENCE_MAX}");
        return Err(DecodeError::new(SEQUENCE_AT, expected, sequence.to_string()));
    }
    let state = ControlState::decode(encoded)
        .map_err(|error| DecodeError { offset: STATE_AT + error.offset, ..error })?;
    Ok((sequence, state))
}

/// The state that counts, and the one in the other slot, where that is valid.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) sequence: u64,
    pub(super) state: ControlState,
    pub(super) other: Option<ControlState>,
}

/// The decision table of the module. `copies` are in the order of [`all_copies`].
pub(super) fn choose(path: &Path, copies: [SlotCopy; SLOTS * COPIES]) -> Result<Chosen> {
    let mut valid: [Option<(u64, Box<ControlState>)>; SLOTS] = [None, None];
    let mut newest = None;
    let mut unreadable: [Vec<io::Error>; SLOTS] = [Vec::new(), Vec::new()];
    let (mut damage, mut foreign) = (None, None);
    for (copy, (slot, offset)) in copies.into_iter().zip(all_copies()) {
        match copy {
            SlotCopy::Valid(sequence, state) => {
                if valid[slot].as_ref().is_none_or(|(best, _)| sequence > *best) {
                    valid[slot] = Some((sequence, state));
                }
            }
            SlotCopy::Newer(version) => newest = newest.max(Some(version)),
            SlotCopy::Damaged(error) => damage = damage.or(Some((error, offset))),
            SlotCopy::Foreign(error) => foreign = foreign.or(Some((error, offset))),
            SlotCopy::Unreadable(error) => unreadable[slot].push(error),
        }
    }
    if let Some(found) = newest {
        return Err(Error::UnsupportedFormat { found, supported: FORMAT_VERSION });
    }
    for mut errors in unreadable {
        if errors.len() == COPIES {
            return Err(Error::io(path, errors.remove(0)));
        }
    }
    let (best, other) = match valid {
        [Some(one), Some(two)] if one.0 > two.0 => (one, Some(two.1)),
        [Some(one), Some(two)] => (two, Some(one.1)),
        [Some(one), None] | [None, Some(one)] => (one, None),
        [None, None] => {
            let (error, offset) =
                damage.or(foreign).expect("a copy that is neither valid nor unreadable is there");
            return Err(error.in_file(path, offset));
        }
    };
    let (sequence, state) = best;
    if let Some(other) = &other
        && other.identity != state.identity
    {
        return Err(Error::corrupt(
            path,
            copy_offsets(sequence + 1)[0],
            format!("a slot of database {}", state.identity.database),
            format!("one of database {}", other.identity.database),
        ));
    }
    Ok(Chosen { sequence, state: *state, other: other.map(|state| *state) })
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::sample;
    use super::*;
    use crate::DatabaseId;

    const PATH: &str = "/db/control";

    fn valid(sequence: u64) -> SlotCopy {
        SlotCopy::examine(&encode(sequence, &sample()), slot_of(sequence))
    }

    fn damaged() -> SlotCopy {
        let mut bytes = encode(2, &sample());
        bytes[STATE_AT] ^= 1;
        SlotCopy::examine(&bytes, 0)
    }

    fn foreign() -> SlotCopy {
        SlotCopy::examine(&[0; COPY_BYTES], 0)
    }

    fn unreadable() -> SlotCopy {
        SlotCopy::Unreadable(io::Error::other("a bad sector"))
    }

    /// Copies in the order of the file: slot 0, slot 1, slot 0, slot 1.
    fn decide(copies: [SlotCopy; 4]) -> Result<(u64, bool)> {
        choose(Path::new(PATH), copies).map(|chosen| (chosen.sequence, chosen.other.is_some()))
    }

    #[test]
    fn row_of_a_newer_format_wins_even_when_nothing_else_can_be_parsed() {
        let newer = || {
            let mut bytes = vec![0xee; COPY_BYTES];
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[VERSION_AT..][..4].copy_from_slice(&9_u32.to_le_bytes());
            let checksum = crc32c::crc32c(&bytes[..PREAMBLE_CHECKSUM_AT]);
            bytes[PREAMBLE_CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
            SlotCopy::examine(&bytes, 1)
        };
        for copies in [
            [newer(), foreign(), foreign(), foreign()],
            [valid(2), newer(), valid(2), unreadable()],
            [damaged(), damaged(), damaged(), newer()],
        ] {
            let result = decide(copies);
            assert!(
                matches!(result, Err(Error::UnsupportedFormat { found: 9, supported: 1 })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn row_of_a_slot_that_cannot_be_read_is_its_error() {
        let result = decide([valid(4), unreadable(), valid(4), unreadable()]);
        assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
        assert_eq!(decide([unreadable(), valid(5), valid(4), unreadable()]).unwrap(), (5, true));
    }

    #[test]
    fn row_of_a_foreign_file_is_corruption() {
        match decide([foreign(), foreign(), foreign(), foreign()]) {
            Err(Error::Corrupt { file, offset: 0, expected, .. }) => {
                assert_eq!(file, Path::new(PATH));
                assert!(expected.contains("magic"), "{expected}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn row_without_a_valid_copy_is_corruption() {
        match decide([foreign(), damaged(), foreign(), damaged()]) {
            Err(Error::Corrupt { offset, expected, .. }) => {
                assert_eq!(offset, to_u64(COPY_BYTES + CHECKSUM_AT));
                assert!(expected.contains("checksum"), "{expected}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn row_of_several_databases_is_corruption() {
        let mut other = sample();
        other.identity.database = DatabaseId::new([1; 16]);
        let other = || SlotCopy::examine(&encode(5, &other), 1);
        let result = decide([valid(4), other(), valid(4), other()]);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    }

    #[test]
    fn row_of_one_valid_slot_wins_with_either_copy() {
        assert_eq!(decide([valid(4), damaged(), valid(4), damaged()]).unwrap(), (4, false));
        assert_eq!(decide([valid(4), damaged(), damaged(), damaged()]).unwrap(), (4, false));
        assert_eq!(decide([damaged(), foreign(), valid(4), damaged()]).unwrap(), (4, false));
        assert_eq!(decide([damaged(), damaged(), damaged(), valid(3)]).unwrap(), (3, false));
    }

    #[test]
    fn row_of_both_valid_slots_takes_the_highest_sequence() {
        assert_eq!(decide([valid(4), valid(5), valid(4), valid(5)]).unwrap(), (5, true));
        assert_eq!(decide([valid(6), valid(5), valid(6), valid(5)]).unwrap(), (6, true));
        // A crash between the two copies of a slot.
        assert_eq!(decide([valid(6), valid(5), valid(4), valid(5)]).unwrap(), (6, true));
        assert_eq!(decide([valid(4), valid(5), damaged(), valid(3)]).unwrap(), (5, true));
    }

    #[test]
    fn a_file_is_foreign_when_no_copy_has_the_magic() {
        let mut file = vec![0xee; to_usize(CONTROL_BYTES)];
        assert!(is_foreign(&file) && is_foreign(&[]));
        assert!(is_foreign(&file[..7]));
        for (_, offset) in all_copies() {
            file[to_usize(offset)..][..8].copy_from_slice(&MAGIC);
            assert!(!is_foreign(&file));
            assert!(!is_foreign(&file[..to_usize(offset) + 8]), "cut behind the magic");
            file[to_usize(offset)] ^= 1;
        }
        file[1..9].copy_from_slice(&MAGIC);
        assert!(is_foreign(&file), "the magic is in another place");
    }

    #[test]
    fn a_copy_in_the_place_of_the_other_slot_is_invalid() {
        let bytes = encode(4, &sample());
        assert!(matches!(SlotCopy::examine(&bytes, 0), SlotCopy::Valid(4, _)));
        assert!(matches!(SlotCopy::examine(&bytes, 1), SlotCopy::Damaged(_)));
    }

    #[test]
    fn a_sequence_behind_which_there_is_none_is_refused() {
        assert!(matches!(valid(SEQUENCE_MAX), SlotCopy::Valid(SEQUENCE_MAX, _)));
        for sequence in [SEQUENCE_MAX + 1, u64::MAX] {
            match valid(sequence) {
                SlotCopy::Damaged(error) => assert_eq!(error.offset, SEQUENCE_AT, "{error}"),
                other => panic!("{sequence}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_changed_byte_of_a_copy_is_noticed() {
        let bytes = encode(4, &sample());
        let length =
            to_usize(u64::from(u32::from_le_bytes(std::array::from_fn(|i| bytes[LENGTH_AT + i]))));
        for at in 0..STATE_AT + length {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x20;
            let copy = SlotCopy::examine(&changed, 0);
            assert!(
                matches!(copy, SlotCopy::Damaged(_) | SlotCopy::Foreign(_)),
                "byte {at}: {copy:?}"
            );
        }
    }

    #[test]
    fn the_front_of_a_copy_is_that_of_the_table() {
        let bytes = encode(4, &sample());
        let hex: String = bytes[..STATE_AT].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "53454157414c4c000100000089cab8e10400000000000000280100000175f306");
    }
}
