use std::sync::{Arc, Mutex};

use futures::future::{try_join, try_join_all};
use shared_types::MetricBatch;
use storage::{Applied, BoxError, Storage};
use tokio::runtime::Handle;

use crate::{
    Empty, Outcome,
    samples::{Random, all_statistics, batches, expected, prepared},
};

/// Counts batches, again and again while that is not possible; gives how many were counted.
pub(crate) async fn count_patiently(
    storage: &dyn Storage,
    batches: &[MetricBatch],
) -> Result<usize, BoxError> {
    let outcomes = loop {
        match storage.apply(batches).await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            outcomes => break outcomes?,
        }
    };
    let counted = outcomes.iter().filter(|outcome| **outcome == Applied::Counted);
    Ok(counted.count())
}

pub(crate) async fn nothing_is_counted_while_a_rebuild_goes_on(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..200)?;
    storage.apply(&batches[..150]).await?;
    let meanwhile = Mutex::new(None);
    let report = storage
        .rebuild(&|folded, _| {
            if folded > 0 {
                let (storage, late) = (Arc::clone(&storage), batches[150..].to_vec());
                let mut meanwhile = meanwhile.lock().expect("nobody panics with it");
                meanwhile.get_or_insert_with(|| {
                    Handle::current().spawn(async move { storage.apply(&late).await })
                });
            }
        })
        .await?;
    assert_eq!((report.batches, report.changed), (150, 0));
    // Whoever was refused comes again; whoever has waited has counted by now.
    let refused = match meanwhile.into_inner()?.ok_or("it was asked meanwhile")?.await? {
        Ok(_) => 0,
        Err(error) => {
            assert!(error.is_transient(), "{error:?}");
            50
        }
    };
    assert!(!storage.is_rebuilding().await?);
    assert_eq!(count_patiently(&*storage, &batches).await?, refused);
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    Ok(())
}

pub(crate) async fn consumers_and_rebuilds_agree(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..300)?;
    storage.apply(&batches[..150]).await?;
    let consumers = try_join_all((0..4).map(|consumer| {
        // Each batch is delivered to several consumers, those that are counted already included.
        let mut delivered = batches[100..].to_vec();
        Random(consumer).shuffle(&mut delivered);
        let storage = &storage;
        async move {
            let mut counted = 0;
            for piece in delivered.chunks(5) {
                counted += count_patiently(&**storage, piece).await?;
            }
            Ok::<_, BoxError>(counted)
        }
    }));
    let rebuilds = async {
        for _ in 0..5 {
            let report = storage.rebuild(&|_, _| {}).await?;
            assert_eq!(report.changed, 0);
            assert!((150..=300).contains(&report.batches), "{report:?}");
        }
        Ok::<_, BoxError>(())
    };
    let (counted, ()) = try_join(consumers, rebuilds).await?;
    assert_eq!(counted.iter().sum::<usize>(), 150);
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
    Ok(())
}
