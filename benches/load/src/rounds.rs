use clap::Args;

use crate::{
    client,
    client_run::ClientKind,
    figures::Figures,
    machine::{self, Machine},
    report::ScenarioResult,
    scenario::{Scenario, scenarios},
    server::Server,
};

/// What is measured, and the format of the output.
#[derive(Args)]
pub(crate) struct Selection {
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
}

/// Measures the selected scenarios and prints the results.
#[expect(clippy::print_stdout, reason = "the result of a benchmark is what it prints")]
pub(crate) fn bench(selection: &Selection) -> anyhow::Result<()> {
    let machine = Machine::found()?;
    if !selection.json {
        println!(
            "machine: {} cores, {}, Linux {}, load average {:.2}",
            machine.cores, machine.cpu, machine.kernel, machine.load_average
        );
    }
    if !selection.json
        && let Some(warning) = machine.warning()
    {
        println!("WARNING: {warning}");
    }
    let rounds = selection.rounds.unwrap_or(if selection.quick { 1 } else { 3 });
    let mut all = Vec::new();
    for scenario in scenarios(selection.quick) {
        let is_named = |part: &String| scenario.name.contains(part.as_str());
        if !selection.scenarios.is_empty() && !selection.scenarios.iter().any(is_named) {
            continue;
        }
        let measured = measure(scenario, rounds)?;
        if !selection.json {
            println!("\n{}", measured.table());
            for reason in measured.reasons() {
                println!("INVALID: {reason}");
            }
        }
        all.push(measured);
    }
    if selection.json {
        let document =
            serde_json::json!({"machine": machine, "warning": machine.warning(), "scenarios": all});
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(())
}

/// Runs all rounds of a scenario. The clients take turns, and alternate in who is first.
fn measure(scenario: Scenario, rounds: usize) -> anyhow::Result<ScenarioResult> {
    let mut measured = Vec::new();
    for round in 0..rounds {
        let mut clients = vec![ClientKind::LlmBench];
        if scenario.has_peer {
            clients.push(ClientKind::Naive);
        }
        if round % 2 == 1 {
            clients.reverse();
        }
        for client in clients {
            measured.push(one_round(client, &scenario)?);
        }
    }
    Ok(ScenarioResult {
        scenario,
        rounds: measured,
    })
}

fn one_round(client: ClientKind, scenario: &Scenario) -> anyhow::Result<Figures> {
    let load_average = machine::load_average()?;
    let server = Server::start(scenario)?;
    let figures = client::measure(client, scenario, &server.base_url)?;
    Ok(Figures {
        load_average,
        server_lateness_p99_s: server.stop()?,
        ..figures
    })
}
