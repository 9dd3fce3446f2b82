use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use precise_time::MonotonicTime;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::{
    first_content_poller::FirstContentPoller, receive_timestamp::ReceiveTimestamp,
    socket_receiver::SocketReceiver,
};

/// A TCP socket that records when its bytes were received and when a request was written. With TLS, these are the times of the encrypted
/// bytes.
#[derive(Debug)]
pub(crate) struct TimestampedSocket {
    receiver: Rc<SocketReceiver>,
    first_contents: FirstContentPoller,
    received: ReceiveTimestamp,
}

impl TimestampedSocket {
    /// Wraps a socket that was connected just now.
    pub(crate) fn new(socket: TcpStream, first_contents: FirstContentPoller) -> Self {
        Self {
            receiver: Rc::new(SocketReceiver::new(socket)),
            first_contents,
            received: ReceiveTimestamp::read_now(),
        }
    }

    /// Begins a new request.
    pub(crate) fn begin(&self) {
        self.receiver.first_write.set(None);
        if !self.receiver.awaits_content.replace(true) {
            self.first_contents.add(&self.receiver);
        }
    }

    /// When the bytes of the last read were received. Reading the end of the stream counts too.
    pub(crate) fn received(&self) -> ReceiveTimestamp {
        self.received
    }

    /// When the first byte since [`Self::begin`] was about to be written.
    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.receiver.first_write.get()
    }

    /// Ends the wait for the first content: later timestamps do not affect the TTFT.
    pub(crate) fn content_began(&self) {
        if self.receiver.awaits_content.replace(false) {
            self.first_contents.remove(&self.receiver);
            *self.receiver.waker.borrow_mut() = None;
        }
    }

    /// What the next read would find. Asks the kernel, because tokio's reactor runs only between two tasks and may not know yet.
    pub(crate) fn state(&self) -> SocketState {
        if let Some(early) = self.receiver.early.borrow().front() {
            return if early.bytes.is_ok() {
                SocketState::Readable
            } else {
                SocketState::Closed
            };
        }
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(&self.receiver.socket).peek(&mut byte) {
            Ok(0) => SocketState::Closed,
            Ok(_) => SocketState::Readable,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SocketState::Empty,
            // A socket with any other error cannot be used.
            Err(_) => SocketState::Closed,
        }
    }

    fn record_first_write(&self) {
        if self.receiver.first_write.get().is_none() {
            self.receiver.first_write.set(Some(MonotonicTime::now()));
        }
    }

    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<ReceiveTimestamp>> {
        let Self {
            receiver,
            first_contents,
            ..
        } = self;
        if let Some(early) = receiver.take_early(buffer) {
            // Many first contents in a row must not delay the poll for the next ones.
            first_contents.poll_if_due(MonotonicTime::now());
            return Poll::Ready(early);
        }
        loop {
            if receiver.socket.poll_read_ready(cx)?.is_pending() {
                if receiver.is_polled.get() {
                    *receiver.waker.borrow_mut() = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            let capacity = buffer.remaining();
            let receive = || receiver.receive(first_contents.clock(), buffer);
            let mut received = match receiver.socket.try_io(Interest::READABLE, receive) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let left = buffer.remaining();
            if 0 < left && left < capacity {
                // The socket is empty. Clearing tokio's readiness, as its own read does, saves the system call that would find this out;
                // epoll reports the next bytes.
                let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = receiver.socket.try_io(Interest::READABLE, empty);
            }
            if receiver.is_polled.get() {
                received = received.with_empty_at(first_contents.empty_at());
            }
            first_contents.poll_if_due(received.read_at);
            return Poll::Ready(Ok(received));
        }
    }
}

impl Drop for TimestampedSocket {
    fn drop(&mut self) {
        self.content_began();
    }
}

/// What a read of a socket would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketState {
    Empty,
    Readable,
    Closed,
}

impl AsyncRead for TimestampedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.received = ready!(self.poll_receive(cx, buffer))?;
        Poll::Ready(Ok(()))
    }
}

