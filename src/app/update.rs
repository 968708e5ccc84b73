//! The one place where something that happened changes what is known.

use super::act;
use super::archive;
use super::checklist;
use super::command::Act;
use super::dialog::Dialog;
use super::drills;
use super::editor;
use super::effect::Effect;
use super::keys::key_of;
use super::log;
use super::msg::{ActionKind, Msg};
use super::points::Points;
use super::press;
use super::query;
use super::reach::Reach;
use super::recoveries;
use super::state::{Answer, Known, Loading, Planning, ScanState, Screen, State};
use std::sync::Arc;

use crate::catalog::{Catalog, Overview, Point};
use crate::core::{Target, TimelineId, Xid};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, RecoveryState, What};
use crate::plan::{Approach, Plan, StepId};

/// Folds a message into the state; returns what has to be done outside.
pub fn update(state: &mut State, msg: Msg) -> Vec<Effect> {
    let mut effects = fold(state, msg);
    effects.extend(look_after_points(state));
    effects.extend(archive::look_after(state));
    effects.extend(log::look_after(state));
    effects.extend(drills::look_after(state));
    effects.extend(ask_where(state).map(|target| Effect::Resolve { target }));
    effects
}

/// Where recovery would stop is asked as soon as a target is typed.
fn ask_where(state: &mut State) -> Option<Target> {
    let is_listed = state.loaded().is_some();
    match &mut state.dialog {
        Some(Dialog::Target(form)) if is_listed => form.ask(&state.located),
        _ => None,
    }
}

/// The chart follows the cursor, and what is seen is fetched.
fn look_after_points(state: &mut State) -> Vec<Effect> {
    let backups = match &state.catalog {
        Loading::Loaded(catalog) => catalog.backups.as_slice(),
        Loading::Loading | Loading::Failed(_) => &[],
    };
    state.chart.refresh(&state.points, backups, &state.reach);
    super::course::refresh(state);
    // A screen more in either direction: whoever goes on finds it there.
    let rows = u64::from(state.size.1).max(10);
    let wanted = state.points.wanted(rows, &state.chart.view().wanted);
    wanted.into_iter().map(|(timeline, numbers)| Effect::LoadPoints { timeline, numbers }).collect()
}

fn fold(state: &mut State, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Started => return started(state),
        Msg::Key(key) => return press::key(state, key),
        Msg::Command(act) => return press::command(state, act),
        Msg::Paste(text) => return press::paste(state, &text),
        Msg::Click(hit) => return press::click(state, hit),
        Msg::Wheel { rows, over } => press::wheel(state, rows, over),
        Msg::Resize(columns, rows) => state.size = (columns, rows),
        Msg::Drawn { scroll_max, page } => {
            state.page = page;
            drawn(state, scroll_max);
        }
        Msg::Tick(now) => tick(state, now),
        Msg::Catalog(answer) => return catalog(state, answer),
        Msg::Overview(overview) => return overview_came(state, overview),
        Msg::Points { timeline, number, points } => points_came(state, timeline, number, points),
        Msg::Located { xid, points } => located(state, xid, points),
        Msg::ScanProgress { done, total } => (state.scan.done, state.scan.total) = (done, total),
        Msg::ScanFinished(answer) => scanned(state, answer),
        Msg::Recoveries(recoveries) => known(state, recoveries),
        Msg::Resolved { target, answer } => {
            if let Some(Dialog::Target(form)) = &mut state.dialog {
                form.answered(&target, answer);
            }
        }
        Msg::Runbook { file, answer } => act::runbook_came(state, file, answer),
        Msg::Planned(answer) => planned(state, answer.map(|plan| (plan, None))),
        Msg::RetargetPlanned(answer) => planned(state, answer.map(|(plan, approach)| (plan, Some(approach)))),
        Msg::Checked(answer) => query::checked(state, answer),
        Msg::Databases(answer) => query::databases_came(state, answer),
        Msg::Answered(answer) => query::answered(state, answer),
        Msg::Checklist(answer) => checklist::came(state, answer),
        Msg::Archive(news) => archive::came(state, news),
        Msg::Log(news) => log::came(state, news),
        Msg::Drill(news) => return drills::came(state, news),
        Msg::Event(event) => return happened(state, &event),
        Msg::Interrupted { recovery, found } => {
            if state.following.as_deref() == Some(recovery.as_str()) {
                state.interrupted = Some(found);
            }
        }
        Msg::Failed(error) => return failed(state, error),
        Msg::Done(action) => return done(state, action),
        Msg::Note(text) => state.say(text),
        Msg::Edited { edit, answer } => return editor::came(state, edit, answer),
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
        state.scan.pace.observe(now.unix_micros() as f64 / 1e6, state.scan.done);
    }
}

