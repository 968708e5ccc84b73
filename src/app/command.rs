//! The one table of commands. Keys, footer, help and "why not" all come from it.

use std::borrow::Cow;

use super::archive;
use super::drills;
use super::key::Key;
use super::keys::key_of;
use super::msg::ActionKind;
use super::points::{Points, Row};
use super::query::Checks;
use super::state::{Answer, Loading, Pane, ScanState, Screen, State};
use crate::event::RecoveryState;
use crate::plan::StepTo;

/// What a command does; carried out by `update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table says what each one does")]
pub enum Act {
    Choose,
    StopBefore,
    StopAfter,
    TargetTime,
    TargetXid,
    TargetLsn,
    TargetName,
    Suspects,
    Find,
    NextMatch,
    PreviousMatch,
    EndSearch,
    NextSuspect,
    PreviousSuspect,
    NextRestorePoint,
    PreviousRestorePoint,
    NextGap,
    PreviousGap,
    ZoomIn,
    ZoomOut,
    ZoomAll,
    Left,
    Right,
    PanLeft,
    PanRight,
    FilterTimeline,
    Recoveries,
    CancelScan,
    Reload,
    Start,
    OtherBackup,
    Take,
    Directory,
    MakeWay,
    Change,
    Runbook,
    Checklist,
    Checks,
    Sql,
    CancelStep,
    Resume,
    Look,
    Retarget,
    NextCommit,
    PreviousCommit,
    Promote,
    Stop,
    Discard,
    Archive,
    CheckArchive,
    GoThere,
    Log,
    FilterLog,
    FindInLog,
    NextInLog,
    PreviousInLog,
    Drills,
    MakeDrill,
    GiveUpDrill,
    Report,
    NextPane,
    PreviousPane,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Help,
    Palette,
    Copy,
    Mouse,
    Pager,
    EditSettings,
    Suspend,
    Back,
    Quit,
}

/// What a command can do to anything outside the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Danger {
    /// Nothing.
    None,
    /// It changes something that Walback made, and asks or shows a plan first.
    Changes,
    /// It cannot be undone; the recovery's name has to be typed.
    Typed,
}

/// Why a command cannot be used now.
pub type Enabled = Result<(), Cow<'static, str>>;

/// A command.
#[derive(Debug)]
pub struct Command {
    /// What it does.
    pub act: Act,
    /// Its name, for the palette and for changing its keys.
    pub name: &'static str,
    /// What the footer calls it; empty where it is not worth its place there.
    pub label: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// Its keys; the first one is shown.
    pub keys: &'static [Key],
    /// Where it can be used.
    pub screens: &'static [Screen],
    /// What it can do to anything outside.
    pub danger: Danger,
    /// Whether it can be used now, or why not.
    pub enabled: fn(&State) -> Enabled,
}

const HOME: &[Screen] = &[Screen::Points];
const PLAN: &[Screen] = &[Screen::Plan];
const RUNNING: &[Screen] = &[Screen::Recovery];
const STANDING: &[Screen] = &[Screen::Paused];
const FOLLOWED: &[Screen] = &[Screen::Recovery, Screen::Paused];
const ARCHIVE: &[Screen] = &[Screen::Archive];
const LOG: &[Screen] = &[Screen::Log];
const DRILLS: &[Screen] = &[Screen::Drills];
const LISTED: &[Screen] = &[Screen::Points, Screen::Archive];
const BESIDE_ARCHIVE: &[Screen] = &[Screen::Points, Screen::Recovery, Screen::Paused];
pub(super) const EVERYWHERE: &[Screen] =
    &[Screen::Points, Screen::Plan, Screen::Recovery, Screen::Paused, Screen::Archive, Screen::Log, Screen::Drills];

macro_rules! command {
    ($act:ident, $name:literal, $label:literal, $keys:expr, $screens:expr, $danger:ident, $enabled:expr, $doc:literal) => {
        Command {
            act: Act::$act,
            name: $name,
            label: $label,
            doc: $doc,
            keys: $keys,
            screens: $screens,
            danger: Danger::$danger,
            enabled: $enabled,
        }
    };
}

