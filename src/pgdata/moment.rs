//! Times as the server writes them into its log and its labels, with the zone behind them.

use chrono::NaiveDateTime;

use crate::core::Timestamp;

/// Zone abbreviations that have meant one offset, in minutes east of UTC, and no other anywhere in the world in
/// the years of PostgreSQL 13 and later. CST, IST and PST are left out: they mean different offsets in different
/// places, and a time that is an hour or half a day off is worse than none.
const ZONES: [(&str, i32); 17] = [
    ("UTC", 0),
    ("GMT", 0),
    ("UCT", 0),
    ("Z", 0),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("EST", -300),
    ("EDT", -240),
    ("JST", 540),
    ("AEST", 600),
    ("AEDT", 660),
];

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
    if let Some((_, minutes)) = ZONES.iter().find(|(name, _)| *name == zone) {
        return Some(minutes * 60);
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

    /// Asks the whole time zone database, twice a year from 2020 to 2035.
    #[test]
    fn every_abbreviation_means_one_offset_and_those_left_out_mean_several() {
        use chrono::{DateTime, Offset, TimeZone, Utc};
        let offsets_of = |wanted: &str| {
            let mut offsets = std::collections::BTreeSet::new();
            for half_year in 0..30 {
                let at: DateTime<Utc> = DateTime::from_timestamp(1_579_000_000 + half_year * 15_778_800, 0).unwrap();
                for zone in chrono_tz::TZ_VARIANTS {
                    let offset = zone.offset_from_utc_datetime(&at.naive_utc());
                    if offset.to_string() == wanted {
                        offsets.insert(offset.fix().local_minus_utc());
                    }
                }
            }
            offsets.into_iter().collect::<Vec<_>>()
        };
        for (name, minutes) in ZONES.iter().filter(|(name, _)| !["Z", "UCT"].contains(name)) {
            assert_eq!(offsets_of(name), [minutes * 60], "{name}");
        }
        for ambiguous in ["CST", "IST", "PST"] {
            assert!(offsets_of(ambiguous).len() > 1, "{ambiguous} became unambiguous");
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
