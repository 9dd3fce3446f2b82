//! What the roles of the services may do: the one list of it.

use shared_types::Invalid;
use sqlx::{AssertSqlSafe, PgConnection};
use storage::{ServiceRole, StorageError};
use storage_sql::SqlError;

/// A table, what a producer and what a consumer may do with it. A table that is not named here is nobody's but the
/// owner's, and a test below fails for it, so that somebody decides.
pub(crate) struct Table {
    name: &'static str,
    producer: &'static str,
    consumer: &'static str,
}

/// Nobody but the owner may TRUNCATE, and nobody who does not own the schema can change it. What looks like more than
/// a service needs is said why.
const TABLES: &[Table] = &[
    // A producer registers the LLMs it hears of; administering the registry is the API's.
    table("llms", "SELECT, INSERT", "SELECT, INSERT, UPDATE"),
    table("metrics", "SELECT", "SELECT, INSERT, UPDATE"),
    // A batch that is there already is compared. Only retention deletes.
    table("batches", "SELECT, INSERT", "SELECT, INSERT, DELETE"),
    table(
        "outbox",
        "SELECT, INSERT, UPDATE, DELETE",
        "SELECT, INSERT, UPDATE, DELETE",
    ),
    table("ledger", "", "SELECT, INSERT, DELETE"),
    table("statistics", "", "SELECT, INSERT, UPDATE, DELETE"),
    table("statistics_generation", "", "SELECT, UPDATE"),
    table("reconciliation", "", "SELECT, UPDATE"),
    table("uncounted", "", "SELECT, INSERT, UPDATE, DELETE"),
    // Older batches are refused, by whoever takes them in.
    table("retention", "SELECT", "SELECT, UPDATE"),
    table("simulation_seed", "SELECT, INSERT", ""),
    table("simulation_ticks", "SELECT, INSERT, UPDATE", ""),
    // Keys are made and revoked, and dead letters looked after, by operators with the owner's role.
    table("api_keys", "", "SELECT"),
    table("dead_letter_log", "", ""),
    table("_sqlx_migrations", "SELECT", "SELECT"),
];

/// What every service calls. Granted to everybody by default, which a careful administrator may have changed.
const FUNCTIONS: &[&str] = &["settled_retained_from(bigint)"];

const fn table(name: &'static str, producer: &'static str, consumer: &'static str) -> Table {
    Table {
        name,
        producer,
        consumer,
    }
}

impl Table {
    fn privileges(&self, service: ServiceRole) -> &'static str {
        match service {
            ServiceRole::Producer => self.producer,
            ServiceRole::Consumer => self.consumer,
        }
    }
}

/// Gives `role` what its service needs and takes everything else from it, in one transaction: services that run never
/// see less than they need.
pub(crate) async fn grant(
    connection: &mut PgConnection,
    role: &str,
    service: ServiceRole,
) -> Result<(), SqlError> {
    let mut transaction = sqlx::Connection::begin(connection).await?;
    check(&mut transaction, role, service).await?;
    let role = quoted(role);
    let mut statements = vec![
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("REVOKE ALL ON SCHEMA public FROM {role}"),
        format!("GRANT USAGE ON SCHEMA public TO {role}"),
        format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"),
    ];
    for table in TABLES {
        let privileges = table.privileges(service);
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table.name)
            .fetch_one(&mut *transaction)
            .await?;
        if exists && !privileges.is_empty() {
            statements.push(format!("GRANT {privileges} ON TABLE {} TO {role}", table.name));
        }
    }
    for function in FUNCTIONS {
        let exists: bool = sqlx::query_scalar("SELECT to_regprocedure($1) IS NOT NULL")
            .bind(function)
            .fetch_one(&mut *transaction)
            .await?;
        if exists {
            statements.push(format!("GRANT EXECUTE ON FUNCTION {function} TO {role}"));
        }
    }
    for statement in statements {
        // Safe: names of tables and functions are ours, and the role's is quoted.
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Refuses a role that is not there, and one that would keep every right whatever is revoked.
async fn check(connection: &mut PgConnection, role: &str, service: ServiceRole) -> Result<(), SqlError> {
    let refused = |found: String, expected: &str| {
        SqlError::from(StorageError::Invalid(Invalid::new(
            format!("{service} role"),
            found,
            expected,
        )))
    };
    let almighty: Option<bool> = sqlx::query_scalar(
        "SELECT r.rolsuper OR pg_has_role(r.oid, d.datdba, 'MEMBER')
                OR coalesce(pg_has_role(r.oid, t.relowner, 'MEMBER'), false)
         FROM pg_roles r
         JOIN pg_database d ON d.datname = current_database()
         LEFT JOIN pg_class t ON t.oid = to_regclass('batches')
         WHERE r.rolname = $1",
    )
    .bind(role)
    .fetch_optional(connection)
    .await?;
    match almighty {
        None => Err(refused(
            role.to_owned(),
            "a role that exists; an administrator makes it with CREATE ROLE … LOGIN PASSWORD …",
        )),
        Some(true) => Err(refused(
            format!("{role}, which is a superuser or owns the schema"),
            "a role whose rights can be limited",
        )),
        Some(false) => Ok(()),
    }
}

/// An identifier, whatever it holds. (PostgreSQL's names have no NUL, so no role of that name was found.)
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::migrations::MIGRATIONS;

    #[test]
    fn somebody_has_decided_about_every_table() {
        let named: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
        let created = MIGRATIONS.iter().flat_map(|migration| {
            let statements = migration.sql.as_str().split("CREATE TABLE ").skip(1);
            statements.filter_map(|rest| rest.split_whitespace().next().map(str::to_owned))
        });
        for table in created {
            assert!(named.contains(table.as_str()), "TABLES does not name {table}");
        }
    }

    #[test]
    fn a_name_is_quoted_whatever_it_holds() {
        assert_eq!(quoted(r#"a"; DROP ROLE b; --"#), r#""a""; DROP ROLE b; --""#);
    }
}
