use broker::Prefetch;

/// The body size that is assumed before the first delivery, in bytes: RabbitMQ's `max_message_size` in our deployment.
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// At least so many of the last deliveries are taken into account.
const RECENT: usize = 256;
/// The prefetch grows by at most this factor at once. It does not grow by less than half, because each growth starts another
/// consumer.
const GROWTH: usize = 2;
/// A prefetch that is more than this many times the deliveries held at once is reduced.
const IDLE: usize = 4;

/// Decides how many deliveries the broker may have unsettled, from the sizes of the recent deliveries (the last [`RECENT`]).
///
/// As many deliveries are allowed as fit into the byte budget if each is as large as the largest recent one, but at most
/// twice as many as were held at once. A larger body shrinks the prefetch at once. The broker may still send as many large
/// bodies as the old prefetch allowed, so the prefetch stays small while few deliveries are held.
///
/// The prefetch grows in steps, each after it was fully used, and leaves a quarter of the budget free. Thus bodies of varying
/// sizes do not make it change all the time.
#[derive(Debug)]
pub(super) struct AdaptivePrefetch {
    max_deliveries: usize,
    budget_bytes: usize,
    recent: RecentDeliveries,
}

impl AdaptivePrefetch {
    pub(super) fn new(limit: Prefetch) -> Self {
        Self {
            max_deliveries: limit.messages.get().into(),
            budget_bytes: limit.bytes.get(),
            recent: RecentDeliveries::default(),
        }
    }

    /// Takes a delivery into account. `bytes` is the size of its body, `held` the number of unsettled deliveries with it.
    pub(super) fn record(&mut self, bytes: usize, held: usize) {
        self.recent.add(Maxima { bytes, held });
    }

    /// The prefetch that is wanted instead of `current`; at least 1. `draining` deliveries of cancelled consumers may be unsettled
    /// besides, and all together are at most the limit.
    pub(super) fn target(&self, current: usize, draining: usize) -> usize {
        let recent = self.recent.maxima();
        let largest = recent.map_or(LARGEST_BODY, |recent| recent.bytes);
        let fitting = self.fitting(self.budget_bytes, largest);
        if current > fitting {
            return fitting;
        }
        let max = self.max_deliveries.saturating_sub(draining).max(current);
        // So many deliveries fit however large they are.
        let safe = fitting
            .min(self.fitting(self.budget_bytes, LARGEST_BODY))
            .min(max);
        if current < safe {
            return safe;
        }
        let Some(Maxima { bytes, held }) = recent else {
            return current;
        };
        if self.recent.is_full() && current > safe && current > IDLE * held {
            return (GROWTH * held).max(safe);
        }
        let comfortable = self.fitting(self.budget_bytes / 4 * 3, bytes).min(max);
        let next = comfortable.min(current * GROWTH);
        let is_large_step =
            next >= current + current.div_ceil(2) || (next == self.max_deliveries && next > current);
        if held >= current && is_large_step {
            next
        } else {
            current
        }
    }

    fn fitting(&self, budget: usize, body: usize) -> usize {
        (budget / body.max(1)).clamp(1, self.max_deliveries)
    }
}

#[derive(Debug, Clone, Copy)]
struct Maxima {
    /// The largest body, in bytes.
    bytes: usize,
    /// The most deliveries unsettled at once.
    held: usize,
}

impl Maxima {
    fn max(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            held: self.held.max(other.held),
        }
    }
}

/// The maxima of the recent deliveries: the last [`RECENT`] to twice as many.
#[derive(Debug, Default)]
struct RecentDeliveries {
    before: Option<Maxima>,
    current: Option<Maxima>,
    /// The number of deliveries in `current`.
    count: usize,
}

impl RecentDeliveries {
    fn add(&mut self, maxima: Maxima) {
        if self.count == RECENT {
            self.before = self.current.take();
            self.count = 0;
        }
        self.current = Some(self.current.map_or(maxima, |current| current.max(maxima)));
        self.count += 1;
    }

    /// `None` before the first delivery.
    fn maxima(&self) -> Option<Maxima> {
        let both = self.current.zip(self.before);
        both.map(|(one, other)| one.max(other)).or(self.current)
    }

    /// Whether at least [`RECENT`] deliveries were recorded.
    fn is_full(&self) -> bool {
        self.before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU16, NonZeroUsize};

    use proptest::prelude::*;

    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    fn limit(messages: u16, bytes: usize) -> Prefetch {
        Prefetch {
            messages: NonZeroU16::new(messages).unwrap(),
            bytes: NonZeroUsize::new(bytes).unwrap(),
        }
    }

    /// A prefetch that always has its target, with no cancelled consumers.
    struct Simulated {
        prefetch: AdaptivePrefetch,
        current: usize,
        changes: usize,
    }

    impl Simulated {
        fn new(limit: Prefetch) -> Self {
            let mut simulated = Self {
                prefetch: AdaptivePrefetch::new(limit),
                current: 1,
                changes: 0,
            };
            simulated.apply_target();
            simulated
        }

