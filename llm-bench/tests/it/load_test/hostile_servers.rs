//! Servers that misbehave: every request ends in its class, the totals balance, the run ends.

use std::{thread, time::Duration};

use mock_llm::Misbehaviour;
use serde_json::Value;
use test_patience::patience;

use super::{Bench, assert_balance, json_lines, said};
use crate::process::run;

/// What a request that meets it ends as.
fn class(misbehaviour: Misbehaviour) -> &'static str {
    use Misbehaviour as M;
    match misbehaviour {
        M::SplitUtf8
        | M::CrlfLines
        | M::DataWithoutSpace
        | M::Comments
        | M::ManyEventsPerWrite
        | M::ByteByByte
        | M::MissingDone
        | M::RoleThenPause
        | M::ReasoningContent
        | M::Reasoning
        | M::ToolCalls
        | M::EmptyChoices => "ok",
        M::InStreamError
        | M::ErrorBody200
        | M::ResetBeforeHead
        | M::ResetAfterHead
        | M::ResetInChunk
        | M::HugeLine => "stream_error",
        M::CleanEndWithoutFinish => "truncated",
        M::RateLimited | M::Redirect => "http_error",
        M::NeverEnding | M::NoHead | M::SlowDrip => "timed_out",
        other => panic!("{other}: in which class does it end?"),
    }
}

/// A run of its own; its report, and its lines.
fn meet(api: &str, misbehaviour: Misbehaviour) -> (Value, Vec<Value>) {
    meet_at(&Bench::quick(), api, misbehaviour)
}

fn meet_at(bench: &Bench, api: &str, misbehaviour: Misbehaviour) -> (Value, Vec<Value>) {
    let mut command = bench.command("--num-concurrent-requests 2 --max-num-completed-requests 2");
    let patience = patience();
    // Short for what never ends; what is only slow, on a machine that is busy, may take long.
    let timeout = if class(misbehaviour) == "timed_out" {
        Duration::from_millis(500)
    } else {
        patience
    };
    command
        .args(["--llm-api", api, "--mean-output-tokens", "8"])
        .args(["--request-timeout", &timeout.as_secs_f64().to_string()])
        .args(["--drain", &patience.as_secs().to_string()])
        .args(["--model", &format!("misbehave:{misbehaviour}")])
        .env("ANTHROPIC_API_KEY", "a-key");
    let done = run(command);
    let answered = class(misbehaviour) == "ok";
    assert_eq!(
        done.status.code(),
        Some(i32::from(!answered)),
        "{misbehaviour}: {}",
        said(&done)
    );
    (
        super::report(&bench.results()),
        json_lines(&bench.results().join("requests.jsonl")),
    )
}

fn ends_as_expected(api: &str, misbehaviour: Misbehaviour) {
    let (report, lines) = meet(api, misbehaviour);
    assert_balance(&report);
    let class = class(misbehaviour);
    assert_eq!(
        report["requests"][class], 2,
        "{api} {misbehaviour}: {}",
        report["requests"]
    );
    for line in &lines {
        assert_eq!(line["class"], class, "{api} {misbehaviour}: {line}");
        assert_eq!(
            line["error"].is_null(),
            class == "ok",
            "{api} {misbehaviour}: {line}"
        );
    }
    let errors = report["errors"].as_array().unwrap();
    assert_eq!(
        errors.is_empty(),
        class == "ok",
        "{api} {misbehaviour}: {errors:?}"
    );
    assert!(
        errors.iter().all(|error| error["sample"].is_string()),
        "{errors:?}"
    );
}

fn each_ends_as_expected(api: &'static str) {
    // A few at a time: what takes long waits for a timeout, not for a core.
    let (first, second) = Misbehaviour::ALL.split_at(Misbehaviour::ALL.len() / 2);
    let meet = |these: &'static [Misbehaviour]| {
        thread::spawn(move || these.iter().for_each(|each| ends_as_expected(api, *each)))
    };
    let running = [meet(first), meet(second)];
    for thread in running {
        thread.join().unwrap();
    }
}

#[test]
fn every_misbehaviour_of_openais_api_has_its_class() {
    each_ends_as_expected("openai");
}

#[test]
fn every_misbehaviour_of_anthropics_api_has_its_class() {
    each_ends_as_expected("anthropic");
}

/// The clocks of a first delta without content, and of reasoning.
#[test]
fn the_first_token_is_the_first_with_content() {
    let (report, _) = meet("openai", Misbehaviour::RoleThenPause);
    let least = report["ttft_s"]["min"].as_f64().unwrap();
    assert!(least > 0.5, "the empty delta came at once: {least}");
    // Four tokens of reasoning, so far apart that no busy machine reads them together with the answer.
    let slow = Bench::new(mock_llm::Settings {
        itl: Duration::from_millis(250),
        ..super::quick()
    });
    let (report, _) = meet_at(&slow, "openai", Misbehaviour::ReasoningContent);
    let (first, answer) = (&report["ttft_s"]["min"], &report["ttfo_s"]["min"]);
    assert!(first.as_f64() < answer.as_f64(), "{first} {answer}");
}
