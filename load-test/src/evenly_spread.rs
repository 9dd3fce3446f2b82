//! Amounts that come evenly over a time, such as the tokens of a response.

/// The part of `amount` within `window`, where the amount comes evenly from `span`'s start to its end (all in one unit of time).
/// An amount without a duration lies within the window where its moment does.
pub(crate) fn amount_within(amount: f64, span: [f64; 2], window: [f64; 2]) -> f64 {
    let length = span[1] - span[0];
    if length <= 0.0 {
        let is_within = (window[0]..=window[1]).contains(&span[0]);
        return if is_within { amount } else { 0.0 };
    }
    let overlap = span[1].min(window[1]) - span[0].max(window[0]);
    amount * overlap.max(0.0) / length
}
