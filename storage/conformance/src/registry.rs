use chrono::TimeDelta;
use futures::future::try_join_all;
use shared_types::{
    Bounds, Creator, Direction, LlmId, LlmName, MetricId, MetricTitle, NewLlm, NewMetric, RegistrySeed, Unit,
};
use storage::{LlmChange, MetricChange, StorageError};

use crate::{
    Empty, Outcome,
    samples::{noon, prepared},
};

pub(crate) async fn seeding_fills_empty_tables_once(storage: Empty) -> Outcome {
    let seed = RegistrySeed::standard()?;
    prepared(&*storage).await?;
    let (llms, metrics) = (storage.llms().await?, storage.metrics().await?);
    assert!(
        llms.iter()
            .map(|llm| &llm.name)
            .eq(seed.llms.iter().map(|llm| &llm.name))
    );
    assert!(
        llms.iter()
            .all(|llm| (llm.created_at, llm.updated_at) == (noon(), noon()))
    );
    for (stored, seeded) in metrics.iter().zip(&seed.metrics) {
        assert_eq!(
            (&stored.title, &stored.unit, stored.bounds, stored.better),
            (&seeded.title, &seeded.unit, seeded.bounds, seeded.better)
        );
    }
    assert_eq!(metrics.len(), seed.metrics.len());

    storage.seed(&seed, noon() + TimeDelta::days(1)).await?;
    assert_eq!((storage.llms().await?, storage.metrics().await?), (llms, metrics));
    Ok(())
}

pub(crate) async fn seeding_leaves_tables_with_rows_alone(storage: Empty) -> Outcome {
    storage.migrate().await?;
    let mine = NewLlm {
        name: LlmName::new("Mine")?,
        creator: Creator::new("me")?,
    };
    let id = storage.create_llm(&mine, noon()).await?.id;
    storage.archive_llm(id, noon()).await?;
    storage.seed(&RegistrySeed::standard()?, noon()).await?;
    assert_eq!(storage.llms().await?, [], "an archived row is a row");
    assert_eq!(storage.metrics().await?.len(), 4, "the other table was empty");
    Ok(())
}

pub(crate) async fn concurrent_seeding_seeds_once(storage: Empty) -> Outcome {
    storage.migrate().await?;
    let seed = RegistrySeed::standard()?;
    let other = RegistrySeed::standard()?.with_llms(vec![LlmName::new("Mine")?]);
    try_join_all([&seed, &other, &seed, &other].map(|seed| storage.seed(seed, noon()))).await?;
    let names: Vec<_> = storage.llms().await?.into_iter().map(|llm| llm.name).collect();
    let of = |seed: &RegistrySeed| seed.llms.iter().map(|llm| llm.name.clone()).collect::<Vec<_>>();
    assert!(names == of(&seed) || names == of(&other), "{names:?}");
    assert_eq!(storage.metrics().await?.len(), 4);
    Ok(())
}

pub(crate) async fn llms_are_created_changed_and_archived(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let new = NewLlm {
        name: LlmName::new("Ünïcode 'quoted' \"%_\\")?,
        creator: Creator::new("me")?,
    };
    let created = storage.create_llm(&new, noon()).await?;
    assert_eq!((&created.name, &created.creator), (&new.name, &new.creator));
    assert!(storage.llms().await?.contains(&created));
    let taken = storage.create_llm(&new, noon()).await;
    assert!(
        matches!(&taken, Err(StorageError::NameTaken { kind: "LLM", name }) if name == new.name.as_str()),
        "{taken:?}"
    );

    let later = noon() + TimeDelta::hours(1);
    let unchanged = storage
        .update_llm(created.id, &LlmChange::default(), later)
        .await?;
    assert_eq!((&unchanged.creator, unchanged.updated_at), (&new.creator, later));
    let change = LlmChange {
        creator: Some(Creator::new("us")?),
    };
    let changed = storage.update_llm(created.id, &change, later).await?;
    assert_eq!((changed.creator.as_str(), changed.created_at), ("us", noon()));

    storage.archive_llm(created.id, later).await?;
    assert!(!storage.llms().await?.iter().any(|llm| llm.id == created.id));
    for gone in [created.id, LlmId(-1)] {
        assert_not_found(storage.archive_llm(gone, later).await, "LLM", gone.0);
        assert_not_found(storage.update_llm(gone, &change, later).await, "LLM", gone.0);
    }
    Ok(())
}

