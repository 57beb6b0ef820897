//! Kinds of records and their bodies.
//!
//! | kind | body |
//! |---|---|
//! | 1 update | page references |
//! | 2 auto-commit | commit information, page references |
//! | 3 structure | page references (redo-only) |
//! | 4 compensation | undo-next LSN, page references |
//! | 5 commit | commit information |
//! | 6 commit part | tree deltas, freed extents |
//! | 7 rollback end | nothing |
//! | 8 purge | horizon, page references (redo-only) |
//! | 9 free | horizon, page references (redo-only) |
//! | 10 epoch start | epoch entry |
//! | 11 checkpoint begin | nothing |
//! | 12 checkpoint chunk | section, chunk number, bytes |
//! | 13 checkpoint end | see [`CheckpointEnd`] |
//! | 14 deferred, 15 relocate | reserved for later formats, refused |
//! | 16 note | bytes |

use crate::codec::{DecodeError, Encode, Reader, to_u64};
use crate::control::EpochEntry;
use crate::{Epoch, Lsn, PageId, TreeId};

use super::op::PageRef;

/// Most tree deltas or extents in one record; longer lists go into commit parts.
const LIST_MAX: usize = 1 << 14;
/// Most parts of one commit.
const PARTS_MAX: usize = 1 << 20;
/// Most bytes of a chunk or note.
const PAYLOAD_BYTES_MAX: usize = 1 << 17;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// Kind of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stored number.
            #[must_use]
            pub const fn encode(self) -> u8 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// The kind with the stored number.
            pub fn decode(number: u8) -> Result<Self, DecodeError> {
                match number {
                    $($number => Ok(Self::$name),)*
                    other => Err(DecodeError::new(8, "a known record kind", other.to_string())),
                }
            }
        }
    };
}

kinds! {
    /// A transaction's change, undone by compensation when it rolls back.
    Update = 1,
    /// A change that carries its own commit.
    AutoCommit = 2,
    /// A structure modification: split, merge, root growth, allocation. Never undone.
    Structure = 3,
    /// Undo of one record of a transaction.
    Compensation = 4,
    /// The end of a committed transaction.
    Commit = 5,
    /// Lists of a commit that do not fit into its record.
    CommitPart = 6,
    /// The end of a rolled-back transaction.
    RollbackEnd = 7,
    /// Removal of ghosts, stamps and kept capacity that nobody needs any more.
    Purge = 8,
    /// Release of freed extents that no snapshot needs any more.
    Free = 9,
    /// First record of an epoch; repeats its entry in `control`.
    EpochStart = 10,
    /// Start of a fuzzy checkpoint.
    CheckpointBegin = 11,
    /// A piece of a checkpoint's tables.
    CheckpointChunk = 12,
    /// End of a fuzzy checkpoint.
    CheckpointEnd = 13,
    /// A text or mark without effect.
    Note = 16,
}

/// Most pages of a run: those of the largest bitmap page.
pub const EXTENT_PAGES_MAX: u64 = 32768 * 8;

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// The first page.
    pub first: PageId,
    /// How many pages.
    pub count: u64,
}

/// Change of a tree's number of keys by a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDelta {
    /// The tree.
    pub tree: TreeId,
    /// Keys inserted minus keys deleted.
    pub delta: i64,
}

/// What a commit says beyond its place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitInfo {
    /// Wall time in milliseconds since 1970, never decreasing along the log.
    pub wall_ms: u64,
    /// Where the change came from; 0 for this database.
    pub origin: u64,
    /// Changes of the trees' sizes.
    pub deltas: Vec<TreeDelta>,
    /// Extents that no longer belong to a tree once this commit is visible.
    pub freed: Vec<Extent>,
    /// How many commit parts precede this record.
    pub parts: u64,
    /// The first of them; [`Lsn::NONE`] without parts.
    pub first_part_lsn: Lsn,
}

/// A piece of a checkpoint's tables; the section's format belongs to the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointChunk<'a> {
    /// Which table.
    pub section: u8,
    /// Number of the chunk within the checkpoint, from 0.
    pub index: u64,
    /// Entries.
    pub data: &'a [u8],
}

/// End of a checkpoint: from where recovery must read, and what holds the tables together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointEnd {
    /// Its begin record.
    pub begin_lsn: Lsn,
    /// Redo starts here: no page lacks a change below.
    pub redo_lsn: Lsn,
    /// The oldest log that undo needs; [`Lsn::NONE`] where it needs none. What was moved to undo files
    /// is not in it.
    pub undo_lsn: Lsn,
    /// Reserved for deferred writes; [`Lsn::NONE`].
    pub deferred_lsn: Lsn,
    /// LSN of the first chunk; [`Lsn::NONE`] without chunks.
    pub first_chunk_lsn: Lsn,
    /// Number of chunks.
    pub chunks: u64,
    /// CRC-32C over the data of all chunks in order.
    pub chunks_checksum: u32,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// Highest doublewrite batch at or below which every data sync has returned.
    pub doublewrite_batch: u64,
    /// Floor of the wall time of later commits.
    pub wall_ms: u64,
}

