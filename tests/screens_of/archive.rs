//! The Archive and Log screens, in every state that matters.

use super::*;
use walback::app::archive::{News, Primary, Row};
use walback::app::log;
use walback::catalog::Listing;
use walback::catalog::inspection::Inspection;
use walback::catalog::overview::{DamagedPlace, Extent};
use walback::core::ArchiveFile;
use walback::plan::archive::Report;
use walback::plan::archiving::{Archiver, Space};
use walback::plan::audit::Audit;
use walback::wal::summary::Damage;

/// The home screen's catalog, with its segments: two are missing, timeline 2 forks off, an older backup is there.
fn held(missing: &[(u32, u64)]) -> Catalog {
    let numbers = (0x100..=0x1B0).map(|number| (1, number)).chain((0x1A0..=0x1AC).map(|number| (2, number)));
    let files = numbers.filter(|place| !missing.contains(place));
    let files = files.map(|(timeline, number)| (ArchiveFile::Segment(segment(timeline, number)), 16 << 20));
    let history = "1\t1/A0000148\tno recovery target specified\n".to_owned();
    Catalog::build(Listing {
        files: files.collect(),
        // Where nothing else is wrong, no backup is.
        backups: catalog().backups.into_iter().filter(|one| !missing.is_empty() || one.is_usable()).collect(),
        histories: vec![(TimelineId(2), history)],
        segment_size: Some(SegmentSize::DEFAULT),
        system_identifier: Some(7_420_000_000_000_000_001),
        ..Listing::default()
    })
}

/// What is known of it once everything was read, with or without a damaged segment.
fn known(catalog: &Catalog, read: bool, damaged: bool) -> Overview {
    let rows = segments(&points());
    let row = |name: &SegmentName| {
        let (timeline, number) = (name.timeline, name.number(SegmentSize::DEFAULT));
        let points = rows.get(&(timeline, number)).map_or(&[][..], Vec::as_slice);
        let times = || points.iter().filter_map(|point| point.at);
        SegmentRows {
            read,
            rows: points.len() as u32,
            commits: points.len() as u32,
            earliest: times().min(),
            latest: times().max(),
            ..SegmentRows::unread(timeline, number)
        }
    };
    let at = Lsn(0x1_A600_2000);
    let damage =
        Damage { at, found: at, resumed: Some(Lsn(0x1_A600_4000)), reason: "the checksum is wrong".to_owned() };
    let place = DamagedPlace {
        timeline: TimelineId(1),
        number: 0x1A6,
        file: segment(1, 0x1A6).to_string(),
        extent: Extent::Part,
        damage,
    };
    Overview {
        segments: catalog.segments.iter().map(row).collect(),
        damaged: if damaged { vec![place] } else { Vec::new() },
        complete: read,
        ..overview(&points(), read)
    }
}

/// Answers what the Archive screen asks for.
fn judge(state: &mut State, effects: Vec<Effect>, space: &[Space], primary: Option<&Result<Archiver, Error>>) {
    for effect in effects {
        match effect {
            Effect::Archive(walback::app::archive::Ask::Judge(overview)) => {
                let catalog = state.loaded().unwrap().clone();
                let inspection = Inspection::default();
                let audit = Audit {
                    catalog: &catalog,
                    inspection: &inspection,
                    overview: Some(overview.as_ref()),
                    zone: state.zone,
                };
                let report = Ok(Arc::new(Report::of(&audit)));
                fold(state, [Msg::Archive(News::Judged { overview, report })]);
            }
            Effect::Archive(walback::app::archive::Ask::Look) => {
                fold(state, [Msg::Archive(News::Space(space.to_vec()))]);
                if let Some(primary) = primary {
                    fold(state, [Msg::Archive(News::Primary(primary.clone()))]);
                }
            }
            _ => {}
        }
    }
}

fn space(free: u64) -> Vec<Space> {
    let directories = ["/srv/archive/shop", "/srv/backups/shop"].map(PathBuf::from).to_vec();
    vec![Space { directories, bytes: Ok((free << 30, 1000 << 30)) }]
}

fn archiver(current: u64) -> Archiver {
    Archiver {
        mode: "on".to_owned(),
        system_identifier: Some(7_420_000_000_000_000_001),
        current_wal: Some(segment(1, current).to_string()),
        archived: 12_345,
        last_wal: Some(segment(1, 0x1B0).to_string()),
        last_at: Some(clock(14, 58, 2, 0)),
        failed: 3,
        last_failed_wal: Some(segment(1, 0x180).to_string()),
        last_failed_at: Some(clock(9, 0, 0, 0)),
        now: Some(clock(15, 2, 0, 0)),
        ..Archiver::default()
    }
}

