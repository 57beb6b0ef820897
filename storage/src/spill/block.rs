//! The format of an undo file: a header block, then blocks of a stream of records.
//!
//! The header block, block 0:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | CRC-32C of the block from offset 12, seeded as below |
//! | 12 | 4 | format version |
//! | 16 | 16 | database id |
//! | 32 | 8 | transaction id |
//! | 40 | 4056 | reserved, zero |
//!
//! Every other block:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of the block from offset 4, seeded as below |
//! | 4 | 2 | bytes of the stream in this block |
//! | 6 | 2 | how many of them, at the start, go on with an entry that began in an earlier block |
//! | 8 | 2 | entries that begin in this block |
//! | 10 | 6 | reserved, zero |
//! | 16 | 8 | LSN of the last entry that begins in an earlier block, 0 for none |
//! | 24 | 8 | LSN of the last entry that begins in this block or an earlier one |
//! | 32 | | the stream, then zeros |
//!
//! The stream, which goes on from block to block:
//!
//! | offset | size | field of an entry |
//! |---|---|---|
//! | 0 | 8 | LSN of the record; ascending |
//! | 8 | 4 | its length |
//! | 12 | | the record as in the log, envelope and stored body, without padding |
//!
//! The seed is the CRC of database id, transaction id and block number, so that a block of another
//! file or place is damage. An entry may begin and go on anywhere; a sync ends the stream's block
//! early, and then the next entry begins in a block of its own. The two LSNs make the blocks their own
//! sparse index: the record at an LSN begins in the first block whose last LSN is not below it.

use seawall_wal::codec::{DecodeError, Encode, Reader, to_u64, to_usize};
use seawall_wal::disk::BLOCK_BYTES;
use seawall_wal::record::{RECORD_HEADER_BYTES, record_bytes_max};
use seawall_wal::{DatabaseId, Lsn, TxnId};

use crate::page::PAGE_BYTES;

const MAGIC: u64 = u64::from_le_bytes(*b"SEAWALLU");
const FORMAT: u32 = 1;

// The header block.
const FILE_CHECKSUM: usize = 8;
const FILE_CHECKED: usize = FILE_CHECKSUM + 4;
const FILE_FORMAT: usize = FILE_CHECKED;
const FILE_DATABASE: usize = FILE_FORMAT + 4;
const FILE_TXN: usize = FILE_DATABASE + 16;
const FILE_RESERVED: usize = FILE_TXN + 8;
const _: () = assert!(FILE_DATABASE == 16 && FILE_TXN == 32 && FILE_RESERVED == 40);

// The other blocks.
const CHECKSUM: usize = 0;
const CHECKED: usize = CHECKSUM + 4;
const USED: usize = CHECKED;
const CONTINUED: usize = USED + 2;
const ENTRIES: usize = CONTINUED + 2;
const RESERVED: usize = ENTRIES + 2;
const PREV_LSN: usize = RESERVED + 6;
const LAST_LSN: usize = PREV_LSN + 8;
const _: () = assert!(ENTRIES == 8 && PREV_LSN == 16 && LAST_LSN + 8 == STREAM);

/// Where the stream begins in a block.
pub(super) const STREAM: usize = 32;
/// Most bytes of the stream in a block.
pub(super) const STREAM_BYTES_MAX: usize = BLOCK_BYTES - STREAM;
/// What stands in front of a record in the stream.
pub(super) const ENTRY_BYTES: usize = 12;
/// The longest record, whatever the page size.
pub(super) const RECORD_BYTES_MAX: usize = record_bytes_max(PAGE_BYTES[PAGE_BYTES.len() - 1]);

/// Above every LSN; so far below the end that a record behind it does not wrap.
const LSN_END: Lsn = Lsn::new(u64::MAX - (1 << 20));

const _: () = assert!(RECORD_BYTES_MAX < 1 << 20);
const _: () = assert!(STREAM_BYTES_MAX < 1 << 16, "counts within a block take two bytes");

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) database: DatabaseId,
    pub(super) txn: TxnId,
}

