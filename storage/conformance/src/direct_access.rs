//! What reconciliation and retention do as time goes by, and with rows that no port can make.
//!
//! A backend's test writes `storage_conformance::direct_access_tests!(open);` where `open` is an async function that gives
//! `Result<(Arc<dyn Storage>, Arc<dyn DirectAccess>, T), BoxError>`: an empty database, direct access to it, and whatever
//! must live as long.

use std::time::Duration;

use async_trait::async_trait;
use shared_types::MetricBatch;
use storage::{Applied, BoxError, Hour, Period, Recorded, Refusal, Requeued, Storage};
use test_patience::soon;
use tokio::sync::Notify;

use crate::{
    Empty, Outcome,
    rebuild::count_patiently,
    samples::{all_statistics, batches, ids, prepared, unpublished},
};

/// What no port does to a database.
#[async_trait]
pub trait DirectAccess: Send + Sync {
    /// Lets time pass: what has been stored is so much older, by the database's clock.
    async fn age(&self, by: Duration) -> Outcome;

    /// Runs a statement that all dialects understand, whatever refers to the rows that it changes; gives how many it
    /// changed.
    async fn execute(&self, statement: &'static str) -> Result<u64, BoxError>;

    /// Asks for one number, in words that all dialects understand.
    async fn number(&self, query: &'static str) -> Result<i64, BoxError>;
}

/// Makes a test of every case.
#[macro_export]
macro_rules! direct_access_tests {
    ($open:path) => {
        $crate::direct_access_tests! { $open;
            a_batch_that_cannot_be_read_does_not_hold_up_its_neighbours
            a_stored_batch_that_has_become_too_old_is_never_counted_and_never_requeued
            an_audit_names_what_was_tampered_with_and_a_rebuild_repairs_it
            a_rebuild_that_is_given_up_leaves_everything_as_it_was
            batches_that_an_operator_deletes_leave_nothing_behind
            the_mark_is_never_beyond_the_newest_batch
            the_reconciler_remembers_how_far_it_has_looked
            the_wait_before_a_batch_is_requeued_again_doubles_up_to_a_day
        }
    };
    ($open:path; $($case:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() -> $crate::Outcome {
                let (storage, direct_access, _kept) = $open().await?;
                $crate::direct_access::$case(storage, direct_access.as_ref()).await
            }
        )+
    };
}

const NOW: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// How long a batch may be on its way. Half of it is far more than a test takes to come from one line to the next.
const GRACE: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Batches that are stored, not counted, and will not be looked at again unless they are known to be uncounted.
const BEHIND_THE_MARK: &str =
    "SELECT count(*) FROM batches WHERE recorded_at < (SELECT complete_until FROM reconciliation)";

/// Stored and confirmed by a broker that has lost them since.
async fn lost(storage: &dyn Storage, batches: &[MetricBatch]) -> Outcome {
    storage.record(batches).await?;
    storage.mark_published(&ids(batches)).await?;
    Ok(())
}

fn found(uncounted: u64, requeued: u64) -> Requeued {
    Requeued { uncounted, requeued }
}

/// However often it is lost.
pub async fn the_wait_before_a_batch_is_requeued_again_doubles_up_to_a_day(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    const HALF: Duration = Duration::from_secs(GRACE.as_secs() / 2);
    prepared(&*storage).await?;
    let batches = batches(0..1)?;
    lost(&*storage, &batches).await?;
    direct_access.age(HALF).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(0, 0));
    direct_access.age(HALF).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(1, 1));
    for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
        storage.mark_published(&ids(&batches)).await?;
        for (wait, requeued) in [(minutes * MINUTE - HALF, 0), (HALF, 1)] {
            direct_access.age(wait).await?;
            let now = storage.requeue_uncounted(GRACE, 10).await?;
            assert_eq!(now, found(1, requeued), "{minutes} minutes");
        }
    }
    Ok(())
}

/// What is behind the mark is not looked at again, so nothing that may still be requeued may be behind it.
pub async fn the_reconciler_remembers_how_far_it_has_looked(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..31)?;
    let (batches, newest) = batches.split_at(30);
    lost(&*storage, &batches[..10]).await?;
    direct_access.age(SECOND).await?;
    storage.record(&batches[10..20]).await?;
    direct_access.age(SECOND).await?;
    lost(&*storage, &batches[20..]).await?;
    direct_access.age(HOUR).await?;
    // Nothing is claimed to be seen that is not long before the newest one.
    lost(&*storage, newest).await?;

    assert_eq!(storage.requeue_uncounted(GRACE, 5).await?, found(5, 5));
    let behind = async || direct_access.number(BEHIND_THE_MARK).await;
    assert_eq!(behind().await?, 0, "the limit has left some");
    assert_eq!(storage.requeue_uncounted(GRACE, 100).await?, found(20, 15));
    assert_eq!(behind().await?, 10, "some have not even left the outbox");
    storage.mark_published(&ids(batches)).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 100).await?, found(30, 10));
    storage.mark_published(&ids(batches)).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 100).await?, found(30, 0));
    // What is young may be joined by what is older and committed later.
    assert_eq!(behind().await?, 30, "all but the newest");
    storage.apply(batches).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 100).await?, found(0, 0));
    Ok(())
}

/// A clock that ran ahead must not hide what is stored once it is right again.
pub async fn the_mark_is_never_beyond_the_newest_batch(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..4)?;
    lost(&*storage, &batches[..2]).await?;
    direct_access.age(400 * DAY).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(2, 2));
    storage.mark_published(&ids(&batches)).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(2, 0));
    assert_eq!(direct_access.number(BEHIND_THE_MARK).await?, 0);
    // Stored by a clock that is back where it was when the first ones were.
    lost(&*storage, &batches[2..]).await?;
    let earlier = "UPDATE batches SET recorded_at = (SELECT min(recorded_at) FROM batches)";
    assert_eq!(direct_access.execute(earlier).await?, 4);
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(4, 2));
    Ok(())
}

