use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use lapin::uri::AMQPUri;
use shared_types::{Clock, SystemClock};

/// Leaves room for the suffix of the queue of dead letters: AMQP's names have at most 255 bytes.
const MAX_QUEUE_NAME_BYTES: usize = 240;

/// How RabbitMQ is reached, and how it is used. `Debug` shows no password.
#[derive(Clone)]
pub struct RabbitMqSettings {
    pub(crate) uri: AMQPUri,
    pub(crate) queue: String,
    /// The `app_id` of what is published, and part of the connections' names in the management UI.
    pub app_id: String,
    /// How many publishes may be unconfirmed at once.
    pub max_unconfirmed: NonZeroUsize,
    /// How many bytes of bodies may be unconfirmed at once. A larger body is published when no other one is unconfirmed. The
    /// AMQP client holds a second copy of the bodies that it has not written yet.
    pub max_unconfirmed_bytes: usize,
    /// How long a `publish` waits: for its place among the unconfirmed publishes and for its confirmation together.
    pub publish_timeout: Duration,
    /// How long connecting, and each step after it until the link is usable, may take.
    pub connect_timeout: Duration,
    /// The longest delay between two attempts to connect.
    pub reconnect_delay_max: Duration,
    /// In seconds. A broker that sends nothing for twice as long counts as lost.
    pub heartbeat_seconds: u16,
    /// A link is probed when nothing has come from the broker for so long. Heartbeats show only that the connection works,
    /// not that the channel and the queue do.
    pub probe_interval: Duration,
    /// Dates rejected messages.
    pub clock: Arc<dyn Clock>,
}

/// The URL or the queue's name cannot be used. The message does not repeat the URL, which holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// Not a URL that AMQP clients understand.
    #[error("found a URL that is not AMQP's, expected amqp://user:password@host:port/vhost or amqps://…")]
    Url,
    /// The queue's name is empty or too long.
    #[error("found a queue name of {bytes} bytes, expected 1 to {MAX_QUEUE_NAME_BYTES}")]
    QueueName {
        /// Its length in bytes.
        bytes: usize,
    },
}

impl RabbitMqSettings {
    /// The settings for the queue `queue` of the broker at `url` (`amqp://…`, or `amqps://…` with the machine's root
    /// certificates), with the defaults for everything else: at most 256 unconfirmed messages or 16 MiB, 10 s to confirm,
    /// 10 s to connect (a broker that has just started is slow), at most 3 s between attempts, a heartbeat of 10 s,
    /// a probe after 5 s of silence.
    ///
    /// # Errors
    /// The URL or the name cannot be used.
    pub fn new(url: &str, queue: &str) -> Result<Self, InvalidSettings> {
        if !(1..=MAX_QUEUE_NAME_BYTES).contains(&queue.len()) {
            return Err(InvalidSettings::QueueName { bytes: queue.len() });
        }
        Ok(Self {
            uri: parse(url)?,
            queue: queue.to_owned(),
            app_id: "llm-bench".to_owned(),
            max_unconfirmed: const { NonZeroUsize::new(256).expect("not zero") },
            max_unconfirmed_bytes: 16 * 1024 * 1024,
            publish_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            reconnect_delay_max: Duration::from_secs(3),
            heartbeat_seconds: 10,
            probe_interval: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        })
    }

    /// The URL as the client wants it, with our heartbeat where the URL asks for none.
    pub(crate) fn uri(&self) -> AMQPUri {
        let mut uri = self.uri.clone();
        uri.query.heartbeat.get_or_insert(self.heartbeat_seconds);
        uri
    }

    /// How long the broker may send nothing before the link counts as lost.
    pub(crate) fn max_silence(&self) -> Duration {
        let seconds = match self.uri.query.heartbeat {
            // The URL switches heartbeats off. Then only this limit detects a lost link.
            Some(0) | None => self.heartbeat_seconds.max(1),
            Some(seconds) => seconds,
        };
        2 * Duration::from_secs(seconds.into())
    }
}

/// The client's own error is dropped, because some of its messages quote the URL.
fn parse(url: &str) -> Result<AMQPUri, InvalidSettings> {
    let mut uri: AMQPUri = url.parse().map_err(|_quotes_the_url| InvalidSettings::Url)?;
    if let Some(address) = ipv6_address(url) {
        // The client's parser takes an IPv6 address for a missing host, and would connect to localhost.
        uri.authority.host = address.to_owned();
    }
    Ok(uri)
}

fn ipv6_address(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    host.strip_prefix('[')?
        .split_once(']')
        .map(|(address, _)| address)
}

impl fmt::Debug for RabbitMqSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        f.debug_struct("RabbitMqSettings")
            .field("scheme", &self.uri.scheme)
            .field("user", &authority.userinfo.username)
            .field("host", &authority.host)
            .field("port", &authority.port)
            .field("vhost", &self.uri.vhost)
            .field("queue", &self.queue)
            .field("app_id", &self.app_id)
            .field("max_unconfirmed", &self.max_unconfirmed)
            .field("max_unconfirmed_bytes", &self.max_unconfirmed_bytes)
            .field("publish_timeout", &self.publish_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("reconnect_delay_max", &self.reconnect_delay_max)
            .field("heartbeat_seconds", &self.heartbeat_seconds)
            .field("probe_interval", &self.probe_interval)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_the_password() {
        let settings = RabbitMqSettings::new("amqp://user:canary@host/v", "q").unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
        for wrong in [
            "amqp:user:canary@host",
            "http://user:canary@host",
            "amqp://user:canary@host:x",
        ] {
            let refused = RabbitMqSettings::new(wrong, "q").unwrap_err();
            assert_eq!(refused, InvalidSettings::Url, "{wrong}");
            assert!(!format!("{refused} {refused:?}").contains("canary"));
        }
    }

    #[test]
    fn an_ipv6_address_is_not_localhost() {
        for url in ["amqp://[fd00::7]:5673/v", "amqp://user:pass@[fd00::7]"] {
            let settings = RabbitMqSettings::new(url, "q").unwrap();
            assert_eq!(settings.uri.authority.host, "fd00::7", "{url}");
        }
    }

    #[test]
    fn the_heartbeat_of_the_url_wins() {
        let heartbeat = |url| RabbitMqSettings::new(url, "q").unwrap().uri().query.heartbeat;
        assert_eq!(heartbeat("amqp://host"), Some(10));
        assert_eq!(heartbeat("amqp://host?heartbeat=3"), Some(3));
    }

    #[test]
    fn a_queue_name_fits_into_amqp() {
        for name in ["", &"q".repeat(241)] {
            let refused = RabbitMqSettings::new("amqp://host", name).unwrap_err();
            assert_eq!(refused, InvalidSettings::QueueName { bytes: name.len() });
        }
    }
}
