//! Points in time: how they are read from operators, shown to them, and written for the server.

use std::fmt;

use chrono::{DateTime, LocalResult, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod reading;

pub use reading::{BadTime, parse_end, parse_time, same_time_of_day};

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01 00:00 UTC (`POSTGRES_EPOCH_JDATE`,
/// `src/include/datatype/timestamp.h`).
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A moment in UTC with microseconds, which is all that PostgreSQL's timestamps can tell apart.
///
/// In JSON: RFC 3339 with six digits and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// In microseconds since 1970-01-01 UTC. Asking the calendar for every commit would take longer than reading it.
const YEARS_1_TO_9999: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

impl Timestamp {
    /// 1970-01-01 00:00 UTC.
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);

    /// From a `TimestampTz`: microseconds since 2000-01-01 UTC. `None` outside the years that can be printed.
    #[must_use]
    pub fn from_postgres(micros: i64) -> Option<Timestamp> {
        Self::from_unix_micros(micros.checked_add(POSTGRES_EPOCH_MICROS)?)
    }

    /// From a `pg_time_t` or any other count of seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Option<Timestamp> {
        Self::from_unix_micros(seconds.checked_mul(1_000_000)?)
    }

    /// From microseconds since 1970-01-01 UTC. `None` outside the years 1 to 9999.
    #[must_use]
    pub fn from_unix_micros(micros: i64) -> Option<Timestamp> {
        YEARS_1_TO_9999.contains(&micros).then_some(Timestamp(micros))
    }

    /// Microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        self.0
    }

    /// Seconds from `earlier` to here, negative where `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// This moment moved by so many microseconds, kept where it is if that cannot be told any more.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Timestamp {
        self.0.checked_add(micros).and_then(Self::from_unix_micros).unwrap_or(self)
    }

    /// As the settings get it: `2024-10-02 12:30:05.123456+00`, which every server reads alike whatever its zone.
    /// `Z` and zone abbreviations are refused by the server when it reads its configuration.
    #[must_use]
    pub fn for_server(self) -> String {
        self.utc().format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
    }

    /// For people: `2024-10-02 14:30:05.123456 +02:00` in `zone`.
    #[must_use]
    pub fn in_zone(self, zone: Zone) -> String {
        self.local(zone).format("%Y-%m-%d %H:%M:%S%.6f %:z").to_string()
    }

    /// The same without what is less than a second: `2024-10-02 14:30:05 +02:00`.
    #[must_use]
    pub fn in_zone_to_the_second(self, zone: Zone) -> String {
        self.local(zone).format("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// As a server's log has it with `%m` in `log_line_prefix`: `2024-10-02 14:30:05.123 CEST`.
    #[must_use]
    pub fn in_log(self, zone: Zone) -> String {
        self.local(zone).format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
    }

    /// For narrow places: `10-02 14:30` in `zone`; `10-27 02:30+02` where clocks show that twice.
    #[must_use]
    pub fn short(self, zone: Zone) -> String {
        self.formatted(zone, "%m-%d %H:%M")
    }

    /// The same with seconds: `10-02 14:30:05`, `10-27 02:30:05+02`.
    #[must_use]
    pub fn to_the_second(self, zone: Zone) -> String {
        self.formatted(zone, "%m-%d %H:%M:%S")
    }

    /// Time of day to the second: `14:30:05`, `02:30:05+02`.
    #[must_use]
    pub fn clock(self, zone: Zone) -> String {
        self.formatted(zone, "%H:%M:%S")
    }

    /// For rows of lists, 21 columns wide: `10-02 14:30:05.123456`. With the offset for fewer digits,
    /// `10-27 02:30:05.123+02`, where clocks in `zone` show that time twice, or where it is wanted.
    #[must_use]
    pub fn in_row(self, zone: Zone, with_offset: bool) -> String {
        let full = self.local(zone).format("%m-%d %H:%M:%S%.6f").to_string();
        if !with_offset && !self.comes_twice(zone) {
            return full;
        }
        let offset = self.offset(zone);
        let room = full.len().saturating_sub(offset.len());
        format!("{}{offset}", full.get(..room).unwrap_or(&full).trim_end_matches('.'))
    }

    /// Whether clocks in `zone` show the time of this moment at another one too, because they are put back.
    #[must_use]
    pub fn comes_twice(self, zone: Zone) -> bool {
        matches!(zone.0.from_local_datetime(&self.local(zone).naive_local()), LocalResult::Ambiguous(..))
    }

    /// The offset of `zone` at this moment, as short as it can be read: `+02`, `+0530`.
    #[must_use]
    pub fn offset(self, zone: Zone) -> String {
        let offset = self.local(zone).format("%z").to_string();
        offset.strip_suffix("00").map_or(offset.clone(), str::to_owned)
    }

    /// Nothing, or the offset where clocks in `zone` show the time of this moment twice.
    #[must_use]
    pub fn offset_if_twice(self, zone: Zone) -> String {
        if self.comes_twice(zone) { self.offset(zone) } else { String::new() }
    }

    fn formatted(self, zone: Zone, format: &str) -> String {
        format!("{}{}", self.local(zone).format(format), self.offset_if_twice(zone))
    }

    /// For names of files: `20241002-123005`, in UTC.
    #[must_use]
    pub fn compact(self) -> String {
        self.compact_in(Zone::UTC)
    }

    /// The same by the clocks of `zone`.
    #[must_use]
    pub fn compact_in(self, zone: Zone) -> String {
        self.local(zone).format("%Y%m%d-%H%M%S").to_string()
    }

    /// Time of day in `zone`: `14:30:05.123456`, `02:30:05.123456+02` where clocks show that twice.
    #[must_use]
    pub fn time_of_day(self, zone: Zone) -> String {
        self.formatted(zone, "%H:%M:%S%.6f")
    }

    /// Seconds that clocks in `zone` are ahead of UTC at this moment.
    #[must_use]
    pub fn utc_offset_s(self, zone: Zone) -> i64 {
        i64::from(self.local(zone).offset().fix().local_minus_utc())
    }

    fn utc(self) -> DateTime<Utc> {
        // `from_unix_micros` let only representable moments in.
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    fn local(self, zone: Zone) -> DateTime<Tz> {
        self.utc().with_timezone(&zone.0)
    }

    /// `None` where the moment is outside the years 1 to 9999.
    #[must_use]
    pub fn from_chrono<Z: TimeZone>(moment: &DateTime<Z>) -> Option<Timestamp> {
        Self::from_unix_micros(moment.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.utc().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let micros = i64::deserialize(deserializer)?;
            return Timestamp::from_unix_micros(micros).ok_or_else(|| serde::de::Error::custom("no such moment"));
        }
        let text = String::deserialize(deserializer)?;
        let moment = DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Timestamp::from_chrono(&moment).ok_or_else(|| serde::de::Error::custom("outside the years 1 to 9999"))
    }
}

/// The zone in which local times are read and shown, by its IANA name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(pub Tz);

impl Zone {
    /// Universal time.
    pub const UTC: Zone = Zone(Tz::UTC);
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.name().fmt(f)
    }
}

/// Why a text names no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{name}” is not a time zone{}", .nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
pub struct UnknownZone {
    /// What was given.
    pub name: String,
    /// The zone whose name is most like it, where one is.
    pub nearest: Option<String>,
}

impl std::str::FromStr for Zone {
    type Err = UnknownZone;

    /// By IANA name (`Europe/Berlin`, `UTC`), upper or lower case.
    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        Tz::from_str_insensitive(name)
            .map(Zone)
            .map_err(|_| UnknownZone { name: name.to_owned(), nearest: nearest(name) })
    }
}

