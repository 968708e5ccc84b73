//! Keys, pastes and clicks: to the dialog where one is open, else to a command.

use super::act;
use super::archive;
use super::checklist;
use super::command::{self, Act};
use super::dialog::{Dialog, Menu, Reading, SuspectList, TargetForm};
use super::drills;
use super::effect::Effect;
use super::field::Field;
use super::key::Key;
use super::log;
use super::msg::Hit;
use super::palette;
use super::query;
use super::state::{Pane, Screen, State, Wanted};
use crate::core::TargetKind;
use crate::plan::checklist::ItemId;

pub(super) fn key(state: &mut State, key: Key) -> Vec<Effect> {
    state.status = None;
    if key == Key::Ctrl('c') {
        state.dialog = None;
        return act::run(state, Act::Quit);
    }
    // A form understands every letter, but no other key stands for the way to the shell.
    if command::is_key_of(state, Act::Suspend, key) && !matches!(key, Key::Char(_)) {
        return vec![Effect::Suspend];
    }
    match state.dialog.take() {
        None => to_command(state, key),
        Some(dialog) => to_dialog(state, dialog, key),
    }
}

fn to_command(state: &mut State, key: Key) -> Vec<Effect> {
    let Some(command) = command::for_key(state, key) else { return Vec::new() };
    match (command.enabled)(state) {
        Ok(()) => act::run(state, command.act),
        Err(why) => {
            state.refuse(why);
            Vec::new()
        }
    }
}

/// A command that was given by its name: does it, or says why that cannot be now. What lies over the screen is left.
pub(super) fn command(state: &mut State, act: command::Act) -> Vec<Effect> {
    (state.status, state.dialog) = (None, None);
    let Some(command) = command::now(state).find(|command| command.act == act) else {
        state.refuse("this screen has no such command");
        return Vec::new();
    };
    match (command.enabled)(state) {
        Ok(()) => act::run(state, act),
        Err(why) => {
            state.refuse(why);
            Vec::new()
        }
    }
}

fn to_dialog(state: &mut State, dialog: Dialog, key: Key) -> Vec<Effect> {
    match dialog {
        Dialog::Menu(menu) => to_menu(state, menu, key),
        Dialog::Sql(form) => query::press(state, form, key),
        Dialog::Suspects(list) => {
            to_suspects(state, list, key);
            Vec::new()
        }
        Dialog::Palette(form) => palette::press(state, form, key),
        dialog @ (Dialog::Help | Dialog::Error(_)) if command::is_key_of(state, Act::Palette, key) => {
            palette::open(state, Some(dialog));
            Vec::new()
        }
        Dialog::Help => {
            if !leaves(state, key) && !command::is_key_of(state, Act::Help, key) {
                scroll_help(state, key);
                state.dialog = Some(Dialog::Help);
            }
            Vec::new()
        }
        Dialog::Error(error) => {
            if !leaves(state, key) && key != Key::Char(' ') {
                state.dialog = Some(Dialog::Error(error));
            }
            Vec::new()
        }
        dialog if key == Key::Esc => {
            if matches!(dialog, Dialog::Target(_)) {
                act::forget_retarget(state);
            }
            Vec::new()
        }
        dialog if key == Key::Enter => enter(state, dialog),
        dialog => edit(state, dialog, key),
    }
}

/// Whether a key leaves what has nothing to be chosen.
fn leaves(state: &State, key: Key) -> bool {
    matches!(key, Key::Esc | Key::Enter) || command::is_key_of(state, Act::Quit, key)
}

fn to_suspects(state: &mut State, mut list: SuspectList, key: Key) {
    let last = state.points.overview().suspects.len().saturating_sub(1);
    let page = usize::from(state.size.1 / 2).max(1);
    if key == Key::Esc || command::is_key_of(state, Act::Quit, key) || command::is_key_of(state, Act::Suspects, key) {
        return;
    }
    if matches!(key, Key::Enter | Key::Char(' ')) {
        return act::go_to_suspect(state, list.selected);
    }
    if command::is_key_of(state, Act::Palette, key) {
        return palette::open(state, Some(Dialog::Suspects(list)));
    }
    list.selected = match command::motion(state, key) {
        Some(Act::Up) => list.selected.saturating_sub(1),
        Some(Act::Down) => list.selected.saturating_add(1),
        Some(Act::PageUp) => list.selected.saturating_sub(page),
        Some(Act::PageDown) => list.selected.saturating_add(page),
        Some(Act::First) => 0,
        Some(Act::Last) => last,
        _ => list.selected,
    }
    .min(last);
    state.dialog = Some(Dialog::Suspects(list));
}

