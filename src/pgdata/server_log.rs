//! The server's log: lines, and what the lines of a recovery mean.
//!
//! Written for `log_line_prefix = '%m [%p] %b %e: '`, `log_timezone = 'UTC'`, `lc_messages = 'C'` and
//! `log_destination = 'stderr'`. The wordings are those of PostgreSQL 13 to 18 (`xlog.c`, `xlogrecovery.c`,
//! `xlogreader.c`, `postmaster.c`).

use serde::{Deserialize, Serialize};

use crate::core::{Lsn, TimelineId, Timestamp, Xid};

use super::moment;

/// One line of a server's log.
///
/// A line that does not begin as the prefix says (the further lines of a message, what `restore_command` printed,
/// what was written before the settings were read) has only its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written. `None` also where `log_timezone` has an abbreviation with several meanings.
    pub at: Option<Timestamp>,
    /// The process that wrote it.
    pub pid: Option<u32>,
    /// That process's type, like `startup`, `postmaster` or `client backend`; a default prefix has none.
    pub backend: Option<String>,
    /// How bad it is, or what it adds to the line before.
    pub severity: Option<Severity>,
    /// The message; for a line without a prefix, all of it.
    pub text: String,
}

/// The word before a message (`error_severity` and `send_message_to_server_log`, `src/backend/utils/error/elog.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Of no interest to an operator.
    Debug,
    /// What the server does.
    Log,
    /// Asked for by a client.
    Info,
    /// Worth knowing, for a client.
    Notice,
    /// Something may be wrong.
    Warning,
    /// A statement failed.
    Error,
    /// The process ends.
    Fatal,
    /// The whole server ends.
    Panic,
    /// More about the message before.
    Detail,
    /// What to do about the message before.
    Hint,
    /// Where the message before came from.
    Context,
    /// The statement that the message before is about.
    Statement,
    /// An internal query that the message before is about.
    Query,
    /// The place in the server's source.
    Location,
    /// The calls that led there.
    Backtrace,
}

const SEVERITIES: [(&str, Severity); 15] = [
    ("DEBUG", Severity::Debug),
    ("LOG", Severity::Log),
    ("INFO", Severity::Info),
    ("NOTICE", Severity::Notice),
    ("WARNING", Severity::Warning),
    ("ERROR", Severity::Error),
    ("FATAL", Severity::Fatal),
    ("PANIC", Severity::Panic),
    ("DETAIL", Severity::Detail),
    ("HINT", Severity::Hint),
    ("CONTEXT", Severity::Context),
    ("STATEMENT", Severity::Statement),
    ("QUERY", Severity::Query),
    ("LOCATION", Severity::Location),
    ("BACKTRACE", Severity::Backtrace),
];

impl Severity {
    /// As the log has it: `LOG`.
    #[must_use]
    pub fn word(self) -> &'static str {
        SEVERITIES.iter().find(|(_, severity)| *severity == self).map_or("", |(word, _)| *word)
    }
}

impl LogLine {
    /// Reads one line, with or without its end. Never fails: what has no prefix is plain text.
    #[must_use]
    pub fn parse(line: &str) -> LogLine {
        let line = line.trim_end_matches(['\n', '\r']);
        prefixed(line).unwrap_or_else(|| LogLine {
            at: None,
            pid: None,
            backend: None,
            severity: None,
            text: line.to_owned(),
        })
    }

    /// Written by the recovery itself or by the server's first process, not by a client's session or by an
    /// extension, whose messages can say anything.
    fn is_of_the_server(&self) -> bool {
        matches!(
            self.backend.as_deref(),
            None | Some("startup" | "postmaster" | "checkpointer" | "background writer" | "walwriter")
        )
    }
}

/// `2026-11-20 20:24:42.273 UTC [8178] startup 00000: LOG:  text`, and the default prefix, which has neither the
/// process's type nor the SQLSTATE.
fn prefixed(line: &str) -> Option<LogLine> {
    let (stamp, rest) = line.split_once(" [")?;
    let looks_like_a_time = stamp.len() <= 40 && stamp.as_bytes().first_chunk().is_some_and(is_date);
    if !looks_like_a_time {
        return None;
    }
    let (pid, rest) = rest.split_once("] ")?;
    let pid = pid.parse().ok()?;
    let at = moment::parse(stamp);
    let (backend, (severity, text)) = match severity(rest) {
        Some(found) => (None, found),
        None => {
            let (backend, rest) = split_at_sqlstate(rest)?;
            (Some(backend.to_owned()), severity(rest)?)
        }
    };
    Some(LogLine { at, pid: Some(pid), backend, severity: Some(severity), text: text.to_owned() })
}

