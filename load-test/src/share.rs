//! A run that several processes carry out, each on its own: which of its requests and streams are whose.

use std::{fmt, iter::StepBy, num::NonZeroU32, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::plan::{Load, Plan};

/// Every `count`-th request of a run, and every `count`-th stream: numbers `index`, `index + count`, `index + 2·count`, ….
///
/// All shares of a run have the same plan, so each knows the whole schedule and all prompts, and takes its own: together they
/// send what one process would, each request once, with the same prompt and (open loop) at the same time.
///
/// Written as `index/count`, such as `0/3`, `1/3` and `2/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share {
    index: u32,
    count: NonZeroU32,
}

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected INDEX/COUNT with an index from 0 to COUNT - 1, such as 0/3, 1/3 and 2/3")]
pub struct NoSuchShare;

/// A run is too small for so many shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{shares} shares of {found} {what}: expected at least one for each share")]
pub struct TooManyShares {
    shares: NonZeroU32,
    found: u64,
    what: &'static str,
}

impl Share {
    /// The only share of a run of one process.
    pub const WHOLE: Self = Self {
        index: 0,
        count: NonZeroU32::MIN,
    };

    /// All shares of a run that has `count` of them.
    pub fn all(count: NonZeroU32) -> impl Iterator<Item = Self> {
        (0..count.get()).map(move |index| Self { index, count })
    }

    /// How many shares the run has.
    #[must_use]
    pub fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The position in the whole schedule of what is at `own` in this share.
    #[must_use]
    pub fn position(self, own: u64) -> u64 {
        u64::from(self.index) + own * u64::from(self.count.get())
    }

    /// How many of the run's `all` requests are this share's.
    #[must_use]
    pub fn requests(self, all: u64) -> u64 {
        all.saturating_sub(self.index.into())
            .div_ceil(self.count.get().into())
    }

    /// How many of the run's `all` streams are this share's.
    #[must_use]
    pub fn streams(self, all: u32) -> u32 {
        all.saturating_sub(self.index).div_ceil(self.count.get())
    }

    /// What `thread` of `threads` does of this share: positions in the whole of `0..all`, dealt out in turn.
    pub(crate) fn dealt(self, thread: u16, threads: usize, all: u32) -> StepBy<Range<u32>> {
        let first = u64::from(self.index) + u64::from(thread) * u64::from(self.count.get());
        let step = threads.saturating_mul(self.count.get() as usize);
        (u32::try_from(first).unwrap_or(u32::MAX).min(all)..all).step_by(step)
    }

