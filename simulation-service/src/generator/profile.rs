use rand::{Rng, SeedableRng, rngs::ChaCha12Rng};
use rand_distr::{Distribution, Uniform};
use shared_types::Metric;

use super::{is_latency, normal::StandardNormal};

/// How one LLM does in one metric: the same at every tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    lower: f64,
    upper: f64,
    model: Model,
}

#[derive(Debug, Clone, Copy)]
enum Model {
    /// lower + scale · exp(sigma · z), with z standard normal.
    LogNormal { scale: f64, sigma: f64 },
    /// mean + sigma · z.
    Normal { mean: f64, sigma: f64 },
}

/// How far an LLM's place in one metric may lie from its overall quality.
const SPECIALITY: f64 = 0.25;
/// The median of a latency lies between these fractions of the bounds' width: long tails fit above it.
const LATENCY_MEDIAN: (f64, f64) = (0.06, 0.36);
/// The shape parameter of a latency.
const LATENCY_SIGMA: (f64, f64) = (0.25, 0.55);
/// The mean of a throughput lies between these fractions of the bounds' width.
const THROUGHPUT_MEAN: (f64, f64) = (0.3, 0.75);
/// The standard deviation of a throughput, as a fraction of the width.
const THROUGHPUT_SIGMA: (f64, f64) = (0.06, 0.14);
/// Draws before a value that will not fall within the bounds is drawn uniformly instead.
const ATTEMPTS: usize = 64;

impl Profile {
    /// The profile that `key` stands for, of an LLM of this overall quality (0 to 1).
    pub(super) fn draw(key: [u8; 32], quality: f64, metric: &Metric) -> Self {
        let mut rng = ChaCha12Rng::from_seed(key);
        let [speciality, spread]: [f64; 2] = [unit(&mut rng), unit(&mut rng)];
        let place = (quality + SPECIALITY * (2.0 * speciality - 1.0)).clamp(0.0, 1.0);
        let (lower, upper, width) = (
            metric.bounds.lower(),
            metric.bounds.upper(),
            metric.bounds.width(),
        );
        let model = if is_latency(metric) {
            Model::LogNormal {
                scale: width * between(LATENCY_MEDIAN, 1.0 - place),
                sigma: between(LATENCY_SIGMA, spread),
            }
        } else {
            Model::Normal {
                mean: lower + width * between(THROUGHPUT_MEAN, place),
                sigma: width * between(THROUGHPUT_SIGMA, spread),
            }
        };
        Self { lower, upper, model }
    }

    /// One value: drawn from the model until it falls within the bounds.
    pub(super) fn value(
        &self,
        normal: &mut StandardNormal,
        uniform: &Uniform<f64>,
        rng: &mut impl Rng,
    ) -> f64 {
        for _ in 0..ATTEMPTS {
            let value = match self.model {
                Model::LogNormal { scale, sigma } => self.lower + scale * libm::exp(sigma * normal.draw(rng)),
                Model::Normal { mean, sigma } => mean + sigma * normal.draw(rng),
            };
            if (self.lower..=self.upper).contains(&value) {
                return value;
            }
        }
        uniform.sample(rng)
    }
}

fn between((low, high): (f64, f64), fraction: f64) -> f64 {
    low + (high - low) * fraction
}

fn unit(rng: &mut impl Rng) -> f64 {
    rand_distr::StandardUniform.sample(rng)
}
