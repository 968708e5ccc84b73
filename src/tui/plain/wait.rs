//! What the program is waiting for: with input from a pipe, the next command is read when that has come.

use super::home;
use crate::app::points::Row;
use crate::app::query::{Checks, Said};
use crate::app::state::{Answer, Loading, ScanState};
use crate::app::{ActionKind, Dialog, Effect, Msg, Screen, State};
use crate::event::RecoveryState;

/// What was sent out and is not answered yet, of that which the state does not tell.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// Answers that are to come.
    open: Vec<Errand>,
    /// Whether somebody tells what happens in the followed recovery.
    followed: bool,
    /// Whether something is being done to a recovery here, which says when it is over.
    acting: bool,
    /// Whether it was told which recoveries there are.
    recoveries: bool,
}

/// Something that brings one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Recoveries,
    Checklist,
    Runbook,
    Databases,
}

impl Errands {
    /// Something is done outside from now on.
    pub(super) fn sent(&mut self, effect: &Effect) {
        match effect {
            Effect::LoadRecoveries => self.open.push(Errand::Recoveries),
            Effect::LoadChecklist { .. } => self.open.push(Errand::Checklist),
            Effect::WriteRunbook { .. } => self.open.push(Errand::Runbook),
            Effect::LoadDatabases { .. } => self.open.push(Errand::Databases),
            Effect::Follow { .. } => self.followed = true,
            Effect::Start { .. }
            | Effect::Resume { .. }
            | Effect::Retarget { .. }
            | Effect::Promote { .. }
            | Effect::Stop { .. }
            | Effect::Discard { .. }
            | Effect::DoItem { .. }
            | Effect::SkipItem { .. } => self.acting = true,
            _ => {}
        }
    }

    /// Whether it was told which recoveries there are.
    pub(super) fn knows_recoveries(&self) -> bool {
        self.recoveries
    }

    /// Whether something is being done to a recovery here.
    pub(super) fn is_acting(&self) -> bool {
        self.acting
    }

    /// Something came back.
    pub(super) fn came(&mut self, msg: &Msg) {
        self.recoveries |= matches!(msg, Msg::Recoveries(_));
        let errand = match msg {
            Msg::Recoveries(_) => Errand::Recoveries,
            Msg::Checklist(_) => Errand::Checklist,
            Msg::Runbook { .. } => Errand::Runbook,
            Msg::Databases(_) => Errand::Databases,
            Msg::Failed(_) => {
                // It is not said which of them it was: none of them is waited for.
                *self = Errands { recoveries: self.recoveries, ..Errands::default() };
                return;
            }
            Msg::Done(action) if *action != ActionKind::Cancel => {
                self.acting = false;
                return;
            }
            _ => return,
        };
        if let Some(place) = self.open.iter().position(|open| *open == errand) {
            self.open.remove(place);
        }
    }
}

/// Whether something that was asked for has not come to its end, or to a question.
pub(super) fn is_waiting(state: &State, errands: &Errands) -> bool {
    if matches!(state.dialog, Some(Dialog::Error(_))) {
        return false;
    }
    let reads = state.loaded().is_some() && matches!(state.scan.state, ScanState::Waiting | ScanState::Running);
    let plans = state.planning.as_ref().is_some_and(|planning| planning.answer == Answer::Making);
    let asks = matches!(&state.dialog, Some(Dialog::Sql(form)) if form.answer == Said::Asked);
    matches!(state.catalog, Loading::Loading)
        || reads
        || !errands.open.is_empty()
        || errands.acting
        || (plans && state.screen() == Screen::Plan)
        || state.asked.is_some()
        || state.drills.running.is_some()
        || (state.screen() == Screen::Drills && !state.drills.is_listed())
        || asks
        || (state.checks == Checks::Running && state.following.is_some())
        || recovers(state, errands)
        || looks_for(state)
        || (state.screen() == Screen::Points && settles(state))
}

/// Whether the followed recovery is on its way to where it stands still.
fn recovers(state: &State, errands: &Errands) -> bool {
    use RecoveryState::{Configured, Planned, Promoting, Replaying, Unpacking};
    let on_its_way = match state.recovery_state() {
        None => true,
        // Nobody follows a server that is only looked at.
        Some(Replaying | Promoting) if state.read_only => false,
        Some(now) => matches!(now, Planned | Unpacking | Configured | Replaying | Promoting),
    };
    errands.followed && state.following.is_some() && state.interrupted.is_none() && on_its_way
}

/// Whether a transaction is being looked for in the whole archive.
fn looks_for(state: &State) -> bool {
    let sought = state.search.as_ref().and_then(|search| search.unlocated);
    sought.is_some_and(|xid| state.located.is_asked(xid))
}

/// Whether what the cursor is on, or what is about it, is being read.
fn settles(state: &State) -> bool {
    state.points.is_settling() || matches!(state.points.here(), Some(Row::Waiting(_))) || home::page_waits(state)
}
