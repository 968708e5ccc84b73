//! What is told, line by line, and each thing once: a function of what happened and of what was told before.

use super::drills::Drilled;
use super::text::{doc, lines_of};
use super::wait::{Errands, is_waiting};
use super::words::{Listed, Show};
use super::{home, next, question};
use crate::app::query::{Checks, Said};
use crate::app::state::{Answer, Loading, ScanState, Status};
use crate::app::{Dialog, Msg, Screen, State};
use crate::core::Timestamp;
use crate::core::progress::{Bytes, Seconds};
use crate::event::{Event, Progress, RecoveryState, WaitsFor, What};
use crate::pgdata::server_log::{LogLine, Severity};
use crate::plan::StepId;
use crate::tui::screens::{paused, plan};
use crate::tui::theme::Theme;
use crate::tui::widgets::gauge;
use crate::tui::words;

/// Exit statuses of the contract (`docs/cli.md`).
const FAILED: u8 = 1;
const WRONG: u8 = 2;
const FORBIDDEN: u8 = 3;
const UNCONFIRMED: u8 = 5;

/// Progress is told when so much more is done, in percent, or after so many seconds, and never twice in one second.
const PERCENT: u64 = 10;
const SECONDS: f64 = 10.0;

/// What came of a command, for the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    /// The status.
    pub status: u8,
    /// Whether a script must not go on: what failed is not mended by another command of the same screen.
    pub ends: bool,
}

/// A message, as far as it is told of: what it brings is in the state, and may be much.
#[derive(Debug)]
pub(super) enum Heard {
    /// Something was typed.
    Input,
    /// Something happened in a recovery.
    Event(Box<Event>),
    /// Something that was asked for came.
    Answer,
    /// The time.
    Clock,
}

impl Heard {
    /// What there is to hear in a message.
    pub(super) fn of(msg: &Msg) -> Heard {
        match msg {
            Msg::Key(_) | Msg::Command(_) | Msg::Click(_) => Heard::Input,
            Msg::Event(event) => Heard::Event(Box::new(event.clone())),
            Msg::Tick(_) => Heard::Clock,
            _ => Heard::Answer,
        }
    }
}

/// What was told, and what is to be told.
#[derive(Debug, Default)]
pub(super) struct Told {
    lines: Vec<String>,
    catalog: bool,
    recoveries: bool,
    scan: Option<&'static str>,
    milestone: Milestone,
    steps: Milestone,
    status: Option<Status>,
    question: Option<String>,
    answered: bool,
    plan: Option<&'static str>,
    standing: bool,
    interrupted: bool,
    checks: bool,
    screen: Option<Screen>,
    selected: Vec<String>,
    next: String,
    waits_for: Option<WaitsFor>,
    drilled: Drilled,
    /// What the numbers of the last list stand for.
    pub listed: Listed,
    /// What came of the command.
    pub outcome: Outcome,
    /// Whether something was begun here whose end decides the status.
    pub begun: bool,
}

/// How far something was told to be, and when.
#[derive(Debug, Default, Clone, Copy)]
struct Milestone {
    percent: u64,
    at: Option<Timestamp>,
}

impl Milestone {
    /// Whether it is time to tell again.
    fn is_due(&mut self, percent: Option<u64>, now: Timestamp) -> bool {
        let Some(before) = self.at else {
            // What is over within a second is not worth a line.
            self.at = Some(now);
            return false;
        };
        let elapsed = now.seconds_since(before);
        let more = percent.is_some_and(|percent| percent >= self.percent + PERCENT);
        let due = elapsed >= SECONDS || (more && elapsed >= 1.0);
        if due {
            *self = Milestone { percent: percent.unwrap_or(0) / PERCENT * PERCENT, at: Some(now) };
        }
        due
    }
}

