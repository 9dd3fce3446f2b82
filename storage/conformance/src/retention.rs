use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::TimeDelta;
use futures::future::{try_join, try_join_all};
use shared_types::{BatchId, Clock, MetricBatch, SystemClock};
use storage::{Applied, BoxError, Hour, Pruned, Recorded, Refusal, Result, Storage};
use storage_sql::columns::FIRST_HOUR;

use crate::{
    Empty, Outcome,
    samples::{Random, all_statistics, batches, changed, expected, noon, prepared, unpublished},
};

/// The first hour of the samples, which have three.
fn first_hour() -> Hour {
    Hour::of(noon())
}

fn hours_later(hours: i64) -> Hour {
    Hour(first_hour().0 + hours)
}

/// Asks for the batches before this hour to be deleted.
async fn prune(storage: &dyn Storage, before: Hour, limit: u32) -> Result<Pruned> {
    const KEEP: Duration = Duration::from_secs(86_400);
    storage.prune(KEEP, before.start() + KEEP, limit).await
}

fn split(batches: Vec<MetricBatch>, before: Hour) -> (Vec<MetricBatch>, Vec<MetricBatch>) {
    batches
        .into_iter()
        .partition(|batch| Hour::of(batch.timestamp()) < before)
}

fn too_old(batch: &MetricBatch, retained_from: Hour) -> Refusal {
    Refusal::TooOld {
        found: batch.timestamp(),
        retained_from: retained_from.start(),
    }
}

pub(crate) async fn pruned_batches_are_gone_and_stay_counted(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let all = batches(0..90)?;
    storage.record(&all).await?;
    storage.apply(&all).await?;
    let before = all_statistics(&*storage).await?;
    let limit = hours_later(1);
    let (old, kept) = split(all, limit);
    assert!(old.len() > 5 && kept.len() > 5, "both hours have some");

    let pruned = prune(&*storage, limit, 1000).await?;
    assert_eq!(
        pruned,
        Pruned {
            retained_from: limit,
            batches: old.len() as u64,
            more: false,
            held_back_hours: 0,
        }
    );
    for batch in &old {
        assert_eq!(storage.batch(batch.id()).await?, None);
    }
    for batch in &kept {
        assert!(storage.batch(batch.id()).await?.is_some());
    }
    assert_eq!(storage.counted_batches().await?, kept.len() as u64);
    assert_eq!(
        unpublished(&*storage).await?,
        kept.len() as u64,
        "nobody publishes what is gone"
    );
    assert_eq!(all_statistics(&*storage).await?, before);
    let audit = storage.audit(None, 1000).await?;
    assert_eq!((audit.batches, audit.mismatches), (kept.len() as u64, Vec::new()));
    let rebuilt = storage.rebuild(&|_, _| {}).await?;
    assert_eq!((rebuilt.batches, rebuilt.changed), (kept.len() as u64, 0));
    assert_eq!(all_statistics(&*storage).await?, before);
    Ok(())
}

pub(crate) async fn what_is_too_old_to_be_known_is_refused(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let all = batches(0..60)?;
    storage.record(&all).await?;
    storage.apply(&all).await?;
    let before = all_statistics(&*storage).await?;
    let limit = hours_later(1);
    let (old, kept) = split(all, limit);
    prune(&*storage, limit, 1000).await?;

    let never_seen = changed(1000, |content| content.timestamp = noon())?;
    let new = changed(1001, |content| content.timestamp = limit.start())?;
    let given = [old[0].clone(), kept[0].clone(), never_seen.clone(), new.clone()];
    let refused = [too_old(&old[0], limit), too_old(&never_seen, limit)];
    assert_eq!(
        storage.record(&given).await?,
        [
            Recorded::Refused(refused[0].clone()),
            Recorded::AlreadyStored,
            Recorded::Refused(refused[1].clone()),
            Recorded::Stored
        ]
    );
    let applied = storage.apply(&given).await?;
    assert_eq!(
        applied,
        [
            Applied::Refused(refused[0].clone()),
            Applied::Duplicate,
            Applied::Refused(refused[1].clone()),
            Applied::Counted
        ]
    );
    assert_eq!(storage.batch(never_seen.id()).await?, None);
    let mut expected = expected(&*storage, &[new]).await?;
    for (row, statistics) in before {
        expected.entry(row).or_default().merge(&statistics)?;
    }
    assert_eq!(all_statistics(&*storage).await?, expected);
    Ok(())
}

