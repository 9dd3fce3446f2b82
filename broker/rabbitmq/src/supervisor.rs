use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_retry::strategy::{ExponentialBackoff, jitter};
use tokio_util::sync::CancellationToken;

use crate::error::{LinkError, in_one_line};

const FIRST_DELAY_MS: u64 = 100;

/// What works over a link and needs a new one whenever it is lost.
pub(crate) trait Supervised: Send {
    /// For the logs.
    const NAME: &'static str;

    /// Connects and works until the link is lost or the broker is being closed; says which.
    fn run(&mut self) -> impl Future<Output = LinkError> + Send;

    /// There is no link now.
    fn down(&mut self, reason: String);

    /// Whether another generation is wanted at all.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// Runs one generation after the other, with a pause in between, for as long as it takes. There is no largest number
/// of attempts: a service that gives up is one more thing to repair. A generation that panics is over like any other;
/// whoever looks at the link sees why.
pub(crate) async fn supervise(
    mut work: impl Supervised,
    closing: CancellationToken,
    longest_delay: Duration,
) {
    let mut delays = Delays::up_to(longest_delay);
    let mut last_reason = String::new();
    for generation in 1_u64.. {
        let started = Instant::now();
        let reason = in_one_line(&run_once(&mut work).await);
        work.down(reason.clone());
        if closing.is_cancelled() || !work.is_wanted() {
            return;
        }
        let lasted = started.elapsed();
        if lasted > longest_delay {
            // A link that lives shorter than this is no reason to hurry.
            delays = Delays::up_to(longest_delay);
        }
        // A broker that is away for an hour is one line in the log.
        if reason == last_reason {
            tracing::debug!(
                link = name(&work),
                link.generation = generation,
                reason,
                "no link"
            );
        } else {
            tracing::warn!(
                link = name(&work),
                link.generation = generation,
                link.lasted_s = lasted.as_secs_f64(),
                reason,
                "no link: connecting again until it succeeds"
            );
        }
        last_reason = reason;
        if closing.run_until_cancelled(sleep(delays.next())).await.is_none() {
            return;
        }
    }
}

/// A generation keeps nothing for the next one but what says how the link is: there is nothing that a panic could leave
/// half done.
async fn run_once(work: &mut impl Supervised) -> LinkError {
    AssertUnwindSafe(work.run())
        .catch_unwind()
        .await
        .unwrap_or_else(|panicked| LinkError::Crashed(message_of(panicked.as_ref())))
}

fn message_of(panicked: &(dyn Any + Send)) -> String {
    let text = panicked.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panicked.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

fn name<W: Supervised>(_: &W) -> &'static str {
    W::NAME
}

/// Doubling delays, each with its upper half at random: a broker that comes back is not met by everybody at once.
struct Delays {
    growing: ExponentialBackoff,
    longest: Duration,
}

impl Delays {
    fn up_to(longest: Duration) -> Self {
        const DOUBLING: u64 = 2;
        let factor = FIRST_DELAY_MS / DOUBLING;
        Self {
            growing: ExponentialBackoff::from_millis(DOUBLING)
                .factor(factor)
                .max_delay(longest),
            longest,
        }
    }

    fn next(&mut self) -> Duration {
        let half = self.growing.next().unwrap_or(self.longest) / 2;
        half + jitter(half)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Crashes in its first generations, and is closed in the one after.
    struct Crashing {
        crashes: usize,
        reasons: Arc<Mutex<Vec<String>>>,
        closing: CancellationToken,
    }

    impl Supervised for Crashing {
        const NAME: &'static str = "crashing";

        async fn run(&mut self) -> LinkError {
            if self.crashes == 0 {
                self.closing.cancel();
                return LinkError::Closed;
            }
            self.crashes -= 1;
            panic!("{} to come", self.crashes)
        }

        fn down(&mut self, reason: String) {
            self.reasons.lock().unwrap().push(reason);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_is_visible_and_the_next_generation_follows() {
        let (reasons, closing) = (Arc::default(), CancellationToken::new());
        let work = Crashing {
            crashes: 2,
            reasons: Arc::clone(&reasons),
            closing: closing.clone(),
        };
        supervise(work, closing, Duration::from_millis(10)).await;
        let reasons = reasons.lock().unwrap();
        assert_eq!(reasons.len(), 3);
        assert!(
            reasons[0].contains("crashed") && reasons[0].contains("1 to come"),
            "{}",
            reasons[0]
        );
        assert!(reasons[1].contains("0 to come"), "{}", reasons[1]);
    }

    #[test]
    fn delays_grow_to_their_limit_and_stay_there() {
        let longest = Duration::from_secs(3);
        let mut delays = Delays::up_to(longest);
        let (first, smallest) = (delays.next(), Duration::from_millis(FIRST_DELAY_MS));
        assert!((smallest / 2..=smallest).contains(&first), "{first:?}");
        for _ in 0..100 {
            delays.next();
        }
        let late = delays.next();
        assert!((longest / 2..=longest).contains(&late), "{late:?}");
    }
}
