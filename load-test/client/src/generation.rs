use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::Api;

/// What a model is asked for, whatever the API.
#[derive(Debug, Clone, Copy)]
pub struct Generation<'a> {
    /// The model, in the server's name for it.
    pub model: &'a str,
    /// What it continues or answers.
    pub prompt: Prompt<'a>,
    /// How many tokens it may answer with; `None` leaves it to the server (Anthropic's API demands a number and is sent
    /// 4096).
    pub max_tokens: Option<u32>,
    /// Whether the answer comes as a stream of events.
    pub stream: bool,
    /// Fields of the body as they are; they replace everything that is set here (LLMPerf's additional sampling parameters).
    pub sampling: &'a Map<String, Value>,
}

/// A text, or a conversation.
#[derive(Debug, Clone, Copy)]
pub enum Prompt<'a> {
    /// To a chat: one message of the user's.
    Text(&'a str),
    /// To an API without messages: their texts, with an empty line between two.
    Messages(&'a [Message<'a>]),
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: &'a str,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions. Anthropic's API has them beside the messages.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// What Anthropic's API, which demands a limit, is sent where none is asked for.
const ANTHROPIC_MAX_TOKENS: u32 = 4096;

impl Generation<'_> {
    pub(crate) fn encode(&self, api: Api, asks_for_stream_usage: bool) -> Bytes {
        let mut body = Map::new();
        body.insert("model".into(), self.model.into());
        body.insert("stream".into(), self.stream.into());
        match api {
            Api::OpenAiChat => {
                body.insert("messages".into(), self.prompt.messages(|_| true));
            }
            Api::OpenAiCompletions => {
                body.insert("prompt".into(), self.prompt.text(|_| true).into());
            }
            Api::AnthropicMessages => {
                let is_system = |role| role == Role::System;
                let system = self.prompt.text(is_system);
                if !system.is_empty() {
                    body.insert("system".into(), system.into());
                }
                body.insert("messages".into(), self.prompt.messages(|role| !is_system(role)));
            }
        }
        let is_anthropic = api == Api::AnthropicMessages;
        if self.stream && asks_for_stream_usage && !is_anthropic {
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
        let max_tokens = self.max_tokens.or(is_anthropic.then_some(ANTHROPIC_MAX_TOKENS));
        // The newer name of the same limit: servers refuse a request with both.
        if let Some(max_tokens) = max_tokens
            && !self.sampling.contains_key("max_completion_tokens")
        {
            body.insert("max_tokens".into(), max_tokens.into());
        }
        body.extend(self.sampling.clone());
        Bytes::from(Value::Object(body).to_string())
    }
}

impl Prompt<'_> {
    fn messages(&self, takes: impl Fn(Role) -> bool) -> Value {
        let message = |role: Role, content: &str| json!({"role": role.word(), "content": content});
        match self {
            Self::Text(text) => json!([message(Role::User, text)]),
            Self::Messages(messages) => {
                let taken = messages.iter().filter(|one| takes(one.role));
                taken.map(|one| message(one.role, one.content)).collect()
            }
        }
    }

    fn text(&self, takes: impl Fn(Role) -> bool) -> String {
        match self {
            Self::Text(text) => {
                if takes(Role::User) {
                    (*text).to_owned()
                } else {
                    String::new()
                }
            }
            Self::Messages(messages) => {
                let taken = messages.iter().filter(|one| takes(one.role));
                taken.map(|one| one.content).collect::<Vec<_>>().join("\n\n")
            }
        }
    }
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        serde_json::from_slice(&generation.encode(api, true)).unwrap()
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
    fn conversations_are_told_as_the_api_wants_them() {
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
    fn the_usage_is_asked_for_where_it_can_be() {
        let generation = Generation {
            model: "m",
            prompt: Prompt::Text("x"),
            max_tokens: None,
            stream: false,
            sampling: &Map::new(),
        };
        let asks = |generation: &Generation<'_>, asks| {
            let body = generation.encode(Api::OpenAiChat, asks);
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
}