/// The home screen of this archive, once everything was looked at.
fn looked_at(catalog: Catalog, damaged: bool, space: &[Space], primary: Option<Result<Archiver, Error>>) -> State {
    let mut state = State::new(setup());
    if primary.is_some() {
        state.archive.primary = Primary::Asking;
    }
    let all = known(&catalog, true, damaged);
    fold(&mut state, [Msg::Started, Msg::Recoveries(Vec::new()), Msg::Catalog(Ok(catalog))]);
    answer(&mut state, Msg::Overview(Arc::new(all)), &segments(&points()));
    let effects = fold(&mut state, [Msg::ScanFinished(Ok(()))]);
    judge(&mut state, effects, space, primary.as_ref());
    state
}

fn open(mut state: State) -> State {
    let effects = press(&mut state, "A");
    judge(&mut state, effects, &space(131), None);
    state
}

fn healthy() -> State {
    looked_at(held(&[]), false, &space(700), Some(Ok(archiver(0x1B1))))
}

const GAPS: [(u32, u64); 4] = [(1, 0x160), (1, 0x161), (2, 0x1A6), (2, 0x1A7)];

fn harmed() -> State {
    looked_at(held(&GAPS), true, &space(131), None)
}

/// While it is read for the first time, with the screen open.
fn reading() -> State {
    let mut state = State::new(setup());
    let catalog = held(&GAPS);
    let some = known(&catalog, false, false);
    fold(&mut state, [Msg::Started, Msg::Recoveries(Vec::new()), Msg::Catalog(Ok(catalog))]);
    fold(&mut state, [Msg::Overview(Arc::new(some)), Msg::ScanProgress { done: 100_000_000, total: 2_700_000_000 }]);
    fold(&mut state, [Msg::Tick(clock(15, 2, 1, 0)), Msg::ScanProgress { done: 900_000_000, total: 2_700_000_000 }]);
    fold(&mut state, [Msg::Tick(clock(15, 2, 5, 0))]);
    open(state)
}

fn silent() -> State {
    let error =
        Error::failed("primary-silent", "the primary does not answer").because("connection refused (os error 111)");
    let mut state = open(looked_at(held(&[]), false, &space(131), Some(Err(error))));
    while state.archive.row(state.archive.cursor) != Some(Row::Primary) {
        key(&mut state, Key::Down);
    }
    state
}

fn lines() -> Vec<String> {
    let line = |second: u32, word: &str, text: &str| {
        format!("2024-10-02 13:07:{second:02}.120 UTC [4711] startup 00000: {word}:  {text}")
    };
    let mut lines = vec![
        line(14, "LOG", "starting point-in-time recovery to XID 1234573"),
        line(14, "LOG", "\u{1b}]0;owned\u{7}redo starts at 1/50000028"),
        line(15, "WARNING", "could not open directory \"pg_tblspc/16999/PG_15_202209061\": No such file or directory"),
        line(15, "HINT", "Remove the tablespace's link, or bring its directory back."),
        "cp: cannot stat '/srv/archive/shop/00000003.history': No such file or directory".to_owned(),
    ];
    lines.extend(
        (0x50..0x70).map(|n| {
            line(n % 40 + 16, "LOG", &format!("restored log file \"0000000100000001000000{n:X}\" from archive"))
        }),
    );
    lines.push(line(
        58,
        "ERROR",
        &format!("syntax error at or near \"x\" {}", "in a statement that is very long ".repeat(90)),
    ));
    lines.push(line(59, "LOG", "recovery stopping before commit of transaction 1234573, time 2024-10-02 15:07:19+02"));
    lines
}

fn logged() -> State {
    let mut state = paused();
    press(&mut state, "L");
    let news = |what| Msg::Log(log::News { recovery: NAME.to_owned(), what });
    let path = plan().server.log.display().to_string();
    fold(&mut state, [news(log::What::Begins { path, earlier: true }), news(log::What::Lines(lines()))]);
    state
}

