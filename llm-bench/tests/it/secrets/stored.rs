//! What is kept: whoever has a copy of the database has no key and no password.

use std::{fs, path::Path, process::Command};

use sqlx::{Connection as _, PgConnection};
use test_patience::until;

use super::{API_KEY, CANARIES, PEPPER, Said, assert_no_form_of};
use crate::{
    process::{Process, program, run},
    rankings::Api,
};

/// Gives a key of a running database, which is shown this once.
pub(super) fn create_key(mut create: Command, said: &mut Said) -> String {
    create.args(["keys", "create", "reader"]);
    let created = run(create);
    let log = String::from_utf8_lossy(&created.stderr);
    assert!(created.status.success(), "{log}");
    said.note("keys create, its log", log);
    let shown = String::from_utf8_lossy(&created.stdout).into_owned();
    let key = shown.split_whitespace().find(|word| word.starts_with("llmb_"));
    key.unwrap().to_owned()
}

/// Neither the canaries and the key's secret, nor what a hash without the pepper makes of them.
fn assert_holds_none(place: &str, text: &str, secret: &str, plain_hashes: &[String]) {
    for canary in CANARIES.iter().copied().chain([secret]) {
        assert_no_form_of(canary, place, text);
    }
    for hash in plain_hashes {
        assert!(
            !text.contains(hash.as_str()),
            "{place} holds a hash without a pepper"
        );
    }
}

/// Of every table of the database, each row as text: what a dump shows.
pub(super) async fn assert_dump_holds_none(database: &str, secret: &str) {
    let mut sql = PgConnection::connect(database).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
         WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    for table in ["public.api_keys", "public.batches", "public.dead_letter_log"] {
        assert!(
            tables.iter().any(|found| found == table),
            "{table} is not in {tables:?}"
        );
    }
    let mut plain_hashes = Vec::new();
    for secret in [secret, API_KEY] {
        let hash = sqlx::query_scalar("SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')");
        plain_hashes.push(hash.bind(secret).fetch_one(&mut sql).await.unwrap());
    }
    for table in tables {
        let select = format!("SELECT coalesce(string_agg(row::text, E'\\n'), '') FROM {table} AS row");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(select))
            .fetch_one(&mut sql)
            .await
            .unwrap();
        assert!(table != "public.api_keys" || rows.contains("reader"), "{rows}");
        assert_holds_none(&table, &rows, secret, &plain_hashes);
    }
}

/// Every file of the embedded mode, the database's log included.
#[tokio::test]
async fn the_embedded_modes_files_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = program("llm-bench");
        command
            .env("DATA_DIR", directory.path())
            .env("API_KEY", API_KEY)
            .env("API_KEY_PEPPER", PEPPER)
            .env("NUM_DATA_POINTS", "10");
        command
    };
    let key = create_key(command(), &mut Said::default());
    let secret = key.rsplit('_').next().unwrap();
    let mut up = command();
    up.args(["up", "--port", "0"]);
    let (process, url) = Process::up(up);
    for key in [API_KEY, &key] {
        let api = Api::with_key(&url, key);
        until("a tick is ranked", async || api.values("").await == 160).await;
    }
    let running = read_all(directory.path());
    process.stop();
    let ended = read_all(directory.path());
    for (place, files) in [("while it runs", running), ("afterwards", ended)] {
        let all: Vec<u8> = files.concat();
        assert!(
            all.windows(6).any(|bytes| bytes == b"reader"),
            "the key is not stored {place}"
        );
        assert_holds_none(place, &String::from_utf8_lossy(&all), secret, &[]);
    }
}

fn read_all(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| fs::read(path).unwrap())
        .collect()
}
