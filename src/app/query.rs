//! Questions to the recovered server: the configured checks, and SQL that is typed.

use super::dialog::Dialog;
use super::effect::Effect;
use super::field::Field;
use super::key::Key;
use super::state::State;
use crate::catalog::is_of_users;
use crate::core::{Checked, Rows};
use crate::error::Error;
use crate::plan::DATABASE;

/// The checks of the configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Checks {
    /// None are configured.
    #[default]
    None,
    /// They were not carried out on the followed recovery.
    Waiting,
    /// They are being carried out.
    Running,
    /// What came of them; or why they could not be carried out.
    Done(Result<Vec<Checked>, Error>),
}

/// Has the checks carried out, unless they are at it.
pub(super) fn check(state: &mut State) -> Vec<Effect> {
    let Some(recovery) = state.following.clone() else { return Vec::new() };
    if matches!(state.checks, Checks::None | Checks::Running) {
        return Vec::new();
    }
    state.checks = Checks::Running;
    vec![Effect::RunChecks { recovery }]
}

/// Takes in what came of them.
pub(super) fn checked(state: &mut State, answer: Result<Vec<Checked>, Error>) {
    if state.checks == Checks::Running {
        state.checks = Checks::Done(answer);
    }
}

/// What was carried out says nothing about the server any more.
pub(super) fn forget(state: &mut State) {
    if state.checks != Checks::None {
        state.checks = Checks::Waiting;
    }
}

/// SQL that is being typed, and what the server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlForm {
    /// What was typed.
    pub field: Field,
    /// The databases that can be asked.
    pub databases: Vec<String>,
    /// The one that is.
    pub database: usize,
    /// What the server said to the last query.
    pub answer: Said,
    /// Rows that the answer is scrolled by.
    pub scroll: usize,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It was not asked.
    Unasked,
    /// It is being asked.
    Asked,
    /// This.
    Rows(Rows),
    /// It refused.
    Refused(Error),
}

impl SqlForm {
    /// The database that is asked.
    #[must_use]
    pub fn database(&self) -> &str {
        self.databases.get(self.database).map_or("postgres", String::as_str)
    }
}

/// Opens the form; its databases come later.
pub(super) fn open(state: &mut State) -> Vec<Effect> {
    let Some(recovery) = state.following.clone() else { return Vec::new() };
    let form =
        SqlForm { field: Field::default(), databases: Vec::new(), database: 0, answer: Said::Unasked, scroll: 0 };
    state.dialog = Some(Dialog::Sql(form));
    vec![Effect::LoadDatabases { recovery }]
}

/// The database that is looked at first, of those that there are: the one that recovery is about, else the only one that
/// users made, else the one that every server has.
#[must_use]
pub fn likeliest<'a>(databases: &'a [String], wanted: &'a str) -> &'a str {
    let is_there = |name: &str| databases.iter().any(|database| database == name);
    if is_of_users(wanted) && (is_there(wanted) || databases.is_empty()) {
        return wanted;
    }
    let mut own = databases.iter().filter(|name| is_of_users(name));
    own.next().filter(|_| own.next().is_none()).map_or(DATABASE, String::as_str)
}

/// Takes the databases in. The one that recovery is about comes first, else the first that an operator made.
pub(super) fn databases_came(state: &mut State, answer: Result<Vec<String>, Error>) {
    let wanted = state.recovery.plan.as_ref().map(|plan| plan.server.database.clone());
    let Some(Dialog::Sql(form)) = &mut state.dialog else { return };
    match answer {
        Ok(databases) => {
            let place = |name: &str| databases.iter().position(|database| database == name);
            let about = wanted.filter(|name| is_of_users(name)).and_then(|name| place(&name));
            let own = databases.iter().position(|name| is_of_users(name));
            form.database = about.or(own).or_else(|| place(DATABASE)).unwrap_or(0);
            form.databases = databases;
        }
        Err(error) => form.answer = Said::Refused(error),
    }
}

/// Takes an answer in.
pub(super) fn answered(state: &mut State, answer: Result<Rows, Error>) {
    if let Some(Dialog::Sql(form)) = &mut state.dialog
        && form.answer == Said::Asked
    {
        form.scroll = 0;
        form.answer = answer.map_or_else(Said::Refused, Said::Rows);
    }
}

/// A key in the form.
pub(super) fn press(state: &mut State, mut form: SqlForm, key: Key) -> Vec<Effect> {
    let asked = form.answer == Said::Asked;
    let mut effects = Vec::new();
    match key {
        Key::Esc if asked => {
            form.answer = Said::Unasked;
            effects.push(Effect::CancelQuery);
        }
        Key::Esc => return Vec::new(),
        Key::Enter if asked => state.refuse("the server is being asked; Esc gives it up"),
        Key::Enter if form.field.text().trim().is_empty() => {
            state.refuse("type a query, like SELECT count(*) FROM orders")
        }
        Key::Enter => {
            if let Some(recovery) = state.following.clone() {
                form.answer = Said::Asked;
                let (database, sql) = (form.database().to_owned(), form.field.text().trim().to_owned());
                effects.push(Effect::Query { recovery, database, sql });
            }
        }
        Key::Tab => form.database = (form.database + 1) % form.databases.len().max(1),
        Key::Up => form.scroll = form.scroll.saturating_sub(1),
        Key::Down => form.scroll = scrolled(&form, 1),
        Key::PageUp => form.scroll = form.scroll.saturating_sub(10),
        Key::PageDown => form.scroll = scrolled(&form, 10),
        key => {
            form.field.press(key);
        }
    }
    state.dialog = Some(Dialog::Sql(form));
    effects
}

fn scrolled(form: &SqlForm, rows: usize) -> usize {
    let last = if let Said::Rows(found) = &form.answer { found.rows.len().saturating_sub(1) } else { 0 };
    (form.scroll + rows).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_that_recovery_is_about_is_opened_where_it_is_there() {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (there, wanted, opened) in [
            (&["crm", "postgres", "shop", "template1"][..], "shop", "shop"),
            (&["crm", "postgres", "shop"], "postgres", "postgres"),
            (&["postgres", "shop", "template1"], "postgres", "shop"),
            (&["postgres", "shop"], "gone", "shop"),
            (&["postgres"], "gone", "postgres"),
            // The server could not be asked.
            (&[], "shop", "shop"),
            (&[], "postgres", "postgres"),
        ] {
            assert_eq!(likeliest(&all(there), wanted), opened, "{there:?} {wanted}");
        }
    }
}
