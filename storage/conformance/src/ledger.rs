use shared_types::{LlmName, MetricTitle, Unit};
use storage::{Applied, Refusal};

use crate::{
    Empty, Outcome,
    samples::{all_statistics, batch, batches, changed, expected, id, noon, prepared, unpublished},
};

pub(crate) async fn nothing_to_apply_is_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    assert_eq!(storage.apply(&[]).await?, []);
    assert_eq!(storage.counted_batches().await?, 0);
    let change = storage.statistics_since(None, super::samples::LONG_AGO).await?;
    assert!(change.complete && change.rows.is_empty());
    Ok(())
}

pub(crate) async fn new_batches_are_counted_and_redeliveries_are_not(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..20)?;
    storage.record(&batches).await?;
    assert_eq!(storage.counted_batches().await?, 0, "recorded is not counted");
    assert_eq!(storage.apply(&batches[..12]).await?, vec![Applied::Counted; 12]);
    let outcomes = storage.apply(&batches[8..]).await?;
    assert_eq!(outcomes[..4], vec![Applied::Duplicate; 4]);
    assert_eq!(outcomes[4..], vec![Applied::Counted; 8]);
    assert_eq!(storage.apply(&batches).await?, vec![Applied::Duplicate; 20]);
    assert_eq!(storage.counted_batches().await?, 20);
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches).await?
    );
    Ok(())
}

pub(crate) async fn a_batch_twice_in_one_call_counts_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let other = changed(1, |content| content.timestamp = noon())?;
    let outcomes = storage.apply(&[batch(1)?, batch(1)?, other, batch(1)?]).await?;
    assert_eq!(
        outcomes,
        [
            Applied::Counted,
            Applied::Duplicate,
            Applied::Refused(Refusal::OtherContent { id: id(1) }),
            Applied::Duplicate
        ]
    );
    assert_eq!(storage.counted_batches().await?, 1);
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &[batch(1)?]).await?
    );
    Ok(())
}

pub(crate) async fn batches_of_other_producers_are_stored(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let name = LlmName::new("never heard of")?;
    let foreign = changed(1, |content| {
        content.llm = name.clone();
        content.unit = None;
    })?;
    storage.record(&[batch(0)?]).await?;
    assert_eq!(
        storage.apply(&[batch(0)?, foreign.clone()]).await?,
        vec![Applied::Counted; 2]
    );
    let stored = storage.batch(id(1)).await?.ok_or("it was stored")?.batch;
    assert_eq!(
        (stored.checksum(), stored.values()),
        (foreign.checksum(), foreign.values())
    );
    assert!(storage.llms().await?.iter().any(|llm| llm.name == name));
    assert_eq!(
        unpublished(&*storage).await?,
        1,
        "what came from the broker is not published again"
    );
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &[batch(0)?, foreign]).await?
    );
    Ok(())
}

pub(crate) async fn batches_that_can_never_be_counted_are_refused(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.record(&[batch(0)?]).await?;
    let other_content = changed(0, |content| content.timestamp = noon())?;
    let title = MetricTitle::new("no such metric")?;
    let unknown_metric = changed(1, |content| content.metric = title)?;
    let milliseconds = Unit::new("ms")?;
    let other_unit = changed(2, |content| content.unit = Some(milliseconds))?;
    let outcomes = storage
        .apply(&[other_content, unknown_metric, other_unit])
        .await?;
    assert!(
        matches!(
            &outcomes[..],
            [
                Applied::Refused(Refusal::OtherContent { .. }),
                Applied::Refused(Refusal::UnknownMetric { .. }),
                Applied::Refused(Refusal::OtherUnit { .. })
            ]
        ),
        "{outcomes:?}"
    );
    assert_eq!(storage.counted_batches().await?, 0);
    assert_eq!(storage.batch(id(1)).await?, None);
    assert!(all_statistics(&*storage).await?.is_empty());
    Ok(())
}

pub(crate) async fn archived_llms_and_metrics_still_count(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..20)?;
    let expected = expected(&*storage, &batches).await?;
    storage.record(&batches[..10]).await?;
    for llm in storage.llms().await? {
        storage.archive_llm(llm.id, noon()).await?;
    }
    for metric in storage.metrics().await? {
        storage.archive_metric(metric.id, noon()).await?;
    }
    assert_eq!(storage.apply(&batches).await?, vec![Applied::Counted; 20]);
    assert_eq!(all_statistics(&*storage).await?, expected);
    assert_eq!(storage.llms().await?, [], "a batch does not bring its LLM back");
    Ok(())
}

pub(crate) async fn refused_batches_do_not_keep_others_from_counting(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let title = MetricTitle::new("no such metric")?;
    let refused = changed(1, |content| content.metric = title)?;
    let outcomes = storage.apply(&[batch(0)?, refused, batch(2)?]).await?;
    assert!(
        matches!(
            outcomes[..],
            [Applied::Counted, Applied::Refused(_), Applied::Counted]
        ),
        "{outcomes:?}"
    );
    let counted = [batch(0)?, batch(2)?];
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &counted).await?
    );
    Ok(())
}
