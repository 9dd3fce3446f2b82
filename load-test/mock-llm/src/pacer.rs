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
    response::{ConnectionFate, NextStep, OutputBuffer, Response},
    server_state::ServerState,
    stats::Counters,
};

/// Responses that are advanced before the runtime polls the sockets again.
const ADVANCES_PER_POLL: usize = 64;
/// A core's buffer shrinks to this size, in bytes, after a response that needed more.
const KEPT_BUFFER: usize = 256 * 1024;

/// The responses of one core, and when they are due. It writes to their sockets itself, so that a token needs no task switch. A
/// connection's task is woken only for requests, for full sockets, and at the end of a response.
pub(crate) struct Pacer {
    pub server: Arc<ServerState>,
    core: usize,
    due: RefCell<BinaryHeap<ScheduledResponse>>,
    output: RefCell<OutputBuffer>,
    asleep_until: Cell<Option<MonotonicTime>>,
    /// Wakes the pacer for a response that is due before `asleep_until`.
    earlier: Notify,
}

/// The writing side of a connection, with its current response.
pub(crate) struct ResponseWriter {
    pub socket: OwnedWriteHalf,
    state: RefCell<WriterState>,
}

#[derive(Default)]
struct WriterState {
    response: Option<Box<Response>>,
    /// Bytes that a full socket did not take, how many of them were written since, and the step after them.
    blocked: Option<(Vec<u8>, usize, NextStep)>,
    fate: Option<ConnectionFate>,
    /// The connection's task.
    waker: Option<Waker>,
}

struct ScheduledResponse {
    due: MonotonicTime,
    writer: Weak<ResponseWriter>,
}

impl ResponseWriter {
    pub(crate) fn new(socket: OwnedWriteHalf) -> Rc<Self> {
        Rc::new(Self {
            socket,
            state: RefCell::default(),
        })
    }
}

impl Pacer {
    pub(crate) fn new(server: Arc<ServerState>, core: usize) -> Rc<Self> {
        Rc::new(Self {
            server,
            core,
            due: RefCell::default(),
            output: RefCell::default(),
            asleep_until: Cell::new(None),
            earlier: Notify::new(),
        })
    }

    /// This core's counters.
    pub(crate) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.server.counters(self.core)
    }

    /// Begins a response. [`Self::poll_end`] waits for its end.
    pub(crate) fn begin(&self, writer: &Rc<ResponseWriter>, response: Response) {
        writer.state.borrow_mut().response = Some(Box::new(response));
        if let Some(due) = self.advance(writer, MonotonicTime::now()) {
            self.schedule(writer, due);
        }
    }

    fn schedule(&self, writer: &Rc<ResponseWriter>, due: MonotonicTime) {
        self.due.borrow_mut().push(ScheduledResponse {
            due,
            writer: Rc::downgrade(writer),
        });
        if self.asleep_until.get().is_some_and(|until| due < until) {
            self.earlier.notify_one();
        }
    }

    /// Waits for the end of the response. Writes what a full socket did not take.
    pub(crate) fn poll_end(
        &self,
        writer: &Rc<ResponseWriter>,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionFate> {
        while writer.state.borrow().blocked.is_some() {
            match writer.socket.as_ref().poll_write_ready(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => self.unblock(writer),
                Poll::Ready(Err(_gone)) => return Poll::Ready(ConnectionFate::Gone),
            }
        }
        let mut state = writer.state.borrow_mut();
        if let Some(fate) = state.fate.take() {
            state.response = None;
            return Poll::Ready(fate);
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

    fn unblock(&self, writer: &Rc<ResponseWriter>) {
        let mut state = writer.state.borrow_mut();
        let Some((bytes, sent, next)) = &mut state.blocked else {
            return;
        };
        let next = *next;
        match writer.socket.try_write(&bytes[*sent..]) {
            Ok(written) => *sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_gone) => {
                state.blocked = None;
                state.fate = Some(ConnectionFate::Gone);
                return;
            }
        }
        if *sent < bytes.len() {
            return;
        }
        state.blocked = None;
        match next {
            NextStep::Finished(fate) => state.fate = Some(fate),
            NextStep::At(due) => {
                drop(state);
                self.schedule(writer, due);
            }
        }
    }

    /// Advances a response as far as it is due. Returns when more is due; `None` where the connection's task continues, because the
    /// response ended or the socket is full.
    fn advance(&self, writer: &ResponseWriter, now: MonotonicTime) -> Option<MonotonicTime> {
        let mut state = writer.state.borrow_mut();
        let response = state.response.as_mut()?;
        let mut output = self.output.borrow_mut();
        let next = response.advance(now, &mut output);
        if output.bytes.is_empty() {
            return state.continue_with(next);
        }
        // Before the write, so that a client that has received a token finds it counted.
        self.count(&mut output);
        let result = writer.socket.try_write(&output.bytes);
        let length = output.bytes.len();
        let next_due = match result {
            Ok(written) if written == length => state.continue_with(next),
            Ok(written) => state.block(std::mem::take(&mut output.bytes), written, next),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.block(std::mem::take(&mut output.bytes), 0, next)
            }
            Err(_gone) => state.continue_with(NextStep::Finished(ConnectionFate::Gone)),
        };
        if state.blocked.is_some() {
            self.counters().stats.blocked_writes += 1;
        }
        output.bytes.clear();
        output.bytes.shrink_to(KEPT_BUFFER);
        next_due
    }

    fn count(&self, output: &mut OutputBuffer) {
        if let (Some(at), false) = (output.at, output.tokens.is_empty()) {
            let mut counters = self.counters();
            output
                .tokens
                .drain(..)
                .for_each(|tokens| counters.add_tokens(tokens, at));
        }
    }

    /// Advances responses that are due. Returns when the next one is due.
    fn advance_due(&self) -> Option<MonotonicTime> {
        let mut due = self.due.borrow_mut();
        for _ in 0..ADVANCES_PER_POLL {
            let mut first = due.peek_mut()?;
            let now = MonotonicTime::now();
            if first.due > now {
                break;
            }
            let writer = first.writer.upgrade();
            match writer.and_then(|writer| self.advance(&writer, now)) {
                Some(next) => first.due = next,
                None => drop(PeekMut::pop(first)),
            }
        }
        due.peek().map(|first| first.due)
    }

    /// Advances responses when they are due, for ever.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to set the timer.
    pub(crate) async fn run(&self, mut timer: Timer) -> io::Result<()> {
        loop {
            let next = self.advance_due();
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

impl WriterState {
    fn continue_with(&mut self, next: NextStep) -> Option<MonotonicTime> {
        match next {
            NextStep::At(due) => Some(due),
            NextStep::Finished(fate) => {
                self.fate = Some(fate);
                self.wake()
            }
        }
    }

    fn block(&mut self, bytes: Vec<u8>, sent: usize, next: NextStep) -> Option<MonotonicTime> {
        self.blocked = Some((bytes, sent, next));
        self.wake()
    }

    fn wake(&mut self) -> Option<MonotonicTime> {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        None
    }
}

impl PartialEq for ScheduledResponse {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for ScheduledResponse {}

impl PartialOrd for ScheduledResponse {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ScheduledResponse {
    /// The earliest is the greatest, for a heap whose top is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}
