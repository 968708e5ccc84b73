//! The Drills screen, and what a recovery would take on the home screen.

use super::*;
use walback::app::drills::{Ask, Entry, Happened, Listed, News, Standing, Wanted};
use walback::event::drill::{
    By, CheckKind, DrillCheck, DrillPhase, DrillReport, DrillResult, Drilled, DrilledBackup, FORMAT,
};

fn check(name: &str, passed: bool, value: &str) -> DrillCheck {
    DrillCheck {
        name: name.to_owned(),
        kind: CheckKind::Sql,
        passed,
        value: Some(value.to_owned()),
        expected: "> 0".to_owned(),
        said: Vec::new(),
        seconds: 0.4,
    }
}

/// The drill of a week that is so many weeks ago.
fn report(weeks: i64, result: DrillResult, rto_s: f64, failures: &[&str]) -> DrillReport {
    let begun_at = clock(3, 0, 12, 0).plus_micros(-weeks * 7 * 86_400_000_000);
    let phase =
        |name: &str, share, counts| DrillPhase { name: name.to_owned(), seconds: rto_s * share, bytes: None, counts };
    let failures: Vec<String> = failures.iter().map(|failure| (*failure).to_owned()).collect();
    let id = format!("drill-shop-{weeks:02}");
    let is_over = result != DrillResult::Interrupted;
    DrillReport {
        format: FORMAT,
        number: 1,
        previous: None,
        result,
        summary: format!("drill {id} {result}; backup 20241002T020000; 3 of 3 checks passed; RTO 12 min 03 s"),
        notes: Vec::new(),
        begun_at,
        ended_at: begun_at.plus_micros((rto_s * 1.2e6) as i64),
        by: By { user: "root".to_owned(), host: "db2".to_owned(), walback: "0.2.0".to_owned(), postgresql: None },
        source: Drilled {
            name: "shop".to_owned(),
            system_identifier: Some("7420000000000000001".to_owned()),
            ..Drilled::default()
        },
        chosen: "the newest base backup, to the end of WAL".to_owned(),
        backup: is_over.then(|| DrilledBackup {
            id: "20241002T020000".to_owned(),
            location: "/srv/backups/shop/20241002T020000".into(),
            pg_version: PgMajor(15),
            started_at: Some(begun_at),
            size_bytes: 44_238_479_360,
            unpacked_bytes: Some(120_000_000_000),
        }),
        target: Some(Target::new(TargetKind::Latest)),
        directory: format!("/srv/drills/{id}").into(),
        predicted: None,
        actual: None,
        matches_prediction: is_over.then_some(true),
        phases: vec![
            phase("plan", 0.01, true),
            phase("unpack", 0.6, true),
            phase("replay", 0.3, true),
            phase("checks", 0.09, true),
            phase("teardown", 0.2, false),
        ],
        rto_s: is_over.then_some(rto_s),
        rto_limit_s: Some(1800.0),
        rpo_s: is_over.then_some(8.0 + weeks as f64),
        rpo_limit_s: Some(300.0),
        rpo_against: is_over.then(|| "the primary's clock".to_owned()),
        recoverable_at: None,
        newest_known_at: None,
        primary_at: None,
        wal_bytes: None,
        wal_bytes_per_hour: None,
        forecast: None,
        checks: match result {
            DrillResult::Passed => vec![
                check("database shop opens, and its catalogs are read", true, "9479"),
                check("orders are there", true, "14006"),
            ],
            DrillResult::Failed => vec![check("orders are there", false, "0"), check("customers are there", true, "7")],
            DrillResult::Interrupted => Vec::new(),
        },
        skipped: Vec::new(),
        findings: Vec::new(),
        failure: None,
        kept: false,
        removed: true,
        documents: BTreeMap::new(),
        failures,
        id,
    }
}

fn entry(standing: Standing, report: DrillReport) -> Entry {
    Entry {
        id: report.id.clone(),
        standing,
        directory: format!("/var/lib/walback/drills/{}", report.id).into(),
        report: Some(Arc::new(report)),
    }
}

