//! Reading a point in time as an operator types it, by the clock that it was told by.

use chrono::{
    DateTime, Datelike, Days, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone,
    Timelike,
};
use chrono_tz::Tz;

use super::{Timestamp, UnknownZone, Zone};
use crate::core::abbreviation;

const HOUR: i64 = 3_600_000_000;

/// Why a text is not one point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// None of the forms that are understood.
    #[error(
        "“{0}” is not a time: give 14:30, '8:40 pm', '20:40 New York', '20:40 EDT', 'yesterday 20:40', '10-02 14:30:05', '2024-10-02 14:30', '2024-10-02 14:30:05.123456+02' or '2 hours ago'"
    )]
    NotATime(String),
    /// The words behind the time name no zone.
    #[error(
        "in “{text}”: {zone} (use an IANA name, a city or an offset, like '20:40 Europe/Berlin', '20:40 New York' or '20:40 +02:00')"
    )]
    Zone {
        /// What was given.
        text: String,
        /// Which part of it, and what it may have meant.
        zone: UnknownZone,
    },
    /// The words behind the time are the end of several zones' names, and these differ.
    #[error("in “{text}”: “{name}” may be {zones}; give one of these")]
    SeveralZones {
        /// What was given.
        text: String,
        /// The words behind the time.
        name: String,
        /// The zones.
        zones: String,
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

/// Reads a point in time as an operator types it. `now` is what "14:30" and "20 min ago" are counted from: a time
/// without a date, or with a month and a day only, is the newest one that is not after `now` by the clock of the zone
/// that it names, else of `zone`.
///
/// # Errors
/// See [`BadTime`]; nothing is ever assumed about a time that has two readings, both of them past, or none.
pub fn parse_time(text: &str, zone: Zone, now: Timestamp) -> Result<Timestamp, BadTime> {
    match Told::parse(text, zone)? {
        Told::Back(micros) => {
            Timestamp::from_unix_micros(now.0.saturating_sub(micros)).ok_or_else(|| BadTime::NotATime(text.to_owned()))
        }
        Told::Clock(told) => told.moment(text, now),
    }
}

/// Reads the end of a stretch of time that begins at `from`: like [`parse_time`], but a mere time of day that would
/// lie before the beginning is the next one after it, even where that is still to come.
///
/// # Errors
/// As [`parse_time`].
pub fn parse_end(text: &str, zone: Zone, now: Timestamp, from: Timestamp) -> Result<Timestamp, BadTime> {
    let at = parse_time(text, zone, now)?;
    let is_bare = matches!(Told::parse(text, zone), Ok(Told::Clock(told)) if told.day == Day::Newest);
    if at >= from || !is_bare {
        return Ok(at);
    }
    // One day more, of which one in the year has 25 hours.
    let next = parse_time(text, zone, from.plus_micros(24 * HOUR - 1))?;
    if next >= from { Ok(next) } else { parse_time(text, zone, from.plus_micros(25 * HOUR - 1)) }
}

/// When the clock that `text` was told by showed the same time of day for the last time between two moments, as that
/// can be typed: `2024-10-02 20:40:00 -04:00`; twice where it came twice. Empty where it never came, and where `text`
/// tells no time of day.
#[must_use]
pub fn same_time_of_day(text: &str, zone: Zone, from: Option<Timestamp>, to: Timestamp) -> Vec<String> {
    let Ok(Told::Clock(told)) = Told::parse(text, zone) else { return Vec::new() };
    let Some(clock) = told.place.clocks().into_iter().next() else { return Vec::new() };
    let is_within = |at: &Timestamp| *at <= to && from.is_none_or(|from| *at >= from);
    let last = clock.date(to);
    // A day more than one, for a time that the clocks left out.
    let days = [Some(last), last.pred_opt(), last.checked_sub_days(Days::new(2))];
    let on = |day: NaiveDate| match clock.readings(NaiveDateTime::new(day, told.time)) {
        Readings::One(at) => vec![at],
        Readings::Two(first, second) => vec![first, second],
        Readings::None { .. } => Vec::new(),
    };
    let found = days.into_iter().flatten().map(|day| on(day).into_iter().filter(is_within).collect::<Vec<_>>());
    let found = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    found.into_iter().map(|at| clock.in_full(at)).collect()
}

/// What a text says, before it is known which moment that is.
enum Told {
    /// So many microseconds ago.
    Back(i64),
    /// What a clock showed.
    Clock(ByClock),
}

/// What a clock showed, and where.
struct ByClock {
    day: Day,
    time: NaiveTime,
    place: Place,
}

/// How a text says which day it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// Not at all: the newest.
    Newest,
    /// So many days before the one that it is now.
    Before(u64),
    /// By month and day: in the newest year.
    OfYear(u32, u32),
    /// By its date.
    On(NaiveDate),
}

