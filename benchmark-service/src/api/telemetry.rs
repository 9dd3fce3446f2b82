use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, exponential_buckets};

use crate::telemetry::telemetry;

telemetry! {
    /// The Prometheus metrics of the API.
    struct HttpTelemetry {
        requests: IntCounterVec = counter_vec(
            "llm_bench_http_requests_total",
            "HTTP requests, by route, method and status.",
            &["route", "method", "status"]
        );
        seconds: HistogramVec = histogram_vec(
            "llm_bench_http_seconds",
            "Time until the answer's head, by route.",
            &["route"],
            exponential_buckets(0.000_1, 4.0, 9)?
        );
        event_streams: IntGauge = gauge("llm_bench_event_streams", "Open streams of /api/v1/events.");
    }
}

impl HttpTelemetry {
    /// The metrics of one route, looked up once.
    pub(super) fn route(&self, route: &'static str) -> RouteTelemetry {
        RouteTelemetry {
            route,
            get_ok: self.requests.with_label_values(&[route, "GET", "200"]),
            seconds: self.seconds.with_label_values(&[route]),
            requests: self.requests.clone(),
        }
    }
}

/// The Prometheus metrics of one route.
#[derive(Debug, Clone)]
pub(super) struct RouteTelemetry {
    route: &'static str,
    get_ok: IntCounter,
    seconds: Histogram,
    requests: IntCounterVec,
}

impl RouteTelemetry {
    pub(super) fn observe(&self, method: &Method, status: StatusCode, elapsed: Duration) {
        self.seconds.observe(elapsed.as_secs_f64());
        if status == StatusCode::OK && method == Method::GET {
            return self.get_ok.inc();
        }
        // A client may send any token as the method; the number of label values must stay small.
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        self.requests
            .with_label_values(&[self.route, method, status.as_str()])
            .inc();
    }
}
