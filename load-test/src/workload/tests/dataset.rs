use super::*;
use crate::plan::Lengths;

fn prompts(content: &str, most: Option<u64>) -> Result<PreparedWorkload, WorkloadError> {
    let file = file(content);
    let mut plan = plan(Workload::Dataset {
        path: file.path().to_owned(),
        output_tokens: Lengths {
            mean: 77.0,
            stddev: 0.0,
        },
    });
    plan.stop.max_requests = most;
    prepare(&plan, &Tokenizer::bundled("o200k_base").unwrap())
}

fn refusal(content: &str) -> String {
    in_words(&prompts(content, None).unwrap_err())
}

#[test]
fn own_prompts_are_taken_as_they_are() {
    let prepared = prompts(
        concat!(
            "{\"prompt\": \"hello world\", \"max_tokens\": 5, \"id\": 3}\n\n",
            "{\"text\": \"hello\", \"output_tokens\": 6}\n",
            "{\"messages\": [{\"role\": \"system\", \"content\": \"hello\"}, {\"role\": \"user\", \"content\": \"hello world\"}]}",
        ),
        None,
    )
    .unwrap();
    let shapes: Vec<_> = prepared
        .requests
        .iter()
        .map(|request| (request.prompt_tokens, request.max_tokens))
        .collect();
    assert_eq!(shapes, [(2, Some(5)), (1, Some(6)), (3, Some(77))]);
    assert_eq!(text(&prepared.requests[0]), "hello world");
    let PromptText::Messages(messages) = &prepared.requests[2].prompt else {
        panic!("no conversation");
    };
    assert_eq!(messages[0].role, Role::System);
    assert_eq!(messages[1].content, "hello world");
    assert_eq!(prepared.offsets, None);
}

const CONVERSATIONS: [&str; 4] = [
    r#"{"id": "a", "conversations": [{"from": "human", "value": "hello world"}, {"from": "gpt", "value": "hello hello hello"}, {"from": "human", "value": "and"}]}"#,
    r#"{"conversations": [{"from": "system", "value": "be kind"}, {"from": "human", "value": "hello"}, {"from": "gpt", "value": "hello"}]}"#,
    r#"{"conversations": [{"from": "gpt", "value": "nobody asked"}]}"#,
    r#"{"conversations": []}"#,
];

#[test]
fn of_a_conversation_the_first_turn_is_asked_and_the_answers_length_wanted() {
    for content in [
        CONVERSATIONS.join("\n"),
        format!("\n [{}]", CONVERSATIONS.join(",\n")),
    ] {
        let prepared = prompts(&content, None).unwrap();
        let shapes: Vec<_> = prepared
            .requests
            .iter()
            .map(|request| (text(request), request.max_tokens))
            .collect();
        assert_eq!(shapes, [("hello world", Some(3)), ("hello", Some(1))]);
        assert_eq!(prepared.prompt_statistics.notes.len(), 1);
        assert!(
            prepared.prompt_statistics.notes[0].starts_with("2 conversations without"),
            "{:?}",
            prepared.prompt_statistics.notes
        );
    }
}

#[test]
fn repeated_prompts_show_in_the_statistics() {
    let statistics = prompts(&"{\"prompt\": \"hello world\"}\n".repeat(4), None)
        .unwrap()
        .prompt_statistics;
    assert_eq!(
        (
            statistics.prompts,
            statistics.distinct_share,
            statistics.shared_prefix_share
        ),
        (4, 0.25, 0.0)
    );
}

#[test]
fn shared_prefixes_are_counted_against_all_earlier_prompts() {
    // Tokens: 2, 3 (2 of them seen), 1 and 3 (2 seen); the order of the file does not matter.
    let content = ["hello world again", "hello world", "other", "hello world twice"];
    let content = content
        .map(|prompt| format!("{{\"prompt\": \"{prompt}\"}}\n"))
        .concat();
    let statistics = prompts(&content, None).unwrap().prompt_statistics;
    assert!(
        (statistics.shared_prefix_share - 4.0 / 9.0).abs() < 1e-12,
        "{statistics:?}"
    );
}

#[test]
fn a_large_file_is_read_as_far_as_it_is_needed() {
    let content = "{\"prompt\": \"hello\"}\n{\"prompt\": \"world\"}\nnot read any more";
    assert_eq!(prompts(content, Some(2)).unwrap().requests.len(), 2);
    assert!(refusal(content).contains("line 3"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (content, expected) in [
        ("", "found no entry, expected {\"prompt\""),
        ("[]", "found no entry"),
        (
            CONVERSATIONS[2],
            "found 1 conversations without a human turn and an answer to it",
        ),
        (
            "{\"prompt\": \"a\"}\n{\"question\": \"b\"}",
            "line 2: found none of prompt, text, messages and conversations",
        ),
        (
            "{\"prompt\": \"a\", \"text\": \"b\"}",
            "line 1: found more than one of",
        ),
        (
            "{\"prompt\": \"a\"}\n{\"prompt\": 5}",
            "line 2: expected {\"prompt\"",
        ),
        ("{\"prompt\": 5}", "invalid type: integer `5`, expected a string"),
        ("{\"prompt\": \"\"}", "line 1: found an empty prompt"),
        ("{\"messages\": []}", "line 1: found an empty prompt"),
        (
            "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}",
            "found the role \"tool\"",
        ),
        (
            "{\"prompt\": \"a\", \"max_tokens\": 0}",
            "found an answer of 0 tokens",
        ),
        (
            "[{\"prompt\": \"a\"}, {\"prompt\": \"\"}]",
            "entry 2: found an empty prompt",
        ),
        ("[{\"prompt\": \"a\"},\n {\"prompt\": 5}]", "at line 2"),
        ("what is this", "line 1: expected {\"prompt\""),
    ] {
        let message = refusal(content);
        assert!(message.contains(expected), "{content}\n{message}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let plan = plan(Workload::Dataset {
        path: "/nowhere/prompts.jsonl".into(),
        output_tokens: Lengths {
            mean: 1.0,
            stddev: 0.0,
        },
    });
    let error = prepare(&plan, &Tokenizer::bundled("o200k_base").unwrap()).unwrap_err();
    assert!(
        in_words(&error).starts_with("/nowhere/prompts.jsonl: No such file"),
        "{error}"
    );
}