/// Whose clock it was.
enum Place {
    /// The configured zone's, or that of a zone with this name.
    Zone(Zone),
    /// One so far from UTC, in seconds; by an abbreviation or together with a zone's name, if there is one.
    Offset(i32, Option<String>),
    /// Of a zone whose name ends like this: several, which may be the same.
    City(String, Vec<Zone>),
}

/// A clock on the wall.
#[derive(Clone, Copy)]
enum Clock {
    Zone(Zone),
    /// In seconds east of UTC.
    Offset(i32),
}

/// The moments at which a clock shows a time.
enum Readings {
    One(Timestamp),
    Two(Timestamp, Timestamp),
    /// It is left out; the clock goes on at `after`.
    None {
        after: Timestamp,
    },
}

impl Told {
    fn parse(text: &str, zone: Zone) -> Result<Told, BadTime> {
        let not_a_time = || BadTime::NotATime(text.to_owned());
        let is_quote = |c: char| matches!(c, '"' | '\'' | '“' | '”') || c.is_whitespace();
        // “about 20:40, New York time”, as it is said on the telephone.
        let said = text.replace(',', " ");
        let said = said.trim_matches(is_quote);
        let about = ["about", "around", "at"].into_iter().find_map(|word| without_start(said, word));
        let trimmed = about.unwrap_or(said).trim_start();
        if trimmed.eq_ignore_ascii_case("now") {
            return Ok(Told::Back(0));
        }
        if let Some(span) = without_end(trimmed, "ago") {
            return parse_span(span).map(Told::Back).ok_or_else(not_a_time);
        }
        let (day, rest) = take_day(trimmed).ok_or_else(not_a_time)?;
        let rest = without_start(rest, "at").map_or(rest, str::trim_start);
        let (time, rest) = take_time(rest).ok_or_else(not_a_time)?;
        let mut words: Vec<&str> = rest.split_whitespace().collect();
        if words.len() > 1 && words.last().is_some_and(|word| word.eq_ignore_ascii_case("time")) {
            words.pop();
        }
        let place = Place::parse(&words, zone, text)?;
        Ok(Told::Clock(ByClock { day, time, place }))
    }
}

impl ByClock {
    /// The moment that is meant, where there is exactly one.
    fn moment(&self, text: &str, now: Timestamp) -> Result<Timestamp, BadTime> {
        let mut moments = self.place.clocks().into_iter().map(|clock| self.by(clock, text, now));
        let first = moments.next().unwrap_or_else(|| Err(BadTime::NotATime(text.to_owned())));
        if let Place::City(name, zones) = &self.place
            && moments.any(|other| other.as_ref().ok() != first.as_ref().ok())
        {
            let zones = zones.iter().map(Zone::to_string).collect::<Vec<_>>().join(", ");
            return Err(BadTime::SeveralZones { text: text.to_owned(), name: name.clone(), zones });
        }
        let at = first?;
        self.place.check(at, text)?;
        Ok(at)
    }

    fn by(&self, clock: Clock, text: &str, now: Timestamp) -> Result<Timestamp, BadTime> {
        let not_a_time = || BadTime::NotATime(text.to_owned());
        let today = clock.date(now);
        let days: Vec<NaiveDate> = match self.day {
            Day::On(date) => return clock.only(NaiveDateTime::new(date, self.time), text, None),
            Day::Before(days) => {
                let date = today.checked_sub_days(Days::new(days)).ok_or_else(not_a_time)?;
                return clock.only(NaiveDateTime::new(date, self.time), text, None);
            }
            // Clocks that are put back across midnight have shown tomorrow's date already.
            Day::Newest => [today.succ_opt(), Some(today), today.pred_opt()].into_iter().flatten().collect(),
            // The 29th of February is up to eight years back.
            Day::OfYear(month, day) => {
                (0..=8).filter_map(|back| NaiveDate::from_ymd_opt(today.year() - back, month, day)).collect()
            }
        };
        for date in days {
            match clock.only(NaiveDateTime::new(date, self.time), text, Some(now)) {
                Ok(at) if at > now => {}
                read => return read,
            }
        }
        Err(not_a_time())
    }
}

