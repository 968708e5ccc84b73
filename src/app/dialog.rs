//! What lies over a screen: menus, forms, confirmations.

use super::change::{Change, ValueForm};
use super::copy::Item;
use super::drills::{DrillChoice, ScratchForm};
use super::editor::Edit;
use super::field::Field;
use super::find::{Located, Search};
use super::msg::ActionKind;
use super::palette::PaletteForm;
use super::query::SqlForm;
use super::state::{State, Wanted};
use crate::catalog::{Point, PointKind, Suspect};
use crate::core::progress::counted;
use crate::core::time::{parse_time, same_time_of_day};
use crate::core::{Lsn, RestorePointName, Target, TargetKind, TimelineChoice, Timestamp, Xid, Zone};
use crate::error::Error;
use crate::plan::checklist::ItemId;
use crate::resolve::Resolved;

/// What lies over a screen and has the keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialog {
    /// A choice of a few ways, each with what it means.
    Menu(Menu),
    /// A target is being typed.
    Target(TargetForm),
    /// The new data directory is being typed.
    Directory(DirectoryForm),
    /// A port or a setting is being typed.
    Value(ValueForm),
    /// The path of a runbook is being typed.
    Runbook(Field),
    /// The directory of a new base backup is being typed.
    BaseBackup(Field),
    /// The directory below which drills are made is being typed.
    Scratch(ScratchForm),
    /// What is to be found in the server's log is being typed.
    FindInLog(Field),
    /// SQL is being typed.
    Sql(SqlForm),
    /// A name has to be typed before something is done.
    Confirm(Confirm),
    /// What is to be found is being typed.
    Find(FindForm),
    /// Every suspect, the worst first.
    Suspects(SuspectList),
    /// A command is being looked for.
    Palette(PaletteForm),
    /// The keys of this screen.
    Help,
    /// Something went wrong.
    Error(Error),
}

/// A choice of a few ways.
#[derive(Debug, Clone, PartialEq)]
pub struct Menu {
    /// What is asked.
    pub title: String,
    /// What has to be known to answer.
    pub text: Vec<String>,
    /// The ways.
    pub choices: Vec<Choice>,
    /// The one under the cursor.
    pub selected: usize,
}

/// One way.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The key that takes it at once; `None` where only the cursor reaches it.
    pub key: Option<char>,
    /// What it is.
    pub label: String,
    /// What it means.
    pub meaning: String,
    /// What follows.
    pub then: Then,
}

/// What follows from a choice.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// Nothing; the menu closes.
    Nothing,
    /// Recovery shall stop there.
    StopAt(Target),
    /// Something about the plan is changed.
    Change(Change),
    /// A target of this kind is to be typed.
    Ask(FormKind),
    /// Another target is to be picked on the home screen.
    Pick,
    /// This recovery is opened.
    Open(String),
    /// The step that runs is stopped.
    CancelStep,
    /// Go on with the followed recovery.
    Resume,
    /// The runbook is written over what is there.
    WriteRunbook(String),
    /// What is left to do after promotion is listed.
    Checklist,
    /// What an item of it would change is shown.
    ShowItem(ItemId),
    /// It is done.
    DoItem(ItemId),
    /// It is not wanted.
    SkipItem(ItemId),
    /// Something about drills.
    Drill(DrillChoice),
    /// The program is left.
    Leave,
    /// This is sent to the terminal's clipboard.
    Copy(Item),
    /// This is opened in an editor.
    Edit(Edit),
}

/// What kind of target is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKind {
    /// A point in time.
    Time,
    /// A transaction id.
    Xid,
    /// An LSN.
    Lsn,
    /// A restore point's name.
    Name,
}

impl FormKind {
    /// What is asked for.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Time => "Stop at a time",
            Self::Xid => "Stop at a transaction id",
            Self::Lsn => "Stop at an LSN",
            Self::Name => "Stop at a restore point",
        }
    }

    /// What can be typed.
    #[must_use]
    pub fn examples(self) -> &'static str {
        match self {
            Self::Time => "14:30   8:40 pm New York   2024-10-02 14:30:05+02   2 hours ago",
            Self::Xid => "a decimal number, like 1234567",
            Self::Lsn => "two hexadecimal numbers, like 1/AB1233F8",
            Self::Name => "the name given to pg_create_restore_point(), like before_deploy",
        }
    }

    /// What stopping on one side of it means.
    #[must_use]
    pub fn side(self, inclusive: bool) -> &'static str {
        match (self, inclusive) {
            (Self::Time, false) => "keep what was committed BEFORE this time",
            (Self::Time, true) => "keep what was committed UP TO this time",
            (Self::Lsn, false) => "just BEFORE the record there",
            (Self::Lsn, true) => "just AFTER the record there",
            (_, false) => "just BEFORE it: it is lost",
            (_, true) => "just AFTER it: it is kept",
        }
    }

    /// Whether recovery can stop on either side of it.
    #[must_use]
    pub fn has_sides(self) -> bool {
        self != Self::Name
    }
}

