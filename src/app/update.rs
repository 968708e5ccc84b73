//! The one place where something that happened changes what is known.

use super::act;
use super::dialog::Dialog;
use super::effect::Effect;
use super::msg::{ActionKind, Msg};
use super::press;
use super::state::{Answer, Loading, Planning, ScanState, Screen, State};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Recovery, RecoveryState, Strategy, What};
use crate::plan::Plan;

/// Folds a message into the state; returns what has to be done outside.
pub fn update(state: &mut State, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Started => return started(state),
        Msg::Key(key) => return press::key(state, key),
        Msg::Paste(text) => press::paste(state, &text),
        Msg::Click(hit) => return press::click(state, hit),
        Msg::Wheel(rows) => press::wheel(state, rows),
        Msg::Resize(columns, rows) => state.size = (columns, rows),
        Msg::Drawn { scroll_max } => drawn(state, scroll_max),
        Msg::Tick(now) => tick(state, now),
        Msg::Catalog(answer) => return catalog(state, answer),
        Msg::Points(batch) => state.points.add(batch),
        Msg::ScanProgress { done, total } => (state.scan.done, state.scan.total) = (done, total),
        Msg::ScanFinished(answer) => scanned(state, answer),
        Msg::Recoveries(recoveries) => known(state, recoveries),
        Msg::Planned(answer) => planned(state, answer.map(|plan| (plan, None))),
        Msg::RetargetPlanned(answer) => planned(state, answer.map(|(plan, strategy)| (plan, Some(strategy)))),
        Msg::Event(event) => happened(state, &event),
        Msg::Failed(error) => return failed(state, error),
        Msg::Done(action) => return done(state, action),
        Msg::Note(text) => state.say(text),
    }
    Vec::new()
}

fn started(state: &mut State) -> Vec<Effect> {
    let mut effects = vec![Effect::LoadCatalog, Effect::LoadRecoveries];
    effects.extend(state.following.clone().map(|recovery| Effect::Follow { recovery }));
    effects
}

fn drawn(state: &mut State, scroll_max: usize) {
    state.scroll_max = scroll_max;
    if state.dialog == Some(Dialog::Help) {
        state.help_scroll = state.help_scroll.min(scroll_max);
    } else {
        state.scroll = state.scroll.min(scroll_max);
    }
}

fn tick(state: &mut State, now: crate::core::Timestamp) {
    state.now = now;
    if state.scan.state == ScanState::Running {
        state.points.settle();
        state.scan.pace.observe(now.unix_micros() as f64 / 1e6, state.scan.done);
    }
}

fn catalog(state: &mut State, answer: Result<Catalog, Error>) -> Vec<Effect> {
    match answer {
        Ok(catalog) => {
            state.backup = catalog.backups.iter().position(crate::catalog::Backup::is_usable).unwrap_or(0);
            state.catalog = Loading::Loaded(catalog);
            state.scan.state = ScanState::Running;
            vec![Effect::LoadPoints]
        }
        Err(error) => {
            state.catalog = Loading::Failed(error.clone());
            state.dialog = Some(Dialog::Error(error));
            Vec::new()
        }
    }
}

fn scanned(state: &mut State, answer: Result<(), Error>) {
    state.points.settle();
    state.scan.state = match answer {
        Ok(()) => ScanState::Finished,
        Err(error) if error.report().kind == ErrorKind::Interrupted => ScanState::Cancelled,
        Err(error) => {
            state.dialog.get_or_insert(Dialog::Error(error.clone()));
            ScanState::Failed(error)
        }
    };
}

/// Offers what is unfinished, once, where nothing else is being looked at.
fn known(state: &mut State, recoveries: Vec<Recovery>) {
    state.recoveries = recoveries;
    let at_home = state.screens.len() == 1 && state.dialog.is_none();
    if !state.offered && at_home && state.unfinished().next().is_some() {
        act::offer_recoveries(state);
    }
    state.offered = true;
}

/// An answer counts only for the plan that is being waited for: the operator may have gone on to another one.
fn planned(state: &mut State, answer: Result<(Box<Plan>, Option<Strategy>), Error>) {
    let Some(planning) = state.planning.as_mut().filter(|p| p.answer == Answer::Making) else { return };
    match answer {
        Ok((plan, strategy)) if answers(planning, &plan, strategy) => planning.answer = Answer::Made(plan, strategy),
        Ok(_) => {}
        Err(error) => planning.answer = Answer::Failed(error),
    }
}

fn answers(planning: &Planning, plan: &Plan, strategy: Option<Strategy>) -> bool {
    let same_way = planning.retarget.is_some() == strategy.is_some();
    let same_backup = planning.backup.as_ref().is_none_or(|id| *id == plan.backup.id);
    same_way && same_backup && plan.target == planning.target
}

fn happened(state: &mut State, event: &Event) {
    if state.following.as_deref() != Some(event.recovery.as_str()) {
        return;
    }
    if matches!(event.what, What::StepStarted { .. }) {
        state.step_began = Some(event.at);
    }
    let before = state.recovery_state();
    state.recovery.fold(event);
    if let Some(now) = state.recovery_state().filter(|now| Some(*now) != before) {
        turned(state, now);
    }
}

/// The followed recovery is in another state: its screen follows, and elsewhere the status line says so.
fn turned(state: &mut State, now: RecoveryState) {
    let screen = act::screen_of(now);
    let waited_for = matches!(state.asked, Some(ActionKind::Start | ActionKind::Retarget | ActionKind::Cancel));
    if waited_for && screen == Screen::Paused {
        state.asked = None;
    }
    match state.screens.last_mut() {
        Some(top @ (Screen::Recovery | Screen::Paused)) => {
            if *top != screen {
                *top = screen;
                state.scroll = 0;
                // What was asked about the state before makes no sense any more.
                state.dialog = state.dialog.take().filter(|d| matches!(d, Dialog::Error(_) | Dialog::Help));
            }
        }
        _ => {
            for below in &mut state.screens {
                if matches!(below, Screen::Recovery | Screen::Paused) {
                    *below = screen;
                }
            }
            let name = state.following.clone().unwrap_or_default();
            state.say(format!("{name} is now {now}; o opens it"));
        }
    }
}

fn failed(state: &mut State, error: Error) -> Vec<Effect> {
    state.asked = None;
    let shown = state.recovery.failure.as_ref().is_some_and(|failure| failure.message == error.report().message);
    // A failure that the screen itself shows is not said twice.
    if !(shown && state.screen() == Screen::Paused) && error.report().kind != ErrorKind::Interrupted {
        state.dialog = Some(Dialog::Error(error));
    }
    if let Some(top @ Screen::Recovery) = state.screens.last_mut() {
        match state.recovery.state {
            // One that could not even begin has nothing to show.
            None => {
                state.screens.pop();
                state.following = None;
            }
            // One that was not taken further stands where it stood.
            Some(now) => *top = act::screen_of(now),
        }
    }
    vec![Effect::LoadRecoveries]
}

fn done(state: &mut State, action: ActionKind) -> Vec<Effect> {
    if state.asked == Some(action) || action != ActionKind::Cancel {
        state.asked = None;
    }
    vec![Effect::LoadRecoveries]
}

#[cfg(test)]
mod tests;
