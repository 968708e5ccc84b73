use std::collections::VecDeque;

use proptest::prelude::*;

use super::session::{Next, Session};
use super::text::plain;
use super::words::{Listed, Meaning, Show, meaning};
use crate::app::update::tests::{begun, catalog, event, paused, plan, running, state, turns, xid_50};
use crate::app::{Act, ActionKind, Dialog, Effect, Hit, Key, Msg, Screen, State, update};
use crate::core::{Rows, TimelineId};
use crate::error::Error;
use crate::event::{Progress, RecoveryState, What};
use crate::plan::{Finding, StepId};

fn means(line: &str, state: &State) -> Meaning {
    meaning(line, state, &Listed::default())
}

fn asked(mut state: State, act: Act) -> State {
    update(&mut state, Msg::Command(act));
    assert!(state.dialog.is_some(), "{act:?} asks nothing");
    state
}

fn command(act: Act, rest: &str) -> Meaning {
    Meaning::Command(act, rest.to_owned())
}

#[test]
fn a_command_is_given_by_its_name_by_a_beginning_that_is_its_own_or_by_a_key() {
    let home = state();
    for line in ["stop-before", "stop-b", "STOP-B", "b", "  stop-before  "] {
        assert_eq!(means(line, &home), command(Act::StopBefore, ""), "{line}");
    }
    assert_eq!(means("W", &home), command(Act::PreviousSuspect, ""));
    assert_eq!(means("w", &home), command(Act::NextSuspect, ""));
    assert_eq!(means("target-time 2026-11-21 14:30", &home), command(Act::TargetTime, "2026-11-21 14:30"));
    assert_eq!(means("/orders", &home), command(Act::Find, "orders"));
    assert_eq!(means("show transactions around 14:30", &home), Meaning::Around("14:30".to_owned()));
    assert_eq!(means("show", &home), Meaning::Show(Show::Screen));
    assert_eq!(means("p", &paused()), command(Act::Promote, ""));
}

#[test]
fn what_is_not_understood_is_said_with_what_is_near() {
    let home = state();
    let why = |line: &str, state: &State| match means(line, state) {
        Meaning::Unknown(why) | Meaning::Refused(why) => why,
        other => panic!("{line} means {other:?}"),
    };
    assert_eq!(why("stop", &home), "“stop” could be: stop-before, stop-after");
    assert!(why("suspect-list", &home).contains("did you mean suspects"), "{}", why("suspect-list", &home));
    assert!(why("promote", &home).contains("cannot be given here"));
    assert!(why("zoom-in", &home).contains("is for the full screen"));
    assert!(why("promote shop-1", &paused()).contains("asks for the name"), "the name is no argument");
    assert!(why("stop-before 3", &home).contains("takes nothing behind it"));
    assert_eq!(why("choose 99", &home), "there is no suspect 99: the last one is 1");
}

#[test]
fn an_answer_goes_to_the_open_question() {
    let form = asked(state(), Act::TargetXid);
    let keys = |meaning: Meaning| match meaning {
        Meaning::Do(all) => all,
        other => panic!("{other:?}"),
    };
    let typed = |text: &str| vec![Msg::Key(Key::Ctrl('u')), Msg::Paste(text.to_owned()), Msg::Key(Key::Enter)];
    assert_eq!(keys(means("50", &form)), typed("50"));
    let both = [vec![Msg::Key(Key::Tab), Msg::Key(Key::Up)], typed("55")].concat();
    assert_eq!(keys(means("55 after timeline 2", &form)), both);
    assert_eq!(keys(means("55 timeline 2 after", &form)), both);
    assert!(matches!(means("55 timeline 9", &form), Meaning::Unknown(why) if why.contains("there are: 1, 2")));
    for line in ["", "back"] {
        assert_eq!(keys(means(line, &form)), [Msg::Key(Key::Esc)]);
    }
    let menu = asked(state(), Act::Choose);
    assert_eq!(keys(means("1", &menu)), [Msg::Click(Hit::Choice(0))]);
    for line in ["2", "a", "choose 2"] {
        assert_eq!(keys(means(line, &menu)), vec![Msg::Click(Hit::Choice(1)); 2], "{line}");
    }
    assert!(matches!(means("9", &menu), Meaning::Unknown(_)));
    assert_eq!(means("suspects", &menu), Meaning::Leave("suspects".to_owned()));
    let name = asked(paused(), Act::Promote);
    let keys = keys(means("shop-1", &name));
    assert_eq!((keys.len(), keys.last()), (8, Some(&Msg::Key(Key::Enter))), "typed, not pasted");
}

