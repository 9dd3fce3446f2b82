//! Event streams, as the HTML standard has them (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), for
//! what LLM APIs use of them: `data` and `event`; `id`, `retry` and comments are passed over.

use std::mem;

/// One event: its name (empty where it has none) and its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// A line, or the data of an event, is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) limit: usize,
}

/// Cuts a stream into events, whatever pieces it comes in. An event whose line of data lies within one piece is handed out
/// where it lies; only what is cut by the end of a piece is copied.
#[derive(Debug)]
pub(crate) struct Scanner {
    limit: usize,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    event: Pending,
    /// The last piece ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line has ended yet: the first may begin with a byte order mark.
    at_start: bool,
}

/// The fields of the event whose blank line has not come yet.
#[derive(Debug, Default)]
struct Pending {
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

/// Data of the pending event that lie in the current piece, not yet copied.
type Borrowed<'a> = Option<&'a [u8]>;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Scanner {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: Pending::default(),
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes the next piece and hands out every event that it completes.
    pub(crate) fn push<E: From<TooLong>>(
        &mut self,
        mut piece: &[u8],
        mut on_event: impl FnMut(Event<'_>) -> Result<(), E>,
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

    /// The stream has ended; hands out the event whose blank line is missing, if there is one. The standard would drop it,
    /// but servers leave out the last blank line, and the message around the stream shows that nothing is missing.
    pub(crate) fn finish<E: From<TooLong>>(
        mut self,
        mut on_event: impl FnMut(Event<'_>) -> Result<(), E>,
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
        borrowed: &mut Borrowed<'a>,
        on_event: &mut impl FnMut(Event<'_>) -> Result<(), E>,
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
        // The next line that is cut finds the memory again.
        line.clear();
        self.line = line;
        done
    }
}

impl Pending {
    /// `lend` tells whether the line lives as long as the piece, so that its data need no copy.
    fn field<'a, 'l>(
        &mut self,
        line: &'l [u8],
        borrowed: &mut Borrowed<'a>,
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
        borrowed: &mut Borrowed<'a>,
        lent: Borrowed<'a>,
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

    fn keep(&mut self, borrowed: Borrowed<'_>) {
        if let Some(data) = borrowed {
            self.data.extend_from_slice(data);
        }
    }

    fn dispatch<E>(
        &mut self,
        borrowed: &mut Borrowed<'_>,
        on_event: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let data = borrowed.take().unwrap_or(&self.data);
        // The standard: an event without data is none.
        let done = if data.is_empty() {
            Ok(())
        } else {
            on_event(Event {
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
