//! OpenAI's older completions: the model continues a text.

use super::{ApiDefinition, ApiName, openai};

pub(super) static DEFINITION: ApiDefinition = ApiDefinition {
    names: &[ApiName {
        name: "openai-completions",
        llmperf: "openai",
        help: "OpenAI's older completions",
    }],
    provider: &openai::PROVIDER,
    path: "completions",
    key_header: openai::KEY_HEADER,
    headers: &[],
    body: |generation, wants_usage| {
        let mut body = openai::body(generation, wants_usage);
        body.insert("prompt".into(), generation.prompt.text(|_| true).into());
        body
    },
    decode_event: openai::decode,
    decode_document: openai::decode,
};
