//! The one command: see `llm-bench --help`.

#![expect(clippy::print_stderr, reason = "a command line speaks to people")]

mod assembly;
mod cli;
mod commands;
mod context;
mod operator;
mod pepper;
mod progress;
mod say;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    context::{Context, UsageError, WrongInput},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-bench: {error:#}");
            let is_usage = error.is::<UsageError>() || error.is::<WrongInput>();
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    service_runtime::failpoints::arm();
    match cli.command {
        Command::Up(options) => commands::up::run(options).await,
        Command::Simulate(options) => commands::simulate::run(options, Context::read()?).await,
        Command::Rankings(options) => commands::rankings::run(options, Context::read()?).await,
        Command::Migrate(options) => commands::migrate::run(options, Context::read()?).await,
        Command::Keys(action) => commands::keys::run(action, Context::read()?).await,
        Command::DeadLetters(action) => commands::dead_letters::run(action, Context::read()?).await,
        Command::Reconcile => commands::reconcile::run(Context::read()?).await,
        Command::Rebuild => commands::rebuild::run(Context::read()?).await,
        Command::Doctor => commands::doctor::run().await,
        Command::MockLlm(options) => commands::mock_llm::run(options).await,
        Command::LoadTest(options) => commands::load_test::run(*options, Context::read()?).await,
        Command::Compare(options) => commands::load_test::compare(&options),
        Command::Merge(options) => commands::load_test::merge(&options, &Context::read()?).await,
        Command::Publish(options) => commands::load_test::publish(&options, &Context::read()?).await,
        Command::Probe(options) => commands::probe::run(options).await,
    }
}
