//! Follows replay until it stops: by the server's log, by what the startup process shows, and by SQL once that answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::core::progress::Pace;
use crate::core::{Action, Lsn, TimelineId, Xid};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Progress, RecoveryState, WaitsFor, What};
use crate::pgdata::server_log::{INSUFFICIENT, LogEvent, LogLine, Stopped, TooLow};
use crate::plan::{Finding, Plan, StepId};
use crate::source::Cancel;

use super::super::host::{Account, Host};
use super::super::record::Recorder;
use super::super::server::{LogTail, NoAnswer, ReplayStatus, Sql, is_alive, last_lines, running, startup_activity};
use super::configure::forget_recovery;

/// The code of the error for a server that ended.
const ENDED: &str = "server-ended";
/// The code of the error for a server that recovers without a target, and has to be stopped before it takes writes.
pub const TARGET_IGNORED: &str = "target-ignored";
/// How often the server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the server's first sign of life may take.
const FIRST_SIGN: Duration = Duration::from_secs(60);
/// How long a paused server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the log may take to say why replay paused, after it said that it did.
const SHORT: Duration = Duration::from_secs(1);
/// Before so long has passed, no time is told that the rest will take.
const SETTLING: Duration = Duration::from_secs(2);
/// How many of the server's last words are shown when it ended.
const LAST_WORDS: usize = 8;

/// Follows replay from `log_position` in the server's log on. Gives the bytes of WAL that were replayed.
///
/// # Errors
/// When the server ended, promoted itself, or paused for another reason; when it was cancelled, which leaves the
/// server replaying.
pub fn follow(
    host: &Host,
    plan: &Plan,
    owner: &Account,
    recorder: &Recorder<'_>,
    cancel: &Cancel,
    log_position: u64,
) -> Result<u64> {
    let mut following = Following {
        host,
        plan,
        owner,
        recorder,
        log: LogTail::new(&plan.server.log, log_position),
        sql: Sql::new(&plan.server)?,
        started: Instant::now(),
        pace: Pace::default(),
        replay_start: None,
        replayed: None,
        pid: None,
        reached: None,
        pause: Pause::default(),
        ended: None,
        too_low: None,
        taken: None,
        stopped: None,
        promoted_to: None,
        ahead: BTreeSet::new(),
        forgotten: BTreeSet::new(),
    };
    loop {
        if let Some(bytes) = following.look()? {
            return Ok(bytes);
        }
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "left", "no longer following replay")
                .because("the server goes on replaying, and will stop at the target".to_owned())
                .hint(format!("“walback status {}” shows how far it is", plan.recovery)));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Following<'a> {
    host: &'a Host,
    plan: &'a Plan,
    owner: &'a Account,
    recorder: &'a Recorder<'a>,
    log: LogTail,
    sql: Sql,
    started: Instant,
    pace: Pace,
    replay_start: Option<Lsn>,
    replayed: Option<Lsn>,
    pid: Option<u32>,
    /// How far the log says that replay is.
    reached: Option<Lsn>,
    pause: Pause,
    /// Why the server ends, where it said so.
    ended: Option<String>,
    /// A setting that it said is too low.
    too_low: Option<TooLow>,
    /// Where it cannot listen, as it said.
    taken: Option<String>,
    stopped: Option<Stopped>,
    promoted_to: Option<TimelineId>,
    /// Transactions whose state in the data directory is of a time behind the beginning, and was to be removed.
    ahead: BTreeSet<Xid>,
    /// Those of them that the server does not know to be prepared.
    forgotten: BTreeSet<Xid>,
}

/// A pause of which the log does not say that it is the one at the target.
#[derive(Default)]
struct Pause {
    /// Since when SQL says that replay is paused.
    since: Option<Instant>,
    /// Whether the log says that it is paused on the way.
    on_the_way: bool,
    /// Whether the operator was told.
    told: bool,
}