impl Owner {
    fn seed(self, block: u64) -> u32 {
        let seed = self.database.checksum_seed();
        let seed = crc32c::crc32c_append(seed, &self.txn.get().to_le_bytes());
        crc32c::crc32c_append(seed, &block.to_le_bytes())
    }

    /// Renders block 0.
    pub(super) fn encode(self, block: &mut [u8]) {
        let mut checked = Vec::with_capacity(BLOCK_BYTES);
        checked.put_u32(FORMAT);
        checked.extend_from_slice(self.database.as_bytes());
        checked.put_u64(self.txn.get());
        debug_assert_eq!(FILE_CHECKED + checked.len(), FILE_RESERVED);
        checked.resize(BLOCK_BYTES - FILE_CHECKED, 0);
        let checksum = crc32c::crc32c_append(self.seed(0), &checked);
        block[..FILE_CHECKSUM].copy_from_slice(&MAGIC.to_le_bytes());
        block[FILE_CHECKSUM..FILE_CHECKED].copy_from_slice(&checksum.to_le_bytes());
        block[FILE_CHECKED..].copy_from_slice(&checked);
    }

    /// Checks block 0.
    pub(super) fn verify(self, block: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(block);
        let magic = reader.u64()?;
        if magic != MAGIC {
            let expected = format!("undo file magic {MAGIC:#018x}");
            return Err(DecodeError::new(0, expected, format!("{magic:#018x}")));
        }
        let stored = reader.u32()?;
        let sum = crc32c::crc32c_append(self.seed(0), &block[FILE_CHECKED..]);
        if stored != sum {
            let Self { database, txn } = self;
            let expected =
                format!("checksum {sum:#010x} of transaction {txn} of database {database}");
            return Err(DecodeError::new(FILE_CHECKSUM, expected, format!("{stored:#010x}")));
        }
        let format = reader.u32()?;
        if format != FORMAT {
            let expected = format!("undo file format {FORMAT}");
            return Err(DecodeError::new(FILE_FORMAT, expected, format.to_string()));
        }
        if reader.take(16)? != self.database.as_bytes() {
            let expected = format!("database {}", self.database);
            return Err(DecodeError::new(FILE_DATABASE, expected, "another one"));
        }
        let txn = reader.u64()?;
        if txn != self.txn.get() {
            let expected = format!("transaction {}", self.txn);
            return Err(DecodeError::new(FILE_TXN, expected, txn.to_string()));
        }
        reader.zeros(reader.remaining())
    }
}

/// The fields in front of a block's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Bytes of the stream.
    pub(super) used: usize,
    /// How many of them, at the start, go on with an earlier entry.
    pub(super) continued: usize,
    /// Entries that begin here.
    pub(super) entries: usize,
    /// The last entry that begins earlier.
    pub(super) prev_lsn: Lsn,
    /// The last entry that begins here or earlier.
    pub(super) last_lsn: Lsn,
}

