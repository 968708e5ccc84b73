//! The Drills screen: the drills of this source, the one that this program makes, and what a recovery would take now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::command::Act;
use super::dialog::{Choice, Dialog, FormKind, Menu, Stop, TargetForm, Then};
use super::effect::Effect;
use super::field::Field;
use super::keys::key_of;
use super::state::{Screen, State};
use crate::catalog::Backup;
use crate::core::progress::Seconds;
use crate::core::{Target, TargetKind, Timestamp};
use crate::error::{Error, ErrorKind};
use crate::event::drill::{PLANNING, document};
use crate::event::{DrillCheck, DrillReport, DrillResult, Event, EventBuffer, What};
use crate::plan::Estimate;
use crate::plan::settings::shell_quote;

/// Seconds between two looks at the drills while the screen is open: a timer may make one, too.
const LOOK_EVERY: f64 = 5.0;

/// What has to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// List the drills, and look whether their reports are as they were written. Answered by [`News::Listed`].
    List,
    /// Tell what a recovery from each base backup would take now. Answered by [`News::Forecast`].
    Forecast,
    /// Make one. Answered by [`News::Happened`] again and again, and at last [`News::Over`].
    Make(Wanted),
    /// Give up the one that is being made: what it made is removed, and it is reported as interrupted.
    GiveUp,
}

/// What a drill is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// From which base backup, as `--backup` takes it; `None` for the best one.
    pub backup: Option<String>,
    /// To where; `None` for a commit that is drawn at random.
    pub target: Option<Target>,
    /// Below which directory; `None` for the configured one.
    pub scratch: Option<String>,
}

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The drills that this machine knows.
    Listed(Result<Listed, Error>),
    /// What a recovery from each base backup that can be used would take, by its name.
    Forecast(BTreeMap<String, Estimate>),
    /// Something happened in the drill that is being made.
    Happened {
        /// Its name.
        drill: String,
        /// What.
        what: Happened,
    },
    /// It is over, with this report; or it could not be begun, or reported.
    Over(Result<Box<DrillReport>, Error>),
}

/// What happens in a drill.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// Something in its recovery.
    Event(Event),
    /// A part is begun, in words.
    Doing(String),
    /// A check was carried out.
    Checked(DrillCheck),
    /// Something to be known.
    Note(String),
}

/// The drills that a machine knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listed {
    /// Each of them, in the order in which they were reported.
    pub drills: Vec<Entry>,
    /// What is wrong with the chain of their reports, in words.
    pub problems: Vec<String>,
}

/// A drill.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub standing: Standing,
    /// Its report, as far as there is one.
    pub report: Option<Arc<DrillReport>>,
    /// The directory of its report.
    pub directory: PathBuf,
}

/// Where a drill stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is over.
    Over(DrillResult),
    /// It goes on; who makes it, in words.
    Running(String),
    /// It was killed, and nobody has cleared up behind it yet.
    Killed,
    /// Its report cannot be read: why.
    Unreadable(String),
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Over(result) => result.word(),
            Self::Running(_) => "running",
            Self::Killed => "killed",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// The drill that this program makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its name, once it has one.
    pub id: Option<String>,
    /// When it was begun.
    pub began: Timestamp,
    /// What it does, in words.
    pub doing: String,
    /// What happened in its recovery.
    pub recovery: Box<EventBuffer>,
    /// The checks so far.
    pub checks: Vec<DrillCheck>,
    /// What else is to be known, the last of it.
    pub note: Option<String>,
    /// It is being given up.
    pub given_up: bool,
}

impl Running {
    /// What it does, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        if self.given_up { "it is being given up".to_owned() } else { self.doing.clone() }
    }
}

/// What is known of drills.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drills {
    /// What reports call this source; `None` where the configuration gives it no name.
    pub source: Option<String>,
    /// All that this machine knows; `None` before they were listed.
    pub listed: Option<Arc<Listed>>,
    /// Why they cannot be listed.
    pub failed: Option<Error>,
    /// The row under the cursor.
    pub cursor: usize,
    /// The one that this program makes.
    pub running: Option<Running>,
    /// How the last one ended that this program made.
    pub last: Option<DrillResult>,
    /// Below which directory drills are made; `None` where that is not known yet.
    pub scratch: Option<String>,
    /// Whether `scratch` was typed, and is not the configured one.
    pub typed: bool,
    /// What a recovery from each base backup would take, by its name.
    pub forecast: BTreeMap<String, Estimate>,
    /// When they were listed last.
    looked: Option<Timestamp>,
    /// They are being listed.
    listing: bool,
}

