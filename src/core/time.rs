//! Points in time: how they are read from operators, shown to them, and written for the server.

use std::fmt;

use chrono::{
    DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::abbreviation;

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

    /// As a server's log has it with `%m` in `log_line_prefix`: `2024-10-02 14:30:05.123 CEST`.
    #[must_use]
    pub fn in_log(self, zone: Zone) -> String {
        self.local(zone).format("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
    }

    /// For narrow places: `10-02 14:30` in `zone`.
    #[must_use]
    pub fn short(self, zone: Zone) -> String {
        self.local(zone).format("%m-%d %H:%M").to_string()
    }

    /// For names of files: `20241002-123005`, in UTC.
    #[must_use]
    pub fn compact(self) -> String {
        self.utc().format("%Y%m%d-%H%M%S").to_string()
    }

    /// Time of day in `zone`: `14:30:05.123456`.
    #[must_use]
    pub fn time_of_day(self, zone: Zone) -> String {
        self.local(zone).format("%H:%M:%S%.6f").to_string()
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

/// Why a text is not one point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// None of the forms that are understood.
    #[error(
        "“{0}” is not a time: give 2024-10-02T14:30:05+02:00, “2024-10-02 14:30:05.123456+02”, “2024-10-02 14:30 Europe/Berlin”, a local “2024-10-02 14:30” or 14:30, or “20 min ago”"
    )]
    NotATime(String),
    /// The words behind the time name no zone.
    #[error("in “{text}”: {zone} (use an IANA name like Europe/Berlin, or an offset like +02:00)")]
    Zone {
        /// What was given.
        text: String,
        /// Which part of it, and what it may have meant.
        zone: UnknownZone,
    },
    /// When clocks are put back, local times come twice.
    #[error("“{text}” comes twice in {zone}: it is {first} or {second}; give the one that you mean, like this")]
    Ambiguous {
        /// What was given.
        text: String,
        /// Where it is ambiguous.
        zone: String,
        /// The earlier reading.
        first: String,
        /// The later reading.
        second: String,
    },
    /// An abbreviation that means several zones, or another offset than the zone of that name has then.
    #[error("in “{text}”: {name} {why}; give the offset, like +02:00, or an IANA name like Europe/Berlin")]
    Abbreviation {
        /// What was given.
        text: String,
        /// The abbreviation.
        name: String,
        /// Why it is not taken.
        why: String,
    },
    /// An offset and a zone that do not go together.
    #[error("in “{text}”: clocks in {zone} did not show {offset} then; give one of the two")]
    Mismatch {
        /// What was given.
        text: String,
        /// The zone.
        zone: String,
        /// The offset.
        offset: String,
    },
    /// When clocks are put forward, local times are left out.
    #[error("“{text}” never came in {zone}: clocks went from {before} to {after}; give one of these, or add an offset")]
    Skipped {
        /// What was given.
        text: String,
        /// Where it is missing.
        zone: String,
        /// The last moment before the clocks were changed.
        before: String,
        /// The first moment after it.
        after: String,
    },
}

