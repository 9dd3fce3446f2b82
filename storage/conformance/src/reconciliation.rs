use std::time::Duration;

use chrono::TimeDelta;
use futures::future::{try_join, try_join_all};
use shared_types::MetricBatch;
use storage::{Applied, Audit, BoxError, Hour, Requeued, Storage};
use uuid::Uuid;

use crate::{
    Empty, Outcome,
    samples::{all_statistics, batch, batches, content, expected, ids, noon, prepared, unpublished},
};

const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

/// Stored and confirmed by a broker that has lost them since.
async fn lost(storage: &dyn Storage, batches: &[MetricBatch]) -> Outcome {
    storage.record(batches).await?;
    storage.mark_published(&ids(batches)).await?;
    Ok(())
}

pub(crate) async fn what_the_broker_lost_is_requeued(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..10)?;
    lost(&*storage, &batches).await?;
    storage.apply(&batches[..4]).await?;
    let found = storage.requeue_uncounted(NOW, 100).await?;
    assert_eq!(
        found,
        Requeued {
            uncounted: 6,
            requeued: 6
        }
    );
    let claimed = storage.claim_unpublished(100, NOW, HOUR).await?;
    assert_eq!(claimed, batches[4..]);
    storage.mark_published(&ids(&claimed)).await?;
    assert_eq!(storage.apply(&claimed).await?, vec![Applied::Counted; 6]);
    let found = storage.requeue_uncounted(NOW, 100).await?;
    assert_eq!(found, Requeued::default());
    assert_eq!(unpublished(&*storage).await?, 0);
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    Ok(())
}

pub(crate) async fn what_is_on_its_way_is_not_requeued(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    assert_eq!(
        storage.requeue_uncounted(NOW, 100).await?,
        Requeued::default(),
        "there is nothing"
    );
    let batches = batches(0..5)?;
    storage.record(&batches).await?;
    assert_eq!(
        storage.requeue_uncounted(NOW, 100).await?,
        Requeued::default(),
        "the outbox has them"
    );
    assert_eq!(unpublished(&*storage).await?, 5);
    storage.mark_published(&ids(&batches)).await?;
    assert_eq!(
        storage.requeue_uncounted(HOUR, 100).await?,
        Requeued::default(),
        "they are young"
    );
    assert_eq!(
        storage.requeue_uncounted(NOW, 100).await?,
        Requeued {
            uncounted: 5,
            requeued: 5
        },
        "no earlier call has closed the books on them"
    );
    Ok(())
}

pub(crate) async fn batches_are_requeued_oldest_first_up_to_the_limit(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..25)?;
    // In three transactions, hence of three ages.
    for piece in batches.chunks(10) {
        lost(&*storage, piece).await?;
    }
    let mut uncounted = 0;
    for (requeued, range) in [(10, 0..10), (10, 10..20), (5, 20..25), (0, 25..25)] {
        uncounted += requeued;
        let found = storage.requeue_uncounted(NOW, 10).await?;
        assert_eq!(found, Requeued { uncounted, requeued });
        let claimed = storage.claim_unpublished(100, NOW, HOUR).await?;
        assert_eq!(claimed, batches[range]);
    }
    Ok(())
}

pub(crate) async fn what_stays_uncounted_waits_before_it_is_requeued_again(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batch = [batch(0)?];
    lost(&*storage, &batch).await?;
    let requeued = |requeued| Requeued {
        uncounted: 1,
        requeued,
    };
    assert_eq!(storage.requeue_uncounted(NOW, 10).await?, requeued(1));
    assert_eq!(
        storage.requeue_uncounted(NOW, 10).await?,
        requeued(0),
        "it is queued"
    );
    storage.mark_published(&ids(&batch)).await?;
    assert_eq!(storage.requeue_uncounted(HOUR, 10).await?, requeued(0));
    assert_eq!(storage.requeue_uncounted(NOW, 10).await?, requeued(1));
    Ok(())
}