fn scroll_help(state: &mut State, key: Key) {
    let rows = match command::motion(state, key) {
        Some(Act::Up) => -1,
        Some(Act::Down) => 1,
        Some(Act::PageUp) => -10,
        Some(Act::PageDown) => 10,
        Some(Act::First) => isize::MIN / 2,
        Some(Act::Last) => isize::MAX / 2,
        _ if key == Key::Char(' ') => 10,
        _ => 0,
    };
    state.help_scroll = state.help_scroll.saturating_add_signed(rows).min(state.scroll_max);
}

fn to_menu(state: &mut State, mut menu: Menu, key: Key) -> Vec<Effect> {
    let last = menu.choices.len().saturating_sub(1);
    // The letters of the ways come before everything else.
    if let Some(place) = menu.choices.iter().position(|choice| choice.key.map(Key::Char) == Some(key)) {
        menu.selected = place;
        return take(state, &menu);
    }
    match key {
        Key::Esc => return Vec::new(),
        Key::Enter => return take(state, &menu),
        // Out of a list as out of a screen, where it is not one of the ways.
        key if command::is_key_of(state, Act::Quit, key) => return Vec::new(),
        key if command::is_key_of(state, Act::Palette, key) => {
            palette::open(state, Some(Dialog::Menu(menu)));
            return Vec::new();
        }
        key => {
            menu.selected = match command::motion(state, key) {
                Some(Act::Up) => menu.selected.saturating_sub(1),
                Some(Act::Down) => (menu.selected + 1).min(last),
                Some(Act::PageUp | Act::First) => 0,
                Some(Act::PageDown | Act::Last) => last,
                _ => menu.selected,
            };
        }
    }
    state.dialog = Some(Dialog::Menu(menu));
    Vec::new()
}

fn take(state: &mut State, menu: &Menu) -> Vec<Effect> {
    menu.choices.get(menu.selected).map_or_else(Vec::new, |choice| act::chosen(state, choice.then.clone()))
}

/// Enter in a form: goes on where what was typed is understood, else stays.
fn enter(state: &mut State, dialog: Dialog) -> Vec<Effect> {
    match dialog {
        Dialog::Target(form) => match form.target() {
            Some(target) if state.screen() == Screen::Drills => drills::make_to(state, form, target),
            Some(target) => {
                let effects = act::plan_for(state, target);
                act::forget_retarget(state);
                effects
            }
            None => {
                state.dialog = Some(Dialog::Target(form));
                Vec::new()
            }
        },
        Dialog::Find(form) => act::find(state, form.field.text()),
        Dialog::Directory(form) if form.problem().is_none() => {
            let directory = form.field.text().to_owned();
            state.directory.clone_from(&directory);
            // What was said of the one does not hold for the other.
            act::make_plan(state, Wanted { directory, make_way: false, ..form.wanted })
        }
        Dialog::FindInLog(field) => {
            log::find(state, field.text());
            Vec::new()
        }
        Dialog::Runbook(field) if !field.text().trim().is_empty() => {
            act::write_runbook(state, field.text().trim().to_owned(), false)
        }
        Dialog::Scratch(form) => drills::scratch_typed(state, form),
        Dialog::BaseBackup(field) if field.text().trim().starts_with('/') => {
            checklist::carry_out(state, ItemId::BaseBackup, Some(field.text().trim().to_owned()))
        }
        Dialog::BaseBackup(field) => {
            state.refuse("give the whole path, from / on");
            state.dialog = Some(Dialog::BaseBackup(field));
            Vec::new()
        }
        Dialog::Value(form) => match form.wanted() {
            Ok(wanted) => act::make_plan(state, wanted),
            Err(why) => {
                state.refuse(why);
                state.dialog = Some(Dialog::Value(form));
                Vec::new()
            }
        },
        Dialog::Confirm(confirm) if confirm.is_typed() => act::confirmed(state, confirm.what),
        Dialog::Confirm(confirm) => {
            state.refuse(format!("type {} to confirm, or Esc to leave it", confirm.name));
            state.dialog = Some(Dialog::Confirm(confirm));
            Vec::new()
        }
        other => {
            state.dialog = Some(other);
            Vec::new()
        }
    }
}

