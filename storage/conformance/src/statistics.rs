use std::sync::Mutex;

use chrono::TimeDelta;
use shared_types::{Source, Values};
use storage::{Applied, HistoryFilter, Hour, Period, RebuildReport};
use test_patience::until;

use crate::{
    Empty, Outcome,
    samples::{
        LONG_AGO, Reader, all_statistics, batch, batches, changed, decoded, expected, id, noon, prepared,
    },
};

pub(crate) async fn statistics_are_the_direct_fold_of_the_values(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..100)?;
    for piece in batches.chunks(7).rev() {
        storage.apply(piece).await?;
    }
    let change = storage.statistics_since(None, LONG_AGO).await?;
    assert!(change.complete);
    assert_eq!(decoded(&change.rows)?, expected(&*storage, &batches).await?);
    let states: Vec<_> = change.rows.iter().map(|row| &row.state).collect();
    assert!(states.iter().all(|state| !state.is_empty()));
    Ok(())
}

pub(crate) async fn changes_are_given_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..60)?;
    let mut reader = Reader::default();
    reader.refresh(&*storage).await?;
    for piece in batches.chunks(6) {
        storage.apply(piece).await?;
        reader.refresh(&*storage).await?;
        assert_eq!(reader.rows, all_statistics(&*storage).await?);
    }
    reader.refresh(&*storage).await?;
    let one = &batches[..1];
    assert_eq!(storage.apply(one).await?, [Applied::Duplicate]);
    // Rows may come again as long as anybody's transaction that was open when they were written still is.
    until("no row comes again while nothing changes", async || {
        reader.refresh(&*storage).await.expect("readers go on") == 0
    })
    .await;
    Ok(())
}

pub(crate) async fn hours_before_the_horizon_are_left_out(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..60)?;
    storage.apply(&batches).await?;
    let horizon = Hour(Hour::of(noon()).0 + 1);
    let change = storage.statistics_since(None, horizon).await?;
    let mut expected = expected(&*storage, &batches).await?;
    expected.retain(|row, _| match row.period {
        Period::AllTime => true,
        Period::Hour(hour) => hour >= horizon,
    });
    assert_eq!(decoded(&change.rows)?, expected);
    Ok(())
}

pub(crate) async fn history_has_the_hours_asked_for(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let (llm, metric) = (
        storage.llms().await?.remove(0),
        storage.metrics().await?.remove(0),
    );
    let of = |number: u64, hours: i64, source: Source| {
        changed(number, |content| {
            (content.llm, content.metric, content.unit) = (llm.name.clone(), metric.title.clone(), None);
            content.timestamp = noon() + TimeDelta::hours(hours);
            content.provenance.source = source;
        })
    };
    storage
        .apply(&[
            of(0, -2, Source::Simulated)?,
            of(1, 0, Source::Imported)?,
            of(2, 0, Source::Measured)?,
            of(3, 0, Source::Simulated)?,
            of(4, 5, Source::Simulated)?,
            of(5, 6, Source::Simulated)?,
        ])
        .await?;
    let hour = |hours| Hour(Hour::of(noon()).0 + hours);
    let mut filter = HistoryFilter {
        llm: llm.id,
        metric: metric.id,
        source: None,
        from: hour(-1),
        until: hour(6),
    };
    let found = async |filter| -> Result<Vec<_>, storage::StorageError> {
        let rows = storage.history(&filter).await?;
        Ok(rows.into_iter().map(|row| (row.period, row.key.source)).collect())
    };
    assert_eq!(
        found(filter).await?,
        [
            (Period::Hour(hour(0)), Source::Simulated),
            (Period::Hour(hour(0)), Source::Measured),
            (Period::Hour(hour(0)), Source::Imported),
            (Period::Hour(hour(5)), Source::Simulated)
        ]
    );
    filter.source = Some(Source::Measured);
    assert_eq!(found(filter).await?, [(Period::Hour(hour(0)), Source::Measured)]);
    (filter.from, filter.until) = (Hour(i64::MIN), Hour(i64::MAX));
    assert_eq!(found(filter).await?.len(), 1, "all time is not an hour");
    filter.llm = storage.llms().await?[1].id;
    assert_eq!(found(filter).await?, []);
    Ok(())
}

pub(crate) async fn a_rebuild_changes_nothing_where_nothing_is_wrong(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let batches = batches(0..150)?;
    storage.record(&batches).await?;
    storage.apply(&batches[..140]).await?;
    let before = all_statistics(&*storage).await?;
    let steps = Mutex::new(Vec::new());
    let report = storage
        .rebuild(&|done, total| {
            if let Ok(mut steps) = steps.lock() {
                steps.push((done, total));
            }
        })
        .await?;
    assert_eq!(
        report,
        RebuildReport {
            batches: 140,
            rows: before.len() as u64,
            changed: 0
        }
    );
    assert_eq!(all_statistics(&*storage).await?, before);
    let steps = steps.into_inner()?;
    assert_eq!(
        (steps.first(), steps.last()),
        (Some(&(0, 140)), Some(&(140, 140)))
    );
    assert!(steps.is_sorted() && steps.len() > 2, "{steps:?}");
    Ok(())
}

pub(crate) async fn a_rebuild_starts_a_new_generation(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.apply(&batches(0..10)?).await?;
    let before = storage.statistics_since(None, LONG_AGO).await?;
    storage.rebuild(&|_, _| {}).await?;
    let after = storage.statistics_since(Some(before.revision), LONG_AGO).await?;
    assert!(after.complete);
    assert!(after.revision.generation > before.revision.generation);
    assert_eq!(decoded(&after.rows)?, decoded(&before.rows)?);
    storage.apply(&batches(10..20)?).await?;
    let next = storage.statistics_since(Some(after.revision), LONG_AGO).await?;
    assert!(!next.complete && !next.rows.is_empty());
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &batches(0..20)?).await?
    );
    Ok(())
}

pub(crate) async fn the_rebuild_of_nothing_is_nothing(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    storage.record(&[batch(0)?]).await?;
    let report = storage.rebuild(&|_, _| {}).await?;
    assert_eq!(
        report,
        RebuildReport {
            batches: 0,
            rows: 0,
            changed: 0
        }
    );
    Ok(())
}

pub(crate) async fn unusual_doubles_are_kept_bit_for_bit(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let unusual = [
        -0.0,
        0.0,
        f64::from_bits(1),
        -f64::MIN_POSITIVE / 3.0,
        f64::MAX,
        f64::MIN,
        1e308,
        0.1 + 0.2,
    ];
    let values = Values::new(unusual.to_vec())?;
    let batch = changed(0, |content| content.values = values)?;
    storage.record(std::slice::from_ref(&batch)).await?;
    assert_eq!(
        storage.apply(std::slice::from_ref(&batch)).await?,
        [Applied::Counted]
    );
    let stored = storage.batch(id(0)).await?.ok_or("it was stored")?.batch;
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(stored.values()), bits(&unusual));
    assert_eq!(
        all_statistics(&*storage).await?,
        expected(&*storage, &[batch]).await?
    );
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0);
    Ok(())
}
