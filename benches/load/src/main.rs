//! `make bench`: what one core of the load test's client holds, beside the loop that one would write first.
//!
//! The mock server is a process on core 1, the clients are processes on core 0, in turns, with a server of their own each. A
//! figure is the median of the rounds with its range. The exit status says nothing: a benchmark is no test.

mod client;
mod engine;
mod figures;
mod machine;
mod naive;
mod report;
mod rounds;
mod scenario;
mod server;

use clap::{Parser, Subcommand};

use crate::{client::Client, rounds::Selection};

#[derive(Parser)]
#[command(
    about = "What one core of the load test's client holds",
    args_conflicts_with_subcommands = true
)]
struct Options {
    #[command(flatten)]
    selection: Selection,
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
        None => rounds::bench(&options.selection),
    }
}
