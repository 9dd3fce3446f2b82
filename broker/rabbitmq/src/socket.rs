use std::{
    io,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Shuts down the socket of a connection when it is dropped.
///
/// The AMQP client runs each connection on a thread of its own. That thread waits forever where the broker accepts the
/// connection and then sends nothing, or does not answer the close: the client checks heartbeats only in between. Shutting
/// down the socket ends the thread.
#[derive(Debug, Default)]
pub(crate) struct SocketGuard(SharedSocket);

/// Hands the socket from the thread that connects to the guard.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedSocket(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Connecting,
    Connected(TcpStream),
    GivenUp,
}

impl SocketGuard {
    pub(crate) fn socket(&self) -> SharedSocket {
        self.0.clone()
    }
}

impl SharedSocket {
    /// # Errors
    /// The socket cannot be duplicated, or the guard was dropped.
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

impl Drop for SocketGuard {
    fn drop(&mut self) {
        if let State::Connected(stream) = std::mem::replace(&mut *self.0.lock(), State::GivenUp) {
            // Fails where the socket is closed already.
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
