use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;
use crate::app::dialog::{Reading, Stop, SuspectList, Then};
use crate::app::guide;
use crate::app::points::tests::{archive, commit};
use crate::app::query::{Checks, Said};
use crate::app::state::{Known, Wanted};
use crate::app::{Hit, Key, Pane, Setup};
use crate::catalog::{Backup, BackupKind, Compression, Point, PointKind, Suspect, SuspectKind, Timeline};
use crate::core::{
    Action, Checked, Lsn, PgMajor, RestorePointName, Rows, SegmentSize, Target, TargetKind, TimelineChoice, TimelineId,
    Timestamp, Xid, Zone,
};
use crate::error::Reachable;
use crate::event::{EventBuffer, Recovery};
use crate::pgdata::server_log::{StopKind, Stopped};
use crate::plan::checklist::{Change, Item, ItemId, ItemState};
use crate::plan::{Estimate, Finding, ServerPlan, StepId, Strategy};
use crate::resolve::{BeforeWhat, Locked, Place, Resolved, StopBefore, StopSide};

const NAME: &str = "shop-1";

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_727_880_000).unwrap()
}

pub(crate) fn backup(id: &str) -> Backup {
    Backup {
        id: id.to_owned(),
        pg_version: Some(PgMajor(15)),
        segment_size: Some(SegmentSize::DEFAULT),
        timeline: Some(TimelineId(1)),
        start_lsn: Some(Lsn(5)),
        stop_lsn: Some(Lsn(20)),
        size_bytes: 1,
        manifest: true,
        ..Backup::at(PathBuf::from("/b").join(id), BackupKind::Tar, Compression::None)
    }
}

pub(crate) fn timeline(id: u32) -> Timeline {
    Timeline {
        id: TimelineId(id),
        parent: None,
        forked_at_lsn: None,
        reason: None,
        first_segment: None,
        last_segment: None,
        segments: 0,
        end_lsn: None,
        first_commit_at: None,
        last_commit_at: None,
        gaps: Vec::new(),
        damaged: Vec::new(),
    }
}

pub(crate) fn catalog() -> Catalog {
    Catalog {
        backups: vec![Backup { problems: vec!["truncated".to_owned()], ..backup("c") }, backup("b"), backup("a")],
        timelines: vec![timeline(1), timeline(2)],
        system_identifier: None,
        segment_size: SegmentSize::DEFAULT,
        problems: Vec::new(),
        left_alone: Vec::new(),
        asked: Vec::new(),
        partials: BTreeSet::new(),
        cut_off: BTreeSet::new(),
        growing: BTreeSet::new(),
        segments: BTreeSet::new(),
        compressions: BTreeSet::new(),
        unmarked: BTreeSet::new(),
        layouts: Default::default(),
        histories: BTreeMap::new(),
    }
}

fn restore_point(lsn: u64, name: &str) -> Point {
    Point { kind: PointKind::RestorePoint, xid: None, name: Some(name.to_owned()), ..commit(1, lsn) }
}

fn points() -> Vec<Point> {
    vec![
        commit(1, 10),
        Point { kind: PointKind::BackupEnd, xid: None, ..commit(1, 20) },
        restore_point(30, "good"),
        restore_point(40, "twice"),
        Point { drops: 2, ..commit(1, 50) },
        restore_point(60, "twice"),
        Point { kind: PointKind::Abort, ..commit(1, 70) },
        Point { kind: PointKind::EndOfWal, xid: None, at: None, ..commit(1, 80) },
        commit(2, 55),
    ]
}

pub(crate) fn state() -> State {
    state_of(&points())
}

fn state_of(points: &[Point]) -> State {
    let setup = Setup {
        source: "shop".to_owned(),
        zone: Zone::UTC,
        now: now(),
        read_only: false,
        unicode: true,
        directory: "/new".to_owned(),
    };
    let mut state = State::new(setup);
    assert_eq!(update(&mut state, Msg::Started), [Effect::LoadCatalog, Effect::LoadRecoveries]);
    let asked = [Effect::LoadOverview, Effect::Drill(crate::app::drills::Ask::Forecast)];
    assert_eq!(update(&mut state, Msg::Catalog(Ok(catalog()))), asked);
    know(&mut state, points);
    send(&mut state, [Msg::ScanFinished(Ok(()))]);
    state
}

/// The archive has these points, and those that are asked for come.
fn know(state: &mut State, points: &[Point]) {
    let (overview, held) = archive(points, SegmentSize::DEFAULT);
    let mut effects = update(state, Msg::Overview(Arc::new(overview)));
    while let Some(effect) = effects.pop() {
        let Effect::LoadPoints { timeline, numbers } = effect else { panic!("{effect:?}") };
        for number in numbers {
            let points = held.get(&(timeline, number)).cloned().unwrap_or_default();
            effects.extend(update(state, Msg::Points { timeline, number, points: Ok(points) }));
        }
    }
}

pub(crate) fn send(state: &mut State, messages: impl IntoIterator<Item = Msg>) -> Vec<Effect> {
    messages.into_iter().flat_map(|msg| update(state, msg)).collect()
}

pub(crate) fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    send(state, keys.chars().map(|c| Msg::Key(Key::Char(c))))
}

pub(crate) fn enter(state: &mut State) -> Vec<Effect> {
    update(state, Msg::Key(Key::Enter))
}

fn target(kind: TargetKind, inclusive: bool, timeline: u32) -> Target {
    Target { inclusive, timeline: TimelineChoice::Number(TimelineId(timeline)), ..Target::new(kind) }
}

pub(crate) fn xid_50() -> Target {
    target(TargetKind::Xid(Xid(50)), false, 1)
}

fn making(target: Target, backup: Option<&str>, directory: &str) -> Effect {
    Effect::MakePlan(Wanted { backup: backup.map(str::to_owned), ..Wanted::new(target, directory) })
}

fn approach(strategy: Strategy) -> Box<Approach> {
    let why = if strategy == Strategy::InPlace { "" } else { "the copy's files have changes from behind the target" };
    Box::new(Approach { strategy, why: why.to_owned(), estimate: Estimate::default(), otherwise: None })
}

pub(crate) fn plan(target: Target) -> Box<Plan> {
    Box::new(Plan {
        recovery: NAME.to_owned(),
        directory: PathBuf::from("/new"),
        tablespaces: Vec::new(),
        chain: None,
        backup: backup("b"),
        resolved: Resolved {
            xid: Some(Xid(50)),
            consistent_at: Lsn(20),
            backups: vec!["b".to_owned(), "a".to_owned()],
            ..Resolved::new(TimelineId(1), StopSide::Before, Lsn(50))
        },
        target,
        settings: Vec::new(),
        restore_command: "cp".to_owned(),
        fetch: None,
        wal: Vec::new(),
        commands: Vec::new(),
        server: ServerPlan {
            major: PgMajor(15),
            bin_dir: PathBuf::from("/bin"),
            segment_size: SegmentSize::DEFAULT,
            port: 1,
            socket_directory: PathBuf::from("/s"),
            log: PathBuf::from("/l"),
            run_as: "postgres".to_owned(),
            database: "postgres".to_owned(),
            role: "postgres".to_owned(),
        },
        steps: Vec::new(),
        findings: Vec::new(),
        estimate: Estimate::default(),
        candidates: Vec::new(),
        set_aside: Vec::new(),
        pristine: None,
        make_way: None,
        made_at: now(),
    })
}

pub(crate) fn planned() -> State {
    let mut state = state();
    assert_eq!(press(&mut state, "b"), [making(xid_50(), None, "/new")]);
    send(&mut state, [Msg::Planned(Ok(plan(xid_50())))]);
    state
}

pub(crate) fn event(what: What) -> Msg {
    Msg::Event(Event { at: now(), recovery: NAME.to_owned(), what })
}

pub(crate) fn turns(state: RecoveryState) -> Msg {
    event(What::State { state })
}

pub(crate) fn begun() -> Msg {
    event(What::Planned { plan: plan(xid_50()), hash: String::new(), strategy: None })
}

