//! The plan: everything that will be done, before anything is done.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::change::in_words;
use crate::app::keys::key_of;
use crate::app::state::{Answer, Planning};
use crate::app::{Act, State};
use crate::core::progress::{Bytes, Seconds, counted};
use crate::core::{Target, TargetKind, TimelineChoice, Zone};
use crate::plan::suspects_kept::{keeps_last, kept};
use crate::plan::{Approach, Finding, Plan, Severity, way};
use crate::resolve::{Resolved, StopSide};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::clean;
use crate::tui::theme::Theme;
use crate::tui::widgets::chart;
use crate::tui::widgets::doc::{Doc, halves};
use crate::tui::words;

/// So many relations of a suspect are named.
const NAMED: usize = 2;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let Some(planning) = &state.planning else { return };
    let title = match (&planning.answer, &planning.retarget) {
        (Answer::Made(plan, None), _) => format!("Plan of recovery {}", plan.recovery),
        (_, Some(recovery)) => format!("Another target for {recovery}"),
        _ => "Plan".to_owned(),
    };
    let inner = canvas.frame(body, &title, "nothing was changed yet", true);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    if let (Answer::Made(plan, approach), Some((left, right))) = (&planning.answer, halves(inner)) {
        let column = |area: Rect| Doc::new(area.width.saturating_sub(1), canvas.theme);
        let (mut what, mut how) = (column(left), column(right));
        decision(&mut what, canvas.theme, state, plan, approach.as_deref());
        carrying_out(&mut how, canvas.theme, plan);
        let (what, how) = (what.lines(), how.lines());
        canvas.scrolled_beside([left, right], [&what, &how], state.scroll);
        return axis_below(canvas, state, body, inner, what.len().max(how.len()));
    }
    // A full line does not touch the signs that there is more.
    let mut doc = Doc::new(inner.width.saturating_sub(1), canvas.theme);
    write(&mut doc, canvas.theme, state, planning);
    canvas.scrolled(inner, &doc.lines(), state.scroll);
}

/// All that there is to say about what was planned.
pub(crate) fn write(doc: &mut Doc, theme: Theme, state: &State, planning: &Planning) {
    match &planning.answer {
        Answer::Making => making(doc, theme, state.zone, planning),
        Answer::Failed(error) => failed(doc, theme, state, planning, error),
        Answer::Made(plan, approach) => {
            decision(doc, theme, state, plan, approach.as_deref());
            carrying_out(doc, theme, plan);
        }
    }
}

/// What has to be known before a plan is begun: all but its settings and the commands that do the same by hand.
pub(crate) fn write_short(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan, approach: Option<&Approach>) {
    decision(doc, theme, state, plan, approach);
    doc.heading("Steps");
    for (number, step) in (1..).zip(&plan.steps) {
        doc.hanging(&format!("{number:>2} "), theme.key(), &step.title, theme.strong());
    }
}

/// Below a text that leaves so much of the frame free: where in time recovery stops.
fn axis_below(canvas: &mut Canvas<'_>, state: &State, body: Rect, inner: Rect, lines: usize) {
    const LEAST: u16 = 8;
    const MOST: u16 = 16;
    let used = (lines as u16).saturating_add(1);
    let free = inner.height.saturating_sub(used).min(MOST);
    if free < LEAST || state.chart.view().window.is_none() {
        return;
    }
    let y = inner.bottom() - free;
    let (title, legend) = chart::titles(state, body.width);
    canvas.divider(body, y, &title, &legend, true);
    chart::show(canvas, state, Rect { y: y + 1, height: free - 1, ..inner }, (free - 3, 2));
}

fn making(doc: &mut Doc, theme: Theme, zone: Zone, planning: &Planning) {
    doc.row("Target", &planning.wanted.target.in_words(zone), theme.strong());
    doc.blank();
    doc.paragraph(
        "Making the plan: finding where recovery will stop, and looking for whatever could go wrong …",
        theme.plain(),
    );
}

