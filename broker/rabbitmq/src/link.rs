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
    socket::{Socket, SocketHold},
    transport,
};

/// How often a link is looked at, beside the errors that it reports by itself.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the broker may take to answer a close before the socket is shut down.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
const REPLY_SUCCESS: u16 = 200;

/// One connection, of one generation: it is never repaired, but replaced.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    uri: AMQPUri,
    server_version: OnceCell<String>,
    /// After the connection: a connection that is dropped says goodbye first.
    _hold: SocketHold,
}

impl Link {
    /// Connects; `purpose` is shown in the management UI.
    ///
    /// The client's own recovery stays off: it can end in a state from which it never reports anything again.
    pub(crate) async fn open(settings: &RabbitMqSettings, purpose: &str) -> Result<Self, LinkError> {
        let hold = SocketHold::default();
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("{}: {purpose}", settings.app_id).into());
        let patience = settings.connect_timeout;
        let connect =
            connect(settings.uri(), hold.socket(), patience, properties).map_err(LinkError::Connect);
        let connection = answered("connecting", patience, connect).await?;
        Ok(Self {
            connection,
            uri: settings.uri(),
            server_version: OnceCell::new(),
            _hold: hold,
        })
    }

    pub(crate) async fn channel(&self) -> Result<Channel, LinkError> {
        self.connection.create_channel().await.map_err(LinkError::Channel)
    }

    /// A channel whose publishes are confirmed.
    pub(crate) async fn confirming_channel(&self) -> Result<Channel, LinkError> {
        let channel = self.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(LinkError::Channel)?;
        Ok(channel)
    }

    /// Blocked, unblocked, and errors of the connection.
    pub(crate) fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + 'static {
        Box::pin(self.connection.events_listener())
    }

    /// Fails where the connection or the channel ended without an event.
    pub(crate) fn check(&self, channel: &Channel) -> Result<(), LinkError> {
        if self.connection.status().connected() && channel.status().connected() {
            Ok(())
        } else {
            Err(LinkError::ChannelClosed)
        }
    }

    /// Such as `RabbitMQ 3.10.8`.
    pub(crate) async fn server_version(&self) -> io::Result<&str> {
        self.server_version
            .get_or_try_init(|| server_version::ask(&self.uri))
            .await
            .map(String::as_str)
    }

    /// Closes a channel of the link, and fails where the broker does not say in time that it has taken all that was asked
    /// for over it.
    pub(crate) async fn finish_channel(
        &self,
        channel: &Channel,
        patience: Duration,
    ) -> Result<(), LinkError> {
        let close = channel
            .close(REPLY_SUCCESS, "OK".into())
            .map_err(LinkError::Channel);
        answered("closing a channel", patience, close).await
    }

    /// Closes a channel of the link and waits, for a bounded time, until the broker has taken all that was asked for over
    /// it. Closing the connection alone may overtake an acknowledgement.
    pub(crate) async fn close_channel(&self, channel: &Channel) {
        // Either way the channel is over.
        let _ = self.finish_channel(channel, CLOSE_PATIENCE).await;
    }

    /// Says goodbye, for a bounded time. What is unsettled goes back to its queue.
    pub(crate) async fn close(&self) {
        // Either way the link is over.
        let _ = timeout(CLOSE_PATIENCE, self.connection.close(REPLY_SUCCESS, "OK".into())).await;
    }
}

/// As [`Connection::connect_uri`], with a transport of our own.
async fn connect(
    uri: AMQPUri,
    socket: Socket,
    limit: Duration,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
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
