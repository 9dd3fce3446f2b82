use std::borrow::Cow;

use super::{Api, ApiDefinition, event_template::EventTemplate, response_data::ResponseData};
use crate::ContentKind;

/// OpenAI's mark of a stream's end. Some proxies send it after other APIs' streams too.
const DONE: &[u8] = b"[DONE]";

/// Reads the events of one stream, or one whole body.
pub(crate) struct EventDecoder {
    api: &'static ApiDefinition,
    template: EventTemplate,
}

/// What an event says.
#[derive(Debug)]
pub(crate) enum DecodedEvent<'a> {
    /// One text (it may be empty) and nothing else.
    Text(ContentKind, Cow<'a, str>),
    /// Anything.
    Full(Box<ResponseData<'a>>),
}

impl EventDecoder {
    pub(crate) fn new(api: Api) -> Self {
        Self {
            api: api.definition(),
            template: EventTemplate::default(),
        }
    }

    /// Reads the data of an event. An event that differs from the one before only in its text is not parsed again.
    pub(crate) fn event<'a>(&mut self, data: &'a [u8]) -> serde_json::Result<DecodedEvent<'a>> {
        if let Some((kind, text)) = self.template.text_of(data) {
            return Ok(DecodedEvent::Text(kind, text));
        }
        let decoded = self.parse_event(data)?;
        if let Some((kind, text)) = decoded.only_text() {
            self.template.learn(data, text, kind);
        }
        Ok(DecodedEvent::Full(Box::new(decoded)))
    }

    pub(super) fn parse_event<'a>(&self, data: &'a [u8]) -> serde_json::Result<ResponseData<'a>> {
        if data.trim_ascii() == DONE {
            return Ok(ResponseData {
                is_end: true,
                ..ResponseData::default()
            });
        }
        (self.api.decode_event)(data)
    }

    /// Reads a body that is one JSON document.
    pub(crate) fn document<'a>(&self, body: &'a [u8]) -> serde_json::Result<ResponseData<'a>> {
        (self.api.decode_document)(body)
    }
}
