use serde_json::{Map, Value};

/// What a model is asked for, whatever the API.
#[derive(Debug, Clone, Copy)]
pub struct Generation<'a> {
    /// The model, in the server's name for it.
    pub model: &'a str,
    /// What it continues or answers.
    pub prompt: Prompt<'a>,
    /// How many tokens it may answer with; `None` leaves it to the server (Anthropic's API demands a number and is sent
    /// 4096).
    pub max_tokens: Option<u32>,
    /// Whether the answer comes as a stream of events.
    pub stream: bool,
    /// Fields of the body as they are; they replace everything that is set here (LLMPerf's additional sampling parameters).
    pub sampling: &'a Map<String, Value>,
}

/// A text, or a conversation.
#[derive(Debug, Clone, Copy)]
pub enum Prompt<'a> {
    /// To a chat: one message of the user's.
    Text(&'a str),
    /// To an API without messages: their texts, with an empty line between two.
    Messages(&'a [Message<'a>]),
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: &'a str,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions. Anthropic's API has them beside the messages.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}