#[test]
fn what_is_called_like_a_word_of_the_program_is_given_behind_its_command() {
    let (session, told) = script(state(), &["find quit", "show", "stop-before", "back"], obliging);
    assert!(told.iter().any(|line| line.contains("“quit”")), "{told:?}");
    assert_eq!(session.status(), 1, "nothing is called so");
}

/// A session that nobody types into, with these lines to come; what it asks for is answered by `answer`.
fn script(state: State, lines: &[&str], answer: impl Fn(&Effect) -> Vec<Msg>) -> (Session, Vec<String>) {
    let mut session = Session::new(state, false, false);
    let mut lines: VecDeque<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let mut told = Vec::new();
    for _ in 0..500 {
        let next = session.work();
        told.extend(session.told.take());
        let effects = std::mem::take(&mut session.effects);
        if next == Next::Leave {
            return (session, told);
        }
        for msg in effects.iter().flat_map(&answer) {
            session.take(msg);
        }
        if effects.is_empty() && session.wants_line() {
            match lines.pop_front() {
                Some(line) => session.read(line),
                None => session.end(),
            }
        }
    }
    panic!("it does not come to its end:\n{}", told.join("\n"));
}

/// Plans are made, and carried out to the pause.
fn obliging(effect: &Effect) -> Vec<Msg> {
    match effect {
        Effect::MakePlan(_) => vec![Msg::Planned(Ok(plan(xid_50())))],
        Effect::Start { .. } => vec![
            begun(),
            event(What::StepStarted { step: StepId::Replay }),
            turns(RecoveryState::Replaying),
            turns(RecoveryState::Paused),
            event(What::StepFinished { step: StepId::Replay, seconds: 2.0, bytes: None }),
            Msg::Done(ActionKind::Start),
        ],
        Effect::LoadRecoveries => vec![Msg::Recoveries(Vec::new())],
        Effect::LoadDatabases { .. } => vec![Msg::Databases(Ok(vec!["postgres".to_owned(), "shop".to_owned()]))],
        Effect::Query { .. } => {
            let rows = Rows { columns: vec!["count".to_owned()], rows: vec![vec![Some("7".to_owned())]], more: false };
            vec![Msg::Answered(Ok(rows))]
        }
        Effect::Promote { .. } => vec![
            event(What::Promoted { timeline: TimelineId(3) }),
            turns(RecoveryState::Promoted),
            Msg::Done(ActionKind::Promote),
        ],
        _ => Vec::new(),
    }
}

#[test]
fn a_script_goes_from_a_transaction_to_a_promoted_server() {
    let lines = ["stop-before", "start", "sql select count(*) from orders", "promote", "shop-1", "quit"];
    let (session, told) = script(state(), &lines, obliging);
    let text = told.join("\n");
    let at =
        |words: &str| told.iter().position(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}:\n{text}"));
    let places = [
        at("walback> stop-before"),
        at("plan of recovery shop-1"),
        at("walback> start"),
        at("step replay"),
        at("step replay is done, in 2.0 s"),
        at("PAUSED AT THE TARGET"),
        at("walback> sql"),
        at("1 row"),
        at("to do it, type shop-1"),
        at("PROMOTED TO TIMELINE 3"),
    ];
    assert!(places.is_sorted(), "{text}");
    assert_eq!(told.iter().filter(|line| line.contains("PAUSED AT")).count(), 1, "{text}");
    assert_eq!((session.status(), session.state.dialog.is_none()), (0, true));
    assert!(!text.contains("ask the recovered server what?"), "what was answered need not be asked:\n{text}");
}

