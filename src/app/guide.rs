//! What to do next, in a sentence: always on the screen, for whoever does this for the first time.

use super::archive;
use super::command;
use super::dialog::Dialog;
use super::points::Row;
use super::query::Said;
use super::state::{Answer, Loading, Pane, ScanState, Screen, State};
use crate::core::Xid;
use crate::core::progress::counted;
use crate::event::RecoveryState;
use crate::pgdata::server_log::StopKind;
use crate::plan::{Finding, Severity, StepId};

/// What to do next: in what lies over the screen where something does.
#[must_use]
pub fn next(state: &State) -> String {
    if let Some(dialog) = &state.dialog {
        return in_dialog(dialog).to_owned();
    }
    match state.screen() {
        Screen::Points => on_points(state),
        Screen::Plan => on_plan(state),
        Screen::Recovery => on_recovery(state),
        Screen::Paused => on_paused(state),
        Screen::Archive => on_archive(state),
        Screen::Log => on_log(state),
        Screen::Drills => "Read it (Down scrolls); the commands are for another terminal. Esc goes back.".to_owned(),
    }
}

/// What is said before psql gets the terminal.
#[must_use]
pub fn look(state: &State, recovery: &str) -> String {
    let mut text = format!(
        "The recovered server of {recovery}.\n\\l lists databases, \\c NAME opens one, \\q comes back to walback."
    );
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
        Dialog::Runbook(_) => "Type a path; Enter writes the runbook there. Esc leaves.",
        Dialog::Confirm(_) => "Nothing is done before the name is typed and Enter pressed; Esc leaves it.",
        Dialog::Find(_) => "Type what to look for; Enter goes there, Esc leaves.",
        Dialog::FindInLog(_) => "Type what to look for; Enter goes to the last line that has it, Esc leaves.",
        Dialog::Sql(form) if form.answer == Said::Asked => "The server is being asked; Esc gives it up.",
        Dialog::Sql(_) => "Type a query; Enter asks, Tab takes another database, Up and Down scroll. Esc leaves.",
        Dialog::Suspects(_) => "Choose with Up and Down; Enter goes there, Esc leaves.",
        Dialog::Help => "Up and Down scroll; Esc leaves.",
        Dialog::Error(_) => "Read what happened; Esc goes on.",
    }
}

fn on_points(state: &State) -> String {
    if let Some(name) = &state.retarget {
        return format!("Where shall {name} stop instead? b before, a after.");
    }
    match &state.catalog {
        Loading::Loading => return "Listing the backups and the archive.".to_owned(),
        Loading::Failed(_) => return "Nothing can be recovered until this is mended; F5 tries again.".to_owned(),
        Loading::Loaded(catalog) if catalog.backups.iter().all(|backup| !backup.is_usable()) => {
            return "There is no usable base backup here, so nothing can be restored.".to_owned();
        }
        Loading::Loaded(_) => {}
    }
    match state.pane {
        Pane::Backups => return "Enter goes to where this backup ended: recovery can stop there or later.".to_owned(),
        Pane::Timelines => return "Up and Down choose a timeline to list; Enter goes to its transactions.".to_owned(),
        Pane::Chart => {
            return "Left and right go through time, + and - zoom; Enter goes to the transactions.".to_owned();
        }
        Pane::Points => {}
    }
    let text = match state.points.here() {
        None if state.scan.state == ScanState::Finished => "The archive has no transactions.",
        None if state.scan.state == ScanState::Cancelled => "Reading was stopped; F5 reads again.",
        None if matches!(state.scan.state, ScanState::Failed(_)) => "The archive could not be read; F5 tries again.",
        None => "Transactions appear as the archive is read; t chooses a time already.",
        Some(Row::Point(point)) if state.points.is_suspect(point) => {
            "Did this do the damage? b stops before it. s: all suspects, Enter: explain."
        }
        Some(Row::Point(point)) if !state.reach.reaches(point) => {
            "Recovery cannot stop here, see above. G goes to the newest transactions."
        }
        Some(Row::Lack(_)) => "Recovery comes up to here and no further; a later base backup leads on.",
        Some(_) => "Find what did the damage (s: suspects, / find), then b stops before it.",
    };
    text.to_owned()
}

/// Whether the command of this name can be given now.
fn can(state: &State, name: &str) -> bool {
    command::named(name).is_some_and(|command| (command.enabled)(state).is_ok())
}