/// Every command, in the order in which they are shown.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    command!(Choose, "choose", "choose", &[Key::Enter, Key::Char(' ')], HOME, None, can_choose,
        "Asks how to stop at the selected transaction, and says what each way means."),
    command!(StopBefore, "stop-before", "stop before", &[Key::Char('b')], HOME, None, can_stop,
        "Plans a recovery that stops just before the selected one: it is lost, with everything after it."),
    command!(StopAfter, "stop-after", "stop after", &[Key::Char('a')], HOME, None, can_stop,
        "Plans a recovery that stops just after the selected one: it is kept, and nothing after it."),
    command!(TargetTime, "target-time", "time", &[Key::Char('t')], HOME, None, can_ask,
        "Asks for a point in time to stop at."),
    command!(TargetXid, "target-xid", "xid", &[Key::Char('x')], HOME, None, can_ask,
        "Asks for a transaction id to stop at."),
    command!(TargetLsn, "target-lsn", "lsn", &[Key::Char('L')], HOME, None, can_ask,
        "Asks for a position in WAL to stop at."),
    command!(TargetName, "target-name", "name", &[Key::Char('n')], HOME, None, can_ask,
        "Asks for a restore point to stop at."),
    command!(Suspects, "suspects", "suspects", &[Key::Char('s')], HOME, None, has_suspects,
        "Lists every transaction that destroyed data, the worst first."),
    command!(Find, "find", "find", &[Key::Char('/')], HOME, None, can_ask,
        "Finds a restore point, a suspect's relation, a transaction id, a time or an LSN."),
    command!(ZoomIn, "zoom-in", "", &[Key::Char('+'), Key::Char('=')], HOME, None, has_chart,
        "Shows less time on the chart, around the selected moment."),
    command!(ZoomOut, "zoom-out", "", &[Key::Char('-')], HOME, None, has_chart,
        "Shows more time on the chart."),
    command!(ZoomAll, "zoom-all", "", &[Key::Char('0')], HOME, None, has_chart,
        "Shows all the time on the chart."),
    command!(Left, "left", "", &[Key::Left, Key::Char('h')], HOME, None, has_chart,
        "In the chart, goes to what happened one column earlier; elsewhere moves the chart to earlier times."),
    command!(Right, "right", "", &[Key::Right, Key::Char('l')], HOME, None, has_chart,
        "In the chart, goes to what happened one column later; elsewhere moves the chart to later times."),
    command!(PanLeft, "pan-left", "", &[Key::Char('<')], HOME, None, has_chart,
        "Moves the chart to earlier times; the selected moment stays."),
    command!(PanRight, "pan-right", "", &[Key::Char('>')], HOME, None, has_chart,
        "Moves the chart to later times; the selected moment stays."),
    command!(NextSuspect, "next-suspect", "", &[Key::Char('w')], HOME, None, has_suspects,
        "Goes to the next suspect: where something went wrong."),
    command!(PreviousSuspect, "previous-suspect", "", &[Key::Char('W')], HOME, None, has_suspects,
        "Goes to the previous suspect."),
    command!(NextRestorePoint, "next-restore-point", "", &[Key::Char('r')], HOME, None, has_names,
        "Goes to the next restore point."),
    command!(PreviousRestorePoint, "previous-restore-point", "", &[Key::Char('R')], HOME, None, has_names,
        "Goes to the previous restore point."),
    command!(NextGap, "next-gap", "", &[Key::Char('m')], HOME, None, has_gaps,
        "Goes to the next place where WAL is missing or damaged."),
    command!(PreviousGap, "previous-gap", "", &[Key::Char('M')], HOME, None, has_gaps,
        "Goes to the previous place where WAL is missing or damaged."),
    command!(FilterTimeline, "filter-timeline", "timeline", &[Key::Char('f')], HOME, None, has_timelines,
        "Lists one timeline only, the next one each time, or all."),
    command!(Recoveries, "recoveries", "recoveries", &[Key::Char('o')], HOME, None, has_recoveries,
        "Opens a recovery that was begun on this machine."),
    command!(CancelScan, "cancel-reading", "", &[Key::Char('c')], HOME, None, is_scanning,
        "Stops reading the WAL archive; what was read stays."),
    command!(Reload, "reload", "", &[Key::F(5), Key::Ctrl('r')], LISTED, None, can_reload,
        "Lists the backups and reads the WAL archive again."),
    command!(Start, "start", "start", &[Key::Enter], PLAN, Changes, can_start,
        "Carries the plan out, exactly as it stands here."),
    command!(OtherBackup, "other-backup", "", &[Key::Char('b')], PLAN, None, has_other_backups,
        "Plans with the next backup that leads to the target."),
    command!(Take, "take", "take", &[Key::Char('t')], PLAN, None, can_take,
        "Plans with the last point that can be reached; where the target is reached, with the one before what destroyed data and is kept."),
    command!(Directory, "directory", "directory", &[Key::Char('d')], PLAN, None, can_move,
        "Plans with another new directory."),
    command!(MakeWay, "make-way", "make way", &[Key::Char('m')], PLAN, Typed, can_make_way,
        "Plans with the data directory that is there renamed, not removed. The start then asks for the recovery's name."),
    command!(Change, "change", "change", &[Key::Char('e')], PLAN, None, can_change,
        "Changes something about the plan: where and how it stops, the timeline, the backup, the server's settings."),
    command!(EditSettings, "edit-settings", "", &[Key::Char('E')], PLAN, None, can_edit_settings,
        "Opens the server's settings in $VISUAL or $EDITOR, one a line, and plans with what is there then."),
    command!(Runbook, "runbook", "runbook", &[Key::Char('w')], PLAN, None, can_write,
        "Writes the plan as a shell script and as Markdown, to be carried out by hand."),
    command!(CancelStep, "cancel-step", "cancel", &[Key::Char('c')], RUNNING, Changes, can_cancel,
        "Stops the step that runs, after asking. What was unpacked so far is removed again; a server that replays goes on."),
    command!(Resume, "resume", "resume", &[Key::Char('u')], FOLLOWED, Changes, can_resume,
        "Goes on with a recovery that was interrupted, that failed, or whose server was stopped."),
    command!(Look, "look", "look", &[Key::Char('i')], FOLLOWED, None, can_look,
        "Opens psql on the recovered server, and comes back here."),
    command!(Retarget, "retarget", "retarget", &[Key::Char('r')], STANDING, Changes, can_retarget,
        "Goes on or back to another target; shows the plan first."),
    command!(Promote, "promote", "promote", &[Key::Char('p')], STANDING, Typed, can_promote,
        "Ends recovery: the server takes writes. Cannot be undone."),
    command!(Sql, "sql", "sql", &[Key::Char('s')], STANDING, None, can_look,
        "Asks the recovered server a query, read-only."),
    command!(Checks, "checks", "checks", &[Key::Char('v')], STANDING, None, has_checks,
        "Carries out the checks of the configuration again."),
    command!(NextCommit, "next-commit", "next", &[Key::Char(']')], STANDING, Changes, has_next_commit,
        "Goes to just after the next commit; shows the plan first."),
    command!(PreviousCommit, "previous-commit", "previous", &[Key::Char('[')], STANDING, Changes, has_previous_commit,
        "Goes to just before the last kept commit; shows the plan first."),
    command!(Checklist, "checklist", "checklist", &[Key::Char('c')], STANDING, Changes, has_checklist,
        "Goes through what is left to do after promotion, item by item; each says first what it changes."),
    command!(Stop, "stop", "stop", &[Key::Char('x')], STANDING, Changes, can_stop_server,
        "Shuts the recovered server down; its directory stays."),
    command!(Discard, "discard", "discard", &[Key::Char('d')], FOLLOWED, Typed, can_discard,
        "Removes what this recovery made. The backups stay."),
    command!(GoThere, "go-there", "go there", &[Key::Enter], ARCHIVE, None, can_go_there,
        "Goes to the chosen gap, damaged place or base backup on the home screen."),
    command!(CheckArchive, "check-archive", "check", &[Key::Char('c')], ARCHIVE, None, can_ask,
        "Reads every segment that was not read yet, as “walback check” does; while that goes on, stops it."),
    command!(Archive, "archive", "archive", &[Key::Char('A')], BESIDE_ARCHIVE, None, always,
        "Opens the archive: what is missing or damaged, what base backups need, what the primary says."),
    command!(Log, "log", "log", &[Key::Char('L')], FOLLOWED, None, is_known,
        "Opens the recovered server's log."),
    command!(Drills, "drills", "", &[Key::Char('d')], HOME, None, always,
        "Opens the drills: which were made and what came of them, and makes one."),
    command!(MakeDrill, "make-drill", "make one", &[Key::Enter], DRILLS, Changes, can_drill,
        "Makes a drill, after asking which: restores a backup beside everything else, checks it, and removes it again."),
    command!(GiveUpDrill, "give-up-drill", "give up", &[Key::Char('c')], DRILLS, Changes, can_give_up,
        "Gives up the drill that is being made, after asking: what it made is removed."),
    command!(Report, "report", "report", &[Key::Char('r'), Key::Char('P')], DRILLS, None, has_report,
        "Opens the chosen drill's report in $PAGER, and comes back here."),
    command!(FindInLog, "find-in-log", "find", &[Key::Char('/')], LOG, None, always,
        "Finds a text in the lines that are listed, the last ones first."),
    command!(NextInLog, "next-in-log", "next", &[Key::Char('n')], LOG, None, is_sought,
        "Goes to the next line that has what was looked for."),
    command!(PreviousInLog, "previous-in-log", "previous", &[Key::Char('N')], LOG, None, is_sought,
        "Goes to the previous line that has what was looked for."),
    command!(FilterLog, "filter-log", "warnings", &[Key::Char('f')], LOG, None, always,
        "Lists warnings and worse only, or everything again."),
    command!(Pager, "pager", "pager", &[Key::Char('P')], FOLLOWED, None, has_log,
        "Opens the server's log in $PAGER, and comes back here."),
    command!(NextPane, "next-pane", "pane", &[Key::Tab], HOME, None, always,
        "Goes to the next pane."),
    command!(PreviousPane, "previous-pane", "", &[Key::BackTab], HOME, None, always,
        "Goes to the previous pane."),
    command!(Up, "up", "", &[Key::Up, Key::Char('k')], EVERYWHERE, None, always, "One row up."),
    command!(Down, "down", "", &[Key::Down, Key::Char('j')], EVERYWHERE, None, always, "One row down."),
    command!(PageUp, "page-up", "", &[Key::PageUp, Key::Ctrl('b')], EVERYWHERE, None, always, "One page up."),
    command!(PageDown, "page-down", "", &[Key::PageDown, Key::Ctrl('f')], EVERYWHERE, None, always, "One page down."),
    command!(First, "first", "", &[Key::Char('g'), Key::Home], EVERYWHERE, None, always, "To the beginning."),
    command!(Last, "last", "", &[Key::Char('G'), Key::End], EVERYWHERE, None, always, "To the end."),
    command!(Back, "back", "back", &[Key::Esc], EVERYWHERE, None, always,
        "Goes one level out. A recovery goes on."),
    command!(Palette, "palette", "more", &[Key::Char(':')], EVERYWHERE, None, always,
        "Finds a command of this screen by its name or by what it does."),
    command!(Copy, "copy", "", &[Key::Char('y')], EVERYWHERE, None, can_copy,
        "Sends something of this screen to the terminal's clipboard: a position, a time, a command, the plan."),
    command!(Help, "help", "help", &[Key::Char('?'), Key::F(1)], EVERYWHERE, None, always,
        "Shows the keys of this screen."),
    command!(Mouse, "mouse", "", &[Key::F(2)], EVERYWHERE, None, always,
        "Gives the mouse to the terminal, so that it selects text, or takes it back."),
    command!(Suspend, "suspend", "", &[Key::Ctrl('z')], EVERYWHERE, None, always,
        "Goes back to the shell until fg. A recovery's server goes on; a step that this program does waits."),
    command!(Quit, "quit", "quit", &[Key::Char('q'), Key::Ctrl('c')], EVERYWHERE, None, always,
        "Leaves the program. A recovery goes on, and the next walback picks it up."),
];

