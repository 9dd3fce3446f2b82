//! Reads and changes parts of a broker's URL.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::Error;

/// RabbitMQ's own user, where a URL names none.
const DEFAULT_USER: &str = "guest";

/// The name of the user in `url`.
pub(super) fn user(url: &str) -> Result<String, Error> {
    let url = parse(url)?;
    let user = match url.username() {
        "" => DEFAULT_USER,
        user => user,
    };
    Ok(percent_decode_str(user).decode_utf8_lossy().into_owned())
}

/// `url` with another virtual host, whose name needs no escapes.
pub(super) fn with_vhost(url: &str, vhost: &str) -> Result<String, Error> {
    let mut url = parse(url)?;
    url.set_path(vhost);
    Ok(url.into())
}

/// `url` with another virtual host and the user who owns it.
pub(super) fn with_owned_vhost(url: &str, vhost: &str, password: &str) -> Result<String, Error> {
    let mut url = parse(url)?;
    url.set_path(vhost);
    url.set_username(vhost)
        .and_then(|()| url.set_password(Some(password)))
        .map_err(|()| Error::BrokerUrl {
            source: url::ParseError::EmptyHost,
        })?;
    Ok(url.into())
}

fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|source| Error::BrokerUrl { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_host_and_its_owner_replace_what_was_there() {
        let url = "amqp://admin:word@127.0.0.1:5672/%2f?heartbeat=5";
        assert_eq!(user(url).unwrap(), "admin");
        assert_eq!(user("amqp://a%40b:word@127.0.0.1").unwrap(), "a@b");
        assert_eq!(user("amqp://127.0.0.1").unwrap(), "guest");
        assert_eq!(
            with_vhost(url, "test_1").unwrap(),
            "amqp://admin:word@127.0.0.1:5672/test_1?heartbeat=5"
        );
        assert_eq!(
            with_owned_vhost(url, "test_1", "other").unwrap(),
            "amqp://test_1:other@127.0.0.1:5672/test_1?heartbeat=5"
        );
        assert!(matches!(user("no URL"), Err(Error::BrokerUrl { .. })));
    }
}
