//! `backup_label` in a base backup, and the `.backup` file that the archive gets when the backup is done.

use crate::core::{Lsn, SegmentName, TimelineId, Timestamp};

use super::moment;

/// Where a base backup began (`do_pg_backup_start`, `src/backend/access/transam/xlog.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// The redo location: recovery of this backup replays from here.
    pub start_lsn: Lsn,
    /// The segment that holds it.
    pub start_segment: SegmentName,
    /// The record of the checkpoint that the backup began with.
    pub checkpoint_lsn: Lsn,
    /// `streamed`; `pg_start_backup` for an exclusive backup (13 and 14); `pg_rewind`. Empty where it is missing.
    pub method: String,
    /// Taken from a standby: no record in WAL says where it ended, and the archive gets no `.backup` file.
    pub from_standby: bool,
    /// `START TIME` as it stands there; its zone is the server's `log_timezone`, by its abbreviation.
    pub started_at_text: String,
    /// The same as a moment. `None` where the abbreviation has several meanings, like CST: then look for a better
    /// source, such as the time of the checkpoint in `pg_control`.
    pub started_at: Option<Timestamp>,
    /// What whoever took the backup called it. Any text without a line's end, up to 1024 bytes.
    pub label: String,
    /// `START TIMELINE` as it stands there; see [`BackupLabel::timeline`].
    pub timeline: Option<TimelineId>,
    /// For an incremental backup (17 and later): where the backup began that it builds upon.
    pub incremental_from: Option<Lsn>,
    /// And on which timeline.
    pub incremental_timeline: Option<TimelineId>,
}

/// Where a base backup began and ended: the archive's `SEGMENT.OOOOOOOO.backup` file. Written for backups from a
/// primary only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHistory {
    /// What its `backup_label` says.
    pub label: BackupLabel,
    /// Recovery of this backup is consistent from here on, and cannot stop before it.
    pub stop_lsn: Lsn,
    /// The last segment that recovery to there needs.
    pub stop_segment: SegmentName,
    /// `STOP TIME` as it stands there.
    pub stopped_at_text: String,
    /// The same as a moment, like [`BackupLabel::started_at`].
    pub stopped_at: Option<Timestamp>,
    /// `STOP TIMELINE` as it stands there; see [`BackupHistory::stop_timeline`].
    pub stop_timeline: Option<TimelineId>,
}

/// Why a text is not a backup label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBackupLabel {
    /// A line without which nothing can be recovered is not there.
    #[error("it has no line “{0}:”")]
    Missing(&'static str),
    /// Such a line is there and cannot be read.
    #[error("its line “{key}:” says “{}”, where {form} is expected", .value.escape_debug())]
    Malformed {
        /// Which line.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it should look like.
        form: &'static str,
    },
}

const LOCATION_AND_FILE: &str = "an LSN and a segment, like 0/2000028 (file 000000010000000000000002),";

impl BackupLabel {
    /// Reads a `backup_label`.
    ///
    /// As the server does (`read_backup_label`, `src/backend/access/transam/xlogrecovery.c`), this insists on
    /// the first two lines, START WAL LOCATION and CHECKPOINT LOCATION, and takes the others as they come.
    ///
    /// # Errors
    /// See [`BadBackupLabel`].
    pub fn parse(text: &str) -> Result<BackupLabel, BadBackupLabel> {
        let lines = Lines(text);
        let (start_lsn, start_segment) = lines.location("START WAL LOCATION")?;
        let started_at_text = lines.text("START TIME").to_owned();
        Ok(BackupLabel {
            start_lsn,
            start_segment,
            checkpoint_lsn: lines.checkpoint()?,
            method: lines.text("BACKUP METHOD").to_owned(),
            from_standby: lines.text("BACKUP FROM") == "standby",
            started_at: moment::parse(&started_at_text),
            started_at_text,
            label: lines.text("LABEL").to_owned(),
            timeline: lines.timeline("START TIMELINE"),
            incremental_from: lines.incremental()?,
            incremental_timeline: lines.timeline("INCREMENTAL FROM TLI"),
        })
    }

