//! Follows an answer and writes down what it says.

use precise_time::MonotonicTime;
use serde::de::Error;

use crate::{
    ContentKind, Exchange, Limits, Observer, Outcome, StreamError,
    arrival::Arrival,
    decode::{Decoded, Decoder, Found},
    excerpt::{error_message, excerpt_of_bytes, refusal_message},
    sse::{Event, Scanner, TooLong},
};

/// An answer with a status of 2xx.
pub(crate) struct Answer<'a, O> {
    decoder: Decoder,
    form: Form,
    max_body_bytes: usize,
    progress: Progress<'a, O>,
}

/// Which of the two an answer is shows its first byte, whatever was asked for and whatever its content type says: servers
/// send errors as a document where a stream was asked for, and streams as text/plain.
enum Form {
    Unknown { max_line_bytes: usize },
    Stream(Scanner),
    Document(Vec<u8>),
}

/// How far an answer has come.
struct Progress<'a, O> {
    record: &'a mut Exchange,
    observer: &'a mut O,
    is_ended: bool,
    /// The usage is not in the API's own words: those count, wherever they stand.
    is_usage_fallback: bool,
}

impl<'a, O: Observer> Answer<'a, O> {
    pub(crate) fn new(
        decoder: Decoder,
        limits: &Limits,
        record: &'a mut Exchange,
        observer: &'a mut O,
    ) -> Self {
        Self {
            decoder,
            form: Form::Unknown {
                max_line_bytes: limits.max_line_bytes,
            },
            max_body_bytes: limits.max_body_bytes,
            progress: Progress {
                record,
                observer,
                is_ended: false,
                is_usage_fallback: false,
            },
        }
    }

