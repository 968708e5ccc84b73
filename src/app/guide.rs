//! What to do next, in a sentence: always on the screen, for whoever does this for the first time.

use super::archive;
use super::command::{self, Act};
use super::dialog::Dialog;
use super::drills;
use super::keys::key_of;
use super::points::Row;
use super::query::Said;
use super::state::{Answer, Loading, Pane, ScanState, Screen, State};
use crate::core::Xid;
use crate::core::progress::counted;
use crate::event::RecoveryState;
use crate::pgdata::server_log::StopKind;
use crate::plan::suspects_kept::keeps_last;
use crate::plan::{Finding, Severity, StepId};

/// What to do next: in what lies over the screen where something does.
#[must_use]
pub fn next(state: &State) -> String {
    if let Some(dialog) = &state.dialog {
        if state.screen() == Screen::Drills && matches!(dialog, Dialog::Target(_)) {
            return "Type a time; Enter makes the drill to it. Esc leaves.".to_owned();
        }
        return in_dialog(dialog).to_owned();
    }
    match state.screen() {
        Screen::Points => on_points(state),
        Screen::Plan => on_plan(state),
        Screen::Recovery => on_recovery(state),
        Screen::Paused => on_paused(state),
        Screen::Archive => on_archive(state),
        Screen::Log => on_log(state),
        Screen::Drills => drills::next(state),
    }
}

/// What is never to be done by hand while recovery is paused at its target: PostgreSQL goes on from there by promoting
/// (`recoveryPausesHere`, `src/backend/access/transam/xlogrecovery.c`), though its log recommends it.
pub const NEVER_RESUME: &str = "Never call pg_wal_replay_resume() here: it would promote the server.";

/// What is said before psql gets the terminal and opens this database.
#[must_use]
pub fn look(state: &State, recovery: &str, database: &str) -> String {
    let zone = state.zone;
    let mut text = format!(
        "The recovered server of {recovery}: database {database}, times in {zone}.\n\
         \\l lists databases, \\c NAME opens one, \\q comes back to walback."
    );
    if state.recovery_state() == Some(RecoveryState::Paused) {
        text.push_str(&format!("\n{NEVER_RESUME}"));
    }
    if let Some(locked) = locked(state) {
        text.push_str(&format!(
            "\nLocked until promotion: {locked}.\n\
             A query on it waits, and Ctrl-C ends that."
        ));
    }
    text
}

/// What is locked while the server is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedBy {
    /// The transaction.
    pub xid: Xid,
    /// How many relations, where it is known that they are locked.
    pub relations: Option<u64>,
    /// Other transactions that lock some.
    pub others: usize,
}

impl std::fmt::Display for LockedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.relations {
            Some(relations) => write!(f, "{} that transaction {} locked", counted(relations, "relation"), self.xid)?,
            None => write!(f, "what transaction {} drops or truncates", self.xid)?,
        }
        match self.others {
            0 => Ok(()),
            others => write!(f, ", and those of {}", counted(others as u64, "other transaction")),
        }
    }
}

/// What nobody can read where recovery is paused.
///
/// Locks against everybody are replayed too (`xl_standby_lock`, `src/backend/storage/ipc/standby.c`, 13 to 18): the
/// table that is about to be dropped cannot even be read while the server is paused before the drop's commit.
#[must_use]
pub fn locked(state: &State) -> Option<LockedBy> {
    let recovery = state.recovery.recovery().filter(|recovery| recovery.state == RecoveryState::Paused)?;
    if recovery.matches_prediction != Some(false) {
        let (first, others) = recovery.resolved.locked.split_first()?;
        return Some(LockedBy { xid: first.xid, relations: Some(first.relations), others: others.len() });
    }
    // It stands where nobody worked out what is locked.
    let stopped = recovery.stopped.filter(|stopped| stopped.before && stopped.kind == StopKind::Commit)?;
    Some(LockedBy { xid: stopped.xid?, relations: None, others: 0 })
}

