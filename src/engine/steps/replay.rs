//! Follows replay until it stops: by the server's log, by what the startup process shows, and by SQL once that answers.

use std::time::{Duration, Instant};

use crate::core::progress::Pace;
use crate::core::{Action, Lsn, TimelineId};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Progress, RecoveryState, What};
use crate::pgdata::server_log::{LogEvent, LogLine, Stopped};
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
/// The code of the error for a pause that the log does not explain.
const PAUSE_UNCLEAR: &str = "pause-unclear";
/// How often the server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the server's first sign of life may take.
const FIRST_SIGN: Duration = Duration::from_secs(60);
/// How long a paused server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
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
        paused_since: None,
        stopped: None,
        promoted_to: None,
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
    /// Since when SQL says that it is paused, without a word of it in the log.
    paused_since: Option<Instant>,
    stopped: Option<Stopped>,
    promoted_to: Option<TimelineId>,
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
            return Err(self.ended("the server ended", ENDED));
        }
        let status = self.sql.replay_status().ok();
        self.tell(status)?;
        match (status.is_some_and(|status| status.in_recovery && status.paused), self.paused_since) {
            (false, _) => self.paused_since = None,
            (true, None) => self.paused_since = Some(Instant::now()),
            // The log says why within a moment, if it can be understood at all.
            (true, Some(since)) if since.elapsed() > ANSWER => {
                return Err(self.ended("the server is paused, and its log does not say why", PAUSE_UNCLEAR));
            }
            (true, Some(_)) => {}
        }
        Ok(None)
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
            LogEvent::RedoStarts(lsn) => self.replay_start = Some(lsn),
            LogEvent::Stopping(stopped) => self.stopped = Some(stopped),
            LogEvent::Pausing => return self.paused().map(|()| true),
            LogEvent::ShutdownAtTarget => return self.shut_down().map(|()| true),
            LogEvent::NewTimeline(timeline) => self.promoted_to = Some(timeline),
            LogEvent::Ready => return self.promoted().map(|()| true),
            LogEvent::PausedForSettings => return Err(self.paused_for_settings()),
            LogEvent::NotProperlyShutDown => {
                return Err(
                    self.ended("the server takes the copy for a crashed one, and ignores the target", TARGET_IGNORED)
                );
            }
            LogEvent::Fatal(message) => return Err(self.ended(&message, ENDED)),
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
                Err(NoAnswer::NotNow) if waiting.elapsed() > ANSWER => {
                    return Err("does not answer over SQL".to_owned());
                }
                Err(NoAnswer::NotNow) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn shut_down(&mut self) -> Result<()> {
        self.report_stop(ReplayStatus::default())?;
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

    fn report_stop(&mut self, status: ReplayStatus) -> Result<()> {
        let ReplayStatus { replayed_lsn, last_commit_at, .. } = status;
        match self.stopped.take() {
            Some(stopped) => self.recorder.emit(What::Stopped { stopped, replayed_lsn, last_commit_at }),
            None => Ok(()),
        }
    }

    fn tell(&mut self, status: Option<ReplayStatus>) -> Result<()> {
        let status = status.unwrap_or_default();
        self.replayed = status.replayed_lsn.or(self.replayed);
        let done = self.bytes();
        let total = self.plan.estimate.wal_bytes;
        self.pace.observe(self.started.elapsed().as_secs_f64(), done);
        self.recorder.emit(What::Progress(Progress {
            step: StepId::Replay,
            done: done.min(total),
            total: Some(total),
            unit: "bytes".into(),
            rate: self.pace.per_second(),
            eta_s: self.pace.eta_s(total),
            replayed_lsn: self.replayed,
            last_commit_at: status.last_commit_at,
            doing: self.pid.and_then(startup_activity),
        }))
    }

    /// Bytes of WAL replayed: as SQL says, and before it answers, as far as the segment that the startup process
    /// shows.
    fn bytes(&self) -> u64 {
        let start = self.replay_start.or(self.plan.backup.start_lsn).unwrap_or(Lsn::INVALID);
        if let Some(replayed) = self.replayed {
            return replayed.bytes_since(start);
        }
        let activity = self.pid.and_then(startup_activity).unwrap_or_default();
        let segment = activity.split_whitespace().find_map(crate::core::SegmentName::parse);
        segment.map_or(0, |segment| segment.start(self.plan.server.segment_size).bytes_since(start))
    }

    /// An error with the server's last words.
    fn ended(&self, what: &str, code: &'static str) -> Error {
        let log = &self.plan.server.log;
        let error = Error::failed(code, format!("recovery failed: {what}"));
        let error =
            last_lines(log, LAST_WORDS).into_iter().fold(error, |error, line| error.because(format!("log: {line}")));
        error.hint(format!(
            "the whole log is {}; “walback discard {}” removes what was made",
            log.display(),
            self.plan.recovery
        ))
    }

    fn paused_for_settings(&self) -> Error {
        self.ended("the server paused because a setting is lower than it was on the primary; going on would end it", ENDED)
            .hint("set max_connections and its kin at least as high as the primary's, under “settings” in the configuration, and restore again")
    }
}