/// The commands that come before those of the home screen while there is something that was looked for.
#[rustfmt::skip]
pub static SEARCH: &[Command] = &[
    command!(NextMatch, "next-match", "next", &[Key::Char('n')], HOME, None, has_matches,
        "Goes to the next place that was found."),
    command!(PreviousMatch, "previous-match", "previous", &[Key::Char('N')], HOME, None, has_matches,
        "Goes to the previous place that was found."),
    command!(EndSearch, "end-search", "end search", &[Key::Esc], HOME, None, always,
        "Forgets what was looked for."),
];

/// The commands of a screen, in the order in which they are shown.
pub fn on(screen: Screen) -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(move |command| command.screens.contains(&screen))
}

/// The commands that can be given now, in the order in which they are shown; each with its keys for itself.
pub fn now(state: &State) -> impl Iterator<Item = &'static Command> {
    let search: &[Command] = if state.search.is_some() && state.screen() == Screen::Points { SEARCH } else { &[] };
    let hidden = |command: &Command| {
        search.iter().any(|first| state.keys.of(first).iter().any(|key| state.keys.of(command).contains(key)))
    };
    search.iter().chain(on(state.screen()).filter(move |command| !hidden(command)))
}

/// What a key does now.
#[must_use]
pub fn for_key(state: &State, key: Key) -> Option<&'static Command> {
    now(state).find(|command| state.keys.of(command).contains(&key))
}

