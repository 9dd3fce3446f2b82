//! Canaries in every place where a secret may stand, and then nowhere else: neither in logs, nor in answers, nor in
//! what a program says when it fails.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use sqlx::{Connection as _, PgConnection};
use test_servers::{shared_postgres, shared_rabbitmq};

use crate::{
    process::{Process, free_address, program, run, until},
    rankings::Api,
};

const DATABASE_PASSWORD: &str = "canary-database-5a1d";
const BROKER_PASSWORD: &str = "canary-broker-77e0";
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

    fn note_file(&mut self, path: &Path) {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        fs::copy(
            path,
            format!("/tmp/suite-log-{}", path.file_name().unwrap().display()),
        )
        .unwrap();
        assert!(text.contains("DEBUG"), "{} is not a log", path.display());
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
                let line = text.lines().find(|line| line.contains(secret));
                assert!(
                    line.is_none(),
                    "{place} shows {secret}: {}",
                    line.unwrap_or_default()
                );
            }
        }
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
    let server = shared_rabbitmq().await;
    let url = server.create_vhost().await.unwrap();
    let vhost = url.rsplit('/').next().unwrap().to_owned();
    server
        .rabbitmqctl(&["add_user", &vhost, BROKER_PASSWORD])
        .await
        .unwrap();
    server
        .rabbitmqctl(&["set_permissions", "--vhost", &vhost, &vhost, ".*", ".*", ".*"])
        .await
        .unwrap();
    with_credentials(&url, &vhost, BROKER_PASSWORD)
}

fn command(name: &str, database: &str, amqp: &str) -> Command {
    let mut command = program(name);
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", amqp)
        .env("API_KEY", API_KEY)
        .env("API_KEY_PEPPER", PEPPER)
        .env("RUST_LOG", LOUD)
        .env("MAX_RETRIES", "1");
    command
}

#[tokio::test]
async fn working_services_keep_their_secrets() {
    let (database, amqp) = (database().await, broker().await);
    let logs = tempfile::tempdir().unwrap();
    let log = |name: &str| logs.path().join(name);
    let api = Api {
        url: format!("http://{}", free_address()),
        key: Some(API_KEY.to_owned()),
    };
    let mut said = Said::default();

    let mut create = command("llm-bench", &database, &amqp);
    create.args(["keys", "create", "reader"]);
    let created = run(create);
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    said.note("keys create, its log", String::from_utf8_lossy(&created.stderr));
    let shown = String::from_utf8_lossy(&created.stdout).into_owned();
    let stored_key = shown
        .split_whitespace()
        .find(|word| word.starts_with("llmb_"))
        .unwrap();
    let secret = stored_key.rsplit('_').next().unwrap();

    let mut benchmark = command("benchmark-service", &database, &amqp);
    benchmark
        .env("HTTP_ADDR", api.url.trim_start_matches("http://"))
        .stderr(File::create(log("benchmark")).unwrap());
    let benchmark = Process::start(benchmark);
    let mut simulation = command("simulation-service", &database, &amqp);
    simulation
        .env("SIMULATION_HTTP_ADDR", free_address())
        .env("NUM_DATA_POINTS", "10")
        .stderr(File::create(log("simulation")).unwrap());
    let simulation = Process::start(simulation);
    until("a tick is ranked", async || api.values("").await == 160).await;

    for key in [API_KEY, WRONG_KEY, stored_key] {
        let caller = Api {
            url: api.url.clone(),
            key: Some(key.to_owned()),
        };
        for path in [
            "/api/v1/llms",
            "/api/v1/history",
            "/readyz",
            "/metrics",
            "/openapi.json",
        ] {
            said.note(path, caller.text(path).await);
        }
    }
    simulation.stop();
    benchmark.stop();
    said.note_file(&log("benchmark"));
    said.note_file(&log("simulation"));
    for arguments in [
        &["doctor"][..],
        &["keys", "list"],
        &["rankings", "ttft"],
        &["dead-letters", "list"],
    ] {
        let mut asked = command("llm-bench", &database, &amqp);
        asked.args(arguments);
        said.note_run(&arguments.join(" "), asked);
    }
    said.assert_silent_about(&CANARIES);
    said.assert_silent_about(&[secret]);
    assert_dump_holds_no_key(&database, secret).await;
}

