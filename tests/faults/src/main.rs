//! `faults`: injects every fault of docs/faults.md into the real services on real servers, and compares the results with an
//! independent oracle.
//!
//! Each fault runs against a database and a virtual host of its own. Both services run as processes; values flow before,
//! during and after the fault. Afterwards nothing may be lost, doubled or left behind (see [`outcome`]).

mod context;
mod database;
mod fault;
mod faults;
mod monitor;
mod network_namespace;
mod oracle;
mod outcome;
mod pipeline;
mod process;
mod proxy;
mod queues;
mod report;
mod selection;
mod small_disk;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use service_runtime::lifecycle::Signals;
use tokio::time::{Instant, timeout};

/// Injects faults into the real pipeline and proves that no batch is lost or counted twice.
#[derive(Debug, Parser)]
#[command(name = "faults", version)]
struct Options {
    /// Only these faults, by number, such as 7,12-14
    #[arg(value_name = "FAULTS", value_delimiter = ',')]
    only: Vec<selection::Range>,
    /// The part that fits into ten minutes
    #[arg(long)]
    quick: bool,
    /// Decides when the random faults happen, and to which service
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    required: selection::Required,
    /// Prints the list of faults and exits
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let chosen = selection::chosen(&options.only, options.quick);
    let expected = chosen.len();
    if options.list {
        report::list(&chosen);
        return ExitCode::SUCCESS;
    }
    let interrupted = async {
        // Without handlers an interruption would leave processes, namespaces and mounts behind.
        match Signals::listen() {
            Ok(mut signals) => signals.next().await,
            Err(_no_handlers) => std::future::pending().await,
        }
    };
    tokio::pin!(interrupted);
    if let Err(error) = pipeline::remove_logs() {
        report::warn(&error);
    }
    let mut context = context::FaultContext::new(options.seed, options.quick);
    let mut rows = Vec::new();
    for fault in chosen {
        report::begin(fault);
        let started = Instant::now();
        // However the fault ends, the pipeline is dropped, and with it what the fault has set up.
        let outcome = tokio::select! {
            biased;
            () = &mut interrupted => break,
            outcome = timeout(LONGEST_FAULT, (fault.inject)(&mut context)) => outcome.unwrap_or_else(|elapsed| Err(elapsed.into())),
        };
        if outcome.is_err() {
            // The next fault must not suffer from what this one has left behind.
            context.replace_servers();
        }
        rows.push(report::row(fault, outcome, started.elapsed()));
    }
    report::table(&rows, expected, &options.required)
}

/// A fault that takes longer has failed: something waits forever.
const LONGEST_FAULT: Duration = Duration::from_secs(1200);
