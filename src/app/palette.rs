//! The palette: a command of this screen, found by some letters of its name or by a word of what it does.

use std::cmp::Reverse;

use nucleo_matcher::pattern::{Atom, AtomKind, CaseMatching, Normalization};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::act;
use super::command::{self, Act, Command};
use super::dialog::Dialog;
use super::effect::Effect;
use super::field::Field;
use super::key::Key;
use super::state::State;

/// A command is being looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct PaletteForm {
    /// What was typed.
    pub field: Field,
    /// What is like it, the most alike first.
    pub found: Vec<Found>,
    /// The one under the cursor.
    pub selected: usize,
    /// What was open before, which Esc comes back to.
    below: Option<Box<Dialog>>,
}

/// A command that is like what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it does.
    pub act: Act,
    /// The characters of its name that were typed, by their places.
    pub marks: Vec<u32>,
    score: u32,
}

impl Found {
    /// The command, as it can be given now.
    #[must_use]
    pub fn command(&self, state: &State) -> Option<&'static Command> {
        command::now(state).find(|command| command.act == self.act)
    }
}

impl PaletteForm {
    fn new(state: &State, below: Option<Dialog>) -> PaletteForm {
        let mut form =
            PaletteForm { field: Field::default(), found: Vec::new(), selected: 0, below: below.map(Box::new) };
        form.read(state);
        form
    }

    /// Looks for what was typed.
    pub fn read(&mut self, state: &State) {
        self.found = find(state, self.field.text());
        self.selected = 0;
    }

    /// Goes so many rows down.
    pub fn step(&mut self, rows: isize) {
        let last = self.found.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(rows).min(last);
    }
}

/// Opens the palette over the screen, or over what lies over it.
pub(super) fn open(state: &mut State, below: Option<Dialog>) {
    state.dialog = Some(Dialog::Palette(PaletteForm::new(state, below)));
}

/// A key in the palette.
pub(super) fn press(state: &mut State, mut form: PaletteForm, key: Key) -> Vec<Effect> {
    let page = isize::try_from(state.size.1 / 2).unwrap_or(1).max(1);
    match key {
        Key::Esc => {
            state.dialog = form.below.map(|below| *below);
            return Vec::new();
        }
        Key::Enter => return take(state, form),
        Key::Up | Key::Ctrl('p') | Key::BackTab => form.step(-1),
        Key::Down | Key::Ctrl('n') | Key::Tab => form.step(1),
        Key::PageUp | Key::Ctrl('b') => form.step(-page),
        Key::PageDown | Key::Ctrl('f') => form.step(page),
        key => {
            if form.field.press(key) {
                form.read(state);
            }
        }
    }
    state.dialog = Some(Dialog::Palette(form));
    Vec::new()
}

/// Gives the command under the cursor; one that cannot be given says why, and the palette stays.
pub(super) fn take(state: &mut State, form: PaletteForm) -> Vec<Effect> {
    let Some(command) = form.found.get(form.selected).and_then(|found| found.command(state)) else {
        state.dialog = Some(Dialog::Palette(form));
        return Vec::new();
    };
    match (command.enabled)(state) {
        Ok(()) => act::run(state, command.act),
        Err(why) => {
            state.refuse(why);
            state.dialog = Some(Dialog::Palette(form));
            Vec::new()
        }
    }
}

/// The commands of the screen that are like a text: all of them for an empty one, those first that can be given now.
fn find(state: &State, text: &str) -> Vec<Found> {
    let mut matcher = Matcher::new(Config::DEFAULT);
    let commands = command::now(state).filter(|command| command.act != Act::Palette);
    let mut found: Vec<(Found, bool)> = commands
        .filter_map(|command| Some((alike(&mut matcher, command, text)?, (command.enabled)(state).is_ok())))
        .collect();
    found.sort_by_key(|(found, enabled)| (Reverse(found.score), !enabled));
    found.into_iter().map(|(found, _)| found).collect()
}

/// How much a command is like a text, each word of which has to be in it somehow: its letters in the name or in the
/// label, in their order, or the word as it is in what the command does. That counts half.
fn alike(matcher: &mut Matcher, command: &Command, text: &str) -> Option<Found> {
    let mut found = Found { act: command.act, marks: Vec::new(), score: 0 };
    for word in text.split_whitespace() {
        let mut marks = Vec::new();
        let name = likeness(matcher, word, AtomKind::Fuzzy, command.name, &mut marks);
        let label = likeness(matcher, word, AtomKind::Fuzzy, command.label, &mut Vec::new());
        let doc = likeness(matcher, word, AtomKind::Substring, command.doc, &mut Vec::new()).map(|score| score / 2);
        found.score += [name, label, doc].into_iter().flatten().max()?;
        found.marks.extend(marks);
    }
    found.marks.sort_unstable();
    found.marks.dedup();
    Some(found)
}

