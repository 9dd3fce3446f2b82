//! The services under roles and users that may do what a service does, and nothing else.

use std::{fs, io::Read, path::Path, process::Command};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection};
use test_servers::{RabbitMqServer, shared_postgres};

use crate::{
    oracle::exact_mean,
    process::{PATIENCE, Process, free_address, program, run, until},
    rankings::Api,
};

const KEY: &str = "a-bootstrap-key-of-the-tests";
const PASSWORD: &str = "only-for-this-test";

/// A database with its owner's URL and those of the two roles.
struct Database {
    owner: String,
    producer: String,
    consumer: String,
}

impl Database {
    /// With the two roles, and nothing granted to them.
    async fn with_roles() -> Self {
        let owner = shared_postgres().await.create_database().await.unwrap();
        let mut sql = PgConnection::connect(&owner).await.unwrap();
        let mut role = async |duty: &str| {
            let name = format!("{duty}_{}", random_name());
            let statement = format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'");
            execute(&mut sql, &statement).await.unwrap();
            as_user(&owner, &name)
        };
        Self {
            producer: role("producer").await,
            consumer: role("consumer").await,
            owner,
        }
    }

    /// Migrated, seeded and granted, as the migration job does it.
    async fn granted() -> Self {
        let database = Self::with_roles().await;
        for _ in 0..2 {
            let mut migrate = program("llm-bench");
            migrate
                .env("DATABASE_URL", &database.owner)
                .args(["migrate", "--producer-role", user_of(&database.producer)])
                .args(["--consumer-role", user_of(&database.consumer)]);
            let done = run(migrate);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        database
    }
}

fn random_name() -> String {
    let mut bytes = [0; 8];
    let mut source = fs::File::open("/dev/urandom").unwrap();
    source.read_exact(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same URL with another user, and the test's password.
fn as_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    format!("{scheme}://{user}:{PASSWORD}@{place}")
}

fn user_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    rest.split_once(':').unwrap().0
}

async fn execute(sql: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(sql)
        .await
        .map(drop)
}

/// A broker with the definitions and the users of k8s/rabbitmq, and their URLs.
struct Broker {
    server: RabbitMqServer,
    producer: String,
    consumer: String,
}

impl Broker {
    async fn with_users() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/rabbitmq");
        let server = RabbitMqServer::start().await.unwrap();
        // Copied, because the server runs as another user, who may not look into this folder.
        let definitions = std::env::temp_dir().join(format!("{}.json", random_name()));
        fs::copy(folder.join("definitions.json"), &definitions).unwrap();
        let imported = server
            .rabbitmqctl(&["import_definitions", definitions.to_str().unwrap()])
            .await;
        fs::remove_file(&definitions).unwrap();
        imported.unwrap();
        for line in fs::read_to_string(folder.join("permissions.txt"))
            .unwrap()
            .lines()
        {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [whose @ ("PRODUCER" | "CONSUMER"), configure, write, read] = fields[..] {
                let user = whose.to_lowercase();
                server.rabbitmqctl(&["add_user", &user, PASSWORD]).await.unwrap();
                server
                    .rabbitmqctl(&["set_permissions", "--vhost", "/", &user, configure, write, read])
                    .await
                    .unwrap();
            }
        }
        Self {
            producer: as_user(server.amqp_url(), "producer"),
            consumer: as_user(server.amqp_url(), "consumer"),
            server,
        }
    }
}

fn service(name: &str, database: &str, amqp: &str) -> Command {
    let mut command = program(name);
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", amqp)
        .env("MIGRATE_AT_START", "false");
    command
}

