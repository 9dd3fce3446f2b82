//! What one core of the client holds: `cargo run --release -p load-test --example capacity`.
//!
//! The mock server is a process of its own with one core, so that memory and CPU time of the client are its own.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures for people, and the server's address for its parent"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, BufReader, Read},
    num::NonZeroU32,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use llm_client::{Api, Endpoint, Prompt};
use load_test::{
    plan::{Lengths, Load, Plan, Slo, Stop, Workload},
    record::{Class, RequestRecord},
    run::{EncodedRequest, Progress, Recording, RunFacts, RunInputs, Texts, run},
};
use mock_llm::{MockLlm, Settings};
use shared_types::SystemClock;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Scenario {
    name: &'static str,
    concurrency: u32,
    ttft_ms: u64,
    itl_us: u64,
    tokens: u32,
    ramp_s: u64,
    steady_s: u64,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "4096 streams, 50 tokens/s each",
        concurrency: 4096,
        ttft_ms: 200,
        itl_us: 20_000,
        tokens: 128,
        ramp_s: 5,
        steady_s: 10,
    },
    Scenario {
        name: "requests of 16 tokens, at once",
        concurrency: 64,
        ttft_ms: 0,
        itl_us: 0,
        tokens: 16,
        ramp_s: 0,
        steady_s: 8,
    },
    Scenario {
        name: "answers of 4000 tokens, at once",
        concurrency: 16,
        ttft_ms: 0,
        itl_us: 0,
        tokens: 4000,
        ramp_s: 0,
        steady_s: 8,
    },
    Scenario {
        name: "10 000 streams, a token a second each",
        concurrency: 10_000,
        ttft_ms: 200,
        itl_us: 1_000_000,
        tokens: 8,
        ramp_s: 6,
        steady_s: 10,
    },
];

fn main() -> Result<()> {
    let arguments: Vec<u64> = env::args()
        .skip(1)
        .map(|word| word.parse())
        .collect::<std::result::Result<_, _>>()?;
    if let [ttft_ms, itl_us, tokens] = arguments[..] {
        return serve(ttft_ms, itl_us, tokens);
    }
    for scenario in &SCENARIOS {
        if arguments.is_empty() || arguments.contains(&scenario.concurrency.into()) {
            measure(scenario)?;
        }
    }
    Ok(())
}

/// The server's process: serves until its standard input ends.
fn serve(ttft_ms: u64, itl_us: u64, tokens: u64) -> Result<()> {
    mock_llm::raise_open_files_limit()?;
    let server = MockLlm::start(Settings {
        ttft: Duration::from_millis(ttft_ms),
        itl: Duration::from_micros(itl_us),
        output_tokens: u32::try_from(tokens)?,
        ..Settings::default()
    })?;
    println!("{}", server.base_url());
    io::stdin().read_to_end(&mut Vec::new())?;
    let stats = server.shutdown()?;
    eprintln!("  server lateness {:?}", stats.token_lateness);
    Ok(())
}

