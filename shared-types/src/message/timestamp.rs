use chrono::{DateTime, NaiveDateTime, Utc};

use crate::Invalid;

/// RFC 3339, or the same without an offset (older producers), which then is UTC.
///
/// Years outside 1970 to 9999 are refused: no measurement was made then, PostgreSQL and RFC 3339 disagree about
/// them, and an hour far in the future would stay in every window for ever.
pub(super) fn parse(raw: &str) -> Result<DateTime<Utc>, Invalid> {
    let expected = "an RFC 3339 time between 1970 and 9999, such as 2024-09-27T11:29:13.291565Z";
    let refused = || Invalid::new("timestamp", raw, expected);
    let time = DateTime::parse_from_rfc3339(raw)
        .map(|time| time.to_utc())
        .or_else(|not_rfc3339| {
            let naive = NaiveDateTime::parse_from_str(raw, "%Y-%m-%dT%H:%M:%S%.f")
                .or_else(|_| NaiveDateTime::parse_from_str(raw, "%Y-%m-%d %H:%M:%S%.f"));
            naive.map(|time| time.and_utc()).map_err(|_| not_rfc3339)
        })
        .map_err(|_: chrono::ParseError| refused())?;
    let (earliest, latest) = (DateTime::UNIX_EPOCH.timestamp(), 253_402_300_799);
    if (earliest..=latest).contains(&time.timestamp()) {
        Ok(time)
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_form_is_the_same_instant() {
        for raw in [
            "2024-09-27T11:29:13.291565Z",
            "2024-09-27T13:29:13.291565+02:00",
            "2024-09-27T11:29:13.291565",
            "2024-09-27 11:29:13.291565",
        ] {
            assert_eq!(
                parse(raw).unwrap().timestamp_micros(),
                1_727_436_553_291_565,
                "{raw}"
            );
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for raw in [
            "",
            "yesterday",
            "1727436553",
            "2024-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "+10000-01-01T00:00:00Z",
        ] {
            assert!(parse(raw).is_err(), "{raw}");
        }
    }
}
