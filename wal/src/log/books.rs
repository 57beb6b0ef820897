//! The sums behind credit: what is free, what is promised, and what may be promised.
//!
//! Ring: `ring_free` is what no credit holds and no unframed byte occupies. A frame gives back its
//! payload when it has been copied.
//!
//! Files: let `available` be what can still be placed within the bound, as
//! [`sizes`](super::sizes) counts it. Write `o` for the largest overhead of a frame (header and
//! padding), and count in sixteenths of a byte. Every credit is charged 17/16 of its payload, and one
//! `o` on top for a synchronous commit. The charge stays until the payload is in a frame:
//! `slack = available - charged`.
//!
//! * A frame of at least `16 o` payload bytes costs no more than the charge it releases, and neither
//!   does one with a prepaid record: slack does not fall. Prepayments beyond the first are refunded.
//! * Any other frame costs at most `o` more than it releases. The flusher's own frames may only take
//!   this from slack above both reserves; frames that somebody waits for may also take it from the
//!   frame reserve ([`FRAME_RESERVE`] overheads), and below that not at all ([`Error::NoSpace`]).
//! * A normal credit must leave both reserves in slack. A credit of [`Purpose::Reserve`] may take all
//!   of it, and never waits for files: those who would make room ask for it, so nobody else will. One
//!   of [`Purpose::Rollback`] leaves both reserves. One of [`Purpose::Garbage`] does not wait either,
//!   and may take a part of the reserve ([`GARBAGE_BYTES_MAX`]): what it leaves is enough for the
//!   checkpoint that the reserve is made for.
//!
//! The same sum is kept over what the segments *own*: the rest of the current one and the spares, files
//! that exist and are filled. Every credit but one of [`Purpose::Reserve`] leaves there what it leaves
//! in slack as well.
//!
//! So slack never falls below zero, and the sum of all placed frames never exceeds what the segments
//! have. What empties a full log (checkpoint and compensation records) always finds the reserve.
//!
//! What a checkpoint has to list beside dirty pages grows with the database. So much more is kept as
//! two checkpoints would take for that ([`Books::set_more_reserve`]).
//!
//! A file is *due* to be made while what is owned, beyond the promises and reserves, is less than
//! [`Room::lead_bytes`]: early enough that nobody who asks for credit has to wait for it.
//!
//! Nothing here waits or locks; [`credit`](super::credit) does.
//!
//! [`Error::NoSpace`]: crate::Error::NoSpace

use crate::codec::to_u64;
use crate::disk::BLOCK_BYTES;
use crate::record::RECORD_ALIGN;
use crate::{Error, Result};

use super::frame::FRAME_HEADER_BYTES;

/// Overheads of frames that somebody waits for, kept beside the reserve of the options.
pub(super) const FRAME_RESERVE: u64 = 64;
/// Largest overhead of a frame over its payload.
pub(super) const FRAME_OVERHEAD_MAX: u64 = to_u64(FRAME_HEADER_BYTES + BLOCK_BYTES - RECORD_ALIGN);
/// Most bytes of the reserve that garbage may take.
pub(super) const GARBAGE_BYTES_MAX: u64 = 128 << 10;
/// It takes at most one part in this many, where the reserve is small.
const GARBAGE_SHARE: u64 = 4;
/// The unit of charges: parts of a byte.
const PARTS: u64 = 16;
/// Charge of one payload byte, in parts.
const CHARGE_PARTS: u64 = PARTS + 1;

/// What a credit is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Ordinary writes.
    #[default]
    Normal,
    /// Compensation records of a transaction whose undo information is not in the log any more.
    /// Waits for a checkpoint where the log is full, and does not fail where the disk is.
    Rollback,
    /// What empties a full log: checkpoint and compensation records. Where even the reserve is used up
    /// it is [`Error::NoSpace`], at once.
    ///
    /// [`Error::NoSpace`]: crate::Error::NoSpace
    Reserve,
    /// What takes garbage away: purge, free and merge records. May take a part of the reserve, makes
    /// a file where those that exist are full, and does not wait for log to be given up: where the
    /// log or the disk is full it is [`Error::NoSpace`], and tried again after the next checkpoint.
    ///
    /// [`Error::NoSpace`]: crate::Error::NoSpace
    Garbage,
}

/// What an appender is going to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreditRequest {
    /// Upper bound of the padded lengths of all records, together.
    pub payload_bytes: u64,
    /// Whether somebody will wait for the last of them to be durable.
    pub is_sync_commit: bool,
    /// What it is for.
    pub purpose: Purpose,
}

