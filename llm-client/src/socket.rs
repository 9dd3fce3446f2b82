//! A socket that tells when its bytes came and went.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use precise_time::{MonotonicTime, RealtimeStamps};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::{
    arrival::{Arrival, Stamps},
    lookout::Lookout,
};

/// A socket and what is known of its bytes; shared by the connection that it belongs to and the [`Lookout`].
#[derive(Debug)]
pub(crate) struct Inbox {
    socket: TcpStream,
    stamps: RefCell<Stamps>,
    /// When the last byte that was read had come.
    last_byte: Cell<MonotonicTime>,
    first_write: Cell<Option<MonotonicTime>>,
    awaits_content: Cell<bool>,
    is_watched: Cell<bool>,
    /// What was read before the task came to it.
    early: RefCell<VecDeque<Early>>,
    /// The task that waits for it.
    waker: RefCell<Option<Waker>>,
}

/// What a socket may have read early; what is more waits for its task, and the server with it.
const MOST_EARLY: usize = 64 << 10;

/// What of a socket was read early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadEarly {
    /// All that was there.
    All,
    /// More is there.
    Part,
    /// The rest is its task's: its end, or what is too much.
    Enough,
}

#[derive(Debug)]
struct Early {
    bytes: io::Result<Vec<u8>>,
    taken: usize,
    arrival: Arrival,
}

impl Inbox {
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads what is there and wakes the task. The socket was found empty at `nothing_at`.
    pub(crate) fn read_early(
        &self,
        clock: &RealtimeStamps,
        nothing_at: MonotonicTime,
        buffer: &mut [u8],
    ) -> ReadEarly {
        if self.early_bytes() > MOST_EARLY {
            return ReadEarly::Enough;
        }
        let mut buffer = ReadBuf::new(buffer);
        let (bytes, arrival) = match self.receive(clock, &mut buffer) {
            // The end is read by the task itself: it stays there.
            Ok(_) if buffer.filled().is_empty() => return ReadEarly::Enough,
            Ok(arrival) => (Ok(buffer.filled().to_vec()), arrival.nothing_at(nothing_at)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadEarly::All,
            // The kernel tells it once.
            Err(error) => (Err(error), Arrival::read_now()),
        };
        let has_read = match &bytes {
            Err(_) => ReadEarly::Enough,
            Ok(_) if buffer.remaining() == 0 => ReadEarly::Part,
            Ok(_) => ReadEarly::All,
        };
        self.early.borrow_mut().push_back(Early {
            bytes,
            taken: 0,
            arrival,
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        has_read
    }

    /// Whether the lookout sees to it.
    pub(crate) fn set_watched(&self, is_watched: bool) {
        self.is_watched.set(is_watched);
    }

    /// Reads once.
    fn receive(&self, clock: &RealtimeStamps, buffer: &mut ReadBuf<'_>) -> io::Result<Arrival> {
        let mut stamps = self.stamps.borrow_mut();
        let arrival = stamps.read(&self.socket, buffer, clock, self.earliest(), self.patience())?;
        self.last_byte.set(arrival.at);
        Ok(arrival)
    }

    fn early_bytes(&self) -> usize {
        let early = self.early.borrow();
        let lengths = early.iter().filter_map(|early| early.bytes.as_ref().ok());
        lengths.map(Vec::len).sum()
    }

    /// What was read early, as much as fits.
    fn take_early(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<Arrival>> {
        let mut early = self.early.borrow_mut();
        let first = early.front_mut()?;
        let Ok(bytes) = &first.bytes else {
            return early.pop_front().map(|first| first.bytes.map(|_| first.arrival));
        };
        let rest = &bytes[first.taken..];
        let (now, arrival) = (rest.len().min(buffer.remaining()), first.arrival);
        buffer.put_slice(&rest[..now]);
        first.taken += now;
        if first.taken == bytes.len() {
            early.pop_front();
        }
        Some(Ok(arrival))
    }

    /// What is read now came after that.
    fn earliest(&self) -> MonotonicTime {
        let before = self.last_byte.get();
        self.first_write.get().map_or(before, |sent| sent.max(before))
    }

    /// How long bytes may have waited before their stamp is looked at twice, which costs a system call.
    fn patience(&self) -> Duration {
        const OF_TTFT: Duration = Duration::from_millis(1);
        const OF_GAPS: Duration = Duration::from_millis(20);
        if self.awaits_content.get() {
            OF_TTFT
        } else {
            OF_GAPS
        }
    }
}

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
        let arrival = Arrival::read_now();
        let inbox = Inbox {
            stamps: RefCell::new(Stamps::of(&socket)),
            socket,
            last_byte: Cell::new(arrival.at),
            first_write: Cell::default(),
            awaits_content: Cell::default(),
            is_watched: Cell::default(),
            early: RefCell::default(),
            waker: RefCell::default(),
        };
        Self {
            inbox: Rc::new(inbox),
            lookout,
            arrival,
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
    use std::{future::poll_fn, io::Write, net::TcpListener, thread::sleep};

    use super::*;

    /// More than the lookout's time between two looks.
    const A_WHILE: Duration = Duration::from_millis(2);

    /// The kernel begins to stamp a moment after the first socket has asked it to.
    async fn stamped_pair(lookout: &Lookout) -> (Stamped, std::net::TcpStream) {
        let (mut socket, mut peer) = pair(lookout).await;
        for _ in 0..500 {
            peer.write_all(b"?").unwrap();
            if read(&mut socket).await.1.is_stamped {
                return (socket, peer);
            }
            sleep(A_WHILE);
        }
        panic!("the kernel does not stamp");
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
        peer.write_all(b"a").unwrap();
        sleep(A_WHILE);
        lookout.look(MonotonicTime::now());
        let between = MonotonicTime::now();
        peer.write_all(b"b").unwrap();
        sleep(A_WHILE);
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
        peer.write_all(b"a").unwrap();
        sleep(A_WHILE);
        lookout.look(MonotonicTime::now());
        peer.write_all(b"b").unwrap();
        sleep(A_WHILE);
        assert_eq!(read(&mut socket).await.0, b"ab");
    }

    /// The end stays where it is until the task reads it.
    #[tokio::test]
    async fn an_end_is_not_read_early() {
        let lookout = Lookout::new();
        let (mut socket, mut peer) = pair(&lookout).await;
        socket.begin();
        peer.write_all(b"a").unwrap();
        drop(peer);
        sleep(A_WHILE);
        lookout.look(MonotonicTime::now());
        sleep(A_WHILE);
        lookout.look(MonotonicTime::now());
        assert_eq!(read(&mut socket).await.0, b"a");
        assert_eq!(read(&mut socket).await.0, b"");
    }
}
