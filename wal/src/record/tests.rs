//! Records of every kind: round trips, golden bytes, and damage.

use std::borrow::Cow;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::codec::{Encode, Reader, to_u64};
use crate::control::EpochEntry;
use crate::{Epoch, EpochNonce, PageId, TreeId};

const LSN: Lsn = Lsn::new(0x1_0000_0040);
const SEED: u32 = 0x5ea_0a11;
const MAX: usize = record_bytes_max(4096);

/// One body of each kind, several where a kind has variants worth seeing.
fn samples() -> Vec<(&'static str, Body<'static>)> {
    let stamp = Some(Stamp { txn: TxnId::new(300), undo_lsn: Lsn::new(0x1_0000_0000) });
    let put = |kind, before| Op::Put {
        tree: TreeId::new(7),
        key: b"key",
        kind,
        after: Cell::inline(b"after"),
        before,
    };
    let put_stamped = |undo_lsn, before| Op::Put {
        tree: TreeId::new(7),
        key: b"key",
        kind: WriteKind::Replace,
        after: Cell { stamp: Some(Stamp { txn: TxnId::new(300), undo_lsn }), ..Cell::GHOST },
        before,
    };
    let refs = |ops: Vec<Op<'static>>| {
        vec![PageRef {
            page: PageId::new(129),
            page_prev_lsn: Lsn::new(0x1_0000_0000),
            is_init: false,
            ops: Cow::Owned(ops),
        }]
    };
    let init = |page, ops: Vec<Op<'static>>| PageRef {
        page: PageId::new(page),
        page_prev_lsn: Lsn::NONE,
        is_init: true,
        ops: Cow::Owned(ops),
    };
    let extent = |first, count| Extent { first: PageId::new(first), count };
    let commit = CommitInfo {
        wall_ms: 1_700_000_000_000,
        origin: 0,
        deltas: vec![TreeDelta { tree: TreeId::new(7), delta: -2 }],
        freed: vec![extent(1000, 16)],
        parts: 0,
        first_part_lsn: Lsn::NONE,
    };
    let long_commit =
        CommitInfo { parts: 3, first_part_lsn: Lsn::new(0x1_0000_0010), ..CommitInfo::default() };
    let kept =
        Cell { is_ghost: true, is_overflow: true, stamp, capacity_bytes: 200, value: b"link" };
    let mut split = vec![init(131, vec![Op::Image { low: b"front", high: b"back" }])];
    split.extend(refs(vec![
        Op::SplitOff { separator: b"m", right: PageId::new(131) },
        Op::InsertChild { separator: b"m", child: PageId::new(131) },
        Op::RemoveChild { separator: b"n" },
        Op::Absorb { low: b"front", high: b"" },
        Op::Allocate(extent(131, 1)),
        Op::Release(extent(131, 2)),
    ]));
    vec![
        ("insert", Body::Update { refs: refs(vec![put(WriteKind::Insert, None)]) }),
        (
            "replace",
            Body::Update {
                refs: refs(vec![put(WriteKind::Replace, Some(Cell::inline(b"before")))]),
            },
        ),
        ("delete", Body::Update { refs: refs(vec![put(WriteKind::Delete, Some(kept))]) }),
        (
            "stamped",
            Body::Update {
                refs: refs(vec![
                    put_stamped(Stamp::NOTHING_BEFORE, None),
                    put_stamped(Stamp::THIS_RECORD, Some(kept)),
                ]),
            },
        ),
        (
            "auto-commit",
            Body::AutoCommit {
                commit: commit.clone(),
                refs: refs(vec![put(WriteKind::Insert, None)]),
            },
        ),
        ("structure", Body::Structure { refs: split }),
        (
            "compensation",
            Body::Compensation {
                undo_next_lsn: Lsn::new(0x1_0000_0008),
                refs: refs(vec![Op::Remove { tree: TreeId::new(7), key: b"key" }]),
            },
        ),
        ("commit", Body::Commit(commit.clone())),
        ("commit with parts", Body::Commit(long_commit)),
        ("commit part", Body::CommitPart { deltas: commit.deltas, freed: commit.freed }),
        ("rollback end", Body::RollbackEnd),
        (
            "purge",
            Body::Purge {
                horizon: Lsn::new(0x1_0000_0020),
                refs: refs(vec![
                    Op::Remove { tree: TreeId::new(7), key: b"ghost" },
                    Op::Settle { tree: TreeId::new(7), key: b"stamped" },
                ]),
            },
        ),
        (
            "free",
            Body::Free {
                horizon: Lsn::new(0x1_0000_0020),
                refs: refs(vec![Op::Release(extent(1000, 16))]),
            },
        ),
        (
            "epoch start",
            Body::EpochStart(EpochEntry {
                epoch: Epoch::new(2),
                nonce: EpochNonce::new(0x1122_3344_5566_7788),
                start_lsn: Lsn::new(0x2_0000_0000),
                continues_from_lsn: Lsn::new(0x1_0000_0030),
                segment: 1,
                offset: 8192,
            }),
        ),
        ("checkpoint begin", Body::CheckpointBegin),
        (
            "checkpoint chunk",
            Body::CheckpointChunk(CheckpointChunk { section: 2, index: 5, data: b"entries" }),
        ),
        (
            "checkpoint end",
            Body::CheckpointEnd(CheckpointEnd {
                begin_lsn: Lsn::new(0x1_0000_0010),
                redo_lsn: Lsn::new(0x1_0000_0008),
                undo_lsn: Lsn::new(0x1_0000_0000),
                deferred_lsn: Lsn::NONE,
                first_chunk_lsn: Lsn::new(0x1_0000_0018),
                chunks: 6,
                chunks_checksum: 0xcafe_f00d,
                epoch: Epoch::new(1),
                doublewrite_batch: 44,
                wall_ms: 1_700_000_000_000,
            }),
        ),
        ("note", Body::Note(b"a note")),
    ]
}