/// What a key moves to in a list that lies over the screen: the keys of the table, and the arrows whatever they are there.
#[must_use]
pub(super) fn motion(state: &State, key: Key) -> Option<Act> {
    match key {
        Key::Up => return Some(Act::Up),
        Key::Down => return Some(Act::Down),
        Key::PageUp => return Some(Act::PageUp),
        Key::PageDown => return Some(Act::PageDown),
        Key::Home => return Some(Act::First),
        Key::End => return Some(Act::Last),
        _ => {}
    }
    let moves = |act: &Act| matches!(act, Act::Up | Act::Down | Act::PageUp | Act::PageDown | Act::First | Act::Last);
    COMMANDS.iter().find(|command| moves(&command.act) && state.keys.of(command).contains(&key)).map(|c| c.act)
}

/// Whether a key gives the command that does this.
#[must_use]
pub(super) fn is_key_of(state: &State, act: Act, key: Key) -> bool {
    COMMANDS.iter().any(|command| command.act == act && state.keys.of(command).contains(&key))
}

/// The command of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().chain(SEARCH).find(|command| command.name == name)
}

fn always(_: &State) -> Enabled {
    Ok(())
}

fn unless(refused: bool, why: &'static str) -> Enabled {
    if refused { Err(Cow::Borrowed(why)) } else { Ok(()) }
}

