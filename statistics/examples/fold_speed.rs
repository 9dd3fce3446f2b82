//! What the operations cost, in nanoseconds: `cargo run --release -p statistics --example fold_speed`.
//!
//! The fastest of many runs of each, on one core; the values are latencies of a log-normal distribution
//! (median 0.4 s, σ = 0.5).

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use statistics::RunningStatistics;

const BATCH: usize = 1000;
const BATCHES: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batches: Vec<Vec<f64>> = (0..BATCHES)
        .map(|seed| log_normal_values(seed as u64, BATCH))
        .collect();
    let states = batches
        .iter()
        .map(|batch| RunningStatistics::try_from(batch.as_slice()))
        .collect::<Result<Vec<_>, _>>()?;
    let encoded: Vec<Vec<u8>> = states.iter().map(RunningStatistics::to_bytes).collect();
    let mut all = RunningStatistics::new();
    states.iter().try_for_each(|state| all.merge(state))?;

    let mut target = RunningStatistics::new();
    report("fold a batch of 1000 values", &batches, |batch| {
        target.try_extend(batch).is_ok()
    });
    let mut target = RunningStatistics::new();
    report("fold one value", &batches, |batch| {
        target.try_extend(&batch[..1]).is_ok()
    });
    let mut target = RunningStatistics::new();
    report("merge a batch's state", &states, |state| {
        target.merge(state).is_ok()
    });
    report("encode a batch's state", &states, RunningStatistics::to_bytes);
    report("decode a batch's state", &encoded, |bytes| {
        RunningStatistics::from_bytes(bytes)
    });
    report("mean", &states, RunningStatistics::mean);
    report("stddev", &states, RunningStatistics::stddev);
    report("ci95", &states, RunningStatistics::ci95);
    report("p50, p90, p95, p99", &states, |state| {
        [0.5, 0.9, 0.95, 0.99].map(|q| state.quantile(q))
    });

    let bytes: usize = encoded.iter().map(Vec::len).sum();
    println!("bytes of a batch's state: {} on average", bytes / BATCHES);
    println!(
        "bytes of all {} values' state: {}",
        all.count(),
        all.to_bytes().len()
    );
    println!("size_of RunningStatistics: {}", size_of::<RunningStatistics>());
    Ok(())
}

fn report<T, R>(name: &str, inputs: &[T], mut operation: impl FnMut(&T) -> R) {
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let start = Instant::now();
        for input in inputs {
            black_box(operation(black_box(input)));
        }
        fastest = fastest.min(start.elapsed());
    }
    println!("{name:30} {:>8} ns", fastest.as_nanos() / inputs.len() as u128);
}

/// Deterministic: the sum of twelve uniform numbers is nearly normal.
fn log_normal_values(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut uniform = || {
        // Knuth's MMIX generator; its high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|_| 0.4 * (0.5 * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0)).exp())
        .collect()
}