impl Place {
    /// From the words behind a time: none, a zone, an offset, or both.
    fn parse(words: &[&str], zone: Zone, text: &str) -> Result<Place, BadTime> {
        let not_a_time = || BadTime::NotATime(text.to_owned());
        let (offset_s, names) = match words {
            [] => return Ok(Place::Zone(zone)),
            [first, rest @ ..] if parse_offset(first).is_some() => (parse_offset(first), rest),
            [rest @ .., last] => match parse_offset(last) {
                Some(offset_s) => (Some(offset_s), rest),
                None => (None, words),
            },
        };
        let name = names.join(" ");
        let name = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')).unwrap_or(&name);
        match offset_s {
            Some(offset_s) if name.is_empty() => return Ok(Place::Offset(offset_s, None)),
            // As they are shown: an offset, and in which zone that was.
            Some(offset_s) if abbreviation_s(name) == Some(offset_s) => return Ok(Place::Offset(offset_s, None)),
            Some(offset_s) => {
                let known = abbreviation_s(name).is_some() || !zones_called(name).is_empty();
                return if known { Ok(Place::Offset(offset_s, Some(name.to_owned()))) } else { Err(not_a_time()) };
            }
            None if !name.starts_with(|c: char| c.is_ascii_alphabetic()) => return Err(not_a_time()),
            None => {}
        }
        if let Some(offset_s) = abbreviation_s(name) {
            return Ok(Place::Offset(offset_s, Some(name.to_owned())));
        }
        match zones_called(name).as_slice() {
            [one] => Ok(Place::Zone(*one)),
            [] if abbreviation::looks_like_one(name) => Err(BadTime::Abbreviation {
                text: text.to_owned(),
                name: name.to_owned(),
                why: "does not mean one offset everywhere".to_owned(),
            }),
            [] => {
                let zone = UnknownZone { name: name.to_owned(), nearest: super::nearest(name) };
                Err(BadTime::Zone { text: text.to_owned(), zone })
            }
            several => Ok(Place::City(name.to_owned(), several.to_vec())),
        }
    }

    fn clocks(&self) -> Vec<Clock> {
        match self {
            Place::Zone(zone) => vec![Clock::Zone(*zone)],
            Place::Offset(offset_s, _) => vec![Clock::Offset(*offset_s)],
            Place::City(_, zones) => zones.iter().copied().map(Clock::Zone).collect(),
        }
    }

    /// Whether what was named besides the offset had that offset then.
    fn check(&self, at: Timestamp, text: &str) -> Result<(), BadTime> {
        let Place::Offset(offset_s, Some(name)) = self else { return Ok(()) };
        let has_it = |zone: &Zone| at.utc_offset_s(*zone) == i64::from(*offset_s);
        let mismatch = || BadTime::Mismatch {
            text: text.to_owned(),
            zone: name.clone(),
            offset: Clock::Offset(*offset_s).offset_in_words(at),
        };
        let meant = abbreviation_s(name);
        if meant.is_some_and(|meant| meant != *offset_s) {
            return Err(mismatch());
        }
        let zones = zones_called(name);
        if zones.is_empty() || zones.iter().any(has_it) {
            return Ok(());
        }
        // In July who says CET may mean what clocks show then, which is CEST.
        match (meant, zones.first()) {
            (Some(_), Some(zone)) => Err(BadTime::Abbreviation {
                text: text.to_owned(),
                name: name.clone(),
                why: format!(
                    "means {}, and where it is used clocks showed {} then",
                    Clock::Offset(*offset_s).offset_in_words(at),
                    at.local(*zone).format("%:z (%Z)")
                ),
            }),
            _ => Err(mismatch()),
        }
    }
}

impl Clock {
    /// The date that it shows then.
    fn date(self, at: Timestamp) -> NaiveDate {
        match self {
            Clock::Zone(zone) => at.local(zone).date_naive(),
            Clock::Offset(offset_s) => at.plus_micros(i64::from(offset_s) * 1_000_000).utc().date_naive(),
        }
    }

