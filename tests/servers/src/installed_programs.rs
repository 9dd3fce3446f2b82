//! Finds the installed programs of the servers.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Error;

const OLDEST_POSTGRESQL: u32 = 15;

/// The directory of the newest PostgreSQL's `initdb` and `postgres`.
pub(crate) fn postgresql_programs() -> Result<PathBuf, Error> {
    versioned_directories("/usr/lib/postgresql", "", "bin") // Debian
        .into_iter()
        .chain(versioned_directories("/usr", "pgsql-", "bin")) // PGDG on Red Hat
        .chain(search_path())
        .filter(|programs| programs.join("initdb").is_file())
        .filter_map(|programs| Some((postgresql_major(&programs)?, programs)))
        .filter(|(major, _)| *major >= OLDEST_POSTGRESQL)
        .max_by_key(|(major, _)| *major)
        .map(|(_, programs)| programs)
        .ok_or(Error::NotInstalled {
            what: "PostgreSQL 15 or newer",
            variable: "DATABASE_URL",
        })
}

/// The directory of RabbitMQ's own `rabbitmq-server` and `rabbitmqctl`.
///
/// Debian's `/usr/sbin/rabbitmq-server` is a wrapper that only starts the system's own node. The real scripts are in a directory
/// with `rabbitmq-env`.
pub(crate) fn rabbitmq_programs() -> Result<PathBuf, Error> {
    [PathBuf::from("/usr/lib/rabbitmq/bin")]
        .into_iter()
        .chain(search_path().filter_map(|directory| {
            let script = fs::canonicalize(directory.join("rabbitmq-server")).ok()?;
            Some(script.parent()?.to_owned())
        }))
        .find(|programs| {
            programs.join("rabbitmq-server").is_file() && programs.join("rabbitmq-env").is_file()
        })
        .ok_or(Error::NotInstalled {
            what: "RabbitMQ",
            variable: "AMQP_URL",
        })
}

/// Erlang's port mapper.
pub(crate) fn epmd_program() -> Result<PathBuf, Error> {
    search_path()
        .map(|directory| directory.join("epmd"))
        .find(|program| program.is_file())
        .ok_or(Error::NotInstalled {
            what: "epmd, a part of Erlang and RabbitMQ,",
            variable: "AMQP_URL",
        })
}

/// The directories `<root>/<prefix>*/<leaf>`.
fn versioned_directories(root: &str, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new(); // another distribution
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(leaf))
        .collect()
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// 15 of `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
fn postgresql_major(programs: &Path) -> Option<u32> {
    let output = Command::new(programs.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

fn parse_major(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(|character: char| !character.is_ascii_digit());
    digits
        .split(|character: char| !character.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("no version"), None);
    }
}