fn is_date(start: &[u8; 11]) -> bool {
    start
        .iter()
        .zip(b"dddd-dd-dd ")
        .all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form })
}

/// The process's type before ` 00000: `, and what follows. The type can be any text: extensions name their own.
fn split_at_sqlstate(text: &str) -> Option<(&str, &str)> {
    text.match_indices(": ").find_map(|(colon, _)| {
        let (before, after) = (text.get(..colon)?, text.get(colon + 2..)?);
        let (backend, state) = before.rsplit_once(' ')?;
        let is_state = state.len() == 5 && state.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        is_state.then_some((backend, after))
    })
}

/// `LOG:  text` and the like.
fn severity(text: &str) -> Option<(Severity, &str)> {
    let (word, message) = text.split_once(":  ")?;
    SEVERITIES.iter().find(|(name, _)| *name == word).map(|(_, severity)| (*severity, message))
}

/// What a line says about the course of a recovery.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    /// Recovery towards a target began; in the server's words, like `XID 728` or `"before deploy"`.
    StartingPointInTime(String),
    /// Recovery to the end of the archive began, without a target.
    StartingArchiveRecovery,
    /// The server recovers from a crash, with the WAL in `pg_wal` alone: it ignores any target, and takes writes
    /// at the end. In a restored copy this is an accident.
    NotProperlyShutDown,
    /// Replay began here.
    RedoStarts(Lsn),
    /// The archive gave this file, a segment or a timeline's history. From 15 on the server reads ahead: it may
    /// not have been replayed.
    RestoredSegment(String),
    /// The data is consistent from here on.
    Consistent(Lsn),
    /// Sessions can connect and read.
    ReadOnlyConnections,
    /// Replay goes on (15 and later, every `log_startup_progress_interval`).
    RedoProgress {
        /// The last record's place.
        lsn: Lsn,
        /// Seconds since replay began.
        elapsed_s: f64,
    },
    /// The target is reached.
    Stopping(Stopped),
    /// Paused at the target. Only this proves it: resuming from here promotes.
    Pausing,
    /// Paused, and not at the target: by somebody's hand, or for a setting, which a DETAIL line then tells.
    PausedOnTheWay,
    /// Paused in the middle because the original server's settings were raised beyond this one's (14 and later).
    /// Looks like a pause at the target to SQL; the server ends if it is resumed. Told by a DETAIL line, which
    /// follows a bare `recovery has paused`.
    PausedForSettings,
    /// A setting that recovery needs is lower than on the server that wrote the WAL. A DETAIL line, which comes before the
    /// one of the pause, or after a FATAL one (14 and later).
    SettingTooLow(TooLow),
    /// The server cannot listen where it shall: somebody else does. It ends where it can listen nowhere.
    AddressTaken(String),
    /// The target is reached, and the server ends as it was told.
    ShutdownAtTarget,
    /// Somebody asked the server to end.
    ShutdownRequested,
    /// A process of the server was killed, and took the server along or made it begin anew; in the server's words.
    ProcessKilled(String),
    /// The server begins anew after one of its processes was killed.
    Reinitializing,
    /// Replay ended with the record that starts here.
    RedoDone(Lsn),
    /// Recovery ends on this timeline.
    NewTimeline(TimelineId),
    /// Recovery is over.
    ArchiveRecoveryComplete,
    /// The server takes writes.
    Ready,
    /// Somebody asked for the promotion.
    PromoteRequested,
    /// No valid record follows. The normal end of WAL looks like damage, and the reverse.
    EndOfWal {
        /// Where, if it is told: some messages of 13 to 15 name a segment and an offset only.
        at: Option<Lsn>,
        /// The whole message.
        message: String,
    },
    /// A process of the server ended with this message (FATAL), or all of it did (PANIC). Not that of a client's
    /// session, which is only turned away.
    Fatal(String),
    /// The data directory has the state of this prepared transaction, which was prepared behind the place where recovery
    /// begins: the server removes the file. 17 and 18 can fail to (`ProcessTwoPhaseBuffer`, `twophase.c`; seen with 17.10 and
    /// 18.4), since they look for it under another epoch where its id is higher than the checkpoint's next one.
    StateIsAhead(Xid),
    /// This transaction's PREPARE was passed over, since its state lies in a file: from there it is known already, unless
    /// that was to be removed (`PrepareRedoAdd`, `twophase.c`).
    PreparePassedOver(Xid),
}

