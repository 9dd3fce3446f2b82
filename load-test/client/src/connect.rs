//! From a name to a connection.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{net::TcpStream, sync::Mutex, time::timeout};

use crate::{
    Dropped, Endpoint, Outcome, StreamError, lookout::Lookout, socket::Stamped, transport::Transport,
};

/// Connects to one server. Its name is resolved once, and again after none of its addresses answered.
#[derive(Debug)]
pub(crate) struct Connector {
    host: Rc<str>,
    port: u16,
    /// Those that answer. Asynchronous, so that the thousand requests that begin at once ask the resolver once.
    addresses: Mutex<Option<Rc<[SocketAddr]>>>,
    /// Where the next connection goes first.
    turn: Cell<usize>,
    lookout: Lookout,
}

impl Connector {
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let host = Rc::from(&*endpoint.host);
        let literal = endpoint.host.parse::<IpAddr>().ok();
        let addresses = literal.map(|ip| Rc::from([SocketAddr::new(ip, endpoint.port)]));
        Self {
            host,
            port: endpoint.port,
            addresses: Mutex::new(addresses),
            turn: Cell::default(),
            lookout: Lookout::new(),
        }
    }

    /// `limit` is for all addresses together.
    pub(crate) async fn connect(&self, endpoint: &Endpoint, limit: Duration) -> Result<Transport, Outcome> {
        let socket = self.connect_tcp(limit).await?;
        let stamped = Stamped::new(socket, self.lookout.clone());
        let Some(tls) = &endpoint.tls else {
            return Ok(Transport::Plain(stamped));
        };
        // Boxed: a handshake is large, and most load tests have none.
        let session = Box::pin(tls.connect(stamped)).await.map_err(|source| {
            let host = self.place();
            Outcome::StreamError(StreamError::Tls { host, source })
        })?;
        Ok(Transport::Tls(Box::new(session)))
    }

    /// Host and port, for messages.
    pub(crate) fn place(&self) -> Box<str> {
        format!("{}:{}", self.host, self.port).into()
    }

    /// Connections go to all addresses in turn, as many clients' would. One that does not answer is left out from then on, until none
    /// does (`localhost` is ::1 too, and few listen there).
    async fn connect_tcp(&self, limit: Duration) -> Result<TcpStream, Outcome> {
        let addresses = self.resolve().await?;
        let number = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let first = self.turn.replace(self.turn.get().wrapping_add(1)) % addresses.len();
        let mut silent = Vec::new();
        let mut failure = None;
        for address in addresses.iter().cycle().skip(first).take(addresses.len()) {
            // One that says nothing must leave time for the others.
            let connecting = timeout(limit / number, TcpStream::connect(address));
            let connected = connecting
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match connected.and_then(without_delay) {
                Ok(socket) => {
                    self.leave_out(&silent).await;
                    return Ok(socket);
                }
                Err(error) => match dropped(error) {
                    // Another address would need a descriptor or a port too.
                    Ok(dropped) => return Err(Outcome::Dropped(dropped)),
                    Err(error) => {
                        silent.push(*address);
                        failure = Some(error);
                    }
                },
            }
        }
        if self.host.parse::<IpAddr>().is_err() {
            *self.addresses.lock().await = None;
        }
        let host = self.place();
        Err(Outcome::StreamError(match failure {
            Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                StreamError::ConnectTimeout { host, limit }
            }
            failure => {
                let source = failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
                StreamError::Connect { host, source }
            }
        }))
    }

    async fn resolve(&self) -> Result<Rc<[SocketAddr]>, Outcome> {
        let mut known = self.addresses.lock().await;
        if let Some(addresses) = &*known {
            return Ok(Rc::clone(addresses));
        }
        let failed = |source| {
            let host = (*self.host).into();
            Outcome::StreamError(StreamError::Resolve { host, source })
        };
        let found = tokio::net::lookup_host((&*self.host, self.port)).await;
        let found: Rc<[SocketAddr]> = found.map_err(failed)?.collect();
        if found.is_empty() {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        *known = Some(Rc::clone(&found));
        Ok(found)
    }

    async fn leave_out(&self, silent: &[SocketAddr]) {
        if silent.is_empty() {
            return;
        }
        let mut known = self.addresses.lock().await;
        let answering = known.iter().flat_map(|known| known.iter());
        let answering: Vec<_> = answering
            .filter(|address| !silent.contains(address))
            .copied()
            .collect();
        *known = (!answering.is_empty()).then(|| answering.into());
    }
}

fn without_delay(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Tells what this process lacks from what the server refuses.
fn dropped(error: io::Error) -> Result<Dropped, io::Error> {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => Ok(Dropped::Descriptors(error)),
        Some(Errno::EADDRNOTAVAIL) => Ok(Dropped::Ports(error)),
        Some(Errno::ENOBUFS | Errno::ENOMEM) => Ok(Dropped::Memory(error)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use test_patience::patience;

    use super::*;

    /// Of a name with these addresses.
    fn connector(addresses: &[SocketAddr]) -> Connector {
        let endpoint = Endpoint::new(crate::Api::OpenAiChat, "http://several.test/v1", None).unwrap();
        let connector = Connector::new(&endpoint);
        *connector.addresses.try_lock().unwrap() = Some(addresses.into());
        connector
    }

    fn listening() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn connections_go_to_all_addresses_that_answer_in_turn() {
        let ((_one, one), (_other, other)) = (listening(), listening());
        // Nothing listens on tcpmux, and no test takes a port of the privileged.
        let refusing = SocketAddr::from(([127, 0, 0, 1], 1));
        let connector = connector(&[one, refusing, other]);
        let mut reached = Vec::new();
        for _ in 0..5 {
            let socket = connector.connect_tcp(patience()).await.unwrap();
            reached.push(socket.peer_addr().unwrap());
        }
        // The second goes to the one that refuses first, which is left out from then on.
        assert_eq!(reached, [one, other, one, other, one]);
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_leaves_time_for_the_next() {
        // A full backlog leaves further connections without an answer.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let _first = std::net::TcpStream::connect(silent).unwrap();
        let (_listener, answering) = listening();
        // Half of it is the other's: a busy machine may need more than this half.
        let mut limit = Duration::from_millis(100);
        let (connector, first) = loop {
            let connector = connector(&[silent, answering]);
            match connector.connect_tcp(limit).await {
                Ok(socket) => break (connector, socket),
                Err(error) => assert!(limit < patience(), "{error:?}"),
            }
            limit *= 2;
        };
        let second = connector.connect_tcp(patience()).await.unwrap();
        for socket in [first, second] {
            assert_eq!(socket.peer_addr().unwrap(), answering);
        }
    }

    #[test]
    fn what_this_process_lacks_is_told_from_what_the_server_refuses() {
        let of = |errno: Errno| dropped(io::Error::from(errno));
        assert!(matches!(of(Errno::EMFILE), Ok(Dropped::Descriptors(_))));
        assert!(matches!(of(Errno::ENFILE), Ok(Dropped::Descriptors(_))));
        assert!(matches!(of(Errno::EADDRNOTAVAIL), Ok(Dropped::Ports(_))));
        assert!(matches!(of(Errno::ENOBUFS), Ok(Dropped::Memory(_))));
        for refusal in [
            Errno::ECONNREFUSED,
            Errno::ECONNRESET,
            Errno::EHOSTUNREACH,
            Errno::ETIMEDOUT,
        ] {
            assert!(of(refusal).is_err(), "{refusal}");
        }
    }
}
