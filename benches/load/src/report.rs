//! A table of the results: the median and the range of each figure, for both clients, with the goal.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

use crate::{
    client_run::ClientKind,
    figures::Figures,
    scenario::{Aim, OF_POSSIBLE, READ_ERROR_P99_S, REQUESTS_PER_S, RESIDENT_MIB, Scenario, TOKENS_PER_S},
};

/// All rounds of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioResult {
    pub scenario: Scenario,
    pub rounds: Vec<Figures>,
}

/// A row of the table: a figure and its goal.
struct Row {
    title: &'static str,
    of: fn(&Figures) -> Option<f64>,
    goal: Option<Goal>,
}

#[derive(Clone, Copy)]
enum Goal {
    AtLeast(f64),
    Below(f64),
}

const fn row(title: &'static str, of: fn(&Figures) -> Option<f64>) -> Row {
    Row {
        title,
        of,
        goal: None,
    }
}

impl Row {
    const fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }
}

/// The median and the range of a figure over the rounds.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Goal {
    fn is_met_by(self, value: f64) -> bool {
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

fn rows(aim: Aim) -> Vec<Row> {
    use Goal::{AtLeast, Below};
    let mut rows = match aim {
        Aim::Faithful | Aim::Overloaded => faithful(),
        Aim::Requests => vec![
            row("requests/s", |f| Some(f.requests_per_s)).goal(AtLeast(REQUESTS_PER_S)),
            row("requests per CPU second", |f| {
                f.cpu_us_per_request.map(|us| 1e6 / us)
            })
            .goal(AtLeast(REQUESTS_PER_S)),
            row("CPU, µs a request", |f| f.cpu_us_per_request),
        ],
        Aim::Tokens => vec![
            row("tokens/s", |f| Some(f.tokens_per_s)).goal(AtLeast(TOKENS_PER_S)),
            row("tokens per CPU second", |f| f.cpu_us_per_token.map(|us| 1e6 / us))
                .goal(AtLeast(TOKENS_PER_S)),
            row("CPU, µs a token", |f| f.cpu_us_per_token),
        ],
        Aim::Memory => vec![row("resident, MiB", |f| Some(f.resident_mib)).goal(Below(RESIDENT_MIB))],
    };
    if aim == Aim::Overloaded {
        rows.iter_mut().for_each(|row| row.goal = None);
    }
    rows.extend([
        row("CPU share of the client, %", |f| Some(f.cpu_share * 100.0)),
        row("waited for its core, %", |f| Some(f.waited_share * 100.0)),
        row("failed requests", |f| Some(as_number(f.failed))).goal(Below(1.0)),
        row("load average", |f| Some(f.load_average)),
    ]);
    rows
}

fn faithful() -> Vec<Row> {
    use Goal::{AtLeast, Below};
    vec![
        row("read error p50, ms", |f| Some(f.read_error_s?.p50 * 1e3)),
        row("read error p99, ms", |f| Some(f.read_error_s?.p99 * 1e3)).goal(Below(READ_ERROR_P99_S * 1e3)),
        row("read error max, ms", |f| Some(f.read_error_s?.max * 1e3)),
        row("TTFT − nominal p50, ms", |f| Some(f.ttft_error_s?.p50 * 1e3)),
        row("TTFT − nominal p99, ms", |f| Some(f.ttft_error_s?.p99 * 1e3)),
        row("TTFT − nominal max, ms", |f| Some(f.ttft_error_s?.max * 1e3)),
        row("server's lateness p99, ms", |f| {
            Some(f.server_lateness_p99_s? * 1e3)
        }),
        row("loop lag p99, ms", |f| {
            Some(f.self_report.as_ref()?.loop_lag_p99_s? * 1e3)
        }),
        row("stamp uncertainty p99, ms", |f| {
            Some(f.self_report.as_ref()?.stamp_uncertainty_p99_s? * 1e3)
        }),
        row("throughput, % of possible", |f| Some(f.of_possible? * 100.0)).goal(AtLeast(OF_POSSIBLE * 100.0)),
        row("tokens/s", |f| Some(f.tokens_per_s)),
        row("CPU, µs a token", |f| f.cpu_us_per_token),
        row("resident, MiB", |f| Some(f.resident_mib)),
    ]
}

impl ScenarioResult {
    /// The results of this scenario as a table.
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
        for row in rows(self.scenario.aim) {
            table.add_row(self.cells(&row));
        }
        if self.is_judged() {
            table.add_row(self.verdicts());
        }
        table
    }

    fn cells(&self, row: &Row) -> Vec<Cell> {
        let ours = self.spread(ClientKind::LlmBench, row);
        let naive = self.spread(ClientKind::Naive, row);
        let ratio = ours.zip(naive).filter(|(_, naive)| naive.median != 0.0);
        let held = ours.zip(row.goal).map(|(ours, goal)| goal.is_met_by(ours.median));
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        vec![
            Cell::new(row.title),
            right(ours.map_or_else(String::new, Spread::text)),
            right(naive.map_or_else(String::new, Spread::text)),
            right(ratio.map_or_else(String::new, |(ours, naive)| {
                format!("{:.2}", ours.median / naive.median)
            })),
            right(row.goal.map_or_else(String::new, Goal::text)),
            Cell::new(held.map_or("", yes_or_no)),
        ]
    }

    /// The row with the number of rounds that the client reported as valid.
    fn verdicts(&self) -> Vec<Cell> {
        let reports: Vec<_> = self
            .rounds
            .iter()
            .filter_map(|round| round.self_report.as_ref())
            .collect();
        let valid = reports.iter().filter(|report| report.is_valid).count();
        let (wanted, held) = match self.scenario.aim {
            Aim::Overloaded => ("never", valid == 0),
            _ => ("always", valid == reports.len()),
        };
        let text = format!("{valid} of {} rounds", reports.len());
        ["VALID", &text, "", "", wanted, yes_or_no(held)]
            .into_iter()
            .map(Cell::new)
            .collect()
    }

    /// Whether the client's verdict is shown. In scenarios that use up a core, every round is invalid by intention.
    fn is_judged(&self) -> bool {
        matches!(self.scenario.aim, Aim::Faithful | Aim::Overloaded)
    }

    /// The reasons why rounds were invalid.
    pub(crate) fn reasons(&self) -> Vec<&str> {
        let reports = self.rounds.iter().filter_map(|round| round.self_report.as_ref());
        let reports = reports.filter(|_| self.is_judged());
        reports
            .flat_map(|report| report.reasons.iter().map(String::as_str))
            .collect()
    }

    fn spread(&self, client: ClientKind, row: &Row) -> Option<Spread> {
        let rounds = self.rounds.iter().filter(|round| round.client == client);
        let mut values: Vec<f64> = rounds.filter_map(row.of).collect();
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

/// `value` with about three digits.
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
