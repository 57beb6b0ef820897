//! Where ids, nonces and the time of day come from: the system, or, in tests, a seed, so that the same
//! calls write the same bytes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use seawall_wal::{DatabaseId, EpochNonce, Error, Result};

/// Where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Random numbers and clock of the system.
    System,
    /// This number. Two databases with one seed are the same one, and so are two tries of one epoch:
    /// whoever opens a database again takes another.
    Seed(u64),
}

impl Source {
    /// The id of a new database.
    pub(crate) fn database_id(self) -> Result<DatabaseId> {
        Ok(DatabaseId::new(match self {
            Self::System => random()?,
            Self::Seed(seed) => {
                let (low, high) = (mixed(seed, 0), mixed(seed, 1));
                (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
            }
        }))
    }

    /// The nonce of the epoch behind `last_epoch`.
    pub(crate) fn nonce(self, last_epoch: u64) -> Result<EpochNonce> {
        Ok(EpochNonce::new(match self {
            Self::System => u64::from_le_bytes(random()?),
            Self::Seed(seed) => mixed(seed, last_epoch.wrapping_add(2)),
        }))
    }

    /// Milliseconds since 1970, or what comes behind `before`.
    pub(crate) fn now_ms(self, before: u64) -> u64 {
        match self {
            Self::System => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
            }
            Self::Seed(_) => before + 1,
        }
    }

    /// Whether what is measured may count.
    pub(crate) fn has_clock(self) -> bool {
        self == Self::System
    }
}

/// The last step of splitmix64 (Steele, Lea and Flood) on both numbers.
const fn mixed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            let source = Arc::new(std::io::Error::other(error.to_string()));
            Err(Error::Io { path: "the system's random numbers".into(), source })
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Source;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_one_gives_others() {
        let (one, other) = (Source::Seed(7), Source::Seed(8));
        assert_eq!(one.database_id().unwrap(), one.database_id().unwrap());
        assert_ne!(one.database_id().unwrap(), other.database_id().unwrap());
        assert_eq!(one.nonce(3).unwrap(), one.nonce(3).unwrap());
        assert_ne!(one.nonce(3).unwrap(), one.nonce(4).unwrap());
        assert_ne!(one.nonce(3).unwrap(), other.nonce(3).unwrap());
        assert_eq!(one.now_ms(41), 42);
    }

    #[test]
    fn the_system_never_gives_an_id_twice() {
        let system = Source::System;
        assert_ne!(system.database_id().unwrap(), system.database_id().unwrap());
        assert_ne!(system.nonce(0).unwrap(), system.nonce(0).unwrap());
        assert!(system.now_ms(0) > 1_600_000_000_000);
    }
}
