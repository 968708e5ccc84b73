//! What lies over a screen: menus, forms, confirmations, help, errors.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::points::as_many_names_as_fit;
use super::{palette, sql};
use crate::app::change::ValueForm;
use crate::app::dialog::{Choice, Confirm, DirectoryForm, FindForm, Menu, Reading, Stop, SuspectList, TargetForm};
use crate::app::field::Field;
use crate::app::keys::key_of;
use crate::app::{Act, ActionKind, Danger, Dialog, Hit, Screen, State, command, suspects};
use crate::core::Zone;
use crate::core::progress::{counted, grouped};
use crate::error::Error;
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;
use crate::tui::words;

/// Columns of a dialog, where there are as many.
const COLUMNS: u16 = 76;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, dialog: &Dialog, area: Rect) {
    match dialog {
        Dialog::Menu(menu) => draw_menu(canvas, menu, area),
        Dialog::Target(form) => draw_target(canvas, state, form, area),
        Dialog::Directory(form) => draw_directory(canvas, form, area),
        Dialog::Runbook(field) => draw_runbook(canvas, field, area),
        Dialog::BaseBackup(field) => draw_base_backup(canvas, field, area),
        Dialog::Scratch(form) => {
            let text = "A directory where the server's user may go. Each drill makes a new one below it, and removes that again.";
            draw_path(
                canvas,
                &form.field,
                area,
                "Make drills below which directory?",
                "Enter goes on, Esc leaves",
                text,
            );
        }
        Dialog::FindInLog(field) => {
            let text =
                "Capital and small letters are the same. What is listed is looked through, the last lines first.";
            draw_path(canvas, field, area, "Find in the server's log", "Enter finds, Esc leaves", text);
        }
        Dialog::Sql(form) => sql::draw(canvas, state.zone, form, area),
        Dialog::Value(form) => draw_value(canvas, form, area),
        Dialog::Confirm(confirm) => draw_confirm(canvas, confirm, area),
        Dialog::Find(form) => draw_find(canvas, state, form, area),
        Dialog::Suspects(list) => draw_suspects(canvas, state, *list, area),
        Dialog::Palette(form) => palette::draw(canvas, state, form, area),
        Dialog::Help => draw_help(canvas, state, area),
        Dialog::Error(error) => draw_error(canvas, error, area),
    }
}

/// Rows inside a dialog's frame at most.
pub(super) fn room(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(2))
}

/// What is inside a dialog's frame.
pub(super) fn inside(area: Rect) -> u16 {
    area.width.min(COLUMNS).saturating_sub(4)
}

/// Opens a frame in the middle of the screen that has room for so many lines.
pub(super) fn open(canvas: &mut Canvas<'_>, area: Rect, title: &str, keys: &str, lines: usize) -> Rect {
    open_wide(canvas, area, title, keys, lines, COLUMNS)
}

pub(super) fn open_wide(
    canvas: &mut Canvas<'_>,
    area: Rect,
    title: &str,
    keys: &str,
    lines: usize,
    columns: u16,
) -> Rect {
    let height = (lines as u16).saturating_add(2).min(area.height);
    let columns = area.width.min(columns);
    let x = area.x + (area.width - columns) / 2;
    let y = area.y + (area.height - height) / 2;
    let place = Rect { x, y, width: columns, height };
    // A column free on either side: frames do not touch those below. Where next to nothing is left of those, all of it.
    const SLIVER: u16 = 8;
    let around = if area.width - columns <= SLIVER {
        Rect { x: area.x, width: area.width, ..place }
    } else {
        Rect { x: x.saturating_sub(1), width: columns.saturating_add(2), ..place }
    };
    canvas.clear(around.intersection(area));
    // Nothing below a dialog can be clicked.
    canvas.drawn.hits.clear();
    let inner = canvas.frame(place, title, keys, true);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

fn put(canvas: &mut Canvas<'_>, area: Rect, lines: &[Line<'_>]) {
    for (row, line) in lines.iter().enumerate() {
        canvas.line(area, row, line);
    }
}

