use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::sync::Notify;

/// Cancels what the tasks of one thread wait for, all at once.
///
/// A `CancellationToken` in a `select!` would take a lock at every poll, and a task is polled for every token of its
/// stream. Here a poll reads one flag: a task's waker stays the same, so it is registered once.
#[derive(Debug, Default)]
pub(super) struct LocalCancellation {
    is_cancelled: Cell<bool>,
    notify: Notify,
}

impl LocalCancellation {
    pub(super) fn cancel(&self) {
        self.is_cancelled.set(true);
        self.notify.notify_waiters();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    /// The output of `future`, or `None` where the cancellation comes first. Must not be polled by a combinator that has wakers
    /// of its own.
    ///
    /// The caller pins the future: taken by value, it would be in the task twice, and an exchange has 4 KiB.
    pub(super) async fn unless_cancelled<T>(
        &self,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        if self.is_cancelled() {
            return None;
        }
        let mut cancelled = pin!(self.notify.notified());
        let mut is_registered = false;
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            if self.is_cancelled() {
                return Poll::Ready(None);
            }
            if !is_registered {
                is_registered = true;
                if cancelled.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{future, rc::Rc};

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn an_output_is_returned_and_a_cancellation_ends_every_wait() {
        let cancellation = Rc::new(LocalCancellation::default());
        assert_eq!(
            cancellation.unless_cancelled(pin!(future::ready(5))).await,
            Some(5)
        );
        let local = LocalSet::new();
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let cancellation = cancellation.clone();
                local.spawn_local(async move {
                    cancellation.unless_cancelled(pin!(future::pending::<()>())).await
                })
            })
            .collect();
        let canceller = cancellation.clone();
        local.spawn_local(async move { canceller.cancel() });
        local.await;
        for wait in waits {
            assert_eq!(wait.await.unwrap(), None);
        }
        assert_eq!(
            cancellation.unless_cancelled(pin!(future::ready(5))).await,
            None,
            "nothing begins after the cancellation"
        );
    }
}
