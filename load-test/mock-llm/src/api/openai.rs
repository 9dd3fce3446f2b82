//! What OpenAI's chat completions and completions have in common.

use serde_json::{Value, json};

use super::{FinishReason, ResponseFacts, event_writer::Stream};

pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": status.to_string()}})
}

pub(super) const fn finish_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// An event up to its choices.
pub(super) fn event_start(id_prefix: &str, object: &str, facts: &ResponseFacts) -> String {
    let ResponseFacts {
        number,
        created,
        model,
        ..
    } = facts;
    format!(
        r#"data: {{"id":"{id_prefix}-{number}","object":"{object}","created":{created},"model":{model},"choices":["#
    )
}

fn usage(facts: &ResponseFacts) -> String {
    let (input, output) = (facts.input_tokens, facts.output_tokens);
    let total = u64::from(input) + u64::from(output);
    format!(r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}"#)
}

/// `choice` holds the fields of the one choice beside its finish reason.
pub(super) fn whole_body(
    (id_prefix, object): (&str, &str),
    facts: &ResponseFacts,
    choice: &str,
    timestamps: &str,
) -> String {
    let ResponseFacts {
        number,
        created,
        model,
        ..
    } = facts;
    let finish = finish_word(facts.finish_reason);
    let usage = if facts.states_usage {
        usage(facts) + ","
    } else {
        String::new()
    };
    format!(
        r#"{{"id":"{id_prefix}-{number}","object":"{object}","created":{created},"model":{model},"choices":[{{"index":0,{choice},"finish_reason":"{finish}"}}],{usage}{timestamps}}}"#
    )
}

pub(super) fn empty_event(stream: &Stream) -> String {
    format!("{}]}}", stream.event_start)
}

/// `choice` holds the fields of the last event's choice beside its finish reason. The usage has an event of its own.
pub(super) fn closing(stream: &Stream, choice: &str, finish: &str, timestamps: &str) -> Vec<String> {
    let start = &stream.event_start;
    let last = format!(r#"{start}{{"index":0,{choice},"finish_reason":"{finish}"}}]"#);
    let done = "data: [DONE]".to_owned();
    if stream.facts.states_usage {
        let usage = usage(&stream.facts);
        vec![last + "}", format!("{start}],{usage},{timestamps}}}"), done]
    } else {
        vec![format!("{last},{timestamps}}}"), done]
    }
}
