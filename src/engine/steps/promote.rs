//! Ends recovery: the server goes on, on a new timeline, and takes writes.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::core::TimelineId;
use crate::error::{Error, Result};
use crate::event::What;
use crate::pgdata::server_log::{LogEvent, LogLine};
use crate::plan::Plan;
use crate::source::Cancel;

use super::super::data_directory::control_file;
use super::super::host::{Account, Host};
use super::super::record::Recorder;
use super::super::remains::at_work_on;
use super::super::server::{LogTail, Sql, last_lines, running};
use super::configure::forget_recovery;

/// How long `pg_ctl` waits, in seconds.
const WAIT_S: &str = "600";
/// The same, for a promotion that a Walback began that is gone.
const WAIT: Duration = Duration::from_secs(600);
/// How long the log may take to tell the new timeline after the server has it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whether recovery goes on, and where it does not, the timeline that is written to: `pg_control` tells the new one
/// only after the checkpoint that follows a promotion, which takes its time.
const WHERE_IT_IS: &str = "SELECT pg_is_in_recovery(), CASE WHEN NOT pg_is_in_recovery() THEN \
                           ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END";

/// Whether there is a server to promote.
///
/// # Errors
/// When none runs. That is no failure of the recovery: it can be started again.
pub fn check(plan: &Plan) -> Result<()> {
    if running(&plan.directory).is_some() {
        return Ok(());
    }
    Err(Error::failed("server-not-running", format!("no server runs in {}", plan.directory.display()))
        .hint("a paused server was stopped; retarget the recovery to start it again"))
}

/// What became of a promotion whose end nobody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took place, on this timeline.
    Promoted(TimelineId),
    /// It never began: the server is as it was, or gone, and its data still recovers.
    Recovers,
}

/// Finds out what became of a promotion. One that has begun is waited for; `None` where that was cancelled.
///
/// # Errors
/// When the server cannot be asked at all, or neither promotes nor pauses.
pub fn outcome(plan: &Plan, cancel: &Cancel) -> Result<Option<Outcome>> {
    let (mut sql, started) = (Sql::new(&plan.server)?, Instant::now());
    loop {
        if running(&plan.directory).is_none() {
            let promoted = was_promoted(&plan.directory);
            return Ok(Some(if promoted { Outcome::Promoted(timeline_of(plan)?) } else { Outcome::Recovers }));
        }
        // Asked before the server is: a request that is made meanwhile is seen in the next round.
        let requested = is_requested(&plan.directory);
        match where_it_is(&mut sql) {
            Some(Some(timeline)) => return Ok(Some(Outcome::Promoted(timeline))),
            // The server is not paused any more as soon as it was asked to promote (`SetPromoteIsTriggered`).
            Some(None) if !requested && sql.replay_status().is_ok_and(|status| status.paused) => {
                return Ok(Some(Outcome::Recovers));
            }
            _ => {}
        }
        if cancel.is_cancelled() {
            return Ok(None);
        }
        if started.elapsed() > WAIT {
            return Err(Error::failed("promotion-unclear", "the server neither promotes nor is paused")
                .hint(format!("look at its log: {}", plan.server.log.display())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether somebody has asked for a promotion, and the server has not seen it yet; or is about to.
fn is_requested(directory: &Path) -> bool {
    directory.join("promote").exists() || !at_work_on(directory, running(directory)).is_empty()
}

/// The new timeline, or none where the server is still in recovery. `None` where the server does not say.
///
/// # Errors
/// When no connection can be set up at all.
fn promoted_meanwhile(plan: &Plan) -> Result<Option<Option<TimelineId>>> {
    Ok(where_it_is(&mut Sql::new(&plan.server)?))
}

fn where_it_is(sql: &mut Sql) -> Option<Option<TimelineId>> {
    let row = sql.query(WHERE_IT_IS).ok()?.into_iter().next()?;
    match row.as_slice() {
        [Some(recovers), None] if recovers == "t" => Some(None),
        [_, Some(timeline)] => Some(Some(TimelineId(timeline.parse().ok()?))),
        _ => None,
    }
}

/// Whether recovery has ended in this data directory: the server removes `recovery.signal` when it does
/// (`StartupXLOG`, `xlog.c`), and nobody else has a reason to.
#[must_use]
pub fn was_promoted(directory: &Path) -> bool {
    directory.join("PG_VERSION").exists() && !directory.join("recovery.signal").exists()
}

/// The timeline of a server that was promoted: as it says, or where it does not run, as `pg_control` says.
///
/// # Errors
/// When neither can be read.
pub fn timeline_of(plan: &Plan) -> Result<TimelineId> {
    let started = Instant::now();
    // It takes writes a moment after it has removed the signal file.
    while started.elapsed() < PATIENCE {
        match promoted_meanwhile(plan)? {
            Some(Some(timeline)) => return Ok(timeline),
            Some(None) => std::thread::sleep(Duration::from_millis(50)),
            None => break,
        }
    }
    let control = control_file(&plan.directory)
        .map_err(|why| Error::failed("unreadable", "the timeline is not known").because(why))?;
    // A server that went down before its first checkpoint noted the new timeline beside its end of recovery
    // (CreateEndOfRecoveryRecord, xlog.c).
    Ok(control.checkpoint_timeline.max(control.min_recovery_timeline))
}

/// Promotes the paused server, and takes the settings of recovery out of its configuration.
///
/// # Errors
/// When promotion fails; with what the server said.
pub fn promote(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>) -> Result<TimelineId> {
    let mut log = LogTail::new(&plan.server.log, LogTail::end_of(&plan.server.log));
    let directory = plan.directory.display().to_string();
    host.run_as(owner, &plan.server.bin_dir.join("pg_ctl"), &["promote", "-D", &directory, "-w", "-t", WAIT_S])
        .map_err(|error| {
            last_lines(&plan.server.log, 5).into_iter().fold(error, |error, line| error.because(format!("log: {line}")))
        })?;
    let timeline = new_timeline(&mut log, plan, recorder)?;
    forget_recovery(host, &plan.directory, owner)?;
    Ok(timeline)
}

/// The timeline that the server chose: from its log, and where that is silent, from the server.
fn new_timeline(log: &mut LogTail, plan: &Plan, recorder: &Recorder<'_>) -> Result<TimelineId> {
    let started = Instant::now();
    let mut sql = Sql::new(&plan.server)?;
    while started.elapsed() < PATIENCE {
        for line in log.lines() {
            recorder.emit(What::Log { line: line.clone() })?;
            if let Some(LogEvent::NewTimeline(timeline)) = LogEvent::of(&LogLine::parse(&line)) {
                return Ok(timeline);
            }
        }
        if let Some(Some(timeline)) = where_it_is(&mut sql) {
            return Ok(timeline);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::failed("promotion-unclear", "the server was promoted, and does not tell its timeline")
        .hint(format!("look at its log: {}", plan.server.log.display())))
}
