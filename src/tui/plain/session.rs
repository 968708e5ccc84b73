//! The program as lines, without input and output: what is read goes in, what has to be done and told comes out.

use std::collections::VecDeque;

use super::PROMPT;
use super::question;
use super::tell::{Heard, Told};
use super::wait::{Errands, is_waiting};
use super::words::{self, Meaning, Show};
use crate::app::dialog::Then;
use crate::app::drills::DrillChoice;
use crate::app::state::ScanState;
use crate::app::{Act, Dialog, Effect, Hit, Key, Msg, Screen, State, update};
use crate::plan::StepId;
use crate::tui::run::lend::Errand;

/// The status of a program that was interrupted (`docs/cli.md`).
const INTERRUPTED: u8 = 130;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    Go,
    /// The program is left.
    Leave,
}

/// What is to be done, one after the other.
#[derive(Debug, Clone, PartialEq)]
enum Item {
    /// A line that was read.
    Line(String),
    /// What the same line answers to the question of its command.
    Answer(String),
    /// The form that was answered is left.
    Leave,
    /// Something is listed.
    Show(Show),
    /// The input has ended.
    End,
}

/// The program, between two lines.
#[derive(Debug)]
pub(super) struct Session {
    /// What is known.
    pub state: State,
    /// What was told.
    pub told: Told,
    /// What has to be done outside.
    pub effects: Vec<Effect>,
    /// What the terminal is to be lent for.
    pub errand: Option<Errand>,
    /// Nothing more is read.
    pub ended: bool,
    errands: Errands,
    queue: VecDeque<Item>,
    /// Whether somebody types; else it is a script, whose commands wait for each other.
    typed: bool,
    /// Whether other programs can have the terminal.
    lends: bool,
    interrupted: bool,
}

impl Session {
    /// The beginning. `typed` where somebody types, `lends` where other programs can have the terminal.
    pub(super) fn new(mut state: State, typed: bool, lends: bool) -> Session {
        // Unfinished recoveries are listed: a script's first line is no answer to a question that nobody saw.
        state.offered = true;
        state.keys = std::mem::take(&mut state.keys).by_name();
        Session {
            state,
            told: Told::default(),
            effects: Vec::new(),
            errand: None,
            ended: false,
            errands: Errands::default(),
            queue: VecDeque::new(),
            typed,
            lends,
            interrupted: false,
        }
    }

    /// The exit status: of a script the last command's.
    pub(super) fn status(&self) -> u8 {
        match (self.typed, self.interrupted) {
            (true, _) => 0,
            (false, true) => INTERRUPTED,
            (false, false) => self.told.outcome.status,
        }
    }

    /// Whether something that was asked for has not come to its end.
    pub(super) fn is_waiting(&self) -> bool {
        is_waiting(&self.state, &self.errands)
    }

    /// Whether another line can be taken.
    pub(super) fn wants_line(&self) -> bool {
        self.queue.is_empty() && !self.ended
    }

    /// A line was read.
    pub(super) fn read(&mut self, line: String) {
        self.queue.push_back(Item::Line(line));
    }