fn nearest(name: &str) -> Option<String> {
    let wanted = name.to_lowercase();
    chrono_tz::TZ_VARIANTS
        .iter()
        .flat_map(|zone| {
            // A city alone is what people type; its region is what they leave out.
            let city = zone.name().rsplit('/').next().unwrap_or_default();
            [zone.name(), city].map(|part| (strsim::jaro_winkler(&wanted, &part.to_lowercase()), zone.name()))
        })
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BERLIN: Zone = Zone(Tz::Europe__Berlin);

    fn now() -> Timestamp {
        serde_json::from_str("\"2024-10-02T13:00:00Z\"").unwrap()
    }

    fn read(text: &str) -> Result<String, BadTime> {
        parse_time(text, BERLIN, now()).map(|t| t.to_string())
    }

    #[test]
    fn moments_are_of_years_with_four_digits() {
        let text = |micros| Timestamp::from_unix_micros(micros).map(|moment| moment.to_string());
        assert_eq!(text(YEARS_1_TO_9999.start).as_deref(), Some("0001-01-01T00:00:00.000000Z"));
        assert_eq!(text(YEARS_1_TO_9999.end - 1).as_deref(), Some("9999-12-31T23:59:59.999999Z"));
        assert_eq!((text(YEARS_1_TO_9999.start - 1), text(YEARS_1_TO_9999.end)), (None, None));
    }

    #[test]
    fn forms_that_are_understood() {
        for (text, utc) in [
            ("2024-10-02T14:30:05.123456+02:00", "2024-10-02T12:30:05.123456Z"),
            ("2024-10-02T12:30:05z", "2024-10-02T12:30:05.000000Z"),
            ("2024-10-02 14:30:05.12+02", "2024-10-02T12:30:05.120000Z"),
            ("2024-10-02 14:30:05 -0330", "2024-10-02T18:00:05.000000Z"),
            ("2024-10-02 14:30 America/New_York", "2024-10-02T18:30:00.000000Z"),
            ("2024-10-02 14:30 utc", "2024-10-02T14:30:00.000000Z"),
            ("2024-10-02 14:30", "2024-10-02T12:30:00.000000Z"),
            ("2024-10-02", "2024-10-01T22:00:00.000000Z"),
            ("14:30", "2024-10-02T12:30:00.000000Z"),
            ("9:05:01", "2024-10-02T07:05:01.000000Z"),
            ("yesterday 23:59", "2024-10-01T21:59:00.000000Z"),
            ("20 min ago", "2024-10-02T12:40:00.000000Z"),
            ("1h30m ago", "2024-10-02T11:30:00.000000Z"),
            ("now", "2024-10-02T13:00:00.000000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(utc), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for bad in [
            "",
            "abc",
            "ago",
            "5 ago",
            "5 fortnights ago",
            "2024-13-01",
            "2024-02-30 10:00",
            "25:00",
            "14:3",
            "14",
            "14:30:05.1234567",
            "14:30.5",
            "14:30:05.",
            "2024-10-02X14:30",
            "2024-10-02 14:30 +2",
            "2024-10-02 14:30 +16",
            "14:30:05:06",
            "2024-10-02 14:30 +02:00 x",
            "é",
            "2024-10-0é",
        ] {
            assert!(matches!(read(bad), Err(BadTime::NotATime(_))), "{bad:?} gave {:?}", read(bad));
        }
    }

    #[test]
    fn an_unknown_zone_is_named_with_the_nearest() {
        let error = read("2024-10-02 14:30 Europe/Berlim").unwrap_err().to_string();
        assert!(error.contains("Europe/Berlim") && error.contains("did you mean Europe/Berlin?"), "{error}");
        assert_eq!("berlin".parse::<Zone>().unwrap_err().nearest.as_deref(), Some("Europe/Berlin"));
        assert_eq!("Mars/Olympus".parse::<Zone>().unwrap_err().nearest, None);
    }

    #[test]
    fn a_local_time_with_two_readings_or_none_is_refused_and_both_are_named() {
        let twice = read("2024-10-27 02:30").unwrap_err().to_string();
        assert!(twice.contains("02:30:00 +02:00 (CEST)") && twice.contains("02:30:00 +01:00 (CET)"), "{twice}");
        let never = read("2024-03-31 02:30").unwrap_err().to_string();
        assert!(never.contains("02:00:00 +01:00") && never.contains("03:00:00 +02:00"), "{never}");
        assert_eq!(read("2024-10-27 02:30+01:00").as_deref(), Ok("2024-10-27T01:30:00.000000Z"));
    }

    #[test]
    fn what_is_named_can_be_given_and_abbreviations_are_what_they_mean() {
        for (text, utc) in [
            ("2024-10-27 02:30:00 +02:00 (CEST)", "2024-10-27T00:30:00.000000Z"),
            ("2024-10-27 02:30:00 +01:00 (CET)", "2024-10-27T01:30:00.000000Z"),
            ("2024-10-27 02:30 Europe/Berlin +01:00", "2024-10-27T01:30:00.000000Z"),
            ("2024-10-27 02:30 +02:00 Europe/Berlin", "2024-10-27T00:30:00.000000Z"),
            ("2024-10-27 02:30 CEST", "2024-10-27T00:30:00.000000Z"),
            ("2024-10-27 02:30 CET", "2024-10-27T01:30:00.000000Z"),
            ("2024-03-31 02:00:00 +01:00 (CET)", "2024-03-31T01:00:00.000000Z"),
            ("2024-07-01 12:00 UTC", "2024-07-01T12:00:00.000000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(utc), "{text}");
        }
        let summer = read("2024-07-01 12:00 CET").unwrap_err().to_string();
        assert!(summer.contains("means +01:00") && summer.contains("+02:00 (CEST)"), "{summer}");
        let several = read("2024-07-01 12:00 IST").unwrap_err().to_string();
        assert!(several.contains("does not mean one offset") && !several.contains("Istanbul"), "{several}");
        for wrong in ["2024-07-01 12:00 +01:00 (CEST)", "2024-07-01 12:00 Europe/Berlin +01:00"] {
            assert!(matches!(read(wrong), Err(BadTime::Mismatch { .. })), "{wrong}");
        }
    }

    #[test]
    fn forms_that_are_written() {
        let time = Timestamp::from_postgres(781_187_405_123_456).unwrap();
        assert_eq!(time.to_string(), "2024-10-02T12:30:05.123456Z");
        assert_eq!(time.for_server(), "2024-10-02 12:30:05.123456+00");
        assert_eq!(time.in_zone(BERLIN), "2024-10-02 14:30:05.123456 +02:00");
        assert_eq!(Timestamp::from_postgres(i64::MAX), None, "infinity is no moment");
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(seconds in 0i64..250_000_000_000, micros in 0i64..1_000_000) {
            let time = Timestamp::from_unix_micros(seconds * 1_000_000 + micros).unwrap();
            prop_assert_eq!(parse_time(&time.to_string(), BERLIN, now()), Ok(time));
            prop_assert_eq!(parse_time(&time.for_server(), BERLIN, now()), Ok(time));
            prop_assert_eq!(parse_time(&time.in_zone(BERLIN), BERLIN, now()), Ok(time));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = parse_time(&text, BERLIN, now());
        }

        #[test]
        fn no_text_of_its_own_letters_makes_it_panic(text in "[0-9:.+\\-TZ ago]{0,40}") {
            let _ = parse_time(&text, BERLIN, now());
        }
    }
}
