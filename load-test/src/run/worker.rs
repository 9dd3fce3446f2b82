use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::TrySendError},
    time::Duration,
};

use llm_client::{Client, Outcome};
use precise_time::MonotonicTime;

use super::{
    Recording, RunError, Shared, Texts,
    cutoff::Cutoff,
    durations::nanos,
    ending,
    listener::Listener,
    measured::{Measured, WorkerFacts},
};
use crate::record::{Class, Finished, RequestRecord};

/// Of so many requests the text is kept in any case, to compare the server's count of tokens with our own.
const COUNTED_SAMPLE: u64 = 1000;

/// One thread's share of a run: its connections, what it measures, and the records that wait for the journal.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u16,
    pub(super) started: MonotonicTime,
    client: Client,
    ramp_end: MonotonicTime,
    send_until: MonotonicTime,
    is_open_loop: bool,
    in_flight: Cutoff,
    resting: Cutoff,
    unreported_chunks: Cell<u64>,
    measured: RefCell<Measured>,
    finished: RefCell<Vec<Finished>>,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u16,
        client: Client,
        started: MonotonicTime,
    ) -> Result<Self, RunError> {
        let ramp_end = started + shared.plan.load.ramp_up();
        Ok(Self {
            number,
            started,
            client,
            ramp_end,
            send_until: started + shared.plan.stop.send_for,
            is_open_loop: shared.plan.load.is_open_loop(),
            shared,
            in_flight: Cutoff::default(),
            resting: Cutoff::default(),
            unreported_chunks: Cell::new(0),
            measured: RefCell::new(Measured::start(ramp_end)?),
            finished: RefCell::default(),
        })
    }

    pub(super) fn recording(&self) -> Recording {
        self.shared.recording
    }

    /// This thread's part of the run's `0..all`.
    pub(super) fn share(&self, all: u32) -> impl ExactSizeIterator<Item = u32> + use<> {
        let Shared { share, threads, .. } = *self.shared;
        share.dealt(self.number, threads, all)
    }

    /// Whether the arrival at this position is this thread's.
    pub(super) fn is_mine(&self, index: u64) -> bool {
        let Shared { share, threads, .. } = *self.shared;
        share.is_dealt(self.number, threads, index)
    }

    /// A closed loop's permission to send: the position of the next request, while there is one and it is time.
    pub(super) fn ticket(&self) -> Option<u64> {
        if self.resting.is_cut() || MonotonicTime::now() >= self.send_until {
            return None;
        }
        let share = self.shared.share;
        let own = self.shared.tickets.fetch_add(1, Relaxed);
        if let Some(max) = self.shared.plan.stop.max_requests {
            let max = share.requests(max);
            if own + 1 >= max {
                self.shared.over.cancel();
            }
            if own >= max {
                return None;
            }
        }
        Some(share.position(own))
    }

    /// Sends a request and follows it to its end, or to the run's; records it in exactly one class. `None`: the run's.
    pub(super) async fn request(
        &self,
        index: u64,
        intended: MonotonicTime,
        listener: &mut Listener,
    ) -> Option<Outcome> {
        let (body, prompt_tokens) = self.shared.request(index);
        listener.begin(index < self.shared.plan.warmup_requests);
        let begun = MonotonicTime::now();
        self.begin(begun);
        // A task may come to its first turn when the drain is over already.
        let sent = (!self.in_flight.is_cut()).then_some(begun);
        let exchange = {
            let exchange = pin!(self.client.exchange(body, listener));
            self.in_flight.until(exchange).await
        };
        let ended = MonotonicTime::now();
        {
            let mut measured = self.measured.borrow_mut();
            measured.occupancy.end(ended);
            if let Some(exchange) = &exchange
                && exchange.first_content.is_some()
            {
                let uncertainty = if intended < self.ramp_end {
                    &mut measured.uncertainty_ramp
                } else {
                    &mut measured.uncertainty_steady
                };
                uncertainty.saturating_record(nanos(exchange.first_content_uncertainty));
            }
        }
        let blank = ending::blank(index, intended, self.number, prompt_tokens);
        let (record, error) = match &exchange {
            Some(exchange) => ending::of_exchange(blank, exchange, ended),
            None => {
                let is_interrupted = self.shared.cancel.is_cancelled();
                ending::of_cancelled(blank, listener.heard(), sent, ended, is_interrupted)
            }
        };
        if self.is_open_loop {
            self.record_late_send(&record, begun);
        }
        let (text, chunk_stamps) = listener.take(self.wants_text(&record));
        self.finish(Finished {
            record,
            error: error.map(|error| self.client.endpoint().without_keys(error)),
            text,
            chunk_stamps,
        });
        exchange.map(|exchange| exchange.outcome)
    }

    /// Records a request that was due and that this process does not send.
    pub(super) fn drop_request(&self, index: u64, intended: MonotonicTime, reason: &str) {
        let (_, prompt_tokens) = self.shared.request(index);
        self.measured.borrow_mut().scheduled += 1;
        self.shared.progress.begun();
        let blank = ending::blank(index, intended, self.number, prompt_tokens);
        self.finish(Finished {
            record: RequestRecord {
                closed: MonotonicTime::now(),
                class: Class::Dropped,
                ..blank
            },
            error: Some(reason.into()),
            text: None,
            chunk_stamps: None,
        });
    }

    /// Rests, unless sending ends before.
    pub(super) async fn rest(&self, wait: Duration) {
        let begun = MonotonicTime::now();
        self.measured.borrow_mut().occupancy.begin_waiting(begun);
        // What cuts the rest short also ends the stream's loop: there are no tickets any more.
        let _ = self.resting.until(pin!(tokio::time::sleep(wait))).await;
        let ended = MonotonicTime::now();
        let mut measured = self.measured.borrow_mut();
        measured.occupancy.end_waiting(ended);
        measured.waits.count += 1;
        measured.waits.total += ended.saturating_since(begun);
    }

    /// A content chunk came at `at`, the one before it at `last`; `None` where the gap between them is not to be counted.
    pub(super) fn chunk(&self, at: MonotonicTime, last: Option<MonotonicTime>) {
        self.unreported_chunks.set(self.unreported_chunks.get() + 1);
        if let Some(last) = last {
            let mut measured = self.measured.borrow_mut();
            let gaps = if at < self.ramp_end {
                &mut measured.icl_ramp
            } else {
                &mut measured.icl_steady
            };
            gaps.saturating_record(nanos(at.saturating_since(last)));
        }
    }

    /// What was due at `due` is done at `now`.
    pub(super) fn loop_was_late(&self, due: MonotonicTime, now: MonotonicTime) {
        self.measured
            .borrow_mut()
            .lag(due)
            .saturating_record(nanos(now.saturating_since(due)));
    }

    /// Nothing is sent from now on; who rests stops resting.
    pub(super) fn end_sending(&self) -> Result<(), RunError> {
        self.resting.cut();
        Ok(self.measured.borrow_mut().sending_ended()?)
    }

    /// What is still in flight is cancelled.
    pub(super) fn end_draining(&self) {
        self.in_flight.cut();
    }

    /// Hands the records to the journal; where it is busy, they stay for the next time.
    pub(super) fn hand_over(&self) -> Result<(), RunError> {
        self.shared.progress.chunks(self.unreported_chunks.take());
        let finished = self.finished.take();
        if finished.is_empty() {
            return Ok(());
        }
        match self.shared.journal.try_send(finished) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(finished)) => {
                self.finished.replace(finished);
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(RunError::Journal),
        }
    }

    /// Hands over what is left, waiting for the journal, and ends.
    pub(super) fn end(self: Rc<Self>) -> Result<WorkerFacts, RunError> {
        self.shared.progress.chunks(self.unreported_chunks.take());
        let finished = self.finished.take();
        // Nobody measures any more: all tasks have ended.
        let measured = self.measured.replace(Measured::start(self.ramp_end)?);
        debug_assert_eq!(
            measured.classes.total(),
            measured.scheduled,
            "a request without a class"
        );
        if !finished.is_empty() {
            self.shared
                .journal
                .send(finished)
                .map_err(|_| RunError::Journal)?;
        }
        Ok(measured.end()?)
    }

    fn begin(&self, now: MonotonicTime) {
        let mut measured = self.measured.borrow_mut();
        measured.scheduled += 1;
        measured.last_begun = Some(now);
        measured.occupancy.begin(now);
        self.shared.progress.begun();
    }

    fn finish(&self, finished: Finished) {
        self.measured.borrow_mut().classes.count(finished.record.class, 1);
        self.shared.progress.ended(&finished.record);
        self.finished.borrow_mut().push(finished);
    }

    fn record_late_send(&self, record: &RequestRecord, begun: MonotonicTime) {
        let sent = match record.connected {
            Some(_) => begun,
            None => record.sent.unwrap_or(begun),
        };
        let late = nanos(sent.saturating_since(record.intended));
        self.measured.borrow_mut().late_sends.saturating_record(late);
    }

    fn wants_text(&self, record: &RequestRecord) -> bool {
        match self.shared.recording.texts {
            Texts::Answers => true,
            Texts::ToCount => {
                let is_uncounted = record.server_output_tokens.is_none() && record.chunks > 0;
                record.index < COUNTED_SAMPLE || is_uncounted
            }
        }
    }
}