    /// `2024-10-02 20:40:00 -04:00`: with the fraction of a second, where there is one.
    fn in_full(self, at: Timestamp) -> String {
        let local = match self {
            Clock::Zone(zone) => at.local(zone).naive_local(),
            Clock::Offset(offset_s) => at.plus_micros(i64::from(offset_s) * 1_000_000).utc().naive_local(),
        };
        let time = local.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        format!("{} {}", time.trim_end_matches('0').trim_end_matches('.'), self.offset_in_words(at))
    }

    /// `+02:00`
    fn offset_in_words(self, at: Timestamp) -> String {
        match self {
            Clock::Zone(zone) => at.local(zone).format("%:z").to_string(),
            Clock::Offset(offset_s) => {
                FixedOffset::east_opt(offset_s).map_or(String::new(), |offset| offset.to_string())
            }
        }
    }

    /// When it shows `local`.
    fn readings(self, local: NaiveDateTime) -> Readings {
        let unix = |offset_s: i64| {
            let micros = local.and_utc().timestamp_micros() - offset_s * 1_000_000;
            Timestamp::UNIX_EPOCH.plus_micros(micros)
        };
        let moment = |at: &DateTime<Tz>| Timestamp::UNIX_EPOCH.plus_micros(at.timestamp_micros());
        match self {
            Clock::Offset(offset_s) => Readings::One(unix(i64::from(offset_s))),
            Clock::Zone(zone) => match zone.0.from_local_datetime(&local) {
                LocalResult::Single(at) => Readings::One(moment(&at)),
                LocalResult::Ambiguous(first, second) => Readings::Two(moment(&first), moment(&second)),
                LocalResult::None => {
                    let after = edge(zone, local, 1).map(|at| moment(&at));
                    Readings::None { after: after.unwrap_or_else(|| unix(0)) }
                }
            },
        }
    }

    /// The moment at which it shows `local`, if there is exactly one. What is after `now` does not count, nor does
    /// that it is left out or comes twice then; some moment after `now` is given back for all of that.
    fn only(self, local: NaiveDateTime, text: &str, now: Option<Timestamp>) -> Result<Timestamp, BadTime> {
        let is_past = |at: Timestamp| now.is_none_or(|now| at <= now);
        match (self.readings(local), self) {
            (Readings::One(at), _) => Ok(at),
            (Readings::Two(first, second), Clock::Zone(zone)) if is_past(second) => Err(BadTime::Ambiguous {
                text: text.to_owned(),
                zone: zone.to_string(),
                first: show(&first.local(zone)),
                second: show(&second.local(zone)),
            }),
            (Readings::Two(first, _), _) => Ok(first),
            (Readings::None { after }, Clock::Zone(zone)) if is_past(after) => {
                // What the clocks would have shown when they were put forward.
                let before = edge(zone, local, -1).map(|last| {
                    let shown = last.naive_local() + TimeDelta::minutes(1);
                    format!("{} {}", shown.format("%Y-%m-%d %H:%M:%S"), last.format("%:z (%Z)"))
                });
                Err(BadTime::Skipped {
                    text: text.to_owned(),
                    zone: zone.to_string(),
                    before: before.unwrap_or_default(),
                    after: show(&after.local(zone)),
                })
            }
            (Readings::None { after }, _) => Ok(after),
        }
    }
}

fn show(moment: &DateTime<Tz>) -> String {
    moment.format("%Y-%m-%d %H:%M:%S %:z (%Z)").to_string()
}

/// The nearest minute that a zone's clocks show, behind a time that they leave out (`sign` 1) or before it (-1).
fn edge(zone: Zone, local: NaiveDateTime, sign: i64) -> Option<DateTime<Tz>> {
    let minute = local.with_second(0).and_then(|l| l.with_nanosecond(0)).unwrap_or(local);
    // No zone ever skipped more than a day and a bit (Samoa, 2011-12-30).
    let mut minutes = (1..=1500).map(|m| TimeDelta::minutes(sign * m));
    minutes.find_map(|delta| {
        minute.checked_add_signed(delta).and_then(|local| zone.0.from_local_datetime(&local).single())
    })
}

/// Seconds east of UTC that an abbreviation means everywhere, in capitals or in small letters: `West` is none.
fn abbreviation_s(name: &str) -> Option<i32> {
    let is_small = name.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_small { abbreviation::offset_s(&name.to_ascii_uppercase()) } else { abbreviation::offset_s(name) }
}