fn in_dialog(dialog: &Dialog) -> &'static str {
    match dialog {
        Dialog::Menu(_) => "Choose with Up and Down; Enter takes it, Esc leaves everything as it is.",
        Dialog::Target(_) => "Type where to stop; Enter shows the plan, which changes nothing. Esc leaves.",
        Dialog::Directory(_) | Dialog::Value(_) => {
            "Type it; Enter makes the plan anew, which changes nothing. Esc leaves."
        }
        Dialog::BaseBackup(_) => "Type the path of a new directory; Enter takes the base backup. Esc leaves.",
        Dialog::Scratch(_) => "Type a directory's path; each drill makes a new one below it. Esc leaves.",
        Dialog::Runbook(_) => "Type a path; Enter writes the runbook there. Esc leaves.",
        Dialog::Confirm(_) => "Nothing is done before the name is typed and Enter pressed; Esc leaves it.",
        Dialog::Find(_) => "Type what to look for; Enter goes there, Esc leaves.",
        Dialog::FindInLog(_) => "Type what to look for; Enter goes to the last line that has it, Esc leaves.",
        Dialog::Sql(form) if form.answer == Said::Asked => "The server is being asked; Esc gives it up.",
        Dialog::Sql(_) => "Type a query; Enter asks, Tab takes another database, Up and Down scroll. Esc leaves.",
        Dialog::Suspects(_) => "Choose with Up and Down; Enter goes there, Esc leaves.",
        Dialog::Palette(_) => "Type some letters of it; Up and Down choose, Enter does it, Esc leaves.",
        Dialog::Help => "Up and Down scroll; Esc leaves.",
        Dialog::Error(_) => "Read what happened; Esc goes on.",
    }
}

fn on_points(state: &State) -> String {
    let key = |act| key_of(state, act);
    if let Some(name) = &state.retarget {
        let (before, after) = (key(Act::StopBefore), key(Act::StopAfter));
        return format!("Where shall {name} stop instead? {before} before, {after} after.");
    }
    match &state.catalog {
        Loading::Loading => return "Listing the backups and the archive.".to_owned(),
        Loading::Failed(_) => {
            return format!("Nothing can be recovered until this is mended; {} tries again.", key(Act::Reload));
        }
        Loading::Loaded(catalog) if catalog.backups.iter().all(|backup| !backup.is_usable()) => {
            return "There is no usable base backup here, so nothing can be restored.".to_owned();
        }
        Loading::Loaded(_) => {}
    }
    let choose = key(Act::Choose);
    match state.pane {
        Pane::Backups => {
            return format!("{choose} goes to where this backup ended: recovery can stop there or later.");
        }
        Pane::Timelines => {
            let (up, down) = (key(Act::Up), key(Act::Down));
            return format!("{up} and {down} choose a timeline to list; {choose} goes to its transactions.");
        }
        Pane::Chart => {
            let (left, right) = (key(Act::Left), key(Act::Right));
            let (closer, further) = (key(Act::ZoomIn), key(Act::ZoomOut));
            return format!(
                "{left} and {right} go through time, {closer} and {further} zoom; {choose} goes to the transactions."
            );
        }
        Pane::Points => {}
    }
    let (before, suspects, reload) = (key(Act::StopBefore), key(Act::Suspects), key(Act::Reload));
    match state.points.here() {
        None if state.scan.state == ScanState::Finished => "The archive has no transactions.".to_owned(),
        None if state.scan.state == ScanState::Cancelled => format!("Reading was stopped; {reload} reads again."),
        None if matches!(state.scan.state, ScanState::Failed(_)) => {
            format!("The archive could not be read; {reload} tries again.")
        }
        None => {
            format!("Transactions appear as the archive is read; {} chooses a time already.", key(Act::TargetTime))
        }
        Some(Row::Point(point)) if state.points.is_suspect(point) => match state.points.suspects_listed() {
            0 | 1 => format!("The only suspect. Did it do the damage? {before} stops before it, {choose}: choices."),
            many => {
                format!("One of {many} suspects ({suspects}: all). Did this do the damage? {before} stops before it.")
            }
        },
        Some(Row::Point(point)) if !state.reach.reaches(point) => {
            format!("Recovery cannot stop here, see above. {} goes to the newest transactions.", key(Act::Last))
        }
        Some(Row::Lack(_)) => "Recovery comes up to here and no further; a later base backup leads on.".to_owned(),
        Some(_) => {
            let (find, after) = (key(Act::Find), key(Act::StopAfter));
            let timeline = match state.points.timelines().len() {
                0 | 1 => String::new(),
                _ => format!(", {}: one timeline", key(Act::FilterTimeline)),
            };
            if can(state, "suspects") {
                format!("Find what did the damage ({suspects}: suspects, {find}: find), then {before} stops before it.")
            } else {
                format!("Find where to stop ({find}: find{timeline}); {after} stops after it, {before} before it.")
            }
        }
    }
}

