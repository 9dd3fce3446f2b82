use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use precise_time::MonotonicTime;

use super::{
    http1::{BodyPiece, Framing, ResponseHead},
    receive_timestamp::ReceiveTimestamp,
    socket::SocketState,
    transport::Transport,
};
use crate::TransportError;

/// Reads of one connection before the task yields, so that one stream does not delay the others.
const READS_PER_POLL: u32 = 8;

/// The buffer that all connections of a thread read into, one after the other. A reader uses all bytes before another one reads.
#[derive(Debug, Clone)]
pub(crate) struct ReadBuffer(Rc<RefCell<Box<[u8]>>>);

impl ReadBuffer {
    /// As much as a socket on loopback holds; over a network a read returns some KiB.
    const BYTES: usize = 64 << 10;

    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0; Self::BYTES].into_boxed_slice())))
    }
}

/// One HTTP/1.1 connection, driven by the task of the request that it serves.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    buffer: ReadBuffer,
    _open: OpenConnectionGuard,
}

/// Writes a request.
struct RequestWriter<'a> {
    head: &'a [u8],
    body: &'a [u8],
    is_flushed: bool,
}

/// The beginning of a response.
#[derive(Debug)]
pub(crate) struct ResponseStart {
    pub(crate) head: ResponseHead,
    /// The bytes of the body that were received with the head.
    pub(crate) body_start: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(transport: Transport, buffer: ReadBuffer, open: OpenConnectionGuard) -> Self {
        Self {
            transport,
            buffer,
            _open: open,
        }
    }

    /// Whether an idle connection can be used: it is open and has no unexpected bytes.
    pub(crate) fn is_alive(&mut self) -> bool {
        match self.transport.socket().state() {
            SocketState::Empty => true,
            SocketState::Closed => false,
            // With TLS the bytes may be a session ticket, or the announcement that the server closes.
            SocketState::Readable => {
                let mut context = Context::from_waker(Waker::noop());
                matches!(self.transport, Transport::Tls(_))
                    && self.transport.poll_read(&mut context, &mut [0]).is_pending()
            }
        }
    }

    /// When the bytes of the last read were received.
    pub(crate) fn received(&self) -> ReceiveTimestamp {
        self.transport.socket().received()
    }

