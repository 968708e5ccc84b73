//! What can be changed about a plan before it is carried out: everything that it was asked for with.

use super::act::{self, nothing};
use super::dialog::{Choice, Dialog, Menu, Then};
use super::editor;
use super::effect::Effect;
use super::field::Field;
use super::state::{Planning, State, Wanted};
use crate::core::progress::{Seconds, counted};
use crate::core::{Action, Target, TimelineChoice};
use crate::plan::settings::is_reserved;
use crate::plan::{Candidate, Plan};
use crate::resolve::{BeforeWhat, StopBefore};

/// Something about a plan that is to be changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The plan is made again with this.
    To(Box<Wanted>),
    /// One of the places at which “before this transaction” can stop is to be chosen.
    Place,
    /// A timeline is to be chosen.
    Timeline,
    /// What the server does at the target is to be chosen.
    Action,
    /// A base backup is to be chosen.
    Backup,
    /// Another directory is to be typed.
    Directory,
    /// Something else is to be typed.
    Value(ValueKind),
    /// All settings are opened in an editor.
    Editor,
}

/// What is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// The server's port.
    Port,
    /// A setting of the server.
    Setting,
}

impl ValueKind {
    /// What is asked for.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Port => "On which port?",
            Self::Setting => "Which setting of the server?",
        }
    }

    /// What can be typed.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Port => "a number from 1 to 65535, or nothing to have a free one chosen",
            Self::Setting => {
                "name = value, like shared_buffers = 1GB; name = with nothing behind it takes back what was said here"
            }
        }
    }
}

/// A port or a setting is being typed.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueForm {
    /// Which of them.
    pub kind: ValueKind,
    /// What was typed.
    pub field: Field,
    /// What the plan is asked for with so far.
    pub wanted: Wanted,
}

impl ValueForm {
    /// What the plan is to be asked for with.
    ///
    /// # Errors
    /// Why what was typed cannot be taken, in words.
    pub fn wanted(&self) -> Result<Wanted, String> {
        let text = self.field.text().trim();
        let mut wanted = self.wanted.clone();
        match self.kind {
            ValueKind::Port => {
                let port = (!text.is_empty()).then(|| text.parse::<u16>().ok().filter(|port| *port > 0));
                wanted.port = port.map(|port| port.ok_or("a port is a number from 1 to 65535")).transpose()?;
            }
            ValueKind::Setting => {
                let (name, value) = setting(text)?;
                wanted.settings.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
                if !value.is_empty() {
                    wanted.settings.push((name, value));
                }
            }
        }
        Ok(wanted)
    }
}

/// A setting's name and value, as they are written in `postgresql.conf`.
///
/// # Errors
/// Why they cannot be taken, in words.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it takes the form name = value")?;
    let (name, value) = (name.trim(), unquoted(value.trim()));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("“{name}” is not the name of a setting"));
    }
    if is_reserved(name) {
        return Err(format!("{name} is set by Walback itself"));
    }
    Ok((name.to_owned(), value))
}

/// A value without the quotes that stand around it in `postgresql.conf`.
fn unquoted(value: &str) -> String {
    match value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
        Some(inside) => inside.replace("''", "'"),
        None => value.to_owned(),
    }
}

/// Offers everything that can be changed.
pub(super) fn offer(state: &mut State) {
    let Some(planning) = &state.planning else { return };
    let plan = state.plan();
    let mut choices = stop_choices(planning, plan);
    if planning.retarget.is_none() {
        choices.extend(own_choices(planning, plan));
    }
    choices.push(nothing("leave it as it is", "goes back to the plan"));
    menu(state, "Change what?", vec!["The plan is made again; nothing is done yet.".to_owned()], choices);
}

fn menu(state: &mut State, title: &str, text: Vec<String>, choices: Vec<Choice>) {
    state.dialog = Some(Dialog::Menu(Menu { title: title.to_owned(), text, choices, selected: 0 }));
}

fn choice(key: Option<char>, label: impl Into<String>, meaning: impl Into<String>, change: Change) -> Choice {
    Choice { key, label: label.into(), meaning: meaning.into(), then: Then::Change(change) }
}

/// Where recovery stops, and what the server does there.
fn stop_choices(planning: &Planning, plan: Option<&Plan>) -> Vec<Choice> {
    let target = &planning.wanted.target;
    let mut choices = Vec::new();
    if target.has_sides() {
        let side = if target.inclusive { "just before it instead" } else { "just after it instead" };
        let meaning = if target.inclusive { "it is lost too" } else { "it is kept too" };
        let other = Target { inclusive: !target.inclusive, ..target.clone() };
        choices.push(choice(Some('s'), side, meaning, to(&planning.wanted, other)));
    }
    let places = plan.map_or(0, |plan| plan.resolved.before.len());
    if places > 1 {
        let meaning = format!("{places} places; they differ in what can be read, and in what else is lost");
        choices.push(choice(Some('w'), "where before it", meaning, Change::Place));
    }
    let now = plan.map_or_else(|| target.timeline.to_string(), |plan| plan.resolved.timeline.to_string());
    choices.push(choice(Some('t'), "the timeline", format!("now {now}"), Change::Timeline));
    choices.push(choice(
        Some('a'),
        "what it does there",
        format!("now {}", action_in_words(target.action)),
        Change::Action,
    ));
    choices
}

