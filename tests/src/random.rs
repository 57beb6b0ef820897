//! Random numbers by seed (SplitMix64): the same on every machine and in every release.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number below `bound`, which is not 0.
    pub fn below_u16(&mut self, bound: u16) -> u16 {
        let number = self.below(u64::from(bound));
        u16::try_from(number).expect("it is below a u16")
    }

    /// A number below `bound`, which is not 0.
    pub fn below_u32(&mut self, bound: u32) -> u32 {
        let number = self.below(u64::from(bound));
        u32::try_from(number).expect("it is below a u32")
    }

    /// A number below `bound`, which is not 0.
    pub fn below_usize(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a usize has at most 64 bits");
        usize::try_from(self.below(bound)).expect("it is below a usize")
    }

    /// True once in `n` times.
    pub const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
