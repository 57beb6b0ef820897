//! What `control` says about a database, and its encoding.
//!
//! | bytes | field |
//! |---|---|
//! | 16 | database id |
//! | 4 | page size |
//! | 4 | reserved, zero |
//! | 8 | wall time of creation, milliseconds since 1970 |
//! | 8 | shutdown: 1 creating, 2 open, 3 clean |
//! | 8 | end of the log at a clean shutdown, else 0 |
//! | 8 | measured redo rate, bytes of log per second, 0 unknown |
//! | 8 | measured reads of pages per second, 0 unknown |
//! | 64 | master record, see [`MasterRecord`]; zero before the first checkpoint |
//! | 64 | reserved, zero |
//! | 4 | count of epochs |
//! | 4 | reserved, zero |
//! | 48 each | epochs in ascending order, see [`EpochEntry`] |

use std::io;
use std::sync::Arc;

use crate::codec::{DecodeError, Encode, Reader, to_usize};
use crate::planted::{Bug, is_planted};
use crate::{DatabaseId, Epoch, EpochNonce, Error, Lsn, Result};

use super::CONTROL_NAME;
use super::epoch::EpochEntry;
use super::position::LogPosition;

/// Most epochs in the history. Epochs leave it when a checkpoint needs none of their log, or when they
/// end without a frame. An opening that finds [`EPOCHS_SHORTEN_AT`] or more takes a checkpoint that needs
/// the log of its own epoch alone, so that only openings which crash before that add up.
pub const EPOCHS_MAX: usize = 1024;
/// An opening that finds so many epochs shortens the history: some process may be started and killed
/// over and over.
pub const EPOCHS_SHORTEN_AT: usize = 32;
const _: () = assert!(EPOCHS_SHORTEN_AT < EPOCHS_MAX);
/// Positions between the end of an epoch's log and the start of the next: more than any process can
/// have given out without writing it (invariant W4).
const EPOCH_LSN_STEP: u64 = 1 << 32;

/// What never changes in the life of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its random id.
    pub database: DatabaseId,
    /// Size of a page in bytes.
    pub page_bytes: u32,
    /// Wall time of its creation, milliseconds since 1970.
    pub created_ms: u64,
}

/// How the last process left the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It did not finish creating it.
    Creating,
    /// It still has it open, or ended without closing it: recovery is needed.
    Open,
    /// It closed it, and the log ends there.
    Clean {
        /// End of the log.
        lsn: Lsn,
    },
}

/// Where recovery begins: the last finished checkpoint.
///
/// | bytes | field |
/// |---|---|
/// | 8 | LSN of its begin record; never 0 |
/// | 8 | end of its end record |
/// | 8 | redo starts here |
/// | 8 | undo may need the log from here; 0 for none |
/// | 16 | place of the frame that holds the begin record |
/// | 16 | place of the frame that holds [`MasterRecord::start_lsn`] |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterRecord {
    /// Its begin record.
    pub begin_lsn: Lsn,
    /// End of its end record: the log is durable up to here.
    pub end_lsn: Lsn,
    /// No page lacks a change below.
    pub redo_lsn: Lsn,
    /// The oldest log that undo needs; [`Lsn::NONE`] where it needs none. What was moved to undo files
    /// is not in it.
    pub undo_lsn: Lsn,
    /// The frame that holds `begin_lsn`.
    pub begin_at: LogPosition,
    /// The frame that holds [`MasterRecord::start_lsn`].
    pub start_at: LogPosition,
}

/// Speeds measured in earlier recoveries, which pace the page cleaner. 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Bytes of log that analysis and redo work off in a second, page reads aside.
    pub redo_bytes_per_s: u64,
    /// Pages that redo reads in a second of reading.
    pub page_reads_per_s: u64,
}