fn over(report: DrillReport) -> Entry {
    entry(Standing::Over(report.result), report)
}

/// Nine weeks: one drill was interrupted, one took too long and found an empty table.
fn history() -> Vec<Entry> {
    let too_long = [
        "orders are there: 0, expected > 0",
        "it took 34 min 12 s until the data could be worked with, more than the RTO of 30 min 00 s",
    ];
    (0..9_i64)
        .rev()
        .map(|week| match week {
            5 => report(week, DrillResult::Interrupted, 60.0, &["it was given up before its end"]),
            3 => report(week, DrillResult::Failed, 2052.0, &too_long),
            week => report(week, DrillResult::Passed, 723.0 - 40.0 * week as f64, &[]),
        })
        .map(over)
        .collect()
}

/// The screen, with what the answer to its question is.
fn listed(drills: Vec<Entry>, problems: &[&str]) -> State {
    let mut state = home();
    state.drills.source = Some("shop".to_owned());
    state.drills.scratch = Some("/srv/drills".to_owned());
    assert_eq!(press(&mut state, "d"), [Effect::Drill(Ask::List)]);
    let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
    fold(&mut state, [Msg::Drill(News::Listed(Ok(Listed { drills, problems })))]);
    state
}

fn happened(what: Happened) -> Msg {
    Msg::Drill(News::Happened { drill: "drill-shop-now".to_owned(), what })
}

/// One is being made: it unpacks.
fn running(drills: Vec<Entry>) -> State {
    let mut state = listed(drills, &[]);
    key(&mut state, Key::Enter);
    let wanted =
        Wanted { backup: Some("newest".to_owned()), target: Some(Target::new(TargetKind::Latest)), scratch: None };
    assert_eq!(key(&mut state, Key::Enter), [Effect::Drill(Ask::Make(wanted))]);
    let progress = Progress {
        step: StepId::Unpack,
        unit: "bytes".into(),
        done: 31_000_000_000,
        total: Some(44_238_479_360),
        rate: Some(180e6),
        eta_s: Some(74.0),
        replayed_lsn: None,
        last_commit_at: None,
        doing: None,
        waits_for: None,
    };
    let event =
        |what| happened(Happened::Event(Event { at: state_now(), recovery: "drill-shop-now".to_owned(), what }));
    fold(
        &mut state,
        [
            happened(Happened::Note("the drill drill-shop-old was killed; what it had made was removed".to_owned())),
            happened(Happened::Doing("planning".to_owned())),
            event(What::StepStarted { step: StepId::Unpack }),
            event(What::Progress(progress)),
            Msg::Tick(clock(15, 5, 0, 0)),
        ],
    );
    state
}

fn state_now() -> Timestamp {
    clock(15, 2, 0, 0)
}

fn forecast() -> State {
    let mut state = home();
    let estimate = |seconds: f64| Estimate {
        unpack_bytes: 120_000_000_000,
        wal_bytes: 2_700_000_000,
        wal_segments: 161,
        unpack_s: Some(seconds * 0.8),
        replay_s: Some(seconds * 0.2),
        total_s: Some(seconds),
        basis: "unpacking at 180 MB/s, measured here in 5 drills; replay at 60 MB/s, assumed".to_owned(),
        ..Estimate::default()
    };
    let each = [("20241002T020000", 723.0), ("20241001T020000", 4210.0)];
    let each = each.map(|(id, seconds)| (id.to_owned(), estimate(seconds)));
    fold(&mut state, [Msg::Drill(News::Forecast(each.into_iter().collect()))]);
    state.pane = Pane::Backups;
    state
}