/// A setting that is lower than recovery needs (`CheckRequiredParameterValues`; `RecoveryRequiresIntParameter`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLow {
    /// Its name.
    pub name: String,
    /// Its value.
    pub set: u32,
    /// The value that the server had which wrote the WAL.
    pub needed: u32,
}

/// How 14 and later end where a setting is too low; which one a DETAIL line says.
pub const INSUFFICIENT: &str = "recovery aborted because of insufficient parameter settings";

impl TooLow {
    /// `max_connections = 100 is a lower setting than on the primary server, where its value was 300.`; 13 says it in one
    /// sentence with what follows from it, and calls the other server the master.
    #[must_use]
    pub fn of(text: &str) -> Option<TooLow> {
        let (before, after) = text.split_once(" is a lower setting than on the ")?;
        let (before, set) = before.rsplit_once(" = ")?;
        let name = before.rsplit(' ').next()?;
        let (_, needed) = after.split_once("value was ")?;
        let needed = needed.trim_end_matches(['.', ')']);
        Some(TooLow { name: name.to_owned(), set: set.parse().ok()?, needed: needed.parse().ok()? })
    }
}

/// Where and why recovery stopped, as the server reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// At what.
    pub kind: StopKind,
    /// Stopped before it; it was not replayed.
    pub before: bool,
    /// Whose commit or abort.
    pub xid: Option<Xid>,
    /// When the transaction ended or the restore point was made.
    pub at: Option<Timestamp>,
    /// The record's start, for [`StopKind::Lsn`].
    pub lsn: Option<Lsn>,
    /// The restore point's name.
    pub name: Option<String>,
}

/// At what recovery stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopKind {
    /// A transaction's commit.
    Commit,
    /// A transaction's abort.
    Abort,
    /// A record's place in WAL.
    Lsn,
    /// A named restore point.
    RestorePoint,
    /// The end of the base backup.
    Consistency,
}

/// How `xlogreader.c` and `xlogrecovery.c` begin to say that no valid record follows.
const END_OF_WAL: [&str; 17] = [
    "invalid record length at ",
    "invalid record offset at ",
    "invalid resource manager ID ",
    "invalid magic number ",
    "invalid info bits ",
    "invalid contrecord length ",
    "incorrect resource manager data checksum in record at ",
    "record with incorrect prev-link ",
    "record with invalid length at ",
    "record length ",
    "there is no contrecord flag at ",
    "missing contrecord at ",
    "unexpected pageaddr ",
    "out-of-sequence timeline ID ",
    "contrecord is requested by ",
    "WAL file is from different database system",
    "unexpected timeline ID ",
];

impl LogEvent {
    /// What `line` says about recovery; `None` for every other line.
    #[must_use]
    pub fn of(line: &LogLine) -> Option<LogEvent> {
        if !line.is_of_the_server() {
            return None;
        }
        let text = line.text.as_str();
        match line.severity? {
            Severity::Log => event(text),
            Severity::Detail if text == "If recovery is unpaused, the server will shut down." => {
                Some(LogEvent::PausedForSettings)
            }
            Severity::Detail => TooLow::of(text).map(LogEvent::SettingTooLow),
            // With a default prefix, a client that is turned away cannot be told by its process's type.
            Severity::Fatal if line.backend.is_none() && text.starts_with("the database system is ") => None,
            Severity::Fatal | Severity::Panic => Some(LogEvent::Fatal(text.to_owned())),
            Severity::Warning => warned(text),
            _ => None,
        }
    }
}

fn warned(text: &str) -> Option<LogEvent> {
    let (what, xid) = text.split_once(" two-phase state file for transaction ")?;
    let xid = xid.parse().ok()?;
    match what {
        "removing future" => Some(LogEvent::StateIsAhead(Xid(xid))),
        "could not recover" => Some(LogEvent::PreparePassedOver(Xid(xid))),
        _ => None,
    }
}