fn catalog(state: &mut State, answer: Result<Catalog, Error>) -> Vec<Effect> {
    match answer {
        Ok(catalog) => {
            state.backup = catalog.backups.iter().position(crate::catalog::Backup::is_usable).unwrap_or(0);
            state.points = Points::of(&catalog);
            state.reach = Reach::of(&catalog, &[]);
            state.catalog = Loading::Loaded(catalog);
            recoveries::offer_again(state);
            state.scan.state = ScanState::Running;
            vec![Effect::LoadOverview, Effect::Drill(drills::Ask::Forecast)]
        }
        Err(error) => {
            state.catalog = Loading::Failed(error.clone());
            state.dialog = Some(Dialog::Error(error));
            Vec::new()
        }
    }
}

/// More is known: the cursor, the search and the list of suspects stay where they are.
fn overview_came(state: &mut State, overview: Arc<Overview>) -> Vec<Effect> {
    if let Some(Dialog::Suspects(list)) = &mut state.dialog {
        list.keep_place(&state.points.overview().suspects, &overview.suspects);
    }
    let now_complete = overview.complete && !state.points.overview().complete;
    if let Loading::Loaded(catalog) = &state.catalog
        && overview.damaged != state.points.overview().damaged
    {
        state.reach = Reach::of(catalog, &overview.damaged);
    }
    state.points.set_overview(overview);
    if now_complete {
        state.located.forget_missing();
    }
    search_again(state);
    // What was not found in a part may be in the whole.
    let unlocated = state.search.as_ref().and_then(|search| search.unlocated).filter(|_| now_complete);
    let mut effects = unlocated.map_or_else(Vec::new, |xid| act::locate(state, xid));
    if now_complete {
        effects.extend(press::read_again(state));
    }
    effects
}

fn points_came(state: &mut State, timeline: TimelineId, number: u64, points: Result<Vec<Point>, Error>) {
    state.points.put(timeline, number, points);
}

fn search_again(state: &mut State) {
    if let Some(search) = &state.search {
        state.search = Some(search.again(&state.points, state.around()));
    }
}

/// A transaction was found, or was not: whoever waits for that goes on.
fn located(state: &mut State, xid: Xid, points: Result<Vec<Point>, Error>) {
    let waited = state.search.as_ref().is_some_and(|search| search.unlocated == Some(xid));
    match points {
        Ok(points) => {
            state.located.put(xid, points);
            search_again(state);
            if waited && state.search.as_ref().is_some_and(|search| search.current.is_none()) {
                act::first_match(state);
            }
        }
        Err(error) => {
            state.located.give_up(xid);
            state.search = state.search.take().filter(|_| !waited);
            state.refuse(error.report().message.clone());
        }
    }
    if let Some(Dialog::Target(mut form)) = state.dialog.take_if(|dialog| matches!(dialog, Dialog::Target(_))) {
        form.read(state);
        state.dialog = Some(Dialog::Target(form));
    }
}

