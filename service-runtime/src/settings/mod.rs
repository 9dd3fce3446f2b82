//! Settings: the environment, with a `.env` file below it, read once into typed structs.
//!
//! They are parsed from a map ([`Variables`]), so no test changes the environment. Every error names the variable, what was
//! found and what is expected. A variable whose name is almost one of ours is refused too: otherwise a misspelt setting would
//! silently have no effect.

mod broker;
mod catalogue;
mod database;
mod dot_env;
mod log;
mod registry;
mod variables;

pub use broker::{BrokerKind, BrokerSettings};
pub use catalogue::{CATALOGUE, OTHERS, Variable};
pub use database::{DatabaseKind, DatabaseSettings};
pub use log::{LogFormat, LogSettings};
pub use registry::registry_seed;
pub use variables::Variables;

use std::{path::PathBuf, time::Duration};

use etcetera::{BaseStrategy as _, base_strategy::choose_native_strategy};
use shared_types::Invalid;

/// The settings that all programs of llm-bench share.
#[derive(Debug, Clone)]
pub struct CommonSettings {
    /// The database.
    pub database: DatabaseSettings,
    /// The broker.
    pub broker: BrokerSettings,
    /// What is logged, and where.
    pub log: LogSettings,
    /// Whether missing migrations are applied at start (`MIGRATE_AT_START`).
    pub migrate_at_start: bool,
    /// How long requests are still answered after `/readyz` reports the shutdown (`SHUTDOWN_GRACE_SECONDS`), so that load
    /// balancers notice it first.
    pub shutdown_grace: Duration,
}

impl CommonSettings {
    /// Reads the settings that all programs share.
    ///
    /// # Errors
    /// The first variable that is refused.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        Ok(Self {
            database: DatabaseSettings::read(variables)?,
            broker: BrokerSettings::read(variables)?,
            log: LogSettings::read(variables)?,
            migrate_at_start: variables.flag("MIGRATE_AT_START")?.unwrap_or(true),
            shutdown_grace: seconds(variables, "SHUTDOWN_GRACE_SECONDS", 0..=LONGEST_GRACE)?
                .unwrap_or_default(),
        })
    }
}

/// In seconds. A longer shutdown would look like a process that hangs.
const LONGEST_GRACE: u64 = 300;

/// A duration in whole seconds within `range`.
///
/// # Errors
/// It is not a whole number, or out of range.
pub fn seconds(
    variables: &Variables,
    name: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<Duration>, Invalid> {
    let expected = format!("whole seconds from {} to {}", range.start(), range.end());
    let seconds = variables.parsed(name, &expected, |seconds| range.contains(seconds))?;
    Ok(seconds.map(Duration::from_secs))
}

/// The directory of the embedded database and keys: `DATA_DIR`, else the platform's data directory.
///
/// # Errors
/// The platform names none (no home directory) and `DATA_DIR` is not set.
pub fn data_dir(variables: &Variables) -> Result<PathBuf, Invalid> {
    if let Some(dir) = variables.text("DATA_DIR")? {
        return Ok(PathBuf::from(dir));
    }
    choose_native_strategy()
        .map(|directories| directories.data_dir().join("llm-bench"))
        .map_err(|_no_home| {
            Invalid::new(
                "DATA_DIR",
                "nothing, and no home directory",
                "a directory for the embedded database",
            )
        })
}

fn port(variables: &Variables, name: &str) -> Result<Option<u16>, Invalid> {
    variables.parsed(name, "a port from 1 to 65535", |port| *port != 0)
}
