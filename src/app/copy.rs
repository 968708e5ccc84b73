//! What can be sent to the terminal's clipboard: what a screen is about, as it is typed elsewhere.

use super::act::{nothing, target_at};
use super::archive::Row;
use super::command::Act;
use super::dialog::{Choice, Dialog, Menu, Then};
use super::drills;
use super::effect::Effect;
use super::keys::key_of;
use super::state::{Pane, Planning, Screen, State};
use crate::catalog::{Backup, Point};
use crate::core::{Target, Timestamp};
use crate::plan::Plan;
use crate::plan::script;
use crate::plan::settings::shell_quote;

/// Bytes of a text that are sent at most: with these, what a terminal is sent is not more than the 100,000 bytes that
/// the strictest of them takes (hterm, Chromium's terminal).
const MOST: usize = 74_000;

/// Something that can be copied.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The letter that takes it.
    pub key: char,
    /// What it is called.
    pub what: &'static str,
    /// Its text.
    pub text: Text,
}

/// What an item holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Text {
    /// This line.
    Line(String),
    /// The plan, as a shell script.
    Script,
    /// The plan, to be read.
    Document,
}

impl Item {
    fn line(key: char, what: &'static str, text: impl ToString) -> Item {
        Item { key, what, text: Text::Line(text.to_string()) }
    }
}

/// Whether there is anything to be copied, without working it out: this is asked with every frame.
#[must_use]
pub(super) fn is_anything(state: &State) -> bool {
    match state.screen() {
        Screen::Points if state.pane == Pane::Backups => state.selected_backup().is_some(),
        Screen::Points => state.points.selected().is_some(),
        Screen::Plan => state.planning.is_some(),
        Screen::Recovery | Screen::Paused => state.recovery.plan.is_some(),
        Screen::Archive => matches!(state.archive.row(state.archive.cursor), Some(Row::Finding(_) | Row::Note(_))),
        Screen::Log => !state.log.is_empty(),
        Screen::Drills => true,
    }
}

/// Everything that can be copied from the screen.
#[must_use]
pub fn offered(state: &State) -> Vec<Item> {
    match state.screen() {
        Screen::Points if state.pane == Pane::Backups => {
            state.selected_backup().map_or_else(Vec::new, |backup| of_backup(state, backup))
        }
        Screen::Points => state.points.selected().map_or_else(Vec::new, |point| of_point(state, point)),
        Screen::Plan => state.planning.as_ref().map_or_else(Vec::new, |planning| of_planning(state, planning)),
        Screen::Recovery | Screen::Paused => of_recovery(state),
        Screen::Archive => of_archive(state),
        Screen::Log => state.log.here().map_or_else(Vec::new, |line| vec![Item::line('l', "line", &line.text)]),
        Screen::Drills => of_drills(state),
    }
}

fn of_drills(state: &State) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(entry) = drills::chosen(state) {
        items.push(Item::line('n', "name of the drill", &entry.id));
        let over = entry.report.iter().filter(|_| matches!(entry.standing, drills::Standing::Over(_)));
        for report in over {
            items.push(Item::line('p', "directory of its report", entry.directory.display()));
            items.push(Item::line('m', "what came of it", &report.summary));
        }
    }
    let steps = ('1'..).zip(drills::steps(state));
    items.extend(steps.map(|(key, step)| Item::line(key, "command", step.command)));
    items
}

fn time(state: &State, at: Timestamp) -> Item {
    Item::line('t', "time", at.in_zone(state.zone))
}

fn of_backup(state: &State, backup: &Backup) -> Vec<Item> {
    let mut items = vec![Item::line('n', "name", &backup.id), Item::line('p', "path", backup.location.display())];
    items.extend(backup.stop_lsn.or(backup.start_lsn).map(|lsn| Item::line('l', "LSN", lsn)));
    items.extend(backup.finished_at.map(|at| time(state, at)));
    items
}

fn of_point(state: &State, point: &Point) -> Vec<Item> {
    let (before, after) = (target_at(state, point, false), target_at(state, point, true));
    let mut items = vec![Item::line('l', "LSN", point.lsn)];
    items.extend(point.at.map(|at| time(state, at)));
    items.extend(point.xid.map(|xid| Item::line('x', "transaction id", xid)));
    items.extend(point.name.as_ref().map(|name| Item::line('n', "restore point's name", name)));
    items.push(Item::line('b', "options to stop before it", words(&before.to_options())));
    if before != after {
        items.push(Item::line('a', "options to stop after it", words(&after.to_options())));
    }
    let restore = restore(state, &before, &state.directory, &[]);
    items.push(Item::line('c', "command that recovers to before it", restore));
    items
}

fn of_archive(state: &State) -> Vec<Item> {
    let Some(Row::Finding(found) | Row::Note(found)) = state.archive.row(state.archive.cursor) else {
        return Vec::new();
    };
    let mut items = vec![Item::line('m', "what it says", &found.finding.message)];
    items.extend(found.file.iter().map(|file| Item::line('n', "name of the file", file)));
    items.extend(found.lsn.map(|lsn| Item::line('l', "LSN", lsn)));
    items
}

