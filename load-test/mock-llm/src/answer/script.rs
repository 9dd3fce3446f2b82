use std::{collections::VecDeque, time::Duration};

use precise_time::MonotonicTime;

use super::{Ending, Next, Output, Plan};
use crate::{
    Misbehaviour,
    api::{Channel, EventWriter, Stamps},
    http::{END_OF_CHUNKS, chunk, stream_head},
    text::Text,
};

/// So that what was written before arrives before the reset does.
const BEFORE_RESET: Duration = Duration::from_millis(5);
/// Between the parts of something that is cut into parts.
const BETWEEN_PARTS: Duration = Duration::from_millis(1);
const DRIP: (usize, Duration) = (20, Duration::from_millis(20));
const HUGE: usize = 100_000_000;

/// A stream that misbehaves: steps, each when it is due.
#[derive(Debug)]
pub(crate) struct Script {
    steps: VecDeque<(MonotonicTime, Step)>,
    events: EventWriter,
    text: Text,
    stamps: Stamps,
    is_first_token: bool,
    keep_alive: bool,
    form: Form,
    /// Events that go into one HTTP chunk together.
    gathered: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Head,
    Opening,
    Token(u32),
    /// Text of the current channel that is no token.
    Text(&'static str),
    GoOnWith(Channel),
    ToolCall,
    Empty,
    Comment(&'static str),
    Huge,
    Closing {
        with_end: bool,
    },
    /// The end of the body.
    End,
    /// In a write of its own.
    Bytes(Vec<u8>),
    Filler(usize),
    Finish(Ending),
}

/// How events become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Crlf,
    WithoutSpace,
    Gathered,
    CutInCharacters,
    CutInBytes,
    Dripping,
}

impl Script {
    /// How `misbehaviour` goes for a stream. Those that are no streams or differ from one only in time are none of its business.
    pub(crate) fn new(misbehaviour: Misbehaviour, mut plan: Plan) -> Self {
        let steps = steps(misbehaviour, &mut plan);
        let mut script = Self {
            steps,
            text: plan.text,
            stamps: Stamps::new(plan.received),
            events: EventWriter::new(plan.about),
            is_first_token: true,
            keep_alive: plan.keep_alive,
            form: Form::Plain,
            gathered: Vec::new(),
        };
        match misbehaviour {
            Misbehaviour::SplitUtf8 => {
                script.text = script.text.beyond_ascii();
                script.form = Form::CutInCharacters;
            }
            Misbehaviour::CrlfLines => script.form = Form::Crlf,
            Misbehaviour::DataWithoutSpace => script.form = Form::WithoutSpace,
            Misbehaviour::ManyEventsPerWrite => script.form = Form::Gathered,
            Misbehaviour::ByteByByte => script.form = Form::CutInBytes,
            Misbehaviour::SlowDrip => script.form = Form::Dripping,
            Misbehaviour::ReasoningContent => script.events.begin_with(Channel::ReasoningContent),
            Misbehaviour::Reasoning => script.events.begin_with(Channel::Reasoning),
            Misbehaviour::ToolCalls => script.events.begin_with(Channel::ToolArguments),
            _ => {}
        }
        script
    }

    /// An answer that is no stream and is reset after `bytes`.
    pub(crate) fn cut(plan: Plan, bytes: Vec<u8>) -> Self {
        let mut script = Self::new(Misbehaviour::ResetBeforeHead, plan);
        let (now, reset) = (MonotonicTime::from_nanos(0), MonotonicTime::now() + BEFORE_RESET);
        script.steps = VecDeque::from([(now, Step::Bytes(bytes)), (reset, Step::Finish(Ending::Reset))]);
        script
    }

    pub(super) fn advance(&mut self, now: MonotonicTime, output: &mut Output) -> Next {
        while let Some((due, _)) = self.steps.front() {
            // Where steps cut themselves into parts, each part is a write of its own.
            if *due > now || (self.is_cut() && !output.bytes.is_empty()) {
                return Next::At((*due).max(now));
            }
            let Some((due, step)) = self.steps.pop_front() else {
                break;
            };
            if let Step::Finish(ending) = step {
                return Next::Finished(ending);
            }
            self.take(step, due, now, &mut output.bytes);
            if output.bytes.len() >= 64 * 1024 {
                return Next::At(now);
            }
        }
        Next::Finished(if self.keep_alive {
            Ending::KeepAlive
        } else {
            Ending::Close
        })
    }

