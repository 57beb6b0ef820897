//! Undo files: records of huge transactions that the log no longer holds, for their rollback and
//! for readers of older versions ("Spilling" in ARCHITECTURE.md).
//!
//! One file a transaction, `undo/<transaction id>`, with the records that may have to be undone, in
//! the order of their LSNs. Files are neither logged nor allocated from pages, nor counted in
//! `max_wal_bytes`. They are made of blocks of 4 KiB that are their own sparse index (`block`);
//! nothing is compressed, since the log has compressed the bodies where that pays.
//!
//! # Protocol
//!
//! 1. [`SpillWriter::append`] copies records out of the log.
//! 2. [`SpillWriter::sync`] makes them durable, and gives a [`SpillMark`]. If we crash before, what
//!    was written lies behind the last mark: nobody reads it, and [`SpillWriter::resume`] cuts it
//!    off.
//! 3. A checkpoint names the mark; only when its master record is durable does the log let go of
//!    what lies below (C3). From here on, damage below the mark is [`Error::Corrupt`].
//! 4. [`SpillReader`] reads below a mark, beside the writer and any number of others.
//! 5. When nobody needs the undo any more and no checkpoint names it, [`remove`] takes the file
//!    away. If we crash before that is durable the file is there again, and [`remove_unknown`] at
//!    the next open finds that its transaction is in no table.
//!
//! # Failures
//!
//! A file grows before anything refers to the space. So a failed write or sync never poisons (W2):
//! the writer goes back to its last mark, gives back the space behind it, and a full disk is
//! [`Error::NoSpace`]. The log goes on holding what was not spilled; the caller tries again later,
//! or ends the transaction.

mod block;
mod reader;
mod window;
mod writer;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use seawall_wal::codec::to_u64;
use seawall_wal::disk::{AlignedBuf, BLOCK_BYTES, Disk, DiskFile};
use seawall_wal::log::OwnedRecord;
use seawall_wal::{DatabaseId, Error, Lsn, Result, TxnId};

use crate::names::UNDO_NAME;
use block::offset_of;

pub(crate) use reader::SpillReader;
pub(crate) use writer::SpillWriter;

/// Hexadecimal digits of a transaction's id in its file's name, so that names sort like ids.
const NAME_DIGITS: usize = 16;

/// What of an undo file is durable, for the transaction's entry in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpillMark {
    /// Records that were appended begin below; [`Lsn::NONE`] where there are none.
    pub(crate) spilled_upto: Lsn,
    /// Bytes of the file.
    pub(crate) length: u64,
}

impl SpillMark {
    fn behind(last_lsn: Lsn, length: u64) -> Self {
        let spilled_upto = if last_lsn.is_none() { Lsn::NONE } else { last_lsn.advance(1) };
        Self { spilled_upto, length }
    }

    fn last_lsn(&self) -> Lsn {
        Lsn::new(self.spilled_upto.get().saturating_sub(1))
    }
}

/// What [`check`] found in a file that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpillContents {
    /// How many records.
    pub(crate) records: u64,
    /// Where the mark of this length stands.
    pub(crate) mark: SpillMark,
}

/// Reads every block below `length`, and calls `each` with every record in order.
///
/// # Errors
/// [`Error::Corrupt`] for the first damage; those of `each`; [`Error::Io`].
pub(crate) fn check(
    disk: &dyn Disk,
    dir: &Path,
    database: DatabaseId,
    txn: TxnId,
    length: u64,
    each: impl FnMut(&OwnedRecord) -> Result<()>,
) -> Result<SpillContents> {
    SpillReader::open(disk, dir, database, txn, length)?.check(each)
}

/// Takes a transaction's file away; one that is not there is fine. A crash may bring it back, see
/// [`remove_unknown`].
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove(disk: &dyn Disk, dir: &Path, txn: TxnId) -> Result<()> {
    let path = path(dir, txn);
    match disk.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes away the files of transactions that `is_known` does not accept, and says how many.
/// Whatever else lies in the folder is left alone.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove_unknown(
    disk: &dyn Disk,
    dir: &Path,
    is_known: impl Fn(TxnId) -> bool,
) -> Result<u64> {
    let mut removed = 0;
    for txn in ids(disk, dir)? {
        if !is_known(txn) {
            remove(disk, dir, txn)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The undo files and their lengths in bytes, in the order of their transactions. A file may be
/// longer than the mark says.
///
/// # Errors
/// [`Error::Io`].
#[cfg(test)]
pub(crate) fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<(TxnId, u64)>> {
    let mut files = Vec::new();
    for txn in ids(disk, dir)? {
        let path = path(dir, txn);
        match disk.size(&path) {
            Ok(size) => files.push((txn, size.length_bytes)),
            // Its transaction ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&path, error)),
        }
    }
    Ok(files)
}

/// Path of a transaction's file in the database's directory.
pub(crate) fn path(dir: &Path, txn: TxnId) -> PathBuf {
    folder(dir).join(format!("{:0NAME_DIGITS$x}", txn.get()))
}

fn folder(dir: &Path) -> PathBuf {
    dir.join(UNDO_NAME)
}

fn ids(disk: &dyn Disk, dir: &Path) -> Result<Vec<TxnId>> {
    let folder = folder(dir);
    match disk.list(&folder) {
        Ok(names) => Ok(names.iter().filter_map(|name| parse_name(name)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(&folder, error)),
    }
}

/// The transaction whose file has this name; `None` for other files.
fn parse_name(name: &OsStr) -> Option<TxnId> {
    let name = name.to_str()?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_id = name.len() == NAME_DIGITS && name.bytes().all(is_digit);
    let id = if is_id { u64::from_str_radix(name, 16).ok()? } else { return None };
    Some(TxnId::new(id)).filter(|id| !id.is_none())
}

/// The error of opening a file that a mark names.
fn missing(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::corrupt(path, 0, "the undo file that a checkpoint names", "no file");
    }
    Error::io(path, error)
}

/// Checks a length that a mark named, and gives the number of blocks.
fn check_length(file: &dyn DiskFile, path: &Path, length: u64) -> Result<u64> {
    let is_mark = length > 0 && length.is_multiple_of(to_u64(BLOCK_BYTES));
    if !is_mark {
        let expected = format!("a length in blocks of {BLOCK_BYTES} bytes");
        return Err(Error::corrupt(path, 0, expected, format!("a mark at {length}")));
    }
    let found = file.size().map_err(|error| Error::io(path, error))?.length_bytes;
    if found < length {
        let expected = format!("{length} bytes, as a checkpoint says");
        return Err(Error::corrupt(path, found, expected, "the end of the file"));
    }
    Ok(length / to_u64(BLOCK_BYTES))
}

fn read_block(file: &dyn DiskFile, path: &Path, number: u64) -> Result<AlignedBuf> {
    let mut block = AlignedBuf::new(BLOCK_BYTES);
    read(file, path, number, &mut block)?;
    Ok(block)
}

/// Reads blocks from `number` on. The end of the file in their middle is damage: they lie below a
/// mark.
fn read(file: &dyn DiskFile, path: &Path, number: u64, blocks: &mut [u8]) -> Result<()> {
    let offset = offset_of(number);
    file.read_at(blocks, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            let expected = format!("{} bytes", blocks.len());
            Error::corrupt(path, offset, expected, "the end of the file")
        }
        _ => Error::io(path, error),
    })
}