/// A sealed record at [`LSN`], with its padding.
fn sealed(body: &Body<'_>) -> Vec<u8> {
    let mut encoder = RecordEncoder::new();
    let encoded = encoder.encode(TxnId::new(300), Lsn::new(0x1_0000_0000), body);
    let mut record = encoded.bytes.to_vec();
    header::seal(&mut record, header::checksum(SEED, LSN, encoded.content_checksum));
    record.resize(encoded.padded_length(), 0);
    record
}

fn assert_round_trip(body: &Body<'_>) {
    let bytes = sealed(body);
    let header = header::verify(&bytes, MAX, SEED, LSN).unwrap();
    assert_eq!(header.padded_length(), bytes.len());
    let raw = body_bytes(&header, &bytes).unwrap();
    let record = decode(&header, &raw).unwrap();
    assert_eq!((record.txn, record.prev_lsn), (TxnId::new(300), Lsn::new(0x1_0000_0000)));
    // Bodies with different lifetimes cannot be compared: their lists make them invariant.
    assert_eq!(format!("{:?}", record.body), format!("{body:?}"));
}

/// The golden table: of each sample its envelope, its body, and what they mean.
fn dump() -> String {
    let mut text = String::from(
        "Bytes of one record of each kind: envelope, body, meaning. A change here is a change of the\n\
         format on disk. Written by the test `golden_bytes` when UPDATE_GOLDEN is set.\n",
    );
    for (name, body) in samples() {
        let bytes = sealed(&body);
        let (envelope, stored) = bytes.split_at(RECORD_HEADER_BYTES);
        writeln!(text, "\n{name}").unwrap();
        for (what, bytes) in [("envelope", envelope), ("body", stored)] {
            for (index, line) in bytes.chunks(32).enumerate() {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(text, "  {:8} {hex}", if index == 0 { what } else { "" }).unwrap();
            }
        }
        writeln!(text, "  {body:?}").unwrap();
    }
    text
}