        /// Records a delivery while the whole prefetch is used.
        fn deliver(&mut self, bytes: usize) {
            self.deliver_holding(bytes, self.current);
        }

        fn deliver_holding(&mut self, bytes: usize, held: usize) {
            self.prefetch.record(bytes, held);
            self.apply_target();
        }

        fn apply_target(&mut self) {
            let target = self.prefetch.target(self.current, 0);
            if target != self.current {
                self.current = target;
                self.changes += 1;
            }
        }
    }

    #[test]
    fn before_the_first_delivery_the_largest_bodies_fit() {
        assert_eq!(Simulated::new(limit(256, 64 * MIB)).current, 4);
        assert_eq!(Simulated::new(limit(2, 64 * MIB)).current, 2);
        assert_eq!(Simulated::new(limit(256, MIB)).current, 1);
    }

    #[test]
    fn typical_bodies_raise_the_prefetch_to_its_limit() {
        let mut simulated = Simulated::new(limit(256, 64 * MIB));
        (0..6).for_each(|_| simulated.deliver(20 * KIB));
        assert_eq!((simulated.current, simulated.changes), (256, 7));
    }

    #[test]
    fn a_prefetch_that_is_not_used_stays_small_and_becomes_small() {
        let mut simulated = Simulated::new(limit(256, 64 * MIB));
        (0..10_000).for_each(|number| simulated.deliver_holding(KIB, number % 10));
        assert_eq!(simulated.current, 16);
        (0..10).for_each(|_| simulated.deliver(KIB));
        assert_eq!(simulated.current, 256);
        let changes = simulated.changes;
        (0..10_000).for_each(|number| simulated.deliver_holding(KIB, number % 11));
        assert_eq!((simulated.current, simulated.changes), (20, changes + 1));
    }

    #[test]
    fn one_larger_body_shrinks_the_prefetch_at_once_and_is_forgotten_in_time() {
        let mut simulated = Simulated::new(limit(256, 64 * MIB));
        (0..1000).for_each(|_| simulated.deliver(20 * KIB));
        simulated.deliver(MIB);
        assert_eq!(simulated.current, 64);
        simulated.deliver(200 * MIB);
        assert_eq!(simulated.current, 1);
        (0..RECENT - 1).for_each(|_| simulated.deliver(KIB));
        assert_eq!(simulated.current, 1);
        (0..2 * RECENT).for_each(|_| simulated.deliver(KIB));
        assert_eq!(simulated.current, 256);
    }

    #[test]
    fn deliveries_of_cancelled_consumers_count() {
        let mut prefetch = AdaptivePrefetch::new(limit(256, 64 * MIB));
        prefetch.record(KIB, 256);
        assert_eq!(prefetch.target(64, 0), 128);
        assert_eq!(prefetch.target(64, 100), 128);
        assert_eq!(prefetch.target(64, 192), 64);
        assert_eq!(prefetch.target(128, 0), 256);
        assert_eq!(prefetch.target(128, 1), 255);
    }

    proptest! {
        /// The unsettled bytes stay within the budget as long as no body is larger than the one before it.
        #[test]
        fn the_budget_holds_while_bodies_do_not_grow(
            mut bodies in prop::collection::vec(1..LARGEST_BODY, 1..600),
            most in 1..2000_u16,
            budget in LARGEST_BODY..256 * MIB,
        ) {
            bodies.sort_unstable_by(|one, other| other.cmp(one));
            let mut simulated = Simulated::new(limit(most, budget));
            for (number, body) in bodies.iter().enumerate() {
                let out: usize = bodies.iter().skip(number).take(simulated.current).sum();
                prop_assert!(out <= budget, "{out} bytes out of {budget} before body {number}");
                simulated.deliver(*body);
            }
        }

        #[test]
        fn the_limits_hold_for_any_bodies(
            bodies in prop::collection::vec(0..300 * MIB, 0..600),
            most in 1..2000_u16,
            budget in 1..256 * MIB,
        ) {
            let mut simulated = Simulated::new(limit(most, budget));
            for body in bodies {
                simulated.deliver(body);
                prop_assert!((1..=usize::from(most)).contains(&simulated.current));
                prop_assert!(simulated.current == 1 || simulated.current * body <= budget);
            }
        }

        /// Sizes that vary by a quarter let the prefetch settle.
        #[test]
        fn the_prefetch_does_not_oscillate(
            sizes in prop::collection::vec(75..=100_usize, 4000),
            largest in KIB..LARGEST_BODY,
            budget in LARGEST_BODY..256 * MIB,
        ) {
            let mut simulated = Simulated::new(limit(256, budget));
            let mut settled = 0;
            for (number, percent) in sizes.iter().enumerate() {
                simulated.deliver(largest * percent / 100);
                if number == 1000 {
                    settled = simulated.changes;
                }
            }
            prop_assert!(settled <= 9, "{settled} changes");
            prop_assert_eq!(simulated.changes, settled);
        }
    }
}