/// Body of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the variants are those of `Kind`, the fields those of the table of the module"
)]
pub enum Body<'a> {
    Update { refs: Vec<PageRef<'a>> },
    AutoCommit { commit: CommitInfo, refs: Vec<PageRef<'a>> },
    Structure { refs: Vec<PageRef<'a>> },
    Compensation { undo_next_lsn: Lsn, refs: Vec<PageRef<'a>> },
    Commit(CommitInfo),
    CommitPart { deltas: Vec<TreeDelta>, freed: Vec<Extent> },
    RollbackEnd,
    Purge { horizon: Lsn, refs: Vec<PageRef<'a>> },
    Free { horizon: Lsn, refs: Vec<PageRef<'a>> },
    EpochStart(EpochEntry),
    CheckpointBegin,
    CheckpointChunk(CheckpointChunk<'a>),
    CheckpointEnd(CheckpointEnd),
    Note(&'a [u8]),
}

impl Extent {
    /// The page behind the run.
    #[must_use]
    pub const fn end(&self) -> PageId {
        PageId::new(self.first.get() + self.count)
    }

    /// Its pages, in ascending order.
    pub fn pages(&self) -> impl Iterator<Item = PageId> + use<> {
        (self.first.get()..self.end().get()).map(PageId::new)
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.put_varint(self.first.get());
        out.put_varint(self.count);
    }

    /// Reads a run: 1 to [`EXTENT_PAGES_MAX`] pages.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.offset();
        let first = PageId::new(reader.varint()?);
        let count = reader.varint()?;
        let is_run =
            (1..=EXTENT_PAGES_MAX).contains(&count) && first.get().checked_add(count).is_some();
        if !is_run {
            let found = format!("{count} pages from {first}");
            return Err(DecodeError::new(start, "a run of pages", found));
        }
        Ok(Self { first, count })
    }
}

fn encode_lists(deltas: &[TreeDelta], freed: &[Extent], out: &mut Vec<u8>) {
    assert!(deltas.len() <= LIST_MAX && freed.len() <= LIST_MAX, "long lists go into commit parts");
    out.put_varint(to_u64(deltas.len()));
    for TreeDelta { tree, delta } in deltas {
        out.put_varint(tree.get());
        out.put_varint_signed(*delta);
    }
    out.put_varint(to_u64(freed.len()));
    for extent in freed {
        extent.encode(out);
    }
}

type Lists = (Vec<TreeDelta>, Vec<Extent>);

fn decode_lists(reader: &mut Reader<'_>) -> Result<Lists, DecodeError> {
    let count = reader.count(LIST_MAX.min(reader.remaining()))?;
    let deltas = (0..count)
        .map(|_| {
            let tree = TreeId::new(reader.varint()?);
            Ok(TreeDelta { tree, delta: reader.varint_signed()? })
        })
        .collect::<Result<_, DecodeError>>()?;
    let count = reader.count(LIST_MAX.min(reader.remaining()))?;
    let freed = (0..count).map(|_| Extent::decode(reader)).collect::<Result<_, _>>()?;
    Ok((deltas, freed))
}

impl CommitInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.wall_ms);
        out.put_varint(self.origin);
        encode_lists(&self.deltas, &self.freed, out);
        out.put_varint(self.parts);
        if self.parts > 0 {
            out.put_varint(self.first_part_lsn.get());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wall_ms = reader.varint()?;
        let origin = reader.varint()?;
        let (deltas, freed) = decode_lists(reader)?;
        let parts = to_u64(reader.count(PARTS_MAX)?);
        let first_part_lsn = if parts > 0 { Lsn::new(reader.varint()?) } else { Lsn::NONE };
        Ok(Self { wall_ms, origin, deltas, freed, parts, first_part_lsn })
    }
}

impl CheckpointEnd {
    fn encode(&self, out: &mut Vec<u8>) {
        for lsn in [self.begin_lsn, self.redo_lsn, self.undo_lsn, self.deferred_lsn] {
            out.put_u64(lsn.get());
        }
        out.put_u64(self.first_chunk_lsn.get());
        out.put_u64(self.chunks);
        out.put_u32(self.chunks_checksum);
        out.put_u64(self.epoch.get());
        out.put_u64(self.doublewrite_batch);
        out.put_u64(self.wall_ms);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            begin_lsn: Lsn::new(reader.u64()?),
            redo_lsn: Lsn::new(reader.u64()?),
            undo_lsn: Lsn::new(reader.u64()?),
            deferred_lsn: Lsn::new(reader.u64()?),
            first_chunk_lsn: Lsn::new(reader.u64()?),
            chunks: reader.u64()?,
            chunks_checksum: reader.u32()?,
            epoch: Epoch::new(reader.u64()?),
            doublewrite_batch: reader.u64()?,
            wall_ms: reader.u64()?,
        })
    }
}

impl<'a> Body<'a> {
    /// The kind of the record that carries it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Update { .. } => Kind::Update,
            Self::AutoCommit { .. } => Kind::AutoCommit,
            Self::Structure { .. } => Kind::Structure,
            Self::Compensation { .. } => Kind::Compensation,
            Self::Commit(_) => Kind::Commit,
            Self::CommitPart { .. } => Kind::CommitPart,
            Self::RollbackEnd => Kind::RollbackEnd,
            Self::Purge { .. } => Kind::Purge,
            Self::Free { .. } => Kind::Free,
            Self::EpochStart(_) => Kind::EpochStart,
            Self::CheckpointBegin => Kind::CheckpointBegin,
            Self::CheckpointChunk(_) => Kind::CheckpointChunk,
            Self::CheckpointEnd(_) => Kind::CheckpointEnd,
            Self::Note(_) => Kind::Note,
        }
    }

    /// The pages that the record changes; empty for records without page references.
    #[must_use]
    pub fn page_refs(&self) -> &[PageRef<'a>] {
        match self {
            Self::Update { refs }
            | Self::AutoCommit { refs, .. }
            | Self::Structure { refs }
            | Self::Compensation { refs, .. }
            | Self::Purge { refs, .. }
            | Self::Free { refs, .. } => refs,
            _ => &[],
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Update { refs } | Self::Structure { refs } => PageRef::encode_all(refs, out),
            Self::AutoCommit { commit, refs } => {
                commit.encode(out);
                PageRef::encode_all(refs, out);
            }
            Self::Compensation { undo_next_lsn: lsn, refs }
            | Self::Purge { horizon: lsn, refs }
            | Self::Free { horizon: lsn, refs } => {
                out.put_varint(lsn.get());
                PageRef::encode_all(refs, out);
            }
            Self::Commit(commit) => commit.encode(out),
            Self::CommitPart { deltas, freed } => encode_lists(deltas, freed, out),
            Self::RollbackEnd | Self::CheckpointBegin => {}
            Self::EpochStart(entry) => entry.encode(out),
            Self::CheckpointChunk(chunk) => {
                out.put_u8(chunk.section);
                out.put_varint(chunk.index);
                out.put_bytes(chunk.data);
            }
            Self::CheckpointEnd(end) => end.encode(out),
            Self::Note(bytes) => out.put_bytes(bytes),
        }
    }

    pub(super) fn decode(kind: Kind, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Update => Self::Update { refs: PageRef::decode_all(reader)? },
            Kind::AutoCommit => Self::AutoCommit {
                commit: CommitInfo::decode(reader)?,
                refs: PageRef::decode_all(reader)?,
            },
            Kind::Structure => Self::Structure { refs: PageRef::decode_all(reader)? },
            Kind::Compensation => Self::Compensation {
                undo_next_lsn: Lsn::new(reader.varint()?),
                refs: PageRef::decode_all(reader)?,
            },
            Kind::Commit => Self::Commit(CommitInfo::decode(reader)?),
            Kind::CommitPart => {
                let (deltas, freed) = decode_lists(reader)?;
                Self::CommitPart { deltas, freed }
            }
            Kind::RollbackEnd => Self::RollbackEnd,
            Kind::Purge => Self::Purge {
                horizon: Lsn::new(reader.varint()?),
                refs: PageRef::decode_all(reader)?,
            },
            Kind::Free => Self::Free {
                horizon: Lsn::new(reader.varint()?),
                refs: PageRef::decode_all(reader)?,
            },
            Kind::EpochStart => Self::EpochStart(EpochEntry::decode(reader)?),
            Kind::CheckpointBegin => Self::CheckpointBegin,
            Kind::CheckpointChunk => Self::CheckpointChunk(CheckpointChunk {
                section: reader.u8()?,
                index: reader.varint()?,
                data: reader.bytes(PAYLOAD_BYTES_MAX)?,
            }),
            Kind::CheckpointEnd => Self::CheckpointEnd(CheckpointEnd::decode(reader)?),
            Kind::Note => Self::Note(reader.bytes(PAYLOAD_BYTES_MAX)?),
        })
    }
}
