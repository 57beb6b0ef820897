//! The tables that a checkpoint writes between its begin and end records, cut into chunks.
//!
//! | section | entry (all numbers varints) |
//! |---|---|
//! | 1 active transactions | id, first LSN, last LSN, undo-next LSN, spilled-up-to LSN, bytes of the undo file |
//! | 2 dirty pages | page id, rec LSN, last LSN |
//! | 3 pending frees | first page, count, commit LSN |
//! | 4 tree sizes | tree id, keys |
//! | 5 | reserved for places of frames, refused |
//! | 6 next ids | next tree id |
//!
//! A chunk holds entries of one section; chunks are numbered from 0 in the order of their records.

use seawall_wal::codec::{DecodeError, Encode, Reader, to_u64};
use seawall_wal::record::Extent;
use seawall_wal::{Lsn, PageId, TreeId, TxnId};

use crate::pool::dirty::DirtyPage;
use crate::space::PendingFree;
use crate::txn::ActiveTxn;

/// Bytes of entries after which a chunk ends.
const CHUNK_BYTES: usize = 16 << 10;

/// What an entry of a section takes at most, where positions are below 2^56.
const ACTIVE_ENTRY_BYTES: usize = 48;
const FREE_ENTRY_BYTES: usize = 20;
const SIZE_ENTRY_BYTES: usize = 16;

/// Log that a checkpoint takes, beside dirty pages, to list so many transactions, extents and trees.
pub(crate) fn listed_bytes(transactions: usize, frees: usize, trees: usize) -> u64 {
    let entries =
        transactions * ACTIVE_ENTRY_BYTES + frees * FREE_ENTRY_BYTES + trees * SIZE_ENTRY_BYTES;
    // Each chunk is a record of its own.
    to_u64(entries + entries / 16)
}

/// Everything a checkpoint remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) active: Vec<ActiveTxn>,
    pub(crate) dirty: Vec<DirtyPage>,
    pub(crate) pending_frees: Vec<PendingFree>,
    pub(crate) sizes: Vec<(TreeId, u64)>,
    pub(crate) next_tree: TreeId,
}

/// Entries of one section, ready to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) section: u8,
    pub(crate) data: Vec<u8>,
}

const ACTIVE: u8 = 1;
const DIRTY: u8 = 2;
const PENDING_FREES: u8 = 3;
const SIZES: u8 = 4;
const NEXT_IDS: u8 = 6;

impl Tables {
    /// The tables as chunks.
    pub(crate) fn encode(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let active = self.active.iter().map(|txn| {
            let lsns = [txn.first_lsn, txn.last_lsn, txn.undo_next_lsn, txn.spilled_upto];
            let [first_lsn, last_lsn, undo_next_lsn, spilled_upto] = lsns.map(Lsn::get);
            let id = txn.id.get();
            [id, first_lsn, last_lsn, undo_next_lsn, spilled_upto, txn.undo_file_bytes]
        });
        encode_section(&mut chunks, ACTIVE, active);
        let dirty = self
            .dirty
            .iter()
            .map(|dirty| [dirty.page.get(), dirty.rec_lsn.get(), dirty.last_lsn.get()]);
        encode_section(&mut chunks, DIRTY, dirty);
        let frees = self
            .pending_frees
            .iter()
            .map(|free| [free.extent.first.get(), free.extent.count, free.commit_lsn.get()]);
        encode_section(&mut chunks, PENDING_FREES, frees);
        encode_section(
            &mut chunks,
            SIZES,
            self.sizes.iter().map(|&(tree, keys)| [tree.get(), keys]),
        );
        encode_section(&mut chunks, NEXT_IDS, [[self.next_tree.get()]].into_iter());
        chunks
    }

    /// Adds the entries of a chunk.
    pub(crate) fn decode_chunk(&mut self, section: u8, data: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(data);
        while reader.remaining() > 0 {
            self.decode_entry(section, &mut reader)?;
        }
        Ok(())
    }

