//! What a primary says beside how far archiving is: settings, replication slots, how much WAL it writes. Pure; it was
//! asked elsewhere, as far as its role may be.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Finding;
use super::archiving::Against;
use crate::core::progress::{Bytes, counted};
use crate::core::{Grade, Timestamp, Zone};

/// A rate over less time than this says nothing.
const LEAST_S: f64 = 3600.0;

/// What archives. The command itself may hold secrets, and is never asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Neither `archive_command` nor `archive_library` is set.
    Missing,
    /// It is one that succeeds and does nothing, like `/bin/true`.
    Discards,
    /// One of them is set.
    Set,
}

/// How much WAL was written (`pg_stat_wal`, from 14 on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Bytes.
    pub bytes: u64,
    /// Since when.
    pub since: Timestamp,
}

/// Segments that wait to be archived: the files `*.ready` in `pg_wal/archive_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// How many.
    pub segments: u64,
    /// Since when the oldest of them does.
    pub oldest_at: Option<Timestamp>,
}

/// A replication slot (`pg_replication_slots`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// `physical` or `logical`.
    pub kind: String,
    /// Whether somebody uses it now.
    pub active: bool,
    /// Whether it goes with the connection that made it.
    pub temporary: bool,
    /// Since when nobody uses it (from 17 on).
    pub inactive_since: Option<Timestamp>,
    /// Bytes of WAL that it keeps in `pg_wal`.
    pub held_bytes: Option<u64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes that can be written before it is in danger; `None` where there is no limit (`max_slot_wal_keep_size`).
    pub safe_wal_bytes: Option<i64>,
}

/// What a primary says beside how far archiving is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Details {
    /// Settings by name, as `SHOW` gives them.
    pub settings: BTreeMap<String, String>,
    /// What archives.
    pub command: Option<Command>,
    /// How much WAL was written.
    pub written: Option<Written>,
    /// What waits to be archived.
    pub ready: Option<Ready>,
    /// The next transaction id (with its epoch), where no transaction is going on: all before it are over.
    pub next_xid: Option<u64>,
    /// Its replication slots.
    pub slots: Vec<Slot>,
    /// Programs that stream its WAL to keep it, like `pg_receivewal`.
    pub receivers: u64,
    /// What could not be asked, and why, in words.
    pub unasked: Vec<String>,
}

impl Slot {
    fn finding(&self, against: &Against<'_>) -> Option<Finding> {
        let name = format!("the {} replication slot “{}”", self.kind, self.name);
        match self.wal_status.as_deref() {
            Some("lost") => {
                let text = format!("{name} is lost: the primary has removed WAL that who uses it would need");
                return Some(Finding::warning("slot-lost", text).hint(
                    "drop it (pg_drop_replication_slot), and set up anew the standby or subscriber that used it",
                ));
            }
            Some("unreserved") => {
                let text =
                    format!("{name} is about to be lost: it is further behind than max_slot_wal_keep_size lets it be");
                return Some(
                    Finding::warning("slot-unreserved", text)
                        .hint("have who uses it catch up now, or raise max_slot_wal_keep_size and reload"),
                );
            }
            _ if self.active || self.temporary => return None,
            _ => {}
        }
        let held = self.held_bytes?;
        let segments = held as f64 / against.size.bytes() as f64;
        if against.thresholds.archive_lag_segments.at_least(segments) == Grade::Fine {
            return None;
        }
        let until = match self.safe_wal_bytes.and_then(|bytes| u64::try_from(bytes).ok()) {
            Some(safe) => format!("after {} more it is in danger of being lost", Bytes(safe)),
            None => "nothing limits that: pg_wal grows until its disk is full, and then the primary stops".to_owned(),
        };
        let text = format!("nobody uses {name}, and it keeps {} of WAL on the primary; {until}", Bytes(held));
        Some(
            Finding::warning("slot-inactive", text).hint(
                "bring back who uses it, or drop it (pg_drop_replication_slot); max_slot_wal_keep_size sets a limit",
            ),
        )
    }

    /// `physical slot “standby1”, in use, keeps 3.2 GB (reserved)`
    fn in_words(&self, zone: Zone) -> String {
        let used = match (self.active, self.inactive_since) {
            (true, _) => "in use".to_owned(),
            (false, Some(since)) => format!("not used since {}", since.in_zone(zone)),
            (false, None) => "not used".to_owned(),
        };
        let held = self.held_bytes.map(|held| format!(", keeps {} of WAL", Bytes(held))).unwrap_or_default();
        let status = self.wal_status.as_ref().map(|status| format!(" ({status})")).unwrap_or_default();
        format!("The {} replication slot “{}”: {used}{held}{status}.", self.kind, self.name)
    }
}

impl Details {
    /// What is wrong with it.
    #[must_use]
    pub fn findings(&self, against: &Against<'_>) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.slots.iter().filter_map(|slot| slot.finding(against)).collect();
        if self.is("full_page_writes", "off") {
            found.push(
                Finding::warning(
                    "full-page-writes-off",
                    "full_page_writes is off on the primary: a page that is half written at a crash is not mended by WAL, and base backups of its standbys fail",
                )
                .hint("set full_page_writes = on and reload, unless the file system never tears a page"),
            );
        }
        if self.is("archive_timeout", "0") && self.command == Some(Command::Set) && self.receivers == 0 {
            found.push(
                Finding::note(
                    "archive-timeout-off",
                    "archive_timeout is 0 on the primary: what is written is archived only when its segment is full, however long that takes",
                )
                .hint("set archive_timeout to as much as may be lost, like 60s"),
            );
        }
        found
    }

