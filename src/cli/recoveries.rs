//! `walback recoveries` and `walback status`

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

use crate::core::Zone;
use crate::core::progress::{Bytes, counted};
use crate::engine::Engine;
use crate::engine::mark::Mark;
use crate::engine::resume::{Standing, standing};
use crate::engine::server::running;
use crate::error::{Error, Result};
use crate::event::{Event, Progress, Recovery, RecoveryState, What};

use super::args::ActArgs;
use super::plan::describe_place;
use super::table::{Align, Table, plain, plain_lines};
use super::watch::{Watcher, describe_stopped};
use super::{Context, note, print};

/// Lists the recoveries that this machine knows, the newest first.
///
/// # Errors
/// When the state directory cannot be read.
pub fn list(context: &Context) -> Result<u8> {
    let mut known = Vec::new();
    let recoveries = context.recoveries();
    for (id, buffer) in recoveries.all()? {
        match buffer {
            Ok(buffer) => known.extend(buffer.recovery()),
            Err(error) => note(&format!("warning: {}: {}", plain(&id), plain(&error.report().message))),
        }
    }
    if context.json {
        context.print_json("recoveries", &known)?;
        return Ok(0);
    }
    if known.is_empty() {
        print("no recoveries on this machine; “walback restore” makes one")?;
        return Ok(0);
    }
    let mut table = Table::new(&[
        ("RECOVERY", Align::Left),
        ("STATE", Align::Left),
        ("BEGUN", Align::Left),
        ("TLI", Align::Right),
        ("DIRECTORY", Align::Left),
        ("TARGET", Align::Left),
    ]);
    // What drills have made and removed again would bury the rest.
    let of_drills =
        |recovery: &&Recovery| recoveries.is_drill(&recovery.id) && recovery.state == RecoveryState::Discarded;
    let (gone, shown): (Vec<&Recovery>, Vec<&Recovery>) = known.iter().partition(of_drills);
    if shown.is_empty() {
        print("no recoveries on this machine but those that drills made and removed: “walback drills” lists them")?;
        return Ok(0);
    }
    for recovery in shown {
        table.row(vec![
            recovery.id.clone(),
            recovery.state.to_string(),
            recovery.started_at.in_zone(context.config.zone),
            recovery.timeline.to_string(),
            recovery.directory.display().to_string(),
            recovery.target.in_words(context.config.zone),
        ]);
    }
    print(&table.render())?;
    if !gone.is_empty() {
        print(&format!("\nand {} that removed what it made: “walback drills”", counted(gone.len() as u64, "drill")))?;
    }
    Ok(0)
}

/// Shows where one recovery stands, or its events until it comes to rest.
///
/// # Errors
/// When there is no such recovery, or its journal cannot be read.
pub fn status(context: &Context, wanted: Option<&str>, events: bool) -> Result<u8> {
    let recoveries = context.recoveries();
    let mut recovery = recoveries.find(wanted)?;
    let progress = RefCell::new(None::<Progress>);
    if events {
        return follow(context, &recovery.id);
    }
    if !matches!(recovery.state, RecoveryState::Discarded | RecoveryState::Promoted) && !context.config.read_only {
        // Its walback may be gone and the server far ahead, or somebody promoted it by hand.
        let note_progress = |event: &Event| {
            if let What::Progress(now) = &event.what {
                *progress.borrow_mut() = Some(now.clone());
            }
        };
        Engine::new(&context.config)?.refresh(&recovery.id, &note_progress)?;
        recovery = recoveries.find(Some(&recovery.id))?;
    }
    // What passes is not in the journal: it is asked for.
    let progress = progress.into_inner().filter(|_| recovery.state == RecoveryState::Replaying);
    if let Some(now) = &progress {
        recovery.replayed_lsn = now.replayed_lsn.or(recovery.replayed_lsn);
        recovery.last_commit_at = now.last_commit_at.or(recovery.last_commit_at);
    }
    let standing = standing(&recoveries, &recovery.id)?;
    if context.json {
        return print_with_standing(context, &recovery, &standing, progress.as_ref()).map(|()| 0);
    }
    let is_drill = recoveries.is_drill(&recovery.id);
    let mut text = match is_drill && standing != Standing::AtRest {
        true => facts(&recovery, context.config.zone),
        false => describe(&recovery, context.config.zone),
    };
    if let Some(now) = &progress {
        text = format!("{text}\n{}", how_far(now));
    }
    if is_drill {
        text = format!("{}\n{text}", of_drill(&standing));
    }
    if let Some(line) = stands(&standing) {
        text = format!("{line}\n{text}");
    }
    print(&plain_lines(&text))?;
    Ok(0)
}

