//! Every screen and dialog as it is drawn, at four sizes; and at every size without a panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use insta::assert_snapshot;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Values;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use walback::app::dialog::{SuspectList, TargetForm};
use walback::app::keys::Keys;
use walback::app::state::{Known, Loading, ScanState, Wanted};
use walback::app::{ActionKind, Dialog, Effect, Hit, Key, Msg, Pane, Screen, Setup, State, command, guide, update};
use walback::catalog::overview::SegmentRows;
use walback::catalog::suspect::sort_worst_first;
use walback::catalog::{
    Backup, BackupKind, Catalog, Compression, Gap, Overview, Part, PartContents, Point, PointKind, Suspect,
    SuspectKind, SuspectRelation, Timeline,
};
use walback::core::{
    Lsn, PgMajor, SegmentName, SegmentSize, Target, TargetKind, TimelineChoice, TimelineId, Timestamp, Xid, Zone,
};
use walback::error::{Error, ErrorKind, Reachable};
use walback::event::{Event, EventBuffer, Failure, Progress, RecoveryState, Strategy, What};
use walback::pgdata::server_log::{StopKind, Stopped};
use walback::plan::{Approach, Estimate, Finding, Plan, ServerPlan, Step, StepId};
use walback::resolve::{BeforeWhat, Place, Resolved, StopBefore, StopSide};
use walback::tui::{Role, Theme, draw};

#[path = "screens_of/archive.rs"]
mod archive;
#[path = "screens_of/drills.rs"]
mod drills;

const NAME: &str = "shop-20241002-1502";

/// 2024-10-02 in Berlin (+02:00), so many seconds after noon, and microseconds.
fn at(seconds: i64, micros: i64) -> Timestamp {
    Timestamp::from_unix_micros((1_727_863_200 + seconds) * 1_000_000 + micros).unwrap()
}

fn clock(hour: i64, minute: i64, second: i64, micros: i64) -> Timestamp {
    at((hour - 12) * 3600 + minute * 60 + second, micros)
}

fn segment(timeline: u32, number: u64) -> SegmentName {
    SegmentName::new(TimelineId(timeline), number, SegmentSize::DEFAULT)
}

fn backup(id: &str, finished: Timestamp, lsn: u64) -> Backup {
    Backup {
        id: id.to_owned(),
        pg_version: Some(PgMajor(15)),
        system_identifier: Some(7_420_000_000_000_000_001),
        segment_size: Some(SegmentSize::DEFAULT),
        timeline: Some(TimelineId(1)),
        start_lsn: Some(Lsn(lsn)),
        start_wal: Some(segment(1, lsn >> 24)),
        stop_lsn: Some(Lsn(lsn + 0x1000)),
        started_at: Some(finished.plus_micros(-180_000_000)),
        finished_at: Some(finished),
        size_bytes: 44_238_479_360,
        unpacked_bytes: Some(120_000_000_000),
        manifest: true,
        label: Some("nightly".to_owned()),
        parts: vec![Part {
            path: PathBuf::from("/srv/backups/shop").join(id).join("base.tar.gz"),
            holds: PartContents::Data,
            compression: Compression::Gzip,
            size_bytes: 44_238_479_360,
            inside: PathBuf::new(),
        }],
        ..Backup::at(PathBuf::from("/srv/backups/shop").join(id), BackupKind::Tar, Compression::Gzip)
    }
}

fn timeline(id: u32, parent: Option<u32>, fork: Option<u64>, segments: (u64, u64), last: Timestamp) -> Timeline {
    Timeline {
        id: TimelineId(id),
        parent: parent.map(TimelineId),
        forked_at_lsn: fork.map(Lsn),
        reason: fork.map(|_| "no recovery target specified".to_owned()),
        first_segment: Some(segment(id, segments.0)),
        last_segment: Some(segment(id, segments.1)),
        segments: segments.1 - segments.0 + 1,
        end_lsn: Some(SegmentSize::DEFAULT.start_of(segments.1 + 1)),
        first_commit_at: None,
        last_commit_at: Some(last),
        gaps: Vec::new(),
        damaged: Vec::new(),
    }
}

fn catalog() -> Catalog {
    let broken = Backup {
        problems: vec!["base.tar.gz is truncated: it ends after 12.4 GB".to_owned()],
        ..backup("20241002T030000", clock(3, 4, 0, 0), 0x1_6000_0028)
    };
    let mut second = timeline(2, Some(1), Some(0x1_A000_0148), (0x1A0, 0x1AC), clock(14, 52, 11, 0));
    second.gaps.push(Gap { first: segment(2, 0x1A6), last: segment(2, 0x1A7), segments: 2 });
    Catalog {
        backups: vec![
            broken,
            backup("20241002T020000", clock(2, 3, 11, 0), 0x1_5000_0028),
            backup("20241001T020000", clock(2, 3, 9, 0).plus_micros(-86_400_000_000), 0x1_1000_0028),
        ],
        timelines: vec![timeline(1, None, None, (0x10F, 0x1B0), clock(14, 58, 2, 0)), second],
        system_identifier: Some(7_420_000_000_000_000_001),
        segment_size: SegmentSize::DEFAULT,
        problems: Vec::new(),
        left_alone: Vec::new(),
        asked: Vec::new(),
        segments: BTreeSet::new(),
        partials: BTreeSet::new(),
        cut_off: BTreeSet::new(),
        growing: BTreeSet::new(),
        compressions: BTreeSet::new(),
        unmarked: BTreeSet::new(),
        layouts: Default::default(),
        histories: BTreeMap::new(),
    }
}

fn point(kind: PointKind, timeline: u32, lsn: u64, when: Timestamp) -> Point {
    Point {
        kind,
        timeline: TimelineId(timeline),
        lsn: Lsn(lsn),
        end_lsn: Lsn(lsn + 0x28),
        xid: None,
        at: Some(when),
        name: None,
        drops: 0,
        deletes: 0,
        updates: 0,
        subxacts: 0,
    }
}

fn commit(timeline: u32, xid: u32, lsn: u64, when: Timestamp) -> Point {
    Point { xid: Some(Xid(xid)), ..point(PointKind::Commit, timeline, lsn, when) }
}

/// A day: a backup, commits, a restore point, the DROP, the mass DELETE; and a promoted second timeline.
fn points() -> Vec<Point> {
    let mut points = vec![point(PointKind::BackupEnd, 1, 0x1_5000_1000, clock(2, 3, 11, 0))];
    for i in 0..40_u32 {
        let when = at(6000 + i64::from(i) * 83 + i64::from(i * i % 17), i64::from(i) * 7919 % 1_000_000);
        let mut commit = commit(1, 1_234_540 + i, 0x1_AB12_0000 + u64::from(i) * 0x268, when);
        match i {
            3 | 17 => commit.kind = PointKind::Abort,
            9 => commit.deletes = 12,
            27 => commit.drops = 3,
            33 => commit.deletes = 48_211,
            _ => {}
        }
        points.push(commit);
    }
    let named =
        |lsn, when, name: &str| Point { name: Some(name.to_owned()), ..point(PointKind::RestorePoint, 1, lsn, when) };
    points.push(named(0x1_AB12_2F00, at(7661, 5), "before_deploy"));
    points.push(named(0x1_AB12_0100, at(6003, 9), "evil\u{1b}[2J\u{202e}name"));
    points.push(Point { at: None, ..point(PointKind::EndOfWal, 1, 0x1_B100_0000, at(0, 0)) });
    points.push(point(PointKind::EndOfRecovery, 2, 0x1_A000_0148, at(4000, 0)));
    for i in 0..12_u32 {
        let when = at(4000 + i64::from(i) * 500, 250_000);
        points.push(commit(2, 1_234_001 + i, 0x1_A000_1000 + u64::from(i) * 0x10_0000, when));
    }
    points
}