/// Reads a point in time as an operator types it. `now` is what "14:30" and "20 min ago" are counted from.
///
/// # Errors
/// See [`BadTime`]; nothing is ever assumed about a time that has two readings or none.
pub fn parse_time(text: &str, zone: Zone, now: Timestamp) -> Result<Timestamp, BadTime> {
    let trimmed = text.trim();
    let not_a_time = || BadTime::NotATime(text.to_owned());
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(now);
    }
    if let Some(span) = trimmed.strip_suffix("ago") {
        let micros = parse_span(span).ok_or_else(not_a_time)?;
        return Timestamp::from_unix_micros(now.0.saturating_sub(micros)).ok_or_else(not_a_time);
    }
    let today = now.local(zone).date_naive();
    let (date, rest) = take_date(trimmed, today).ok_or_else(not_a_time)?;
    let (time, rest) = take_time(rest).ok_or_else(not_a_time)?;
    let local = NaiveDateTime::new(date, time);
    let words: Vec<&str> = rest.split_whitespace().collect();
    let at_offset = |offset_s: i32| {
        let micros = local.and_utc().timestamp_micros() - i64::from(offset_s) * 1_000_000;
        Timestamp::from_unix_micros(micros).ok_or_else(not_a_time)
    };
    match words.as_slice() {
        [] => to_moment(local, zone, text),
        [one] => match parse_offset(one) {
            Some(offset_s) => at_offset(offset_s),
            None if one.starts_with(|c: char| c.is_ascii_alphabetic()) => in_named_zone(local, one, text),
            None => Err(not_a_time()),
        },
        // As they are shown: an offset, and in which zone that was.
        [first, second] => {
            let (offset, name) = if parse_offset(first).is_some() { (first, second) } else { (second, first) };
            let offset_s = parse_offset(offset).ok_or_else(not_a_time)?;
            let moment = at_offset(offset_s)?;
            let name = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')).unwrap_or(name);
            let mismatch =
                || BadTime::Mismatch { text: text.to_owned(), zone: name.to_owned(), offset: (*offset).to_owned() };
            let theirs = match abbreviation::offset_s(name) {
                Some(theirs) => i64::from(theirs),
                None => moment.utc_offset_s(name.parse().map_err(|_| not_a_time())?),
            };
            (theirs == i64::from(offset_s)).then_some(moment).ok_or_else(mismatch)
        }
        _ => Err(not_a_time()),
    }
}

/// The moment at which clocks showed `local` in a zone that is called by its name or an abbreviation.
fn in_named_zone(local: NaiveDateTime, name: &str, text: &str) -> Result<Timestamp, BadTime> {
    let refused = |why: String| Err(BadTime::Abbreviation { text: text.to_owned(), name: name.to_owned(), why });
    let zone: Result<Zone, UnknownZone> = name.parse();
    match (abbreviation::offset_s(name), zone) {
        (Some(offset_s), zone) => {
            let micros = local.and_utc().timestamp_micros() - i64::from(offset_s) * 1_000_000;
            let moment = Timestamp::from_unix_micros(micros).ok_or_else(|| BadTime::NotATime(text.to_owned()))?;
            // In July who says CET may mean what clocks show then, which is CEST.
            match zone {
                Ok(zone) if moment.utc_offset_s(zone) != i64::from(offset_s) => refused(format!(
                    "means {}, and where it is used clocks showed {} then",
                    offset_in_words(offset_s),
                    moment.local(zone).format("%:z (%Z)")
                )),
                _ => Ok(moment),
            }
        }
        (None, Ok(zone)) => to_moment(local, zone, text),
        (None, Err(_)) if abbreviation::looks_like_one(name) => {
            refused("does not mean one offset everywhere".to_owned())
        }
        (None, Err(zone)) => Err(BadTime::Zone { text: text.to_owned(), zone }),
    }
}

/// `+02:00`
fn offset_in_words(offset_s: i32) -> String {
    let sign = if offset_s < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", offset_s.abs() / 3600, offset_s.abs() / 60 % 60)
}

/// The moment at which clocks in `zone` show `local`, if there is exactly one.
fn to_moment(local: NaiveDateTime, zone: Zone, text: &str) -> Result<Timestamp, BadTime> {
    let show = |moment: &DateTime<Tz>| moment.format("%Y-%m-%d %H:%M:%S %:z (%Z)").to_string();
    match zone.0.from_local_datetime(&local) {
        LocalResult::Single(moment) => {
            Timestamp::from_chrono(&moment).ok_or_else(|| BadTime::NotATime(text.to_owned()))
        }
        LocalResult::Ambiguous(first, second) => Err(BadTime::Ambiguous {
            text: text.to_owned(),
            zone: zone.to_string(),
            first: show(&first),
            second: show(&second),
        }),
        LocalResult::None => {
            // No zone ever skipped more than a day and a bit (Samoa, 2011-12-30).
            let minutes = |sign: i64| (1..=1500).map(move |m| TimeDelta::minutes(sign * m));
            let minute = local.with_second(0).and_then(|l| l.with_nanosecond(0)).unwrap_or(local);
            let at = |delta| minute.checked_add_signed(delta).and_then(|l| zone.0.from_local_datetime(&l).single());
            let edge = |sign| minutes(sign).find_map(at);
            // What the clocks would have shown when they were put forward.
            let before = edge(-1).map(|last| {
                let shown = last.naive_local() + TimeDelta::minutes(1);
                format!("{} {}", shown.format("%Y-%m-%d %H:%M:%S"), last.format("%:z (%Z)"))
            });
            Err(BadTime::Skipped {
                text: text.to_owned(),
                zone: zone.to_string(),
                before: before.unwrap_or_default(),
                after: edge(1).map(|moment| show(&moment)).unwrap_or_default(),
            })
        }
    }
}