fn can_stop(state: &State) -> Enabled {
    if state.pane != Pane::Points {
        let tab = key_of(state, Act::NextPane);
        return Err(format!("press {tab} until the transactions have the frame, then choose one").into());
    }
    can_ask(state)?;
    let reading = matches!(state.scan.state, ScanState::Running | ScanState::Waiting);
    match state.points.here() {
        Some(Row::Point(_)) => {}
        Some(Row::Waiting(_)) => return Err("this transaction is being read; a moment".into()),
        Some(Row::Failed(_, why)) => return Err(format!("its segment cannot be read: {why}").into()),
        Some(Row::Lack(_)) => {
            return Err("there is no WAL here to stop in; choose a transaction before or after it".into());
        }
        None if reading => return Err("no transaction has been read yet".into()),
        None => return Err("there is no transaction to stop at".into()),
    }
    unless(state.asked.is_some(), "something else is being done; wait for it")
}

/// A target is of no use before there are backups to go there from.
fn can_ask(state: &State) -> Enabled {
    match state.catalog {
        Loading::Loaded(_) => Ok(()),
        Loading::Loading => Err("the backups are still being listed".into()),
        Loading::Failed(_) => {
            Err(format!("the backups could not be listed; {} tries again", key_of(state, Act::Reload)).into())
        }
    }
}

fn can_choose(state: &State) -> Enabled {
    match state.pane {
        Pane::Points => can_stop(state),
        Pane::Timelines => Ok(()),
        Pane::Chart => has_chart(state),
        Pane::Backups => unless(state.selected_backup().is_none(), "there is no backup here"),
    }
}

fn none_of(points: &Points, found: bool, what: &str) -> Enabled {
    match (found, points.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err("no transaction has been read yet".into()),
        (false, false) => Err(format!("no {what} among what was read").into()),
    }
}

fn has_suspects(state: &State) -> Enabled {
    none_of(&state.points, state.points.suspects().next().is_some(), "suspect")
}

fn has_names(state: &State) -> Enabled {
    none_of(&state.points, state.points.restore_points().next().is_some(), "restore point")
}

fn has_gaps(state: &State) -> Enabled {
    unless(state.points.lacks().is_empty(), "no WAL is missing or damaged between the first segment and the last")
}

fn has_chart(state: &State) -> Enabled {
    unless(state.chart.view().window.is_none(), "no transaction has been read yet")
}