    /// The timeline on which the backup began: as the label says it, else that of its first segment.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.timeline.unwrap_or(self.start_segment.timeline)
    }
}

impl BackupHistory {
    /// Reads an archive's `.backup` file.
    ///
    /// # Errors
    /// See [`BadBackupLabel`]; STOP WAL LOCATION has to be there too.
    pub fn parse(text: &str) -> Result<BackupHistory, BadBackupLabel> {
        let lines = Lines(text);
        let label = BackupLabel::parse(text)?;
        let (stop_lsn, stop_segment) = lines.location("STOP WAL LOCATION")?;
        let stopped_at_text = lines.text("STOP TIME").to_owned();
        Ok(BackupHistory {
            label,
            stop_lsn,
            stop_segment,
            stopped_at: moment::parse(&stopped_at_text),
            stopped_at_text,
            stop_timeline: lines.timeline("STOP TIMELINE"),
        })
    }

    /// The timeline on which the backup ended: as the file says it, else that of its last segment.
    #[must_use]
    pub fn stop_timeline(&self) -> TimelineId {
        self.stop_timeline.unwrap_or(self.stop_segment.timeline)
    }
}

/// `KEY: value` lines, of which the first with a key counts.
struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn find(&self, key: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim_start_matches(' ')))
    }

    fn text(&self, key: &str) -> &'a str {
        self.find(key).unwrap_or_default()
    }

    fn timeline(&self, key: &str) -> Option<TimelineId> {
        self.text(key).trim_end().parse().ok().filter(|id| *id > 0).map(TimelineId)
    }

    fn location(&self, key: &'static str) -> Result<(Lsn, SegmentName), BadBackupLabel> {
        let value = self.find(key).ok_or(BadBackupLabel::Missing(key))?;
        let read = || {
            let (lsn, file) = value.trim_end().split_once(" (file ")?;
            Some((lsn.parse().ok()?, SegmentName::parse(file.strip_suffix(')')?)?))
        };
        read().ok_or_else(|| malformed(key, value, LOCATION_AND_FILE))
    }

    /// A line that is there and cannot be read would make a full backup of an incremental one.
    fn incremental(&self) -> Result<Option<Lsn>, BadBackupLabel> {
        const KEY: &str = "INCREMENTAL FROM LSN";
        let Some(value) = self.find(KEY) else { return Ok(None) };
        value.trim_end().parse().map(Some).map_err(|_| malformed(KEY, value, "an LSN, like 0/2000028,"))
    }

    fn checkpoint(&self) -> Result<Lsn, BadBackupLabel> {
        const KEY: &str = "CHECKPOINT LOCATION";
        let value = self.find(KEY).ok_or(BadBackupLabel::Missing(KEY))?;
        value.trim_end().parse().map_err(|_| malformed(KEY, value, "an LSN, like 0/2000060,"))
    }
}

fn malformed(key: &'static str, value: &str, form: &'static str) -> BadBackupLabel {
    // A damaged file can be one endless line; its beginning is enough to know it by.
    BadBackupLabel::Malformed { key, value: value.chars().take(80).collect(), form }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By pg_basebackup 15.18.
    const LABEL: &str = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)
CHECKPOINT LOCATION: 0/3000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-20 20:24:39 UTC
LABEL: nightly two
START TIMELINE: 1
";

    /// From the archive of the same cluster.
    const HISTORY: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
