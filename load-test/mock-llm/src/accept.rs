use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{net::TcpListener, sync::mpsc};

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;
/// The capacity of a core's channel of accepted connections.
pub(crate) const CHANNEL_CAPACITY: usize = 1024;
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

/// Accepts connections, and distributes them to the cores in turn. Calls `on_error` after every failure.
pub(crate) async fn accept_all(
    listener: TcpListener,
    cores: Vec<mpsc::Sender<StdStream>>,
    on_error: impl Fn(),
) {
    for core in cores.iter().cycle() {
        let connection = loop {
            match accept(&listener).await {
                Ok(connection) => break connection,
                Err(_error) => {
                    on_error();
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        };
        // The connections of a core that has ended are closed.
        let _ = core.send(connection).await;
    }
}

/// A core's runtime registers the connection again.
async fn accept(listener: &TcpListener) -> io::Result<StdStream> {
    let (socket, _peer) = listener.accept().await?;
    socket.set_nodelay(true)?;
    socket.into_std()
}