fn of_planning(state: &State, planning: &Planning) -> Vec<Item> {
    let wanted = &planning.wanted;
    let mut items = Vec::new();
    if let Some(plan) = state.plan() {
        items.push(Item::line('l', "LSN of the stop", plan.resolved.lsn));
        items.extend(plan.resolved.at.map(|at| time(state, at)));
        items.extend(plan.resolved.xid.map(|xid| Item::line('x', "transaction id", xid)));
        items.push(Item::line('n', "name of the recovery", &plan.recovery));
    }
    items.push(Item::line('o', "options of the target", words(&wanted.target.to_options())));
    let Some(recovery) = &planning.retarget else {
        let mut more = Vec::new();
        more.extend(wanted.backup.iter().flat_map(|id| ["--backup".to_owned(), id.clone()]));
        more.extend(wanted.port.iter().flat_map(|port| ["--port".to_owned(), port.to_string()]));
        more.extend(wanted.settings.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]));
        more.extend(wanted.make_way.then(|| "--make-way".to_owned()));
        let restore = restore(state, &wanted.target, &wanted.directory, &more);
        items.push(Item::line('c', "command that does the same", restore));
        if state.plan().is_some_and(|plan| !plan.is_forbidden()) {
            items.push(Item { key: 's', what: "plan as a shell script", text: Text::Script });
            items.push(Item { key: 'm', what: "plan as Markdown", text: Text::Document });
        }
        return items;
    };
    let mut retarget = vec!["retarget".to_owned(), recovery.clone()];
    retarget.extend(wanted.target.to_options());
    items.push(Item::line('c', "command that does the same", command(state, &retarget)));
    items
}

fn of_recovery(state: &State) -> Vec<Item> {
    let Some(recovery) = state.recovery.recovery() else { return Vec::new() };
    let mut items = vec![Item::line('n', "name of the recovery", &recovery.id)];
    items.push(Item::line('d', "data directory", recovery.directory.display()));
    items.extend(recovery.replayed_lsn.map(|lsn| Item::line('l', "LSN that was replayed", lsn)));
    items.extend(recovery.last_commit_at.map(|at| time(state, at)));
    let xid = recovery.stopped.as_ref().and_then(|stopped| stopped.xid);
    items.extend(xid.map(|xid| Item::line('x', "transaction id at the stop", xid)));
    items.push(Item::line('o', "options of the target", words(&recovery.target.to_options())));
    items.push(Item::line('p', "psql command", words(&["psql".to_owned(), recovery.connection])));
    let status = ["status".to_owned(), recovery.id];
    items.push(Item::line('c', "command that tells how it stands", command(state, &status)));
    items
}

fn restore(state: &State, target: &Target, directory: &str, more: &[String]) -> String {
    let mut restore = vec!["restore".to_owned()];
    restore.extend(target.to_options());
    if !directory.is_empty() {
        restore.extend(["--into".to_owned(), directory.to_owned()]);
    }
    restore.extend_from_slice(more);
    command(state, &restore)
}

/// A command line that opens the same source.
fn command(state: &State, more: &[String]) -> String {
    words(&[state.invocation.as_slice(), more].concat())
}

/// Words as the shell reads them.
fn words(words: &[String]) -> String {
    words.iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" ")
}

/// Asks what is to be copied.
pub(super) fn offer(state: &mut State) {
    let choice = |item: Item| Choice {
        key: Some(item.key),
        label: item.what.to_owned(),
        meaning: match &item.text {
            Text::Line(line) => line.clone(),
            Text::Script | Text::Document => "all of it".to_owned(),
        },
        then: Then::Copy(item),
    };
    let mut choices: Vec<Choice> = offered(state).into_iter().map(choice).collect();
    choices.push(nothing("nothing", ""));
    let text = Vec::new();
    state.dialog = Some(Dialog::Menu(Menu { title: "Copy what?".to_owned(), text, choices, selected: 0 }));
}

/// Sends what was chosen. Whether it arrives nobody is told.
pub(super) fn send(state: &mut State, item: Item) -> Vec<Effect> {
    let Some(text) = text_of(state, &item) else { return Vec::new() };
    if text.len() > MOST {
        let runbook = key_of(state, Act::Runbook);
        state.refuse(format!("it is too long for a terminal's clipboard; {runbook} writes it to a file"));
        return Vec::new();
    }
    // tmux keeps it for itself, or from itself, unless it is told otherwise.
    state.say(match state.tmux {
        true => "sent to the terminal's clipboard; tmux needs “set -g set-clipboard on”".to_owned(),
        false => format!("sent to the terminal's clipboard: {}", item.what),
    });
    vec![Effect::Copy { text }]
}

