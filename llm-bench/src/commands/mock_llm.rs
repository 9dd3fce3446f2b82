use std::{net::IpAddr, num::NonZeroUsize, time::Duration};

use anyhow::Context as _;
use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use mock_llm::{ApiKey, ErrorRates, Lateness, Misbehaviour, Settings, Stall, Stats};
use service_runtime::lifecycle::Signals;

use crate::say::say;

#[derive(Debug, Args)]
pub(crate) struct MockLlm {
    /// The port; 0 chooses a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The address
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Threads, one core each
    #[arg(long, default_value = "1")]
    cores: NonZeroUsize,
    /// Seconds from a request to its first token
    #[arg(long, value_name = "SECONDS", default_value = "0.2", value_parser = seconds)]
    ttft: Duration,
    /// Seconds from one token to the next
    #[arg(long, value_name = "SECONDS", default_value = "0.02", value_parser = seconds)]
    itl: Duration,
    /// Sigma of a log-normal factor (mean 1) on each request's TTFT
    #[arg(long, value_name = "SIGMA", default_value = "0", value_parser = sigma)]
    ttft_jitter: f64,
    /// Sigma of a log-normal factor (mean 1) on each token's ITL
    #[arg(long, value_name = "SIGMA", default_value = "0", value_parser = sigma)]
    itl_jitter: f64,
    /// Seconds that each input token (word) adds to the TTFT
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    prefill_per_token: Duration,
    /// The most tokens of an answer, and how many there are where a request sets no limit
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    output_tokens: u32,
    /// Tokens that come together in one event
    #[arg(long, value_name = "TOKENS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    tokens_per_chunk: u32,
    /// Answers at once; other requests wait [default: unlimited]
    #[arg(long)]
    slots: Option<NonZeroUsize>,
    /// Write nothing for --stall-for at every multiple of this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "stall_for")]
    stall_every: Option<Duration>,
    /// How long a stall lasts, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "stall_every")]
    stall_for: Option<Duration>,
    /// Ask for this key (`Authorization: Bearer` or `x-api-key`)
    #[arg(long, value_name = "KEY")]
    require_key: Option<String>,
    /// The share of requests that are answered with 429 and Retry-After
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    error_429: f64,
    /// The share of requests that are answered with 500
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    error_500: f64,
    /// The share of streams that end with an error event
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    error_in_stream: f64,
    /// The share of the correctness test's questions that are answered with a wrong number
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    wrong_numbers: f64,
    /// State no token counts
    #[arg(long)]
    no_usage: bool,
    /// A model there is; may be given more than once [default: any]
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Misbehave in every answer; single requests may ask for it by the header x-mock-misbehaviour or the model misbehave:NAME
    #[arg(long, value_name = "NAME", value_parser = misbehaviour())]
    misbehaviour: Option<Misbehaviour>,
    /// The seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) async fn run(options: MockLlm) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("listening for signals")?;
    let files = load_test::run::raise_file_limit().context("raising the limit of open files")?;
    let settings = options.settings();
    let server = mock_llm::MockLlm::start(settings.clone()).context("starting the mock server")?;
    announce(&settings, &server, files);
    signals.next().await;
    say_stats(&server.shutdown()?);
    Ok(())
}

impl MockLlm {
    fn settings(self) -> Settings {
        Settings {
            address: (self.host, self.port).into(),
            cores: self.cores.get(),
            ttft: self.ttft,
            itl: self.itl,
            ttft_jitter: self.ttft_jitter,
            itl_jitter: self.itl_jitter,
            prefill_per_token: self.prefill_per_token,
            output_tokens: self.output_tokens,
            tokens_per_chunk: self.tokens_per_chunk,
            slots: self.slots.map(NonZeroUsize::get),
            stall: self
                .stall_every
                .zip(self.stall_for)
                .map(|(every, lasts)| Stall { every, lasts }),
            api_key: self.require_key.map(ApiKey::from),
            errors: ErrorRates {
                too_many_requests: self.error_429,
                internal: self.error_500,
                in_stream: self.error_in_stream,
            },
            wrong_numbers: self.wrong_numbers,
            usage: !self.no_usage,
            models: self.model,
            misbehaviour: self.misbehaviour,
            seed: self.seed,
        }
    }
}

/// Names with a line each, for `--help`.
fn misbehaviour() -> impl TypedValueParser<Value = Misbehaviour> {
    let values = Misbehaviour::ALL.iter();
    let named = values.map(|each| PossibleValue::new(each.name()).help(each.description()));
    PossibleValuesParser::new(named).try_map(|name| name.parse::<Misbehaviour>())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    parsed.ok_or_else(|| "expected a number of seconds, 0 or more, such as 0.2".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 1.0)
}

fn sigma(text: &str) -> Result<f64, String> {
    within(text, 5.0)
}

fn within(text: &str, most: f64) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|number| (0.0..=most).contains(number));
    parsed.ok_or_else(|| format!("expected a number from 0 to {most}"))
}

fn announce(settings: &Settings, server: &mock_llm::MockLlm, files: u64) {
    let (url, root) = (server.base_url(), format!("http://{}", server.addr()));
    let Settings {
        ttft,
        itl,
        output_tokens,
        cores,
        ..
    } = settings;
    say!(
        "mock LLM: TTFT {ttft:?}, ITL {itl:?}, {output_tokens} tokens, {cores} core(s), at most {files} open files"
    );
    if let Some(misbehaviour) = settings.misbehaviour {
        say!(
            "every answer misbehaves ({misbehaviour}): {}",
            misbehaviour.description()
        );
    }
    say!("OpenAI     {url}/chat/completions, {url}/completions, {url}/models");
    say!("Anthropic  {url}/messages");
    say!("what it measured of itself: {root}/stats");
    let model = settings.models.first().map_or("mock-llm", String::as_str);
    let key = settings
        .api_key
        .as_ref()
        .map_or("", |_key| " -H 'authorization: Bearer KEY'");
    say!(
        "try: curl -N {url}/chat/completions{key} -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    );
}

fn say_stats(stats: &Stats) {
    say!(
        "{} requests, {} tokens, {} left before their end",
        stats.requests,
        stats.tokens,
        stats.disconnects
    );
    if stats.stalled_tokens + stats.blocked_writes + stats.accept_errors > 0 {
        let Stats {
            stalled_tokens,
            blocked_writes,
            accept_errors,
            ..
        } = stats;
        say!(
            "{stalled_tokens} tokens held back by stalls, {blocked_writes} writes by clients that did not read, {accept_errors} connections not accepted"
        );
    }
    say_lateness("first tokens", &stats.first_token_lateness);
    say_lateness("all tokens", &stats.token_lateness);
}

fn say_lateness(of: &str, lateness: &Lateness) {
    if let (Some(p50), Some(p99), Some(max)) = (lateness.p50_s, lateness.p99_s, lateness.max_s) {
        let [p50, p99, max] = [p50, p99, max].map(|seconds| seconds * 1e3);
        say!("{of}: late by p50 {p50:.3} ms, p99 {p99:.3} ms, at most {max:.3} ms");
    }
}