/// Some of it lies before the oldest backup's end.
fn early_points() -> Vec<Point> {
    let early =
        (0..6).map(|i| commit(1, 1_233_000 + i, 0x1_0F00_0100 + u64::from(i) * 0x100, at(-90_000 + i64::from(i), 0)));
    early.chain(points()).collect()
}

fn setup() -> Setup {
    Setup {
        source: "shop".to_owned(),
        zone: "Europe/Berlin".parse().unwrap(),
        now: clock(15, 2, 0, 0),
        read_only: false,
        unicode: true,
        directory: "/srv/recovered/shop".to_owned(),
    }
}

fn fold(state: &mut State, messages: impl IntoIterator<Item = Msg>) -> Vec<Effect> {
    messages.into_iter().flat_map(|msg| update(state, msg)).collect()
}

fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    fold(state, keys.chars().map(|c| Msg::Key(Key::Char(c))))
}

fn key(state: &mut State, key: Key) -> Vec<Effect> {
    update(state, Msg::Key(key))
}

/// An archive's segments with the points in each.
type Segments = BTreeMap<(TimelineId, u64), Vec<Point>>;

fn segments(points: &[Point]) -> Segments {
    let mut segments = Segments::new();
    for point in points {
        let number = SegmentSize::DEFAULT.number_of(point.lsn);
        segments.entry((point.timeline, number)).or_default().push(point.clone());
    }
    segments
}

/// What an archive with these points is known by.
fn overview(points: &[Point], complete: bool) -> Overview {
    let ends = |point: &&Point| matches!(point.kind, PointKind::Commit | PointKind::Abort);
    let rows = |((timeline, number), points): (&(TimelineId, u64), &Vec<Point>)| SegmentRows {
        timeline: *timeline,
        number: *number,
        read: true,
        rows: points.len() as u32,
        commits: points.iter().filter(|point| point.kind == PointKind::Commit).count() as u32,
        earliest: points.iter().filter(ends).filter_map(|point| point.at).min(),
        latest: points.iter().filter(ends).filter_map(|point| point.at).max(),
    };
    let mut suspects: Vec<Suspect> = points.iter().filter_map(suspect).collect();
    sort_worst_first(&mut suspects);
    Overview {
        segments: segments(points).iter().map(rows).collect(),
        marks: points.iter().filter(|point| !ends(point)).cloned().collect(),
        suspects,
        damaged: Vec::new(),
        complete,
    }
}

fn suspect(point: &Point) -> Option<Suspect> {
    let (kind, count) = match point {
        Point { drops: 1.., .. } => (SuspectKind::Drop, point.drops as u32),
        Point { deletes: 1000.., .. } => (SuspectKind::Delete, 1),
        _ => return None,
    };
    let relation = |number| SuspectRelation {
        database: 5,
        database_name: Some("shop".to_owned()),
        relfilenode: Some(16_384 + number),
        name: (number == 0).then(|| "public.orders".to_owned()),
        rows: point.deletes,
    };
    Some(Suspect {
        kind,
        xid: point.xid?,
        timeline: point.timeline,
        lsn: point.lsn,
        at: point.at?,
        relations: (0..count).map(relation).collect(),
        rows: point.deletes,
        stop_before: Vec::new(),
        locked_from: None,
        note: None,
    })
}

/// Folds a message in; the segments that are asked for come.
fn answer(state: &mut State, msg: Msg, segments: &Segments) {
    let mut effects = update(state, msg);
    while let Some(effect) = effects.pop() {
        if let Effect::LoadPoints { timeline, numbers } = effect {
            for number in numbers {
                let points = Ok(segments.get(&(timeline, number)).cloned().unwrap_or_default());
                effects.extend(update(state, Msg::Points { timeline, number, points }));
            }
        }
    }
}

/// The home screen of an archive with these points.
fn home_of(points: &[Point]) -> State {
    let mut state = State::new(setup());
    fold(&mut state, [Msg::Started, Msg::Recoveries(Vec::new()), Msg::Catalog(Ok(catalog()))]);
    answer(&mut state, Msg::Overview(Arc::new(overview(points, true))), &segments(points));
    fold(&mut state, [Msg::ScanProgress { done: 2_700_000_000, total: 2_700_000_000 }, Msg::ScanFinished(Ok(()))]);
    state
}

fn home() -> State {
    home_of(&points())
}

/// Presses a key of the home screen; the segments that are asked for come.
fn go(state: &mut State, key: Key) {
    answer(state, Msg::Key(key), &segments(&points()));
}

fn target() -> Target {
    Target {
        inclusive: false,
        timeline: TimelineChoice::Number(TimelineId(1)),
        ..Target::new(TargetKind::Xid(Xid(1_234_573)))
    }
}

fn place(points: &[Point], xid: u32) -> Option<Place> {
    let point = points.iter().find(|point| point.xid == Some(Xid(xid)))?;
    Some(Place { lsn: point.lsn, xid: point.xid, at: point.at })
}

fn plan() -> Plan {
    let points = points();
    let stop = place(&points, 1_234_573).unwrap();
    let resolved = Resolved {
        xid: stop.xid,
        at: stop.at,
        consistent_at: Lsn(0x1_5000_1000),
        last_kept: place(&points, 1_234_572),
        first_lost: Some(stop),
        backups: vec!["20241002T020000".to_owned(), "20241001T020000".to_owned()],
        ..Resolved::new(TimelineId(1), StopSide::Before, stop.lsn)
    };
    let step = |id, title: &str, commands: &[&str], undo: Option<&str>| Step {
        id,
        title: title.to_owned(),
        commands: commands.iter().map(|c| (*c).to_owned()).collect(),
        undo: undo.map(str::to_owned),
    };
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Plan {
        chain: None,
        tablespaces: Vec::new(),
        recovery: NAME.to_owned(),
        directory: PathBuf::from("/srv/recovered/shop"),
        backup: catalog().backups.remove(1),
        target: target(),
        resolved,
        settings: vec![
            setting("restore_command", "cp '/srv/archive/shop/%f' '%p'"),
            setting("recovery_target_xid", "1234573"),
            setting("recovery_target_inclusive", "off"),
            setting("recovery_target_timeline", "1"),
            setting("recovery_target_action", "pause"),
            setting("port", "54320"),
            setting("listen_addresses", ""),
            setting("archive_mode", "off"),
        ],
        restore_command: "cp '/srv/archive/shop/%f' '%p'".to_owned(),
        fetch: None,
        wal: vec![PathBuf::from("/srv/archive/shop")],
        commands: Vec::new(),
        server: ServerPlan {
            major: PgMajor(15),
            bin_dir: PathBuf::from("/usr/lib/postgresql/15/bin"),
            segment_size: SegmentSize::DEFAULT,
            port: 54320,
            socket_directory: PathBuf::from("/run/user/105/walback/shop"),
            log: PathBuf::from("/var/lib/postgresql/.local/state/walback/shop-20241002-1502/server.log"),
            run_as: "postgres".to_owned(),
            database: "postgres".to_owned(),
            role: "postgres".to_owned(),
        },
        steps: vec![
            step(
                StepId::Unpack,
                "Unpack the base backup",
                &[
                    "install -d -m 0700 -o postgres /srv/recovered/shop",
                    "tar -xzf /srv/backups/shop/20241002T020000/base.tar.gz -C /srv/recovered/shop",
                ],
                Some("rm -r /srv/recovered/shop"),
            ),
            step(StepId::Configure, "Write the settings and recovery.signal", &["touch recovery.signal"], None),
            step(StepId::Start, "Start the server, isolated", &["pg_ctl start -D /srv/recovered/shop"], None),
            step(StepId::Replay, "Follow replay until it pauses", &["tail -f server.log"], None),
        ],
        findings: vec![
            Finding::note("checksums-off", "the cluster has no data checksums: damaged pages would not be noticed"),
            Finding::warning("space-tight", "/srv has 131 GB free, and 124 GB are needed")
                .hint("make room, or choose another directory with d"),
        ],
        estimate: Estimate {
            unpack_bytes: 44_238_479_360,
            read_bytes: 44_238_479_360,
            wal_bytes: 1_540_000_000,
            wal_segments: 92,
            unpack_s: Some(310.0),
            replay_s: Some(45.0),
            total_s: Some(357.0),
            basis: "the last recovery on this machine: 136 MB/s unpacking, 34 MB/s replay".to_owned(),
            free_after_bytes: Some(86_000_000_000),
        },
        candidates: Vec::new(),
        set_aside: Vec::new(),
        pristine: None,
        make_way: None,
        made_at: clock(15, 2, 0, 0),
    }
}

