//! A RabbitMQ server: private or external.

mod amqp_url;
mod definitions;
mod management;
mod node;
mod options;
mod probe;

use nix::sys::signal::Signal;

pub use self::options::RabbitMqOptions;
use self::{management::Management, node::Node};
use crate::{Error, random::random_hex};

const SERVER: &str = "RabbitMQ";
const VARIABLE: &str = "AMQP_URL";
/// The administrator. Not `guest`, so that no test relies on that name.
const USER: &str = "llm_bench";
const START_ATTEMPTS: usize = 3;

/// A RabbitMQ server: a private node, or an external one that tests only use.
///
/// Dropping a private one ends it and removes its data, unless [`RabbitMqOptions::directory`] keeps them; that blocks
/// for some tens of milliseconds.
///
/// Unlike PostgreSQL, RabbitMQ has no immediate stop between [`Self::stop`] and [`Self::kill`].
#[derive(Debug)]
pub struct RabbitMqServer {
    url: String,
    management: Option<Management>,
    private: Option<Node>,
}

impl RabbitMqServer {
    /// Starts a private node with [`RabbitMqOptions::default`].
    ///
    /// # Errors
    /// The programs are missing ([`Error::NotInstalled`]), or the server does not come up.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(RabbitMqOptions::default()).await
    }

    /// Starts a private node that listens on 127.0.0.1 alone, with a random password and a port mapper of its own.
    ///
    /// # Errors
    /// The errors of [`Self::start`]; [`Error::DirectoryInUse`] where another server runs on the kept directory.
    pub async fn start_with(options: RabbitMqOptions) -> Result<Self, Error> {
        for _ in 1..START_ATTEMPTS {
            match Node::start(options.clone()).await {
                // Another process has taken a port before the server bound it.
                Err(Error::Ended { log_tail, .. })
                    if ["could_not_start_listener", "eaddrinuse", "already in use"]
                        .iter()
                        .any(|sign| log_tail.contains(sign)) => {}
                outcome => return outcome.map(Self::from),
            }
        }
        Node::start(options).await.map(Self::from)
    }

    /// Uses the broker at `url` (`amqp://…`) of an external server. `management_url` (`http://user:password@…`), if
    /// given, is the API that creates virtual hosts, with the same user.
    #[must_use]
    pub fn external(url: String, management_url: Option<&str>) -> Self {
        Self {
            url,
            management: management_url.map(Management::at),
            private: None,
        }
    }

    /// The administrator's URL of the virtual host `/`, or the given URL of an external broker.
    #[must_use]
    pub fn amqp_url(&self) -> &str {
        &self.url
    }

    /// The AMQP port of a private server.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.private.as_ref().map(|node| node.ports.amqp)
    }

    /// The URL of the management plugin, with user and password; `None` without the plugin.
    #[must_use]
    pub fn management_url(&self) -> Option<&str> {
        self.management.as_ref().map(Management::url)
    }

    /// Creates an empty virtual host of a new name and gives its URL, so that many tests share one broker. Takes some
    /// milliseconds with the management plugin, some tenths of a second without.
    ///
    /// On an external broker the virtual host is not removed; its name starts with `test_`. An external broker without the management
    /// plugin cannot be administered. Then this returns the given URL and prints a notice to the standard error.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn create_vhost(&self) -> Result<String, Error> {
        if self.management.is_none() && self.private.is_none() {
            warn_that_vhosts_are_shared();
            return Ok(self.url.clone());
        }
        let name = new_name()?;
        let user = amqp_url::user(&self.url)?;
        self.import(definitions::vhost(&name, &user)).await?;
        amqp_url::with_vhost(&self.url, &name)
    }

    /// Creates an empty virtual host of a new name and a user with this password, who has all permissions in
    /// it and none elsewhere. Returns the URL of both.
    ///
    /// # Errors
    /// [`Error::NotOurs`] for an external broker without the management plugin; the server refuses.
    pub async fn create_vhost_with_owner(&self, password: &str) -> Result<String, Error> {
        let name = new_name()?;
        self.import(definitions::vhost_with_owner(&name, password))
            .await?;
        amqp_url::with_owned_vhost(&self.url, &name, password)
    }

    async fn import(&self, definitions: String) -> Result<(), Error> {
        match &self.management {
            Some(management) => management.import(definitions).await,
            None => self.private("administer")?.import(&definitions).await,
        }
    }

    /// Runs `rabbitmqctl` for the node and returns its output. Takes some tenths of a second.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::Command`] with the output, where it failed.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, Error> {
        self.private("administer")?.rabbitmqctl(arguments).await
    }

    /// Makes the broker close all clients' connections, of every virtual host (`rabbitmqctl close_all_connections`
    /// alone spares all but `/`). They are closed one after another, shortly after this returns.
    ///
    /// # Errors
    /// The errors of [`Self::rabbitmqctl`].
    pub async fn close_all_connections(&self, reason: &str) -> Result<(), Error> {
        self.rabbitmqctl(&["close_all_connections", "--global", reason])
            .await
            .map(drop)
    }

    /// Stops the node in good order.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::WrongState`] where it does not run; it does not end.
    pub async fn stop(&self) -> Result<(), Error> {
        self.private("stop")?
            .process
            .end_by("stop", Signal::SIGTERM)
            .await
    }

    /// Kills the node and all its processes (SIGKILL). The operating system still writes its buffers, so this does not test lost
    /// fsyncs.
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub async fn kill(&self) -> Result<(), Error> {
        self.private("kill")?.process.kill().await
    }

    /// Freezes the node (SIGSTOP): connections stay open, nothing is answered, heartbeats included.
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub async fn freeze(&self) -> Result<(), Error> {
        self.private("freeze")?.process.freeze().await
    }

    /// Continues a frozen node (SIGCONT).
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.private("thaw")?.process.thaw()
    }

    /// Starts a stopped or killed node again, on the same ports and data.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::WrongState`] where it runs; it does not come up.
    pub async fn start_again(&self) -> Result<(), Error> {
        self.private("start")?.launch().await
    }

    /// [`Self::stop`] and [`Self::start_again`].
    ///
    /// # Errors
    /// The errors of these two.
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await?;
        self.start_again().await
    }

    fn private(&self, verb: &'static str) -> Result<&Node, Error> {
        self.private.as_ref().ok_or(Error::NotOurs {
            verb,
            variable: VARIABLE,
        })
    }
}

impl From<Node> for RabbitMqServer {
    fn from(node: Node) -> Self {
        Self {
            url: node.url(),
            management: node.management_url().as_deref().map(Management::at),
            private: Some(node),
        }
    }
}

fn new_name() -> Result<String, Error> {
    Ok(format!("test_{}", random_hex::<8>()?))
}

#[expect(clippy::print_stderr, reason = "a test process has no log")]
fn warn_that_vhosts_are_shared() {
    eprintln!("{VARIABLE} is set: tests share its virtual host instead of having one each");
}