fn draw_menu(canvas: &mut Canvas<'_>, menu: &Menu, area: Rect) {
    let theme = canvas.theme;
    let columns = inside(area);
    let mut doc = Doc::new(columns, theme);
    for text in &menu.text {
        doc.paragraph(text, theme.plain());
    }
    doc.blank();
    let mut lines = doc.lines();
    let mut places = Vec::new();
    for (number, choice) in menu.choices.iter().enumerate() {
        let from = lines.len();
        lines.extend(choice_lines(theme, choice, number == menu.selected, columns));
        places.push((from, lines.len() - from));
    }
    let inner = open(canvas, area, &menu.title, "Enter takes, Esc leaves", lines.len());
    // The selected one stays in view where not all of them fit.
    let height = usize::from(inner.height);
    let (from, count) = places.get(menu.selected).copied().unwrap_or_default();
    let skip = (from + count).saturating_sub(height);
    put(canvas, inner, lines.get(skip..).unwrap_or_default());
    for (number, (from, count)) in places.into_iter().enumerate() {
        let Some(row) = from.checked_sub(skip).filter(|row| *row < height) else { continue };
        let place = Rect { y: inner.y + row as u16, height: count as u16, ..inner }.intersection(inner);
        if number == menu.selected {
            canvas.style(Rect { height: 1, ..place }, theme.selected());
        }
        canvas.hit(place, Hit::Choice(number));
    }
}

fn choice_lines(theme: Theme, choice: &Choice, selected: bool, columns: u16) -> Vec<Line<'static>> {
    let cursor = if selected { glyphs::CURSOR } else { " " };
    let key = choice.key.unwrap_or(' ');
    let mut doc = Doc::new(columns, theme);
    doc.hanging(&format!("{cursor} {key}  "), theme.key(), &choice.label, theme.strong());
    if !choice.meaning.is_empty() {
        doc.hanging("       ", theme.plain(), &choice.meaning, theme.plain());
    }
    doc.lines()
}

/// A field with its cursor, scrolled so that the cursor is in it.
pub(super) fn draw_field(canvas: &mut Canvas<'_>, field: &Field, area: Rect, row: usize) {
    let lead = "> ";
    let room = usize::from(area.width).saturating_sub(lead.len() + 1);
    let before: String = field.text().chars().take(field.cursor()).collect();
    let after: String = field.text().chars().skip(field.cursor()).collect();
    let (before, after) = (clean(&before).into_owned(), clean(&after).into_owned());
    let mut skipped = before.as_str();
    while width(skipped) > room {
        let mut characters = skipped.chars();
        characters.next();
        skipped = characters.as_str();
    }
    let line = Line::from(vec![
        Span::styled(lead, canvas.theme.key()),
        Span::styled(format!("{skipped}{after}"), canvas.theme.strong()),
    ]);
    canvas.line(area, row, &line);
    if row < usize::from(area.height) {
        let x = area.x + (lead.len() + width(skipped)) as u16;
        canvas.cursor(x, area.y + row as u16);
    }
}

fn draw_target(canvas: &mut Canvas<'_>, state: &State, form: &TargetForm, area: Rect) {
    let zone = state.zone;
    let theme = canvas.theme;
    let columns = inside(area);
    let mut above = Doc::new(columns, theme);
    above.paragraph(form.kind.examples(), theme.dim());
    let mut below = Doc::new(columns, theme);
    match &form.reading {
        Reading::Empty => below.paragraph("type it; what it means is shown here", theme.dim()),
        Reading::Bad(why) => below.hanging(&format!("{} ", glyphs::BAD), theme.bad(), why, theme.bad()),
        Reading::Good(_, words) => understood(&mut below, words, glyphs::GOOD, theme.good()),
        Reading::Doubtful(_, words) => understood(&mut below, words, glyphs::DOUBT, theme.warning()),
    }
    if !form.names.is_empty() {
        below.row("up and down", &form.names.join("  "), theme.name());
    }
    below.line(Line::default());
    if form.kind.has_sides() {
        let side = form.kind.side(form.inclusive);
        below.row("Stop", &format!("{side}   (up, down)"), theme.plain());
    }
    let other = if form.timelines.len() > 1 { "   (Tab changes)" } else { "" };
    below.row("Timeline", &format!("{}{other}", form.timeline()), theme.plain());
    write_stop(&mut below, theme, zone, &form.stop);
    let offered = form.offered(zone);
    if !offered.is_empty() {
        below.row("did you mean", &offered.join(" or "), theme.name());
    }
    let (mut above, below) = (above.lines(), below.lines());
    // In a low terminal the examples give way: what was typed and what it means stay.
    above.truncate(room(area).saturating_sub(1 + below.len()));
    let lines = above.len() + 1 + below.len();
    let keys = if state.screen() == Screen::Drills { "Enter drills, Esc leaves" } else { "Enter plans, Esc leaves" };
    let inner = open(canvas, area, form.kind.title(), keys, lines);
    put(canvas, inner, &above);
    draw_field(canvas, &form.field, inner, above.len());
    let rest = above.len() as u16 + 1;
    let lower = Rect { y: inner.y + rest, height: inner.height.saturating_sub(rest), ..inner };
    put(canvas, lower, &below);
}

