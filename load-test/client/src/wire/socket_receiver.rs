use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    task::Waker,
    time::Duration,
};

use precise_time::{MonotonicTime, RealtimeConverter};
use tokio::{io::ReadBuf, net::TcpStream};

use super::receive_timestamp::{ReceiveTimestamp, TimestampedReader};

/// Reads one socket, for two readers: the task of the connection, and the
/// [`FirstContentPoller`](super::first_content_poller::FirstContentPoller), which may read before the task does.
#[derive(Debug)]
pub(crate) struct SocketReceiver {
    pub(crate) socket: TcpStream,
    reader: RefCell<TimestampedReader>,
    /// When the last byte that was read had been received.
    last_byte: Cell<MonotonicTime>,
    pub(crate) first_write: Cell<Option<MonotonicTime>>,
    pub(crate) awaits_content: Cell<bool>,
    /// Whether the poller reads this socket.
    pub(crate) is_polled: Cell<bool>,
    /// Results of the poller's reads that the task has not taken.
    pub(crate) early: RefCell<VecDeque<EarlyRead>>,
    /// The task that waits for bytes.
    pub(crate) waker: RefCell<Option<Waker>>,
}

/// The limit of bytes that are read early, in bytes. Beyond it the socket fills up, so that the server waits for the task.
const MAX_EARLY_BYTES: usize = 64 << 10;

/// Whether the poller has emptied a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlyReadResult {
    /// The socket is empty.
    Drained,
    /// More bytes are in the socket.
    MoreLeft,
    /// The task has to read the rest: the end of the stream, an error, or bytes beyond the limit.
    LeftToTask,
}

#[derive(Debug)]
pub(crate) struct EarlyRead {
    pub(crate) bytes: io::Result<Vec<u8>>,
    taken: usize,
    received: ReceiveTimestamp,
}

impl SocketReceiver {
    /// A receiver for a socket that was connected just now.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            reader: RefCell::new(TimestampedReader::new(&socket)),
            socket,
            last_byte: Cell::new(MonotonicTime::now()),
            first_write: Cell::default(),
            awaits_content: Cell::default(),
            is_polled: Cell::default(),
            early: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    /// Reads for the task and wakes it. The socket was known to be empty at `empty_at`.
    pub(crate) fn read_early(
        &self,
        clock: &RealtimeConverter,
        empty_at: MonotonicTime,
        buffer: &mut [u8],
    ) -> EarlyReadResult {
        if self.early_bytes() > MAX_EARLY_BYTES {
            return EarlyReadResult::LeftToTask;
        }
        let mut buffer = ReadBuf::new(buffer);
        let (bytes, received) = match self.receive(clock, &mut buffer) {
            // The task reads the end of the stream again.
            Ok(_) if buffer.filled().is_empty() => return EarlyReadResult::LeftToTask,
            Ok(received) => (Ok(buffer.filled().to_vec()), received.with_empty_at(empty_at)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return EarlyReadResult::Drained,
            // The kernel reports an error only once.
            Err(error) => (Err(error), ReceiveTimestamp::read_now()),
        };
        let result = match &bytes {
            Err(_) => EarlyReadResult::LeftToTask,
            Ok(_) if buffer.remaining() == 0 => EarlyReadResult::MoreLeft,
            Ok(_) => EarlyReadResult::Drained,
        };
        self.early.borrow_mut().push_back(EarlyRead {
            bytes,
            taken: 0,
            received,
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        result
    }

    /// Reads once.
    pub(crate) fn receive(
        &self,
        clock: &RealtimeConverter,
        buffer: &mut ReadBuf<'_>,
    ) -> io::Result<ReceiveTimestamp> {
        let mut reader = self.reader.borrow_mut();
        let (earliest, trusted_age) = (self.earliest(), self.trusted_age());
        let received = reader.read(&self.socket, buffer, clock, earliest, trusted_age)?;
        self.last_byte.set(received.at);
        Ok(received)
    }

    fn early_bytes(&self) -> usize {
        let early = self.early.borrow();
        let lengths = early.iter().filter_map(|early| early.bytes.as_ref().ok());
        lengths.map(Vec::len).sum()
    }

    /// Moves as many bytes that were read early as fit into `buffer`. `None` where there are none.
    pub(crate) fn take_early(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<ReceiveTimestamp>> {
        let mut early = self.early.borrow_mut();
        let first = early.front_mut()?;
        let Ok(bytes) = &first.bytes else {
            return early.pop_front().map(|first| first.bytes.map(|_| first.received));
        };
        let rest = &bytes[first.taken..];
        let (length, received) = (rest.len().min(buffer.remaining()), first.received);
        buffer.put_slice(&rest[..length]);
        first.taken += length;
        if first.taken == bytes.len() {
            early.pop_front();
        }
        Some(Ok(received))
    }

    /// Bytes that are read now were received after this moment.
    fn earliest(&self) -> MonotonicTime {
        let before = self.last_byte.get();
        self.first_write.get().map_or(before, |sent| sent.max(before))
    }

    /// How long bytes may have waited in the socket while their timestamp is used without another check, which takes a system call. An
    /// error of a first content changes the TTFT; other timestamps only change gaps between tokens.
    fn trusted_age(&self) -> Duration {
        const FIRST_CONTENT: Duration = Duration::from_millis(1);
        const LATER: Duration = Duration::from_millis(20);
        if self.awaits_content.get() {
            FIRST_CONTENT
        } else {
            LATER
        }
    }
}
