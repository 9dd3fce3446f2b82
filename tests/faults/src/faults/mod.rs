//! The faults themselves, by what is broken.

mod broker;
mod clock;
mod database;
mod disk_full;
mod embedded;
mod network;
mod processes;
mod shutdown;

use crate::fault::Fault;

/// Batches that the consumer gave up, to the dead letters.
const REJECTED: &str = "llm_bench_batches_rejected_total";

/// Every fault, in the order of the numbers within each list.
pub(crate) const ALL: &[&[Fault]] = &[
    processes::FAULTS,
    broker::FAULTS,
    network::FAULTS,
    database::FAULTS,
    clock::FAULTS,
    shutdown::FAULTS,
    embedded::FAULTS,
];