    /// Takes the next bytes of the body; `arrival` is that of the last of them.
    pub(crate) fn frame(&mut self, arrival: Arrival, bytes: &[u8]) -> Result<(), StreamError> {
        self.progress.record.bytes += bytes.len() as u64;
        if self.progress.record.bytes > self.max_body_bytes as u64 {
            let limit = self.max_body_bytes;
            return Err(StreamError::BodyTooLong { limit });
        }
        if let Form::Unknown { max_line_bytes } = self.form {
            self.form = match bytes.trim_ascii_start().first() {
                None => return Ok(()),
                // No field of an event stream begins like this, but JSON does, and the page of a proxy.
                Some(b'{' | b'[' | b'<') => Form::Document(Vec::new()),
                Some(_) => Form::Stream(Scanner::new(max_line_bytes)),
            };
        }
        let (decoder, progress) = (&mut self.decoder, &mut self.progress);
        match &mut self.form {
            Form::Unknown { .. } => Ok(()),
            Form::Stream(scanner) => scanner.push(bytes, |event| progress.event(decoder, arrival, event)),
            Form::Document(body) => {
                if body.len() + bytes.len() > self.max_body_bytes {
                    let limit = self.max_body_bytes;
                    return Err(StreamError::BodyTooLong { limit });
                }
                body.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Whether the API's own end has been seen: what comes now changes nothing.
    pub(crate) fn is_ended(&self) -> bool {
        self.progress.is_ended
    }

    /// Whether something of the answer is there.
    pub(crate) fn has_content(&self) -> bool {
        self.progress.record.first_content.is_some()
    }

    /// The body has ended as HTTP wants it, and that end came then.
    pub(crate) fn end(mut self, arrival: Arrival) -> Outcome {
        self.progress.record.closed = Some(arrival.at);
        let (decoder, progress) = (&mut self.decoder, &mut self.progress);
        let last = match self.form {
            Form::Unknown { .. } => Ok(()),
            Form::Stream(scanner) => scanner.finish(|event| progress.event(decoder, arrival, event)),
            Form::Document(body) => progress.document(decoder, arrival, &body),
        };
        match last {
            // What was cut off cannot be read; that it was cut off is the finding.
            Err(StreamError::Malformed { source, .. }) if source.is_eof() => Outcome::Truncated,
            Err(error) => Outcome::StreamError(error),
            Ok(()) if self.progress.has_end() => Outcome::Ok,
            Ok(()) => Outcome::Truncated,
        }
    }
}

impl<O: Observer> Progress<'_, O> {
    fn event(
        &mut self,
        decoder: &mut Decoder,
        arrival: Arrival,
        event: Event<'_>,
    ) -> Result<(), StreamError> {
        self.comes_behind(arrival);
        if event.name == b"error" {
            let message = refusal_message(event.data);
            return Err(StreamError::Reported { message });
        }
        match decoder
            .event(event.data)
            .map_err(|source| malformed(event.data, source))?
        {
            Decoded::Text(_, text) if text.is_empty() => Ok(()),
            Decoded::Text(kind, text) => {
                self.chunk(arrival);
                self.text(arrival.at, kind, &text);
                Ok(())
            }
            Decoded::Found(found) => self.found(arrival, *found),
        }
    }

    fn document(&mut self, decoder: &Decoder, arrival: Arrival, body: &[u8]) -> Result<(), StreamError> {
        let found = decoder.document(body).map_err(|source| malformed(body, source))?;
        if found.error.is_none() && !found.is_answer {
            let nothing = serde_json::Error::custom("neither an answer nor an error is in it");
            return Err(malformed(body, nothing));
        }
        // The document is whole: that is the end, with or without a reason.
        self.is_ended = true;
        self.found(arrival, found)
    }

    fn found(&mut self, arrival: Arrival, found: Found<'_>) -> Result<(), StreamError> {
        if !found.texts.is_empty() {
            self.chunk(arrival);
        }
        for (kind, text) in &found.texts {
            self.text(arrival.at, *kind, text);
        }
        if let Some(usage) = found.usage {
            let known = self.record.usage.filter(|_| !self.is_usage_fallback);
            self.record.usage = Some(known.unwrap_or_default().updated(usage));
            self.is_usage_fallback = false;
        } else if found.fallback_usage.is_some() && (self.record.usage.is_none() || self.is_usage_fallback) {
            self.record.usage = found.fallback_usage;
            self.is_usage_fallback = true;
        }
        if found.finish.is_some() {
            self.record.finish = found.finish;
        }
        if found.stamps.is_some() {
            self.record.server_stamps = found.stamps;
        }
        self.is_ended |= found.is_end;
        found.error.map_or(Ok(()), |error| {
            let message = error_message(&error);
            Err(StreamError::Reported { message })
        })
    }

    /// What came behind the first content before it was read hides when that had come.
    fn comes_behind(&mut self, arrival: Arrival) {
        if self.record.first_content == Some(arrival.at) {
            self.record.first_content_uncertainty = arrival.uncertainty();
        }
    }

    fn chunk(&mut self, arrival: Arrival) {
        let at = arrival.at;
        self.record.content_chunks += 1;
        if self.record.first_content.is_none() {
            self.record.first_content = Some(at);
            if !arrival.is_stamped {
                self.record.first_content_uncertainty = arrival.uncertainty();
            }
        }
        self.record.last_content = Some(at);
        self.observer.chunk(at);
    }

    fn text(&mut self, at: MonotonicTime, kind: ContentKind, text: &str) {
        match kind {
            ContentKind::Answer => {
                self.record.first_answer.get_or_insert(at);
            }
            ContentKind::Reasoning => self.record.has_reasoning = true,
            ContentKind::ToolCall => {}
        }
        self.observer.content(at, kind, text);
    }

    /// A stream may leave out its last mark, but then it has said why the model stopped.
    fn has_end(&self) -> bool {
        self.is_ended || self.record.finish.is_some()
    }
}

impl From<TooLong> for StreamError {
    fn from(TooLong { limit }: TooLong) -> Self {
        Self::EventTooLong { limit }
    }
}

fn malformed(bytes: &[u8], source: serde_json::Error) -> StreamError {
    let excerpt = excerpt_of_bytes(bytes);
    StreamError::Malformed { excerpt, source }
}
