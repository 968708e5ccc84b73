//! From a line to what it asks for: the commands of the table by their names, unambiguous beginnings of them or their
//! keys; where a question is open, its answer.

use super::home;
use crate::app::change::ValueKind;
use crate::app::dialog::{FormKind, Menu, TargetForm, Then};
use crate::app::points::Place;
use crate::app::query::{Said, SqlForm};
use crate::app::{Act, Command, Dialog, Hit, Key, Msg, Screen, State, command};
use crate::core::{TimelineChoice, TimelineId};

/// What a line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// Nothing.
    Nothing,
    /// That these happen, one after the other.
    Do(Vec<Msg>),
    /// The same, and then a page of transactions.
    Page(Vec<Msg>),
    /// This is found, and then a page of transactions.
    Around(String),
    /// A command, and what is answered to the question that it asks.
    Command(Act, String),
    /// The open question is left, and this line read again.
    Leave(String),
    /// The open question once more.
    Ask,
    /// Something is listed.
    Show(Show),
    /// Help: of this screen, or about one command.
    Help(Option<&'static str>),
    /// It is not understood: why.
    Unknown(String),
    /// It is understood, and cannot be done: why.
    Refused(String),
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Everything about the source.
    Overview,
    /// What this screen shows: on the home screen, a page of transactions.
    Screen,
}

/// What the numbers of the last list stand for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Listed {
    /// Suspects, by where they are.
    #[default]
    Suspects,
    /// Rows of the list of transactions: which, and where that was.
    Rows(Vec<(u64, Option<Place>)>),
}

/// Words that only lines have, with what they do.
pub(super) const WORDS: [(&str, &str); 4] = [
    (
        "show",
        "Says again what this screen has; on the home screen, a page of transactions. “show around TIME” goes there first.",
    ),
    ("next, previous", "The next or the previous page of transactions."),
    (
        "choose N",
        "Goes to number N of the suspects or transactions that were listed last; “choose backup N” to a base backup's end.",
    ),
    ("overview", "Says again what there is: backups, timelines, activity, suspects, restore points, recoveries."),
];

/// What is only for the full screen.
const FOR_EYES: [Act; 13] = [
    Act::ZoomIn,
    Act::ZoomOut,
    Act::ZoomAll,
    Act::PanLeft,
    Act::PanRight,
    Act::NextPane,
    Act::PreviousPane,
    Act::Left,
    Act::Right,
    Act::Palette,
    Act::Copy,
    Act::Mouse,
    Act::Suspend,
];
/// What goes through a list, and on any other screen only scrolls.
const THROUGH_A_LIST: [Act; 6] = [Act::Up, Act::Down, Act::PageUp, Act::PageDown, Act::First, Act::Last];

/// Whether it goes somewhere in the list of transactions.
pub(super) fn moves(act: Act) -> bool {
    use Act::{
        Find, NextGap, NextMatch, NextRestorePoint, NextSuspect, PreviousGap, PreviousMatch, PreviousRestorePoint,
        PreviousSuspect,
    };
    THROUGH_A_LIST.contains(&act)
        || matches!(
            act,
            Find | NextMatch
                | PreviousMatch
                | NextSuspect
                | PreviousSuspect
                | NextRestorePoint
                | PreviousRestorePoint
                | NextGap
                | PreviousGap
        )
}

fn is_for_eyes(act: Act, screen: Screen) -> bool {
    FOR_EYES.contains(&act) || (screen != Screen::Points && THROUGH_A_LIST.contains(&act))
}

/// The commands that mean something here.
pub(super) fn commands(state: &State) -> impl Iterator<Item = &'static Command> {
    let screen = state.screen();
    command::now(state).filter(move |command| !is_for_eyes(command.act, screen))
}

