//! The header that every page begins with, its checksum, and the check of a page that was read.
//!
//! | offset | size | field | on |
//! |---|---|---|---|
//! | 0 | 4 | CRC-32C of the rest, seeded with the database and the page id | all |
//! | 4 | 4 | reserved | |
//! | 8 | 8 | `page_lsn`: END of the last record applied | all |
//! | 16 | 8 | page id | all |
//! | 24 | 8 | tree id | inner, leaf, overflow |
//! | 32 | 8 | right sibling, 0 for none | inner, leaf |
//! | 40 | 1 | kind | all |
//! | 41 | 1 | level: 0 for leaves | inner |
//! | 42 | 2 | format version | all |
//! | 44 | 2 | slot count | inner, leaf |
//! | 46 | 2 | heap start: offset of the lowest cell | inner, leaf |
//! | 48 | 2 | garbage bytes between cells | inner, leaf |
//! | 50 | 2 | prefix length | inner, leaf |
//! | 52 | 2 | length of the low fence, or of the owner's key | inner, leaf, overflow |
//! | 54 | 2 | length of the high fence | inner, leaf |
//! | 56 | 1 | flags: 1 has a high fence | inner, leaf |
//! | 57 | 1 | reserved | |
//! | 58 | 2 | payload length | overflow |
//! | 60 | 4 | reserved | |
//! | 64 | 16 | key hints, reserved | |
//! | 80 | 4 | stored length, reserved for compression | |
//! | 84 | 4 | key id, reserved for encryption | |
//! | 88 | 16 | tag, reserved for encryption | |
//! | 104 | 12 | nonce of the write, reserved for encryption | |
//! | 116 | 4 | reserved | |
//!
//! Fields that a kind does not have, and reserved ones, are zero, and that is checked. Numbers are
//! little-endian. The bytes from [`IMAGE_START`] on are what images carry: the two fields in front
//! of it belong to the copy on disk and to the log.
//!
//! What makes a page valid is said, and checked, in [`super::verify()`].

use seawall_wal::{Lsn, PageId, TreeId};

use super::bytes::{PageWrite, short, short_at, u8_at, u32_at, u64_at};

/// The page sizes a database may have.
pub const PAGE_BYTES: [usize; 4] = [4096, 8192, 16384, 32768];

/// Version of the page format that is written.
pub(super) const FORMAT: u16 = 1;

pub(super) const CHECKSUM: usize = 0;
pub(super) const RESERVED_LOW: usize = CHECKSUM + 4;
pub(super) const PAGE_LSN: usize = RESERVED_LOW + 4;
pub(super) const PAGE_ID: usize = PAGE_LSN + 8;
pub(super) const TREE_ID: usize = PAGE_ID + 8;
pub(super) const RIGHT_SIBLING: usize = TREE_ID + 8;
pub(super) const KIND: usize = RIGHT_SIBLING + 8;
pub(super) const LEVEL: usize = KIND + 1;
pub(super) const FORMAT_VERSION: usize = LEVEL + 1;
pub(super) const SLOT_COUNT: usize = FORMAT_VERSION + 2;
pub(super) const HEAP_START: usize = SLOT_COUNT + 2;
pub(super) const GARBAGE: usize = HEAP_START + 2;
pub(super) const PREFIX_LEN: usize = GARBAGE + 2;
pub(super) const LOW_LEN: usize = PREFIX_LEN + 2;
pub(super) const HIGH_LEN: usize = LOW_LEN + 2;
pub(super) const FLAGS: usize = HIGH_LEN + 2;
pub(super) const RESERVED_FLAGS: usize = FLAGS + 1;
pub(super) const PAYLOAD_LEN: usize = RESERVED_FLAGS + 1;
pub(super) const RESERVED_MIDDLE: usize = PAYLOAD_LEN + 2;
const KEY_HINTS: usize = RESERVED_MIDDLE + 4;
const STORED_LEN: usize = KEY_HINTS + 16;
const KEY_ID: usize = STORED_LEN + 4;
const TAG: usize = KEY_ID + 4;
const NONCE: usize = TAG + 16;
const RESERVED_HIGH: usize = NONCE + 12;
/// Bytes of the header; the body follows.
pub const HEADER_BYTES: usize = RESERVED_HIGH + 4;

/// Where images begin: behind the checksum and `page_lsn`.
pub const IMAGE_START: usize = PAGE_ID;

const _: () = assert!(PAGE_LSN == 8 && PAGE_ID == 16 && KIND == 40 && SLOT_COUNT == 44);
const _: () = assert!(FLAGS == 56 && KEY_HINTS == 64 && STORED_LEN == 80 && HEADER_BYTES == 120);

