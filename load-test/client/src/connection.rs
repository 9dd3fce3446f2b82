//! One HTTP/1.1 connection, driven by the task of the request that it serves.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use precise_time::MonotonicTime;

use crate::{
    arrival::Arrival,
    http1::{Framing, Head, Piece, TransportError},
    socket::Pending,
    transport::Transport,
};

/// Reads of one connection before others get their turn: what one stream may delay the stamps of the others by.
const READS_PER_TURN: u32 = 8;

/// The buffer that all connections of a thread read into, one after the other: whoever reads takes all out of it before anyone else does.
#[derive(Debug, Clone)]
pub(crate) struct ReadBuffer(Rc<RefCell<Box<[u8]>>>);

impl ReadBuffer {
    /// As much as a socket on loopback takes at once; over a network a read brings some KiB.
    const BYTES: usize = 64 << 10;

    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0; Self::BYTES].into_boxed_slice())))
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    buffer: ReadBuffer,
    _open: Open,
}

/// A request on its way.
struct Sending<'a> {
    head: &'a [u8],
    body: &'a [u8],
    is_flushed: bool,
}

/// The beginning of an answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: Head,
    /// What of the body came with the head.
    pub(crate) rest: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(transport: Transport, buffer: ReadBuffer, open: Open) -> Self {
        Self {
            transport,
            buffer,
            _open: open,
        }
    }

    /// Whether it is still open after a rest, and nothing has come that nobody asked for.
    pub(crate) fn is_alive(&mut self) -> bool {
        match self.transport.socket().pending() {
            Pending::Nothing => true,
            Pending::Closed => false,
            // TLS sends tickets for later sessions whenever it likes, and says that it closes.
            Pending::Bytes => {
                let mut nobody = Context::from_waker(Waker::noop());
                matches!(self.transport, Transport::Tls(_))
                    && self.transport.poll_read(&mut nobody, &mut [0]).is_pending()
            }
        }
    }

    pub(crate) fn arrival(&self) -> Arrival {
        self.transport.socket().arrival()
    }

    /// When the first byte of the current request was written.
    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.transport.socket().first_write()
    }

    /// The first content of the answer is there.
    pub(crate) fn content_began(&self) {
        self.transport.socket().content_began();
    }

    /// Sends a request and waits for the head of its answer, which may come before all of the request is sent: whoever refuses a long one
    /// need not read it.
    ///
    /// `sent` is told as soon as it is known.
    pub(crate) async fn ask(
        &mut self,
        head: &[u8],
        body: &Bytes,
        max_head_bytes: usize,
        sent: &mut Option<MonotonicTime>,
    ) -> Result<Answered, TransportError> {
        self.transport.socket().begin();
        let mut sending = Sending {
            head,
            body,
            is_flushed: false,
        };
        let mut unsent = None;
        let mut received = Vec::new();
        let answered = poll_fn(|cx| {
            if unsent.is_none()
                && let Poll::Ready(Err(error)) = sending.poll(&mut self.transport, cx)
            {
                // What the server said before it closed is more than that it has closed.
                unsent = Some(error);
            }
            // Here and not after the answer: it may never come.
            *sent = self.first_write();
            loop {
                let answered = ready!(self.poll_head(cx, &mut received, max_head_bytes));
                match answered {
                    Ok(None) => {}
                    Ok(Some(mut answered)) => {
                        answered.head.keeps_alive &= sending.is_flushed;
                        return Poll::Ready(Ok::<_, TransportError>(answered));
                    }
                    Err(error) => {
                        return Poll::Ready(Err(match unsent.take() {
                            Some(unsent) if received.is_empty() => unsent.into(),
                            _ => error,
                        }));
                    }
                }
            }
        })
        .await?;
        if (200..300).contains(&answered.head.status) && unsent.is_none() {
            // It answers while it reads; whoever refuses does not read on.
            poll_fn(|cx| sending.poll(&mut self.transport, cx)).await?;
        }
        Ok(answered)
    }

    /// Reads once. `None` where more of the head is missing.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut Vec<u8>,
        max_head_bytes: usize,
    ) -> Poll<Result<Option<Answered>, TransportError>> {
        let mut buffer = self.buffer.0.borrow_mut();
        let is_first = received.is_empty();
        let length = match ready!(self.transport.poll_read(cx, &mut buffer)) {
            Ok(0) if is_first => return Poll::Ready(Err(TransportError::ClosedUnanswered)),
            Err(error) if is_first => return Poll::Ready(Err(error.into())),
            // It had begun to answer: that it broke off says more than how.
            Ok(0) | Err(_) => return Poll::Ready(Err(TransportError::Incomplete)),
            Ok(length) => length,
        };
        // As a rule all of the head comes at once, and nothing is copied.
        let bytes = if is_first {
            &buffer[..length]
        } else {
            received.extend_from_slice(&buffer[..length]);
            received.as_slice()
        };
        let answered = match Head::parse(bytes)? {
            Some((_, length)) if length > max_head_bytes => return too_long(max_head_bytes),
            Some((head, length)) => Some(Answered {
                head,
                rest: bytes[length..].to_vec(),
            }),
            None if bytes.len() >= max_head_bytes => return too_long(max_head_bytes),
            None => None,
        };
        if answered.is_none() && is_first {
            received.extend_from_slice(&buffer[..length]);
        }
        Poll::Ready(Ok(answered))
    }

    /// Reads the body and gives what comes to `take`, until that has something to say or the body is over.
    pub(crate) fn poll_body<T>(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
        mut take: impl FnMut(&mut Self, &[u8]) -> Said<T>,
    ) -> Poll<Body<T>> {
        let buffer = self.buffer.clone();
        let mut buffer = buffer.0.borrow_mut();
        for _ in 0..READS_PER_TURN {
            let length = match ready!(self.transport.poll_read(cx, &mut buffer)) {
                Ok(length) => length,
                Err(error) => return Poll::Ready(Body::Broken(error.into())),
            };
            let bytes = &buffer[..length];
            if bytes.is_empty() {
                return Poll::Ready(if framing.may_end() {
                    Body::Over { is_clean: false }
                } else {
                    Body::Broken(TransportError::Incomplete)
                });
            }
            if let Some(body) = self.pieces(framing, bytes, &mut take) {
                return Poll::Ready(body);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The same of bytes that were read before.
    pub(crate) fn pieces<T>(
        &mut self,
        framing: &mut Framing,
        mut bytes: &[u8],
        take: &mut impl FnMut(&mut Self, &[u8]) -> Said<T>,
    ) -> Option<Body<T>> {
        let mut taken = None;
        loop {
            match framing.next(&mut bytes) {
                Ok(Piece::More) => return taken.map(Body::Taken),
                Ok(Piece::End) => {
                    let is_clean = bytes.is_empty();
                    return Some(Body::Over { is_clean });
                }
                Ok(Piece::Data(data)) => match take(self, data) {
                    Said::Nothing => {}
                    Said::Noted(value) => taken = Some(value),
                    Said::Enough(value) => return Some(Body::Taken(value)),
                },
                Err(error) => return Some(Body::Broken(error)),
            }
        }
    }
}

/// What who takes a body has to say to a piece of it.
pub(crate) enum Said<T> {
    Nothing,
    /// To be told before the next read; what else this one brought is looked at before: it may be the body's end.
    Noted(T),
    /// To be told at once.
    Enough(T),
}

/// What has become of a body.
pub(crate) enum Body<T> {
    /// It goes on, and `take` said this.
    Taken(T),
    /// It has ended.
    Over {
        /// Nothing came behind it, and the connection is still there.
        is_clean: bool,
    },
    /// It will not end.
    Broken(TransportError),
}

fn too_long<T>(limit: usize) -> Poll<Result<T, TransportError>> {
    Poll::Ready(Err(TransportError::HeadTooLong { limit }))
}

impl Sending<'_> {
    fn poll(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !(self.head.is_empty() && self.body.is_empty()) {
            let parts = [IoSlice::new(self.head), IoSlice::new(self.body)];
            let written = ready!(transport.poll_write(cx, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(self.head.len());
            self.head = &self.head[of_head..];
            self.body = &self.body[written - of_head..];
        }
        if !self.is_flushed {
            ready!(transport.poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
pub(crate) struct Open(Rc<Cell<usize>>);

impl Open {
    pub(crate) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
