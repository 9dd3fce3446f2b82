use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use precise_time::MonotonicTime;
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    answer::Ending,
    engine::{Engine, Link},
    http::{Answer, Progress, Refusal, RequestReader},
    route::{Generation, Reply, refused, route},
    stats::Counters,
};

/// A request that has begun has to be complete within this.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to read a short answer, or to stop sending a request that was refused.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
const READ_SIZE: usize = 4 * 1024;
/// Pipelined bytes that are read while an answer is under way.
const READ_AHEAD: usize = 64 * 1024;

/// One connection: reads requests, one after the other.
pub(crate) struct Connection {
    engine: Rc<Engine>,
    reader: OwnedReadHalf,
    link: Rc<Link>,
    buffer: Vec<u8>,
}

/// A request that was answered at once or waits for its answer.
struct Routed {
    reply: Reply,
    keep_alive: bool,
    received: MonotonicTime,
}

impl Connection {
    pub(crate) fn new(engine: Rc<Engine>, socket: TcpStream) -> Self {
        let (reader, writer) = socket.into_split();
        Self {
            engine,
            reader,
            link: Link::new(writer),
            buffer: Vec::with_capacity(READ_SIZE),
        }
    }

    /// Serves until either side has had enough.
    pub(crate) async fn run(mut self) {
        let engine = Rc::clone(&self.engine);
        let open = Gauge::raise(&engine, |counters| &mut counters.connections);
        let ending = loop {
            match self.serve_one().await {
                Ending::KeepAlive => {}
                ending => break ending,
            }
        };
        drop(open);
        self.end(ending).await;
    }

    async fn serve_one(&mut self) -> Ending {
        let routed = match self.next_request().await {
            Ok(Some(routed)) => routed,
            Ok(None) => return Ending::Gone,
            Err(refusal) => {
                let told = self.write_all(&refused(&refusal).bytes(false)).await;
                return if told.is_ok() { Ending::Close } else { Ending::Gone };
            }
        };
        match routed.reply {
            Reply::Now(answer) => self.answer(&answer, routed.keep_alive).await,
            Reply::Generate(generation) => self.generate(*generation, routed.received).await,
        }
    }

    async fn answer(&mut self, answer: &Answer, keep_alive: bool) -> Ending {
        match self.write_all(&answer.bytes(keep_alive)).await {
            Err(_gone) => Ending::Gone,
            Ok(()) if keep_alive => Ending::KeepAlive,
            Ok(()) => Ending::Close,
        }
    }

    /// Nothing where the client leaves between two requests, or in one.
    async fn next_request(&mut self) -> Result<Option<Routed>, Refusal> {
        // Waiting for a request costs no timer; one that has begun is timed.
        if self.buffer.is_empty() && self.read().await.is_none() {
            return Ok(None);
        }
        let mut reader = RequestReader::default();
        let received = MonotonicTime::now();
        if let Progress::Complete(length) = self.advance(&mut reader).await? {
            return Ok(self.route(&reader, length, received));
        }
        let rest = timeout(REQUEST_PATIENCE, self.read_rest(&mut reader)).await;
        rest.unwrap_or(Err(Refusal::TooSlow(REQUEST_PATIENCE.as_secs())))
    }

    async fn read_rest(&mut self, reader: &mut RequestReader) -> Result<Option<Routed>, Refusal> {
        while self.read().await.is_some() {
            let received = MonotonicTime::now();
            if let Progress::Complete(length) = self.advance(reader).await? {
                return Ok(self.route(reader, length, received));
            }
        }
        Ok(None)
    }

