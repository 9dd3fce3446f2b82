use precise_time::MonotonicTime;

use super::{fixtures::report, render};
use crate::{
    calibration::{Calibration, ErrorQuantiles},
    plan::{Arrival, Load},
    record::{Class, RequestRecord},
    report::fixtures::{at, record, refused},
};

/// Parses the page as XML: every element is closed, every attribute quoted, every text escaped. Only `meta`, which HTML
/// leaves open, is taken out first.
fn parsed(page: &str) -> String {
    let mut xml = String::new();
    for (n, part) in page.split("<meta ").enumerate() {
        xml += if n == 0 {
            part
        } else {
            part.split_once('>').unwrap().1
        };
    }
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..roxmltree::ParsingOptions::default()
    };
    let document = roxmltree::Document::parse_with_options(&xml, options).unwrap();
    for element in document.descendants() {
        match element.tag_name().name() {
            "svg" => {
                assert_eq!(element.attribute("role"), Some("img"));
                assert!(
                    element
                        .attribute("aria-label")
                        .is_some_and(|label| !label.is_empty())
                );
            }
            "th" => assert!(element.attribute("scope").is_some()),
            "script" | "link" | "img" => panic!("the page refers to something: {element:?}"),
            _ => {}
        }
        for name in ["href", "src", "onclick", "onload"] {
            assert_eq!(element.attribute(name), None);
        }
    }
    assert!(!page.contains("NaN") && !page.contains("inf "), "{page}");
    let texts = document
        .descendants()
        .filter(|node| node.is_text() && node.parent().is_none_or(|parent| !parent.has_tag_name("style")));
    texts
        .filter_map(|node| node.text())
        .collect::<Vec<_>>()
        .join("\n")
}

fn open_loop(rate: f64) -> Load {
    serde_json::from_value(serde_json::json!({
        "kind": "open", "rate": rate, "arrival": Arrival::Poisson, "ramp_up_s": 2.0, "max_in_flight": 100,
    }))
    .unwrap()
}

fn page(records: &[RequestRecord]) -> String {
    render(&report(records, |_, _| ()), records, at(0))
}

#[test]
fn a_small_run() {
    let mut records: Vec<_> = (0..6).map(record).collect();
    records.push(refused(6, 429));
    let mut report = report(&records, |_, plan| {
        plan.slo.ttft_s = Some(0.25);
        plan.warmup_requests = 1;
    });
    report.calibration = Some(Calibration {
        requests: 300,
        ttft_error: ErrorQuantiles {
            p50_s: 0.000_1,
            p99_s: 0.000_4,
            max_s: 0.001,
        },
        server_lateness_p99_s: Some(0.000_2),
        loop_lag_p99_s: None,
        stamp_uncertainty_p99_s: Some(0.000_1),
        late_send_p99_s: None,
        streams: None,
        tokens_per_s_possible: 1000.0,
        tokens_per_s_achieved: 990.0,
    });
    let page = render(&report, &records, at(0));
    let body = page.split_once("</head>").unwrap().1;
    // One element a line, so that a difference can be read.
    insta::assert_snapshot!(body.replace("><", ">\n<"));
    assert!(parsed(&page).contains("VALID"));
}

#[test]
fn no_text_from_outside_becomes_markup() {
    let hostile = "</title><script>alert(1)</script>\"' onload='x' & <b>\u{0}\u{202e}\u{b}\u{ffff}";
    let records: Vec<_> = (0..3).map(record).chain([refused(3, 500)]).collect();
    let mut report = report(&records, |_, plan| {
        plan.model = hostile.to_owned();
        plan.metadata.insert(hostile.to_owned(), hostile.to_owned());
        plan.sampling
            .insert(hostile.to_owned(), serde_json::json!([hostile]));
    });
    report.errors[0].sample = Some(hostile.to_owned());
    report.problems.push(hostile.to_owned());
    report.client_error.reasons.push(hostile.to_owned());
    report.run_id = hostile.to_owned();
    report.client.host = hostile.to_owned();
    let page = render(&report, &records, at(0));
    assert!(!page.contains("<script") && !page.contains("<b>"));
    let shown = "</title><script>alert(1)</script>\"' onload='x' & <b>\u{fffd}\u{fffd}\u{fffd}\u{fffd}";
    // Title, heading, run, host, reason, problem, error; parameters: model, metadata (name and value), sampling's name.
    assert_eq!(parsed(&page).matches(shown).count(), 11);
}