pub(crate) fn running(step: StepId) -> State {
    let mut state = planned();
    assert_eq!(enter(&mut state), [Effect::Start { plan: plan(xid_50()) }]);
    let now = if step == StepId::Replay { RecoveryState::Replaying } else { RecoveryState::Unpacking };
    send(&mut state, [begun(), turns(now), event(What::StepStarted { step })]);
    assert_eq!(state.screen(), Screen::Recovery);
    state
}

pub(crate) fn paused() -> State {
    let mut state = running(StepId::Replay);
    send(&mut state, [event(What::ServerStarted { pid: 7 }), turns(RecoveryState::Paused)]);
    state
}

pub(crate) fn refusal(state: &State) -> &str {
    state.status.as_ref().filter(|status| status.refusal).map_or("", |status| status.text.as_str())
}

#[test]
fn before_and_after_a_transaction_are_its_xid_on_its_own_timeline() {
    let mut before = state();
    assert_eq!(press(&mut before, "b"), [making(xid_50(), None, "/new")]);
    let mut after = state();
    assert_eq!(press(&mut after, "a"), [making(target(TargetKind::Xid(Xid(50)), true, 1), None, "/new")]);
    let mut other = state();
    assert_eq!(press(&mut other, "Gb"), [making(target(TargetKind::Xid(Xid(55)), false, 2), None, "/new")]);
    let mut rolled_back = state();
    assert_eq!(press(&mut rolled_back, "jja"), [making(target(TargetKind::Xid(Xid(70)), true, 1), None, "/new")]);
}

#[test]
fn a_restore_point_is_stopped_at_by_name_unless_the_name_is_there_twice() {
    let name = TargetKind::Name(RestorePointName::try_from("good".to_owned()).unwrap());
    let mut once = state();
    assert_eq!(press(&mut once, "grb"), [making(target(name, true, 1), None, "/new")]);
    let mut twice = state();
    let effects = press(&mut twice, "grrra");
    assert_eq!(effects, [making(target(TargetKind::Lsn(Lsn(60)), true, 1), None, "/new")]);
}

#[test]
fn a_name_that_no_target_can_have_is_stopped_at_by_position() {
    let mut state = state_of(&[vec![restore_point(5, "a\nb")], points()].concat());
    assert_eq!(press(&mut state, "gb"), [making(target(TargetKind::Lsn(Lsn(5)), false, 1), None, "/new")]);
}

#[test]
fn the_end_of_wal_is_no_position_but_the_latest() {
    for key in ["jjjb", "jjja"] {
        let mut state = state();
        assert_eq!(press(&mut state, key), [making(target(TargetKind::Latest, true, 1), None, "/new")]);
    }
}

#[test]
fn with_the_keys_in_another_pane_nothing_is_planned() {
    let mut state = state();
    update(&mut state, Msg::Key(Key::Tab));
    assert_eq!(state.pane, Pane::Backups);
    assert_eq!(press(&mut state, "b"), []);
    assert!(refusal(&state).contains("press Tab"), "{}", refusal(&state));
    enter(&mut state);
    assert_eq!((state.pane, state.points.selected().unwrap().lsn), (Pane::Points, Lsn(20)), "where it ended");
}

#[test]
fn a_broken_backup_says_why_it_cannot_be_used() {
    let mut state = state();
    assert_eq!(state.selected_backup().unwrap().id, "b", "the newest usable one is selected");
    send(&mut state, [Msg::Key(Key::Tab), Msg::Key(Key::Up), Msg::Key(Key::Enter)]);
    assert_eq!(refusal(&state), "c cannot be used: truncated");
}

#[test]
fn enter_explains_both_ways_and_each_leads_to_its_plan() {
    let mut explained = state();
    enter(&mut explained);
    let Some(Dialog::Menu(menu)) = &explained.dialog else { panic!("no menu") };
    assert_eq!(menu.choices.len(), 3);
    assert_eq!(press(&mut explained, "a"), [making(target(TargetKind::Xid(Xid(50)), true, 1), None, "/new")]);
    let mut same = state();
    press(&mut same, "gr");
    enter(&mut same);
    let Some(Dialog::Menu(menu)) = &same.dialog else { panic!("no menu") };
    assert_eq!(menu.choices.len(), 2, "a restore point has no sides");
    assert_eq!(press(&mut same, "q"), [], "out of the list, and no further");
    assert!(same.dialog.is_none());
}

#[test]
fn a_typed_time_is_read_at_once_and_planned_on_the_selected_timeline() {
    let mut state = state();
    press(&mut state, "t14:3");
    assert_eq!(enter(&mut state), [], "it is not a time yet");
    let at = crate::core::time::parse_time("2024-10-02T14:30:00Z", Zone::UTC, now()).unwrap();
    let asked = |inclusive, timeline| [Effect::Resolve { target: target(TargetKind::Time(at), inclusive, timeline) }];
    assert_eq!(press(&mut state, "0"), asked(false, 1));
    assert_eq!(update(&mut state, Msg::Key(Key::Tab)), asked(false, 2));
    assert_eq!(update(&mut state, Msg::Key(Key::Down)), asked(true, 2));
    assert_eq!(enter(&mut state), [making(target(TargetKind::Time(at), true, 2), None, "/new")]);
    assert_eq!((state.screen(), &state.dialog), (Screen::Plan, &None));
}

#[test]
fn where_a_typed_target_stops_is_shown_and_only_of_what_was_typed_last() {
    let mut state = state();
    let stop = |state: &State| match &state.dialog {
        Some(Dialog::Target(form)) => form.stop.clone(),
        other => panic!("no form: {other:?}"),
    };
    let answer = |lsn| Ok(Box::new(Resolved::new(TimelineId(1), StopSide::Before, Lsn(lsn))));
    press(&mut state, "L0/30");
    assert_eq!(stop(&state), Stop::Asked);
    let typed = |lsn| target(TargetKind::Lsn(Lsn(lsn)), false, 1);
    send(&mut state, [Msg::Resolved { target: typed(3), answer: answer(3) }]);
    assert_eq!(stop(&state), Stop::Asked, "that was the answer to what was typed before");
    send(&mut state, [Msg::Resolved { target: typed(0x30), answer: answer(0x30) }]);
    assert!(matches!(stop(&state), Stop::At(resolved) if resolved.lsn == Lsn(0x30)));
    press(&mut state, "x");
    assert_eq!(stop(&state), Stop::Unasked, "what cannot be read is nowhere");
    update(&mut state, Msg::Key(Key::Backspace));
    send(&mut state, [Msg::Resolved { target: typed(0x30), answer: Err(Error::failed("gone", "it is gone")) }]);
    assert!(matches!(stop(&state), Stop::Nowhere(_)));
    // Nobody reads the whole archive after every key.
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!(press(&mut state, "nnobody"), []);
}

#[test]
fn everything_about_a_plan_can_be_changed() {
    let planned = || {
        let mut state = state();
        press(&mut state, "b");
        let mut plan = plan(xid_50());
        let place = |what, lsn, chosen: bool| StopBefore {
            what,
            lsn: Lsn(lsn),
            commits_lost: 2,
            is_readable: !chosen,
            saves: true,
            chosen,
            target: Vec::new(),
        };
        plan.resolved.before = vec![place(BeforeWhat::FirstLock, 40, false), place(BeforeWhat::Commit, 50, true)];
        send(&mut state, [Msg::Planned(Ok(plan))]);
        state
    };
    let wanted = |keys: &str| {
        let mut state = planned();
        let mut effects = Vec::new();
        for line in keys.split_inclusive('\n') {
            effects = press(&mut state, line.trim_end_matches('\n'));
            if line.ends_with('\n') {
                effects = enter(&mut state);
            }
        }
        match effects.as_slice() {
            [Effect::MakePlan(wanted)] => wanted.clone(),
            other => panic!("{keys:?} came to {other:?}"),
        }
    };
    let as_it_is = Wanted::new(xid_50(), "/new");
    assert_eq!(wanted("es"), Wanted { target: Target { inclusive: true, ..xid_50() }, ..as_it_is.clone() });
    let action = |action| Wanted { target: Target { action, ..xid_50() }, ..as_it_is.clone() };
    assert_eq!((wanted("eas"), wanted("eao")), (action(Action::Shutdown), action(Action::Promote)));
    // The newest timeline comes first, and the place nearest to the commit.
    assert_eq!(wanted("et\n").target.timeline, TimelineChoice::Number(TimelineId(2)));
    assert_eq!(wanted("ew\n").target, target(TargetKind::Lsn(Lsn(50)), false, 1));
    assert_eq!(wanted("ewj\n").target, target(TargetKind::Lsn(Lsn(40)), false, 1));
    assert!(wanted("eb\n").backup.is_some());
    assert_eq!(wanted("ed2\n").directory, "/new2");
    assert_eq!(wanted("ep5499\n").port, Some(5499));
    assert_eq!(wanted("eework_mem = 8MB\n").settings, [("work_mem".to_owned(), "8MB".to_owned())]);
    let mut state = planned();
    press(&mut state, "ep0");
    assert_eq!(enter(&mut state), []);
    assert!(refusal(&state).contains("from 1 to 65535"), "{}", refusal(&state));
}