/// Why a credit cannot be granted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// The ring is full: a frame has to be built.
    Ring,
    /// The files are full up to the reserve: the log has to be truncated.
    Files,
    /// The files that exist are: one has to be made.
    Owned,
}

/// Sizes that books are opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CreditLimits {
    /// What the ring has room for.
    pub(super) ring_bytes: u64,
    /// File bytes of the permanent reserve.
    pub(super) reserve_bytes: u64,
    /// What an emptied log has available.
    pub(super) capacity_bytes: u64,
}

/// What the segments can still place, in bytes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Within the bound, files not yet made included.
    pub(super) available: u64,
    /// In files that exist.
    pub(super) owned: u64,
    /// How much of what is owned should be left beyond promises and reserves while the next file is
    /// made; [`u64::MAX`] where there is no spare at all.
    pub(super) lead_bytes: u64,
}

impl Room {
    /// Everything within the bound exists.
    #[cfg(test)]
    pub(super) const fn whole(bytes: u64) -> Self {
        Self { available: bytes, owned: bytes, lead_bytes: 0 }
    }
}

/// Who wants a frame to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Somebody waits for it.
    Waited,
    /// Nobody does; it is written for the sake of a kill or of a stamp.
    Idle,
}

/// A frame about to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameCost {
    /// Its payload.
    pub(super) payload_bytes: u64,
    /// Its records whose credit has prepaid a frame.
    pub(super) prepaid_count: u64,
    /// What it takes of the file.
    pub(super) frame_bytes: u64,
}

impl FrameCost {
    fn released_parts(&self) -> u64 {
        charge_parts(self.payload_bytes, self.prepaid_count)
    }
}

/// What payload and prepaid frames are charged.
const fn charge_parts(payload_bytes: u64, prepaid_count: u64) -> u64 {
    payload_bytes * CHARGE_PARTS + prepaid_count * FRAME_OVERHEAD_MAX * PARTS
}

impl CreditRequest {
    fn charge_parts(&self) -> u64 {
        charge_parts(self.payload_bytes, u64::from(self.is_sync_commit))
    }
}

/// Slack that a credit for `purpose` must leave where so much is reserved.
const fn kept_parts(reserve_bytes: u64, purpose: Purpose) -> u64 {
    let frames = FRAME_RESERVE * FRAME_OVERHEAD_MAX;
    match purpose {
        Purpose::Normal | Purpose::Rollback => (reserve_bytes + frames) * PARTS,
        Purpose::Garbage => {
            let share = reserve_bytes / GARBAGE_SHARE;
            let taken = if share < GARBAGE_BYTES_MAX { share } else { GARBAGE_BYTES_MAX };
            (reserve_bytes - taken + frames) * PARTS
        }
        Purpose::Reserve => 0,
    }
}

/// What was promised, set aside and used of ring and files, and what is left; see the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Books {
    limits: CreditLimits,
    /// Beside the permanent reserve.
    more_reserve_bytes: u64,
    ring_free: u64,
    room: Room,
    /// Charges of all credit not yet in a frame, in parts of a byte.
    charged_parts: u64,
}

impl Books {
    /// Nothing promised yet.
    pub(super) const fn new(limits: CreditLimits, room: Room) -> Self {
        let ring_free = limits.ring_bytes;
        Self { limits, more_reserve_bytes: 0, ring_free, room, charged_parts: 0 }
    }

    /// Keeps so much beside the permanent reserve, but no more than half of the log.
    pub(super) fn set_more_reserve(&mut self, bytes: u64) {
        self.more_reserve_bytes = bytes.min(self.limits.capacity_bytes / 2);
    }

    /// Slack that a credit for `purpose` must leave now.
    const fn kept_parts(&self, purpose: Purpose) -> u64 {
        kept_parts(self.limits.reserve_bytes + self.more_reserve_bytes, purpose)
    }

    /// What the segments can place.
    pub(super) const fn room(&self) -> Room {
        self.room
    }

    /// The segments can place something else now.
    pub(super) const fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    fn slack_parts(&self) -> u64 {
        (self.room.available * PARTS).saturating_sub(self.charged_parts)
    }

    /// Payload bytes that could be granted, reserves included.
    pub(super) fn slack_bytes(&self) -> u64 {
        self.slack_parts() / CHARGE_PARTS
    }

