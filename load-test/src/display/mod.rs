//! The live display of a run, on standard error.
//!
//! A thread of its own reads [`Progress`] four times a second: the worker threads neither know of it nor wait for it. Where
//! standard error is a terminal it is a bar and a line of figures; elsewhere a line every five seconds, and one at the end.

mod text;

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use precise_time::MonotonicTime;

use crate::run::{Progress, ProgressSnapshot};
use text::{ProgressState, figures, line, remaining};

const POLL: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Number of polls that rates are computed over.
const RATE_POLLS: usize = 20;

/// When a run will be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Number of requests after which it is over.
    pub requests: Option<u64>,
    /// Nothing is sent after that time.
    pub send_for: Duration,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A progress bar and figures, updated in place.
    Bar,
    /// A new line every few seconds.
    Lines,
}

impl Style {
    /// A bar where `output` is a terminal, lines in a file or a pipe.
    #[must_use]
    pub fn of(output: &impl IsTerminal) -> Self {
        if output.is_terminal() {
            Self::Bar
        } else {
            Self::Lines
        }
    }
}

/// The live display of one run.
#[derive(Debug)]
pub struct Display {
    /// Dropped to end the thread.
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Display {
    /// Shows `progress` on standard error until [`Self::finish`].
    ///
    /// # Errors
    ///
    /// Where no thread can be started.
    pub fn start(progress: Arc<Progress>, target: Target, style: Style) -> io::Result<Self> {
        match style {
            Style::Bar => Self::on(progress, target, Bar::new(target)),
            Style::Lines => Self::on(progress, target, Lines::new(io::stderr())),
        }
    }

    fn on(progress: Arc<Progress>, target: Target, mut renderer: impl Renderer) -> io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let mut meter = RateMeter::new(target);
        let thread = thread::Builder::new().name("display".to_owned()).spawn(move || {
            while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                renderer.show(&meter.at(MonotonicTime::now(), progress.snapshot()));
            }
            renderer.end(&meter.at(MonotonicTime::now(), progress.snapshot()));
        })?;
        Ok(Self { stop, thread })
    }

    /// Shows the last state and ends. Afterwards standard error can be used for other output.
    pub fn finish(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            // The run goes on without its display.
            tracing::warn!("the display of the run's progress ended early");
        }
    }
}

/// Computes rates from snapshots.
struct RateMeter {
    target: Target,
    started: MonotonicTime,
    /// Time, requests ended and chunks of the latest polls.
    polls: VecDeque<(MonotonicTime, u64, u64)>,
}

impl RateMeter {
    fn new(target: Target) -> Self {
        let started = MonotonicTime::now();
        Self {
            target,
            started,
            polls: VecDeque::from([(started, 0, 0)]),
        }
    }

    fn at(&mut self, now: MonotonicTime, snapshot: ProgressSnapshot) -> ProgressState {
        let ended = snapshot.classes.total();
        let (then, ended_then, chunks_then) = self.polls.front().copied().unwrap_or((self.started, 0, 0));
        let passed = now.saturating_since(then).as_secs_f64();
        let rate = |now: u64, then: u64| {
            if passed > 0.0 {
                now.saturating_sub(then) as f64 / passed
            } else {
                0.0
            }
        };
        let state = ProgressState {
            requests_per_s: rate(ended, ended_then),
            chunks_per_s: rate(snapshot.chunks, chunks_then),
            elapsed: now.saturating_since(self.started),
            target: self.target,
            snapshot,
        };
        self.polls.push_back((now, ended, state.snapshot.chunks));
        if self.polls.len() > RATE_POLLS {
            self.polls.pop_front();
        }
        state
    }
}

/// Shows the progress.
trait Renderer: Send + 'static {
    fn show(&mut self, state: &ProgressState);
    fn end(&mut self, state: &ProgressState);
}

/// A progress bar and a line of figures on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(target: Target) -> Self {
        let length = target.requests.unwrap_or_else(|| whole_millis(target.send_for));
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        // With an invalid template, indicatif's own style stays.
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {prefix}\n{wide_msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Renderer for Bar {
    fn show(&mut self, state: &ProgressState) {
        let done = match state.target.requests {
            Some(_) => state.snapshot.classes.total(),
            None => whole_millis(state.elapsed.min(state.target.send_for)),
        };
        self.0.set_position(done);
        self.0.set_prefix(remaining(state));
        self.0.set_message(figures(state));
    }

    fn end(&mut self, state: &ProgressState) {
        self.show(state);
        self.0.finish_and_clear();
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A new line every few seconds.
struct Lines<W> {
    output: W,
    next: Duration,
}

impl<W: Write> Lines<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            next: LINE_EVERY,
        }
    }

    fn write(&mut self, state: &ProgressState) {
        // A closed standard error must not stop the run.
        let _ = writeln!(self.output, "{}", line(state));
    }
}

impl<W: Write + Send + 'static> Renderer for Lines<W> {
    fn show(&mut self, state: &ProgressState) {
        if state.elapsed >= self.next {
            self.write(state);
            self.next = state.elapsed + LINE_EVERY;
        }
    }

    fn end(&mut self, state: &ProgressState) {
        self.write(state);
    }
}

#[cfg(test)]
mod tests;
