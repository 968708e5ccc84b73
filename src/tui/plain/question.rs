//! What an open form or menu asks, in lines.

use crate::app::dialog::{Choice, Confirm, Menu, Reading, Stop, TargetForm};
use crate::app::query::{Said, SqlForm};
use crate::app::{ActionKind, Dialog, State, guide};
use crate::core::Zone;
use crate::tui::screens::sql;
use crate::tui::theme::Theme;
use crate::tui::words;

use super::home;

/// What tells a question from the one before it: it is asked once.
pub(super) fn name(dialog: &Dialog) -> String {
    match dialog {
        Dialog::Menu(menu) => format!("{}: {}", menu.title, menu.text.join(" ")),
        Dialog::Target(form) => form.kind.title().to_owned(),
        Dialog::Value(form) => form.kind.title().to_owned(),
        Dialog::Confirm(confirm) => format!("{:?} {}", confirm.what, confirm.name),
        other => format!("{:?}", std::mem::discriminant(other)),
    }
}

/// What is asked, with what can be answered.
pub(super) fn ask(state: &State, dialog: &Dialog) -> Vec<String> {
    match dialog {
        Dialog::Menu(menu) => ask_menu(menu),
        Dialog::Target(form) => ask_target(state.zone, form),
        Dialog::Directory(form) => {
            let now = form.field.text();
            let mut lines = vec!["recover into which directory? The whole path of a new or empty one.".to_owned()];
            if !now.is_empty() {
                lines.push(format!("  so far: {now}"));
            }
            lines.extend(form.problem().map(|problem| format!("  {problem}")));
            lines
        }
        Dialog::Value(form) => vec![form.kind.title().to_owned(), format!("  {}", form.kind.help())],
        Dialog::Runbook(field) => vec![
            "write the runbook to which file? A shell script, and the same as Markdown beside it.".to_owned(),
            format!("  for example: {}", field.text()),
        ],
        Dialog::BaseBackup(_) => {
            vec!["take the base backup into which directory? The whole path of a new or empty one.".to_owned()]
        }
        Dialog::Scratch(form) => vec![
            "make drills below which directory? Its whole path; each drill makes a new one below it.".to_owned(),
            format!("  for example: {}", form.field.text()),
        ],
        Dialog::Sql(form) => ask_sql(form),
        Dialog::Confirm(confirm) => ask_confirm(confirm),
        Dialog::Find(_) => vec![
            "find what? A restore point, a suspect's relation or kind, a transaction id, a time, an LSN.".to_owned(),
        ],
        Dialog::Suspects(_) => home::suspects(state),
        Dialog::Error(error) => error.to_string().lines().map(str::to_owned).collect(),
        // Help is told by words of its own; what is added to the interface says there what it wants.
        _ => vec![guide::next(state)],
    }
}

fn ask_menu(menu: &Menu) -> Vec<String> {
    let mut lines = vec![menu.title.clone()];
    lines.extend(menu.text.iter().map(|text| format!("  {text}")));
    for (number, choice) in (1..).zip(&menu.choices) {
        lines.push(choice_line(number, choice));
    }
    lines.push("answer with a number or a letter; an empty line leaves everything as it is".to_owned());
    lines
}

fn choice_line(number: usize, choice: &Choice) -> String {
    let key = choice.key.map(|key| format!(" or {key}")).unwrap_or_default();
    let meaning = if choice.meaning.is_empty() { String::new() } else { format!(": {}", choice.meaning) };
    format!("  {number}{key}  {}{meaning}", choice.label)
}

fn ask_target(zone: Zone, form: &TargetForm) -> Vec<String> {
    let mut lines = vec![format!("{}. Type it: {}", form.kind.title(), form.kind.examples())];
    match &form.reading {
        Reading::Empty => {}
        Reading::Bad(why) => lines.push(format!("  not understood: {why}")),
        Reading::Good(_, words) | Reading::Doubtful(_, words) => {
            lines.extend(words.iter().map(|words| format!("  {words}")));
        }
    }
    if form.kind.has_sides() {
        let other = if form.inclusive { "before" } else { "after" };
        lines
            .push(format!("  which side: {}; “{other}” behind it takes the other one", form.kind.side(form.inclusive)));
    }
    let others = if form.timelines.len() > 1 { "; “timeline N” behind it takes another one" } else { "" };
    lines.push(format!("  along timeline {}{others}", form.timeline()));
    if let Stop::At(resolved) = &form.stop {
        lines.push(format!("  will stop {}", words::predicted(resolved)));
        lines.extend(resolved.last_kept.as_ref().map(|place| format!("  last kept: {}", words::place(place, zone))));
    }
    let offered = form.offered(zone);
    if !offered.is_empty() {
        lines.push(format!("  did you mean {}?", offered.join(" or ")));
    }
    if !form.names.is_empty() {
        lines.push(format!("  there are: {}", form.names.join(", ")));
    }
    lines
}

fn ask_sql(form: &SqlForm) -> Vec<String> {
    let others = if form.databases.len() > 1 { "; “database NAME” takes another one" } else { "" };
    vec![
        format!("ask the recovered server what? The database is {}{others}.", form.database()),
        "  one statement, in a transaction that can only read; an empty line leaves".to_owned(),
    ]
}

/// What the server said, once it has.
pub(super) fn said(form: &SqlForm) -> Option<Vec<String>> {
    match &form.answer {
        Said::Rows(rows) => {
            let lines = sql::table(rows, 0, usize::MAX, Theme::new(false));
            Some(lines.iter().map(ToString::to_string).collect())
        }
        Said::Refused(error) => Some(error.to_string().lines().map(str::to_owned).collect()),
        Said::Unasked | Said::Asked => None,
    }
}

fn ask_confirm(confirm: &Confirm) -> Vec<String> {
    let title = match confirm.what {
        ActionKind::Promote => "promote: end recovery for good?",
        ActionKind::Discard => "discard: remove what the recovery made?",
        ActionKind::Start => "rename the data directory that is there?",
        _ => "unpack again?",
    };
    let mut lines = vec![title.to_owned()];
    lines.extend(confirm.text.iter().map(|text| format!("  {text}")));
    lines.push(format!("to do it, type {} on a line of its own; an empty line leaves it", confirm.name));
    lines
}