/// A target that is being typed, read anew after every key.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetForm {
    /// What kind it is of.
    pub kind: FormKind,
    /// What was typed.
    pub field: Field,
    /// Stop just after it, not just before.
    pub inclusive: bool,
    /// The timelines that can be chosen.
    pub timelines: Vec<TimelineChoice>,
    /// The one that is.
    pub timeline: usize,
    /// What it means so far.
    pub reading: Reading,
    /// Names of restore points that fit what was typed.
    pub names: Vec<String>,
    /// The target that was asked about last.
    pub asked: Option<Target>,
    /// Where recovery would stop for it.
    pub stop: Stop,
}

/// Where recovery would stop for a target that is being typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// Nothing was asked.
    Unasked,
    /// It is being found out.
    Asked,
    /// There.
    At(Box<Resolved>),
    /// Nowhere: why.
    Nowhere(Error),
}

/// What a text that is being typed means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Nothing was typed yet.
    Empty,
    /// It cannot be understood: why.
    Bad(String),
    /// It is understood, like this.
    Good(TargetKind, Vec<String>),
    /// It is understood, but nothing like it is known: recovery may never come there.
    Doubtful(TargetKind, Vec<String>),
}

/// What is to be found is being typed.
#[derive(Debug, Clone, PartialEq)]
pub struct FindForm {
    /// What was typed.
    pub field: Field,
    /// What was found of it so far.
    pub found: Search,
}

impl FindForm {
    /// An empty form.
    #[must_use]
    pub fn new(state: &State) -> FindForm {
        FindForm { field: Field::default(), found: Search::new("", &state.points, state.around()) }
    }

    /// Looks for what was typed.
    pub fn read(&mut self, state: &State) {
        self.found = Search::new(self.field.text(), &state.points, state.around());
    }
}

/// The list of suspects, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SuspectList {
    /// The rank of the one under the cursor.
    pub selected: usize,
}

impl SuspectList {
    /// Stays on the same suspect where there are more now.
    pub fn keep_place(&mut self, before: &[Suspect], now: &[Suspect]) {
        let key = |suspect: &Suspect| (suspect.timeline, suspect.lsn, suspect.kind);
        let same = before.get(self.selected).and_then(|old| now.iter().position(|new| key(new) == key(old)));
        self.selected = same.unwrap_or(self.selected).min(now.len().saturating_sub(1));
    }
}

/// How many names a form offers.
const NAMES: usize = 5;

impl TargetForm {
    /// An empty form.
    ///
    /// It starts at "just before": having stopped too early, recovery can go on; having gone too far, everything has
    /// to be unpacked again.
    #[must_use]
    pub fn new(kind: FormKind, state: &State) -> TargetForm {
        let known: Vec<_> = state.loaded().into_iter().flat_map(|c| &c.timelines).map(|t| t.id).collect();
        // A number, not "latest": a timeline that turns up later is never followed by accident.
        let wanted = state.points.filter().or(state.points.timeline()).or(known.iter().max().copied());
        let mut timelines: Vec<_> = known.iter().map(|id| TimelineChoice::Number(*id)).collect();
        if timelines.is_empty() {
            timelines.push(TimelineChoice::Latest);
        }
        let timeline = known.iter().position(|id| Some(*id) == wanted).unwrap_or(0);
        let mut form = TargetForm {
            kind,
            field: Field::default(),
            inclusive: false,
            timelines,
            timeline,
            reading: Reading::Empty,
            names: Vec::new(),
            asked: None,
            stop: Stop::Unasked,
        };
        form.read(state);
        form
    }

    /// The timeline that is chosen.
    #[must_use]
    pub fn timeline(&self) -> TimelineChoice {
        self.timelines.get(self.timeline).copied().unwrap_or_default()
    }

