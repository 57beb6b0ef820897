//! Faults by plan: which operation goes wrong, and how.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::operation::{OperationKind, SimOperation};

/// The error number of a device that fails (EIO).
pub const EIO: i32 = 5;
/// The error number of a full file system (ENOSPC).
pub const ENOSPC: i32 = 28;

/// An operation that goes wrong: the first one that matches, or every one from there on.
#[derive(Clone)]
pub struct Fault {
    from: u64,
    is_lasting: bool,
    kind: Option<OperationKind>,
    path: Option<PathPredicate>,
    effect: FaultEffect,
}

type PathPredicate = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// How an operation goes wrong.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEffect {
    /// It fails with this error number, and changes nothing but what a failed sync changes.
    Errno(i32),
    /// It fails with an error of this kind.
    Kind(io::ErrorKind),
    /// A write fails with this error number after its first sectors have been written.
    TornWrite {
        /// Sectors of 512 bytes that are written.
        sectors: usize,
        /// The error number.
        errno: i32,
    },
    /// It reports success and does nothing. Of a write, the file's length still grows; a sync of a
    /// lying drive makes nothing durable.
    Ignored,
    /// A write lands at another offset of the file, and reports success.
    Misdirected {
        /// Where it lands, in bytes.
        offset: u64,
    },
}

impl Fault {
    /// The first operation that changes something and matches goes wrong this way.
    #[must_use]
    pub fn new(effect: FaultEffect) -> Self {
        Self { from: 1, is_lasting: false, kind: None, path: None, effect }
    }

    /// Not before operation `number`. The first is 1; reads are counted apart.
    #[must_use]
    pub fn at(mut self, number: u64) -> Self {
        self.from = number;
        self
    }

    /// And every later operation that matches.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    /// Operations of this kind alone. Without it every kind but [`OperationKind::Read`] matches.
    #[must_use]
    pub fn kind(mut self, kind: OperationKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Paths that the predicate accepts alone.
    #[must_use]
    pub fn path(mut self, predicate: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.path = Some(Arc::new(predicate));
        self
    }

    fn matches(&self, number: u64, operation: &SimOperation<'_>) -> bool {
        number >= self.from
            && match self.kind {
                Some(kind) => kind == operation.kind,
                None => operation.kind != OperationKind::Read,
            }
            && self.path.as_ref().is_none_or(|accepts| accepts(operation.path))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("from", &self.from)
            .field("is_lasting", &self.is_lasting)
            .field("kind", &self.kind)
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}

impl FaultEffect {
    /// The error that it reports, where it reports one.
    pub(super) fn error(self) -> Option<io::Error> {
        match self {
            Self::Errno(errno) | Self::TornWrite { errno, .. } => {
                Some(io::Error::from_raw_os_error(errno))
            }
            Self::Kind(kind) => Some(kind.into()),
            Self::Ignored | Self::Misdirected { .. } => None,
        }
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong with operation `number`; a fault that is not lasting is used up.
    pub(super) fn strike(
        &mut self,
        number: u64,
        operation: &SimOperation<'_>,
    ) -> Option<FaultEffect> {
        let index = self.0.iter().position(|fault| fault.matches(number, operation))?;
        let effect = self.0[index].effect;
        if !self.0[index].is_lasting {
            self.0.remove(index);
        }
        Some(effect)
    }
}
