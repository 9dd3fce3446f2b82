use std::{
    collections::BTreeMap,
    num::{NonZero, NonZeroU32},
    time::Duration,
};

use anyhow::Context as _;
use load_test::plan::{Arrival, Lengths, Load, Plan, Slo, Stop, Workload};
use rand::{TryRng as _, rngs::SysRng};
use shared_types::Invalid;

use super::options::{ArrivalKind, LoadTest};

/// LLMPerf's default of `--timeout`.
const LLMPERF_TIMEOUT: Duration = Duration::from_secs(90);
/// Time limit of a trace, which ends by itself.
const LONGEST_TRACE: Duration = Duration::from_secs(366 * 86_400);
/// LLMPerf's default of `--max-num-completed-requests`.
const LLMPERF_REQUESTS: u64 = 10;
/// Default of `--max-in-flight`.
const MAX_IN_FLIGHT: NonZeroU32 = NonZeroU32::new(10_000).expect("not zero");
/// Default of the ramp, for each stream: streams that start at once would measure the burst.
const RAMP_PER_STREAM: Duration = Duration::from_millis(1);

/// The plan of these options. `seed` and `client_cores` are used where the options do not have them.
pub(super) fn plan(options: &LoadTest, seed: u64, client_cores: NonZeroU32) -> Result<Plan, Invalid> {
    Ok(Plan {
        model: options.model.clone(),
        api: options.llm_api.api,
        workload: workload(options),
        load: load(options)?,
        stop: stop(options),
        warmup_requests: options.load.warmup_requests,
        slo: options.load.slo.as_deref().map_or(Ok(Slo::default()), slo)?,
        seed: options.workload.seed.unwrap_or(seed),
        stream: !options.workload.no_stream,
        request_timeout: options.load.request_timeout,
        client_cores: options.client.client_cores.unwrap_or(client_cores),
        sampling: sampling(options),
        metadata: metadata(&options.metadata)?,
    })
}

fn workload(options: &LoadTest) -> Workload {
    let output_tokens = Lengths {
        mean: options.mean_output_tokens,
        stddev: options.stddev_output_tokens,
    };
    let asked = &options.workload;
    if asked.correctness {
        return Workload::Correctness;
    }
    if let Some(path) = asked.dataset.clone() {
        return Workload::Dataset { path, output_tokens };
    }
    if let Some(path) = asked.trace.clone() {
        return Workload::Trace { path };
    }
    Workload::Sonnets {
        input_tokens: Lengths {
            mean: options.mean_input_tokens,
            stddev: options.stddev_input_tokens,
        },
        output_tokens,
        shared_prefix_tokens: asked.shared_prefix_tokens,
        distinct_prompts: asked.distinct_prompts,
    }
}

fn load(options: &LoadTest) -> Result<Load, Invalid> {
    let asked = &options.load;
    let max_in_flight = asked.max_in_flight.unwrap_or(MAX_IN_FLIGHT);
    if options.workload.trace.is_some() {
        return Ok(Load::Trace {
            speed: options.workload.trace_speed,
            max_in_flight,
        });
    }
    let Some(rate) = asked.request_rate else {
        if let Some(found) = asked.max_in_flight {
            let expected =
                "--request-rate or --trace beside it: a closed loop has as many in flight as it has streams";
            return Err(Invalid::new("--max-in-flight", found, expected));
        }
        let concurrency = options.num_concurrent_requests;
        return Ok(Load::Closed {
            concurrency,
            ramp_up: asked.ramp_up.unwrap_or(RAMP_PER_STREAM * concurrency.get()),
        });
    };
    Ok(Load::Open {
        rate,
        arrival: match asked.arrival {
            ArrivalKind::Constant => Arrival::Constant,
            ArrivalKind::Poisson => Arrival::Poisson,
            ArrivalKind::Gamma => Arrival::Gamma { cv: asked.arrival_cv },
        },
        ramp_up: asked.ramp_up.unwrap_or_default(),
        max_in_flight,
    })
}

fn stop(options: &LoadTest) -> Stop {
    let asked = &options.load;
    let unlimited = asked.duration.is_some() || options.workload.trace.is_some();
    Stop {
        send_for: asked
            .duration
            .or(options.timeout)
            .unwrap_or(if options.workload.trace.is_some() {
                LONGEST_TRACE
            } else {
                LLMPERF_TIMEOUT
            }),
        max_requests: options
            .max_num_completed_requests
            .or((!unlimited).then_some(LLMPERF_REQUESTS)),
        drain: asked.drain,
    }
}

/// One core is left to the rest of the machine, such as a server under test.
pub(super) fn spare_cores() -> NonZeroU32 {
    let all = std::thread::available_parallelism().map_or(1, NonZero::get);
    let spared = u32::try_from(all.saturating_sub(1)).unwrap_or(u32::MAX);
    NonZeroU32::new(spared).unwrap_or(NonZeroU32::MIN)
}

/// The seed of a run without `--seed`.
pub(super) fn draw_seed() -> anyhow::Result<u64> {
    SysRng.try_next_u64().context("drawing a seed")
}

/// LLMPerf asks for numbers at temperature 0.
fn sampling(options: &LoadTest) -> serde_json::Map<String, serde_json::Value> {
    let mut sampling = options.additional_sampling_params.clone();
    if options.workload.correctness {
        sampling.entry("temperature").or_insert_with(|| 0.into());
    }
    sampling
}

