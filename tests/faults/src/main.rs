//! `faults`: injects every fault of the matrix into the real services on real servers, and holds what comes of it against an
//! independent oracle.
//!
//! Each fault runs against a database and a virtual host of its own. Both services run as processes; values flow before,
//! during and after the fault. After it has healed, nothing may be lost, doubled or left behind (see [`verdict`]).

mod database;
mod disk;
mod fault;
mod faults;
mod namespace;
mod oracle;
mod pipeline;
mod process;
mod proxy;
mod queue;
mod report;
mod selection;
mod servers;
mod verdict;
mod watch;

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
    /// Decides when and whom the random faults hit
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    required: selection::Required,
    /// Names the faults and ends
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
    if let Err(error) = pipeline::forget_logs() {
        report::warn(&error);
    }
    let mut bench = servers::Bench::new(options.seed, options.quick);
    let mut rows = Vec::new();
    for fault in chosen {
        report::begin(fault);
        let started = Instant::now();
        // Whatever ends it drops the pipeline, and with it what the fault has set up.
        let verdict = tokio::select! {
            biased;
            () = &mut interrupted => break,
            verdict = timeout(LONGEST_FAULT, (fault.inject)(&mut bench)) => verdict.unwrap_or_else(|elapsed| Err(elapsed.into())),
        };
        if verdict.is_err() {
            // What the fault has left behind must not be held against the next one.
            bench.replace_servers();
        }
        rows.push(report::row(fault, verdict, started.elapsed()));
    }
    report::table(&rows, expected, &options.required)
}

/// A fault that takes longer has failed: something waits for ever.
const LONGEST_FAULT: Duration = Duration::from_secs(1200);
