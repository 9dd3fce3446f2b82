//! Which faults a run injects, and which of them the machine must be able to inject.

use std::str::FromStr;

use anyhow::Context as _;

use crate::{fault::Fault, faults};

/// Fault numbers from the command line: `7` or `12-14`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    first: u8,
    last: u8,
}

impl Range {
    fn contains(self, number: u8) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

impl FromStr for Range {
    type Err = anyhow::Error;

    fn from_str(raw: &str) -> anyhow::Result<Self> {
        let (first, last) = raw.split_once('-').unwrap_or((raw, raw));
        let number = |raw: &str| {
            raw.parse()
                .with_context(|| format!("found {raw:?}, expected a fault's number or a range such as 12-14"))
        };
        Ok(Self {
            first: number(first)?,
            last: number(last)?,
        })
    }
}

/// The selected faults, in the order of [`faults::ALL`]. No range selects all.
pub(crate) fn chosen(only: &[Range], quick: bool) -> Vec<&'static Fault> {
    faults::ALL
        .iter()
        .copied()
        .flatten()
        .filter(|fault| fault.quick || !quick)
        .filter(|fault| only.is_empty() || only.iter().any(|range| range.contains(fault.number)))
        .collect()
}

/// Which faults the machine must be able to inject.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Required {
    /// Fails where this machine cannot inject a fault, instead of only reporting it
    #[arg(long)]
    require_all: bool,
    /// Faults that may be missing all the same, by number
    #[arg(long, value_name = "FAULTS", value_delimiter = ',', requires = "require_all")]
    excuse: Vec<Range>,
}

impl Required {
    pub(crate) fn includes(&self, number: u8) -> bool {
        self.require_all && !self.excuse.iter().any(|range| range.contains(number))
    }
}
