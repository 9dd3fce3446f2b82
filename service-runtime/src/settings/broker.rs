use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared_types::Invalid;
use url::Url;

use super::Variables;
use crate::Secret;

/// The broker: RabbitMQ where a URL or a host is set, else in-process.
#[derive(Debug, Clone)]
pub enum BrokerKind {
    /// A RabbitMQ server.
    RabbitMq {
        /// `amqp://user:password@host:port/vhost`, or `amqps`.
        url: Secret,
    },
    /// A bounded queue inside the process, the embedded default.
    InProcess,
}

/// The broker and the queue of batches.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// The broker.
    pub kind: BrokerKind,
    /// The name of the queue of batches.
    pub queue: String,
}

impl BrokerSettings {
    /// `AMQP_URL`, else `RABBITMQ_*`, else in-process.
    ///
    /// # Errors
    /// The first variable that is refused; passwords are not shown.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        let kind = match (variables.text("AMQP_URL")?, variables.text("RABBITMQ_HOST")?) {
            (Some(url), _) => from_url(url)?,
            (None, Some(host)) => from_parts(variables, &host)?,
            (None, None) => BrokerKind::InProcess,
        };
        let queue = variables
            .text("RABBITMQ_QUEUE")?
            .unwrap_or_else(|| "benchmarking_service".to_owned());
        const LONGEST: usize = 200;
        if queue.len() > LONGEST || queue.starts_with("amq.") {
            let expected = format!("at most {LONGEST} bytes, not starting with amq.");
            return Err(Invalid::new("RABBITMQ_QUEUE", queue, expected));
        }
        Ok(Self { kind, queue })
    }

    /// Checks that the broker connects processes. Services that run as processes of their own need that: an in-process queue
    /// would reach no other process.
    ///
    /// # Errors
    /// The broker is in-process.
    pub fn between_processes(&self) -> Result<(), Invalid> {
        match self.kind {
            BrokerKind::RabbitMq { .. } => Ok(()),
            BrokerKind::InProcess => Err(Invalid::new(
                "AMQP_URL",
                "nothing",
                "RabbitMQ's URL, since this service runs as a process of its own; `llm-bench up` runs both services \
                 in one process and needs no broker",
            )),
        }
    }
}

fn from_url(url: String) -> Result<BrokerKind, Invalid> {
    let expected = "amqp://user:password@host:port/vhost or amqps://…";
    let refused = |found: &str| Err(Invalid::new("AMQP_URL", found, expected));
    match Url::parse(&url) {
        Ok(parsed) if !matches!(parsed.scheme(), "amqp" | "amqps") => {
            refused(&format!("the scheme {}", parsed.scheme()))
        }
        Ok(parsed) if parsed.host_str().is_none_or(str::is_empty) => refused("a URL without a host"),
        Ok(_) => Ok(BrokerKind::RabbitMq {
            url: Secret::new(url),
        }),
        Err(malformed) => refused(&format!("a malformed URL ({malformed})")),
    }
}

fn from_parts(variables: &Variables, host: &str) -> Result<BrokerKind, Invalid> {
    let port = super::port(variables, "RABBITMQ_PORT")?.unwrap_or(5672);
    let user = variables
        .text("RABBITMQ_USER")?
        .unwrap_or_else(|| "guest".to_owned());
    let password = variables.secret("RABBITMQ_PASSWORD", 1)?;
    let password = password.as_ref().map_or("guest", Secret::expose);
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let url = format!(
        "amqp://{}:{}@{host}:{port}/%2f",
        encoded(&user),
        encoded(password)
    );
    match Url::parse(&url) {
        Ok(_) => Ok(BrokerKind::RabbitMq {
            url: Secret::new(url),
        }),
        Err(_) => Err(Invalid::new("RABBITMQ_HOST", host, "a host name or address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<BrokerSettings, Invalid> {
        BrokerSettings::read(&Variables::from_map(
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )?)
    }

    #[test]
    fn a_url_or_its_parts_mean_rabbitmq_and_nothing_means_in_process() {
        assert!(matches!(read(&[]).unwrap().kind, BrokerKind::InProcess));
        let BrokerKind::RabbitMq { url } = read(&[("RABBITMQ_HOST", "mq"), ("RABBITMQ_PASSWORD", "a:b")])
            .unwrap()
            .kind
        else {
            panic!("expected RabbitMQ")
        };
        assert_eq!(url.expose(), "amqp://guest:a%3Ab@mq:5672/%2f");
    }

    #[test]
    fn refusals_hide_the_password() {
        for url in ["http://u:canary@h", "amqp://u:canary@h:port/", "canary"] {
            let refused = read(&[("AMQP_URL", url)]).unwrap_err().to_string();
            assert!(
                refused.starts_with("AMQP_URL: found ") && !refused.contains("canary"),
                "{refused}"
            );
        }
        let linked = read(&[("RABBITMQ_HOST", "mq"), ("RABBITMQ_PORT", "tcp://10.0.0.1:5672")]).unwrap_err();
        assert_eq!(
            linked.to_string(),
            "RABBITMQ_PORT: found tcp://10.0.0.1:5672, expected a port from 1 to 65535"
        );
    }
}
