//! Properties of the statistics, on hostile data, against exact rational numbers.

mod encoding;
mod moments;
mod oracle;
mod order;
mod quantiles;
mod values;
