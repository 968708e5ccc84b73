//! Ends recovery: the server goes on, on a new timeline, and takes writes.

use std::time::{Duration, Instant};

use crate::core::TimelineId;
use crate::error::{Error, Result};
use crate::event::What;
use crate::pgdata::server_log::{LogEvent, LogLine};
use crate::plan::Plan;

use super::super::host::{Account, Host};
use super::super::record::Recorder;
use super::super::server::{LogTail, Sql, last_lines, running};
use super::configure::forget_recovery;

/// How long `pg_ctl` waits, in seconds.
const WAIT_S: &str = "600";
/// How long the log may take to tell the new timeline after the server has it.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// What became of a promotion whose end nobody saw: the new timeline, or none where the server is still in recovery.
/// `None` where the server does not say.
///
/// # Errors
/// When no connection can be set up at all.
pub fn promoted_meanwhile(plan: &Plan) -> Result<Option<Option<TimelineId>>> {
    let rows = Sql::new(&plan.server)?.query("SELECT pg_is_in_recovery(), timeline_id FROM pg_control_checkpoint()");
    let Some(row) = rows.ok().and_then(|rows| rows.into_iter().next()) else { return Ok(None) };
    let field = |place: usize| row.get(place).cloned().flatten();
    if field(0).as_deref() == Some("t") {
        return Ok(Some(None));
    }
    Ok(field(1).and_then(|id| id.parse().ok()).map(|id| Some(TimelineId(id))))
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
        let asked = sql.query("SELECT timeline_id FROM pg_control_checkpoint() WHERE NOT pg_is_in_recovery()");
        let answer = asked.ok().and_then(|rows| rows.into_iter().next()?.into_iter().next()?);
        if let Some(id) = answer.and_then(|id| id.parse().ok()).filter(|id| TimelineId(*id) > plan.resolved.timeline) {
            return Ok(TimelineId(id));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::failed("promotion-unclear", "the server was promoted, and does not tell its timeline")
        .hint(format!("look at its log: {}", plan.server.log.display())))
}
