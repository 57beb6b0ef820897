//! The `control` file.
//!
//! | input | |
//! |---|---|
//! | 1 byte | modulo 3: which of these the rest is |
//! | 0 | the file |
//! | 1 | a state |
//! | 2 | four copies in the order of the file: sequence (8 bytes), state (a piece); behind right checksums |

use std::path::Path;

use seawall::Error;
use seawall_wal::control::{CONTROL_NAME, Control, ControlState, LogPosition, seal};
use seawall_wal::disk::SimDisk;

use super::input::{Input, piece};
use crate::settings::PATH;

/// Where copies lie, and how many there are; the table is in the file that encodes them.
const COPY_BYTES: usize = 64 << 10;
const COPIES: usize = 4;
const SLOTS: u64 = 2;
/// No state of an input is longer: a copy has room for it.
const STATE_BYTES_MAX: usize = 32 << 10;

/// Where a log goes on.
const FIRST_PLACE: LogPosition = LogPosition { segment: 1, offset: 4096 };

/// Bytes as the file: what it says is what a copy says, and stays so when it is written again.
pub fn control(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => drop(open(input.rest())),
        1 => state(input.rest()),
        _ => {
            let copies: [_; COPIES] = std::array::from_fn(|_| {
                let sequence = input.number(8);
                let state = input.piece();
                (sequence, &state[..state.len().min(STATE_BYTES_MAX)])
            });
            slots(copies);
        }
    }
}

/// The input for a state.
pub(super) fn input_of_state(state: &[u8]) -> Vec<u8> {
    [&[1], state].concat()
}

/// The input for four copies.
pub(super) fn input_of_copies(copies: [(u64, &[u8]); COPIES]) -> Vec<u8> {
    let copies =
        copies.map(|(sequence, state)| [&sequence.to_le_bytes()[..], &piece(state)].concat());
    [&[2][..], &copies.concat()].concat()
}

/// Opens the file; changes the state and opens it again.
fn open(file: &[u8]) -> Result<ControlState, Error> {
    let disk = SimDisk::new();
    let dir = Path::new(PATH);
    disk.write_file(&dir.join(CONTROL_NAME), file);
    let open = |is_read_only| Control::open(&disk, dir, is_read_only);
    let control = open(false)?.expect("the file is there");
    let found = control.state();
    let read_only = open(true).expect("it was opened before").expect("the file is there");
    assert_eq!(read_only.state(), found, "read only, it says something else");
    assert!(control.needed_lsn() <= found.master.map_or(seawall::Lsn::NONE, |it| it.start_lsn()));
    let rate = found.rates.redo_bytes_per_s ^ 1;
    control.update(|state| state.rates.redo_bytes_per_s = rate).expect("the disk works");
    let again = open(false).expect("what was just written").expect("the file is there");
    let mut expected = found.clone();
    expected.rates.redo_bytes_per_s = rate;
    assert_eq!(again.state(), expected, "an update is not there");
    Ok(found)
}

fn state(bytes: &[u8]) {
    let Ok(state) = ControlState::decode(bytes) else { return };
    let mut again = Vec::new();
    state.encode(&mut again);
    assert!(again == bytes, "two encodings of {state:?}");
    assert!(!state.epochs.is_empty(), "a history without an epoch");
    let last = *state.last_epoch();
    let mut next = state.clone();
    // A history may be full.
    if let Ok(entry) = next.start_epoch(last.nonce, last.start_lsn, Some(last.epoch), FIRST_PLACE) {
        assert!(
            entry.epoch > last.epoch && entry.start_lsn > last.start_lsn,
            "{entry} behind {last}"
        );
    }
    if bytes.len() <= STATE_BYTES_MAX {
        let found = open(&file([(2, bytes), (3, &[]), (2, &[]), (3, &[])]));
        assert_eq!(found.expect("one copy is valid"), state, "another state");
    }
}

/// A file with these copies.
fn file(copies: [(u64, &[u8]); COPIES]) -> Vec<u8> {
    let mut file = vec![0; COPIES * COPY_BYTES];
    for (place, (sequence, state)) in file.chunks_mut(COPY_BYTES).zip(copies) {
        let copy = seal(sequence, state);
        place[..copy.len()].copy_from_slice(&copy);
    }
    file
}

fn slots(copies: [(u64, &[u8]); COPIES]) {
    let valid = copies.iter().zip([0, 1].into_iter().cycle()).filter_map(|(copy, slot)| {
        let (sequence, state) = *copy;
        let decoded = (sequence % SLOTS == slot).then(|| ControlState::decode(state).ok());
        decoded.flatten().map(|state| (sequence, state))
    });
    let valid: Vec<_> = valid.collect();
    let newest = valid.iter().map(|(sequence, _)| *sequence).max();
    match open(&file(copies)) {
        Ok(found) => {
            let is_newest = |(sequence, state): &(u64, ControlState)| {
                Some(*sequence) == newest && *state == found
            };
            assert!(valid.iter().any(is_newest), "not the newest of the valid copies: {found:?}");
        }
        Err(Error::Corrupt { .. }) => {
            let ids: Vec<_> = valid.iter().map(|(_, state)| state.identity).collect();
            let is_one = ids.windows(2).all(|pair| pair[0] == pair[1]);
            assert!(ids.is_empty() || !is_one, "a valid copy of one database, and it is refused");
        }
        Err(error) => panic!("{error:?}"),
    }
}