    fn owned_slack_parts(&self) -> u64 {
        (self.room.owned * PARTS).saturating_sub(self.charged_parts)
    }

    /// What stands against a request; `None` when nothing does.
    pub(super) fn shortage(&self, request: &CreditRequest) -> Option<Shortage> {
        if self.ring_free < request.payload_bytes {
            return Some(Shortage::Ring);
        }
        let wanted = request.charge_parts() + self.kept_parts(request.purpose);
        if self.slack_parts() < wanted {
            return Some(Shortage::Files);
        }
        match request.purpose {
            _ if self.owned_slack_parts() >= wanted => None,
            Purpose::Normal | Purpose::Rollback | Purpose::Garbage => Some(Shortage::Owned),
            Purpose::Reserve => None,
        }
    }

    /// Whether an emptied log could grant the request.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when not.
    pub(super) fn check_possible(&self, request: &CreditRequest) -> Result<()> {
        let files = request.charge_parts() + kept_parts(self.limits.reserve_bytes, request.purpose);
        let is_possible = request.payload_bytes <= self.limits.ring_bytes
            && files <= self.limits.capacity_bytes * PARTS;
        if is_possible {
            return Ok(());
        }
        let why = format!(
            "{} bytes of records never fit the log; raise max_wal_bytes",
            request.payload_bytes
        );
        Err(Error::InvalidArgument(why))
    }

    /// Promises what a request asks for, which nothing stands against.
    pub(super) fn promise(&mut self, request: &CreditRequest) {
        self.ring_free -= request.payload_bytes;
        self.charged_parts += request.charge_parts();
    }

    /// Promises ring room for what is charged already; says whether there was any.
    ///
    /// # Panics
    /// When the ring could not hold it if it were empty.
    pub(super) const fn promise_ring(&mut self, payload_bytes: u64) -> bool {
        assert!(payload_bytes <= self.limits.ring_bytes, "more than the ring holds");
        let has_room = self.ring_free >= payload_bytes;
        if has_room {
            self.ring_free -= payload_bytes;
        }
        has_room
    }

    /// Takes promises back: ring room, and charges of payload and prepaid frames.
    pub(super) const fn take_back(
        &mut self,
        ring_bytes: u64,
        payload_bytes: u64,
        prepaid_count: u64,
    ) {
        self.ring_free += ring_bytes;
        self.charged_parts -= charge_parts(payload_bytes, prepaid_count);
    }

    /// Whether a frame may be placed, see the module.
    pub(super) fn allows(&self, cost: &FrameCost, demand: Demand) -> bool {
        let missing = (cost.frame_bytes * PARTS).saturating_sub(cost.released_parts());
        let kept = match demand {
            Demand::Waited => 0,
            Demand::Idle => self.kept_parts(Purpose::Normal),
        };
        missing == 0 || self.slack_parts() >= missing + kept
    }

    /// A frame was placed and its payload copied; `room` is what the segments can place now.
    pub(super) fn framed(&mut self, cost: &FrameCost, room: Room) {
        self.take_back(cost.payload_bytes, cost.payload_bytes, cost.prepaid_count);
        self.room = room;
        debug_assert!(self.ring_free <= self.limits.ring_bytes, "no more than the ring is free");
    }

