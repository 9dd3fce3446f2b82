use std::{
    cell::{Cell, RefCell},
    collections::{BinaryHeap, binary_heap::PeekMut},
    io,
    rc::{Rc, Weak},
    sync::{Arc, MutexGuard},
    task::{Context, Poll, Waker},
};

use precise_time::{MonotonicTime, Timer};
use tokio::{net::tcp::OwnedWriteHalf, sync::Notify, task::yield_now};

use crate::{
    answer::{Answering, Ending, Next, Output},
    server::Shared,
    stats::Counters,
};

/// Answers go on this often before sockets are looked at again.
const BETWEEN_LOOKS: usize = 64;
/// A core's buffer goes back to this size, in bytes, when an answer has needed more.
const KEPT_BUFFER: usize = 256 * 1024;

/// One core: all answers under way, and when they are due. It writes to their sockets itself, so that a token costs no
/// switch of tasks; a connection's task wakes only for requests, for sockets that are full, and for answers that have ended.
pub(crate) struct Engine {
    pub shared: Arc<Shared>,
    core: usize,
    due: RefCell<BinaryHeap<Entry>>,
    output: RefCell<Output>,
    /// What the pacer sleeps for.
    asleep_until: Cell<Option<MonotonicTime>>,
    earlier: Notify,
}

/// The writing side of a connection.
pub(crate) struct Link {
    pub writer: OwnedWriteHalf,
    state: RefCell<LinkState>,
}

#[derive(Default)]
struct LinkState {
    answering: Option<Box<Answering>>,
    /// What the socket did not take, and what comes after it.
    blocked: Option<(Vec<u8>, usize, Next)>,
    ending: Option<Ending>,
    /// The connection's task.
    waker: Option<Waker>,
}

/// What became of an answer that was woken.
#[derive(Clone, Copy)]
enum Step {
    At(MonotonicTime),
    /// The connection's task has to see to it: it ended, or the socket is full.
    Handed,
}

struct Entry {
    due: MonotonicTime,
    link: Weak<Link>,
}

impl Link {
    pub(crate) fn new(writer: OwnedWriteHalf) -> Rc<Self> {
        Rc::new(Self {
            writer,
            state: RefCell::default(),
        })
    }
}

impl Engine {
    pub(crate) fn new(shared: Arc<Shared>, core: usize) -> Rc<Self> {
        Rc::new(Self {
            shared,
            core,
            due: RefCell::default(),
            output: RefCell::default(),
            asleep_until: Cell::new(None),
            earlier: Notify::new(),
        })
    }

