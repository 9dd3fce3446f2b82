use chrono::TimeDelta;
use futures::future::try_join_all;
use storage::{ApiKeyId, ApiKeyRecord, Scope, ServiceRole, StorageError};

use crate::{
    Empty, Outcome,
    samples::{noon, prepared},
};

pub(crate) async fn migrating_is_idempotent(storage: Empty) -> Outcome {
    let before = storage.database_info().await?;
    assert_eq!(before.applied_migrations, 0);
    assert!(before.pending_migrations > 0);
    assert_eq!(storage.migrate().await?, before.pending_migrations);
    assert_eq!(storage.migrate().await?, 0);
    let after = storage.database_info().await?;
    assert_eq!(
        (after.applied_migrations, after.pending_migrations),
        (before.pending_migrations, 0)
    );
    assert_eq!(after.version, before.version);
    Ok(())
}

pub(crate) async fn concurrent_migrations_apply_each_once(storage: Empty) -> Outcome {
    let all = storage.database_info().await?.pending_migrations;
    let applied = try_join_all((0..4).map(|_| storage.migrate())).await?;
    assert_eq!(applied.iter().sum::<u32>(), all, "{applied:?}");
    Ok(())
}

pub(crate) async fn rights_are_not_given_to_nobody(storage: Empty) -> Outcome {
    storage.migrate().await?;
    for duty in [ServiceRole::Producer, ServiceRole::Consumer] {
        let refused = storage.grant("no \"such\" role", duty).await;
        assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    }
    Ok(())
}

pub(crate) async fn a_database_without_tables_is_a_fault(storage: Empty) -> Outcome {
    let fault = storage.llms().await;
    assert!(matches!(fault, Err(StorageError::Fault { .. })), "{fault:?}");
    Ok(())
}

pub(crate) async fn a_ping_is_answered(storage: Empty) -> Outcome {
    storage.ping().await?;
    storage.close().await;
    let closed = storage.ping().await;
    assert!(
        matches!(closed, Err(StorageError::Unavailable { .. })),
        "{closed:?}"
    );
    Ok(())
}

pub(crate) async fn api_keys_are_kept_and_revoked(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let key = |number: u8, scope| ApiKeyRecord {
        id: ApiKeyId(format!("key-{number}")),
        name: format!("Key {number}"),
        scope,
        hash: [number; 32],
        created_at: noon() + TimeDelta::minutes(i64::from(number)),
        expires_at: (number == 1).then(|| noon() + TimeDelta::days(1)),
        revoked_at: None,
    };
    let mut keys = [key(0, Scope::Read), key(1, Scope::Write), key(2, Scope::Admin)];
    for key in keys.iter().rev() {
        storage.add_api_key(key).await?;
    }
    let again = ApiKeyRecord {
        name: "another".to_owned(),
        ..key(1, Scope::Admin)
    };
    storage.add_api_key(&again).await?;
    assert_eq!(storage.api_keys().await?, keys);

    storage.revoke_api_key(&keys[1].id, noon()).await?;
    storage
        .revoke_api_key(&keys[1].id, noon() + TimeDelta::hours(1))
        .await?;
    keys[1].revoked_at = Some(noon());
    assert_eq!(storage.api_keys().await?, keys);
    let missing = storage.revoke_api_key(&ApiKeyId("none".to_owned()), noon()).await;
    assert!(
        matches!(missing, Err(StorageError::NotFound { kind: "API key", .. })),
        "{missing:?}"
    );
    Ok(())
}

pub(crate) async fn the_first_seed_stays(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let drawn = [u64::MAX, 0, 7, 1 << 63];
    let seeds = try_join_all(drawn.map(|seed| storage.seed_or_store(seed))).await?;
    assert!(
        drawn.contains(&seeds[0]) && seeds.iter().all(|seed| *seed == seeds[0]),
        "{seeds:?}"
    );
    assert_eq!(storage.seed_or_store(42).await?, seeds[0]);
    Ok(())
}

pub(crate) async fn ticks_are_taken_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    assert_eq!(storage.take_tick(u64::MAX).await?, 0);
    assert_eq!(storage.take_tick(u64::MAX).await?, 1);
    let mut ticks = try_join_all((0..20).map(|_| storage.take_tick(7))).await?;
    ticks.sort_unstable();
    assert!(ticks.iter().copied().eq(0..20), "{ticks:?}");
    assert_eq!(storage.take_tick(u64::MAX).await?, 2);
    Ok(())
}
