//! Operations of a simulated disk, as the monitor, the faults and the log of operations see them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Kinds of operations.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    /// A file is created, or emptied by opening it so.
    Create,
    /// Bytes are written. First step of a write that syncs, too.
    Write,
    /// The second step of a write that syncs: its bytes become durable.
    WriteSync,
    /// A file is synced.
    Sync,
    /// A file is cut or extended.
    SetLen,
    /// A file is renamed; `path` is the old name.
    Rename,
    /// A file is removed.
    Remove,
    /// A directory is created.
    CreateDir,
    /// A directory is synced.
    SyncDir,
    /// Bytes are read. It changes nothing, and is numbered apart.
    Read,
}

impl OperationKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::WriteSync => "write-sync",
            Self::Sync => "sync",
            Self::SetLen => "set-len",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::CreateDir => "create-dir",
            Self::SyncDir => "sync-dir",
            Self::Read => "read",
        }
    }
}

/// An operation that is about to run.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct SimOperation<'a> {
    /// What it does.
    pub kind: OperationKind,
    /// The file or directory.
    pub path: &'a Path,
    /// Byte offset of a transfer, the new length of [`OperationKind::SetLen`], else 0.
    pub offset: u64,
    /// Bytes of a transfer, else 0.
    pub length: usize,
    /// The bytes written, by both steps of a write that syncs; else empty.
    pub bytes: &'a [u8],
}

impl<'a> SimOperation<'a> {
    pub(super) fn on(kind: OperationKind, path: &'a Path) -> Self {
        Self { kind, path, offset: 0, length: 0, bytes: &[] }
    }

    pub(super) fn write(kind: OperationKind, path: &'a Path, offset: u64, bytes: &'a [u8]) -> Self {
        Self { kind, path, offset, length: bytes.len(), bytes }
    }

    pub(super) fn record(&self) -> Record {
        Record { kind: self.kind, path: self.path.into(), offset: self.offset, length: self.length }
    }
}

/// What is kept of an operation to describe it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    kind: OperationKind,
    path: Arc<Path>,
    offset: u64,
    length: usize,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.path.display())?;
        match self.kind {
            OperationKind::Write | OperationKind::WriteSync | OperationKind::Read => {
                write!(f, " {}+{}", self.offset, self.length)
            }
            OperationKind::SetLen => write!(f, " {}", self.offset),
            _ => Ok(()),
        }
    }
}