fn on_plan(state: &State) -> String {
    let Some(planning) = &state.planning else { return "Esc goes back.".to_owned() };
    match &planning.answer {
        Answer::Making => "The plan is being made. That changes nothing.".to_owned(),
        Answer::Failed(_) if can(state, "take") => {
            "No plan can be made. t takes what can be reached; Esc goes back.".to_owned()
        }
        Answer::Failed(_) => "No plan can be made; Esc goes back to choose another target.".to_owned(),
        Answer::Made(_, None) if can(state, "make-way") => {
            "This cannot be started. m renames what is there; d takes another directory.".to_owned()
        }
        Answer::Made(plan, None) if plan.findings.iter().any(is_about_the_directory) => {
            "This cannot be started. Choose another directory with d. Nothing was changed.".to_owned()
        }
        Answer::Made(plan, _) if plan.is_forbidden() => {
            "This cannot be started: see the errors. Nothing was changed.".to_owned()
        }
        Answer::Made(..) if state.read_only => "A look only: --read-only was given. Nothing is changed.".to_owned(),
        Answer::Made(_, Some(approach)) if approach.strategy.empties_directory() => {
            "Enter asks for the name, then makes it anew. Nothing was changed yet.".to_owned()
        }
        Answer::Made(plan, None) if plan.make_way.is_some() => {
            "Enter asks for the name; then it renames what is there, and starts.".to_owned()
        }
        Answer::Made(_, Some(_)) => "Enter goes to this target. Nothing was changed yet.".to_owned(),
        Answer::Made(..) => "Read it (Down scrolls), then Enter starts. Nothing was changed yet.".to_owned(),
    }
}

/// Whether another directory would do away with it.
fn is_about_the_directory(finding: &Finding) -> bool {
    finding.severity == Severity::Error && finding.code.starts_with("directory-")
}

fn on_recovery(state: &State) -> String {
    match state.recovery.running {
        Some(StepId::Replay) => "It will pause at the target. You may leave with q: the server goes on.".to_owned(),
        Some(StepId::Unpack | StepId::Snapshot) => {
            "Nothing to do now: wait. Your backups and archive are only read.".to_owned()
        }
        _ => "Nothing to do now: wait.".to_owned(),
    }
}

fn on_archive(state: &State) -> String {
    match &state.catalog {
        Loading::Loading => return "Listing the backups and the archive.".to_owned(),
        Loading::Failed(_) => return "It could not be listed; F5 tries again, Esc goes back.".to_owned(),
        Loading::Loaded(_) => {}
    }
    if state.scan.state == ScanState::Running {
        return "It is being read: wait, or stop it with c. What is found meanwhile is listed.".to_owned();
    }
    let unread = state.archive.report.as_ref().is_some_and(|report| !report.complete);
    match state.archive.row(state.archive.cursor) {
        _ if unread => "Not every segment was read: c reads the rest. Esc goes back.",
        Some(archive::Row::Finding(found)) if found.lsn.is_some() => {
            "Enter goes there on the home screen. Esc goes back."
        }
        Some(archive::Row::Backup(_)) => "Enter goes to this base backup. Esc goes back.",
        _ => "Up and Down choose what is told below. Esc goes back.",
    }
    .to_owned()
}

fn on_log(state: &State) -> String {
    match (state.log.follows(), state.recovery_state()) {
        (false, _) => "Up and Down go on; G follows the end again. Esc goes back to the recovery.",
        (true, Some(RecoveryState::Paused)) => "It is paused at its target. Esc goes back to what you can do now.",
        (true, _) => "Lines come by themselves. / finds, f hides what is no warning. Esc goes back.",
    }
    .to_owned()
}

fn on_paused(state: &State) -> String {
    if let Some(action) = state.asked {
        return format!("Wait: {}.", action.doing());
    }
    let retargets = can(state, "retarget");
    let differs = state.recovery.recovery().and_then(|r| r.matches_prediction) == Some(false);
    match state.recovery_state() {
        Some(RecoveryState::Paused) if differs => "Look with i before you decide: it is not where it should be.",
        Some(RecoveryState::Paused) if state.read_only => "Look with i. --read-only was given: nothing is changed.",
        Some(RecoveryState::Paused) if retargets => "Look with i. If it is right, p promotes; if not, r retargets.",
        Some(RecoveryState::Paused) => "Look with i. If it is right, p promotes. It is another cluster's.",
        Some(RecoveryState::Promoting) => "Wait: the server is being promoted.",
        Some(RecoveryState::Promoted) => "Done. c lists what is left to do, archiving and a new base backup above all.",
        Some(RecoveryState::ShutDown | RecoveryState::Failed) if state.read_only => {
            "--read-only was given: nothing is changed. Esc goes back."
        }
        Some(RecoveryState::ShutDown) if state.recovery.promoted_to.is_some() => {
            "It was promoted: start it with pg_ctl, or discard it with d."
        }
        Some(RecoveryState::ShutDown) if retargets => "It can be retargeted with r, or discarded with d.",
        Some(RecoveryState::ShutDown) => "It can be discarded with d.",
        Some(RecoveryState::Failed) if !retargets => "Read the reason. Then d discards it.",
        Some(RecoveryState::Failed) => "Read the reason. Then r tries another target, or d discards it.",
        Some(RecoveryState::Discarded) => "Esc goes back to the recovery points.",
        _ => "Esc goes back.",
    }
    .to_owned()
}