impl Drills {
    /// Whether it is known which there are, or why that cannot be told.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.is_some() || self.failed.is_some()
    }
}

/// The drills of this source, the newest first.
#[must_use]
pub fn mine(state: &State) -> Vec<&Entry> {
    let all = state.drills.listed.iter().flat_map(|listed| &listed.drills);
    let mut mine: Vec<&Entry> = all.filter(|entry| is_mine(state, entry)).collect();
    mine.reverse();
    mine
}

/// Whether a drill is of this source: by its name, and where it has none, by the cluster. Never one of another cluster.
fn is_mine(state: &State, entry: &Entry) -> bool {
    let Some(report) = &entry.report else { return true };
    let of = report.source.system_identifier.as_ref().and_then(|id| id.parse::<u64>().ok());
    let is_named = state.drills.source.as_ref().is_none_or(|name| *name == report.source.name);
    is_named && !state.is_another_cluster(of)
}

/// The drill under the cursor.
#[must_use]
pub fn chosen(state: &State) -> Option<&Entry> {
    mine(state).get(state.drills.cursor).copied()
}

/// What a recovery from this base backup would take, as far as that can be told.
#[must_use]
pub fn forecast<'s>(state: &'s State, backup: &Backup) -> Option<&'s Estimate> {
    state.drills.forecast.get(&backup.id)
}

/// What a recovery from the newest base backup that can be used would take, in seconds.
#[must_use]
pub fn forecast_of_newest(state: &State) -> Option<f64> {
    let newest = state.loaded()?.best_first().into_iter().find(|backup| backup.is_usable())?;
    forecast(state, newest)?.total_s
}

/// Asks for what has to be known: the drills while the screen is open.
pub(super) fn look_after(state: &mut State) -> Vec<Effect> {
    let is_open = state.screens.last() == Some(&Screen::Drills);
    let drills = &mut state.drills;
    let is_due = drills.looked.is_none_or(|looked| state.now.seconds_since(looked) >= LOOK_EVERY);
    if !is_open || !is_due || drills.listing {
        return Vec::new();
    }
    (drills.looked, drills.listing) = (Some(state.now), true);
    vec![Effect::Drill(Ask::List)]
}

/// Takes in what was asked for.
pub(super) fn came(state: &mut State, news: News) -> Vec<Effect> {
    match news {
        News::Listed(answer) => listed(state, answer),
        News::Forecast(forecast) => state.drills.forecast = forecast,
        News::Happened { drill, what } => happened(state, drill, what),
        News::Over(answer) => return over(state, answer),
    }
    Vec::new()
}

/// The cursor stays on the drill that it is on, whatever was reported since; on the newest one it stays on the newest.
fn listed(state: &mut State, answer: Result<Listed, Error>) {
    let before = chosen(state).map(|entry| entry.id.clone()).filter(|_| state.drills.cursor > 0);
    state.drills.listing = false;
    match answer {
        Ok(listed) => (state.drills.listed, state.drills.failed) = (Some(Arc::new(listed)), None),
        Err(error) => state.drills.failed = Some(error),
    }
    let mine = mine(state);
    let place = before.and_then(|id| mine.iter().position(|entry| entry.id == id));
    state.drills.cursor = place.unwrap_or(state.drills.cursor).min(mine.len().saturating_sub(1));
}