#[test]
fn a_long_text_is_cut() {
    let records = [refused(0, 500)];
    let mut report = report(&records, |_, _| ());
    report.errors[0].sample = Some("ä".repeat(1_000_000));
    report.problems = vec!["p".repeat(5_000); 5_000];
    let page = render(&report, &records, at(0));
    assert!(page.len() < 300_000, "{}", page.len());
    assert!(parsed(&page).contains("And 4900 more"));
}

#[test]
fn runs_with_next_to_nothing_have_a_page() {
    let immediate = RequestRecord {
        closed: at(0),
        intended: at(0),
        sent: Some(at(0)),
        first_content: Some(at(0)),
        last_content: Some(at(0)),
        ..record(0)
    };
    let dropped = RequestRecord {
        sent: None,
        class: Class::Dropped,
        ..refused(0, 0)
    };
    for records in [
        vec![],
        vec![record(0)],
        vec![refused(0, 500)],
        vec![immediate],
        vec![dropped],
    ] {
        for load in [None, Some(open_loop(1.0))] {
            for stream in [true, false] {
                let report = report(&records, |_, plan| {
                    plan.stream = stream;
                    plan.load = load.clone().unwrap_or(plan.load.clone());
                    plan.warmup_requests = u64::from(stream);
                });
                let text = parsed(&render(&report, &records, at(0)));
                assert!(text.contains("How requests ended"));
            }
        }
    }
}

#[test]
fn an_open_loop_shows_what_the_users_waited() {
    let records: Vec<_> = (0..50).map(record).collect();
    let report = report(&records, |measurements, plan| {
        plan.load = open_loop(10.0);
        measurements.ramp_end = at(2_000);
    });
    let text = parsed(&render(&report, &records, at(0)));
    assert!(text.contains("TTFT: from sent and from the intended start"));
    assert!(text.contains("200 ms from sent, 210 ms from the intended start"));
    assert!(text.contains("ramp"));
    assert!(!parsed(&page(&records)).contains("from sent and from"));
}

#[test]
fn a_page_of_part_of_the_records_says_so() {
    let records: Vec<_> = (0..50).map(record).collect();
    let report = report(&records, |_, _| ());
    let text = parsed(&render(&report, &records[..20], at(0)));
    assert!(text.contains(&format!("20 of {} requests are plotted.", report.ttft_s.n)));
}

#[test]
fn a_million_requests_make_a_page_of_the_size_of_a_few_thousands() {
    let later = |moment: MonotonicTime, nanos: u64| MonotonicTime::from_nanos(moment.as_nanos() + nanos);
    let records: Vec<_> = (0..1_000_000)
        .map(|index| {
            let base = record(0);
            // 1 ms apart; the first token comes up to 0.4 s later than usual.
            let (due, slow) = (index * 1_000_000, index * 7_919 % 400_000_000);
            RequestRecord {
                index,
                intended: later(base.intended, due),
                sent: base.sent.map(|sent| later(sent, due)),
                first_content: base.first_content.map(|first| later(first, due + slow)),
                last_content: base.last_content.map(|last| later(last, due + slow)),
                closed: later(base.closed, due + slow),
                class: if index % 1000 == 0 {
                    Class::TimedOut
                } else {
                    Class::Ok
                },
                ..base
            }
        })
        .collect();
    let report = report(&records[..10], |_, plan| plan.load = open_loop(1000.0));
    let page = render(&report, &records, at(0));
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(parsed(&page).contains("because there are more than 2000 requests"));
}
