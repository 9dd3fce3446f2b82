//! What can go wrong with a private server.

use std::{io, path::PathBuf, time::Duration};

/// Installs both servers on Debian and its relatives.
pub const INSTALL_COMMAND: &str =
    "sudo apt-get install -y --no-install-recommends postgresql rabbitmq-server";

/// Why a server could not be started, reached or controlled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks a server's programs. The message says in one line how to install them.
    #[error(
        "{what} is not installed; install it with `{INSTALL_COMMAND}` or `make services`, or set {variable}"
    )]
    NotInstalled {
        /// The missing programs.
        what: &'static str,
        /// The variable that names a running server to use instead.
        variable: &'static str,
    },

    /// This process runs as root, and there is no unprivileged user to run the server as.
    #[error("started as root, and none of these users exists to run {server} as: {}", .candidates.join(", "))]
    NoUnprivilegedUser {
        /// The name of the server.
        server: &'static str,
        /// The users that would do.
        candidates: &'static [&'static str],
    },

    /// The server is external, so it must not be stopped, frozen or killed.
    #[error(
        "cannot {verb} the server of {variable}: it is not ours to stop; start a private one for this test"
    )]
    NotOurs {
        /// The requested operation.
        verb: &'static str,
        /// The variable that names the server.
        variable: &'static str,
    },

    /// The server's process ended while it was expected to run.
    #[error("{server} ended while {phase} ({status}); the end of its log:\n{log_tail}")]
    Ended {
        /// The name of the server.
        server: &'static str,
        /// What the server was doing.
        phase: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of its log.
        log_tail: String,
    },

    /// The server did not reach the awaited state in time.
    #[error("{server} was still {phase} after {} s; the end of its log:\n{log_tail}", .deadline.as_secs())]
    Deadline {
        /// The name of the server.
        server: &'static str,
        /// What the server was doing.
        phase: &'static str,
        /// The time limit.
        deadline: Duration,
        /// The last lines of its log.
        log_tail: String,
    },

    /// The operation needs a running server and it is not running, or the other way round.
    #[error("cannot {verb} {server}: it is {state}")]
    WrongState {
        /// The requested operation.
        verb: &'static str,
        /// The name of the server.
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
        /// Its output.
        output: String,
    },

    /// PostgreSQL did not accept a connection.
    #[error("could not connect to PostgreSQL: {source}")]
    Connect {
        /// The client's error.
        source: sqlx::Error,
    },

    /// A statement failed on PostgreSQL.
    #[error("PostgreSQL refused `{statement}`: {source}")]
    Sql {
        /// The statement.
        statement: String,
        /// The database's error.
        source: sqlx::Error,
    },

    /// The management API of RabbitMQ cannot be reached.
    #[error("could not reach RabbitMQ's management API: {source}")]
    Management {
        /// The client's error, without the URL, which holds a password.
        source: reqwest::Error,
    },

    /// The management API of RabbitMQ refused.
    #[error("RabbitMQ's management API refused with {status}: {answer}")]
    ManagementRefused {
        /// The HTTP status.
        status: u16,
        /// The body of the answer.
        answer: String,
    },

    /// The URL of an external server is invalid. The message does not show the URL, which holds a password.
    #[error("{variable} is not the URL of a PostgreSQL server")]
    Url {
        /// The variable.
        variable: &'static str,
        /// The parser's error.
        source: sqlx::Error,
    },

    /// The URL of an external broker is invalid. The message does not show the URL, which holds a password.
    #[error("AMQP_URL is not the URL of a broker: {source}")]
    BrokerUrl {
        /// The parser's error.
        source: url::ParseError,
    },

    /// An operation of the operating system failed.
    #[error("could not {what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: adds what was attempted to an error of the operating system.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