fn happened(state: &mut State, drill: String, what: Happened) {
    let Some(running) = &mut state.drills.running else { return };
    match what {
        Happened::Note(note) => running.note = Some(note),
        // It begins by planning; what comes before is about one that was killed.
        Happened::Doing(doing) if running.id.is_some() || doing == PLANNING => {
            (running.id, running.doing) = (Some(drill), doing);
        }
        _ if running.id.as_ref() != Some(&drill) => running.doing = format!("clearing up behind {drill}"),
        Happened::Event(event) => {
            if let What::StepStarted { step } = event.what {
                running.doing = step.to_string();
            }
            running.recovery.fold(&event);
        }
        Happened::Checked(check) => running.checks.push(check),
        Happened::Doing(_) => {}
    }
}

fn over(state: &mut State, answer: Result<Box<DrillReport>, Error>) -> Vec<Effect> {
    state.drills.running = None;
    state.drills.cursor = 0;
    // A list that was asked for before does not have it.
    (state.drills.looked, state.drills.listing) = (Some(state.now), true);
    // What was asked about it makes no sense any more.
    state.dialog = state.dialog.take().filter(|dialog| !asks_about_running(dialog));
    state.drills.last = answer.as_ref().ok().map(|report| report.result);
    match answer {
        Ok(report) => state.say(in_short(&report)),
        Err(error) if error.report().kind == ErrorKind::Interrupted => state.refuse(error.report().message.clone()),
        Err(error) => state.dialog = Some(Dialog::Error(error)),
    }
    vec![Effect::Drill(Ask::List), Effect::Drill(Ask::Forecast), Effect::LoadRecoveries]
}

/// What came of a drill, in as few words as have room in the status line.
fn in_short(report: &DrillReport) -> String {
    match (report.result, report.failures.first()) {
        (DrillResult::Passed, _) | (_, None) => format!("the drill has {}: {}", report.result, measures(report)),
        (result, Some(why)) => format!("the drill {result}: {why}"),
    }
}

/// `RTO 12 min 03 s, RPO 8.0 s`
#[must_use]
pub fn measures(report: &DrillReport) -> String {
    let parts = [("RTO", report.rto_s), ("RPO", report.rpo_s)];
    let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", Seconds(value?))));
    parts.collect::<Vec<_>>().join(", ")
}

/// Whether a question is about the drill that is being made.
fn asks_about_running(dialog: &Dialog) -> bool {
    let Dialog::Menu(menu) = dialog else { return false };
    menu.choices.iter().any(|choice| matches!(choice.then, Then::Leave | Then::Drill(DrillChoice::GiveUp)))
}

/// Moves the cursor.
pub(super) fn step(state: &mut State, rows: isize) {
    let last = mine(state).len().saturating_sub(1);
    state.drills.cursor = state.drills.cursor.saturating_add_signed(rows).min(last);
    state.scroll = 0;
}

/// Chooses a row.
pub(super) fn choose(state: &mut State, row: usize) {
    state.drills.cursor = 0;
    step(state, isize::try_from(row).unwrap_or(isize::MAX));
}

/// Asks which drill is wanted.
pub(super) fn offer(state: &mut State) {
    let choice = |key, label: &str, meaning: String, then| Choice {
        key: Some(key),
        label: label.to_owned(),
        meaning,
        then: Then::Drill(then),
    };
    let takes = |backup: Option<&Backup>| {
        let backup = backup.map(|backup| {
            let takes = forecast(state, backup).and_then(|estimate| estimate.total_s);
            let takes = takes.map(|seconds| format!(", about {} to restore", Seconds(seconds)));
            format!("{}{}", backup.id, takes.unwrap_or_default())
        });
        backup.unwrap_or_else(|| "there is none".to_owned())
    };
    let usable: Vec<&Backup> = state.loaded().map_or_else(Vec::new, |catalog| {
        catalog.best_first().into_iter().filter(|backup| backup.is_usable()).collect()
    });
    let wanted =
        |backup: &str, target| DrillChoice::Make(Wanted { backup: Some(backup.to_owned()), target, scratch: None });
    let latest = || Some(Target::new(TargetKind::Latest));
    let mut choices = vec![choice(
        'y',
        "the newest backup, to the end of WAL",
        takes(usable.first().copied()),
        wanted("newest", latest()),
    )];
    // Who chose one on the home screen may mean it.
    let is_other = |backup: &&Backup| backup.is_usable() && usable.first().is_some_and(|newest| newest.id != backup.id);
    let is_oldest = |backup: &&Backup| usable.last().is_some_and(|oldest| oldest.id == backup.id);
    if let Some(backup) = state.selected_backup().filter(is_other).filter(|backup| !is_oldest(backup)) {
        choices.push(choice('b', "the backup chosen at home", takes(Some(backup)), wanted(&backup.id, latest())));
    }
    if usable.len() > 1 {
        choices.push(choice('o', "the oldest backup", takes(usable.last().copied()), wanted("oldest", latest())));
    }
    let random = "any backup, to any commit behind it".to_owned();
    choices.push(choice('r', "drawn at random", random, wanted("random", None)));
    choices.push(choice('t', "to a time", "like 14:30 or 2 hours ago".to_owned(), DrillChoice::AskTime));
    let scratch = state.drills.scratch.clone().unwrap_or_else(|| "not said yet".to_owned());
    choices.push(choice('s', "below another directory", format!("now: {scratch}"), DrillChoice::AskScratch(None)));
    choices.push(super::act::nothing("none now", "nothing happens"));
    let text = vec![
        "Restores beside everything else, checks, measures, reports, and removes it again.".to_owned(),
        "Backups and archive are only read.".to_owned(),
    ];
    state.dialog = Some(Dialog::Menu(Menu { title: "Make which drill?".to_owned(), text, choices, selected: 0 }));
}