/// How a retarget gets there that cannot go as it is.
fn unpacks_again() -> Box<Approach> {
    Box::new(Approach {
        strategy: Strategy::Unpack,
        why: "the copy's files have changes up to 0/30004F8, behind the target".to_owned(),
        estimate: plan().estimate,
        otherwise: None,
    })
}

fn planned() -> State {
    let mut state = home();
    press(&mut state, "b");
    fold(&mut state, [Msg::Planned(Ok(Box::new(plan())))]);
    state
}

/// A plan to stop before a transaction that dropped something, two commits after its first lock.
fn planned_before() -> State {
    let mut state = home();
    press(&mut state, "b");
    let mut plan = plan();
    let place = |what, lsn, commits_lost, is_readable| StopBefore {
        what,
        lsn,
        commits_lost,
        is_readable,
        saves: true,
        chosen: commits_lost == 0,
        target: Vec::new(),
    };
    let commit = plan.resolved.lsn;
    plan.resolved.before =
        vec![place(BeforeWhat::FirstLock, Lsn(commit.0 - 0x1F8), 2, true), place(BeforeWhat::Commit, commit, 0, false)];
    fold(&mut state, [Msg::Planned(Ok(Box::new(plan)))]);
    state
}

fn form(state: &State) -> &TargetForm {
    let Some(Dialog::Target(form)) = &state.dialog else { panic!("no form is open") };
    form
}

fn event(second: i64, what: What) -> Msg {
    Msg::Event(Event { at: clock(15, 2, second, 0), recovery: NAME.to_owned(), what })
}

fn state_event(second: i64, state: RecoveryState) -> Msg {
    event(second, What::State { state })
}

fn begun(strategy: Option<Strategy>) -> Msg {
    event(1, What::Planned { plan: Box::new(plan()), hash: "0".repeat(64), strategy })
}

fn started(step: StepId, second: i64) -> Msg {
    event(second, What::StepStarted { step })
}

fn finished(step: StepId, seconds: f64, bytes: Option<u64>) -> Msg {
    event(10, What::StepFinished { step, seconds, bytes })
}

fn log(line: &str) -> Msg {
    event(20, What::Log { line: line.to_owned() })
}

fn unpacking() -> State {
    let mut state = planned();
    key(&mut state, Key::Enter);
    fold(
        &mut state,
        [
            begun(None),
            state_event(1, RecoveryState::Unpacking),
            started(StepId::Unpack, 2),
            event(
                9,
                What::Progress(Progress {
                    step: StepId::Unpack,
                    done: 12_400_000_000,
                    total: Some(44_238_479_360),
                    unit: Cow::Borrowed("bytes"),
                    rate: Some(142_000_000.0),
                    eta_s: Some(224.0),
                    replayed_lsn: None,
                    last_commit_at: None,
                    doing: Some("base/16384/2619".to_owned()),
                    waits_for: None,
                }),
            ),
            Msg::Tick(clock(15, 3, 29, 0)),
        ],
    );
    state
}

fn replaying() -> State {
    let mut state = unpacking();
    fold(
        &mut state,
        [
            finished(StepId::Unpack, 311.4, Some(44_238_479_360)),
            started(StepId::Configure, 12),
            finished(StepId::Configure, 0.1, None),
            state_event(12, RecoveryState::Configured),
            started(StepId::Start, 13),
            event(14, What::ServerStarted { pid: 4711 }),
            finished(StepId::Start, 1.3, None),
            state_event(14, RecoveryState::Replaying),
            started(StepId::Replay, 15),
            log("2024-10-02 15:07:14.120 CEST [4711] LOG:  starting point-in-time recovery to XID 1234573"),
            log(
                "2024-10-02 15:07:14.301 CEST [4711] LOG:  restored log file \"000000010000000100000050\" from archive",
            ),
            log("2024-10-02 15:07:14.402 CEST [4711] LOG:  \u{1b}]0;owned\u{7}redo starts at 1/50000028"),
            event(
                16,
                What::Progress(Progress {
                    step: StepId::Replay,
                    done: 800_000_000,
                    total: Some(1_527_899_000),
                    unit: Cow::Borrowed("bytes"),
                    rate: Some(34_000_000.0),
                    eta_s: Some(21.0),
                    replayed_lsn: Some(Lsn(0x1_8000_0000)),
                    last_commit_at: Some(clock(9, 12, 1, 77)),
                    doing: Some("replaying 000000010000000100000080".to_owned()),
                    waits_for: None,
                }),
            ),
            Msg::Tick(clock(15, 2, 38, 0)),
        ],
    );
    state
}

fn stopped() -> (Stopped, Option<Lsn>) {
    let stop = plan().resolved;
    let stopped = Stopped { kind: StopKind::Commit, before: true, xid: stop.xid, at: stop.at, lsn: None, name: None };
    (stopped, Some(stop.replay_end))
}

fn paused_at(stopped: Stopped, replayed_lsn: Option<Lsn>) -> State {
    let mut state = replaying();
    fold(
        &mut state,
        [
            event(40, What::Stopped { stopped, replayed_lsn, last_commit_at: None }),
            finished(StepId::Replay, 44.0, Some(1_527_899_000)),
            state_event(40, RecoveryState::Paused),
            Msg::Done(ActionKind::Start),
        ],
    );
    state
}

fn paused() -> State {
    let (stopped, lsn) = stopped();
    paused_at(stopped, lsn)
}

fn failure() -> What {
    What::Failed(Failure {
        step: Some(StepId::Start),
        code: Cow::Borrowed("server-did-not-start"),
        message: "the server did not start: /srv/recovered/shop".to_owned(),
        causes: vec!["pg_ctl ended with exit status 1".to_owned()],
        hint: Some("read its last words below; the whole log is where the screen says".to_owned()),
    })
}

fn failed() -> State {
    let mut state = replaying();
    fold(
        &mut state,
        [
            log(
                "2024-10-02 15:07:15.000 CEST [4711] FATAL:  could not access file \"pg_partman_bgw\": No such file or directory",
            ),
            event(21, failure()),
        ],
    );
    state
}

fn recovery() -> Known {
    let mut buffer = EventBuffer::default();
    for msg in [begun(None), state_event(2, RecoveryState::Paused)] {
        if let Msg::Event(event) = msg {
            buffer.fold(&event);
        }
    }
    Known { recovery: buffer.recovery().unwrap(), system_identifier: catalog().system_identifier }
}

fn buffer_of(state: &State, columns: u16, rows: u16) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
    draw(state, Theme::new(true), &mut buffer);
    buffer
}

fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += (symbol.width() as u16).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The state at the sizes that matter: text, and below it what is in which role. On the smallest there is only text.
fn pictures(state: &State) -> String {
    let mut text = String::new();
    for (columns, rows) in [(80, 24), (120, 40), (60, 20), (40, 10)] {
        let mut state = state.clone();
        update(&mut state, Msg::Resize(columns, rows));
        writeln!(text, "=== {columns}x{rows}").unwrap();
        let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
        draw(&state, Theme::by_role(), &mut buffer);
        text.push_str(&text_of(&buffer));
        if columns > 40 {
            writeln!(text, "--- roles").unwrap();
            text.push_str(&roles_of(&buffer));
        }
    }
    text
}

/// A letter for every role, in the order of [`Role::ALL`].
const LETTERS: &str = ".dslfFkgwbnautr";

/// Where which role is: one line a row, a letter and how many columns it goes on for; `*` where it is reversed. Rows
/// that look the same share a line, plain ones have none, and a space looks like what is before it.
fn roles_of(buffer: &Buffer) -> String {
    let mut lines: Vec<(u16, u16, String)> = Vec::new();
    for y in 0..buffer.area.height {
        let roles = roles_of_row(buffer, y);
        match lines.last_mut() {
            Some((_, last, same)) if *same == roles && *last + 1 == y => *last = y,
            _ => lines.push((y, y, roles)),
        }
    }
    let mut text = String::new();
    for (first, last, roles) in lines.into_iter().filter(|(_, _, roles)| !roles.is_empty()) {
        let rows = if first == last { first.to_string() } else { format!("{first}-{last}") };
        writeln!(text, "{rows:>5} {roles}").unwrap();
    }
    text
}

fn roles_of_row(buffer: &Buffer, y: u16) -> String {
    let mut runs: Vec<(char, bool, u16)> = Vec::new();
    for x in 0..buffer.area.width {
        let cell = &buffer[(x, y)];
        let reversed = cell.modifier.contains(Modifier::REVERSED);
        let letter = match cell.fg {
            Color::Indexed(role) => LETTERS.chars().nth(usize::from(role)).unwrap(),
            Color::Reset => '.',
            colour => panic!("{colour:?} at {x},{y} belongs to no role"),
        };
        match runs.last_mut() {
            Some((same, too, columns)) if *too == reversed && (*same == letter || cell.symbol() == " ") => {
                *columns += 1
            }
            _ => runs.push((letter, reversed, 1)),
        }
    }
    while runs.last().is_some_and(|(letter, reversed, _)| *letter == '.' && !reversed) {
        runs.pop();
    }
    let words = |(letter, reversed, columns): &(char, bool, u16)| {
        format!("{}{letter}{columns}", if *reversed { "*" } else { "" })
    };
    runs.iter().map(words).collect::<Vec<_>>().join(" ")
}

