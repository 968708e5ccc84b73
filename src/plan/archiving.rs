//! Whether archiving goes on: what the primary says of it, and the room that is left for it. Pure; it was asked elsewhere.

use std::path::PathBuf;

use super::{Finding, Severity};
use crate::core::progress::{Bytes, Seconds, counted, grouped};
use crate::core::{SegmentName, SegmentSize, Timestamp, Zone};

/// Segments that wait to be archived from which on it is a warning, and an error.
pub const LAG_SEGMENTS: (u64, u64) = (10, 50);
/// Seconds since a segment was archived, where some wait for it.
pub const LAG_SECONDS: (f64, f64) = (300.0, 1800.0);
/// Percent of a file system that are free.
pub const FREE_PERCENT: (u64, u64) = (20, 5);

/// A file system that holds archives or backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The directories of the source that lie on it.
    pub directories: Vec<PathBuf>,
    /// Bytes that are free for its user, and all of them; or why that cannot be told.
    pub bytes: Result<(u64, u64), String>,
}

impl Space {
    /// Percent that are free, rounded down.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let (free, all) = self.bytes.as_ref().ok()?;
        Some((u128::from(*free) * 100).checked_div(u128::from(*all))? as u64)
    }

    /// What is wrong with it.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let (free, _) = self.bytes.as_ref().ok()?;
        let percent = self.percent()?;
        let names = self.directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let text = format!("only {percent} percent ({}) are free where {names} is", Bytes(*free));
        let finding = match percent {
            p if p < FREE_PERCENT.1 => Finding::error("archive-space", text),
            p if p < FREE_PERCENT.0 => Finding::warning("archive-space", text),
            _ => return None,
        };
        Some(finding.hint("make room: an archive that is full fills the primary's pg_wal, and then stops it"))
    }

    /// `131 GB of 1 TB free, 13 percent`
    #[must_use]
    pub fn in_words(&self) -> String {
        match (&self.bytes, self.percent()) {
            (Ok((free, all)), percent) => {
                let percent = percent.map(|percent| format!(", {percent} percent")).unwrap_or_default();
                format!("{} of {} free{percent}", Bytes(*free), Bytes(*all))
            }
            (Err(why), _) => format!("cannot be asked: {why}"),
        }
    }
}

/// What `pg_stat_archiver` of a primary says, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Archiver {
    /// `archive_mode`.
    pub mode: String,
    /// Whether the server is in recovery: a standby.
    pub in_recovery: bool,
    /// Which cluster it is.
    pub system_identifier: Option<u64>,
    /// The segment that it is writing.
    pub current_wal: Option<String>,
    /// How many files it has archived.
    pub archived: u64,
    /// The last of them.
    pub last_wal: Option<String>,
    /// When that was.
    pub last_at: Option<Timestamp>,
    /// How often archiving failed.
    pub failed: u64,
    /// With which file the last time.
    pub last_failed_wal: Option<String>,
    /// When that was.
    pub last_failed_at: Option<Timestamp>,
    /// The server's time.
    pub now: Option<Timestamp>,
}

impl Archiver {
    /// Whole segments that wait to be archived. `None` where that cannot be told: nothing was archived yet, or a history
    /// file last.
    #[must_use]
    pub fn lag_segments(&self, size: SegmentSize) -> Option<u64> {
        // What was archived last may be a .backup file: its name begins with a segment's.
        let number = |name: &String| Some(SegmentName::parse(name.get(..24)?)?.number(size));
        let current = number(self.current_wal.as_ref()?)?;
        let last = number(self.last_wal.as_ref()?)?;
        Some(current.saturating_sub(last).saturating_sub(1))
    }

    /// Seconds since something was archived.
    #[must_use]
    pub fn age_s(&self) -> Option<f64> {
        Some(self.now?.seconds_since(self.last_at?).max(0.0))
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        match (self.last_failed_at, self.last_at) {
            (Some(failed), Some(archived)) => failed > archived,
            (failed, _) => failed.is_some(),
        }
    }

