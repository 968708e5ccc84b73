//! Carries commands out: changes the state, and says what has to be done outside.

use super::archive;
use super::change;
use super::chart::{self, Chart, MarkKind};
use super::checklist;
use super::command::{Act, empties_directory};
use super::copy;
use super::dialog::{Choice, Confirm, Dialog, DirectoryForm, FindForm, FormKind, Menu, SuspectList, TargetForm, Then};
use super::drills;
use super::editor;
use super::effect::Effect;
use super::field::Field;
use super::find::{Located, Match, MatchKind, Search};
use super::keys::key_of;
use super::log;
use super::msg::ActionKind;
use super::palette;
use super::points::{Amount, Place, Sought};
use super::query;
use super::reach::Reach;
use super::recoveries;
use super::state::{Answer, Loading, Pane, Planning, Scan, ScanState, Screen, State, Wanted};
use super::suspects;
use crate::catalog::{Point, PointKind, Suspect, SuspectKind};
use crate::core::progress::Pace;
use crate::core::{RestorePointName, Target, TargetKind, TimelineChoice, TimelineId, Xid};
use crate::error::Error;
use crate::event::{EventBuffer, RecoveryState};
use crate::plan::{Plan, StepId, StepTo, Strategy};

pub(super) fn run(state: &mut State, act: Act) -> Vec<Effect> {
    match act {
        Act::Up => step(state, -1),
        Act::Down => step(state, 1),
        Act::PageUp if state.is_on_chart() => pan(state, -PAN),
        Act::PageDown if state.is_on_chart() => pan(state, PAN),
        Act::First if state.is_on_chart() => state.points.select(0),
        Act::Last if state.is_on_chart() => state.points.select(u64::MAX),
        Act::PageUp => step(state, -page(state)),
        Act::PageDown => step(state, page(state)),
        Act::First => step(state, isize::MIN / 2),
        Act::Last => step(state, isize::MAX / 2),
        Act::NextPane => state.pane = next_pane(state.pane, 1),
        Act::PreviousPane => state.pane = next_pane(state.pane, PANES.len() - 1),
        Act::Choose => choose(state),
        Act::StopBefore => return stop_at_selected(state, false),
        Act::StopAfter => return stop_at_selected(state, true),
        Act::TargetTime => ask(state, FormKind::Time),
        Act::TargetXid => ask(state, FormKind::Xid),
        Act::TargetLsn => ask(state, FormKind::Lsn),
        Act::TargetName => ask(state, FormKind::Name),
        Act::Suspects => state.dialog = Some(Dialog::Suspects(SuspectList { selected: rank_of_selected(state) })),
        Act::Find => ask_find(state),
        Act::NextMatch => step_match(state, 1),
        Act::PreviousMatch => step_match(state, -1),
        Act::EndSearch => state.search = None,
        Act::NextSuspect => seek(state, true, &suspect_places(state), "suspect"),
        Act::PreviousSuspect => seek(state, false, &suspect_places(state), "suspect"),
        Act::NextRestorePoint => seek(state, true, &restore_point_places(state), "restore point"),
        Act::PreviousRestorePoint => seek(state, false, &restore_point_places(state), "restore point"),
        Act::NextGap => seek_lack(state, true),
        Act::PreviousGap => seek_lack(state, false),
        Act::ZoomIn => zoom(state, 1, ZOOM),
        Act::ZoomOut => zoom(state, ZOOM, 1),
        Act::ZoomAll => state.chart.show_all(),
        Act::Left if state.is_on_chart() => step_column(state, false),
        Act::Right if state.is_on_chart() => step_column(state, true),
        Act::Left | Act::PanLeft => pan(state, -1),
        Act::Right | Act::PanRight => pan(state, 1),
        Act::FilterTimeline => filter(state, true),
        Act::Recoveries => recoveries::offer_all(state),
        Act::CancelScan => return vec![Effect::CancelScan],
        Act::Reload => return reload(state),
        Act::Start => return start(state),
        Act::OtherBackup => return other_backup(state),
        Act::Take => return take_reachable(state),
        Act::Directory => ask_directory(state),
        Act::MakeWay => return make_way(state),
        Act::Change => change::offer(state),
        Act::Runbook => ask_runbook(state),
        Act::CancelStep => ask_cancel(state),
        Act::Resume => ask_resume(state),
        Act::Look => return with_recovery(state, |recovery| Effect::Look { recovery }),
        Act::Retarget => ask_retarget(state),
        Act::NextCommit => return step_to(state, StepTo::Next),
        Act::PreviousCommit => return step_to(state, StepTo::Previous),
        Act::Promote => confirm(state, ActionKind::Promote, promote_text(state)),
        Act::Checks => return query::check(state),
        Act::Sql => return query::open(state),
        Act::Checklist => return checklist::ask(state),
        Act::Discard => confirm(state, ActionKind::Discard, discard_text(state)),
        Act::Stop => {
            state.asked = Some(ActionKind::Stop);
            return with_recovery(state, |recovery| Effect::Stop { recovery });
        }
        Act::Archive => state.open(Screen::Archive),
        Act::CheckArchive => return archive::check(state),
        Act::GoThere => archive::go(state),
        Act::Log => state.open(Screen::Log),
        Act::FilterLog => log::filter(state),
        Act::FindInLog => log::ask_find(state),
        Act::NextInLog => log::find_again(state, true),
        Act::PreviousInLog => log::find_again(state, false),
        Act::Drills => state.open(Screen::Drills),
        Act::MakeDrill => drills::offer(state),
        Act::GiveUpDrill => drills::ask_give_up(state),
        Act::Report => return drills::report_of_chosen(state).map(|file| Effect::Read { file }).into_iter().collect(),
        Act::Palette => palette::open(state, None),
        Act::Copy => copy::offer(state),
        Act::Mouse => {
            state.mouse = !state.mouse;
            let key = key_of(state, Act::Mouse);
            state.say(match state.mouse {
                true => "the mouse is walback's again: click and wheel".to_owned(),
                false => format!("the mouse is the terminal's: it selects text; {key} takes it back"),
            });
        }
        Act::Pager => return with_recovery(state, |recovery| Effect::Page { recovery }),
        Act::EditSettings => return editor::open(state),
        Act::Suspend => return vec![Effect::Suspend],
        Act::Help => {
            (state.help_scroll, state.scroll_max) = (0, 0);
            state.dialog = Some(Dialog::Help);
        }
        Act::Back => back(state),
        Act::Quit => return quit(state),
    }
    Vec::new()
}

