//! How fast the interface is: drawing a frame, what a key takes on an archive of 100,000 segments, and with messages of a
//! replay in between; the first frame of the program in a terminal, and what it takes when nobody presses a key.
//!
//! `cargo bench --bench interface [-- SECONDS]` prints figures; it watches the idle program for so many seconds, 10 unless
//! told. Goals: a frame at 200x60 in 1 ms, a key in 16 ms, the first frame in 50 ms, idle below 1 % of a core.

#![allow(clippy::unwrap_used, missing_docs)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use walback::app::{Effect, Key, Msg, Setup, State, update};
use walback::catalog::overview::SegmentRows;
use walback::catalog::{
    Backup, BackupKind, Catalog, Compression, Overview, Point, PointKind, Suspect, SuspectKind, SuspectRelation,
    Timeline,
};
use walback::core::{
    Lsn, PgMajor, SegmentName, SegmentSize, Target, TargetKind, TimelineChoice, TimelineId, Timestamp, Xid,
};
use walback::event::{Event, Progress, RecoveryState, What};
use walback::plan::{Estimate, Plan, ServerPlan, Step, StepId};
use walback::resolve::{Place, Resolved, StopSide};
use walback::tui::{Background, Depth, Theme, draw};

const SEGMENTS: u64 = 100_000;
/// Transactions in a segment, and seconds that it lasts.
const COMMITS: u32 = 400;
const LASTS: i64 = 30;
const SIZES: [(u16, u16); 2] = [(200, 60), (80, 24)];
const NAME: &str = "shop-20241002-1502";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000 + seconds).unwrap()
}

fn lsn(segment: u64) -> Lsn {
    SegmentSize::DEFAULT.start_of(1 + segment)
}

fn name(segment: u64) -> SegmentName {
    SegmentName::new(TimelineId(1), 1 + segment, SegmentSize::DEFAULT)
}

/// A backup a thousand segments, which is every eight hours.
fn backup(number: u64) -> Backup {
    let (segment, id) = (number * 1000, format!("backup-{number:03}"));
    Backup {
        pg_version: Some(PgMajor(15)),
        system_identifier: Some(7_420_000_000_000_000_001),
        segment_size: Some(SegmentSize::DEFAULT),
        timeline: Some(TimelineId(1)),
        start_lsn: Some(lsn(segment)),
        start_wal: Some(name(segment)),
        stop_lsn: Some(lsn(segment).plus(0x1000)),
        started_at: Some(at(segment as i64 * LASTS)),
        finished_at: Some(at(segment as i64 * LASTS + 20)),
        size_bytes: 44_238_479_360,
        manifest: true,
        id: id.clone(),
        ..Backup::at(PathBuf::from("/srv/backups").join(id), BackupKind::Tar, Compression::Gzip)
    }
}

