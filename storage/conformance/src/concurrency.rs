use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::future::{join, try_join, try_join_all};
use shared_types::{LlmName, MetricBatch};
use storage::{Applied, BoxError, Recorded};

use crate::{
    Empty, Outcome,
    samples::{Random, Reader, all_statistics, batches, changed, expected, prepared, unpublished},
};

const CONSUMERS: u64 = 8;

pub(crate) async fn concurrent_consumers_count_exactly(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let name = LlmName::new("never heard of")?;
    let batches = (0..200)
        .map(|number| match number % 10 {
            0 => changed(number, |content| content.llm = name.clone()),
            _ => changed(number, |_| {}),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Half of them come from other producers.
    storage.record(&batches[..100]).await?;
    let counted = try_join_all((0..CONSUMERS).map(|consumer| {
        let mut delivered = [&batches[..], &batches[..]].concat();
        Random(consumer).shuffle(&mut delivered);
        let storage = &storage;
        async move {
            let mut counted = 0;
            for piece in delivered.chunks(32) {
                let outcomes = storage.apply(piece).await?;
                counted += outcomes
                    .iter()
                    .filter(|outcome| **outcome == Applied::Counted)
                    .count();
                assert!(
                    !outcomes
                        .iter()
                        .any(|outcome| matches!(outcome, Applied::Refused(_)))
                );
            }
            Ok::<_, BoxError>(counted)
        }
    }))
    .await?;
    assert_eq!(counted.iter().sum::<usize>(), batches.len());
    assert_eq!(storage.counted_batches().await?, batches.len() as u64);
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    assert_eq!(storage.llms().await?.len(), 5);
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0);
    Ok(())
}

pub(crate) async fn concurrent_producers_store_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let name = LlmName::new("never heard of")?;
    let batches = (0..60)
        .map(|number| changed(number, |content| content.llm = name.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let stored = try_join_all((0..CONSUMERS).map(|producer| {
        let mut given = batches.clone();
        Random(producer).shuffle(&mut given);
        let storage = &storage;
        async move {
            let outcomes = storage.record(&given).await?;
            Ok::<_, BoxError>(
                outcomes
                    .iter()
                    .filter(|outcome| **outcome == Recorded::Stored)
                    .count(),
            )
        }
    }))
    .await?;
    assert_eq!(stored.iter().sum::<usize>(), batches.len());
    assert_eq!(unpublished(&*storage).await?, batches.len() as u64);
    Ok(())
}

pub(crate) async fn concurrent_sweepers_get_different_batches(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..80)?;
    storage.record(&batches).await?;
    let claim = || storage.claim_unpublished(10, Duration::ZERO, Duration::from_secs(3600));
    let mut claimed = try_join_all((0..8).map(|_| claim())).await?.concat();
    // Who skips a row that another has locked may come home with fewer than its limit.
    loop {
        let rest = claim().await?;
        if rest.is_empty() {
            break;
        }
        claimed.extend(rest);
    }
    claimed.sort_by_key(MetricBatch::id);
    assert_eq!(claimed, batches);
    Ok(())
}

pub(crate) async fn a_reader_misses_no_change(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..240)?;
    let done = AtomicBool::new(false);
    let consumers = async {
        let result = try_join_all(batches.chunks(60).map(|share| {
            let storage = &storage;
            async move {
                for piece in share.chunks(3) {
                    storage.apply(piece).await?;
                }
                Ok::<_, BoxError>(())
            }
        }))
        .await;
        done.store(true, Ordering::Release);
        result
    };
    let mut reader = Reader::default();
    let reading = async {
        let mut seen = 0;
        while !done.load(Ordering::Acquire) {
            reader.refresh(&*storage).await?;
            assert!(reader.count() >= seen, "a count went back");
            seen = reader.count();
        }
        Ok::<_, BoxError>(())
    };
    try_join(consumers, reading).await?;
    reader.refresh(&*storage).await?;
    assert_eq!(reader.rows, expected(&*storage, &batches).await?);
    Ok(())
}

pub(crate) async fn readers_see_all_of_a_rebuild_or_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..150)?;
    storage.apply(&batches).await?;
    let complete = expected(&*storage, &batches).await?;
    let done = AtomicBool::new(false);
    let rebuild = async {
        let result = storage.rebuild(&|_, _| {}).await;
        done.store(true, Ordering::Release);
        result
    };
    let reading = async {
        while !done.load(Ordering::Acquire) {
            assert_eq!(all_statistics(&*storage).await?, complete);
        }
        Ok::<_, BoxError>(())
    };
    let (report, read) = join(rebuild, reading).await;
    read?;
    assert_eq!(report?.rows, complete.len() as u64);
    Ok(())
}