fn edit(state: &mut State, mut dialog: Dialog, key: Key) -> Vec<Effect> {
    match &mut dialog {
        Dialog::Find(form) => {
            form.field.press(key);
            form.read(state);
        }
        Dialog::Target(form) => match key {
            Key::Tab => {
                form.timeline = (form.timeline + 1) % form.timelines.len().max(1);
                form.read(state);
            }
            Key::Up | Key::Down if form.kind.has_sides() => form.inclusive = !form.inclusive,
            Key::Up | Key::Down => complete(form, state, key == Key::Down),
            key => {
                form.field.press(key);
                form.read(state);
            }
        },
        Dialog::Directory(form) => {
            form.field.press(key);
        }
        Dialog::Value(form) => {
            form.field.press(key);
        }
        Dialog::Scratch(form) => {
            form.field.press(key);
        }
        Dialog::Runbook(field) | Dialog::BaseBackup(field) | Dialog::FindInLog(field) => {
            field.press(key);
        }
        Dialog::Confirm(confirm) => {
            confirm.field.press(key);
        }
        Dialog::Menu(_)
        | Dialog::Sql(_)
        | Dialog::Suspects(_)
        | Dialog::Palette(_)
        | Dialog::Help
        | Dialog::Error(_) => {}
    }
    typed(state, dialog)
}

/// Leaves a form open; what it asks about and nobody knows is looked for.
fn typed(state: &mut State, mut dialog: Dialog) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let Dialog::Target(form) = &mut dialog {
        let unknown = match form.reading {
            Reading::Doubtful(TargetKind::Xid(xid), _) => Some(xid),
            // What is at hand is one timeline's; the others may have that number, too.
            Reading::Good(TargetKind::Xid(xid), _) if form.timelines.len() > 1 => Some(xid),
            _ => None,
        };
        if let Some(xid) = unknown {
            effects = act::locate(state, xid);
            form.read(state);
        }
    }
    state.dialog = Some(dialog);
    effects
}

/// More is known than when the target that is being typed was read.
pub(super) fn read_again(state: &mut State) -> Vec<Effect> {
    match state.dialog.take() {
        Some(Dialog::Target(mut form)) => {
            form.read(state);
            typed(state, Dialog::Target(form))
        }
        dialog => {
            state.dialog = dialog;
            Vec::new()
        }
    }
}

/// Puts the next of the names that are offered into the field, and goes on offering the same ones.
fn complete(form: &mut TargetForm, state: &State, down: bool) {
    let offered = std::mem::take(&mut form.names);
    let now = offered.iter().position(|name| name == form.field.text());
    let next = match (now, down) {
        (None, true) => Some(0),
        (None, false) => offered.len().checked_sub(1),
        (Some(now), true) => Some((now + 1) % offered.len()),
        (Some(now), false) => Some((now + offered.len() - 1) % offered.len()),
    };
    if let Some(name) = next.and_then(|next| offered.get(next)) {
        form.field = Field::new(name.clone());
    }
    form.read(state);
    form.names = offered;
}

