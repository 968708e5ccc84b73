//! Where recovery is asked to stop.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lsn::Lsn;
use super::time::{Timestamp, Zone, parse_time};
use super::timeline::TimelineId;
use super::xid::Xid;

/// A recovery target, complete: what to stop at, on which side of it, on which timeline, and what to do then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What to stop at.
    #[serde(flatten)]
    pub kind: TargetKind,
    /// Stop just after it (`recovery_target_inclusive`), not just before. Means something for time, XID and LSN only.
    pub inclusive: bool,
    /// Along which timeline.
    pub timeline: TimelineChoice,
    /// What the server does when it is there.
    pub action: Action,
}

/// What recovery stops at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "lowercase")]
pub enum TargetKind {
    /// The first commit or abort later than this (or not earlier, exclusive).
    Time(Timestamp),
    /// The commit or abort of this transaction.
    Xid(Xid),
    /// The first record that starts here or later.
    Lsn(Lsn),
    /// The first restore point of this name.
    Name(RestorePointName),
    /// As soon as the data is consistent: the end of the base backup.
    Immediate,
    /// The end of the WAL that there is.
    Latest,
}

/// A restore point's name: 1 to 63 bytes without control characters (`MAXFNAMELEN`, `xlog_internal.h`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RestorePointName(String);

impl RestorePointName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be the name of a restore point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("“{}” cannot be a restore point's name: it has 1 to 63 bytes and no control characters", .0.escape_debug())]
pub struct BadName(pub String);

impl TryFrom<String> for RestorePointName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        let fits = (1..=63).contains(&name.len()) && !name.chars().any(char::is_control);
        if fits { Ok(Self(name)) } else { Err(BadName(name)) }
    }
}

impl From<RestorePointName> for String {
    fn from(name: RestorePointName) -> String {
        name.0
    }
}

/// Which timeline recovery follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimelineChoice {
    /// The one on which the base backup was taken.
    Current,
    /// The newest that the archive knows, PostgreSQL's default.
    #[default]
    Latest,
    /// This one.
    Number(TimelineId),
}

impl std::str::FromStr for TimelineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "current" => Ok(Self::Current),
            "latest" => Ok(Self::Latest),
            _ => match text.parse() {
                Ok(id) if id > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self::Number(TimelineId(id))),
                _ => Err(format!("“{text}” is not a timeline: give its number, current, or latest")),
            },
        }
    }
}

impl fmt::Display for TimelineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Latest => f.write_str("latest"),
            Self::Number(id) => id.fmt(f),
        }
    }
}