#[test]
fn a_typed_name_is_completed_with_the_arrows() {
    let mut state = state();
    press(&mut state, "ngo");
    update(&mut state, Msg::Key(Key::Down));
    let name = TargetKind::Name(RestorePointName::try_from("good".to_owned()).unwrap());
    let effects = enter(&mut state);
    assert!(matches!(&effects[..], [Effect::MakePlan(wanted)] if wanted.target.kind == name), "{effects:?}");
}

#[test]
fn letters_in_a_form_are_letters_and_escape_only_closes_it() {
    let mut state = state();
    assert_eq!(press(&mut state, "nqbx"), []);
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!((&state.dialog, state.screen()), (&None, Screen::Points));
    press(&mut state, "t");
    assert_eq!(update(&mut state, Msg::Key(Key::Ctrl('c'))), [Effect::Quit], "Ctrl-C leaves from everywhere");
}

#[test]
fn without_a_default_the_directory_is_asked_for() {
    let mut state = state();
    state.directory.clear();
    assert_eq!(press(&mut state, "b"), []);
    press(&mut state, "srv");
    assert_eq!(enter(&mut state), [], "a relative path is no answer");
    send(&mut state, [Msg::Key(Key::Ctrl('u')), Msg::Paste("/srv/x\n".to_owned())]);
    assert_eq!(enter(&mut state), [making(xid_50(), None, "/srv/x")]);
}

#[test]
fn the_plan_that_is_shown_is_the_plan_that_starts() {
    let mut state = planned();
    assert_eq!(enter(&mut state), [Effect::Start { plan: plan(xid_50()) }]);
    assert_eq!((state.screen(), state.following.as_deref()), (Screen::Recovery, Some(NAME)));
}

#[test]
fn a_forbidden_plan_and_a_read_only_program_start_nothing() {
    let mut forbidden = state();
    press(&mut forbidden, "b");
    let mut bad = plan(xid_50());
    bad.findings.push(Finding::error("no-space", "no space"));
    send(&mut forbidden, [Msg::Planned(Ok(bad))]);
    assert_eq!(enter(&mut forbidden), []);
    assert_eq!(refusal(&forbidden), "forbidden: no space");
    let mut read_only = planned();
    read_only.read_only = true;
    assert_eq!(enter(&mut read_only), []);
    assert!(refusal(&read_only).contains("--read-only"));
}

#[test]
fn an_answer_to_an_earlier_question_is_not_taken_for_this_one() {
    let mut state = state();
    press(&mut state, "b");
    update(&mut state, Msg::Key(Key::Esc));
    send(&mut state, [Msg::Planned(Ok(plan(xid_50())))]);
    assert_eq!(state.planning, None, "it was left");
    press(&mut state, "a");
    send(&mut state, [Msg::Planned(Ok(plan(xid_50())))]);
    assert!(state.plan().is_none(), "that was the plan for the other side");
    assert_eq!(enter(&mut state), []);
}

#[test]
fn another_backup_and_another_directory_are_planned_anew() {
    let mut state = planned();
    assert_eq!(press(&mut state, "b"), [making(xid_50(), Some("a"), "/new")]);
    let mut with_a = plan(xid_50());
    with_a.backup = backup("a");
    send(&mut state, [Msg::Planned(Ok(plan(xid_50()))), Msg::Planned(Ok(with_a))]);
    assert_eq!(state.plan().unwrap().backup.id, "a", "the answer for the other backup is not this one's");
    press(&mut state, "d2");
    assert_eq!(enter(&mut state), [making(xid_50(), Some("a"), "/new2")]);
}

#[test]
fn what_can_be_reached_instead_is_planned_with_one_key() {
    let failed = |words: &[&str]| {
        let reachable = Reachable { target: words.iter().map(|w| (*w).to_owned()).collect(), lsn: Lsn(60), at: None };
        Msg::Planned(Err(Error::failed("target-not-reached", "not reached").reachable(Some(reachable))))
    };
    let with = |words: &[&str]| {
        let mut state = state();
        press(&mut state, "b");
        send(&mut state, [failed(words)]);
        state
    };
    let mut state = with(&["--lsn", "0/3C", "--timeline", "1"]);
    assert!(guide::next(&state).contains("t takes"));
    assert_eq!(press(&mut state, "t"), [making(target(TargetKind::Lsn(Lsn(60)), true, 1), None, "/new")]);
    assert_eq!(press(&mut state, "t"), []);
    assert_eq!(refusal(&state), "the plan is still being made");
    let mut state = with(&["--xid", "5", "--exclusive", "--timeline", "2", "--backup", "a"]);
    assert_eq!(press(&mut state, "t"), [making(target(TargetKind::Xid(Xid(5)), false, 2), Some("a"), "/new")]);
    let mut state = with(&["--something", "else"]);
    assert_eq!(press(&mut state, "t"), []);
    assert!(refusal(&state).contains("no other place") && guide::next(&state).contains("Esc goes back"));

    let mut state = paused();
    press(&mut state, "rpwb");
    send(&mut state, [Msg::RetargetPlanned(Err(Error::failed("x", "y")))]);
    let planning = state.planning.as_mut().unwrap();
    let reachable = Reachable { target: vec!["--immediate".to_owned()], lsn: Lsn(60), at: None };
    planning.answer = Answer::Failed(Error::failed("x", "y").reachable(Some(reachable)));
    let immediate = Target::new(TargetKind::Immediate);
    assert_eq!(press(&mut state, "t"), [Effect::PlanRetarget { recovery: NAME.to_owned(), target: immediate }]);
}

#[test]
fn every_backup_that_leads_there_is_come_to_in_turn() {
    let mut state = planned();
    let Loading::Loaded(catalog) = &mut state.catalog else { panic!("no catalog") };
    catalog.backups.push(backup("d"));
    let mut tried = Vec::new();
    let mut now = "b".to_owned();
    for _ in 0..3 {
        let mut others: Vec<String> = ["b", "a", "d"].map(str::to_owned).into_iter().filter(|id| *id != now).collect();
        others.insert(0, now.clone());
        // As plans are: the one it is made with comes first.
        let mut plan = plan(xid_50());
        (plan.backup, plan.resolved.backups) = (backup(&now), others);
        state.planning.as_mut().unwrap().answer = Answer::Made(plan, None);
        press(&mut state, "b");
        now = state.planning.as_ref().unwrap().wanted.backup.clone().unwrap();
        tried.push(now.clone());
    }
    assert_eq!(tried, ["a", "d", "b"]);
}