    /// What is wrong with it, the worst first; `cluster` is whose archive this is.
    #[must_use]
    pub fn findings(&self, cluster: Option<u64>, size: SegmentSize) -> Vec<Finding> {
        if let Some((theirs, ours)) = self.system_identifier.zip(cluster).filter(|(theirs, ours)| theirs != ours) {
            let text = format!(
                "the server that “primary” names is another cluster: its system identifier is {theirs}, the archive's is {ours}"
            );
            return vec![Finding::warning("primary-foreign", text).hint("mend “primary” in the configuration")];
        }
        if self.in_recovery {
            return vec![
                Finding::note(
                    "primary-standby",
                    "the server that “primary” names is a standby: it does not say how far archiving is",
                )
                .hint("name the primary in the configuration"),
            ];
        }
        if self.mode == "off" {
            return vec![
                Finding::error(
                    "archiving-off",
                    "archive_mode is off on the primary: nothing of what happens now can be recovered",
                )
                .hint("set archive_mode = on and an archive_command, restart it, and take a base backup"),
            ];
        }
        let mut found: Vec<Finding> = [self.lag(size), self.failing()].into_iter().flatten().collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        found
    }

    fn lag(&self, size: SegmentSize) -> Option<Finding> {
        let segments = self.lag_segments(size).filter(|segments| *segments > 0)?;
        let seconds = self.age_s().unwrap_or(0.0);
        let text = format!(
            "{} wait to be archived, and the last one was archived {} ago",
            counted(segments, "segment"),
            Seconds(seconds)
        );
        let is_over = |segment_limit: u64, limit: f64| segments >= segment_limit || seconds >= limit;
        let finding = match () {
            () if is_over(LAG_SEGMENTS.1, LAG_SECONDS.1) => Finding::error("archive-lag", text),
            () if is_over(LAG_SEGMENTS.0, LAG_SECONDS.0) => Finding::warning("archive-lag", text),
            () => return None,
        };
        Some(finding.hint("look at the primary's log for what archive_command says; what waits would be lost with it"))
    }

    fn failing(&self) -> Option<Finding> {
        let wal = self.last_failed_wal.as_deref().filter(|_| self.is_failing())?;
        let text = format!("archiving fails: {wal} could not be archived; {} so far", counted(self.failed, "failure"));
        Some(
            Finding::warning("archiving-fails", text)
                .hint("look at the primary's log for what archive_command says; it is tried again"),
        )
    }

    /// What it says, in sentences.
    #[must_use]
    pub fn in_words(&self, size: SegmentSize, zone: Zone) -> Vec<String> {
        let at =
            |at: Option<Timestamp>| at.map_or("at an unknown time".to_owned(), |at| format!("at {}", at.in_zone(zone)));
        let ago = self.age_s().map(|age| format!(", {} ago", Seconds(age))).unwrap_or_default();
        let last = match &self.last_wal {
            Some(wal) => {
                format!("Last archived: {wal} {}{ago}; {} files in all.", at(self.last_at), grouped(self.archived))
            }
            None => "Nothing was archived since its statistics were reset.".to_owned(),
        };
        let lag = match (self.lag_segments(size), &self.current_wal) {
            (Some(0), Some(current)) => format!("Nothing waits; it is writing {current}."),
            (Some(lag), Some(current)) => format!("{} wait; it is writing {current}.", counted(lag, "segment")),
            _ => "How many segments wait cannot be told.".to_owned(),
        };
        let failed = match &self.last_failed_wal {
            Some(wal) => {
                format!("{}; the last one with {wal} {}.", counted(self.failed, "failure"), at(self.last_failed_at))
            }
            None => "No failure.".to_owned(),
        };
        vec![last, lag, failed]
    }
}

/// What it comes to, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything was read, and nothing is wrong.
    Healthy,
    /// Nothing is wrong with what was read, but that is not all.
    Unread,
    /// Something may not be as meant.
    Warning,
    /// Something cannot be recovered, or will not be.
    Critical,
}

impl Verdict {
    /// Of the worst finding, and of whether everything was read.
    #[must_use]
    pub fn of(worst: Option<Severity>, complete: bool) -> Verdict {
        match worst {
            Some(Severity::Error) => Self::Critical,
            Some(Severity::Warning) => Self::Warning,
            _ if !complete => Self::Unread,
            _ => Self::Healthy,
        }
    }

