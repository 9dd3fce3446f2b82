use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014): every choice of a simulation comes from one of these, made of the seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds would give streams that are shifted copies of each other.
        let mut scrambled = Self(seed ^ 0x6a09_e667_f3bc_c908);
        Self(scrambled.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..n`; the bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("less than n")
    }

    /// `low..=high`
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        self.next() % 1000 < u64::from(per_mille)
    }

    /// Whole milliseconds, tokio's resolution: `0..=longest`.
    pub(crate) fn duration(&mut self, longest: Duration) -> Duration {
        let longest = usize::try_from(longest.as_millis()).expect("less than years");
        Duration::from_millis(self.between(0, longest) as u64)
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A stream of its own.
    pub(crate) fn split(&mut self) -> Self {
        Self::new(self.next())
    }
}