#[tokio::test]
async fn the_pipeline_works_under_roles_that_may_do_nothing_else() {
    let (database, broker) = tokio::join!(Database::granted(), Broker::with_users());
    let api = Api {
        url: format!("http://{}", free_address()),
        key: Some(KEY.to_owned()),
    };
    let mut benchmark = service("benchmark-service", &database.consumer, &broker.consumer);
    benchmark
        .env("HTTP_ADDR", api.url.trim_start_matches("http://"))
        .env("API_KEY", KEY);
    let benchmark = Process::start(benchmark);
    let mut simulation = service("simulation-service", &database.producer, &broker.producer);
    simulation
        .env("SIMULATION_HTTP_ADDR", free_address())
        .env("SIMULATION_INTERVAL", "0.2")
        .env("NUM_DATA_POINTS", "100");
    let simulation = Process::start(simulation);
    until("some ticks are ranked", async || api.values("").await >= 5 * 1600).await;
    simulation.stop();

    let batch = serde_json::json!({
        "llm_name": "Brand new", "metric": "ttft", "values": [0.1, 0.2, 0.3], "timestamp": "2026-05-01T12:00:00Z",
    });
    let sent = api.post("/api/v1/batches", &batch).await;
    assert_eq!(sent.0, 202, "{}", sent.1);
    let llm = api
        .post(
            "/api/v1/llms",
            &serde_json::json!({"name": "By hand", "creator": "nobody"}),
        )
        .await;
    assert_eq!(llm.0, 201, "{}", llm.1);
    until("the batch of the API is ranked", async || {
        api.values("source=imported").await == 3
    })
    .await;
    let ranking = api.rankings("source=imported").await;
    assert_eq!(ranking["ttft"][0].mean, exact_mean(&[0.1, 0.2, 0.3]));

    let administrator = channel(broker.server.amqp_url()).await;
    publish(&administrator, "llm.batches", "batch.poison")
        .await
        .unwrap();
    until("poison is a dead letter", async || {
        let look = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = administrator
            .queue_declare("benchmarking_service.dead".into(), look, FieldTable::default())
            .await;
        queue.unwrap().message_count() == 1
    })
    .await;
    let (status, ready) = api.get("/readyz").await;
    assert_eq!(status, 200, "{ready}");
    benchmark.stop();
}

/// SQL that neither role may run.
const FORBIDDEN_TO_BOTH: &[&str] = &[
    "TRUNCATE batches",
    "TRUNCATE outbox",
    "DROP TABLE batches",
    "DROP SCHEMA public CASCADE",
    "ALTER TABLE batches ADD COLUMN x int",
    "ALTER TABLE batches DISABLE TRIGGER ALL",
    "ALTER TABLE ledger OWNER TO CURRENT_USER",
    "CREATE TABLE mine (x int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX mine ON batches (id)",
    "CREATE ROLE mine",
    "UPDATE batches SET checksum = checksum",
    "DELETE FROM llms",
    "DELETE FROM metrics",
    "UPDATE ledger SET counted_at = now()",
    "INSERT INTO api_keys VALUES ('a', 'a', 'admin', decode(repeat('00', 32), 'hex'), now())",
    "UPDATE api_keys SET revoked_at = NULL",
    "DELETE FROM api_keys",
    "DELETE FROM _sqlx_migrations",
    "COPY batches TO PROGRAM 'cat'",
    "SELECT pg_read_file('PG_VERSION')",
];
const FORBIDDEN_TO_PRODUCERS: &[&str] = &[
    "DELETE FROM batches",
    "UPDATE llms SET creator = 'x'",
    "INSERT INTO metrics (title) VALUES ('x')",
    "SELECT FROM api_keys",
    "SELECT FROM ledger",
    "INSERT INTO ledger VALUES (gen_random_uuid(), now())",
    "DELETE FROM ledger",
    "SELECT FROM statistics",
    "UPDATE statistics SET n = 0",
    "UPDATE statistics_generation SET generation = 0",
    "DELETE FROM simulation_ticks",
];
const FORBIDDEN_TO_CONSUMERS: &[&str] = &[
    "SELECT FROM simulation_seed",
    "UPDATE simulation_ticks SET next_tick = 0",
    "DELETE FROM statistics_generation",
];

#[tokio::test]
async fn each_role_is_refused_what_its_service_does_not_do() {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    let database = Database::granted().await;
    for (url, forbidden) in [
        (&database.producer, FORBIDDEN_TO_PRODUCERS),
        (&database.consumer, FORBIDDEN_TO_CONSUMERS),
    ] {
        let mut sql = PgConnection::connect(url).await.unwrap();
        for statement in FORBIDDEN_TO_BOTH.iter().chain(forbidden) {
            let refused = execute(&mut sql, statement).await.expect_err(statement);
            let code = refused
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(
                code.as_deref(),
                Some(INSUFFICIENT_PRIVILEGE),
                "{statement} as {}: {refused}",
                user_of(url)
            );
        }
    }
}