/// Everything that `control` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlState {
    /// What never changes.
    pub identity: Identity,
    /// How the last process left the database.
    pub shutdown: Shutdown,
    /// Speeds of earlier recoveries.
    pub rates: Rates,
    /// The last checkpoint; `None` before the first.
    pub master: Option<MasterRecord>,
    /// Epochs that the log still holds, in ascending order; at most [`EPOCHS_MAX`].
    pub epochs: Vec<EpochEntry>,
}

/// No database has had so many epochs.
const EPOCH_MAX: u64 = 1 << 62;
/// No epoch begins further up: its log needs room, and so does the next epoch.
const LSN_MAX: u64 = u64::MAX - (1 << 48);

const CREATING: u64 = 1;
const OPEN: u64 = 2;
const CLEAN: u64 = 3;
const RESERVED_BYTES: usize = 64;
const SHUTDOWN_AT: usize = 32;
const EPOCHS_AT: usize = SHUTDOWN_AT + 16 + 16 + MasterRecord::ENCODED_BYTES + RESERVED_BYTES;
/// Length of the longest encoding.
pub(super) const STATE_BYTES_MAX: usize = EPOCHS_AT + 8 + EPOCHS_MAX * EpochEntry::ENCODED_BYTES;

impl MasterRecord {
    const ENCODED_BYTES: usize = 4 * 8 + 2 * LogPosition::ENCODED_BYTES;

    /// Recovery reads the log from here.
    #[must_use]
    pub fn start_lsn(&self) -> Lsn {
        if self.undo_lsn.is_none() { self.redo_lsn } else { self.redo_lsn.min(self.undo_lsn) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        assert!(!self.begin_lsn.is_none(), "a checkpoint begins at a position");
        for lsn in [self.begin_lsn, self.end_lsn, self.redo_lsn, self.undo_lsn] {
            out.put_u64(lsn.get());
        }
        self.begin_at.encode(out);
        self.start_at.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let begin_lsn = Lsn::new(reader.u64()?);
        if begin_lsn.is_none() {
            reader.zeros(Self::ENCODED_BYTES - 8)?;
            return Ok(None);
        }
        Ok(Some(Self {
            begin_lsn,
            end_lsn: Lsn::new(reader.u64()?),
            redo_lsn: Lsn::new(reader.u64()?),
            undo_lsn: Lsn::new(reader.u64()?),
            begin_at: LogPosition::decode(reader)?,
            start_at: LogPosition::decode(reader)?,
        }))
    }
}

impl ControlState {
    /// The state of a database that is being created, in its first epoch, whose log begins at
    /// `first_at`.
    #[must_use]
    pub fn new(identity: Identity, nonce: EpochNonce, first_at: LogPosition) -> Self {
        let first = EpochEntry {
            epoch: Epoch::new(1),
            nonce,
            start_lsn: Lsn::new(EPOCH_LSN_STEP),
            continues_from_lsn: Lsn::NONE,
            segment: first_at.segment,
            offset: first_at.offset,
        };
        Self {
            identity,
            shutdown: Shutdown::Creating,
            rates: Rates::default(),
            master: None,
            epochs: vec![first],
        }
    }

    /// The epoch that the log ends in.
    ///
    /// # Panics
    /// Never for a state that was decoded or made by [`ControlState::new`].
    #[must_use]
    pub fn last_epoch(&self) -> &EpochEntry {
        self.epochs.last().expect("the history always holds the last epoch")
    }

