use std::iter::once;

use precise_time::MonotonicTime;

use super::{ConnectionFate, NextStep, OutputBuffer, ResponsePlan};
use crate::{
    api::{DeltaKind, EventWriter, TokenTimestamps},
    deadlines::Deadlines,
    http::{END_OF_CHUNKS, chunk, stream_head},
    stats::WrittenTokens,
    text::Text,
};

/// The limit of one write, in bytes, so that a stream that is far behind does not delay the others.
const BATCH: usize = 64 * 1024;

/// A well-behaved stream: every event is an HTTP chunk of its own, and everything that is due goes into one write.
#[derive(Debug)]
pub(crate) struct StreamedResponse {
    events: EventWriter,
    text: Text,
    tokens_per_chunk: u32,
    deadlines: Deadlines,
    timestamps: TokenTimestamps,
    keep_alive: bool,
    /// The next token's index.
    next: u32,
    end: u32,
    /// The message of the error event that replaces the closing events.
    error: Option<&'static str>,
    has_begun: bool,
    /// The end of a stall during which this response was advanced.
    held_until: Option<MonotonicTime>,
}

impl StreamedResponse {
    pub(crate) fn new(plan: ResponsePlan) -> Self {
        Self {
            end: plan.facts.output_tokens,
            events: EventWriter::new(plan.facts, DeltaKind::Content),
            text: plan.text,
            tokens_per_chunk: plan.tokens_per_chunk,
            deadlines: plan.deadlines,
            timestamps: TokenTimestamps::new(plan.received),
            keep_alive: plan.keep_alive,
            next: 0,
            error: None,
            has_begun: false,
            held_until: None,
        }
    }

    /// Makes the stream end halfway with an error event.
    pub(crate) fn failing(mut self, message: &'static str) -> Self {
        self.end = self.end.div_ceil(2);
        self.error = Some(message);
        self
    }

    /// Makes the stream continue until the client closes the connection.
    pub(crate) fn endless(mut self) -> Self {
        self.end = u32::MAX;
        self
    }

    pub(super) fn advance(&mut self, now: MonotonicTime, output: &mut OutputBuffer) -> NextStep {
        if let Some(end) = self.deadlines.end_of_stall(now) {
            self.held_until = Some(end);
            return NextStep::At(end);
        }
        if !self.has_begun {
            self.has_begun = true;
            output.bytes.extend_from_slice(stream_head(self.keep_alive));
            push_events(&mut output.bytes, &self.events.opening());
        }
        let is_first = self.next == 0;
        while self.next < self.end {
            let tokens = self.next_tokens();
            if tokens.due > now || output.bytes.len() >= BATCH {
                self.record_times(is_first, output);
                // Not before now, so that a stream that is far behind goes to the end of the queue.
                return NextStep::At(tokens.due.max(now));
            }
            self.push_tokens(tokens, &mut output.bytes);
            output.tokens.push(tokens);
        }
        self.record_times(is_first, output);
        match self.error {
            None => push_events(&mut output.bytes, &self.events.closing(&self.timestamps)),
            Some(message) => push_events(&mut output.bytes, &[self.events.error_event(message)]),
        }
        output.bytes.extend_from_slice(END_OF_CHUNKS);
        NextStep::Finished(ConnectionFate::orderly(self.keep_alive))
    }

    fn next_tokens(&self) -> WrittenTokens {
        let (due, is_stalled) = self.deadlines.next();
        let held = self.held_until.filter(|until| *until > due);
        WrittenTokens {
            due: held.unwrap_or(due),
            tokens: self.tokens_per_chunk.min(self.end - self.next),
            is_first: self.next == 0,
            is_stalled: is_stalled || held.is_some(),
        }
    }

    fn push_tokens(&mut self, tokens: WrittenTokens, bytes: &mut Vec<u8>) {
        let (before, after) = self.events.around_text();
        let texts = (self.next..self.next + tokens.tokens).map(|index| self.text.token(index).as_bytes());
        let parts = once(before)
            .chain(texts)
            .chain(once(after))
            .chain(once(&b"\n\n"[..]));
        chunk(bytes, parts);
        self.next += tokens.tokens;
        self.deadlines.advance(self.tokens_per_chunk);
    }

    /// Records the time at which all due tokens are rendered, just before the write.
    fn record_times(&mut self, is_first: bool, output: &mut OutputBuffer) {
        let at = MonotonicTime::now();
        output.at = Some(at);
        if let (true, Some(first)) = (is_first, output.tokens.first()) {
            self.timestamps.set_first(first.due, at);
        }
        if let Some(last) = output.tokens.last() {
            self.timestamps.set_last(last.due, at);
        }
    }
}

fn push_events(bytes: &mut Vec<u8>, events: &[String]) {
    for event in events {
        chunk(bytes, [event.as_bytes(), b"\n\n"].into_iter());
    }
}