fn scanned(state: &mut State, answer: Result<(), Error>) {
    let first_backup = state.loaded().and_then(|catalog| {
        catalog.backups.iter().filter(|backup| backup.is_usable()).filter_map(|backup| backup.finished_at).min()
    });
    if let Some(ended) = first_backup {
        state.chart.leave_out_before(ended);
    }
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
fn known(state: &mut State, recoveries: Vec<Known>) {
    state.recoveries = recoveries;
    let at_home = state.screens.len() == 1 && state.dialog.is_none();
    if !state.offered && at_home && state.unfinished().next().is_some() {
        recoveries::offer_unfinished(state);
    }
    state.offered = true;
}

/// An answer counts only for the plan that is being waited for: the operator may have gone on to another one.
fn planned(state: &mut State, answer: Result<(Box<Plan>, Option<Box<Approach>>), Error>) {
    let Some(planning) = state.planning.as_mut().filter(|p| p.answer == Answer::Making) else { return };
    match answer {
        Ok((plan, approach)) if answers(planning, &plan, approach.is_some()) => {
            // How many transactions are lost is counted there.
            state.points.attend(Some((plan.resolved.timeline, plan.resolved.lsn)));
            state.chosen = Some(Box::new(plan.resolved.clone()));
            planning.answer = Answer::Made(plan, approach);
        }
        Ok(_) => {}
        Err(error) => planning.answer = Answer::Failed(error),
    }
}

fn answers(planning: &Planning, plan: &Plan, is_retarget: bool) -> bool {
    let same_way = planning.retarget.is_some() == is_retarget;
    let wanted = &planning.wanted;
    let same_backup = wanted.backup.as_ref().is_none_or(|id| *id == plan.backup.id);
    let same_port = wanted.port.is_none_or(|port| port == plan.server.port);
    let same_settings = wanted.settings.iter().all(|setting| plan.settings.contains(setting));
    same_way && same_backup && same_port && same_settings && plan.target == wanted.target
}

fn happened(state: &mut State, event: &Event) -> Vec<Effect> {
    if state.following.as_deref() != Some(event.recovery.as_str()) {
        return Vec::new();
    }
    if matches!(event.what, What::StepStarted { .. }) {
        state.step_began = Some(event.at);
        state.interrupted = None;
    }
    let before = state.recovery_state();
    if let What::Approach { strategy, why, .. } = &event.what
        && state.recovery.strategy != Some(*strategy)
    {
        state.refuse(format!("the copy did not allow it in place, it is made anew: {why}"));
    }
    state.recovery.fold(event);
    let mut effects = Vec::new();
    if let Some(now) = state.recovery_state().filter(|now| Some(*now) != before) {
        turned(state, now);
        query::forget(state);
        if now == RecoveryState::Paused {
            effects = query::check(state);
        }
    }
    // Whether the transaction that it stopped at drops something is said beside it.
    if let What::Stopped { stopped, .. } = &event.what
        && let Some(xid) = stopped.xid
    {
        effects.extend(act::locate(state, xid));
    }
    effects
}

/// The followed recovery is in another state: its screen follows, and elsewhere the status line says so.
fn turned(state: &mut State, now: RecoveryState) {
    let screen = act::screen_of(now);
    let waited_for =
        matches!(state.asked, Some(ActionKind::Start | ActionKind::Resume | ActionKind::Retarget | ActionKind::Cancel));
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
            let open = key_of(state, Act::Recoveries);
            state.say(format!("{name} is now {now}; {open} opens it"));
        }
    }
}

fn failed(state: &mut State, error: Error) -> Vec<Effect> {
    let cancelled = state.asked.take() == Some(ActionKind::Cancel);
    if cancelled && error.report().kind == ErrorKind::Interrupted && state.recovery.running == Some(StepId::Replay) {
        act::leave_replaying(state);
        return vec![Effect::LoadRecoveries];
    }
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
    if action == ActionKind::Item {
        return checklist::ask(state);
    }
    vec![Effect::LoadRecoveries]
}

#[cfg(test)]
pub(crate) mod tests;