#[test]
fn a_server_that_nobody_follows_any_more_can_be_followed_again() {
    let mut state = running(StepId::Replay);
    press(&mut state, "cy");
    let known = Known { recovery: state.recovery.recovery().unwrap(), system_identifier: None };
    let left = Error::new(ErrorKind::Interrupted, "left", "no longer following replay");
    assert_eq!(update(&mut state, Msg::Failed(left)), [Effect::LoadRecoveries]);
    assert_eq!((state.screen(), &state.following, state.asked), (Screen::Points, &None, None));
    send(&mut state, [Msg::Recoveries(vec![known])]);
    press(&mut state, "o");
    assert_eq!(enter(&mut state), [Effect::Follow { recovery: NAME.to_owned() }]);
}

#[test]
fn the_screen_follows_the_recovery() {
    let mut state = paused();
    assert_eq!((state.screen(), state.asked), (Screen::Paused, None));
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!(state.screen(), Screen::Points);
    send(&mut state, [turns(RecoveryState::Promoted)]);
    assert_eq!(state.screen(), Screen::Points, "what is being looked at is not taken away");
    assert!(state.status.as_ref().unwrap().text.contains("promoted"));
}

#[test]
fn events_of_another_recovery_are_not_mixed_in() {
    let mut state = running(StepId::Replay);
    let other = What::State { state: RecoveryState::Failed };
    send(&mut state, [Msg::Event(Event { at: now(), recovery: "other".to_owned(), what: other })]);
    assert_eq!(state.recovery_state(), Some(RecoveryState::Replaying));
}

#[test]
fn promoting_and_discarding_take_the_typed_name() {
    for (key, effect) in
        [("p", Effect::Promote { recovery: NAME.to_owned() }), ("d", Effect::Discard { recovery: NAME.to_owned() })]
    {
        let mut state = paused();
        assert_eq!(press(&mut state, key), []);
        assert_eq!(enter(&mut state), [], "Enter alone does nothing");
        send(&mut state, [Msg::Paste(NAME.to_owned())]);
        assert_eq!(enter(&mut state), [], "nor does a paste");
        press(&mut state, NAME);
        assert_eq!(enter(&mut state), [effect]);
        assert_eq!(press(&mut state, "p"), []);
        assert!(refusal(&state).contains("wait"), "one thing at a time: {}", refusal(&state));
    }
}

#[test]
fn what_was_promoted_is_not_discarded_while_its_server_runs() {
    let mut state = paused();
    send(&mut state, [event(What::Promoted { timeline: TimelineId(3) }), turns(RecoveryState::Promoted)]);
    assert_eq!(press(&mut state, "d"), []);
    assert!(refusal(&state).contains("stop its server first"));
    assert_eq!(press(&mut state, "x"), [Effect::Stop { recovery: NAME.to_owned() }]);
    send(&mut state, [turns(RecoveryState::ShutDown), Msg::Done(ActionKind::Stop)]);
    press(&mut state, "d");
    let Some(Dialog::Confirm(confirm)) = &state.dialog else { panic!("not asked") };
    assert!(confirm.text[0].contains("LOST"), "{:?}", confirm.text);
}

#[test]
fn what_is_left_after_a_promotion_is_shown_before_it_is_done() {
    let mut state = paused();
    assert_eq!(press(&mut state, "c"), []);
    assert!(refusal(&state).contains("after promotion"), "{}", refusal(&state));
    send(&mut state, [event(What::Promoted { timeline: TimelineId(3) }), turns(RecoveryState::Promoted)]);
    let load = || vec![Effect::LoadChecklist { recovery: NAME.to_owned() }];
    assert_eq!(press(&mut state, "c"), load());
    let change =
        Change { name: "port".into(), now: "5499".into(), then: Some("5432".into()), from: Some("postgresql.conf") };
    let of = |item: ItemId, state, changes| Item {
        item,
        state,
        title: item.title(),
        meaning: item.meaning(),
        changes,
        commands: Vec::new(),
        restarts: true,
        facts: Vec::new(),
        interrupted: None,
        cannot: None,
        said: Vec::new(),
    };
    let items = || {
        vec![
            of(ItemId::Archiving, ItemState::Done, Vec::new()),
            of(ItemId::BaseBackup, ItemState::Open, Vec::new()),
            of(ItemId::Port, ItemState::Open, vec![change.clone()]),
        ]
    };
    send(&mut state, [Msg::Checklist(Ok(items()))]);
    let Some(Dialog::Menu(menu)) = &state.dialog else { panic!("no menu") };
    assert_eq!((menu.selected, menu.title.as_str()), (1, "After the promotion: 2 left"), "the first that is left");

    send(&mut state, [Msg::Key(Key::Down)]);
    assert_eq!(enter(&mut state), []);
    let Some(Dialog::Menu(menu)) = &state.dialog else { panic!("no menu") };
    assert!(menu.text.contains(&"- port = '5499'".to_owned()), "{:?}", menu.text);
    assert_eq!(enter(&mut state), [], "Enter alone goes back to the list");
    send(&mut state, [Msg::Key(Key::Down)]);
    enter(&mut state);
    let into = None;
    assert_eq!(press(&mut state, "y"), [Effect::DoItem { recovery: NAME.to_owned(), item: ItemId::Port, into }]);
    assert_eq!(press(&mut state, "c"), [], "one thing at a time");
    assert_eq!(send(&mut state, [Msg::Done(ActionKind::Item)]), load(), "and the list comes again");

    // A base backup asks where it goes.
    send(&mut state, [Msg::Checklist(Ok(items()))]);
    enter(&mut state);
    assert_eq!(press(&mut state, "y"), []);
    press(&mut state, "backups");
    assert_eq!(enter(&mut state), []);
    assert!(refusal(&state).contains("whole path"));
    send(&mut state, [Msg::Key(Key::Home)]);
    press(&mut state, "/");
    let into = Some("/backups".to_owned());
    assert_eq!(enter(&mut state), [Effect::DoItem { recovery: NAME.to_owned(), item: ItemId::BaseBackup, into }]);
}

#[test]
fn checks_are_carried_out_at_the_pause() {
    let mut state = paused();
    assert_eq!(state.checks, Checks::None);
    assert_eq!(press(&mut state, "v"), []);
    assert!(refusal(&state).contains("none are configured"));
    state.checks = Checks::Waiting;
    send(&mut state, [turns(RecoveryState::Replaying)]);
    let run = || vec![Effect::RunChecks { recovery: NAME.to_owned() }];
    assert_eq!(send(&mut state, [turns(RecoveryState::Paused)]), run());
    assert_eq!(press(&mut state, "v"), [], "once at a time");
    let came = Checked { name: "a".into(), passed: true, value: Some("1".into()), expected: "= 1".into(), error: None };
    send(&mut state, [Msg::Checked(Ok(vec![came.clone()]))]);
    assert_eq!(state.checks, Checks::Done(Ok(vec![came])));
    assert_eq!(press(&mut state, "v"), run());
    send(&mut state, [turns(RecoveryState::Replaying)]);
    assert_eq!(state.checks, Checks::Waiting, "what was true before says nothing now");
}

#[test]
fn a_query_is_asked_and_can_be_given_up() {
    let mut state = paused();
    assert_eq!(press(&mut state, "s"), [Effect::LoadDatabases { recovery: NAME.to_owned() }]);
    let names = ["postgres", "shop", "template1"].map(str::to_owned).to_vec();
    send(&mut state, [Msg::Databases(Ok(names))]);
    assert_eq!(enter(&mut state), [], "nothing was typed");
    press(&mut state, "select q");
    let query = |database: &str| Effect::Query {
        recovery: NAME.to_owned(),
        database: database.to_owned(),
        sql: "select q".to_owned(),
    };
    assert_eq!(enter(&mut state), [query("shop")], "the operator's own database comes first");
    assert_eq!(enter(&mut state), [], "one at a time");
    assert_eq!(send(&mut state, [Msg::Key(Key::Esc)]), [Effect::CancelQuery]);
    send(&mut state, [Msg::Answered(Ok(Rows::default())), Msg::Key(Key::Tab), Msg::Key(Key::Tab)]);
    assert_eq!(enter(&mut state), [query("postgres")]);
    let rows = Rows { columns: vec!["q".into()], rows: vec![vec![None]; 3], more: false };
    send(&mut state, [Msg::Answered(Ok(rows.clone())), Msg::Key(Key::PageDown)]);
    let Some(Dialog::Sql(form)) = &state.dialog else { panic!("no form") };
    assert_eq!((&form.answer, form.scroll), (&Said::Rows(rows), 2));
    assert_eq!(send(&mut state, [Msg::Key(Key::Esc)]), []);
    assert_eq!(state.dialog, None);
}