#[test]
fn a_script_ends_with_the_status_of_what_failed() {
    let status = |lines: &[&str]| script(state(), lines, obliging).0.status();
    assert_eq!(status(&["nonsense", "stop-before"]), 2);
    assert_eq!(status(&["target-time 14:3x"]), 2);
    assert_eq!(status(&["promote"]), 1);
    assert_eq!(status(&["show", "help", "", "quit"]), 0);
    let (wrong, told) = script(paused(), &["promote", "shop"], obliging);
    assert_eq!(wrong.status(), 5, "{told:?}");
    let (open, told) = script(paused(), &["promote"], obliging);
    assert_eq!(open.status(), 5, "{told:?}");
    let (stopped, told) = script(state(), &["nonsense", "stop-before"], obliging);
    assert_eq!((stopped.state.screen(), told.iter().any(|line| line.contains("is not read"))), (Screen::Points, true));
}

#[test]
fn a_plan_that_cannot_be_is_mended_or_is_the_status() {
    let unreachable = |effect: &Effect| match effect {
        Effect::MakePlan(_) => {
            vec![Msg::Planned(Err(Error::new(crate::error::ErrorKind::Unreachable, "x", "it is too early")))]
        }
        _ => Vec::new(),
    };
    assert_eq!(script(state(), &["stop-before"], unreachable).0.status(), 4);
    assert_eq!(script(state(), &["stop-before", "back"], unreachable).0.status(), 0);
    assert_eq!(script(state(), &["stop-before", "start"], unreachable).0.status(), 4);
    let forbidden = |effect: &Effect| match effect {
        Effect::MakePlan(_) => {
            let mut plan = plan(xid_50());
            plan.findings.push(Finding::error("directory-not-empty", "it is there"));
            vec![Msg::Planned(Ok(plan))]
        }
        _ => Vec::new(),
    };
    assert_eq!(script(state(), &["stop-before"], forbidden).0.status(), 3);
    assert_eq!(script(state(), &["stop-before", "start", "quit"], forbidden).0.status(), 3);
}

#[test]
fn everything_is_told_once() {
    let mut session = Session::new(state(), true, false);
    session.work();
    let first = session.told.take();
    assert!(first.iter().any(|line| line.contains("3 base backups")), "{first:?}");
    assert!(first.iter().any(|line| line.starts_with("next: ")), "{first:?}");
    session.take(Msg::Tick(session.state.now.plus_micros(1_000_000)));
    session.work();
    assert_eq!(session.told.take(), Vec::<String>::new());
    // The same refusal is an answer each time.
    for _ in 0..2 {
        session.read("next-gap".to_owned());
        session.work();
        let told = session.told.take();
        assert!(told.iter().any(|line| line.starts_with("not now: ")), "{told:?}");
    }
}

#[test]
fn progress_is_told_at_sensible_steps() {
    let mut session = Session::new(running(StepId::Unpack), true, false);
    session.work();
    session.told.take();
    let start = session.state.now;
    let mut told = Vec::new();
    session.take(event(What::StepStarted { step: StepId::Unpack }));
    for tenths in 0..1000 {
        session.take(Msg::Tick(start.plus_micros(tenths * 100_000)));
        let progress = Progress {
            step: StepId::Unpack,
            done: tenths as u64,
            total: Some(1000),
            unit: "bytes".into(),
            rate: Some(10.0),
            eta_s: Some(100.0),
            replayed_lsn: None,
            last_commit_at: None,
            doing: None,
            waits_for: None,
        };
        session.take(event(What::Progress(progress)));
        session.work();
        told.extend(session.told.take());
    }
    let lines = told.iter().filter(|line| line.starts_with("unpack: ")).count();
    assert_eq!(lines, 9, "{told:?}");
    assert!(
        told.contains(&"unpack: 10 percent, 100 B of 1.0 kB, 10 B/s, about 1 min 40 s left".to_owned()),
        "{told:?}"
    );
}

