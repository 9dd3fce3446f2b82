use std::time::Duration;

/// A rate that grows linearly from zero over the ramp and is constant afterwards.
///
/// With final rate r and ramp R, in seconds: `Λ(t) = r t² / 2R` for t < R, and `r (t − R/2)` from there on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ramp {
    rate: f64,
    ramp_up_s: f64,
}

impl Ramp {
    pub(super) fn new(rate: f64, ramp_up: Duration) -> Self {
        Self {
            rate,
            ramp_up_s: ramp_up.as_secs_f64(),
        }
    }

    /// `Λ⁻¹(operational)`: seconds since the start.
    pub(super) fn due(self, operational: f64) -> f64 {
        let Self { rate, ramp_up_s } = self;
        if operational < rate * ramp_up_s / 2.0 {
            (2.0 * ramp_up_s * operational / rate).sqrt()
        } else {
            operational / rate + ramp_up_s / 2.0
        }
    }
}
