use precise_time::MonotonicTime;

use super::{ConnectionFate, NextStep, OutputBuffer, ResponsePlan};
use crate::{api::TokenTimestamps, http::HttpResponse, stats::WrittenTokens};

/// A response that is not streamed. All of it is written when its last token is due.
#[derive(Debug)]
pub(crate) struct WholeResponse {
    plan: ResponsePlan,
    first_due: MonotonicTime,
    last: WrittenTokens,
}

impl WholeResponse {
    pub(crate) fn new(mut plan: ResponsePlan) -> Self {
        let (first_due, _) = plan.deadlines.next();
        let events = plan.facts.output_tokens.div_ceil(plan.tokens_per_chunk);
        for _ in 1..events {
            plan.deadlines.advance(plan.tokens_per_chunk);
        }
        let (due, is_stalled) = plan.deadlines.next();
        let last = WrittenTokens {
            due,
            tokens: plan.facts.output_tokens,
            is_first: false,
            is_stalled,
        };
        Self {
            plan,
            first_due,
            last,
        }
    }

    pub(super) fn advance(&mut self, now: MonotonicTime, output: &mut OutputBuffer) -> NextStep {
        if now < self.last.due {
            return NextStep::At(self.last.due);
        }
        if let Some(end) = self.plan.deadlines.end_of_stall(now) {
            (self.last.due, self.last.is_stalled) = (end, true);
            return NextStep::At(end);
        }
        let ResponsePlan {
            facts,
            text,
            keep_alive,
            ..
        } = &self.plan;
        let text = text.whole(facts.output_tokens);
        let at = MonotonicTime::now();
        let mut timestamps = TokenTimestamps::new(self.plan.received);
        timestamps.set_first(self.first_due, at);
        timestamps.set_last(self.last.due, at);
        let body = facts.api.whole_body(facts, &text, &timestamps.field());
        output
            .bytes
            .extend(HttpResponse::json(200, body).bytes(*keep_alive));
        output.tokens.push(self.last);
        output.at = Some(at);
        NextStep::Finished(ConnectionFate::orderly(*keep_alive))
    }
}