/// Every state of this screen that is drawn, by name.
pub(super) fn all() -> Vec<(&'static str, State)> {
    let with = |mut state: State, change: &dyn Fn(&mut State)| {
        change(&mut state);
        state
    };
    let unfinished = || {
        let mut drills = history();
        drills.push(entry(Standing::Killed, report(10, DrillResult::Interrupted, 1.0, &[])));
        let who = Standing::Running("process 4711 of root on db2 makes it".to_owned());
        drills.push(entry(who, report(11, DrillResult::Interrupted, 1.0, &[])));
        drills.push(Entry {
            id: "drill-shop-13".to_owned(),
            standing: Standing::Unreadable("there is no /var/lib/walback/drills/drill-shop-13/report.json".to_owned()),
            report: None,
            directory: "/var/lib/walback/drills/drill-shop-13".into(),
        });
        drills
    };
    vec![
        (
            "drills-none",
            with(home(), &|s| {
                let words = ["walback", "--config", "/etc/walback/walback.yaml", "--source", "shop"];
                s.invocation = words.map(str::to_owned).to_vec();
                press(s, "d");
                fold(s, [Msg::Drill(News::Listed(Ok(Listed::default())))]);
            }),
        ),
        ("drills", listed(history(), &[])),
        ("drills-failed", with(listed(history(), &[]), &|s| (0..3).for_each(|_| drop(key(s, Key::Down))))),
        ("drills-choose", with(listed(history(), &[]), &|s| drop(key(s, Key::Enter)))),
        (
            "drills-scratch",
            with(listed(history(), &[]), &|s| {
                s.drills.scratch = None;
                key(s, Key::Enter);
                key(s, Key::Enter);
            }),
        ),
        ("drills-running", running(history())),
        ("drills-running-first", running(Vec::new())),
        (
            "drills-checking",
            with(running(history()), &|s| {
                let event = Event {
                    at: state_now(),
                    recovery: "drill-shop-now".to_owned(),
                    what: What::StepFinished { step: StepId::Unpack, seconds: 60.0, bytes: None },
                };
                let checks = [check("orders are there", true, "7"), check("customers are there", false, "0")];
                fold(s, [happened(Happened::Event(event)), happened(Happened::Doing("checking".to_owned()))]);
                fold(s, checks.map(|check| happened(Happened::Checked(check))));
            }),
        ),
        (
            "drills-unfinished",
            listed(unfinished(), &["drill-shop-13: its report was removed", "drill-shop-03: its report was changed"]),
        ),
        ("home-forecast", forecast()),
    ]
}

#[test]
fn a_drill_is_made_from_the_screen_and_ends_there() {
    let mut state = running(history());
    // It goes on wherever one is, and leaving the program asks.
    key(&mut state, Key::Esc);
    assert_eq!(press(&mut state, "q"), []);
    assert!(matches!(&state.dialog, Some(Dialog::Menu(menu)) if menu.title == "Leave now?"));
    assert_eq!(press(&mut state, "y"), [Effect::Quit]);
    let mut passed = report(0, DrillResult::Passed, 700.0, &[]);
    passed.id = "drill-shop-now".to_owned();
    let effects = fold(&mut state, [Msg::Drill(News::Over(Ok(Box::new(passed.clone()))))]);
    assert!(effects.contains(&Effect::Drill(Ask::List)) && effects.contains(&Effect::Drill(Ask::Forecast)));
    assert_eq!((state.drills.running.is_none(), state.drills.last), (true, Some(DrillResult::Passed)));
    assert_eq!(
        state.status.as_ref().map(|status| status.text.clone()),
        Some("the drill has passed: RTO 11 min 40 s, RPO 8.0 s".to_owned())
    );
    assert_eq!(press(&mut state, "q"), [Effect::Quit]);
    // It is the one under the cursor then.
    press(&mut state, "d");
    let drills = history().into_iter().chain([over(passed)]).collect();
    fold(&mut state, [Msg::Drill(News::Listed(Ok(Listed { drills, problems: Vec::new() })))]);
    assert_eq!(walback::app::drills::chosen(&state).map(|entry| entry.id.as_str()), Some("drill-shop-now"));
    let file = PathBuf::from("/var/lib/walback/drills/drill-shop-now/report.md");
    assert_eq!(press(&mut state, "r"), [Effect::Read { file }]);
}