impl Following<'_> {
    /// One look; `Some` when it is over.
    fn look(&mut self) -> Result<Option<u64>> {
        // Whether the server lives is asked first: what it logged before it ended is then in the log.
        let alive = self.is_alive();
        loop {
            let lines = self.log.lines();
            if lines.is_empty() {
                break;
            }
            for line in lines {
                self.recorder.emit(What::Log { line: line.clone() })?;
                if let Some(event) = LogEvent::of(&LogLine::parse(&line))
                    && self.heed(event)?
                {
                    return Ok(Some(self.bytes()));
                }
            }
        }
        if !alive {
            return Err(self.gone());
        }
        let status = self.sql.replay_status().ok();
        self.tell(status)?;
        if self.is_paused_at_the_target(status.unwrap_or_default())? {
            return Ok(Some(self.bytes()));
        }
        Ok(None)
    }

    /// Whether a pause that SQL tells of is taken for the one at the target though the log does not say so: only where
    /// replay stands exactly where it was predicted to, and the log had time enough. Any other is somebody's doing, and no
    /// failure: replay goes on when it is resumed.
    fn is_paused_at_the_target(&mut self, status: ReplayStatus) -> Result<bool> {
        if !(status.in_recovery && status.paused) {
            self.pause = Pause::default();
            return Ok(false);
        }
        let since = *self.pause.since.get_or_insert_with(Instant::now);
        let patience = if self.pause.on_the_way { SHORT } else { ANSWER };
        if since.elapsed() < patience || self.pause.told {
            return Ok(false);
        }
        self.pause.told = true;
        let here = status.replayed_lsn == Some(self.plan.resolved.replay_end);
        if here && !self.pause.on_the_way {
            self.recorder.emit(What::Finding(
                Finding::warning(
                    "pause-unproven",
                    "the server is paused where it was predicted to, and its log does not say why",
                )
                .hint(format!("is its log whole, and the disk not full? {}", self.plan.server.log.display())),
            ))?;
            self.report_forgotten(status.in_recovery)?;
            self.recorder.state(RecoveryState::Paused)?;
            return Ok(true);
        }
        let place = status.replayed_lsn.map(|lsn| format!(" at LSN {lsn}")).unwrap_or_default();
        self.recorder.emit(What::Finding(
            Finding::warning("paused-on-the-way", format!("replay was paused{place}, and not by its target"))
                .hint("SELECT pg_wal_replay_resume() on the server has it go on to the target"),
        ))?;
        Ok(false)
    }

    /// Why a server is gone, as far as it said so.
    fn gone(&self) -> Error {
        let why = self.ended.clone().unwrap_or_else(|| {
            "the server was killed, or the machine was restarted: it ended without a word".to_owned()
        });
        self.ended(&why, ENDED)
    }

    fn is_alive(&mut self) -> bool {
        if let Some(pid) = self.pid.or_else(|| running(&self.plan.directory)) {
            self.pid = Some(pid);
            return is_alive(pid);
        }
        // It writes postmaster.pid a moment after it was started.
        let launched = self.recorder.buffer().server_pid;
        launched.is_some_and(is_alive) && self.started.elapsed() < FIRST_SIGN
    }

    /// What the server said. True when replay is over.
    fn heed(&mut self, event: LogEvent) -> Result<bool> {
        match event {
            LogEvent::RedoStarts(lsn) => {
                (self.replay_start, self.reached) = (Some(lsn), None);
            }
            LogEvent::RedoProgress { lsn, .. } | LogEvent::Consistent(lsn) => self.reached = Some(lsn),
            LogEvent::PausedOnTheWay => self.pause.on_the_way = true,
            LogEvent::ShutdownRequested => {
                self.ended = Some("somebody stopped the server, and not Walback".to_owned());
            }
            LogEvent::ProcessKilled(said) => self.ended = Some(said),
            // It replays from its last restartpoint on: what it reached before is of no account.
            LogEvent::Reinitializing => {
                (self.stopped, self.reached, self.replayed, self.ended) = (None, None, None, None);
                (self.ahead, self.forgotten) = (BTreeSet::new(), BTreeSet::new());
            }
            LogEvent::StateIsAhead(xid) => drop(self.ahead.insert(xid)),
            LogEvent::PreparePassedOver(xid) if self.ahead.contains(&xid) => drop(self.forgotten.insert(xid)),
            LogEvent::Stopping(stopped) => self.stopped = Some(stopped),
            LogEvent::Pausing => return self.paused().map(|()| true),
            LogEvent::ShutdownAtTarget => return self.shut_down().map(|()| true),
            LogEvent::NewTimeline(timeline) => self.promoted_to = Some(timeline),
            LogEvent::Ready => return self.promoted().map(|()| true),
            LogEvent::SettingTooLow(low) => self.too_low = Some(low),
            LogEvent::AddressTaken(said) => self.taken = Some(said),
            LogEvent::PausedForSettings => {
                return Err(self.ended("the server paused, not at the target, because a setting is too low", ENDED));
            }
            LogEvent::NotProperlyShutDown => {
                return Err(
                    self.ended("the server takes the copy for a crashed one, and ignores the target", TARGET_IGNORED)
                );
            }
            // Which setting, the next line says.
            LogEvent::Fatal(message) if message == INSUFFICIENT => self.ended = Some(message),
            LogEvent::Fatal(message) => {
                self.too_low = TooLow::of(&message).or(self.too_low.take());
                return Err(self.ended(&message, ENDED));
            }
            _ => {}
        }
        Ok(false)
    }

    fn paused(&mut self) -> Result<()> {
        let status = match self.ask_until_answered() {
            Ok(status) => status,
            Err(why) => {
                self.recorder.emit(What::Finding(
                    Finding::warning("server-silent", format!("the server is paused, and {why}")).hint(
                        "how far it replayed cannot be asked; name a role that it has with --role, or as “role” in the configuration",
                    ),
                ))?;
                ReplayStatus::default()
            }
        };
        let role = self.sql.role().to_owned();
        if role != self.plan.server.role && status.replayed_lsn.is_some() {
            self.recorder.emit(What::Role { role })?;
        }
        self.replayed = status.replayed_lsn.or(self.replayed);
        self.tell(Some(status))?;
        self.report_stop(status)?;
        self.recorder.state(RecoveryState::Paused)
    }

    /// The paused server's answer; in words why there is none.
    fn ask_until_answered(&mut self) -> std::result::Result<ReplayStatus, String> {
        let waiting = Instant::now();
        loop {
            match self.sql.replay_status() {
                Ok(status) => return Ok(status),
                Err(NoAnswer::Refused(why)) => return Err(format!("refuses the connection: {why}")),
                Err(NoAnswer::NotNow) if !self.pid.is_some_and(is_alive) => {
                    return Err("was stopped or killed since".to_owned());
                }
                Err(NoAnswer::NotNow) if waiting.elapsed() > ANSWER => {
                    return Err("does not answer over SQL".to_owned());
                }
                Err(NoAnswer::NotNow) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn shut_down(&mut self) -> Result<()> {
        self.report_stop(ReplayStatus::default())?;
        if self.plan.resolved.action(&self.plan.target) != Action::Shutdown {
            self.recorder.emit(What::Finding(
                Finding::warning("shut-down-unasked", "the server shut itself down at the target, and was not told to")
                    .hint("it does where hot_standby is off or nobody can connect yet; its data is that of the target"),
            ))?;
        }
        let waiting = Instant::now();
        while self.pid.is_some_and(is_alive) && waiting.elapsed() < ANSWER {
            std::thread::sleep(LOOK_EVERY);
        }
        self.recorder.state(RecoveryState::ShutDown)
    }

    /// The server takes writes: meant only where the plan says so.
    fn promoted(&mut self) -> Result<()> {
        self.report_stop(ReplayStatus::default())?;
        let timeline = self.promoted_to.unwrap_or(self.plan.resolved.timeline);
        self.recorder.emit(What::Promoted { timeline })?;
        if self.plan.resolved.action(&self.plan.target) != Action::Promote {
            return Err(Error::failed(
                "promoted-unasked",
                format!("the server did not pause: it ended recovery, and takes writes on timeline {timeline}"),
            )
            .because("PostgreSQL promotes instead of pausing when it cannot take connections at the target".to_owned())
            .hint("the data is that of the target; discard the recovery and choose --action shutdown to have it stop for certain"));
        }
        forget_recovery(self.host, &self.plan.directory, self.owner)?;
        self.recorder.state(RecoveryState::Promoted)
    }

    /// A transaction whose end was replayed too is none the worse for it. Only a server in recovery can tell: a promoted one
    /// takes what it does not know for rolled back.
    fn report_forgotten(&mut self, in_recovery: bool) -> Result<()> {
        for xid in std::mem::take(&mut self.forgotten) {
            if in_recovery && self.sql.has_ended(xid).unwrap_or(false) {
                continue;
            }
            let unless = if in_recovery { "" } else { ", unless its end was replayed too" };
            let text = format!(
                "PostgreSQL has forgotten the prepared transaction {xid}{unless}: the base backup has its state, and the server \
                 passed over its PREPARE in WAL for that, though it had not taken the state over"
            );
            self.recorder.emit(What::Finding(Finding::warning("prepared-forgotten", text).hint(
                "once the server is promoted, its rows are lost, even where it seems to be prepared again after the next start. \
                 Recover from a base backup that ended before it was prepared, or began after that: --backup ID",
            )))?;
        }
        Ok(())
    }

    fn report_stop(&mut self, status: ReplayStatus) -> Result<()> {
        let ReplayStatus { replayed_lsn, last_commit_at, in_recovery, .. } = status;
        self.report_forgotten(in_recovery)?;
        match self.stopped.take() {
            Some(stopped) => self.recorder.emit(What::Stopped { stopped, replayed_lsn, last_commit_at }),
            None => Ok(()),
        }
    }

    fn tell(&mut self, status: Option<ReplayStatus>) -> Result<()> {
        let status = status.unwrap_or_default();
        self.replayed = status.replayed_lsn.or(self.replayed);
        let (done, total) = (self.bytes(), self.total());
        let elapsed = self.started.elapsed();
        self.pace.observe(elapsed.as_secs_f64(), done);
        let activity = self.pid.and_then(startup_activity);
        let waits_for = status.waits_for.or_else(|| waits_for(activity.as_deref().unwrap_or_default()));
        let waits_for = waits_for.filter(|waits| *waits != WaitsFor::Resume || self.pause.told);
        // What stands still, or has hardly begun, has no end that could be told.
        let moves = matches!(waits_for, None | Some(WaitsFor::Archive)) && elapsed > SETTLING;
        self.recorder.emit(What::Progress(Progress {
            step: StepId::Replay,
            done,
            total: Some(total),
            unit: "bytes".into(),
            rate: self.pace.per_second(),
            eta_s: self.pace.eta_s(total).filter(|_| moves),
            replayed_lsn: self.replayed,
            last_commit_at: status.last_commit_at,
            doing: in_words(waits_for, status.blocked_by, activity),
            waits_for,
        }))
    }

    fn start(&self) -> Lsn {
        self.replay_start.or(self.plan.backup.start_lsn).unwrap_or(Lsn::INVALID)
    }

    /// Bytes of WAL from where replay began to where it is predicted to end.
    fn total(&self) -> u64 {
        self.plan.resolved.replay_end.bytes_since(self.start())
    }

    /// Bytes of WAL replayed: as SQL says, and before it answers, as far as the log tells or the segment that the startup
    /// process shows begins. What is read ahead, beyond the stop too (15 and later), is not replayed.
    fn bytes(&self) -> u64 {
        if let Some(replayed) = self.replayed {
            return replayed.bytes_since(self.start()).min(self.total());
        }
        let activity = self.pid.and_then(startup_activity).unwrap_or_default();
        let shown = shown_by(&activity, self.plan);
        shown.max(self.reached).map_or(0, |lsn| lsn.bytes_since(self.start())).min(self.total())
    }

    /// An error with the server's last words.
    fn ended(&self, what: &str, code: &'static str) -> Error {
        match (&self.too_low, &self.taken) {
            (Some(low), _) => self.too_low(low, what),
            (_, Some(said)) if what.contains("could not create any") => self.address_taken(said),
            _ => self.ended_otherwise(what, code),
        }
    }

    /// What the server paused or ended for is known, and so is what is enough.
    fn too_low(&self, TooLow { name, set, needed }: &TooLow, what: &str) -> Error {
        let id = &self.plan.recovery;
        let message = format!(
            "recovery failed: {name} = {set} is too low: the server that wrote the WAL had {needed}, and recovery needs as much"
        );
        self.with_last_words(Error::failed("setting-too-low", message).because(what.to_owned())).hint(format!(
            "“walback resume {id}” sets {name} to {needed} and goes on to the target. Where it is {set} again, something \
             stronger than postgresql.auto.conf sets it: an option of the server's program in {}",
            self.plan.server.bin_dir.display()
        ))
    }

    fn address_taken(&self, said: &str) -> Error {
        let (id, port) = (&self.plan.recovery, self.plan.server.port);
        let message = format!("recovery failed: port {port} is taken, the server {said}");
        self.with_last_words(Error::failed("port-taken", message)).hint(format!(
            "once the port is free, “walback resume {id}” goes on to the target; or discard it, and give another --port"
        ))
    }

    fn with_last_words(&self, error: Error) -> Error {
        let words = last_lines(&self.plan.server.log, LAST_WORDS);
        words.into_iter().fold(error, |error, line| error.because(format!("log: {line}")))
    }

    fn ended_otherwise(&self, what: &str, code: &'static str) -> Error {
        let log = &self.plan.server.log;
        let error = Error::failed(code, format!("recovery failed: {what}"));
        self.with_last_words(error).hint(format!(
            "the whole log is {}; once the cause is mended, “walback resume {id}” starts it again and goes on to the \
             target; “walback discard {id}” removes what was made",
            log.display(),
            id = self.plan.recovery
        ))
    }
}

/// Where the segment begins that the startup process shows; no further on than the one that replay ends in.
fn shown_by(activity: &str, plan: &Plan) -> Option<Lsn> {
    let size = plan.server.segment_size;
    let segment = activity.split_whitespace().find_map(crate::core::SegmentName::parse)?;
    let last = Lsn(plan.resolved.replay_end.0.saturating_sub(1));
    Some(segment.start(size).min(Lsn(last.0 - last.0 % size.bytes())))
}

/// What the title of the startup process tells of its waiting: for `restore_command` (`RestoreArchivedFile`), or for a
/// query (`ResolveRecoveryConflictWithVirtualXIDs`, which adds the word at the end).
fn waits_for(activity: &str) -> Option<WaitsFor> {
    if activity.starts_with("waiting for ") {
        return Some(WaitsFor::Archive);
    }
    activity.ends_with(" waiting").then_some(WaitsFor::Query)
}

/// What replay does, in words.
fn in_words(waits_for: Option<WaitsFor>, blocked_by: Option<u32>, activity: Option<String>) -> Option<String> {
    let segment = || activity.as_deref().and_then(|doing| doing.strip_prefix("waiting for "));
    Some(match waits_for {
        None => return activity,
        Some(WaitsFor::Archive) => match segment() {
            Some(segment) => format!("waiting for {segment} from the archive"),
            None => "waiting for a segment from the archive".to_owned(),
        },
        Some(WaitsFor::Wal) => "waiting for WAL that is not there yet".to_owned(),
        Some(WaitsFor::Query) => {
            let whose = blocked_by.map(|pid| format!(" of process {pid}")).unwrap_or_default();
            format!("waiting for a query{whose} that stands in the way, for max_standby_archive_delay at most")
        }
        Some(WaitsFor::Delay) => "waiting, because recovery_min_apply_delay holds commits back".to_owned(),
        Some(WaitsFor::Resume) => "paused by hand before the target; pg_wal_replay_resume() has it go on".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;

    #[test]
    fn what_is_read_ahead_is_not_replayed() {
        let plan = example();
        let size = plan.server.segment_size;
        let end = plan.resolved.replay_end;
        let last = Lsn(end.0 - end.0 % size.bytes());
        let shown = |timeline: u32, number: u64| {
            let name = crate::core::SegmentName::new(crate::core::TimelineId(timeline), number, size);
            shown_by(&format!("recovering {name}"), &plan)
        };
        let number = size.number_of(end);
        assert_eq!(shown(1, number), Some(last));
        assert_eq!(shown(1, number + 5), Some(last), "beyond the stop");
        assert_eq!(shown(7, number + 1), Some(last), "and of another timeline");
        assert!(shown(1, number - 1) < Some(last));
        assert_eq!(shown_by("waiting for 00000002.history", &plan), None);
    }

    #[test]
    fn what_replay_waits_for_is_said_in_words() {
        let said = |title: &str| in_words(waits_for(title), None, Some(title.to_owned())).unwrap();
        assert_eq!(said("recovering 000000010000000000000004"), "recovering 000000010000000000000004");
        assert_eq!(
            said("waiting for 000000010000000000000004"),
            "waiting for 000000010000000000000004 from the archive"
        );
        assert!(said("recovering 000000010000000000000004 waiting").contains("a query"));
        assert!(in_words(Some(WaitsFor::Query), Some(4711), None).unwrap().contains("process 4711"));
    }
}