    /// Starts the epoch that goes on with the log at `resume`, after it was accepted up to
    /// `end_lsn`, in a frame of `last_accepted` (`None` when no frame was). Epochs behind that one
    /// ended without a frame and leave the history. Returns the new entry, which takes effect when
    /// this state is durable.
    ///
    /// # Errors
    /// [`Error::Io`] of `control` when the history is full: [`EPOCHS_MAX`] openings in a row wrote to the log and
    /// crashed before a checkpoint was finished that needs no log of earlier ones.
    pub fn start_epoch(
        &mut self,
        nonce: EpochNonce,
        end_lsn: Lsn,
        last_accepted: Option<Epoch>,
        resume: LogPosition,
    ) -> Result<EpochEntry> {
        let last = *self.last_epoch();
        let kept = last_accepted
            .map_or(0, |accepted| self.epochs.partition_point(|entry| entry.epoch <= accepted));
        if kept >= EPOCHS_MAX {
            let why = format!("{EPOCHS_MAX} openings in a row did not finish a checkpoint");
            let source = Arc::new(io::Error::other(why));
            return Err(Error::Io { path: CONTROL_NAME.into(), source });
        }
        let step = if is_planted(Bug::LsnsGivenOutTwice) { 8 } else { EPOCH_LSN_STEP };
        let entry = EpochEntry {
            epoch: Epoch::new(last.epoch.get() + u64::from(!is_planted(Bug::EpochNotBumped))),
            nonce,
            start_lsn: last.start_lsn.max(end_lsn).advance(step),
            continues_from_lsn: end_lsn,
            segment: resume.segment,
            offset: resume.offset,
        };
        self.epochs.truncate(kept);
        self.epochs.push(entry);
        self.shutdown = Shutdown::Open;
        Ok(entry)
    }

    /// Forgets the epochs that end at or below `lsn`, from where on the log is kept.
    pub fn forget_epochs_below(&mut self, lsn: Lsn) {
        let ended = |pair: &[EpochEntry]| pair[1].continues_from_lsn <= lsn;
        let count = self.epochs.windows(2).take_while(|pair| ended(pair)).count();
        self.epochs.drain(..count);
    }

    /// Appends the encoding.
    #[doc(hidden)]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.identity.database.as_bytes());
        out.put_u32(self.identity.page_bytes);
        out.put_u32(0);
        out.put_u64(self.identity.created_ms);
        let (shutdown, clean_lsn) = match self.shutdown {
            Shutdown::Creating => (CREATING, Lsn::NONE),
            Shutdown::Open => (OPEN, Lsn::NONE),
            Shutdown::Clean { lsn } => (CLEAN, lsn),
        };
        out.put_u64(shutdown);
        out.put_u64(clean_lsn.get());
        out.put_u64(self.rates.redo_bytes_per_s);
        out.put_u64(self.rates.page_reads_per_s);
        match &self.master {
            Some(master) => master.encode(out),
            None => out.resize(out.len() + MasterRecord::ENCODED_BYTES, 0),
        }
        out.resize(out.len() + RESERVED_BYTES, 0);
        debug_assert_eq!(out.len() - start, EPOCHS_AT);
        let count = self.epochs.len();
        assert!((1..=EPOCHS_MAX).contains(&count), "a history of {count} epochs");
        out.put_u32(u32::try_from(count).expect("at most EPOCHS_MAX"));
        out.put_u32(0);
        for entry in &self.epochs {
            entry.encode(out);
        }
    }

    /// Reads a state; the checksum in front of it was verified.
    #[doc(hidden)]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let id = reader.take(16)?;
        let database = DatabaseId::new(std::array::from_fn(|i| id[i]));
        let page_bytes = reader.u32()?;
        reader.zeros(4)?;
        let identity = Identity { database, page_bytes, created_ms: reader.u64()? };
        let shutdown = match (reader.u64()?, Lsn::new(reader.u64()?)) {
            (CREATING, Lsn::NONE) => Shutdown::Creating,
            (OPEN, Lsn::NONE) => Shutdown::Open,
            (CLEAN, lsn) => Shutdown::Clean { lsn },
            (kind, lsn) => {
                let found = format!("{kind} with LSN {lsn}");
                return Err(DecodeError::new(SHUTDOWN_AT, "a kind of shutdown", found));
            }
        };
        let rates = Rates { redo_bytes_per_s: reader.u64()?, page_reads_per_s: reader.u64()? };
        let master = MasterRecord::decode(&mut reader)?;
        reader.zeros(RESERVED_BYTES)?;
        let count = to_usize(u64::from(reader.u32()?));
        if !(1..=EPOCHS_MAX).contains(&count) {
            let expected = format!("1 to {EPOCHS_MAX} epochs");
            return Err(DecodeError::new(EPOCHS_AT, expected, count.to_string()));
        }
        reader.zeros(4)?;
        let epochs = (0..count)
            .map(|_| EpochEntry::decode(&mut reader))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        check_epochs(&epochs)?;
        reader.finish()?;
        Ok(Self { identity, shutdown, rates, master, epochs })
    }
}