/// What follows from a choice of that menu.
#[derive(Debug, Clone, PartialEq)]
pub enum DrillChoice {
    /// It is made.
    Make(Wanted),
    /// A time is to be typed.
    AskTime,
    /// The directory for drills is to be typed; then this one is made.
    AskScratch(Option<Wanted>),
    /// The one that is being made is given up.
    GiveUp,
}

/// Goes on with what was chosen.
pub(super) fn chose(state: &mut State, choice: DrillChoice) -> Vec<Effect> {
    match choice {
        DrillChoice::Make(wanted) => return make(state, wanted),
        DrillChoice::AskTime => state.dialog = Some(Dialog::Target(TargetForm::new(FormKind::Time, state))),
        DrillChoice::AskScratch(wanted) => ask_scratch(state, wanted),
        DrillChoice::GiveUp => return give_up(state),
    }
    Vec::new()
}

/// The directory for drills, while it is being typed.
#[derive(Debug, Clone, PartialEq)]
pub struct ScratchForm {
    /// What was typed.
    pub field: Field,
    /// What is made then.
    pub wanted: Option<Wanted>,
}

fn ask_scratch(state: &mut State, wanted: Option<Wanted>) {
    let field = Field::new(state.drills.scratch.clone().unwrap_or_else(|| scratch(state)));
    state.dialog = Some(Dialog::Scratch(ScratchForm { field, wanted }));
}

/// The directory was typed.
pub(super) fn scratch_typed(state: &mut State, form: ScratchForm) -> Vec<Effect> {
    let typed = form.field.text().trim().to_owned();
    if !typed.starts_with('/') {
        state.refuse("give the whole path, from / on");
        state.dialog = Some(Dialog::Scratch(form));
        return Vec::new();
    }
    (state.drills.scratch, state.drills.typed) = (Some(typed), true);
    match form.wanted {
        Some(wanted) => make(state, wanted),
        None => {
            offer(state);
            Vec::new()
        }
    }
}

/// A drill to a target that was typed; one to which nothing leads is none.
pub(super) fn make_to(state: &mut State, form: TargetForm, target: Target) -> Vec<Effect> {
    if let Stop::Nowhere(error) = &form.stop {
        state.refuse(error.report().message.clone());
        state.dialog = Some(Dialog::Target(form));
        return Vec::new();
    }
    make(state, Wanted { backup: None, target: Some(target), scratch: None })
}

/// Makes a drill, once it is known below which directory.
fn make(state: &mut State, wanted: Wanted) -> Vec<Effect> {
    let Some(scratch) = state.drills.scratch.clone() else {
        ask_scratch(state, Some(wanted));
        return Vec::new();
    };
    state.drills.running = Some(Running {
        id: None,
        began: state.now,
        doing: "beginning".to_owned(),
        recovery: Box::default(),
        checks: Vec::new(),
        note: None,
        given_up: false,
    });
    let scratch = Some(scratch).filter(|_| state.drills.typed);
    vec![Effect::Drill(Ask::Make(Wanted { scratch, ..wanted }))]
}