/// What a new recovery is made with; one that is retargeted keeps it.
fn own_choices(planning: &Planning, plan: Option<&Plan>) -> Vec<Choice> {
    let wanted = &planning.wanted;
    let backup = match (plan, &wanted.backup) {
        (Some(plan), _) => format!("now {}", plan.backup.id),
        (None, Some(id)) => format!("now {id}"),
        (None, None) => "now the best one".to_owned(),
    };
    let port = match (plan, wanted.port) {
        (Some(plan), _) => format!("now {}", plan.server.port),
        (None, Some(port)) => format!("now {port}"),
        (None, None) => "now a free one".to_owned(),
    };
    let settings = match wanted.settings.as_slice() {
        [] => "like shared_buffers = 1GB".to_owned(),
        said => said.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", "),
    };
    vec![
        choice(Some('b'), "the backup", backup, Change::Backup),
        choice(Some('d'), "the directory", format!("now {}", wanted.directory), Change::Directory),
        choice(Some('p'), "the port", port, Change::Value(ValueKind::Port)),
        choice(Some('e'), "a setting", settings, Change::Value(ValueKind::Setting)),
        choice(Some('E'), "all settings", "in an editor, one a line", Change::Editor),
    ]
}

fn to(wanted: &Wanted, target: Target) -> Change {
    Change::To(Box::new(Wanted { target, ..wanted.clone() }))
}

fn action_in_words(action: Action) -> &'static str {
    match action {
        Action::Pause => "pause: readable, and waits for your decision",
        Action::Promote => "promote: takes writes, without asking",
        Action::Shutdown => "shutdown: stops there, to be started again later",
    }
}

/// What is sent out for something that is to be changed.
pub(super) fn chosen(state: &mut State, change: Change) -> Vec<Effect> {
    let Some(planning) = state.planning.clone() else { return Vec::new() };
    let wanted = planning.wanted;
    match change {
        Change::To(wanted) => {
            return match planning.retarget {
                Some(recovery) => act::plan_retarget(state, recovery, wanted.target),
                None => act::make_plan(state, *wanted),
            };
        }
        Change::Place => places(state, &wanted),
        Change::Timeline => timelines(state, &wanted),
        Change::Action => actions(state, &wanted),
        Change::Backup => backups(state, &wanted),
        Change::Directory => act::ask_directory(state),
        Change::Editor => return editor::open(state),
        Change::Value(kind) => {
            let port = wanted.port.filter(|_| kind == ValueKind::Port).map(|port| port.to_string());
            let field = Field::new(port.unwrap_or_default());
            state.dialog = Some(Dialog::Value(ValueForm { kind, field, wanted }));
        }
    }
    Vec::new()
}

/// The places at which “before this transaction” can stop.
fn places(state: &mut State, wanted: &Wanted) {
    let Some(plan) = state.plan() else { return };
    let timeline = TimelineChoice::Number(plan.resolved.timeline);
    let place = |place: &StopBefore| {
        let kind = crate::core::TargetKind::Lsn(place.lsn);
        let target = Target { kind, inclusive: false, timeline, action: wanted.target.action };
        let here = if place.chosen { "  (this plan)" } else { "" };
        choice(None, format!("{}, {}{here}", label(place.what), place.lsn), keeps(place), to(wanted, target))
    };
    let mut choices: Vec<Choice> = plan.resolved.before.iter().rev().map(place).collect();
    // Enter by mistake changes nothing.
    let here = plan.resolved.before.iter().rev().position(|place| place.chosen).unwrap_or(choices.len());
    choices.push(nothing("leave it as it is", "goes back to the plan"));
    let text =
        "“Before this transaction” is more than one place. They differ in what can be read, and in what else is lost.";
    menu(state, "Where before it?", vec![text.to_owned()], choices);
    if let Some(Dialog::Menu(menu)) = &mut state.dialog {
        menu.selected = here;
    }
}

fn label(what: BeforeWhat) -> &'static str {
    match what {
        BeforeWhat::Commit => "just before its commit",
        BeforeWhat::FirstLock => "before its first lock",
        BeforeWhat::DatabaseDrop => "before it began to drop the database",
    }
}

/// What stopping at a place keeps and loses, in words.
fn keeps(place: &StopBefore) -> String {
    let lost = match place.commits_lost {
        0 => "loses no other commit".to_owned(),
        lost => format!("loses {} more", counted(lost, "commit")),
    };
    let data = match (place.saves, place.is_readable) {
        (false, _) => "what it destroyed is GONE by then",
        (true, false) => "what it locked cannot be read until promotion",
        (true, true) => "everything can be read",
    };
    format!("{data}; {lost}")
}