#[tokio::test]
async fn a_role_that_may_not_migrate_says_what_to_do() {
    let database = Database::granted().await;
    for (name, url) in [
        ("simulation-service", &database.producer),
        ("benchmark-service", &database.consumer),
    ] {
        let mut command = service(name, url, "amqp://127.0.0.1:1");
        command
            .env("MIGRATE_AT_START", "true")
            .env("HTTP_ADDR", "127.0.0.1:0")
            .env("SIMULATION_HTTP_ADDR", "127.0.0.1:0");
        let done = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || run(command)))
            .await
            .expect("it gives up")
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains("MIGRATE_AT_START: found true") && said.contains("llm-bench migrate"),
            "{name}: {said}"
        );
    }
}

#[tokio::test]
async fn rights_are_given_to_roles_that_can_be_limited() {
    let database = Database::with_roles().await;
    for (role, told) in [
        ("nobody_of_this_name", "a role that exists"),
        (user_of(&database.owner), "a role whose rights can be limited"),
    ] {
        let mut migrate = program("llm-bench");
        migrate
            .env("DATABASE_URL", &database.owner)
            .args(["migrate", "--producer-role", role]);
        let done = run(migrate);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(told), "{role}: {said}");
    }
}

async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    connection.create_channel().await.unwrap()
}

/// Publishes what no consumer can read, and waits for the broker's word.
async fn publish(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<Confirmation> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            b"poison",
            BasicProperties::default(),
        )
        .await?
        .await
}

#[tokio::test]
async fn each_user_of_the_broker_is_refused_what_its_service_does_not_do() {
    let broker = Broker::with_users().await;
    let queue = || "benchmarking_service".into();
    for (url, producer) in [(&broker.producer, true), (&broker.consumer, false)] {
        let mut refused = Vec::new();
        // A refusal closes the channel, so each attempt has one of its own.
        let declared = channel(url)
            .await
            .queue_declare(
                "mine".into(),
                QueueDeclareOptions::default(),
                FieldTable::default(),
            )
            .await;
        refused.push(("declare a queue", declared.map(drop)));
        let deleted = channel(url)
            .await
            .queue_delete(queue(), QueueDeleteOptions::default())
            .await;
        refused.push(("delete the queue", deleted.map(drop)));
        let exchange = ExchangeDeclareOptions::default();
        let declared = channel(url)
            .await
            .exchange_declare(
                "mine".into(),
                ExchangeKind::Fanout,
                exchange,
                FieldTable::default(),
            )
            .await;
        refused.push(("declare an exchange", declared));
        let deleted = channel(url)
            .await
            .exchange_delete("llm.batches".into(), ExchangeDeleteOptions::default())
            .await;
        refused.push(("delete the exchange", deleted));
        let bound = channel(url)
            .await
            .queue_bind(
                queue(),
                "llm.batches".into(),
                "x".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await;
        refused.push(("bind the queue", bound));
        let direct = publish(&channel(url).await, "", "benchmarking_service").await;
        refused.push(("publish past the exchange", direct.map(drop)));
        let elsewhere = publish(&channel(url).await, "amq.topic", "x").await;
        refused.push(("publish to another exchange", elsewhere.map(drop)));
        let dead: lapin::types::ShortString = "benchmarking_service.dead".into();
        let got = channel(url)
            .await
            .basic_get(dead, BasicGetOptions::default())
            .await;
        refused.push(("read the dead letters", got.map(drop)));
        if producer {
            let consumed = channel(url)
                .await
                .basic_consume(
                    queue(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await;
            refused.push(("consume", consumed.map(drop)));
            let purged = channel(url)
                .await
                .queue_purge(queue(), QueuePurgeOptions::default())
                .await;
            refused.push(("purge the queue", purged.map(drop)));
            let dead = publish(&channel(url).await, "llm.batches.dead", "").await;
            refused.push(("make a dead letter", dead.map(drop)));
        }
        for (what, outcome) in refused {
            let error = outcome.expect_err(what).to_string();
            assert!(
                error.contains("ACCESS_REFUSED"),
                "{what} as {}: {error}",
                user_of(url)
            );
        }
    }
}
