use precise_time::MonotonicTime;
use serde::de::Error;

use crate::{
    ContentKind, Exchange, Limits, Observer, Outcome, StreamError,
    api::{DecodedEvent, EventDecoder, ResponseData},
    excerpt::{error_message, excerpt_of_bytes, refusal_message},
    wire::{EventScanner, ReceiveTimestamp, StreamEvent, TooLong},
};

/// Reads the body of a response of status 2xx, and records in an [`Exchange`] what it says and when.
pub(crate) struct ResponseRecorder<'a, O> {
    decoder: EventDecoder,
    form: BodyForm,
    max_body_bytes: usize,
    exchange: ExchangeUpdater<'a, O>,
}

/// The form of a body. Its first byte decides, not what was asked for or the content type: servers send errors as a document where a
/// stream was asked for, and streams as text/plain.
enum BodyForm {
    Unknown { max_line_bytes: usize },
    Stream(EventScanner),
    Document(Vec<u8>),
}

/// Adds decoded data to an exchange, and passes its texts to the observer.
struct ExchangeUpdater<'a, O> {
    record: &'a mut Exchange,
    observer: &'a mut O,
    is_ended: bool,
    /// The recorded usage is the server's fallback; the API's own usage replaces it whenever it is received.
    is_usage_fallback: bool,
}

impl<'a, O: Observer> ResponseRecorder<'a, O> {
    pub(crate) fn new(
        decoder: EventDecoder,
        limits: &Limits,
        record: &'a mut Exchange,
        observer: &'a mut O,
    ) -> Self {
        Self {
            decoder,
            form: BodyForm::Unknown {
                max_line_bytes: limits.max_line_bytes,
            },
            max_body_bytes: limits.max_body_bytes,
            exchange: ExchangeUpdater {
                record,
                observer,
                is_ended: false,
                is_usage_fallback: false,
            },
        }
    }

    /// Takes the next bytes of the body; the last of them was received at `received`.
    pub(crate) fn push(&mut self, received: ReceiveTimestamp, bytes: &[u8]) -> Result<(), StreamError> {
        self.exchange.record.bytes += bytes.len() as u64;
        if self.exchange.record.bytes > self.max_body_bytes as u64 {
            let limit = self.max_body_bytes;
            return Err(StreamError::BodyTooLong { limit });
        }
        if let BodyForm::Unknown { max_line_bytes } = self.form {
            self.form = match bytes.trim_ascii_start().first() {
                None => return Ok(()),
                // JSON and HTML (the error page of a proxy) begin like this, but no field of an event stream does.
                Some(b'{' | b'[' | b'<') => BodyForm::Document(Vec::new()),
                Some(_) => BodyForm::Stream(EventScanner::new(max_line_bytes)),
            };
        }
        let (decoder, exchange) = (&mut self.decoder, &mut self.exchange);
        match &mut self.form {
            BodyForm::Unknown { .. } => Ok(()),
            BodyForm::Stream(scanner) => {
                scanner.push(bytes, |event| exchange.event(decoder, received, event))
            }
            BodyForm::Document(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Whether the API's own end has been received: later bytes change nothing.
    pub(crate) fn is_ended(&self) -> bool {
        self.exchange.is_ended
    }

    /// Whether content has been received.
    pub(crate) fn has_content(&self) -> bool {
        self.exchange.record.first_content.is_some()
    }

    /// The HTTP message has ended; `received` is the time of its end.
    pub(crate) fn end(mut self, received: ReceiveTimestamp) -> Outcome {
        self.exchange.record.closed = Some(received.at);
        let (decoder, exchange) = (&mut self.decoder, &mut self.exchange);
        let last = match self.form {
            BodyForm::Unknown { .. } => Ok(()),
            BodyForm::Stream(scanner) => scanner.finish(|event| exchange.event(decoder, received, event)),
            BodyForm::Document(body) => exchange.document(decoder, received, &body),
        };
        match last {
            // JSON that is cut off cannot be parsed; that it was cut off is the more useful outcome.
            Err(StreamError::Malformed { source, .. }) if source.is_eof() => Outcome::Truncated,
            Err(error) => Outcome::StreamError(error),
            Ok(()) if self.exchange.has_end() => Outcome::Ok,
            Ok(()) => Outcome::Truncated,
        }
    }
}

impl<O: Observer> ExchangeUpdater<'_, O> {
    fn event(
        &mut self,
        decoder: &mut EventDecoder,
        received: ReceiveTimestamp,
        event: StreamEvent<'_>,
    ) -> Result<(), StreamError> {
        self.update_uncertainty(received);
        if event.name == b"error" {
            let message = refusal_message(event.data);
            return Err(StreamError::Reported { message });
        }
        match decoder
            .event(event.data)
            .map_err(|source| malformed(event.data, source))?
        {
            DecodedEvent::Text(_, text) if text.is_empty() => Ok(()),
            DecodedEvent::Text(kind, text) => {
                self.chunk(received);
                self.text(received.at, kind, &text);
                Ok(())
            }
            DecodedEvent::Full(data) => self.data(received, *data),
        }
    }

    fn document(
        &mut self,
        decoder: &EventDecoder,
        received: ReceiveTimestamp,
        body: &[u8],
    ) -> Result<(), StreamError> {
        let data = decoder.document(body).map_err(|source| malformed(body, source))?;
        if data.error.is_none() && !data.is_generation {
            let nothing = serde_json::Error::custom("neither an answer nor an error is in it");
            return Err(malformed(body, nothing));
        }
        // A complete document is an end, whether it has a finish reason or not.
        self.is_ended = true;
        self.data(received, data)
    }

    fn data(&mut self, received: ReceiveTimestamp, data: ResponseData<'_>) -> Result<(), StreamError> {
        if !data.texts.is_empty() {
            self.chunk(received);
        }
        for (kind, text) in &data.texts {
            self.text(received.at, *kind, text);
        }
        if let Some(usage) = data.usage {
            let known = self.record.usage.filter(|_| !self.is_usage_fallback);
            self.record.usage = Some(known.unwrap_or_default().updated(usage));
            self.is_usage_fallback = false;
        } else if data.fallback_usage.is_some() && (self.record.usage.is_none() || self.is_usage_fallback) {
            self.record.usage = data.fallback_usage;
            self.is_usage_fallback = true;
        }
        if data.finish_reason.is_some() {
            self.record.finish_reason = data.finish_reason;
        }
        if data.server_timestamps.is_some() {
            self.record.server_timestamps = data.server_timestamps;
        }
        self.is_ended |= data.is_end;
        data.error.map_or(Ok(()), |error| {
            let message = error_message(&error);
            Err(StreamError::Reported { message })
        })
    }

    /// Bytes that were received together with the first content share its timestamp, which is that of the last of them. So the first
    /// content may have been received earlier.
    fn update_uncertainty(&mut self, received: ReceiveTimestamp) {
        if self.record.first_content == Some(received.at) {
            self.record.first_content_uncertainty = received.uncertainty();
        }
    }

    fn chunk(&mut self, received: ReceiveTimestamp) {
        let at = received.at;
        self.record.content_chunks += 1;
        if self.record.first_content.is_none() {
            self.record.first_content = Some(at);
            if !received.is_from_kernel {
                self.record.first_content_uncertainty = received.uncertainty();
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

    /// A stream may leave out its end mark after a finish reason.
    fn has_end(&self) -> bool {
        self.is_ended || self.record.finish_reason.is_some()
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
