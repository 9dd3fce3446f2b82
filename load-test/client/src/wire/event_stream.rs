//! Event streams of the HTML standard (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). LLM APIs use the fields
//! `data` and `event`; `id`, `retry` and comments are ignored.

use std::mem;

/// One event: its name (may be empty) and its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEvent<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// A line, or the data of an event, is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) limit: usize,
}

/// Splits a stream, which arrives in pieces of any size, into events. An event whose data is one line within one piece is borrowed from
/// the piece; only lines that the end of a piece splits are copied.
#[derive(Debug)]
pub(crate) struct EventScanner {
    limit: usize,
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    event: IncompleteEvent,
    /// The last piece ended with CR; an LF at the beginning of the next belongs to the same line end.
    after_cr: bool,
    /// No line has ended yet. The first line may begin with a byte order mark.
    at_start: bool,
}

/// The fields of an event whose blank line has not been received.
#[derive(Debug, Default)]
struct IncompleteEvent {
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

/// Data of the incomplete event that is in the current piece and not yet copied.
type BorrowedData<'a> = Option<&'a [u8]>;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl EventScanner {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: IncompleteEvent::default(),
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes the next piece and passes every event that it completes to `on_event`.
    pub(crate) fn push<E: From<TooLong>>(
        &mut self,
        mut piece: &[u8],
        mut on_event: impl FnMut(StreamEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if mem::take(&mut self.after_cr) {
            if piece.is_empty() {
                self.after_cr = true;
            }
            piece = piece.strip_prefix(b"\n").unwrap_or(piece);
        }
        let mut borrowed = None;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', piece) {
            let (line, rest) = (&piece[..end], &piece[end..]);
            piece = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                rest => &rest[1..],
            };
            self.line_ended(line, &mut borrowed, &mut on_event)?;
        }
        if self.line.len() + piece.len() > self.limit {
            return Err(TooLong { limit: self.limit }.into());
        }
        self.line.extend_from_slice(piece);
        self.event.keep(borrowed);
        Ok(())
    }

    /// Ends the stream. An event without its blank line is passed to `on_event` too. The standard would drop it, but servers leave out
    /// the last blank line, and the end of the HTTP message shows that nothing is missing.
    pub(crate) fn finish<E: From<TooLong>>(
        mut self,
        mut on_event: impl FnMut(StreamEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut borrowed = None;
        let last = mem::take(&mut self.line);
        if !last.is_empty() {
            self.line_ended(&last, &mut borrowed, &mut on_event)?;
        }
        self.line_ended(b"", &mut borrowed, &mut on_event)
    }

    fn line_ended<'a, E: From<TooLong>>(
        &mut self,
        end: &'a [u8],
        borrowed: &mut BorrowedData<'a>,
        on_event: &mut impl FnMut(StreamEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.line.len() + end.len() > self.limit {
            return Err(TooLong { limit: self.limit }.into());
        }
        let at_start = mem::take(&mut self.at_start);
        if self.line.is_empty() {
            let line = without_mark(end, at_start);
            if line.is_empty() {
                return self.event.dispatch(borrowed, on_event);
            }
            return self
                .event
                .field(line, borrowed, Some, self.limit)
                .map_err(E::from);
        }
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(end);
        let whole = without_mark(&line, at_start);
        let done = if whole.is_empty() {
            self.event.dispatch(borrowed, on_event)
        } else {
            self.event
                .field(whole, borrowed, |_| None, self.limit)
                .map_err(E::from)
        };
        // Keeps the allocation for the next line that a piece's end splits.
        line.clear();
        self.line = line;
        done
    }
}

impl IncompleteEvent {
    /// Adds a line to the event. `lend` returns the value where it lives as long as the piece, so that it need not be copied.
    fn field<'a, 'l>(
        &mut self,
        line: &'l [u8],
        borrowed: &mut BorrowedData<'a>,
        lend: impl FnOnce(&'l [u8]) -> Option<&'a [u8]>,
        limit: usize,
    ) -> Result<(), TooLong> {
        let colon = memchr::memchr(b':', line);
        let (field, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.data(value, borrowed, lend(value), limit),
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn data<'a>(
        &mut self,
        value: &[u8],
        borrowed: &mut BorrowedData<'a>,
        lent: BorrowedData<'a>,
        limit: usize,
    ) -> Result<(), TooLong> {
        if !self.has_data {
            self.has_data = true;
            match lent {
                Some(lent) => *borrowed = Some(lent),
                None => self.data.extend_from_slice(value),
            }
            return Ok(());
        }
        self.keep(borrowed.take());
        if self.data.len() + 1 + value.len() > limit {
            return Err(TooLong { limit });
        }
        self.data.push(b'\n');
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn keep(&mut self, borrowed: BorrowedData<'_>) {
        if let Some(data) = borrowed {
            self.data.extend_from_slice(data);
        }
    }

    fn dispatch<E>(
        &mut self,
        borrowed: &mut BorrowedData<'_>,
        on_event: &mut impl FnMut(StreamEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let data = borrowed.take().unwrap_or(&self.data);
        // The standard ignores events without data.
        let done = if data.is_empty() {
            Ok(())
        } else {
            on_event(StreamEvent {
                name: &self.name,
                data,
            })
        };
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        done
    }
}

fn without_mark(line: &[u8], at_start: bool) -> &[u8] {
    if at_start {
        line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
    } else {
        line
    }
}

#[cfg(test)]
mod tests;
