//! Closes connections whose chunked request body was not read to its end.
//!
//! If a handler has dropped a chunked body, actix-http reads the rest of it after the response, for as long as the client
//! sends: one byte a minute would hold the connection for ever. If the body still exists when the response is sent,
//! actix-http closes the connection instead. So the response keeps the request's body until it is sent.

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

/// A request's body, shared by its handler and the response.
#[derive(Clone)]
pub(super) struct ChunkedBody(Rc<RefCell<Payload>>);

impl ChunkedBody {
    /// Takes the request's body if it is chunked, and gives the handler a body that reads from the same stream.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(header::TRANSFER_ENCODING) {
            return None;
        }
        let shared = Self(Rc::new(RefCell::new(request.take_payload())));
        let payload: Pin<Box<dyn Stream<Item = _>>> = Box::pin(shared.clone());
        request.set_payload(Payload::Stream { payload });
        Some(shared)
    }

    /// The response's body, which keeps this one.
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