/// Writes through `&TcpStream`, because the socket is shared.
impl AsyncWrite for TimestampedSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.record_first_write();
        loop {
            ready!(self.receiver.socket.poll_write_ready(cx))?;
            match self.receiver.socket.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.receiver.socket).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use std::{future::poll_fn, io::Write, net::TcpListener, thread::sleep, time::Duration};

    use test_patience::{until, until_blocking};

    use super::*;

    /// More than the poller's interval.
    const A_WHILE: Duration = Duration::from_millis(2);

    /// The kernel's timestamps begin a moment after the first socket has asked for them.
    async fn timestamped_pair(poller: &FirstContentPoller) -> (TimestampedSocket, std::net::TcpStream) {
        let (mut socket, mut peer) = pair(poller).await;
        until("a timestamp of the kernel", async || {
            peer.write_all(b"?").unwrap();
            read(&mut socket).await.1.is_from_kernel
        })
        .await;
        (socket, peer)
    }

    /// Writes, then waits until the socket has `unread` bytes and the poller's interval has passed.
    fn arrive(peer: &mut std::net::TcpStream, bytes: &[u8], socket: &TimestampedSocket, unread: usize) {
        peer.write_all(bytes).unwrap();
        until_blocking("bytes in the socket", || {
            let mut room = [MaybeUninit::uninit(); 16];
            SockRef::from(&socket.receiver.socket)
                .peek(&mut room)
                .is_ok_and(|there| there == unread)
        });
        sleep(A_WHILE);
    }

    async fn pair(poller: &FirstContentPoller) -> (TimestampedSocket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (
            TimestampedSocket::new(socket, poller.clone()),
            listener.accept().unwrap().0,
        )
    }

    async fn read(socket: &mut TimestampedSocket) -> (Vec<u8>, ReceiveTimestamp) {
        let mut room = [0; 16];
        let mut buffer = ReadBuf::new(&mut room);
        poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut buffer))
            .await
            .unwrap();
        (buffer.filled().to_vec(), socket.received())
    }

    #[tokio::test]
    async fn bytes_that_are_read_early_have_their_own_timestamp() {
        let poller = FirstContentPoller::new();
        let (mut socket, mut peer) = timestamped_pair(&poller).await;
        socket.begin();
        arrive(&mut peer, b"a", &socket, 1);
        poller.poll_if_due(MonotonicTime::now());
        let between = MonotonicTime::now();
        arrive(&mut peer, b"b", &socket, 1);
        let (first, second) = (read(&mut socket).await, read(&mut socket).await);
        assert_eq!((&*first.0, &*second.0), (&b"a"[..], &b"b"[..]));
        assert!(
            first.1.is_from_kernel && first.1.at < between && between < second.1.at,
            "{first:?} {between:?} {second:?}"
        );
        // The second bytes were received after the poll.
        assert!(second.1.earliest >= first.1.at);
    }

    #[tokio::test]
    async fn a_socket_with_its_first_content_is_not_polled() {
        let poller = FirstContentPoller::new();
        let (mut socket, mut peer) = pair(&poller).await;
        socket.begin();
        socket.content_began();
        arrive(&mut peer, b"a", &socket, 1);
        poller.poll_if_due(MonotonicTime::now());
        arrive(&mut peer, b"b", &socket, 2);
        assert_eq!(read(&mut socket).await.0, b"ab");
    }

    /// Only the task reads the end.
    #[tokio::test]
    async fn an_end_is_not_read_early() {
        let poller = FirstContentPoller::new();
        let (mut socket, mut peer) = pair(&poller).await;
        socket.begin();
        arrive(&mut peer, b"a", &socket, 1);
        drop(peer);
        poller.poll_if_due(MonotonicTime::now());
        sleep(A_WHILE);
        poller.poll_if_due(MonotonicTime::now());
        assert_eq!(read(&mut socket).await.0, b"a");
        assert_eq!(read(&mut socket).await.0, b"");
    }
}
