use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::sync::Notify;

/// Ends what the tasks of one thread wait for, all at once.
///
/// A `CancellationToken` in a `select!` would take a lock at every poll, and a task is polled for every token of its
/// stream. Here that is one look at a flag: a task's waker stays the same, so it is left once.
#[derive(Debug, Default)]
pub(super) struct Cutoff {
    cut: Cell<bool>,
    notify: Notify,
}

impl Cutoff {
    pub(super) fn cut(&self) {
        self.cut.set(true);
        self.notify.notify_waiters();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// What `future` gives, or `None` where the cut comes first. Not to be polled by a combinator that has wakers of its own.
    ///
    /// The future is pinned by the caller: taken by value, it would be in the task twice, and an exchange has 4 KiB.
    pub(super) async fn until<T>(&self, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        if self.is_cut() {
            return None;
        }
        let mut cut = pin!(self.notify.notified());
        let mut is_registered = false;
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            if self.is_cut() {
                return Poll::Ready(None);
            }
            if !is_registered {
                is_registered = true;
                if cut.as_mut().poll(context).is_ready() {
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
    async fn a_result_comes_through_and_a_cut_ends_every_wait() {
        let cutoff = Rc::new(Cutoff::default());
        assert_eq!(cutoff.until(pin!(future::ready(5))).await, Some(5));
        let local = LocalSet::new();
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let cutoff = cutoff.clone();
                local.spawn_local(async move { cutoff.until(pin!(future::pending::<()>())).await })
            })
            .collect();
        let cut = cutoff.clone();
        local.spawn_local(async move { cut.cut() });
        local.await;
        for wait in waits {
            assert_eq!(wait.await.unwrap(), None);
        }
        assert_eq!(
            cutoff.until(pin!(future::ready(5))).await,
            None,
            "nothing begins after the cut"
        );
    }
}
