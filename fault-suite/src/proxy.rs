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
    sync::watch,
    task::JoinSet,
};
use url::Url;

const CHUNK: usize = 16 * 1024;

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
    /// Every chunk takes so long; of every `one_in` chunks one takes `stall` besides, as a packet that is lost and sent
    /// again does to a stream.
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
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let replies_lost = watch::Sender::new(false);
    let upwards = Direction {
        behaviour: behaviour.clone(),
        shared: &shared,
        replies_lost: &replies_lost,
        is_to_server: true,
    };
    let downwards = Direction {
        behaviour,
        is_to_server: false,
        ..upwards.clone()
    };
    let harm = tokio::select! {
        harm = upwards.pump(from_client, to_server) => harm,
        harm = downwards.pump(from_server, to_client) => harm,
    };
    if harm.is_some() {
        shared.harmed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connection was harmed on purpose.
struct Harm;

#[derive(Clone)]
struct Direction<'a> {
    behaviour: watch::Receiver<Behaviour>,
    shared: &'a Shared,
    replies_lost: &'a watch::Sender<bool>,
    is_to_server: bool,
}

impl Direction<'_> {
    /// Forwards until the stream ends, or until the behaviour says to reset it.
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Option<Harm> {
        let mut buffer = vec![0; CHUNK];
        let mut random = ChaCha12Rng::seed_from_u64(u64::from(self.is_to_server));
        let mut sent_before_reset = 0;
        let harm = loop {
            let read = tokio::select! {
                biased;
                changed = self.behaviour.changed() => match changed {
                    Ok(()) if *self.behaviour.borrow() == Behaviour::Refuse => break Some(Harm),
                    Ok(()) => { sent_before_reset = 0; continue }
                    Err(_proxy_is_gone) => break None,
                },
                read = from.read(&mut buffer) => read,
            };
            let Ok(length @ 1..) = read else { break None };
            let chunk = &buffer[..length];
            let behaviour = *self.behaviour.borrow();
            match behaviour {
                Behaviour::DropReplies if !self.is_to_server => {
                    self.shared.harmed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Behaviour::LoseReplyTo(_) if !self.is_to_server && *self.replies_lost.borrow() => {
                    break Some(Harm);
                }
                Behaviour::LoseReplyTo(request) if self.is_to_server && contains(chunk, request) => {
                    self.replies_lost.send_replace(true);
                }
                Behaviour::ResetAfter(bytes) if self.is_to_server => {
                    let rest = bytes.saturating_sub(sent_before_reset);
                    sent_before_reset += length;
                    if length >= rest {
                        // Whether the half frame still arrives makes no difference.
                        let _ = to.write_all(&chunk[..rest]).await;
                        break Some(Harm);
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
                    tokio::time::sleep(latency + if stalls { stall } else { Duration::ZERO }).await;
                }
                _ => {}
            }
            if to.write_all(chunk).await.is_err() {
                break None;
            }
        };
        if harm.is_some() {
            let _ = (from.as_ref().set_zero_linger(), to.as_ref().set_zero_linger());
        }
        harm
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