/// Every state of these screens that is drawn, by name.
pub(super) fn all() -> Vec<(&'static str, State)> {
    let with = |mut state: State, change: &dyn Fn(&mut State)| {
        change(&mut state);
        state
    };
    let critical = || {
        let archiver = Archiver { last_failed_at: Some(clock(15, 1, 0, 0)), ..archiver(0x1F0) };
        open(looked_at(held(&[]), false, &space(30), Some(Ok(archiver))))
    };
    vec![
        ("archive-listing", with(State::new(setup()), &|s| drop(press(s, "A")))),
        ("archive-looking", with(home(), &|s| drop(press(s, "A")))),
        ("archive-empty", open(looked_at(Catalog::build(Listing::default()), false, &[], None))),
        ("archive-healthy", open(healthy())),
        ("archive-harmed", open(harmed())),
        ("archive-reading", reading()),
        (
            "archive-backup",
            with(open(harmed()), &|s| {
                while !matches!(s.archive.row(s.archive.cursor), Some(Row::Backup(_))) {
                    key(s, Key::Down);
                }
            }),
        ),
        ("archive-orphans", with(open(harmed()), &|s| drop(key(s, Key::End)))),
        ("archive-silent", silent()),
        (
            "archive-many-timelines",
            with(open(harmed()), &|s| {
                let mut report = Report::clone(s.archive.report.as_ref().unwrap());
                let second = report.timelines[1].clone();
                report.timelines.extend(
                    (3..12).map(|id| walback::plan::archive::Continuity { timeline: TimelineId(id), ..second.clone() }),
                );
                s.archive.report = Some(Arc::new(report));
            }),
        ),
        ("archive-critical", critical()),
        ("home-critical", harmed()),
        ("home-healthy", healthy()),
        ("log-empty", with(replaying(), &|s| drop(press(s, "L")))),
        ("log", logged()),
        (
            "log-scrolled",
            with(logged(), &|s| {
                key(s, Key::Home);
                press(s, "jj");
            }),
        ),
        ("log-warnings", with(logged(), &|s| drop(press(s, "f")))),
        ("log-find", with(logged(), &|s| drop(press(s, "/restored")))),
        (
            "log-found",
            with(logged(), &|s| {
                press(s, "/RESTORED");
                key(s, Key::Enter);
            }),
        ),
    ]
}

#[test]
fn what_is_harmed_is_gone_to() {
    let mut state = open(harmed());
    let Some(Row::Finding(found)) = state.archive.row(0) else { panic!() };
    assert_eq!(found.finding.code, "wal-missing");
    let (timeline, lsn) = found.timeline.zip(found.lsn).unwrap();
    key(&mut state, Key::Enter);
    assert_eq!((state.screens.as_slice(), state.pane), ([Screen::Points].as_slice(), Pane::Points));
    assert_eq!(state.points.place(), Some((timeline, lsn)));
    // The damaged segment, too.
    press(&mut state, "A");
    while !matches!(state.archive.row(state.archive.cursor), Some(Row::Finding(found)) if found.finding.code == "wal-damaged")
    {
        key(&mut state, Key::Down);
    }
    key(&mut state, Key::Enter);
    assert_eq!(state.points.place(), Some((TimelineId(1), Lsn(0x1_A600_2000))));
    // And a base backup.
    press(&mut state, "A");
    key(&mut state, Key::Home);
    while !matches!(state.archive.row(state.archive.cursor), Some(Row::Backup(needs)) if needs.backup == "20241001T020000")
    {
        key(&mut state, Key::Down);
    }
    key(&mut state, Key::Enter);
    assert_eq!((state.pane, state.selected_backup().unwrap().id.as_str()), (Pane::Backups, "20241001T020000"));
}

#[test]
fn a_row_of_the_archive_is_clicked_twice_to_go_there() {
    let mut state = open(harmed());
    let drawn = draw(&state, Theme::new(true), &mut Buffer::empty(Rect::new(0, 0, 80, 24)));
    let (place, _) = drawn.hits.iter().find(|(_, hit)| *hit == Hit::ArchiveRow(1)).unwrap();
    let hit = walback::tui::hit_at(&drawn.hits, place.x + 3, place.y).unwrap();
    update(&mut state, Msg::Click(hit));
    assert_eq!((state.screen(), state.archive.cursor), (Screen::Archive, 1));
    update(&mut state, Msg::Click(hit));
    assert_eq!(state.screen(), Screen::Points);
}

#[test]
fn a_check_begins_stops_and_says_where_everything_was_read() {
    let mut state = open(healthy());
    assert_eq!(press(&mut state, "c"), []);
    assert!(state.status.as_ref().unwrap().text.contains("every segment was read already"));
    let mut state = reading();
    assert_eq!(press(&mut state, "c"), [Effect::CancelScan]);
    fold(&mut state, [Msg::ScanFinished(Err(Error::new(ErrorKind::Interrupted, "cancelled", "stopped")))]);
    assert_eq!(press(&mut state, "c"), [Effect::LoadOverview]);
    assert_eq!(state.scan.state, ScanState::Running);
}

