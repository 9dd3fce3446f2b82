use std::borrow::Cow;

use serde_json::Value;

use super::json_text::JsonText;
use crate::{ContentKind, FinishReason, ServerTimestamps, Usage};

/// Everything of interest that one event of a stream, or one whole body, holds.
#[derive(Debug, Default)]
pub(crate) struct ResponseData<'a> {
    /// The non-empty texts, in the order in which the model produces them: reasoning before answer.
    pub(crate) texts: Vec<(ContentKind, Cow<'a, str>)>,
    pub(crate) usage: Option<Usage>,
    /// Counts of the server's own making, used where it sends no usage.
    pub(crate) fallback_usage: Option<Usage>,
    pub(crate) finish_reason: Option<FinishReason>,
    pub(crate) server_timestamps: Option<ServerTimestamps>,
    /// The API's own end of a stream.
    pub(crate) is_end: bool,
    /// A body with the fields of a generated response, as opposed to any other JSON.
    pub(crate) is_generation: bool,
    pub(crate) error: Option<Value>,
    /// Which fields are read depends on the value of a text, so the event is no template for others.
    pub(crate) is_no_template: bool,
}

impl<'a> ResponseData<'a> {
    pub(super) fn push_text(&mut self, kind: ContentKind, text: JsonText<'a>) {
        if !text.0.is_empty() {
            self.texts.push((kind, text.0));
        }
    }

    /// Records a finish reason in the server's word; the empty word is none.
    pub(super) fn finish(&mut self, word: &str) {
        if !word.is_empty() {
            self.finish_reason = Some(FinishReason::from_word(word));
        }
    }

    /// The text, where the event holds nothing else and the text is borrowed from the event.
    pub(super) fn only_text(&self) -> Option<(ContentKind, &'a str)> {
        let has_nothing_else = self.usage.is_none()
            && self.fallback_usage.is_none()
            && self.finish_reason.is_none()
            && self.server_timestamps.is_none()
            && self.error.is_none()
            && !self.is_end
            && !self.is_no_template;
        match self.texts.as_slice() {
            [(kind, Cow::Borrowed(text))] if has_nothing_else => Some((*kind, text)),
            _ => None,
        }
    }
}
