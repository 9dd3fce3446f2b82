use std::{path::PathBuf, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared_types::Invalid;
use url::Url;

use super::{Variables, data_dir};
use crate::Secret;

/// The database, chosen by the scheme of the URL.
#[derive(Debug, Clone)]
pub enum DatabaseKind {
    /// A PostgreSQL server.
    Postgres {
        /// `postgres://user:password@host:port/database`.
        url: Secret,
    },
    /// A SQLite file, the embedded default.
    Sqlite {
        /// The file. Its directory is created where it is missing.
        path: PathBuf,
    },
}

/// The database, and how its operations are retried.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// The database.
    pub kind: DatabaseKind,
    /// The largest number of connections of a service's pool.
    pub max_connections: u32,
    /// The number of attempts after the first.
    pub max_retries: usize,
    /// The delay before the first retry. It doubles with each retry, with jitter.
    pub retry_delay: Duration,
}

impl DatabaseSettings {
    /// `DATABASE_URL`, else `POSTGRES_*`, else SQLite in the data directory.
    ///
    /// # Errors
    /// The first variable that is refused; passwords are not shown.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        let kind = match (variables.text("DATABASE_URL")?, variables.text("POSTGRES_HOST")?) {
            (Some(url), _) => from_url(url)?,
            (None, Some(host)) => from_parts(variables, &host)?,
            (None, None) => DatabaseKind::Sqlite {
                path: data_dir(variables)?.join("llm-bench.sqlite"),
            },
        };
        let from_1_to_1000 = |n: &u32| (1..=1000).contains(n);
        Ok(Self {
            kind,
            max_connections: variables
                .parsed(
                    "DATABASE_MAX_CONNECTIONS",
                    "a whole number from 1 to 1000",
                    from_1_to_1000,
                )?
                .unwrap_or(10),
            max_retries: variables
                .parsed("MAX_RETRIES", "a whole number from 0 to 100", |n| *n <= 100)?
                .unwrap_or(5),
            retry_delay: variables
                .parsed("RETRY_DELAY_MS", "milliseconds from 1 to 60000", |ms| {
                    (1..=60_000).contains(ms)
                })?
                .map_or(Duration::from_millis(200), Duration::from_millis),
        })
    }
}

fn from_url(url: String) -> Result<DatabaseKind, Invalid> {
    let expected = "postgres://user:password@host:port/database or sqlite:///path";
    let refused = |found: &str| Err(Invalid::new("DATABASE_URL", found, expected));
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => refused("sqlite: without a path"),
            path => Ok(DatabaseKind::Sqlite {
                path: PathBuf::from(path),
            }),
        };
    }
    match Url::parse(&url) {
        Ok(parsed) if !matches!(parsed.scheme(), "postgres" | "postgresql") => {
            refused(&format!("the scheme {}", parsed.scheme()))
        }
        Ok(parsed) if parsed.path().len() <= 1 => refused("a URL without a database name"),
        Ok(_) => Ok(DatabaseKind::Postgres {
            url: Secret::new(url),
        }),
        Err(malformed) => refused(&format!("a malformed URL ({malformed})")),
    }
}

fn from_parts(variables: &Variables, host: &str) -> Result<DatabaseKind, Invalid> {
    let port = super::port(variables, "POSTGRES_PORT")?.unwrap_or(5432);
    let user = variables
        .text("POSTGRES_USER")?
        .unwrap_or_else(|| "postgres".to_owned());
    let password = variables.secret("POSTGRES_PASSWORD", 1)?;
    let database = variables
        .text("POSTGRES_DB")?
        .unwrap_or_else(|| "llm_bench".to_owned());
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let password = password.map_or(String::new(), |password| {
        format!(":{}", encoded(password.expose()))
    });
    let url = format!(
        "postgres://{}{password}@{host}:{port}/{}",
        encoded(&user),
        encoded(&database)
    );
    match Url::parse(&url) {
        Ok(_) => Ok(DatabaseKind::Postgres {
            url: Secret::new(url),
        }),
        Err(_) => Err(Invalid::new("POSTGRES_HOST", host, "a host name or address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<DatabaseSettings, Invalid> {
        DatabaseSettings::read(&Variables::from_map(
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )?)
    }

    fn url(pairs: &[(&str, &str)]) -> String {
        match read(pairs).unwrap().kind {
            DatabaseKind::Postgres { url } => url.expose().to_owned(),
            DatabaseKind::Sqlite { path } => path.display().to_string(),
        }
    }

    #[test]
    fn the_scheme_tells_the_backend() {
        assert_eq!(
            url(&[("DATABASE_URL", "postgres://u:p@h:1/d")]),
            "postgres://u:p@h:1/d"
        );
        assert_eq!(url(&[("DATABASE_URL", "sqlite:///tmp/a.db")]), "/tmp/a.db");
        assert_eq!(url(&[("DATABASE_URL", "sqlite:a.db")]), "a.db");
        assert_eq!(url(&[("DATA_DIR", "/data")]), "/data/llm-bench.sqlite");
        assert_eq!(
            url(&[("POSTGRES_HOST", "db"), ("POSTGRES_PASSWORD", "p@ss/word")]),
            "postgres://postgres:p%40ss%2Fword@db:5432/llm%5Fbench"
        );
    }

    #[test]
    fn refusals_hide_the_password() {
        for (name, value) in [
            ("DATABASE_URL", "mysql://u:canary@h/d"),
            ("DATABASE_URL", "postgres://u:canary@h:port/d"),
            ("DATABASE_URL", "postgres://u:canary@h:1"),
            ("DATABASE_URL", "canary"),
        ] {
            let refused = read(&[(name, value)]).unwrap_err().to_string();
            assert!(refused.starts_with("DATABASE_URL: found "), "{refused}");
            assert!(!refused.contains("canary"), "{refused}");
        }
    }
}