fn start_server(scenario: &Scenario) -> Result<(Child, String)> {
    let mut child = Command::new(env::current_exe()?)
        .args([scenario.ttft_ms, scenario.itl_us, scenario.tokens.into()].map(|n| n.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut base_url = String::new();
    let stdout = child.stdout.take().ok_or("no standard output")?;
    BufReader::new(stdout).read_line(&mut base_url)?;
    Ok((child, base_url.trim().to_owned()))
}

fn measure(scenario: &Scenario) -> Result<()> {
    let (mut server, base_url) = start_server(scenario)?;
    let (journal, batches) = mpsc::sync_channel(64);
    let inputs = inputs(scenario, &base_url, journal)?;
    let progress = inputs.progress.clone();
    let run = thread::spawn(move || run(inputs));
    let mut records = Vec::new();
    let mut resident = 0;
    for batch in batches {
        records.extend(batch.into_iter().map(|finished| finished.record));
        resident = resident.max(resident_mib()?);
    }
    let facts = run.join().map_err(|_| "the run panicked")??;
    drop(server.stdin.take());
    println!("{}", scenario.name);
    report(scenario, &facts, &records, progress.snapshot().chunks);
    println!(
        "  resident {resident} MiB, its {} records included",
        records.len()
    );
    server.wait()?;
    Ok(())
}

fn inputs(
    scenario: &Scenario,
    base_url: &str,
    journal: mpsc::SyncSender<Vec<load_test::record::Finished>>,
) -> Result<RunInputs> {
    let plan = plan(scenario)?;
    let endpoint = Endpoint::new(plan.api, base_url, None)?;
    let text = "word ".repeat(500);
    let request = EncodedRequest::new(&endpoint, &plan, Prompt::Text(&text), 500, Some(scenario.tokens));
    Ok(RunInputs {
        plan,
        endpoint,
        requests: Arc::new([request]),
        trace: Arc::default(),
        recording: Recording {
            texts: Texts::ToCount,
            chunk_stamps: false,
        },
        journal,
        progress: Arc::new(Progress::new(1)),
        cancel: CancellationToken::new(),
        clock: Arc::new(SystemClock),
    })
}

fn plan(scenario: &Scenario) -> Result<Plan> {
    let one = NonZeroU32::MIN;
    let lengths = Lengths {
        mean: 1.0,
        stddev: 0.0,
    };
    Ok(Plan {
        model: "mock".into(),
        api: Api::OpenAiChat,
        workload: Workload::Sonnets {
            input_tokens: lengths,
            output_tokens: lengths,
            shared_prefix_tokens: 0,
            distinct_prompts: one,
        },
        load: Load::Closed {
            concurrency: NonZeroU32::new(scenario.concurrency).ok_or("no streams")?,
            ramp_up: Duration::from_secs(scenario.ramp_s),
        },
        stop: Stop {
            send_for: Duration::from_secs(scenario.ramp_s + scenario.steady_s),
            max_requests: None,
            drain: Duration::from_secs(10),
        },
        warmup_requests: 0,
        slo: Slo::default(),
        seed: 1,
        stream: true,
        request_timeout: Duration::from_secs(60),
        client_cores: one,
        sampling: serde_json::Map::new(),
        metadata: BTreeMap::new(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(scenario: &Scenario, facts: &RunFacts, records: &[RequestRecord], chunks: u64) {
    let window = facts.last_begun.map(|last| last.saturating_since(facts.ramp_end));
    let window_s = window.unwrap_or_default().as_secs_f64();
    let in_window = records
        .iter()
        .filter(|record| record.closed >= facts.ramp_end && Some(record.closed) <= facts.last_begun)
        .count() as f64;
    let round_s =
        scenario.ttft_ms as f64 / 1e3 + scenario.itl_us as f64 / 1e6 * f64::from(scenario.tokens - 1);
    let possible = f64::from(scenario.concurrency) * f64::from(scenario.tokens) / round_s;
    let mut errors: Vec<u128> = records
        .iter()
        .filter(|record| record.intended >= facts.ramp_end)
        .filter_map(|record| {
            Some(
                record
                    .first_content?
                    .saturating_since(record.server_wrote_first?)
                    .as_micros(),
            )
        })
        .collect();
    errors.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a position"
        )]
        let position = (errors.len().saturating_sub(1) as f64 * share) as usize;
        errors.get(position)
    };
    let ok = facts.classes.of(Class::Ok);
    println!("  {ok} ok of {} requests, {chunks} tokens", facts.scheduled);
    println!(
        "  in the window of {window_s:.2} s: {:.0} requests/s, {:.0} tokens/s of {possible:.0} possible",
        in_window / window_s,
        in_window * f64::from(scenario.tokens) / window_s
    );
    println!(
        "  TTFT error p50 {:?} p99 {:?} max {:?} µs",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let sending_s = (scenario.ramp_s + scenario.steady_s) as f64;
    println!(
        "  CPU time {:.2} µs a token, {:.1} µs a request",
        facts.cpu_shares[0] * sending_s * 1e6 / chunks as f64,
        facts.cpu_shares[0] * sending_s * 1e6 / facts.scheduled as f64
    );
    println!(
        "  loop lag p50 {} p99 {} max {} µs, thread busy {:.3}, held {:?}",
        facts.loop_lag.value_at_quantile(0.5) / 1000,
        facts.loop_lag.value_at_quantile(0.99) / 1000,
        facts.loop_lag.max() / 1000,
        facts.cpu_shares[0],
        facts.streams
    );
}

fn resident_mib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib / 1024)
}
