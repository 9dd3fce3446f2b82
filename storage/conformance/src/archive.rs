use chrono::TimeDelta;
use shared_types::{MAX_VALUES, MetricBatch, Provenance, Source, Values};
use storage::{BatchFilter, BoxError, Recorded, Storage};

use crate::{
    Empty, Outcome,
    samples::{batch, changed, content, id, noon, prepared},
};

pub(crate) async fn pages_have_neither_gaps_nor_repeats(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    // Many with the same timestamp, so that pages end between them.
    let mut batches = (0..50)
        .map(|number| {
            let timestamp = noon() + TimeDelta::hours(i64::from(number > 30));
            changed(number, |content| content.timestamp = timestamp)
        })
        .collect::<Result<Vec<_>, _>>()?;
    storage.record(&batches).await?;
    batches.sort_by_key(|batch| std::cmp::Reverse((batch.timestamp(), batch.id())));
    for limit in [1, 7, 25, 49, 50, 51, 500] {
        assert_eq!(
            paged(&*storage, &BatchFilter::default(), limit).await?,
            batches,
            "limit {limit}"
        );
    }
    Ok(())
}

pub(crate) async fn filters_restrict(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = (0..60)
        .map(|number| {
            changed(number, |content| {
                if number % 3 == 0 {
                    content.provenance.source = Source::Measured;
                }
            })
        })
        .collect::<Result<Vec<_>, BoxError>>()?;
    storage.record(&batches).await?;
    let one = &batches[0];
    let (llm, metric) = (Some(one.llm().clone()), Some(one.metric().clone()));
    let source = Some(Source::Measured);
    let nobody = Some(shared_types::LlmName::new("nobody")?);
    for filter in [
        BatchFilter {
            llm: llm.clone(),
            ..BatchFilter::default()
        },
        BatchFilter {
            metric: metric.clone(),
            ..BatchFilter::default()
        },
        BatchFilter {
            source,
            ..BatchFilter::default()
        },
        BatchFilter { llm, metric, source },
        BatchFilter {
            llm: nobody,
            ..BatchFilter::default()
        },
    ] {
        let mut matching: Vec<_> = batches
            .iter()
            .filter(|batch| {
                filter.llm.as_ref().is_none_or(|llm| llm == batch.llm())
                    && filter
                        .metric
                        .as_ref()
                        .is_none_or(|metric| metric == batch.metric())
                    && filter
                        .source
                        .is_none_or(|source| source == batch.provenance().source)
            })
            .cloned()
            .collect();
        matching.sort_by_key(|batch| std::cmp::Reverse((batch.timestamp(), batch.id())));
        assert_eq!(paged(&*storage, &filter, 4).await?, matching, "{filter:?}");
    }
    Ok(())
}

pub(crate) async fn a_batch_is_read_back_bit_for_bit(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let full = batch(0)?;
    let bare = MetricBatch::with_derived_id({
        let mut content = content(1)?;
        content.provenance = Provenance::imported();
        content
    });
    storage.record(&[full.clone(), bare.clone()]).await?;
    for batch in [full, bare] {
        let stored = storage.batch(batch.id()).await?.ok_or("it was stored")?;
        assert_eq!(stored.batch, batch);
    }
    assert_eq!(storage.batch(id(99)).await?, None);
    Ok(())
}

pub(crate) async fn the_largest_batch_is_kept(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let values = Values::new((0..MAX_VALUES).map(|i| 1.0 / (i as f64 + 3.0)).collect())?;
    let largest = changed(0, |content| content.values = values)?;
    assert_eq!(
        storage.record(std::slice::from_ref(&largest)).await?,
        [Recorded::Stored]
    );
    let stored = storage.batch(id(0)).await?.ok_or("it was stored")?;
    assert_eq!(stored.batch, largest);
    Ok(())
}

async fn paged(
    storage: &dyn Storage,
    filter: &BatchFilter,
    limit: u32,
) -> Result<Vec<MetricBatch>, BoxError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = storage.batches(filter, after, limit).await?;
        assert!(page.batches.len() <= usize::try_from(limit)?);
        all.extend(page.batches.into_iter().map(|stored| stored.batch));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}