fn has_matches(state: &State) -> Enabled {
    unless(state.search.as_ref().is_none_or(|search| search.matches.is_empty()), "nothing was found")
}

fn has_timelines(state: &State) -> Enabled {
    unless(state.points.timelines().len() < 2, "there is only one timeline")
}

fn has_recoveries(state: &State) -> Enabled {
    unless(state.recoveries.is_empty(), "no recovery was begun on this machine")
}

fn is_scanning(state: &State) -> Enabled {
    unless(state.scan.state != ScanState::Running, "nothing is being read")
}

fn can_reload(state: &State) -> Enabled {
    if state.scan.state == ScanState::Running {
        return Err(format!("it is being read; {} stops that", key_of(state, Act::CancelScan)).into());
    }
    Ok(())
}

/// Whether anything outside may be changed now.
fn may_change(state: &State) -> Enabled {
    if state.read_only {
        return Err("--read-only was given: nothing is changed".into());
    }
    match state.asked {
        Some(action) => Err(format!("{}; wait for it", action.doing()).into()),
        None => Ok(()),
    }
}

fn can_start(state: &State) -> Enabled {
    let Some(planning) = &state.planning else { return Err("there is no plan".into()) };
    match &planning.answer {
        Answer::Making => return Err("the plan is still being made".into()),
        Answer::Failed(_) => return Err("there is no plan: the reason stands above".into()),
        Answer::Made(plan, _) => {
            if let Some(finding) = plan.findings.iter().find(|f| f.severity == crate::plan::Severity::Error) {
                return Err(format!("forbidden: {}", finding.message).into());
            }
        }
    }
    may_change(state)?;
    let another = planning.retarget.is_none() && is_running(state);
    unless(another, "another recovery runs; let it come to its pause first")
}

fn can_make_way(state: &State) -> Enabled {
    let Some(planning) = state.planning.as_ref().filter(|planning| planning.retarget.is_none()) else {
        return Err("a recovery that is there has its directory".into());
    };
    let Answer::Made(plan, _) = &planning.answer else { return Err("there is no plan".into()) };
    unless(!plan.offers_to_make_way(), "no data directory that could be renamed is in the way of this plan")
}

fn can_take(state: &State) -> Enabled {
    let Some(planning) = &state.planning else { return Err("there is no plan".into()) };
    match &planning.answer {
        Answer::Making => return Err("the plan is still being made".into()),
        Answer::Made(..) if planning.reachable().is_none() => {
            return Err("recovery gets to the target, and keeps nothing close before it that destroyed data".into());
        }
        Answer::Made(..) | Answer::Failed(_) => {}
    }
    match planning.reachable() {
        Some((_, Some(_))) if planning.retarget.is_some() => {
            Err("it takes another base backup, and a retarget keeps the recovery's".into())
        }
        Some(_) => Ok(()),
        None => Err("no other place is known that can be reached".into()),
    }
}

fn has_other_backups(state: &State) -> Enabled {
    if state.planning.as_ref().is_some_and(|p| p.retarget.is_some()) {
        return Err("a retarget keeps the recovery's backup".into());
    }
    let Some(plan) = state.plan() else { return Err("there is no plan yet".into()) };
    unless(plan.resolved.backups.len() < 2, "no other usable backup leads to this target")
}

fn can_move(state: &State) -> Enabled {
    let retarget = state.planning.as_ref().is_some_and(|p| p.retarget.is_some());
    unless(retarget, "a retarget keeps the recovery's directory")
}

fn can_change(state: &State) -> Enabled {
    let making = state.planning.as_ref().is_none_or(|planning| planning.answer == Answer::Making);
    unless(making, "the plan is still being made")
}

fn can_write(state: &State) -> Enabled {
    let Some(plan) = state.plan() else { return Err("there is no plan yet".into()) };
    unless(plan.is_forbidden(), "a finding forbids this recovery")?;
    let is_retarget = state.planning.as_ref().is_some_and(|planning| planning.retarget.is_some());
    unless(is_retarget, "this goes on with a recovery that there is; a runbook begins anew")
}

/// Whether a step of the followed recovery is being done.
fn is_running(state: &State) -> bool {
    let running = |s| {
        use RecoveryState::{Configured, Planned, Promoting, Replaying, Unpacking};
        matches!(s, Planned | Unpacking | Configured | Replaying | Promoting)
    };
    state.recovery_state().is_some_and(running)
}