pub(crate) async fn pruning_goes_on_where_the_limit_stopped_it(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let all = batches(0..60)?;
    storage.apply(&all).await?;
    let before = all_statistics(&*storage).await?;
    let limit = hours_later(2);
    let (old, _) = split(all, limit);
    let mut pruned = 0;
    loop {
        let step = prune(&*storage, limit, 7).await?;
        pruned += step.batches;
        assert_eq!(step.retained_from, limit);
        assert!(step.batches == 7 || !step.more);
        // What is not deleted yet is still known.
        let again = storage.apply(&old).await?;
        let known = again
            .iter()
            .filter(|outcome| **outcome == Applied::Duplicate)
            .count();
        assert_eq!(known as u64, old.len() as u64 - pruned);
        let refused = again
            .iter()
            .filter(|outcome| matches!(outcome, Applied::Refused(Refusal::TooOld { .. })))
            .count();
        assert_eq!(refused as u64, pruned);
        assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0);
        assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
        assert_eq!(all_statistics(&*storage).await?, before);
        if !step.more {
            break;
        }
    }
    assert_eq!(pruned, old.len() as u64);
    Ok(())
}

pub(crate) async fn hours_with_uncounted_batches_are_kept(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let all = batches(0..60)?;
    let waiting = changed(1000, |content| content.timestamp = hours_later(1).start())?;
    storage.apply(&all).await?;
    storage.record(std::slice::from_ref(&waiting)).await?;
    let (old, rest) = split(all, hours_later(1));
    let pruned = prune(&*storage, hours_later(3), 1000).await?;
    assert_eq!(
        (pruned.retained_from, pruned.batches, pruned.held_back_hours),
        (hours_later(1), old.len() as u64, 2)
    );
    assert_eq!(
        storage.apply(std::slice::from_ref(&waiting)).await?,
        [Applied::Counted]
    );
    let pruned = prune(&*storage, hours_later(3), 1000).await?;
    assert_eq!(
        (pruned.retained_from, pruned.batches, pruned.held_back_hours),
        (hours_later(3), rest.len() as u64 + 1, 0)
    );
    Ok(())
}

pub(crate) async fn the_limit_of_what_is_kept_never_goes_back(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let nothing = |retained_from| Pruned {
        retained_from,
        batches: 0,
        more: false,
        held_back_hours: 0,
    };
    let of_nothing = prune(&*storage, hours_later(1), 10).await?;
    assert_eq!(of_nothing, nothing(FIRST_HOUR), "no batch tells the time");
    storage
        .apply(&[changed(1000, |content| {
            content.timestamp = hours_later(9).start();
        })?])
        .await?;
    let unlimited = storage.prune(Duration::MAX, SystemClock.now(), 10).await?;
    assert_eq!(unlimited, nothing(FIRST_HOUR));
    assert_eq!(
        prune(&*storage, hours_later(1), 10).await?,
        nothing(hours_later(1))
    );
    assert_eq!(
        prune(&*storage, hours_later(0), 10).await?,
        nothing(hours_later(1))
    );
    storage.apply(&batches(0..30)?).await?;
    assert_eq!(
        prune(&*storage, hours_later(-5), 10).await?,
        nothing(hours_later(1))
    );
    Ok(())
}

pub(crate) async fn a_clock_that_is_ahead_deletes_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let all = batches(0..60)?;
    storage.apply(&all).await?;
    let now = SystemClock.now();
    let keep = (now - noon() + TimeDelta::hours(3)).to_std()?;
    let pruned = storage.prune(keep, now + TimeDelta::days(400), 1000).await?;
    assert_eq!((pruned.batches, pruned.more), (0, false));
    assert!(pruned.retained_from < first_hour(), "{:?}", pruned.retained_from);
    assert_eq!(storage.counted_batches().await?, 60);
    let old = changed(1000, |content| content.timestamp = noon())?;
    assert_eq!(storage.apply(&[old]).await?, [Applied::Counted]);
    Ok(())
}

/// Consumers that get every batch several times, in any order, and somebody who prunes all that is counted.
struct Race<'s> {
    storage: &'s dyn Storage,
    batches: &'s [MetricBatch],
}