/// An item's text, without what could do anything but be shown where it is pasted.
fn text_of(state: &State, item: &Item) -> Option<String> {
    let plan = state.plan();
    let whole = |document: fn(&Plan, crate::core::Zone) -> String| plan.map(|plan| document(plan, state.zone));
    let text = match &item.text {
        // A line that ends would be carried out where it is pasted.
        Text::Line(line) => return Some(line.chars().filter(|c| !c.is_control()).collect()),
        Text::Script => whole(script::shell)?,
        Text::Document => whole(script::markdown)?,
    };
    Some(text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::update::tests::{paused, planned, press, state as home};
    use crate::app::{Key, Msg, update};

    #[test]
    fn a_line_has_no_end_and_nothing_else_that_acts() {
        let state = home();
        let item = Item::line('n', "name", "rm -rf /\n\u{1b}[2J\tx");
        assert_eq!(text_of(&state, &item).as_deref(), Some("rm -rf /[2Jx"));
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let mut state = home();
        let long = Item::line('n', "name", "x".repeat(MOST + 1));
        assert_eq!(send(&mut state, long), []);
        assert!(state.status.as_ref().is_some_and(|status| status.refusal && status.text.contains("too long")));
        let fits = Item::line('n', "name", "x".repeat(MOST));
        assert_eq!(send(&mut state, fits), [Effect::Copy { text: "x".repeat(MOST) }]);
        assert!(state.status.as_ref().is_some_and(|status| !status.text.contains("tmux")));
        state.tmux = true;
        send(&mut state, Item::line('n', "name", "x"));
        assert!(state.status.as_ref().is_some_and(|status| status.text.contains("set-clipboard on")));
    }

    /// Every line that is offered, by its letter.
    fn lines(state: &State) -> Vec<(char, String)> {
        let line = |item: Item| match item.text {
            Text::Line(line) => Some((item.key, line)),
            Text::Script | Text::Document => None,
        };
        offered(state).into_iter().filter_map(line).collect()
    }

    fn has(state: &State, wanted: &[(char, &str)]) {
        let lines = lines(state);
        let wanted: Vec<_> = wanted.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
        assert_eq!(lines, wanted);
    }

    #[test]
    fn a_transaction_is_copied_as_it_is_typed_elsewhere() {
        let mut state = home();
        state.invocation.extend(["--config", "/etc/wal back.yaml"].map(str::to_owned));
        has(
            &state,
            &[
                ('l', "0/32"),
                ('t', "2024-10-02 11:54:10.000000 +00:00"),
                ('x', "50"),
                ('b', "--xid 50 --exclusive --timeline 1"),
                ('a', "--xid 50 --timeline 1"),
                ('c', "walback --config '/etc/wal back.yaml' restore --xid 50 --exclusive --timeline 1 --into /new"),
            ],
        );
        update(&mut state, Msg::Key(Key::Char('r')));
        assert!(lines(&state).contains(&('n', "twice".to_owned())), "{:?}", lines(&state));
        state.pane = Pane::Backups;
        has(&state, &[('n', "b"), ('p', "/b/b"), ('l', "0/14")]);
    }

    #[test]
    fn a_plan_is_copied_as_a_command_and_whole() {
        let mut state = planned();
        if let Some(planning) = &mut state.planning {
            planning.wanted.backup = Some("b".to_owned());
            planning.wanted.port = Some(5499);
            planning.wanted.settings = vec![("work_mem".to_owned(), "8 MB".to_owned())];
        }
        let command = "walback restore --xid 50 --exclusive --timeline 1 --into /new --backup b --port 5499 --set \
                       'work_mem=8 MB'";
        assert!(lines(&state).contains(&('c', command.to_owned())), "{:?}", lines(&state));
        for (letter, begins) in [("s", "#!/bin/sh\n"), ("m", "# ")] {
            press(&mut state, "y");
            let effects = press(&mut state, letter);
            let [Effect::Copy { text }] = effects.as_slice() else { panic!("{effects:?}") };
            assert!(text.starts_with(begins) && text.lines().count() > 10, "{text}");
            assert_eq!(state.dialog, None);
        }
        let Some(planning) = &mut state.planning else { panic!("it is there") };
        planning.retarget = Some("shop-1".to_owned());
        let command = "walback retarget shop-1 --xid 50 --exclusive --timeline 1";
        assert!(lines(&state).contains(&('c', command.to_owned())), "{:?}", lines(&state));
    }

    #[test]
    fn a_recovery_is_copied_by_name_and_by_how_it_is_reached() {
        let lines = lines(&paused());
        for (key, text) in [
            ('n', "shop-1"),
            ('d', "/new"),
            ('o', "--xid 50 --exclusive --timeline 1"),
            ('p', "psql 'host=/s port=1 user=postgres dbname=postgres'"),
            ('c', "walback status shop-1"),
        ] {
            assert!(lines.contains(&(key, text.to_owned())), "{text}: {lines:?}");
        }
    }

    #[test]
    fn no_letter_takes_two_things() {
        for state in [home(), planned(), paused()] {
            let mut letters: Vec<char> = offered(&state).iter().map(|item| item.key).collect();
            let count = letters.len();
            letters.sort_unstable();
            letters.dedup();
            assert!(letters.len() == count && is_anything(&state) == (count > 0), "{letters:?}");
        }
    }
}
