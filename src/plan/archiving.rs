//! Whether archiving goes on: what the primary says of it, and the room that is left for it. Pure; it was asked elsewhere.

use std::path::PathBuf;

use super::primary::{Command, Details};
use super::{Finding, Severity};
use crate::catalog::Catalog;
use crate::core::progress::{Bytes, Seconds, counted, grouped};
use crate::core::{Grade, SegmentName, SegmentSize, Thresholds, Timestamp, Zone};

/// A finding as bad as its grade; `None` where everything is fine.
pub(super) fn graded(grade: Grade, finding: Finding) -> Option<Finding> {
    match grade {
        Grade::Critical => Some(Finding { severity: Severity::Error, ..finding }),
        Grade::Warning => Some(Finding { severity: Severity::Warning, ..finding }),
        Grade::Fine => None,
    }
}

/// What the primary is held against.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// Whose archive it is, where anything told.
    pub cluster: Option<u64>,
    /// The size of its segments.
    pub size: SegmentSize,
    /// From where on it is a warning.
    pub thresholds: &'a Thresholds,
    /// What the archive has, where it was listed after the primary was asked. What was listed before would seem to be
    /// behind.
    pub archive: Option<&'a Catalog>,
}

impl<'a> Against<'a> {
    /// Of an archive that was listed before, of which only the cluster and the segments' size are believed.
    #[must_use]
    pub fn older(catalog: Option<&Catalog>, thresholds: &'a Thresholds) -> Against<'a> {
        Against {
            cluster: catalog.and_then(|catalog| catalog.system_identifier),
            size: catalog.map_or(SegmentSize::DEFAULT, |catalog| catalog.segment_size),
            thresholds,
            archive: None,
        }
    }

    /// Of an archive that was listed after the primary was asked.
    #[must_use]
    pub fn newer(catalog: &'a Catalog, thresholds: &'a Thresholds) -> Against<'a> {
        Against { archive: Some(catalog), ..Against::older(Some(catalog), thresholds) }
    }

