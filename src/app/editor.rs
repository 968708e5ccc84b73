//! The server's settings in an editor: what is written into the file, and what is read back.

use super::act::{self, nothing};
use super::change::setting;
use super::dialog::{Choice, Dialog, Menu, Then};
use super::effect::Effect;
use super::state::{State, Wanted};
use crate::error::Error;
use crate::plan::settings::is_reserved;

/// A text that is opened in an editor.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// What the plan is asked for with so far.
    pub wanted: Wanted,
    /// The text.
    pub text: String,
}

const EXPLAINED: &str = "
# Above: more settings of the recovered server, one a line: name = value, as
# in postgresql.conf. A line that is taken away takes the setting back.
# Lines that begin with # say nothing.
";

/// Opens the settings that were said for the plan. They come first: in a line below a comment, many an editor goes on
/// with the comment.
pub(super) fn open(state: &State) -> Vec<Effect> {
    let Some(planning) = &state.planning else { return Vec::new() };
    let wanted = planning.wanted.clone();
    let mut text: String =
        wanted.settings.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect();
    text.push_str(EXPLAINED);
    if let Some(plan) = state.plan() {
        text.push_str("#\n# The plan has besides:\n");
        let said = |name: &str| wanted.settings.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let others = plan.settings.iter().filter(|(name, _)| !said(name) && !is_reserved(name));
        text.extend(others.map(|(name, value)| format!("# {name} = {}\n", quoted(value))));
    }
    vec![Effect::Edit(Edit { wanted, text })]
}

/// Takes in what the editor left: plans with it, or says what is wrong with it and offers to go on.
pub(super) fn came(state: &mut State, edit: Edit, answer: Result<String, Error>) -> Vec<Effect> {
    let text = match answer {
        Ok(text) => text,
        Err(error) => {
            state.dialog = Some(Dialog::Error(error));
            return Vec::new();
        }
    };
    match settings(&text) {
        Ok(settings) if settings == edit.wanted.settings => {
            state.say("the settings are as they were");
            Vec::new()
        }
        Ok(settings) => act::make_plan(state, Wanted { settings, ..edit.wanted }),
        Err(problems) => {
            let again = Choice {
                key: Some('e'),
                label: "edit it again".to_owned(),
                meaning: "what was written is there".to_owned(),
                then: Then::Edit(Edit { text, ..edit }),
            };
            let choices = vec![again, nothing("leave it", "the plan stays as it is; what was written is lost")];
            let title = "These settings cannot be taken".to_owned();
            state.dialog = Some(Dialog::Menu(Menu { title, text: problems, choices, selected: 0 }));
            Vec::new()
        }
    }
}

/// Problems that are told at most.
const PROBLEMS: usize = 5;

/// The settings in a text, each once; of several of one name the last one counts, as in `postgresql.conf`.
fn settings(text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    let (mut settings, mut problems): (Vec<(String, String)>, _) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = without_comment(line).trim();
        if line.is_empty() {
            continue;
        }
        match setting(line) {
            Ok((name, value)) => {
                settings.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
                if !value.is_empty() {
                    settings.push((name, value));
                }
            }
            Err(why) => problems.push(format!("line {}: {why}", number + 1)),
        }
    }
    let more = problems.len().saturating_sub(PROBLEMS);
    problems.truncate(PROBLEMS);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// A line up to its comment, which no quotes are around.
fn without_comment(line: &str) -> &str {
    let mut in_quotes = false;
    let end = line.char_indices().find(|(_, c)| {
        in_quotes ^= *c == '\'';
        *c == '#' && !in_quotes
    });
    end.map_or(line, |(end, _)| line.get(..end).unwrap_or(line))
}

/// A value as it is written in a file: in quotes where it has to be.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '+');
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::app::update::tests::{enter, planned, press};
    use crate::app::{Msg, update};

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_are_read_as_the_server_reads_them() {
        let text = "# nothing\n\nwork_mem = 8MB # for the report\n  a.b='it''s # x'  # y\nWork_Mem = 9MB\njit =\n";
        assert_eq!(settings(text), Ok(vec![pair("a.b", "it's # x"), pair("Work_Mem", "9MB")]));
        assert_eq!(settings(EXPLAINED), Ok(vec![]));
    }

    #[test]
    fn every_line_that_cannot_be_taken_is_named() {
        let problems = settings("work_mem = 8MB\nport = 1\nnonsense\n").unwrap_err();
        assert!(problems[0].starts_with("line 2: port is set by Walback itself"), "{problems:?}");
        assert!(problems[1].starts_with("line 3: it takes the form name = value"), "{problems:?}");
        assert_eq!(settings(&"x\n".repeat(9)).unwrap_err().last().unwrap(), "and 4 more");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "[^\\r\\n\\p{Cc}]{1,20}") {
            let line = format!("a.b = {}", quoted(&value));
            prop_assert_eq!(settings(&line), Ok(vec![pair("a.b", &value)]));
        }

        #[test]
        fn no_text_makes_reading_it_panic(text in "(\\PC|\n|'|#|=){0,60}") {
            let _ = settings(&text);
        }
    }

    #[test]
    fn what_cannot_be_taken_is_said_and_not_lost() {
        let mut state = planned();
        let effects = press(&mut state, "E");
        let [Effect::Edit(edit)] = effects.as_slice() else { panic!("{effects:?}") };
        assert!(settings(&edit.text) == Ok(vec![]), "{}", edit.text);
        let wrong = format!("{}work_mem = 8MB\nport = 1\n", edit.text);
        let answer = |text: &str| Msg::Edited { edit: edit.clone(), answer: Ok(text.to_owned()) };
        assert_eq!(update(&mut state, answer(&wrong)), []);
        let Some(Dialog::Menu(menu)) = &state.dialog else { panic!("{:?}", state.dialog) };
        assert!(menu.text[0].contains("port is set by Walback itself"), "{menu:?}");
        assert_eq!(enter(&mut state), [Effect::Edit(Edit { text: wrong, ..edit.clone() })]);
        // Mended, it is planned with; as it was, it is not.
        let effects = update(&mut state, answer("work_mem = 8MB\n"));
        let wanted = Wanted { settings: vec![pair("work_mem", "8MB")], ..edit.wanted.clone() };
        assert_eq!(effects, [Effect::MakePlan(wanted)]);
        assert_eq!(update(&mut state, answer(&edit.text)), []);
    }

    #[test]
    fn what_was_said_is_in_the_file() {
        let mut state = planned();
        let said = vec![pair("work_mem", "8MB"), pair("a.b", "it's # x")];
        if let Some(planning) = &mut state.planning {
            planning.wanted.settings.clone_from(&said);
        }
        let effects = press(&mut state, "E");
        let [Effect::Edit(edit)] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(settings(&edit.text), Ok(said));
    }
}