STOP WAL LOCATION: 0/2000100 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-20 20:24:38 UTC
LABEL: nightly one
START TIMELINE: 1
STOP TIME: 2026-11-20 20:24:38 UTC
STOP TIMELINE: 1
";

    fn segment(seg: u32) -> SegmentName {
        SegmentName { timeline: TimelineId(1), log: 0, seg }
    }

    fn at(text: &str) -> Option<Timestamp> {
        moment::parse(text)
    }

    #[test]
    fn a_label_says_where_the_backup_began() {
        let label = BackupLabel::parse(LABEL).unwrap();
        assert_eq!(
            label,
            BackupLabel {
                start_lsn: Lsn(0x300_0028),
                start_segment: segment(3),
                checkpoint_lsn: Lsn(0x300_0060),
                method: "streamed".into(),
                from_standby: false,
                started_at_text: "2026-11-20 20:24:39 UTC".into(),
                started_at: at("2026-11-20 20:24:39+00"),
                label: "nightly two".into(),
                timeline: Some(TimelineId(1)),
                incremental_from: None,
                incremental_timeline: None,
            }
        );
        assert!(label.started_at.is_some());
    }

    #[test]
    fn the_archives_file_says_where_it_ended_too() {
        let history = BackupHistory::parse(HISTORY).unwrap();
        assert_eq!((history.stop_lsn, history.stop_segment), (Lsn(0x200_0100), segment(2)));
        assert_eq!(history.stopped_at, at("2026-11-20 20:24:38+00"));
        assert_eq!(history.label.checkpoint_lsn, Lsn(0x200_0060));
        assert_eq!(history.stop_timeline(), TimelineId(1));
        assert_eq!(BackupHistory::parse(LABEL), Err(BadBackupLabel::Missing("STOP WAL LOCATION")));
    }

    #[test]
    fn what_other_majors_and_tools_write_is_understood() {
        let with = |from: &str, to: &str| BackupLabel::parse(&LABEL.replace(from, to)).unwrap();
        assert!(with("primary", "standby").from_standby);
        assert!(!with("primary", "master").from_standby, "13 calls the primary so");
        assert_eq!(with("20:24:39 UTC", "14:24:39 CST").started_at, None);
        assert_eq!(with("20:24:39 UTC", "14:24:39 CST").started_at_text, "2026-11-20 14:24:39 CST");
        assert_eq!(with("LABEL: nightly two", "LABEL: ").label, "");
        assert_eq!(with("\n", "\r\n").label, "nightly two");
        let incremental =
            with("TIMELINE: 1\n", "TIMELINE: 1\nINCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n");
        assert_eq!(incremental.incremental_from, Some(Lsn(0x200_0028)));
        assert_eq!(incremental.incremental_timeline, Some(TimelineId(1)));
        let unreadable = format!("{LABEL}INCREMENTAL FROM LSN: 0-2000028\n");
        assert!(BackupLabel::parse(&unreadable).unwrap_err().to_string().contains("“INCREMENTAL FROM LSN:”"));
    }

    #[test]
    fn two_lines_are_enough_and_fewer_are_named() {
        let short: String = LABEL.lines().take(2).map(|line| format!("{line}\n")).collect();
        let label = BackupLabel::parse(&short).unwrap();
        assert_eq!((label.timeline, label.timeline()), (None, TimelineId(1)));
        assert_eq!((label.method.as_str(), label.started_at), ("", None));
        let error = |text: &str| BackupLabel::parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "it has no line “START WAL LOCATION:”");
        assert_eq!(error(LABEL.lines().next().unwrap()), "it has no line “CHECKPOINT LOCATION:”");
        assert_eq!(
            error(&LABEL.replace("0/3000060", "0/30\tx")),
            "its line “CHECKPOINT LOCATION:” says “0/30\\tx”, where an LSN, like 0/2000060, is expected"
        );
        assert!(error(&LABEL.replace("(file 0", "(file ")).contains("“START WAL LOCATION:”"));
        assert!(error(&LABEL.replace("(file 0", &"(".repeat(9999))).len() < 300);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = BackupHistory::parse(&text);
        }

        #[test]
        fn no_change_to_a_label_makes_it_panic(at in 0usize..HISTORY.len(), with in "\\PC{0,4}", cut in 0usize..8) {
            let changed = format!("{}{with}{}", &HISTORY[..at], &HISTORY[(at + cut).min(HISTORY.len())..]);
            let _ = BackupHistory::parse(&changed);
        }
    }
}