pub(crate) async fn concurrent_reconcilers_requeue_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..60)?;
    lost(&*storage, &batches).await?;
    let mut requeued = 0;
    loop {
        let found = try_join_all((0..8).map(|_| storage.requeue_uncounted(NOW, 10))).await?;
        let now: u64 = found.iter().map(|found| found.requeued).sum();
        requeued += now;
        assert_eq!(unpublished(&*storage).await?, requeued);
        if now == 0 {
            break;
        }
    }
    assert_eq!(requeued, 60);
    let mut claimed = storage.claim_unpublished(100, NOW, HOUR).await?;
    claimed.sort_by_key(MetricBatch::id);
    assert_eq!(claimed, batches);
    Ok(())
}

pub(crate) async fn the_audit_of_nothing_finds_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.record(&[batch(0)?]).await?;
    let audit = storage.audit(None, 100).await?;
    assert_eq!(
        audit,
        Audit {
            batches: 0,
            rows: 0,
            mismatches: Vec::new(),
            next: None
        }
    );
    Ok(())
}

pub(crate) async fn an_audit_looks_at_everything_in_whole_hours(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..150)?;
    storage.record(&batches).await?;
    storage.apply(&batches[..140]).await?;
    let rows = all_statistics(&*storage).await?.len() as u64;
    for step in [0, 1, 30, 60, 139, 140, u64::MAX] {
        let mut from = None;
        let (mut found, mut steps) = ((0, 0), 0);
        loop {
            let audit = storage.audit(from, step).await?;
            assert_eq!(audit.mismatches, [], "step {step}");
            found = (found.0 + audit.batches, found.1 + audit.rows);
            steps += 1;
            assert!(audit.next.is_none() || audit.batches >= step.max(1));
            assert!(
                audit.next.is_none() || audit.next > from,
                "{from:?} {:?}",
                audit.next
            );
            from = audit.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(found, (140, rows), "step {step}");
        // There are three hours, and a step goes to the end of one at least.
        assert!(steps <= 3 && (step > 1 || steps == 3), "step {step}: {steps}");
    }
    Ok(())
}

pub(crate) async fn audits_beside_consumers_find_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..200)?;
    storage.apply(&batches[..40]).await?;
    let consumers = try_join_all(batches[40..].chunks(40).map(|share| {
        let storage = &storage;
        async move {
            for piece in share.chunks(4) {
                storage.apply(piece).await?;
            }
            Ok::<_, BoxError>(())
        }
    }));
    let audits = async {
        for step in [10, 60, 500, 1, 50, 500] {
            let mut from = None;
            loop {
                let audit = storage.audit(from, step).await?;
                assert_eq!(audit.mismatches, []);
                from = audit.next;
                if from.is_none() {
                    break;
                }
            }
        }
        Ok::<_, BoxError>(())
    };
    try_join(consumers, audits).await?;
    assert_eq!(storage.audit(None, 1000).await?.batches, 200);
    Ok(())
}

/// At the edges of an hour, where pages begin and end.
pub(crate) async fn the_first_and_the_last_of_all_ids_are_folded_like_any_other(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let hour = Hour::of(noon());
    let edges = [
        Hour(hour.0 + 1).start() - TimeDelta::microseconds(1),
        Hour(hour.0 + 1).start(),
    ];
    let mut batches = Vec::new();
    for (id, at) in [(Uuid::nil(), edges[1]), (Uuid::max(), edges[0])] {
        let mut content = content(0)?;
        content.timestamp = at;
        batches.push(MetricBatch::new(id.into(), content));
    }
    storage.apply(&batches).await?;
    for (from, left) in [(hour.0, 2), (hour.0 + 1, 1), (hour.0 + 2, 0)] {
        let audit = storage.audit(Some(Hour(from)), 10).await?;
        assert_eq!((audit.batches, audit.mismatches), (left, Vec::new()));
    }
    let keep = Duration::from_secs(86_400);
    for (hour, left) in [(hour.0, 2), (hour.0 + 1, 1), (hour.0 + 2, 0)] {
        storage.prune(keep, Hour(hour).start() + keep, 10).await?;
        let rebuilt = storage.rebuild(&|_, _| {}).await?;
        assert_eq!((rebuilt.batches, rebuilt.changed), (left, 0));
    }
    Ok(())
}