fn catalog() -> Catalog {
    let timeline = Timeline {
        id: TimelineId(1),
        parent: None,
        forked_at_lsn: None,
        reason: None,
        first_segment: Some(name(0)),
        last_segment: Some(name(SEGMENTS - 1)),
        segments: SEGMENTS,
        end_lsn: Some(lsn(SEGMENTS)),
        first_commit_at: Some(at(0)),
        last_commit_at: Some(at(SEGMENTS as i64 * LASTS)),
        gaps: Vec::new(),
        damaged: Vec::new(),
    };
    Catalog {
        backups: (1..SEGMENTS / 1000).rev().map(backup).collect(),
        timelines: vec![timeline],
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

/// A suspect in every hundredth segment, a restore point in every fiftieth.
fn overview() -> Overview {
    let rows = |number: u64| SegmentRows {
        timeline: TimelineId(1),
        number: 1 + number,
        read: true,
        rows: COMMITS,
        commits: COMMITS,
        earliest: Some(at(number as i64 * LASTS)),
        latest: Some(at(number as i64 * LASTS + LASTS - 1)),
    };
    let restore_point = |number: u64| Point {
        name: Some(format!("point {number}")),
        at: Some(at(number as i64 * LASTS)),
        ..Point::at(PointKind::RestorePoint, TimelineId(1), lsn(number).plus(0x10), lsn(number).plus(0x40))
    };
    Overview {
        segments: (0..SEGMENTS).map(rows).collect(),
        marks: (0..SEGMENTS).step_by(50).map(restore_point).collect(),
        suspects: (0..SEGMENTS).step_by(100).map(suspect).collect(),
        damaged: Vec::new(),
        complete: true,
    }
}

fn suspect(number: u64) -> Suspect {
    let name = Some("public.orders".to_owned());
    Suspect {
        kind: SuspectKind::Delete,
        xid: Xid(1000 + number as u32 * COMMITS),
        timeline: TimelineId(1),
        lsn: lsn(number).plus(0x100),
        at: at(number as i64 * LASTS),
        relations: vec![SuspectRelation {
            database: 5,
            database_name: Some("shop".to_owned()),
            relfilenode: Some(16_384),
            name,
            rows: 48_211,
        }],
        rows: 48_211,
        stop_before: Vec::new(),
        locked_from: None,
        note: None,
    }
}

fn points_of(segment: u64) -> Vec<Point> {
    let commit = |i: u32| {
        let start = lsn(segment).plus(0x100 + u64::from(i) * 0x200);
        Point {
            xid: Some(Xid(1000 + segment as u32 * COMMITS + i)),
            at: Some(at(segment as i64 * LASTS).plus_micros(i64::from(i) * 70_000)),
            ..Point::at(PointKind::Commit, TimelineId(1), start, start.plus(0x28))
        }
    };
    (0..COMMITS).map(commit).collect()
}

/// Folds a message in; the segments that are asked for come at once.
fn answer(state: &mut State, msg: Msg) {
    let mut effects = update(state, msg);
    while let Some(effect) = effects.pop() {
        match effect {
            Effect::LoadPoints { timeline, numbers } => {
                for number in numbers {
                    let points = Ok(points_of(number - 1));
                    effects.extend(update(state, Msg::Points { timeline, number, points }));
                }
            }
            Effect::MakePlan(wanted) => {
                effects.extend(update(state, Msg::Planned(Ok(Box::new(Plan { target: wanted.target, ..plan() })))));
            }
            _ => {}
        }
    }
}

fn home((columns, rows): (u16, u16)) -> State {
    let mut state = State::new(Setup {
        source: "shop".to_owned(),
        zone: "Europe/Berlin".parse().unwrap(),
        now: at(SEGMENTS as i64 * LASTS),
        read_only: false,
        unicode: true,
        directory: "/srv/recovered/shop".to_owned(),
    });
    for msg in [Msg::Resize(columns, rows), Msg::Started, Msg::Recoveries(Vec::new()), Msg::Catalog(Ok(catalog()))] {
        answer(&mut state, msg);
    }
    answer(&mut state, Msg::Overview(Arc::new(overview())));
    answer(&mut state, Msg::ScanFinished(Ok(())));
    state
}

fn planned(size: (u16, u16)) -> State {
    let mut state = home(size);
    answer(&mut state, Msg::Key(Key::Char('b')));
    assert!(state.plan().is_some());
    state
}

fn replaying(size: (u16, u16)) -> State {
    let mut state = planned(size);
    answer(&mut state, Msg::Key(Key::Enter));
    let all = [
        What::Planned { plan: Box::new(plan()), hash: "0".repeat(64), strategy: None },
        What::State { state: RecoveryState::Replaying },
        What::StepStarted { step: StepId::Replay },
    ];
    for what in all {
        answer(&mut state, event(what));
    }
    for done in 0..200 {
        answer(&mut state, log(done));
    }
    answer(&mut state, progress(0));
    state
}

fn event(what: What) -> Msg {
    Msg::Event(Event { at: at(SEGMENTS as i64 * LASTS), recovery: NAME.to_owned(), what })
}

fn log(number: u64) -> Msg {
    let name = name(STOP_IN - 900 + number);
    let line = format!("2024-10-02 15:07:14.301 CEST [4711] LOG:  restored log file \"{name}\" from archive");
    event(What::Log { line })
}

fn progress(done: u64) -> Msg {
    event(What::Progress(Progress {
        step: StepId::Replay,
        done: done << 24,
        total: Some(900 << 24),
        unit: Cow::Borrowed("bytes"),
        rate: Some(34_000_000.0),
        eta_s: Some(21.0),
        replayed_lsn: Some(lsn(STOP_IN - 900 + done % 900)),
        last_commit_at: Some(at((STOP_IN - 900 + done % 900) as i64 * LASTS)),
        doing: Some("replaying".to_owned()),
        waits_for: None,
    }))
}

const STOP_IN: u64 = SEGMENTS - 100;

fn plan() -> Plan {
    let stop = points_of(STOP_IN).swap_remove(200);
    let place = Place { lsn: stop.lsn, xid: stop.xid, at: stop.at };
    let target = Target {
        inclusive: false,
        timeline: TimelineChoice::Number(TimelineId(1)),
        ..Target::new(TargetKind::Xid(stop.xid.unwrap()))
    };
    let resolved = Resolved {
        xid: stop.xid,
        at: stop.at,
        consistent_at: lsn(STOP_IN - 900),
        last_kept: Some(place),
        first_lost: Some(place),
        backups: vec!["backup-099".to_owned()],
        ..Resolved::new(TimelineId(1), StopSide::Before, stop.lsn)
    };
    let step = |id, title: &str| Step { id, title: title.to_owned(), commands: vec!["true".to_owned()], undo: None };
    let settings = (0..40).map(|n| (format!("setting_{n}"), "a value".to_owned()));
    Plan {
        chain: None,
        tablespaces: Vec::new(),
        recovery: NAME.to_owned(),
        directory: PathBuf::from("/srv/recovered/shop"),
        backup: backup(SEGMENTS / 1000 - 1),
        target,
        resolved,
        settings: settings.collect(),
        restore_command: "cp '/srv/archive/shop/%f' '%p'".to_owned(),
        fetch: None,
        wal: vec![PathBuf::from("/srv/archive/shop")],
        commands: Vec::new(),
        server: ServerPlan {
            database: "shop".into(),
            major: PgMajor(15),
            bin_dir: PathBuf::from("/usr/lib/postgresql/15/bin"),
            segment_size: SegmentSize::DEFAULT,
            port: 54320,
            socket_directory: PathBuf::from("/run/user/105/walback/shop"),
            log: PathBuf::from("/var/lib/postgresql/server.log"),
            run_as: "postgres".to_owned(),
            role: "postgres".to_owned(),
        },
        steps: vec![
            step(StepId::Unpack, "Unpack the base backup"),
            step(StepId::Configure, "Write the settings and recovery.signal"),
            step(StepId::Start, "Start the server, isolated"),
            step(StepId::Replay, "Follow replay until it pauses"),
        ],
        findings: Vec::new(),
        estimate: Estimate {
            unpack_bytes: 44_238_479_360,
            read_bytes: 44_238_479_360,
            wal_bytes: 900 << 24,
            wal_segments: 900,
            unpack_s: Some(310.0),
            replay_s: Some(45.0),
            total_s: Some(357.0),
            basis: "the last recovery on this machine".to_owned(),
            free_after_bytes: Some(86_000_000_000),
        },
        candidates: Vec::new(),
        set_aside: Vec::new(),
        pristine: None,
        make_way: None,
        made_at: at(SEGMENTS as i64 * LASTS),
    }
}

/// `what` so many times, and what the times of it were.
fn measure(what: &str, goal: Option<Duration>, times: usize, mut run: impl FnMut(usize)) {
    let mut all: Vec<Duration> = (0..times)
        .map(|number| {
            let began = Instant::now();
            run(number);
            began.elapsed()
        })
        .collect();
    all.sort_unstable();
    let (median, worst) = (all[times / 2], all[times - 1]);
    report(what, median, worst, goal);
}

fn report(what: &str, median: Duration, worst: Duration, goal: Option<Duration>) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let goal = goal.map_or(String::new(), |goal| {
        let missed = if median > goal { "  MISSED" } else { "" };
        format!("  goal {:.0} ms{missed}", ms(goal))
    });
    println!("{what:<58} median {:>8.3} ms  worst {:>8.3} ms{goal}", ms(median), ms(worst));
}

fn frame(state: &State, theme: Theme, buffer: &mut Buffer) {
    buffer.reset();
    draw(state, theme, buffer);
}

fn drawing(theme: Theme) {
    for (columns, rows) in SIZES {
        let goal = (columns == 200).then_some(Duration::from_millis(1));
        for (screen, state) in [
            ("home", home((columns, rows))),
            ("plan", planned((columns, rows))),
            ("recovery", replaying((columns, rows))),
        ] {
            let area = Rect::new(0, 0, columns, rows);
            let (mut buffer, mut other) = (Buffer::empty(area), Buffer::empty(area));
            let what = format!("draw {screen} {columns}x{rows}");
            measure(&what, goal, 2000, |_| frame(&state, theme, &mut buffer));
            frame(&state, theme, &mut other);
            let what = format!("compare {screen} {columns}x{rows} with the frame before");
            measure(&what, None, 2000, |_| assert!(other.diff(&buffer).is_empty()));
        }
    }
}

/// From a key to a frame that shows what it did.
fn keys(theme: Theme) {
    let goal = Some(Duration::from_millis(16));
    let size = SIZES[0];
    let mut buffer = Buffer::empty(Rect::new(0, 0, size.0, size.1));
    let all: [(&str, &[Key]); 5] = [
        ("down a row", &[Key::Down]),
        ("up a page", &[Key::PageUp]),
        ("zoom in and out", &[Key::Char('+'), Key::Char('+'), Key::Char('+'), Key::Char('0')]),
        ("first, next restore point, last", &[Key::Home, Key::Char('r'), Key::End]),
        ("suspects and back", &[Key::Char('s'), Key::Down, Key::Esc]),
    ];
    for (what, pressed) in all {
        let mut state = home(size);
        measure(&format!("key on 100,000 segments: {what}"), goal, 400, |number| {
            answer(&mut state, Msg::Key(pressed[number % pressed.len()]));
            frame(&state, theme, &mut buffer);
        });
    }
    let mut state = replaying(size);
    let mut back = false;
    measure("key during replay, 50 messages before it", goal, 400, |number| {
        for more in 0..25 {
            answer(&mut state, log(more));
            answer(&mut state, progress((number as u64 * 25 + more) % 900));
        }
        back = !back;
        answer(&mut state, Msg::Key(if back { Key::Char('?') } else { Key::Esc }));
        frame(&state, theme, &mut buffer);
    });
    let mut state = home(size);
    measure("a second that passes", None, 400, |_| {
        answer(&mut state, Msg::Tick(at(SEGMENTS as i64 * LASTS + 1)));
        frame(&state, theme, &mut buffer);
    });
}

/// The program in a terminal of its own.
struct Program {
    child: Child,
    terminal: File,
}

impl Program {
    fn start(place: &Path) -> Program {
        let size = Winsize { ws_row: 60, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        // In a session of its own there is no other terminal that it could take for its.
        let mut command = Command::new("setsid");
        command.arg(env!("CARGO_BIN_EXE_walback")).arg("--backups").arg(place).arg("--wal").arg(place);
        command.env("HOME", place).env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        command.env_remove("WALBACK_CONFIG").env_remove("XDG_STATE_HOME").env_remove("XDG_CACHE_HOME");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Program { child, terminal: File::from(pty.master) }
    }

    /// Reads what is drawn, until the end of a frame with these words.
    fn wait_for(&mut self, words: &str) {
        const END: &[u8] = b"\x1b[?2026l";
        let (mut drawn, mut part) = (Vec::new(), [0; 65536]);
        loop {
            let read = self.terminal.read(&mut part).unwrap();
            drawn.extend_from_slice(&part[..read]);
            let begins = drawn.windows(words.len()).position(|window| window == words.as_bytes());
            if begins.is_some_and(|from| drawn[from..].windows(END.len()).any(|window| window == END)) {
                return;
            }
        }
    }

    /// Of its processors' time in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(seconds: u64) {
    let place = tempfile::tempdir().unwrap();
    measure("from the process' start to the first frame, 200x60", Some(Duration::from_millis(50)), 20, |_| {
        Program::start(place.path()).wait_for("Backups");
    });
    let mut program = Program::start(place.path());
    program.wait_for("no base backup");
    // What is drawn is read, as a terminal does.
    let mut terminal = program.terminal.try_clone().unwrap();
    std::thread::spawn(move || while terminal.read(&mut [0; 65536]).is_ok_and(|read| read > 0) {});
    let before = program.ticks();
    std::thread::sleep(Duration::from_secs(seconds));
    let percent = (program.ticks() - before) as f64 / seconds as f64;
    println!("idle at home for {seconds} s: {percent:.1} % of a core  goal 1 %");
}

fn main() {
    // Cargo gives `--bench`.
    let seconds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(10);
    let theme = Theme::of(Depth::True, Background::Dark);
    drawing(theme);
    keys(theme);
    program(seconds);
}