/// Every state that is drawn, by name.
fn all() -> Vec<(&'static str, State)> {
    let mut states = vec![
        ("loading", State::new(setup())),
        ("home", home()),
        ("plan", planned()),
        ("unpacking", unpacking()),
        ("replaying", replaying()),
        ("paused", paused()),
        ("failed", failed()),
    ];
    let with = |from: fn() -> State, change: &dyn Fn(&mut State)| {
        let mut state = from();
        change(&mut state);
        state
    };
    states.push((
        "scanning",
        with(|| State::new(setup()), &|s| {
            let some: Vec<Point> = points().into_iter().take(20).collect();
            fold(s, [Msg::Catalog(Ok(catalog()))]);
            answer(s, Msg::Overview(Arc::new(overview(&some, false))), &segments(&some));
            fold(
                s,
                [
                    Msg::ScanProgress { done: 0, total: 2_700_000_000 },
                    Msg::Tick(clock(15, 2, 1, 0)),
                    Msg::ScanProgress { done: 900_000_000, total: 2_700_000_000 },
                    Msg::Tick(clock(15, 2, 5, 0)),
                ],
            );
        }),
    ));
    states.push((
        "catalog-failed",
        with(|| State::new(setup()), &|s| {
            let error = Error::failed("unreadable", "cannot read the backups: /srv/backups/shop")
                .because("permission denied (os error 13)")
                .hint("run walback as a user who may read it, like postgres");
            fold(s, [Msg::Catalog(Err(error))]);
        }),
    ));
    let none = Overview { complete: true, ..Overview::default() };
    states.push((
        "empty",
        with(|| State::new(setup()), &|s| {
            let nothing = Catalog { backups: Vec::new(), timelines: Vec::new(), ..catalog() };
            fold(s, [Msg::Catalog(Ok(nothing)), Msg::Overview(Arc::new(none.clone())), Msg::ScanFinished(Ok(()))]);
        }),
    ));
    states.push(("one-transaction", home_of(&points()[9..10])));
    states.push((
        "reading-cancelled",
        with(home, &|s| {
            let some = points();
            answer(s, Msg::Overview(Arc::new(overview(&some[..20], false))), &segments(&some));
            s.scan.state = ScanState::Running;
            let error = Error::new(ErrorKind::Interrupted, "cancelled", "cancelled");
            fold(s, [Msg::ScanFinished(Err(error))]);
        }),
    ));
    states.push((
        "reading-failed",
        with(|| State::new(setup()), &|s| {
            let error = Error::failed("unreadable", "cannot read segment 000000010000000100000110")
                .because("input/output error (os error 5)");
            fold(s, [Msg::Catalog(Ok(catalog())), Msg::ScanFinished(Err(error)), Msg::Key(Key::Esc)]);
        }),
    ));
    states.push((
        "not-loaded",
        with(|| State::new(setup()), &|s| {
            let known = overview(&points(), true);
            fold(s, [Msg::Catalog(Ok(catalog())), Msg::Overview(Arc::new(known)), Msg::ScanFinished(Ok(()))]);
            fold(s, [Msg::Key(Key::Char('w')), Msg::Key(Key::Up)]);
        }),
    ));
    states.push((
        "segment-failed",
        with(|| State::new(setup()), &|s| {
            let known = overview(&points(), true);
            fold(s, [Msg::Catalog(Ok(catalog())), Msg::Overview(Arc::new(known)), Msg::ScanFinished(Ok(()))]);
            let points = Err(Error::failed("unreadable", "cannot read segment 0000000100000001000000AB"));
            fold(s, [Msg::Points { timeline: TimelineId(1), number: 0x1AB, points }, Msg::Key(Key::Up)]);
        }),
    ));
    states.push((
        "planned-and-back",
        with(planned, &|s| {
            key(s, Key::Esc);
        }),
    ));
    states.push(("out-of-reach", with(|| home_of(&early_points()), &|s| go(s, Key::Char('g')))));
    states.push((
        "gap",
        with(home, &|s| {
            go(s, Key::Char('m'));
        }),
    ));
    states.push((
        "chart-pane",
        with(home, &|s| {
            for key in [Key::BackTab, Key::Char('+'), Key::Char('+'), Key::Left] {
                go(s, key);
            }
        }),
    ));
    states.push((
        "chart-single-transactions",
        with(home, &|s| {
            for _ in 0..14 {
                go(s, Key::Char('+'));
            }
        }),
    ));
    states.push((
        "chart-panned",
        with(home, &|s| {
            for key in [Key::Char('+'), Key::Char('+'), Key::Left, Key::Left, Key::Left] {
                go(s, key);
            }
        }),
    ));
    states.push((
        "suspects",
        with(home, &|s| {
            go(s, Key::Char('s'));
        }),
    ));
    states.push((
        "find",
        with(home, &|s| {
            press(s, "/orders");
        }),
    ));
    states.push((
        "found",
        with(home, &|s| {
            press(s, "/orders");
            for key in [Key::Enter, Key::Char('n')] {
                go(s, key);
            }
        }),
    ));
    states.push((
        "not-found",
        with(home, &|s| {
            press(s, "/ordres");
            go(s, Key::Enter);
        }),
    ));
    states.push((
        "name-mistyped",
        with(home, &|s| {
            press(s, "nbefroe_deploy");
        }),
    ));
    states.push((
        "many-timelines",
        with(home, &|s| {
            let forks = (3..20)
                .map(|id| timeline(id, Some(id - 1), Some(0x1_A600_0000 + u64::from(id)), (0x1A6, 0x1AC), at(0, 0)));
            if let Loading::Loaded(catalog) = &mut s.catalog {
                catalog.timelines.extend(forks);
            }
            for key in [Key::Tab, Key::Tab] {
                go(s, key);
            }
        }),
    ));
    states.push((
        "backups-pane",
        with(home, &|s| {
            key(s, Key::Tab);
        }),
    ));
    states.push((
        "timelines-pane",
        with(home, &|s| {
            fold(s, [Msg::Key(Key::Tab), Msg::Key(Key::Tab), Msg::Key(Key::Down)]);
        }),
    ));
    states.push((
        "restore-point",
        with(home, &|s| {
            press(s, "gr");
        }),
    ));
    states.push((
        "refused",
        with(home, &|s| {
            press(s, "o");
        }),
    ));
    states.push((
        "read-only-plan",
        with(planned, &|s| {
            s.read_only = true;
            key(s, Key::Enter);
        }),
    ));
    states.push((
        "choose",
        with(home, &|s| {
            key(s, Key::Enter);
        }),
    ));
    states.push((
        "time-empty",
        with(home, &|s| {
            press(s, "t");
        }),
    ));
    states.push((
        "time",
        with(home, &|s| {
            press(s, "t14:30");
        }),
    ));
    states.push((
        "time-bad",
        with(home, &|s| {
            press(s, "t2024-10-27 02:30");
        }),
    ));
    states.push((
        "time-resolved",
        with(home, &|s| {
            press(s, "t14:30");
            let asked = form(s).asked.clone().unwrap();
            fold(s, [Msg::Resolved { target: asked, answer: Ok(Box::new(plan().resolved)) }]);
        }),
    ));
    states.push((
        "time-nowhere",
        with(home, &|s| {
            press(s, "t14:30");
            let asked = form(s).asked.clone().unwrap();
            let error = Error::failed("target-not-reached", "the WAL of timeline 1 ends before the target is reached")
                .hint("choose an earlier time");
            fold(s, [Msg::Resolved { target: asked, answer: Err(error) }]);
        }),
    ));
    states.push((
        "change",
        with(planned, &|s| {
            press(s, "e");
        }),
    ));
    states.push((
        "change-place",
        with(planned_before, &|s| {
            press(s, "ew");
        }),
    ));
    states.push((
        "change-action",
        with(planned, &|s| {
            press(s, "ea");
        }),
    ));
    states.push((
        "change-setting",
        with(planned, &|s| {
            press(s, "eeshared_buffers");
        }),
    ));
    states.push((
        "runbook",
        with(planned, &|s| {
            press(s, "w");
        }),
    ));
    states.push((
        "xid",
        with(home, &|s| {
            press(s, "x1234573");
        }),
    ));
    states.push((
        "name",
        with(home, &|s| {
            press(s, "nbef");
            key(s, Key::Down);
        }),
    ));
    states.push((
        "directory",
        with(planned, &|s| {
            press(s, "d");
        }),
    ));
    states.push((
        "help",
        with(home, &|s| {
            press(s, "?");
        }),
    ));
    states.push((
        "help-paused",
        with(paused, &|s| {
            press(s, "?");
        }),
    ));
    states.push((
        "plan-end",
        with(planned, &|s| {
            fold(s, [Msg::Drawn { scroll_max: 400, page: 0 }, Msg::Key(Key::End)]);
        }),
    ));
    states.push((
        "plan-making",
        with(home, &|s| {
            press(s, "b");
        }),
    ));
    states.push((
        "plan-failed",
        with(home, &|s| {
            press(s, "b");
            let error =
                Error::failed("target-before-backup", "no base backup leads to transaction 1234573 on timeline 1")
                    .because("the WAL from 000000010000000100000050 on is missing")
                    .hint("restore the missing segments into the archive, or choose an earlier target");
            fold(s, [Msg::Planned(Err(error))]);
        }),
    ));
    states.push((
        "plan-failed-with-another",
        with(home, &|s| {
            press(s, "b");
            let words = ["--lsn", "1/AB12A000", "--timeline", "1"].map(str::to_owned).to_vec();
            let error = Error::failed("target-not-reached", "the WAL of timeline 1 ends before the target is reached")
                .hint("the end of WAL can be reached with --lsn 1/AB12A000 --timeline 1")
                .reachable(Some(Reachable { target: words, lsn: Lsn(0x1_AB12_A000), at: None }));
            fold(s, [Msg::Planned(Err(error))]);
        }),
    ));
    states.push((
        "plan-forbidden",
        with(home, &|s| {
            press(s, "b");
            let mut plan = plan();
            plan.findings.push(
                Finding::error("directory-not-empty", "the directory is not empty: /srv/recovered/shop")
                    .hint("choose another directory with d; Walback empties none that it did not make"),
            );
            fold(s, [Msg::Planned(Ok(Box::new(plan)))]);
            key(s, Key::Enter);
        }),
    ));
    states.push((
        "cancel",
        with(replaying, &|s| {
            press(s, "c");
        }),
    ));
    states.push((
        "leave-while-unpacking",
        with(unpacking, &|s| {
            press(s, "q");
        }),
    ));
    states.push((
        "differs",
        with(
            || {
                let (stopped, _) = stopped();
                paused_at(
                    Stopped { xid: Some(Xid(1_234_570)), at: Some(at(8490, 11)), ..stopped },
                    Some(Lsn(0x1_AB12_4400)),
                )
            },
            &|_| {},
        ),
    ));
    states.push((
        "paused-forgotten",
        with(paused, &|s| {
            let text = "PostgreSQL has forgotten the prepared transaction 741: the base backup has its state, and the server \
                        passed over its PREPARE in WAL for that, though it had not taken the state over";
            let hint = "once the server is promoted, its rows are lost, even where it seems to be prepared again after the next \
                        start. Recover from a base backup that ended before it was prepared, or began after that: --backup ID";
            let found = Finding::warning("prepared-forgotten", text).hint(hint);
            fold(s, [event(40, What::Finding(found))]);
        }),
    ));
    states.push((
        "retarget-menu",
        with(paused, &|s| {
            press(s, "r");
        }),
    ));
    states.push((
        "retarget-pick",
        with(paused, &|s| {
            press(s, "rp");
        }),
    ));
    states.push((
        "retarget-plan",
        with(paused, &|s| {
            press(s, "rpwb");
            let waiting = s.planning.as_ref().unwrap().wanted.target.clone();
            let plan = Plan { target: waiting, ..plan() };
            fold(s, [Msg::RetargetPlanned(Ok((Box::new(plan), unpacks_again())))]);
        }),
    ));
    states.push((
        "retarget-confirm",
        with(paused, &|s| {
            press(s, "rpwb");
            let waiting = s.planning.as_ref().unwrap().wanted.target.clone();
            let plan = Plan { target: waiting, ..plan() };
            fold(s, [Msg::RetargetPlanned(Ok((Box::new(plan), unpacks_again())))]);
            key(s, Key::Enter);
        }),
    ));
    states.push((
        "promote",
        with(paused, &|s| {
            press(s, "pshop-2024");
        }),
    ));
    states.push((
        "discard",
        with(paused, &|s| {
            press(s, &format!("d{NAME}"));
        }),
    ));
    states.push((
        "promoted",
        with(paused, &|s| {
            fold(
                s,
                [
                    state_event(50, RecoveryState::Promoting),
                    event(51, What::Promoted { timeline: TimelineId(3) }),
                    state_event(51, RecoveryState::Promoted),
                ],
            );
        }),
    ));
    states.push((
        "shut-down",
        with(paused, &|s| {
            fold(s, [state_event(50, RecoveryState::ShutDown)]);
        }),
    ));
    states.push((
        "discarded",
        with(paused, &|s| {
            fold(s, [state_event(50, RecoveryState::Discarded)]);
        }),
    ));
    states.push((
        "error",
        with(paused, &|s| {
            let error = Error::failed(
                "promotion-timed-out",
                "the server was told to promote and has not yet: /srv/recovered/shop",
            )
            .because("no answer on port 54320 for 60 s")
            .hint("look at its log; it may still be on its way");
            fold(s, [Msg::Failed(error)]);
        }),
    ));
    states.push((
        "unfinished",
        with(|| State::new(setup()), &|s| {
            fold(s, [Msg::Catalog(Ok(catalog())), Msg::Recoveries(vec![recovery()])]);
        }),
    ));
    states.push((
        "plan-by-hand",
        with(planned_before, &|s| {
            press(s, "b");
            let wanted = s.planning.as_ref().unwrap().wanted.clone();
            let backup = s.loaded().unwrap().backup(wanted.backup.as_ref().unwrap()).unwrap().clone();
            let plan = Plan { backup, target: wanted.target, ..plan() };
            fold(s, [Msg::Planned(Ok(Box::new(plan))), Msg::Drawn { scroll_max: 400, page: 0 }]);
            for _ in 0..8 {
                key(s, Key::Down);
            }
        }),
    ));
    states.push((
        "plan-before",
        with(planned_before, &|s| {
            fold(s, [Msg::Drawn { scroll_max: 400, page: 0 }]);
            for _ in 0..8 {
                key(s, Key::Down);
            }
        }),
    ));
    states.push((
        "suspect-of-many-words",
        with(home, &|s| {
            let mut known = s.points.overview().clone();
            let one = known.suspects[0].clone();
            known.suspects = (0..30).map(|_| one.clone()).collect();
            known.suspects[0].note = Some(
                "DROP DATABASE is not undone by stopping before its commit: its files are gone by then; it begins at \
                 1/AB124000, and what is written there is all that can be said about it in three lines of text"
                    .to_owned(),
            );
            s.dialog = Some(Dialog::Suspects(SuspectList::default()));
            s.points.set_overview(Arc::new(known));
        }),
    ));
    states.push((
        "unfinished-of-another-cluster",
        with(|| State::new(setup()), &|s| {
            let other = Known { system_identifier: Some(8), ..recovery() };
            fold(s, [Msg::Catalog(Ok(catalog())), Msg::Recoveries(vec![recovery(), other])]);
        }),
    ));
    states.push((
        "paused-of-another-cluster",
        with(paused, &|s| {
            s.recovery.plan.as_mut().unwrap().backup.system_identifier = Some(8);
        }),
    ));
    states.extend(archive::all());
    states.extend(drills::all());
    states.extend(found_and_copied());
    states.extend(in_the_night_of_the_change());
    states
}