#[test]
fn a_stamp_of_this_record_becomes_one_of_its_start() {
    let op = |undo_lsn| {
        let stamp = Some(Stamp { txn: TxnId::new(300), undo_lsn });
        let after = Cell { stamp, ..Cell::inline(b"after") };
        let tree = TreeId::new(7);
        Op::Put { tree, key: b"key", kind: WriteKind::Replace, after, before: None }
    };
    assert_eq!(*op(Stamp::THIS_RECORD).in_record_at(LSN), op(LSN));
    let other = Lsn::new(LSN.get() - 8);
    for undo_lsn in [other, Stamp::NOTHING_BEFORE] {
        assert_eq!(*op(undo_lsn).in_record_at(LSN), op(undo_lsn));
    }
}

#[test]
fn golden_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/record/golden.txt");
    let dump = dump();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &dump).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (line, expected) in dump.lines().zip(golden.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(dump, golden);
}

#[test]
fn every_kind_has_a_golden_record_and_round_trips() {
    let samples = samples();
    for kind in Kind::ALL {
        assert!(samples.iter().any(|(_, body)| body.kind() == *kind), "{kind:?}");
    }
    for (_, body) in &samples {
        assert_round_trip(body);
    }
}

#[test]
fn numbers_without_a_kind_are_refused() {
    for number in 0..=u8::MAX {
        match Kind::decode(number) {
            Ok(kind) => assert_eq!(kind.encode(), number),
            Err(error) => assert!(!Kind::ALL.iter().any(|kind| kind.encode() == number), "{error}"),
        }
    }
    assert!(Kind::decode(14).is_err() && Kind::decode(15).is_err(), "reserved");
}

#[test]
fn every_changed_byte_of_a_record_is_noticed_and_never_panics() {
    for (name, body) in samples() {
        let bytes = sealed(&body);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(header::verify(&changed, MAX, SEED, LSN).is_err(), "{name}: byte {at}");
                decode_unverified(&changed);
            }
        }
    }
}

/// Decodes as if the checksum held. What decodes must encode to the same bytes: each content has one
/// encoding only.
fn decode_unverified(bytes: &[u8]) {
    let Ok(header) = Header::decode(bytes, MAX) else { return };
    if header.length > bytes.len() {
        return;
    }
    let Ok(raw) = body_bytes(&header, bytes) else { return };
    let Ok(record) = decode(&header, &raw) else { return };
    let mut again = Vec::new();
    record.body.encode(&mut again);
    assert_eq!(again, &*raw, "{:?}", record.body);
}

#[test]
fn a_record_cut_short_or_in_another_place_or_epoch_is_refused() {
    for (name, body) in samples() {
        let bytes = sealed(&body);
        for length in 0..bytes.len() {
            assert!(header::verify(&bytes[..length], MAX, SEED, LSN).is_err(), "{name}: {length}");
        }
        assert!(header::verify(&bytes, MAX, SEED, LSN.advance(8)).is_err(), "{name}");
        assert!(header::verify(&bytes, MAX, SEED + 1, LSN).is_err(), "{name}");
    }
}

#[test]
fn a_body_is_compressed_when_that_saves_an_eighth() {
    let is_lz4 = |note: &[u8]| {
        assert_round_trip(&Body::Note(note));
        header::verify(&sealed(&Body::Note(note)), MAX, SEED, LSN).unwrap().is_lz4
    };
    let noise: Vec<u8> =
        (0..2000_u32).map(|i| crc32c::crc32c(&i.to_le_bytes()).to_le_bytes()[0]).collect();
    assert!(is_lz4(&[7; 2000]));
    assert!(!is_lz4(&[7; 1000]), "too short to be tried");
    assert!(!is_lz4(&noise));
    let mostly_noise = [&noise[..], &[0; 200]].concat();
    assert!(!is_lz4(&mostly_noise), "saves less than an eighth");
    let half_noise = [&noise[..1000], &[0; 1000]].concat();
    assert!(is_lz4(&half_noise));
}

