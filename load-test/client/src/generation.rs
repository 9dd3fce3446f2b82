use serde_json::{Map, Value, json};

/// What a model is asked to generate, independent of the API.
#[derive(Debug, Clone, Copy)]
pub struct Generation<'a> {
    /// The server's name of the model.
    pub model: &'a str,
    /// What the model continues or answers.
    pub prompt: Prompt<'a>,
    /// The limit of generated tokens; `None` leaves it to the server (Anthropic's API requires a limit and is sent 4096).
    pub max_tokens: Option<u32>,
    /// Whether the response is a stream of events.
    pub stream: bool,
    /// Fields of the request's body, which replace every other field of the same name (LLMPerf's additional sampling parameters).
    pub sampling: &'a Map<String, Value>,
}

/// A text, or a conversation.
#[derive(Debug, Clone, Copy)]
pub enum Prompt<'a> {
    /// A text. APIs with messages receive it as one message of the user.
    Text(&'a str),
    /// A conversation. APIs without messages receive the texts with an empty line between two.
    Messages(&'a [Message<'a>]),
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its author.
    pub role: Role,
    /// Its text.
    pub content: &'a str,
}

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions. Anthropic's API has a field of its own for them.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Prompt<'_> {
    /// The messages of the roles that `takes` selects, as OpenAI's and Anthropic's APIs write them.
    pub(crate) fn messages(&self, takes: impl Fn(Role) -> bool) -> Value {
        let message = |role: Role, content: &str| json!({"role": role.word(), "content": content});
        match self {
            Self::Text(text) => json!([message(Role::User, text)]),
            Self::Messages(messages) => {
                let taken = messages.iter().filter(|one| takes(one.role));
                taken.map(|one| message(one.role, one.content)).collect()
            }
        }
    }

    /// The texts of the roles that `takes` selects, with an empty line between two.
    pub(crate) fn text(&self, takes: impl Fn(Role) -> bool) -> String {
        match self {
            Self::Text(text) => {
                if takes(Role::User) {
                    (*text).to_owned()
                } else {
                    String::new()
                }
            }
            Self::Messages(messages) => {
                let taken = messages.iter().filter(|one| takes(one.role));
                taken.map(|one| one.content).collect::<Vec<_>>().join("\n\n")
            }
        }
    }
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}
