use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::socket::TimestampedSocket;

/// The connection below HTTP: the socket, or TLS over it.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TimestampedSocket),
    /// Boxed because a session takes some hundred bytes, and most load tests do not use TLS.
    Tls(Box<TlsStream<TimestampedSocket>>),
}

impl Transport {
    pub(crate) fn socket(&self) -> &TimestampedSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session.get_ref().0,
        }
    }

    /// The number of bytes that were read into `buffer`; 0 at the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, &mut buffer),
            Self::Tls(session) => Pin::new(&mut **session).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Tls(session) => Pin::new(&mut **session).poll_write_vectored(cx, parts),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(session) => Pin::new(&mut **session).poll_flush(cx),
        }
    }
}