pub(super) const FLAG_HIGH_FENCE: u8 = 1;

/// Most levels above the leaves: no tree of 2^64 pages has more.
pub(super) const LEVEL_MAX: u8 = 64;

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// Never used: all zero.
    Free,
    /// Says which pages are in use.
    Bitmap,
    /// A tree's inner node.
    Inner,
    /// A tree's leaf.
    Leaf,
    /// A piece of a large value.
    Overflow,
}

impl PageKind {
    /// The stored number.
    #[must_use]
    pub const fn encode(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Bitmap => 1,
            Self::Inner => 2,
            Self::Leaf => 3,
            Self::Overflow => 4,
        }
    }

    /// The kind with the stored number.
    #[must_use]
    pub const fn decode(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Free,
            1 => Self::Bitmap,
            2 => Self::Inner,
            3 => Self::Leaf,
            4 => Self::Overflow,
            _ => return None,
        })
    }
}

/// What a page says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLabel {
    /// What the page is for.
    pub kind: PageKind,
    /// 0 for leaves.
    pub level: u8,
    /// The tree.
    pub tree: TreeId,
}

/// The header of a page. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct PageView<'a> {
    bytes: &'a [u8],
}

impl<'a> PageView<'a> {
    /// Looks at a page.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The whole page.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Kind, level and tree.
    #[inline]
    #[must_use]
    pub fn label(self) -> NodeLabel {
        NodeLabel { kind: self.kind(), level: self.level(), tree: self.tree() }
    }

    /// What the page is for; [`PageKind::Free`] when the number is unknown, which no verified page
    /// has.
    #[inline]
    #[must_use]
    pub fn kind(self) -> PageKind {
        PageKind::decode(u8_at(self.bytes, KIND)).unwrap_or(PageKind::Free)
    }

    /// END of the last record applied.
    #[inline]
    #[must_use]
    pub fn page_lsn(self) -> Lsn {
        Lsn::new(u64_at(self.bytes, PAGE_LSN))
    }

    /// The page's own number.
    #[inline]
    #[must_use]
    pub fn page_id(self) -> PageId {
        PageId::new(u64_at(self.bytes, PAGE_ID))
    }

    /// The tree it belongs to.
    #[inline]
    #[must_use]
    pub fn tree(self) -> TreeId {
        TreeId::new(u64_at(self.bytes, TREE_ID))
    }

    /// Distance from the leaves.
    #[inline]
    #[must_use]
    pub fn level(self) -> u8 {
        u8_at(self.bytes, LEVEL)
    }

    /// The stored checksum.
    #[must_use]
    pub fn checksum(self) -> u32 {
        u32_at(self.bytes, CHECKSUM)
    }

    /// Version of the format.
    #[must_use]
    pub fn format(self) -> usize {
        short_at(self.bytes, FORMAT_VERSION)
    }
}

/// Sets `page_lsn`: the END of the record that was just applied.
pub fn set_page_lsn<P: PageWrite>(page: &mut P, page_lsn: Lsn) {
    page.write(PAGE_LSN, &page_lsn.get().to_le_bytes());
}

/// Fields that every page has, written into a page of zeros.
pub(super) fn write_identity<P: PageWrite>(page: &mut P, kind: PageKind, id: PageId, tree: TreeId) {
    page.write(PAGE_ID, &id.get().to_le_bytes());
    page.write(TREE_ID, &tree.get().to_le_bytes());
    page.write(KIND, &[kind.encode()]);
    page.write(FORMAT_VERSION, &FORMAT.to_le_bytes());
}

/// Checksum of a page at `page_id`, over everything but the checksum itself.
#[must_use]
pub fn checksum(seed: u32, page_id: PageId, bytes: &[u8]) -> u32 {
    let placed = crc32c::crc32c_append(seed, &page_id.get().to_le_bytes());
    crc32c::crc32c_append(placed, &bytes[RESERVED_LOW..])
}

/// Puts the checksum into a private copy of a page that is about to be written.
///
/// # Panics
/// When `bytes` is not the page `page_id`.
pub fn seal(seed: u32, page_id: PageId, bytes: &mut [u8]) {
    assert_eq!(PageView::new(bytes).page_id(), page_id, "a page is sealed for its own place");
    let sum = checksum(seed, page_id, bytes);
    bytes[CHECKSUM..RESERVED_LOW].copy_from_slice(&sum.to_le_bytes());
}

/// Writes a two-byte field.
pub(super) fn write_short<P: PageWrite>(page: &mut P, field: usize, value: usize) {
    page.write(field, &short(value));
}