/// The zones of a name: one by its whole name, else those whose name ends with it: `new york`.
fn zones_called(name: &str) -> Vec<Zone> {
    let wanted = name.split_whitespace().collect::<Vec<_>>().join("_");
    if let Ok(zone) = Tz::from_str_insensitive(&wanted) {
        return vec![Zone(zone)];
    }
    let ends_so = |zone: &&Tz| zone.name().rsplit_once('/').is_some_and(|(_, city)| city.eq_ignore_ascii_case(&wanted));
    chrono_tz::TZ_VARIANTS.iter().filter(ends_so).copied().map(Zone).collect()
}

/// What stands before a word at the end, in any case.
fn without_end<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(word.len())?)?;
    end.eq_ignore_ascii_case(word).then_some(rest)
}

/// What follows a word at the start, in any case.
fn without_start<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    (start.eq_ignore_ascii_case(word) && !rest.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(rest)
}

/// The day at the start of `text`, and what follows it.
fn take_day(text: &str) -> Option<(Day, &str)> {
    for (word, days) in [("today", 0), ("yesterday", 1)] {
        if let Some(rest) = without_start(text, word) {
            return Some((Day::Before(days), rest.trim_start()));
        }
    }
    let is_dash = |at: usize| text.get(at..at + 1) == Some("-");
    let (day, rest) = if is_dash(4) && is_dash(7) {
        let date = NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
        (Day::On(date), text.get(10..)?)
    } else if is_dash(2) {
        // A leap year, so that every day that may be meant is one.
        let date = NaiveDate::parse_from_str(&format!("2024-{}", text.get(..5)?), "%Y-%m-%d").ok()?;
        (Day::OfYear(date.month(), date.day()), text.get(5..)?)
    } else {
        return Some((Day::Newest, text)).filter(|_| !text.is_empty());
    };
    match rest.strip_prefix(['T', 't', ' ']) {
        Some(rest) => Some((day, rest.trim_start())),
        None => rest.is_empty().then_some((day, rest)),
    }
}

