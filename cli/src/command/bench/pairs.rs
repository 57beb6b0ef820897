//! Keys and values as functions of a number.

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 24;
/// Bytes of a value.
pub(super) const VALUE_BYTES: usize = 150;

/// The key with this number. Keys in the order of their numbers are in random order as bytes.
pub(super) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let mut random = Random::new(number);
    key[..8].copy_from_slice(&random.next().to_be_bytes());
    key[8..16].copy_from_slice(&random.next().to_be_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A sequence of pseudo-random numbers: SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A value; its bytes do not compress.
    pub(super) fn value(&mut self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        for chunk in value.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Random, key};

    #[test]
    fn keys_differ_and_are_not_in_the_order_of_their_numbers() {
        let keys: Vec<_> = (0..1000).map(key).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 1000);
        assert!(!keys.is_sorted());
    }

    #[test]
    fn the_sequence_is_that_of_the_published_generator() {
        let mut random = Random::new(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
    }
}