/// What a line asks for now.
pub(super) fn meaning(line: &str, state: &State, listed: &Listed) -> Meaning {
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let line = line.trim();
    match &state.dialog {
        Some(dialog) => match line {
            "" | "back" => Meaning::Do(vec![Msg::Key(Key::Esc)]),
            "quit" => Meaning::Do(vec![Msg::Command(Act::Quit)]),
            "help" | "?" => Meaning::Ask,
            _ => answer(dialog, line, state),
        },
        None => ordered(line, state, listed),
    }
}

/// What is answered to an open question, whatever else these words mean.
pub(super) fn answer(dialog: &Dialog, line: &str, state: &State) -> Meaning {
    match dialog {
        Dialog::Menu(menu) => answer_menu(menu, line, state),
        Dialog::Target(form) => answer_target(form, line),
        Dialog::Sql(form) => answer_sql(form, line),
        Dialog::Value(form) if form.kind == ValueKind::Port && matches!(line, "none" | "free") => typed("", true),
        Dialog::Confirm(_) => {
            let keys = line.chars().map(Key::Char);
            let keys = std::iter::once(Key::Ctrl('u')).chain(keys).chain([Key::Enter]);
            Meaning::Do(keys.map(Msg::Key).collect())
        }
        Dialog::Directory(_)
        | Dialog::Value(_)
        | Dialog::Runbook(_)
        | Dialog::BaseBackup(_)
        | Dialog::Scratch(_)
        | Dialog::Find(_) => typed(line, true),
        _ => Meaning::Leave(line.to_owned()),
    }
}

/// A field says this, and Enter is pressed.
fn typed(text: &str, enter: bool) -> Meaning {
    let mut all = vec![Msg::Key(Key::Ctrl('u'))];
    if !text.is_empty() {
        all.push(Msg::Paste(text.to_owned()));
    }
    if enter {
        all.push(Msg::Key(Key::Enter));
    }
    Meaning::Do(all)
}

fn answer_menu(menu: &Menu, line: &str, state: &State) -> Meaning {
    let word = line.strip_prefix("choose ").unwrap_or(line).trim();
    let wanted = word.to_lowercase();
    let by_number = word.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let letter = match (wanted.as_str(), word.chars().next()) {
        ("yes", _) => Some('y'),
        (_, first) if word.chars().count() == 1 => first,
        _ => None,
    };
    let place = match by_number {
        Some(place) => Some(place).filter(|place| *place < menu.choices.len()),
        None if wanted == "no" => menu.choices.iter().position(|choice| choice.then == Then::Nothing),
        None => {
            let letters = menu.choices.iter().position(|choice| letter.is_some() && choice.key == letter);
            let labelled = |choice: &crate::app::dialog::Choice| {
                let label = choice.label.to_lowercase();
                label == wanted || label.strip_prefix("the ").or(label.strip_prefix("a ")) == Some(wanted.as_str())
            };
            letters.or_else(|| menu.choices.iter().position(labelled))
        }
    };
    match place.or_else(|| recovery_in(menu, word)) {
        Some(place) => take(menu, place),
        None if by_number.is_none() && word.chars().count() > 1 && find(word_of(line).0, state).is_ok() => {
            Meaning::Leave(line.to_owned())
        }
        None => {
            let last = menu.choices.len();
            Meaning::Unknown(format!(
                "“{line}” is none of the answers: give a number from 1 to {last}, or an empty line"
            ))
        }
    }
}

/// The first click chooses, the second one takes.
fn take(menu: &Menu, place: usize) -> Meaning {
    let clicks = if menu.selected == place { 1 } else { 2 };
    Meaning::Do(vec![Msg::Click(Hit::Choice(place)); clicks])
}

/// The recovery whose name this is, or begins so, where there is no other.
fn recovery_in(menu: &Menu, word: &str) -> Option<usize> {
    let named = |choice: &crate::app::dialog::Choice| match &choice.then {
        Then::Open(id) => Some(id.clone()),
        _ => None,
    };
    let ids: Vec<(usize, String)> =
        menu.choices.iter().enumerate().filter_map(|(place, choice)| Some((place, named(choice)?))).collect();
    if let Some((place, _)) = ids.iter().find(|(_, id)| id == word) {
        return Some(*place);
    }
    let mut begins = ids.iter().filter(|(_, id)| !word.is_empty() && id.starts_with(word));
    begins.next().filter(|_| begins.next().is_none()).map(|(place, _)| *place)
}

