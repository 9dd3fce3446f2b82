mod dataset;
mod sonnets;
mod trace;

use std::{collections::BTreeMap, io::Write, num::NonZeroU32};

use llm_client::Api;

use super::*;
use crate::plan::{Slo, Stop};

fn plan(workload: Workload) -> Plan {
    Plan {
        model: "test".to_owned(),
        api: Api::OpenAiChat,
        workload,
        load: Load::Closed {
            concurrency: NonZeroU32::MIN,
            ramp_up: Duration::ZERO,
        },
        stop: Stop {
            send_for: Duration::from_secs(90),
            max_requests: None,
            drain: Duration::ZERO,
        },
        warmup_requests: 0,
        slo: Slo::default(),
        seed: 7,
        stream: true,
        request_timeout: Duration::from_secs(60),
        client_cores: NonZeroU32::MIN,
        sampling: serde_json::Map::new(),
        metadata: BTreeMap::new(),
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// An error as a person reads it, with its causes.
fn in_words(error: &WorkloadError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

fn text(request: &PreparedRequest) -> &str {
    match &request.prompt {
        PromptText::Text(text) => text,
        PromptText::Messages(_) => panic!("a conversation"),
    }
}

#[test]
fn questions_expect_the_number_that_they_spell() {
    let mut plan = plan(Workload::Correctness);
    plan.stop.max_requests = Some(300);
    let tokenizer = Tokenizer::bundled("o200k_base").unwrap();
    let prepared = prepare(&plan, &tokenizer).unwrap();
    assert_eq!(prepared.requests.len(), 300);
    for request in prepared.requests.iter() {
        let number = request.expected.unwrap();
        assert!(number <= correctness::LARGEST);
        assert_eq!(text(request), correctness::question(number));
        assert_eq!(request.prompt_tokens, tokenizer.count(text(request)).unwrap());
        assert_eq!(request.max_tokens, None);
    }
    assert!(prepared.prompt_statistics.distinct_share > 0.9);
    assert_eq!(prepare(&plan, &tokenizer).unwrap().requests, prepared.requests);
}

#[test]
fn a_conversation_reaches_the_client_as_one() {
    let content = "hello".to_owned();
    let conversation = PromptText::Messages(vec![ChatMessage {
        role: Role::System,
        content,
    }]);
    conversation.with_prompt(|prompt| match prompt {
        Prompt::Messages([message]) => assert_eq!((message.role, message.content), (Role::System, "hello")),
        other => panic!("{other:?}"),
    });
    let single = PromptText::Text("hello".to_owned());
    single.with_prompt(|prompt| assert!(matches!(prompt, Prompt::Text("hello"))));
}