impl Serialize for TimelineChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(id) => id.serialize(serializer),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for TimelineChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Word(String),
            Number(u32),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Word(word) => word,
            Either::Number(number) => number.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the server does at the target (`recovery_target_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Stays there, readable, until it is told to go on.
    #[default]
    Pause,
    /// Ends recovery on a new timeline and takes writes.
    Promote,
    /// Shuts down, ready to be started again with another target.
    Shutdown,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::Shutdown => "shutdown",
        })
    }
}

impl std::str::FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Pause, Self::Promote, Self::Shutdown];
        let found = all.into_iter().find(|action| action.to_string() == text);
        found.ok_or_else(|| format!("“{text}” is not an action: give pause, promote, or shutdown"))
    }
}

impl Target {
    /// A target that stops after `kind`, on the latest timeline, and pauses.
    #[must_use]
    pub fn new(kind: TargetKind) -> Target {
        Target { kind, inclusive: true, timeline: TimelineChoice::default(), action: Action::default() }
    }

    /// Whether the target has a side: a restore point, consistency and the end of WAL have none.
    #[must_use]
    pub fn has_sides(&self) -> bool {
        matches!(self.kind, TargetKind::Time(_) | TargetKind::Xid(_) | TargetKind::Lsn(_))
    }

    /// Whether it is everything that there is: the end of WAL, on the latest timeline.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        self.kind == TargetKind::Latest && self.timeline == TimelineChoice::Latest
    }

    /// The command-line options that give this target, as separate words, times in UTC.
    #[must_use]
    pub fn to_options(&self) -> Vec<String> {
        let mut words = match &self.kind {
            TargetKind::Time(time) => vec!["--time".to_owned(), time.to_string()],
            TargetKind::Xid(xid) => vec!["--xid".to_owned(), xid.to_string()],
            TargetKind::Lsn(lsn) => vec!["--lsn".to_owned(), lsn.to_string()],
            TargetKind::Name(name) => vec!["--name".to_owned(), name.as_str().to_owned()],
            TargetKind::Immediate => vec!["--immediate".to_owned()],
            TargetKind::Latest => vec!["--latest".to_owned()],
        };
        if self.has_sides() && !self.inclusive {
            words.push("--exclusive".to_owned());
        }
        if self.timeline != TimelineChoice::default() {
            words.extend(["--timeline".to_owned(), self.timeline.to_string()]);
        }
        if self.action != Action::default() {
            words.extend(["--action".to_owned(), self.action.to_string()]);
        }
        words
    }

    /// The target that command-line options give, as separate words, and the base backup that they name: the inverse of
    /// [`Target::to_options`]. `None` where they give none, or say anything else.
    #[must_use]
    pub fn from_options(words: &[String]) -> Option<(Target, Option<String>)> {
        let mut words = words.iter().map(String::as_str);
        let (mut kind, mut backup) = (None, None);
        let mut rest = Target::new(TargetKind::Latest);
        while let Some(option) = words.next() {
            let given = match option {
                "--time" => TargetKind::Time(parse_time(words.next()?, Zone::UTC, Timestamp::UNIX_EPOCH).ok()?),
                "--xid" => TargetKind::Xid(words.next()?.parse().ok()?),
                "--lsn" => TargetKind::Lsn(words.next()?.parse().ok()?),
                "--name" => TargetKind::Name(words.next()?.to_owned().try_into().ok()?),
                "--immediate" => TargetKind::Immediate,
                "--latest" => TargetKind::Latest,
                other => {
                    match other {
                        "--exclusive" => rest.inclusive = false,
                        "--timeline" => rest.timeline = words.next()?.parse().ok()?,
                        "--action" => rest.action = words.next()?.parse().ok()?,
                        "--backup" => backup = Some(words.next()?.to_owned()),
                        _ => return None,
                    }
                    continue;
                }
            };
            if kind.replace(given).is_some() {
                return None;
            }
        }
        Some((Target { kind: kind?, ..rest }, backup))
    }

    /// `just before transaction 735, on the latest timeline`; times in `zone`.
    #[must_use]
    pub fn in_words(&self, zone: Zone) -> String {
        let what = self.what(zone);
        match self.timeline {
            TimelineChoice::Current => format!("{what}, on the backup's timeline"),
            TimelineChoice::Latest => format!("{what}, on the latest timeline"),
            TimelineChoice::Number(id) => format!("{what}, on timeline {id}"),
        }
    }

    /// The same with the number of the timeline that was chosen: `…, on the latest timeline, which is 3`.
    #[must_use]
    pub fn in_words_on(&self, zone: Zone, timeline: TimelineId) -> String {
        let words = self.in_words(zone);
        match self.timeline {
            TimelineChoice::Number(_) => words,
            TimelineChoice::Current | TimelineChoice::Latest => format!("{words}, which is {timeline}"),
        }
    }

    fn what(&self, zone: Zone) -> String {
        let side = if self.inclusive { "just after" } else { "just before" };
        match &self.kind {
            TargetKind::Time(time) if self.inclusive => format!("everything committed up to {}", time.in_zone(zone)),
            TargetKind::Time(time) => format!("everything committed before {}", time.in_zone(zone)),
            TargetKind::Xid(xid) => format!("{side} transaction {xid}"),
            TargetKind::Lsn(lsn) => format!("{side} the record at {lsn}"),
            TargetKind::Name(name) => format!("restore point “{}”", name.as_str()),
            TargetKind::Immediate => "the end of the base backup".to_owned(),
            TargetKind::Latest => "the end of WAL".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_target() -> impl Strategy<Value = Target> {
        let kind = prop_oneof![
            (-60_000_000_000_000_000_i64..200_000_000_000_000_000)
                .prop_filter_map("a year that can be printed", Timestamp::from_unix_micros)
                .prop_map(TargetKind::Time),
            (3_u32..).prop_map(|xid| TargetKind::Xid(Xid(xid))),
            any::<u64>().prop_map(|lsn| TargetKind::Lsn(Lsn(lsn))),
            "(--)?[ a-z\u{e9}-]{1,20}".prop_map(|name| TargetKind::Name(RestorePointName(name))),
            Just(TargetKind::Immediate),
            Just(TargetKind::Latest),
        ];
        let timeline = prop_oneof![
            Just(TimelineChoice::Current),
            Just(TimelineChoice::Latest),
            (1_u32..).prop_map(|id| TimelineChoice::Number(TimelineId(id))),
        ];
        let action = prop_oneof![Just(Action::Pause), Just(Action::Promote), Just(Action::Shutdown)];
        (kind, any::<bool>(), timeline, action).prop_map(|(kind, inclusive, timeline, action)| {
            let target = Target { timeline, action, ..Target::new(kind) };
            Target { inclusive: inclusive || !target.has_sides(), ..target }
        })
    }

    proptest! {
        #[test]
        fn options_and_targets_are_each_others_inverse(
            target in any_target(), backup in proptest::option::of("[0-9A-Za-z-]{1,20}"),
        ) {
            let mut words = target.to_options();
            words.extend(backup.iter().flat_map(|id| ["--backup".to_owned(), id.clone()]));
            prop_assert_eq!(Target::from_options(&words), Some((target, backup)));
        }

        #[test]
        fn no_words_make_reading_them_panic(words in proptest::collection::vec("(--[a-z]{3,9}|\\PC{0,9})", 0..5)) {
            let _ = Target::from_options(&words);
        }
    }

    #[test]
    fn options_that_give_no_target_are_none() {
        let read = |line: &str| Target::from_options(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for bad in ["", "--timeline 1", "--xid", "--xid x", "--xid 5 --lsn 0/1", "--latest now", "--force --latest"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Target::from_options(&[]), None);
    }

    #[test]
    fn json_reads_back() {
        let target = Target {
            inclusive: false,
            timeline: TimelineChoice::Number(TimelineId(3)),
            ..Target::new(TargetKind::Xid(Xid(735)))
        };
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(json, r#"{"kind":"xid","value":735,"inclusive":false,"timeline":3,"action":"pause"}"#);
        assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
        let latest = Target::new(TargetKind::Latest);
        assert_eq!(serde_json::from_str::<Target>(&serde_json::to_string(&latest).unwrap()).unwrap(), latest);
    }

    #[test]
    fn options_give_the_target_back() {
        let name = RestorePointName::try_from("before deploy".to_owned()).unwrap();
        assert_eq!(Target::new(TargetKind::Name(name)).to_options(), ["--name", "before deploy"]);
        let target = Target { inclusive: false, action: Action::Promote, ..Target::new(TargetKind::Lsn(Lsn(0x28))) };
        assert_eq!(target.to_options(), ["--lsn", "0/28", "--exclusive", "--action", "promote"]);
    }

    #[test]
    fn words_for_timelines_are_spelled_out_as_numbers() {
        let on = |timeline| Target { timeline, ..Target::new(TargetKind::Latest) };
        let words = |timeline| on(timeline).in_words_on(Zone::UTC, TimelineId(3));
        assert_eq!(words(TimelineChoice::Latest), "the end of WAL, on the latest timeline, which is 3");
        assert_eq!(words(TimelineChoice::Current), "the end of WAL, on the backup's timeline, which is 3");
        assert_eq!(words(TimelineChoice::Number(TimelineId(3))), "the end of WAL, on timeline 3");
    }

    #[test]
    fn timelines_are_read_strictly_since_the_server_reads_them_loosely() {
        assert_eq!("7".parse(), Ok(TimelineChoice::Number(TimelineId(7))));
        for bad in ["LATEST", "0", "-1", "+1", "x", "", "0x2", "4294967296"] {
            assert!(bad.parse::<TimelineChoice>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_bounded() {
        for bad in [String::new(), "x".repeat(64), "a\nb".to_owned(), "\u{1b}[2J".to_owned()] {
            assert!(RestorePointName::try_from(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(RestorePointName::try_from("x".repeat(63)).is_ok());
    }
}