fn can_resume(state: &State) -> Enabled {
    may_change(state)?;
    let promoted = state.recovery.promoted_to.is_some();
    match state.recovery_state() {
        _ if state.interrupted.is_some() => Ok(()),
        Some(RecoveryState::Failed | RecoveryState::ShutDown) if !promoted => Ok(()),
        Some(RecoveryState::Paused) => Err("it was not interrupted: it is paused at its target".into()),
        Some(RecoveryState::Discarded) => Err("it has been discarded".into()),
        _ if promoted => Err("recovery has ended here; nothing is left to go on with".into()),
        _ => Err("it is being worked on".into()),
    }
}

fn can_cancel(state: &State) -> Enabled {
    unless(state.interrupted.is_some(), "it was interrupted: nothing runs that could be stopped")?;
    unless(state.read_only, "--read-only was given: nothing is changed")?;
    unless(state.asked == Some(ActionKind::Cancel), "it is being stopped; wait for it")?;
    unless(!is_running(state), "nothing runs that could be stopped")
}

fn can_look(state: &State) -> Enabled {
    match state.recovery_state() {
        Some(RecoveryState::Paused | RecoveryState::Promoted | RecoveryState::Replaying) => Ok(()),
        Some(RecoveryState::Planned | RecoveryState::Unpacking | RecoveryState::Configured) => {
            Err("the server has not been started yet".into())
        }
        Some(RecoveryState::Promoting) => Err("the server is being promoted; wait for it".into()),
        _ => Err("the server is not running".into()),
    }
}

fn has_log(state: &State) -> Enabled {
    match state.recovery_state() {
        None | Some(RecoveryState::Planned | RecoveryState::Unpacking | RecoveryState::Configured) => {
            Err("there is no log yet: the server has not been started".into())
        }
        Some(RecoveryState::Discarded) => Err("it has been discarded, and its log with it".into()),
        _ => Ok(()),
    }
}

fn can_edit_settings(state: &State) -> Enabled {
    can_change(state)?;
    let retarget = state.planning.as_ref().is_some_and(|planning| planning.retarget.is_some());
    unless(retarget, "a retarget keeps the recovery's settings")
}

fn can_copy(state: &State) -> Enabled {
    unless(!super::copy::is_anything(state), "there is nothing to copy here yet")
}

fn can_retarget(state: &State) -> Enabled {
    may_change(state)?;
    match state.recovery_state() {
        Some(RecoveryState::Paused | RecoveryState::ShutDown | RecoveryState::Failed)
            if state.recovery.promoted_to.is_none() =>
        {
            // What the dialogs and the list would show is the other cluster's.
            let name = state.following.as_deref().unwrap_or("NAME");
            let why = || {
                format!(
                    "it is another cluster's: open walback with its backups, or use “walback retarget {name}” on the \
                     command line"
                )
            };
            if state.follows_another_cluster() { Err(why().into()) } else { Ok(()) }
        }
        Some(RecoveryState::Promoted | RecoveryState::ShutDown) => {
            Err("recovery has ended here; begin another one from the list of transactions".into())
        }
        Some(RecoveryState::Discarded) => Err("it has been discarded".into()),
        _ => Err("it is not paused yet".into()),
    }
}

fn has_next_commit(state: &State) -> Enabled {
    can_step(state, StepTo::Next)
}

fn has_previous_commit(state: &State) -> Enabled {
    can_step(state, StepTo::Previous)
}

fn can_step(state: &State, step: StepTo) -> Enabled {
    can_retarget(state)?;
    let Some(recovery) = state.recovery.recovery() else { return Err("nothing is known of it yet".into()) };
    let retarget = || key_of(state, Act::Retarget);
    if recovery.state == RecoveryState::Failed {
        return Err(format!("it has failed; {} tries another target", retarget()).into());
    }
    if recovery.matches_prediction == Some(false) {
        return Err(format!("it is not where it was predicted to stop; {} takes a target", retarget()).into());
    }
    unless(step.target(&recovery.resolved, recovery.target.action).is_none(), step.why_none())
}

fn can_promote(state: &State) -> Enabled {
    may_change(state)?;
    match state.recovery_state() {
        Some(RecoveryState::Paused) => Ok(()),
        Some(RecoveryState::Promoted) => Err("it has been promoted already".into()),
        Some(RecoveryState::ShutDown) => Err("the server is stopped: retarget it first".into()),
        _ => Err("only a recovery that is paused at its target can be promoted".into()),
    }
}

