use super::{ResponseFacts, TokenTimestamps};

/// The kind of the tokens of a stream. OpenAI's chat has a field for each, Anthropic's API a type of content block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeltaKind {
    Content,
    ReasoningContent,
    Reasoning,
    ToolArguments,
}

/// One stream, as its API's events describe it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub facts: ResponseFacts,
    /// The beginning of every event.
    pub event_start: String,
    pub kind: DeltaKind,
    /// The number of changes of `kind` so far.
    pub block: u32,
}

/// Renders the events of one stream. The parts that all events of tokens have in common are rendered once, because rendering them for
/// every token is too slow for a million tokens a second.
#[derive(Debug)]
pub(crate) struct EventWriter {
    stream: Stream,
    before_text: Vec<u8>,
    after_text: &'static [u8],
}

impl EventWriter {
    /// The writer of a stream whose first tokens are of `kind`.
    pub(crate) fn new(facts: ResponseFacts, kind: DeltaKind) -> Self {
        let mut writer = Self {
            stream: Stream {
                event_start: facts.api.event_start(&facts),
                facts,
                kind,
                block: 0,
            },
            before_text: Vec::new(),
            after_text: b"",
        };
        writer.prepare();
        writer
    }

    fn prepare(&mut self) {
        let (before, after) = self.stream.facts.api.around_text(&self.stream);
        (self.before_text, self.after_text) = (before.into_bytes(), after.as_bytes());
    }

    /// What comes before and after a token's text, which needs no escapes.
    pub(crate) fn around_text(&self) -> (&[u8], &'static [u8]) {
        (&self.before_text, self.after_text)
    }

    pub(crate) fn opening(&self) -> Vec<String> {
        self.stream.facts.api.opening(&self.stream)
    }

    /// The events after which tokens are of `kind`.
    pub(crate) fn change_kind(&mut self, kind: DeltaKind) -> Vec<String> {
        let api = self.stream.facts.api;
        let mut events = api.end_of_block(&self.stream);
        self.stream.block += 1;
        self.stream.kind = kind;
        self.prepare();
        events.extend(api.start_of_block(&self.stream));
        events
    }

    pub(crate) fn tool_call(&self) -> Vec<String> {
        self.stream.facts.api.tool_call(&self.stream)
    }

    pub(crate) fn empty_event(&self) -> String {
        self.stream.facts.api.empty_event(&self.stream)
    }

    pub(crate) fn error_event(&self, message: &str) -> String {
        self.stream.facts.api.error_event(message)
    }

    pub(crate) fn closing(&self, timestamps: &TokenTimestamps) -> Vec<String> {
        self.stream.facts.api.closing(&self.stream, &timestamps.field())
    }
}