fn failed(doc: &mut Doc, theme: Theme, state: &State, planning: &Planning, error: &crate::error::Error) {
    let zone = state.zone;
    let report = error.report();
    doc.row("Target", &planning.wanted.target.in_words(zone), theme.strong());
    doc.blank();
    doc.hanging(&format!("{} no plan: ", glyphs::BAD), theme.bad(), &report.message, theme.bad());
    for cause in &report.causes {
        doc.hanging("  because: ", theme.label(), cause, theme.plain());
    }
    if let Some(hint) = &report.hint {
        doc.hanging("  to do:   ", theme.label(), hint, theme.strong());
    }
    if let Some((target, backup)) = planning.reachable() {
        doc.blank();
        doc.hanging(
            &format!("{}: ", key_of(state, Act::Take)),
            theme.key(),
            &instead(&target, backup.as_deref(), zone),
            theme.strong(),
        );
    }
}

/// `stop at 0/1700090 on timeline 1 instead`.
fn instead(target: &Target, backup: Option<&str>, zone: Zone) -> String {
    let timeline = match target.timeline {
        TimelineChoice::Current => "the backup's timeline".to_owned(),
        TimelineChoice::Latest => "the latest timeline".to_owned(),
        TimelineChoice::Number(id) => format!("timeline {id}"),
    };
    let side = if target.inclusive { "after" } else { "before" };
    let place = match &target.kind {
        TargetKind::Lsn(lsn) if target.inclusive => format!("at {lsn}"),
        TargetKind::Lsn(lsn) => format!("just before {lsn}"),
        TargetKind::Xid(xid) => format!("just {side} transaction {xid}"),
        TargetKind::Time(at) if target.inclusive => format!("at {}", at.in_zone(zone)),
        TargetKind::Time(at) => format!("before {}", at.in_zone(zone)),
        TargetKind::Name(name) => format!("at restore point “{}”", name.as_str()),
        TargetKind::Immediate => "at the end of the base backup".to_owned(),
        TargetKind::Latest => "at the end of WAL".to_owned(),
    };
    let from = backup.map(|id| format!(", from the backup {id},")).unwrap_or_default();
    format!("stop {place} on {timeline}{from} instead")
}

/// What there is to decide: whether it can be begun, where it stops, what is lost, how long it takes.
fn decision(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan, approach: Option<&Approach>) {
    verdict(doc, theme, plan, approach);
    findings(doc, theme, plan, "", &[Severity::Error, Severity::Warning]);
    before_what_is_kept(doc, theme, state, plan);
    stop(doc, theme, state, plan);
    means(doc, theme, state, plan, approach.is_some());
    findings(doc, theme, plan, "Good to know", &[Severity::Note]);
    estimate(doc, theme, plan);
}

/// What will be done.
fn carrying_out(doc: &mut Doc, theme: Theme, plan: &Plan) {
    steps(doc, theme, plan);
    settings(doc, theme, plan);
}

/// Whether it can be begun, and how a retarget gets there.
fn verdict(doc: &mut Doc, theme: Theme, plan: &Plan, approach: Option<&Approach>) {
    let count = |severity| plan.findings.iter().filter(|f| f.severity == severity).count() as u64;
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => doc.hanging(&format!("{} ", glyphs::GOOD), theme.good(), "Nothing speaks against it.", theme.good()),
        (0, warnings) => {
            let text = format!("It can be started, with {}.", counted(warnings, "warning"));
            doc.hanging(&format!("{} ", glyphs::SUSPECT), theme.warning(), &text, theme.warning());
        }
        (errors, _) => {
            let text = format!("It cannot be started: {}.", counted(errors, "error"));
            doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), &text, theme.bad());
        }
    }
    if let Some(approach) = approach {
        let style = if approach.strategy.empties_directory() { theme.warning() } else { theme.strong() };
        doc.paragraph(&format!("It {}.", approach.in_words()), style);
    }
}

