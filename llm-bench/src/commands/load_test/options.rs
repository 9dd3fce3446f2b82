use std::{ffi::OsString, num::NonZeroU32, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use load_test::share::Share;

use super::llm_api::LlmApi;

/// A load test of an LLM's API.
///
/// The flags and their defaults are those of LLMPerf's token_benchmark_ray.py; what LLMPerf does not have follows below.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP.replace("{apis}", &LlmApi::environment_help()))]
pub(crate) struct LoadTest {
    /// The model, as the API knows it
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Which API is spoken; its address and its key come from the environment, see below
    #[arg(long, value_name = "API", default_value = "openai")]
    pub llm_api: LlmApi,
    /// Tokens of a prompt on average, the instruction included
    #[arg(long, value_name = "TOKENS", default_value_t = 550.0, value_parser = positive)]
    pub mean_input_tokens: f64,
    /// Their standard deviation
    #[arg(long, value_name = "TOKENS", default_value_t = 150.0, value_parser = not_negative)]
    pub stddev_input_tokens: f64,
    /// Tokens of an answer that are asked for, on average
    #[arg(long, value_name = "TOKENS", default_value_t = 150.0, value_parser = positive)]
    pub mean_output_tokens: f64,
    /// Their standard deviation
    #[arg(long, value_name = "TOKENS", default_value_t = 80.0, value_parser = not_negative)]
    pub stddev_output_tokens: f64,
    /// Closed loop: so many requests are in flight at any time
    #[arg(long, value_name = "N", default_value = "10")]
    pub num_concurrent_requests: NonZeroU32,
    /// No request is sent later than so many seconds after the first [default: 90; a trace's own length with --trace]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// So many requests are sent [default: 10; unlimited with --duration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_num_completed_requests: Option<u64>,
    /// A JSON object that goes into every request, over what stands there
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json_object)]
    pub additional_sampling_params: serde_json::Map<String, serde_json::Value>,
    /// Where the results are written, a directory for each run; nothing is without it
    #[arg(long, value_name = "DIRECTORY", default_value = "", hide_default_value = true)]
    pub results_dir: OsString,
    /// Labels for the results: k=v,k=v
    #[arg(long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub metadata: String,
    /// What tokens are counted with: a tokenizer.json or its directory, a Hugging Face id, or a model that tiktoken knows
    #[arg(long, value_name = "TOKENIZER")]
    pub tokenizer_id: Option<String>,
    /// Log the run to this experiment of the MLflow server at MLFLOW_TRACKING_URI
    #[arg(long, value_name = "NAME", conflicts_with = "calibrate")]
    pub ml_repo: Option<String>,
    /// The run's name there
    #[arg(long, value_name = "NAME", requires = "ml_repo")]
    pub run_name: Option<String>,

    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub workload: WorkloadOptions,
    #[command(flatten)]
    pub client: ClientOptions,
    #[command(flatten)]
    pub results: ResultOptions,
    #[command(flatten)]
    pub sharing: ShareOptions,
}

/// When requests are sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadOptions {
    /// Open loop: so many requests arrive per second, whether or not the server keeps up
    #[arg(long, value_name = "PER_SECOND", value_parser = positive, conflicts_with = "num_concurrent_requests")]
    pub request_rate: Option<f64>,
    /// How the gaps between arrivals are distributed
    #[arg(long, default_value = "poisson", requires = "request_rate")]
    pub arrival: ArrivalKind,
    /// Coefficient of variation of gamma's gaps: above 1 is burstier than Poisson
    #[arg(long, value_name = "CV", default_value_t = 2.0, value_parser = positive)]
    pub arrival_cv: f64,
    /// Open loop: what would exceed so many requests in flight is dropped, and counted so [default: 10000]
    #[arg(long, value_name = "N", conflicts_with = "num_concurrent_requests")]
    pub max_in_flight: Option<NonZeroU32>,
    /// The load grows over so many seconds, which are left out of the figures [default: 1 ms a stream; 0 with --request-rate]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "trace")]
    pub ramp_up: Option<Duration>,
    /// Send for so many seconds, however many requests that are
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// So many requests at the start are left out of the figures
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warmup_requests: u64,
    /// What is still in flight so many seconds after the last request was sent is cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub drain: Duration,
    /// A request that takes longer has timed out, s
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub request_timeout: Duration,
    /// A good request keeps these, in seconds: ttft=0.5,tpot=0.05,e2e=10
    #[arg(long, value_name = "LIMITS")]
    pub slo: Option<String>,
}

