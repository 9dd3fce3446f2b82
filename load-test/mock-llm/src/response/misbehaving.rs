use std::{collections::VecDeque, time::Duration};

use precise_time::MonotonicTime;

use super::{ConnectionFate, NextStep, OutputBuffer, ResponsePlan};
use crate::{
    Misbehaviour,
    api::{DeltaKind, EventWriter, TokenTimestamps},
    http::{END_OF_CHUNKS, chunk, stream_head},
    text::Text,
};

/// The pause before a reset, so that the client receives the bytes before it.
const BEFORE_RESET: Duration = Duration::from_millis(5);
/// The pause between the parts of an event.
const BETWEEN_PARTS: Duration = Duration::from_millis(1);
/// Bytes of one write, and the pause after it.
const DRIP: (usize, Duration) = (20, Duration::from_millis(20));
/// In bytes.
const HUGE: usize = 100_000_000;

/// A misbehaving stream: a sequence of steps, each with the time at which it is due.
#[derive(Debug)]
pub(crate) struct MisbehavingResponse {
    steps: VecDeque<(MonotonicTime, Step)>,
    events: EventWriter,
    text: Text,
    timestamps: TokenTimestamps,
    is_first_token: bool,
    keep_alive: bool,
    framing: Framing,
    /// Events that are sent together in one HTTP chunk.
    gathered: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Head,
    Opening,
    Token(u32),
    /// Text of the current kind that is no token.
    Text(&'static str),
    ChangeKind(DeltaKind),
    ToolCall,
    Empty,
    Comment(&'static str),
    Huge,
    Closing {
        with_end: bool,
    },
    /// The end of the body.
    End,
    /// Bytes in a write of their own.
    Bytes(Vec<u8>),
    Filler(usize),
    Finish(ConnectionFate),
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Plain,
    Crlf,
    WithoutSpace,
    Gathered,
    CutInCharacters,
    CutInBytes,
    Dripping,
}

impl MisbehavingResponse {
    /// The stream of a `misbehaviour`. Misbehaviours that are not streams, or differ from a stream only in time, are handled elsewhere.
    pub(crate) fn new(misbehaviour: Misbehaviour, mut plan: ResponsePlan) -> Self {
        let steps = steps(misbehaviour, &mut plan);
        let kind = match misbehaviour {
            Misbehaviour::ReasoningContent => DeltaKind::ReasoningContent,
            Misbehaviour::Reasoning => DeltaKind::Reasoning,
            Misbehaviour::ToolCalls => DeltaKind::ToolArguments,
            _ => DeltaKind::Content,
        };
        let framing = match misbehaviour {
            Misbehaviour::SplitUtf8 => Framing::CutInCharacters,
            Misbehaviour::CrlfLines => Framing::Crlf,
            Misbehaviour::DataWithoutSpace => Framing::WithoutSpace,
            Misbehaviour::ManyEventsPerWrite => Framing::Gathered,
            Misbehaviour::ByteByByte => Framing::CutInBytes,
            Misbehaviour::SlowDrip => Framing::Dripping,
            _ => Framing::Plain,
        };
        Self {
            steps,
            text: if framing == Framing::CutInCharacters {
                plan.text.beyond_ascii()
            } else {
                plan.text
            },
            timestamps: TokenTimestamps::new(plan.received),
            events: EventWriter::new(plan.facts, kind),
            is_first_token: true,
            keep_alive: plan.keep_alive,
            framing,
            gathered: Vec::new(),
        }
    }

    /// A response that is not streamed, and whose connection is reset after `bytes`.
    pub(crate) fn cut(plan: ResponsePlan, bytes: Vec<u8>) -> Self {
        let mut response = Self::new(Misbehaviour::ResetBeforeHead, plan);
        let (now, reset) = (MonotonicTime::from_nanos(0), MonotonicTime::now() + BEFORE_RESET);
        response.steps = VecDeque::from([
            (now, Step::Bytes(bytes)),
            (reset, Step::Finish(ConnectionFate::Reset)),
        ]);
        response
    }

    pub(super) fn advance(&mut self, now: MonotonicTime, output: &mut OutputBuffer) -> NextStep {
        while let Some((due, _)) = self.steps.front() {
            // Each part of a cut event is a write of its own.
            if *due > now || (self.is_cut() && !output.bytes.is_empty()) {
                return NextStep::At((*due).max(now));
            }
            let Some((due, step)) = self.steps.pop_front() else {
                break;
            };
            if let Step::Finish(ending) = step {
                return NextStep::Finished(ending);
            }
            self.take(step, due, now, &mut output.bytes);
            if output.bytes.len() >= 64 * 1024 {
                return NextStep::At(now);
            }
        }
        NextStep::Finished(ConnectionFate::orderly(self.keep_alive))
    }

    fn is_cut(&self) -> bool {
        matches!(
            self.framing,
            Framing::CutInCharacters | Framing::CutInBytes | Framing::Dripping
        )
    }

    fn take(&mut self, step: Step, due: MonotonicTime, now: MonotonicTime, out: &mut Vec<u8>) {
        let events = match step {
            Step::Head => return self.write_through(stream_head(self.keep_alive), now, out),
            Step::End => return self.end(now, out),
            Step::Bytes(bytes) => return out.extend(bytes),
            Step::Huge => return self.begin_huge(now, out),
            Step::Filler(left) => return self.fill(left, now, out),
            Step::Finish(_) => return,
            Step::Opening => self.events.opening(),
            Step::ChangeKind(kind) => self.events.change_kind(kind),
            Step::ToolCall => self.events.tool_call(),
            Step::Empty => vec![self.events.empty_event()],
            Step::Comment(text) => vec![text.to_owned()],
            Step::Text(text) => vec![self.delta(text)],
            Step::Token(index) => {
                let at = MonotonicTime::now();
                if std::mem::take(&mut self.is_first_token) {
                    self.timestamps.set_first(due, at);
                }
                self.timestamps.set_last(due, at);
                vec![self.delta(self.text.token(index))]
            }
            Step::Closing { with_end } => {
                let mut events = self.events.closing(&self.timestamps);
                if !with_end {
                    events.pop();
                }
                events
            }
        };
        if self.is_cut() {
            let parts = events.iter().flat_map(|event| self.parts(event)).collect();
            self.queue(parts, now);
        } else {
            events.iter().for_each(|event| self.push(event, out));
        }
    }

    fn delta(&self, text: &str) -> String {
        let (before, after) = self.events.around_text();
        let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
        format!("{before}{text}{after}")
    }

    fn push(&mut self, event: &str, out: &mut Vec<u8>) {
        let payload = match self.framing {
            Framing::Crlf => format!("{}\r\n\r\n", event.replace('\n', "\r\n")),
            Framing::WithoutSpace => format!("{}\n\n", event.replacen("data: ", "data:", 1)),
            _ => format!("{event}\n\n"),
        };
        if self.framing == Framing::Gathered {
            self.gathered.extend_from_slice(payload.as_bytes());
        } else {
            chunk(out, [payload.as_bytes()].into_iter());
        }
    }

    /// The parts of an event, in HTTP chunks.
    fn parts(&self, event: &str) -> Vec<Vec<u8>> {
        let payload = format!("{event}\n\n").into_bytes();
        let framed = |part: &[u8]| {
            let mut bytes = Vec::new();
            chunk(&mut bytes, [part].into_iter());
            bytes
        };
        match self.framing {
            Framing::CutInBytes => payload.chunks(1).map(framed).collect(),
            Framing::CutInCharacters => within_characters(&payload).into_iter().map(framed).collect(),
            _ => framed(&payload).chunks(DRIP.0).map(<[u8]>::to_vec).collect(),
        }
    }

    fn queue(&mut self, parts: Vec<Vec<u8>>, now: MonotonicTime) {
        let gap = match self.framing {
            Framing::CutInBytes => Duration::ZERO,
            Framing::Dripping => DRIP.1,
            _ => BETWEEN_PARTS,
        };
        // Every part is pushed to the front, so the last one comes first.
        for (index, part) in (0_u32..).zip(parts).collect::<Vec<_>>().into_iter().rev() {
            self.steps
                .push_front((now + gap.saturating_mul(index), Step::Bytes(part)));
        }
    }

    fn write_through(&mut self, bytes: &[u8], now: MonotonicTime, out: &mut Vec<u8>) {
        if self.framing == Framing::Dripping {
            self.queue(bytes.chunks(DRIP.0).map(<[u8]>::to_vec).collect(), now);
        } else {
            out.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, now: MonotonicTime, out: &mut Vec<u8>) {
        if !self.gathered.is_empty() {
            chunk(out, [self.gathered.as_slice()].into_iter());
            self.gathered.clear();
        }
        self.write_through(END_OF_CHUNKS, now, out);
    }

    fn begin_huge(&mut self, now: MonotonicTime, out: &mut Vec<u8>) {
        let (before, after) = self.events.around_text();
        let size = before.len() + HUGE + after.len() + 2;
        out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        out.extend_from_slice(before);
        let end = [after, b"\n\n\r\n"].concat();
        self.steps.push_front((now, Step::Bytes(end)));
        self.steps.push_front((now, Step::Filler(HUGE)));
    }

    fn fill(&mut self, left: usize, now: MonotonicTime, out: &mut Vec<u8>) {
        let part = left.min(64 * 1024);
        out.resize(out.len() + part, b'x');
        if left > part {
            self.steps.push_front((now, Step::Filler(left - part)));
        }
    }
}

/// Splits `bytes` after the first byte of every character with more than one byte.
fn within_characters(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.iter().position(|byte| *byte >= 0xC0) {
        let (part, after) = rest.split_at(at + 1);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

fn steps(misbehaviour: Misbehaviour, plan: &mut ResponsePlan) -> VecDeque<(MonotonicTime, Step)> {
    let start = plan.received;
    if misbehaviour == Misbehaviour::ResetBeforeHead {
        return VecDeque::from([(start, Step::Finish(ConnectionFate::Reset))]);
    }
    if misbehaviour == Misbehaviour::NoHead {
        return VecDeque::from([(start, Step::Finish(ConnectionFate::Silence))]);
    }
    let mut steps = VecDeque::from([(start, Step::Head)]);
    if misbehaviour == Misbehaviour::ResetAfterHead {
        steps.push_back((start + BEFORE_RESET, Step::Finish(ConnectionFate::Reset)));
        return steps;
    }
    steps.push_back((start, Step::Opening));
    if misbehaviour == Misbehaviour::ToolCalls {
        steps.push_back((start, Step::ToolCall));
        steps.push_back((plan.deadlines.next().0, Step::Text(r#"{\"query\":\""#)));
    }
    let last = push_tokens(misbehaviour, plan, &mut steps);
    match misbehaviour {
        Misbehaviour::ResetInChunk => {
            steps.push_back((last, Step::Bytes(b"40\r\ndata: {\"id\"".to_vec())));
            steps.push_back((last + BEFORE_RESET, Step::Finish(ConnectionFate::Reset)));
            return steps;
        }
        Misbehaviour::CleanEndWithoutFinish => {}
        Misbehaviour::ToolCalls => {
            steps.push_back((last, Step::Text(r#"\"}"#)));
            steps.push_back((last, Step::Closing { with_end: true }));
        }
        _ => {
            let with_end = misbehaviour != Misbehaviour::MissingDone;
            steps.push_back((last, Step::Closing { with_end }));
        }
    }
    steps.push_back((last, Step::End));
    if misbehaviour == Misbehaviour::ManyEventsPerWrite {
        steps.iter_mut().skip(1).for_each(|(due, _)| *due = last);
    }
    steps
}

/// Appends the tokens. Returns when the last one is due.
fn push_tokens(
    misbehaviour: Misbehaviour,
    plan: &mut ResponsePlan,
    steps: &mut VecDeque<(MonotonicTime, Step)>,
) -> MonotonicTime {
    let all = plan.facts.output_tokens;
    let half = all.div_ceil(2);
    let end = match misbehaviour {
        Misbehaviour::ResetInChunk | Misbehaviour::CleanEndWithoutFinish => half,
        _ => all,
    };
    let mut due = plan.deadlines.next().0;
    for index in 0..end {
        due = plan.deadlines.next().0;
        let before = match misbehaviour {
            Misbehaviour::Comments if index % 2 == 0 => Some(Step::Comment(": heartbeat")),
            Misbehaviour::Comments => Some(Step::Comment(":\nevent: heartbeat\nid: 1\nretry: 1000")),
            Misbehaviour::EmptyChoices => Some(Step::Empty),
            Misbehaviour::HugeLine if index == 0 => Some(Step::Huge),
            Misbehaviour::Reasoning | Misbehaviour::ReasoningContent if index == half => {
                Some(Step::ChangeKind(DeltaKind::Content))
            }
            _ => None,
        };
        steps.extend(before.map(|step| (due, step)));
        steps.push_back((due, Step::Token(index)));
        plan.deadlines.advance(1);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_cut_and_nothing_is_lost() {
        let bytes = "a déjà 🦀".as_bytes();
        let parts = within_characters(bytes);
        assert_eq!(parts.concat(), bytes);
        assert_eq!(parts.len(), 4);
        assert!(
            parts
                .iter()
                .filter(|part| std::str::from_utf8(part).is_err())
                .count()
                >= 3
        );
    }
}
