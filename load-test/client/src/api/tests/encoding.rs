use serde_json::{Map, Value, json};

use crate::{Api, Generation, Message, Prompt, Role};

const CONVERSATION: [Message<'_>; 3] = [
    Message {
        role: Role::System,
        content: "Be brief.",
    },
    Message {
        role: Role::User,
        content: "Hi",
    },
    Message {
        role: Role::Assistant,
        content: "Hello",
    },
];

fn encoded(api: Api, prompt: Prompt<'_>, max_tokens: Option<u32>, sampling: &Value) -> Value {
    let generation = Generation {
        model: "m",
        prompt,
        max_tokens,
        stream: true,
        sampling: sampling.as_object().unwrap(),
    };
    serde_json::from_slice(&api.definition().encode(&generation, true)).unwrap()
}

#[test]
fn each_api_has_its_body() {
    let user = json!([{"role": "user", "content": "Hi \"you\""}]);
    let text = Prompt::Text("Hi \"you\"");
    let none = json!({});
    assert_eq!(
        encoded(Api::OpenAiChat, text, Some(7), &none),
        json!({"model": "m", "messages": user, "max_tokens": 7, "stream": true, "stream_options": {"include_usage": true}})
    );
    assert_eq!(
        encoded(Api::OpenAiCompletions, text, None, &none),
        json!({"model": "m", "prompt": "Hi \"you\"", "stream": true, "stream_options": {"include_usage": true}})
    );
    assert_eq!(
        encoded(Api::AnthropicMessages, text, None, &none),
        json!({"model": "m", "messages": user, "max_tokens": 4096, "stream": true})
    );
}

#[test]
fn conversations_have_the_form_of_the_api() {
    let prompt = Prompt::Messages(&CONVERSATION);
    let chat = encoded(Api::OpenAiChat, prompt, None, &json!({}));
    assert_eq!(
        chat["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"}
        ])
    );
    let message = encoded(Api::AnthropicMessages, prompt, None, &json!({}));
    assert_eq!(message["system"], "Be brief.");
    assert_eq!(message["messages"].as_array().unwrap().len(), 2);
    let completion = encoded(Api::OpenAiCompletions, prompt, None, &json!({}));
    assert_eq!(completion["prompt"], "Be brief.\n\nHi\n\nHello");
}

#[test]
fn sampling_parameters_replace_everything() {
    let sampling = json!({"max_tokens": 1, "model": "other", "stream_options": null, "temperature": 0.5});
    let body = encoded(Api::OpenAiChat, Prompt::Text("x"), Some(7), &sampling);
    for (field, value) in sampling.as_object().unwrap() {
        assert_eq!(&body[field], value);
    }
    let newer = json!({"max_completion_tokens": 9});
    let body = encoded(Api::OpenAiChat, Prompt::Text("x"), Some(7), &newer);
    assert_eq!(
        (&body["max_completion_tokens"], body.get("max_tokens")),
        (&json!(9), None)
    );
}

#[test]
fn the_usage_is_asked_for_in_streams_only() {
    let generation = Generation {
        model: "m",
        prompt: Prompt::Text("x"),
        max_tokens: None,
        stream: false,
        sampling: &Map::new(),
    };
    let asks = |generation: &Generation<'_>, asks| {
        let body = Api::OpenAiChat.definition().encode(generation, asks);
        serde_json::from_slice::<Value>(&body)
            .unwrap()
            .get("stream_options")
            .is_some()
    };
    assert!(!asks(&generation, true));
    let streamed = Generation {
        stream: true,
        ..generation
    };
    assert!(asks(&streamed, true) && !asks(&streamed, false));
}