/// What is asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workload")]
pub(crate) struct WorkloadOptions {
    /// Own prompts or ShareGPT conversations, one JSON object a line, instead of sonnets
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trace", "correctness"])]
    pub dataset: Option<PathBuf>,
    /// Replay lengths and times of a trace (Mooncake's JSONL or Azure's CSV)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["correctness", "request_rate", "num_concurrent_requests"])]
    pub trace: Option<PathBuf>,
    /// Replay so much faster
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive, requires = "trace")]
    pub trace_speed: f64,
    /// So many tokens at the start are the same for all prompts
    #[arg(long, value_name = "TOKENS", default_value_t = 0, conflicts_with_all = ["dataset", "trace", "correctness"])]
    pub shared_prefix_tokens: u32,
    /// At most so many different prompts; further requests repeat them in order
    #[arg(long, value_name = "N", default_value = "10000", conflicts_with_all = ["dataset", "trace", "correctness"])]
    pub distinct_prompts: NonZeroU32,
    /// Decides prompts, lengths and arrivals; the report names it [default: drawn]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// LLMPerf's llm_correctness.py: numbers spelled out, and whether the answers hold their digits
    #[arg(long)]
    pub correctness: bool,
    /// Ask for the answer in one piece
    #[arg(long)]
    pub no_stream: bool,
    /// Do not ask for usage in the stream: some servers refuse the option
    #[arg(long)]
    pub no_stream_usage: bool,
}

/// The client, and how wrong it may be.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client")]
pub(crate) struct ClientOptions {
    /// Worker threads [default: all cores but one]
    #[arg(long, value_name = "N")]
    pub client_cores: Option<NonZeroU32>,
    /// Only measure the client itself, against a built-in server with known timings at the same load
    #[arg(long, conflicts_with = "no_calibration")]
    pub calibrate: bool,
    /// Do not measure the client before the run; its error is then judged by what is seen during the run alone
    #[arg(long)]
    pub no_calibration: bool,
    /// Exit with 0 although the client could not keep up
    #[arg(long)]
    pub allow_invalid: bool,
}

/// Where the results go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct ResultOptions {
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Write the time of every chunk to chunks.jsonl in the results directory
    #[arg(long, requires = "results_dir")]
    pub record_chunks: bool,
    /// Send the measured values into the pipeline: to a service at URL (with API_KEY), or without URL to where DATABASE_URL
    /// and AMQP_URL say (embedded where they say nothing)
    #[arg(long, value_name = "URL", num_args = 0..=1, conflicts_with = "calibrate")]
    pub publish: Option<Option<String>>,
}

/// A run that is more than one machine can send.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "More than one machine")]
pub(crate) struct ShareOptions {
    /// Carry out one share of the run, such as 0/3, 1/3 or 2/3: start each on a machine of its own, with the same options;
    /// `llm-bench merge` makes one report of their results
    #[arg(long, value_name = "INDEX/COUNT", requires_all = ["seed", "results_dir"])]
    pub share: Option<Share>,
    /// Prepare, and send the first request at this time, such as 2026-11-22T12:00:00Z: the same for all shares
    #[arg(long, value_name = "TIME", requires = "share", value_parser = time)]
    pub start_at: Option<DateTime<Utc>>,
}

/// How gaps are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalKind {
    /// All the same
    Constant,
    /// Exponential: independent users
    Poisson,
    /// Gamma with --arrival-cv
    Gamma,
}

const AFTER_HELP: &str = "\
Environment: {apis}; HF_TOKEN for tokenizers;
MLFLOW_TRACKING_URI with MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, for --ml-repo.

Results: {model}_{in}_{out}_summary.json and _individual_responses.json as LLMPerf writes them, report.json, report.html and
requests.jsonl, which is written as requests end.

Exit status: 0 done and valid (what Ctrl+C cut short is reported as far as it went), 1 failed, or the client could not keep up (see --allow-invalid), 2 wrong usage.

To try it without a key: `llm-bench mock-llm` in another terminal.";

fn number(raw: &str) -> Result<f64, String> {
    let number = raw.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a number".to_owned())
}

fn positive(raw: &str) -> Result<f64, String> {
    let number = number(raw)?;
    (number > 0.0)
        .then_some(number)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

fn not_negative(raw: &str) -> Result<f64, String> {
    let number = number(raw)?;
    (number >= 0.0)
        .then_some(number)
        .ok_or_else(|| "expected a number of 0 or more".to_owned())
}

fn seconds(raw: &str) -> Result<Duration, String> {
    const LONGEST_S: f64 = 366.0 * 86_400.0;
    let seconds = number(raw)?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| seconds <= LONGEST_S)
        .ok_or_else(|| "expected seconds, from 0 to a year".to_owned())
}

fn time(raw: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(raw).map(DateTime::into);
    time.map_err(|error| format!("expected a time of RFC 3339 such as 2026-11-22T12:00:00Z: {error}"))
}

fn json_object(raw: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(raw)
        .map_err(|error| format!("expected a JSON object such as {{\"temperature\": 0}}: {error}"))
}
