use std::iter::once;

use precise_time::MonotonicTime;

use super::{Ending, Next, Output, Plan};
use crate::{
    api::{EventWriter, Stamps},
    deadlines::Deadlines,
    http::{END_OF_CHUNKS, chunk, stream_head},
    stats::Mark,
    text::Text,
};

/// The most that one write carries, in bytes: a stream that is far behind does not hold up the others.
const BATCH: usize = 64 * 1024;

/// A stream as it should be: every event in an HTTP chunk of its own, all that is due in one write.
#[derive(Debug)]
pub(crate) struct Streamed {
    events: EventWriter,
    text: Text,
    tokens_per_chunk: u32,
    deadlines: Deadlines,
    stamps: Stamps,
    keep_alive: bool,
    /// The next token's index.
    next: u32,
    end: u32,
    /// In place of the closing events.
    error: Option<&'static str>,
    has_begun: bool,
    /// The end of a stall that this answer ran into late.
    held_until: Option<MonotonicTime>,
}

impl Streamed {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            end: plan.about.output_tokens,
            events: EventWriter::new(plan.about),
            text: plan.text,
            tokens_per_chunk: plan.tokens_per_chunk,
            deadlines: plan.deadlines,
            stamps: Stamps::new(plan.received),
            keep_alive: plan.keep_alive,
            next: 0,
            error: None,
            has_begun: false,
            held_until: None,
        }
    }

    /// Lets it end halfway with an error event.
    pub(crate) fn failing(mut self, message: &'static str) -> Self {
        self.end = self.end.div_ceil(2);
        self.error = Some(message);
        self
    }

    /// Lets it go on until the client has gone.
    pub(crate) fn endless(mut self) -> Self {
        self.end = u32::MAX;
        self
    }

    pub(super) fn advance(&mut self, now: MonotonicTime, output: &mut Output) -> Next {
        if let Some(end) = self.deadlines.end_of_stall(now) {
            self.held_until = Some(end);
            return Next::At(end);
        }
        if !self.has_begun {
            self.has_begun = true;
            output.bytes.extend_from_slice(stream_head(self.keep_alive));
            self.events.opening(|event| push_event(&mut output.bytes, event));
        }
        let is_first = self.next == 0;
        while self.next < self.end {
            let mark = self.next_mark();
            if mark.due > now || output.bytes.len() >= BATCH {
                self.written(is_first, output);
                // Not before now: a stream that is far behind goes to the end of what is due.
                return Next::At(mark.due.max(now));
            }
            self.push_tokens(mark, &mut output.bytes);
            output.marks.push(mark);
        }
        self.written(is_first, output);
        match self.error {
            None => self
                .events
                .closing(&self.stamps, |event| push_event(&mut output.bytes, event)),
            Some(message) => push_event(&mut output.bytes, &self.events.error(message)),
        }
        output.bytes.extend_from_slice(END_OF_CHUNKS);
        Next::Finished(if self.keep_alive {
            Ending::KeepAlive
        } else {
            Ending::Close
        })
    }

    fn next_mark(&self) -> Mark {
        let (due, is_stalled) = self.deadlines.next();
        let held = self.held_until.filter(|until| *until > due);
        Mark {
            due: held.unwrap_or(due),
            tokens: self.tokens_per_chunk.min(self.end - self.next),
            is_first: self.next == 0,
            is_stalled: is_stalled || held.is_some(),
        }
    }

    fn push_tokens(&mut self, mark: Mark, bytes: &mut Vec<u8>) {
        let (before, after) = self.events.around_text();
        let texts = (self.next..self.next + mark.tokens).map(|index| self.text.token(index).as_bytes());
        let parts = once(before)
            .chain(texts)
            .chain(once(after))
            .chain(once(&b"\n\n"[..]));
        chunk(bytes, parts);
        self.next += mark.tokens;
        self.deadlines.advance(self.tokens_per_chunk);
    }

    /// All tokens that are due are rendered: the write is next.
    fn written(&mut self, is_first: bool, output: &mut Output) {
        let at = MonotonicTime::now();
        output.at = Some(at);
        if let (true, Some(first)) = (is_first, output.marks.first()) {
            self.stamps.first(first.due, at);
        }
        if let Some(last) = output.marks.last() {
            self.stamps.last(last.due, at);
        }
    }
}

fn push_event(bytes: &mut Vec<u8>, event: &str) {
    chunk(bytes, [event.as_bytes(), b"\n\n"].into_iter());
}
