use std::time::Duration;

use shared_types::{Creator, LlmName, MetricBatch, MetricTitle, Unit, Values};
use storage::{MetricChange, Recorded, Refusal};

use crate::{
    Empty, Outcome,
    samples::{batch, batches, changed, content, id, noon, prepared, unpublished},
};

const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn nothing_to_record_is_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    assert_eq!(storage.record(&[]).await?, []);
    storage.mark_published(&[]).await?;
    assert_eq!(storage.outbox_depth().await?.oldest, None);
    Ok(())
}

pub(crate) async fn new_batches_are_stored_and_queued(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..10)?;
    assert_eq!(storage.record(&batches).await?, vec![Recorded::Stored; 10]);
    for batch in &batches {
        let stored = storage.batch(batch.id()).await?.ok_or("it was stored")?;
        assert_eq!(stored.batch, *batch);
    }
    let depth = storage.outbox_depth().await?;
    assert_eq!(depth.unpublished, 10);
    assert!(depth.oldest.is_some_and(|age| age < HOUR));
    Ok(())
}

pub(crate) async fn a_repetition_is_told_apart_from_other_content(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.record(&batches(0..2)?).await?;
    let other = changed(1, |content| content.timestamp = noon())?;
    let outcomes = storage.record(&[batch(0)?, other.clone(), batch(2)?]).await?;
    assert_eq!(
        outcomes,
        [
            Recorded::AlreadyStored,
            Recorded::Refused(Refusal::OtherContent { id: other.id() }),
            Recorded::Stored
        ]
    );
    assert_eq!(
        storage.batch(id(1)).await?.map(|stored| stored.batch),
        Some(batch(1)?)
    );
    assert_eq!(unpublished(&*storage).await?, 3);
    Ok(())
}

pub(crate) async fn a_batch_twice_in_one_call_is_stored_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let other = changed(1, |content| content.timestamp = noon())?;
    let outcomes = storage.record(&[batch(1)?, batch(1)?, other, batch(1)?]).await?;
    assert_eq!(
        outcomes,
        [
            Recorded::Stored,
            Recorded::AlreadyStored,
            Recorded::Refused(Refusal::OtherContent { id: id(1) }),
            Recorded::AlreadyStored
        ]
    );
    assert_eq!(unpublished(&*storage).await?, 1);
    Ok(())
}

