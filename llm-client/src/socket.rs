//! A socket that tells when its bytes came and went.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use precise_time::MonotonicTime;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::arrival::{Arrival, Reader};

/// The TCP socket. TLS is above it: the stamps are those of the socket's reads and writes.
#[derive(Debug)]
pub(crate) struct Stamped {
    socket: TcpStream,
    reader: Reader,
    arrival: Arrival,
    first_write: Option<MonotonicTime>,
    awaits_content: bool,
}

impl Stamped {
    /// Of a socket that was connected just now.
    pub(crate) fn new(socket: TcpStream, reader: Reader) -> Self {
        Self {
            socket,
            reader,
            arrival: Arrival::read_now(),
            first_write: None,
            awaits_content: false,
        }
    }

    /// A new request begins.
    pub(crate) fn begin(&mut self) {
        self.first_write = None;
        self.awaits_content = true;
    }

    /// When what was read last had come; the end of the stream is read too.
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Just before the first byte since [`Self::begin`] was written.
    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.first_write
    }

    /// The first content is there: the stamps from now on make up gaps and an end, but no TTFT.
    pub(crate) fn content_began(&mut self) {
        self.awaits_content = false;
    }

    /// What the kernel has for the next read. It is asked and not tokio, which knows only what its reactor has seen: that runs between two
    /// tasks.
    pub(crate) fn pending(&self) -> Pending {
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(&self.socket).peek(&mut byte) {
            Ok(0) => Pending::Closed,
            Ok(_) => Pending::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pending::Nothing,
            Err(_) => Pending::Closed,
        }
    }

    fn writes(&mut self) {
        if self.first_write.is_none() {
            self.first_write = Some(MonotonicTime::now());
        }
    }

    /// What is read now came after that.
    fn earliest(&self) -> MonotonicTime {
        let before = self.arrival.at;
        self.first_write.map_or(before, |sent| sent.max(before))
    }

    /// How long bytes may have waited before their stamp is looked at twice, which costs a system call.
    fn patience(&self) -> Duration {
        const OF_TTFT: Duration = Duration::from_millis(1);
        const OF_GAPS: Duration = Duration::from_millis(20);
        if self.awaits_content { OF_TTFT } else { OF_GAPS }
    }
}

/// What a socket has that nobody has asked for yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    Nothing,
    Bytes,
    Closed,
}

impl AsyncRead for Stamped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (earliest, patience) = (self.earliest(), self.patience());
        let this = &mut *self;
        this.arrival = ready!(
            this.reader
                .poll_read(&this.socket, cx, buffer, earliest, patience)
        )?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes();
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes();
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Stamped),
    /// Boxed: a session is some hundred bytes, and most load tests have none.
    Tls(Box<TlsStream<Stamped>>),
}

impl Transport {
    pub(crate) fn socket(&self) -> &Stamped {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session.get_ref().0,
        }
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Stamped {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session.get_mut().0,
        }
    }

    /// Bytes read into `buffer`; 0 at the end of the stream.
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
