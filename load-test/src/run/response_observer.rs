use std::{cell::RefCell, rc::Rc};

use llm_client::{ContentKind, Observer};
use precise_time::MonotonicTime;

use super::{Recording, Texts, thread_measurements::ThreadMeasurements};

/// A buffer that grew beyond this is freed after its request, so that one long response does not stay in memory for the
/// whole run.
const KEPT_CAPACITY: usize = 64 << 10;

/// Records the content of one response after the other. Its buffers are reused, so that a token costs no allocation.
pub(super) struct ResponseObserver {
    measurements: Rc<RefCell<ThreadMeasurements>>,
    recording: Recording,
    content: ReceivedContent,
    is_warmup: bool,
    text: String,
    chunk_timestamps: Vec<MonotonicTime>,
}

/// When content of a response was received. Needed for requests that are cancelled: the client returns nothing for them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReceivedContent {
    pub(super) first: Option<MonotonicTime>,
    pub(super) first_answer: Option<MonotonicTime>,
    pub(super) last: Option<MonotonicTime>,
    pub(super) chunks: u32,
}

/// The parts of a response that are kept beside its record.
pub(super) struct KeptContent {
    pub(super) text: Option<Box<str>>,
    pub(super) chunk_timestamps: Option<Box<[MonotonicTime]>>,
}

impl ResponseObserver {
    pub(super) fn new(measurements: Rc<RefCell<ThreadMeasurements>>, recording: Recording) -> Self {
        Self {
            measurements,
            recording,
            content: ReceivedContent::default(),
            is_warmup: false,
            text: String::new(),
            chunk_timestamps: Vec::new(),
        }
    }

    /// A request begins. Gaps between chunks of a warm-up request are not measured.
    pub(super) fn begin(&mut self, is_warmup: bool) {
        self.is_warmup = is_warmup;
    }

    pub(super) fn received(&self) -> ReceivedContent {
        self.content
    }

    /// Returns what is to be kept of the response and prepares for the next one.
    pub(super) fn take(&mut self, wants_text: bool) -> KeptContent {
        let kept = KeptContent {
            text: wants_text.then(|| Box::from(self.text.as_str())),
            chunk_timestamps: self
                .recording
                .chunk_timestamps
                .then(|| Box::from(self.chunk_timestamps.as_slice())),
        };
        self.content = ReceivedContent::default();
        self.text.clear();
        self.text.shrink_to(KEPT_CAPACITY);
        self.chunk_timestamps.clear();
        self.chunk_timestamps
            .shrink_to(KEPT_CAPACITY / size_of::<MonotonicTime>());
        kept
    }
}

impl Observer for ResponseObserver {
    fn chunk(&mut self, at: MonotonicTime) {
        let previous = self.content.last.filter(|_| !self.is_warmup);
        self.measurements.borrow_mut().record_chunk(at, previous);
        self.content.first.get_or_insert(at);
        self.content.last = Some(at);
        self.content.chunks += 1;
        if self.recording.chunk_timestamps {
            self.chunk_timestamps.push(at);
        }
    }

    fn content(&mut self, at: MonotonicTime, kind: ContentKind, text: &str) {
        if kind == ContentKind::Answer {
            self.content.first_answer.get_or_insert(at);
        }
        if kind == ContentKind::Answer || self.recording.texts == Texts::ToCount {
            self.text.push_str(text);
        }
    }
}
