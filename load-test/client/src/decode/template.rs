//! The short way through an event that differs from the one before in its text only.

use std::{borrow::Cow, str};

use crate::ContentKind;

/// The last event that was read in full and held one text and nothing else.
///
/// Most events of a stream are the same bytes around another text. JSON is read from left to right: what begins with the same
/// bytes up to the string, has a string there, and goes on with the same bytes after it, has the same fields. So this is no
/// guess, and where it does not hold the event is read in full.
#[derive(Debug, Default)]
pub(super) struct Template {
    event: Vec<u8>,
    /// Where the string's content begins and ends in `event`; its quotes are around that.
    text: (usize, usize),
    kind: Option<ContentKind>,
}

impl Template {
    /// Takes `event` as the example. `text` is the one text in it, and borrowed from it.
    pub(super) fn learn(&mut self, event: &[u8], text: &str, kind: ContentKind) {
        let start = text.as_ptr().addr() - event.as_ptr().addr();
        self.event.clear();
        self.event.extend_from_slice(event);
        self.text = (start, start + text.len());
        self.kind = Some(kind);
    }

    /// The text of `event`, where it has the example's bytes around it.
    pub(super) fn matched<'a>(&self, event: &'a [u8]) -> Option<(ContentKind, Cow<'a, str>)> {
        let kind = self.kind?;
        let (start, end) = self.text;
        let from_text = event.strip_prefix(&self.event[..start])?;
        let (length, escaped) = string_length(from_text)?;
        if from_text[length..] != self.event[end..] {
            return None;
        }
        let text = if escaped {
            // With its quotes it is a JSON string of its own.
            let quoted = &event[start - 1..start + length + 1];
            Cow::Owned(serde_json::from_slice(quoted).ok()?)
        } else {
            Cow::Borrowed(str::from_utf8(&from_text[..length]).ok()?)
        };
        Some((kind, text))
    }
}

/// How many bytes come before the quote that ends the string, and whether any of them is an escape. None for what JSON does
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