    /// This core's counters. Only `stats` of another thread ever contends for them.
    pub(crate) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.shared.counters(self.core)
    }

    /// Begins an answer. Whether it is over, [`Self::poll_ending`] says.
    pub(crate) fn begin(&self, link: &Rc<Link>, answering: Answering) {
        link.state.borrow_mut().answering = Some(Box::new(answering));
        let step = self.step(link, MonotonicTime::now());
        self.schedule(link, step);
    }

    fn schedule(&self, link: &Rc<Link>, step: Step) {
        let Step::At(due) = step else { return };
        self.due.borrow_mut().push(Entry {
            due,
            link: Rc::downgrade(link),
        });
        if self.asleep_until.get().is_some_and(|until| due < until) {
            self.earlier.notify_one();
        }
    }

    /// Waits for the end of the answer; helps it on where its socket was full.
    pub(crate) fn poll_ending(&self, link: &Rc<Link>, context: &mut Context<'_>) -> Poll<Ending> {
        while link.state.borrow().blocked.is_some() {
            match link.writer.as_ref().poll_write_ready(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => self.unblock(link),
                Poll::Ready(Err(_gone)) => return Poll::Ready(Ending::Gone),
            }
        }
        let mut state = link.state.borrow_mut();
        if let Some(ending) = state.ending.take() {
            state.answering = None;
            return Poll::Ready(ending);
        }
        if state
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(context.waker()))
        {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn unblock(&self, link: &Rc<Link>) {
        let mut state = link.state.borrow_mut();
        let Some((bytes, sent, next)) = &mut state.blocked else {
            return;
        };
        let next = *next;
        match link.writer.try_write(&bytes[*sent..]) {
            Ok(written) => *sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_gone) => {
                state.blocked = None;
                state.ending = Some(Ending::Gone);
                return;
            }
        }
        if *sent < bytes.len() {
            return;
        }
        state.blocked = None;
        match next {
            Next::Finished(ending) => state.ending = Some(ending),
            Next::At(due) => {
                drop(state);
                self.schedule(link, Step::At(due));
            }
        }
    }

    /// Lets an answer go on as far as it is due.
    fn step(&self, link: &Link, now: MonotonicTime) -> Step {
        let mut state = link.state.borrow_mut();
        let Some(answering) = &mut state.answering else {
            return Step::Handed;
        };
        let mut output = self.output.borrow_mut();
        let next = answering.advance(now, &mut output);
        if output.bytes.is_empty() {
            return state.go_on(next);
        }
        // Before the write: whoever has a token in hand finds it counted.
        self.count(&mut output);
        let result = link.writer.try_write(&output.bytes);
        let length = output.bytes.len();
        let step = match result {
            Ok(written) if written == length => state.go_on(next),
            Ok(written) => state.block(std::mem::take(&mut output.bytes), written, next),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.block(std::mem::take(&mut output.bytes), 0, next)
            }
            Err(_gone) => state.go_on(Next::Finished(Ending::Gone)),
        };
        if state.blocked.is_some() {
            self.counters().blocked_writes += 1;
        }
        output.bytes.clear();
        output.bytes.shrink_to(KEPT_BUFFER);
        step
    }

    fn count(&self, output: &mut Output) {
        if let (Some(at), false) = (output.at, output.marks.is_empty()) {
            let mut counters = self.counters();
            output.marks.drain(..).for_each(|mark| counters.written(mark, at));
        }
    }

    /// Lets answers go on that are due. Returns when the next one is.
    fn go_on(&self) -> Option<MonotonicTime> {
        let mut due = self.due.borrow_mut();
        for _ in 0..BETWEEN_LOOKS {
            let mut first = due.peek_mut()?;
            let now = MonotonicTime::now();
            if first.due > now {
                break;
            }
            let step = first.link.upgrade().map(|link| self.step(&link, now));
            match step {
                Some(Step::At(next)) => first.due = next,
                None | Some(Step::Handed) => drop(PeekMut::pop(first)),
            }
        }
        due.peek().map(|first| first.due)
    }

    /// Wakes answers when they are due, for ever.
    ///
    /// # Errors
    ///
    /// Where the operating system refuses to set the timer.
    pub(crate) async fn pace(&self, mut timer: Timer) -> io::Result<()> {
        loop {
            let next = self.go_on();
            if next.is_some_and(|next| next <= MonotonicTime::now()) {
                yield_now().await;
                continue;
            }
            let forever = MonotonicTime::from_nanos(u64::MAX);
            self.asleep_until.set(Some(next.unwrap_or(forever)));
            tokio::select! {
                biased;
                () = self.earlier.notified() => {}
                slept = async {
                    match next {
                        Some(next) => timer.sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                } => slept?,
            }
            self.asleep_until.set(None);
        }
    }
}

impl LinkState {
    fn go_on(&mut self, next: Next) -> Step {
        match next {
            Next::At(due) => Step::At(due),
            Next::Finished(ending) => {
                self.ending = Some(ending);
                self.wake()
            }
        }
    }

    fn block(&mut self, bytes: Vec<u8>, sent: usize, next: Next) -> Step {
        self.blocked = Some((bytes, sent, next));
        self.wake()
    }

    fn wake(&mut self) -> Step {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        Step::Handed
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, for a heap whose top is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}