/// Whether the command of this name can be given now.
fn can(state: &State, name: &str) -> bool {
    command::named(name).is_some_and(|command| (command.enabled)(state).is_ok())
}

fn on_plan(state: &State) -> String {
    let key = |act| key_of(state, act);
    let (start, directory) = (key(Act::Start), key(Act::Directory));
    let Some(planning) = &state.planning else { return "Esc goes back.".to_owned() };
    match &planning.answer {
        Answer::Making => "The plan is being made. That changes nothing.".to_owned(),
        Answer::Failed(_) if can(state, "take") => {
            format!("No plan can be made. {} takes what can be reached; Esc goes back.", key(Act::Take))
        }
        Answer::Failed(_) => "No plan can be made; Esc goes back to choose another target.".to_owned(),
        Answer::Made(_, None) if can(state, "make-way") => {
            let make_way = key(Act::MakeWay);
            format!("This cannot be started. {make_way} renames what is there; {directory} takes another directory.")
        }
        Answer::Made(plan, None) if plan.findings.iter().any(is_about_the_directory) => {
            format!("This cannot be started. Choose another directory with {directory}. Nothing was changed.")
        }
        Answer::Made(plan, _) if plan.is_forbidden() => {
            "This cannot be started: see the errors. Nothing was changed.".to_owned()
        }
        Answer::Made(..) if state.read_only => "A look only: --read-only was given. Nothing is changed.".to_owned(),
        Answer::Made(_, Some(approach)) if approach.strategy.empties_directory() => {
            format!("{start} asks for the name, then makes it anew. Nothing was changed yet.")
        }
        Answer::Made(plan, None) if plan.make_way.is_some() => {
            format!("{start} asks for the name; then it renames what is there, and starts.")
        }
        Answer::Made(plan, _) if keeps_last(&plan.resolved) && can(state, "take") => {
            format!("Is what is kept the accident? {} stops before it. {start} starts as it is.", key(Act::Take))
        }
        Answer::Made(_, Some(_)) => format!("{start} goes to this target. Nothing was changed yet."),
        Answer::Made(..) => {
            format!("Read it ({} goes on), then {start} starts. Nothing was changed yet.", key(Act::PageDown))
        }
    }
}

/// Whether another directory would do away with it.
fn is_about_the_directory(finding: &Finding) -> bool {
    finding.severity == Severity::Error && finding.code.starts_with("directory-")
}

fn on_recovery(state: &State) -> String {
    match state.recovery.running {
        Some(StepId::Replay) => {
            let quit = key_of(state, Act::Quit);
            format!("It will pause at the target. You may leave with {quit}: the server goes on.")
        }
        Some(StepId::Unpack | StepId::Combine | StepId::Snapshot) => {
            "Nothing to do now: wait. Your backups and archive are only read.".to_owned()
        }
        _ => "Nothing to do now: wait.".to_owned(),
    }
}