/// What destroyed data and is kept, and the key that plans to stop before it. It is the accident itself where it is the
/// last transaction that is kept; else it was most often meant.
fn before_what_is_kept(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan) {
    let Some((target, _)) = state.planning.as_ref().and_then(Planning::reachable) else { return };
    let key = key_of(state, Act::Take);
    if keeps_last(&plan.resolved) {
        doc.hanging(&format!("{key}: "), theme.key(), &instead(&target, None, state.zone), theme.strong());
    } else if let Some(suspect) = kept(&plan.resolved).first() {
        let what = suspect.with_time(NAMED, state.zone);
        let text =
            format!("Kept is also {what}. If that was no accident, all is well; if it was, {key} stops before it.");
        doc.hanging(&format!("{} ", glyphs::NOTE), theme.label(), &text, theme.plain());
    }
}

/// The target as it was chosen and as it was resolved.
fn stop(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan) {
    let resolved = &plan.resolved;
    doc.blank();
    doc.row("Target", &plan.target.in_words_on(state.zone, resolved.timeline), theme.plain());
    doc.row("Will stop", &words::predicted(resolved), theme.strong());
    let at = resolved.at.map(|at| crate::app::dialog::in_words(at, state.zone));
    let end = Some(resolved.replay_end).filter(|end| resolved.stop != StopSide::Before && *end != resolved.lsn);
    let end = end.map(|end| format!(" up to {end}")).unwrap_or_default();
    let place = [at, Some(format!("LSN {}{end}, timeline {}", resolved.lsn, resolved.timeline))];
    for part in place.into_iter().flatten() {
        doc.row("", &part, theme.plain());
    }
    if !resolved.ambiguous.is_empty() {
        let others = counted(resolved.ambiguous.len() as u64, "other transaction");
        let text = format!("{others} ended at the very same time; give a transaction id to be exact");
        doc.row("", &text, theme.warning());
    }
    let kept = resolved.last_kept.as_ref().map(|p| words::place(p, state.zone));
    let lost = resolved.first_lost.as_ref().map(|p| words::place(p, state.zone));
    doc.row("Last kept", &kept.unwrap_or("no transaction after the backup".to_owned()), theme.good());
    for what in words::destroyed(resolved, resolved.last_kept) {
        doc.row("", &what, theme.warning());
    }
    doc.row("First lost", &lost.unwrap_or("nothing that is in the archive".to_owned()), theme.warning());
    for what in words::destroyed(resolved, resolved.first_lost) {
        doc.row("", &what, theme.plain());
    }
    if let Some(text) = all_lost(state, resolved) {
        doc.row("", &text, theme.plain());
    }
    let change = key_of(state, Act::Change);
    for place in resolved.before.iter().filter(|place| !place.chosen) {
        doc.row("Or else", &format!("{} ({change}, then w)", in_words(place)), theme.dim());
    }
    doc.row("Then", action(plan), theme.plain());
}

/// How many commits are lost in all: as the plan counted them, else as far as the archive was read.
fn all_lost(state: &State, resolved: &Resolved) -> Option<String> {
    let timeline = resolved.timeline;
    if let Some(lost) = resolved.commits_lost {
        return (lost > 0).then(|| format!("{} lost in all on timeline {timeline}", counted(lost, "commit")));
    }
    let after = if resolved.stop == StopSide::Before { resolved.lsn } else { resolved.lsn.plus(1) };
    let lost = state.points.commits_from(timeline, after);
    (lost.number > 0).then(|| format!("{} lost in all on timeline {timeline}, as far as read", lost.of("commit")))
}

fn action(plan: &Plan) -> &'static str {
    use crate::core::Action;
    match plan.resolved.action(&plan.target) {
        Action::Pause => "the server pauses there, readable, and waits for your decision",
        Action::Promote => "the server promotes itself there, without asking",
        Action::Shutdown => "the server shuts down there",
    }
}

