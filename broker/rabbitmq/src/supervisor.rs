use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_retry::strategy::{ExponentialBackoff, jitter};
use tokio_util::sync::CancellationToken;

use shared_types::ErrorChain;

use crate::error::LinkError;

const FIRST_DELAY_MS: u64 = 100;

/// Work over a link, which needs a new link whenever the current one is lost.
pub(crate) trait Supervised: Send {
    /// The link's name in the logs.
    const NAME: &'static str;

    /// Connects and works until the link is lost or the broker is closed; returns the reason.
    fn run(&mut self) -> impl Future<Output = LinkError> + Send;

    /// Called when there is no link, with the reason.
    fn down(&mut self, reason: String);

    /// Whether another link is needed.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// Runs the work over one link after another, with a delay in between. It never gives up, because a service that gives up needs
/// an operator. A panic of the work counts as a lost link; the link's state shows its message.
pub(crate) async fn supervise(
    mut work: impl Supervised,
    closing: CancellationToken,
    longest_delay: Duration,
) {
    let mut delays = Delays::up_to(longest_delay);
    let mut last_reason = String::new();
    for generation in 1_u64.. {
        let started = Instant::now();
        let reason = ErrorChain(&run_once(&mut work).await).to_string();
        work.down(reason.clone());
        if closing.is_cancelled() || !work.is_wanted() {
            return;
        }
        let lasted = started.elapsed();
        if lasted > longest_delay {
            // Start again with short delays only after a link that lasted.
            delays = Delays::up_to(longest_delay);
        }
        // A broker that is away for an hour is one warning in the log.
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

/// A panic cannot leave inconsistent data behind: the work keeps nothing for the next link but the link's state.
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

/// Exponential backoff: the delays double up to a limit, and the upper half of each is random, so that the clients of a
/// broker do not all reconnect at the same moment.
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

    /// Panics over its first links, and closes the broker over the next one.
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
    async fn a_panic_is_visible_and_the_next_link_follows() {
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