fn on_archive(state: &State) -> String {
    let key = |act| key_of(state, act);
    match &state.catalog {
        Loading::Loading => return "Listing the backups and the archive.".to_owned(),
        Loading::Failed(_) => {
            return format!("It could not be listed; {} tries again, {} goes back.", key(Act::Reload), key(Act::Back));
        }
        Loading::Loaded(_) => {}
    }
    let (check, go, back) = (key(Act::CheckArchive), key(Act::GoThere), key(Act::Back));
    if state.scan.state == ScanState::Running {
        return format!("It is being read: wait, or stop it with {check}. What is found meanwhile is listed.");
    }
    let unread = state.archive.report.as_ref().is_some_and(|report| !report.complete);
    match state.archive.row(state.archive.cursor) {
        _ if unread => format!("Not every segment was read: {check} reads the rest. {back} goes back."),
        Some(archive::Row::Finding(found)) if found.lsn.is_some() => {
            format!("{go} goes there on the home screen. {back} goes back.")
        }
        Some(archive::Row::Backup(_)) => format!("{go} goes to this base backup. {back} goes back."),
        _ => format!("{} and {} choose what is told below. {back} goes back.", key(Act::Up), key(Act::Down)),
    }
}

fn on_log(state: &State) -> String {
    let key = |act| key_of(state, act);
    let back = key(Act::Back);
    match (state.log.follows(), state.recovery_state()) {
        (false, _) => format!(
            "{} and {} go on; {} follows the end again. {back} goes back.",
            key(Act::Up),
            key(Act::Down),
            key(Act::Last)
        ),
        (true, Some(RecoveryState::Paused)) => {
            format!("It is paused at its target. {back} goes back to what you can do now.")
        }
        (true, _) => format!(
            "Lines come by themselves. {} finds, {} hides what is no warning. {back} goes back.",
            key(Act::FindInLog),
            key(Act::FilterLog)
        ),
    }
}

fn on_paused(state: &State) -> String {
    if let Some(action) = state.asked {
        return format!("Wait: {}.", action.doing());
    }
    let retargets = can(state, "retarget");
    let differs = state.recovery.recovery().and_then(|r| r.matches_prediction) == Some(false);
    let key = |act| key_of(state, act);
    let (look, promote, retarget, discard) = (key(Act::Look), key(Act::Promote), key(Act::Retarget), key(Act::Discard));
    match state.recovery_state() {
        Some(RecoveryState::Paused) if differs => {
            format!("Look with {look} before you decide: it is not where it should be.")
        }
        Some(RecoveryState::Paused) if state.read_only => {
            format!("Look with {look}. --read-only was given: nothing is changed.")
        }
        Some(RecoveryState::Paused) if retargets => {
            let quit = key(Act::Quit);
            format!(
                "{look} looks. If right, {promote} promotes or {quit} leaves it paused; if not, {retarget} retargets."
            )
        }
        Some(RecoveryState::Paused) => {
            format!("Look with {look}. If it is right, {promote} promotes. It is another cluster's.")
        }
        Some(RecoveryState::Promoting) => "Wait: the server is being promoted.".to_owned(),
        Some(RecoveryState::Promoted) => {
            let checklist = key(Act::Checklist);
            format!("Done. {checklist} lists what is left to do, archiving and a new base backup above all.")
        }
        Some(RecoveryState::ShutDown | RecoveryState::Failed) if state.read_only => {
            "--read-only was given: nothing is changed. Esc goes back.".to_owned()
        }
        Some(RecoveryState::ShutDown) if state.recovery.promoted_to.is_some() => {
            format!("It was promoted: start it with pg_ctl, or discard it with {discard}.")
        }
        Some(RecoveryState::ShutDown) if retargets => {
            format!("It can be retargeted with {retarget}, or discarded with {discard}.")
        }
        Some(RecoveryState::ShutDown) => format!("It can be discarded with {discard}."),
        Some(RecoveryState::Failed) if !retargets => format!("Read the reason. Then {discard} discards it."),
        Some(RecoveryState::Failed) => {
            format!("Read the reason. Then {retarget} tries another target, or {discard} discards it.")
        }
        Some(RecoveryState::Discarded) => "Esc goes back to the recovery points.".to_owned(),
        _ => "Esc goes back.".to_owned(),
    }
}
