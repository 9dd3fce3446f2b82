//! `make bench`: what one core of the load test's client holds, beside the loop that one would write first.
//!
//! The mock server is a process on core 1, the clients are processes on core 0, in turns, with a server of their own each. A
//! figure is the median of the rounds with its range. The exit status says nothing: a benchmark is no test.

#![expect(clippy::print_stdout, reason = "the result of a benchmark is what it prints")]

mod client;
mod engine;
mod figures;
mod machine;
mod naive;
mod report;
mod scenario;
mod server;

use clap::{Parser, Subcommand};

use crate::{
    client::Client,
    figures::Figures,
    machine::Machine,
    report::Measured,
    scenario::{Scenario, scenarios},
    server::Server,
};

#[derive(Parser)]
#[command(
    about = "What one core of the load test's client holds",
    args_conflicts_with_subcommands = true
)]
struct Options {
    /// One round, shorter
    #[arg(long)]
    quick: bool,
    /// Print every round's figures as JSON, times in seconds
    #[arg(long)]
    json: bool,
    /// Rounds of each client [default: 3, with --quick 1]
    #[arg(long)]
    rounds: Option<usize>,
    /// Only scenarios whose names contain one of these
    scenarios: Vec<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What the processes of the benchmark are started as.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    #[command(name = server::ROLE)]
    Serve { scenario: String },
    #[command(name = client::ROLE)]
    Client {
        client: Client,
        base_url: String,
        scenario: String,
    },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match &options.role {
        Some(Role::Serve { scenario }) => server::serve(&serde_json::from_str(scenario)?),
        Some(Role::Client {
            client,
            base_url,
            scenario,
        }) => client::run(*client, base_url, &serde_json::from_str(scenario)?),
        None => bench(&options),
    }
}

fn bench(options: &Options) -> anyhow::Result<()> {
    let machine = Machine::found()?;
    if !options.json {
        println!(
            "machine: {} cores, {}, Linux {}, load average {:.2}",
            machine.cores, machine.cpu, machine.kernel, machine.load_average
        );
    }
    if !options.json
        && let Some(warning) = machine.warning()
    {
        println!("WARNING: {warning}");
    }
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let mut all = Vec::new();
    for scenario in scenarios(options.quick) {
        let is_named = |part: &String| scenario.name.contains(part.as_str());
        if !options.scenarios.is_empty() && !options.scenarios.iter().any(is_named) {
            continue;
        }
        let measured = measure(scenario, rounds)?;
        if !options.json {
            println!("\n{}", measured.table());
            for reason in measured.reasons() {
                println!("INVALID: {reason}");
            }
        }
        all.push(measured);
    }
    if options.json {
        let document =
            serde_json::json!({"machine": machine, "warning": machine.warning(), "scenarios": all});
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(())
}

/// All rounds of a scenario: the clients take turns, and in turns are the first.
fn measure(scenario: Scenario, rounds: usize) -> anyhow::Result<Measured> {
    let mut measured = Vec::new();
    for round in 0..rounds {
        let mut clients = vec![Client::LlmBench];
        if scenario.has_peer {
            clients.push(Client::Naive);
        }
        if round % 2 == 1 {
            clients.reverse();
        }
        for client in clients {
            measured.push(one_round(client, &scenario)?);
        }
    }
    Ok(Measured {
        scenario,
        rounds: measured,
    })
}

fn one_round(client: Client, scenario: &Scenario) -> anyhow::Result<Figures> {
    let load_average = machine::load_average()?;
    let server = Server::start(scenario)?;
    let figures = client::measure(client, scenario, &server.base_url)?;
    Ok(Figures {
        load_average,
        server_lateness_p99_s: server.stop()?,
        ..figures
    })
}
