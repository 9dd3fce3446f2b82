use super::{About, Api, Stamps};

/// The body of an answer that is no stream. `text` needs no escapes.
pub(crate) fn whole_body(about: &About, text: &str, stamps: &Stamps) -> String {
    let About {
        api,
        number,
        created,
        model,
        input_tokens,
        output_tokens,
        finish,
        states_usage,
    } = about;
    let (finish, mock_llm) = (finish.name(*api), stamps.field());
    let total = u64::from(*input_tokens) + u64::from(*output_tokens);
    let usage = match (states_usage, api) {
        (false, _) => String::new(),
        (true, Api::Messages) => {
            format!(r#""usage":{{"input_tokens":{input_tokens},"output_tokens":{output_tokens}}},"#)
        }
        (true, Api::Chat | Api::Completions) => format!(
            r#""usage":{{"prompt_tokens":{input_tokens},"completion_tokens":{output_tokens},"total_tokens":{total}}},"#
        ),
    };
    match api {
        Api::Chat => format!(
            r#"{{"id":"chatcmpl-{number}","object":"chat.completion","created":{created},"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"{finish}"}}],{usage}{mock_llm}}}"#
        ),
        Api::Completions => format!(
            r#"{{"id":"cmpl-{number}","object":"text_completion","created":{created},"model":{model},"choices":[{{"index":0,"text":"{text}","logprobs":null,"finish_reason":"{finish}"}}],{usage}{mock_llm}}}"#
        ),
        Api::Messages => format!(
            r#"{{"id":"msg_{number}","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":"{text}"}}],"stop_reason":"{finish}","stop_sequence":null,{usage}{mock_llm}}}"#
        ),
    }
}