    /// When the first byte of the current request was written.
    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.transport.socket().first_write()
    }

    /// The first content of the response has been received.
    pub(crate) fn content_began(&self) {
        self.transport.socket().content_began();
    }

    /// Sends a request and waits for the head of its response. The response may begin before the whole request is sent, as a server need
    /// not read a long request that it refuses.
    ///
    /// Sets `sent` as soon as the first byte is written, so that it is known even if this future is dropped.
    pub(crate) async fn send(
        &mut self,
        head: &[u8],
        body: &Bytes,
        max_head_bytes: usize,
        sent: &mut Option<MonotonicTime>,
    ) -> Result<ResponseStart, TransportError> {
        self.transport.socket().begin();
        let mut writer = RequestWriter {
            head,
            body,
            is_flushed: false,
        };
        let mut write_error = None;
        let mut received = Vec::new();
        let response = poll_fn(|cx| {
            if write_error.is_none()
                && let Poll::Ready(Err(error)) = writer.poll(&mut self.transport, cx)
            {
                // A response that the server sent before it closed says more than this error.
                write_error = Some(error);
            }
            // Not after the response, which may never be received.
            *sent = self.first_write();
            loop {
                let head = ready!(self.poll_head(cx, &mut received, max_head_bytes));
                match head {
                    Ok(None) => {}
                    Ok(Some(mut response)) => {
                        response.head.keeps_alive &= writer.is_flushed;
                        return Poll::Ready(Ok::<_, TransportError>(response));
                    }
                    Err(error) => {
                        return Poll::Ready(Err(match write_error.take() {
                            Some(write_error) if received.is_empty() => write_error.into(),
                            _ => error,
                        }));
                    }
                }
            }
        })
        .await?;
        if response.head.is_success() && write_error.is_none() {
            // The server responds while it reads. After a refusal it would not read on.
            poll_fn(|cx| writer.poll(&mut self.transport, cx)).await?;
        }
        Ok(response)
    }

    /// Reads once. `None` where the head is incomplete.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        received: &mut Vec<u8>,
        max_head_bytes: usize,
    ) -> Poll<Result<Option<ResponseStart>, TransportError>> {
        let mut buffer = self.buffer.0.borrow_mut();
        let is_first = received.is_empty();
        let length = match ready!(self.transport.poll_read(cx, &mut buffer)) {
            Ok(0) if is_first => return Poll::Ready(Err(TransportError::ClosedUnanswered)),
            Err(error) if is_first => return Poll::Ready(Err(error.into())),
            // A response had begun. That it is incomplete is more useful than the reason.
            Ok(0) | Err(_) => return Poll::Ready(Err(TransportError::Incomplete)),
            Ok(length) => length,
        };
        // Usually one read returns the whole head, and no bytes are copied.
        let bytes = if is_first {
            &buffer[..length]
        } else {
            received.extend_from_slice(&buffer[..length]);
            received.as_slice()
        };
        let response = match ResponseHead::parse(bytes)? {
            Some((_, length)) if length > max_head_bytes => return too_long(max_head_bytes),
            Some((head, length)) => Some(ResponseStart {
                head,
                body_start: bytes[length..].to_vec(),
            }),
            None if bytes.len() >= max_head_bytes => return too_long(max_head_bytes),
            None => None,
        };
        if response.is_none() && is_first {
            received.extend_from_slice(&buffer[..length]);
        }
        Poll::Ready(Ok(response))
    }

    /// Reads the body and passes its pieces to `take`, until that reports something or the body ends.
    pub(crate) fn poll_body<T>(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
        mut take: impl FnMut(&mut Self, &[u8]) -> PieceResult<T>,
    ) -> Poll<BodyRead<T>> {
        let buffer = self.buffer.clone();
        let mut buffer = buffer.0.borrow_mut();
        for _ in 0..READS_PER_POLL {
            let length = match ready!(self.transport.poll_read(cx, &mut buffer)) {
                Ok(length) => length,
                Err(error) => return Poll::Ready(BodyRead::Failed(error.into())),
            };
            let bytes = &buffer[..length];
            if bytes.is_empty() {
                return Poll::Ready(if framing.may_end() {
                    BodyRead::Ended { is_clean: false }
                } else {
                    BodyRead::Failed(TransportError::Incomplete)
                });
            }
            if let Some(body) = self.take_pieces(framing, bytes, &mut take) {
                return Poll::Ready(body);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes the pieces in `bytes` to `take`, like [`Self::poll_body`]. `None` where neither reports something nor ends the body.
    pub(crate) fn take_pieces<T>(
        &mut self,
        framing: &mut Framing,
        mut bytes: &[u8],
        take: &mut impl FnMut(&mut Self, &[u8]) -> PieceResult<T>,
    ) -> Option<BodyRead<T>> {
        let mut reported = None;
        loop {
            match framing.next(&mut bytes) {
                Ok(BodyPiece::NeedsInput) => return reported.map(BodyRead::Reported),
                Ok(BodyPiece::End) => {
                    let is_clean = bytes.is_empty();
                    return Some(BodyRead::Ended { is_clean });
                }
                Ok(BodyPiece::Data(data)) => match take(self, data) {
                    PieceResult::Continue => {}
                    PieceResult::ReportAfterRead(value) => reported = Some(value),
                    PieceResult::ReportNow(value) => return Some(BodyRead::Reported(value)),
                },
                Err(error) => return Some(BodyRead::Failed(error)),
            }
        }
    }
}

/// What to do after a piece of a body.
pub(crate) enum PieceResult<T> {
    Continue,
    /// Report the value before the next read. The remaining pieces of this read are taken first, as they may end the body.
    ReportAfterRead(T),
    /// Report the value at once.
    ReportNow(T),
}

/// The result of reading a body.
pub(crate) enum BodyRead<T> {
    /// The value of a [`PieceResult`]; the body continues.
    Reported(T),
    Ended {
        /// The connection is open, and no bytes follow the body.
        is_clean: bool,
    },
    Failed(TransportError),
}

fn too_long<T>(limit: usize) -> Poll<Result<T, TransportError>> {
    Poll::Ready(Err(TransportError::HeadTooLong { limit }))
}

impl RequestWriter<'_> {
    fn poll(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !(self.head.is_empty() && self.body.is_empty()) {
            let parts = [IoSlice::new(self.head), IoSlice::new(self.body)];
            let written = ready!(transport.poll_write(cx, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let from_head = written.min(self.head.len());
            self.head = &self.head[from_head..];
            self.body = &self.body[written - from_head..];
        }
        if !self.is_flushed {
            ready!(transport.poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub(crate) struct OpenConnectionGuard(Rc<Cell<usize>>);

impl OpenConnectionGuard {
    pub(crate) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for OpenConnectionGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
