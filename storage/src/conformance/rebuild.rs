use std::sync::atomic::{AtomicUsize, Ordering};

use shared_types::MetricBatch;
use tokio::{runtime::Handle, task::block_in_place};

use super::{
    Empty, Outcome,
    samples::{all_statistics, batches, expected, prepared},
};
use crate::{Applied, Storage};

/// Counts batches from within the progress of a rebuild, a share at a time; tells how many were counted.
fn count_in_the_middle(storage: &dyn Storage, batches: &[MetricBatch]) -> usize {
    block_in_place(|| {
        Handle::current().block_on(async {
            let outcomes = storage.apply(batches).await.expect("consumers go on");
            outcomes
                .iter()
                .filter(|outcome| **outcome == Applied::Counted)
                .count()
        })
    })
}

pub(super) async fn consumers_go_on_during_a_rebuild(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..300)?;
    storage.apply(&batches[..150]).await?;
    // Redeliveries, and batches of hours that the rebuild is done with, in the middle of, and has yet to come to.
    let shares = [&batches[100..200], &batches[190..250], &batches[250..]];
    let (step, counted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let report = storage
        .rebuild(&|_, _| {
            if let Some(share) = shares.get(step.fetch_add(1, Ordering::Relaxed)) {
                let now = count_in_the_middle(&*storage, share);
                counted.fetch_add(now, Ordering::Relaxed);
            }
        })
        .await?;
    assert_eq!(counted.into_inner(), 150);
    assert_eq!((report.batches, report.changed), (300, 0));
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
    Ok(())
}

/// More than is left for the moment in which consumers wait.
pub(super) async fn a_rebuild_catches_up_with_fast_consumers(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..1500)?;
    storage.apply(&batches[..20]).await?;
    let shares: Vec<&[MetricBatch]> = batches[20..].chunks(740).collect();
    let step = AtomicUsize::new(0);
    let report = storage
        .rebuild(&|_, _| {
            if let Some(share) = shares.get(step.fetch_add(1, Ordering::Relaxed)) {
                count_in_the_middle(&*storage, share);
            }
        })
        .await?;
    assert!(step.into_inner() >= 3, "it has caught up in between");
    assert_eq!((report.batches, report.changed), (1500, 0));
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    Ok(())
}
