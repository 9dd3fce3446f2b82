//! The schema's migrations, in the executable.
//!
//! Listed by hand: `sqlx::migrate!` would compile all of sqlx, SQLite's C code included, a second time for the macro.

use std::sync::LazyLock;

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// Name and text of each file of `migrations/postgres`, in the order in which they apply.
const FILES: [(&str, &str); 6] = [
    (
        "0001_initial.sql",
        include_str!("../../../migrations/postgres/0001_initial.sql"),
    ),
    (
        "0002_reconciliation.sql",
        include_str!("../../../migrations/postgres/0002_reconciliation.sql"),
    ),
    (
        "0003_dead_letter_log.sql",
        include_str!("../../../migrations/postgres/0003_dead_letter_log.sql"),
    ),
    (
        "0004_batches.sql",
        include_str!("../../../migrations/postgres/0004_batches.sql"),
    ),
    (
        "0005_batch_metadata.sql",
        include_str!("../../../migrations/postgres/0005_batch_metadata.sql"),
    ),
    (
        "0006_rebuild_in_one_transaction.sql",
        include_str!("../../../migrations/postgres/0006_rebuild_in_one_transaction.sql"),
    ),
];

pub(crate) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = FILES.into_iter().zip(1..).map(|((name, sql), version)| {
        let (_, description) = name
            .trim_end_matches(".sql")
            .split_once('_')
            .unwrap_or(("", name));
        Migration::new(
            version,
            description.replace('_', " ").into(),
            MigrationType::Simple,
            SqlStr::from_static(sql),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
});

#[cfg(test)]
mod tests {
    use std::fs;

    use super::FILES;

    #[test]
    fn every_file_is_listed_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/postgres");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(FILES.map(|(name, _)| name.to_owned()).to_vec(), files);
        for (name, version) in files.iter().zip(1..) {
            assert!(
                name.starts_with(&format!("{version:04}_")),
                "{name} is number {version}"
            );
        }
    }
}