/// The date at the start of `text` (or `today` where there is only a time), and what follows it.
fn take_date(text: &str, today: NaiveDate) -> Option<(NaiveDate, &str)> {
    for (word, date) in [("today", Some(today)), ("yesterday", today.checked_sub_days(Days::new(1)))] {
        if text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            return Some((date?, text.get(word.len()..)?.trim_start()));
        }
    }
    let looks_like_date = text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    if !looks_like_date {
        return Some((today, text)).filter(|_| !text.is_empty());
    }
    let date = NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
    let rest = text.get(10..)?;
    match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => Some((date, rest.trim_start())),
        None => rest.is_empty().then_some((date, rest)),
    }
}

/// `14:30`, `14:30:05` or `14:30:05.123456` at the start of `text`, midnight where it is empty, and what follows.
fn take_time(text: &str) -> Option<(NaiveTime, &str)> {
    if text.is_empty() {
        return Some((NaiveTime::MIN, text));
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(text.len());
    let (clock, rest) = text.split_at(end);
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.split(':');
    let mut number = |width: std::ops::RangeInclusive<usize>| -> Option<u32> {
        parts.next().filter(|p| width.contains(&p.len())).and_then(|p| p.parse().ok())
    };
    let (hour, minute, seconds) = (number(1..=2)?, number(2..=2)?, number(2..=2));
    let micros = match fraction {
        None => 0,
        Some(digits) if (1..=6).contains(&digits.len()) && seconds.is_some() => {
            digits.parse::<u32>().ok()? * 10_u32.pow(6 - digits.len() as u32)
        }
        Some(_) => return None,
    };
    let colons = clock.matches(':').count();
    if colons != 1 + usize::from(seconds.is_some()) {
        return None;
    }
    Some((NaiveTime::from_hms_micro_opt(hour, minute, seconds.unwrap_or(0), micros)?, rest))
}

/// `Z`, `+02`, `+0230`, `+02:30`, `-02:30:15` in seconds east of UTC.
fn parse_offset(text: &str) -> Option<i32> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, digits) = match text.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, text.strip_prefix('-')?),
    };
    let packed: String = digits.split(':').collect();
    let well_formed = packed.bytes().all(|b| b.is_ascii_digit())
        && digits.split(':').enumerate().all(|(i, part)| part.len() == 2 || (i == 0 && part.len() == 4));
    let part = |range| packed.get(range).map_or(Some(0), |p: &str| p.parse::<i32>().ok());
    let (hours, minutes, seconds) = match (well_formed, packed.len()) {
        (true, 2) => (part(0..2)?, 0, 0),
        (true, 4) => (part(0..2)?, part(2..4)?, 0),
        (true, 6) => (part(0..2)?, part(2..4)?, part(4..6)?),
        _ => return None,
    };
    (hours <= 15 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// `20 min`, `1h 30m`, `2 days` in microseconds.
fn parse_span(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?.trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let seconds = match rest.get(..letters)?.to_ascii_lowercase().as_str() {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86400,
            "w" | "week" | "weeks" => 7 * 86400,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(seconds)?)?;
        rest = rest.get(letters..)?.trim_start();
    }
    total.checked_mul(1_000_000)
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
