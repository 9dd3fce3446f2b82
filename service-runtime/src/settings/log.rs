use std::path::PathBuf;

use shared_types::Invalid;

use super::Variables;

/// Is put before every filter. The HTTP server logs the start and stop of each of its threads, PostgreSQL notices of objects
/// that exist already, and the AMQP client the whole body of a message that could not be routed. A filter that names one of
/// these targets overrides this.
const QUIETED: &str = "actix_server=warn,sqlx::postgres::notice=warn,lapin::returned_messages=off";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line, for collectors.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = ();

    fn from_str(raw: &str) -> Result<Self, ()> {
        match raw {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// What is logged, and where.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// The filter, in tracing-subscriber's syntax.
    pub filter: String,
    /// The format; `None` means pretty on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// Whether to log to standard error.
    pub console: bool,
    /// A file to append to, always as JSON unless the format says pretty.
    pub file: Option<PathBuf>,
}

impl LogSettings {
    /// Reads `RUST_LOG`, `LOG_FORMAT`, `CONSOLE_LOGGING` and `LOG_FILE`.
    ///
    /// # Errors
    /// The first variable that is refused.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        let expected = "a filter such as info or info,outbox=debug";
        let filter = variables.parsed::<tracing_subscriber::EnvFilter>("RUST_LOG", expected, |_| true)?;
        Ok(Self {
            filter: format!(
                "{QUIETED},{}",
                filter.map_or_else(|| "info".to_owned(), |filter| filter.to_string())
            ),
            format: variables.parsed("LOG_FORMAT", "pretty or json", |_| true)?,
            console: variables.flag("CONSOLE_LOGGING")?.unwrap_or(true),
            file: variables.text("LOG_FILE")?.map(PathBuf::from),
        })
    }
}