/// What is to be known of a recovery that a drill has made: what comes next is the drill's own.
fn of_drill(standing: &Standing) -> &'static str {
    match standing {
        Standing::Held(_) => "Drill      a drill has made it, works on it, and removes it",
        Standing::Interrupted(_) => "Drill      a drill has made it, and was killed; the next drill removes it",
        Standing::AtRest => "Drill      a drill has made it; “walback drills” says what came of it",
    }
}

/// The recovery, with whether it was interrupted and who works on it.
fn print_with_standing(
    context: &Context,
    recovery: &Recovery,
    standing: &Standing,
    progress: Option<&Progress>,
) -> Result<()> {
    let mut value = serde_json::to_value(recovery)
        .map_err(|error| Error::failed("no-json", "the result cannot be written as JSON").caused_by(&error))?;
    let (interrupted, held_by) = match standing {
        Standing::Interrupted(found) => (Some(found), None),
        Standing::Held(holder) => (None, holder.as_ref()),
        Standing::AtRest => (None, None),
    };
    value["interrupted"] = serde_json::json!(interrupted);
    value["held_by"] = serde_json::json!(held_by);
    value["progress"] = serde_json::json!(progress);
    context.print_json("recovery", &value)
}

/// `Progress   12 MB of 32.5 MB of WAL; waiting for 000000010000000000000004 from the archive`
fn how_far(progress: &Progress) -> String {
    let total = progress.total.map(|total| format!(" of {}", Bytes(total))).unwrap_or_default();
    let doing = progress.doing.as_ref().map(|doing| format!("; {doing}")).unwrap_or_default();
    format!("Progress   {}{total} of WAL{doing}", Bytes(progress.done))
}

fn stands(standing: &Standing) -> Option<String> {
    match standing {
        Standing::Interrupted(found) => Some(format!("Interrupted  nobody works on it; {found} by “walback resume”")),
        Standing::Held(Some(holder)) => Some(format!("Worked on by {}", holder.in_words())),
        Standing::Held(None) => Some("Worked on by another walback".to_owned()),
        Standing::AtRest => None,
    }
}

