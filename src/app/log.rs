//! The Log screen: what the recovered server writes, as it writes it.

use std::collections::VecDeque;

use super::command::Act;
use super::dialog::Dialog;
use super::effect::Effect;
use super::field::Field;
use super::keys::key_of;
use super::state::{Screen, State};
use crate::core::Timestamp;
use crate::core::progress::grouped;
use crate::error::Error;
use crate::pgdata::server_log::{LogLine, Severity};

/// So many lines are held.
pub const HELD: usize = 10_000;
/// So many characters of each.
pub const LONGEST: usize = 2_000;

/// What the screen wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// To be told what the server of a recovery logs. Answered by [`News`], until it is closed.
    Open {
        /// Its name.
        recovery: String,
    },
    /// Not to be told any more.
    Close,
}

/// What it is told, and of which recovery.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// The recovery's name.
    pub recovery: String,
    /// What there is.
    pub what: What,
}

/// What there is of a log.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// It begins: what was held before is another file's.
    Begins {
        /// The file.
        path: String,
        /// Whether it has lines before the first one that comes.
        earlier: bool,
    },
    /// These lines came.
    Lines(Vec<String>),
    /// It cannot be read.
    Failed(Error),
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it was written, where it says.
    pub at: Option<Timestamp>,
    /// How bad it is, where it says.
    pub severity: Option<Severity>,
    /// What it says; cut off after [`LONGEST`] characters.
    pub text: String,
    /// Characters that were cut off.
    pub cut: usize,
    /// Whether it is a warning or worse, or says more about one.
    pub is_grave: bool,
}

/// What is held of a log, and what of it is seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// Whose it is, while it is open.
    open: Option<String>,
    /// The file.
    pub path: Option<String>,
    /// Why it cannot be read.
    pub failed: Option<Error>,
    /// The lines that are held.
    lines: VecDeque<Line>,
    /// The number of the first of them.
    first: u64,
    /// Whether there are earlier ones in the file.
    earlier: bool,
    /// The number of the line under the cursor, while the end is not followed.
    cursor: Option<u64>,
    /// Whether only warnings and worse are seen.
    pub only_grave: bool,
    /// What was looked for last; empty for nothing.
    pub sought: String,
}

impl Log {
    /// Whether the end is followed.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.cursor.is_none()
    }

    /// How many lines are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the file has lines before those that are held.
    #[must_use]
    pub fn has_earlier(&self) -> bool {
        self.earlier || self.first > 0
    }

    /// The places of the lines that are seen, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<usize> {
        let lines = self.lines.iter().enumerate();
        lines.filter(|(_, line)| !self.only_grave || line.is_grave).map(|(place, _)| place).collect()
    }

    /// A line that is held, by its place.
    #[must_use]
    pub fn line(&self, place: usize) -> Option<&Line> {
        self.lines.get(place)
    }

    /// The place among those that are seen of the line under the cursor.
    #[must_use]
    pub fn at(&self, seen: &[usize]) -> usize {
        let last = seen.len().saturating_sub(1);
        let Some(cursor) = self.cursor else { return last };
        let place = cursor.saturating_sub(self.first) as usize;
        seen.partition_point(|other| *other < place).min(last)
    }

    /// The line under the cursor.
    #[must_use]
    pub fn here(&self) -> Option<&Line> {
        let seen = self.seen();
        self.line(*seen.get(self.at(&seen))?)
    }

    fn go_to(&mut self, seen: &[usize], at: usize) {
        // At the end, it goes on by itself.
        let is_last = at + 1 >= seen.len();
        self.cursor = seen.get(at).filter(|_| !is_last).map(|place| self.first + *place as u64);
    }

    pub(super) fn step(&mut self, rows: isize) {
        let seen = self.seen();
        let at = self.at(&seen).saturating_add_signed(rows).min(seen.len().saturating_sub(1));
        self.go_to(&seen, at);
    }

    fn push(&mut self, line: &str) {
        let parsed = LogLine::parse(line);
        let is_grave = match parsed.severity {
            Some(Severity::Warning | Severity::Error | Severity::Fatal | Severity::Panic) => true,
            Some(Severity::Debug | Severity::Log | Severity::Info | Severity::Notice) => false,
            // More about the line before: as grave as that.
            _ => self.lines.back().is_some_and(|before| before.is_grave),
        };
        let length = parsed.text.chars().count();
        let text = if length > LONGEST { parsed.text.chars().take(LONGEST).collect() } else { parsed.text };
        if self.lines.len() == HELD {
            self.lines.pop_front();
            self.first += 1;
        }
        let cut = length.saturating_sub(LONGEST);
        self.lines.push_back(Line { at: parsed.at, severity: parsed.severity, text, cut, is_grave });
    }

    /// Whether a line has what was looked for.
    #[must_use]
    pub fn has(&self, line: &Line) -> bool {
        !self.sought.is_empty() && find_in(&line.text, &self.sought).is_some()
    }
}