    /// The target, once what was typed is understood.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        let (Reading::Good(kind, _) | Reading::Doubtful(kind, _)) = &self.reading else { return None };
        Some(Target { inclusive: self.inclusive, timeline: self.timeline(), ..Target::new(kind.clone()) })
    }

    /// The target to ask about, where that is not the one that was asked about last. What nobody knows is not asked
    /// about: for that the whole archive would be read, after every key. A transaction id that was looked for and has
    /// no end is asked about all the same: it may be a subtransaction's.
    pub fn ask(&mut self, located: &Located) -> Option<Target> {
        let known = match &self.reading {
            Reading::Good(..) | Reading::Doubtful(TargetKind::Time(_), _) => true,
            Reading::Doubtful(TargetKind::Xid(xid), _) => located.get(*xid).is_some(),
            Reading::Doubtful(..) | Reading::Empty | Reading::Bad(_) => false,
        };
        let target = self.target().filter(|_| known);
        if target == self.asked {
            return None;
        }
        self.stop = if target.is_some() { Stop::Asked } else { Stop::Unasked };
        self.asked.clone_from(&target);
        target
    }

    /// Takes in where recovery would stop, if that is what was asked last.
    pub fn answered(&mut self, target: &Target, answer: Result<Box<Resolved>, Error>) {
        if self.asked.as_ref() == Some(target) {
            self.stop = answer.map_or_else(Stop::Nowhere, Stop::At);
            self.believe();
        }
    }

    /// Where what was typed is a time behind the end of WAL: the same time of the newest day that WAL has, as it can
    /// be typed.
    #[must_use]
    pub fn offered(&self, zone: Zone) -> Vec<String> {
        let Stop::Nowhere(error) = &self.stop else { return Vec::new() };
        let Some((from, to)) = error.report().times.filter(|_| self.kind == FormKind::Time) else { return Vec::new() };
        same_time_of_day(self.field.text(), zone, Some(from), to)
    }

    /// Where recovery would stop at a transaction that has no end of its own, that is no doubt any more.
    fn believe(&mut self) {
        let (Reading::Doubtful(TargetKind::Xid(xid), words), Stop::At(resolved)) = (&self.reading, &self.stop) else {
            return;
        };
        if self.target() != self.asked {
            return;
        }
        let said = match resolved.told.as_ref().map(|told| &told.kind) {
            Some(TargetKind::Xid(whole)) if whole != xid => format!("{xid} is a subtransaction of {whole}"),
            _ => format!("recovery comes to the end of transaction {xid}"),
        };
        let words = std::iter::once(said).chain(words.iter().skip(1).cloned()).collect();
        self.reading = Reading::Good(TargetKind::Xid(*xid), words);
    }

    /// Reads what was typed.
    pub fn read(&mut self, state: &State) {
        let text = self.field.text().trim();
        self.names = if self.kind == FormKind::Name { names_like(text, state) } else { Vec::new() };
        if text.is_empty() {
            self.reading = Reading::Empty;
            return;
        }
        let read = match self.kind {
            FormKind::Time => read_time(text, state),
            FormKind::Xid => read_xid(text, state, self.timeline()),
            FormKind::Lsn => text.parse::<Lsn>().map_err(|bad| bad.to_string()).map(|lsn| {
                Reading::Good(TargetKind::Lsn(lsn), vec![format!("the first record that starts at {lsn} or behind it")])
            }),
            // Not trimmed: a name may well begin with a space.
            FormKind::Name => read_name(self.field.text(), state),
        };
        self.reading = read.unwrap_or_else(Reading::Bad);
        self.believe();
    }
}

type Read = Result<Reading, String>;

fn read_time(text: &str, state: &State) -> Read {
    let at = parse_time(text, state.zone, state.now).map_err(|bad| bad.to_string())?;
    let distance = state.now.seconds_since(at);
    let ago = crate::core::progress::Seconds(distance.abs());
    let words = in_words(at, state.zone);
    Ok(if distance < 0.0 {
        Reading::Doubtful(TargetKind::Time(at), vec![words, format!("{ago} from now: recovery cannot reach it")])
    } else {
        Reading::Good(TargetKind::Time(at), vec![words, format!("{ago} ago")])
    })
}

/// A moment in a zone, and in UTC where that is another time of day.
#[must_use]
pub fn in_words(at: Timestamp, zone: Zone) -> String {
    let (local, utc) = (at.in_zone(zone), at.in_zone(Zone::UTC));
    if local == utc {
        return local;
    }
    let same_day = local.get(..10) == utc.get(..10);
    let utc = utc.get(if same_day { 11..26 } else { 0..26 }).unwrap_or(&utc);
    format!("{local} = {utc} UTC")
}

