use super::*;
use crate::tokens::tests::{all, byte_level_json, tokenizer};

fn trace(content: &str) -> (Plan, tempfile::NamedTempFile) {
    let file = file(content);
    let plan = plan(Workload::Trace {
        path: file.path().to_owned(),
    });
    (plan, file)
}

fn prompts(content: &str) -> Result<PreparedWorkload, WorkloadError> {
    let (plan, _file) = trace(content);
    prepare(&plan, &Tokenizer::bundled("o200k_base").unwrap())
}

const MOONCAKE: &str = r#"{"timestamp": 3000, "input_length": 1100, "output_length": 52, "hash_ids": [0, 1, 2]}
{"timestamp": 0, "input_length": 1300, "output_length": 500, "hash_ids": [0, 1, 3]}

{"timestamp": 10, "input_length": 100, "output_length": 1, "hash_ids": [9]}
{"timestamp": 3000, "input_length": 2000, "output_length": 7, "hash_ids": []}
"#;

fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

#[test]
fn mooncakes_requests_have_its_times_lengths_and_prefixes() {
    for tokenizer in all() {
        let (plan, _file) = trace(MOONCAKE);
        let prepared = prepare(&plan, tokenizer).unwrap();
        let offsets = prepared.offsets.as_ref().unwrap();
        assert_eq!(offsets[..], [0, 10, 3000, 3000].map(Duration::from_millis));
        let lengths = prepared
            .requests
            .iter()
            .map(|request| (request.prompt_tokens, request.max_tokens.unwrap()));
        assert_eq!(
            lengths.collect::<Vec<_>>(),
            [(1300, 500), (100, 1), (1100, 52), (2000, 7)]
        );
        let encoded = prepared
            .requests
            .iter()
            .map(|request| tokenizer.encode(text(request)).unwrap());
        let encoded: Vec<_> = encoded.collect();
        for (request, ids) in prepared.requests.iter().zip(&encoded) {
            assert_eq!(request.prompt_tokens as usize, ids.len(), "{tokenizer:?}");
        }
        // Two blocks of 512; where they meet a token may be more or less.
        let shared = common(&encoded[0], &encoded[2]);
        assert!((1020..=1032).contains(&shared), "{shared} of {tokenizer:?}");
        assert!(common(&encoded[0], &encoded[1]) < 10, "{tokenizer:?}");
    }
}

#[test]
fn a_cut_block_is_the_beginning_of_the_whole() {
    let content = r#"{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [4, 5]}
{"timestamp": 1, "input_length": 300, "output_length": 5, "hash_ids": [4]}"#;
    let prepared = prompts(content).unwrap();
    assert!(text(&prepared.requests[0]).starts_with(text(&prepared.requests[1])));
    // 300 of 900 tokens were seen before.
    assert!(
        (prepared.prompt_statistics.shared_prefix_share - 1.0 / 3.0).abs() < 0.01,
        "{:?}",
        prepared.prompt_statistics
    );
}

#[test]
fn azures_times_are_read_in_both_of_its_forms() {
    for (first, second) in [
        ("2023-11-16 18:15:46.6805900", "2023-11-16 18:15:50.9951690"),
        (
            "2024-05-10 00:00:46.680590+00:00",
            "2024-05-10 00:00:50.995169+00:00",
        ),
        ("2024-05-10T02:00:46.680590+02:00", "2024-05-10T00:00:50.995169Z"),
    ] {
        let content =
            format!("TIMESTAMP,ContextTokens,GeneratedTokens\r\n{second},374,44\r\n{first},30,1\r\n");
        let prepared = prompts(&content).unwrap();
        assert_eq!(
            prepared.offsets.as_ref().unwrap()[..],
            [Duration::ZERO, Duration::from_micros(4_314_579)]
        );
        let lengths = prepared
            .requests
            .iter()
            .map(|request| (request.prompt_tokens, request.max_tokens));
        assert_eq!(lengths.collect::<Vec<_>>(), [(30, Some(1)), (374, Some(44))]);
    }
}

#[test]
fn lengths_of_nothing_become_one_and_are_told_of() {
    let prepared = prompts("{\"timestamp\": 0, \"input_length\": 0, \"output_length\": 0}").unwrap();
    assert_eq!(
        (
            prepared.requests[0].prompt_tokens,
            prepared.requests[0].max_tokens
        ),
        (1, Some(1))
    );
    assert!(
        prepared
            .prompt_statistics
            .notes
            .iter()
            .any(|note| note.starts_with("1 requests had a length of 0"))
    );
}

#[test]
fn what_the_run_cannot_send_is_not_made() {
    let (mut plan, _file) = trace(MOONCAKE);
    let tokenizer = tokenizer(&byte_level_json());
    plan.load = Load::Trace {
        speed: 2.0,
        max_in_flight: NonZeroU32::MIN,
    };
    let mut made = |send_for: u64, most| {
        plan.stop.send_for = Duration::from_millis(send_for);
        plan.stop.max_requests = most;
        let prepared = prepare(&plan, &tokenizer).unwrap();
        assert_eq!(prepared.requests.len(), prepared.offsets.as_ref().unwrap().len());
        prepared.requests.len()
    };
    assert_eq!(made(1_400, None), 2);
    assert_eq!(made(1_500, None), 4);
    assert_eq!(made(1_500, Some(3)), 3);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (content, expected) in [
        ("", "expected Mooncake's JSONL"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n",
            "found no row, expected Mooncake's JSONL",
        ),
        (
            "{\"timestamp\": 0, \"input_length\": 3}",
            "line 1: expected Mooncake's JSONL",
        ),
        (
            "{\"timestamp\": 0, \"input_length\": 3}",
            "missing field `output_length`",
        ),
        (
            "{\"timestamp\": 0, \"input_length\": 3, \"output_length\": 3}\n{",
            "line 2: expected",
        ),
        (
            "{\"timestamp\": -1, \"input_length\": 3, \"output_length\": 3}",
            "line 1: found the timestamp -1",
        ),
        ("time,in,out\n1,2,3\n", "missing field `TIMESTAMP`"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,many,1\n",
            "line: 2",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,-4,1\n",
            "line: 2",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,4\n",
            "line: 2",
        ),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,4,1\n",
            "line 2: found the timestamp \"yesterday\"",
        ),
    ] {
        let message = in_words(&prompts(content).unwrap_err());
        assert!(message.contains(expected), "{content}\n{message}");
    }
}