/// Where a text begins within another, by bytes; ASCII letters count the same small and large.
#[must_use]
pub fn find_in(text: &str, sought: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(&sought.to_ascii_lowercase())
}

/// Opens the log when its screen is opened, and closes it when it is left, however that came.
pub(super) fn look_after(state: &mut State) -> Vec<Effect> {
    if state.following.is_none() {
        state.screens.retain(|screen| *screen != Screen::Log);
    }
    let wanted = state.following.clone().filter(|_| state.screens.contains(&Screen::Log));
    if wanted == state.log.open {
        return Vec::new();
    }
    let was_open = state.log.open.is_some();
    state.log = Log { open: wanted.clone(), ..Log::default() };
    let close = was_open.then_some(Effect::Log(Ask::Close));
    close.into_iter().chain(wanted.map(|recovery| Effect::Log(Ask::Open { recovery }))).collect()
}

/// Takes in what was logged.
pub(super) fn came(state: &mut State, news: News) {
    let log = &mut state.log;
    if log.open.as_ref() != Some(&news.recovery) {
        return;
    }
    match news.what {
        What::Begins { path, earlier } => {
            (log.path, log.failed, log.earlier) = (Some(path), None, earlier);
            log.lines.clear();
            (log.first, log.cursor) = (0, None);
        }
        What::Lines(lines) => {
            lines.iter().for_each(|line| log.push(line));
            log.cursor = log.cursor.map(|cursor| cursor.max(log.first));
        }
        What::Failed(error) => log.failed = Some(error),
    }
}

/// Shows warnings and worse only, or everything again. The line under the cursor stays where it can.
pub(super) fn filter(state: &mut State) {
    let log = &mut state.log;
    log.only_grave = !log.only_grave;
    log.step(0);
}

/// Puts the cursor on a line, by its place among those that are seen.
pub(super) fn choose(state: &mut State, at: usize) {
    let seen = state.log.seen();
    state.log.go_to(&seen, at);
}

/// Asks what to look for.
pub(super) fn ask_find(state: &mut State) {
    state.dialog = Some(Dialog::FindInLog(Field::new(state.log.sought.clone())));
}

/// Goes to the last line that has this, from the cursor backwards: what happened last matters most.
pub(super) fn find(state: &mut State, text: &str) {
    state.log.sought = text.trim().to_owned();
    if state.log.sought.is_empty() {
        return;
    }
    let log = &state.log;
    let seen = log.seen();
    let at = log.at(&seen);
    let found = |place: &usize| log.line(*place).is_some_and(|line| log.has(line));
    let before = seen.iter().take(at + 1).rposition(found);
    let behind = seen.iter().rposition(found);
    go_found(state, &seen, before.or(behind));
}

/// Goes to the next line that has what was looked for, or to the one before.
pub(super) fn find_again(state: &mut State, forward: bool) {
    let log = &state.log;
    let seen = log.seen();
    let at = log.at(&seen);
    let found = |place: &usize| log.line(*place).is_some_and(|line| log.has(line));
    let next = if forward {
        let ahead = seen.iter().skip(at + 1).position(found).map(|place| place + at + 1);
        ahead.or_else(|| seen.iter().position(found))
    } else {
        seen.iter().take(at).rposition(found).or_else(|| seen.iter().rposition(found))
    };
    go_found(state, &seen, next);
}

fn go_found(state: &mut State, seen: &[usize], at: Option<usize>) {
    let log = &mut state.log;
    let Some(at) = at else {
        let sought = log.sought.clone();
        return state.refuse(format!("no line that is listed has “{sought}”"));
    };
    // Where it was found is looked at: the end is not followed, even from the last line on.
    log.cursor = seen.get(at).map(|place| log.first + *place as u64);
    let all = seen.iter().filter(|place| log.line(**place).is_some_and(|line| log.has(line))).count();
    let (sought, all) = (log.sought.clone(), grouped(all as u64));
    let (next, previous) = (key_of(state, Act::NextInLog), key_of(state, Act::PreviousInLog));
    state.say(format!("“{sought}” is in {all} of the lines that are listed; {next} next, {previous} previous"));
}