/// Numbers of transactions end on several timelines: what ended on the chosen one is said, and that there are others.
fn read_xid(text: &str, state: &State, chosen: TimelineChoice) -> Read {
    let xid: Xid = text.parse().map_err(|bad: crate::core::xid::BadXid| bad.to_string())?;
    let located = state.located.get(xid);
    let mut ends = located.map_or_else(|| state.points.ends_of(xid), <[Point]>::to_vec);
    // What a new timeline's first segment has from before its fork is the old one's.
    ends.retain(|point| is_along(state, TimelineChoice::Number(point.timeline), point));
    let (here, elsewhere): (Vec<&Point>, Vec<&Point>) = ends.iter().partition(|point| is_along(state, chosen, point));
    let said = |point: &Point| {
        let what = if point.kind == PointKind::Abort { "was rolled back" } else { "committed" };
        let when = point.at.map(|at| format!(" at {}", in_words(at, state.zone))).unwrap_or_default();
        format!("{what}{when}")
    };
    if let Some(point) = here.last() {
        let place = format!("LSN {}, timeline {}", point.lsn, point.timeline);
        let mut words = vec![format!("transaction {xid} {}", said(point)), place];
        words.extend(elsewhere.iter().map(|other| format!("there is another {xid} on timeline {}", other.timeline)));
        words.dedup();
        return Ok(Reading::Good(TargetKind::Xid(xid), words));
    }
    let doubt = match (located, elsewhere.is_empty()) {
        (None, _) if state.located.is_asked(xid) => format!("transaction {xid} is being looked for"),
        (None, _) if !state.points.overview().complete => format!("transaction {xid} is not among those read so far"),
        (_, true) => format!("transaction {xid} does not end in the archive"),
        (_, false) => format!("transaction {xid} does not end on timeline {chosen}"),
    };
    let others = elsewhere.iter().map(|other| format!("the {xid} on timeline {} {}", other.timeline, said(other)));
    Ok(Reading::Doubtful(TargetKind::Xid(xid), std::iter::once(doubt).chain(others).collect()))
}

/// Whether recovery along this timeline passes a point's record.
fn is_along(state: &State, chosen: TimelineChoice, point: &Point) -> bool {
    let TimelineChoice::Number(timeline) = chosen else { return true };
    match state.loaded().and_then(|catalog| catalog.path_to(timeline)) {
        Some(path) => path.timeline_at(point.lsn) == Some(point.timeline),
        None => point.timeline == timeline,
    }
}

fn read_name(text: &str, state: &State) -> Read {
    let name = RestorePointName::try_from(text.to_owned()).map_err(|bad| bad.to_string())?;
    let same: Vec<_> = state.points.restore_points().filter(|p| p.name.as_deref() == Some(text)).collect();
    let Some(first) = same.first() else {
        let so_far = match state.points.overview().complete {
            true => "there is no restore point of this name",
            false => "no restore point of this name has been read so far",
        };
        let mut words = vec![so_far.to_owned()];
        if let Some(nearest) = nearest_names(text, state).first() {
            words.push(format!("did you mean {nearest}?"));
        }
        return Ok(Reading::Doubtful(TargetKind::Name(name), words));
    };
    let when = first.at.map(|at| in_words(at, state.zone)).unwrap_or_default();
    let mut words = vec![format!("made at {when}"), format!("LSN {}, timeline {}", first.lsn, first.timeline)];
    if same.len() > 1 {
        let times = counted(same.len() as u64, "time");
        words.push(format!("the name is there {times}: PostgreSQL stops at the first one that it meets"));
    }
    Ok(Reading::Good(TargetKind::Name(name), words))
}

fn names_like(text: &str, state: &State) -> Vec<String> {
    let wanted = text.to_lowercase();
    let mut names = Vec::new();
    for name in state.points.restore_points().filter_map(|point| point.name.as_ref()) {
        if names.len() == NAMES {
            break;
        }
        if name.to_lowercase().contains(&wanted) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    if names.is_empty() { nearest_names(text, state) } else { names }
}

/// The names that are most like a mistyped one, the most alike first.
fn nearest_names(text: &str, state: &State) -> Vec<String> {
    const ALIKE: f64 = 0.75;
    let wanted = text.to_lowercase();
    let mut names: Vec<(f64, &String)> = Vec::new();
    for name in state.points.restore_points().filter_map(|point| point.name.as_ref()) {
        let likeness = strsim::jaro_winkler(&wanted, &name.to_lowercase());
        if likeness > ALIKE && !names.iter().any(|(_, other)| *other == name) {
            names.push((likeness, name));
        }
    }
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    names.into_iter().take(NAMES).map(|(_, name)| name.clone()).collect()
}

/// The new data directory is being typed.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryForm {
    /// What was typed.
    pub field: Field,
    /// What the plan is asked for with besides.
    pub wanted: Wanted,
}

impl DirectoryForm {
    /// Why it cannot be a directory's path; what is there is for preflight to look at.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        match self.field.text() {
            "" => Some("a new directory for the recovered cluster; it must not exist yet, or be empty"),
            path if !path.starts_with('/') => Some("give the whole path, from / on"),
            path if path.trim_end_matches('/').is_empty() => Some("the root directory cannot be a data directory"),
            _ => None,
        }
    }
}

/// A name has to be typed before something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// What is to be done.
    pub what: ActionKind,
    /// What has to be typed.
    pub name: String,
    /// What it means, and whether it can be undone.
    pub text: Vec<String>,
    /// What was typed.
    pub field: Field,
}

impl Confirm {
    /// Whether the name was typed.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.field.text() == self.name
    }
}
