//! Everything that the interactive program knows.

use super::archive::Archive;
use super::chart::Chart;
use super::course::Course;
use super::dialog::Dialog;
use super::drills::Drills;
use super::find::{Located, Search};
use super::keys::Keys;
use super::log::Log;
use super::msg::ActionKind;
use super::points::Points;
use super::query::Checks;
use super::reach::Reach;
use crate::catalog::{Backup, Catalog};
use crate::core::progress::Pace;
use crate::core::{Target, Thresholds, Timestamp, Zone};
use crate::error::Error;
use crate::event::{EventBuffer, Recovery, RecoveryState};
use crate::plan::checklist::Item;
use crate::plan::suspects_kept::instead;
use crate::plan::{Approach, Plan};
use crate::resolve::Resolved;

/// A screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Screen {
    /// Backups, timelines and every place at which recovery can stop: home.
    Points,
    /// What will be done, before anything is done.
    Plan,
    /// A recovery while it runs.
    Recovery,
    /// A recovery that stands still: at its target, promoted, stopped, failed.
    Paused,
    /// What the archive holds, and whether that is what the base backups need.
    Archive,
    /// What the recovered server writes.
    Log,
    /// The drills that were made, and one that is.
    Drills,
}

/// A pane of the home screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// Base backups.
    Backups,
    /// The graph of timelines.
    Timelines,
    /// Commits over time.
    Chart,
    /// Recovery points.
    #[default]
    Points,
}

/// Something that is being fetched.
#[derive(Debug, Clone, PartialEq)]
pub enum Loading<T> {
    /// Not there yet.
    Loading,
    /// There.
    Loaded(T),
    /// It cannot be had.
    Failed(Error),
}

/// Where reading the WAL archive stands.
#[derive(Debug, Clone, PartialEq)]
pub enum ScanState {
    /// It has not begun: the catalog comes first.
    Waiting,
    /// It goes on.
    Running,
    /// Everything was read.
    Finished,
    /// The operator ended it.
    Cancelled,
    /// It cannot be read.
    Failed(Error),
}

/// How far reading the WAL archive has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// Where it stands.
    pub state: ScanState,
    /// Bytes read.
    pub done: u64,
    /// Bytes to read; 0 while unknown.
    pub total: u64,
    /// How fast it goes.
    pub pace: Pace,
}

/// What a plan is asked for with.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where to stop.
    pub target: Target,
    /// The base backup's id; `None` for the best one.
    pub backup: Option<String>,
    /// The new data directory.
    pub directory: String,
    /// The server's port; `None` for the configured one, or one that is free.
    pub port: Option<u16>,
    /// Settings of the server besides the configured ones.
    pub settings: Vec<(String, String)>,
    /// Whether a data directory that is there shall make way.
    pub make_way: bool,
}

impl Wanted {
    /// A recovery to `target` into `directory`, and nothing else said.
    #[must_use]
    pub fn new(target: Target, directory: impl Into<String>) -> Wanted {
        Wanted { target, backup: None, directory: directory.into(), port: None, settings: Vec::new(), make_way: false }
    }
}

/// A plan that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Planning {
    /// What it was asked for with.
    pub wanted: Wanted,
    /// The recovery that is to go there instead; `None` for a new one.
    pub retarget: Option<String>,
    /// What came of it.
    pub answer: Answer,
}

impl Planning {
    /// Where recovery can stop instead, where there is no plan; and the base backup that this takes, where it takes
    /// another one. What the server does there is what was wanted.
    #[must_use]
    pub fn reachable(&self) -> Option<(Target, Option<String>)> {
        let error = match &self.answer {
            Answer::Failed(error) => error,
            // Nothing is in the way, but something that destroyed data is kept.
            Answer::Made(plan, _) => return Some((instead(&plan.target, &plan.resolved)?, None)),
            Answer::Making => return None,
        };
        let (target, backup) = Target::from_options(&error.report().reachable.as_ref()?.target)?;
        Some((Target { action: self.wanted.target.action, ..target }, backup))
    }
}

/// What came of asking for a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Nothing yet.
    Making,
    /// A plan; with how it gets there where it is a retarget.
    Made(Box<Plan>, Option<Box<Approach>>),
    /// It cannot be made.
    Failed(Error),
}

/// A recovery that this machine knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Where it stands.
    pub recovery: Recovery,
    /// The cluster that its base backup is of, where that is known.
    pub system_identifier: Option<u64>,
}

/// Words in the status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What they say.
    pub text: String,
    /// Whether they say why something was not done.
    pub refusal: bool,
}

