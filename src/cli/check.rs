//! `walback check`

use std::io::IsTerminal;

use serde::Serialize;

use crate::catalog::{Catalog, Overview};
use crate::core::Zone;
use crate::core::progress::{Bytes, counted};
use crate::core::time::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Severity;
use crate::plan::audit::{ArchiveFinding, Audit, worst};
use crate::source::inspect::inspect;
use crate::source::{LocalSource, Source};

use super::table::plain;
use super::{Context, archive, print};

/// Looks for what is missing or damaged in the archive and the backups, and says what that means.
///
/// # Errors
/// When the source cannot be read, or when it was interrupted.
pub fn run(context: &Context, quick: bool) -> Result<u8> {
    let source: LocalSource = context.source()?;
    let catalog = archive::list(context, &source)?;
    let (catalog, overview) = match quick {
        true => (catalog, None),
        false => archive::read_all(context, &source, catalog).map(|(catalog, overview)| (catalog, Some(overview)))?,
    };
    let inspection = inspect(source.archives(), &catalog, &context.cancel)?;
    let zone = context.config.zone;
    let audit = Audit { catalog: &catalog, inspection: &inspection, overview: overview.as_ref(), zone };
    let findings = audit.findings();
    let looked_at = LookedAt::of(&catalog, overview.as_ref());
    if context.json {
        let report = Report { findings: &findings, archive: &looked_at };
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Error::failed("no-json", "the result cannot be written as JSON").caused_by(&error))?;
        print(&text)?;
    } else {
        let colour = context.config.colour.on(std::io::stdout().is_terminal());
        print(&describe(&findings, &looked_at, zone, colour))?;
    }
    Ok(if worst(&findings) == Some(Severity::Error) { ErrorKind::Problems.exit_status() } else { 0 })
}

#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [ArchiveFinding],
    archive: &'a LookedAt,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LookedAt {
    segments: u64,
    bytes: u64,
    timelines: u64,
    backups: u64,
    /// Null where segments were not read.
    commits: Option<u64>,
    first_commit_at: Option<Timestamp>,
    last_commit_at: Option<Timestamp>,
}

impl LookedAt {
    fn of(catalog: &Catalog, overview: Option<&Overview>) -> LookedAt {
        let segments = overview.map(|overview| overview.segments.as_slice()).unwrap_or_default();
        LookedAt {
            segments: catalog.segments.len() as u64,
            bytes: catalog.segments.len() as u64 * catalog.segment_size.bytes(),
            timelines: catalog.timelines.len() as u64,
            backups: catalog.backups.len() as u64,
            commits: overview.map(|_| segments.iter().map(|segment| u64::from(segment.commits)).sum()),
            first_commit_at: segments.iter().filter_map(|segment| segment.earliest).min(),
            last_commit_at: segments.iter().filter_map(|segment| segment.latest).max(),
        }
    }

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

/// The findings, grouped, the worst first; where there is no error or warning, that.
fn describe(findings: &[ArchiveFinding], looked_at: &LookedAt, zone: Zone, colour: bool) -> String {
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
    let looked_at = looked_at.in_words(zone);
    text.push_str(&match worst(findings) {
        Some(Severity::Error | Severity::Warning) => format!("Looked at {looked_at}."),
        _ => format!("Nothing is missing or damaged: {looked_at}. What is inside base backups was not compared."),
    });
    text
}