fn event(text: &str) -> Option<LogEvent> {
    Some(match text {
        "starting archive recovery" => LogEvent::StartingArchiveRecovery,
        "database system was not properly shut down; automatic recovery in progress" => LogEvent::NotProperlyShutDown,
        // 13 writes it with a space, 14 and later with a hyphen.
        "database system is ready to accept read-only connections"
        | "database system is ready to accept read only connections" => LogEvent::ReadOnlyConnections,
        "pausing at the end of recovery" => LogEvent::Pausing,
        "recovery has paused" => LogEvent::PausedOnTheWay,
        "shutdown at recovery target" => LogEvent::ShutdownAtTarget,
        "received smart shutdown request"
        | "received fast shutdown request"
        | "received immediate shutdown request" => LogEvent::ShutdownRequested,
        "all server processes terminated; reinitializing" => LogEvent::Reinitializing,
        "archive recovery complete" => LogEvent::ArchiveRecoveryComplete,
        "database system is ready to accept connections" => LogEvent::Ready,
        "received promote request" => LogEvent::PromoteRequested,
        _ => return event_with_values(text),
    })
}

fn event_with_values(text: &str) -> Option<LogEvent> {
    let after = |start: &str| text.strip_prefix(start);
    if let Some(target) = after("starting point-in-time recovery to ") {
        return Some(LogEvent::StartingPointInTime(target.to_owned()));
    }
    if let Some(file) = after("restored log file \"") {
        return Some(LogEvent::RestoredSegment(file.strip_suffix("\" from archive")?.to_owned()));
    }
    if let Some(lsn) = after("redo starts at ") {
        return lsn.parse().ok().map(LogEvent::RedoStarts);
    }
    if let Some(lsn) = after("consistent recovery state reached at ") {
        return lsn.parse().ok().map(LogEvent::Consistent);
    }
    if let Some(progress) = after("redo in progress, elapsed time: ") {
        let (elapsed, lsn) = progress.split_once(" s, current LSN: ")?;
        return Some(LogEvent::RedoProgress { lsn: lsn.parse().ok()?, elapsed_s: elapsed.parse().ok()? });
    }
    if let Some(lsn) = after("redo done at ") {
        // From 14 on, followed by what the replay cost.
        return lsn.split(' ').next()?.parse().ok().map(LogEvent::RedoDone);
    }
    if let Some(id) = after("selected new timeline ID: ") {
        return id.parse().ok().map(|id| LogEvent::NewTimeline(TimelineId(id)));
    }
    if let Some(stop) = after("recovery stopping ") {
        return stopped(stop).map(LogEvent::Stopping);
    }
    if text.starts_with("could not bind ") && text.ends_with("Address already in use") {
        return Some(LogEvent::AddressTaken(text.to_owned()));
    }
    if text.contains(" was terminated by signal ") {
        return Some(LogEvent::ProcessKilled(text.to_owned()));
    }
    let ends = END_OF_WAL.iter().any(|start| text.starts_with(start));
    ends.then(|| LogEvent::EndOfWal { at: broken_at(text), message: text.to_owned() })
}

/// What follows `recovery stopping ` (`recoveryStopsBefore`, `recoveryStopsAfter`).
fn stopped(text: &str) -> Option<Stopped> {
    let stop = |kind, before| Stopped { kind, before, xid: None, at: None, lsn: None, name: None };
    if text == "after reaching consistency" {
        return Some(stop(StopKind::Consistency, false));
    }
    if let Some(rest) = text.strip_prefix("at restore point \"") {
        // A name can hold quotes; one with a line's end has its time on the next line.
        let (name, at) =
            rest.rsplit_once("\", time ").map_or((None, None), |(name, at)| (Some(name), moment::parse(at)));
        return Some(Stopped { at, name: name.map(str::to_owned), ..stop(StopKind::RestorePoint, false) });
    }
    let (side, what) = text.split_once(' ')?;
    let before = match side {
        "before" => true,
        "after" => false,
        _ => return None,
    };
    if let Some(lsn) = what.strip_prefix("WAL location (LSN) \"") {
        return Some(Stopped { lsn: Some(lsn.strip_suffix('"')?.parse().ok()?), ..stop(StopKind::Lsn, before) });
    }
    let (outcome, rest) = what.split_once(" of transaction ")?;
    let kind = match outcome {
        "commit" => StopKind::Commit,
        "abort" => StopKind::Abort,
        _ => return None,
    };
    let (xid, at) = rest.split_once(", time ")?;
    Some(Stopped { xid: Some(Xid(xid.parse().ok()?)), at: moment::parse(at), ..stop(kind, before) })
}

