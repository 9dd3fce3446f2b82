//! A TCP proxy between a service and a server, which injects network faults.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rand::{RngExt, SeedableRng, rngs::ChaCha12Rng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use url::Url;

const CHUNK: usize = 16 * 1024;
/// The largest number of chunks under way in one direction of one connection.
const MAX_CHUNKS_UNDER_WAY: usize = 64;

/// What the proxy does to its connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
    /// Forwards everything.
    Pass,
    /// Resets every connection, new ones at once.
    Refuse,
    /// Resets a connection after so many further bytes to the server, in the middle of a frame.
    ResetAfter(usize),
    /// Forwards everything until these bytes were sent to the server. Then drops the server's answer and resets the connection.
    LoseReplyTo(&'static [u8]),
    /// Forwards bytes to the server and drops all bytes from it, without a reset.
    DropReplies,
    /// Delays every chunk by `latency`. Delays one of `one_in` chunks, and all that follow it, by `stall` in addition, as a
    /// retransmitted packet delays a stream.
    Delay {
        latency: Duration,
        one_in: u32,
        stall: Duration,
    },
}

/// A running proxy. Dropping it resets its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    /// How often a fault was injected.
    faults_injected: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of `host` and connects to the server of `url`, at `default_port` where the URL has no port.
    pub(crate) async fn start(host: IpAddr, url: &str, default_port: u16) -> anyhow::Result<Self> {
        let url = Url::parse(url)?;
        let target = format!(
            "{}:{}",
            url.host_str().context("a URL without host")?,
            url.port().unwrap_or(default_port)
        );
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let (behaviour, receiver) = watch::channel(Behaviour::Pass);
        let shared = Arc::new(Shared {
            target,
            faults_injected: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, receiver, Arc::clone(&shared)));
        Ok(Self {
            address,
            behaviour,
            shared,
            _tasks: tasks,
        })
    }

    /// The URL `direct` with the proxy's address.
    pub(crate) fn url(&self, direct: &str) -> anyhow::Result<String> {
        let mut url = Url::parse(direct)?;
        url.set_host(Some(&self.address.ip().to_string()))?;
        url.set_port(Some(self.address.port()))
            .map_err(|()| anyhow::anyhow!("a URL without host"))?;
        Ok(url.into())
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// How often a fault was injected: connections reset or refused, replies lost, chunks delayed by a stall.
    pub(crate) fn faults_injected(&self) -> u64 {
        self.shared.faults_injected.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, behaviour: watch::Receiver<Behaviour>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(relay(client, behaviour.clone(), Arc::clone(&shared)));
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until either side ends it or the behaviour does.
async fn relay(client: TcpStream, behaviour: watch::Receiver<Behaviour>, shared: Arc<Shared>) {
    if *behaviour.borrow() == Behaviour::Refuse {
        shared.faults_injected.fetch_add(1, Ordering::Relaxed);
        return reset(client);
    }
    let Ok(server) = TcpStream::connect(&shared.target).await else {
        return reset(client);
    };
    // Small frames must not be delayed. A stream that refuses the option works all the same.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let replies_lost = watch::Sender::new(false);
    let upwards = Direction {
        behaviour: behaviour.clone(),
        shared: &shared,
        replies_lost: &replies_lost,
        is_to_server: true,
    };
    let downwards = Direction {
        behaviour: behaviour.clone(),
        is_to_server: false,
        ..upwards.clone()
    };
    let reset_connection = tokio::select! {
        biased;
        reset_connection = refused(behaviour) => reset_connection,
        reset_connection = upwards.pump(&mut from_client, &mut to_server) => reset_connection,
        reset_connection = downwards.pump(&mut from_server, &mut to_client) => reset_connection,
    };
    if reset_connection.is_some() {
        shared.faults_injected.fetch_add(1, Ordering::Relaxed);
        for stream in [to_client.as_ref(), to_server.as_ref()] {
            // If the option fails, the connection ends by FIN instead of RST.
            let _ = stream.set_zero_linger();
        }
    }
}

/// The connection must be reset.
struct ResetConnection;

/// Waits until connections are refused. `None` where the proxy was dropped.
async fn refused(mut behaviour: watch::Receiver<Behaviour>) -> Option<ResetConnection> {
    let refused = behaviour.wait_for(|now| *now == Behaviour::Refuse).await;
    refused.is_ok().then_some(ResetConnection)
}

#[derive(Clone)]
struct Direction<'a> {
    behaviour: watch::Receiver<Behaviour>,
    shared: &'a Shared,
    replies_lost: &'a watch::Sender<bool>,
    is_to_server: bool,
}

/// Bytes and the time at which they are delivered.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

impl Direction<'_> {
    /// Forwards until the stream ends, or until the behaviour says to reset it.
    async fn pump(self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> Option<ResetConnection> {
        let (departures, arrivals) = mpsc::channel(MAX_CHUNKS_UNDER_WAY);
        let mut delivering = std::pin::pin!(deliver(arrivals, to));
        let reset_connection = tokio::select! {
            reset_connection = self.depart(from, departures) => reset_connection,
            () = &mut delivering => return None,
        };
        // The chunks under way are delivered before the connection ends, half a frame included.
        delivering.await;
        reset_connection
    }

    async fn depart(
        mut self,
        from: &mut OwnedReadHalf,
        departures: mpsc::Sender<Chunk>,
    ) -> Option<ResetConnection> {
        let mut buffer = vec![0; CHUNK];
        let mut random = ChaCha12Rng::seed_from_u64(u64::from(self.is_to_server));
        let mut sent_before_reset = 0;
        let mut due = Instant::now();
        loop {
            let read = tokio::select! {
                biased;
                changed = self.behaviour.changed() => match changed {
                    Ok(()) => { sent_before_reset = 0; continue }
                    Err(_proxy_is_gone) => return None,
                },
                read = from.read(&mut buffer) => read,
            };
            let Ok(length @ 1..) = read else { return None };
            let mut chunk = &buffer[..length];
            let mut reset_connection = None;
            due = due.max(Instant::now());
            let behaviour = *self.behaviour.borrow();
            match behaviour {
                Behaviour::DropReplies if !self.is_to_server => {
                    self.shared.faults_injected.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Behaviour::LoseReplyTo(_) if !self.is_to_server && *self.replies_lost.borrow() => {
                    return Some(ResetConnection);
                }
                Behaviour::LoseReplyTo(request) if self.is_to_server && contains(chunk, request) => {
                    self.replies_lost.send_replace(true);
                }
                Behaviour::ResetAfter(bytes) if self.is_to_server => {
                    let rest = bytes.saturating_sub(sent_before_reset);
                    sent_before_reset += length;
                    if length >= rest {
                        chunk = &chunk[..rest];
                        reset_connection = Some(ResetConnection);
                    }
                }
                Behaviour::Delay {
                    latency,
                    one_in,
                    stall,
                } => {
                    let stalls = random.random_range(0..one_in) == 0;
                    if stalls {
                        self.shared.faults_injected.fetch_add(1, Ordering::Relaxed);
                    }
                    let held_up = if stalls { stall } else { Duration::ZERO };
                    due = due.max(Instant::now() + latency + held_up);
                }
                _ => {}
            }
            let bytes = chunk.to_vec();
            if departures.send(Chunk { due, bytes }).await.is_err() || reset_connection.is_some() {
                return reset_connection;
            }
        }
    }
}

/// Writes every chunk when it is due, in order, until there are no more or the reader is gone.
async fn deliver(mut arrivals: mpsc::Receiver<Chunk>, to: &mut OwnedWriteHalf) {
    while let Some(Chunk { due, bytes }) = arrivals.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn contains(chunk: &[u8], part: &[u8]) -> bool {
    chunk.windows(part.len()).any(|window| window == part)
}

/// Ends a connection by RST instead of FIN.
fn reset(stream: TcpStream) {
    // If the option fails, the connection ends by FIN instead of RST.
    let _ = stream.set_zero_linger();
    drop(stream);
}
