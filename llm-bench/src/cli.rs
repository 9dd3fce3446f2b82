use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{load_test::options::LoadTest, mock_llm::MockLlm};

/// Collects LLM performance measurements and ranks LLMs by them.
///
/// Settings come from the environment and from a `.env` file (see .env.sample). Without DATABASE_URL and AMQP_URL
/// everything is embedded: SQLite in the data directory, a queue in the process.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run both services in this process until Ctrl+C
    Up(Up),
    /// Simulate ticks now, and wait until their batches are on their way
    Simulate(Simulate),
    /// Show the rankings as tables
    Rankings(Rankings),
    /// Bring the database's schema up to date
    Migrate(Migrate),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Look after messages that were rejected
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Send again what was stored and never counted, and hold every statistic against the stored batches
    ///
    /// Exit status 1 where statistics are wrong.
    Reconcile,
    /// Recompute every statistic from the stored batches
    Rebuild,
    /// Check settings, database and broker, and say what to do
    Doctor,
    /// Serve a mock LLM with exactly known timings (OpenAI's and Anthropic's APIs) until Ctrl+C
    MockLlm(MockLlm),
    /// Load-test an LLM's API: LLMPerf's job, with an error bound
    LoadTest(Box<LoadTest>),
    /// Say what a load test's second report does better or worse than the first
    ///
    /// Exit status: 0 nothing is worse, 1 something is, 2 the reports cannot be compared.
    Compare(Compare),
    /// Make one report of the shares of a load test (`load-test --share`)
    ///
    /// Exit status: as that of a run.
    Merge(Merge),
    /// Publish what a load test has measured and its process did not live to publish; safe to repeat
    Publish(Publish),
    /// Exit with 0 if a URL answers with a 2xx status: a health check for images without curl
    Probe(Probe),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where the embedded database lives [default: DATA_DIR, else the platform's data directory]
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "ephemeral")]
    pub data_dir: Option<PathBuf>,
    /// The API's port on 127.0.0.1; 0 chooses a free one [default: HTTP_ADDR, else 8000]
    #[arg(long)]
    pub port: Option<u16>,
    /// Embed everything, in a temporary directory that is removed at the end, whatever the environment says
    #[arg(long)]
    pub ephemeral: bool,
    /// Serve and consume, but simulate nothing
    #[arg(long)]
    pub no_simulation: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The report of a load test, or its results directory: what was before
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// What is now
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Relative differences up to this are not called, such as 5%
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    pub threshold: f64,
    /// Compare reports although the client could not keep up
    #[arg(long)]
    pub allow_invalid: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
}

fn percent(raw: &str) -> Result<f64, String> {
    let number = raw.trim_end_matches('%').parse::<f64>().ok();
    let share = number
        .map(|percent| percent / 100.0)
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a percentage from 0% to 100%, such as 5%".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The results directory of the load test
    pub results_dir: PathBuf,
    /// To a running service, with API_KEY [default: to where DATABASE_URL and AMQP_URL say, embedded where they say nothing]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The results directories of all shares of the run
    #[arg(required = true, value_name = "DIRECTORY")]
    pub directories: Vec<PathBuf>,
    /// Where the results of the whole run are written; nothing is without it
    #[arg(long, value_name = "DIRECTORY")]
    pub results_dir: Option<PathBuf>,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Exit with 0 although the figures are not valid
    #[arg(long)]
    pub allow_invalid: bool,
    /// Send the measured values of all shares into the pipeline: to a service at URL (with API_KEY), or without URL to where
    /// DATABASE_URL and AMQP_URL say (embedded where they say nothing); safe to repeat
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true)]
    pub publish: Option<Option<String>>,
    /// Tells this run from others of the same plan. The same shares, published again, count once; a share that was run again has other values, so give it another name [default: the shares' own ids]
    #[arg(long, value_name = "NAME")]
    pub run_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// How many ticks, one right after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub ticks: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Rankings {
    /// Only this metric, such as ttft
    pub metric: Option<String>,
    /// Ask a running service instead of the database; its key is API_KEY
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// simulated, measured, imported or all [default: RANKING_SOURCE, else simulated]
    #[arg(long)]
    pub source: Option<String>,
    /// 1h, 24h, 7d, 30d or all
    #[arg(long, default_value = "all")]
    pub window: String,
    /// What is ranked by: mean, p50, p90, p95 or p99
    #[arg(long, default_value = "mean")]
    pub statistic: String,
    /// table, json or csv
    #[arg(long, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Apply nothing; wait until somebody else has brought the schema up to date
    #[arg(long, conflicts_with_all = ["producer_role", "consumer_role"])]
    pub wait: bool,
    /// Give this role of PostgreSQL what the simulation service needs, and nothing else
    #[arg(long, value_name = "ROLE")]
    pub producer_role: Option<String>,
    /// Give this role of PostgreSQL what the benchmark service needs, and nothing else
    #[arg(long, value_name = "ROLE")]
    pub consumer_role: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key and show it, once
    Create {
        /// What people call it
        name: String,
        /// read, write (read and send batches) or admin (everything)
        #[arg(long, default_value = "read")]
        scope: storage::Scope,
        /// Days until it expires [default: never]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_in: Option<u32>,
    },
    /// List the keys: never their secrets, which are not stored
    List,
    /// Refuse a key from now on; running services notice within 30 seconds
    Revoke {
        /// The key's id: the part between `llmb_` and the second `_`
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List them, oldest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one in full
    Show { id: String },
    /// Send them to the queue of batches again
    Replay(DeadLetterOperation),
    /// Remove them for good
    Discard(DeadLetterOperation),
    /// Show what was done with them, newest first: who, when, and what the messages said
    Log {
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeadLetterOperation {
    #[command(flatten)]
    pub selected: Selected,
    /// Leave no entry in the database's log of such operations: for when the database is away
    #[arg(long)]
    pub no_log: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Selected {
    /// Their ids
    pub ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// Such as http://127.0.0.1:8000/healthz
    pub url: String,
}