#[test]
fn of_a_long_body_the_middle_tells_whether_it_is_compressed() {
    let random: Vec<u8> =
        (0..2048_u32).flat_map(|i| (i.wrapping_mul(0x9e37_79b9) >> 7).to_le_bytes()).collect();
    let mut encoder = RecordEncoder::new();
    let mut stored = |value: &[u8]| {
        let body = Body::Note(value);
        encoder.encode(TxnId::NONE, Lsn::NONE, &body).bytes.len()
    };
    assert!(stored(&random) >= random.len());
    let text = "a value as people write them. ".repeat(300);
    assert!(stored(text.as_bytes()) < text.len() / 2);
    let mixed = [&random[..100], text.as_bytes(), &random[..100]].concat();
    assert!(stored(&mixed) < mixed.len() / 2);
}

#[test]
fn a_compressed_body_that_lies_about_its_length_is_refused() {
    let bytes = sealed(&Body::Note(&[7; 2000]));
    let header = header::verify(&bytes, MAX, SEED, LSN).unwrap();
    assert!(header.is_lz4);
    for raw_length in [header.raw_length - 1, header.raw_length + 1, 0] {
        assert!(body_bytes(&Header { raw_length, ..header }, &bytes).is_err(), "{raw_length}");
    }
}

/// Turns random bytes into contents, so that shrinking the bytes shrinks the contents.
struct Entropy<'a> {
    bytes: &'a [u8],
}

