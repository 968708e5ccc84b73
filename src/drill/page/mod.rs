//! A report as documents: Markdown, and one page of HTML that needs nothing else. Pure.

mod charts;
mod sections;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Write as _;

use crate::core::Zone;
use crate::event::{DrillReport, DrillResult};
use sections::{Section, sections};

/// The report as Markdown.
#[must_use]
pub fn markdown(report: &DrillReport, former: &[DrillReport], zone: Zone) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_markdown(&mut text, report, former, zone);
    text
}

fn write_markdown(out: &mut String, report: &DrillReport, former: &[DrillReport], zone: Zone) -> std::fmt::Result {
    writeln!(out, "# Restore drill of {}: {}\n", in_markdown(&report.source.name), report.result)?;
    writeln!(out, "{}\n", in_markdown(&sections::when_and_which(report, zone)))?;
    writeln!(out, "{}", in_markdown(&sections::in_short(report)))?;
    for section in sections(report, former, zone) {
        writeln!(out, "\n## {}\n", section.title)?;
        if let Some(heads) = section.heads {
            writeln!(out, "| {} |", heads.join(" | "))?;
            writeln!(out, "|{}", " --- |".repeat(heads.len()))?;
            for row in &section.rows {
                let cells: Vec<String> = row.iter().map(|cell| in_markdown(cell)).collect();
                writeln!(out, "| {} |", cells.join(" | "))?;
            }
            continue;
        }
        for row in &section.rows {
            let cells: Vec<String> = row.iter().map(|cell| in_markdown(cell)).collect();
            match cells.as_slice() {
                [name, value, ..] => writeln!(out, "- {name}: {value}")?,
                _ => writeln!(out, "- {}", cells.concat())?,
            }
        }
    }
    Ok(())
}

/// Text from outside as it is shown, and not as what it could mean. It never stands where a line begins: `>` means nothing.
fn in_markdown(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '\n' => plain.push_str("<br>"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' => plain.extend(['\\', c]),
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            c => plain.push(c),
        }
    }
    plain
}

/// Text from outside for HTML.
pub(super) fn in_html(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '\n' => plain.push_str("<br>"),
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '"' => plain.push_str("&quot;"),
            '\'' => plain.push_str("&#39;"),
            c => plain.push(c),
        }
    }
    plain
}

/// With what cannot be seen, or would turn the direction of writing, made visible; lines stay lines.
fn visible(text: &str) -> String {
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The report as one page: nothing in it is fetched from anywhere, and nothing in it runs.
#[must_use]
pub fn html(report: &DrillReport, former: &[DrillReport], zone: Zone) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_html(&mut text, report, former, zone);
    text
}

fn write_html(out: &mut String, report: &DrillReport, former: &[DrillReport], zone: Zone) -> std::fmt::Result {
    let name = in_html(&report.source.name);
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta name=\"generator\" content=\"Walback {}\">", in_html(&report.by.walback))?;
    writeln!(
        out,
        "<title>Restore drill of {name}: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        report.result
    )?;
    let class = match report.result {
        DrillResult::Passed => "good",
        DrillResult::Failed | DrillResult::Interrupted => "bad",
    };
    writeln!(out, "<h1>Restore drill of {name} <span class=\"{class}\">{}</span></h1>", report.result)?;
    writeln!(out, "<p class=\"when\">{}</p>", in_html(&sections::when_and_which(report, zone)))?;
    writeln!(out, "<p>{}</p>", in_html(&sections::in_short(report)))?;
    let (why, rest): (Vec<_>, Vec<_>) =
        sections(report, former, zone).into_iter().partition(|section| section.title == sections::WHY);
    for section in why {
        write_section(out, &section)?;
    }
    out.push_str(&charts::figures(report));
    out.push_str(&charts::phases(report));
    out.push_str(&charts::trends(report, former, zone));
    for section in rest {
        write_section(out, &section)?;
    }
    writeln!(out, "</body>\n</html>")
}

fn write_section(out: &mut String, section: &Section) -> std::fmt::Result {
    let class = if section.heads.is_none() { " class=\"facts\"" } else { "" };
    writeln!(out, "<h2>{}</h2>\n<table{class}>", section.title)?;
    if let Some(heads) = section.heads {
        let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
        writeln!(out, "<tr>{heads}</tr>")?;
    }
    for row in &section.rows {
        let cells: String = row.iter().map(|cell| cell_in_html(cell)).collect();
        writeln!(out, "<tr>{cells}</tr>")?;
    }
    writeln!(out, "</table>")
}

/// What is bad is seen without colour, too: it is in capitals.
fn cell_in_html(cell: &str) -> String {
    let class = match cell {
        sections::PASSED => " class=\"good\"",
        sections::FAILED => " class=\"bad\"",
        _ => "",
    };
    format!("<td{class}>{}</td>", in_html(cell))
}

const STYLE: &str = "
:root { color-scheme: light dark; --good: #0b63c5; --bad: #b34700; --line: #8884; --bar: #0b63c5; --soft: #8883; }
@media (prefers-color-scheme: dark) { :root { --good: #6db1ff; --bad: #ff9d4d; --bar: #6db1ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } .when { margin-top: .25rem; opacity: .75; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
th, td.good, td.bad { white-space: nowrap; }
.facts td:first-child:not(:last-child) { width: 15rem; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.figures div { flex: 1 1 9rem; border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .75rem; }
.figures b { display: block; font-size: 1.35rem; } .figures small { opacity: .75; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; margin-bottom: .5rem; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.bar { fill: var(--bar); } .over { fill: var(--bad); } .none { fill: var(--soft); }
.axis { stroke: var(--line); } .cross { fill: var(--bad); font-weight: 700; } .limit { stroke: var(--bad); stroke-dasharray: 5 4; }
@media (max-width: 44rem) { figure, table { display: block; overflow-x: auto; } svg { min-width: 38rem; } }
@media print { body { margin: 0; max-width: none; } }
";