#[test]
fn a_drill_is_given_up_only_after_asking() {
    let mut state = running(history());
    assert_eq!(press(&mut state, "c"), []);
    assert_eq!(key(&mut state, Key::Enter), [], "the first of the ways is to let it go on");
    press(&mut state, "c");
    assert_eq!(press(&mut state, "y"), [Effect::Drill(Ask::GiveUp)]);
    assert_eq!(press(&mut state, "c"), []);
    assert!(state.status.as_ref().is_some_and(|status| status.refusal), "it is being given up already");
    assert_eq!(key(&mut state, Key::Enter), []);
    assert!(state.dialog.is_none(), "the next one can be made after it");
}

#[test]
fn which_drill_is_made_is_chosen() {
    let made = |keys: &str| {
        let mut state = listed(history(), &[]);
        state.backup = 2;
        if let Loading::Loaded(catalog) = &mut state.catalog {
            let older = clock(2, 3, 9, 0).plus_micros(-2 * 86_400_000_000);
            catalog.backups.push(backup("20240930T020000", older, 0x1_0800_0028));
        }
        key(&mut state, Key::Enter);
        let effects = press(&mut state, keys);
        match effects.as_slice() {
            [Effect::Drill(Ask::Make(wanted))] => {
                (wanted.backup.clone(), wanted.target.clone().map(|target| target.kind))
            }
            other => panic!("{keys}: {other:?}"),
        }
    };
    let latest = || Some(TargetKind::Latest);
    assert_eq!(made("y"), (Some("newest".to_owned()), latest()));
    assert_eq!(made("o"), (Some("oldest".to_owned()), latest()));
    assert_eq!(made("b"), (Some("20241001T020000".to_owned()), latest()));
    assert_eq!(made("r"), (Some("random".to_owned()), None));
    // A time is typed, and where drills go.
    let mut state = listed(history(), &[]);
    key(&mut state, Key::Enter);
    press(&mut state, "t2024-10-02 14:30");
    let effects = key(&mut state, Key::Enter);
    let is_to_time = |effect: &Effect| {
        matches!(effect, Effect::Drill(Ask::Make(Wanted { backup: None, target: Some(target), .. }))
            if matches!(target.kind, TargetKind::Time(_)))
    };
    assert!(effects.iter().any(is_to_time), "{effects:?}");
    let mut state = listed(history(), &[]);
    key(&mut state, Key::Enter);
    press(&mut state, "s/here");
    key(&mut state, Key::Enter);
    let effects = key(&mut state, Key::Enter);
    assert!(
        matches!(effects.as_slice(), [Effect::Drill(Ask::Make(wanted))] if wanted.scratch.as_deref() == Some("/srv/drills/here")),
        "{effects:?}"
    );
}

#[test]
fn the_cursor_stays_on_its_drill_when_there_are_more() {
    let mut state = listed(history(), &[]);
    key(&mut state, Key::Down);
    let before = walback::app::drills::chosen(&state).map(|entry| entry.id.clone());
    let mut more = history();
    more.push(over(DrillReport { id: "drill-shop-new".to_owned(), ..report(0, DrillResult::Passed, 1.0, &[]) }));
    fold(&mut state, [Msg::Drill(News::Listed(Ok(Listed { drills: more, problems: Vec::new() })))]);
    assert_eq!(walback::app::drills::chosen(&state).map(|entry| entry.id.clone()), before);
    // Those of another cluster are not this one's.
    let mut other = report(1, DrillResult::Passed, 1.0, &[]);
    other.source.system_identifier = Some("1".to_owned());
    fold(&mut state, [Msg::Drill(News::Listed(Ok(Listed { drills: vec![over(other)], problems: Vec::new() })))]);
    assert_eq!(walback::app::drills::mine(&state).len(), 0);
}

#[test]
fn nothing_is_drilled_where_nothing_may_be_changed() {
    let mut state = listed(history(), &[]);
    state.read_only = true;
    key(&mut state, Key::Enter);
    assert!(state.dialog.is_none() && state.status.as_ref().is_some_and(|status| status.refusal));
}