/// The palette and what can be copied, with a hand on them.
fn found_and_copied() -> Vec<(&'static str, State)> {
    let typed = |mut state: State, keys: &str| {
        press(&mut state, keys);
        state
    };
    vec![
        ("palette", typed(home(), ":")),
        ("palette-search", typed(home(), ":prest")),
        ("palette-not-now", typed(unpacking(), ":look")),
        ("palette-nothing", typed(home(), ":zzz")),
        ("copy", typed(home(), "y")),
        ("copy-plan", typed(planned(), "y")),
        ("copy-paused", typed(paused(), "y")),
    ]
}

/// 2024-10-27 at 02:25 in Berlin, for the first time; clocks are put back at 03:00.
fn clocks_are_put_back() -> State {
    let change = 2_127_600;
    let commits = (0..40_u32).map(|i| {
        let when = at(change - 3600 + i64::from(i) * 180, i64::from(i) * 7919 % 1_000_000);
        let deletes = if i % 20 == 8 { 4_000 } else { 0 };
        Point { deletes, ..commit(1, 1_234_540 + i, 0x1_AB12_0000 + u64::from(i) * 0x268, when) }
    });
    let points: Vec<Point> = commits.collect();
    let mut state = home_of(&points);
    state.now = at(change + 7200, 0);
    for _ in 0..20 {
        answer(&mut state, Msg::Key(Key::Up), &segments(&points));
    }
    state
}

/// Recovery comes no further than to a time of that night.
fn a_day_later() -> State {
    let mut state = clocks_are_put_back();
    state.now = at(2_127_600 + 93_600, 0);
    press(&mut state, "t02:40");
    let asked = form(&state).asked.clone().unwrap();
    let error = Error::failed("target-not-reached", "the WAL of timeline 1 ends before the target is reached")
        .hint("choose an earlier time")
        .times(Some((at(2_000_000, 0), at(2_127_600 + 3540, 0))));
    fold(&mut state, [Msg::Resolved { target: asked, answer: Err(error) }]);
    state
}

fn in_the_night_of_the_change() -> Vec<(&'static str, State)> {
    let typed = |mut state: State, keys: &str| {
        press(&mut state, keys);
        state
    };
    vec![
        ("clocks-put-back", clocks_are_put_back()),
        ("clocks-put-back-suspects", typed(clocks_are_put_back(), "s")),
        ("clocks-put-back-time", typed(clocks_are_put_back(), "t8:40 pm new york")),
        ("clocks-put-back-day", a_day_later()),
    ]
}

/// Keys that nobody has: no letter that the table has is left, nor any other key but those that cannot be taken away.
fn other_keys() -> Keys {
    let all = command::COMMANDS.iter().chain(command::SEARCH);
    let greek = ('α'..='ω').chain('Α'..='Ρ').chain('а'..='я').chain('А'..='Я');
    Keys::new(&all.zip(greek).map(|(command, key)| (command.name.to_owned(), vec![key.to_string()])).collect()).unwrap()
}

/// Whether a word is a key of the table, where it is not the article.
fn is_former_key(word: &str) -> bool {
    let word = word.trim_matches(|c: char| matches!(c, '.' | ',' | ';' | ':' | '(' | ')'));
    let is_key = |key: &Key| !matches!(key, Key::Esc | Key::Enter | Key::Ctrl('c')) && key.to_string() == word;
    !word.eq_ignore_ascii_case("a")
        && word.is_ascii()
        && command::COMMANDS.iter().flat_map(|command| command.keys).any(is_key)
}

#[test]
fn every_text_names_the_keys_as_they_are() {
    for (name, mut state) in all() {
        let keys = other_keys();
        let used: Vec<String> = command::COMMANDS.iter().map(|c| keys.of(c)[0].to_string()).collect();
        state.keys = keys;
        state.status = None;
        if state.dialog.is_none() {
            let said = guide::next(&state);
            assert!(!said.split(' ').any(is_former_key), "{name}: {said}");
        }
        let mut status = Vec::new();
        for command in command::now(&state) {
            status.extend((command.enabled)(&state).err().map(Cow::into_owned));
        }
        for why in status {
            assert!(!why.split(' ').any(is_former_key), "{name}: {why}");
        }
        let picture = text_of(&buffer_of(&state, 80, 24));
        for row in picture.lines().filter(|_| state.dialog.is_none()).rev().take(3) {
            assert!(!row.split(' ').any(is_former_key), "{name}: {row}");
        }
        if matches!(state.dialog, Some(Dialog::Help | Dialog::Palette(_))) {
            assert!(used.iter().any(|key| picture.contains(key.as_str())) || name == "palette-nothing", "{picture}");
        }
    }
}

