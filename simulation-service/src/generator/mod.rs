//! Values that look measured and can be drawn again, bit for bit.
//!
//! A batch's values are a pure function of (seed, tick, LLM, metric): neither the order of tasks nor their number
//! changes a value. The arithmetic is portable: IEEE 754 basic operations and square root, which every platform
//! rounds alike, and `libm`'s software `exp` and `log` instead of the platform's.

mod normal;
mod profile;

use rand::{SeedableRng, rngs::ChaCha12Rng};
use rand_distr::{Distribution, Uniform};
use shared_types::{Direction, Invalid, LlmName, Metric, MetricTitle, Values};

use self::{normal::StandardNormal, profile::Profile};

/// How values are distributed within a metric's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Each LLM has a stable profile; latencies are log-normal, throughputs normal, both truncated to the bounds.
    Realistic,
    /// Every value of the bounds is equally likely.
    Uniform,
}

impl std::str::FromStr for Shape {
    type Err = Invalid;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        match raw {
            "realistic" => Ok(Self::Realistic),
            "uniform" => Ok(Self::Uniform),
            other => Err(Invalid::new(
                "SIMULATION_DISTRIBUTION",
                other,
                "realistic or uniform",
            )),
        }
    }
}

/// Draws the values of any (tick, LLM, metric) of one seed.
#[derive(Debug, Clone, Copy)]
pub struct Generator {
    /// The seed.
    pub seed: u64,
    /// The distribution.
    pub shape: Shape,
}

impl Generator {
    /// `n` values of `metric` for `llm` at `tick`, within the metric's bounds.
    ///
    /// # Errors
    /// `n` is 0 or more than a batch may hold.
    pub fn values(&self, tick: u64, llm: &LlmName, metric: &Metric, n: usize) -> Result<Values, Invalid> {
        let mut rng = ChaCha12Rng::from_seed(self.key("values", Some(tick), llm, &metric.title));
        let (lower, upper) = (metric.bounds.lower(), metric.bounds.upper());
        let uniform = Uniform::new_inclusive(lower, upper).map_err(|refused| {
            Invalid::new("bounds", format_args!("{lower} to {upper}"), refused.to_string())
        })?;
        let values = match self.shape {
            Shape::Uniform => uniform.sample_iter(&mut rng).take(n).collect(),
            Shape::Realistic => {
                let profile = Profile::draw(
                    self.key("profile", None, llm, &metric.title),
                    self.quality(llm),
                    metric,
                );
                let mut normal = StandardNormal::default();
                (0..n)
                    .map(|_| profile.value(&mut normal, &uniform, &mut rng))
                    .collect()
            }
        };
        Values::new(values)
    }

    /// Ten bytes for the random part of the batch's id.
    #[must_use]
    pub fn id_bytes(&self, tick: u64, llm: &LlmName, metric: &MetricTitle) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&self.key("id", Some(tick), llm, metric)[..10]);
        bytes
    }

    /// How good an LLM is at everything, 0 to 1: what makes one fast in TTFT and in throughput alike.
    fn quality(&self, llm: &LlmName) -> f64 {
        let key = keyed("quality", self.seed, None, &[llm.as_str()]);
        let [a, b, c, d, e, f, g, h, ..] = key;
        const TWO_TO_53: f64 = 9_007_199_254_740_992.0;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let fraction = (u64::from_le_bytes([a, b, c, d, e, f, g, h]) >> 11) as f64 / TWO_TO_53;
        fraction
    }

    fn key(&self, purpose: &str, tick: Option<u64>, llm: &LlmName, metric: &MetricTitle) -> [u8; 32] {
        keyed(purpose, self.seed, tick, &[llm.as_str(), metric.as_str()])
    }
}