#[test]
fn what_the_server_warns_of_is_told_and_nothing_else_it_says() {
    let mut session = Session::new(running(StepId::Replay), true, false);
    session.work();
    session.told.take();
    let said = |session: &mut Session, line: &str| {
        let line = format!("2026-11-20 21:21:00.373 UTC [24656] startup 00000: {line}");
        session.take(event(What::Log { line }));
        session.told.take()
    };
    assert_eq!(said(&mut session, "LOG:  redo starts at 0/2000028"), Vec::<String>::new());
    assert_eq!(said(&mut session, "FATAL:  the database system is starting up"), Vec::<String>::new());
    assert_eq!(said(&mut session, "WARNING:  look out"), ["the server says: 21:21:00 WARNING: look out"]);
}

#[test]
fn an_interrupt_cancels_what_runs_and_else_leaves() {
    let mut typed = Session::new(running(StepId::Unpack), true, false);
    typed.take(event(What::StepStarted { step: StepId::Unpack }));
    assert_eq!(typed.interrupt(), Next::Go);
    assert!(matches!(typed.state.dialog, Some(Dialog::Menu(_))), "it is asked first");
    assert_eq!(typed.interrupt(), Next::Go);
    assert!(matches!(typed.effects.as_slice(), [Effect::CancelStep { .. }]), "{:?}", typed.effects);
    let mut read = Session::new(running(StepId::Unpack), false, false);
    assert_eq!(read.interrupt(), Next::Go);
    assert!(matches!(read.effects.as_slice(), [Effect::CancelStep { .. }]), "nobody is there to be asked");
    assert_eq!(read.status(), 130);
    for typed in [true, false] {
        assert_eq!(Session::new(state(), typed, false).interrupt(), Next::Leave);
    }
    let mut reading = state();
    update(&mut reading, Msg::Catalog(Ok(catalog())));
    let mut reading = Session::new(reading, true, false);
    assert_eq!((reading.interrupt(), reading.effects.as_slice()), (Next::Go, [Effect::CancelScan].as_slice()));
}

/// Words that lines are made of: commands, answers, numbers, and what means nothing.
fn line() -> impl Strategy<Value = String> {
    let words: Vec<&str> = crate::app::command::COMMANDS.iter().map(|command| command.name).collect();
    let more = [
        "",
        "back",
        "1",
        "2",
        "3",
        "99",
        "y",
        "yes",
        "no",
        "a",
        "shop-1",
        "0/30",
        "50",
        "55 after timeline 2",
        "14:30",
        "good",
        "show",
        "show around 50",
        "overview",
        "next",
        "previous",
        "choose 1",
        "choose backup 2",
        "help start",
        "database shop",
        "select 1",
        "/elsewhere",
        "port",
        "work_mem = 1MB",
        "?",
        "/orders",
        "c",
        "\u{1b}[2J",
    ];
    let words: Vec<String> = words.into_iter().chain(more).map(str::to_owned).collect();
    let word = proptest::sample::select(words);
    prop_oneof![8 => word.clone(), 2 => (word.clone(), word).prop_map(|(a, b)| format!("{a} {b}")), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_sequence_of_lines_panics_or_draws(
        lines in proptest::collection::vec(line(), 0..25), start in 0..3, typed: bool, interrupts: bool,
    ) {
        let state = match start { 0 => state(), 1 => running(StepId::Unpack), _ => paused() };
        let mut session = Session::new(state, typed, true);
        let mut told = Vec::new();
        for line in lines {
            session.read(line);
            for _ in 0..5 {
                let next = session.work();
                told.extend(session.told.take());
                session.errand = None;
                if next == Next::Leave {
                    break;
                }
                for msg in std::mem::take(&mut session.effects).iter().flat_map(obliging) {
                    session.take(msg);
                }
            }
            if interrupts {
                session.interrupt();
            }
        }
        let unsteady = |c: char| c.is_control() || ('\u{2500}'..='\u{25ff}').contains(&c);
        for line in told.iter().flat_map(|line| line.split('\n')) {
            prop_assert!(!plain(line, true).chars().any(unsteady), "{line:?}");
        }
    }
}
