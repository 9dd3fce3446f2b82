use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::engine::Engine;

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;
/// Accepted connections on their way to another core.
const HANDED_OVER: usize = 1024;
/// After accepting has failed: what was missing may be back by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Where a core's connections come from.
pub(crate) enum Intake {
    /// The first core accepts, and deals them out.
    Listening {
        listener: StdListener,
        others: Vec<mpsc::Sender<StdStream>>,
        turn: usize,
    },
    Handed(mpsc::Receiver<StdStream>),
}

impl Intake {
    /// One for each core.
    pub(crate) fn of_cores(listener: StdListener, cores: usize) -> Vec<Self> {
        let (others, handed): (Vec<_>, Vec<_>) = (1..cores).map(|_| mpsc::channel(HANDED_OVER)).unzip();
        let first = Self::Listening {
            listener,
            others,
            turn: 0,
        };
        let handed = handed.into_iter().map(Self::Handed);
        std::iter::once(first).chain(handed).collect()
    }
}

/// An [`Intake`] in its core's runtime.
pub(crate) enum Source {
    Listening {
        listener: TcpListener,
        others: Vec<mpsc::Sender<StdStream>>,
        turn: usize,
    },
    Handed(mpsc::Receiver<StdStream>),
}

impl Source {
    pub(crate) fn new(intake: Intake) -> io::Result<Self> {
        Ok(match intake {
            Intake::Handed(from) => Self::Handed(from),
            Intake::Listening {
                listener,
                others,
                turn,
            } => Self::Listening {
                listener: TcpListener::from_std(listener)?,
                others,
                turn,
            },
        })
    }

    /// The next connection of this core. Nothing once the core that accepts has ended.
    pub(crate) async fn next(&mut self, engine: &Engine) -> Option<TcpStream> {
        loop {
            let result = match self {
                Self::Handed(from) => TcpStream::from_std(from.recv().await?),
                Self::Listening {
                    listener,
                    others,
                    turn,
                } => match accept(listener, others, turn).await {
                    Ok(Some(mine)) => Ok(mine),
                    Ok(None) => continue,
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(socket) => return Some(socket),
                Err(_error) => {
                    engine.counters().accept_errors += 1;
                    // Out of descriptors, accepting fails at once, again and again.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts a connection. Nothing where it is another core's turn to have it.
async fn accept(
    listener: &TcpListener,
    others: &[mpsc::Sender<StdStream>],
    turn: &mut usize,
) -> io::Result<Option<TcpStream>> {
    let (socket, _peer) = listener.accept().await?;
    socket.set_nodelay(true)?;
    let place = *turn;
    *turn = (place + 1) % (others.len() + 1);
    let Some(other) = place.checked_sub(1).and_then(|other| others.get(other)) else {
        return Ok(Some(socket));
    };
    // A core that has ended takes its connections with it.
    let _ = other.send(socket.into_std()?).await;
    Ok(None)
}