    fn decode_entry(&mut self, section: u8, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let start = reader.offset();
        match section {
            ACTIVE => {
                let [id, first_lsn, last_lsn, undo_next_lsn, spilled_upto, undo_file_bytes] =
                    numbers(reader)?;
                self.active.push(ActiveTxn {
                    id: TxnId::new(id),
                    first_lsn: Lsn::new(first_lsn),
                    last_lsn: Lsn::new(last_lsn),
                    undo_next_lsn: Lsn::new(undo_next_lsn),
                    spilled_upto: Lsn::new(spilled_upto),
                    undo_file_bytes,
                });
            }
            DIRTY => {
                let [page, rec_lsn, last_lsn] = numbers(reader)?;
                self.dirty.push(DirtyPage {
                    page: PageId::new(page),
                    rec_lsn: Lsn::new(rec_lsn),
                    last_lsn: Lsn::new(last_lsn),
                });
            }
            PENDING_FREES => {
                let extent = Extent::decode(reader)?;
                let [commit_lsn] = numbers(reader)?;
                self.pending_frees.push(PendingFree { extent, commit_lsn: Lsn::new(commit_lsn) });
            }
            SIZES => {
                let [tree, keys] = numbers(reader)?;
                self.sizes.push((TreeId::new(tree), keys));
            }
            NEXT_IDS => {
                let [next_tree] = numbers(reader)?;
                self.next_tree = TreeId::new(next_tree);
            }
            other => {
                let found = other.to_string();
                return Err(DecodeError::new(start, "a known section of a checkpoint", found));
            }
        }
        Ok(())
    }
}

fn encode_section<const N: usize>(
    chunks: &mut Vec<Chunk>,
    section: u8,
    entries: impl Iterator<Item = [u64; N]>,
) {
    let mut data = Vec::new();
    for entry in entries {
        for number in entry {
            data.put_varint(number);
        }
        if data.len() >= CHUNK_BYTES {
            chunks.push(Chunk { section, data: std::mem::take(&mut data) });
        }
    }
    if !data.is_empty() {
        chunks.push(Chunk { section, data });
    }
}

fn numbers<const N: usize>(reader: &mut Reader<'_>) -> Result<[u64; N], DecodeError> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = reader.varint()?;
    }
    Ok(numbers)
}

/// Checksum over the data of all chunks, for the end record.
pub(crate) fn chunk_checksum(sum: u32, data: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, data)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn tables_survive_being_cut_into_chunks() {
        let lsn = |i: u64| Lsn::new((1 << 40) + i);
        let tables = Tables {
            active: vec![ActiveTxn {
                id: TxnId::new(9),
                first_lsn: lsn(1),
                last_lsn: lsn(9),
                undo_next_lsn: lsn(4),
                spilled_upto: lsn(3),
                undo_file_bytes: 1 << 33,
            }],
            dirty: (0..20_000)
                .map(|i| DirtyPage { page: PageId::new(i), rec_lsn: lsn(i), last_lsn: lsn(2 * i) })
                .collect(),
            pending_frees: vec![PendingFree {
                extent: Extent { first: PageId::new(7), count: 3 },
                commit_lsn: lsn(5),
            }],
            sizes: vec![(TreeId::new(0), 4), (TreeId::new(1), 1 << 50)],
            next_tree: TreeId::new(2),
        };
        let chunks = tables.encode();
        assert!(chunks.len() > 5, "the dirty pages need several chunks");
        let mut decoded = Tables::default();
        for chunk in &chunks {
            assert!(chunk.data.len() < CHUNK_BYTES + 64);
            decoded.decode_chunk(chunk.section, &chunk.data).unwrap();
        }
        assert_eq!(decoded, tables);
    }

    #[test]
    fn an_unknown_section_a_reserved_one_and_a_cut_entry_are_refused() {
        assert!(Tables::default().decode_chunk(99, &[0]).is_err());
        assert!(Tables::default().decode_chunk(5, &[0, 0, 0]).is_err());
        assert!(Tables::default().decode_chunk(ACTIVE, &[1, 2]).is_err());
    }
}