/// A target: what is typed, with the side and the timeline behind it.
fn answer_target(form: &TargetForm, line: &str) -> Meaning {
    let mut text = line.to_owned();
    let (mut timeline, mut inclusive) = (None, None);
    // A name may end in these words.
    if form.kind != FormKind::Name {
        loop {
            let words: Vec<&str> = text.split_whitespace().collect();
            match words.as_slice() {
                [rest @ .., "timeline", number] if timeline.is_none() => {
                    let Ok(number) = number.parse() else { break };
                    (timeline, text) = (Some(TimelineChoice::Number(TimelineId(number))), rest.join(" "));
                }
                [rest @ .., side @ ("before" | "after")] if inclusive.is_none() => {
                    (inclusive, text) = (Some(*side == "after"), rest.join(" "));
                }
                _ => break,
            }
        }
    }
    let mut all = Vec::new();
    if let Some(wanted) = timeline {
        let count = form.timelines.len();
        let Some(place) = form.timelines.iter().position(|known| *known == wanted) else {
            let known: Vec<String> = form.timelines.iter().map(ToString::to_string).collect();
            return Meaning::Unknown(format!("there is no timeline {wanted}; there are: {}", known.join(", ")));
        };
        let tabs = (place + count - form.timeline % count.max(1)) % count.max(1);
        all.extend(vec![Msg::Key(Key::Tab); tabs]);
    }
    if inclusive.is_some_and(|wanted| wanted != form.inclusive) && form.kind.has_sides() {
        all.push(Msg::Key(Key::Up));
    }
    if text.is_empty() {
        return Meaning::Do(all);
    }
    if let Meaning::Do(typed) = typed(&text, true) {
        all.extend(typed);
    }
    Meaning::Do(all)
}

fn answer_sql(form: &SqlForm, line: &str) -> Meaning {
    if form.answer == Said::Asked {
        return Meaning::Refused("the server is being asked; an empty line gives that up".to_owned());
    }
    let (first, name) = word_of(line);
    if first != "database" || name.is_empty() {
        return typed(line, true);
    }
    let count = form.databases.len().max(1);
    match form.databases.iter().position(|database| database == name) {
        Some(place) => Meaning::Do(vec![Msg::Key(Key::Tab); (place + count - form.database % count) % count]),
        None => Meaning::Unknown(format!("there is no database {name}; there are: {}", form.databases.join(", "))),
    }
}