impl Told {
    /// Takes what is to be told.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn fail(&mut self, status: u8, ends: bool) {
        self.outcome = Outcome { status, ends };
    }

    /// Says something.
    pub(super) fn note(&mut self, line: &str) {
        self.say(line);
    }

    /// What the cursor is on is told again.
    pub(super) fn select(&mut self) {
        self.selected.clear();
    }

    /// Says what commands there are, or what one does.
    pub(super) fn help(&mut self, about: Option<&str>, state: &State) {
        self.lines.extend(super::words::help(about, state));
    }

    /// A new line is read; with a command, what came of the one before is forgotten.
    pub(super) fn begin(&mut self, commands: bool) {
        if commands {
            self.outcome = Outcome::default();
        }
        self.answered = true;
    }

    /// What is not understood, and why.
    pub(super) fn unknown(&mut self, why: String) {
        self.fail(WRONG, true);
        self.say(why);
    }

    /// What cannot be done, and why.
    pub(super) fn refused(&mut self, why: String) {
        self.fail(FAILED, true);
        self.say(format!("not now: {why}"));
    }

    /// After an answer was given to a question, the same question is open: it was no answer.
    pub(super) fn not_taken(&mut self, state: &State) {
        match &state.dialog {
            Some(Dialog::Confirm(_)) => self.fail(UNCONFIRMED, true),
            Some(
                Dialog::Target(_)
                | Dialog::Directory(_)
                | Dialog::Value(_)
                | Dialog::BaseBackup(_)
                | Dialog::Scratch(_),
            ) => {
                self.fail(WRONG, true);
            }
            _ => {}
        }
    }

    /// The input has ended while a question is open.
    pub(super) fn left_open(&mut self, state: &State) {
        if let Some(Dialog::Confirm(confirm)) = &state.dialog {
            self.fail(UNCONFIRMED, true);
            self.say(format!("nobody typed {}: nothing was done", confirm.name));
        }
    }

    /// What a message brought, now that it is folded into the state.
    pub(super) fn hear(&mut self, heard: &Heard, state: &State) {
        match heard {
            Heard::Event(event) if state.following.as_deref() == Some(event.recovery.as_str()) => {
                self.happened(event, state);
            }
            // It clears the status line: what that says now is its own, even where it is what it said before.
            Heard::Input => self.status = None,
            _ => {}
        }
        let said_why = state.status.as_ref().is_some_and(|status| status.refusal) && self.status != state.status;
        if said_why && matches!(heard, Heard::Input | Heard::Answer) {
            let status = refusal_status(state);
            self.fail(status, true);
        }
    }

    fn happened(&mut self, event: &Event, state: &State) {
        match &event.what {
            What::StepStarted { step } => {
                self.steps = Milestone { percent: 0, at: Some(state.now) };
                let plan = state.recovery.plan.as_ref();
                let title = plan.and_then(|plan| plan.steps.iter().find(|planned| planned.id == *step));
                let title = title.map(|planned| format!(": {}", planned.title)).unwrap_or_default();
                self.say(format!("step {step}{title}"));
            }
            What::StepFinished { step, seconds, bytes } => {
                let bytes = bytes.map(|bytes| format!(", {}", Bytes(bytes))).unwrap_or_default();
                self.say(format!("step {step} is done, in {}{bytes}", Seconds(*seconds)));
            }
            What::Progress(progress) => self.progress(progress, state),
            What::State { .. } | What::Failed(_) => (self.standing, self.checks) = (false, false),
            What::Log { line } => self.log(line, state),
            What::Finding(finding) => {
                let hint = finding.hint.as_ref().map(|hint| format!("; to do: {hint}")).unwrap_or_default();
                self.say(format!("{}: {}{hint}", finding.severity, finding.message));
            }
            What::Resumed { found } => self.say(format!("gone on with: {found}")),
            What::Item { item, state, said, .. } => {
                self.say(format!("{}: {}", item.word(), state.word()));
                self.lines.extend(said.iter().map(|said| format!("  {said}")));
            }
            _ => {}
        }
    }

    fn progress(&mut self, progress: &Progress, state: &State) {
        // Once for each thing; that segments are fetched needs no words.
        let waits_for = progress.waits_for.filter(|waits| *waits != WaitsFor::Archive);
        if std::mem::replace(&mut self.waits_for, waits_for) != waits_for
            && let (Some(_), Some(doing)) = (waits_for, &progress.doing)
        {
            self.say(format!("{}: {doing}", progress.step));
        }
        let percent = progress.total.filter(|total| *total > 0).map(|total| percent(progress.done, total));
        if !self.steps.is_due(percent, state.now) {
            return;
        }
        let share = percent.map(|percent| format!("{percent} percent, ")).unwrap_or_default();
        let place = match progress.replayed_lsn.filter(|_| progress.step == StepId::Replay) {
            Some(lsn) => {
                format!("; replayed to {lsn}, last transaction {}", words::moment(progress.last_commit_at, state.zone))
            }
            None => String::new(),
        };
        self.say(format!("{}: {share}{}{place}", progress.step, gauge::words(progress)));
    }

    /// What the server warns of; not what it says to whoever asks too early, which is Walback itself.
    fn log(&mut self, line: &str, state: &State) {
        let severity = LogLine::parse(line).severity;
        let is_grave =
            matches!(severity, Some(Severity::Warning | Severity::Error | Severity::Fatal | Severity::Panic));
        let is_early =
            ["the database system is", "not yet accepting connections"].iter().any(|text| line.contains(text));
        if is_grave && !is_early {
            self.say(format!("the server says: {}", words::log_line(line, state.zone)));
        }
    }

    /// What the state has that was not told.
    pub(super) fn look(&mut self, state: &State, errands: &Errands) {
        self.at_home(state, errands);
        self.planned(state);
        self.other_screen(state);
        self.stands(state, errands);
        self.drilled(state);
        self.said(state);
        self.asked(state);
        if !is_waiting(state, errands) {
            self.came_to_rest(state);
        }
    }

    fn at_home(&mut self, state: &State, errands: &Errands) {
        match &state.catalog {
            Loading::Loading => (self.catalog, self.scan) = (false, None),
            Loading::Loaded(catalog) if !self.catalog => {
                self.catalog = true;
                self.lines.extend(home::listed(state, catalog));
            }
            Loading::Loaded(_) | Loading::Failed(_) => {}
        }
        // Those that were there at the start; what is begun from here on is told as it happens.
        if !self.recoveries && errands.knows_recoveries() && self.catalog {
            self.recoveries = true;
            self.lines.extend(home::recoveries(state));
        }
        self.read(state);
    }

    fn read(&mut self, state: &State) {
        let now = match &state.scan.state {
            ScanState::Waiting => return,
            ScanState::Running => "running",
            ScanState::Finished => "finished",
            ScanState::Cancelled => "cancelled",
            ScanState::Failed(_) => "failed",
        };
        if now == "running" {
            let scan = &state.scan;
            let share = (scan.total > 0).then(|| percent(scan.done, scan.total));
            if self.scan != Some(now) {
                self.milestone = Milestone { percent: 0, at: Some(state.now) };
            } else if self.milestone.is_due(share, state.now) {
                let left = scan.pace.eta_s(scan.total).map(|eta| format!(", about {} left", Seconds(eta)));
                let rate = scan.pace.per_second().map(|rate| format!(", {}/s", Bytes(rate as u64)));
                let (share, total) = (share.unwrap_or(0), Bytes(scan.total));
                let (rate, left) = (rate.unwrap_or_default(), left.unwrap_or_default());
                self.say(format!("reading the WAL archive: {share} percent of {total}{rate}{left}"));
            }
        } else if self.scan.is_some_and(|told| told == "running") || self.scan.is_none() {
            self.lines.extend(home::archive(state));
        }
        self.scan = Some(now);
    }

    fn planned(&mut self, state: &State) {
        let now = state.planning.as_ref().map(|planning| match &planning.answer {
            Answer::Making => "making",
            Answer::Made(..) => "made",
            Answer::Failed(_) => "failed",
        });
        if self.plan == now || state.screen() != Screen::Plan {
            // A plan that was left is told anew when the next one is made.
            self.plan = now;
            return;
        }
        self.plan = now;
        let Some(planning) = &state.planning else { return };
        let mut text = doc();
        match &planning.answer {
            Answer::Making => {
                let target = planning.wanted.target.in_words(state.zone);
                return self.say(format!("making the plan, which changes nothing: {target}"));
            }
            Answer::Made(made, approach) => {
                self.say(format!("plan of recovery {}", made.recovery));
                plan::write_short(&mut text, Theme::new(false), state, made, approach.as_deref());
                if made.is_forbidden() {
                    self.fail(FORBIDDEN, false);
                }
            }
            Answer::Failed(error) => {
                plan::write(&mut text, Theme::new(false), state, planning);
                self.fail(error.report().kind.exit_status(), false);
            }
        }
        self.lines.extend(lines_of(text));
    }

    /// How the followed recovery stands, when it stands still.
    fn stands(&mut self, state: &State, errands: &Errands) {
        let Some(recovery) = state.recovery.recovery() else {
            (self.standing, self.checks) = (false, false);
            return;
        };
        use RecoveryState::{Discarded, Failed, Paused, Promoted, ShutDown};
        let still = matches!(recovery.state, Paused | Promoted | ShutDown | Failed | Discarded);
        // Its last step comes to its end a moment later.
        if still && !self.standing && !errands.is_acting() {
            self.standing = true;
            let mut text = doc();
            paused::write(&mut text, Theme::new(false), state, &recovery);
            self.say(format!("recovery {}:", recovery.id));
            self.lines.extend(lines_of(text));
            let bad = recovery.state == Failed || recovery.matches_prediction == Some(false);
            if std::mem::take(&mut self.begun) && bad {
                self.fail(FAILED, true);
            }
        }
        if let (Checks::Done(_), false, true) = (&state.checks, self.checks, self.standing) {
            self.checks = true;
            let mut text = doc();
            paused::checks(&mut text, Theme::new(false), state);
            self.lines.extend(lines_of(text));
        }
        self.checks &= matches!(state.checks, Checks::Done(_));
        match &state.interrupted {
            Some(found) if !self.interrupted => {
                self.interrupted = true;
                self.say("warning: it was interrupted, and nobody works on it");
                self.say(format!("  {found}"));
            }
            Some(_) => {}
            None => self.interrupted = false,
        }
    }

    fn drilled(&mut self, state: &State) {
        let (lines, status) = self.drilled.look(state);
        self.lines.extend(lines);
        if let Some(status) = status {
            self.fail(status, true);
        }
    }

    /// A screen that has no words of its own here, as it is drawn.
    fn other_screen(&mut self, state: &State) {
        let now = state.screen();
        if self.screen == Some(now) {
            return;
        }
        let before = self.screen.replace(now);
        if now == Screen::Paused && self.standing && before != Some(Screen::Recovery) {
            // All of it was told when it came to stand still.
            let name = state.following.as_deref().unwrap_or("?");
            let word = state.recovery_state().map_or("unknown", RecoveryState::word);
            self.say(format!("recovery {name} is {word}; show says how it stands"));
        }
        if !matches!(now, Screen::Points | Screen::Plan | Screen::Recovery | Screen::Paused) {
            self.lines.extend(super::drawn::lines(state));
        }
    }

    /// What the status line says.
    fn said(&mut self, state: &State) {
        if self.status == state.status {
            return;
        }
        self.status.clone_from(&state.status);
        if let Some(status) = &state.status {
            self.say(if status.refusal { format!("not now: {}", status.text) } else { status.text.clone() });
        }
    }

    /// The open question, once.
    fn asked(&mut self, state: &State) {
        let name = state.dialog.as_ref().map(question::name);
        let again = std::mem::take(&mut self.answered);
        if let Some(dialog) = &state.dialog {
            let answer = if let Dialog::Sql(form) = dialog { question::said(form) } else { None };
            if let Some(answer) = answer {
                // An answer is told when it comes; the question behind it is known.
                if self.question != Some(format!("{name:?} said")) || again {
                    self.question = Some(format!("{name:?} said"));
                    self.lines.extend(answer);
                    if matches!(dialog, Dialog::Sql(form) if matches!(form.answer, Said::Refused(_))) {
                        self.fail(FAILED, true);
                    }
                }
                return;
            }
            let is_asking = matches!(dialog, Dialog::Sql(form) if form.answer == Said::Asked);
            if (self.question != name || again) && !is_asking {
                self.lines.extend(question::ask(state, dialog));
                if let Dialog::Error(error) = dialog {
                    self.fail(error.report().kind.exit_status(), true);
                }
            }
            if matches!(dialog, Dialog::Suspects(_)) {
                self.listed = Listed::Suspects;
            }
        }
        self.question = name;
    }

    /// What the cursor is on, and what to do next, where that is something else than before.
    fn came_to_rest(&mut self, state: &State) {
        if state.dialog.is_some() {
            return;
        }
        if state.screen() == Screen::Points && state.loaded().is_some() {
            let selected = home::selected(state);
            if selected != self.selected {
                self.lines.extend(selected.iter().cloned());
                self.selected = selected;
            }
        }
        let next = next::next(state);
        if next != self.next {
            self.say(format!("next: {next}"));
            self.next = next;
        }
    }

    /// What was asked for to be listed.
    pub(super) fn show(&mut self, show: Show, state: &State) {
        match (show, state.screen()) {
            (Show::Overview, _) => {
                self.lines.extend(home::overview(state));
                self.listed = Listed::Suspects;
            }
            (Show::Screen, Screen::Points) => {
                let (lines, rows) = home::page(state);
                self.lines.extend(lines);
                self.listed = Listed::Rows(rows);
                self.selected = home::selected(state);
            }
            (Show::Screen, Screen::Plan) => {
                if let Some(planning) = &state.planning {
                    let mut text = doc();
                    plan::write(&mut text, Theme::new(false), state, planning);
                    self.lines.extend(lines_of(text));
                }
            }
            (Show::Screen, Screen::Recovery) => self.running(state),
            (Show::Screen, Screen::Paused) => {
                self.standing = false;
                self.checks = false;
            }
            #[allow(unreachable_patterns, reason = "a screen that is added is told as it is drawn")]
            (Show::Screen, _) => self.lines.extend(super::drawn::lines(state)),
        }
        if state.screen() != Screen::Points {
            self.next.clear();
        }
    }

    /// How far the running recovery is.
    fn running(&mut self, state: &State) {
        let buffer = &state.recovery;
        let Some(plan) = &buffer.plan else { return self.say("waiting for its first news") };
        self.say(format!("goes to: {}, in {}", words::predicted(&plan.resolved), plan.directory.display()));
        for step in &plan.steps {
            let done = buffer.phases.iter().rev().find(|phase| phase.step == step.id);
            let words = match done {
                _ if buffer.running == Some(step.id) => "running".to_owned(),
                Some(phase) => format!("done in {}", Seconds(phase.seconds)),
                None => "to come".to_owned(),
            };
            self.say(format!("  step {}: {words}", step.id));
        }
        if let Some(progress) = &buffer.progress {
            self.steps = Milestone { percent: 0, at: Some(state.now.plus_micros(-60_000_000)) };
            self.progress(progress, state);
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(total.max(1))) as u64
}

/// The status for a command that was refused: a plan that cannot be started says why not.
fn refusal_status(state: &State) -> u8 {
    if matches!(state.dialog, Some(Dialog::Confirm(_))) {
        return UNCONFIRMED;
    }
    if state.dialog.is_some() {
        return WRONG;
    }
    match state.planning.as_ref().filter(|_| state.screen() == Screen::Plan).map(|planning| &planning.answer) {
        Some(Answer::Failed(error)) => error.report().kind.exit_status(),
        Some(Answer::Made(plan, _)) if plan.is_forbidden() => FORBIDDEN,
        _ => FAILED,
    }
}
