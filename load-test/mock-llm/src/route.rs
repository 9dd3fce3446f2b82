use precise_time::MonotonicTime;
use serde_json::json;

use crate::{
    Misbehaviour,
    answer::{Answering, Plan, Script, Streamed, Whole},
    api::{About, Api, Ask, Finish, error_answer, error_body},
    deadlines::{Deadlines, Draws},
    http::{Answer, Method, Refusal, RequestHead},
    server::Shared,
    text::Text,
};

const ROLE_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// Asked for with 429, in s.
const RETRY_AFTER: &str = "1";
const HALF_AN_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"id\":\"chat";

/// What a request gets.
pub(crate) enum Reply {
    Now(Answer),
    /// An answer that takes its time.
    Generate(Box<Generation>),
}

/// An answer that waits for its slot.
pub(crate) struct Generation {
    ask: Ask,
    api: Api,
    number: u64,
    fails_halfway: bool,
    misbehaviour: Option<Misbehaviour>,
    keep_alive: bool,
}

/// `number` is the request's, counted from the server's start.
pub(crate) fn route(shared: &Shared, number: u64, head: &RequestHead, body: &[u8]) -> Reply {
    let (api, method) = match head.path.as_str() {
        "/v1/chat/completions" => (Some(Api::Chat), Method::Post),
        "/v1/completions" => (Some(Api::Completions), Method::Post),
        "/v1/messages" => (Some(Api::Messages), Method::Post),
        "/v1/models" | "/healthz" | "/stats" => (None, Method::Get),
        path => {
            let text = format!(
                "there is no {path:?}; expected /v1/chat/completions, /v1/completions, /v1/messages, /v1/models, /healthz or /stats"
            );
            return Reply::Now(error_answer(Api::Chat, 404, &text));
        }
    };
    if head.method != method {
        let allowed = if method == Method::Get { "GET" } else { "POST" };
        let text = format!("{} answers to {allowed} only", head.path);
        return Reply::Now(error_answer(api.unwrap_or(Api::Chat), 405, &text).with_header("allow", allowed));
    }
    match api {
        Some(api) => generation(shared, api, number, head, body).unwrap_or_else(Reply::Now),
        None => Reply::Now(look(shared, head)),
    }
}

/// What a request that could not be read gets.
pub(crate) fn refused(refusal: &Refusal) -> Answer {
    error_answer(Api::Chat, refusal.status(), &refusal.to_string())
}

fn look(shared: &Shared, head: &RequestHead) -> Answer {
    let body = match head.path.as_str() {
        "/stats" => json!(shared.stats()),
        "/healthz" => json!({"status": "ok"}),
        _ if !is_allowed(shared, head) => return unauthorized(Api::Chat),
        _ => {
            let mut models = shared.settings.models.clone();
            if models.is_empty() {
                models.push("mock-llm".to_owned());
            }
            let model =
                |id| json!({"id": id, "object": "model", "created": shared.created, "owned_by": "mock-llm"});
            json!({"object": "list", "data": models.into_iter().map(model).collect::<Vec<_>>()})
        }
    };
    Answer::json(200, body.to_string())
}

fn is_allowed(shared: &Shared, head: &RequestHead) -> bool {
    let (required, offered) = (&shared.settings.api_key, head.key.as_deref());
    required
        .as_ref()
        .is_none_or(|key| offered.is_some_and(|offered| key.is(offered)))
}

fn unauthorized(api: Api) -> Answer {
    let text = "the API key is missing or wrong: expected it in `Authorization: Bearer` or `x-api-key`";
    error_answer(api, 401, text)
}

fn generation(
    shared: &Shared,
    api: Api,
    number: u64,
    head: &RequestHead,
    body: &[u8],
) -> Result<Reply, Answer> {
    if !is_allowed(shared, head) {
        return Err(unauthorized(api));
    }
    let ask = Ask::parse(api, body).map_err(|text| error_answer(api, 400, &text))?;
    let misbehaviour = misbehaviour(shared, api, head, &ask)?;
    if let Some(answer) = misbehaving_answer(shared, api, misbehaviour) {
        return Err(answer);
    }
    let fails_halfway = match injected(shared, number) {
        None => misbehaviour == Some(Misbehaviour::InStreamError),
        Some(429) => return Err(too_many_requests(api)),
        Some(500) => return Err(error_answer(api, 500, "an injected error")),
        Some(_) => true,
    };
    if fails_halfway && !ask.is_stream {
        return Err(error_answer(api, 500, "an injected error"));
    }
    Ok(Reply::Generate(Box::new(Generation {
        ask,
        api,
        number,
        fails_halfway,
        misbehaviour,
        keep_alive: head.keep_alive,
    })))
}

/// The request's own wish comes before the server's setting.
fn misbehaviour(
    shared: &Shared,
    api: Api,
    head: &RequestHead,
    ask: &Ask,
) -> Result<Option<Misbehaviour>, Answer> {
    let by_model = ask.model.strip_prefix("misbehave:");
    if let Some(name) = head.misbehaviour.as_deref().or(by_model) {
        let parsed = name.parse();
        return parsed
            .map(Some)
            .map_err(|error: crate::UnknownMisbehaviour| error_answer(api, 400, &error.to_string()));
    }
    let models = &shared.settings.models;
    if !models.is_empty() && !models.contains(&ask.model) {
        let text = format!(
            "model: found {:?}, expected one of {}",
            ask.model,
            models.join(", ")
        );
        return Err(error_answer(api, 404, &text));
    }
    Ok(shared.settings.misbehaviour)
}