impl<'a> Entropy<'a> {
    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&byte, rest)) => {
                self.bytes = rest;
                byte
            }
            None => 0,
        }
    }

    fn bit(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Numbers of every magnitude.
    fn number(&mut self) -> u64 {
        let shift = u32::from(self.byte() % 64);
        let high = u64::from_le_bytes(std::array::from_fn(|_| self.byte()));
        high >> shift
    }

    fn count(&mut self) -> usize {
        usize::from(self.byte() % 4)
    }

    fn slice(&mut self) -> &'a [u8] {
        let length = (usize::from(self.byte()) * 4).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }

    fn lsn(&mut self) -> Lsn {
        Lsn::new(self.number())
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.count()).map(|_| one(self)).collect()
    }

    fn extent(&mut self) -> Extent {
        let count = self.number() % EXTENT_PAGES_MAX + 1;
        Extent { first: PageId::new(self.number() >> 1), count }
    }

    fn cell(&mut self) -> Cell<'a> {
        Cell {
            is_ghost: self.bit(),
            is_overflow: self.bit(),
            stamp: self
                .bit()
                .then(|| Stamp { txn: TxnId::new(self.number()), undo_lsn: self.lsn() }),
            capacity_bytes: usize::from(self.byte()),
            value: self.slice(),
        }
    }

    fn op(&mut self) -> Op<'a> {
        let tree = TreeId::new(self.number());
        match self.byte() % 10 {
            0 => Op::Image { low: self.slice(), high: self.slice() },
            1 => Op::Put {
                tree,
                key: self.slice(),
                kind: [WriteKind::Insert, WriteKind::Replace, WriteKind::Delete]
                    [self.count().min(2)],
                after: self.cell(),
                before: self.bit().then(|| self.cell()),
            },
            2 => Op::Remove { tree, key: self.slice() },
            3 => Op::Settle { tree, key: self.slice() },
            4 => Op::SplitOff { separator: self.slice(), right: PageId::new(self.number()) },
            5 => Op::Absorb { low: self.slice(), high: self.slice() },
            6 => Op::InsertChild { separator: self.slice(), child: PageId::new(self.number()) },
            7 => Op::RemoveChild { separator: self.slice() },
            8 => Op::Allocate(self.extent()),
            _ => Op::Release(self.extent()),
        }
    }

    fn refs(&mut self) -> Vec<PageRef<'a>> {
        self.list(|entropy| PageRef {
            page: PageId::new(entropy.number()),
            page_prev_lsn: entropy.lsn(),
            is_init: entropy.bit(),
            ops: Cow::Owned(entropy.list(Self::op)),
        })
    }

    fn deltas(&mut self) -> Vec<TreeDelta> {
        self.list(|entropy| TreeDelta {
            tree: TreeId::new(entropy.number()),
            delta: entropy.number().cast_signed(),
        })
    }

    fn commit(&mut self) -> CommitInfo {
        let parts = u64::from(self.byte());
        CommitInfo {
            wall_ms: self.number(),
            origin: self.number(),
            deltas: self.deltas(),
            freed: self.list(Self::extent),
            parts,
            first_part_lsn: if parts > 0 { self.lsn() } else { Lsn::NONE },
        }
    }

    fn body(&mut self) -> Body<'a> {
        let kind = Kind::ALL[usize::from(self.byte()) % Kind::ALL.len()];
        match kind {
            Kind::Update => Body::Update { refs: self.refs() },
            Kind::AutoCommit => Body::AutoCommit { commit: self.commit(), refs: self.refs() },
            Kind::Structure => Body::Structure { refs: self.refs() },
            Kind::Compensation => {
                Body::Compensation { undo_next_lsn: self.lsn(), refs: self.refs() }
            }
            Kind::Commit => Body::Commit(self.commit()),
            Kind::CommitPart => {
                Body::CommitPart { deltas: self.deltas(), freed: self.list(Self::extent) }
            }
            Kind::RollbackEnd => Body::RollbackEnd,
            Kind::Purge => Body::Purge { horizon: self.lsn(), refs: self.refs() },
            Kind::Free => Body::Free { horizon: self.lsn(), refs: self.refs() },
            Kind::EpochStart => Body::EpochStart(EpochEntry {
                epoch: Epoch::new(self.number()),
                nonce: EpochNonce::new(self.number()),
                start_lsn: self.lsn(),
                continues_from_lsn: self.lsn(),
                segment: (self.number() >> 2).max(1),
                offset: ((self.number() >> 36) + 1) * 4096,
            }),
            Kind::CheckpointBegin => Body::CheckpointBegin,
            Kind::CheckpointChunk => Body::CheckpointChunk(CheckpointChunk {
                section: self.byte(),
                index: self.number(),
                data: self.slice(),
            }),
            Kind::CheckpointEnd => Body::CheckpointEnd(CheckpointEnd {
                begin_lsn: self.lsn(),
                redo_lsn: self.lsn(),
                undo_lsn: self.lsn(),
                deferred_lsn: self.lsn(),
                first_chunk_lsn: self.lsn(),
                chunks: self.number(),
                chunks_checksum: u32::from(self.byte()),
                epoch: Epoch::new(self.number()),
                doublewrite_batch: self.number(),
                wall_ms: self.number(),
            }),
            Kind::Note => Body::Note(self.slice()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_body_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        assert_round_trip(&Entropy { bytes: &bytes }.body());
    }

    #[test]
    fn changed_bodies_never_panic_and_have_one_encoding(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut record = sealed(&Entropy { bytes: &bytes }.body());
        for (index, byte) in changes {
            let at = index.index(record.len());
            record[at] = byte;
        }
        decode_unverified(&record);
    }

    #[test]
    fn any_bytes_decode_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let kinds = Kind::ALL.iter().map(|kind| kind.encode());
        for kind in kinds {
            let mut record = Vec::new();
            record.extend_from_slice(&u32::try_from(RECORD_HEADER_BYTES + bytes.len()).unwrap().to_le_bytes());
            record.extend_from_slice(&[0; 4]);
            record.extend_from_slice(&[kind, 0, 0, 0]);
            record.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            record.extend_from_slice(&[0; 16]);
            record.extend_from_slice(&bytes);
            prop_assert_eq!(to_u64(record.len()), to_u64(RECORD_HEADER_BYTES + bytes.len()));
            decode_unverified(&record);
        }
    }
}

#[test]
fn a_run_of_more_pages_than_a_bitmap_covers_is_refused() {
    for (first, count, is_run) in [
        (9, 1, true),
        (9, EXTENT_PAGES_MAX, true),
        (9, EXTENT_PAGES_MAX + 1, false),
        (9, 0, false),
        (u64::MAX, 1, false),
        (9, u64::MAX, false),
    ] {
        let mut bytes = Vec::new();
        bytes.put_varint(first);
        bytes.put_varint(count);
        assert_eq!(Extent::decode(&mut Reader::new(&bytes)).is_ok(), is_run, "{first} {count}");
    }
}
