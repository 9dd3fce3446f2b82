use rand::{Rng, SeedableRng, rngs::ChaCha12Rng};
use rand_distr::{Distribution, StandardNormal};

use super::WorkloadError;
use crate::plan::Lengths;

/// Longer than any model accepts; a larger mean is a mistake.
const LONGEST: f64 = 1e7;

/// What a random stream is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// A prompt and its lengths.
    Prompt = 1,
    /// The prefix that all prompts share.
    Prefix = 2,
    /// A block of a trace's prompts.
    Block = 3,
}

/// A random stream that depends on the run's seed, its purpose and its index only.
pub(super) fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha12Rng {
    let mut key = [0; 32];
    for (bytes, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, index]) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha12Rng::from_seed(key)
}

impl Lengths {
    /// A length in tokens: cut to a whole number, drawn again until it is positive, as LLMPerf does.
    pub(super) fn draw(self, rng: &mut impl Rng) -> u32 {
        loop {
            let normal: f64 = StandardNormal.sample(rng);
            let tokens = self.mean + self.stddev * normal;
            if tokens >= 1.0 {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive; the rest is cut on purpose"
                )]
                return tokens as u32;
            }
        }
    }

    /// Checks that a length can be drawn.
    pub(super) fn check(self, name: &'static str) -> Result<(), WorkloadError> {
        let Self { mean, stddev } = self;
        if (1.0..=LONGEST).contains(&mean) && (0.0..=LONGEST).contains(&stddev) {
            return Ok(());
        }
        Err(WorkloadError::Setting {
            name,
            found: format!("mean {mean}, standard deviation {stddev}"),
            expected: "a mean of 1 to 10 000 000 tokens, and a standard deviation from 0",
        })
    }
}