    /// In a word or three.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unread => "not all read",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Timestamp::from_unix_seconds(1_700_000_000 + seconds)
    }

    /// Of a server that writes this segment, archived segment 1 at the beginning, and says so many seconds after.
    fn archiver(current: u64, seconds: i64) -> Archiver {
        let name = |number| SegmentName::new(crate::core::TimelineId(1), number, SegmentSize::DEFAULT).to_string();
        Archiver {
            mode: "on".to_owned(),
            system_identifier: Some(7),
            current_wal: Some(name(current)),
            archived: 1,
            last_wal: Some(name(1)),
            last_at: at(0),
            now: at(seconds),
            ..Archiver::default()
        }
    }

    fn said(archiver: &Archiver) -> Vec<(Severity, String)> {
        let found = archiver.findings(Some(7), SegmentSize::DEFAULT);
        found.into_iter().map(|finding| (finding.severity, finding.code.into_owned())).collect()
    }

    #[test]
    fn lag_is_judged_by_segments_and_by_minutes_and_only_where_something_waits() {
        let lag = |severity| vec![(severity, "archive-lag".to_owned())];
        for (current, seconds, expected) in [
            (2, 1_000_000, Vec::new()),
            (3, 299, Vec::new()),
            (3, 300, lag(Severity::Warning)),
            (3, 1800, lag(Severity::Error)),
            (11, 1, Vec::new()),
            (12, 1, lag(Severity::Warning)),
            (51, 1, lag(Severity::Warning)),
            (52, 1, lag(Severity::Error)),
        ] {
            assert_eq!(said(&archiver(current, seconds)), expected, "{current} {seconds}");
        }
    }

    #[test]
    fn a_failure_counts_until_something_was_archived_again() {
        let failed = |seconds| Archiver {
            failed: 3,
            last_failed_wal: Some("000000010000000000000002".to_owned()),
            last_failed_at: at(seconds),
            ..archiver(2, 10)
        };
        assert_eq!(said(&failed(5)), [(Severity::Warning, "archiving-fails".to_owned())]);
        assert_eq!(said(&failed(-5)), []);
        let never = Archiver { last_wal: None, last_at: None, ..failed(5) };
        assert_eq!((never.is_failing(), never.lag_segments(SegmentSize::DEFAULT)), (true, None));
        assert!(never.in_words(SegmentSize::DEFAULT, Zone::UTC)[0].starts_with("Nothing was archived"));
    }

    #[test]
    fn another_cluster_a_standby_and_one_that_does_not_archive_are_named() {
        let one = |archiver| said(&archiver).pop().unwrap();
        let (severity, code) = one(Archiver { system_identifier: Some(8), ..archiver(900, 1) });
        assert_eq!((severity, code.as_str()), (Severity::Warning, "primary-foreign"));
        let (severity, code) = one(Archiver { in_recovery: true, ..archiver(900, 1) });
        assert_eq!((severity, code.as_str()), (Severity::Note, "primary-standby"));
        let (severity, code) = one(Archiver { mode: "off".to_owned(), ..archiver(2, 1) });
        assert_eq!((severity, code.as_str()), (Severity::Error, "archiving-off"));
    }

    #[test]
    fn what_was_archived_last_may_be_no_segment() {
        let last = |name: &str| Archiver { last_wal: Some(name.to_owned()), ..archiver(4, 1) };
        let lag = |archiver: Archiver| archiver.lag_segments(SegmentSize::DEFAULT);
        assert_eq!(lag(last("000000010000000000000002.00000028.backup")), Some(1));
        assert_eq!(lag(last("00000002.history")), None);
        assert_eq!(lag(last("ü")), None);
    }

    #[test]
    fn free_space_is_judged_by_percent() {
        let space = |free| Space { directories: vec!["/a".into()], bytes: Ok((free, 1000)) };
        let severity = |free| space(free).finding().map(|finding| finding.severity);
        assert_eq!(
            [200, 199, 50, 49].map(severity),
            [None, Some(Severity::Warning), Some(Severity::Warning), Some(Severity::Error)]
        );
        let gone = Space { bytes: Err("gone".to_owned()), ..space(0) };
        assert_eq!((gone.finding(), gone.in_words()), (None, "cannot be asked: gone".to_owned()));
        assert_eq!(Space { bytes: Ok((0, 0)), ..space(0) }.percent(), None);
    }
}
