//! What holds for all bytes that are read as statistics, and for all statistics that are merged.

use statistics::RunningStatistics;

/// The bytes as a state, as two states, and as values.
///
/// # Panics
/// Where something does not hold.
pub(crate) fn holds(bytes: &[u8]) {
    is_harmless(bytes);
    if let Some((cut, rest)) = bytes.split_first()
        && let Some((left, right)) = rest.split_at_checked(usize::from(*cut))
    {
        merges_either_way(left, right);
    }
    merges_to_the_whole(bytes);
}

/// Whatever is accepted is canonical, and answers every question.
///
/// # Panics
/// Where it does not.
pub(crate) fn is_harmless(bytes: &[u8]) {
    let Ok(state) = RunningStatistics::from_bytes(bytes) else {
        return;
    };
    assert_eq!(state.to_bytes(), bytes);
    let mut twice = state.clone();
    if twice.merge(&state).is_ok() {
        assert_eq!(twice.mean(), state.mean());
        assert_eq!(RunningStatistics::from_bytes(&twice.to_bytes()), Ok(twice));
    }
    assert_eq!(state.quantile(0.5).is_some(), state.count() > 0);
    assert_eq!(state.mean().is_some(), state.count() > 0);
    let (min, max) = (state.min(), state.max());
    assert!(min <= state.mean() && state.mean() <= max);
    assert!(state.variance().is_none_or(|variance| variance >= 0.0));
    assert!(state.ci95().is_none_or(|(low, high)| low <= high));
}

fn merges_either_way(left: &[u8], right: &[u8]) {
    let (Ok(left), Ok(right)) = (
        RunningStatistics::from_bytes(left),
        RunningStatistics::from_bytes(right),
    ) else {
        return;
    };
    let (mut one, mut other) = (left.clone(), right.clone());
    let (first, second) = (one.merge(&right), other.merge(&left));
    assert_eq!(first.is_ok(), second.is_ok());
    if first.is_ok() {
        assert_eq!(one, other);
        assert_eq!(one.count(), left.count() + right.count());
        is_harmless(&one.to_bytes());
    } else {
        assert_eq!((one, other), (left, right), "a refused merge changes nothing");
    }
}

/// The first byte says where the values are split.
fn merges_to_the_whole(bytes: &[u8]) {
    let Some((cut, rest)) = bytes.split_first() else {
        return;
    };
    let values: Vec<f64> = rest
        .chunks_exact(8)
        .filter_map(|chunk| chunk.try_into().ok().map(f64::from_le_bytes))
        .filter(|value| value.is_finite())
        .collect();
    let of = |values: &[f64]| RunningStatistics::try_from(values).expect("finite values");
    let (left, right) = values.split_at(usize::from(*cut).min(values.len()));
    let mut merged = of(right);
    merged.merge(&of(left)).expect("few values");
    assert_eq!(merged.to_bytes(), of(&values).to_bytes());
}