pub(super) fn paste(state: &mut State, text: &str) -> Vec<Effect> {
    let Some(mut dialog) = state.dialog.take() else { return Vec::new() };
    match &mut dialog {
        Dialog::Find(form) => {
            form.field.paste(text);
            form.read(state);
        }
        Dialog::Target(form) => {
            form.field.paste(text);
            form.read(state);
        }
        Dialog::Directory(form) => form.field.paste(text),
        Dialog::Value(form) => form.field.paste(text),
        Dialog::Scratch(form) => form.field.paste(text),
        Dialog::Runbook(field) | Dialog::BaseBackup(field) | Dialog::FindInLog(field) => field.paste(text),
        // A name is typed so that somebody thinks about it.
        Dialog::Confirm(_) => state.refuse("the name has to be typed, not pasted"),
        Dialog::Sql(form) => form.field.paste(text),
        Dialog::Palette(form) => {
            form.field.paste(text);
            form.read(state);
        }
        Dialog::Menu(_) | Dialog::Suspects(_) | Dialog::Help | Dialog::Error(_) => {}
    }
    typed(state, dialog)
}

pub(super) fn click(state: &mut State, hit: Hit) -> Vec<Effect> {
    state.status = None;
    match (state.dialog.take(), hit) {
        (Some(Dialog::Menu(mut menu)), Hit::Choice(place)) => {
            // The first click chooses, the second one takes: nothing is done by a slip.
            if menu.selected == place {
                return take(state, &menu);
            }
            menu.selected = place;
            state.dialog = Some(Dialog::Menu(menu));
        }
        (Some(Dialog::Suspects(list)), Hit::Suspect(rank)) => {
            if list.selected == rank {
                act::go_to_suspect(state, rank);
            } else {
                state.dialog = Some(Dialog::Suspects(SuspectList { selected: rank }));
            }
        }
        (Some(Dialog::Palette(mut form)), Hit::Choice(place)) => {
            if form.selected == place {
                return palette::take(state, form);
            }
            form.selected = place;
            state.dialog = Some(Dialog::Palette(form));
        }
        (Some(dialog), _) => state.dialog = Some(dialog),
        (None, Hit::Key(pressed)) => return key(state, pressed),
        (None, Hit::Pane(pane)) => focus(state, pane),
        (None, Hit::Backup(place)) => {
            focus(state, Pane::Backups);
            let last = state.loaded().map_or(0, |catalog| catalog.backups.len().saturating_sub(1));
            state.backup = place.min(last);
        }
        (None, Hit::Point(row)) => {
            focus(state, Pane::Points);
            state.points.select(row);
        }
        (None, Hit::Timeline(timeline)) => {
            focus(state, Pane::Timelines);
            act::list_only(state, Some(timeline));
        }
        (None, Hit::Chart { column, columns }) => {
            focus(state, Pane::Chart);
            act::go_to_column(state, usize::from(column), usize::from(columns));
        }
        (None, Hit::ArchiveRow(row)) => {
            // The first click chooses, the second one goes there.
            if state.archive.choose(row) && archive::place(state).is_some() {
                archive::go(state);
            }
        }
        (None, Hit::DrillRow(row)) => drills::choose(state, row),
        (None, Hit::LogLine(at)) => log::choose(state, at),
        (None, Hit::Choice(_) | Hit::Suspect(_)) => {}
    }
    Vec::new()
}

fn focus(state: &mut State, pane: Pane) {
    if state.screen() == Screen::Points {
        state.pane = pane;
    }
}

pub(super) fn wheel(state: &mut State, rows: i32, over: Option<Hit>) {
    let rows = isize::try_from(rows).unwrap_or(0);
    let on_graph = state.screen() == Screen::Points && matches!(state.pane, Pane::Timelines | Pane::Chart);
    match (&mut state.dialog, over) {
        (Some(Dialog::Palette(form)), _) => return form.step(rows),
        (None, Some(Hit::Chart { column, columns })) => {
            act::zoom_at_column(state, rows < 0, usize::from(column), usize::from(columns));
            return;
        }
        (Some(Dialog::Suspects(list)), _) => {
            let last = state.points.overview().suspects.len().saturating_sub(1);
            list.selected = list.selected.saturating_add_signed(rows).min(last);
            return;
        }
        _ => {}
    }
    match state.dialog {
        None if on_graph => {}
        None => act::step(state, rows),
        Some(Dialog::Help) => {
            state.help_scroll = state.help_scroll.saturating_add_signed(rows).min(state.scroll_max);
        }
        Some(_) => {}
    }
}
