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

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;
/// Accepted connections on their way to another core.
const HANDED_OVER: usize = 1024;
/// The pause after an error, such as a lack of descriptors, which may be over by then.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The source of a core's connections. `L` is the listener, before and after it is registered with the core's runtime.
pub(crate) enum ConnectionSource<L> {
    /// The first core accepts connections and distributes them to all cores in turn.
    Listener {
        listener: L,
        other_cores: Vec<mpsc::Sender<StdStream>>,
        /// 0 is the first core itself.
        next_core: usize,
    },
    FirstCore(mpsc::Receiver<StdStream>),
}

impl ConnectionSource<StdListener> {
    /// One source for each core.
    pub(crate) fn for_cores(listener: StdListener, cores: usize) -> Vec<Self> {
        let (other_cores, receivers): (Vec<_>, Vec<_>) =
            (1..cores).map(|_| mpsc::channel(HANDED_OVER)).unzip();
        let first = Self::Listener {
            listener,
            other_cores,
            next_core: 0,
        };
        let others = receivers.into_iter().map(Self::FirstCore);
        std::iter::once(first).chain(others).collect()
    }

    /// To be called in the core's runtime.
    pub(crate) fn register(self) -> io::Result<ConnectionSource<TcpListener>> {
        Ok(match self {
            Self::FirstCore(connections) => ConnectionSource::FirstCore(connections),
            Self::Listener {
                listener,
                other_cores,
                next_core,
            } => ConnectionSource::Listener {
                listener: TcpListener::from_std(listener)?,
                other_cores,
                next_core,
            },
        })
    }
}

impl ConnectionSource<TcpListener> {
    /// The next connection of this core; `None` once the accepting core has ended. Calls `on_error` after every failure.
    pub(crate) async fn next(&mut self, on_error: impl Fn()) -> Option<TcpStream> {
        loop {
            let result = match self {
                Self::FirstCore(connections) => TcpStream::from_std(connections.recv().await?),
                Self::Listener {
                    listener,
                    other_cores,
                    next_core,
                } => match accept(listener, other_cores, next_core).await {
                    Ok(None) => continue,
                    Ok(Some(own)) => Ok(own),
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(socket) => return Some(socket),
                Err(_error) => {
                    on_error();
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }
}

/// Accepts a connection. `None` where it goes to another core.
async fn accept(
    listener: &TcpListener,
    other_cores: &[mpsc::Sender<StdStream>],
    next_core: &mut usize,
) -> io::Result<Option<TcpStream>> {
    let (socket, _peer) = listener.accept().await?;
    socket.set_nodelay(true)?;
    let core = *next_core;
    *next_core = (core + 1) % (other_cores.len() + 1);
    let Some(other) = core.checked_sub(1).and_then(|other| other_cores.get(other)) else {
        return Ok(Some(socket));
    };
    // The connections of a core that has ended are closed.
    let _ = other.send(socket.into_std()?).await;
    Ok(None)
}