    fn is_cut(&self) -> bool {
        matches!(
            self.form,
            Form::CutInCharacters | Form::CutInBytes | Form::Dripping
        )
    }

    fn take(&mut self, step: Step, due: MonotonicTime, now: MonotonicTime, out: &mut Vec<u8>) {
        let mut events: Vec<String> = Vec::new();
        let mut each = |event: &str| events.push(event.to_owned());
        match step {
            Step::Head => return self.write_through(stream_head(self.keep_alive), now, out),
            Step::End => return self.end(now, out),
            Step::Bytes(bytes) => return out.extend(bytes),
            Step::Huge => return self.begin_huge(now, out),
            Step::Filler(left) => return self.fill(left, now, out),
            Step::Finish(_) => {}
            Step::Opening => self.events.opening(each),
            Step::GoOnWith(channel) => self.events.go_on_with(channel, each),
            Step::ToolCall => self.events.tool_call(each),
            Step::Empty => each(&self.events.empty()),
            Step::Comment(text) => each(text),
            Step::Text(text) => each(&self.delta(text)),
            Step::Token(index) => {
                let at = MonotonicTime::now();
                if std::mem::take(&mut self.is_first_token) {
                    self.stamps.first(due, at);
                }
                self.stamps.last(due, at);
                each(&self.delta(self.text.token(index)));
            }
            Step::Closing { with_end } => {
                self.events.closing(&self.stamps, each);
                if !with_end {
                    events.pop();
                }
            }
        }
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
        let payload = match self.form {
            Form::Crlf => format!("{}\r\n\r\n", event.replace('\n', "\r\n")),
            Form::WithoutSpace => format!("{}\n\n", event.replacen("data: ", "data:", 1)),
            _ => format!("{event}\n\n"),
        };
        if self.form == Form::Gathered {
            self.gathered.extend_from_slice(payload.as_bytes());
        } else {
            chunk(out, [payload.as_bytes()].into_iter());
        }
    }

    /// The wire's bytes of an event, cut.
    fn parts(&self, event: &str) -> Vec<Vec<u8>> {
        let payload = format!("{event}\n\n").into_bytes();
        let framed = |part: &[u8]| {
            let mut bytes = Vec::new();
            chunk(&mut bytes, [part].into_iter());
            bytes
        };
        match self.form {
            Form::CutInBytes => payload.chunks(1).map(framed).collect(),
            Form::CutInCharacters => within_characters(&payload).into_iter().map(framed).collect(),
            _ => framed(&payload).chunks(DRIP.0).map(<[u8]>::to_vec).collect(),
        }
    }

    fn queue(&mut self, parts: Vec<Vec<u8>>, now: MonotonicTime) {
        let gap = match self.form {
            Form::CutInBytes => Duration::ZERO,
            Form::Dripping => DRIP.1,
            _ => BETWEEN_PARTS,
        };
        // To the front of the queue, hence the last one first.
        for (index, part) in (0_u32..).zip(parts).collect::<Vec<_>>().into_iter().rev() {
            self.steps
                .push_front((now + gap.saturating_mul(index), Step::Bytes(part)));
        }
    }

    fn write_through(&mut self, bytes: &[u8], now: MonotonicTime, out: &mut Vec<u8>) {
        if self.form == Form::Dripping {
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

/// Cuts after the first byte of every character that has more than one.
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

fn steps(misbehaviour: Misbehaviour, plan: &mut Plan) -> VecDeque<(MonotonicTime, Step)> {
    let start = plan.received;
    if misbehaviour == Misbehaviour::ResetBeforeHead {
        return VecDeque::from([(start, Step::Finish(Ending::Reset))]);
    }
    if misbehaviour == Misbehaviour::NoHead {
        return VecDeque::from([(start, Step::Finish(Ending::Silence))]);
    }
    let mut steps = VecDeque::from([(start, Step::Head)]);
    if misbehaviour == Misbehaviour::ResetAfterHead {
        steps.push_back((start + BEFORE_RESET, Step::Finish(Ending::Reset)));
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
            steps.push_back((last + BEFORE_RESET, Step::Finish(Ending::Reset)));
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

/// Returns when the last one is due.
fn push_tokens(
    misbehaviour: Misbehaviour,
    plan: &mut Plan,
    steps: &mut VecDeque<(MonotonicTime, Step)>,
) -> MonotonicTime {
    let all = plan.about.output_tokens;
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
                Some(Step::GoOnWith(Channel::Content))
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
