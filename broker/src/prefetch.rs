use std::num::{NonZeroU16, NonZeroUsize};

/// How much a subscription may hold unsettled: in its process's memory, taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Deliveries. Never exceeded.
    pub messages: NonZeroU16,
    /// The bytes of their bodies. A delivery that finds nothing held comes however large it is. A broker that delivers by
    /// count alone learns the sizes as it goes: it keeps this limit as long as no body is larger than those before it.
    pub bytes: NonZeroUsize,
}

impl Prefetch {
    /// The limit in bytes where nothing else is said: 64 MiB.
    pub const BYTES: NonZeroUsize = NonZeroUsize::new(64 * 1024 * 1024).expect("not zero");

    /// At most so many deliveries, and [`Self::BYTES`].
    #[must_use]
    pub const fn messages(messages: NonZeroU16) -> Self {
        Self {
            messages,
            bytes: Self::BYTES,
        }
    }
}

/// What the subscriptions of a process hold, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Deliveries that are not settled.
    pub deliveries: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// How many deliveries the broker may have out at this moment.
    pub prefetch: u64,
}