#[test]
fn a_retarget_in_place_starts_with_enter() {
    let mut state = paused();
    press(&mut state, "rx");
    press(&mut state, "70");
    let wanted = target(TargetKind::Xid(Xid(70)), false, 1);
    let asked = Effect::PlanRetarget { recovery: NAME.to_owned(), target: wanted.clone() };
    assert_eq!(enter(&mut state), [asked]);
    send(&mut state, [Msg::RetargetPlanned(Ok((plan(wanted.clone()), approach(Strategy::InPlace))))]);
    assert_eq!(enter(&mut state), [Effect::Retarget { plan: plan(wanted), approach: approach(Strategy::InPlace) }]);
    assert_eq!((state.screen(), &state.retarget), (Screen::Recovery, &None));
}

#[test]
fn one_key_goes_to_the_commit_beside_the_stop() {
    let mut state = paused();
    let place = |xid| crate::resolve::Place { lsn: Lsn(u64::from(xid)), xid: Some(Xid(xid)), at: None };
    let resolved = &mut state.recovery.plan.as_mut().unwrap().resolved;
    (resolved.last_kept, resolved.first_lost) = (Some(place(49)), Some(place(50)));
    let to = |xid, inclusive| Effect::PlanRetarget {
        recovery: NAME.to_owned(),
        target: target(TargetKind::Xid(Xid(xid)), inclusive, 1),
    };
    assert_eq!(press(&mut state, "]"), [to(50, true)]);
    assert_eq!(state.screen(), Screen::Plan, "the plan is seen first");
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!(press(&mut state, "["), [to(49, false)]);
    update(&mut state, Msg::Key(Key::Esc));
    state.recovery.plan.as_mut().unwrap().resolved.first_lost = None;
    assert_eq!(press(&mut state, "]"), []);
    assert!(refusal(&state).contains("no transaction commits behind"), "{}", refusal(&state));
}

#[test]
fn a_copy_that_does_not_allow_it_after_all_is_said_to_be_made_anew() {
    let mut state = paused();
    let planned = |strategy| event(What::Planned { plan: plan(xid_50()), hash: "h".to_owned(), strategy });
    let really =
        |strategy, why: &str| event(What::Approach { strategy, why: why.to_owned(), estimate: Estimate::default() });
    send(&mut state, [planned(Some(Strategy::InPlace)), really(Strategy::InPlace, "")]);
    assert_eq!(state.status, None);
    send(&mut state, [planned(Some(Strategy::InPlace)), really(Strategy::Unpack, "its files have changes")]);
    assert_eq!(refusal(&state), "the copy did not allow it in place, it is made anew: its files have changes");
    assert_eq!(state.recovery.strategy, Some(Strategy::Unpack));
}

#[test]
fn a_retarget_that_unpacks_again_takes_the_typed_name() {
    let mut state = paused();
    let asked = Effect::PlanRetarget { recovery: NAME.to_owned(), target: xid_50() };
    assert_eq!(press(&mut state, "rpb"), [asked], "picked from the list");
    send(&mut state, [Msg::RetargetPlanned(Ok((plan(xid_50()), approach(Strategy::Unpack))))]);
    assert_eq!(enter(&mut state), []);
    press(&mut state, NAME);
    assert_eq!(enter(&mut state), [Effect::Retarget { plan: plan(xid_50()), approach: approach(Strategy::Unpack) }]);
}

#[test]
fn a_retarget_that_was_not_gone_through_with_leaves_nothing_behind() {
    let mut state = paused();
    press(&mut state, "rt");
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!(state.retarget, None);
    press(&mut state, "rp");
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!((state.screen(), &state.retarget), (Screen::Paused, &None));
    update(&mut state, Msg::Key(Key::Esc));
    assert!(matches!(&press(&mut state, "b")[..], [Effect::MakePlan(_)]), "a new recovery, no retarget");
}

#[test]
fn leaving_during_replay_leaves_and_during_unpacking_asks() {
    assert_eq!(press(&mut running(StepId::Replay), "q"), [Effect::Quit]);
    let mut unpacking = running(StepId::Unpack);
    assert_eq!(press(&mut unpacking, "q"), []);
    assert_eq!(enter(&mut unpacking), [], "staying is what Enter does");
    assert_eq!(press(&mut unpacking, "qy"), [Effect::Quit]);
    assert!(running(StepId::Replay).farewell().unwrap().contains("goes on replaying"));
}

#[test]
fn a_running_step_is_stopped_after_asking() {
    let mut state = running(StepId::Replay);
    assert_eq!(press(&mut state, "c"), []);
    assert_eq!(enter(&mut state), [], "going on is what Enter does");
    assert_eq!(press(&mut state, "cy"), [Effect::CancelStep { recovery: NAME.to_owned() }]);
    press(&mut state, "c");
    assert!(refusal(&state).contains("being stopped"));
}

#[test]
fn an_unfinished_recovery_is_offered_once_and_followed_when_opened() {
    let mut buffer = EventBuffer::default();
    for msg in [begun(), turns(RecoveryState::Paused)] {
        let Msg::Event(event) = msg else { unreachable!() };
        buffer.fold(&event);
    }
    let known = vec![Known { recovery: buffer.recovery().unwrap(), system_identifier: None }];
    let mut state = state();
    send(&mut state, [Msg::Recoveries(known.clone())]);
    let Some(Dialog::Menu(menu)) = &state.dialog else { panic!("not offered") };
    assert_eq!(menu.choices[0].then, Then::Open(NAME.to_owned()));
    assert_eq!(enter(&mut state), [Effect::Follow { recovery: NAME.to_owned() }]);
    assert_eq!(state.screen(), Screen::Paused);
    send(&mut state, [begun(), turns(RecoveryState::Paused), Msg::Key(Key::Esc), Msg::Recoveries(known)]);
    assert_eq!(state.dialog, None, "once is enough");
    press(&mut state, "o");
    assert_eq!(enter(&mut state), [], "it is being followed already");
    assert_eq!(state.screen(), Screen::Paused);
}

