//! Waits of tests: for a condition, up to one time limit that is the same everywhere.
//!
//! A test never sleeps for a number of seconds after which something "should have happened". It waits until a condition holds, and
//! fails when it does not hold after [`patience`]. The limit is so long that only a fault exceeds it, on a slow and busy machine
//! too.
//!
//! The waits use tokio's clock: in a test that pauses it, the limit is virtual time.

use std::{
    future::Future,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// The environment variable that changes the limit: whole seconds.
pub const VARIABLE: &str = "TEST_PATIENCE";

const DEFAULT: Duration = Duration::from_secs(60);
/// The delay between two checks of a condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The longest time that a test waits for one condition: `TEST_PATIENCE` in whole seconds, 60 s where it is not set or empty.
///
/// # Panics
/// `TEST_PATIENCE` is not a whole number of seconds above zero.
#[must_use]
pub fn patience() -> Duration {
    static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no settings: the limit depends on the machine"
        )]
        let found = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        found.map_or(DEFAULT, |text| parse(&text))
    });
    *PATIENCE
}

fn parse(text: &str) -> Duration {
    match text.parse() {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        _ => panic!("{VARIABLE} is {text:?}; expected a whole number of seconds above zero"),
    }
}

/// Waits for the output of `future`. `what` names it in the failure.
///
/// # Panics
/// The future is not ready after [`patience`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(patience(), future)
        .await
        .unwrap_or_else(|_elapsed| panic!("{}", too_late(what)))
}

/// Waits until `holds` returns true. `what` names the condition in the failure.
///
/// # Panics
/// The condition does not hold after [`patience`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    found(what, async || holds().await.then_some(())).await;
}

/// Waits until `look` finds something, and returns it. `what` names it in the failure.
///
/// # Panics
/// Nothing is found after [`patience`].
pub async fn found<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    })
    .await
}

/// [`until`] for tests without a runtime.
///
/// # Panics
/// The condition does not hold after [`patience`].
pub fn until_blocking(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !holds() {
        assert!(Instant::now() < deadline, "{}", too_late(what));
        std::thread::sleep(CHECK_INTERVAL);
    }
}

fn too_late(what: &str) -> String {
    format!("waited {:?} ({VARIABLE}) for: {what}", patience())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_waited_for() {
        let looks = Cell::new(0);
        until("the third look", async || {
            looks.set(looks.get() + 1);
            looks.get() == 3
        })
        .await;
        assert_eq!(looks.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "for: what never comes")]
    async fn a_condition_that_never_holds_is_named() {
        until("what never comes", async || false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_found_is_given() {
        let looks = Cell::new(0);
        let at = found("a look", async || {
            looks.set(looks.get() + 1);
            (looks.get() > 1).then_some(looks.get())
        });
        assert_eq!(at.await, 2);
    }

    #[test]
    fn the_limit_is_whole_seconds_above_zero() {
        assert_eq!(parse("90"), Duration::from_secs(90));
        for wrong in ["0", "-1", "1.5", "a minute", ""] {
            assert!(std::panic::catch_unwind(|| parse(wrong)).is_err(), "{wrong:?}");
        }
    }
}