/// What the program is told when it begins.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The source's name.
    pub source: String,
    /// In which times are read and shown.
    pub zone: Zone,
    /// The time.
    pub now: Timestamp,
    /// Nothing may be changed.
    pub read_only: bool,
    /// The terminal shows UTF-8.
    pub unicode: bool,
    /// Where a recovery goes unless the operator says otherwise; empty to ask.
    pub directory: String,
}

/// Everything that the interactive program knows. What is drawn is a function of it alone.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The source's name.
    pub source: String,
    /// In which times are read and shown.
    pub zone: Zone,
    /// The time, to the second.
    pub now: Timestamp,
    /// Nothing may be changed.
    pub read_only: bool,
    /// The terminal shows UTF-8.
    pub unicode: bool,
    /// Where a recovery goes unless the operator says otherwise; empty to ask.
    pub directory: String,
    /// Columns and rows.
    pub size: (u16, u16),
    /// The screens that are open, home at the bottom.
    pub screens: Vec<Screen>,
    /// The pane of the home screen that has the keys.
    pub pane: Pane,
    /// What the source has.
    pub catalog: Loading<Catalog>,
    /// The backup under the cursor, by its place in the catalog.
    pub backup: usize,
    /// Every place at which recovery can stop.
    pub points: Points,
    /// Where recovery gets to from the backups.
    pub reach: Reach,
    /// Commits over time.
    pub chart: Chart,
    /// Commits on the way of the followed recovery.
    pub course: Course,
    /// Where the plan that was made last stops.
    pub chosen: Option<Box<Resolved>>,
    /// What was looked for last, until it is left.
    pub search: Option<Search>,
    /// Transactions that were looked for in the whole archive.
    pub located: Located,
    /// How far reading them has come.
    pub scan: Scan,
    /// The recovery for which another target is being picked on the home screen.
    pub retarget: Option<String>,
    /// The plan that is being looked at.
    pub planning: Option<Planning>,
    /// The recovery that is being followed.
    pub following: Option<String>,
    /// What its events fold to.
    pub recovery: EventBuffer,
    /// When its running step began.
    pub step_began: Option<Timestamp>,
    /// What was found of it, where it was interrupted and nobody works on it.
    pub interrupted: Option<String>,
    /// The recoveries that this machine knows.
    pub recoveries: Vec<Known>,
    /// Unfinished ones have been offered.
    pub offered: bool,
    /// Everything goes when the program ends: the demonstration.
    pub fleeting: bool,
    /// What the engine was asked for and has not answered yet.
    pub asked: Option<ActionKind>,
    /// The configured checks, as they were carried out on the followed recovery.
    pub checks: Checks,
    /// What is left to do after the promotion of the followed recovery, as it was listed last.
    pub checklist: Vec<Item>,
    /// What is known of the archive as a whole.
    pub archive: Archive,
    /// What is known of drills.
    pub drills: Drills,
    /// From where on what is measured of it is a warning, and critical.
    pub thresholds: Thresholds,
    /// What is held of the recovered server's log.
    pub log: Log,
    /// What lies over the screen.
    pub dialog: Option<Dialog>,
    /// Words in the status line.
    pub status: Option<Status>,
    /// Rows that the screen's text is scrolled by.
    pub scroll: usize,
    /// Rows that it can be scrolled by, as last drawn; the help's where that lies over it.
    pub scroll_max: usize,
    /// Rows that the list on the screen shows, as far as that was drawn.
    pub page: usize,
    /// Rows that the help is scrolled by.
    pub help_scroll: usize,
    /// The keys of the commands.
    pub keys: Keys,
    /// The mouse is the program's; else it is the terminal's own, to select text with.
    pub mouse: bool,
    /// The program runs in tmux, which may keep what is sent to the clipboard.
    pub tmux: bool,
    /// The words of a command line of walback that open the same source, without any command.
    pub invocation: Vec<String>,
}

impl State {
    /// The beginning.
    #[must_use]
    pub fn new(setup: Setup) -> State {
        State {
            source: setup.source,
            zone: setup.zone,
            now: setup.now,
            read_only: setup.read_only,
            unicode: setup.unicode,
            directory: setup.directory,
            size: (80, 24),
            screens: vec![Screen::Points],
            pane: Pane::default(),
            catalog: Loading::Loading,
            backup: 0,
            points: Points::default(),
            reach: Reach::default(),
            chart: Chart::default(),
            course: Course::default(),
            chosen: None,
            search: None,
            located: Located::default(),
            scan: Scan { state: ScanState::Waiting, done: 0, total: 0, pace: Pace::default() },
            retarget: None,
            planning: None,
            following: None,
            recovery: EventBuffer::default(),
            step_began: None,
            interrupted: None,
            recoveries: Vec::new(),
            offered: false,
            fleeting: false,
            asked: None,
            checks: Checks::default(),
            checklist: Vec::new(),
            archive: Archive::default(),
            drills: Drills::default(),
            thresholds: Thresholds::default(),
            log: Log::default(),
            dialog: None,
            status: None,
            scroll: 0,
            scroll_max: 0,
            page: 0,
            help_scroll: 0,
            keys: Keys::default(),
            mouse: true,
            tmux: false,
            invocation: vec!["walback".to_owned()],
        }
    }