    /// The newest segment here of the timeline of `name`, or where there is none of it, of any.
    fn newest(&self, name: SegmentName) -> Option<SegmentName> {
        let archive = self.archive?;
        let of_its = archive.segments_of(name.timeline).next_back();
        let any = || archive.segments.iter().max_by_key(|segment| segment.number(self.size));
        of_its.or_else(any).copied()
    }
}

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
    pub fn finding(&self, thresholds: &Thresholds) -> Option<Finding> {
        let found = graded(self.grade(thresholds)?, Finding::warning("archive-space", self.shortage()?))?;
        Some(found.hint("make room: an archive that is full fills the primary's pg_wal, and then stops it"))
    }

    /// What is wrong with one to which recoveries go, and which has no archive: `needed` is what the newest backup takes
    /// there when it is unpacked. Nothing is lost by it, so that it is never more than a warning.
    #[must_use]
    pub fn finding_for_restore(&self, needed: Option<u64>, thresholds: &Thresholds) -> Option<Finding> {
        let (free, _) = self.bytes.as_ref().ok()?;
        let text = match needed.filter(|needed| needed > free) {
            Some(needed) => format!(
                "the newest base backup takes {} when it is unpacked, and {} are free where {} is",
                Bytes(needed),
                Bytes(*free),
                self.names()
            ),
            None if self.grade(thresholds)? == Grade::Fine => return None,
            None => self.shortage()?,
        };
        Some(
            Finding::warning("restore-space", text)
                .hint("make room before a recovery is needed, or configure another place"),
        )
    }

    fn grade(&self, thresholds: &Thresholds) -> Option<Grade> {
        Some(thresholds.free_space_percent.below(self.percent()? as f64))
    }

    fn shortage(&self) -> Option<String> {
        let (free, _) = self.bytes.as_ref().ok()?;
        Some(format!("only {} percent ({}) are free where {} is", self.percent()?, Bytes(*free), self.names()))
    }

    fn names(&self) -> String {
        self.directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
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
    /// Since when these are counted.
    pub since: Option<Timestamp>,
    /// The server's time.
    pub now: Option<Timestamp>,
    /// What else it says, as far as its role may ask.
    pub details: Box<Details>,
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

    /// Segments that wait to be archived: counted by the server where its role may look, else computed.
    #[must_use]
    pub fn waiting(&self, size: SegmentSize) -> Option<u64> {
        self.details.ready.map(|ready| ready.segments).or_else(|| self.lag_segments(size))
    }

    /// Seconds for which the oldest of them has waited. Where the server does not show that, those since something was
    /// archived, which may be more.
    #[must_use]
    pub fn waiting_s(&self, size: SegmentSize) -> Option<f64> {
        match (self.waiting(size)?, self.details.ready.map(|ready| ready.oldest_at)) {
            (0, _) => Some(0.0),
            (_, Some(oldest)) => Some(self.now?.seconds_since(oldest?).max(0.0)),
            (_, None) => self.age_s(),
        }
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

    /// Whether it archives by itself.
    #[must_use]
    pub fn archives(&self) -> bool {
        !self.in_recovery && self.mode != "off"
    }

    /// What is wrong with it, the worst first.
    #[must_use]
    pub fn findings(&self, against: &Against<'_>) -> Vec<Finding> {
        let others = self.system_identifier.zip(against.cluster).filter(|(theirs, ours)| theirs != ours);
        if let Some((theirs, ours)) = others {
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
        let mut found = match (self.mode.as_str(), self.details.receivers) {
            ("off", 0) => vec![
                Finding::error(
                    "archiving-off",
                    "archive_mode is off on the primary: nothing of what happens now can be recovered",
                )
                .hint("set archive_mode = on and an archive_command, restart it, and take a base backup"),
            ],
            ("off", receivers) => {
                let who = counted(receivers, "program");
                let text =
                    format!("archive_mode is off on the primary, and its WAL is streamed by {who} (pg_receivewal)");
                vec![Finding::note("archiving-streamed", text)]
            }
            _ => [self.to_nowhere(), self.lag(against), self.failing()].into_iter().flatten().collect(),
        };
        found.extend(self.behind(against));
        found.extend(self.details.findings(against));
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        found
    }

    /// What archives to nowhere.
    fn to_nowhere(&self) -> Option<Finding> {
        let hint = "set archive_command to what copies a segment into the archive, or archive_library; then take a base backup";
        Some(match self.details.command? {
            Command::Missing => Finding::error(
                "archiving-nowhere",
                "archive_mode is on, and neither archive_command nor archive_library is set: nothing is archived, and WAL piles up on the primary",
            ),
            Command::Discards => Finding::error(
                "archiving-nowhere",
                "archive_command only pretends to archive: nothing of what happens now can be recovered",
            ),
            Command::Set => return None,
        }
        .hint(hint))
    }

    fn lag(&self, against: &Against<'_>) -> Option<Finding> {
        let segments = self.waiting(against.size).filter(|segments| *segments > 0)?;
        let seconds = self.waiting_s(against.size).unwrap_or(0.0);
        let since = match self.details.ready {
            Some(_) => format!("the oldest for {}", Seconds(seconds)),
            None => format!("and the last one was archived {} ago", Seconds(seconds)),
        };
        let text = format!("{} {} to be archived, {since}", counted(segments, "segment"), wait(segments));
        let limits = against.thresholds;
        let by_minutes = limits.archive_lag_minutes.at_least(seconds / 60.0);
        let grade = limits.archive_lag_segments.at_least(segments as f64).max(by_minutes);
        let hint = "look at the primary's log for what archive_command says; what waits would be lost with it";
        Some(graded(grade, Finding::warning("archive-lag", text))?.hint(hint))
    }

    fn failing(&self) -> Option<Finding> {
        let wal = self.last_failed_wal.as_deref().filter(|_| self.is_failing())?;
        let text = format!("archiving fails: {wal} could not be archived; {} so far", counted(self.failed, "failure"));
        Some(
            Finding::warning("archiving-fails", text)
                .hint("look at the primary's log for what archive_command says; it is tried again"),
        )
    }

    /// Segments that the primary has archived, or that were streamed, and that are not here.
    #[must_use]
    pub fn behind_segments(&self, against: &Against<'_>) -> Option<u64> {
        let parsed = |name: &Option<String>| SegmentName::parse(name.as_ref()?.get(..24)?);
        // What is being written is not expected.
        let (last, unfinished) = match self.archives() {
            true => (parsed(&self.last_wal)?, 0),
            false => (parsed(&self.current_wal)?, 1),
        };
        let here = against.newest(last)?;
        Some(last.number(against.size).saturating_sub(unfinished).saturating_sub(here.number(against.size)))
    }

    fn behind(&self, against: &Against<'_>) -> Option<Finding> {
        let segments = self.behind_segments(against).filter(|segments| *segments > 0)?;
        let last = if self.archives() { self.last_wal.as_deref()? } else { self.current_wal.as_deref()? };
        let here = against.newest(SegmentName::parse(last.get(..24)?)?)?;
        let limits = against.thresholds;
        let mut grade = limits.archive_lag_segments.at_least(segments as f64);
        let (text, ago) = match self.archives() {
            true => {
                let seconds = self.age_s().unwrap_or(0.0);
                grade = grade.max(limits.archive_lag_minutes.at_least(seconds / 60.0));
                (format!("the primary has archived {last}"), format!(" {} ago", Seconds(seconds)))
            }
            false => (format!("the primary is writing {last}"), String::new()),
        };
        let text =
            format!("{text}{ago}, and the newest segment here is {here}: {} behind", counted(segments, "segment"));
        let hint = "does it archive to another place? name that with --wal, or as “wal” in the configuration; where the archive here is a copy, look at what copies it";
        Some(graded(grade, Finding::warning("archive-behind", text))?.hint(hint))
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
        let lag = match (self.waiting(size), &self.current_wal) {
            (Some(0), Some(current)) => format!("Nothing waits; it is writing {current}."),
            (Some(lag), Some(current)) => {
                format!("{} {}; it is writing {current}.", counted(lag, "segment"), wait(lag))
            }
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

/// The verb behind so many segments.
fn wait(segments: u64) -> &'static str {
    if segments == 1 { "waits" } else { "wait" }
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

    static USUAL: std::sync::LazyLock<Thresholds> = std::sync::LazyLock::new(Thresholds::default);

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
        let against = Against { cluster: Some(7), ..Against::older(None, &USUAL) };
        let found = archiver.findings(&against);
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
        let details = Box::new(Details { receivers: 1, ..Details::default() });
        let (severity, code) = one(Archiver { mode: "off".to_owned(), details, ..archiver(2, 1) });
        assert_eq!((severity, code.as_str()), (Severity::Note, "archiving-streamed"));
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
        let severity = |free| space(free).finding(&USUAL).map(|finding| finding.severity);
        assert_eq!(
            [200, 199, 50, 49].map(severity),
            [None, Some(Severity::Warning), Some(Severity::Warning), Some(Severity::Error)]
        );
        let gone = Space { bytes: Err("gone".to_owned()), ..space(0) };
        assert_eq!((gone.finding(&USUAL), gone.in_words()), (None, "cannot be asked: gone".to_owned()));
        assert_eq!(Space { bytes: Ok((0, 0)), ..space(0) }.percent(), None);

        let for_restore = |free, needed| space(free).finding_for_restore(needed, &USUAL);
        let short = [for_restore(900, Some(901)), for_restore(199, Some(1)), for_restore(199, None)];
        for finding in short.map(Option::unwrap) {
            assert_eq!((finding.code.as_ref(), finding.severity), ("restore-space", Severity::Warning));
        }
        assert_eq!(for_restore(900, Some(900)), None);
    }
}
