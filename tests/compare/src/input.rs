//! The input: keys, values and the order in which they are met, all of them from numbers.
//!
//! A key is 24 bytes that follow from its number. A value follows from its key's number and a
//! version, cannot be compressed, and proves itself: its last 8 bytes follow from its first 8 and
//! from the key, so a reader can tell in a few instructions that it was given this key's value,
//! whole, whichever version it is.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// Length of every key.
pub(crate) const KEY_BYTES: usize = 24;
/// Bytes that values take their middles from, besides the length of the longest value.
const POOL_BYTES: usize = 8 << 20;
/// Samples of a skewed choice that are drawn beforehand, so that drawing takes no measured time.
const SAMPLES: usize = 1 << 20;
/// Skew of YCSB's zipfian distribution.
const ZIPF_EXPONENT: f64 = 0.99;

/// A key.
pub(crate) type Key = [u8; KEY_BYTES];

/// Steele, Lea and Flood's finaliser (SplitMix64): a bijection that looks random.
pub(crate) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key with this number.
pub(crate) fn key(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    let first = mix(number);
    key[..8].copy_from_slice(&first.to_le_bytes());
    key[8..16].copy_from_slice(&mix(first).to_le_bytes());
    key[16..].copy_from_slice(&mix(first ^ 0x5851_f42d_4c95_7f2d).to_le_bytes());
    key
}

/// A sequence of numbers that look random.
#[derive(Clone, Debug)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// All values of one length.
#[derive(Debug)]
pub(crate) struct Values {
    pool: Vec<u8>,
    bytes: usize,
}

impl Values {
    pub(crate) fn new(bytes: usize) -> Self {
        assert!(bytes >= 16, "a value has room for what proves it");
        let mut stream = Stream::new(0x7a6c_7565);
        let mut pool = Vec::with_capacity(POOL_BYTES + bytes);
        while pool.len() < POOL_BYTES + bytes {
            pool.extend_from_slice(&stream.next().to_le_bytes());
        }
        Self { pool, bytes }
    }

    /// Length of each value.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Room for a value.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        vec![0; self.bytes]
    }

    /// The first 8 bytes of a value; everything else of it follows from them and its key.
    pub(crate) const fn head(number: u64, version: u64) -> u64 {
        mix(number ^ version.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// Puts a version of the value of the key with this number into `buffer`.
    pub(crate) fn fill(&self, number: u64, version: u64, buffer: &mut [u8]) {
        let head = Self::head(number, version);
        let (first, rest) = buffer.split_at_mut(8);
        let (middle, last) = rest.split_at_mut(self.bytes - 16);
        first.copy_from_slice(&head.to_le_bytes());
        middle.copy_from_slice(self.middle(head));
        last.copy_from_slice(&tail(head, mix(number)).to_le_bytes());
    }

    fn middle(&self, head: u64) -> &[u8] {
        let offset = head as usize % POOL_BYTES;
        &self.pool[offset..offset + self.bytes - 16]
    }

    /// Whether these bytes are some version of this key's value, judged by both ends and the length.
    /// Returns the version's head.
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Option<u64> {
        let first = key.first_chunk().map(|first| u64::from_le_bytes(*first))?;
        let head = u64::from_le_bytes(*value.first_chunk()?);
        let last = u64::from_le_bytes(*value.last_chunk()?);
        (value.len() == self.bytes && last == tail(head, first)).then_some(head)
    }

    /// [`Values::check`] of every byte.
    pub(crate) fn check_whole(&self, key: &[u8], value: &[u8]) -> Option<u64> {
        let head = self.check(key, value)?;
        (value[8..self.bytes - 8] == *self.middle(head)).then_some(head)
    }
}

const fn tail(head: u64, key_first: u64) -> u64 {
    mix(head ^ key_first.rotate_left(32))
}

/// Numbers of keys, few of them often: YCSB's zipfian choice, drawn beforehand.
#[derive(Debug)]
pub(crate) struct Skewed {
    ranks: Vec<u32>,
}

impl Skewed {
    /// Ranks below `count`, rank 0 the most frequent.
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let zipf = Zipf::new(count as f64, ZIPF_EXPONENT).expect("there are keys, and a skew");
        let ranks = (0..SAMPLES).map(|_| zipf.sample(&mut random) as u32 - 1).collect();
        Self { ranks }
    }

    /// The rank at a place of the sequence, which begins again at its end.
    pub(crate) fn rank(&self, place: u64) -> u64 {
        u64::from(self.ranks[place as usize % SAMPLES])
    }
}

#[cfg(test)]
mod tests {
    use super::{Skewed, Values, key};

    #[test]
    fn a_value_proves_its_key_and_length() {
        let values = Values::new(150);
        let mut value = values.buffer();
        values.fill(7, 3, &mut value);
        assert_eq!(values.check_whole(&key(7), &value), Some(Values::head(7, 3)));
        assert_eq!(values.check(&key(8), &value), None);
        assert_eq!(values.check(&key(7), &value[..149]), None);
        value[75] ^= 1;
        assert_eq!(values.check(&key(7), &value), Some(Values::head(7, 3)));
        assert_eq!(values.check_whole(&key(7), &value), None);
    }

    #[test]
    fn a_skewed_choice_prefers_low_ranks_and_keeps_its_bound() {
        let skewed = Skewed::new(1000, 1);
        let first = skewed.ranks.iter().filter(|&&rank| rank == 0).count();
        let second = skewed.ranks.iter().filter(|&&rank| rank == 1).count();
        let last = skewed.ranks.iter().filter(|&&rank| rank == 999).count();
        assert!(first > second && second > last && last > 0);
        assert!(skewed.ranks.iter().all(|&rank| rank < 1000));
    }
}