/// Epochs ascend, and so do their logs; behind the last there is room for another.
fn check_epochs(epochs: &[EpochEntry]) -> Result<(), DecodeError> {
    for (index, pair) in epochs.windows(2).enumerate() {
        let (one, next) = (&pair[0], &pair[1]);
        let ascends = one.epoch < next.epoch
            && one.start_lsn <= next.continues_from_lsn
            && next.continues_from_lsn < next.start_lsn;
        if !ascends {
            let at = EPOCHS_AT + 8 + (index + 1) * EpochEntry::ENCODED_BYTES;
            let expected = format!("an epoch behind {} at {}", one.epoch, one.start_lsn);
            let found = format!("{} from {}", next.epoch, next.continues_from_lsn);
            return Err(DecodeError::new(at, expected, found));
        }
    }
    if let Some(last) = epochs.last()
        && (last.epoch.get() > EPOCH_MAX || last.start_lsn.get() > LSN_MAX)
    {
        let at = EPOCHS_AT + 8 + (epochs.len() - 1) * EpochEntry::ENCODED_BYTES;
        let expected = format!("an epoch of at most {EPOCH_MAX} from {LSN_MAX} or below");
        let found = format!("{} from {}", last.epoch, last.start_lsn);
        return Err(DecodeError::new(at, expected, found));
    }
    Ok(())
}

