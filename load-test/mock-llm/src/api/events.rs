use std::fmt::Write as _;

use super::{About, Api, Stamps, error_body};

/// What a delta belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Content,
    ReasoningContent,
    Reasoning,
    ToolArguments,
}

impl Channel {
    /// As a delta of a chat up to its text, and what follows the text.
    const fn chat_delta(self) -> (&'static str, &'static [u8]) {
        match self {
            Self::Content => (r#"{"content":""#, br#""},"finish_reason":null}]}"#),
            Self::ReasoningContent => (r#"{"reasoning_content":""#, br#""},"finish_reason":null}]}"#),
            Self::Reasoning => (r#"{"reasoning":""#, br#""},"finish_reason":null}]}"#),
            Self::ToolArguments => (
                r#"{"tool_calls":[{"index":0,"function":{"arguments":""#,
                br#""}}]},"finish_reason":null}]}"#,
            ),
        }
    }

    /// Anthropic's content block, and its delta up to its text.
    const fn block(self) -> (&'static str, &'static str) {
        match self {
            Self::Content => (r#"{"type":"text","text":""}"#, r#"{"type":"text_delta","text":""#),
            Self::ReasoningContent | Self::Reasoning => (
                r#"{"type":"thinking","thinking":"","signature":""}"#,
                r#"{"type":"thinking_delta","thinking":""#,
            ),
            Self::ToolArguments => (
                r#"{"type":"tool_use","id":"toolu_mock","name":"look_up","input":{}}"#,
                r#"{"type":"input_json_delta","partial_json":""#,
            ),
        }
    }
}

/// Renders the events of one stream. What is the same in every event of a token is rendered once: at a million tokens a
/// second nothing else is fast enough.
#[derive(Debug)]
pub(crate) struct EventWriter {
    about: About,
    /// OpenAI's: an event up to its choices.
    envelope: String,
    /// Anthropic's: the index of the content block.
    block: u32,
    channel: Channel,
    before_text: Vec<u8>,
    after_text: &'static [u8],
}

impl EventWriter {
    pub(crate) fn new(about: About) -> Self {
        let About {
            number,
            created,
            model,
            ..
        } = &about;
        let (prefix, object) = match about.api {
            Api::Completions => ("cmpl", "text_completion"),
            Api::Chat | Api::Messages => ("chatcmpl", "chat.completion.chunk"),
        };
        let envelope = format!(
            r#"data: {{"id":"{prefix}-{number}","object":"{object}","created":{created},"model":{model},"choices":["#
        );
        let mut writer = Self {
            about,
            envelope,
            block: 0,
            channel: Channel::Content,
            before_text: Vec::new(),
            after_text: b"",
        };
        writer.prepare();
        writer
    }

    fn prepare(&mut self) {
        let envelope = &self.envelope;
        let before = match self.about.api {
            Api::Chat => {
                let (delta, after) = self.channel.chat_delta();
                self.after_text = after;
                format!(r#"{envelope}{{"index":0,"delta":{delta}"#)
            }
            Api::Completions => {
                self.after_text = br#"","logprobs":null,"finish_reason":null}]}"#;
                format!(r#"{envelope}{{"index":0,"text":""#)
            }
            Api::Messages => {
                self.after_text = br#""}}"#;
                let ((_, delta), block) = (self.channel.block(), self.block);
                format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{block},\"delta\":{delta}"
                )
            }
        };
        self.before_text = before.into_bytes();
    }

    /// What comes before and after a token's text, which needs no escapes.
    pub(crate) fn around_text(&self) -> (&[u8], &'static [u8]) {
        (&self.before_text, self.after_text)
    }

    /// The events before the first token; every event goes to `each` on its own, up to the end of its last line.
    pub(crate) fn opening(&self, mut each: impl FnMut(&str)) {
        let envelope = &self.envelope;
        match self.about.api {
            Api::Completions => {}
            Api::Chat => each(&format!(
                r#"{envelope}{{"index":0,"delta":{{"role":"assistant","content":""}},"finish_reason":null}}]}}"#
            )),
            Api::Messages => {
                let About {
                    number,
                    model,
                    input_tokens,
                    ..
                } = &self.about;
                let usage = if self.about.states_usage {
                    format!(r#","usage":{{"input_tokens":{input_tokens},"output_tokens":1}}"#)
                } else {
                    String::new()
                };
                each(&format!(
                    "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_{number}\",\"type\":\"message\",\
                     \"role\":\"assistant\",\"model\":{model},\"content\":[],\"stop_reason\":null,\"stop_sequence\":null{usage}}}}}"
                ));
                self.block_start(&mut each);
                each("event: ping\ndata: {\"type\":\"ping\"}");
            }
        }
    }

    fn block_start(&self, each: &mut impl FnMut(&str)) {
        let ((start, _), block) = (self.channel.block(), self.block);
        each(&format!(
            "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{block},\"content_block\":{start}}}"
        ));
    }

    fn block_stop(&self, each: &mut impl FnMut(&str)) {
        let block = self.block;
        each(&format!(
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{block}}}"
        ));
    }

    /// Lets the first tokens belong to `channel`. To be called before [`Self::opening`].
    pub(crate) fn begin_with(&mut self, channel: Channel) {
        self.channel = channel;
        self.prepare();
    }

    /// Lets the tokens from now on belong to `channel`.
    pub(crate) fn go_on_with(&mut self, channel: Channel, mut each: impl FnMut(&str)) {
        if self.about.api == Api::Messages {
            self.block_stop(&mut each);
            self.block += 1;
        }
        self.channel = channel;
        self.prepare();
        if self.about.api == Api::Messages {
            self.block_start(&mut each);
        }
    }

    /// The delta that begins a tool call in a chat. Anthropic's is the start of its block.
    pub(crate) fn tool_call(&self, mut each: impl FnMut(&str)) {
        if self.about.api == Api::Chat {
            let envelope = &self.envelope;
            each(&format!(
                r#"{envelope}{{"index":0,"delta":{{"tool_calls":[{{"index":0,"id":"call_mock","type":"function","function":{{"name":"look_up","arguments":""}}}}]}},"finish_reason":null}}]}}"#
            ));
        }
    }

    /// An event that says nothing.
    pub(crate) fn empty(&self) -> String {
        match self.about.api {
            Api::Messages => "event: ping\ndata: {\"type\":\"ping\"}".to_owned(),
            Api::Chat | Api::Completions => format!("{}]}}", self.envelope),
        }
    }

    /// An error in the middle of a stream.
    pub(crate) fn error(&self, message: &str) -> String {
        let body = error_body(self.about.api, 500, message);
        match self.about.api {
            Api::Messages => format!("event: error\ndata: {body}"),
            Api::Chat | Api::Completions => format!("data: {body}"),
        }
    }

    /// The events after the last token. The last one is the API's end; `stamps` are in the one before it.
    pub(crate) fn closing(&self, stamps: &Stamps, mut each: impl FnMut(&str)) {
        let About {
            api,
            input_tokens,
            output_tokens,
            finish,
            states_usage,
            ..
        } = &self.about;
        let (mock_llm, envelope) = (stamps.field(), &self.envelope);
        let finish = match self.channel {
            Channel::ToolArguments if *api == Api::Chat => "tool_calls",
            Channel::ToolArguments if *api == Api::Messages => "tool_use",
            _ => finish.name(*api),
        };
        if *api == Api::Messages {
            self.block_stop(&mut each);
            let usage = if *states_usage {
                format!(r#""usage":{{"input_tokens":{input_tokens},"output_tokens":{output_tokens}}},"#)
            } else {
                String::new()
            };
            each(&format!(
                "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{finish}\",\"stop_sequence\":null}},{usage}{mock_llm}}}"
            ));
            each("event: message_stop\ndata: {\"type\":\"message_stop\"}");
            return;
        }
        let delta = if *api == Api::Chat {
            r#""delta":{}"#
        } else {
            r#""text":"","logprobs":null"#
        };
        let mut event = format!(r#"{envelope}{{"index":0,{delta},"finish_reason":"{finish}"}}]"#);
        if *states_usage {
            event.push('}');
            each(&event);
            event.clear();
            let total = u64::from(*input_tokens) + u64::from(*output_tokens);
            let written = write!(
                event,
                r#"{envelope}],"usage":{{"prompt_tokens":{input_tokens},"completion_tokens":{output_tokens},"total_tokens":{total}}}"#
            );
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        event.push(',');
        event.push_str(&mock_llm);
        event.push('}');
        each(&event);
        each("data: [DONE]");
    }
}
