//! From a name to a connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use tokio::{net::TcpStream, sync::Mutex};

use crate::{
    Dropped, Endpoint, Outcome, StreamError,
    socket::{Gauge, Stamped, Transport},
};

/// Connects to one server. Its name is resolved once, and again after none of its addresses answered.
#[derive(Debug)]
pub(crate) struct Connector {
    host: Rc<str>,
    port: u16,
    /// Asynchronous, so that the thousand requests that begin at once ask the resolver once.
    addresses: Mutex<Option<Rc<[SocketAddr]>>>,
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
        }
    }

    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<(Transport, Rc<Gauge>), Outcome> {
        let socket = self.connect_tcp().await?;
        let gauge = Rc::new(Gauge::new());
        let stamped = Stamped::new(socket, Rc::clone(&gauge));
        let Some(tls) = &endpoint.tls else {
            return Ok((Transport::Plain(stamped), gauge));
        };
        // Boxed: a handshake is large, and most load tests have none.
        let session = Box::pin(tls.connect(stamped)).await.map_err(|source| {
            let host = self.place();
            Outcome::StreamError(StreamError::Tls { host, source })
        })?;
        Ok((Transport::Tls(Box::new(session)), gauge))
    }

    /// Host and port, for messages.
    pub(crate) fn place(&self) -> Box<str> {
        format!("{}:{}", self.host, self.port).into()
    }

    async fn connect_tcp(&self) -> Result<TcpStream, Outcome> {
        let addresses = self.resolve().await?;
        let mut failure = None;
        for (nth, address) in addresses.iter().enumerate() {
            match TcpStream::connect(address).await.and_then(without_delay) {
                Ok(socket) => {
                    if nth > 0 {
                        self.prefer(&addresses, nth).await;
                    }
                    return Ok(socket);
                }
                Err(error) => match dropped(error) {
                    // Another address would need a descriptor or a port too.
                    Ok(dropped) => return Err(Outcome::Dropped(dropped)),
                    Err(error) => failure = Some(error),
                },
            }
        }
        if self.host.parse::<IpAddr>().is_err() {
            *self.addresses.lock().await = None;
        }
        let source = failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        let host = self.place();
        Err(Outcome::StreamError(StreamError::Connect { host, source }))
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

    /// The address that answered is the first to be tried from now on (`localhost` is ::1 first, and few listen there).
    async fn prefer(&self, addresses: &[SocketAddr], nth: usize) {
        let mut reordered = addresses.to_vec();
        reordered.swap(0, nth);
        *self.addresses.lock().await = Some(reordered.into());
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

    use super::*;

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
