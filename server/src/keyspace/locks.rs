//! Which commands may run at the same time.
//!
//! Every command that touches keys holds the gate shared and the stripes of its keys, for reading or
//! writing; one that touches a whole database, EXEC, and commands of very many keys hold the gate
//! exclusively. Stripes are taken in ascending order behind the gate, and never one at a time in
//! between, so nobody waits in a circle. The name of the key decides about its stripe, not the
//! database, so that MOVE and COPY hold both sides.
//!
//! Locks are held while a command runs and its commit is logged, which may take as long as reading
//! the pages that it needs, never while the log is flushed and never across an `await`.

use std::hash::{BuildHasher, RandomState};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use smallvec::SmallVec;

const STRIPES: usize = 256;

/// All locks of a server's keys.
#[derive(Debug)]
pub(crate) struct Locks {
    gate: RwLock<()>,
    stripes: Box<[RwLock<()>]>,
    hashes: RandomState,
}

/// What a command needs held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Nothing,
    /// Single keys, for reading or writing.
    Keys {
        is_write: bool,
    },
    /// No key in particular: databases stay what they are.
    Shared,
    /// Everything.
    Exclusive,
}

/// Locks, until dropped.
#[expect(dead_code, reason = "guards are held, not read")]
#[derive(Debug)]
pub(crate) enum Held<'l> {
    Nothing,
    Shared { stripes: SmallVec<[Stripe<'l>; 2]>, gate: RwLockReadGuard<'l, ()> },
    Exclusive(RwLockWriteGuard<'l, ()>),
}

#[expect(dead_code, reason = "guards are held, not read")]
#[derive(Debug)]
pub(crate) enum Stripe<'l> {
    Read(RwLockReadGuard<'l, ()>),
    Write(RwLockWriteGuard<'l, ()>),
}

impl Locks {
    pub(crate) fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| RwLock::new(())).collect();
        Self { gate: RwLock::new(()), stripes, hashes: RandomState::new() }
    }

    /// The hash of a key, the same for as long as the server runs.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.hashes.hash_one(key)
    }

    pub(crate) fn hold<'k>(
        &self,
        hold: Hold,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> Held<'_> {
        let is_write = match hold {
            Hold::Nothing => return Held::Nothing,
            Hold::Exclusive => return Held::Exclusive(self.gate.write()),
            Hold::Keys { .. } if keys.len() > crate::limits::LOCKED_KEYS_MAX => {
                return Held::Exclusive(self.gate.write());
            }
            Hold::Shared => {
                return Held::Shared { stripes: SmallVec::new(), gate: self.gate.read() };
            }
            Hold::Keys { is_write } => is_write,
        };
        let mut numbers: SmallVec<[usize; 4]> = keys.map(|key| self.stripe_of(key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let gate = self.gate.read();
        let lock = |number: usize| {
            let stripe = &self.stripes[number];
            if is_write { Stripe::Write(stripe.write()) } else { Stripe::Read(stripe.read()) }
        };
        Held::Shared { stripes: numbers.into_iter().map(lock).collect(), gate }
    }

    fn stripe_of(&self, key: &[u8]) -> usize {
        usize::try_from(self.hash(key) % STRIPES as u64).expect("below the number of stripes")
    }
}
