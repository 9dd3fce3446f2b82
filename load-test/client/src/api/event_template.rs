use std::{borrow::Cow, str};

use crate::ContentKind;

/// The last event that was parsed and held one text and nothing else. It reads events that differ only in the text, without
/// parsing them.
///
/// Most events of a stream have the same bytes around the text. JSON is read from left to right: an event that begins with the same
/// bytes up to the string, has a string there, and continues with the same bytes has the same fields. So the result is exact,
/// and every other event is parsed.
#[derive(Debug, Default)]
pub(super) struct EventTemplate {
    event: Vec<u8>,
    /// Where the text begins and ends in `event`, without its quotes.
    text: (usize, usize),
    kind: Option<ContentKind>,
}

impl EventTemplate {
    /// Makes `event` the template. `text` is its only text and must be borrowed from it.
    pub(super) fn learn(&mut self, event: &[u8], text: &str, kind: ContentKind) {
        let start = text.as_ptr().addr() - event.as_ptr().addr();
        self.event.clear();
        self.event.extend_from_slice(event);
        self.text = (start, start + text.len());
        self.kind = Some(kind);
    }

    /// The text of `event`, where the bytes around it equal the template's.
    pub(super) fn text_of<'a>(&self, event: &'a [u8]) -> Option<(ContentKind, Cow<'a, str>)> {
        let kind = self.kind?;
        let (start, end) = self.text;
        let from_text = event.strip_prefix(&self.event[..start])?;
        let (length, escaped) = string_length(from_text)?;
        if from_text[length..] != self.event[end..] {
            return None;
        }
        let text = if escaped {
            // With its quotes the text is a JSON string.
            let quoted = &event[start - 1..start + length + 1];
            Cow::Owned(serde_json::from_slice(quoted).ok()?)
        } else {
            Cow::Borrowed(str::from_utf8(&from_text[..length]).ok()?)
        };
        Some((kind, text))
    }
}

/// The number of bytes before the quote that ends the string, and whether they contain an escape. `None` for bytes that JSON does
/// not allow in a string.
fn string_length(from_text: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut escaped) = (0, false);
    loop {
        at += from_text[at..]
            .iter()
            .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
        match from_text[at] {
            b'"' => return Some((at, escaped)),
            b'\\' if at + 2 <= from_text.len() => {
                escaped = true;
                at += 2;
            }
            _ => return None,
        }
    }
}
