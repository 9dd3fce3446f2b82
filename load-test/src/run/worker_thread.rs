use std::{
    cell::RefCell,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::TrySendError},
    time::Duration,
};

use llm_client::{Client, Outcome};
use precise_time::MonotonicTime;

use super::{
    RunError, Shared, Texts,
    local_cancellation::LocalCancellation,
    request_record,
    response_observer::{KeptContent, ResponseObserver},
    thread_measurements::{ThreadMeasurements, ThreadResult},
};
use crate::{
    histograms::nanos,
    record::{Class, FinishedRequest, RequestRecord},
};

/// The texts of the first requests are always kept, to compare the server's count of tokens with our own.
const COUNTED_SAMPLE: u64 = 1000;

/// The state of one worker thread: its connections, what it measures, and the records that wait for the journal.
pub(super) struct WorkerThread {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u16,
    pub(super) started: MonotonicTime,
    client: Client,
    ramp_end: MonotonicTime,
    send_until: MonotonicTime,
    is_open_loop: bool,
    cancel_requests: LocalCancellation,
    cancel_pauses: LocalCancellation,
    measurements: Rc<RefCell<ThreadMeasurements>>,
    finished: RefCell<Vec<FinishedRequest>>,
}

impl WorkerThread {
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
            cancel_requests: LocalCancellation::default(),
            cancel_pauses: LocalCancellation::default(),
            measurements: Rc::new(RefCell::new(ThreadMeasurements::start(ramp_end)?)),
            finished: RefCell::default(),
        })
    }

    pub(super) fn observer(&self) -> ResponseObserver {
        ResponseObserver::new(Rc::clone(&self.measurements), self.shared.recording)
    }

    /// The numbers of `0..all` that are this thread's.
    pub(super) fn share(&self, all: u32) -> impl ExactSizeIterator<Item = u32> + use<> {
        let Shared { share, threads, .. } = *self.shared;
        share.dealt(self.number, threads, all)
    }

    /// Whether the arrival at this position is this thread's.
    pub(super) fn is_mine(&self, index: u64) -> bool {
        let Shared { share, threads, .. } = *self.shared;
        share.is_dealt(self.number, threads, index)
    }

    /// The index of a closed loop's next request; `None` where no further request is to be sent.
    pub(super) fn next_index(&self) -> Option<u64> {
        if self.cancel_pauses.is_cancelled() || MonotonicTime::now() >= self.send_until {
            return None;
        }
        let share = self.shared.share;
        let own = self.shared.next_request.fetch_add(1, Relaxed);
        if let Some(max) = self.shared.plan.stop.max_requests {
            let max = share.requests(max);
            if own + 1 >= max {
                self.shared.all_begun.cancel();
            }
            if own >= max {
                return None;
            }
        }
        Some(share.position(own))
    }

    /// Sends a request, follows it to its end and records it in exactly one class. `None` where the end of the run cancelled it.
    pub(super) async fn request(
        &self,
        index: u64,
        intended: MonotonicTime,
        observer: &mut ResponseObserver,
    ) -> Option<Outcome> {
        let (body, prompt_tokens) = self.shared.request(index);
        observer.begin(index < self.shared.plan.warmup_requests);
        let begun = MonotonicTime::now();
        self.begin(begun);
        // A task may be polled for the first time when the drain is over already.
        let sent = (!self.cancel_requests.is_cancelled()).then_some(begun);
        let exchange = {
            let exchange = pin!(self.client.exchange(body, observer));
            self.cancel_requests.unless_cancelled(exchange).await
        };
        let ended = MonotonicTime::now();
        {
            let mut measurements = self.measurements.borrow_mut();
            measurements.streams.end_request(ended);
            if let Some(exchange) = &exchange
                && exchange.first_content.is_some()
            {
                let uncertainty = exchange.first_content_uncertainty;
                measurements.record_first_content_uncertainty(intended, uncertainty);
            }
        }
        let unsent = request_record::unsent(index, intended, self.number, prompt_tokens);
        let (record, error) = match &exchange {
            Some(exchange) => request_record::of_exchange(unsent, exchange, ended),
            None => {
                let is_interrupted = self.shared.cancel.is_cancelled();
                request_record::of_cancelled(unsent, observer.received(), sent, ended, is_interrupted)
            }
        };
        if self.is_open_loop {
            self.record_late_send(&record, begun);
        }
        let KeptContent {
            text,
            chunk_timestamps,
        } = observer.take(self.wants_text(&record));
        self.finish(FinishedRequest {
            record,
            error: error.map(|error| self.client.endpoint().without_keys(error)),
            text,
            chunk_timestamps,
        });
        exchange.map(|exchange| exchange.outcome)
    }

    /// Records a request that was due and that this process does not send.
    pub(super) fn drop_request(&self, index: u64, intended: MonotonicTime, reason: &str) {
        let (_, prompt_tokens) = self.shared.request(index);
        self.measurements.borrow_mut().scheduled += 1;
        self.shared.progress.begun();
        let unsent = request_record::unsent(index, intended, self.number, prompt_tokens);
        self.finish(FinishedRequest {
            record: RequestRecord {
                closed: MonotonicTime::now(),
                class: Class::Dropped,
                ..unsent
            },
            error: Some(reason.into()),
            text: None,
            chunk_timestamps: None,
        });
    }

    /// Pauses a stream after a failure; the end of sending ends the pause.
    pub(super) async fn pause(&self, length: Duration) {
        let begun = MonotonicTime::now();
        self.measurements.borrow_mut().streams.begin_pause(begun);
        // Where the pause is cancelled, the stream's loop ends too: there is no next index any more.
        let _ = self
            .cancel_pauses
            .unless_cancelled(pin!(tokio::time::sleep(length)))
            .await;
        let ended = MonotonicTime::now();
        let mut measurements = self.measurements.borrow_mut();
        measurements.streams.end_pause(ended);
        measurements.backoff_waits.count += 1;
        measurements.backoff_waits.total += ended.saturating_since(begun);
    }

    /// The loop came at `now` to what was due at `due`.
    pub(super) fn record_loop_lag(&self, due: MonotonicTime, now: MonotonicTime) {
        self.measurements.borrow_mut().record_loop_lag(due, now);
    }

    /// Nothing is sent from now on, and all pauses end.
    pub(super) fn end_sending(&self) -> Result<(), RunError> {
        self.cancel_pauses.cancel();
        Ok(self.measurements.borrow_mut().sending_ended()?)
    }

    /// Cancels the requests that are still in flight.
    pub(super) fn end_draining(&self) {
        self.cancel_requests.cancel();
    }

    /// Hands the records to the journal; where its channel is full, they stay until the next call.
    pub(super) fn hand_over(&self) -> Result<(), RunError> {
        self.report_chunks();
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

    /// Hands over the last records, waiting for the journal, and ends. All tasks of the thread have ended before.
    pub(super) fn end(self: Rc<Self>) -> Result<ThreadResult, RunError> {
        self.report_chunks();
        let finished = self.finished.take();
        let measurements = self
            .measurements
            .replace(ThreadMeasurements::start(self.ramp_end)?);
        debug_assert_eq!(
            measurements.classes.total(),
            measurements.scheduled,
            "a request without a class"
        );
        if !finished.is_empty() {
            self.shared
                .journal
                .send(finished)
                .map_err(|_| RunError::Journal)?;
        }
        Ok(measurements.end()?)
    }

    fn report_chunks(&self) {
        let chunks = std::mem::take(&mut self.measurements.borrow_mut().unreported_chunks);
        self.shared.progress.chunks(chunks);
    }

    fn begin(&self, now: MonotonicTime) {
        let mut measurements = self.measurements.borrow_mut();
        measurements.scheduled += 1;
        measurements.last_begun = Some(now);
        measurements.streams.begin_request(now);
        self.shared.progress.begun();
    }

    fn finish(&self, finished: FinishedRequest) {
        let class = finished.record.class;
        self.measurements.borrow_mut().classes.count(class, 1);
        self.shared.progress.ended(&finished.record);
        self.finished.borrow_mut().push(finished);
    }

    fn record_late_send(&self, record: &RequestRecord, begun: MonotonicTime) {
        let sent = match record.connected {
            Some(_) => begun,
            None => record.sent.unwrap_or(begun),
        };
        let late = nanos(sent.saturating_since(record.intended));
        self.measurements.borrow_mut().late_sends.saturating_record(late);
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
