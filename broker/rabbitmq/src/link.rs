use std::{io, time::Duration};

use futures::{Stream, TryFutureExt};
use lapin::{
    Channel, Connection, ConnectionProperties, Event, options::ConfirmSelectOptions, tcp::AsyncTcpStream,
    uri::AMQPUri,
};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    server_version,
    socket::{SharedSocket, SocketGuard},
    transport,
};

/// How often the state of a link is checked. Not every loss of a link raises an event.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the broker may take to answer a close. Then the socket is shut down.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const REPLY_SUCCESS: u16 = 200;

/// One connection to the broker. A lost one is replaced, never repaired.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    uri: AMQPUri,
    server_version: OnceCell<String>,
    /// Dropped after the connection, which sends a close when it is dropped.
    _socket_guard: SocketGuard,
}

impl Link {
    /// Connects. `purpose` is shown in the management UI.
    ///
    /// The AMQP client's own recovery stays off: it can end in a state in which it neither works nor reports an error.
    pub(crate) async fn open(settings: &RabbitMqSettings, purpose: &str) -> Result<Self, LinkError> {
        let guard = SocketGuard::default();
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("{}: {purpose}", settings.app_id).into());
        let limit = settings.connect_timeout;
        let connect = connect(settings.uri(), guard.socket(), limit, properties).map_err(LinkError::Connect);
        let connection = answered("connecting", limit, connect).await?;
        Ok(Self {
            connection,
            uri: settings.uri(),
            server_version: OnceCell::new(),
            _socket_guard: guard,
        })
    }

    pub(crate) async fn channel(&self) -> Result<Channel, LinkError> {
        self.connection.create_channel().await.map_err(LinkError::Channel)
    }

    /// A channel with publisher confirms.
    pub(crate) async fn confirming_channel(&self) -> Result<Channel, LinkError> {
        let channel = self.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(LinkError::Channel)?;
        Ok(channel)
    }

    /// The events of the connection: blocked, unblocked, errors.
    pub(crate) fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        Box::pin(self.connection.events_listener())
    }

    /// Fails where the connection or the channel is closed. Not every close raises an event.
    pub(crate) fn check(&self, channel: &Channel) -> Result<(), LinkError> {
        if self.connection.status().connected() && channel.status().connected() {
            Ok(())
        } else {
            Err(LinkError::ChannelClosed)
        }
    }

    /// The server's name and version, such as `RabbitMQ 3.10.8`.
    pub(crate) async fn server_version(&self) -> io::Result<&str> {
        self.server_version
            .get_or_try_init(|| server_version::ask(&self.uri))
            .await
            .map(String::as_str)
    }

    /// Closes a channel and waits for the broker's answer, which comes after everything that was sent over the channel. Fails
    /// where there is no answer within `limit`.
    pub(crate) async fn finish_channel(&self, channel: &Channel, limit: Duration) -> Result<(), LinkError> {
        let close = channel
            .close(REPLY_SUCCESS, "OK".into())
            .map_err(LinkError::Channel);
        answered("closing a channel", limit, close).await
    }

    /// [`Self::finish_channel`] with a short limit and without an error. Closing the connection alone may overtake an
    /// acknowledgement.
    pub(crate) async fn close_channel(&self, channel: &Channel) {
        // The channel is closed in any case.
        let _ = self.finish_channel(channel, CLOSE_TIMEOUT).await;
    }

    /// Closes the connection, within a time limit. The broker requeues the unsettled deliveries.
    pub(crate) async fn close(&self) {
        // The link is closed in any case.
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close(REPLY_SUCCESS, "OK".into())).await;
    }
}

/// [`Connection::connect_uri`] with a [`SocketGuard`], a time limit and TLS of our own.
async fn connect(
    uri: AMQPUri,
    socket: SharedSocket,
    limit: Duration,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
    // A closure in place, because the type of the runtime follows only from the signature of `connector`.
    Connection::connector(
        uri,
        transport::runtime(),
        async move |uri: AMQPUri, _runtime| {
            let stream = timeout(limit, transport::connect(&uri))
                .await
                .map_err(io::Error::from)??;
            socket.connected(&stream)?;
            Ok(AsyncTcpStream::Plain(transport::secure(&uri, stream).await?))
        },
        properties,
    )
    .await
}