/// Where recovery would stop for what was typed, with what that keeps and loses.
fn write_stop(doc: &mut Doc, theme: Theme, zone: Zone, stop: &Stop) {
    match stop {
        Stop::Unasked => {}
        Stop::Asked => doc.row("Will stop", "finding out …", theme.dim()),
        Stop::Nowhere(error) => {
            let report = error.report();
            doc.row("Will stop", &format!("{} {}", glyphs::BAD, report.message), theme.bad());
            if let Some(hint) = &report.hint {
                doc.row("to do", hint, theme.plain());
            }
        }
        Stop::At(resolved) => {
            doc.row("Will stop", &words::predicted(resolved), theme.strong());
            let kept = resolved.last_kept.as_ref().map(|place| words::place(place, zone));
            let lost = resolved.first_lost.as_ref().map(|place| words::place(place, zone));
            doc.row("Last kept", &kept.unwrap_or("no transaction after the backup".to_owned()), theme.good());
            for what in words::destroyed(resolved, resolved.last_kept) {
                doc.row("", &what, theme.warning());
            }
            if let Some(more) = words::also_kept(resolved, zone) {
                doc.row("", &more, theme.warning());
            }
            doc.row("First lost", &lost.unwrap_or("nothing that is in the archive".to_owned()), theme.warning());
            for what in words::destroyed(resolved, resolved.first_lost) {
                doc.row("", &what, theme.plain());
            }
        }
    }
}

/// What was understood, with a sign that says how well.
fn understood(doc: &mut Doc, words: &[String], sign: &str, style: Style) {
    for (number, text) in words.iter().enumerate() {
        let sign = if number == 0 { sign } else { " " };
        doc.hanging(&format!("{sign} "), style, text, Style::new());
    }
}

fn draw_directory(canvas: &mut Canvas<'_>, form: &DirectoryForm, area: Rect) {
    let theme = canvas.theme;
    let mut doc = Doc::new(inside(area), theme);
    match form.problem() {
        Some(problem) => doc.paragraph(problem, theme.warning()),
        None => doc.paragraph(
            "It must not exist yet, or be empty; the plan checks that, and the space. Ctrl-U empties the line.",
            theme.dim(),
        ),
    }
    let below = doc.lines();
    let inner = open(canvas, area, "Recover into which directory?", "Enter plans, Esc leaves", below.len() + 1);
    draw_field(canvas, &form.field, inner, 0);
    put(canvas, Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner }, &below);
}

fn draw_runbook(canvas: &mut Canvas<'_>, field: &Field, area: Rect) {
    let text = "A shell script that does all of the plan with PostgreSQL's own programs, and the same as Markdown beside it. \
                Writing it changes nothing else.";
    draw_path(canvas, field, area, "Write the runbook to which file?", "Enter writes, Esc leaves", text);
}

fn draw_base_backup(canvas: &mut Canvas<'_>, field: &Field, area: Rect) {
    let text = "A directory that is new or empty, where the server's user may write. The base backup is a compressed tar, \
                with the WAL that it needs.";
    draw_path(canvas, field, area, "Take the base backup into which directory?", "Enter begins, Esc leaves", text);
}

/// A path that is typed, and what becomes of it.
fn draw_path(canvas: &mut Canvas<'_>, field: &Field, area: Rect, title: &str, keys: &str, text: &str) {
    let theme = canvas.theme;
    let mut doc = Doc::new(inside(area), theme);
    doc.paragraph(text, theme.dim());
    let below = doc.lines();
    let inner = open(canvas, area, title, keys, below.len() + 1);
    draw_field(canvas, field, inner, 0);
    put(canvas, Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner }, &below);
}