/// A key for a random stream that depends on every part, and on nothing else.
fn keyed(purpose: &str, seed: u64, tick: Option<u64>, names: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("llm-bench simulation v1");
    hasher
        .update(purpose.as_bytes())
        .update(&[0])
        .update(&seed.to_le_bytes());
    hasher.update(&tick.map_or([0xff; 8], u64::to_le_bytes));
    for name in names {
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Whether a metric's values are modelled as latencies.
fn is_latency(metric: &Metric) -> bool {
    metric.better == Direction::Lower
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;
    use shared_types::{Bounds, MetricId, RegistrySeed};

    use super::*;

    fn metric(lower: f64, upper: f64, better: Direction) -> Metric {
        Metric {
            id: MetricId(1),
            title: MetricTitle::new("m").unwrap(),
            unit: shared_types::Unit::new("s").unwrap(),
            bounds: Bounds::new(lower, upper).unwrap(),
            better,
            created_at: chrono::DateTime::UNIX_EPOCH,
            updated_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn standard() -> Vec<(LlmName, Metric)> {
        let seed = RegistrySeed::standard().unwrap();
        let metrics: Vec<_> = seed
            .metrics
            .into_iter()
            .map(|new| Metric {
                title: new.title,
                unit: new.unit,
                bounds: new.bounds,
                better: new.better,
                ..metric(0.0, 1.0, Direction::Lower)
            })
            .collect();
        seed.llms
            .into_iter()
            .flat_map(|llm| {
                metrics
                    .clone()
                    .into_iter()
                    .map(move |metric| (llm.name.clone(), metric))
            })
            .collect()
    }

    fn digest(values: &Values) -> blake3::Hash {
        let bytes: Vec<u8> = values
            .as_slice()
            .iter()
            .flat_map(|value| value.to_bits().to_le_bytes())
            .collect();
        blake3::hash(&bytes)
    }

    /// The values of seed 42, for ever and on every machine. A change here breaks every published seed.
    #[test]
    fn seed_42_gives_these_bits() {
        let mut digests = String::new();
        for shape in [Shape::Realistic, Shape::Uniform] {
            for (llm, metric) in standard() {
                for tick in [0, 1] {
                    let values = Generator { seed: 42, shape }
                        .values(tick, &llm, &metric, 1000)
                        .unwrap();
                    let first = values.as_slice()[0];
                    writeln!(
                        digests,
                        "{shape:?} {llm} {} {tick}: {first:?} {}",
                        metric.title,
                        digest(&values)
                    )
                    .unwrap();
                }
            }
        }
        insta::assert_snapshot!(digests);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let generator = Generator {
            seed: 42,
            shape: Shape::Realistic,
        };
        let draw =
            move |(llm, metric): (LlmName, Metric)| digest(&generator.values(7, &llm, &metric, 500).unwrap());
        let one_after_the_other: Vec<_> = standard().into_iter().map(draw).collect();
        let threads: Vec<_> = standard()
            .into_iter()
            .rev()
            .map(|pair| std::thread::spawn(move || draw(pair)))
            .collect();
        let mut all_at_once: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        all_at_once.reverse();
        assert_eq!(one_after_the_other, all_at_once);
    }

    #[test]
    fn another_tick_llm_metric_or_seed_gives_other_values() {
        let generator = Generator {
            seed: 42,
            shape: Shape::Realistic,
        };
        let (llm, other) = (LlmName::new("a").unwrap(), LlmName::new("b").unwrap());
        let m = metric(0.0, 1.0, Direction::Lower);
        let mut renamed = m.clone();
        renamed.title = MetricTitle::new("other").unwrap();
        let base = generator.values(0, &llm, &m, 10).unwrap();
        assert_ne!(base, generator.values(1, &llm, &m, 10).unwrap());
        assert_ne!(base, generator.values(0, &other, &m, 10).unwrap());
        assert_ne!(base, generator.values(0, &llm, &renamed, 10).unwrap());
        assert_ne!(
            base,
            Generator {
                seed: 43,
                ..generator
            }
            .values(0, &llm, &m, 10)
            .unwrap()
        );
        assert_ne!(
            generator.id_bytes(0, &llm, &m.title),
            generator.id_bytes(1, &llm, &m.title)
        );
    }

    #[test]
    fn a_profile_is_stable_over_ticks_and_differs_between_llms() {
        let mean = |llm: &LlmName, metric: &Metric, tick| {
            let values = Generator {
                seed: 42,
                shape: Shape::Realistic,
            }
            .values(tick, llm, metric, 20_000)
            .unwrap();
            values.as_slice().iter().sum::<f64>() / 20_000.0
        };
        let metric = metric(0.05, 2.0, Direction::Lower);
        let means: Vec<[f64; 2]> = ["GPT-4o", "Llama 3.1 405", "Gemini 1.5Flash"]
            .map(|name| LlmName::new(name).unwrap())
            .iter()
            .map(|llm| [mean(llm, &metric, 0), mean(llm, &metric, 1)])
            .collect();
        for [first, second] in &means {
            assert!((first / second - 1.0).abs() < 0.03, "{means:?}");
        }
        assert!((means[0][0] / means[1][0] - 1.0).abs() > 0.03, "{means:?}");
    }

    #[test]
    fn latencies_are_skewed_to_the_right_and_throughputs_are_not() {
        let skewness = |better| {
            let llm = LlmName::new("GPT-4o").unwrap();
            let generator = Generator {
                seed: 42,
                shape: Shape::Realistic,
            };
            let values = generator
                .values(0, &llm, &metric(0.0, 1.0, better), 50_000)
                .unwrap();
            let values = values.as_slice();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let moment = |power| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / n;
            moment(3) / moment(2).powf(1.5)
        };
        assert!(skewness(Direction::Lower) > 0.5);
        assert!(skewness(Direction::Higher).abs() < 0.2);
    }

    proptest! {
        #[test]
        fn every_value_lies_within_the_bounds(
            seed: u64,
            tick: u64,
            lower in -1e9_f64..1e9,
            width in 1e-6_f64..1e9,
            latency: bool,
            uniform: bool,
        ) {
            let better = if latency { Direction::Lower } else { Direction::Higher };
            let shape = if uniform { Shape::Uniform } else { Shape::Realistic };
            let metric = metric(lower, lower + width, better);
            let llm = LlmName::new("any").unwrap();
            let values = Generator { seed, shape }.values(tick, &llm, &metric, 100).unwrap();
            prop_assert_eq!(values.len(), 100);
            for value in values.as_slice() {
                prop_assert!((metric.bounds.lower()..=metric.bounds.upper()).contains(value));
            }
        }
    }
}
