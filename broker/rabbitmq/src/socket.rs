use std::{
    io,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A hold on the socket that the client owns.
///
/// The client runs each connection on a thread of its own, which waits for ever where a broker accepts the connection
/// and then says nothing, or does not answer the close: heartbeats are watched only in between. Dropping this shuts
/// the socket down, and the thread ends.
#[derive(Debug, Default)]
pub(crate) struct SocketHold(Socket);

/// Where the thread that connects leaves the socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Socket(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Connecting,
    Connected(TcpStream),
    GivenUp,
}

impl SocketHold {
    pub(crate) fn socket(&self) -> Socket {
        self.0.clone()
    }
}

impl Socket {
    /// # Errors
    /// The socket cannot be duplicated, or nobody wants it any more.
    pub(crate) fn connected(&self, stream: &tokio::net::TcpStream) -> io::Result<()> {
        let mut state = self.lock();
        if matches!(*state, State::GivenUp) {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        *state = State::Connected(duplicate(stream)?);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SocketHold {
    fn drop(&mut self) {
        if let State::Connected(stream) = std::mem::replace(&mut *self.0.lock(), State::GivenUp) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(unix)]
fn duplicate(stream: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::fd::AsFd;
    stream.as_fd().try_clone_to_owned().map(TcpStream::from)
}

#[cfg(windows)]
fn duplicate(stream: &tokio::net::TcpStream) -> io::Result<TcpStream> {
    use std::os::windows::io::AsSocket;
    stream.as_socket().try_clone_to_owned().map(TcpStream::from)
}