    fn is(&self, setting: &str, value: &str) -> bool {
        self.settings.get(setting).is_some_and(|set| set == value)
    }

    /// Bytes of WAL an hour; `None` where that is not known, or was not counted for an hour.
    #[must_use]
    pub fn bytes_per_hour(&self, now: Option<Timestamp>) -> Option<f64> {
        let written = self.written?;
        per_hour(written.bytes, now?, written.since)
    }

    /// What it says, in sentences.
    #[must_use]
    pub fn in_words(&self, now: Option<Timestamp>, zone: Zone) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(written) = self.written {
            let since = written.since.in_zone(zone);
            said.push(match self.bytes_per_hour(now) {
                Some(rate) => format!("It writes {} of WAL an hour, on average since {since}.", Bytes(rate as u64)),
                None => format!("It has written {} of WAL since {since}.", Bytes(written.bytes)),
            });
        }
        if !self.settings.is_empty() {
            let all: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            let command = match self.command {
                Some(Command::Set) => "; what archives is set",
                Some(Command::Missing) => "; what archives is not set",
                Some(Command::Discards) => "; what archives does nothing",
                None => "",
            };
            said.push(format!("{}{command}.", all.join(", ")));
        }
        if self.receivers > 0 {
            said.push(format!("Its WAL is streamed by {} (pg_receivewal).", counted(self.receivers, "program")));
        }
        said.extend(self.slots.iter().map(|slot| slot.in_words(zone)));
        said.extend(self.unasked.iter().map(|what| format!("Not asked: {what}.")));
        said
    }
}

/// So many in an hour; `None` where they were not counted for an hour yet.
#[must_use]
pub fn per_hour(number: u64, now: Timestamp, since: Timestamp) -> Option<f64> {
    let seconds = now.seconds_since(since);
    (seconds >= LEAST_S).then(|| number as f64 * 3600.0 / seconds)
}

/// Days until this room is filled by so many segments an hour, each of so many bytes; `None` where it is not filled.
#[must_use]
pub fn days_left(free_bytes: u64, segments_per_hour: f64, bytes_per_segment: f64) -> Option<f64> {
    let per_day = segments_per_hour * bytes_per_segment * 24.0;
    (per_day > 0.0).then(|| free_bytes as f64 / per_day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Thresholds;
    use crate::plan::Severity;

    fn slot(active: bool, held: u64, status: &str) -> Slot {
        Slot {
            name: "old".to_owned(),
            kind: "physical".to_owned(),
            active,
            held_bytes: Some(held),
            wal_status: Some(status.to_owned()),
            ..Slot::default()
        }
    }

    fn codes(details: &Details) -> Vec<(Severity, String)> {
        let thresholds = Thresholds::default();
        let found = details.findings(&Against::older(None, &thresholds));
        found.into_iter().map(|finding| (finding.severity, finding.code.into_owned())).collect()
    }

    #[test]
    fn slots_that_hold_or_have_lost_wal_are_named() {
        const SEGMENT: u64 = 16 << 20;
        for (slot, expected) in [
            (slot(true, 900 * SEGMENT, "extended"), None),
            (slot(false, 10 * SEGMENT - 1, "reserved"), None),
            (slot(false, 10 * SEGMENT, "reserved"), Some("slot-inactive")),
            (slot(true, 10 * SEGMENT, "unreserved"), Some("slot-unreserved")),
            (slot(false, 10 * SEGMENT, "lost"), Some("slot-lost")),
            (Slot { temporary: true, ..slot(false, 900 * SEGMENT, "reserved") }, None),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|code| (Severity::Warning, code.to_owned())).collect();
            assert_eq!(codes(&Details { slots: vec![slot.clone()], ..Details::default() }), expected, "{slot:?}");
        }
    }

    #[test]
    fn a_limit_of_what_a_slot_keeps_is_told() {
        let thresholds = Thresholds::default();
        let message = |safe| {
            let slot = Slot { safe_wal_bytes: safe, ..slot(false, 1 << 30, "extended") };
            slot.finding(&Against::older(None, &thresholds)).unwrap().message
        };
        assert!(message(Some(1 << 30)).contains("after 1 GB more"));
        assert!(message(None).contains("until its disk is full"));
    }

    #[test]
    fn settings_that_do_harm_are_named() {
        let with = |name: &str, value: &str| Details {
            settings: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            command: Some(Command::Set),
            ..Details::default()
        };
        assert_eq!(codes(&with("full_page_writes", "off")), [(Severity::Warning, "full-page-writes-off".to_owned())]);
        assert_eq!(codes(&with("archive_timeout", "0")), [(Severity::Note, "archive-timeout-off".to_owned())]);
        assert_eq!(codes(&Details { receivers: 1, ..with("archive_timeout", "0") }), []);
        assert_eq!(codes(&with("archive_timeout", "60s")), []);
    }

    #[test]
    fn rates_need_an_hour_and_days_a_rate() {
        let at = |seconds: i64| Timestamp::from_unix_seconds(1_700_000_000 + seconds).unwrap();
        assert_eq!(per_hour(100, at(3599), at(0)), None);
        assert_eq!(per_hour(100, at(7200), at(0)), Some(50.0));
        assert_eq!((days_left(2400, 10.0, 10.0), days_left(2400, 0.0, 10.0)), (Some(1.0), None));
    }
}