/// The first word, and what follows.
fn word_of(line: &str) -> (&str, &str) {
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

/// What is asked for where no question is open.
fn ordered(line: &str, state: &State, listed: &Listed) -> Meaning {
    if let Some(text) = line.strip_prefix('/').filter(|text| !text.is_empty() && state.screen() == Screen::Points) {
        return Meaning::Command(Act::Find, text.trim().to_owned());
    }
    let (word, rest) = word_of(line);
    match (word, rest) {
        ("", _) => return Meaning::Nothing,
        ("help" | "?", "") => return Meaning::Help(None),
        ("help", about) => return help_about(about, state),
        ("overview", "") => return Meaning::Show(Show::Overview),
        ("show", _) => return show(rest, state),
        ("choose", _) if !rest.is_empty() => return choose(rest, state, listed),
        ("next", "") if state.screen() == Screen::Points => return Meaning::Page(page(state, true)),
        ("previous", "") if state.screen() == Screen::Points => return Meaning::Page(page(state, false)),
        (number, "") if state.screen() == Screen::Points && number.parse::<usize>().is_ok() => {
            return choose(number, state, listed);
        }
        _ => {}
    }
    match find(word, state) {
        Ok(command) if rest.is_empty() || takes_words(command.act) => Meaning::Command(command.act, rest.to_owned()),
        Ok(command) if command.danger == command::Danger::Typed => {
            Meaning::Unknown(format!("{} stands alone: it says what it does, and asks for the name", command.name))
        }
        Ok(command) => Meaning::Unknown(format!("{} takes nothing behind it: {rest}", command.name)),
        Err(why) => why,
    }
}

/// A page on, so that it begins where the one before ended.
fn page(state: &State, on: bool) -> Vec<Msg> {
    let last = state.points.len().saturating_sub(1);
    let cursor = state.points.cursor();
    let to = if on { cursor.saturating_add(home::PAGE).min(last) } else { cursor.saturating_sub(home::PAGE) };
    vec![Msg::Click(Hit::Point(to))]
}

/// Commands whose question can be answered in the same line.
fn takes_words(act: Act) -> bool {
    use Act::{
        Change, Checklist, Directory, Find, MakeDrill, Recoveries, Resume, Retarget, Runbook, Sql, TargetLsn,
        TargetName, TargetTime, TargetXid,
    };
    matches!(
        act,
        TargetTime
            | TargetXid
            | TargetLsn
            | TargetName
            | Find
            | Recoveries
            | Directory
            | Change
            | Runbook
            | Sql
            | Retarget
            | Resume
            | Checklist
            | MakeDrill
    )
}

fn show(rest: &str, state: &State) -> Meaning {
    if state.screen() != Screen::Points || rest.is_empty() {
        return Meaning::Show(Show::Screen);
    }
    match rest {
        "overview" | "backups" | "timelines" | "restore-points" => return Meaning::Show(Show::Overview),
        "suspects" => return Meaning::Command(Act::Suspects, String::new()),
        "recoveries" => return Meaning::Command(Act::Recoveries, String::new()),
        _ => {}
    }
    let rest = rest.strip_prefix("transactions").unwrap_or(rest).trim();
    let around = rest.strip_prefix("around").unwrap_or(rest).trim();
    if around.is_empty() { Meaning::Show(Show::Screen) } else { Meaning::Around(around.to_owned()) }
}

fn choose(rest: &str, state: &State, listed: &Listed) -> Meaning {
    if state.screen() != Screen::Points {
        return Meaning::Refused("there is nothing to choose from here; back goes to the transactions".to_owned());
    }
    let (kind, number) = match word_of(rest) {
        (number, "") => ("", number),
        both => both,
    };
    let Some(place) = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) else {
        return Meaning::Unknown(format!("“{number}” is no number of a list"));
    };
    let none = |what: &str, count: usize| match count {
        0 => Meaning::Refused(format!("there is no {what}")),
        count => Meaning::Refused(format!("there is no {what} {number}: the last one is {count}")),
    };
    match (kind, listed) {
        ("backup", _) => {
            let count = state.loaded().map_or(0, |catalog| catalog.backups.len());
            if place >= count {
                return none("base backup", count);
            }
            Meaning::Do(vec![Msg::Click(Hit::Backup(place)), Msg::Command(Act::Choose)])
        }
        ("suspect", _) | ("", Listed::Suspects) => {
            let count = state.points.overview().suspects.len();
            if place >= count {
                return none("suspect", count);
            }
            let click = Msg::Click(Hit::Suspect(place));
            Meaning::Do(vec![Msg::Command(Act::Suspects), click.clone(), click])
        }
        ("" | "transaction", Listed::Rows(rows)) => match rows.get(place) {
            Some((row, was)) if home::place_at(state, *row) == *was => Meaning::Do(vec![Msg::Click(Hit::Point(*row))]),
            Some(_) => Meaning::Refused("the list has changed since; show lists it again".to_owned()),
            None => none("row", rows.len()),
        },
        ("transaction", Listed::Suspects) => {
            Meaning::Refused("no transactions were listed; show lists them".to_owned())
        }
        _ => Meaning::Unknown(format!("“choose {rest}”: choose N, choose suspect N or choose backup N")),
    }
}