#[test]
fn discarded_recoveries_come_last_and_at_the_start_not_at_all() {
    let known = |id: &str, now, system_identifier| {
        let mut buffer = EventBuffer::default();
        for msg in [begun(), turns(now)] {
            let Msg::Event(event) = msg else { unreachable!() };
            buffer.fold(&event);
        }
        Known { recovery: Recovery { id: id.to_owned(), ..buffer.recovery().unwrap() }, system_identifier }
    };
    let all = vec![
        known("gone", RecoveryState::Discarded, Some(7)),
        known("done", RecoveryState::Promoted, Some(7)),
        known("other", RecoveryState::Paused, Some(8)),
        known("own", RecoveryState::Paused, Some(7)),
    ];
    let labels = |state: &State| match &state.dialog {
        Some(Dialog::Menu(menu)) => menu.choices.iter().map(|choice| choice.label.clone()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let mut state = State { catalog: Loading::Loading, ..state() };
    send(&mut state, [Msg::Recoveries(all), Msg::Key(Key::Down)]);
    assert_eq!(labels(&state), ["other  paused", "own  paused", "done  promoted", "none of them"]);
    send(&mut state, [Msg::Catalog(Ok(Catalog { system_identifier: Some(7), ..catalog() }))]);
    assert_eq!(labels(&state), ["other  paused  another cluster", "own  paused", "done  promoted", "none of them"]);
    let Some(Dialog::Menu(menu)) = &state.dialog else { panic!("no menu") };
    assert_eq!((menu.selected, menu.text[0].as_str()), (1, "2 are not finished."));
    send(&mut state, [Msg::Key(Key::Esc)]);
    press(&mut state, "o");
    assert_eq!(labels(&state)[3..], ["gone  discarded", "none of them"]);
}

#[test]
fn another_cluster_s_recovery_is_not_retargeted_from_here() {
    let of = |system_identifier| {
        let mut state = paused();
        state.recovery.plan.as_mut().unwrap().backup.system_identifier = system_identifier;
        let Loading::Loaded(catalog) = &mut state.catalog else { panic!("no catalog") };
        catalog.system_identifier = Some(7);
        state
    };
    for own in [Some(7), None] {
        let mut state = of(own);
        press(&mut state, "r");
        assert!(matches!(state.dialog, Some(Dialog::Menu(_))));
    }
    let mut state = of(Some(8));
    press(&mut state, "r");
    let why =
        "it is another cluster's: open walback with its backups, or use “walback retarget shop-1” on the command line";
    assert_eq!((refusal(&state), &state.dialog), (why, &None));
}

#[test]
fn a_failure_before_anything_began_goes_back_to_where_it_can_be_tried_again() {
    let mut state = planned();
    enter(&mut state);
    let error = Error::failed("plan-changed", "the plan is not the one that was shown");
    assert_eq!(update(&mut state, Msg::Failed(error.clone())), [Effect::LoadRecoveries]);
    assert_eq!((state.screen(), &state.dialog), (Screen::Points, &Some(Dialog::Error(error))));
    assert_eq!(state.asked, None);
}

#[test]
fn a_retarget_that_is_refused_leaves_the_recovery_where_it_stood() {
    let mut state = paused();
    press(&mut state, "rpb");
    send(&mut state, [Msg::RetargetPlanned(Ok((plan(xid_50()), approach(Strategy::InPlace))))]);
    enter(&mut state);
    assert_eq!(state.screen(), Screen::Recovery);
    send(&mut state, [Msg::Failed(Error::failed("recovery-busy", "somebody else is at it")), Msg::Key(Key::Esc)]);
    assert_eq!((state.screen(), state.asked), (Screen::Paused, None));
}

#[test]
fn a_name_is_not_there_only_once_everything_was_read() {
    let first = |state: &State| match reading(state) {
        Reading::Doubtful(_, words) => words[0].clone(),
        other => panic!("{other:?}"),
    };
    let mut state = state();
    press(&mut state, "nnobody");
    assert_eq!(first(&state), "there is no restore point of this name");
    let partial = Overview { complete: false, ..state.points.overview().clone() };
    send(&mut state, [Msg::Overview(Arc::new(partial)), Msg::Key(Key::Char('x'))]);
    assert_eq!(first(&state), "no restore point of this name has been read so far");
}

#[test]
fn nothing_is_asked_for_without_backups_to_go_there_from() {
    let mut state = state();
    send(&mut state, [Msg::Catalog(Err(Error::failed("gone", "cannot read the backups"))), Msg::Key(Key::Esc)]);
    for key in ["t", "x", "L", "n", "b", "a"] {
        assert_eq!(press(&mut state, key), []);
        assert!(refusal(&state).contains("F5 tries again") && state.dialog.is_none(), "{key}");
    }
}

#[test]
fn what_is_unknown_is_doubtful_and_can_be_chosen_all_the_same() {
    for (kind, known, unknown) in [("x", "50", "4711"), ("n", "good", "bad"), ("t", "2 min ago", "2099-01-01")] {
        for (text, is_known) in [(known, true), (unknown, false)] {
            let mut state = state();
            press(&mut state, kind);
            press(&mut state, text);
            let Some(Dialog::Target(form)) = &state.dialog else { panic!("{kind}") };
            assert_eq!(matches!(form.reading, Reading::Good(..)), is_known, "{text}: {:?}", form.reading);
            assert_eq!(enter(&mut state).len(), 1, "{text}");
        }
    }
}

#[test]
fn what_was_discarded_is_not_offered_on_the_way_out() {
    let mut state = paused();
    send(&mut state, [turns(RecoveryState::Discarded), Msg::Key(Key::Esc)]);
    assert_eq!((state.screen(), &state.following, &state.status), (Screen::Points, &None, &None));
}

#[test]
fn what_is_locked_at_the_pause_is_said() {
    let stopped =
        |xid| Stopped { kind: StopKind::Commit, before: true, xid: Some(Xid(xid)), at: None, lsn: None, name: None };
    let lock = Locked { xid: Xid(48), from: Lsn(40), relations: 2, prepared: false };
    let cases = [
        (vec![], 50, None),
        (vec![lock.clone()], 50, Some("2 relations that transaction 48 locked")),
        (vec![lock.clone(); 3], 50, Some("2 relations that transaction 48 locked, and those of 2 other transactions")),
        // Not where it was predicted to stop.
        (vec![lock], 60, Some("what transaction 60 drops or truncates")),
    ];
    for (locks, xid, said) in cases {
        let mut state = planned();
        enter(&mut state);
        let mut plan = plan(xid_50());
        plan.resolved.locked = locks;
        let stopped = What::Stopped { stopped: stopped(xid), replayed_lsn: None, last_commit_at: None };
        let planned = What::Planned { plan, hash: String::new(), strategy: None };
        let events = [planned, What::ServerStarted { pid: 7 }].map(event);
        send(&mut state, events.into_iter().chain([turns(RecoveryState::Paused), event(stopped)]));
        let locked = guide::locked(&state).map(|locked| locked.to_string());
        assert_eq!(locked.as_deref(), said);
        assert_eq!(guide::look(&state, NAME, "shop").contains("Locked"), said.is_some());
    }
}

#[test]
fn what_is_kept_and_destroyed_data_can_be_stopped_before() {
    let mut state = planned();
    assert!(press(&mut state, "t").is_empty(), "nothing is kept that destroyed data");
    let mut plan = plan(xid_50());
    let point = plan.resolved.last_kept.unwrap_or(Place { lsn: Lsn(49), xid: Some(Xid(49)), at: None });
    plan.resolved.last_kept = Some(point);
    let xid = point.xid.unwrap();
    let options = ["--xid", &xid.to_string(), "--exclusive", "--timeline", "1"].map(str::to_owned).to_vec();
    let rows = [(Some("public.orders"), 4000)];
    let suspect = crate::app::suspects::tests::suspect(SuspectKind::Delete, point.lsn.0, &rows);
    plan.resolved.suspects = vec![Suspect { xid, stop_before: options, at: point.at.unwrap_or(suspect.at), ..suspect }];
    state.planning.as_mut().unwrap().answer = Answer::Made(plan, None);
    assert!(guide::next(&state).contains("t stops before it"), "{}", guide::next(&state));
    let effects = press(&mut state, "t");
    let [Effect::MakePlan(wanted)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((&wanted.target.kind, wanted.target.inclusive), (&TargetKind::Xid(xid), false));
}

#[test]
fn a_plan_is_written_down_and_nothing_is_lost_for_it() {
    let mut state = planned();
    assert_eq!(press(&mut state, "w"), []);
    let file = format!("{NAME}.sh");
    let writing = |replace| Effect::WriteRunbook { plan: plan(xid_50()), file: file.clone(), replace };
    assert_eq!(enter(&mut state), [writing(false)]);
    let came = |answer| Msg::Runbook { file: file.clone(), answer };
    send(&mut state, [came(Err(Error::failed("file-exists", "it is there")))]);
    assert_eq!(enter(&mut state), [], "the first choice is to leave it");
    send(&mut state, [came(Err(Error::failed("file-exists", "it is there")))]);
    assert_eq!(press(&mut state, "y"), [writing(true)]);
    send(&mut state, [came(Ok(["/a.sh", "/a.md"].map(str::to_owned)))]);
    assert_eq!(state.status.as_ref().unwrap().text, "written: /a.sh and /a.md");
    send(&mut state, [came(Err(Error::failed("full", "no space")))]);
    assert!(matches!(state.dialog, Some(Dialog::Error(_))));
}

#[test]
fn what_cannot_be_carried_out_is_not_written_down() {
    let mut state = planned();
    let mut forbidden = plan(xid_50());
    forbidden.findings = vec![Finding::error("wal-missing", "a gap")];
    state.planning.as_mut().unwrap().answer = Answer::Made(forbidden, None);
    assert_eq!(press(&mut state, "w"), []);
    assert!(refusal(&state).contains("forbids") && state.dialog.is_none());
}

#[test]
fn the_timeline_filter_goes_round() {
    let mut state = state();
    for wanted in [Some(TimelineId(1)), Some(TimelineId(2)), None] {
        press(&mut state, "f");
        assert_eq!(state.points.filter(), wanted);
    }
}

#[test]
fn a_click_on_a_choice_takes_it_only_when_it_was_selected_already() {
    let mut state = state();
    enter(&mut state);
    assert_eq!(update(&mut state, Msg::Click(Hit::Choice(1))), []);
    assert_eq!(update(&mut state, Msg::Click(Hit::Point(0))), [], "what lies below a dialog is out of reach");
    assert_eq!(update(&mut state, Msg::Click(Hit::Choice(1))).len(), 1);
}

#[test]
fn reading_that_was_interrupted_is_no_error() {
    let mut state = state();
    state.scan.state = ScanState::Running;
    assert_eq!(press(&mut state, "c"), [Effect::CancelScan]);
    send(&mut state, [Msg::ScanFinished(Err(Error::new(ErrorKind::Interrupted, "interrupted", "interrupted")))]);
    assert_eq!((&state.scan.state, &state.dialog), (&ScanState::Cancelled, &None));
    assert_eq!(update(&mut state, Msg::Key(Key::F(5))), [Effect::LoadCatalog, Effect::LoadRecoveries]);
}

#[test]
fn what_is_found_is_gone_to_one_after_the_other() {
    let mut state = state();
    press(&mut state, "g/twice");
    enter(&mut state);
    let lsn = |state: &State| state.points.selected().unwrap().lsn.0;
    assert_eq!((lsn(&state), &state.dialog), (40, &None));
    press(&mut state, "n");
    assert_eq!(lsn(&state), 60);
    press(&mut state, "n");
    assert_eq!(lsn(&state), 40, "around the end");
    press(&mut state, "N");
    assert_eq!(lsn(&state), 60);
    press(&mut state, "/");
    let Some(Dialog::Find(form)) = &state.dialog else { panic!("no form") };
    assert_eq!(form.field.text(), "", "what is typed is not added to what was looked for before");
    for _ in 0..2 {
        update(&mut state, Msg::Key(Key::Esc));
    }
    press(&mut state, "n");
    assert!(matches!(&state.dialog, Some(Dialog::Target(_))), "without a search it asks for a name again");
}

#[test]
fn what_is_not_found_is_said_and_leaves_no_search() {
    let mut state = state();
    press(&mut state, "/nobody");
    enter(&mut state);
    assert!(refusal(&state).contains("nothing like it") && state.search.is_none(), "{}", refusal(&state));
}

#[test]
fn a_transaction_that_is_not_at_hand_is_looked_for_in_the_archive() {
    let far = Point { xid: Some(Xid(4711)), ..commit(1, 75) };
    let mut state = state();
    press(&mut state, "/4711");
    assert_eq!(enter(&mut state), [Effect::Locate { xid: Xid(4711) }]);
    assert!(refusal(&state).contains("is being looked for"), "{}", refusal(&state));
    send(&mut state, [Msg::Located { xid: Xid(4711), points: Ok(vec![far.clone()]) }]);
    assert_eq!(state.search.as_ref().unwrap().current, Some(0));
    // The form for a target knows it now; another one it asks for, once.
    update(&mut state, Msg::Key(Key::Esc));
    let asked = press(&mut state, "x4711");
    let known = Effect::Resolve { target: target(TargetKind::Xid(Xid(4711)), false, 1) };
    let looked_for = [4, 47, 471].map(|xid| Effect::Locate { xid: Xid(xid) });
    assert_eq!(asked, [&looked_for[..], &[known]].concat(), "where it stops is asked of what is known");
    let Some(Dialog::Target(form)) = &state.dialog else { panic!("no form") };
    assert!(matches!(&form.reading, Reading::Good(..)), "{:?}", form.reading);
    send(&mut state, [Msg::Located { xid: Xid(471), points: Ok(Vec::new()) }, Msg::Key(Key::Backspace)]);
    let Some(Dialog::Target(form)) = &state.dialog else { panic!("no form") };
    let Reading::Doubtful(_, words) = &form.reading else { panic!("{:?}", form.reading) };
    assert_eq!(words, &["transaction 471 does not end in the archive"]);
}

fn reading(state: &State) -> &Reading {
    let Some(Dialog::Target(form)) = &state.dialog else { panic!("no form") };
    &form.reading
}

#[test]
fn an_id_without_an_end_of_its_own_may_be_a_subtransaction() {
    let mut state = state();
    assert_eq!(press(&mut state, "x9").last(), Some(&Effect::Locate { xid: Xid(9) }));
    let nine = target(TargetKind::Xid(Xid(9)), false, 1);
    let nowhere = Msg::Located { xid: Xid(9), points: Ok(Vec::new()) };
    assert_eq!(update(&mut state, nowhere), [Effect::Resolve { target: nine.clone() }]);
    let Reading::Doubtful(_, words) = reading(&state) else { panic!("{:?}", reading(&state)) };
    assert_eq!(words, &["transaction 9 does not end in the archive"]);
    let whole = target(TargetKind::Xid(Xid(8)), false, 1);
    let resolved = Resolved { told: Some(whole), ..Resolved::new(TimelineId(1), StopSide::Before, Lsn(50)) };
    let answer = Msg::Resolved { target: nine, answer: Ok(Box::new(resolved)) };
    assert_eq!(update(&mut state, answer), []);
    let known = Reading::Good(TargetKind::Xid(Xid(9)), vec!["9 is a subtransaction of 8".to_owned()]);
    assert_eq!(reading(&state), &known);
    send(&mut state, [Msg::Located { xid: Xid(7), points: Ok(Vec::new()) }]);
    assert_eq!(reading(&state), &known, "what comes later does not make it doubtful again");
    press(&mut state, "9");
    assert!(matches!(reading(&state), Reading::Doubtful(..)), "that was said of another number");
}

#[test]
fn of_a_number_that_ended_on_two_timelines_the_chosen_one_s_end_is_told() {
    let mut state = state();
    press(&mut state, "x60");
    let later = Point { at: now().plus_micros(-60_000_000).into(), ..commit(2, 60) };
    send(&mut state, [Msg::Located { xid: Xid(60), points: Ok(vec![commit(1, 60), later, commit(1, 60)]) }]);
    let words = |state: &State| match reading(state) {
        Reading::Good(_, words) => words.clone(),
        other => panic!("{other:?}"),
    };
    let first = words(&state);
    assert!(first[1].ends_with("timeline 1") && first[2] == "there is another 60 on timeline 2", "{first:?}");
    update(&mut state, Msg::Key(Key::Tab));
    let second = words(&state);
    assert!(second[1].ends_with("timeline 2") && second[2] == "there is another 60 on timeline 1", "{second:?}");
    assert!(second[0].contains("2024-10-02 14:39:00"), "{second:?}");

    update(&mut state, Msg::Key(Key::Esc));
    press(&mut state, "x50");
    send(&mut state, [Msg::Located { xid: Xid(50), points: Ok(vec![commit(1, 50)]) }]);
    assert_eq!(words(&state).len(), 2);
    let effects = update(&mut state, Msg::Key(Key::Tab));
    assert_eq!(effects, [Effect::Resolve { target: target(TargetKind::Xid(Xid(50)), false, 2) }]);
    let Reading::Doubtful(_, words) = reading(&state) else { panic!("{:?}", reading(&state)) };
    assert_eq!(words[0], "transaction 50 does not end on timeline 2");
    assert!(words[1].starts_with("the 50 on timeline 1 committed at "), "{words:?}");
}

#[test]
fn an_archive_that_cannot_be_searched_says_why() {
    let mut state = state();
    press(&mut state, "/4711");
    enter(&mut state);
    let error = Error::failed("unreadable", "the archive is gone");
    send(&mut state, [Msg::Located { xid: Xid(4711), points: Err(error) }]);
    assert_eq!((refusal(&state), &state.search), ("the archive is gone", &None));
}

#[test]
fn the_list_of_suspects_leads_to_each_of_them() {
    let mut state = state_of(&[points(), vec![Point { deletes: 9000, ..commit(2, 90) }]].concat());
    press(&mut state, "gs");
    assert_eq!(state.dialog, Some(Dialog::Suspects(SuspectList { selected: 0 })));
    press(&mut state, "j");
    enter(&mut state);
    assert_eq!((state.points.selected().unwrap().lsn, &state.dialog), (Lsn(90), &None));
    press(&mut state, "s");
    assert_eq!(state.dialog, Some(Dialog::Suspects(SuspectList { selected: 1 })), "it opens where the cursor is");
    update(&mut state, Msg::Click(Hit::Suspect(0)));
    update(&mut state, Msg::Click(Hit::Suspect(0)));
    assert_eq!(state.points.selected().unwrap().lsn, Lsn(50));
    let mut none = state_of(&[commit(1, 10)]);
    press(&mut none, "s");
    assert_eq!(refusal(&none), "no suspect among what was read");
}

#[test]
fn a_dropped_database_is_stopped_at_before_its_files_go() {
    let mut state = state();
    let (mut overview, _) = archive(&points(), SegmentSize::DEFAULT);
    overview.suspects[0].kind = crate::catalog::SuspectKind::DropDatabase;
    overview.suspects[0].stop_before = ["--lsn", "0/2D", "--exclusive"].map(str::to_owned).to_vec();
    send(&mut state, [Msg::Overview(Arc::new(overview))]);
    assert_eq!(press(&mut state, "b"), [making(target(TargetKind::Lsn(Lsn(0x2D)), false, 1), None, "/new")]);
    update(&mut state, Msg::Key(Key::Esc));
    assert_eq!(press(&mut state, "a"), [making(target(TargetKind::Xid(Xid(50)), true, 1), None, "/new")]);
}

#[test]
fn the_chart_is_zoomed_moved_and_walked_through() {
    let mut state = state();
    let window = |state: &State| state.chart.view().window.unwrap();
    let all = window(&state);
    press(&mut state, "++");
    let zoomed = window(&state);
    assert!(zoomed.micros() < all.micros() && zoomed.contains(state.points.moment().unwrap()));
    update(&mut state, Msg::Key(Key::Left));
    assert!(window(&state).from() < zoomed.from(), "it is moved, and the cursor is not");
    assert_eq!(state.points.selected().unwrap().lsn, Lsn(50));
    press(&mut state, "0");
    assert_eq!(window(&state), all);
    // With the keys, it goes from one column with something in it to the next, on one timeline.
    update(&mut state, Msg::Key(Key::BackTab));
    assert_eq!(state.pane, Pane::Chart);
    let mut walked = Vec::new();
    for _ in 0..4 {
        update(&mut state, Msg::Key(Key::Left));
        walked.push(state.points.selected().unwrap().lsn.0);
    }
    assert_eq!(walked, [40, 30, 20, 10]);
    enter(&mut state);
    assert_eq!((state.pane, state.points.selected().unwrap().lsn), (Pane::Points, Lsn(10)));
    let hit = Hit::Chart { column: 77, columns: 78 };
    update(&mut state, Msg::Click(hit));
    assert_eq!(state.points.selected().unwrap().lsn, Lsn(70), "the first that is there");
    let before = window(&state);
    update(&mut state, Msg::Wheel { rows: -3, over: Some(hit) });
    assert!(window(&state).micros() < before.micros() && window(&state).contains(before.start_of(77, 78)));
}

#[test]
fn without_a_chart_its_keys_say_so() {
    let mut state = state_of(&[]);
    for key in ["+", "-", "0", "<", ">"] {
        press(&mut state, key);
        assert_eq!(refusal(&state), "no transaction has been read yet", "{key}");
    }
}

#[test]
fn an_interrupted_recovery_can_be_gone_on_with_or_discarded() {
    let mut state = running(StepId::Unpack);
    state.asked = None;
    press(&mut state, "u");
    assert!(refusal(&state).contains("is being worked on"), "{}", refusal(&state));
    let found = || Msg::Interrupted { recovery: NAME.to_owned(), found: "it was unpacking".to_owned() };
    send(&mut state, [Msg::Interrupted { recovery: "another".to_owned(), found: String::new() }]);
    assert_eq!(state.interrupted, None);
    send(&mut state, [found()]);
    press(&mut state, "c");
    assert!(refusal(&state).contains("nothing runs"), "{}", refusal(&state));
    assert_eq!(press(&mut state, "q"), [Effect::Quit], "there is nothing to lose by leaving");
    assert_eq!(press(&mut state, "u"), []);
    assert!(matches!(&state.dialog, Some(Dialog::Menu(menu)) if menu.text == ["it was unpacking"]));
    assert_eq!(press(&mut state, "y"), [Effect::Resume { recovery: NAME.to_owned() }]);
    assert_eq!(state.interrupted, None);
    // It is being gone on with: the step runs again.
    send(&mut state, [found(), event(What::StepStarted { step: StepId::Unpack })]);
    assert_eq!(state.interrupted, None);

    let mut state = running(StepId::Unpack);
    state.asked = None;
    send(&mut state, [found()]);
    press(&mut state, "d");
    assert!(matches!(&state.dialog, Some(Dialog::Confirm(confirm)) if confirm.what == ActionKind::Discard));
}

#[test]
fn nobody_leaves_in_the_middle_of_a_removal_unasked() {
    let mut state = paused();
    state.asked = Some(ActionKind::Discard);
    assert_eq!(press(&mut state, "q"), []);
    assert!(matches!(&state.dialog, Some(Dialog::Menu(menu)) if menu.choices[1].meaning.contains("not removed yet")));
    assert_eq!(press(&mut state, "y"), [Effect::Quit]);
}

#[test]
fn what_is_seen_is_fetched_and_only_once() {
    let far = |segment: u64| commit(1, (segment << 24) + 100);
    let all: Vec<Point> = (0..300).map(far).collect();
    let (overview, held) = archive(&all, SegmentSize::DEFAULT);
    let setup = Setup {
        source: "shop".to_owned(),
        zone: Zone::UTC,
        now: now(),
        read_only: false,
        unicode: true,
        directory: "/new".to_owned(),
    };
    let mut state = State::new(setup);
    send(&mut state, [Msg::Catalog(Ok(catalog()))]);
    let asked = |effects: Vec<Effect>| -> Vec<u64> {
        let numbers = effects.into_iter().map(|effect| match effect {
            Effect::LoadPoints { numbers, .. } => numbers,
            other => panic!("{other:?}"),
        });
        numbers.flatten().collect()
    };
    let first = asked(update(&mut state, Msg::Overview(Arc::new(overview))));
    assert!(first.contains(&299) && first.iter().all(|number| *number > 250), "what is under the cursor: {first:?}");
    assert_eq!(asked(update(&mut state, Msg::Key(Key::Up))), Vec::<u64>::new(), "it is on its way");
    assert!(matches!(state.points.here(), Some(crate::app::points::Row::Waiting(_))));
    press(&mut state, "b");
    assert!(refusal(&state).contains("is being read"), "{}", refusal(&state));
    let mut waiting = first;
    let mut seen = BTreeSet::new();
    while let Some(number) = waiting.pop() {
        assert!(seen.insert(number), "{number} was asked for twice");
        let key = (TimelineId(1), number);
        let came = Msg::Points { timeline: key.0, number, points: Ok(held[&key].clone()) };
        waiting.extend(asked(update(&mut state, came)));
    }
    assert_eq!(state.points.selected(), Some(&all[298]));
    assert!(seen.len() < 60, "not all of it: {}", seen.len());
}
