use broker::Prefetch;

/// The largest body to expect where none was seen: what the broker accepts as we deploy it (`max_message_size`).
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// How many bodies are remembered at least.
const REMEMBERED: usize = 256;
/// The window grows so many times over at once, and only where it at least doubles: each growth is a consumer more.
const GROWTH: usize = 4;
const LEAST_GROWTH: usize = 2;

/// Decides how many deliveries the broker may have out, from the sizes of the bodies seen: as many as fit into the
/// budget if all are as large as the largest of the last [`REMEMBERED`]. A larger one shrinks the window at once. It grows
/// in steps, each after as many bodies as it holds were seen, and leaves a quarter of the budget free, so that sizes that vary do not
/// make it go up and down.
#[derive(Debug)]
pub(super) struct Window {
    most: usize,
    budget: usize,
    sizes: Sizes,
    seen: usize,
}

impl Window {
    pub(super) fn new(limit: Prefetch) -> Self {
        Self {
            most: limit.messages.get().into(),
            budget: limit.bytes.get(),
            sizes: Sizes::default(),
            seen: 0,
        }
    }

    /// A body of so many bytes was delivered.
    pub(super) fn seen(&mut self, bytes: usize) {
        self.sizes.add(bytes);
        self.seen = self.seen.saturating_add(1);
    }

    /// What the window of `now` deliveries should be, where others than those may stay out until they are settled: over
    /// all there are never more than the limit. The same where nothing is to be changed; at least 1.
    pub(super) fn wanted(&self, now: usize, others: usize) -> usize {
        let largest = self.sizes.largest();
        let fitting = self.fitting(self.budget, largest.unwrap_or(LARGEST_BODY));
        if now > fitting {
            return fitting;
        }
        let most = self.most.saturating_sub(others).max(now);
        // Whatever comes fits.
        let safe = fitting.min(self.fitting(self.budget, LARGEST_BODY)).min(most);
        if now < safe {
            return safe;
        }
        let Some(largest) = largest.filter(|_| self.seen >= now) else {
            return now;
        };
        let comfortable = self.fitting(self.budget / 4 * 3, largest).min(most);
        let next = comfortable.min(now * GROWTH);
        let is_worth_it = next >= now * LEAST_GROWTH || (next == self.most && next > now);
        if is_worth_it { next } else { now }
    }

    fn fitting(&self, budget: usize, body: usize) -> usize {
        (budget / body.max(1)).clamp(1, self.most)
    }
}

/// The largest of the last [`REMEMBERED`] to twice as many bodies.
#[derive(Debug, Default)]
struct Sizes {
    before: Option<usize>,
    current: Option<usize>,
    /// How many bodies `current` is of.
    count: usize,
}

impl Sizes {
    fn add(&mut self, bytes: usize) {
        if self.count == REMEMBERED {
            self.before = self.current.take();
            self.count = 0;
        }
        self.current = self.current.max(Some(bytes));
        self.count += 1;
    }

    fn largest(&self) -> Option<usize> {
        self.before.max(self.current)
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

    /// A window that is changed whenever it should be, with nothing left over from before.
    struct Followed {
        window: Window,
        now: usize,
        changes: usize,
    }

    impl Followed {
        fn new(limit: Prefetch) -> Self {
            let mut followed = Self {
                window: Window::new(limit),
                now: 1,
                changes: 0,
            };
            followed.follow();
            followed
        }

        fn see(&mut self, bytes: usize) {
            self.window.seen(bytes);
            self.follow();
        }

        fn follow(&mut self) {
            let wanted = self.window.wanted(self.now, 0);
            if wanted != self.now {
                self.now = wanted;
                self.changes += 1;
            }
        }
    }

    #[test]
    fn before_anything_is_seen_the_largest_bodies_fit() {
        assert_eq!(Followed::new(limit(256, 64 * MIB)).now, 4);
        assert_eq!(Followed::new(limit(2, 64 * MIB)).now, 2);
        assert_eq!(Followed::new(limit(256, MIB)).now, 1);
    }

    #[test]
    fn typical_bodies_open_the_whole_window_within_a_quarter_of_it() {
        let mut followed = Followed::new(limit(256, 64 * MIB));
        (0..64).for_each(|_| followed.see(20 * KIB));
        assert_eq!((followed.now, followed.changes), (256, 4));
    }

    #[test]
    fn one_larger_body_shrinks_it_at_once_and_is_forgotten_in_time() {
        let mut followed = Followed::new(limit(256, 64 * MIB));
        (0..1000).for_each(|_| followed.see(20 * KIB));
        followed.see(MIB);
        assert_eq!(followed.now, 64);
        followed.see(200 * MIB);
        assert_eq!(followed.now, 1);
        (0..REMEMBERED - 1).for_each(|_| followed.see(KIB));
        assert_eq!(followed.now, 1);
        (0..2 * REMEMBERED).for_each(|_| followed.see(KIB));
        assert_eq!(followed.now, 256);
    }

    #[test]
    fn what_is_still_out_from_before_counts() {
        let mut window = Window::new(limit(256, 64 * MIB));
        (0..300).for_each(|_| window.seen(KIB));
        assert_eq!(window.wanted(64, 0), 256);
        assert_eq!(window.wanted(64, 100), 156);
        assert_eq!(window.wanted(64, 192), 64);
    }

    proptest! {
        /// As long as no body is larger than one before it, the budget holds, however the broker fills the window.
        #[test]
        fn the_budget_holds_while_bodies_do_not_grow(
            mut bodies in prop::collection::vec(1..LARGEST_BODY, 1..600),
            most in 1..2000_u16,
            budget in LARGEST_BODY..256 * MIB,
        ) {
            bodies.sort_unstable_by(|one, other| other.cmp(one));
            let mut followed = Followed::new(limit(most, budget));
            for (number, body) in bodies.iter().enumerate() {
                let out: usize = bodies.iter().skip(number).take(followed.now).sum();
                prop_assert!(out <= budget, "{out} bytes out of {budget} before body {number}");
                followed.see(*body);
            }
        }

        #[test]
        fn it_keeps_the_limits_whatever_comes(
            bodies in prop::collection::vec(0..300 * MIB, 0..600),
            most in 1..2000_u16,
            budget in 1..256 * MIB,
        ) {
            let mut followed = Followed::new(limit(most, budget));
            for body in bodies {
                followed.see(body);
                prop_assert!((1..=usize::from(most)).contains(&followed.now));
                prop_assert!(followed.now == 1 || followed.now * body <= budget);
            }
        }

        /// Sizes that vary by a quarter let it settle.
        #[test]
        fn it_does_not_flap(
            sizes in prop::collection::vec(0.75..1.0_f64, 4000),
            largest in KIB..LARGEST_BODY,
            budget in LARGEST_BODY..256 * MIB,
        ) {
            let mut followed = Followed::new(limit(256, budget));
            let mut settled = 0;
            for (number, share) in sizes.iter().enumerate() {
                followed.see((largest as f64 * share) as usize);
                if number == 1000 {
                    settled = followed.changes;
                }
            }
            prop_assert!(settled <= 6, "{settled} changes");
            prop_assert_eq!(followed.changes, settled);
        }
    }
}