    /// The same, with a recovery open from the start.
    #[must_use]
    pub fn showing(mut self, recovery: impl Into<String>) -> State {
        self.following = Some(recovery.into());
        self.screens.push(Screen::Recovery);
        self
    }

    /// The screen that is seen.
    #[must_use]
    pub fn screen(&self) -> Screen {
        self.screens.last().copied().unwrap_or(Screen::Points)
    }

    /// The catalog, once it is there.
    #[must_use]
    pub fn loaded(&self) -> Option<&Catalog> {
        match &self.catalog {
            Loading::Loaded(catalog) => Some(catalog),
            Loading::Loading | Loading::Failed(_) => None,
        }
    }

    /// The backup under the cursor.
    #[must_use]
    pub fn selected_backup(&self) -> Option<&Backup> {
        self.loaded()?.backups.get(self.backup)
    }

    /// What a search needs to know besides the points.
    #[must_use]
    pub fn around(&self) -> super::find::Around<'_> {
        super::find::Around { zone: self.zone, now: self.now, located: &self.located }
    }

    /// Whether the chart has the keys.
    #[must_use]
    pub fn is_on_chart(&self) -> bool {
        self.screen() == Screen::Points && self.pane == Pane::Chart
    }

    /// Columns of the chart: the terminal's without its frame.
    #[must_use]
    pub fn chart_columns(&self) -> usize {
        usize::from(self.size.0.saturating_sub(2)).max(1)
    }

    /// The plan that is being looked at, once it is made.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        match &self.planning.as_ref()?.answer {
            Answer::Made(plan, _) => Some(plan),
            Answer::Making | Answer::Failed(_) => None,
        }
    }

    /// Where the followed recovery stands.
    #[must_use]
    pub fn recovery_state(&self) -> Option<RecoveryState> {
        self.recovery.state
    }

    /// Where the recovery is that the operator could go on with: known, and neither promoted nor discarded.
    pub fn unfinished(&self) -> impl Iterator<Item = &Recovery> {
        let all = self.recoveries.iter().map(|known| &known.recovery);
        all.filter(|r| !matches!(r.state, RecoveryState::Promoted | RecoveryState::Discarded))
    }

    /// Whether a cluster with this identifier is another one than that whose backups are open; unknown ones are not.
    #[must_use]
    pub fn is_another_cluster(&self, system_identifier: Option<u64>) -> bool {
        let open = self.loaded().and_then(|catalog| catalog.system_identifier);
        system_identifier.zip(open).is_some_and(|(one, open)| one != open)
    }

    /// Whether the followed recovery is of another cluster than that whose backups are open.
    #[must_use]
    pub fn follows_another_cluster(&self) -> bool {
        let plan = self.recovery.plan.as_ref();
        self.is_another_cluster(plan.and_then(|plan| plan.backup.system_identifier))
    }

    /// What is to be said after the program has left, when a recovery goes on without it.
    #[must_use]
    pub fn farewell(&self) -> Option<String> {
        let name = self.following.as_deref().filter(|_| !self.fleeting)?;
        let state = match self.recovery_state()? {
            RecoveryState::Promoted | RecoveryState::Discarded | RecoveryState::Planned => return None,
            RecoveryState::Replaying => "goes on replaying",
            RecoveryState::Paused => "stays paused at its target",
            RecoveryState::Promoting => "is being promoted",
            RecoveryState::ShutDown => "is stopped",
            RecoveryState::Failed => "has failed, and is kept for you to look at",
            RecoveryState::Unpacking | RecoveryState::Configured => "is not finished",
        };
        Some(format!("recovery {name} {state}; `walback` or `walback status {name}` picks it up"))
    }

    pub(super) fn open(&mut self, screen: Screen) {
        self.scroll = 0;
        self.screens.push(screen);
    }

    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.status = Some(Status { text: text.into(), refusal: false });
    }

    pub(super) fn refuse(&mut self, text: impl Into<String>) {
        self.status = Some(Status { text: text.into(), refusal: true });
    }
}