/// Backup, directory, server.
fn means(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan, is_retarget: bool) {
    let backup = &plan.backup;
    doc.blank();
    let count = plan.resolved.backups.len();
    let by_hand = state.planning.as_ref().is_some_and(|planning| planning.wanted.backup.is_some());
    let other = key_of(state, Act::OtherBackup);
    let choice = match count {
        _ if is_retarget => String::new(),
        0 | 1 => String::new(),
        _ if by_hand => format!("  (chosen by hand, of {count}; {other}: another)"),
        _ => format!("  (the best of {count}; {other}: another)"),
    };
    let taken = words::moment(backup.finished_at.or(backup.started_at), state.zone);
    doc.row("Backup", &format!("{}, {}{choice}", backup.id, Bytes(backup.size_bytes)), theme.plain());
    doc.row("", &format!("taken {taken}"), theme.plain());
    for command in &plan.commands {
        doc.row("WAL by", &clean(&command.fetch.command), theme.plain());
    }
    doc.row("Timelines", &way::draw(&plan.resolved), theme.plain());
    doc.row("Into", &plan.directory.display().to_string(), theme.strong());
    if let Some(former) = plan.make_way.as_ref().filter(|_| !is_retarget) {
        doc.row("", &format!("what is there is renamed to {}", former.to.display()), theme.warning());
    }
    let server = &plan.server;
    let text = format!(
        "PostgreSQL {} on port {}, run by {}, sockets in {}, no TCP, no archiving",
        server.major,
        server.port,
        server.run_as,
        server.socket_directory.display()
    );
    doc.row("Server", &text, theme.plain());
}

fn findings(doc: &mut Doc, theme: Theme, plan: &Plan, heading: &str, wanted: &[Severity]) {
    let mut worst_first: Vec<&Finding> = plan.findings.iter().filter(|f| wanted.contains(&f.severity)).collect();
    if worst_first.is_empty() {
        return;
    }
    if !heading.is_empty() {
        doc.heading(heading);
    }
    worst_first.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in worst_first {
        let (sign, style) = match finding.severity {
            Severity::Error => (glyphs::BAD, theme.bad()),
            Severity::Warning => (glyphs::SUSPECT, theme.warning()),
            Severity::Note => (glyphs::NOTE, theme.label()),
        };
        doc.hanging(&format!("{sign} {:<8} ", finding.severity), style, &finding.message, theme.plain());
        if let Some(hint) = &finding.hint {
            // A note asks for nothing.
            let lead = if finding.severity == Severity::Note { "    or: " } else { "    to do: " };
            doc.hanging(lead, theme.label(), hint, theme.plain());
        }
    }
}

fn estimate(doc: &mut Doc, theme: Theme, plan: &Plan) {
    let estimate = &plan.estimate;
    let time = |seconds: Option<f64>| seconds.map_or("time unknown".to_owned(), |s| format!("about {}", Seconds(s)));
    doc.heading("How long");
    doc.row("All", &time(estimate.total_s), theme.strong());
    doc.row("Unpack", &format!("{}, {}", Bytes(estimate.unpack_bytes), time(estimate.unpack_s)), theme.plain());
    let segments = counted(estimate.wal_segments, "segment");
    let replay = format!("{} of WAL in {segments}, {}", Bytes(estimate.wal_bytes), time(estimate.replay_s));
    doc.row("Replay", &replay, theme.plain());
    if let Some(bytes) = estimate.free_after_bytes {
        doc.row("Left free", &Bytes(bytes).to_string(), theme.plain());
    }
    if !estimate.basis.is_empty() {
        doc.row("Rests on", &estimate.basis, theme.dim());
    }
}

fn steps(doc: &mut Doc, theme: Theme, plan: &Plan) {
    doc.heading("Steps, and the same by hand");
    for (number, step) in (1..).zip(&plan.steps) {
        doc.hanging(&format!("{number:>2} "), theme.key(), &step.title, theme.strong());
        for command in step.commands.iter().flat_map(|command| command.lines()) {
            doc.hanging("   $ ", theme.dim(), command, theme.plain());
        }
        if let Some(undo) = &step.undo {
            doc.hanging("   undone by: ", theme.dim(), undo, theme.dim());
        }
    }
}

fn settings(doc: &mut Doc, theme: Theme, plan: &Plan) {
    doc.heading("Settings, in postgresql.auto.conf");
    for (name, value) in &plan.settings {
        doc.hanging("   ", theme.plain(), &format!("{name} = '{}'", value.replace('\'', "''")), theme.plain());
    }
    doc.line(Line::from(Span::styled(format!("   and an empty {}", clean("recovery.signal")), theme.plain())));
}
