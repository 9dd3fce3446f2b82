//! The roles of the database.

use sqlx::{Connection as _, PgConnection};
use test_patience::soon;
use test_servers::shared_postgres;

use super::{PASSWORD, as_user, random_name, service, user_of};
use crate::process::{program, run};

/// A database with its owner's URL and those of the two roles.
pub(super) struct Database {
    owner: String,
    pub(super) producer: String,
    pub(super) consumer: String,
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
    pub(super) async fn granted() -> Self {
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

async fn execute(sql: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(sql)
        .await
        .map(drop)
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
        let ended = tokio::task::spawn_blocking(move || run(command));
        let done = soon("it gives up", ended).await.unwrap();
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
