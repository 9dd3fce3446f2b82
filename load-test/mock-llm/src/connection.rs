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
    http::{HttpResponse, ReadProgress, Refusal, RequestReader},
    pacer::{Pacer, ResponseWriter},
    response::ConnectionFate,
    route::{Reply, WaitingGeneration, refused, route},
    stats::Stats,
};

/// A request that has begun must be complete within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A client must read a short response, or stop sending a refused request, within this time.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);
/// In bytes.
const READ_SIZE: usize = 4 * 1024;
/// The limit of bytes that are read while a response is in progress: pipelined requests.
const READ_AHEAD: usize = 64 * 1024;

/// One connection, which serves requests one after the other.
pub(crate) struct Connection {
    pacer: Rc<Pacer>,
    reader: OwnedReadHalf,
    writer: Rc<ResponseWriter>,
    buffer: Vec<u8>,
}

/// A request with its reply.
struct RoutedRequest {
    reply: Reply,
    keep_alive: bool,
    received: MonotonicTime,
}

impl Connection {
    pub(crate) fn new(pacer: Rc<Pacer>, socket: TcpStream) -> Self {
        let (reader, writer) = socket.into_split();
        Self {
            pacer,
            reader,
            writer: ResponseWriter::new(writer),
            buffer: Vec::with_capacity(READ_SIZE),
        }
    }

    /// Serves requests until either side closes the connection.
    pub(crate) async fn run(mut self) {
        let pacer = Rc::clone(&self.pacer);
        let open = Gauge::raise(&pacer, |stats| &mut stats.connections);
        let fate = loop {
            match self.serve_one().await {
                ConnectionFate::KeepAlive => {}
                fate => break fate,
            }
        };
        drop(open);
        self.end(fate).await;
    }

    async fn serve_one(&mut self) -> ConnectionFate {
        let routed = match self.next_request().await {
            Ok(Some(routed)) => routed,
            Ok(None) => return ConnectionFate::Gone,
            Err(refusal) => {
                let told = self.write_all(&refused(&refusal).bytes(false)).await;
                return if told.is_ok() {
                    ConnectionFate::Close
                } else {
                    ConnectionFate::Gone
                };
            }
        };
        match routed.reply {
            Reply::Now(response) => self.respond(&response, routed.keep_alive).await,
            Reply::Generate(generation) => self.generate(*generation, routed.received).await,
        }
    }

    async fn respond(&mut self, response: &HttpResponse, keep_alive: bool) -> ConnectionFate {
        match self.write_all(&response.bytes(keep_alive)).await {
            Err(_gone) => ConnectionFate::Gone,
            Ok(()) => ConnectionFate::orderly(keep_alive),
        }
    }

    /// `None` where the client closes the connection between two requests, or within one.
    async fn next_request(&mut self) -> Result<Option<RoutedRequest>, Refusal> {
        // A request is timed only after it has begun, so that idle connections need no timer.
        if self.buffer.is_empty() && self.read().await.is_none() {
            return Ok(None);
        }
        let mut reader = RequestReader::default();
        let received = MonotonicTime::now();
        if let ReadProgress::Complete(length) = self.advance(&mut reader).await? {
            return Ok(self.route(&reader, length, received));
        }
        let rest = timeout(REQUEST_TIMEOUT, self.read_rest(&mut reader)).await;
        rest.unwrap_or(Err(Refusal::TooSlow(REQUEST_TIMEOUT.as_secs())))
    }

    async fn read_rest(&mut self, reader: &mut RequestReader) -> Result<Option<RoutedRequest>, Refusal> {
        while self.read().await.is_some() {
            let received = MonotonicTime::now();
            if let ReadProgress::Complete(length) = self.advance(reader).await? {
                return Ok(self.route(reader, length, received));
            }
        }
        Ok(None)
    }

