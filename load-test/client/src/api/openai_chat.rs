//! OpenAI's chat completions, which most inference servers speak.

use super::{ApiDefinition, ApiName, openai};

pub(super) static DEFINITION: ApiDefinition = ApiDefinition {
    names: &[
        ApiName {
            name: "openai",
            llmperf: "openai",
            help: "OpenAI's chat completions: vLLM, TGI, LMDeploy, SGLang, llama.cpp and many others",
        },
        ApiName {
            name: "litellm",
            llmperf: "litellm",
            help: "A LiteLLM proxy, which speaks OpenAI's chat completions",
        },
    ],
    provider: &openai::PROVIDER,
    path: "chat/completions",
    key_header: openai::KEY_HEADER,
    headers: &[],
    body: |generation, wants_usage| {
        let mut body = openai::body(generation, wants_usage);
        body.insert("messages".into(), generation.prompt.messages(|_| true));
        body
    },
    decode_event: openai::decode,
    decode_document: openai::decode,
};
