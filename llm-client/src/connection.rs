//! One HTTP/1.1 connection, driven by the task of the request that it serves.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::{
    Response,
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use precise_time::MonotonicTime;

use crate::socket::{Gauge, Transport};

/// Reads of one connection before others get their turn: what one stream may delay the stamps of the others by.
const READS_PER_TURN: u32 = 8;

/// Rounds of one turn. Tokio's budget of a task can make hyper's channels pending without end; only a new turn refills it.
const ROUNDS_PER_TURN: u32 = 64;

/// A connection and the request over it are polled by one task, one after the other: no task is spawned for the
/// connection, and none wakes another.
///
/// Hyper's two halves wake each other through the waker that they are polled with. Here that is [`Rounds`], which only
/// notes that another round is worth while; the socket alone wakes the task ([`Gauge::wakes`]). In each round the socket
/// gives at most one read, so that what a round brings forth has its last byte from the last read: hyper reads
/// only when its buffer is used up (`Buffered::read_mem`) or a head is incomplete (`Buffered::parse`), and
/// hands over one frame of a body before it decodes the next (`body::chan` holds one).
#[derive(Debug)]
pub(crate) struct Connection {
    /// None when it has ended. What waits for an answer learns of that when this is dropped. Boxed: it moves between requests
    /// and the pool, and the futures of requests have room for it more than once.
    http: Option<Box<http1::Connection<TokioIo<Transport>, Full<Bytes>>>>,
    sender: SendRequest<Full<Bytes>>,
    gauge: Rc<Gauge>,
    rounds: Rounds,
    _open: Open,
}

impl Connection {
    pub(crate) async fn new(
        transport: Transport,
        gauge: Rc<Gauge>,
        rounds: Rounds,
        open: Open,
        max_head_bytes: usize,
    ) -> hyper::Result<Self> {
        let (sender, http) = http1::Builder::new()
            // Hyper starts with 8 KiB for reading and goes up to this, where reads fill it or a head needs it. An exact
            // size would be the limit of heads too, and taken from the start by every one of 10 000 streams.
            .max_buf_size(max_head_bytes.max(8 << 10))
            .handshake(TokioIo::new(transport))
            .await?;
        Ok(Self {
            http: Some(Box::new(http)),
            sender,
            gauge,
            rounds,
            _open: open,
        })
    }

    pub(crate) fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> + use<> {
        self.gauge.begin();
        self.sender.try_send_request(request)
    }

    /// Drives the connection until `take` has something.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        mut take: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.gauge.wakes(cx.waker());
        for _ in 0..ROUNDS_PER_TURN {
            if self.gauge.reads() >= READS_PER_TURN {
                break;
            }
            self.rounds.begin();
            self.poll_once();
            if let Poll::Ready(taken) = take(&mut self.rounds.context()) {
                return Poll::Ready(taken);
            }
            if !self.rounds.is_another_due() && !self.gauge.was_refused() {
                self.gauge.take_reads();
                return Poll::Pending;
            }
        }
        self.gauge.take_reads();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether it is still open after a rest, and can serve another request.
    pub(crate) fn is_alive(&mut self, cx: &Context<'_>) -> bool {
        self.gauge.probe();
        self.is_idle(cx)
    }

    /// Whether it can serve another request.
    pub(crate) fn is_idle(&mut self, cx: &Context<'_>) -> bool {
        self.gauge.wakes(cx.waker());
        self.poll_once();
        self.http.is_some() && self.sender.is_ready()
    }

    /// Nobody waits for it until the next request.
    pub(crate) fn rest(&self) {
        self.gauge.wakes_nobody();
    }

    pub(crate) fn last_read(&self) -> MonotonicTime {
        self.gauge.last_read()
    }

    pub(crate) fn first_write(&self) -> Option<MonotonicTime> {
        self.gauge.first_write()
    }

    fn poll_once(&mut self) {
        self.gauge.allow_read();
        if let Some(http) = &mut self.http
            && Pin::new(&mut **http).poll(&mut self.rounds.context()).is_ready()
        {
            // Its error, if there is one, goes to the request.
            self.http = None;
        }
    }
}

/// Notes that hyper wants to be polled again.
#[derive(Debug, Clone)]
pub(crate) struct Rounds {
    flag: Arc<Flag>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Rounds {
    pub(crate) fn new() -> Self {
        let flag = Arc::<Flag>::default();
        let waker = Waker::from(Arc::clone(&flag));
        Self { flag, waker }
    }

    fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    fn begin(&self) {
        self.flag.0.store(false, Relaxed);
    }

    fn is_another_due(&self) -> bool {
        self.flag.0.load(Relaxed)
    }
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
pub(crate) struct Open(Rc<Cell<usize>>);

impl Open {
    pub(crate) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