impl Race<'_> {
    /// How often each batch was counted, and how often it was refused.
    async fn run(&self) -> std::result::Result<BTreeMap<BatchId, (u32, u32)>, BoxError> {
        let done = AtomicBool::new(false);
        let consumers = async {
            let outcomes = try_join_all((0..4).map(|seed| self.consume(seed))).await;
            done.store(true, Ordering::Release);
            outcomes
        };
        let pruner = async {
            while !done.load(Ordering::Acquire) {
                prune(self.storage, hours_later(3), 9).await?;
                self.storage.requeue_uncounted(Duration::ZERO, 5).await?;
            }
            while prune(self.storage, hours_later(3), 9).await?.more {}
            Ok::<_, BoxError>(())
        };
        let (outcomes, ()) = try_join(consumers, pruner).await?;
        let mut totals = BTreeMap::new();
        for (id, outcome) in outcomes.into_iter().flatten() {
            let (counted, refused): &mut (u32, u32) = totals.entry(id).or_default();
            match outcome {
                Applied::Counted => *counted += 1,
                Applied::Refused(Refusal::TooOld { .. }) => *refused += 1,
                Applied::Duplicate => {}
                Applied::Refused(other) => panic!("{other}"),
            }
        }
        Ok(totals)
    }

    async fn consume(&self, seed: u64) -> std::result::Result<Vec<(BatchId, Applied)>, BoxError> {
        let mut delivered = [self.batches, self.batches].concat();
        Random(seed).shuffle(&mut delivered);
        let mut outcomes = Vec::new();
        for piece in delivered.chunks(8) {
            let applied = self.storage.apply(piece).await?;
            outcomes.extend(piece.iter().map(MetricBatch::id).zip(applied));
        }
        Ok(outcomes)
    }
}

pub(crate) async fn pruning_beside_consumers_counts_nothing_twice(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..120)?;
    let race = Race {
        storage: &*storage,
        batches: &batches,
    };
    // Nobody has stored them before: what is pruned before it was ever counted is refused.
    let outcomes = race.run().await?;
    assert!(
        outcomes.values().all(|(counted, _)| *counted <= 1),
        "{outcomes:?}"
    );
    let (counted, refused): (Vec<_>, Vec<_>) = batches
        .into_iter()
        .partition(|batch| outcomes[&batch.id()].0 == 1);
    assert!(refused.iter().all(|batch| outcomes[&batch.id()].1 > 0));
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &counted).await?
    );
    assert_eq!(storage.counted_batches().await?, 0, "all are pruned");
    Ok(())
}

pub(crate) async fn pruning_beside_consumers_refuses_nothing_that_was_stored(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..120)?;
    storage.record(&batches).await?;
    let race = Race {
        storage: &*storage,
        batches: &batches,
    };
    let outcomes = race.run().await?;
    assert!(
        outcomes.values().all(|(counted, _)| *counted == 1),
        "{outcomes:?}"
    );
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    assert_eq!(storage.counted_batches().await?, 0, "all are pruned");
    assert_eq!(unpublished(&*storage).await?, 0, "nothing points to what is gone");
    Ok(())
}

/// What is recorded counts, and what can no longer count is not recorded.
pub(crate) async fn pruning_beside_producers_strands_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..120)?;
    let done = AtomicBool::new(false);
    let producers = async {
        let outcomes = try_join_all(batches.chunks(30).map(async |share| {
            let mut outcomes = Vec::new();
            for piece in share.chunks(2) {
                let recorded = storage.record(piece).await?;
                let applied = storage.apply(piece).await?;
                outcomes.extend(recorded.into_iter().zip(applied));
            }
            Ok::<_, BoxError>(outcomes)
        }))
        .await;
        done.store(true, Ordering::Release);
        outcomes
    };
    let pruner = async {
        while !done.load(Ordering::Acquire) {
            for hour in 0..=3 {
                prune(&*storage, hours_later(hour), 1000).await?;
            }
        }
        Ok::<_, BoxError>(())
    };
    let (outcomes, ()) = try_join(producers, pruner).await?;
    for outcome in outcomes.into_iter().flatten() {
        assert!(
            matches!(
                outcome,
                (Recorded::Stored, Applied::Counted)
                    | (
                        Recorded::Refused(Refusal::TooOld { .. }),
                        Applied::Refused(Refusal::TooOld { .. })
                    )
            ),
            "{outcome:?}"
        );
    }
    while prune(&*storage, hours_later(3), 1000).await?.more {}
    assert_eq!(unpublished(&*storage).await?, 0, "nothing is left behind");
    Ok(())
}

pub(crate) async fn pruning_and_rebuilding_take_turns(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..150)?;
    storage.apply(&batches).await?;
    let before = all_statistics(&*storage).await?;
    let rebuilds = async {
        for _ in 0..4 {
            assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0);
        }
        Ok::<_, BoxError>(())
    };
    let prunings = async {
        for hour in 0..3 {
            while prune(&*storage, hours_later(hour), 5).await?.more {}
        }
        Ok::<_, BoxError>(())
    };
    try_join(rebuilds, prunings).await?;
    assert_eq!(all_statistics(&*storage).await?, before);
    assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
    Ok(())
}
