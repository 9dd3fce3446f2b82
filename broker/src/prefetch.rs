use std::num::{NonZeroU16, NonZeroUsize};

/// How much one subscription may hold unsettled in its process's memory, whether `next` has returned it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// The number of deliveries. Never exceeded.
    pub messages: NonZeroU16,
    /// The bytes of their bodies. A single delivery may be larger. A backend whose broker limits deliveries by count alone
    /// derives the count from the sizes it has seen: it keeps this limit as long as no body is larger than those before.
    pub bytes: NonZeroUsize,
}

impl Prefetch {
    /// The default limit in bytes: 64 MiB.
    pub const BYTES: NonZeroUsize = NonZeroUsize::new(64 * 1024 * 1024).expect("not zero");

    /// At most `messages` deliveries and [`Self::BYTES`].
    #[must_use]
    pub const fn messages(messages: NonZeroU16) -> Self {
        Self {
            messages,
            bytes: Self::BYTES,
        }
    }
}

/// How much the subscriptions of this process hold unsettled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefetchUsage {
    /// The number of unsettled deliveries.
    pub deliveries: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// The number of unsettled deliveries that the broker allows at this moment.
    pub prefetch: u64,
}
