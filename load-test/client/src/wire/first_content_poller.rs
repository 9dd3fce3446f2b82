//! Reads sockets that wait for a first content before all others.
//!
//! Tokio runs ready tasks in the order in which they became ready. With thousands of streams on a core, a task may have to wait for
//! some ten milliseconds of other tasks' tokens. When a second token of its stream is received meanwhile, the kernel reports only the
//! second one's timestamp ([`receive_timestamp`]). Therefore sockets that wait for a first content are also in an epoll instance of their
//! own. It is polled every half millisecond, in between the reads of all other sockets; ready sockets are read at once, and the bytes are
//! kept for the request's task. A byte that was not in the socket at one poll was received after it, which bounds the error of a
//! timestamp that several events share.
//!
//! [`receive_timestamp`]: super::receive_timestamp

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use precise_time::{MonotonicTime, RealtimeConverter};

use super::socket_receiver::SocketReceiver;

const INTERVAL: Duration = Duration::from_micros(500);

thread_local! {
    /// The poller that was created last on this thread.
    static CURRENT: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

/// Reads first contents once more before this thread sleeps: for [`tokio::runtime::Builder::on_thread_park`]. Without this call the
/// records are still right, but state larger errors
/// ([`Exchange::first_content_uncertainty`](crate::Exchange::first_content_uncertainty)).
pub fn before_sleep() {
    let poller = CURRENT.with_borrow(Weak::upgrade);
    if let Some(shared) = poller {
        FirstContentPoller(shared).poll_if_due(MonotonicTime::now());
    }
}

/// The sockets of one thread's client that wait for a first content.
#[derive(Debug, Clone)]
pub(crate) struct FirstContentPoller(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: RealtimeConverter,
    /// The beginning of the last poll that left all sockets empty.
    empty_at: Cell<MonotonicTime>,
    sockets: imp::PolledSockets,
}

impl FirstContentPoller {
    pub(crate) fn new() -> Self {
        let shared = Rc::new(Shared {
            clock: RealtimeConverter::new(),
            empty_at: Cell::new(MonotonicTime::now()),
            sockets: imp::PolledSockets::new(),
        });
        CURRENT.set(Rc::downgrade(&shared));
        Self(shared)
    }

    pub(crate) fn clock(&self) -> &RealtimeConverter {
        &self.0.clock
    }

    /// Polls `receiver`'s socket from now on.
    pub(crate) fn add(&self, receiver: &Rc<SocketReceiver>) {
        self.0.sockets.add(receiver);
    }

    pub(crate) fn remove(&self, receiver: &SocketReceiver) {
        self.0.sockets.remove(receiver);
    }

    /// A moment when all polled sockets were empty. Bytes that are in them now were received later.
    pub(crate) fn empty_at(&self) -> MonotonicTime {
        self.0.empty_at.get()
    }

    /// Polls the sockets when the interval has passed.
    pub(crate) fn poll_if_due(&self, now: MonotonicTime) {
        let empty_at = self.empty_at();
        if now.saturating_since(empty_at) < INTERVAL {
            return;
        }
        let begun = MonotonicTime::now();
        if self.0.sockets.read_ready(&self.0.clock, empty_at) {
            self.0.empty_at.set(begun);
        }
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod imp {
    use std::{
        cell::RefCell,
        collections::HashMap,
        os::fd::AsRawFd,
        rc::{Rc, Weak},
    };

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use precise_time::{MonotonicTime, RealtimeConverter};

    use crate::wire::socket_receiver::{EarlyReadResult, SocketReceiver};

    /// Sockets that one call of epoll reports.
    const EVENTS: usize = 64;
    /// Enough for a head and some tokens, in bytes; the next poll reads the rest.
    const BUFFER_BYTES: usize = 16 << 10;

    #[derive(Debug)]
    pub(super) struct PolledSockets {
        /// `None` where the process may open no more files; then no socket is polled.
        epoll: Option<Epoll>,
        receivers: RefCell<HashMap<u64, Weak<SocketReceiver>>>,
        buffer: RefCell<Box<[u8]>>,
    }

    impl PolledSockets {
        pub(super) fn new() -> Self {
            Self {
                epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok(),
                receivers: RefCell::default(),
                buffer: RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()),
            }
        }

        pub(super) fn add(&self, receiver: &Rc<SocketReceiver>) {
            let Some(epoll) = &self.epoll else { return };
            let key = key(receiver);
            let event = EpollEvent::new(EpollFlags::EPOLLIN, key);
            if epoll.add(&receiver.socket, event).is_ok() {
                receiver.is_polled.set(true);
                self.receivers.borrow_mut().insert(key, Rc::downgrade(receiver));
            }
        }

        pub(super) fn remove(&self, receiver: &SocketReceiver) {
            receiver.is_polled.set(false);
            let was_polled = self.receivers.borrow_mut().remove(&key(receiver)).is_some();
            if let Some(epoll) = self.epoll.as_ref().filter(|_| was_polled) {
                // Fails only where the socket is closed already.
                let _ = epoll.delete(&receiver.socket);
            }
        }

        /// Reads the sockets that are ready. Returns whether all of them are empty now.
        pub(super) fn read_ready(&self, clock: &RealtimeConverter, empty_at: MonotonicTime) -> bool {
            let Some(epoll) = &self.epoll else { return false };
            let mut buffer = self.buffer.borrow_mut();
            let mut events = [EpollEvent::empty(); EVENTS];
            let mut all_empty = true;
            // Enough rounds for every socket once, so that a server that never stops sending does not keep the thread here.
            let rounds = self.receivers.borrow().len() / EVENTS + 1;
            for _ in 0..rounds {
                let Ok(ready) = epoll.wait(&mut events, EpollTimeout::ZERO) else {
                    return false;
                };
                for event in &events[..ready] {
                    let receiver = self.receivers.borrow().get(&event.data()).and_then(Weak::upgrade);
                    let Some(receiver) = receiver else { continue };
                    match receiver.read_early(clock, empty_at, &mut buffer) {
                        EarlyReadResult::Drained => {}
                        EarlyReadResult::MoreLeft => all_empty = false,
                        EarlyReadResult::LeftToTask => self.remove(&receiver),
                    }
                }
                if ready < EVENTS {
                    return all_empty;
                }
            }
            false
        }
    }

    /// The file descriptor, which no other socket has while this one is polled.
    fn key(receiver: &SocketReceiver) -> u64 {
        u64::from(receiver.socket.as_raw_fd().unsigned_abs())
    }
}

/// Other systems do not poll.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod imp {
    use std::rc::Rc;

    use precise_time::{MonotonicTime, RealtimeConverter};

    use crate::wire::socket_receiver::SocketReceiver;

    #[derive(Debug)]
    pub(super) struct PolledSockets;

    impl PolledSockets {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) fn add(&self, _receiver: &Rc<SocketReceiver>) {}

        pub(super) fn remove(&self, _receiver: &SocketReceiver) {}

        /// `false`, as no socket was read.
        pub(super) fn read_ready(&self, _clock: &RealtimeConverter, _empty_at: MonotonicTime) -> bool {
            false
        }
    }
}
