//! A file without its name: what the program sees, what the medium has, and what lies between.
//!
//! `durable` with the pending changes applied in order is what the program sees, until a write is
//! lost (a sync failed, or a fault dropped it): then the program sees bytes that no crash leaves.
//! A synced write is durable at once. Where unsynced changes precede it, it stays in the list,
//! marked, so that a crash that keeps one of them does not put older bytes over newer ones.

use std::sync::Arc;

use super::image::Image;

/// A change since the last sync.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Number of the operation that made it.
    pub(super) operation: u64,
    pub(super) change: Change,
    /// Whether it survives every crash.
    pub(super) is_durable: bool,
}

/// What a change does.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    SetLen(u64),
}

impl Change {
    pub(super) fn apply(&self, image: &mut Image) {
        match self {
            Self::Write { offset, bytes } => image.write(*offset, bytes),
            Self::SetLen(length) => image.set_len(*length),
        }
    }
}

/// A file without its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    current: Image,
    durable: Image,
    pending: Vec<Pending>,
    /// Whether the program sees something that was lost.
    has_diverged: bool,
}

impl Inode {
    /// A file whose bytes are all durable.
    pub(super) fn settled(image: Image) -> Self {
        Self { durable: image.clone(), current: image, pending: Vec::new(), has_diverged: false }
    }

    /// What the program sees.
    pub(super) fn current(&self) -> &Image {
        &self.current
    }

    /// What every crash leaves, but for the marked entries of [`Self::pending`].
    pub(super) fn durable(&self) -> &Image {
        &self.durable
    }

    /// What is not certain to survive, in order.
    pub(super) fn pending(&self) -> &[Pending] {
        &self.pending
    }

    pub(super) fn write(&mut self, operation: u64, offset: u64, bytes: &[u8]) {
        self.change(operation, Change::Write { offset, bytes: bytes.into() });
    }

    pub(super) fn set_len(&mut self, operation: u64, length: u64) {
        self.change(operation, Change::SetLen(length));
    }

    fn change(&mut self, operation: u64, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(Pending { operation, change, is_durable: false });
    }

    /// Makes what one operation wrote durable, and nothing else.
    pub(super) fn sync_operation(&mut self, operation: u64) {
        for pending in &mut self.pending {
            pending.is_durable |= pending.operation == operation;
        }
        let settled = self.pending.iter().take_while(|pending| pending.is_durable).count();
        for pending in self.pending.drain(..settled) {
            pending.change.apply(&mut self.durable);
        }
    }

    /// Makes everything durable that was not lost.
    pub(super) fn sync(&mut self) {
        if self.has_diverged {
            for pending in self.pending.drain(..) {
                pending.change.apply(&mut self.durable);
            }
        } else {
            self.pending.clear();
            self.durable = self.current.clone();
        }
    }

    /// Loses the unsynced writes of one operation, or of all: the program goes on seeing them. Cut
    /// and extended lengths stay pending, as the file system's journal has them.
    pub(super) fn lose(&mut self, operation: Option<u64>) {
        let before = self.pending.len();
        self.pending.retain(|pending| {
            pending.is_durable
                || matches!(pending.change, Change::SetLen(_))
                || operation.is_some_and(|operation| operation != pending.operation)
        });
        self.has_diverged |= self.pending.len() < before;
    }

    /// Lets the program see what the medium will have: lost writes are gone.
    pub(super) fn drop_cache(&mut self) {
        if self.has_diverged {
            self.current = self.durable.clone();
            for pending in &self.pending {
                pending.change.apply(&mut self.current);
            }
            self.has_diverged = false;
        }
    }

    /// Flips a bit wherever the byte is kept.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        for image in [&mut self.current, &mut self.durable] {
            if offset < image.length() {
                let mut byte = [0];
                image.read(offset, &mut byte);
                image.write(offset, &[byte[0] ^ (1 << bit)]);
            }
        }
        for pending in &mut self.pending {
            if let Change::Write { offset: start, bytes } = &mut pending.change
                && let Some(index) = offset.checked_sub(*start)
                && let Some(byte) = Arc::make_mut(bytes).get_mut(crate::codec::to_usize(index))
            {
                *byte ^= 1 << bit;
            }
        }
    }
}