    /// The input has ended: the program leaves when what was asked for has come to its end.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.queue.push_back(Item::End);
        if self.typed && self.is_waiting() {
            self.told.note("the program leaves when this has come to its end; Ctrl-C cancels it");
        }
    }

    /// Folds one message in.
    pub(super) fn take(&mut self, msg: Msg) -> Next {
        let mut next = Next::Go;
        self.errands.came(&msg);
        let heard = Heard::of(&msg);
        let effects = update(&mut self.state, msg);
        self.told.hear(&heard, &self.state);
        for effect in effects {
            self.errands.sent(&effect);
            match effect {
                Effect::Quit => next = Next::Leave,
                Effect::Look { recovery } => self.lend("look opens psql", Errand::Look(recovery)),
                Effect::Page { recovery } => self.lend("pager shows the log page by page", Errand::Page(recovery)),
                Effect::Read { file } => self.lend("report opens it in a pager", Errand::Read(file)),
                Effect::Edit(edit) => self.lend("edit-settings opens an editor", Errand::Edit(edit)),
                // The shell stops the program itself; and what a terminal keeps is for eyes.
                Effect::Suspend | Effect::Copy { .. } => {}
                effect => {
                    self.told.begun |=
                        matches!(effect, Effect::Start { .. } | Effect::Resume { .. } | Effect::Retarget { .. });
                    self.effects.push(effect);
                }
            }
        }
        next
    }

    /// Has the terminal lent, where there is one.
    fn lend(&mut self, what: &str, errand: Errand) {
        if self.lends {
            self.errand = Some(errand);
        } else {
            self.told.refused(format!("{what}, which needs a terminal"));
        }
    }

    fn take_all(&mut self, all: Vec<Msg>) -> Next {
        let nexts: Vec<Next> = all.into_iter().map(|msg| self.take(msg)).collect();
        if nexts.contains(&Next::Leave) { Next::Leave } else { Next::Go }
    }

    /// Does what can be done now.
    pub(super) fn work(&mut self) -> Next {
        loop {
            // What stands behind a command answers its question, which need not be told then.
            if !matches!(self.queue.front(), Some(Item::Answer(_))) {
                self.told.look(&self.state, &self.errands);
                self.leave_what_was_told();
            }
            let waiting = self.is_waiting();
            if self.told.outcome.ends && !self.typed && !self.interrupted {
                return self.give_up(waiting);
            }
            let ready = match self.queue.front() {
                None => false,
                // Whoever types is listened to at once; a script waits.
                Some(Item::Line(_)) if self.typed => true,
                Some(_) => !waiting,
            };
            if !ready || self.errand.is_some() {
                return Next::Go;
            }
            let Some(item) = self.queue.pop_front() else { return Next::Go };
            if self.handle(item) == Next::Leave {
                return Next::Leave;
            }
        }
    }

    /// A script does not go on after what failed; what is being done comes to its end before the program leaves.
    fn give_up(&mut self, waiting: bool) -> Next {
        let rest = self.queue.iter().any(|item| matches!(item, Item::Line(_))) || !self.ended;
        if rest {
            self.told.note("the command before has failed: what follows in the input is not read");
        }
        self.queue.clear();
        self.ended = true;
        if waiting { Next::Go } else { Next::Leave }
    }

    /// Lists, errors and help are no questions: they are told, and left.
    fn leave_what_was_told(&mut self) {
        if matches!(self.state.dialog, Some(Dialog::Suspects(_) | Dialog::Error(_) | Dialog::Help)) {
            self.take(Msg::Key(Key::Esc));
            self.told.look(&self.state, &self.errands);
        }
    }

    fn handle(&mut self, item: Item) -> Next {
        match item {
            Item::Line(line) => {
                if !self.typed {
                    self.told.note(&format!("{PROMPT}{}", line.trim()));
                }
                self.line(&line)
            }
            Item::Answer(text) => {
                let Some(dialog) = &self.state.dialog else { return Next::Go };
                match words::answer(dialog, &text, &self.state) {
                    Meaning::Leave(_) => {
                        self.told.unknown(format!("“{text}” is no answer to that"));
                        Next::Go
                    }
                    meaning => self.mean(meaning),
                }
            }
            Item::Leave => self.take(Msg::Key(Key::Esc)),
            Item::Show(show) => {
                self.told.show(show, &self.state);
                Next::Go
            }
            Item::End => {
                self.told.left_open(&self.state);
                Next::Leave
            }
        }
    }

    fn line(&mut self, line: &str) -> Next {
        let meaning = words::meaning(line, &self.state, &self.told.listed);
        let tells = matches!(
            meaning,
            Meaning::Nothing | Meaning::Help(_) | Meaning::Show(_) | Meaning::Ask | Meaning::Command(Act::Quit, _)
        );
        self.told.begin(!tells);
        let moves = match &meaning {
            Meaning::Do(_) => self.state.dialog.is_none(),
            Meaning::Command(act, _) => words::moves(*act),
            _ => false,
        };
        if moves {
            self.told.select();
        }
        match meaning {
            // Without a question it is another line: this ends.
            Meaning::Leave(line) => {
                self.take(Msg::Key(Key::Esc));
                if self.state.dialog.is_none() { self.line(&line) } else { Next::Go }
            }
            meaning => self.mean(meaning),
        }
    }

    fn mean(&mut self, meaning: Meaning) -> Next {
        match meaning {
            Meaning::Nothing | Meaning::Ask | Meaning::Leave(_) => {}
            Meaning::Do(all) => return self.answer(all),
            Meaning::Page(all) => {
                self.queue.push_front(Item::Show(Show::Screen));
                return self.take_all(all);
            }
            Meaning::Around(text) => {
                self.queue.push_front(Item::Show(Show::Screen));
                return self.command(Act::Find, text);
            }
            Meaning::Command(act, rest) => return self.command(act, rest),
            Meaning::Show(show) => self.queue.push_front(Item::Show(show)),
            Meaning::Help(about) => self.told.help(about, &self.state),
            Meaning::Unknown(why) => self.told.unknown(why),
            Meaning::Refused(why) => self.told.refused(why),
        }
        Next::Go
    }

    /// A command; where it asks something, that is answered with what stands behind it.
    fn command(&mut self, act: Act, rest: String) -> Next {
        let next = self.take(Msg::Command(act));
        if rest.is_empty() {
            return next;
        }
        if act == Act::Sql && self.state.dialog.is_some() {
            self.queue.push_front(Item::Leave);
        }
        // What is asked may come only after something was looked at.
        self.queue.push_front(Item::Answer(rest));
        next
    }

    /// The answer to a question. Where the same question stays open, it was none.
    fn answer(&mut self, all: Vec<Msg>) -> Next {
        let enters = all.contains(&Msg::Key(Key::Enter));
        let before = self.state.dialog.as_ref().map(question::name);
        let next = self.take_all(all);
        if enters && before.is_some() && before == self.state.dialog.as_ref().map(question::name) {
            self.told.not_taken(&self.state);
        }
        next
    }

    /// Ctrl-C: cancels what takes long, as the command for it does, or leaves where nothing does.
    pub(super) fn interrupt(&mut self) -> Next {
        if !self.typed {
            // Nobody is there to answer.
            (self.interrupted, self.ended) = (true, true);
            self.queue.clear();
            self.queue.push_back(Item::End);
        }
        let waiting = self.is_waiting();
        let on_its_own = self.state.recovery.running == Some(StepId::Replay);
        if let Some(running) = &self.state.drills.running {
            return if running.given_up { Next::Leave } else { self.give_up_drill() };
        }
        match self.state.screen() {
            // Asked once more, it is meant.
            _ if self.offers_to_cancel().is_some() => self.cancel_step(),
            _ if matches!(self.state.dialog, Some(Dialog::Sql(_))) && waiting => self.take(Msg::Key(Key::Esc)),
            Screen::Points if self.state.scan.state == ScanState::Running => self.take(Msg::Command(Act::CancelScan)),
            Screen::Plan if waiting => self.take(Msg::Command(Act::Back)),
            Screen::Recovery if waiting && self.typed => self.take(Msg::Command(Act::CancelStep)),
            Screen::Recovery if waiting && !on_its_own => {
                self.take(Msg::Command(Act::CancelStep));
                self.cancel_step()
            }
            _ => Next::Leave,
        }
    }

    /// Asks whoever types; else nobody is there to answer.
    fn give_up_drill(&mut self) -> Next {
        if self.offers_to_cancel().is_some() {
            return self.cancel_step();
        }
        if self.state.screen() != Screen::Drills {
            // From elsewhere it is left with the program, which asks.
            return self.take(Msg::Command(Act::Quit));
        }
        let next = self.take(Msg::Command(Act::GiveUpDrill));
        if self.typed { next } else { self.cancel_step() }
    }

    /// The choice of the open question that stops the running step.
    fn offers_to_cancel(&self) -> Option<usize> {
        let Some(Dialog::Menu(menu)) = &self.state.dialog else { return None };
        let stops = |then: &Then| matches!(then, Then::CancelStep | Then::Drill(DrillChoice::GiveUp));
        menu.choices.iter().position(|choice| stops(&choice.then))
    }

    fn cancel_step(&mut self) -> Next {
        match self.offers_to_cancel() {
            // The first click chooses, the second one takes.
            Some(place) => self.take_all(vec![Msg::Click(Hit::Choice(place)); 2]),
            None => Next::Leave,
        }
    }
}
