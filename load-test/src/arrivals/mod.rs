//! When the requests of an open loop are due: offsets since the run's start, pure and seeded.
//!
//! All kinds are one renewal process in *operational* time, where the mean gap is 1, read through the inverse of the
//! integrated rate: with `Λ(t) = ∫₀ᵗ rate`, the arrival at operational time `s` is due at `Λ⁻¹(s)`. A ramp then stretches the
//! gaps of every kind in the same way, and nothing is drawn and thrown away (thinning), so that arrival i depends on
//! the seed, i and the arrivals before it, and on nothing else. (Çınlar, *Introduction to Stochastic Processes*, 1975,
//! section 4.7: the time change of a Poisson process; here for renewal processes.)

mod gaps;
mod ramp;
mod trace;

use std::time::Duration;

use rand::{SeedableRng, rngs::ChaCha12Rng};

pub use self::trace::{TraceArrivals, TraceArrivalsError};
use self::{gaps::Gaps, ramp::Ramp};
use crate::plan::Arrival;

/// Makes the arrivals' random numbers independent of other random numbers with the plan's seed.
const STREAM: u64 = 0x6172_7269_7661_6c73;

/// Why arrivals are not valid.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ArrivalsError {
    /// The rate is not valid.
    #[error("request rate {0}/s: expected a positive number")]
    Rate(f64),
    /// The coefficient of variation is not valid.
    #[error(
        "coefficient of variation {0}: expected a number from 0.01 to 100 (1 is Poisson; constant gaps have their own name)"
    )]
    Variation(f64),
}

/// The due times of an open loop since its start, ascending. Endless up to the 584 years of a clock.
///
/// The first request is due at once; the gaps are between requests.
#[derive(Debug)]
pub struct Arrivals {
    gaps: Gaps,
    ramp: Ramp,
    rng: ChaCha12Rng,
    /// Operational time of the next arrival. For constant gaps it is a whole number, so nothing accumulates.
    operational: f64,
}

impl Arrivals {
    /// Arrivals at `rate` per second, which is reached linearly from zero over `ramp_up`.
    ///
    /// # Errors
    ///
    /// Where the rate or the gaps' variation is not valid.
    pub fn new(arrival: Arrival, rate: f64, ramp_up: Duration, seed: u64) -> Result<Self, ArrivalsError> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(ArrivalsError::Rate(rate));
        }
        Ok(Self {
            gaps: Gaps::new(arrival)?,
            ramp: Ramp::new(rate, ramp_up),
            rng: ChaCha12Rng::seed_from_u64(seed ^ STREAM),
            operational: 0.0,
        })
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = Duration::try_from_secs_f64(self.ramp.due(self.operational)).ok()?;
        self.operational += self.gaps.draw(&mut self.rng);
        Some(due)
    }
}

#[cfg(test)]
mod tests;