impl BlockHeader {
    /// Writes the fields and the checksum of a block whose stream is in place, zeros behind it.
    pub(super) fn seal(&self, owner: Owner, number: u64, block: &mut [u8]) {
        let narrow = |value: usize| u16::try_from(value).expect("a block is shorter than 64 KiB");
        block[USED..][..2].copy_from_slice(&narrow(self.used).to_le_bytes());
        block[CONTINUED..][..2].copy_from_slice(&narrow(self.continued).to_le_bytes());
        block[ENTRIES..][..2].copy_from_slice(&narrow(self.entries).to_le_bytes());
        block[RESERVED..PREV_LSN].fill(0);
        block[PREV_LSN..][..8].copy_from_slice(&self.prev_lsn.get().to_le_bytes());
        block[LAST_LSN..][..8].copy_from_slice(&self.last_lsn.get().to_le_bytes());
        let checksum = crc32c::crc32c_append(owner.seed(number), &block[CHECKED..]);
        block[..CHECKED].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Checks a block and reads its fields.
    pub(super) fn verify(owner: Owner, number: u64, block: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(block);
        let stored = reader.u32()?;
        let sum = crc32c::crc32c_append(owner.seed(number), &block[CHECKED..]);
        if stored != sum {
            let Owner { database, txn } = owner;
            let expected = format!(
                "checksum {sum:#010x} of block {number} of transaction {txn} of database {database}"
            );
            return Err(DecodeError::new(CHECKSUM, expected, format!("{stored:#010x}")));
        }
        let used = usize::from(reader.u16()?);
        let continued = usize::from(reader.u16()?);
        let entries = usize::from(reader.u16()?);
        reader.zeros(PREV_LSN - RESERVED)?;
        let prev_lsn = Lsn::new(reader.u64()?);
        let last_lsn = Lsn::new(reader.u64()?);
        let header = Self { used, continued, entries, prev_lsn, last_lsn };
        if !(1..=STREAM_BYTES_MAX).contains(&used) {
            let expected = format!("1 to {STREAM_BYTES_MAX} bytes of the stream");
            return Err(DecodeError::new(USED, expected, used.to_string()));
        }
        if last_lsn >= LSN_END {
            let expected = format!("an LSN below {LSN_END}");
            return Err(DecodeError::new(LAST_LSN, expected, last_lsn.to_string()));
        }
        let is_consistent = if entries == 0 {
            continued == used && last_lsn == prev_lsn
        } else {
            continued < used && last_lsn > prev_lsn
        };
        // Only the first block has nothing before it, and it has nothing to go on with.
        let is_first = number == 1;
        if !is_consistent || prev_lsn.is_none() != is_first || (is_first && continued > 0) {
            let expected = format!("fields of block {number} that agree");
            return Err(DecodeError::new(USED, expected, format!("{header:?}")));
        }
        reader.take(used)?;
        reader.zeros(reader.remaining())?;
        Ok(header)
    }
}

/// What stands in front of a record in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the record lay in the log.
    pub(super) lsn: Lsn,
    /// Bytes of the record.
    pub(super) length: usize,
}

impl Entry {
    pub(super) fn encode(self) -> [u8; ENTRY_BYTES] {
        let length = u32::try_from(self.length).expect("records are shorter than 4 GiB");
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.lsn.get().to_le_bytes());
        bytes[8..].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// The length is bounded, so that memory may be taken for the record (L3).
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let lsn = Lsn::new(reader.u64()?);
        let length = to_usize(u64::from(reader.u32()?));
        if lsn >= LSN_END {
            let expected = format!("an LSN below {LSN_END}");
            return Err(DecodeError::new(0, expected, lsn.to_string()));
        }
        if !(RECORD_HEADER_BYTES..=RECORD_BYTES_MAX).contains(&length) {
            let expected = format!("a record of {RECORD_HEADER_BYTES} to {RECORD_BYTES_MAX} bytes");
            return Err(DecodeError::new(8, expected, length.to_string()));
        }
        Ok(Self { lsn, length })
    }
}

