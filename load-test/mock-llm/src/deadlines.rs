use std::time::Duration;

use precise_time::MonotonicTime;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, LogNormal};

use crate::settings::{Settings, Stall};

/// The random numbers of one request. Every request has a stream of its own, so that neither the order of requests nor the number
/// of cores changes the numbers.
#[derive(Debug)]
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn for_times(seed: u64, number: u64) -> Self {
        Self::new(seed, number, 0)
    }

    pub(crate) fn for_errors(seed: u64, number: u64) -> Self {
        Self::new(seed, number, 1)
    }

    pub(crate) fn for_numbers(seed: u64, number: u64) -> Self {
        Self::new(seed, number, 2)
    }

    fn new(seed: u64, number: u64, purpose: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number << 2 | purpose);
        Self(random)
    }

    /// Uniform in [0, 1).
    pub(crate) fn share(&mut self) -> f64 {
        self.0.random()
    }

    /// `mean` times a log-normal factor of mean 1.
    fn jittered(&mut self, mean: Duration, sigma: f64) -> Duration {
        // The mean of exp(N(m, s²)) is exp(m + s²/2).
        let factor = LogNormal::new(-sigma * sigma / 2.0, sigma).map_or(1.0, |law| law.sample(&mut self.0));
        Duration::try_from_secs_f64(mean.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

/// The periodic stalls of a server since its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stalls {
    origin: u64,
    every: u64,
    lasts: u64,
}

impl Stalls {
    pub(crate) fn new(stall: Stall, origin: MonotonicTime) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            origin: origin.as_nanos(),
            every: nanos(stall.every),
            lasts: nanos(stall.lasts),
        }
    }

    /// The end of the stall during which `at` lies, if there is one.
    pub(crate) fn end_of_stall(&self, at: MonotonicTime) -> Option<MonotonicTime> {
        let since_start = at.as_nanos().saturating_sub(self.origin);
        let into_period = since_start % self.every;
        let stalls = since_start >= self.every && into_period < self.lasts;
        stalls.then(|| MonotonicTime::from_nanos(at.as_nanos() - into_period + self.lasts))
    }
}

/// When the tokens of one response are due. The deadlines are absolute, so that a late token does not delay the next.
#[derive(Debug)]
pub(crate) struct Deadlines {
    next: MonotonicTime,
    itl: Duration,
    jitter: Option<Box<(Draws, f64)>>,
    stalls: Option<Stalls>,
}

impl Deadlines {
    /// The deadlines of a request that got its slot at `admitted`. `draws` is called only if the settings have jitter.
    pub(crate) fn new(
        settings: &Settings,
        stalls: Option<Stalls>,
        admitted: MonotonicTime,
        input_tokens: u32,
        draws: impl FnOnce() -> Draws,
    ) -> Self {
        let (mut ttft, mut jitter) = (settings.ttft, None);
        if settings.ttft_jitter > 0.0 || settings.itl_jitter > 0.0 {
            let mut draws = draws();
            ttft = draws.jittered(ttft, settings.ttft_jitter);
            jitter = Some(Box::new((draws, settings.itl_jitter)));
        }
        let prefill = settings.prefill_per_token.saturating_mul(input_tokens);
        Self {
            next: admitted + ttft + prefill,
            itl: settings.itl,
            jitter,
            stalls,
        }
    }

    /// When the next token is due, and whether a stall delays it.
    pub(crate) fn next(&self) -> (MonotonicTime, bool) {
        let end = self.stalls.and_then(|stalls| stalls.end_of_stall(self.next));
        (end.unwrap_or(self.next), end.is_some())
    }

    /// Continues with the token after the next `tokens` tokens.
    pub(crate) fn advance(&mut self, tokens: u32) {
        let gap = match &mut self.jitter {
            None => self.itl,
            Some(jitter) => {
                let (draws, sigma) = &mut **jitter;
                draws.jittered(self.itl, *sigma)
            }
        };
        self.next += gap.saturating_mul(tokens);
    }

    /// Adds a pause before the next token.
    pub(crate) fn delay(&mut self, pause: Duration) {
        self.next += pause;
    }

    pub(crate) fn end_of_stall(&self, at: MonotonicTime) -> Option<MonotonicTime> {
        self.stalls.and_then(|stalls| stalls.end_of_stall(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn deadlines(settings: &Settings, stalls: Option<Stalls>) -> Vec<u64> {
        let start = MonotonicTime::from_nanos(0);
        let mut deadlines = Deadlines::new(settings, stalls, start, 3, || Draws::for_times(0, 7));
        let each = (0..5).map(|_| {
            let (due, _) = deadlines.next();
            deadlines.advance(1);
            due.as_nanos() / 1_000_000
        });
        each.collect()
    }

    #[test]
    fn deadlines_are_absolute() {
        let settings = Settings {
            ttft: 10 * MS,
            itl: 2 * MS,
            prefill_per_token: 5 * MS,
            ..Settings::default()
        };
        assert_eq!(deadlines(&settings, None), [25, 27, 29, 31, 33]);
    }

    #[test]
    fn a_stall_moves_deadlines_to_its_end() {
        let settings = Settings {
            ttft: 10 * MS,
            itl: 2 * MS,
            ..Settings::default()
        };
        let stall = Stall {
            every: 12 * MS,
            lasts: 3 * MS,
        };
        let stalls = Stalls::new(stall, MonotonicTime::from_nanos(0));
        assert_eq!(deadlines(&settings, Some(stalls)), [10, 15, 15, 16, 18]);
    }

    #[test]
    fn jitter_is_a_function_of_seed_and_number_and_keeps_the_mean() {
        let settings = Settings {
            itl_jitter: 0.5,
            ttft_jitter: 0.2,
            ..Settings::default()
        };
        assert_eq!(deadlines(&settings, None), deadlines(&settings, None));
        let mut draws = Draws::for_times(1, 2);
        let sum: Duration = (0..20_000).map(|_| draws.jittered(MS, 0.5)).sum();
        let mean = sum.as_secs_f64() / 20.0;
        // Its standard error is 0.533 / sqrt(20 000) = 0.0038.
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert_ne!(Draws::for_times(1, 2).share(), Draws::for_times(1, 3).share());
    }
}
