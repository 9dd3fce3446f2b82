//! Properties of the statistics, on hostile data, against exact rational numbers.

mod encoding;
mod fuzzing;
#[path = "../../../tests/fuzz/properties/merging.rs"]
mod merging;
mod moments;
mod oracle;
mod order;
mod quantiles;
mod values;