    /// Whether the next file should be made now.
    pub(super) fn is_file_due(&self) -> bool {
        let kept = self.kept_parts(Purpose::Normal);
        let lead = self.room.lead_bytes.saturating_mul(PARTS);
        self.owned_slack_parts() < lead.saturating_add(kept)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::codec::to_usize;
    use crate::log::frame::frame_bytes;

    const RESERVE: u64 = 64 << 10;
    const RING: u64 = 1 << 20;

    fn books(file_bytes: u64) -> Books {
        let limits =
            CreditLimits { ring_bytes: RING, reserve_bytes: RESERVE, capacity_bytes: file_bytes };
        Books::new(limits, Room::whole(file_bytes))
    }

    /// Promises a request where nothing stands against it.
    fn promise(books: &mut Books, request: &CreditRequest) -> bool {
        let is_granted = books.shortage(request).is_none();
        if is_granted {
            books.promise(request);
        }
        is_granted
    }

    /// A place for frames that must never run out.
    struct File {
        left: u64,
    }

    impl File {
        /// Builds a frame of these records: length, and whether it has prepaid a frame.
        fn frame(&mut self, books: &mut Books, records: &[(u64, bool)], demand: Demand) -> bool {
            let payload_bytes = records.iter().map(|(length, _)| length).sum();
            let cost = FrameCost {
                payload_bytes,
                prepaid_count: to_u64(records.iter().filter(|(_, is_prepaid)| *is_prepaid).count()),
                frame_bytes: to_u64(frame_bytes(to_usize(payload_bytes))),
            };
            if !books.allows(&cost, demand) {
                return false;
            }
            self.left = self.left.checked_sub(cost.frame_bytes).expect("the file is full");
            books.framed(&cost, Room::whole(self.left));
            true
        }
    }

    fn sync_commit(payload_bytes: u64) -> CreditRequest {
        CreditRequest { payload_bytes, is_sync_commit: true, ..Default::default() }
    }

    #[test]
    fn every_synchronous_commit_granted_fits_in_a_frame_of_its_own() {
        let mut file = File { left: 1 << 20 };
        let mut books = books(file.left);
        let mut count = 0;
        while promise(&mut books, &sync_commit(40)) {
            count += 1;
        }
        assert!(count > 100);
        let before = books.slack_parts();
        for _ in 0..count {
            assert!(file.frame(&mut books, &[(40, true)], Demand::Waited));
        }
        assert!(books.slack_parts() >= before);
    }

    #[test]
    fn a_shared_frame_refunds_all_prepayments_but_one() {
        let mut file = File { left: 1 << 20 };
        let mut books = books(file.left);
        let empty = books.slack_parts();
        for _ in 0..50 {
            assert!(promise(&mut books, &sync_commit(40)));
        }
        assert!(file.frame(&mut books, &[(40, true); 50], Demand::Waited));
        assert_eq!(empty - books.slack_parts(), to_u64(frame_bytes(50 * 40)) * PARTS);
    }

    #[test]
    fn what_is_taken_back_is_free_again() {
        let mut books = books(1 << 20);
        let empty = books.slack_parts();
        books.promise(&sync_commit(4096));
        assert!(books.slack_parts() < empty);
        books.take_back(4096, 4096, 1);
        assert_eq!((books.slack_parts(), books.ring_free), (empty, RING));
        assert!(books.promise_ring(RING));
        assert!(!books.promise_ring(8));
        books.take_back(RING, 0, 0);
        assert_eq!(books.ring_free, RING);
    }

    #[test]
    fn what_is_kept_beside_the_reserve_is_for_what_empties_the_log() {
        let mut books = books(1 << 20);
        books.set_more_reserve(100 << 10);
        let normal = CreditRequest { payload_bytes: 1000, ..CreditRequest::default() };
        while promise(&mut books, &normal) {}
        assert_eq!(books.shortage(&normal), Some(Shortage::Files));
        assert!(books.slack_bytes() >= RESERVE + (90 << 10), "{}", books.slack_bytes());
        let payload_bytes = books.slack_bytes();
        let checkpoint =
            CreditRequest { payload_bytes, purpose: Purpose::Reserve, ..CreditRequest::default() };
        assert!(promise(&mut books, &checkpoint));
        books.set_more_reserve(u64::MAX);
        assert_eq!(books.more_reserve_bytes, 512 << 10, "the log is there for writers, too");
        assert!(books.check_possible(&normal).is_ok());
    }

    #[test]
    fn short_frames_that_nobody_waits_for_leave_both_reserves() {
        let mut file = File { left: 1 << 20 };
        let mut books = books(file.left);
        let request = CreditRequest { payload_bytes: 40, ..Default::default() };
        let mut count = 0;
        while promise(&mut books, &request) {
            if !file.frame(&mut books, &[(40, false)], Demand::Idle) {
                assert!(file.frame(&mut books, &[(40, false)], Demand::Waited));
                break;
            }
            count += 1;
        }
        assert!(count > 100);
        assert!(file.left >= RESERVE + (FRAME_RESERVE - 1) * FRAME_OVERHEAD_MAX);
    }

    #[test]
    fn a_file_is_due_before_a_normal_credit_finds_the_owned_ones_short() {
        let mut books = books(1 << 30);
        let kept = RESERVE + FRAME_RESERVE * FRAME_OVERHEAD_MAX;
        let request = CreditRequest { payload_bytes: 160, ..Default::default() };
        let room = |owned, lead_bytes| Room { available: 1 << 30, owned, lead_bytes };
        books.set_room(room(kept + 1170, 1000));
        assert!(!books.is_file_due());
        assert!(promise(&mut books, &request));
        assert!(!books.is_file_due());
        assert!(promise(&mut books, &request));
        assert!(books.is_file_due());
        for _ in 0..4 {
            assert!(promise(&mut books, &request));
        }
        assert_eq!(books.shortage(&request), Some(Shortage::Owned));
        books.set_room(room(1 << 30, 1000));
        assert!(!books.is_file_due());
        books.set_room(room(1 << 30, u64::MAX));
        assert!(books.is_file_due(), "without a spare one is always due");
    }

    #[test]
    fn garbage_leaves_most_of_the_reserve_in_files_that_exist() {
        for reserve_bytes in [RESERVE, 4 << 20] {
            let limits = CreditLimits { ring_bytes: RING, reserve_bytes, capacity_bytes: 8 << 20 };
            let frames = FRAME_RESERVE * FRAME_OVERHEAD_MAX;
            let (purpose, payload_bytes) = (Purpose::Garbage, 400);
            let request = CreditRequest { payload_bytes, purpose, ..Default::default() };
            let full = reserve_bytes + frames;
            let whole = Room::whole(8 << 20);
            for (room, shortage) in [
                (Room { available: full, ..whole }, Shortage::Files),
                (Room { owned: full, ..whole }, Shortage::Owned),
            ] {
                let mut books = Books::new(limits, room);
                while promise(&mut books, &request) {}
                assert_eq!(books.shortage(&request), Some(shortage));
                let left = books.slack_parts().min(books.owned_slack_parts()) / PARTS;
                assert!(left >= frames + reserve_bytes / 2, "{left}");
                assert!(left + GARBAGE_BYTES_MAX >= full, "{left}");
                assert!(left < full, "a part it may take");
            }
        }
    }

    #[test]
    fn a_request_that_an_emptied_log_could_not_grant_is_refused() {
        let books = books(1 << 20);
        let kept = RESERVE + FRAME_RESERVE * FRAME_OVERHEAD_MAX;
        let fits = ((1 << 20) - kept) * PARTS / CHARGE_PARTS;
        let request =
            |payload_bytes, purpose| CreditRequest { payload_bytes, purpose, ..Default::default() };
        assert!(books.check_possible(&request(fits, Purpose::Normal)).is_ok());
        for (bytes, purpose) in [
            (fits + 1, Purpose::Normal),
            (RING + 1, Purpose::Reserve),
            (1 << 40, Purpose::Rollback),
        ] {
            let refused = books.check_possible(&request(bytes, purpose));
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{bytes}");
        }
    }

    #[test]
    fn whatever_is_granted_and_framed_the_file_never_runs_out() {
        for seed in 1..200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let mut file = File { left: 600 << 10 };
            let mut books = books(file.left);
            let mut waiting: Vec<(u64, bool)> = Vec::new();
            // Payload that was promised and never spent.
            let mut kept = Vec::new();
            for _ in 0..2000 {
                let purpose = match random(10) {
                    0 => Purpose::Reserve,
                    1 => Purpose::Garbage,
                    _ => Purpose::Normal,
                };
                let is_sync_commit = random(2) == 0;
                let words = if random(20) == 0 { 20_000 } else { 200 };
                let payload_bytes = 40 + random(words) * 8;
                let request = CreditRequest { payload_bytes, is_sync_commit, purpose };
                if promise(&mut books, &request) {
                    let length = 40 + random((payload_bytes - 40) / 8 + 1) * 8;
                    waiting.push((length, is_sync_commit));
                    let rest = payload_bytes - length;
                    if random(5) == 0 {
                        kept.push(rest);
                    } else {
                        books.take_back(rest, rest, 0);
                    }
                }
                if random(3) == 0 && !waiting.is_empty() {
                    let count = to_usize(random(to_u64(waiting.len())) + 1);
                    let demand = if random(2) == 0 { Demand::Idle } else { Demand::Waited };
                    if file.frame(&mut books, &waiting[..count], demand) {
                        waiting.drain(..count);
                    }
                }
                if random(50) == 0 {
                    kept.drain(..).for_each(|rest| books.take_back(rest, rest, 0));
                }
            }
            // All that is left fits in one go, whatever was done before.
            assert!(
                waiting.is_empty()
                    || books.slack_parts() < FRAME_OVERHEAD_MAX * PARTS
                    || file.frame(&mut books, &waiting, Demand::Waited),
                "seed {seed}"
            );
        }
    }
}
