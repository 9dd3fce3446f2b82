use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{net::TcpStream, sync::Mutex, time::timeout};

use super::{
    first_content_poller::FirstContentPoller, socket::TimestampedSocket, tls::Tls, transport::Transport,
};
use crate::{MissingResource, Outcome, StreamError};

/// Connects to one server. Its name is resolved once, and again after none of its addresses accepted a connection.
#[derive(Debug)]
pub(crate) struct Connector {
    host: Rc<str>,
    port: u16,
    tls: Option<Tls>,
    /// The addresses that accept connections. An asynchronous mutex, so that a thousand requests that begin together resolve the name once.
    addresses: Mutex<Option<Rc<[SocketAddr]>>>,
    /// The index of the address that the next connection tries first.
    next_address: Cell<usize>,
    first_contents: FirstContentPoller,
}

impl Connector {
    pub(crate) fn new(host: &str, port: u16, tls: Option<Tls>) -> Self {
        let literal = host.parse::<IpAddr>().ok();
        let addresses = literal.map(|ip| Rc::from([SocketAddr::new(ip, port)]));
        Self {
            host: host.into(),
            port,
            tls,
            addresses: Mutex::new(addresses),
            next_address: Cell::default(),
            first_contents: FirstContentPoller::new(),
        }
    }

    /// `limit` is the time for all addresses together.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<Transport, Outcome> {
        let socket = self.connect_tcp(limit).await?;
        let socket = TimestampedSocket::new(socket, self.first_contents.clone());
        let Some(tls) = &self.tls else {
            return Ok(Transport::Plain(socket));
        };
        // Boxed because a handshake is large, and most load tests do not use TLS.
        let session = Box::pin(tls.connect(socket)).await.map_err(|source| {
            let host = self.host_and_port();
            Outcome::StreamError(StreamError::Tls { host, source })
        })?;
        Ok(Transport::Tls(Box::new(session)))
    }

    /// Host and port, for messages.
    pub(crate) fn host_and_port(&self) -> Box<str> {
        format!("{}:{}", self.host, self.port).into()
    }

    /// Connects to all addresses in turn, as many independent clients would. An address that fails is left out from then on, until all
    /// fail: `localhost` resolves to ::1 too, where few servers listen.
    async fn connect_tcp(&self, limit: Duration) -> Result<TcpStream, Outcome> {
        let addresses = self.resolve().await?;
        let number = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let first = self.next_address.replace(self.next_address.get().wrapping_add(1)) % addresses.len();
        let mut failed = Vec::new();
        let mut last_error = None;
        for address in addresses.iter().cycle().skip(first).take(addresses.len()) {
            // An address that does not respond must leave time for the others.
            let connecting = timeout(limit / number, TcpStream::connect(address));
            let connected = connecting
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match connected.and_then(without_delay) {
                Ok(socket) => {
                    self.leave_out(&failed).await;
                    return Ok(socket);
                }
                Err(error) => match missing_resource(error) {
                    // Another address would need the same resource.
                    Ok(missing) => return Err(Outcome::Dropped(missing)),
                    Err(error) => {
                        failed.push(*address);
                        last_error = Some(error);
                    }
                },
            }
        }
        if self.host.parse::<IpAddr>().is_err() {
            *self.addresses.lock().await = None;
        }
        let host = self.host_and_port();
        Err(Outcome::StreamError(match last_error {
            Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                StreamError::ConnectTimeout { host, limit }
            }
            other => {
                let source = other.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
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

    async fn leave_out(&self, failed: &[SocketAddr]) {
        if failed.is_empty() {
            return;
        }
        let mut known = self.addresses.lock().await;
        let answering = known.iter().flat_map(|known| known.iter());
        let answering: Vec<_> = answering
            .filter(|address| !failed.contains(address))
            .copied()
            .collect();
        *known = (!answering.is_empty()).then(|| answering.into());
    }
}

fn without_delay(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The resource whose lack the error reports, or the error itself.
fn missing_resource(error: io::Error) -> Result<MissingResource, io::Error> {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => Ok(MissingResource::Descriptors(error)),
        Some(Errno::EADDRNOTAVAIL) => Ok(MissingResource::Ports(error)),
        Some(Errno::ENOBUFS | Errno::ENOMEM) => Ok(MissingResource::Memory(error)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use test_patience::patience;

    use super::*;

    /// A connector to a name with these addresses.
    fn connector(addresses: &[SocketAddr]) -> Connector {
        let connector = Connector::new("several.test", 80, None);
        *connector.addresses.try_lock().unwrap() = Some(addresses.into());
        connector
    }

    fn listening() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn connections_go_in_turn_to_all_addresses_that_accept_them() {
        let ((_one, one), (_other, other)) = (listening(), listening());
        // Nothing listens on port 1 (tcpmux), and no test may bind a privileged port.
        let refusing = SocketAddr::from(([127, 0, 0, 1], 1));
        let connector = connector(&[one, refusing, other]);
        let mut reached = Vec::new();
        for _ in 0..5 {
            let socket = connector.connect_tcp(patience()).await.unwrap();
            reached.push(socket.peer_addr().unwrap());
        }
        // The second connection tries the refusing address first, which is left out from then on.
        assert_eq!(reached, [one, other, one, other, one]);
    }

    #[tokio::test]
    async fn an_address_that_does_not_respond_leaves_time_for_the_next() {
        // A full backlog leaves further connections without a response.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let _first = std::net::TcpStream::connect(silent).unwrap();
        let (_listener, answering) = listening();
        // The other address gets half of it. A busy machine may need more than the remaining half.
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
    fn a_missing_resource_is_distinguished_from_a_refusal_of_the_server() {
        let of = |errno: Errno| missing_resource(io::Error::from(errno));
        assert!(matches!(of(Errno::EMFILE), Ok(MissingResource::Descriptors(_))));
        assert!(matches!(of(Errno::ENFILE), Ok(MissingResource::Descriptors(_))));
        assert!(matches!(of(Errno::EADDRNOTAVAIL), Ok(MissingResource::Ports(_))));
        assert!(matches!(of(Errno::ENOBUFS), Ok(MissingResource::Memory(_))));
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