pub(crate) async fn metrics_are_created_changed_and_archived(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let new = tpot()?;
    let created = storage.create_metric(&new, noon()).await?;
    assert_eq!((created.bounds, created.better), (new.bounds, Direction::Lower));
    assert!(storage.metrics().await?.contains(&created));
    let taken = storage.create_metric(&new, noon()).await;
    assert!(
        matches!(taken, Err(StorageError::NameTaken { kind: "metric", .. })),
        "{taken:?}"
    );

    let later = noon() + TimeDelta::hours(1);
    let change = MetricChange {
        lower_bound: Some(-1.0),
        upper_bound: None,
        unit: Some(Unit::new("ms")?),
        better: Some(Direction::Higher),
    };
    let changed = storage.update_metric(created.id, &change, later).await?;
    assert_eq!(changed.bounds, Bounds::new(-1.0, new.bounds.upper())?);
    assert_eq!((changed.unit.as_str(), changed.better), ("ms", Direction::Higher));
    assert_eq!((changed.created_at, changed.updated_at), (noon(), later));
    assert!(storage.metrics().await?.contains(&changed));

    storage.archive_metric(created.id, later).await?;
    assert!(
        !storage
            .metrics()
            .await?
            .iter()
            .any(|metric| metric.id == created.id)
    );
    for gone in [created.id, MetricId(-1)] {
        assert_not_found(storage.archive_metric(gone, later).await, "metric", gone.0);
        assert_not_found(
            storage.update_metric(gone, &change, later).await,
            "metric",
            gone.0,
        );
    }
    Ok(())
}

pub(crate) async fn archived_names_come_back_as_the_same_row(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let later = noon() + TimeDelta::hours(1);
    let llm = storage.llms().await?.remove(0);
    storage.archive_llm(llm.id, later).await?;
    let again = NewLlm {
        name: llm.name.clone(),
        creator: Creator::new("another")?,
    };
    let restored = storage.create_llm(&again, later).await?;
    assert_eq!(
        (restored.id, restored.created_at, restored.updated_at),
        (llm.id, llm.created_at, later)
    );
    assert_eq!(restored.creator, again.creator);
    assert!(storage.llms().await?.contains(&restored));

    let metric = storage.create_metric(&tpot()?, noon()).await?;
    storage.archive_metric(metric.id, later).await?;
    let again = NewMetric {
        unit: Unit::new("ms")?,
        ..tpot()?
    };
    let restored = storage.create_metric(&again, later).await?;
    assert_eq!((restored.id, &restored.unit), (metric.id, &again.unit));
    assert!(storage.metrics().await?.contains(&restored));
    Ok(())
}

pub(crate) async fn changes_that_make_bounds_invalid_are_refused(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let created = storage.create_metric(&tpot()?, noon()).await?;
    for (lower_bound, upper_bound) in [
        (Some(1e9), None),
        (None, Some(-1.0)),
        (Some(f64::NAN), None),
        (None, Some(f64::INFINITY)),
    ] {
        let change = MetricChange {
            lower_bound,
            upper_bound,
            ..MetricChange::default()
        };
        let refused = storage.update_metric(created.id, &change, noon()).await;
        assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    }
    assert!(storage.metrics().await?.contains(&created));
    Ok(())
}

fn tpot() -> Result<NewMetric, shared_types::Invalid> {
    Ok(NewMetric {
        title: MetricTitle::new("tpot")?,
        unit: Unit::new("s")?,
        bounds: Bounds::new(0.001, 0.5)?,
        better: Direction::Lower,
    })
}

fn assert_not_found<T: std::fmt::Debug>(result: storage::Result<T>, what: &str, row: i64) {
    match result {
        Err(StorageError::NotFound { kind, id }) => assert_eq!((kind, id), (what, row.to_string())),
        other => panic!("{other:?}"),
    }
}