/// By hand, and without regard to what refers to them.
pub async fn batches_that_an_operator_deletes_leave_nothing_behind(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..4)?;
    lost(&*storage, &batches[..2]).await?;
    direct_access.age(HOUR).await?;
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(2, 2));
    storage.record(&batches[2..]).await?;
    assert_eq!(direct_access.execute("DELETE FROM batches").await?, 4);
    assert_eq!(unpublished(&*storage).await?, 4);
    assert_eq!(storage.requeue_uncounted(GRACE, 10).await?, found(0, 0));
    assert_eq!(unpublished(&*storage).await?, 0);
    assert_eq!(direct_access.number("SELECT count(*) FROM uncounted").await?, 0);
    Ok(())
}

/// A row is wrong, so that there is something to change.
pub async fn a_rebuild_that_is_given_up_leaves_everything_as_it_was(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..201)?;
    storage.apply(&batches[..200]).await?;
    let spoil = "UPDATE statistics SET n = n + 1 WHERE period > 0";
    let spoilt = direct_access.execute(spoil).await?;
    let before = storage.audit(None, 1000).await?;
    assert_eq!(before.mismatches.len() as u64, spoilt);
    let is_under_way = Notify::new();
    let progress = |folded, _| {
        if folded == 200 {
            is_under_way.notify_one();
        }
    };
    tokio::select! {
        ended = storage.rebuild(&progress) => panic!("the rebuild has ended: {ended:?}"),
        () = is_under_way.notified() => {}
    }
    let counting = count_patiently(&*storage, &batches[200..201]);
    assert_eq!(soon("consumers go on", counting).await?, 1);
    let after = storage.audit(None, 1000).await?.mismatches;
    assert!(after.iter().all(|mismatch| before.mismatches.contains(mismatch)));
    assert!(
        after.len() + 1 >= before.mismatches.len(),
        "only one row was written"
    );
    storage.rebuild(&|_, _| {}).await?;
    assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
    Ok(())
}

/// Row by row, those of all time included.
pub async fn an_audit_names_what_was_tampered_with_and_a_rebuild_repairs_it(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    storage.apply(&batches(0..50)?).await?;
    let before = all_statistics(&*storage).await?;
    for tampering in [
        "UPDATE statistics SET state = (SELECT checksum FROM batches LIMIT 1)
         WHERE (llm_id, metric_id, source, period) =
         (SELECT llm_id, metric_id, source, period FROM statistics ORDER BY 1, 2, 3, 4 LIMIT 1)",
        "DELETE FROM statistics WHERE (llm_id, metric_id, source, period) =
         (SELECT llm_id, metric_id, source, period FROM statistics ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC LIMIT 1)",
        "INSERT INTO statistics (llm_id, metric_id, source, period, state, n, revision, updated_at)
         SELECT llm_id, metric_id, source, 7, state, n, revision, updated_at FROM statistics
         ORDER BY llm_id DESC, metric_id DESC, source DESC, period DESC LIMIT 1",
    ] {
        assert_eq!(direct_access.execute(tampering).await?, 1);
    }
    let audit = storage.audit(None, 1000).await?;
    assert_eq!((audit.batches, audit.next), (50, None));
    let periods: Vec<Period> = audit.mismatches.iter().map(|row| row.period).collect();
    // The all-time row of the first key; of the last key also, which is no longer the merge of its hours.
    assert_eq!(
        periods[..3],
        [Period::AllTime, Period::AllTime, Period::Hour(Hour(7))]
    );
    assert!(
        matches!(periods[3..], [Period::Hour(hour)] if hour > Hour(7)),
        "{periods:?}"
    );
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 3);
    assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
    assert_eq!(all_statistics(&*storage).await?, before);
    Ok(())
}

/// It stays in the outbox for somebody to look at.
pub async fn a_batch_that_cannot_be_read_does_not_hold_up_its_neighbours(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..3)?;
    storage.record(&batches).await?;
    let spoil = "UPDATE batches SET run_id = 'another' WHERE sequence = 1";
    assert_eq!(direct_access.execute(spoil).await?, 1);
    let readable = [batches[0].clone(), batches[2].clone()];
    assert_eq!(storage.claim_unpublished(10, NOW, HOUR).await?, readable);
    let claimed = storage.claim_unpublished(10, NOW, HOUR).await?;
    assert_eq!(claimed, [], "all are claimed");
    storage.mark_published(&ids(&readable)).await?;
    assert_eq!(storage.claim_unpublished(10, NOW, NOW).await?, []);
    assert_eq!(unpublished(&*storage).await?, 1, "it is still there");
    Ok(())
}

/// No port stores one; but if one is there, nobody knows whether it was counted.
pub async fn a_stored_batch_that_has_become_too_old_is_never_counted_and_never_requeued(
    storage: Empty,
    direct_access: &dyn DirectAccess,
) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..2)?;
    lost(&*storage, &batches).await?;
    direct_access.age(DAY).await?;
    let raise = "UPDATE retention SET retained_from = (SELECT max(recorded_at) FROM batches)";
    assert_eq!(direct_access.execute(raise).await?, 1);
    assert_eq!(storage.record(&batches).await?, vec![Recorded::AlreadyStored; 2]);
    let applied = storage.apply(&batches).await?;
    let too_old = |outcome: &Applied| matches!(outcome, Applied::Refused(Refusal::TooOld { .. }));
    assert!(applied.iter().all(too_old), "{applied:?}");
    assert_eq!(storage.requeue_uncounted(NOW, 10).await?, found(0, 0));
    Ok(())
}
