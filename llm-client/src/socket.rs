//! A socket that tells when its bytes came and went.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use precise_time::MonotonicTime;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// What a connection and its socket tell each other. The connection's future owns the socket, hence this beside it.
#[derive(Debug)]
pub(crate) struct Gauge {
    /// Whom the socket wakes, whatever waker it is polled with. None until the connection is driven: then it is polled by
    /// the TLS handshake, with the right one.
    task: RefCell<Option<Waker>>,
    may_read: Cell<bool>,
    was_refused: Cell<bool>,
    last_read: Cell<MonotonicTime>,
    first_write: Cell<Option<MonotonicTime>>,
    reads: Cell<u32>,
    /// The next read asks the kernel, and not tokio, whether the peer has closed.
    probes: Cell<bool>,
}

impl Gauge {
    /// The gauge of a socket that was connected just now.
    pub(crate) fn new() -> Self {
        Self {
            task: RefCell::default(),
            may_read: Cell::default(),
            was_refused: Cell::default(),
            last_read: Cell::new(MonotonicTime::now()),
            first_write: Cell::default(),
            reads: Cell::default(),
            probes: Cell::default(),
        }
    }

    /// From now on `waker` is woken.
    pub(crate) fn wakes(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// Nobody waits for this socket any more: its last task's memory can go.
    pub(crate) fn wakes_nobody(&self) {
        *self.task.borrow_mut() = None;
    }

    /// Allows one successful read. A second one has to wait until this is called again.
    pub(crate) fn allow_read(&self) {
        self.may_read.set(true);
        self.was_refused.set(false);
    }

    /// The next read notices a peer that has closed even where tokio has not heard of it yet.
    pub(crate) fn probe(&self) {
        self.probes.set(true);
    }

    /// Whether a read was asked for that was not allowed.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused.get()
    }

    /// When the last read returned; the end of the stream is read too.
    pub(crate) fn last_read(&self) -> MonotonicTime {
        self.last_read.get()
    }

    /// Successful reads since this was last called.
    pub(crate) fn take_reads(&self) -> u32 {
        self.reads.take()
    }

    pub(crate) fn reads(&self) -> u32 {
        self.reads.get()
    }

    /// Just before the first byte since [`Gauge::begin`] was written.
    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.first_write.get()
    }

    /// A new request begins.
    pub(crate) fn begin(&self) {
        self.first_write.set(None);
    }

    fn writes(&self) {
        if self.first_write.get().is_none() {
            self.first_write.set(Some(MonotonicTime::now()));
        }
    }
}

/// The TCP socket. TLS is above it: the stamps are those of the socket's reads and writes.
#[derive(Debug)]
pub(crate) struct Stamped {
    socket: TcpStream,
    gauge: Rc<Gauge>,
}

impl Stamped {
    pub(crate) fn new(socket: TcpStream, gauge: Rc<Gauge>) -> Self {
        Self { socket, gauge }
    }

    /// Polls with the waker of the task that drives the connection, if there is one.
    fn poll<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>, &Gauge) -> T,
    ) -> T {
        let this = self.get_mut();
        let task = this.gauge.task.borrow();
        let socket = Pin::new(&mut this.socket);
        match task.as_ref() {
            Some(task) => poll(socket, &mut Context::from_waker(task), &this.gauge),
            None => poll(socket, cx, &this.gauge),
        }
    }
}

impl AsyncRead for Stamped {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_driven = self.gauge.task.borrow().is_some();
        if is_driven && !self.gauge.may_read.get() {
            self.gauge.was_refused.set(true);
            return Poll::Pending;
        }
        self.poll(cx, |socket, cx, gauge| {
            let is_closed = gauge.probes.take() && is_closed(&socket);
            let read = if is_closed {
                Poll::Ready(Ok(()))
            } else {
                socket.poll_read(cx, buffer)
            };
            if let Poll::Ready(Ok(())) = read {
                gauge.last_read.set(MonotonicTime::now());
                gauge.reads.set(gauge.reads.get() + 1);
                gauge.may_read.set(false);
            }
            read
        })
    }
}

/// Whether nothing is left to be read but the end. Tokio reads only what its reactor has seen, which runs between two tasks.
fn is_closed(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    match SockRef::from(socket).peek(&mut byte) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |socket, cx, gauge| {
            gauge.writes();
            socket.poll_write(cx, bytes)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |socket, cx, gauge| {
            gauge.writes();
            socket.poll_write_vectored(cx, parts)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |socket, cx, _| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |socket, cx, _| socket.poll_shutdown(cx))
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Stamped),
    /// Boxed: a session is some hundred bytes, and most load tests have none.
    Tls(Box<TlsStream<Stamped>>),
}

/// One line for both transports.
macro_rules! delegate {
    ($self:ident, $transport:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Plain(socket) => {
                let $transport = Pin::new(socket);
                $call
            }
            Transport::Tls(session) => {
                let $transport = Pin::new(&mut **session);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, transport => transport.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, transport => transport.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, transport => transport.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(session) => session.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, transport => transport.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, transport => transport.poll_shutdown(cx))
    }
}
