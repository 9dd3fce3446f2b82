//! Logging. Each service registers its metrics itself, in the `prometheus::Registry` it is built with.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal},
    path::PathBuf,
    sync::Mutex,
};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
    util::TryInitError,
};

use crate::settings::{LogFormat, LogSettings};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `LOG_FILE` cannot be opened for appending.
    #[error("LOG_FILE: cannot append to {}", path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// `RUST_LOG` is not a valid filter.
    #[error("RUST_LOG")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging was set up before.
    #[error("logging is set up already")]
    AlreadySetUp(#[from] TryInitError),
}

/// Sets up logging for the process: to standard error, to a file, to both or to neither.
///
/// # Errors
/// The file cannot be opened, the filter is invalid, or logging is set up already.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let mut outputs: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    if settings.console {
        let pretty_on_a_terminal = if io::stderr().is_terminal() {
            LogFormat::Pretty
        } else {
            LogFormat::Json
        };
        outputs.push(output(
            settings.format.unwrap_or(pretty_on_a_terminal),
            io::stderr,
            io::stderr().is_terminal(),
        ));
    }
    if let Some(path) = &settings.file {
        let file = open(path)?;
        outputs.push(output(
            settings.format.unwrap_or(LogFormat::Json),
            Mutex::new(file),
            false,
        ));
    }
    let filter = EnvFilter::try_new(&settings.filter)?.and(filter_fn(|event| !shows_secrets(event)));
    tracing_subscriber::registry()
        .with(outputs.with_filter(filter))
        .try_init()?;
    Ok(())
}

/// Whether an event may show a secret. Such events are never logged, whatever the filter allows: the AMQP client logs every
/// frame that it sends, and one of the first contains the password.
fn shows_secrets(event: &Metadata<'_>) -> bool {
    *event.level() == Level::TRACE && event.target().starts_with("lapin::io_loop")
}

fn open(path: &PathBuf) -> Result<File, TelemetryError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| TelemetryError::LogFile {
        path: path.clone(),
        source,
    })
}

fn output<S, W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colours);
    match format {
        LogFormat::Pretty => layer.compact().boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}
