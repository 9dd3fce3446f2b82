//! What the events and bodies of the three APIs say.

mod anthropic;
mod openai;
mod template;
mod text;

use std::borrow::Cow;

use precise_time::MonotonicTime;
use serde::Deserialize;
use serde_json::Value;

use self::{template::Template, text::Text};
use crate::{Api, ContentKind, Finish, ServerStamps, Usage};

/// Reads the events of one stream.
#[derive(Debug)]
pub(crate) struct Decoder {
    api: Api,
    template: Template,
}

/// What an event says.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// One text (it may be empty) and nothing else.
    Text(ContentKind, Cow<'a, str>),
    /// Anything.
    Found(Box<Found<'a>>),
}

/// Everything that is of interest in one event or body.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    /// The non-empty texts, in the order in which they are produced: reasoning before answer.
    pub(crate) texts: Vec<(ContentKind, Cow<'a, str>)>,
    pub(crate) usage: Option<Usage>,
    /// What stands in where there is no usage.
    pub(crate) fallback_usage: Option<Usage>,
    pub(crate) finish: Option<Finish>,
    pub(crate) stamps: Option<ServerStamps>,
    /// The API's own end of a stream.
    pub(crate) is_end: bool,
    /// A body that has an answer's fields.
    pub(crate) is_answer: bool,
    pub(crate) error: Option<Value>,
    /// More than the texts depends on a text: no example for others.
    ambiguous: bool,
}

impl Decoder {
    pub(crate) fn new(api: Api) -> Self {
        Self {
            api,
            template: Template::default(),
        }
    }

    /// Reads the data of an event.
    pub(crate) fn event<'a>(&mut self, data: &'a [u8]) -> serde_json::Result<Decoded<'a>> {
        if let Some((kind, text)) = self.template.matched(data) {
            return Ok(Decoded::Text(kind, text));
        }
        let found = self.event_in_full(data)?;
        if let Some((kind, text)) = found.only_text() {
            self.template.learn(data, text, kind);
        }
        Ok(Decoded::Found(Box::new(found)))
    }

    fn event_in_full<'a>(&self, data: &'a [u8]) -> serde_json::Result<Found<'a>> {
        let mut found = Found::default();
        if data.trim_ascii() == b"[DONE]" {
            found.is_end = true;
            return Ok(found);
        }
        match self.api {
            Api::OpenAiChat | Api::OpenAiCompletions => {
                serde_json::from_slice::<openai::Chunk<'_>>(data)?.found(&mut found);
            }
            Api::AnthropicMessages => {
                serde_json::from_slice::<anthropic::Event<'_>>(data)?.found(&mut found);
            }
        }
        Ok(found)
    }

    /// Reads a body that is one JSON document.
    pub(crate) fn document<'a>(&self, body: &'a [u8]) -> serde_json::Result<Found<'a>> {
        let mut found = Found::default();
        match self.api {
            Api::OpenAiChat | Api::OpenAiCompletions => {
                serde_json::from_slice::<openai::Chunk<'_>>(body)?.found(&mut found);
            }
            Api::AnthropicMessages => {
                serde_json::from_slice::<anthropic::Whole<'_>>(body)?.found(&mut found);
            }
        }
        Ok(found)
    }
}

impl<'a> Found<'a> {
    fn text(&mut self, kind: ContentKind, text: Text<'a>) {
        if !text.0.is_empty() {
            self.texts.push((kind, text.0));
        }
    }

    fn finish(&mut self, word: &str) {
        if !word.is_empty() {
            self.finish = Some(Finish::from_word(word));
        }
    }

    /// The text, where it is all that was found, and lies in the event as it is.
    fn only_text(&self) -> Option<(ContentKind, &'a str)> {
        let nothing_else = self.usage.is_none()
            && self.fallback_usage.is_none()
            && self.finish.is_none()
            && self.stamps.is_none()
            && self.error.is_none()
            && !self.is_end
            && !self.ambiguous;
        match self.texts.as_slice() {
            [(kind, Cow::Borrowed(text))] if nothing_else => Some((*kind, text)),
            _ => None,
        }
    }
}

/// The mock server's field, in nanoseconds of the monotonic clock.
#[derive(Deserialize)]
struct Stamps {
    received_ns: u64,
    first_token_due_ns: u64,
    first_token_written_ns: u64,
    last_token_due_ns: u64,
    last_token_written_ns: u64,
}

impl From<Stamps> for ServerStamps {
    fn from(stamps: Stamps) -> Self {
        Self {
            received: MonotonicTime::from_nanos(stamps.received_ns),
            first_token_due: MonotonicTime::from_nanos(stamps.first_token_due_ns),
            first_token_written: MonotonicTime::from_nanos(stamps.first_token_written_ns),
            last_token_due: MonotonicTime::from_nanos(stamps.last_token_due_ns),
            last_token_written: MonotonicTime::from_nanos(stamps.last_token_written_ns),
        }
    }
}

#[cfg(test)]
mod tests;
