//! Who waits for a first content is looked after first.
//!
//! Tokio hands out what is ready in the order in which it became so. With thousands of streams on a core that may be the tokens of some ten
//! milliseconds, and where a second token comes behind a first one meanwhile, the kernel tells only the second one's time ([`arrival`]).
//! So the sockets that wait for a first content are in an epoll of their own as well. It is asked, in between the reads of all others, every
//! half millisecond; what is there is read at once and kept for the request's task. A byte that was not there at one look came after it:
//! that bounds the error of what came together.
//!
//! [`arrival`]: crate::arrival

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use precise_time::{MonotonicTime, RealtimeStamps};

use crate::inbox::Inbox;

const EVERY: Duration = Duration::from_micros(500);

thread_local! {
    /// The last one that was made on this thread.
    static LOOKOUT: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

/// Looks once more before this thread sleeps: for [`tokio::runtime::Builder::on_thread_park`]. A runtime that does not call it knows less
/// about its errors ([`Exchange::first_content_uncertainty`](crate::Exchange::first_content_uncertainty)), and nothing wrong.
pub fn before_sleep() {
    let lookout = LOOKOUT.with_borrow(Weak::upgrade);
    if let Some(shared) = lookout {
        Lookout(shared).look(MonotonicTime::now());
    }
}

/// The sockets of one thread's client that wait for a first content.
#[derive(Debug, Clone)]
pub(crate) struct Lookout(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: RealtimeStamps,
    /// Before the last look, after which nothing was left to be read.
    looked: Cell<MonotonicTime>,
    watched: imp::Watched,
}

impl Lookout {
    pub(crate) fn new() -> Self {
        let shared = Rc::new(Shared {
            clock: RealtimeStamps::new(),
            looked: Cell::new(MonotonicTime::now()),
            watched: imp::Watched::new(),
        });
        LOOKOUT.set(Rc::downgrade(&shared));
        Self(shared)
    }

    pub(crate) fn clock(&self) -> &RealtimeStamps {
        &self.0.clock
    }

    /// Looks after `inbox` from now on.
    pub(crate) fn watch(&self, inbox: &Rc<Inbox>) {
        self.0.watched.add(inbox);
    }

    pub(crate) fn leave(&self, inbox: &Inbox) {
        self.0.watched.remove(inbox);
    }

    /// What a watched socket has now was not there at this moment.
    pub(crate) fn nothing_at(&self) -> MonotonicTime {
        self.0.looked.get()
    }

    /// Looks, where it is time.
    pub(crate) fn look(&self, now: MonotonicTime) {
        if now.saturating_since(self.0.looked.get()) < EVERY {
            return;
        }
        let earliest = self.nothing_at();
        let begun = MonotonicTime::now();
        if self.0.watched.read_ready(&self.0.clock, earliest) {
            self.0.looked.set(begun);
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
    use precise_time::{MonotonicTime, RealtimeStamps};

    use crate::inbox::{Inbox, ReadEarly};

    const AT_ONCE: usize = 64;
    /// A head and some tokens; what is longer comes with the next look.
    const BUFFER: usize = 16 << 10;

    #[derive(Debug)]
    pub(super) struct Watched {
        /// `None` where the process may open no more files: then nobody is watched.
        epoll: Option<Epoll>,
        inboxes: RefCell<HashMap<u64, Weak<Inbox>>>,
        buffer: RefCell<Box<[u8]>>,
    }

    impl Watched {
        pub(super) fn new() -> Self {
            Self {
                epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok(),
                inboxes: RefCell::default(),
                buffer: RefCell::new(vec![0; BUFFER].into_boxed_slice()),
            }
        }

        pub(super) fn add(&self, inbox: &Rc<Inbox>) {
            let Some(epoll) = &self.epoll else { return };
            let key = key(inbox);
            let event = EpollEvent::new(EpollFlags::EPOLLIN, key);
            if epoll.add(inbox.socket(), event).is_ok() {
                inbox.set_watched(true);
                self.inboxes.borrow_mut().insert(key, Rc::downgrade(inbox));
            }
        }

        pub(super) fn remove(&self, inbox: &Inbox) {
            inbox.set_watched(false);
            let was_watched = self.inboxes.borrow_mut().remove(&key(inbox)).is_some();
            if let Some(epoll) = self.epoll.as_ref().filter(|_| was_watched) {
                // It fails only where the socket is not there any more.
                let _ = epoll.delete(inbox.socket());
            }
        }

        /// Whether nothing is left to be read.
        pub(super) fn read_ready(&self, clock: &RealtimeStamps, earliest: MonotonicTime) -> bool {
            let Some(epoll) = &self.epoll else { return false };
            let mut buffer = self.buffer.borrow_mut();
            let mut events = [EpollEvent::empty(); AT_ONCE];
            let mut is_all = true;
            // Everybody's turn comes, and nobody's again and again: a server that does not stop sending must not keep the thread here.
            let rounds = self.inboxes.borrow().len() / AT_ONCE + 1;
            for _ in 0..rounds {
                let Ok(ready) = epoll.wait(&mut events, EpollTimeout::ZERO) else {
                    return false;
                };
                for event in &events[..ready] {
                    let inbox = self.inboxes.borrow().get(&event.data()).and_then(Weak::upgrade);
                    let Some(inbox) = inbox else { continue };
                    match inbox.read_early(clock, earliest, &mut buffer) {
                        ReadEarly::All => {}
                        ReadEarly::Part => is_all = false,
                        ReadEarly::Enough => self.remove(&inbox),
                    }
                }
                if ready < AT_ONCE {
                    return is_all;
                }
            }
            false
        }
    }

    /// Its file descriptor: nobody else has it as long as it is watched.
    fn key(inbox: &Inbox) -> u64 {
        u64::from(inbox.socket().as_raw_fd().unsigned_abs())
    }
}

/// Elsewhere nobody is watched.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod imp {
    use std::rc::Rc;

    use precise_time::{MonotonicTime, RealtimeStamps};

    use crate::inbox::Inbox;

    #[derive(Debug)]
    pub(super) struct Watched;

    impl Watched {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) fn add(&self, _inbox: &Rc<Inbox>) {}

        pub(super) fn remove(&self, _inbox: &Inbox) {}

        /// `false`: it was not looked.
        pub(super) fn read_ready(&self, _clock: &RealtimeStamps, _earliest: MonotonicTime) -> bool {
            false
        }
    }
}