fn draw_value(canvas: &mut Canvas<'_>, form: &ValueForm, area: Rect) {
    let theme = canvas.theme;
    let mut doc = Doc::new(inside(area), theme);
    doc.paragraph(form.kind.help(), theme.dim());
    if let Some(why) = form.wanted().err().filter(|_| !form.field.text().is_empty()) {
        doc.hanging(&format!("{} ", glyphs::DOUBT), theme.warning(), &why, theme.warning());
    }
    let below = doc.lines();
    let inner = open(canvas, area, form.kind.title(), "Enter plans, Esc leaves", below.len() + 1);
    draw_field(canvas, &form.field, inner, 0);
    put(canvas, Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner }, &below);
}

fn draw_confirm(canvas: &mut Canvas<'_>, confirm: &Confirm, area: Rect) {
    let theme = canvas.theme;
    let title = match confirm.what {
        ActionKind::Promote => "Promote: end recovery for good?",
        ActionKind::Discard => "Discard: remove what the recovery made?",
        ActionKind::Start => "Rename the data directory that is there?",
        _ => "Unpack again?",
    };
    let mut doc = Doc::new(inside(area), theme);
    for (number, text) in confirm.text.iter().enumerate() {
        doc.paragraph(text, if number == 0 { theme.warning() } else { theme.plain() });
    }
    let mut above = doc.lines();
    let mut ask = Doc::new(inside(area), theme);
    ask.line(Line::default());
    ask.hanging("To do it, type ", theme.plain(), &confirm.name, theme.strong());
    let ask = ask.lines();
    // In a low terminal the end of the explanation gives way, never what has to be typed and where.
    above.truncate(room(area).saturating_sub(ask.len() + 2));
    above.extend(ask);
    let inner = open(canvas, area, title, "Esc leaves it", above.len() + 2);
    put(canvas, inner, &above);
    draw_field(canvas, &confirm.field, inner, above.len());
    let (text, style) =
        if confirm.is_typed() { ("Enter does it.", theme.warning()) } else { ("Not typed yet.", theme.dim()) };
    canvas.line(inner, above.len() + 1, &Line::from(Span::styled(text, style)));
}

fn draw_find(canvas: &mut Canvas<'_>, state: &State, form: &FindForm, area: Rect) {
    let theme = canvas.theme;
    let mut above = Doc::new(inside(area), theme);
    above.paragraph("orders   before_deploy   drop   1234567   14:30   1/AB1233F8", theme.dim());
    let mut below = Doc::new(inside(area), theme);
    let found = &form.found;
    if found.text.is_empty() {
        below.paragraph("a restore point, a suspect's relation or kind, a transaction id, a time, an LSN", theme.dim());
    } else if found.matches.is_empty() && found.unlocated.is_some() {
        below.paragraph("Enter looks for this transaction in the whole archive", theme.plain());
    } else {
        let (sign, style) =
            if found.matches.is_empty() { (glyphs::DOUBT, theme.warning()) } else { (glyphs::GOOD, theme.good()) };
        below.hanging(&format!("{sign} "), style, &found.in_words(), theme.plain());
        if !found.matches.is_empty() {
            let (next, previous) = (key_of(state, Act::NextMatch), key_of(state, Act::PreviousMatch));
            let text = format!("Enter goes there; {next} and {previous} go to the next and the previous one.");
            below.paragraph(&text, theme.dim());
        }
    }
    let (mut above, below) = (above.lines(), below.lines());
    above.truncate(room(area).saturating_sub(1 + below.len()));
    let inner = open(canvas, area, "Find", "Enter goes there, Esc leaves", above.len() + 1 + below.len());
    put(canvas, inner, &above);
    draw_field(canvas, &form.field, inner, above.len());
    let rest = above.len() as u16 + 1;
    put(canvas, Rect { y: inner.y + rest, height: inner.height.saturating_sub(rest), ..inner }, &below);
}

/// Columns of the list of suspects, where there are as many.
const WIDE: u16 = 120;

