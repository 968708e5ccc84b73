//! Where recovery is to stop, and how far replay has come, in time.

use super::chart::{View, view_of};
use super::dialog::{Dialog, Stop};
use super::state::State;
use super::window::Window;
use crate::core::{Lsn, Timestamp};
use crate::plan::Plan;
use crate::resolve::Resolved;

/// The time from a recovery's base backup to beyond its stop, with what lies on the way: counted once for every change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Course {
    view: View,
    /// The revision of what is known of the archive, and the window that it was counted for.
    basis: Option<(u64, Option<Window>)>,
}

impl Course {
    /// What is drawn.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// Counts anew what has changed.
pub(super) fn refresh(state: &mut State) {
    let plan = state.recovery.plan.as_ref();
    let window = plan.and_then(window);
    // The followed one is another cluster's recovery: what lies in this archive is not on its way.
    let basis = Some((state.points.revision(), window)).filter(|_| !state.follows_another_cluster());
    if state.course.basis == basis && state.course.view.window == window {
        return;
    }
    let backups = state.loaded().map_or(&[][..], |catalog| catalog.backups.as_slice());
    let path = plan.map_or(&[][..], |plan| plan.resolved.path.as_slice());
    let is_on = |timeline| path.contains(&timeline) || plan.is_some_and(|plan| plan.resolved.timeline == timeline);
    let view = match (basis, window) {
        (Some(_), Some(window)) => view_of(&state.points, backups, window, &is_on),
        _ => View { window, ..View::default() },
    };
    state.course = Course { view, basis };
}

/// From the backup's end to the stop, and a tenth more; `None` where a time is not known.
fn window(plan: &Plan) -> Option<Window> {
    let from = plan.backup.finished_at.or(plan.backup.started_at)?;
    let stop = time_of(&plan.resolved)?.max(from);
    let micros = stop.unix_micros().saturating_sub(from.unix_micros());
    Some(Window::over(from, stop.plus_micros((micros / 10).max(1_000_000))))
}

/// When a recovery stops: the record's time, else that of the transaction next to it.
#[must_use]
pub fn time_of(resolved: &Resolved) -> Option<Timestamp> {
    let beside = || resolved.last_kept.or(resolved.first_lost).and_then(|place| place.at);
    resolved.at.or_else(beside)
}

/// Where recovery would stop for the target that is being typed, else for the plan that was made last, else for the
/// recovery that another target is being picked for.
#[must_use]
pub fn chosen(state: &State) -> Option<&Resolved> {
    if let Some(Dialog::Target(form)) = &state.dialog {
        match &form.stop {
            Stop::At(resolved) => return Some(resolved),
            _ if !form.field.text().is_empty() => return None,
            _ => {}
        }
    }
    let picking = || state.recovery.plan.as_ref().filter(|_| state.retarget.is_some()).map(|plan| &plan.resolved);
    state.plan().map(|plan| &plan.resolved).or(state.chosen.as_deref()).or_else(picking)
}

/// When the last transaction ended that was replayed; where the server did not say so yet, as much of the time as of
/// the WAL.
#[must_use]
pub fn replayed(state: &State) -> Option<Timestamp> {
    let (buffer, window) = (&state.recovery, state.course.view.window?);
    let plan = buffer.plan.as_ref()?;
    if let Some(at) = buffer.last_commit_at.filter(|at| window.contains(*at)) {
        return Some(at);
    }
    let progress = buffer.progress.as_ref().and_then(|progress| progress.replayed_lsn);
    let lsn = progress.or(buffer.replayed_lsn)?;
    let stop = time_of(&plan.resolved)?;
    let from = plan.backup.stop_lsn.or(plan.backup.start_lsn)?;
    let share = share(from, lsn, plan.resolved.replay_end);
    let micros = stop.unix_micros().saturating_sub(window.from().unix_micros());
    Some(window.from().plus_micros((micros as f64 * share) as i64))
}

/// How much of the WAL from `from` to `to` lies before `at`.
fn share(from: Lsn, at: Lsn, to: Lsn) -> f64 {
    if at >= to {
        return 1.0;
    }
    at.bytes_since(from) as f64 / to.bytes_since(from).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_outside() {
        assert_eq!(share(Lsn(100), Lsn(50), Lsn(200)), 0.0);
        assert_eq!(share(Lsn(100), Lsn(150), Lsn(200)), 0.5);
        assert_eq!(share(Lsn(100), Lsn(250), Lsn(200)), 1.0);
        assert_eq!(share(Lsn(100), Lsn(100), Lsn(100)), 1.0);
    }
}
