use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{
    plan::Lengths,
    tokens::tests::{all, tokenizer, unigram_json},
    workload::{
        exact_length::SonnetText,
        random::{Purpose, stream},
    },
};

fn sonnets(input: Lengths, output: Lengths, shared_prefix_tokens: u32, prompts: u32) -> Plan {
    plan(Workload::Sonnets {
        input_tokens: input,
        output_tokens: output,
        shared_prefix_tokens,
        distinct_prompts: NonZeroU32::new(prompts).unwrap(),
    })
}

const LLMPERFS: (Lengths, Lengths) = (
    Lengths {
        mean: 550.0,
        stddev: 150.0,
    },
    Lengths {
        mean: 150.0,
        stddev: 80.0,
    },
);

fn exactly(tokens: f64) -> Lengths {
    Lengths {
        mean: tokens,
        stddev: 0.0,
    }
}

/// Over each of the tokenizers.
static VERSES: LazyLock<Vec<SonnetText<'static>>> = LazyLock::new(|| {
    all()
        .iter()
        .map(|tokenizer| SonnetText::new(tokenizer).unwrap())
        .collect()
});

fn o200k() -> Tokenizer {
    Tokenizer::bundled("o200k_base").unwrap()
}

#[test]
fn prompts_are_llmperfs() {
    let prepared = prepare(&sonnets(LLMPERFS.0, LLMPERFS.1, 0, 100), &o200k()).unwrap();
    for request in prepared.requests.iter() {
        let instruction = format!(
            "Randomly stream lines from the following text with {} output tokens. Don't generate eos tokens:\n\n",
            request.max_tokens.unwrap()
        );
        let lines = text(request).strip_prefix(&instruction).unwrap();
        let whole_lines: Vec<_> = lines
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .collect();
        let verse = include_str!("../../../data/sonnets.txt");
        assert!(
            whole_lines.iter().all(|line| verse.contains(line)),
            "{whole_lines:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_vocabulary_gets_exactly_the_length(seed: u64, mean in 40.0..400.0_f64, prefix in 0..150_u32) {
        let lengths = Lengths { mean, stddev: mean / 4.0 };
        for tokenizer in all() {
            let mut plan = sonnets(lengths, exactly(20.0), prefix, 3);
            plan.seed = seed;
            let prepared = prepare(&plan, tokenizer).unwrap();
            for request in prepared.requests.iter() {
                prop_assert_eq!(tokenizer.count(text(request)).unwrap(), request.prompt_tokens, "{:?}", tokenizer);
            }
            let encoded: Vec<_> = prepared.requests.iter().map(|request| tokenizer.encode(text(request)).unwrap()).collect();
            let prefix = prefix as usize;
            prop_assert!(encoded.iter().all(|ids| ids[..prefix] == encoded[0][..prefix]), "{:?}", tokenizer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_text_has_any_length_from_one_token(seed: u64, tokens in 1..80_u32) {
        for (tokenizer, verse) in all().iter().zip(VERSES.iter()) {
            let text = verse.fill("", &[], tokens, &mut stream(seed, Purpose::Prompt, 0)).unwrap();
            prop_assert_eq!(tokenizer.count(&text).unwrap(), tokens, "{:?}", tokenizer);
        }
    }
}

#[test]
fn a_text_longer_than_the_sonnets_begins_them_again() {
    let o200k = o200k();
    let verse = SonnetText::new(&o200k).unwrap();
    let text = verse
        .fill("", &[], 60_000, &mut stream(1, Purpose::Prompt, 0))
        .unwrap();
    assert_eq!(o200k.count(&text).unwrap(), 60_000);
    assert!(text.lines().count() > 2_155);
}

#[test]
fn a_vocabulary_without_the_length_is_an_error_and_not_a_hang() {
    // It sees one unknown token in whatever text.
    let mut json = unigram_json();
    json["model"]["vocab"] = serde_json::json!([["<unk>", 0.0]]);
    json["pre_tokenizer"] = serde_json::Value::Null;
    let one = tokenizer(&json);
    assert_eq!(one.count("to be or not to be").unwrap(), 1);
    let verse = SonnetText::new(&one).unwrap();
    let error = verse
        .fill("", &[], 2, &mut stream(1, Purpose::Prompt, 0))
        .unwrap_err();
    assert!(
        matches!(error, WorkloadError::Length { tokens: 2, .. }),
        "{error}"
    );
}

#[test]
fn a_prompt_does_not_depend_on_the_others() {
    let few = prepare(&sonnets(LLMPERFS.0, LLMPERFS.1, 10, 5), &o200k()).unwrap();
    let mut plan = sonnets(LLMPERFS.0, LLMPERFS.1, 10, 50);
    let many = prepare(&plan, &o200k()).unwrap();
    assert_eq!(few.requests[..], many.requests[..5]);
    plan.seed += 1;
    let other = prepare(&plan, &o200k()).unwrap();
    assert!(
        other
            .requests
            .iter()
            .zip(many.requests.iter())
            .all(|(one, other)| one.prompt != other.prompt)
    );
}

#[test]
fn no_more_prompts_are_made_than_can_be_sent() {
    let mut plan = sonnets(LLMPERFS.0, LLMPERFS.1, 0, 1_000);
    plan.stop.max_requests = Some(10);
    assert_eq!(prepare(&plan, &o200k()).unwrap().requests.len(), 10);
}

#[test]
fn lengths_follow_the_gaussian() {
    let mut rng = stream(3, Purpose::Prompt, 0);
    let lengths: Vec<f64> = (0..20_000)
        .map(|_| f64::from(LLMPERFS.0.draw(&mut rng)))
        .collect();
    let mean = lengths.iter().sum::<f64>() / 20_000.0;
    let variance = lengths.iter().map(|length| (length - mean).powi(2)).sum::<f64>() / 20_000.0;
    // Five standard errors: 150/sqrt(20 000) of the mean, 150/sqrt(40 000) of the deviation; cutting takes half a token.
    assert!((mean - 549.5).abs() < 5.4, "{mean}");
    assert!((variance.sqrt() - 150.0).abs() < 3.8, "{variance}");
}

#[test]
fn lengths_are_positive() {
    let mut rng = stream(3, Purpose::Prompt, 0);
    let wide = Lengths {
        mean: 1.0,
        stddev: 100.0,
    };
    assert!((0..10_000).all(|_| wide.draw(&mut rng) >= 1));
}

#[test]
fn impossible_lengths_are_refused() {
    for (mean, stddev) in [
        (0.0, 10.0),
        (-5.0, 1.0),
        (f64::NAN, 1.0),
        (10.0, -1.0),
        (10.0, f64::INFINITY),
        (1e9, 1.0),
    ] {
        let plan = sonnets(Lengths { mean, stddev }, exactly(10.0), 0, 1);
        let error = prepare(&plan, &o200k()).unwrap_err().to_string();
        assert!(error.starts_with("input tokens: found mean"), "{error}");
    }
}

#[test]
fn prompts_shorter_than_their_instruction_are_lifted_and_told_of() {
    let o200k = o200k();
    let prepared = prepare(&sonnets(exactly(5.0), exactly(10.0), 0, 4), &o200k).unwrap();
    for request in prepared.requests.iter() {
        assert!(text(request).ends_with("Don't generate eos tokens:\n\n"));
        assert_eq!(o200k.count(text(request)).unwrap(), request.prompt_tokens);
    }
    let note = &prepared.prompt_statistics.notes[0];
    assert!(note.starts_with("4 of 4 prompts were drawn shorter"), "{note}");
}

#[test]
fn the_statistics_are_those_of_the_prompts() {
    let o200k = o200k();
    let lengths = Lengths {
        mean: 600.0,
        stddev: 50.0,
    };
    let statistics = prepare(&sonnets(lengths, exactly(10.0), 300, 50), &o200k)
        .unwrap()
        .prompt_statistics;
    assert_eq!(statistics.prompts, 50);
    assert_eq!(statistics.distinct_share, 1.0);
    // Of 50 prompts all but the first find 300 tokens, and the instruction, cached.
    let expected = (300.0 + 20.0) / 600.0 * 49.0 / 50.0;
    assert!(
        (statistics.shared_prefix_share - expected).abs() < 0.02,
        "{statistics:?}"
    );
    assert!(
        (580.0..620.0).contains(&statistics.prompt_tokens.mean),
        "{statistics:?}"
    );
    assert_eq!(
        statistics.max_tokens,
        Some(TokenRange {
            mean: 10.0,
            min: 10,
            max: 10
        })
    );
    assert_eq!(&statistics.tokenizer, o200k.describe());
    let without = prepare(&sonnets(lengths, exactly(10.0), 0, 50), &o200k)
        .unwrap()
        .prompt_statistics;
    assert!(without.shared_prefix_share < 0.05, "{without:?}");
}
