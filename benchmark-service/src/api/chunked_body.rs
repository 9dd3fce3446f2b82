//! Chunked bodies that are not read to their end.
//!
//! Where a handler has dropped such a body, actix-http goes on reading it behind the answer, for as long as the client
//! goes on sending: one byte a minute would hold a connection for ever. A body that is still there when the answer is
//! sent makes it close the connection instead, as it does with bodies of a declared length. So it is kept until then.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::header,
    web::Bytes,
};
use futures::Stream;

/// A request's body, shared by its handler and its answer.
#[derive(Clone)]
pub(super) struct ChunkedBody(Rc<RefCell<Payload>>);

impl ChunkedBody {
    /// The request's body, where it is chunked; the handler reads it as before.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(header::TRANSFER_ENCODING) {
            return None;
        }
        let shared = Self(Rc::new(RefCell::new(request.take_payload())));
        let payload: Pin<Box<dyn Stream<Item = _>>> = Box::pin(shared.clone());
        request.set_payload(Payload::Stream { payload });
        Some(shared)
    }

    /// The answer's body, which keeps this one.
    pub(super) fn held_by_response(self, body: BoxBody) -> BoxBody {
        BoxBody::new(ResponseWithRequestBody {
            body,
            _request_body: self,
        })
    }
}

impl Stream for ChunkedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

struct ResponseWithRequestBody {
    body: BoxBody,
    _request_body: ChunkedBody,
}

impl MessageBody for ResponseWithRequestBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