/// Asks whether the drill that is being made is to be given up.
pub(super) fn ask_give_up(state: &mut State) {
    let choices = vec![
        super::act::nothing("no, let it go on", "nothing happens"),
        Choice {
            key: Some('y'),
            label: "yes, give it up".to_owned(),
            meaning: "what it made is removed; it is reported as interrupted".to_owned(),
            then: Then::Drill(DrillChoice::GiveUp),
        },
    ];
    let title = "Give the drill up?".to_owned();
    state.dialog = Some(Dialog::Menu(Menu { title, text: Vec::new(), choices, selected: 0 }));
}

fn give_up(state: &mut State) -> Vec<Effect> {
    let Some(running) = &mut state.drills.running else { return Vec::new() };
    running.given_up = true;
    vec![Effect::Drill(Ask::GiveUp)]
}

/// Something to be done about drills, in another terminal or by a timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillStep {
    /// What it is for.
    pub what: &'static str,
    /// The command.
    pub command: String,
}

/// The commands for drills of this source.
#[must_use]
pub fn steps(state: &State) -> Vec<DrillStep> {
    // The same source, however it was named.
    let program = state.invocation.iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" ");
    let is_configured = state.drills.scratch.is_some() && !state.drills.typed;
    let scratch = match is_configured {
        true => String::new(),
        false => format!(" --scratch {}", shell_quote(&scratch(state))),
    };
    vec![
        DrillStep { what: "the same, by a timer or in another terminal", command: format!("{program} drill{scratch}") },
        DrillStep {
            what: "another backup and another point each time",
            command: format!("{program} drill{scratch} --backup random --random-point"),
        },
        DrillStep {
            what: "all drills, and whether their reports are as written",
            command: format!("{program} drills --verify"),
        },
    ]
}

/// Below which directory drills go where none is configured: beside where a recovery of an accident would.
fn scratch(state: &State) -> String {
    if let Some(scratch) = &state.drills.scratch {
        return scratch.clone();
    }
    let beside = state.directory.trim_end_matches('/').rsplit_once('/').map(|(parent, _)| parent);
    beside.filter(|parent| !parent.is_empty()).unwrap_or("/srv/drills").to_owned()
}

/// What to do next, in a sentence.
pub(super) fn next(state: &State) -> String {
    let (make, give_up, report) =
        (key_of(state, Act::MakeDrill), key_of(state, Act::GiveUpDrill), key_of(state, Act::Report));
    match &state.drills.running {
        Some(running) if running.given_up => "It is being given up: what it made is removed.".to_owned(),
        Some(_) => format!("The drill goes on, on other screens too. {give_up} gives it up."),
        None if chosen(state).is_some_and(|entry| entry.report.is_some()) => {
            format!("{make} makes a drill; {report} reads the report of the chosen one.")
        }
        None => format!("{make} makes a drill: the proof that a backup restores."),
    }
}

/// Where the report of the chosen drill is, to be read.
#[must_use]
pub fn report_of_chosen(state: &State) -> Option<PathBuf> {
    let entry = chosen(state)?;
    matches!(entry.standing, Standing::Over(_)).then(|| entry.directory.join(document::MARKDOWN))
}

/// Asks whether the program is to be left though a drill is being made; returns whether there is one.
pub(super) fn ask_leave(state: &mut State) -> bool {
    if state.drills.running.is_none() {
        return false;
    }
    let choices = vec![
        super::act::nothing("stay", "the drill goes on"),
        Choice {
            key: Some('y'),
            label: "leave".to_owned(),
            meaning: "the drill is given up: what it made is removed first".to_owned(),
            then: Then::Leave,
        },
    ];
    let text = vec!["A drill is being made by this program, and ends with it.".to_owned()];
    state.dialog = Some(Dialog::Menu(Menu { title: "Leave now?".to_owned(), text, choices, selected: 0 }));
    true
}
