//! A check in words: the findings, then what was looked at.

use crate::core::Zone;
use crate::core::progress::{Bytes, counted, grouped};
use crate::engine::verify::By;
use crate::plan::Severity;

use super::checked::{Checked, LookedAt};
use crate::cli::table::plain;

/// The findings, grouped, the worst first; where there is no error or warning, that.
pub(super) fn describe(checked: &Checked, colour: bool) -> String {
    let mut text = findings(checked, colour);
    if let Some(Ok(primary)) = &checked.primary {
        text.push_str(&section("Primary", primary.said.iter().map(String::as_str)));
    }
    let rooms: Vec<String> = checked
        .space
        .iter()
        .map(|space| {
            let names: Vec<String> = space.directories.iter().map(|path| path.display().to_string()).collect();
            format!("{}: {}", space.in_words(), names.join(", "))
        })
        .collect();
    text.push_str(&section("Free space", rooms.iter().map(String::as_str)));
    let looked_at = checked.archive.in_words(checked.zone);
    text.push_str(&match checked.worst() {
        Some(Severity::Error | Severity::Warning) => format!("Looked at {looked_at}. {}", depth(checked)),
        _ => format!("Nothing is missing or damaged: {looked_at}. {}", depth(checked)),
    });
    text
}

fn findings(checked: &Checked, colour: bool) -> String {
    let findings = &checked.findings;
    let width = findings.iter().map(|found| found.finding.code.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (severity, title, painted) in [
        (Severity::Error, "Errors", "\x1b[1;31mErrors\x1b[0m"),
        (Severity::Warning, "Warnings", "\x1b[33mWarnings\x1b[0m"),
        (Severity::Note, "Notes", "Notes"),
    ] {
        let mut group = findings.iter().filter(|found| found.finding.severity == severity).peekable();
        if group.peek().is_none() {
            continue;
        }
        text.push_str(if colour { painted } else { title });
        text.push('\n');
        while let Some(found) = group.next() {
            let finding = &found.finding;
            text.push_str(&format!("  {:width$}  {}\n", finding.code, plain(&finding.message)));
            // What is to be done about several in a row is said once.
            let again = group.peek().is_some_and(|next| next.finding.hint == finding.hint);
            if let Some(hint) = finding.hint.as_ref().filter(|_| !again) {
                text.push_str(&format!("  {:width$}  hint: {}\n", "", plain(hint)));
            }
        }
        text.push('\n');
    }
    text
}

fn section<'a>(title: &str, lines: impl Iterator<Item = &'a str>) -> String {
    let lines: String = lines.map(|line| format!("  {}\n", plain(line))).collect();
    if lines.is_empty() { String::new() } else { format!("{title}\n{lines}\n") }
}

/// Whether base backups were read.
fn depth(checked: &Checked) -> String {
    let Some(verified) = &checked.verified else {
        return "What is inside base backups was not compared; --deep does.".to_owned();
    };
    let by = |by| verified.iter().filter(|one| one.by == by).count() as u64;
    let bytes = verified.iter().map(|one| one.bytes).sum();
    let unverified = match by(By::Reading) {
        0 => String::new(),
        some => format!(", {} without a manifest to hold it against", grouped(some)),
    };
    let all = counted(verified.len() as u64, "base backup");
    format!(
        "{all} {} read to the end ({}){unverified}.",
        if verified.len() == 1 { "was" } else { "were" },
        Bytes(bytes)
    )
}

impl LookedAt {
    /// `14 segments (14 MB) of 2 timelines, 863 commits from … to …, 1 base backup`
    fn in_words(&self, zone: Zone) -> String {
        let commits = match (self.commits, self.first_commit_at, self.last_commit_at) {
            (Some(commits), Some(first), Some(last)) => {
                format!(", {} from {} to {}", counted(commits, "commit"), first.in_zone(zone), last.in_zone(zone))
            }
            (Some(_), ..) => ", no commits".to_owned(),
            (None, ..) => ", by names, sizes and headers only".to_owned(),
        };
        format!(
            "{} ({}) of {}{commits}, {}",
            counted(self.segments, "segment"),
            Bytes(self.bytes),
            counted(self.timelines, "timeline"),
            counted(self.backups, "base backup")
        )
    }
}
