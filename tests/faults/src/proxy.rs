//! A TCP proxy between a service and a server, which fails on command.

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
/// Chunks that are on their way in one direction of one connection.
const ON_THE_WAY: usize = 64;

/// What the proxy does to the connections that pass it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
    /// Forwards.
    Pass,
    /// Resets every connection, and each new one at once.
    Refuse,
    /// Resets a connection after so many more bytes to the server: in the middle of a frame.
    ResetAfter(usize),
    /// Forwards what goes to the server; swallows what it answers after this was sent to it, and resets the connection.
    LoseReplyTo(&'static [u8]),
    /// Forwards what goes to the server and nothing that comes back, without a reset.
    DropReplies,
    /// Every chunk arrives so much later; one of `one_in` chunks is held up for `stall` besides, and all that follow it,
    /// as a packet that is lost or overtaken and sent again does to a stream.
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
    /// How often the behaviour did any harm.
    harmed: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of `host`, for connections to the server of `url` (of which the default port is this).
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
            harmed: AtomicU64::new(0),
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

    /// The URL, by way of the proxy.
    pub(crate) fn url(&self, direct: &str) -> anyhow::Result<String> {
        let mut url = Url::parse(direct)?;
        url.set_host(Some(&self.address.ip().to_string()))?;
        url.set_port(Some(self.address.port()))
            .map_err(|()| anyhow::anyhow!("a URL without host"))?;
        Ok(url.into())
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// How often a behaviour did any harm: connections reset or refused, replies lost, chunks delayed by a stall.
    pub(crate) fn harmed(&self) -> u64 {
        self.shared.harmed.load(Ordering::Relaxed)
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
        shared.harmed.fetch_add(1, Ordering::Relaxed);
        return reset(client);
    }
    let Ok(server) = TcpStream::connect(&shared.target).await else {
        return reset(client);
    };
    // Small frames are to arrive as they were sent; a stream that refuses the option works all the same.
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
    let harm = tokio::select! {
        biased;
        harm = refused(behaviour) => harm,
        harm = upwards.pump(&mut from_client, &mut to_server) => harm,
        harm = downwards.pump(&mut from_server, &mut to_client) => harm,
    };
    if harm.is_some() {
        shared.harmed.fetch_add(1, Ordering::Relaxed);
        for stream in [to_client.as_ref(), to_server.as_ref()] {
            // Without the option it ends by FIN: an end all the same.
            let _ = stream.set_zero_linger();
        }
    }
}

/// The connection was harmed on purpose.
struct Harm;

/// Waits until connections are refused; without harm where the proxy is gone.
async fn refused(mut behaviour: watch::Receiver<Behaviour>) -> Option<Harm> {
    let refused = behaviour.wait_for(|now| *now == Behaviour::Refuse).await;
    refused.is_ok().then_some(Harm)
}

#[derive(Clone)]
struct Direction<'a> {
    behaviour: watch::Receiver<Behaviour>,
    shared: &'a Shared,
    replies_lost: &'a watch::Sender<bool>,
    is_to_server: bool,
}

/// Bytes that arrive at a given time.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

impl Direction<'_> {
    /// Forwards until the stream ends, or until the behaviour says to reset it.
    async fn pump(self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> Option<Harm> {
        let (departures, arrivals) = mpsc::channel(ON_THE_WAY);
        let mut delivering = std::pin::pin!(deliver(arrivals, to));
        let harm = tokio::select! {
            harm = self.depart(from, departures) => harm,
            () = &mut delivering => return None,
        };
        // What is on its way arrives before the end, half a frame included.
        delivering.await;
        harm
    }

    async fn depart(mut self, from: &mut OwnedReadHalf, departures: mpsc::Sender<Chunk>) -> Option<Harm> {
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
            let mut harm = None;
            due = due.max(Instant::now());
            let behaviour = *self.behaviour.borrow();
            match behaviour {
                Behaviour::DropReplies if !self.is_to_server => {
                    self.shared.harmed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Behaviour::LoseReplyTo(_) if !self.is_to_server && *self.replies_lost.borrow() => {
                    return Some(Harm);
                }
                Behaviour::LoseReplyTo(request) if self.is_to_server && contains(chunk, request) => {
                    self.replies_lost.send_replace(true);
                }
                Behaviour::ResetAfter(bytes) if self.is_to_server => {
                    let rest = bytes.saturating_sub(sent_before_reset);
                    sent_before_reset += length;
                    if length >= rest {
                        chunk = &chunk[..rest];
                        harm = Some(Harm);
                    }
                }
                Behaviour::Delay {
                    latency,
                    one_in,
                    stall,
                } => {
                    let stalls = random.random_range(0..one_in) == 0;
                    if stalls {
                        self.shared.harmed.fetch_add(1, Ordering::Relaxed);
                    }
                    let held_up = if stalls { stall } else { Duration::ZERO };
                    due = due.max(Instant::now() + latency + held_up);
                }
                _ => {}
            }
            let bytes = chunk.to_vec();
            if departures.send(Chunk { due, bytes }).await.is_err() || harm.is_some() {
                return harm;
            }
        }
    }
}

/// Writes every chunk when it is due, in their order, until there are no more or nobody reads them.
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
    // Without the option it ends by FIN: an end all the same.
    let _ = stream.set_zero_linger();
    drop(stream);
}