/// What a dump of the keys' table shows: the id and the keyed hash.
async fn assert_dump_holds_no_key(database: &str, secret: &str) {
    let mut sql = PgConnection::connect(database).await.unwrap();
    let plain_hash: String = sqlx::query_scalar("SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')")
        .bind(secret)
        .fetch_one(&mut sql)
        .await
        .unwrap();
    let rows: Vec<String> = sqlx::query_scalar("SELECT row_to_json(k)::text FROM api_keys k")
        .fetch_all(&mut sql)
        .await
        .unwrap();
    let dump = rows.concat();
    assert!(dump.contains("reader") && dump.contains("hash"), "{dump}");
    assert!(!dump.contains(secret) && !dump.contains(&plain_hash), "{dump}");
}

/// Passwords that servers refuse, servers that are away, and URLs that are none.
#[tokio::test]
async fn failing_programs_keep_their_secrets() {
    let (postgres, rabbitmq) = (shared_postgres().await, shared_rabbitmq().await);
    let refused = (
        with_credentials(postgres.url(), "canary", DATABASE_PASSWORD),
        with_credentials(rabbitmq.amqp_url(), "canary", BROKER_PASSWORD),
    );
    let place = format!("canary:{DATABASE_PASSWORD}@127.0.0.1");
    let amqp_place = format!("canary:{BROKER_PASSWORD}@127.0.0.1");
    let cases = [
        ("refused", refused),
        (
            "away",
            (
                format!("postgres://{place}:1/x"),
                format!("amqp://{amqp_place}:1/%2f"),
            ),
        ),
        (
            "another scheme",
            (format!("mysql://{place}/x"), format!("http://{amqp_place}")),
        ),
        (
            "no port",
            (
                format!("postgres://{place}:port/x"),
                format!("amqp://{amqp_place}:port"),
            ),
        ),
        (
            "no URL",
            (format!("postgres:{place}"), format!("amqp:{amqp_place}")),
        ),
        (
            "an option",
            (
                format!("postgres://{place}:1/x?sslmode=y"),
                format!("amqp://{amqp_place}:1/%2f?x=y"),
            ),
        ),
    ];
    let mut said = Said::default();
    // Side by side: most of them wait for servers that never come.
    std::thread::scope(|scope| {
        let asking: Vec<_> = cases
            .iter()
            .flat_map(|case| ["doctor", "migrate", "rankings"].map(|argument| (case, argument)))
            .map(|((what, (database, amqp)), argument)| {
                scope.spawn(move || {
                    let mut asked = command("llm-bench", database, amqp);
                    asked.arg(argument).env("MAX_RETRIES", "0");
                    let mut said = Said::default();
                    said.note_run(&format!("{argument} with {what}"), asked);
                    said
                })
            })
            .collect();
        for asked in asking {
            said.0.extend(asked.join().unwrap().0);
        }
    });
    let broken = |name: &str, value: &str| {
        let mut asked = command("llm-bench", "sqlite::memory:", "");
        asked.arg("doctor").env(name, value);
        asked
    };
    said.note_run("a misspelt variable", broken("API_KEYS", API_KEY));
    said.note_run("a short pepper", broken("API_KEY_PEPPER", &WRONG_KEY[..12]));
    said.note_run("an address", broken("HTTP_ADDR", "nowhere"));
    for name in ["llm-bench", "simulation-service", "benchmark-service"] {
        let mut help = command(name, &cases[1].1.0, &cases[1].1.1);
        // A service takes no options: it stops at its address.
        help.arg("--help")
            .env("HTTP_ADDR", "nowhere")
            .env("SIMULATION_HTTP_ADDR", "nowhere");
        said.note_run(&format!("{name} --help"), help);
    }
    assert_eq!(said.0.len(), 2 * (18 + 3 + 3));
    said.assert_silent_about(&CANARIES);
    said.assert_silent_about(&[&WRONG_KEY[..12]]);
}
