use broker::Prefetch;

/// The largest body to expect where none was seen: what the broker accepts as we deploy it (`max_message_size`).
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// How many deliveries are remembered at least.
const REMEMBERED: usize = 256;
/// How many times over the window grows at once. By less than half it does not grow: each growth is a consumer more.
const GROWTH: usize = 2;
/// A window that is so many times as large as what is held at once is for nothing.
const IDLE: usize = 4;

/// Decides how many deliveries the broker may have out, from what was delivered lately (the last [`REMEMBERED`]): as many
/// as fit into the budget if all are as large as the largest, and no more than twice as many as were held at once. A larger
/// body shrinks the window at once; what comes before the broker knows of that is the credit that it had, so that is kept
/// small while little is held.
///
/// The window grows in steps, each after it was full, and leaves a quarter of the budget free, so that sizes that vary
/// do not make it go up and down.
#[derive(Debug)]
pub(super) struct Window {
    most: usize,
    budget: usize,
    lately: Lately,
}

impl Window {
    pub(super) fn new(limit: Prefetch) -> Self {
        Self {
            most: limit.messages.get().into(),
            budget: limit.bytes.get(),
            lately: Lately::default(),
        }
    }

    /// A body of so many bytes was delivered; with it so many deliveries are held.
    pub(super) fn seen(&mut self, bytes: usize, held: usize) {
        self.lately.add(Peaks { bytes, held });
    }

    /// What the window of `now` deliveries should be, where others than those may stay out until they are settled: over
    /// all there are never more than the limit. The same where nothing is to be changed; at least 1.
    pub(super) fn wanted(&self, now: usize, others: usize) -> usize {
        let lately = self.lately.peaks();
        let largest = lately.map_or(LARGEST_BODY, |lately| lately.bytes);
        let fitting = self.fitting(self.budget, largest);
        if now > fitting {
            return fitting;
        }
        let most = self.most.saturating_sub(others).max(now);
        // Whatever comes fits.
        let safe = fitting.min(self.fitting(self.budget, LARGEST_BODY)).min(most);
        if now < safe {
            return safe;
        }
        let Some(Peaks { bytes, held }) = lately else {
            return now;
        };
        if self.lately.is_long() && now > safe && now > IDLE * held {
            return (GROWTH * held).max(safe);
        }
        let comfortable = self.fitting(self.budget / 4 * 3, bytes).min(most);
        let next = comfortable.min(now * GROWTH);
        let is_worth_it = next >= now + now.div_ceil(2) || (next == self.most && next > now);
        if held >= now && is_worth_it { next } else { now }
    }

    fn fitting(&self, budget: usize, body: usize) -> usize {
        (budget / body.max(1)).clamp(1, self.most)
    }
}

#[derive(Debug, Clone, Copy)]
struct Peaks {
    /// Of one body.
    bytes: usize,
    /// Deliveries at once.
    held: usize,
}

impl Peaks {
    fn or(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            held: self.held.max(other.held),
        }
    }
}

/// The peaks of the last [`REMEMBERED`] to twice as many deliveries.
#[derive(Debug, Default)]
struct Lately {
    before: Option<Peaks>,
    current: Option<Peaks>,
    /// How many deliveries `current` is of.
    count: usize,
}

impl Lately {
    fn add(&mut self, peaks: Peaks) {
        if self.count == REMEMBERED {
            self.before = self.current.take();
            self.count = 0;
        }
        self.current = Some(self.current.map_or(peaks, |current| current.or(peaks)));
        self.count += 1;
    }

    /// `None` where nothing was delivered yet.
    fn peaks(&self) -> Option<Peaks> {
        let both = self.current.zip(self.before);
        both.map(|(one, other)| one.or(other)).or(self.current)
    }

    /// Whether it reaches back as far as it can.
    fn is_long(&self) -> bool {
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

        /// With a window that is full.
        fn see(&mut self, bytes: usize) {
            self.see_holding(bytes, self.now);
        }

        fn see_holding(&mut self, bytes: usize, held: usize) {
            self.window.seen(bytes, held);
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
    fn typical_bodies_open_the_whole_window() {
        let mut followed = Followed::new(limit(256, 64 * MIB));
        (0..6).for_each(|_| followed.see(20 * KIB));
        assert_eq!((followed.now, followed.changes), (256, 7));
    }

    #[test]
    fn a_window_that_is_not_filled_stays_small_and_becomes_small() {
        let mut followed = Followed::new(limit(256, 64 * MIB));
        (0..10_000).for_each(|number| followed.see_holding(KIB, number % 10));
        assert_eq!(followed.now, 16);
        (0..10).for_each(|_| followed.see(KIB));
        assert_eq!(followed.now, 256);
        let changes = followed.changes;
        (0..10_000).for_each(|number| followed.see_holding(KIB, number % 11));
        assert_eq!((followed.now, followed.changes), (20, changes + 1));
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
        window.seen(KIB, 256);
        assert_eq!(window.wanted(64, 0), 128);
        assert_eq!(window.wanted(64, 100), 128);
        assert_eq!(window.wanted(64, 192), 64);
        assert_eq!(window.wanted(128, 0), 256);
        assert_eq!(window.wanted(128, 1), 255);
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
            sizes in prop::collection::vec(75..=100_usize, 4000),
            largest in KIB..LARGEST_BODY,
            budget in LARGEST_BODY..256 * MIB,
        ) {
            let mut followed = Followed::new(limit(256, budget));
            let mut settled = 0;
            for (number, percent) in sizes.iter().enumerate() {
                followed.see(largest * percent / 100);
                if number == 1000 {
                    settled = followed.changes;
                }
            }
            prop_assert!(settled <= 9, "{settled} changes");
            prop_assert_eq!(followed.changes, settled);
        }
    }
}
