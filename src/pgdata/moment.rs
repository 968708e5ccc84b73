//! Times as the server writes them into its log and its labels, with the zone behind them.

use chrono::NaiveDateTime;

use crate::core::{Timestamp, abbreviation};

/// `2026-11-20 20:24:38 UTC`, `2026-11-21 01:54:40.318428+05:30`: a date, a time of day with up to six digits of a
/// fraction, and a zone. `None` for anything else, and for a zone that could be several.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(' ')?;
    let clock_end = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'))?;
    let (clock, zone) = rest.split_at_checked(clock_end)?;
    let in_form = date.len() == 10
        && date.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        && clock.len() <= "00:00:00.000000".len();
    if !in_form {
        return None;
    }
    let local = NaiveDateTime::parse_from_str(&format!("{date} {clock}"), "%Y-%m-%d %H:%M:%S%.f").ok()?;
    let offset_s = i64::from(offset_s(zone.trim())?);
    Timestamp::from_unix_micros(local.and_utc().timestamp_micros().checked_sub(offset_s * 1_000_000)?)
}

/// Seconds east of UTC.
pub(super) fn offset_s(zone: &str) -> Option<i32> {
    if let Some(offset_s) = abbreviation::offset_s(zone) {
        return Some(offset_s);
    }
    let (sign, digits) = match zone.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, zone.strip_prefix('-')?),
    };
    // `+05:30` in messages (EncodeTimezone, src/backend/utils/adt/datetime.c), `+0530` as an abbreviation (tzdata).
    let packed: String = digits.split(':').collect();
    if !matches!(packed.len(), 2 | 4 | 6) || !packed.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize| packed.get(from..from + 2).map_or(Some(0), |p| p.parse::<i32>().ok());
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    (hours <= 15 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<String> {
        parse(text).map(|at| at.to_string())
    }

    #[test]
    fn times_are_read_as_the_server_writes_them() {
        for (text, utc) in [
            ("2026-11-20 20:24:38 UTC", "2026-11-20T20:24:38.000000Z"),
            ("2026-11-20 20:24:40.318428+00", "2026-11-20T20:24:40.318428Z"),
            ("2026-11-20 20:24:40.5+00", "2026-11-20T20:24:40.500000Z"),
            ("2026-11-21 01:54:40.318428+05:30", "2026-11-20T20:24:40.318428Z"),
            ("2026-11-20 16:54:40-03:30", "2026-11-20T20:24:40.000000Z"),
            ("2026-11-20 16:54:40 -0330", "2026-11-20T20:24:40.000000Z"),
            ("1890-01-01 00:53:28+00:53:28", "1890-01-01T00:00:00.000000Z"),
            ("2026-11-20 22:24:38 CEST", "2026-11-20T20:24:38.000000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(utc), "{text:?}");
        }
    }

    #[test]
    fn what_has_no_zone_or_several_gives_no_time() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20 20:24:38",
            "2026-11-20 20:24:38 CST",
            "2026-11-20 20:24:38 IST",
            "2026-11-20 20:24:38 PST",
            "2026-11-20 20:24:38 cet",
            "2026-11-20 20:24:38 +5",
            "2026-11-20 20:24:38+05:3",
            "2026-11-20 20:24:38+16",
            "2026-13-20 20:24:38 UTC",
            "12026-11-20 20:24:38 UTC",
            "2026-11-20 20:24:38.1234567+00",
            "2026-11-20 20:24:38+00 BC",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_server_would_write_reads_back(seconds in 0i64..4_000_000_000, micros in 0i64..1_000_000) {
            let at = Timestamp::from_unix_micros(seconds * 1_000_000 + micros).unwrap();
            prop_assert_eq!(parse(&at.for_server()), Some(at));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn no_text_of_its_own_letters_makes_it_panic(text in "[0-9:.+\\- UTC\u{e9}]{0,40}") {
            let _ = parse(&text);
        }
    }
}
