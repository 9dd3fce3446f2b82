//! `make bench`: the capacity of the load test's client on one core, compared with a simple client.
//!
//! Every round has a mock server as a process on core 1 and a client as a process on core 0; the clients take turns. A
//! figure is the median of the rounds with its range. The exit status does not depend on the figures, because a benchmark is not a test.

mod client;
mod client_run;
mod engine;
mod figures;
mod machine;
mod naive;
mod report;
mod rounds;
mod scenario;
mod server;

use clap::{Parser, Subcommand};

use crate::{client_run::ClientKind, rounds::Selection};

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

/// The roles of the benchmark's processes.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    #[command(name = server::ROLE)]
    Serve { scenario: String },
    #[command(name = client::ROLE)]
    Client {
        client: ClientKind,
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