fn has_checks(state: &State) -> Enabled {
    can_look(state)?;
    match state.checks {
        Checks::None => Err("none are configured; docs/configuration.md has an example".into()),
        Checks::Running => Err("they are being carried out".into()),
        Checks::Waiting | Checks::Done(_) => Ok(()),
    }
}

fn has_checklist(state: &State) -> Enabled {
    may_change(state)?;
    match state.recovery_state() {
        Some(RecoveryState::Discarded) => Err("it has been discarded".into()),
        _ if state.recovery.promoted_to.is_some() => Ok(()),
        _ => Err("there is one after promotion".into()),
    }
}

fn can_stop_server(state: &State) -> Enabled {
    may_change(state)?;
    let runs = matches!(state.recovery_state(), Some(RecoveryState::Paused | RecoveryState::Promoted));
    unless(!runs && state.recovery.server_pid.is_none(), "the server is not running")
}

fn can_discard(state: &State) -> Enabled {
    may_change(state)?;
    match state.recovery_state() {
        Some(RecoveryState::Promoted) => {
            let stop = key_of(state, Act::Stop);
            Err(format!("it has been promoted and may be in use: stop its server first, with {stop}").into())
        }
        Some(RecoveryState::Discarded) => Err("it has been discarded already".into()),
        _ if state.interrupted.is_some() => Ok(()),
        Some(RecoveryState::Paused | RecoveryState::ShutDown | RecoveryState::Failed) => Ok(()),
        _ => Err("it is being worked on".into()),
    }
}

fn can_go_there(state: &State) -> Enabled {
    match state.archive.row(state.archive.cursor) {
        Some(archive::Row::Backup(_)) => Ok(()),
        _ => unless(archive::place(state).is_none(), "this row is about no place in WAL"),
    }
}

fn can_drill(state: &State) -> Enabled {
    may_change(state)?;
    unless(state.drills.running.is_some(), "one is being made; the next one can be made after it")?;
    let is_any = state.loaded().is_some_and(|catalog| catalog.backups.iter().any(|backup| backup.is_usable()));
    unless(!is_any, "there is no base backup that can be restored")
}

fn can_give_up(state: &State) -> Enabled {
    match &state.drills.running {
        None => Err("this program makes none just now".into()),
        Some(running) => unless(running.given_up, "it is being given up already"),
    }
}

fn has_report(state: &State) -> Enabled {
    unless(drills::report_of_chosen(state).is_none(), "there is no report to be read here")
}

fn is_known(state: &State) -> Enabled {
    unless(state.recovery.plan.is_none(), "nothing is known of it yet")
}

fn is_sought(state: &State) -> Enabled {
    unless(state.log.sought.is_empty(), "nothing was looked for")
}

/// Whether what Enter starts has to be confirmed by typing the name: when a directory is emptied.
#[must_use]
pub(super) fn empties_directory(state: &State) -> bool {
    let answer = state.planning.as_ref().map(|planning| &planning.answer);
    matches!(answer, Some(Answer::Made(_, Some(approach))) if approach.strategy.empties_directory())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_is_bound_twice_on_one_screen() {
        for screen in EVERYWHERE {
            let mut seen = HashSet::new();
            for command in on(*screen) {
                for key in command.keys {
                    assert!(seen.insert(key), "{key} means two things on {screen:?}, one of them {}", command.name);
                }
            }
        }
        let mut seen = HashSet::new();
        assert!(SEARCH.iter().flat_map(|command| command.keys).all(|key| seen.insert(key)));
    }

    #[test]
    fn every_command_has_a_name_a_key_a_place_and_a_sentence() {
        let mut names = HashSet::new();
        let mut acts = HashSet::new();
        for command in COMMANDS.iter().chain(SEARCH) {
            let kebab = command.name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            assert!(kebab && names.insert(command.name) && acts.insert(command.act), "{}", command.name);
            assert!(!command.keys.is_empty() && !command.screens.is_empty(), "{}", command.name);
            assert!(command.doc.ends_with('.') && command.doc.len() > 10, "{}", command.name);
        }
        assert_eq!(named("promote").map(|c| c.danger), Some(Danger::Typed));
    }
}
