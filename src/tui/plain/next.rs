//! What to do next, in a sentence that names commands where the screen names keys.

use crate::app::state::{Answer, Loading, ScanState};
use crate::app::{Screen, State, command, guide};
use crate::event::RecoveryState;

/// What to do next, where nothing is being asked and nothing is waited for.
pub(super) fn next(state: &State) -> String {
    let said = match state.screen() {
        Screen::Points => on_points(state),
        Screen::Plan => on_plan(state),
        Screen::Paused => on_paused(state),
        _ => None,
    };
    said.map_or_else(|| guide::next(state), str::to_owned)
}

fn can(state: &State, name: &str) -> bool {
    command::named(name).is_some_and(|command| (command.enabled)(state).is_ok())
}

fn on_points(state: &State) -> Option<&'static str> {
    if state.retarget.is_some() {
        return Some(
            "choose where it shall stop instead: choose N, find, then stop-before or stop-after; back leaves it.",
        );
    }
    match &state.catalog {
        Loading::Failed(_) => return Some("nothing can be recovered until this is mended; reload tries again."),
        Loading::Loaded(catalog) if catalog.backups.iter().any(crate::catalog::Backup::is_usable) => {}
        _ => return None,
    }
    if state.points.is_empty() {
        return match state.scan.state {
            ScanState::Cancelled | ScanState::Failed(_) => Some("reload reads the archive again; quit leaves."),
            _ => None,
        };
    }
    let selected = state.points.selected();
    Some(match selected {
        Some(point) if state.points.is_suspect(point) && state.reach.reaches(point) => {
            "did this do the damage? stop-before plans a recovery to just before it. Else: suspects, find WORD, show."
        }
        Some(point) if !state.reach.reaches(point) => "recovery cannot stop here; last goes to the newest transaction.",
        _ => {
            "find what did the damage: suspects, find WORD, show around TIME. Then stop-before; or target-time TIME. A \
             plan changes nothing."
        }
    })
}

fn on_plan(state: &State) -> Option<&'static str> {
    let planning = state.planning.as_ref()?;
    Some(match &planning.answer {
        Answer::Making => return None,
        Answer::Failed(_) if can(state, "take") => "no plan can be made; take plans what can be reached, back leaves.",
        Answer::Failed(_) => "no plan can be made; back goes to choose another target.",
        Answer::Made(plan, None) if plan.is_forbidden() && can(state, "make-way") => {
            "this cannot be started. make-way renames what is there; directory takes another one."
        }
        Answer::Made(plan, None) if plan.is_forbidden() => {
            "this cannot be started: see the errors. directory and change plan it otherwise; back leaves."
        }
        Answer::Made(plan, _) if plan.is_forbidden() => return None,
        Answer::Made(..) if state.read_only => return None,
        Answer::Made(_, Some(approach)) if approach.strategy.empties_directory() => {
            "start asks for the name, then makes it anew. Nothing was changed yet."
        }
        Answer::Made(plan, None) if plan.make_way.is_some() => {
            "start asks for the name; then it renames what is there, and begins."
        }
        Answer::Made(..) => {
            "start carries it out; nothing was changed yet. show has all of it, with the settings; back leaves it."
        }
    })
}

fn on_paused(state: &State) -> Option<&'static str> {
    if state.asked.is_some() {
        return None;
    }
    let differs = state.recovery.recovery().and_then(|recovery| recovery.matches_prediction) == Some(false);
    let promoted = state.recovery.promoted_to.is_some();
    let retargets = can(state, "retarget");
    Some(match state.recovery_state()? {
        RecoveryState::Paused if differs => {
            "look at it before you decide (sql QUERY, look): it is not where it should be."
        }
        RecoveryState::Paused if state.read_only => "look at it: sql QUERY, or look. Nothing is changed.",
        RecoveryState::Paused => {
            "look at it: sql QUERY, or look. If it is right, promote; if not, retarget; discard removes it."
        }
        RecoveryState::Promoted => {
            "done. checklist lists what is left to do, archiving and a new base backup above all."
        }
        RecoveryState::ShutDown | RecoveryState::Failed if state.read_only => "nothing is changed; back leaves.",
        RecoveryState::ShutDown if promoted => "it was promoted: start it with pg_ctl, or discard it.",
        RecoveryState::ShutDown if retargets => "retarget takes it elsewhere, discard removes it.",
        RecoveryState::ShutDown => "discard removes it.",
        RecoveryState::Failed if retargets => {
            "read the reason. resume tries again, retarget another target, discard removes it."
        }
        RecoveryState::Failed => "read the reason. resume tries again, discard removes it.",
        RecoveryState::Discarded => "back goes to the recovery points.",
        _ => return None,
    })
}
