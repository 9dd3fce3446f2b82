use std::rc::Rc;

use llm_client::{ContentKind, Observer};
use precise_time::MonotonicTime;

use super::{Texts, worker::Worker};

/// A buffer that grew beyond this is given back after its request, so that one long answer does not stay for the whole run.
const KEPT_CAPACITY: usize = 64 << 10;

/// Hears one answer after the other. Its buffers are used again, so that a token costs no allocation.
pub(super) struct Listener {
    worker: Rc<Worker>,
    heard: Heard,
    is_warmup: bool,
    text: String,
    stamps: Vec<MonotonicTime>,
}

/// What was heard of an answer, for requests of which the client cannot tell any more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard {
    pub(super) first: Option<MonotonicTime>,
    pub(super) first_answer: Option<MonotonicTime>,
    pub(super) last: Option<MonotonicTime>,
    pub(super) chunks: u32,
}

impl Listener {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            heard: Heard::default(),
            is_warmup: false,
            text: String::new(),
            stamps: Vec::new(),
        }
    }

    /// A request begins; the gaps of one that is for warming up are nobody's.
    pub(super) fn begin(&mut self, is_warmup: bool) {
        self.is_warmup = is_warmup;
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard
    }

    /// The text, where it is wanted, and the stamps, where they were asked for; and forgets the answer.
    pub(super) fn take(&mut self, wants_text: bool) -> (Option<Box<str>>, Option<Box<[MonotonicTime]>>) {
        let text = wants_text.then(|| Box::from(self.text.as_str()));
        let stamps = self
            .worker
            .recording()
            .chunk_stamps
            .then(|| Box::from(self.stamps.as_slice()));
        self.heard = Heard::default();
        self.text.clear();
        self.text.shrink_to(KEPT_CAPACITY);
        self.stamps.clear();
        self.stamps.shrink_to(KEPT_CAPACITY / size_of::<MonotonicTime>());
        (text, stamps)
    }
}

impl Observer for Listener {
    fn chunk(&mut self, at: MonotonicTime) {
        self.worker.chunk(at, self.heard.last.filter(|_| !self.is_warmup));
        self.heard.first.get_or_insert(at);
        self.heard.last = Some(at);
        self.heard.chunks += 1;
        if self.worker.recording().chunk_stamps {
            self.stamps.push(at);
        }
    }

    fn content(&mut self, at: MonotonicTime, kind: ContentKind, text: &str) {
        if kind == ContentKind::Answer {
            self.heard.first_answer.get_or_insert(at);
        }
        if kind == ContentKind::Answer || self.worker.recording().texts == Texts::ToCount {
            self.text.push_str(text);
        }
    }
}