    async fn advance(&mut self, reader: &mut RequestReader) -> Result<Progress, Refusal> {
        let progress = reader.advance(&self.buffer)?;
        if progress == (Progress::Partial { owes_continue: true }) {
            // Where it fails, so does the read that follows.
            let _ = self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        Ok(progress)
    }

    fn route(&mut self, reader: &RequestReader, length: usize, received: MonotonicTime) -> Option<Routed> {
        let (head, body) = reader.request(&self.buffer)?;
        let number = self.engine.shared.next_number();
        self.engine.counters().requests += 1;
        let routed = Routed {
            reply: route(&self.engine.shared, number, head, body),
            keep_alive: head.keep_alive,
            received,
        };
        self.buffer.drain(..length);
        if self.buffer.is_empty() {
            self.buffer.shrink_to(READ_AHEAD);
        }
        Some(routed)
    }

    /// Nothing at the connection's end.
    async fn read(&mut self) -> Option<usize> {
        self.buffer.reserve(READ_SIZE);
        let read = self.reader.read_buf(&mut self.buffer).await;
        read.ok().filter(|length| *length > 0)
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let writer = &self.link.writer;
        let all = async {
            while !bytes.is_empty() {
                match writer.try_write(bytes) {
                    Ok(written) => bytes = &bytes[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => writer.writable().await?,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(CLOSING_PATIENCE, all).await?
    }

    async fn generate(&mut self, generation: Generation, received: MonotonicTime) -> Ending {
        let engine = Rc::clone(&self.engine);
        let in_flight = Gauge::raise(&engine, |counters| &mut counters.in_flight);
        let ending = match self.slot().await {
            None => Ending::Gone,
            Some(slot) => {
                let admitted = slot.as_ref().map_or(received, |slot| slot.admitted_at(received));
                engine.begin(&self.link, generation.begin(&engine.shared, received, admitted));
                poll_fn(|context| self.poll_ending(context)).await
            }
        };
        drop(in_flight);
        engine.counters().disconnects += u64::from(ending == Ending::Gone);
        ending
    }

    fn poll_ending(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        match self.engine.poll_ending(&self.link, context) {
            Poll::Ready(Ending::Silence) | Poll::Pending => self.poll_gone(context).map(|()| Ending::Gone),
            ending => ending,
        }
    }

    /// Waits for a slot. Nothing where the client leaves before there is one.
    async fn slot(&mut self) -> Option<Option<Slot>> {
        let Some(slots) = self.engine.shared.slots.clone() else {
            return Some(None);
        };
        if let Ok(permit) = Arc::clone(&slots).try_acquire_owned() {
            return Some(Some(Slot {
                _permit: permit,
                waited: false,
            }));
        }
        let engine = Rc::clone(&self.engine);
        let _queued = Gauge::raise(&engine, |counters| &mut counters.queued);
        let permit = tokio::select! {
            biased;
            permit = Semaphore::acquire_owned(slots) => permit.ok(),
            () = poll_fn(|context| self.poll_gone(context)) => None,
        };
        permit.map(|permit| {
            Some(Slot {
                _permit: permit,
                waited: true,
            })
        })
    }

    /// Waits until the client closes the connection; what it sends is kept for later.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.buffer.len() < READ_AHEAD {
            let mut bytes = [0; 1024];
            let mut read = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.reader).poll_read(context, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.buffer.extend_from_slice(read.filled());
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    async fn end(self, ending: Ending) {
        let Self { mut reader, link, .. } = self;
        // Answers hold it weakly, and nobody else has it.
        let Some(link) = Rc::into_inner(link) else { return };
        if ending == Ending::Reset {
            // Where it fails, the client gets an orderly end, and its test says so.
            let _ = link.writer.as_ref().set_zero_linger();
            return link.writer.forget();
        }
        drop(link);
        if ending == Ending::Close {
            // Closing while there are unread bytes would reset the connection, and the client might lose the answer.
            let mut rest = [0; READ_SIZE];
            let drained = async { while reader.read(&mut rest).await.is_ok_and(|length| length > 0) {} };
            let _ = timeout(CLOSING_PATIENCE, drained).await;
        }
    }
}

/// One more of something, until it is dropped: also where a task is.
struct Gauge<'a> {
    engine: &'a Engine,
    of: fn(&mut Counters) -> &mut u64,
}

impl<'a> Gauge<'a> {
    fn raise(engine: &'a Engine, of: fn(&mut Counters) -> &mut u64) -> Self {
        *of(&mut engine.counters()) += 1;
        Self { engine, of }
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        *(self.of)(&mut self.engine.counters()) -= 1;
    }
}

/// Room for one answer, given back when it ends.
struct Slot {
    _permit: OwnedSemaphorePermit,
    waited: bool,
}

impl Slot {
    fn admitted_at(&self, received: MonotonicTime) -> MonotonicTime {
        if self.waited {
            MonotonicTime::now()
        } else {
            received
        }
    }
}
