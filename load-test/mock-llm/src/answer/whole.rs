use precise_time::MonotonicTime;

use super::{Ending, Next, Output, Plan};
use crate::{
    api::{Stamps, whole_body},
    http::Answer,
    stats::Mark,
};

/// An answer that is no stream: all of it when its last token is due.
#[derive(Debug)]
pub(crate) struct Whole {
    plan: Plan,
    first_due: MonotonicTime,
    last: Mark,
}

impl Whole {
    pub(crate) fn new(mut plan: Plan) -> Self {
        let (first_due, _) = plan.deadlines.next();
        let events = plan.about.output_tokens.div_ceil(plan.tokens_per_chunk);
        for _ in 1..events {
            plan.deadlines.advance(plan.tokens_per_chunk);
        }
        let (due, is_stalled) = plan.deadlines.next();
        let last = Mark {
            due,
            tokens: plan.about.output_tokens,
            is_first: false,
            is_stalled,
        };
        Self {
            plan,
            first_due,
            last,
        }
    }

    pub(super) fn advance(&mut self, now: MonotonicTime, output: &mut Output) -> Next {
        if now < self.last.due {
            return Next::At(self.last.due);
        }
        if let Some(end) = self.plan.deadlines.end_of_stall(now) {
            (self.last.due, self.last.is_stalled) = (end, true);
            return Next::At(end);
        }
        let Plan {
            about,
            text,
            keep_alive,
            ..
        } = &self.plan;
        let text = text.whole(about.output_tokens);
        let at = MonotonicTime::now();
        let mut stamps = Stamps::new(self.plan.received);
        stamps.first(self.first_due, at);
        stamps.last(self.last.due, at);
        let body = whole_body(about, &text, &stamps);
        output.bytes.extend(Answer::json(200, body).bytes(*keep_alive));
        output.marks.push(self.last);
        output.at = Some(at);
        Next::Finished(if *keep_alive {
            Ending::KeepAlive
        } else {
            Ending::Close
        })
    }
}