/// `14:30`, `14:30:05`, `14:30:05.123456`, `2:30 pm` or `2 pm` at the start of `text`, midnight where it is empty, and
/// what follows.
fn take_time(text: &str) -> Option<(NaiveTime, &str)> {
    if text.is_empty() {
        return Some((NaiveTime::MIN, text));
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(text.len());
    let (clock, rest) = text.split_at(end);
    let half = ["am", "a.m.", "pm", "p.m."]
        .into_iter()
        .find_map(|half| without_start(rest.trim_start(), half).map(|rest| (half.starts_with('p'), rest)));
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.split(':');
    let mut number = |width: std::ops::RangeInclusive<usize>| -> Option<u32> {
        parts.next().filter(|p| width.contains(&p.len())).and_then(|p| p.parse().ok())
    };
    let (hour, minute, seconds) = (number(1..=2)?, number(2..=2), number(2..=2));
    let colons = clock.matches(':').count();
    if colons != usize::from(minute.is_some()) + usize::from(seconds.is_some()) || minute.or(half.map(|_| 0)).is_none()
    {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(digits) if (1..=6).contains(&digits.len()) && seconds.is_some() => {
            digits.parse::<u32>().ok()? * 10_u32.pow(6 - digits.len() as u32)
        }
        Some(_) => return None,
    };
    let (hour, rest) = match half {
        None => (hour, rest),
        // 12 am is midnight, 12 pm is noon.
        Some((is_afternoon, rest)) => {
            ((1..=12).contains(&hour).then_some(hour % 12 + if is_afternoon { 12 } else { 0 })?, rest)
        }
    };
    Some((NaiveTime::from_hms_micro_opt(hour, minute.unwrap_or(0), seconds.unwrap_or(0), micros)?, rest))
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

    fn utc(text: &str) -> Timestamp {
        serde_json::from_str(&format!("\"{text}\"")).unwrap()
    }

    /// At this moment in UTC, in the zone of Berlin.
    fn read(text: &str, now: &str) -> Result<String, BadTime> {
        let read = parse_time(text, BERLIN, utc(&format!("2026-{now}Z")));
        read.map(|at| at.to_string().trim_start_matches("2026-").trim_end_matches(".000000Z").to_owned())
    }

    /// Daylight saving ended on 2026-10-25 at 01:00 UTC.
    #[test]
    fn in_the_night_in_which_clocks_are_put_back_a_time_is_the_newest_by_its_own_clock() {
        for (now, text, expected) in [
            // 2026-10-25 04:30 in Berlin, 23:30 of the day before in New York.
            ("10-25T03:30:00", "04:30", "10-25T03:30:00"),
            ("10-25T03:30:00", "04:31", "10-24T02:31:00"),
            ("10-25T03:30:00", "20:40", "10-24T18:40:00"),
            ("10-25T03:30:00", "20:40 America/New_York", "10-25T00:40:00"),
            ("10-25T03:30:00", "20:40 EDT", "10-25T00:40:00"),
            ("10-25T03:30:00", "20:40 edt", "10-25T00:40:00"),
            ("10-25T03:30:00", "20:40 -04:00", "10-25T00:40:00"),
            ("10-25T03:30:00", "8:40 pm new york", "10-25T00:40:00"),
            ("10-25T03:30:00", "8:40pm New_York", "10-25T00:40:00"),
            ("10-25T03:30:00", "8 PM America/New York", "10-25T00:00:00"),
            ("10-25T03:30:00", "today 20:40 New York", "10-25T00:40:00"),
            ("10-25T03:30:00", "yesterday 20:40 America/New_York", "10-24T00:40:00"),
            ("10-25T03:30:00", "yesterday at 20:40", "10-24T18:40:00"),
            ("10-25T03:30:00", "today 20:40", "10-25T19:40:00"),
            ("10-25T03:30:00", "02:40 CET", "10-25T01:40:00"),
            ("10-25T03:30:00", "02:40 CEST", "10-25T00:40:00"),
            ("10-25T03:30:00", "02:40+02", "10-25T00:40:00"),
            ("10-25T03:30:00", "10-25 02:40+01", "10-25T01:40:00"),
            ("10-25T03:30:00", "10-25 02:40:33.7+02", "10-25T00:40:33.700000Z"),
            ("10-25T03:30:00", "10-25 04:40", "2025-10-25T02:40:00"),
            ("10-25T03:30:00", "02-29 12:00", "2024-02-29T11:00:00"),
            ("10-25T03:30:00", "2 hours ago", "10-25T01:30:00"),
            ("10-25T03:30:00", "90 min AGO", "10-25T02:00:00"),
            ("10-25T03:30:00", "“20:40 EDT”", "10-25T00:40:00"),
            // 02:50 in Berlin, for the first time: only one of the two is past.
            ("10-25T00:50:00", "02:40", "10-25T00:40:00"),
            ("10-25T00:50:00", "02:55", "10-24T00:55:00"),
            // 02:10 for the second time: 02:40 was half an hour ago, and comes again.
            ("10-25T01:10:00", "02:40", "10-25T00:40:00"),
            // The day after, when a day had 25 hours.
            ("10-25T23:00:00", "00:01", "10-24T22:01:00"),
        ] {
            assert_eq!(read(text, now).as_deref(), Ok(expected), "{text} at {now}");
        }
        for text in ["02:40", "10-25 02:40", "today 02:40", "02:40 Berlin"] {
            let twice = read(text, "10-25T03:30:00").unwrap_err();
            assert!(matches!(twice, BadTime::Ambiguous { .. }), "{text}: {twice:?}");
        }
    }

    /// Clocks went from 02:00 to 03:00 on 2026-03-29 at 01:00 UTC.
    #[test]
    fn in_the_night_in_which_clocks_are_put_forward_what_was_left_out_is_refused_once_it_is_past() {
        for (now, text, expected) in [
            ("03-29T00:50:00", "02:30", "03-28T01:30:00"),
            ("03-29T00:50:00", "01:30", "03-29T00:30:00"),
            ("03-29T01:10:00", "03:10", "03-29T01:10:00"),
            ("03-29T01:10:00", "03:11", "03-28T02:11:00"),
            ("03-30T00:20:00", "02:30", "03-28T01:30:00"),
            ("03-30T00:30:00", "02:30", "03-30T00:30:00"),
        ] {
            let read = read(text, now);
            if now == "03-30T00:20:00" {
                assert!(matches!(read, Err(BadTime::Skipped { .. })), "{read:?}");
            } else {
                assert_eq!(read.as_deref(), Ok(expected), "{text} at {now}");
            }
        }
        assert!(matches!(read("02:30", "03-29T01:10:00"), Err(BadTime::Skipped { .. })));
    }

    #[test]
    fn twelve_hours_are_counted_as_people_do() {
        let read = |text| read(text, "07-01T21:59:59");
        for (text, expected) in [
            ("12 am", "06-30T22:00:00"),
            ("12:01am", "06-30T22:01:00"),
            ("12 pm", "07-01T10:00:00"),
            ("11:59 p.m.", "07-01T21:59:00"),
            ("1:02:03.5 pm", "07-01T11:02:03.500000Z"),
            ("yesterday 8 pm", "06-30T18:00:00"),
            ("2026-06-01 8 pm", "06-01T18:00:00"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["13 pm", "0 am", "20:40 pm", "8", "8 p", "8:4 pm", "8.40 pm", "pm", "today pm"] {
            assert!(read(bad).is_err(), "{bad}: {:?}", read(bad));
        }
    }

    #[test]
    fn a_zone_is_known_by_its_city_where_that_is_only_one() {
        let read = |text| read(text, "07-01T12:00:00");
        for (text, expected) in [
            ("13:00 berlin", "07-01T11:00:00"),
            ("13:00 Los Angeles", "06-30T20:00:00"),
            ("13:00 Buenos Aires", "06-30T16:00:00"),
            ("13:00 Amsterdam", "07-01T11:00:00"),
            ("13:00 us/eastern", "06-30T17:00:00"),
            ("13:00 +02:00 Berlin", "07-01T11:00:00"),
            ("about 1 pm, New York time", "06-30T17:00:00"),
            ("around 13:00, Berlin", "07-01T11:00:00"),
            ("about 2 hours ago", "07-01T10:00:00"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        let several = read("13:00 West").unwrap_err().to_string();
        assert!(several.contains("Australia/West") && several.contains("Brazil/West"), "{several}");
        let unknown = read("13:00 Nwe York").unwrap_err().to_string();
        assert!(unknown.contains("did you mean America/New_York?"), "{unknown}");
        assert!(matches!(read("13:00 +02:00 New York"), Err(BadTime::Mismatch { .. })));
    }

    /// Whoever copies an example out of a refusal is understood.
    #[test]
    fn examples_can_be_typed_as_they_stand() {
        let refused = BadTime::NotATime("x".to_owned()).to_string();
        let (_, examples) = refused.split_once("give ").unwrap();
        let examples: Vec<&str> = examples.split(" or ").flat_map(|part| part.split(", ")).collect();
        assert_eq!(examples.len(), 9);
        let zone: UnknownZone = "x".parse::<Zone>().unwrap_err();
        let zone = BadTime::Zone { text: "x".to_owned(), zone }.to_string();
        let examples = examples.into_iter().chain(zone.split('\'').skip(1).step_by(2)).collect::<Vec<_>>();
        assert_eq!(examples.len(), 12);
        for example in examples {
            assert!(read(example, "07-01T12:00:00").is_ok(), "{example}: {:?}", read(example, "07-01T12:00:00"));
        }
    }

    #[test]
    fn the_end_of_a_stretch_is_behind_its_beginning() {
        let until = |text: &str, from: &str| {
            let (now, from) = (utc("2026-10-25T13:15:00Z"), utc(from));
            parse_end(text, BERLIN, now, from).map(|at| at.to_string())
        };
        // 14:15 in Berlin: half past two is still to come.
        assert_eq!(until("14:30", "2026-10-25T13:00:00Z").as_deref(), Ok("2026-10-25T13:30:00.000000Z"));
        assert_eq!(until("01:00", "2026-10-24T21:00:00Z").as_deref(), Ok("2026-10-24T23:00:00.000000Z"));
        assert_eq!(until("14:10", "2026-10-20T21:00:00Z").as_deref(), Ok("2026-10-25T13:10:00.000000Z"));
        // What says its day is left where it is.
        assert_eq!(until("10-24 14:30", "2026-10-25T13:00:00Z").as_deref(), Ok("2026-10-24T12:30:00.000000Z"));
        assert_eq!(until("20 min ago", "2026-10-25T13:00:00Z").as_deref(), Ok("2026-10-25T12:55:00.000000Z"));
    }

    #[test]
    fn the_same_time_of_day_is_found_by_the_clock_that_was_named() {
        let (from, to) = (utc("2026-10-23T12:00:00Z"), utc("2026-10-25T03:00:00Z"));
        let found = |text| same_time_of_day(text, BERLIN, Some(from), to);
        assert_eq!(found("2026-10-25 20:40 America/New_York"), ["2026-10-24 20:40:00 -04:00"]);
        assert_eq!(found("20:40:05.25"), ["2026-10-24 20:40:05.25 +02:00"]);
        assert_eq!(found("02:40"), ["2026-10-25 02:40:00 +02:00", "2026-10-25 02:40:00 +01:00"]);
        assert_eq!(found("02:40 CET"), ["2026-10-25 02:40:00 +01:00"]);
        assert!(found("2 hours ago").is_empty() && found("now").is_empty() && found("x").is_empty());
        let late = utc("2026-10-25T02:00:00Z");
        assert!(same_time_of_day("20:40", BERLIN, Some(late), to).is_empty(), "there is no WAL of it");
        for text in found("20:40:05.25").into_iter().chain(found("02:40")) {
            let at = parse_time(&text, Zone::UTC, to).unwrap();
            assert!(from <= at && at <= to, "{text}");
        }
    }

    fn any_zone() -> impl Strategy<Value = Zone> {
        // With changes of an hour, of half an hour, at midnight, in the south; with days that were left out; with none.
        let zones = [
            Tz::Europe__Berlin,
            Tz::America__New_York,
            Tz::Australia__Lord_Howe,
            Tz::America__Havana,
            Tz::Asia__Beirut,
            Tz::Pacific__Apia,
            Tz::America__St_Johns,
            Tz::Asia__Kolkata,
            Tz::UTC,
        ];
        proptest::sample::select(zones.to_vec()).prop_map(Zone)
    }

    /// Within two days of a change of the clock as often as not.
    fn any_moment() -> impl Strategy<Value = Timestamp> {
        let changes = [1_792_890_000_i64, 1_774_746_000, 1_793_512_800, 1_772_953_200, 1_301_752_800, 1_325_239_200];
        let near = (proptest::sample::select(changes.to_vec()), -172_800_000_000_i64..172_800_000_000)
            .prop_map(|(change, off)| change * 1_000_000 + off);
        prop_oneof![near, 1_262_304_000_000_000_i64..1_893_456_000_000_000]
            .prop_map(|micros| Timestamp::from_unix_micros(micros).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_bare_time_is_never_to_come_and_at_most_a_day_ago(
            zone in any_zone(), named in proptest::option::of(any_zone()), now in any_moment(),
            hour in 0_u32..24, minute in 0_u32..60,
        ) {
            let place = named.map(|zone| format!(" {zone}")).unwrap_or_default();
            let text = format!("{hour:02}:{minute:02}{place}");
            match parse_time(&text, zone, now) {
                Ok(at) => {
                    let ago = now.seconds_since(at);
                    prop_assert!((0.0..=25.0 * 3600.0).contains(&ago), "{text} is {at}, {ago} s before {now}");
                    prop_assert_eq!(&at.in_zone(named.unwrap_or(zone))[11..16], &text[..5]);
                }
                Err(bad) => prop_assert!(matches!(bad, BadTime::Ambiguous { .. } | BadTime::Skipped { .. }), "{bad}"),
            }
        }

        #[test]
        fn what_is_shown_is_read_as_the_same_moment(
            zone in any_zone(), at in any_moment(), later in 0_i64..30_000_000_000_000,
        ) {
            let now = at.plus_micros(later);
            let read = |text: &str| parse_time(text, zone, now);
            prop_assert_eq!(read(&at.in_zone(zone)), Ok(at));
            let cut = |micros: i64| at.plus_micros(-at.unix_micros().rem_euclid(micros));
            let row = at.in_row(zone, false);
            prop_assert_eq!(row.len(), 21);
            let least = if at.comes_twice(zone) { 1_000_000 } else { 1 };
            let shown = read(&row).unwrap();
            prop_assert!(shown <= at && shown >= cut(least), "{row} is {shown}, not {at}");
            let marked = at.in_row(zone, true);
            prop_assert!(marked.len() == 21, "{marked}");
            prop_assert!((cut(1_000_000)..=at).contains(&read(&marked).unwrap()), "{marked}");
            prop_assert_eq!(read(&at.to_the_second(zone)), Ok(cut(1_000_000)));
            prop_assert_eq!(read(&at.short(zone)), Ok(cut(60_000_000)));
            let full = Clock::Zone(zone).in_full(at);
            prop_assert_eq!(parse_time(&full, Zone::UTC, now), Ok(at), "{}", full);
        }
    }
}