/// The LSN in `… at 0/3000148`, `… at 0/3000148: wanted 24, got 0`, `…, LSN 0/3000000, offset 0`.
fn broken_at(text: &str) -> Option<Lsn> {
    let lsn = |rest: &str| rest.split([' ', ':', ',']).next()?.parse().ok();
    let behind = |word: &str| text.rmatch_indices(word).find_map(|(at, _)| lsn(text.get(at + word.len()..)?));
    behind(", LSN ").or_else(|| behind(" at "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By a 15.18 server that recovered to a restore point, was promoted, and was stopped.
    const PROMOTED: &str = r#"2026-11-20 20:23:59.586 UTC [7541] postmaster 00000: LOG:  starting PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1) 12.2.0, 64-bit
2026-11-20 20:23:59.588 UTC [7544] startup 00000: LOG:  database system was interrupted; last known up at 2026-11-20 20:23:57 UTC
2026-11-20 20:23:59.588 UTC [7544] startup 00000: LOG:  starting point-in-time recovery to "rp a"
2026-11-20 20:23:59.588 UTC [7544] startup 00000: LOG:  starting backup recovery with redo LSN 0/2000028, checkpoint LSN 0/2000060, on timeline ID 1
2026-11-20 20:23:59.599 UTC [7544] startup 00000: LOG:  restored log file "000000010000000000000002" from archive
2026-11-20 20:23:59.601 UTC [7544] startup 00000: LOG:  redo starts at 0/2000028
cp: cannot stat '/srv/archive/000000010000000000000005': No such file or directory
2026-11-20 20:23:59.629 UTC [7544] startup 00000: LOG:  completed backup recovery with redo LSN 0/2000028 and end LSN 0/2000100
2026-11-20 20:23:59.629 UTC [7544] startup 00000: LOG:  consistent recovery state reached at 0/2000100
2026-11-20 20:23:59.629 UTC [7541] postmaster 00000: LOG:  database system is ready to accept read-only connections
2026-11-20 20:23:59.629 UTC [7544] startup 00000: LOG:  recovery stopping at restore point "rp a", time 2026-11-20 20:23:58.11964+00
2026-11-20 20:23:59.629 UTC [7544] startup 00000: LOG:  pausing at the end of recovery
2026-11-20 20:23:59.629 UTC [7544] startup 00000: HINT:  Execute pg_wal_replay_resume() to promote.
2026-11-20 20:24:10.641 UTC [7544] startup 00000: LOG:  received promote request
2026-11-20 20:24:10.641 UTC [7544] startup 00000: LOG:  redo done at 0/40024D8 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 11.03 s
2026-11-20 20:24:10.641 UTC [7544] startup 00000: LOG:  last completed transaction was at log time 2026-11-20 20:23:58.111182+00
2026-11-20 20:24:10.654 UTC [7544] startup 00000: LOG:  selected new timeline ID: 2
2026-11-20 20:24:10.662 UTC [7544] startup 00000: LOG:  archive recovery complete
2026-11-20 20:24:10.664 UTC [7541] postmaster 00000: LOG:  database system is ready to accept connections
2026-11-20 20:24:10.714 UTC [7541] postmaster 00000: LOG:  background worker "logical replication launcher" (PID 7970) exited with exit code 1
2026-11-20 20:24:10.742 UTC [7541] postmaster 00000: LOG:  database system is shut down
"#;

    /// By an 18.4 server that came upon a raised max_connections before its target.
    const PAUSED_FOR_SETTINGS: &str = r#"2026-11-20 20:29:01.833 UTC [10567] startup 00000: LOG:  consistent recovery state reached at 0/2000120
2026-11-20 20:29:01.833 UTC [10567] startup 22023: WARNING:  hot standby is not possible because of insufficient parameter settings
2026-11-20 20:29:01.833 UTC [10567] startup 22023: DETAIL:  max_connections = 100 is a lower setting than on the primary server, where its value was 300.
2026-11-20 20:29:01.833 UTC [10567] startup 00000: LOG:  recovery has paused
2026-11-20 20:29:01.833 UTC [10567] startup 00000: DETAIL:  If recovery is unpaused, the server will shut down.
2026-11-20 20:29:01.833 UTC [10567] startup 00000: HINT:  You can then restart the server after making the necessary configuration changes.
2026-11-20 20:29:01.833 UTC [10567] startup 00000: CONTEXT:  WAL redo at 0/50000A0 for XLOG/PARAMETER_CHANGE: max_connections=300 max_worker_processes=8
"#;

    fn events(log: &str) -> Vec<LogEvent> {
        log.lines().filter_map(|line| LogEvent::of(&LogLine::parse(line))).collect()
    }

    /// What the startup process means by `text` as a LOG line.
    fn said(text: &str) -> Option<LogEvent> {
        LogEvent::of(&LogLine::parse(&format!("2026-11-20 20:24:42.273 UTC [8178] startup 00000: LOG:  {text}\n")))
    }

    fn stop(kind: StopKind, before: bool) -> Stopped {
        Stopped { kind, before, xid: None, at: None, lsn: None, name: None }
    }

    #[test]
    fn a_recovery_tells_its_course() {
        let restore_point = Stopped {
            at: moment::parse("2026-11-20 20:23:58.119640+00"),
            name: Some("rp a".into()),
            ..stop(StopKind::RestorePoint, false)
        };
        assert!(restore_point.at.is_some());
        assert_eq!(
            events(PROMOTED),
            [
                LogEvent::StartingPointInTime("\"rp a\"".into()),
                LogEvent::RestoredSegment("000000010000000000000002".into()),
                LogEvent::RedoStarts(Lsn(0x200_0028)),
                LogEvent::Consistent(Lsn(0x200_0100)),
                LogEvent::ReadOnlyConnections,
                LogEvent::Stopping(restore_point),
                LogEvent::Pausing,
                LogEvent::PromoteRequested,
                LogEvent::RedoDone(Lsn(0x400_24D8)),
                LogEvent::NewTimeline(TimelineId(2)),
                LogEvent::ArchiveRecoveryComplete,
                LogEvent::Ready,
            ]
        );
    }

    /// By a 17.10 server, of a backup with the states of two transactions that were prepared while it was made.
    #[test]
    fn states_that_are_ahead_are_told_from_those_that_are_in_the_way() {
        let log = r#"2026-11-22 21:13:42.151 UTC [31540] startup 01000: WARNING:  removing future two-phase state file for transaction 741
2026-11-22 21:13:42.151 UTC [31540] startup 58P01: WARNING:  could not remove file "pg_twophase/FFFFFFFF000002E5": No such file or directory
2026-11-22 21:13:42.151 UTC [31540] startup 01000: WARNING:  removing future two-phase state file for transaction 740
2026-11-22 21:13:42.153 UTC [31540] startup 01000: WARNING:  could not recover two-phase state file for transaction 741
2026-11-22 21:13:42.153 UTC [31540] client backend 01000: WARNING:  could not recover two-phase state file for transaction 740
"#;
        let [first, second] = [Xid(740), Xid(741)];
        let expected =
            [LogEvent::StateIsAhead(second), LogEvent::StateIsAhead(first), LogEvent::PreparePassedOver(second)];
        assert_eq!(events(log), expected);
    }

    #[test]
    fn a_pause_for_settings_is_not_one_at_the_target() {
        let low = TooLow { name: "max_connections".to_owned(), set: 100, needed: 300 };
        let expected = [
            LogEvent::Consistent(Lsn(0x200_0120)),
            LogEvent::SettingTooLow(low),
            LogEvent::PausedOnTheWay,
            LogEvent::PausedForSettings,
        ];
        assert_eq!(events(PAUSED_FOR_SETTINGS), expected);
    }

    #[test]
    fn lines_are_taken_apart() {
        let line =
            LogLine::parse("2026-11-21 01:54:42.273 +0530 [8178] startup 00000: LOG:  redo starts at 0/2000028\r\n");
        assert_eq!(
            line,
            LogLine {
                at: moment::parse("2026-11-20 20:24:42.273+00"),
                pid: Some(8178),
                backend: Some("startup".into()),
                severity: Some(Severity::Log),
                text: "redo starts at 0/2000028".into(),
            }
        );
        let by_default = LogLine::parse("2026-11-20 20:24:42.273 UTC [8178] FATAL:  lock file \"a: b\" exists");
        assert_eq!((by_default.backend, by_default.severity), (None, Some(Severity::Fatal)));
        let elsewhere = LogLine::parse("2026-11-21 01:54:42.243 IST [8175] postmaster 00000: LOG:  x");
        assert_eq!((elsewhere.at, elsewhere.pid, elsewhere.text.as_str()), (None, Some(8175), "x"));
        let named = LogLine::parse("2026-11-20 20:24:42.273 UTC [9] my worker: a: b 57P03: DETAIL:  LOG:  x");
        assert_eq!(named.backend.as_deref(), Some("my worker: a: b"));
        assert_eq!((named.severity, named.text.as_str()), (Some(Severity::Detail), "LOG:  x"));
    }

    #[test]
    fn other_lines_survive_as_they_are() {
        for text in [
            "",
            "\tselect 1",
            "cp: cannot stat '/srv/archive/00000002.history': No such file or directory",
            "postgres: could not access the server configuration file \"/x/postgresql.conf\": No such file or directory",
            "LOG:  pausing at the end of recovery",
            "FATAL:  x",
            "2026-11-20 [1] LOG:  x",
            "2026-11-20 20:24:42.273 UTC [x] LOG:  x",
            "2026-11-20 20:24:42.273 UTC [1] startup LOG:  x",
            "2026-11-20 20:24:42.273 UTC [1] startup 00000: NOISE:  x",
        ] {
            let line = LogLine::parse(text);
            assert_eq!((line.pid, line.severity, line.text.as_str()), (None, None, text));
            assert_eq!(LogEvent::of(&line), None, "{text}");
        }
    }

    #[test]
    fn every_way_to_stop_is_told() {
        let at = moment::parse("2026-11-20 20:24:40.318428+00");
        let stopping = |text: &str| match said(text) {
            Some(LogEvent::Stopping(stopped)) => stopped,
            other => panic!("{text}: {other:?}"),
        };
        let xact = |kind, before| Stopped { xid: Some(Xid(728)), at, ..stop(kind, before) };
        for (text, expected) in [
            ("before commit of transaction 728, time 2026-11-21 01:54:40.318428+05:30", xact(StopKind::Commit, true)),
            ("after commit of transaction 728, time 2026-11-20 20:24:40.318428+00", xact(StopKind::Commit, false)),
            ("before abort of transaction 728, time 2026-11-20 16:54:40.318428-03:30", xact(StopKind::Abort, true)),
            ("after abort of transaction 728, time 2026-11-20 20:24:40.318428+00", xact(StopKind::Abort, false)),
            (
                "before WAL location (LSN) \"0/40026E0\"",
                Stopped { lsn: Some(Lsn(0x400_26E0)), ..stop(StopKind::Lsn, true) },
            ),
            (
                "after WAL location (LSN) \"1/AB1233F8\"",
                Stopped { lsn: Some(Lsn(0x1_AB12_33F8)), ..stop(StopKind::Lsn, false) },
            ),
            ("after reaching consistency", stop(StopKind::Consistency, false)),
            (
                "at restore point \"a \"b\", time x\", time 2026-11-20 20:24:40.318428+00",
                Stopped { at, name: Some("a \"b\", time x".into()), ..stop(StopKind::RestorePoint, false) },
            ),
            ("at restore point \"two", stop(StopKind::RestorePoint, false)),
        ] {
            let stopped = stopping(&format!("recovery stopping {text}"));
            assert_eq!(stopped, expected, "{text}");
            let json = serde_json::to_string(&stopped).unwrap();
            assert_eq!(serde_json::from_str::<Stopped>(&json).unwrap(), expected, "{json}");
        }
        assert!(at.is_some());
        let json = serde_json::to_value(stopping("recovery stopping at restore point \"x")).unwrap();
        assert_eq!(json["kind"], "restore-point");
    }

    /// The wordings of the other majors (`src/backend/access/transam` of 13 to 18).
    #[test]
    fn wordings_differ_between_majors() {
        use LogEvent::*;
        let at = Some(Lsn(0x300_0148));
        for (text, expected) in [
            ("starting point-in-time recovery to XID 728", StartingPointInTime("XID 728".into())),
            (
                "starting point-in-time recovery to earliest consistent point",
                StartingPointInTime("earliest consistent point".into()),
            ),
            ("starting archive recovery", StartingArchiveRecovery),
            ("database system was not properly shut down; automatic recovery in progress", NotProperlyShutDown),
            ("database system is ready to accept read only connections", ReadOnlyConnections),
            ("restored log file \"00000002.history\" from archive", RestoredSegment("00000002.history".into())),
            ("redo done at 0/3000148", RedoDone(Lsn(0x300_0148))),
            (
                "redo in progress, elapsed time: 10.03 s, current LSN: 0/3000148",
                RedoProgress { lsn: Lsn(0x300_0148), elapsed_s: 10.03 },
            ),
            ("shutdown at recovery target", ShutdownAtTarget),
            ("recovery has paused", PausedOnTheWay),
            ("received fast shutdown request", ShutdownRequested),
            ("all server processes terminated; reinitializing", Reinitializing),
            (
                "startup process (PID 8178) was terminated by signal 9: Killed",
                ProcessKilled("startup process (PID 8178) was terminated by signal 9: Killed".into()),
            ),
        ] {
            assert_eq!(said(text), Some(expected), "{text}");
        }
        for (text, at) in [
            ("invalid record length at 0/3000148: wanted 24, got 0", at),
            ("invalid record length at 0/3000148: expected at least 24, got 0", at),
            ("invalid magic number 0000 in log segment 000000010000000000000003, offset 0", None),
            ("invalid magic number 0000 in WAL segment 000000010000000000000003, LSN 0/3000148, offset 328", at),
            ("incorrect resource manager data checksum in record at 0/3000148", at),
            ("record with incorrect prev-link 0/2000028 at 0/3000148", at),
            ("unexpected pageaddr 0/1000000 in log segment 000000010000000000000003, offset 0", None),
            ("record length 2000000000 at 0/3000148 too long", at),
            ("there is no contrecord flag at 0/3000148", at),
        ] {
            assert_eq!(said(text), Some(EndOfWal { at, message: text.into() }), "{text}");
        }
    }

    #[test]
    fn only_the_servers_own_end_is_fatal() {
        let fatal = |line: &str| LogEvent::of(&LogLine::parse(line));
        let ended = "recovery ended before configured recovery target was reached";
        assert_eq!(
            fatal(&format!("2026-11-20 20:24:48.467 UTC [8406] startup XX000: FATAL:  {ended}")),
            Some(LogEvent::Fatal(ended.into()))
        );
        assert_eq!(
            fatal("2026-11-20 20:24:48.467 UTC [1] checkpointer XX000: PANIC:  could not write"),
            Some(LogEvent::Fatal("could not write".into()))
        );
        assert_eq!(
            fatal("2026-11-20 20:24:48.467 UTC [1] FATAL:  configuration file \"x\" contains errors"),
            Some(LogEvent::Fatal("configuration file \"x\" contains errors".into()))
        );
        for line in [
            "2026-11-20 20:24:48.467 UTC [1] client backend 57P03: FATAL:  the database system is starting up",
            "2026-11-20 20:24:48.467 UTC [1] FATAL:  the database system is not yet accepting connections",
            "2026-11-20 20:24:48.467 UTC [1] client backend 00000: LOG:  pausing at the end of recovery",
            "2026-11-20 20:24:48.467 UTC [1] startup 00000: WARNING:  pausing at the end of recovery",
        ] {
            assert_eq!(fatal(line), None, "{line}");
        }
    }

    #[test]
    fn a_setting_that_is_too_low_is_named_by_every_major() {
        let low = |set, needed| Some(TooLow { name: "max_connections".to_owned(), set, needed });
        let of_13 = "hot standby is not possible because max_connections = 100 is a lower setting than on the master server \
                     (its value was 300)";
        assert_eq!(TooLow::of(of_13), low(100, 300));
        let later = "max_connections = 20 is a lower setting than on the primary server, where its value was 21.";
        assert_eq!(TooLow::of(later), low(20, 21));
        assert_eq!(TooLow::of(INSUFFICIENT), None);
        assert_eq!(TooLow::of(&later.replace("21", "x")), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let line = LogLine::parse(&text);
            prop_assert_eq!(LogEvent::of(&line), None);
        }

        #[test]
        fn no_message_makes_it_panic(
            start in prop::sample::select(vec![
                "", "recovery stopping ", "recovery stopping before commit of transaction ", "redo done at ",
                "recovery stopping at restore point \"", "redo in progress, elapsed time: ", "restored log file \"",
                "invalid record length at ", "starting point-in-time recovery to ", "selected new timeline ID: ",
            ]),
            rest in "[ -~\u{e9}]{0,40}",
        ) {
            let _ = said(&format!("{start}{rest}"));
        }

        #[test]
        fn no_change_to_a_line_makes_it_panic(at in 0usize..120, with in "[ -~]{0,3}", cut in 0usize..6) {
            let line = PROMOTED.lines().nth(10).unwrap();
            let at = at.min(line.len());
            let _ = LogEvent::of(&LogLine::parse(&format!("{}{with}{}", &line[..at], &line[(at + cut).min(line.len())..])));
        }
    }
}
