/// A stream of random numbers that follows from its seed alone, on every machine: SplitMix64
/// (Steele, Lea and Flood 2014, <https://doi.org/10.1145/2714064.2660195>).
///
/// ```
/// use attention_models::training::Random;
///
/// let mut random = Random::new(7).fork(3);
/// assert_eq!(random.below(10), Random::new(7).fork(3).below(10));
/// ```
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An independent stream: that of a step, or of an epoch.
    pub fn fork(&self, number: u64) -> Self {
        let mut fork = Self::new(self.state ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let state = fork.bits();
        Self::new(state)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to less than 1.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// From `-reach` to `reach`.
    pub fn around_zero(&mut self, reach: f32) -> f32 {
        (2.0 * self.uniform() - 1.0) * reach
    }

    /// A whole number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Off from uniform by less than `bound` in 2^64.
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// From a normal distribution of mean 0 and deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }

    /// The numbers below `count` in random order (Fisher and Yates).
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}