/// Byte offset of a block in the file.
pub(super) const fn offset_of(block: u64) -> u64 {
    block * to_u64(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner =
        Owner { database: DatabaseId::new(*b"a test database."), txn: TxnId::new(0x1_0000_00f0) };

    fn hex(bytes: &[u8]) -> Vec<String> {
        let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.chunks(16).map(line).collect()
    }

    fn sample() -> (BlockHeader, Vec<u8>) {
        let header = BlockHeader {
            used: 100,
            continued: 40,
            entries: 1,
            prev_lsn: Lsn::new(0x1_0000_0100),
            last_lsn: Lsn::new(0x1_0000_0208),
        };
        let mut block = vec![0; BLOCK_BYTES];
        block[STREAM..][..100].fill(0xab);
        header.seal(OWNER, 7, &mut block);
        (header, block)
    }

    #[test]
    fn header_block_is_that_of_the_table() {
        let mut block = vec![0xff; BLOCK_BYTES];
        OWNER.encode(&mut block);
        assert_eq!(
            hex(&block[..48]),
            [
                "53454157414c4c555dcf470501000000",
                "6120746573742064617461626173652e",
                "f0000000010000000000000000000000",
            ]
        );
        OWNER.verify(&block).unwrap();
    }

    #[test]
    fn block_is_that_of_the_table() {
        let (header, block) = sample();
        let fields = ["b90c1576640028000100000000000000", "00010000010000000802000001000000"];
        assert_eq!(hex(&block[..32]), fields);
        assert_eq!(BlockHeader::verify(OWNER, 7, &block), Ok(header));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut first = vec![0; BLOCK_BYTES];
        OWNER.encode(&mut first);
        let (_, block) = sample();
        for at in 0..BLOCK_BYTES {
            first[at] ^= 0x10;
            assert!(OWNER.verify(&first).is_err(), "byte {at} of the header block");
            first[at] ^= 0x10;
            let mut changed = block.clone();
            changed[at] ^= 0x10;
            assert!(BlockHeader::verify(OWNER, 7, &changed).is_err(), "byte {at}");
        }
        OWNER.verify(&first).unwrap();
    }

    #[test]
    fn a_block_of_another_file_or_place_is_refused() {
        let (_, block) = sample();
        let other_txn = Owner { txn: TxnId::new(1), ..OWNER };
        let other_database = Owner { database: DatabaseId::new([7; 16]), ..OWNER };
        for owner in [other_txn, other_database] {
            assert!(BlockHeader::verify(owner, 7, &block).is_err());
            let mut first = vec![0; BLOCK_BYTES];
            OWNER.encode(&mut first);
            assert!(owner.verify(&first).is_err());
        }
        assert!(BlockHeader::verify(OWNER, 8, &block).is_err());
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused_whatever_the_checksum() {
        let (header, block) = sample();
        let wrong = [
            (7, BlockHeader { used: 0, ..header }),
            (7, BlockHeader { used: STREAM_BYTES_MAX + 1, ..header }),
            (7, BlockHeader { used: 99, ..header }),
            (7, BlockHeader { continued: 100, ..header }),
            (7, BlockHeader { entries: 0, ..header }),
            (7, BlockHeader { entries: 0, continued: 100, ..header }),
            (7, BlockHeader { prev_lsn: header.last_lsn, ..header }),
            (7, BlockHeader { prev_lsn: Lsn::NONE, ..header }),
            (7, BlockHeader { last_lsn: LSN_END, ..header }),
            (1, BlockHeader { continued: 0, ..header }),
            (1, BlockHeader { prev_lsn: Lsn::NONE, ..header }),
        ];
        for (number, fields) in wrong {
            let mut changed = block.clone();
            fields.seal(OWNER, number, &mut changed);
            let answer = BlockHeader::verify(OWNER, number, &changed);
            assert!(answer.is_err(), "{fields:?} in block {number}");
        }
        let mut changed = block;
        changed[RESERVED] = 1;
        let sum = crc32c::crc32c_append(OWNER.seed(7), &changed[CHECKED..]);
        changed[..CHECKED].copy_from_slice(&sum.to_le_bytes());
        assert!(BlockHeader::verify(OWNER, 7, &changed).is_err(), "reserved bytes are zero");
    }

    #[test]
    fn entries_are_bounded() {
        let entry = Entry { lsn: Lsn::new(0x1122), length: RECORD_BYTES_MAX };
        assert_eq!(hex(&entry.encode()), ["221100000000000000200200"]);
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        for wrong in [
            Entry { length: RECORD_BYTES_MAX + 1, ..entry },
            Entry { length: RECORD_HEADER_BYTES - 1, ..entry },
            Entry { lsn: LSN_END, ..entry },
        ] {
            assert!(Entry::decode(&wrong.encode()).is_err(), "{wrong:?}");
        }
    }
}