#[test]
fn remapped_keys_do_what_the_commands_do() {
    let mut state = State { keys: other_keys(), ..home() };
    press(&mut state, "q");
    assert_eq!((&state.dialog, state.screens.len()), (&None, 1), "it means nothing any more");
    let of = |state: &State, name| state.keys.of(command::named(name).unwrap())[0];
    let stop_before = of(&state, "stop-before");
    assert!(matches!(key(&mut state, stop_before).as_slice(), [Effect::MakePlan(_)]));
    assert_eq!(state.screen(), Screen::Plan);
    key(&mut state, Key::Esc);
    assert_eq!(state.screen(), Screen::Points, "Esc always leads one level out");
    assert_eq!(key(&mut state, Key::Ctrl('c')), [Effect::Quit], "and Ctrl-c out of the program");
}

#[test]
fn every_screen_and_dialog() {
    for (name, state) in all() {
        assert_snapshot!(name, pictures(&state));
    }
}

#[test]
fn on_a_large_terminal() {
    let home = ["home", "chart-pane", "chart-single-transactions", "suspects", "many-timelines"];
    let others = ["home", "plan", "replaying", "paused", "differs", "failed", "promoted", "help"];
    for (name, state) in all() {
        let sizes = [("large", (160, 48), &home[..]), ("huge", (200, 60), &others[..])];
        for (size, (columns, rows), names) in sizes {
            if names.contains(&name) {
                let mut state = state.clone();
                update(&mut state, Msg::Resize(columns, rows));
                let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
                draw(&state, Theme::by_role(), &mut buffer);
                let picture = format!("{}--- roles\n{}", text_of(&buffer), roles_of(&buffer));
                assert_snapshot!(format!("{size}-{name}"), picture);
            }
        }
    }
}

#[test]
fn every_role_has_a_letter() {
    assert_eq!(LETTERS.chars().collect::<BTreeSet<_>>().len(), Role::ALL.len());
}

#[test]
fn without_utf_8_everything_is_ascii() {
    for (name, state) in all() {
        let ascii = State { unicode: false, ..state };
        for (columns, rows) in [(80, 24), (120, 40), (30, 5)] {
            let text = text_of(&buffer_of(&ascii, columns, rows));
            assert!(text.is_ascii(), "{name} at {columns}x{rows}: {text}");
        }
    }
    assert_snapshot!("home-ascii", text_of(&buffer_of(&State { unicode: false, ..home() }, 80, 24)));
}

#[test]
fn without_colours_there_are_none() {
    for (name, state) in all() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        draw(&state, Theme::new(false), &mut buffer);
        for cell in &buffer.content {
            let reset = Color::Reset;
            assert_eq!((cell.fg, cell.bg), (reset, reset), "{name}");
        }
    }
}

#[test]
fn nothing_from_outside_steers_the_terminal() {
    for (name, state) in all() {
        for cell in &buffer_of(&state, 120, 40).content {
            assert!(!cell.symbol().chars().any(|c| c.is_control() || c == '\u{202e}'), "{name}");
        }
    }
    let mut state = home();
    for key in [Key::Char('g'), Key::Down, Key::Down, Key::Down] {
        go(&mut state, key);
    }
    assert!(text_of(&buffer_of(&state, 120, 40)).contains("evil\\u{1b}[2J\\u{202e}name"));
}

/// The terminal's own size may be anything, and may be another than what the state was told last.
#[test]
fn every_size_is_drawn_without_a_panic() {
    for (_, state) in all() {
        for columns in (0..45).step_by(3).chain([39, 40, 41, 60, 79, 80, 150, 300]) {
            for rows in (0..26).step_by(if columns > 40 { 2 } else { 5 }).chain([9, 10, 11, 100]) {
                buffer_of(&state, columns, rows);
            }
        }
    }
}

#[test]
fn the_footer_can_be_clicked_and_does_what_its_key_does() {
    let state = home();
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    let drawn = draw(&state, Theme::new(true), &mut buffer);
    let keys: Vec<Key> = drawn
        .hits
        .iter()
        .filter_map(|(_, hit)| match hit {
            Hit::Key(key) => Some(*key),
            _ => None,
        })
        .collect();
    let shown: Vec<Key> = command::on(Screen::Points)
        .filter(|c| !c.label.is_empty() && c.name != "back" && (c.enabled)(&state).is_ok())
        .filter_map(|c| c.keys.first())
        .copied()
        .collect();
    assert_eq!(keys, shown, "at 80x24 every command of home that has a label and can be given is in the footer");
    let (place, _) = drawn.hits.iter().find(|(_, hit)| *hit == Hit::Key(Key::Char('t'))).unwrap();
    let hit = walback::tui::hit_at(&drawn.hits, place.x, place.y).unwrap();
    let mut clicked = state;
    update(&mut clicked, Msg::Click(hit));
    assert!(clicked.dialog.is_some());
}

#[test]
fn what_cannot_be_done_now_is_not_in_the_footer_and_nothing_of_the_screen_is_below_a_dialog() {
    let mut drawn = 0;
    for (name, state) in all() {
        let hits = draw(&state, Theme::new(true), &mut Buffer::empty(Rect::new(0, 0, 80, 24))).hits;
        for (_, hit) in hits {
            let Hit::Key(key) = hit else { continue };
            let command = command::for_key(&state, key).unwrap();
            assert_eq!((command.enabled)(&state), Ok(()), "{name}: {key}");
            assert_eq!(state.dialog, None, "{name}: {key}");
            drawn += 1;
        }
        let text = text_of(&buffer_of(&state, 80, 24));
        assert!(state.dialog.is_none() || !text.contains("Enter starts"), "{name}: {text}");
    }
    assert!(drawn > 0);
}

#[test]
fn a_row_can_be_clicked() {
    let mut state = home();
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    let drawn = draw(&state, Theme::new(true), &mut buffer);
    let before = state.points.cursor();
    let (place, _) = drawn.hits.iter().find(|(_, hit)| *hit == Hit::Point(before + 1)).unwrap();
    let hit = walback::tui::hit_at(&drawn.hits, place.x + 3, place.y).unwrap();
    update(&mut state, Msg::Click(hit));
    assert_eq!((state.points.cursor(), state.pane), (before + 1, Pane::Points));
}

/// Hundreds of millions of rows: only those that are seen are made, and none is waited for.
#[test]
fn hundreds_of_millions_of_rows_are_no_burden() {
    let rows = |number: u64| SegmentRows {
        timeline: TimelineId(1),
        number: 0x10F + number,
        read: true,
        rows: 4_000,
        commits: 4_000,
        earliest: Some(at(number as i64 * 30, 0)),
        latest: Some(at(number as i64 * 30 + 29, 0)),
    };
    let archive = Overview { segments: (0..100_000).map(rows).collect(), complete: true, ..Overview::default() };
    let mut state = State::new(setup());
    fold(&mut state, [Msg::Catalog(Ok(catalog())), Msg::Overview(Arc::new(archive)), Msg::ScanFinished(Ok(()))]);
    for (pressed, words) in [
        (Key::Home, "1 of 400,000,001"),
        (Key::PageDown, "13 of 400,000,001"),
        (Key::Down, "14 of 400,000,001"),
        (Key::Char('+'), "about"),
        (Key::Char('0'), "400,000,000 commits"),
    ] {
        key(&mut state, pressed);
        let text = text_of(&buffer_of(&state, 80, 24));
        assert!(text.contains(words) && text.contains("00000001000000010000000F"), "{words}: {text}");
    }
}

fn any_key() -> impl Values<Value = Key> {
    let named = [
        Key::Enter,
        Key::Esc,
        Key::Tab,
        Key::BackTab,
        Key::Up,
        Key::Down,
        Key::PageUp,
        Key::PageDown,
        Key::Home,
        Key::End,
        Key::Backspace,
        Key::Delete,
        Key::Left,
        Key::Right,
        Key::F(1),
        Key::F(5),
        Key::Ctrl('r'),
    ];
    prop_oneof![
        3 => proptest::sample::select(named.to_vec()),
        5 => proptest::char::range('!', 'z').prop_map(Key::Char),
    ]
}

