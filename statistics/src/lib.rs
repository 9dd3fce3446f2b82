//! Running statistics that merge exactly: [`RunningStatistics`]. Beside them, probabilities and quantiles of
//! [`distributions`] for intervals and tests.
//!
//! Redelivery in another order, another number of consumers or a rebuild from the stored batches must not change
//! a ranking by a single bit, so that "equal" can be tested with `==` and a difference is always a fault.
//! Floating-point addition cannot do that: it depends on the order. Here everything that accumulates is an integer.
//!
//! - **Sum and sum of squares** are fixed-point numbers of 2176 and 4288 bits, wide enough for every double and
//!   every square of one. Mean, variance and standard deviation are the exact results, rounded once.
//! - **Quantiles** come from integer counts in buckets whose index is read from the bits of the double, with a
//!   relative error of at most 1/128 (0.79 %).
//! - **Count, min and max** are what they are. NaN and infinities are refused.
//!
//! # Why not a crate
//! `xsum` 0.1.6 is a good exact sum of doubles, but its state is private (it can be neither stored nor merged)
//! and ends at the range of doubles, which squares leave at both ends. `sketches-ddsketch` indexes its buckets by
//! the platform's logarithm, so that two machines may disagree about a value at the edge of a bucket.

pub mod distributions;
mod dyadic;
mod encoded_numbers;
mod encoding;
mod error;
mod exact_sum;
mod limits;
mod quantile_sketch;
mod running_statistics;
mod superaccumulator;

pub use error::{CountOverflow, DecodeError, ExtendError, NonFinite};
pub use exact_sum::ExactSum;
pub use limits::{FORMAT_VERSION, MAX_COUNT};
pub use running_statistics::RunningStatistics;