pub(crate) async fn batches_that_can_never_be_stored_are_refused(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let llm = LlmName::new("never heard of")?;
    let unknown = changed(0, |content| content.llm = llm.clone())?;
    let no_metric = MetricTitle::new("no such metric")?;
    let without_metric = MetricBatch::new(id(1), {
        let mut content = content(1)?;
        (content.metric, content.unit, content.llm) = (no_metric.clone(), None, LlmName::new("nobody")?);
        content
    });
    let milliseconds = Unit::new("ms")?;
    let other_unit = changed(2, |content| content.unit = Some(milliseconds.clone()))?;
    let outcomes = storage
        .record(&[unknown, without_metric, other_unit.clone(), batch(3)?])
        .await?;
    let [
        Recorded::Stored,
        Recorded::Refused(metric),
        Recorded::Refused(unit),
        Recorded::Stored,
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    let known = ["ttft", "tps", "e2e_latency", "rps"]
        .map(MetricTitle::new)
        .into_iter();
    assert_eq!(
        *metric,
        Refusal::UnknownMetric {
            found: no_metric,
            known: known.collect::<Result<_, _>>()?
        }
    );
    assert!(
        matches!(unit, Refusal::OtherUnit { found, .. } if *found == milliseconds),
        "{unit:?}"
    );
    assert_eq!(storage.batch(id(1)).await?, None);
    assert_eq!(storage.batch(id(2)).await?, None);
    let names: Vec<_> = storage.llms().await?.into_iter().map(|llm| llm.name).collect();
    assert!(
        !names.contains(&LlmName::new("nobody")?),
        "a refused batch registers nothing"
    );
    Ok(())
}

pub(crate) async fn unknown_llms_are_registered(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let name = LlmName::new("never heard of")?;
    let of_unknown = |number| changed(number, |content| content.llm = name.clone());
    let outcomes = storage
        .record(&[of_unknown(0)?, of_unknown(1)?, batch(2)?])
        .await?;
    assert_eq!(outcomes, vec![Recorded::Stored; 3]);
    let llms = storage.llms().await?;
    assert_eq!(llms.len(), 5);
    assert_eq!((&llms[4].name, &llms[4].creator), (&name, &Creator::unknown()));
    Ok(())
}

pub(crate) async fn a_stored_batch_stays_admitted_when_its_metric_changes_unit(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let before = batch(0)?;
    storage.record(std::slice::from_ref(&before)).await?;
    let metric = storage
        .metrics()
        .await?
        .into_iter()
        .find(|metric| metric.title == *before.metric())
        .ok_or("the metric is registered")?;
    let change = MetricChange {
        unit: Some(Unit::new("other")?),
        ..MetricChange::default()
    };
    storage.update_metric(metric.id, &change, noon()).await?;
    assert_eq!(storage.record(&[before]).await?, [Recorded::AlreadyStored]);
    Ok(())
}

pub(crate) async fn hundreds_of_batches_are_recorded_in_one_call(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    // More of both than a statement is given.
    let many = (0..600)
        .map(|number| match number % 200 {
            0 => {
                let values = Values::new((0..80_000).map(|i| f64::from(i) * 0.1).collect())?;
                changed(number, |content| content.values = values)
            }
            _ => batch(number),
        })
        .collect::<Result<Vec<_>, _>>()?;
    assert_eq!(storage.record(&many).await?, vec![Recorded::Stored; 600]);
    assert_eq!(storage.record(&many).await?, vec![Recorded::AlreadyStored; 600]);
    assert_eq!(unpublished(&*storage).await?, 600);
    for number in [0, 199, 200, 599] {
        let stored = storage.batch(id(number)).await?.ok_or("it was stored")?;
        assert_eq!(stored.batch.checksum(), many[usize::try_from(number)?].checksum());
    }
    Ok(())
}

pub(crate) async fn claims_come_oldest_first_and_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..9)?;
    // Recorded against the order of their ids.
    for batch in batches.iter().rev() {
        storage.record(std::slice::from_ref(batch)).await?;
    }
    let first = storage.claim_unpublished(4, NOW, HOUR).await?;
    let second = storage.claim_unpublished(40, NOW, HOUR).await?;
    assert_eq!((first.len(), second.len()), (4, 5));
    assert_eq!(storage.claim_unpublished(40, NOW, HOUR).await?, []);
    let mut claimed = [first, second].concat();
    claimed.sort_by_key(MetricBatch::id);
    assert_eq!(claimed, batches);
    Ok(())
}

pub(crate) async fn claims_lapse_and_confirmed_batches_do_not_come_back(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.record(&batches(0..4)?).await?;
    assert_eq!(storage.claim_unpublished(10, NOW, HOUR).await?.len(), 4);
    storage.mark_published(&[id(0), id(2), id(77)]).await?;
    storage.mark_published(&[id(0)]).await?;
    assert_eq!(unpublished(&*storage).await?, 2);
    let mut lapsed = storage.claim_unpublished(10, NOW, NOW).await?;
    lapsed.sort_by_key(MetricBatch::id);
    assert_eq!(lapsed, [batch(1)?, batch(3)?]);
    assert_eq!(storage.record(&[batch(0)?]).await?, [Recorded::AlreadyStored]);
    assert_eq!(
        unpublished(&*storage).await?,
        2,
        "what is published stays published"
    );
    Ok(())
}

pub(crate) async fn young_batches_are_left_to_their_producer(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.record(&batches(0..4)?).await?;
    assert_eq!(storage.claim_unpublished(10, HOUR, HOUR).await?, []);
    assert_eq!(storage.claim_unpublished(0, NOW, HOUR).await?, []);
    storage.ping().await?;
    Ok(())
}
