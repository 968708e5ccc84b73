//! What is left to do after promotion, as menus: which item, and what it would change.

use super::act::nothing;
use super::dialog::{Choice, Dialog, Menu, Then};
use super::effect::Effect;
use super::field::Field;
use super::msg::ActionKind;
use super::state::{Screen, State};
use crate::error::Error;
use crate::plan::checklist::{Change, Item, ItemId, ItemState};

/// Has the list made.
pub(super) fn ask(state: &mut State) -> Vec<Effect> {
    state.say("looking at the server and its configuration …");
    state.following.clone().map(|recovery| Effect::LoadChecklist { recovery }).into_iter().collect()
}

/// Shows the list, with the first item that is left under the cursor.
pub(super) fn came(state: &mut State, answer: Result<Vec<Item>, Error>) {
    match answer {
        Ok(items) => {
            state.status = None;
            state.checklist = items;
            // Whoever has gone elsewhere meanwhile is not disturbed.
            if state.screen() == Screen::Paused {
                state.dialog = Some(Dialog::Menu(menu(&state.checklist)));
            }
        }
        Err(error) => state.dialog = Some(Dialog::Error(error)),
    }
}

fn menu(items: &[Item]) -> Menu {
    let choice = |item: &Item| Choice {
        key: None,
        label: format!("{:<8}{}", item.state.word(), item.title),
        meaning: String::new(),
        then: Then::ShowItem(item.item),
    };
    let left = items.iter().filter(|item| item.is_left()).count();
    let selected = items.iter().position(Item::is_left).unwrap_or(0);
    let text = vec![match left {
        0 => "Everything was gone through. Enter shows what was done.".to_owned(),
        _ => "Best from top to bottom. Enter shows what an item would change; nothing is done yet.".to_owned(),
    }];
    let choices = items.iter().map(choice).chain([nothing("back", "")]).collect();
    Menu { title: format!("After the promotion: {left} left"), text, choices, selected }
}

/// Shows what an item would change, and asks.
pub(super) fn show(state: &mut State, id: ItemId) {
    let Some(item) = state.checklist.iter().find(|item| item.item == id) else { return };
    let mut text: Vec<String> = item.interrupted.iter().cloned().collect();
    text.push(item.meaning.to_owned());
    text.extend(item.facts.iter().cloned());
    text.extend(item.changes.iter().filter(|change| change.matters()).flat_map(Change::diff));
    text.extend(item.commands.iter().cloned());
    if item.restarts && item.is_left() {
        text.push("The server is restarted for it; if it does not start so, everything is as before.".to_owned());
    }
    text.extend(item.cannot.iter().map(|why| format!("not now: {why}")));
    text.extend(item.said.iter().map(|said| format!("{}: {said}", item.state.word())));
    let can = item.cannot.is_none() && (item.is_left() || !item.commands.is_empty());
    let way = |key, label: &str, meaning: &str, then| Choice {
        key: Some(key),
        label: label.to_owned(),
        meaning: meaning.to_owned(),
        then,
    };
    let mut choices = vec![Choice { then: Then::Checklist, ..nothing("back", "to the list; nothing is done") }];
    if can {
        let label = if item.state == ItemState::Done { "do it again" } else { "do it" };
        choices.push(way('y', label, item.title, Then::DoItem(id)));
    }
    if item.state != ItemState::Skipped {
        choices.push(way('s', "skip it", "it is not wanted, or was done by hand", Then::SkipItem(id)));
    }
    state.dialog = Some(Dialog::Menu(Menu { title: item.title.to_owned(), text, choices, selected: 0 }));
}

/// Does an item; for a base backup it is asked first where that goes.
pub(super) fn carry_out(state: &mut State, item: ItemId, into: Option<String>) -> Vec<Effect> {
    if item == ItemId::BaseBackup && into.is_none() {
        state.dialog = Some(Dialog::BaseBackup(Field::default()));
        return Vec::new();
    }
    let Some(recovery) = state.following.clone() else { return Vec::new() };
    state.asked = Some(ActionKind::Item);
    vec![Effect::DoItem { recovery, item, into }]
}

/// Notes that an item is not wanted.
pub(super) fn skip(state: &mut State, item: ItemId) -> Vec<Effect> {
    let Some(recovery) = state.following.clone() else { return Vec::new() };
    state.asked = Some(ActionKind::Item);
    vec![Effect::SkipItem { recovery, item }]
}
