//! A socket that tells when its bytes came and went.

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

use crate::{arrival::Arrival, inbox::Inbox, lookout::Lookout};

/// The TCP socket. TLS is above it: the stamps are those of the socket's reads and writes.
#[derive(Debug)]
pub(crate) struct Stamped {
    inbox: Rc<Inbox>,
    lookout: Lookout,
    arrival: Arrival,
}

impl Stamped {
    /// Of a socket that was connected just now.
    pub(crate) fn new(socket: TcpStream, lookout: Lookout) -> Self {
        Self {
            inbox: Rc::new(Inbox::new(socket)),
            lookout,
            arrival: Arrival::read_now(),
        }
    }

    /// A new request begins.
    pub(crate) fn begin(&self) {
        self.inbox.first_write.set(None);
        if !self.inbox.awaits_content.replace(true) {
            self.lookout.watch(&self.inbox);
        }
    }

    /// When what was read last had come; the end of the stream is read too.
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Just before the first byte since [`Self::begin`] was written.
    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.inbox.first_write.get()
    }

    /// No first content is waited for any more: the stamps from now on make up gaps and an end, but no TTFT.
    pub(crate) fn content_began(&self) {
        if self.inbox.awaits_content.replace(false) {
            self.lookout.leave(&self.inbox);
            *self.inbox.waker.borrow_mut() = None;
        }
    }

    /// What the kernel has for the next read. It is asked and not tokio, which knows only what its reactor has seen: that runs between two
    /// tasks.
    pub(crate) fn pending(&self) -> Pending {
        if let Some(early) = self.inbox.early.borrow().front() {
            return if early.bytes.is_ok() {
                Pending::Bytes
            } else {
                Pending::Closed
            };
        }
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(&self.inbox.socket).peek(&mut byte) {
            Ok(0) => Pending::Closed,
            Ok(_) => Pending::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pending::Nothing,
            // Whatever is wrong with it, it cannot be used.
            Err(_) => Pending::Closed,
        }
    }

    fn writes(&self) {
        if self.inbox.first_write.get().is_none() {
            self.inbox.first_write.set(Some(MonotonicTime::now()));
        }
    }

    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Arrival>> {
        let Self { inbox, lookout, .. } = self;
        if let Some(early) = inbox.take_early(buffer) {
            // A burst of first contents is no reason not to look for the next.
            lookout.look(MonotonicTime::now());
            return Poll::Ready(early);
        }
        loop {
            if inbox.socket.poll_read_ready(cx)?.is_pending() {
                if inbox.is_watched.get() {
                    *inbox.waker.borrow_mut() = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            let room = buffer.remaining();
            let receive = || inbox.receive(lookout.clock(), buffer);
            let mut arrival = match inbox.socket.try_io(Interest::READABLE, receive) {
                Ok(arrival) => arrival,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let left = buffer.remaining();
            if 0 < left && left < room {
                // Nothing is left, and epoll tells when more comes: as tokio's own read does, spare the call that finds nothing.
                let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = inbox.socket.try_io(Interest::READABLE, nothing);
            }
            if inbox.is_watched.get() {
                arrival = arrival.nothing_at(lookout.nothing_at());
            }
            lookout.look(arrival.read_at);
            return Poll::Ready(Ok(arrival));
        }
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        self.content_began();
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
        self.arrival = ready!(self.poll_receive(cx, buffer))?;
        Poll::Ready(Ok(()))
    }
}

/// Through `&TcpStream`, as the socket is shared.
impl AsyncWrite for Stamped {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes();
        loop {
            ready!(self.inbox.socket.poll_write_ready(cx))?;
            match self.inbox.socket.try_write_vectored(parts) {
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
        Poll::Ready(SockRef::from(&self.inbox.socket).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use std::{future::poll_fn, io::Write, net::TcpListener, thread::sleep, time::Duration};

    use test_patience::{until, until_blocking};

    use super::*;

    /// More than the lookout's time between two looks.
    const A_WHILE: Duration = Duration::from_millis(2);

    /// The kernel begins to stamp a moment after the first socket has asked it to.
    async fn stamped_pair(lookout: &Lookout) -> (Stamped, std::net::TcpStream) {
        let (mut socket, mut peer) = pair(lookout).await;
        until("a stamp of the kernel's", async || {
            peer.write_all(b"?").unwrap();
            read(&mut socket).await.1.is_stamped
        })
        .await;
        (socket, peer)
    }

    /// Writes, and waits until the socket has so many bytes that nobody has read, and the lookout would look again.
    fn arrive(peer: &mut std::net::TcpStream, bytes: &[u8], socket: &Stamped, unread: usize) {
        peer.write_all(bytes).unwrap();
        until_blocking("bytes in the socket", || {
            let mut room = [MaybeUninit::uninit(); 16];
            SockRef::from(&socket.inbox.socket)
                .peek(&mut room)
                .is_ok_and(|there| there == unread)
        });
        sleep(A_WHILE);
    }

    async fn pair(lookout: &Lookout) -> (Stamped, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (
            Stamped::new(socket, lookout.clone()),
            listener.accept().unwrap().0,
        )
    }

    async fn read(socket: &mut Stamped) -> (Vec<u8>, Arrival) {
        let mut room = [0; 16];
        let mut buffer = ReadBuf::new(&mut room);
        poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, &mut buffer))
            .await
            .unwrap();
        (buffer.filled().to_vec(), socket.arrival())
    }

    #[tokio::test]
    async fn what_is_read_early_has_its_own_stamp() {
        let lookout = Lookout::new();
        let (mut socket, mut peer) = stamped_pair(&lookout).await;
        socket.begin();
        arrive(&mut peer, b"a", &socket, 1);
        lookout.look(MonotonicTime::now());
        let between = MonotonicTime::now();
        arrive(&mut peer, b"b", &socket, 1);
        let (first, second) = (read(&mut socket).await, read(&mut socket).await);
        assert_eq!((&*first.0, &*second.0), (&b"a"[..], &b"b"[..]));
        assert!(
            first.1.is_stamped && first.1.at < between && between < second.1.at,
            "{first:?} {between:?} {second:?}"
        );
        // What came together came after the last look.
        assert!(second.1.earliest >= first.1.at);
    }

    #[tokio::test]
    async fn nobody_is_looked_after_who_has_its_first_content() {
        let lookout = Lookout::new();
        let (mut socket, mut peer) = pair(&lookout).await;
        socket.begin();
        socket.content_began();
        arrive(&mut peer, b"a", &socket, 1);
        lookout.look(MonotonicTime::now());
        arrive(&mut peer, b"b", &socket, 2);
        assert_eq!(read(&mut socket).await.0, b"ab");
    }

    /// The end stays where it is until the task reads it.
    #[tokio::test]
    async fn an_end_is_not_read_early() {
        let lookout = Lookout::new();
        let (mut socket, mut peer) = pair(&lookout).await;
        socket.begin();
        arrive(&mut peer, b"a", &socket, 1);
        drop(peer);
        lookout.look(MonotonicTime::now());
        sleep(A_WHILE);
        lookout.look(MonotonicTime::now());
        assert_eq!(read(&mut socket).await.0, b"a");
        assert_eq!(read(&mut socket).await.0, b"");
    }
}
