use rand::Rng;
use rand_distr::{Distribution, Exp1, Gamma};

use super::ArrivalsError;
use crate::plan::Arrival;

/// Outside of this range a gamma distribution is not a sensible load, and its numbers underflow.
const VARIATION: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// A distribution of gaps with mean 1.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gaps {
    Constant,
    Exponential,
    /// Sampled by Marsaglia and Tsang's method ("A simple method for generating gamma variables", 2000).
    Gamma(Gamma<f64>),
}

impl Gaps {
    pub(super) fn new(arrival: Arrival) -> Result<Self, ArrivalsError> {
        match arrival {
            Arrival::Constant => Ok(Self::Constant),
            Arrival::Poisson => Ok(Self::Exponential),
            Arrival::Gamma { cv } if VARIATION.contains(&cv) => {
                // Mean = shape × scale = 1; variation = 1/√shape.
                let gamma = Gamma::new(1.0 / (cv * cv), cv * cv);
                gamma.map(Self::Gamma).map_err(|_| ArrivalsError::Variation(cv))
            }
            Arrival::Gamma { cv } => Err(ArrivalsError::Variation(cv)),
        }
    }

    pub(super) fn draw(&self, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Exponential => Exp1.sample(rng),
            Self::Gamma(gamma) => gamma.sample(rng),
        }
    }
}