thread_local! {
    static STATES: Vec<(&'static str, State)> = all();
}

/// One of [`all`], which are made once.
fn any_state(which: usize) -> State {
    STATES.with(|states| states[which % states.len()].1.clone())
}

/// Something that happens to the program.
#[derive(Debug, Clone)]
enum Happens {
    Key(Key),
    Resize(u16, u16),
    Click(u16, u16),
    Wheel(i32, u16, u16),
    Paste(&'static str),
    Message(usize),
}

fn anything() -> impl Values<Value = Happens> {
    let place = || (0_u16..140, 0_u16..50);
    prop_oneof![
        12 => any_key().prop_map(Happens::Key),
        2 => (0_u16..140, 0_u16..50).prop_map(|(columns, rows)| Happens::Resize(columns, rows)),
        3 => place().prop_map(|(x, y)| Happens::Click(x, y)),
        1 => (-3..=3, 0_u16..140, 0_u16..50).prop_map(|(rows, x, y)| Happens::Wheel(rows, x, y)),
        1 => proptest::sample::select(vec!["14:30", NAME, "\u{1b}[2J", ""]).prop_map(Happens::Paste),
        3 => (0_usize..MESSAGES).prop_map(Happens::Message),
    ]
}

const MESSAGES: usize = 12;

/// What may come at any time from the engine or the archive.
fn message(number: usize) -> Msg {
    match number {
        0 => Msg::Tick(clock(15, 5, 0, 0)),
        1 => Msg::Catalog(Ok(catalog())),
        2 => Msg::Overview(Arc::new(overview(&points()[..20], false))),
        3 => Msg::Overview(Arc::new(Overview { complete: true, ..Overview::default() })),
        4 => Msg::Overview(Arc::new(overview(&early_points(), true))),
        5 => Msg::Recoveries(vec![recovery()]),
        6 => log("2024-10-02 15:07:14.402 CEST [4711] LOG:  redo starts at 1/50000028"),
        7 => state_event(50, RecoveryState::Paused),
        8 => event(50, failure()),
        9 => Msg::Failed(Error::failed("terminal", "something did not work")),
        10 => Msg::Catalog(Ok(Catalog { backups: Vec::new(), timelines: Vec::new(), ..catalog() })),
        _ => Msg::ScanFinished(Ok(())),
    }
}

/// What the engine answers, so that the keys come further; what follows from that, too.
fn fold_answered(state: &mut State, msg: Msg) {
    let segments = segments(&points());
    let mut effects = update(state, msg);
    while let Some(effect) = effects.pop() {
        match effect {
            Effect::MakePlan(Wanted { target, .. }) => {
                effects.extend(update(state, Msg::Planned(Ok(Box::new(Plan { target, ..plan() })))));
            }
            Effect::LoadPoints { timeline, numbers } => {
                for number in numbers {
                    let points = Ok(segments.get(&(timeline, number)).cloned().unwrap_or_default());
                    effects.extend(update(state, Msg::Points { timeline, number, points }));
                }
            }
            _ => {}
        }
    }
}

/// Draws it and says what is wrong with what is drawn, or with what is selected.
fn wrong(state: &State, columns: u16, rows: u16) -> (walback::tui::Drawn, Option<String>) {
    let area = Rect::new(0, 0, columns, rows);
    let mut buffer = Buffer::empty(area);
    let drawn = draw(state, Theme::by_role(), &mut buffer);
    let mut wrong = None;
    let mut check = |is_right: bool, what: &dyn Fn() -> String| {
        if !is_right && wrong.is_none() {
            wrong = Some(what());
        }
    };
    check(buffer.area == area, &|| format!("the buffer has become {}", buffer.area));
    check(drawn.cursor.is_none_or(|at| area.contains(at)), &|| format!("the cursor is at {:?}", drawn.cursor));
    for (place, hit) in &drawn.hits {
        check(area.union(*place) == area && !place.is_empty(), &|| format!("{hit:?} is clicked at {place}"));
    }
    let points = &state.points;
    check(points.is_empty() || points.cursor() < points.len(), &|| format!("row {} is selected", points.cursor()));
    // While the list is read again, its place is kept.
    let backups = state.loaded().map(|catalog| catalog.backups.len().max(1));
    check(backups.is_none_or(|count| state.backup < count), &|| format!("backup {} of {backups:?}", state.backup));
    check(state.screens.first() == Some(&Screen::Points), &|| format!("home is gone: {:?}", state.screens));
    if state.screen() == Screen::Points && state.dialog.is_none() && columns >= 40 && rows >= 10 {
        let is_seen = drawn.hits.iter().any(|(_, hit)| *hit == Hit::Pane(state.pane));
        check(is_seen, &|| format!("the pane with the keys is not seen: {:?}", state.pane));
    }
    (drawn, wrong)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_breaks_anything(
        which in 0_usize..1000,
        happens in proptest::collection::vec(anything(), 0..40),
        columns in 0_u16..140,
        rows in 0_u16..50,
    ) {
        let mut state = any_state(which);
        let (mut columns, mut rows) = (columns, rows);
        update(&mut state, Msg::Resize(columns, rows));
        let mut hits = Vec::new();
        for what in happens {
            let hit = |x, y| walback::tui::hit_at(&hits, x, y);
            match what {
                Happens::Key(key) => fold_answered(&mut state, Msg::Key(key)),
                Happens::Resize(to_columns, to_rows) => {
                    (columns, rows) = (to_columns, to_rows);
                    fold_answered(&mut state, Msg::Resize(columns, rows));
                }
                Happens::Click(x, y) => hit(x, y).into_iter().for_each(|hit| fold_answered(&mut state, Msg::Click(hit))),
                Happens::Wheel(rows, x, y) => fold_answered(&mut state, Msg::Wheel { rows, over: hit(x, y) }),
                Happens::Paste(text) => fold_answered(&mut state, Msg::Paste(text.to_owned())),
                Happens::Message(number) => fold_answered(&mut state, message(number)),
            }
            let (drawn, wrong) = wrong(&state, columns, rows);
            prop_assert_eq!(wrong, None);
            hits = drawn.hits;
            update(&mut state, Msg::Drawn { scroll_max: drawn.scroll_max, page: drawn.page });
            prop_assert!(state.dialog.is_some() || state.scroll <= drawn.scroll_max);
        }
    }

    #[test]
    fn every_screen_is_drawn_well_at_any_size(
        which in 0_usize..1000, columns in 1_u16..=300, rows in 1_u16..=100, unicode: bool,
    ) {
        let mut state = State { unicode, ..any_state(which) };
        update(&mut state, Msg::Resize(columns, rows));
        prop_assert_eq!(wrong(&state, columns, rows).1, None);
    }
}

/// However low the terminal is: what is typed to confirm is seen, and so is what has to be typed.
#[test]
fn a_confirmation_shows_what_to_type_and_where_at_every_size() {
    for name in ["promote", "discard", "retarget-confirm"] {
        let (_, state) = all().into_iter().find(|(this, _)| *this == name).unwrap();
        for (columns, rows) in [(40, 10), (60, 20), (80, 24), (300, 10)] {
            let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
            let drawn = draw(&state, Theme::new(true), &mut buffer);
            assert!(drawn.cursor.is_some(), "{name} at {columns}x{rows}");
            assert!(text_of(&buffer).contains(&format!("type {NAME}")), "{name} at {columns}x{rows}");
        }
    }
}

#[test]
fn zones_are_named_everywhere_a_time_is() {
    let mut state = home();
    state.zone = Zone::UTC;
    let text = text_of(&buffer_of(&state, 80, 24));
    assert!(text.contains("UTC"));
}