    /// Whether `thread` of `threads` does the request at `position` in the whole.
    pub(crate) fn is_dealt(self, thread: u16, threads: usize, position: u64) -> bool {
        let count = u64::from(self.count.get());
        position % count == u64::from(self.index) && (position / count) % threads as u64 == u64::from(thread)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Share {
    type Err = NoSuchShare;

    fn from_str(raw: &str) -> Result<Self, NoSuchShare> {
        let (index, count) = raw.split_once('/').ok_or(NoSuchShare)?;
        let (Ok(index), Ok(count)) = (index.parse(), count.parse::<NonZeroU32>()) else {
            return Err(NoSuchShare);
        };
        (index < count.get())
            .then_some(Self { index, count })
            .ok_or(NoSuchShare)
    }
}

impl TryFrom<String> for Share {
    type Error = NoSuchShare;

    fn try_from(raw: String) -> Result<Self, NoSuchShare> {
        raw.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

/// Makes sure that each of so many shares has something to do: a stream or a request in flight, and a request.
///
/// # Errors
/// Some share would have nothing to do.
pub fn check(plan: &Plan, shares: NonZeroU32) -> Result<(), TooManyShares> {
    let most_in_flight = match plan.load {
        Load::Closed { .. } => "concurrent requests",
        Load::Open { .. } | Load::Trace { .. } => "requests in flight at most",
    };
    let found = [
        (u64::from(plan.load.most_in_flight()), most_in_flight),
        (plan.stop.max_requests.unwrap_or(u64::MAX), "requests"),
    ];
    match found.into_iter().find(|(found, _)| *found < shares.get().into()) {
        None => Ok(()),
        Some((found, what)) => Err(TooManyShares { shares, found, what }),
    }
}

/// A plan with the load of one share alone: its streams, its requests, its part of the rate; to calibrate a client and to show
/// how far it is.
///
/// The run itself takes the whole plan and the share ([`run_share`](crate::run::run_share)): the n-th arrivals of a process are
/// not that process at an n-th of the rate, and only the whole plan knows the prompts' numbers.
#[must_use]
pub fn load_of(plan: &Plan, share: Share) -> Plan {
    let mut plan = plan.clone();
    let part = |all: NonZeroU32| NonZeroU32::new(share.streams(all.get())).unwrap_or(NonZeroU32::MIN);
    match &mut plan.load {
        Load::Closed { concurrency, .. } => *concurrency = part(*concurrency),
        Load::Open {
            rate, max_in_flight, ..
        } => {
            *rate /= f64::from(share.count.get());
            *max_in_flight = part(*max_in_flight);
        }
        Load::Trace { max_in_flight, .. } => *max_in_flight = part(*max_in_flight),
    }
    plan.stop.max_requests = plan.stop.max_requests.map(|max| share.requests(max));
    plan.warmup_requests = share.requests(plan.warmup_requests);
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::fixtures;

    fn of(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    proptest! {
        #[test]
        fn each_position_is_one_shares_and_one_threads(n in 1_u32..9, threads in 1_usize..5, all in 0_u32..500) {
            let mut seen = vec![0; all as usize];
            for share in Share::all(of(n)) {
                let mut own = 0;
                for thread in 0..u16::try_from(threads).unwrap() {
                    for position in share.dealt(thread, threads, all) {
                        seen[position as usize] += 1;
                        own += 1;
                        prop_assert!(share.is_dealt(thread, threads, position.into()));
                    }
                }
                prop_assert_eq!(own, share.streams(all));
                prop_assert_eq!(u64::from(own), share.requests(all.into()));
                let positions: Vec<u64> = (0..u64::from(own)).map(|own| share.position(own)).collect();
                prop_assert!(positions.iter().all(|position| *position < u64::from(all)));
            }
            prop_assert!(seen.iter().all(|times| *times == 1), "{:?}", seen);
        }

        #[test]
        fn positions_of_all_shares_are_those_of_the_whole(n in 1_u32..9, all in 0_u64..500) {
            let mut positions: Vec<u64> = Share::all(of(n))
                .flat_map(|share| (0..share.requests(all)).map(move |own| share.position(own)))
                .collect();
            positions.sort_unstable();
            prop_assert_eq!(positions, (0..all).collect::<Vec<_>>());
        }

        #[test]
        fn loads_of_all_shares_add_up_to_the_plans(
            n in 1_u32..9, streams in 9_u32..1000, requests in 9_u64..100_000, warmup in 0_u64..50, is_open: bool,
        ) {
            let mut plan = fixtures::plan();
            plan.stop.max_requests = Some(requests);
            plan.warmup_requests = warmup;
            plan.load = if is_open {
                let gamma = crate::plan::Arrival::Poisson;
                Load::Open { rate: 120.0, arrival: gamma, ramp_up: plan.load.ramp_up(), max_in_flight: of(streams) }
            } else {
                Load::Closed { concurrency: of(streams), ramp_up: plan.load.ramp_up() }
            };
            check(&plan, of(n)).unwrap();
            let loads: Vec<Plan> = Share::all(of(n)).map(|share| load_of(&plan, share)).collect();
            prop_assert_eq!(loads.iter().map(|plan| plan.load.most_in_flight()).sum::<u32>(), streams);
            prop_assert_eq!(loads.iter().map(|plan| plan.stop.max_requests.unwrap()).sum::<u64>(), requests);
            prop_assert_eq!(loads.iter().map(|plan| plan.warmup_requests).sum::<u64>(), warmup);
            let rate: f64 = loads.iter().map(|plan| match plan.load {
                Load::Open { rate, .. } => rate,
                _ => 120.0 / f64::from(n),
            }).sum();
            prop_assert!((rate - 120.0).abs() < 1e-9);
        }
    }

    #[test]
    fn nobody_is_left_without_work() {
        let plan = fixtures::plan();
        assert_eq!(check(&plan, of(10)), Ok(()));
        let refused = check(&plan, of(11)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "11 shares of 10 concurrent requests: expected at least one for each share"
        );
        let mut few = plan;
        few.stop.max_requests = Some(2);
        let refused = check(&few, of(3)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "3 shares of 2 requests: expected at least one for each share"
        );
    }

    #[test]
    fn shares_are_read_as_they_are_written() {
        for share in Share::all(of(3)) {
            assert_eq!(share.to_string().parse(), Ok(share));
            let json = serde_json::to_string(&share).unwrap();
            assert_eq!(serde_json::from_str::<Share>(&json).unwrap(), share);
        }
        for raw in [
            "3/3",
            "0/0",
            "-1/3",
            "1",
            "1/",
            "/3",
            "a/b",
            "0/3/1",
            "",
            "0/4294967296",
        ] {
            assert_eq!(raw.parse::<Share>(), Err(NoSuchShare), "{raw}");
        }
    }
}