fn too_many_requests(api: Api) -> Answer {
    error_answer(api, 429, "too many requests").with_header("retry-after", RETRY_AFTER)
}

/// The answers of misbehaviours that are no streams.
fn misbehaving_answer(shared: &Shared, api: Api, misbehaviour: Option<Misbehaviour>) -> Option<Answer> {
    match misbehaviour? {
        Misbehaviour::RateLimited => Some(too_many_requests(api)),
        Misbehaviour::ErrorBody200 => {
            let body = error_body(api, 500, "an error with status 200");
            Some(Answer::json(200, body.to_string()))
        }
        Misbehaviour::Redirect => {
            let mut address = shared.address;
            address.set_port(address.port().checked_add(1).unwrap_or(1024));
            let location = format!("http://{address}/v1/moved");
            Some(error_answer(api, 302, "moved").with_header("location", &location))
        }
        _ => None,
    }
}

/// The status of the error that this request is to fail with; that of a stream which fails halfway is 200.
fn injected(shared: &Shared, number: u64) -> Option<u16> {
    let errors = shared.settings.errors;
    let any = errors.too_many_requests + errors.internal + errors.in_stream;
    if any <= 0.0 {
        return None;
    }
    let drawn = Draws::for_errors(shared.settings.seed, number).share();
    if drawn < errors.too_many_requests {
        Some(429)
    } else if drawn < errors.too_many_requests + errors.internal {
        Some(500)
    } else {
        (drawn < any).then_some(200)
    }
}

impl Generation {
    /// The answer of a request that was `received` and got its slot when it was `admitted`.
    pub(crate) fn begin(
        self,
        shared: &Shared,
        received: MonotonicTime,
        admitted: MonotonicTime,
    ) -> Answering {
        let (is_stream, fails_halfway, misbehaviour) =
            (self.ask.is_stream, self.fails_halfway, self.misbehaviour);
        let mut plan = self.plan(shared, received, admitted);
        let reset = match (is_stream, misbehaviour) {
            (_, None) => return ordinary(plan, is_stream, fails_halfway),
            (true, Some(Misbehaviour::InStreamError)) => return ordinary(plan, true, true),
            (true, Some(Misbehaviour::NeverEnding)) => {
                return Answering::Streamed(Streamed::new(plan).endless());
            }
            (true, Some(Misbehaviour::RoleThenPause)) => {
                plan.deadlines.delay(ROLE_PAUSE);
                return ordinary(plan, true, false);
            }
            (true, Some(misbehaviour)) => return Answering::Script(Script::new(misbehaviour, plan)),
            (false, Some(misbehaviour @ (Misbehaviour::ResetBeforeHead | Misbehaviour::NoHead))) => {
                return Answering::Script(Script::new(misbehaviour, plan));
            }
            (false, Some(Misbehaviour::ResetAfterHead | Misbehaviour::ResetInChunk)) => HALF_AN_ANSWER,
            (false, Some(_)) => return ordinary(plan, false, false),
        };
        Answering::Script(Script::cut(plan, reset.to_vec()))
    }

    fn plan(self, shared: &Shared, received: MonotonicTime, admitted: MonotonicTime) -> Plan {
        let Self { ask, api, number, .. } = self;
        let settings = &shared.settings;
        let output_tokens = ask
            .max_tokens
            .map_or(settings.output_tokens, |max| max.min(settings.output_tokens));
        let is_cut = ask.max_tokens == Some(output_tokens);
        let answer = ask.number.map(|right| {
            let is_wrong = settings.wrong_numbers > 0.0
                && Draws::for_numbers(settings.seed, number).share() < settings.wrong_numbers;
            (right + u64::from(is_wrong)).to_string()
        });
        Plan {
            about: About {
                api,
                number,
                created: shared.created,
                model: json!(ask.model).to_string(),
                input_tokens: ask.input_tokens,
                output_tokens,
                finish: if is_cut { Finish::Length } else { Finish::Stop },
                states_usage: settings.usage
                    && (ask.includes_usage || !ask.is_stream || api == Api::Messages),
            },
            text: Text::new(settings.seed ^ number, answer),
            tokens_per_chunk: settings.tokens_per_chunk,
            deadlines: Deadlines::new(settings, shared.stalls, admitted, ask.input_tokens, || {
                Draws::for_times(settings.seed, number)
            }),
            received,
            keep_alive: self.keep_alive,
        }
    }
}

fn ordinary(plan: Plan, is_stream: bool, fails_halfway: bool) -> Answering {
    if !is_stream {
        return Answering::Whole(Whole::new(plan));
    }
    let streamed = Streamed::new(plan);
    Answering::Streamed(if fails_halfway {
        streamed.failing("an injected error in the stream")
    } else {
        streamed
    })
}
