//! The receiving side of a socket, which its task and the lookout read in turns.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    task::Waker,
    time::Duration,
};

use precise_time::{MonotonicTime, RealtimeStamps};
use tokio::{io::ReadBuf, net::TcpStream};

use crate::arrival::{Arrival, Stamps};

/// A socket and what is known of its bytes; shared by the connection that it belongs to and the
/// [`Lookout`](crate::lookout::Lookout).
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) socket: TcpStream,
    stamps: RefCell<Stamps>,
    /// When the last byte that was read had come.
    last_byte: Cell<MonotonicTime>,
    pub(crate) first_write: Cell<Option<MonotonicTime>>,
    pub(crate) awaits_content: Cell<bool>,
    pub(crate) is_watched: Cell<bool>,
    /// What was read before the task came to it.
    pub(crate) early: RefCell<VecDeque<Early>>,
    /// The task that waits for it.
    pub(crate) waker: RefCell<Option<Waker>>,
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
pub(crate) struct Early {
    pub(crate) bytes: io::Result<Vec<u8>>,
    taken: usize,
    arrival: Arrival,
}

impl Inbox {
    /// Of a socket that was connected just now.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            stamps: RefCell::new(Stamps::of(&socket)),
            socket,
            last_byte: Cell::new(MonotonicTime::now()),
            first_write: Cell::default(),
            awaits_content: Cell::default(),
            is_watched: Cell::default(),
            early: RefCell::default(),
            waker: RefCell::default(),
        }
    }

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
    pub(crate) fn receive(&self, clock: &RealtimeStamps, buffer: &mut ReadBuf<'_>) -> io::Result<Arrival> {
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
    pub(crate) fn take_early(&self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<Arrival>> {
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