/// A place at which “before this transaction” can stop, where it is, and what that keeps and loses.
#[must_use]
pub fn in_words(place: &StopBefore) -> String {
    let what = match place.what {
        BeforeWhat::Commit => "at its commit",
        BeforeWhat::FirstLock => "before its first lock",
        BeforeWhat::DatabaseDrop => "before it began to drop the database",
    };
    format!("{what}, {}: {}", place.lsn, keeps(place))
}

fn timelines(state: &mut State, wanted: &Wanted) {
    let Some(catalog) = state.loaded() else { return };
    let one = |timeline: &crate::catalog::Timeline| {
        let target = Target { timeline: TimelineChoice::Number(timeline.id), ..wanted.target.clone() };
        let meaning = match (timeline.parent, timeline.forked_at_lsn) {
            (Some(parent), Some(at)) => format!("left timeline {parent} at {at}"),
            _ => "the first one".to_owned(),
        };
        choice(None, format!("timeline {}", timeline.id), meaning, to(wanted, target))
    };
    let mut choices: Vec<Choice> = catalog.timelines.iter().rev().map(one).collect();
    choices.push(nothing("leave it as it is", "goes back to the plan"));
    menu(state, "Along which timeline?", vec!["The newest one comes first.".to_owned()], choices);
}

fn actions(state: &mut State, wanted: &Wanted) {
    let one = |(key, action)| {
        let words = action_in_words(action);
        let (name, meaning) = words.split_once(": ").unwrap_or((words, ""));
        choice(Some(key), name, meaning, to(wanted, Target { action, ..wanted.target.clone() }))
    };
    let mut choices: Vec<Choice> =
        [('p', Action::Pause), ('s', Action::Shutdown), ('o', Action::Promote)].into_iter().map(one).collect();
    choices.push(nothing("leave it as it is", "goes back to the plan"));
    let text = vec!["Only from a pause can you look first, and go on or back.".to_owned()];
    menu(state, "What does the server do at the target?", text, choices);
}

fn backups(state: &mut State, wanted: &Wanted) {
    let Some(catalog) = state.loaded() else { return };
    let known = state.plan().map(|plan| plan.candidates.as_slice()).unwrap_or_default();
    let meaning = |id: &str, problem: Option<&String>| match known.iter().find(|candidate| candidate.backup == id) {
        Some(Candidate { why_not: Some(why), .. }) => format!("does not lead there: {why}"),
        Some(Candidate { estimate: Some(estimate), .. }) => match estimate.total_s {
            Some(seconds) => format!("about {}", Seconds(seconds)),
            None => "leads there".to_owned(),
        },
        _ => problem.map_or_else(|| "not looked at yet".to_owned(), |problem| format!("cannot be used: {problem}")),
    };
    let one = |backup: &crate::catalog::Backup| {
        let changed = Wanted { backup: Some(backup.id.clone()), ..wanted.clone() };
        choice(None, backup.id.clone(), meaning(&backup.id, backup.problems.first()), Change::To(Box::new(changed)))
    };
    let rank = |id: &str| known.iter().position(|candidate| candidate.backup == id).unwrap_or(usize::MAX);
    let mut listed: Vec<_> = catalog.backups.iter().collect();
    listed.sort_by_key(|backup| rank(&backup.id));
    let mut choices: Vec<Choice> = listed.into_iter().map(one).collect();
    choices.push(nothing("leave it as it is", "goes back to the plan"));
    menu(state, "From which backup?", vec!["The best one comes first.".to_owned()], choices);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::TargetKind;

    fn form(kind: ValueKind, text: &str) -> ValueForm {
        let mut wanted = Wanted::new(Target::new(TargetKind::Latest), "/new");
        wanted.settings.push(("Work_Mem".to_owned(), "4MB".to_owned()));
        ValueForm { kind, field: Field::new(text), wanted }
    }

    #[test]
    fn a_port_is_a_port_or_nothing() {
        let port = |text| form(ValueKind::Port, text).wanted().map(|wanted| wanted.port);
        assert_eq!((port(" 5499 "), port("")), (Ok(Some(5499)), Ok(None)));
        for bad in ["0", "65536", "x", "-1", "54 99"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_setting_replaces_the_one_that_was_said_and_nothing_takes_it_back() {
        let settings = |text| form(ValueKind::Setting, text).wanted().map(|wanted| wanted.settings);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(settings("work_mem = 8MB"), Ok(vec![pair("work_mem", "8MB")]));
        assert_eq!(settings("a.b='it''s = x'"), Ok(vec![pair("Work_Mem", "4MB"), pair("a.b", "it's = x")]));
        assert_eq!(settings("work_mem ="), Ok(vec![]));
        for bad in ["work_mem", "= 4", "a b = 1", "port = 1", "Recovery_Target_Xid = 7", "x;y = 1"] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }
}
