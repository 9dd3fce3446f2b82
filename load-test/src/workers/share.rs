//! Which part of a run a load generator does.

use std::{iter::StepBy, num::NonZeroU32, ops::Range};

use serde::{Deserialize, Serialize};

use crate::plan::{Load, Plan};

/// Every n-th request of a run, and every n-th stream: number k, k + n, k + 2n, ….
///
/// All shares of a run have the same plan, so each knows the whole schedule and all prompts, and takes its own: together they
/// send what one load generator would, each request once, with the same prompt and (open loop) at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Share {
    number: u32,
    of: NonZeroU32,
}

/// A share as it is written.
#[derive(Serialize, Deserialize)]
struct Parts {
    number: u32,
    of: NonZeroU32,
}

/// There is no such share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("share number {number} of {of}: expected a number below {of}, as they count from 0")]
pub struct NoSuchShare {
    number: u32,
    of: NonZeroU32,
}

/// A run is too small to be shared out so widely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{workers} workers for {found} {what}: expected at least one for each worker")]
pub struct TooManyWorkers {
    workers: NonZeroU32,
    found: u64,
    what: &'static str,
}

impl Share {
    /// The only share of a run on one load generator.
    pub const WHOLE: Self = Self {
        number: 0,
        of: NonZeroU32::MIN,
    };

    /// Share `number` (from 0) of `of`.
    ///
    /// # Errors
    /// There is none with this number.
    pub fn new(number: u32, of: NonZeroU32) -> Result<Self, NoSuchShare> {
        if number < of.get() {
            Ok(Self { number, of })
        } else {
            Err(NoSuchShare { number, of })
        }
    }

    /// All shares of a run.
    pub fn all(of: NonZeroU32) -> impl Iterator<Item = Self> {
        (0..of.get()).map(move |number| Self { number, of })
    }

    /// Its number, from 0.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many shares there are.
    #[must_use]
    pub fn of(self) -> NonZeroU32 {
        self.of
    }

    /// The position in the whole of what is at `own` in this share.
    #[must_use]
    pub fn position(self, own: u64) -> u64 {
        u64::from(self.number) + own * u64::from(self.of.get())
    }

    /// How many of `all` are this share's.
    #[must_use]
    pub fn count(self, all: u64) -> u64 {
        all.saturating_sub(self.number.into())
            .div_ceil(self.of.get().into())
    }

    /// As [`Self::count`], of what is counted in 32 bits.
    #[must_use]
    pub fn count_of_streams(self, all: u32) -> u32 {
        all.saturating_sub(self.number).div_ceil(self.of.get())
    }

    /// What `thread` of `threads` does of this share: positions in the whole of `0..all`, dealt out in turn.
    pub(crate) fn dealt(self, thread: u16, threads: usize, all: u32) -> StepBy<Range<u32>> {
        let first = u64::from(self.number) + u64::from(thread) * u64::from(self.of.get());
        let step = threads.saturating_mul(self.of.get() as usize);
        (u32::try_from(first).unwrap_or(u32::MAX).min(all)..all).step_by(step)
    }

    /// Whether `thread` of `threads` does the request at `position` in the whole.
    pub(crate) fn is_dealt(self, thread: u16, threads: usize, position: u64) -> bool {
        let of = u64::from(self.of.get());
        position % of == u64::from(self.number) && (position / of) % threads as u64 == u64::from(thread)
    }
}

impl From<Share> for Parts {
    fn from(Share { number, of }: Share) -> Self {
        Self { number, of }
    }
}

impl TryFrom<Parts> for Share {
    type Error = NoSuchShare;

    fn try_from(Parts { number, of }: Parts) -> Result<Self, NoSuchShare> {
        Self::new(number, of)
    }
}

/// Makes sure that there is something for each of so many workers: a stream or a place in flight, and a request.
///
/// # Errors
/// Some worker would have nothing to do.
pub fn check(plan: &Plan, workers: NonZeroU32) -> Result<(), TooManyWorkers> {
    let places = match plan.load {
        Load::Closed { .. } => "concurrent requests",
        Load::Open { .. } | Load::Trace { .. } => "requests in flight at most",
    };
    let found = [
        (u64::from(plan.load.most_in_flight()), places),
        (plan.stop.max_requests.unwrap_or(u64::MAX), "requests"),
    ];
    match found.into_iter().find(|(found, _)| *found < workers.get().into()) {
        None => Ok(()),
        Some((found, what)) => Err(TooManyWorkers { workers, found, what }),
    }
}

/// The load of one share as a plan of its own: as many streams, as many requests, the rate's part; to calibrate a client and to
/// show what it does.
///
/// The shares' loads add up to the plan's. The run itself takes the whole plan and the share ([`run_share`](crate::run::run_share)): the
/// n-th arrivals of a process are not that process at an n-th of the rate, and only the whole plan knows the prompts' numbers.
#[must_use]
pub fn slice(plan: &Plan, share: Share) -> Plan {
    let mut plan = plan.clone();
    let part =
        |all: NonZeroU32| NonZeroU32::new(share.count_of_streams(all.get())).unwrap_or(NonZeroU32::MIN);
    match &mut plan.load {
        Load::Closed { concurrency, .. } => *concurrency = part(*concurrency),
        Load::Open {
            rate, max_in_flight, ..
        } => {
            *rate /= f64::from(share.of.get());
            *max_in_flight = part(*max_in_flight);
        }
        Load::Trace { max_in_flight, .. } => *max_in_flight = part(*max_in_flight),
    }
    plan.stop.max_requests = plan.stop.max_requests.map(|max| share.count(max));
    plan.warmup_requests = share.count(plan.warmup_requests);
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
                prop_assert_eq!(own, share.count_of_streams(all));
                prop_assert_eq!(u64::from(own), share.count(all.into()));
                let positions: Vec<u64> = (0..u64::from(own)).map(|own| share.position(own)).collect();
                prop_assert!(positions.iter().all(|position| *position < u64::from(all)));
            }
            prop_assert!(seen.iter().all(|times| *times == 1), "{:?}", seen);
        }

        #[test]
        fn positions_of_all_shares_are_those_of_the_whole(n in 1_u32..9, all in 0_u64..500) {
            let mut positions: Vec<u64> = Share::all(of(n))
                .flat_map(|share| (0..share.count(all)).map(move |own| share.position(own)))
                .collect();
            positions.sort_unstable();
            prop_assert_eq!(positions, (0..all).collect::<Vec<_>>());
        }

        #[test]
        fn slices_add_up_to_the_plan(
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
            let slices: Vec<Plan> = Share::all(of(n)).map(|share| slice(&plan, share)).collect();
            prop_assert_eq!(slices.iter().map(|slice| slice.load.most_in_flight()).sum::<u32>(), streams);
            prop_assert_eq!(slices.iter().map(|slice| slice.stop.max_requests.unwrap()).sum::<u64>(), requests);
            prop_assert_eq!(slices.iter().map(|slice| slice.warmup_requests).sum::<u64>(), warmup);
            let rate: f64 = slices.iter().map(|slice| match slice.load {
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
            "11 workers for 10 concurrent requests: expected at least one for each worker"
        );
        let mut few = plan;
        few.stop.max_requests = Some(2);
        let refused = check(&few, of(3)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "3 workers for 2 requests: expected at least one for each worker"
        );
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        let read = |json: &str| serde_json::from_str::<Share>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"number":1,"of":2}"#), Ok(Share::new(1, of(2)).unwrap()));
        assert!(
            read(r#"{"number":2,"of":2}"#)
                .unwrap_err()
                .contains("expected a number below 2")
        );
    }
}
