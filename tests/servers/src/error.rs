//! What can go wrong with a private server.

use std::{io, path::PathBuf, time::Duration};

/// Installs both servers on Debian and its relatives.
pub const INSTALL_COMMAND: &str =
    "sudo apt-get install -y --no-install-recommends postgresql rabbitmq-server";

/// A server could not be started, reached or controlled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks a server's programs. The message is one line that says how to get them.
    #[error(
        "{what} is not installed; install it with `{INSTALL_COMMAND}` or `make services`, or set {variable}"
    )]
    NotInstalled {
        /// The missing programs.
        what: &'static str,
        /// The variable that names a running server to use instead.
        variable: &'static str,
    },

    /// The servers refuse to run as root, and there is no user to run them as.
    #[error("started as root, and none of these users exists to run {server} as: {}", .candidates.join(", "))]
    NoUnprivilegedUser {
        /// Which server.
        server: &'static str,
        /// The users that were looked for.
        candidates: &'static [&'static str],
    },

    /// The server was started by somebody else, who alone may stop, freeze or kill it.
    #[error(
        "cannot {verb} the server of {variable}: it is not ours to stop; start a private one for this test"
    )]
    NotOurs {
        /// What was asked for.
        verb: &'static str,
        /// The variable that names the server.
        variable: &'static str,
    },

    /// The server's process ended while it was expected to run.
    #[error("{server} ended while {phase} ({status}); the end of its log:\n{log_tail}")]
    Ended {
        /// Which server.
        server: &'static str,
        /// What was waited for.
        phase: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of its log.
        log_tail: String,
    },

    /// The condition that was waited for did not come true in time.
    #[error("{server} was still {phase} after {} s; the end of its log:\n{log_tail}", .deadline.as_secs())]
    Deadline {
        /// Which server.
        server: &'static str,
        /// What was waited for.
        phase: &'static str,
        /// How long it was waited for.
        deadline: Duration,
        /// The last lines of its log.
        log_tail: String,
    },

    /// The server is already running, or is not, contrary to what the call needs.
    #[error("cannot {verb} {server}: it is {state}")]
    WrongState {
        /// What was asked for.
        verb: &'static str,
        /// Which server.
        server: &'static str,
        /// `already running` or `not running`.
        state: &'static str,
    },

    /// Another process uses the same data directory.
    #[error("{} is in use by another running server", .directory.display())]
    DirectoryInUse {
        /// The directory given in the options.
        directory: PathBuf,
    },

    /// A program of the server (`initdb`, `rabbitmqctl`) failed.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it printed.
        output: String,
    },

    /// PostgreSQL did not accept a connection.
    #[error("could not connect to PostgreSQL: {source}")]
    Connect {
        /// Why.
        source: sqlx::Error,
    },

    /// A statement failed on PostgreSQL.
    #[error("PostgreSQL refused `{statement}`: {source}")]
    Sql {
        /// The statement.
        statement: String,
        /// The database's answer.
        source: sqlx::Error,
    },

    /// The management API of RabbitMQ cannot be reached.
    #[error("could not reach RabbitMQ's management API: {source}")]
    Management {
        /// Why, without the URL, which holds a password.
        source: reqwest::Error,
    },

    /// The management API of RabbitMQ refused.
    #[error("RabbitMQ's management API refused with {status}: {answer}")]
    ManagementRefused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        answer: String,
    },

    /// The URL of somebody else's server cannot be understood. The URL itself is not shown: it holds a password.
    #[error("{variable} is not the URL of a PostgreSQL server")]
    Url {
        /// The variable.
        variable: &'static str,
        /// The parser's answer.
        source: sqlx::Error,
    },

    /// The URL of a broker cannot be understood. The URL itself is not shown: it holds a password.
    #[error("AMQP_URL is not the URL of a broker: {source}")]
    BrokerUrl {
        /// The parser's answer.
        source: url::ParseError,
    },

    /// The operating system refused.
    #[error("could not {what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: says what was attempted when the operating system refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
