//! The recoveries that this machine knows, as a menu.

use super::act::nothing;
use super::dialog::{Choice, Dialog, Menu, Then};
use super::state::{Known, State};
use crate::core::progress::grouped;
use crate::event::RecoveryState;

/// Offers all of them, what is over last.
pub(super) fn offer_all(state: &mut State) {
    let rank = |known: &&Known| match known.recovery.state {
        RecoveryState::Discarded => 2,
        RecoveryState::Promoted => 1,
        _ => 0,
    };
    let mut listed: Vec<&Known> = state.recoveries.iter().collect();
    listed.sort_by_key(rank);
    offer(state, choices_of(state, &listed));
}

/// Offers what is not discarded, when the program begins.
pub(super) fn offer_unfinished(state: &mut State) {
    let is_left = |known: &&Known| known.recovery.state != RecoveryState::Discarded;
    let (done, unfinished): (Vec<&Known>, Vec<&Known>) =
        state.recoveries.iter().filter(is_left).partition(|known| known.recovery.state == RecoveryState::Promoted);
    offer(state, choices_of(state, &[unfinished, done].concat()));
}

/// Only with the catalog it is known which recoveries are another cluster's: those that are being offered say so.
pub(super) fn offer_again(state: &mut State) {
    let Some(Dialog::Menu(menu)) = &state.dialog else { return };
    let offered = menu.choices.iter().filter_map(|choice| match &choice.then {
        Then::Open(id) => state.recoveries.iter().find(|known| known.recovery.id == *id),
        _ => None,
    });
    let (offered, selected) = (offered.collect::<Vec<_>>(), menu.selected);
    if offered.is_empty() {
        return;
    }
    offer(state, choices_of(state, &offered));
    if let Some(Dialog::Menu(menu)) = &mut state.dialog {
        menu.selected = selected.min(menu.choices.len().saturating_sub(1));
    }
}

fn choices_of(state: &State, recoveries: &[&Known]) -> Vec<Choice> {
    let choice = |known: &&Known| {
        let recovery = &known.recovery;
        let other = if state.is_another_cluster(known.system_identifier) { "  another cluster" } else { "" };
        Choice {
            key: None,
            label: format!("{}  {}{other}", recovery.id, recovery.state),
            meaning: format!("{}, in {}", recovery.target.in_words(state.zone), recovery.directory.display()),
            then: Then::Open(recovery.id.clone()),
        }
    };
    recoveries.iter().map(choice).collect()
}

fn offer(state: &mut State, mut choices: Vec<Choice>) {
    choices.push(nothing("none of them", "goes to the recovery points"));
    let text = match state.unfinished().count() as u64 {
        0 => "All of them are finished.".to_owned(),
        1 => "One is not finished.".to_owned(),
        open => format!("{} are not finished.", grouped(open)),
    };
    let title = "Recoveries on this machine".to_owned();
    state.dialog = Some(Dialog::Menu(Menu { title, text: vec![text], choices, selected: 0 }));
}