/// Prints what the journal has, and what comes, until nothing is being done any more.
fn follow(context: &Context, id: &str) -> Result<u8> {
    let recoveries = context.recoveries();
    let watcher = Watcher::new(true, context.config.zone);
    let mut told = 0;
    loop {
        let events = recoveries.events(id)?;
        events.iter().skip(told).for_each(|event| watcher.tell(event));
        told = events.len();
        let recovery = recoveries.find(Some(id))?;
        let interrupted = !matches!(recovery.state, RecoveryState::Replaying | RecoveryState::Promoting)
            && matches!(standing(&recoveries, id)?, Standing::Interrupted(_));
        if is_at_rest(recovery.state) || interrupted {
            watcher.finish(&recovery);
            return Ok(0);
        }
        context.cancel.check()?;
        if !context.config.read_only {
            // Where nobody follows it any more, this does; where somebody does, their journal is read on.
            Engine::new(&context.config)?.refresh(id, &|_| {})?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn is_at_rest(state: RecoveryState) -> bool {
    matches!(
        state,
        RecoveryState::Paused
            | RecoveryState::Promoted
            | RecoveryState::ShutDown
            | RecoveryState::Failed
            | RecoveryState::Discarded
    )
}

/// A recovery in words, and what can be done next.
#[must_use]
pub fn describe(recovery: &Recovery, zone: Zone) -> String {
    let next = next_steps(recovery, server_of(recovery).is_some());
    std::iter::once(facts(recovery, zone)).chain(next).collect::<Vec<_>>().join("\n")
}

/// A recovery in words.
fn facts(recovery: &Recovery, zone: Zone) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_recovery(&mut text, recovery, zone);
    text.trim_end().to_owned()
}

/// The process of its server, where that runs.
fn server_of(recovery: &Recovery) -> Option<u32> {
    Mark::check(&recovery.directory, &recovery.id).ok().and_then(|_| running(&recovery.directory))
}

fn write_recovery(out: &mut String, recovery: &Recovery, zone: Zone) -> std::fmt::Result {
    writeln!(out, "Recovery   {}: {}", recovery.id, in_words(recovery))?;
    writeln!(out, "Directory  {}", recovery.directory.display())?;
    if let Some(former) = &recovery.made_way {
        writeln!(out, "Former     what was there is {}, unchanged", former.display())?;
    }
    writeln!(out, "Target     {}", recovery.target.in_words(zone))?;
    writeln!(out, "Predicted  {}", super::plan::describe_stop(&recovery.resolved, zone))?;
    if let Some(stopped) = &recovery.stopped {
        let verdict = if recovery.matches_prediction == Some(true) { "as predicted" } else { "NOT as predicted" };
        writeln!(out, "Happened   PostgreSQL {}: {verdict}", describe_stopped(stopped, zone))?;
    }
    if let Some(lsn) = recovery.replayed_lsn {
        let at =
            recovery.last_commit_at.map(|at| format!(", last transaction {}", at.in_zone(zone))).unwrap_or_default();
        writeln!(out, "Replayed   up to LSN {lsn}{at}")?;
    }
    if recovery.state == RecoveryState::Paused && recovery.matches_prediction == Some(true) {
        let next = describe_place(recovery.resolved.first_lost.as_ref(), "no commit in the archive", zone);
        writeln!(out, "Then       {next} is the next in WAL")?;
    }
    writeln!(out, "Timeline   {}", recovery.timeline)?;
    if let Some(pid) = server_of(recovery) {
        writeln!(out, "Server     runs, process {pid}")?;
        writeln!(out, "Connect    psql {}", crate::plan::settings::shell_quote(&recovery.connection))?;
    } else if recovery.state != RecoveryState::Discarded {
        writeln!(out, "Server     does not run")?;
    }
    if let Some(failure) = &recovery.failure {
        writeln!(out, "Failed     {}", failure.message)?;
        failure.causes.iter().try_for_each(|cause| writeln!(out, "           {cause}"))?;
        failure.hint.iter().try_for_each(|hint| writeln!(out, "           hint: {hint}"))?;
    }
    for finding in recovery.warnings() {
        // It may name files of a backup, which can be called anything.
        writeln!(out, "Warning    {}", plain(&finding.message))?;
        finding.hint.iter().try_for_each(|hint| writeln!(out, "           hint: {}", plain(hint)))?;
    }
    Ok(())
}

/// Whether it was promoted, whatever became of its server since.
fn is_promoted(recovery: &Recovery) -> bool {
    recovery.timeline != recovery.resolved.timeline
}

fn in_words(recovery: &Recovery) -> &'static str {
    match recovery.state {
        RecoveryState::ShutDown if is_promoted(recovery) => "promoted; Walback stopped its server since",
        RecoveryState::Planned => "planned, nothing was done yet",
        RecoveryState::Unpacking => "unpacking the base backup",
        RecoveryState::Configured => "unpacked and configured, not started yet",
        RecoveryState::Replaying => "replaying WAL; nothing can be written yet, and that is as it should be",
        RecoveryState::Paused => {
            "paused at the target; the database can be read and not written, and nothing is decided yet"
        }
        RecoveryState::Promoting => "being promoted",
        RecoveryState::Promoted if !recovery.is_isolated() => "promoted; the database takes writes",
        RecoveryState::Promoted => "promoted; the database takes writes, isolated from everything else",
        RecoveryState::ShutDown => "its server was shut down",
        RecoveryState::Failed => "failed",
        RecoveryState::Discarded => "discarded; what it made was removed",
    }
}

fn next_steps(recovery: &Recovery, server: bool) -> Vec<String> {
    let id = crate::plan::settings::shell_quote(&recovery.id);
    match recovery.state {
        RecoveryState::Paused if server => vec![
            format!("Next       walback promote {id}                 end recovery and take writes"),
            format!("           walback retarget {id} --time …       go to another point; --next, --previous commit"),
            format!("           walback discard {id}                 remove it again"),
        ],
        RecoveryState::ShutDown if is_promoted(recovery) => {
            vec!["Next       it is a cluster of its own now; discarding it loses what was written to it".to_owned()]
        }
        RecoveryState::Paused | RecoveryState::ShutDown => vec![
            format!("Next       walback resume {id}                  start it again, to the same point"),
            format!("           walback retarget {id} --time …       go to another point"),
            format!("           walback discard {id}                 remove it"),
        ],
        RecoveryState::Failed => {
            vec![
                format!("Next       walback resume {id}                  try again, once the cause is mended"),
                format!("           walback discard {id}                 remove what is left of it"),
            ]
        }
        RecoveryState::Promoted => {
            vec![format!(
                "Next       walback checklist {id}               what is left: archiving, a base backup, clients"
            )]
        }
        RecoveryState::Planned | RecoveryState::Unpacking | RecoveryState::Configured => vec![
            format!("Next       walback resume {id}                  go on with it, where it was interrupted"),
            format!("           walback discard {id}                 remove it"),
        ],
        RecoveryState::Replaying | RecoveryState::Promoting => {
            vec![format!("Next       walback status {id} --events         follow it, as JSON lines")]
        }
        RecoveryState::Discarded => Vec::new(),
    }
}

/// How commands that act tell: as their options say.
#[must_use]
pub fn watcher(context: &Context, act: ActArgs) -> Watcher {
    Watcher::new(act.events, context.config.zone)
}
