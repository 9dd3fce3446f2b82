use std::{
    io::{self, Read as _, Seek as _},
    os::fd::AsFd as _,
};

use super::*;

fn target(requests: Option<u64>) -> Target {
    Target {
        requests,
        send_for: Duration::from_secs(10),
    }
}

#[test]
fn where_there_is_no_terminal_plain_lines_come() {
    let (mut reader, writer) = io::pipe().unwrap();
    assert_eq!(Style::of(&writer.as_fd()), Style::Lines);
    let display = Display::on(Arc::new(Progress::new(1)), target(Some(5)), Lines::new(writer)).unwrap();
    display.finish();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("0/5 requests, "), "{said}");
    assert!(
        said.ends_with(": 0 in flight, 0 requests/s, 0 chunks/s\n"),
        "{said}"
    );
}

#[test]
fn a_line_comes_every_five_seconds_and_one_at_the_end() {
    let mut file = tempfile::tempfile().unwrap();
    let mut lines = Lines::new(file.try_clone().unwrap());
    let mut meter = RateMeter::new(target(None));
    let progress = Progress::new(1);
    let mut at = |millis: u64| {
        let now = MonotonicTime::from_nanos(meter.started.as_nanos() + millis * 1_000_000);
        meter.at(now, progress.snapshot())
    };
    for poll in 1..=48 {
        lines.show(&at(poll * 250));
    }
    lines.end(&at(12_100));
    file.rewind().unwrap();
    let mut said = String::new();
    file.read_to_string(&mut said).unwrap();
    let elapsed: Vec<_> = said.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(elapsed, ["5", "10", "12"]);
}

#[test]
fn rates_are_those_of_the_last_seconds() {
    let progress = Progress::new(1);
    let mut meter = RateMeter::new(target(None));
    let started = meter.started.as_nanos();
    let mut at = |millis: u64, chunks| {
        let mut snapshot = progress.snapshot();
        snapshot.chunks = chunks;
        meter.at(MonotonicTime::from_nanos(started + millis * 1_000_000), snapshot)
    };
    // 1000 a second for five seconds, and then nothing.
    assert_eq!(at(0, 0).chunks_per_s, 0.0);
    for poll in 1..=20 {
        assert_eq!(at(poll * 250, poll * 250).chunks_per_s, 1000.0);
    }
    let after: Vec<_> = (21..=45).map(|poll| at(poll * 250, 5_000).chunks_per_s).collect();
    assert!(after.is_sorted_by(|before, after| before >= after));
    assert_eq!((after[9], after.last()), (500.0, Some(&0.0)));
}
