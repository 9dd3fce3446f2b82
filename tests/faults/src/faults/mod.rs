//! The faults, grouped by what is broken.

mod broker;
mod clock;
mod database;
mod database_disk_full;
mod embedded;
mod network;
mod processes;
mod shutdown;

use crate::fault::Fault;

/// Counts the batches that the consumer rejected.
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