fn help_about(about: &str, state: &State) -> Meaning {
    if let Some((word, _)) = WORDS.iter().find(|(word, _)| word.split([' ', ',']).any(|word| word == about)) {
        return Meaning::Help(Some(word));
    }
    match find(about, state) {
        Ok(command) => Meaning::Help(Some(command.name)),
        Err(_) if command::named(about).is_some() => Meaning::Help(command::named(about).map(|command| command.name)),
        Err(why) => why,
    }
}

/// The command that a word stands for here: its name, one of its keys, or a beginning of its name and of no other; or
/// why there is none.
fn find(word: &str, state: &State) -> Result<&'static Command, Meaning> {
    let lower = word.to_lowercase();
    let by_key = |command: &&Command| state.keys.of(command).iter().any(|key| key.to_string() == word);
    let exact = commands(state).find(|command| command.name == lower).or_else(|| commands(state).find(by_key));
    if let Some(command) = exact {
        return Ok(command);
    }
    let begins: Vec<&'static Command> = commands(state).filter(|command| command.name.starts_with(&lower)).collect();
    match begins.as_slice() {
        [one] => Ok(one),
        [] => Err(unknown(word, &lower, state)),
        several => {
            let names: Vec<&str> = several.iter().map(|command| command.name).collect();
            Err(Meaning::Unknown(format!("“{word}” could be: {}", names.join(", "))))
        }
    }
}

fn unknown(word: &str, lower: &str, state: &State) -> Meaning {
    match command::named(lower) {
        Some(command) if is_for_eyes(command.act, state.screen()) => {
            return Meaning::Refused(format!("{lower} is for the full screen, and these are lines"));
        }
        Some(_) => return Meaning::Refused(format!("{lower} cannot be given here; help lists what can")),
        None => {}
    }
    let near = nearest(lower, state);
    let hint = if near.is_empty() {
        "help lists the commands".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    Meaning::Unknown(format!("“{word}” is not a command here; {hint}"))
}

/// The names that are most like a mistyped one, the most alike first.
fn nearest(word: &str, state: &State) -> Vec<&'static str> {
    const ALIKE: f64 = 0.75;
    const FEW: usize = 3;
    let own = ["show", "next", "previous", "choose", "overview"];
    let names = commands(state).map(|command| command.name).chain(own);
    let mut near: Vec<(f64, &str)> =
        names.map(|name| (strsim::jaro_winkler(word, name), name)).filter(|(alike, _)| *alike > ALIKE).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.dedup_by_key(|(_, name)| *name);
    near.into_iter().take(FEW).map(|(_, name)| name).collect()
}

/// What help says: every command that means something here, or one.
pub(super) fn help(about: Option<&str>, state: &State) -> Vec<String> {
    let own = |word: &&(&str, &str)| state.screen() == Screen::Points || word.0 == "show";
    if let Some(name) = about {
        if let Some((word, doc)) = WORDS.iter().find(|(word, _)| *word == name) {
            return vec![format!("{word}: {doc}")];
        }
        let Some(command) = command::named(name) else { return Vec::new() };
        let keys: Vec<String> = state.keys.of(command).iter().map(ToString::to_string).collect();
        return vec![help_line(command, state), format!("  its keys in the full screen: {}", keys.join(", "))];
    }
    let mut lines = vec!["commands here; the beginning of a name is enough where it is the only one:".to_owned()];
    lines.extend(WORDS.iter().filter(own).map(|(word, doc)| format!("  {word}: {doc}")));
    lines.extend(commands(state).map(|command| format!("  {}", help_line(command, state))));
    lines
}

fn help_line(command: &Command, state: &State) -> String {
    let typed = if command.danger == command::Danger::Typed { " Asks for the name." } else { "" };
    let here = commands(state).any(|other| other.act == command.act);
    let why = match (here, (command.enabled)(state)) {
        (false, _) => " Not on this screen.".to_owned(),
        (true, Err(why)) => format!(" Not now: {}.", why.trim_end_matches('.')),
        (true, Ok(())) => String::new(),
    };
    format!("{}: {}{typed}{why}", command.name, command.doc)
}
