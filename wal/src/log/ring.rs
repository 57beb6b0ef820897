//! The ring: memory between appenders and the frame writer, and the links that publish records.
//!
//! Owns the payload bytes of the log from the last byte copied into a frame to the last one
//! reserved, as 8-byte words, and beside them one link per word. A record is copied into its words
//! first; then its padded length is stored in the link of its first word (release). The links are
//! the only way to find records, so no byte of a user's value can forge one.
//!
//! Who may touch what: between `reserve` and the link's store, the reserving thread alone writes the
//! words of its range. From then on they are read only, until the writer has copied them into a
//! frame, cleared their links, and given the space back as credit; only a later credit leads to
//! another reservation of the same words. Word accesses are relaxed atomics (this file needs no
//! `unsafe`); they are ordered by the link (store release, load acquire), by the frontier behind it,
//! and on the way back by the credit's mutex.
//!
//! One word always stays free: a ring that was full to the last word would show the link of its
//! oldest record, not yet framed, as that of the next one to come.
//!
//! Under shuttle the words are those of std: all threads of a model are one thread of the system, which
//! copies a record in one step and takes turns at the links.
//!
//! It never blocks, never allocates after its construction, and never looks into a record beyond the
//! first word, where the checksum is filled in.

#[cfg(seawall_shuttle)]
use std::sync::atomic::AtomicU64 as Word;

use crate::Lsn;
use crate::codec::{to_u64, to_usize};
use crate::record::{EncodedRecord, RECORD_ALIGN, header, padded};
#[cfg(not(seawall_shuttle))]
use crate::sync::atomic::AtomicU64 as Word;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Set in a link beside the padded length, whose lowest bits are free: the record's credit has paid
/// for a frame of its own.
const PREPAID_BIT: u32 = 1;
const _: () = assert!(RECORD_ALIGN == 8, "a word of the ring holds the unit of record lengths");

/// A published record, as its link tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Bytes up to the next record.
    pub(super) padded_length: usize,
    /// Whether its credit has paid for a frame.
    pub(super) is_prepaid: bool,
}

/// Payload words and links.
#[derive(Debug)]
pub(super) struct Ring {
    words: Box<[Word]>,
    links: Box<[AtomicU32]>,
    mask: u64,
}

impl Ring {
    /// A ring of `ring_bytes`, zeroed.
    ///
    /// # Panics
    /// When `ring_bytes` is not a power of two of at least two words.
    pub(super) fn new(ring_bytes: usize) -> Self {
        assert!(ring_bytes.is_power_of_two() && ring_bytes > RECORD_ALIGN);
        let words = ring_bytes / RECORD_ALIGN;
        Self {
            words: (0..words).map(|_| Word::new(0)).collect(),
            links: (0..words).map(|_| AtomicU32::new(0)).collect(),
            mask: to_u64(words - 1),
        }
    }

    /// Capacity in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.words.len() * RECORD_ALIGN
    }

    /// What may be reserved beyond the last framed byte.
    pub(super) const fn room_bytes(&self) -> usize {
        self.bytes() - RECORD_ALIGN
    }

    fn index(&self, lsn: Lsn) -> usize {
        to_usize((lsn.get() / to_u64(RECORD_ALIGN)) & self.mask)
    }

    /// Copies a record to its reserved place, with its checksum and zeros up to the next word.
    pub(super) fn write(&self, lsn: Lsn, record: EncodedRecord<'_>, checksum: u32) {
        let (chunks, tail) = record.bytes.as_chunks::<RECORD_ALIGN>();
        let start = self.index(lsn);
        let place = self.words[start..].iter().chain(&self.words[..start]);
        let mut last = [0; RECORD_ALIGN];
        last[..tail.len()].copy_from_slice(tail);
        let last = (!tail.is_empty()).then_some(last);
        for (word, bytes) in place.zip(chunks.iter().chain(&last)) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        let mut first = chunks[0];
        header::seal(&mut first, checksum);
        self.words[start].store(u64::from_le_bytes(first), Ordering::Relaxed);
    }

    /// Makes the record at `lsn` visible to [`Ring::link`].
    pub(super) fn publish(&self, lsn: Lsn, padded_length: usize, is_prepaid: bool) {
        let length = u32::try_from(padded_length).expect("records are shorter than 4 GiB");
        let link = length | if is_prepaid { PREPAID_BIT } else { 0 };
        // Release: whoever reads the link sees the record's words.
        self.links[self.index(lsn)].store(link, Ordering::Release);
    }

    /// The record that starts at `lsn`, once it is published.
    pub(super) fn link(&self, lsn: Lsn) -> Option<Link> {
        // Acquire: pairs with the store in `publish`, and with the one in `clear`, after which the
        // frontier is known to be beyond.
        match self.links[self.index(lsn)].load(Ordering::Acquire) {
            0 => None,
            link => Some(Link {
                padded_length: to_usize(u64::from(link & !PREPAID_BIT)),
                is_prepaid: link & PREPAID_BIT != 0,
            }),
        }
    }

    /// Forgets the link at `lsn`, whose record the caller has copied out.
    pub(super) fn clear(&self, lsn: Lsn) {
        self.links[self.index(lsn)].store(0, Ordering::Release);
    }

    /// Copies published bytes out. Both `lsn` and the length are multiples of [`RECORD_ALIGN`].
    pub(super) fn read(&self, lsn: Lsn, out: &mut [u8]) {
        debug_assert!(padded(out.len()) == out.len() && out.len() <= self.bytes());
        let start = self.index(lsn);
        let (chunks, _) = out.as_chunks_mut::<RECORD_ALIGN>();
        let ahead = chunks.len().min(self.words.len() - start);
        let (first, second) = chunks.split_at_mut(ahead);
        for (bytes, word) in first.iter_mut().zip(&self.words[start..]) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        for (bytes, word) in second.iter_mut().zip(&self.words[..]) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
    }
}