fn draw_suspects(canvas: &mut Canvas<'_>, state: &State, list: SuspectList, area: Rect) {
    /// Rows of the details; more where the text takes more, as long as some suspects stay in view.
    const DETAILS: usize = 4;
    const IN_VIEW: usize = 3;
    let theme = canvas.theme;
    let all = &state.points.overview().suspects;
    let partial = if state.points.overview().complete { "" } else { " so far" };
    let title = format!("{}{partial}, the worst first", counted(all.len() as u64, "suspect"));
    let room = DETAILS.max(usize::from(area.height).saturating_sub(all.len().max(IN_VIEW) + 5));
    let doc = as_many_names_as_fit(room, |names| {
        let mut doc = Doc::new(area.width.min(WIDE).saturating_sub(4), theme);
        if let Some(suspect) = all.get(list.selected) {
            doc.line(Line::default());
            let (at, words) = (suspect.at.in_zone(state.zone), suspect.in_full(names));
            doc.paragraph(&format!("{at}, LSN {}, timeline {}: {words}", suspect.lsn, suspect.timeline), theme.plain());
            if let Some(note) = &suspect.note {
                doc.paragraph(note, theme.dim());
            }
        }
        doc
    });
    let text = doc.lines();
    // In a low terminal the details give way to the list.
    let wanted = if area.height > 15 { text.len().max(DETAILS) } else { 0 };
    let lines = all.len() + 2 + wanted.max(DETAILS);
    let inner = open_wide(canvas, area, &title, "Enter goes there, Esc leaves", lines, WIDE);
    let times = all.iter().map(|suspect| width(&suspect.at.to_the_second(state.zone))).max().unwrap_or(14);
    // Drops have no rows.
    let counts = if all.iter().any(|suspect| suspect.rows > 0) { 10 } else { 0 };
    let heading = if counts > 0 { "rows" } else { "" };
    let heading = format!("  {:<13} {:<times$} {:>10}{heading:>counts$}  {}", "kind", "committed", "xid", "of");
    canvas.line(inner, 0, &Line::from(Span::styled(heading, theme.label())));
    let details = wanted.min(usize::from(inner.height).saturating_sub(1 + IN_VIEW));
    let height = usize::from(inner.height).saturating_sub(1 + details);
    let first = list.selected.saturating_sub(height / 2).min(all.len().saturating_sub(height));
    for (row, (rank, suspect)) in all.iter().enumerate().skip(first).take(height).enumerate() {
        let here = rank == list.selected;
        let at = suspect.at.to_the_second(state.zone);
        let rows = if suspect.rows > 0 { grouped(suspect.rows) } else { String::new() };
        let (cursor, kind) = (if here { glyphs::CURSOR } else { " " }, suspect.kind.name().replace('-', " "));
        let lead = format!("{cursor} {kind:<13} {at:<times$} {:>10}{rows:>counts$}  ", suspect.xid);
        // The details have the database.
        let of = suspects::relations(suspect);
        let of = cut(&clean(&of), usize::from(inner.width).saturating_sub(width(&lead)));
        canvas.line(
            inner,
            row + 1,
            &Line::from(vec![Span::styled(lead, theme.plain()), Span::styled(of, theme.name())]),
        );
        let place = Rect { y: inner.y + row as u16 + 1, height: 1, ..inner };
        if here {
            canvas.style(place, theme.selected());
        }
        canvas.hit(place, Hit::Suspect(rank));
    }
    let below = Rect { y: inner.bottom().saturating_sub(details as u16), height: details as u16, ..inner };
    put(canvas, below, &text);
}

fn draw_help(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let mut doc = Doc::new(inside(area), theme);
    for command in command::now(state) {
        let keys: Vec<_> = state.keys.of(command).iter().map(ToString::to_string).collect();
        let typed = if command.danger == Danger::Typed { " Asks for the name." } else { "" };
        let (style, why) = match (command.enabled)(state) {
            Ok(()) => (theme.plain(), String::new()),
            Err(why) => (theme.dim(), format!(" Not now: {}.", why.trim_end_matches('.'))),
        };
        doc.row(&keys.join(" "), &format!("{}{typed}{why}", command.doc), style);
    }
    let lines = doc.lines();
    let inner = open(canvas, area, "Keys of this screen", "Esc leaves", lines.len());
    canvas.scrolled(inner, &lines, state.help_scroll);
}

fn draw_error(canvas: &mut Canvas<'_>, error: &Error, area: Rect) {
    let theme = canvas.theme;
    let report = error.report();
    let mut doc = Doc::new(inside(area), theme);
    doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), &report.message, theme.strong());
    for cause in &report.causes {
        doc.hanging("  because: ", theme.label(), cause, theme.plain());
    }
    if let Some(hint) = &report.hint {
        doc.line(Line::default());
        doc.hanging("  to do:   ", theme.label(), hint, theme.strong());
    }
    let lines = doc.lines();
    let inner = open(canvas, area, "It did not work", "Esc goes on", lines.len());
    put(canvas, inner, &lines);
}
