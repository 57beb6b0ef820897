//! The bytes of a fuzzer, used up from the front.

use seawall_wal::codec::to_usize;

/// Bytes, and zeros when there are none left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number of so many bytes, up to eight, the lowest first.
    pub(super) fn number(&mut self, bytes: usize) -> u64 {
        let taken = self.take(bytes);
        taken.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// The next bytes, fewer where there are no more.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes with their number in front, as [`piece`] writes it.
    pub(super) fn piece(&mut self) -> &'a [u8] {
        let count = to_usize(self.number(2));
        self.take(count)
    }

    /// All that are left.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Bytes with their number in front.
pub(super) fn piece(bytes: &[u8]) -> Vec<u8> {
    let count = u16::try_from(bytes.len()).expect("a piece of a small input");
    [&count.to_le_bytes()[..], bytes].concat()
}