fn likeness(matcher: &mut Matcher, word: &str, kind: AtomKind, text: &str, marks: &mut Vec<u32>) -> Option<u32> {
    let mut characters = Vec::new();
    let text = Utf32Str::new(text, &mut characters);
    let atom = Atom::new(word, CaseMatching::Ignore, Normalization::Smart, kind, false);
    atom.indices(text, matcher, marks).map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::update::tests::{paused, press as typed, refusal, running, state as home};
    use crate::app::{Msg, Screen, update};
    use crate::plan::StepId;

    fn names(text: &str) -> Vec<&'static str> {
        let state = home();
        find(&state, text).iter().filter_map(|found| Some(found.command(&state)?.name)).collect()
    }

    #[test]
    fn the_best_comes_first_and_what_is_not_like_it_not_at_all() {
        assert_eq!(names("stb").first(), Some(&"stop-before"));
        assert_eq!(names("stop before").first(), Some(&"stop-before"));
        assert_eq!(names("xid").first(), Some(&"target-xid"));
        assert_eq!(names("zo").iter().take(3).filter(|name| name.starts_with("zoom")).count(), 3);
        // By what it does.
        assert_eq!(names("damaged"), ["archive", "next-gap", "previous-gap"]);
        assert!(names("nobody calls anything so").is_empty());
    }

    #[test]
    fn everything_that_the_screen_has_is_there_and_what_can_be_done_comes_first() {
        let state = home();
        let found = find(&state, "");
        assert_eq!(found.len() + 1, command::now(&state).count());
        let enabled: Vec<bool> =
            found.iter().map(|found| (found.command(&state).unwrap().enabled)(&state).is_ok()).collect();
        assert!(enabled.is_sorted_by_key(|enabled| !enabled) && enabled.contains(&false), "{enabled:?}");
    }

    #[test]
    fn the_letters_that_were_typed_are_marked() {
        let state = home();
        let found = find(&state, "stb");
        assert_eq!(found[0].marks, [0, 1, 5], "{found:?}");
    }

    fn form(state: &State) -> &PaletteForm {
        let Some(Dialog::Palette(form)) = &state.dialog else { panic!("{:?}", state.dialog) };
        form
    }

    #[test]
    fn enter_does_it_and_escape_leaves() {
        let mut state = home();
        typed(&mut state, ":targt");
        assert_eq!(form(&state).found.first().map(|found| found.act), Some(Act::TargetTime));
        assert_eq!(update(&mut state, Msg::Key(Key::Enter)), []);
        assert!(matches!(state.dialog, Some(Dialog::Target(_))));
        let mut state = home();
        typed(&mut state, ":quit");
        assert_eq!(update(&mut state, Msg::Key(Key::Enter)), [Effect::Quit]);
        typed(&mut state, ":quit");
        assert_eq!(update(&mut state, Msg::Key(Key::Esc)), []);
        assert_eq!((state.dialog, state.screens), (None, vec![Screen::Points]));
    }

    #[test]
    fn what_cannot_be_done_says_why_and_the_palette_stays() {
        let mut state = running(StepId::Unpack);
        typed(&mut state, ":look");
        assert_eq!(update(&mut state, Msg::Key(Key::Enter)), []);
        assert!(refusal(&state).contains("not been started"), "{}", refusal(&state));
        assert_eq!(form(&state).field.text(), "look");
        // Nothing like it, nothing done.
        typed(&mut state, "zzz");
        assert_eq!((update(&mut state, Msg::Key(Key::Enter)), form(&state).found.len()), (vec![], 0));
    }

    #[test]
    fn over_a_menu_it_leads_back_to_the_menu() {
        let mut state = paused();
        typed(&mut state, "r");
        let menu = state.dialog.clone();
        assert!(matches!(menu, Some(Dialog::Menu(_))));
        typed(&mut state, ":prom");
        assert_eq!(form(&state).found.first().map(|found| found.act), Some(Act::Promote));
        update(&mut state, Msg::Key(Key::Esc));
        assert_eq!(state.dialog, menu);
        typed(&mut state, ":prom");
        update(&mut state, Msg::Key(Key::Enter));
        assert!(matches!(state.dialog, Some(Dialog::Confirm(_))), "and what it does takes the menu's place");
    }
}
