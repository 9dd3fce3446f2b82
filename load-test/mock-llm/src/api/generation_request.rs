use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::Api;
use crate::number_words;

/// What a request asks the server to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GenerationRequest {
    pub model: String,
    pub is_stream: bool,
    pub includes_usage: bool,
    pub max_tokens: Option<u32>,
    /// The number of words in all texts, or of token ids in a prompt that consists of them.
    pub input_tokens: u32,
    /// The number that LLMPerf's correctness test asks for.
    pub number: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    model: String,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    messages: Option<Prompt>,
    prompt: Option<Prompt>,
    system: Option<Prompt>,
}

/// The fields that may hold the prompt, depending on the API.
pub(crate) struct Prompts {
    pub messages: Option<Prompt>,
    pub prompt: Option<Prompt>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl GenerationRequest {
    /// Reads a body. Errors say which field was wrong, what was found and what is expected.
    pub(crate) fn parse(api: &dyn Api, body: &[u8]) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
        let prompts = Prompts {
            messages: body.messages,
            prompt: body.prompt,
        };
        let (name, prompt) = api.prompt(prompts);
        let prompt = prompt.ok_or_else(|| format!("{name}: missing"))?;
        let max_tokens = body.max_completion_tokens.or(body.max_tokens);
        if max_tokens == Some(0) {
            return Err("max_tokens: found 0, expected 1 or more".to_owned());
        }
        if api.requires_max_tokens() && max_tokens.is_none() {
            return Err("max_tokens: missing".to_owned());
        }
        let system = body.system.unwrap_or_default();
        Ok(Self {
            model: body.model,
            is_stream: body.stream.unwrap_or_default(),
            includes_usage: body.stream_options.is_some_and(|options| options.include_usage),
            max_tokens,
            input_tokens: prompt.tokens.saturating_add(system.tokens),
            number: prompt.number,
        })
    }
}

/// The size of a prompt, counted while it is read: a string, a list of parts, messages with contents, or token ids.
#[derive(Debug, Default)]
pub(crate) struct Prompt {
    tokens: u32,
    number: Option<u64>,
}

impl Prompt {
    fn add(&mut self, other: &Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.number = other.number.or(self.number);
    }
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = Prompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, token ids, messages or parts of one")
    }

    fn visit_str<E>(self, text: &str) -> Result<Prompt, E> {
        Ok(Prompt {
            tokens: u32::try_from(text.split_ascii_whitespace().count()).unwrap_or(u32::MAX),
            number: number_words::asked_for(text),
        })
    }

    fn visit_u64<E>(self, _token: u64) -> Result<Prompt, E> {
        Ok(Prompt {
            tokens: 1,
            number: None,
        })
    }

    fn visit_unit<E>(self) -> Result<Prompt, E> {
        Ok(Prompt::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Prompt, A::Error> {
        let mut all = Prompt::default();
        while let Some(part) = parts.next_element::<Prompt>()? {
            all.add(&part);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Prompt, A::Error> {
        let mut all = Prompt::default();
        while let Some(field) = fields.next_key::<Field>()? {
            match field {
                Field::Text => all.add(&fields.next_value()?),
                Field::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(all)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    #[serde(alias = "content")]
    Text,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::{
        super::{OpenAiChat, anthropic::AnthropicMessages, openai_completions::OpenAiCompletions},
        *,
    };

    fn read(api: &dyn Api, body: &str) -> GenerationRequest {
        GenerationRequest::parse(api, body.as_bytes()).unwrap()
    }

    #[test]
    fn input_tokens_are_the_words_of_all_texts() {
        let chat = r#"{"model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 7,
            "messages": [{"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a b\n c"}, {"type": "image_url", "image_url": {"url": "x y"}}]},
                {"role": "assistant", "content": null}]}"#;
        let expected = GenerationRequest {
            model: "m".to_owned(),
            is_stream: true,
            includes_usage: true,
            max_tokens: Some(7),
            input_tokens: 5,
            number: None,
        };
        assert_eq!(read(&OpenAiChat, chat), expected);
        assert_eq!(
            read(&OpenAiCompletions, r#"{"prompt": [1, 2, 3]}"#).input_tokens,
            3
        );
        assert_eq!(
            read(&OpenAiCompletions, r#"{"prompt": "one two"}"#).input_tokens,
            2
        );
        let messages = r#"{"system": [{"type": "text", "text": "a"}], "max_tokens": 1, "messages": [{"role": "user", "content": "b c"}]}"#;
        assert_eq!(read(&AnthropicMessages, messages).input_tokens, 3);
    }

    #[test]
    fn the_newer_limit_wins_and_the_question_is_found() {
        let question = r#"{"max_tokens": 9, "max_completion_tokens": 4, "messages": [{"role": "user", "content":
            "Convert the following sequence of words into a number: forty-two.\nPrint the number first."}]}"#;
        let request = read(&OpenAiChat, question);
        assert_eq!((request.max_tokens, request.number), (Some(4), Some(42)));
    }

    #[test]
    fn an_error_names_the_field() {
        let cases: [(&dyn Api, &str, &str); 5] = [
            (&OpenAiChat, "{}", "messages: missing"),
            (&OpenAiCompletions, r#"{"messages": []}"#, "prompt: missing"),
            (&AnthropicMessages, r#"{"messages": []}"#, "max_tokens: missing"),
            (
                &OpenAiChat,
                r#"{"messages": [], "max_tokens": 0}"#,
                "max_tokens: found 0, expected 1 or more",
            ),
            (
                &OpenAiChat,
                "{",
                "the body: EOF while parsing an object at line 1 column 1",
            ),
        ];
        for (api, body, expected) in cases {
            assert_eq!(
                GenerationRequest::parse(api, body.as_bytes()).unwrap_err(),
                expected
            );
        }
    }
}
