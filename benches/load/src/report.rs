//! Rounds as a table: the median and the range of each figure, beside the peer's and what is wanted.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

use crate::{
    client::Client,
    figures::Figures,
    scenario::{Aim, OF_POSSIBLE, READ_ERROR_P99_S, REQUESTS_PER_S, RESIDENT_MIB, Scenario, TOKENS_PER_S},
};

/// All rounds of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub scenario: Scenario,
    pub rounds: Vec<Figures>,
}

/// A line of the table: a figure, and what is wanted of it.
struct Line {
    title: &'static str,
    of: fn(&Figures) -> Option<f64>,
    wanted: Option<Wanted>,
}

#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    Below(f64),
}

const fn line(title: &'static str, of: fn(&Figures) -> Option<f64>) -> Line {
    Line {
        title,
        of,
        wanted: None,
    }
}

impl Line {
    const fn wanted(mut self, wanted: Wanted) -> Self {
        self.wanted = Some(wanted);
        self
    }
}

/// The median of a figure over the rounds, and its range.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Wanted {
    fn is_held_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::Below(limit) => value < limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(limit) => format!("≥ {}", number(limit)),
            Self::Below(limit) => format!("< {}", number(limit)),
        }
    }
}

fn lines(aim: Aim) -> Vec<Line> {
    use Wanted::{AtLeast, Below};
    let mut lines = match aim {
        Aim::Faithful | Aim::Overloaded => faithful(),
        Aim::Requests => vec![
            line("requests/s", |f| Some(f.requests_per_s)).wanted(AtLeast(REQUESTS_PER_S)),
            line("requests per CPU second", |f| {
                f.cpu_us_per_request.map(|us| 1e6 / us)
            })
            .wanted(AtLeast(REQUESTS_PER_S)),
            line("CPU, µs a request", |f| f.cpu_us_per_request),
        ],
        Aim::Tokens => vec![
            line("tokens/s", |f| Some(f.tokens_per_s)).wanted(AtLeast(TOKENS_PER_S)),
            line("tokens per CPU second", |f| f.cpu_us_per_token.map(|us| 1e6 / us))
                .wanted(AtLeast(TOKENS_PER_S)),
            line("CPU, µs a token", |f| f.cpu_us_per_token),
        ],
        Aim::Memory => vec![line("resident, MiB", |f| Some(f.resident_mib)).wanted(Below(RESIDENT_MIB))],
    };
    if aim == Aim::Overloaded {
        lines.iter_mut().for_each(|line| line.wanted = None);
    }
    lines.extend([
        line("CPU share of the client, %", |f| Some(f.cpu_share * 100.0)),
        line("waited for its core, %", |f| Some(f.waited_share * 100.0)),
        line("failed requests", |f| Some(as_number(f.failed))).wanted(Below(1.0)),
        line("load average", |f| Some(f.load_average)),
    ]);
    lines
}

fn faithful() -> Vec<Line> {
    use Wanted::{AtLeast, Below};
    vec![
        line("read error p50, ms", |f| Some(f.read_error_s?.p50 * 1e3)),
        line("read error p99, ms", |f| Some(f.read_error_s?.p99 * 1e3)).wanted(Below(READ_ERROR_P99_S * 1e3)),
        line("read error max, ms", |f| Some(f.read_error_s?.max * 1e3)),
        line("TTFT − nominal p50, ms", |f| Some(f.ttft_error_s?.p50 * 1e3)),
        line("TTFT − nominal p99, ms", |f| Some(f.ttft_error_s?.p99 * 1e3)),
        line("TTFT − nominal max, ms", |f| Some(f.ttft_error_s?.max * 1e3)),
        line("server's lateness p99, ms", |f| {
            Some(f.server_lateness_p99_s? * 1e3)
        }),
        line("loop lag p99, ms", |f| {
            Some(f.says.as_ref()?.loop_lag_p99_s? * 1e3)
        }),
        line("stamp uncertainty p99, ms", |f| {
            Some(f.says.as_ref()?.stamp_uncertainty_p99_s? * 1e3)
        }),
        line("throughput, % of possible", |f| Some(f.of_possible? * 100.0))
            .wanted(AtLeast(OF_POSSIBLE * 100.0)),
        line("tokens/s", |f| Some(f.tokens_per_s)),
        line("CPU, µs a token", |f| f.cpu_us_per_token),
        line("resident, MiB", |f| Some(f.resident_mib)),
    ]
}

impl Measured {
    /// The table of this scenario.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header([
            self.scenario.name.as_str(),
            "llm-bench",
            "naive loop",
            "ratio",
            "wanted",
            "held",
        ]);
        for line in lines(self.scenario.aim) {
            table.add_row(self.row(&line));
        }
        if self.is_judged() {
            table.add_row(self.verdicts());
        }
        table
    }

    fn row(&self, line: &Line) -> Vec<Cell> {
        let ours = self.spread(Client::LlmBench, line);
        let naive = self.spread(Client::Naive, line);
        let ratio = ours.zip(naive).filter(|(_, naive)| naive.median != 0.0);
        let held = ours
            .zip(line.wanted)
            .map(|(ours, wanted)| wanted.is_held_by(ours.median));
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        vec![
            Cell::new(line.title),
            right(ours.map_or_else(String::new, Spread::text)),
            right(naive.map_or_else(String::new, Spread::text)),
            right(ratio.map_or_else(String::new, |(ours, naive)| {
                format!("{:.2}", ours.median / naive.median)
            })),
            right(line.wanted.map_or_else(String::new, Wanted::text)),
            Cell::new(held.map_or("", yes_or_no)),
        ]
    }

    /// How often the client called its own figures valid.
    fn verdicts(&self) -> Vec<Cell> {
        let said: Vec<_> = self
            .rounds
            .iter()
            .filter_map(|round| round.says.as_ref())
            .collect();
        let valid = said.iter().filter(|says| says.is_valid).count();
        let (wanted, held) = match self.scenario.aim {
            Aim::Overloaded => ("never", valid == 0),
            _ => ("always", valid == said.len()),
        };
        let text = format!("{valid} of {} rounds", said.len());
        ["VALID", &text, "", "", wanted, yes_or_no(held)]
            .into_iter()
            .map(Cell::new)
            .collect()
    }

    /// Where a core is to be used up, every round is invalid, and means to be.
    fn is_judged(&self) -> bool {
        matches!(self.scenario.aim, Aim::Faithful | Aim::Overloaded)
    }

    /// Why rounds were invalid.
    pub(crate) fn reasons(&self) -> Vec<&str> {
        let said = self.rounds.iter().filter_map(|round| round.says.as_ref());
        let said = said.filter(|_| self.is_judged());
        said.flat_map(|says| says.reasons.iter().map(String::as_str))
            .collect()
    }

    fn spread(&self, client: Client, line: &Line) -> Option<Spread> {
        let rounds = self.rounds.iter().filter(|round| round.client == client);
        let mut values: Vec<f64> = rounds.filter_map(line.of).collect();
        values.sort_unstable_by(f64::total_cmp);
        Some(Spread {
            median: *values.get(values.len() / 2)?,
            least: *values.first()?,
            most: *values.last()?,
        })
    }
}

impl Spread {
    fn text(self) -> String {
        format!(
            "{} ({}–{})",
            number(self.median),
            number(self.least),
            number(self.most)
        )
    }
}

fn yes_or_no(held: bool) -> &'static str {
    if held { "yes" } else { "NO" }
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{value:.2}"),
        ..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of requests is far less than 2^53"
)]
fn as_number(count: usize) -> f64 {
    count as f64
}