/// A key zooms by so much: from a month to a single transaction in about twenty.
const ZOOM: i64 = 3;
/// Of so many parts of the chart, panning moves by one.
const PAN: i64 = 4;

/// Those of places that are on a listed timeline, in order, each once.
fn listed(state: &State, places: impl Iterator<Item = Place>) -> Vec<Place> {
    let mut places: Vec<Place> = places.filter(|(timeline, _)| state.points.lists(*timeline)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn suspect_places(state: &State) -> Vec<Place> {
    listed(state, state.points.suspects().map(|suspect| (suspect.timeline, suspect.lsn)))
}

fn restore_point_places(state: &State) -> Vec<Place> {
    listed(state, state.points.restore_points().map(|point| (point.timeline, point.lsn)))
}

/// In the order in which they are read: from the upper left to the lower right.
const PANES: [Pane; 4] = [Pane::Backups, Pane::Timelines, Pane::Chart, Pane::Points];

fn next_pane(pane: Pane, by: usize) -> Pane {
    let now = PANES.iter().position(|other| *other == pane).unwrap_or(0);
    PANES.get((now + by) % PANES.len()).copied().unwrap_or_default()
}

/// Rows that a page has: those that the list shows, so that none is skipped; of a text, half the screen.
fn page(state: &State) -> isize {
    if state.screen() == Screen::Points && state.page > 0 {
        return isize::try_from(state.page).unwrap_or(1);
    }
    (isize::try_from(state.size.1).unwrap_or(24) / 2).max(1)
}

pub(super) fn step(state: &mut State, rows: isize) {
    match state.screen() {
        Screen::Archive => return state.archive.step(rows),
        Screen::Log => return state.log.step(rows),
        Screen::Drills if !drills::mine(state).is_empty() => return drills::step(state, rows),
        _ => {}
    }
    if state.screen() != Screen::Points {
        state.scroll = state.scroll.saturating_add_signed(rows).min(state.scroll_max);
        return;
    }
    match state.pane {
        Pane::Points => state.points.step(rows as i64),
        // Up and down are more and less of it, too.
        Pane::Chart if rows < 0 => zoom(state, 1, ZOOM),
        Pane::Chart => zoom(state, ZOOM, 1),
        Pane::Backups => {
            let last = state.loaded().map_or(0, |catalog| catalog.backups.len().saturating_sub(1));
            state.backup = state.backup.saturating_add_signed(rows).min(last);
        }
        // The newest timeline is drawn on top.
        Pane::Timelines if rows.unsigned_abs() > 1 => {
            let timelines = state.points.timelines();
            let end = if rows < 0 { timelines.last() } else { timelines.first() };
            list_only(state, end.copied());
        }
        Pane::Timelines => filter(state, rows < 0),
    }
}

/// Lists the next timeline only, with "all" between the last and the first.
fn filter(state: &mut State, up: bool) {
    let mut ring: Vec<_> = std::iter::once(None).chain(state.points.timelines().into_iter().map(Some)).collect();
    if !up {
        ring.reverse();
    }
    let now = ring.iter().position(|id| *id == state.points.filter()).unwrap_or(0);
    if let Some(next) = ring.get((now + 1) % ring.len()).copied() {
        list_only(state, next);
    }
}

/// Lists this timeline only, or all.
pub(super) fn list_only(state: &mut State, timeline: Option<TimelineId>) {
    let known = timeline.is_none_or(|wanted| state.points.timelines().contains(&wanted));
    if let (Some(id), false) = (timeline, known) {
        return state.refuse(format!("nothing on timeline {id} has been read"));
    }
    state.points.set_filter(timeline);
    state.say(timeline.map_or("all timelines are listed".to_owned(), |id| format!("only timeline {id} is listed")));
}

/// The list has the keys, unless the chart has them: that shows as well where the cursor goes.
fn show_cursor(state: &mut State) {
    if state.pane != Pane::Chart {
        state.pane = Pane::Points;
    }
}

fn seek(state: &mut State, forward: bool, places: &[Place], what: &str) {
    show_cursor(state);
    let sought = state.points.seek(forward, places);
    say_sought(state, forward, sought, what);
}

fn seek_lack(state: &mut State, forward: bool) {
    show_cursor(state);
    let sought = state.points.seek_lack(forward);
    say_sought(state, forward, sought, "missing or damaged WAL");
}

fn say_sought(state: &mut State, forward: bool, sought: Sought, what: &str) {
    match sought {
        Sought::Ahead => {}
        Sought::Around if forward => state.say(format!("no {what} further down; this is the first one")),
        Sought::Around => state.say(format!("no {what} further up; this is the last one")),
        Sought::OnlyOne => state.say(format!("this is the only {what} in the list")),
        Sought::Nothing => {
            let filter = key_of(state, Act::FilterTimeline);
            state.refuse(format!("no {what} on this timeline; {filter} lists the others"));
        }
    }
}

fn choose(state: &mut State) {
    match state.pane {
        Pane::Timelines => state.pane = Pane::Points,
        Pane::Chart => leave_chart(state),
        Pane::Backups => go_to_backup(state),
        Pane::Points => explain_stop(state),
    }
}

fn go_to_backup(state: &mut State) {
    let Some(backup) = state.selected_backup() else { return };
    if let Some(problem) = backup.problems.first() {
        let text = format!("{} cannot be used: {problem}", backup.id);
        return state.refuse(text);
    }
    let place = backup.timeline.zip(backup.stop_lsn.or(backup.start_lsn));
    if place.is_some_and(|place| state.points.go_to(place, None)) {
        state.pane = Pane::Points;
    } else {
        state.refuse("nothing that follows this backup has been read");
    }
}

/// The rank of the suspect under the cursor; of the worst one where there is none.
fn rank_of_selected(state: &State) -> usize {
    let Some(point) = state.points.selected() else { return 0 };
    let all = &state.points.overview().suspects;
    all.iter().position(|suspect| (suspect.timeline, suspect.lsn) == (point.timeline, point.lsn)).unwrap_or(0)
}

pub(super) fn go_to_suspect(state: &mut State, rank: usize) {
    let Some(point) = state.points.overview().suspects.get(rank).map(suspects::point) else { return };
    show_cursor(state);
    state.points.go_to((point.timeline, point.lsn), Some(&point));
}

fn ask_find(state: &mut State) {
    state.dialog = Some(Dialog::Find(FindForm::new(state)));
}

/// Looks for what was typed, and goes to the first place where it is.
pub(super) fn find(state: &mut State, text: &str) -> Vec<Effect> {
    let search = Search::new(text, &state.points, state.around());
    if search.text.is_empty() {
        state.search = None;
        return Vec::new();
    }
    let unlocated = search.unlocated;
    state.search = Some(search);
    first_match(state);
    unlocated.map_or_else(Vec::new, |xid| locate(state, xid))
}

/// Has a transaction looked for in the whole archive, unless that was done.
pub(super) fn locate(state: &mut State, xid: Xid) -> Vec<Effect> {
    if state.loaded().is_some() && state.located.ask(xid) { vec![Effect::Locate { xid }] } else { Vec::new() }
}

/// Goes to what was found at the cursor or behind it, or else to the first; to a time on the cursor's timeline. Where one
/// timeline alone is listed, to what is on that.
pub(super) fn first_match(state: &mut State) {
    let Some(search) = &state.search else { return };
    let here = state.points.place();
    let timeline = state.points.timeline();
    let at_time = |kind: MatchKind| kind == MatchKind::Time;
    let same = search.matches.iter().position(|m| at_time(m.kind) && Some(m.place.0) == timeline);
    let listed = |m: &Match| state.points.lists(m.place.0);
    let behind = search.matches.iter().position(|m| listed(m) && Some(m.place) >= here);
    let listed = || search.matches.iter().position(listed);
    match same.or(behind).or_else(listed).or(Some(0)).filter(|place| *place < search.matches.len()) {
        Some(place) => go_to_match(state, place),
        None => {
            let words = search.in_words();
            // What may still turn up is waited for; else there is nothing to go on with.
            if !search.partial && search.unlocated.is_none() {
                state.search = None;
            }
            state.refuse(words);
        }
    }
}

fn step_match(state: &mut State, by: isize) {
    let Some(search) = &state.search else { return };
    let count = search.matches.len();
    if count > 0 {
        let next = search.current.map_or(0, |now| now.saturating_add(count).saturating_add_signed(by) % count);
        go_to_match(state, next);
    }
}

fn go_to_match(state: &mut State, number: usize) {
    let (next, previous) = (key_of(state, Act::NextMatch), key_of(state, Act::PreviousMatch));
    let Some(search) = &mut state.search else { return };
    let Some(found) = search.matches.get(number).cloned() else { return };
    search.current = Some(number);
    let mut words = search.current_in_words(&next, &previous);
    if !state.points.lists(found.place.0) {
        words = format!("all timelines are listed again; {words}");
    }
    let went = match found.at {
        Some(at) => state.points.go_to_time(found.place.0, at, false),
        None => state.points.go_to(found.place, found.point.as_ref()),
    };
    show_cursor(state);
    if went { state.say(words) } else { state.refuse("that part of the archive has not been read yet") }
}

fn zoom(state: &mut State, numerator: i64, denominator: i64) {
    let about = state.points.moment();
    if !state.chart.zoom(about, numerator, denominator) {
        state.say(if numerator < denominator { "it cannot show less time than this" } else { "all of it is shown" });
    }
}

/// Zooms about what lies under the pointer.
pub(super) fn zoom_at_column(state: &mut State, closer: bool, column: usize, columns: usize) {
    let about = state.chart.view().window.map(|window| chart::start_of(window, column, columns));
    // Finer than with a key: wheels turn several times at once.
    let (numerator, denominator) = if closer { (2, 3) } else { (3, 2) };
    state.chart.zoom(about, numerator, denominator);
}

fn pan(state: &mut State, by: i64) {
    if state.chart.shows_all() {
        let zoom = key_of(state, Act::ZoomIn);
        state.say(format!("the chart shows all the time there is; {zoom} shows less of it"));
    } else if !state.chart.pan(by, PAN) {
        state.say("nothing was read beyond this");
    }
}

/// To what happened one column of the chart earlier or later.
fn step_column(state: &mut State, later: bool) {
    let columns = state.chart_columns();
    let Some(window) = state.chart.view().window else { return };
    let here = state.points.moment().filter(|at| window.contains(*at));
    let (Some(at), Some(timeline)) = (here, state.points.timeline()) else {
        // The chart was moved away from the cursor: it comes to where the chart is.
        state.points.go_to_stretch(window.from(), window.last());
        return;
    };
    let column = chart::column_at(window, at, columns).unwrap_or(0);
    let before = state.points.cursor();
    let edge = chart::start_of(window, if later { column + 1 } else { column }, columns);
    state.points.go_to_time(timeline, edge, !later);
    if state.points.cursor() == before && !state.points.is_settling() {
        state.say(if later { "nothing on this timeline is later" } else { "nothing on this timeline is earlier" });
    }
}

/// From the chart to the list: to what is in the window.
fn leave_chart(state: &mut State) {
    if let Some(window) = state.chart.view().window
        && !state.points.moment().is_some_and(|at| window.contains(at))
    {
        state.points.go_to_stretch(window.from(), window.last());
    }
    state.pane = Pane::Points;
}

/// To the mark in a column of the chart that must not be missed, else to the first transaction there.
pub(super) fn go_to_column(state: &mut State, column: usize, columns: usize) {
    let place = state.chart.mark_in(column, columns).and_then(|mark| {
        let overview = state.points.overview();
        match mark.kind {
            MarkKind::Suspect => overview.suspects.get(mark.first).map(|s| (s.timeline, s.lsn)),
            MarkKind::RestorePoint | MarkKind::Promotion => overview.marks.get(mark.first).map(|p| (p.timeline, p.lsn)),
            MarkKind::Lack | MarkKind::Backup => None,
        }
    });
    let lack = state.chart.mark_in(column, columns).filter(|mark| mark.kind == MarkKind::Lack).map(|mark| mark.first);
    if lack.is_some_and(|lack| state.points.go_to_lack(lack)) {
        return;
    }
    if place.is_some_and(|place| state.points.go_to(place, None)) {
        return;
    }
    let Some(window) = state.chart.view().window else { return };
    let (from, behind) = (chart::start_of(window, column, columns), chart::start_of(window, column + 1, columns));
    state.points.go_to_stretch(from, behind.plus_micros(-1));
}

/// What each way to stop at the selected point means, in words.
fn explain_stop(state: &mut State) {
    let Some(point) = state.points.selected() else { return };
    let after = match state.points.commits_after() {
        Amount { number: 0, .. } => "nothing after it is on this timeline".to_owned(),
        later => format!("the {} after it on timeline {} are lost", later.of("transaction"), point.timeline),
    };
    let (title, itself) = match point.xid {
        Some(xid) => (format!("Stop at transaction {xid}"), "this transaction"),
        None => ("Stop here".to_owned(), "this point"),
    };
    let choice = |key, label: &str, meaning: String, inclusive| Choice {
        key: Some(key),
        label: label.to_owned(),
        meaning,
        then: Then::StopAt(target_at(state, point, inclusive)),
    };
    let sides = target_at(state, point, false) != target_at(state, point, true);
    let stop_here = || {
        vec![choice('b', "stop here", format!("everything before it stays; {after}; the server pauses there"), true)]
    };
    let two_sides = || {
        vec![
            choice(
                'b',
                "stop just before it",
                format!("everything before stays; {itself} is undone, and {after}"),
                false,
            ),
            choice('a', "stop just after it", format!("{itself} stays too; {after}"), true),
        ]
    };
    let mut choices = if sides { two_sides() } else { stop_here() };
    choices.push(nothing("not here", "goes back to the list"));
    let mut text: Vec<String> = state.points.suspects_of(point).map(did).collect();
    text.push("You see the whole plan first; nothing is changed yet.".to_owned());
    state.dialog = Some(Dialog::Menu(Menu { title, text, choices, selected: 0 }));
}

/// `It deletes 4,000 rows of public.invoices in database shop.`
fn did(suspect: &Suspect) -> String {
    const RELATIONS: usize = 3;
    format!("It {}.", suspect.in_full(RELATIONS))
}

pub(super) fn nothing(label: &str, meaning: &str) -> Choice {
    Choice { key: None, label: label.to_owned(), meaning: meaning.to_owned(), then: Then::Nothing }
}

fn stop_at_selected(state: &mut State, inclusive: bool) -> Vec<Effect> {
    let Some(target) = state.points.selected().map(|point| target_at(state, point, inclusive)) else {
        return Vec::new();
    };
    plan_for(state, target)
}

/// The target that stops just before or after a point, along the point's own timeline: a newer one is never
/// followed by accident.
pub(super) fn target_at(state: &State, point: &Point, inclusive: bool) -> Target {
    let by_lsn = TargetKind::Lsn(point.lsn);
    // A dropped database is gone before its transaction commits.
    let earlier = state.points.suspects_of(point).filter(|suspect| suspect.kind == SuspectKind::DropDatabase);
    if let Some(lsn) = earlier.filter_map(suspects::stop_lsn).min().filter(|_| !inclusive) {
        let timeline = TimelineChoice::Number(point.timeline);
        return Target { inclusive: false, timeline, ..Target::new(TargetKind::Lsn(lsn)) };
    }
    let kind = match (point.kind, point.xid, &point.name) {
        (PointKind::Commit | PointKind::Abort, Some(xid), _) => TargetKind::Xid(xid),
        // No record starts where WAL ends, so no position there stops recovery.
        (PointKind::EndOfWal, ..) => TargetKind::Latest,
        (PointKind::RestorePoint, _, Some(name)) if is_only_one(state, name) => {
            RestorePointName::try_from(name.clone()).map_or(by_lsn, TargetKind::Name)
        }
        _ => by_lsn,
    };
    let sided = matches!(kind, TargetKind::Xid(_) | TargetKind::Lsn(_));
    let timeline = TimelineChoice::Number(point.timeline);
    Target { inclusive: inclusive || !sided, timeline, ..Target::new(kind) }
}

/// PostgreSQL stops at the first restore point of a name; where there are more, only the position says which.
fn is_only_one(state: &State, name: &str) -> bool {
    state.points.restore_points().filter(|point| point.name.as_deref() == Some(name)).count() == 1
}

/// Asks for a plan to `target`, for the recovery that is to be retargeted or for a new one.
pub(super) fn plan_for(state: &mut State, target: Target) -> Vec<Effect> {
    if let Some(recovery) = state.retarget.clone() {
        return plan_retarget(state, recovery, target);
    }
    let wanted = Wanted::new(target, state.directory.clone());
    if state.directory.is_empty() {
        state.dialog = Some(Dialog::Directory(DirectoryForm { field: Field::default(), wanted }));
        return Vec::new();
    }
    make_plan(state, wanted)
}

pub(super) fn make_plan(state: &mut State, wanted: Wanted) -> Vec<Effect> {
    show_plan(state, Planning { wanted: wanted.clone(), retarget: None, answer: Answer::Making });
    vec![Effect::MakePlan(wanted)]
}

pub(super) fn plan_retarget(state: &mut State, recovery: String, target: Target) -> Vec<Effect> {
    let wanted = Wanted::new(target.clone(), String::new());
    show_plan(state, Planning { wanted, retarget: Some(recovery.clone()), answer: Answer::Making });
    vec![Effect::PlanRetarget { recovery, target }]
}

fn show_plan(state: &mut State, planning: Planning) {
    state.planning = Some(planning);
    state.scroll = 0;
    if state.screen() != Screen::Plan {
        state.open(Screen::Plan);
    }
}

fn ask(state: &mut State, kind: FormKind) {
    let form = TargetForm::new(kind, state);
    state.dialog = Some(Dialog::Target(form));
}

pub(super) fn open_recovery(state: &mut State, recovery: String) -> Vec<Effect> {
    let mut all = state.recoveries.iter().map(|known| &known.recovery);
    let known = all.find(|r| r.id == recovery).map(|r| r.state);
    state.screens.truncate(1);
    (state.planning, state.retarget) = (None, None);
    if state.following.as_deref() == Some(&recovery) {
        let screen = state.recovery_state().map_or(Screen::Recovery, screen_of);
        state.open(screen);
        return Vec::new();
    }
    state.open(known.map_or(Screen::Recovery, screen_of));
    follow(state, recovery.clone());
    vec![Effect::Follow { recovery }]
}

/// Nobody follows the recovery any more, and its server goes on: opening it again follows it anew.
pub(super) fn leave_replaying(state: &mut State) {
    state.screens.retain(|screen| *screen != Screen::Recovery);
    state.scroll = 0;
    state.recovery = EventBuffer::default();
    if let Some(name) = state.following.take() {
        let open = key_of(state, Act::Recoveries);
        state.say(format!("the server of {name} goes on replaying; {open} opens it again"));
    }
}

fn follow(state: &mut State, recovery: String) {
    state.following = Some(recovery);
    state.recovery = EventBuffer::default();
    (state.step_began, state.interrupted) = (None, None);
}

/// The screen that shows a recovery in this state.
pub(super) fn screen_of(state: RecoveryState) -> Screen {
    use RecoveryState::{Configured, Discarded, Failed, Paused, Planned, Promoted, Promoting, Replaying, ShutDown};
    match state {
        Planned | RecoveryState::Unpacking | Configured | Replaying => Screen::Recovery,
        Paused | Promoting | Promoted | ShutDown | Failed | Discarded => Screen::Paused,
    }
}

pub(super) fn reload(state: &mut State) -> Vec<Effect> {
    state.catalog = Loading::Loading;
    state.points = super::points::Points::default();
    (state.reach, state.chart) = (Reach::default(), Chart::default());
    (state.course, state.chosen) = (super::course::Course::default(), None);
    (state.search, state.located) = (None, Located::default());
    state.scan = Scan { state: ScanState::Waiting, done: 0, total: 0, pace: Pace::default() };
    vec![Effect::LoadCatalog, Effect::LoadRecoveries]
}

fn start(state: &mut State) -> Vec<Effect> {
    if empties_directory(state) {
        let text = unpack_text(state);
        confirm(state, ActionKind::Retarget, text);
        return Vec::new();
    }
    if let Some(text) = state.plan().and_then(make_way_text) {
        confirm(state, ActionKind::Start, text);
        return Vec::new();
    }
    carry_out(state)
}

/// What it means that a data directory makes way.
fn make_way_text(plan: &Plan) -> Option<Vec<String>> {
    let former = plan.make_way.as_ref()?;
    Some(vec![
        format!("{} is renamed to {}.", plan.directory.display(), former.to.display()),
        "Nothing of it is changed or removed, and it can be renamed back.".to_owned(),
        format!("Then {} is made anew, and a server is started in it.", plan.directory.display()),
    ])
}

/// Plans with the data directory that is there renamed.
fn make_way(state: &mut State) -> Vec<Effect> {
    let Some(planning) = &state.planning else { return Vec::new() };
    let wanted = Wanted { make_way: true, ..planning.wanted.clone() };
    make_plan(state, wanted)
}

/// Starts what the plan screen shows.
pub(super) fn carry_out(state: &mut State) -> Vec<Effect> {
    let Some(Planning { answer: Answer::Made(plan, approach), .. }) = state.planning.take() else {
        return Vec::new();
    };
    state.screens.truncate(1);
    state.retarget = None;
    state.open(Screen::Recovery);
    if let Some(approach) = approach {
        state.asked = Some(ActionKind::Retarget);
        return vec![Effect::Retarget { plan, approach }];
    }
    state.asked = Some(ActionKind::Start);
    follow(state, plan.recovery.clone());
    // The next recovery needs a place of its own.
    if plan.directory.as_os_str() == state.directory.as_str() {
        state.directory = another(&state.directory);
    }
    vec![Effect::Start { plan }]
}

/// A directory's name, counted on: `restore`, `restore-2`, `restore-3`.
fn another(directory: &str) -> String {
    let counted = directory.rsplit_once('-').and_then(|(stem, count)| Some((stem, count.parse::<u8>().ok()?)));
    match counted {
        Some((stem, count @ 2..=98)) => format!("{stem}-{}", count + 1),
        _ => format!("{directory}-2"),
    }
}

fn other_backup(state: &mut State) -> Vec<Effect> {
    let Some(plan) = state.plan() else { return Vec::new() };
    // The plan's own list begins with its backup: only the catalog's order goes round all of them.
    let leads = |id: &str| plan.resolved.backups.iter().any(|other| other == id);
    let listed = state.loaded().map(|catalog| catalog.backups.as_slice()).unwrap_or_default();
    let ids: Vec<&String> = listed.iter().map(|backup| &backup.id).filter(|id| leads(id)).collect();
    let now = ids.iter().position(|id| **id == plan.backup.id).map_or(0, |now| now + 1);
    let Some(next) = ids.get(now % ids.len().max(1)).map(|id| (*id).clone()) else { return Vec::new() };
    let Some(planning) = &state.planning else { return Vec::new() };
    let wanted = Wanted { backup: Some(next), ..planning.wanted.clone() };
    make_plan(state, wanted)
}

/// Plans with the place that can be reached instead.
fn take_reachable(state: &mut State) -> Vec<Effect> {
    let Some(planning) = &state.planning else { return Vec::new() };
    let Some((target, backup)) = planning.reachable() else { return Vec::new() };
    match planning.retarget.clone() {
        Some(recovery) => plan_retarget(state, recovery, target),
        None => {
            let wanted = planning.wanted.clone();
            make_plan(state, Wanted { target, backup: backup.or(wanted.backup), ..wanted })
        }
    }
}

pub(super) fn ask_directory(state: &mut State) {
    let Some(planning) = &state.planning else { return };
    let wanted = planning.wanted.clone();
    state.dialog = Some(Dialog::Directory(DirectoryForm { field: Field::new(wanted.directory.clone()), wanted }));
}

fn ask_runbook(state: &mut State) {
    let Some(plan) = state.plan() else { return };
    state.dialog = Some(Dialog::Runbook(Field::new(format!("{}.sh", plan.recovery))));
}

/// Has the plan that is shown written down.
pub(super) fn write_runbook(state: &mut State, file: String, replace: bool) -> Vec<Effect> {
    let Some(plan) = state.plan() else { return Vec::new() };
    vec![Effect::WriteRunbook { plan: Box::new(plan.clone()), file, replace }]
}

/// Says where the runbook is. Where a file is in its place, asks whether that may go.
pub(super) fn runbook_came(state: &mut State, file: String, answer: Result<[String; 2], Error>) {
    match answer {
        Ok([script, document]) => state.say(format!("written: {script} and {document}")),
        Err(error) if error.report().code == "file-exists" => {
            let yes = Choice {
                key: Some('y'),
                label: "write it anew".to_owned(),
                meaning: "what is there is lost".to_owned(),
                then: Then::WriteRunbook(file),
            };
            state.dialog = Some(Dialog::Menu(Menu {
                title: "Write over it?".to_owned(),
                text: vec![error.to_string()],
                choices: vec![nothing("leave it", "nothing is written"), yes],
                selected: 0,
            }));
        }
        Err(error) => state.dialog = Some(Dialog::Error(error)),
    }
}

fn ask_cancel(state: &mut State) {
    let text = match state.recovery.running {
        Some(StepId::Replay) => {
            "Walback follows it no longer. The server goes on replaying, and will stop at the target."
        }
        Some(StepId::Unpack) => "Unpacking stops, and what was unpacked so far is removed again.",
        Some(StepId::Combine) => "Combining stops, and what was unpacked for it is removed again.",
        _ => "The step that runs is stopped. What was made stays until it is discarded.",
    };
    let choices = vec![
        nothing("no, let it go on", "nothing happens"),
        Choice { key: Some('y'), label: "yes, stop it".into(), meaning: text.to_owned(), then: Then::CancelStep },
    ];
    let title = "Stop the step that runs?".to_owned();
    state.dialog = Some(Dialog::Menu(Menu { title, text: Vec::new(), choices, selected: 0 }));
}

fn ask_resume(state: &mut State) {
    let found = state.interrupted.clone();
    let otherwise = match state.recovery_state() {
        Some(RecoveryState::Failed) => "What failed is tried again: the rest of the recovery follows.",
        _ => "The server is started again, and recovers to the same target.",
    };
    let choices = vec![
        nothing("leave it as it is", "nothing happens"),
        Choice {
            key: Some('y'),
            label: "go on".to_owned(),
            meaning: "with what is left of the recovery".to_owned(),
            then: Then::Resume,
        },
    ];
    let text = vec![found.unwrap_or_else(|| otherwise.to_owned())];
    state.dialog = Some(Dialog::Menu(Menu { title: "Go on with it?".to_owned(), text, choices, selected: 0 }));
}

fn ask_retarget(state: &mut State) {
    let (before, after) = (key_of(state, Act::StopBefore), key_of(state, Act::StopAfter));
    let from_list = format!("the transactions, with {before} and {after} as before");
    let choice = |key, label: &str, meaning: &str, then| Choice {
        key: Some(key),
        label: label.to_owned(),
        meaning: meaning.to_owned(),
        then,
    };
    let choices = vec![
        choice('p', "pick it from the list", &from_list, Then::Pick),
        choice('t', "a time", "like 14:30 or 2 hours ago", Then::Ask(FormKind::Time)),
        choice('x', "a transaction id", "like 1234567", Then::Ask(FormKind::Xid)),
        choice('l', "an LSN", "like 1/AB1233F8", Then::Ask(FormKind::Lsn)),
        choice('n', "a restore point", "by its name", Then::Ask(FormKind::Name)),
        nothing("stay here", "nothing happens"),
    ];
    let text = vec![
        "Further on, and often a little way back, the copy can go as it is; else it is made anew.".to_owned(),
        "The plan says which, why and how long it takes, before anything is done.".to_owned(),
    ];
    state.dialog = Some(Dialog::Menu(Menu { title: "Stop where instead?".into(), text, choices, selected: 0 }));
}

/// Asks for a plan to the commit beside where the recovery is paused.
fn step_to(state: &mut State, step: StepTo) -> Vec<Effect> {
    let target = state.recovery.plan.as_ref().and_then(|plan| step.target(&plan.resolved, plan.target.action));
    match (target, state.following.clone()) {
        (Some(target), Some(recovery)) => plan_retarget(state, recovery, target),
        _ => {
            state.refuse(step.why_none());
            Vec::new()
        }
    }
}

/// Goes to the list to pick another target for the followed recovery.
pub(super) fn pick(state: &mut State) {
    state.retarget = state.following.clone();
    state.pane = Pane::Points;
    state.open(Screen::Points);
}

fn with_recovery(state: &State, effect: fn(String) -> Effect) -> Vec<Effect> {
    state.following.clone().map(effect).into_iter().collect()
}

fn confirm(state: &mut State, what: ActionKind, text: Vec<String>) {
    let of_plan = || state.plan().map(|plan| plan.recovery.clone());
    let name =
        if matches!(what, ActionKind::Retarget | ActionKind::Start) { of_plan() } else { state.following.clone() };
    if let Some(name) = name {
        state.dialog = Some(Dialog::Confirm(Confirm { what, name, text, field: Field::default() }));
    }
}

fn promote_text(state: &State) -> Vec<String> {
    let mut text = vec![
        "Recovery ends here for good: a new timeline begins and the server takes writes.".to_owned(),
        "It cannot go on or back to another target afterwards. This cannot be undone.".to_owned(),
    ];
    if state.recovery.recovery().and_then(|r| r.matches_prediction) == Some(false) {
        text.insert(0, "It did NOT stop where it was predicted to. Look at it first.".to_owned());
    }
    text
}

fn discard_text(state: &State) -> Vec<String> {
    let directory = state.recovery.plan.as_ref().map(|plan| plan.directory.display().to_string()).unwrap_or_default();
    let mut text = vec![
        match state.recovery.plan.as_ref().filter(|plan| plan.pristine.is_some()) {
            Some(plan) => {
                let kept = plan.pristine_directory();
                format!(
                    "The server is stopped, {directory} and {} are removed, with all that is in them.",
                    kept.display()
                )
            }
            None => format!("The server is stopped and {directory} is removed, with everything in it."),
        },
        "Backups and archive are not touched. This cannot be undone.".to_owned(),
    ];
    if let Some(former) = state.recovery.recovery().and_then(|recovery| recovery.made_way) {
        text.insert(1, format!("The data directory that was there, {}, is not touched.", former.display()));
    }
    if let Some(timeline) = state.recovery.promoted_to {
        text.insert(0, format!("It was promoted to timeline {timeline}: whatever was written to it since is LOST."));
    }
    text
}

fn unpack_text(state: &State) -> Vec<String> {
    let Some(Planning { answer: Answer::Made(plan, Some(approach)), .. }) = &state.planning else { return Vec::new() };
    let directory = plan.directory.display();
    let from = match approach.strategy {
        Strategy::Snapshot => "the kept copy is put into it",
        _ => "the backup is unpacked into it",
    };
    vec![
        format!("The server is stopped, {directory} is emptied, and {from} again."),
        format!("It {}.", approach.in_words()),
        "Whatever was changed there by hand is lost. Backups and archive are not touched.".to_owned(),
    ]
}

/// One level out.
fn back(state: &mut State) {
    let left = state.screen();
    if state.screens.len() < 2 {
        let quit = key_of(state, Act::Quit);
        return state.say(format!("this is the outermost level; {quit} leaves the program"));
    }
    state.screens.pop();
    state.scroll = 0;
    match left {
        Screen::Plan => state.planning = None,
        Screen::Points => state.retarget = None,
        Screen::Archive | Screen::Log | Screen::Drills => {}
        Screen::Recovery | Screen::Paused => {
            match (state.following.clone(), state.recovery_state()) {
                // It is gone: nothing is left to be followed.
                (Some(_), Some(RecoveryState::Discarded)) => {
                    state.following = None;
                    state.recovery = EventBuffer::default();
                }
                (Some(name), Some(now)) => {
                    let open = key_of(state, Act::Recoveries);
                    state.say(format!("{name} is {now}; {open} opens it again"));
                }
                _ => {}
            }
        }
    }
}

fn quit(state: &mut State) -> Vec<Effect> {
    // Replay is the server's own work and goes on; what comes before it is done by this program.
    let step = state.recovery.running.filter(|step| *step != StepId::Replay && state.interrupted.is_none());
    let asked = matches!(state.asked, Some(ActionKind::Discard | ActionKind::Stop | ActionKind::Promote));
    if step.is_none() && !asked {
        return if drills::ask_leave(state) { Vec::new() } else { vec![Effect::Quit] };
    }
    let resume = key_of(state, Act::Resume);
    let choices = vec![
        nothing("stay", "the step goes on"),
        Choice {
            key: Some('y'),
            label: "leave".to_owned(),
            meaning: match (step, state.asked) {
                (Some(StepId::Discard), _) | (None, Some(ActionKind::Discard)) => {
                    format!("what is not removed yet stays; the next walback removes the rest, with {resume}")
                }
                _ => format!("the step is left half done; the next walback goes on with it, with {resume}"),
            },
            then: Then::Leave,
        },
    ];
    let text = vec!["This step is done by this program, and stops when it leaves. Replay would go on.".to_owned()];
    state.dialog = Some(Dialog::Menu(Menu { title: "Leave now?".into(), text, choices, selected: 0 }));
    Vec::new()
}

/// What a confirmed action sends out.
pub(super) fn confirmed(state: &mut State, what: ActionKind) -> Vec<Effect> {
    if matches!(what, ActionKind::Retarget | ActionKind::Start) {
        return carry_out(state);
    }
    state.asked = Some(what);
    match what {
        ActionKind::Promote => with_recovery(state, |recovery| Effect::Promote { recovery }),
        ActionKind::Discard => with_recovery(state, |recovery| Effect::Discard { recovery }),
        _ => Vec::new(),
    }
}

/// What a choice of a menu sends out.
pub(super) fn chosen(state: &mut State, then: Then) -> Vec<Effect> {
    match then {
        Then::Nothing => {}
        Then::StopAt(target) => return plan_for(state, target),
        Then::Ask(kind) => {
            // Only a recovery that stands still offers this from a menu.
            state.retarget = state.following.clone();
            ask(state, kind);
        }
        Then::Change(change) => return change::chosen(state, change),
        Then::Pick => pick(state),
        Then::Open(recovery) => return open_recovery(state, recovery),
        Then::CancelStep => {
            state.asked = Some(ActionKind::Cancel);
            return with_recovery(state, |recovery| Effect::CancelStep { recovery });
        }
        Then::Resume => {
            state.asked = Some(ActionKind::Resume);
            state.interrupted = None;
            return with_recovery(state, |recovery| Effect::Resume { recovery });
        }
        Then::WriteRunbook(file) => return write_runbook(state, file, true),
        Then::Checklist => checklist::came(state, Ok(state.checklist.clone())),
        Then::ShowItem(item) => checklist::show(state, item),
        Then::DoItem(item) => return checklist::carry_out(state, item, None),
        Then::SkipItem(item) => return checklist::skip(state, item),
        Then::Drill(choice) => return drills::chose(state, choice),
        Then::Leave => return vec![Effect::Quit],
        Then::Copy(item) => return copy::send(state, item),
        Then::Edit(edit) => return vec![Effect::Edit(edit)],
    }
    Vec::new()
}

/// A retarget that was not gone through with leaves nothing behind, except on the list where it is being picked.
pub(super) fn forget_retarget(state: &mut State) {
    let picking = state.screens.iter().filter(|screen| **screen == Screen::Points).count() > 1;
    if !picking {
        state.retarget = None;
    }
}

#[cfg(test)]
mod tests {
    use super::another;

    #[test]
    fn the_next_directory_is_counted_on() {
        assert_eq!(another("/srv/restore"), "/srv/restore-2");
        assert_eq!(another("/srv/restore-2"), "/srv/restore-3");
        assert_eq!(another("/srv/restore-20261121-092310"), "/srv/restore-20261121-092310-2");
    }
}