/// `ttft=0.5,tpot=0.05,e2e=10`
fn slo(raw: &str) -> Result<Slo, Invalid> {
    let expected = "limits in seconds such as ttft=0.5,tpot=0.05,e2e=10";
    let mut slo = Slo::default();
    for (name, value) in pairs("--slo", raw, expected)? {
        let limit = match name {
            "ttft" => &mut slo.ttft_s,
            "tpot" => &mut slo.tpot_s,
            "e2e" | "e2e_latency" => &mut slo.e2e_latency_s,
            other => return Err(Invalid::new("--slo", other, expected)),
        };
        let seconds = value.parse::<f64>().ok().filter(|s| s.is_finite() && *s > 0.0);
        *limit = Some(seconds.ok_or_else(|| Invalid::new("--slo", value, expected))?);
    }
    Ok(slo)
}

/// LLMPerf's `k=v,k=v`.
fn metadata(raw: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let pairs = pairs("--metadata", raw, "labels such as gpu=H100,framework=vllm")?;
    Ok(pairs
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .collect())
}

fn pairs<'a>(flag: &str, raw: &'a str, expected: &str) -> Result<Vec<(&'a str, &'a str)>, Invalid> {
    let pair = |text: &'a str| {
        text.split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Invalid::new(flag, text, expected))
    };
    raw.split(',')
        .filter(|text| !text.trim().is_empty())
        .map(pair)
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use llm_client::Api;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: LoadTest,
    }

    fn planned(line: &str) -> Result<Plan, Invalid> {
        let words = std::iter::once("load-test").chain(line.split_whitespace());
        let options = Line::try_parse_from(words).unwrap().options;
        plan(&options, 7, NonZeroU32::MIN)
    }

    fn refused(line: &str) -> bool {
        Line::try_parse_from(std::iter::once("load-test").chain(line.split_whitespace())).is_err()
    }

    #[test]
    fn without_flags_it_is_llmperfs_run() {
        let plan = planned("--model m").unwrap();
        assert_eq!(plan.api, Api::OpenAiChat);
        let Workload::Sonnets {
            input_tokens,
            output_tokens,
            ..
        } = plan.workload
        else {
            panic!("sonnets");
        };
        assert_eq!((input_tokens.mean, input_tokens.stddev), (550.0, 150.0));
        assert_eq!((output_tokens.mean, output_tokens.stddev), (150.0, 80.0));
        assert!(matches!(plan.load, Load::Closed { concurrency, .. } if concurrency.get() == 10));
        assert_eq!(plan.stop.send_for, Duration::from_secs(90));
        assert_eq!(plan.stop.max_requests, Some(10));
        assert!(plan.stream && plan.sampling.is_empty() && plan.metadata.is_empty());
    }

    #[test]
    fn the_line_of_llmperfs_readme_is_understood() {
        let plan = planned(
            "--model meta-llama/Llama-2-7b-chat-hf --mean-input-tokens 550 --stddev-input-tokens 150 \
             --mean-output-tokens 150 --stddev-output-tokens 10 --max-num-completed-requests 2 --timeout 600 \
             --num-concurrent-requests 1 --results-dir result_outputs --llm-api openai --additional-sampling-params {}",
        )
        .unwrap();
        assert_eq!(plan.stop.max_requests, Some(2));
        assert_eq!(plan.stop.send_for, Duration::from_secs(600));
    }

    #[test]
    fn a_duration_lifts_the_default_number_of_requests() {
        assert_eq!(planned("--model m --duration 5").unwrap().stop.max_requests, None);
        let both = planned("--model m --duration 5 --max-num-completed-requests 7")
            .unwrap()
            .stop;
        assert_eq!(
            (both.send_for, both.max_requests),
            (Duration::from_secs(5), Some(7))
        );
    }

    #[test]
    fn labels_and_limits_are_read_and_nonsense_is_named() {
        let plan = planned("--model m --metadata gpu=H100,x=a=b --slo ttft=0.5,e2e=10").unwrap();
        assert_eq!(plan.metadata["x"], "a=b");
        assert_eq!(
            (plan.slo.ttft_s, plan.slo.tpot_s, plan.slo.e2e_latency_s),
            (Some(0.5), None, Some(10.0))
        );
        for (line, named) in [
            ("--model m --slo ttft", "found ttft"),
            ("--model m --slo ttft=-1", "found -1"),
            ("--model m --slo speed=1", "found speed"),
            ("--model m --metadata gpu", "found gpu"),
            ("--model m --max-in-flight 7", "found 7"),
        ] {
            let error = planned(line).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn flags_that_exclude_each_other_are_refused() {
        for line in [
            "",
            "--model m --request-rate 5 --num-concurrent-requests 3",
            "--model m --dataset a --trace b",
            "--model m --llm-api sagemaker",
            "--model m --num-concurrent-requests 0",
            "--model m --mean-input-tokens nan",
            "--model m --additional-sampling-params []",
            "--model m --num-concurrent-requests 3 --max-in-flight 7",
            "--model m --record-chunks",
            "--model m --calibrate --publish",
        ] {
            assert!(refused(line), "{line}");
        }
    }

    #[test]
    fn numbers_are_asked_for_at_temperature_0() {
        let plan = planned("--model m --correctness").unwrap();
        assert_eq!(plan.workload, Workload::Correctness);
        assert_eq!(plan.sampling["temperature"], 0);
    }
}