const _: () = assert!(STATE_BYTES_MAX < 64 << 10);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::control) fn sample() -> ControlState {
        let identity = Identity {
            database: DatabaseId::new(*b"0123456789abcdef"),
            page_bytes: 8192,
            created_ms: 1_700_000_000_000,
        };
        let at = |segment, offset| LogPosition { segment, offset };
        let mut state = ControlState::new(identity, EpochNonce::new(77), at(1, 4096));
        state
            .start_epoch(
                EpochNonce::new(78),
                Lsn::new(0x1_0000_0800),
                Some(Epoch::new(1)),
                at(1, 8192),
            )
            .unwrap();
        state.shutdown = Shutdown::Clean { lsn: Lsn::new(0x2_0000_0c00) };
        state.rates = Rates { redo_bytes_per_s: 100 << 20, page_reads_per_s: 50_000 };
        state.master = Some(MasterRecord {
            begin_lsn: Lsn::new(0x2_0000_0900),
            end_lsn: Lsn::new(0x2_0000_0b00),
            redo_lsn: Lsn::new(0x2_0000_0880),
            undo_lsn: Lsn::new(0x1_0000_0700),
            begin_at: at(1, 16384),
            start_at: at(1, 4096),
        });
        state
    }

    #[test]
    fn a_state_round_trips_and_its_bytes_are_those_of_the_table() {
        let state = sample();
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let hex: Vec<String> = bytes
            .chunks(16)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let zeros = "0".repeat(32);
        assert_eq!(
            hex,
            [
                "30313233343536373839616263646566",
                "00200000000000000068e5cf8b010000",
                "0300000000000000000c000002000000",
                "000040060000000050c3000000000000",
                "0009000002000000000b000002000000",
                "80080000020000000007000001000000",
                "01000000000000000040000000000000",
                "01000000000000000010000000000000",
                &zeros,
                &zeros,
                &zeros,
                &zeros,
                "02000000000000000100000000000000",
                "4d000000000000000000000001000000",
                "00000000000000000100000000000000",
                "00100000000000000200000000000000",
                "4e000000000000000008000002000000",
                "00080000010000000100000000000000",
                "0020000000000000",
            ]
        );
        assert_eq!(ControlState::decode(&bytes), Ok(state));
    }

    #[test]
    fn a_state_cut_short_or_with_reserved_bytes_set_is_refused() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        for length in 0..bytes.len() {
            assert!(ControlState::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        bytes[130] = 1;
        assert!(ControlState::decode(&bytes).is_err());
    }

    #[test]
    fn a_place_between_blocks_in_a_master_record_or_an_epoch_is_refused() {
        let master = EPOCHS_AT - RESERVED_BYTES - MasterRecord::ENCODED_BYTES;
        let offset_in_epoch = EpochEntry::ENCODED_BYTES - 8;
        let places = [master + 40, master + 56, EPOCHS_AT + 8 + offset_in_epoch];
        for place in places {
            let mut bytes = Vec::new();
            sample().encode(&mut bytes);
            bytes[place] ^= 1;
            let refused = ControlState::decode(&bytes).unwrap_err();
            assert!(refused.expected.contains("a frame's place"), "{refused}");
        }
    }

    #[test]
    fn an_epoch_behind_which_none_can_begin_is_refused() {
        for (epoch, start_lsn, is_taken) in [
            (EPOCH_MAX, LSN_MAX, true),
            (EPOCH_MAX + 1, LSN_MAX, false),
            (EPOCH_MAX, LSN_MAX + 1, false),
            (u64::MAX, u64::MAX, false),
        ] {
            let mut state = sample();
            let last = state.epochs.last_mut().unwrap();
            (last.epoch, last.start_lsn) = (Epoch::new(epoch), Lsn::new(start_lsn));
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            let decoded = ControlState::decode(&bytes);
            assert_eq!(decoded.is_ok(), is_taken, "{epoch} {start_lsn}");
            if let Ok(mut state) = decoded {
                let (nonce, place) = (EpochNonce::new(1), LogPosition { segment: 1, offset: 4096 });
                let last = Some(Epoch::new(epoch));
                // It would have panicked, not failed.
                assert!(state.start_epoch(nonce, Lsn::new(start_lsn), last, place).is_ok());
            }
        }
    }

    #[test]
    fn an_epoch_without_a_frame_leaves_the_history() {
        let mut state = sample();
        let at = LogPosition { segment: 1, offset: 8192 };
        let end_lsn = state.last_epoch().continues_from_lsn;
        let entry =
            state.start_epoch(EpochNonce::new(5), end_lsn, Some(Epoch::new(1)), at).unwrap();
        assert_eq!(state.epochs.len(), 2);
        assert_eq!(entry.epoch, Epoch::new(3));
        assert_eq!(entry.continues_from_lsn, end_lsn);
        assert_eq!(entry.start_lsn, Lsn::new(0x3_0000_0800));
        let entry = state.start_epoch(EpochNonce::new(6), Lsn::NONE, None, at).unwrap();
        assert_eq!(state.epochs, [entry]);
        assert_eq!(entry.epoch, Epoch::new(4));
    }

    #[test]
    fn epochs_whose_log_is_gone_leave_the_history() {
        let mut state = sample();
        let end = state.epochs[1].continues_from_lsn;
        state.forget_epochs_below(Lsn::new(end.get() - 8));
        assert_eq!(state.epochs.len(), 2);
        state.forget_epochs_below(end);
        assert_eq!(state.epochs.len(), 1);
        state.forget_epochs_below(Lsn::MAX);
        assert_eq!(state.epochs.len(), 1);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut state = sample();
        let mut open = || {
            let last = *state.last_epoch();
            let at = LogPosition { segment: 9, offset: 4096 };
            let end_lsn = last.start_lsn.advance(80);
            state.start_epoch(EpochNonce::new(1), end_lsn, Some(last.epoch), at).map(|_| ())
        };
        for _ in 2..EPOCHS_MAX {
            open().unwrap();
        }
        assert!(matches!(open(), Err(Error::Io { .. })));
        assert_eq!(state.epochs.len(), EPOCHS_MAX);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(bytes.len(), STATE_BYTES_MAX);
        assert_eq!(ControlState::decode(&bytes), Ok(state));
    }
}