/// The primary and the file systems are asked now and then, and never twice at a time.
#[test]
fn the_primary_is_asked_again_once_it_has_answered() {
    let look = Effect::Archive(walback::app::archive::Ask::Look);
    let mut state = healthy();
    let tick = |state: &mut State, second| fold(state, [Msg::Tick(clock(15, 2, second, 0))]);
    assert_eq!(tick(&mut state, 59), []);
    assert_eq!(press(&mut state, "A"), std::slice::from_ref(&look), "every ten seconds while it is looked at");
    assert_eq!(fold(&mut state, [Msg::Tick(clock(15, 9, 0, 0))]), [], "it has not answered yet");
    let answers = [Msg::Archive(News::Space(space(1))), Msg::Archive(News::Primary(Ok(archiver(0x1B1))))];
    assert_eq!(fold(&mut state, answers), [look], "it is due, and answered");
}

/// As many findings as there can be: only the rows that are seen are made.
#[test]
fn a_hundred_thousand_findings_are_no_burden() {
    let mut state = open(harmed());
    let mut report = Report::clone(state.archive.report.as_ref().unwrap());
    let one = report.findings[0].clone();
    report.findings = vec![one; 100_000];
    state.archive.report = Some(Arc::new(report));
    for pressed in [Key::End, Key::Home, Key::PageDown, Key::Down] {
        key(&mut state, pressed);
        let text = text_of(&buffer_of(&state, 80, 24));
        assert!(text.contains("of 100,0"), "{text}");
    }
}

/// The end is followed until it is left; what is not held any more is said.
#[test]
fn the_log_follows_its_end_until_it_is_left() {
    let mut state = logged();
    let news = |lines: Vec<String>| Msg::Log(log::News { recovery: NAME.to_owned(), what: log::What::Lines(lines) });
    let shows = |state: &State, words: &str| text_of(&buffer_of(state, 80, 24)).contains(words);
    fold(&mut state, [news(vec!["the newest".to_owned()])]);
    assert!(shows(&state, "the newest") && state.log.follows());
    key(&mut state, Key::Up);
    fold(&mut state, [news((0..50).map(|n| format!("line {n}")).collect())]);
    assert!(!shows(&state, "line 49") && shows(&state, "stands still"), "{}", text_of(&buffer_of(&state, 80, 24)));
    key(&mut state, Key::Char('G'));
    assert!(shows(&state, "line 49") && state.log.follows());
    fold(&mut state, [news((0..log::HELD).map(|n| format!("more {n}")).collect())]);
    assert_eq!(state.log.len(), log::HELD);
    assert!(shows(&state, "The last 10,000 lines; earlier ones are in"));
    // Another recovery's lines are not mixed in.
    fold(
        &mut state,
        [Msg::Log(log::News { recovery: "other".to_owned(), what: log::What::Lines(vec!["foreign".to_owned()]) })],
    );
    assert!(!shows(&state, "foreign"));
}

#[test]
fn the_log_is_closed_however_it_is_left() {
    let open = |state: &mut State| {
        assert_eq!(press(state, "L"), [Effect::Log(log::Ask::Open { recovery: NAME.to_owned() })]);
    };
    let mut state = paused();
    open(&mut state);
    assert_eq!(key(&mut state, Key::Esc), [Effect::Log(log::Ask::Close)]);
    assert_eq!(state.screen(), Screen::Paused);
    open(&mut state);
    fold(&mut state, [state_event(50, RecoveryState::ShutDown)]);
    assert_eq!(state.screens, [Screen::Points, Screen::Paused, Screen::Log]);
}

#[test]
fn what_is_found_in_the_log_is_gone_to_from_the_last_one_on() {
    let mut state = logged();
    press(&mut state, "/wal");
    key(&mut state, Key::Enter);
    assert!(state.status.as_ref().unwrap().refusal, "there is none");
    press(&mut state, "/");
    for _ in 0..3 {
        key(&mut state, Key::Backspace);
    }
    press(&mut state, "Restored");
    key(&mut state, Key::Enter);
    let at = |state: &State| state.log.at(&state.log.seen());
    let found = at(&state);
    assert_eq!(found, lines().iter().rposition(|line| line.contains("restored")).unwrap());
    press(&mut state, "N");
    assert_eq!(at(&state), found - 1);
    press(&mut state, "nn");
    assert_eq!(
        at(&state),
        lines().iter().position(|line| line.contains("restored")).unwrap(),
        "from the end to the beginning"
    );
}