    async fn advance(&mut self, reader: &mut RequestReader) -> Result<ReadProgress, Refusal> {
        let progress = reader.advance(&self.buffer)?;
        if progress == (ReadProgress::Partial { owes_continue: true }) {
            // When the write fails, the read that follows fails too.
            let _ = self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        Ok(progress)
    }

    fn route(
        &mut self,
        reader: &RequestReader,
        length: usize,
        received: MonotonicTime,
    ) -> Option<RoutedRequest> {
        let (head, body) = reader.request(&self.buffer)?;
        let number = self.pacer.server.next_number();
        self.pacer.counters().stats.requests += 1;
        let routed = RoutedRequest {
            reply: route(&self.pacer.server, number, head, body),
            keep_alive: head.keep_alive,
            received,
        };
        self.buffer.drain(..length);
        if self.buffer.is_empty() {
            self.buffer.shrink_to(READ_AHEAD);
        }
        Some(routed)
    }

    /// `None` at the end of the connection.
    async fn read(&mut self) -> Option<usize> {
        self.buffer.reserve(READ_SIZE);
        let read = self.reader.read_buf(&mut self.buffer).await;
        read.ok().filter(|length| *length > 0)
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let socket = &self.writer.socket;
        let all = async {
            while !bytes.is_empty() {
                match socket.try_write(bytes) {
                    Ok(written) => bytes = &bytes[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(CLOSING_TIMEOUT, all).await?
    }

    async fn generate(&mut self, generation: WaitingGeneration, received: MonotonicTime) -> ConnectionFate {
        let pacer = Rc::clone(&self.pacer);
        let in_flight = Gauge::raise(&pacer, |stats| &mut stats.in_flight);
        let fate = match self.slot(received).await {
            None => ConnectionFate::Gone,
            Some((_permit, admitted)) => {
                let response = generation.begin(&pacer.server, received, admitted);
                pacer.begin(&self.writer, response);
                poll_fn(|context| self.poll_end(context)).await
            }
        };
        drop(in_flight);
        pacer.counters().stats.disconnects += u64::from(fate == ConnectionFate::Gone);
        fate
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<ConnectionFate> {
        match self.pacer.poll_end(&self.writer, context) {
            Poll::Ready(ConnectionFate::Silence) | Poll::Pending => {
                self.poll_gone(context).map(|()| ConnectionFate::Gone)
            }
            fate => fate,
        }
    }

    /// Waits for a slot, and returns it with the time of admission. `None` where the client closes the connection before.
    async fn slot(
        &mut self,
        received: MonotonicTime,
    ) -> Option<(Option<OwnedSemaphorePermit>, MonotonicTime)> {
        let Some(slots) = self.pacer.server.slots.clone() else {
            return Some((None, received));
        };
        if let Ok(permit) = Arc::clone(&slots).try_acquire_owned() {
            return Some((Some(permit), received));
        }
        let pacer = Rc::clone(&self.pacer);
        let _queued = Gauge::raise(&pacer, |stats| &mut stats.queued);
        tokio::select! {
            biased;
            permit = Semaphore::acquire_owned(slots) => Some((permit.ok(), MonotonicTime::now())),
            () = poll_fn(|context| self.poll_gone(context)) => None,
        }
    }

    /// Waits until the client closes the connection. Keeps the bytes that it sends meanwhile.
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

    async fn end(self, fate: ConnectionFate) {
        let Self {
            mut reader, writer, ..
        } = self;
        // Scheduled responses hold only weak references.
        let Some(writer) = Rc::into_inner(writer) else {
            return;
        };
        if fate == ConnectionFate::Reset {
            // When this fails, the connection is closed in an orderly way instead.
            let _ = writer.socket.as_ref().set_zero_linger();
            return writer.socket.forget();
        }
        drop(writer);
        if fate == ConnectionFate::Close {
            // Closing a socket with unread bytes would reset the connection, and the client might lose the response.
            let mut rest = [0; READ_SIZE];
            let drained = async { while reader.read(&mut rest).await.is_ok_and(|length| length > 0) {} };
            let _ = timeout(CLOSING_TIMEOUT, drained).await;
        }
    }
}

/// Increments a number of the statistics until it is dropped, which also happens when the task is cancelled.
struct Gauge<'a> {
    pacer: &'a Pacer,
    number: fn(&mut Stats) -> &mut u64,
}

impl<'a> Gauge<'a> {
    fn raise(pacer: &'a Pacer, number: fn(&mut Stats) -> &mut u64) -> Self {
        *number(&mut pacer.counters().stats) += 1;
        Self { pacer, number }
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        *(self.number)(&mut self.pacer.counters().stats) -= 1;
    }
}
