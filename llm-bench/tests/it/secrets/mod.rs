//! Canaries in every place where a secret may stand, and then nowhere else: neither in logs, nor in answers, nor in
//! what a program says when it fails.

mod failing;
mod stored;
mod working;

use std::{fs, path::Path, process::Command};

use sqlx::{Connection as _, PgConnection};
use test_servers::{shared_postgres, shared_rabbitmq};

use crate::process::{program, run};

const DATABASE_PASSWORD: &str = "canary-database-5a1d";
const BROKER_PASSWORD: &str = "canarybroker77e0";
const API_KEY: &str = "canary-api-key-c3b9";
const PEPPER: &str = "canary-pepper-of-more-than-32-characters-19f4";
const WRONG_KEY: &str = "canary-wrong-key-e02c";
const CANARIES: [&str; 5] = [DATABASE_PASSWORD, BROKER_PASSWORD, API_KEY, PEPPER, WRONG_KEY];

/// Everything that anybody says, libraries included.
const LOUD: &str = "trace";

/// What was said, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn note(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// A log that holds what libraries say to somebody who looks for a fault.
    fn note_log(&mut self, path: &Path) {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        for library in ["lapin::", "sqlx::"] {
            let heard = text.contains(&format!(r#""target":"{library}"#));
            assert!(heard, "{} says nothing of {library}", path.display());
        }
        self.note(path.display().to_string(), text);
    }

    /// Runs a program to its end and notes what it said.
    fn note_run(&mut self, what: &str, command: Command) {
        let done = run(command);
        for stream in [&done.stdout, &done.stderr] {
            self.note(what, String::from_utf8_lossy(stream));
        }
    }

    fn assert_silent_about(&self, secrets: &[&str]) {
        for (place, text) in &self.0 {
            for secret in secrets {
                assert_no_form_of(secret, place, text);
            }
        }
    }
}

/// Neither as it is, nor as the bytes that programs show instead: hexadecimal, or in the debug format.
fn assert_no_form_of(secret: &str, place: &str, text: &str) {
    let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{:?}", secret.as_bytes());
    for form in [secret, &hexadecimal, bytes.trim_matches(['[', ']'])] {
        let line = text.lines().find(|line| line.contains(form));
        assert!(
            line.is_none(),
            "{place} shows {secret}: {}",
            line.unwrap_or_default()
        );
    }
}

/// The same URL with another user and password.
fn with_credentials(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    format!("{scheme}://{user}:{password}@{place}")
}

async fn database() -> String {
    let owner = shared_postgres().await.create_database().await.unwrap();
    let name = owner.rsplit('/').next().unwrap().to_owned();
    let mut sql = PgConnection::connect(&owner).await.unwrap();
    for statement in [
        format!("CREATE ROLE {name} LOGIN PASSWORD '{DATABASE_PASSWORD}'"),
        format!("GRANT ALL ON SCHEMA public TO {name}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut sql)
            .await
            .unwrap();
    }
    with_credentials(&owner, &name, DATABASE_PASSWORD)
}

async fn broker() -> String {
    let made = shared_rabbitmq().await.create_vhost_with_owner(BROKER_PASSWORD);
    made.await.unwrap()
}

fn command(name: &str, database: &str, amqp: &str) -> Command {
    let mut command = program(name);
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", amqp)
        .env("API_KEY", API_KEY)
        .env("API_KEY_PEPPER", PEPPER)
        .env("RUST_LOG", LOUD);
    command
}
