//! A check as Prometheus reads it (text-based exposition format, version 0.0.4), for the textfile collector of
//! `node_exporter`.

use std::fmt::Write;

use crate::cli::table::plain;
use crate::core::Timestamp;
use crate::plan::Severity;

use super::checked::Checked;

/// The metrics, one family after the other.
struct Page {
    source: String,
    text: String,
}

/// The kind of a metric.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

type Sample<'a> = (Vec<(&'a str, String)>, f64);

impl Page {
    /// Adds a family; one without samples is left out.
    fn add<'a>(&mut self, name: &str, kind: Kind, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let _ = writeln!(self.text, "# HELP walback_{name} {help}\n# TYPE walback_{name} {kind}");
        for (labels, value) in samples {
            let _ = write!(self.text, "walback_{name}{{source=\"{}\"", escaped(&self.source));
            for (label, text) in labels {
                let _ = write!(self.text, ",{label}=\"{}\"", escaped(&text));
            }
            let _ = writeln!(self.text, "}} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.add(name, Kind::Gauge, help, value.map(|value| (Vec::new(), value)));
    }
}

/// A label's value.
fn escaped(text: &str) -> String {
    // Other control characters have no escape there, and a terminal may be what shows them.
    let lines: Vec<String> = text.split('\n').map(plain).collect();
    lines.join("\n").replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: Timestamp) -> f64 {
    at.unix_micros() as f64 / 1e6
}

fn yes(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// The page.
pub(super) fn page(checked: &Checked) -> String {
    let mut page = Page { source: checked.source.clone(), text: String::new() };
    page.gauge("check_timestamp_seconds", "When the check ended.", Some(seconds(checked.at)));
    page.gauge("check_duration_seconds", "How long the check took.", Some(checked.took_s));
    let severities = [Severity::Error, Severity::Warning, Severity::Note];
    let findings = severities.map(|one| (vec![("severity", one.to_string())], checked.count(one) as f64));
    page.add("check_findings", Kind::Gauge, "Findings of the check, by severity.", findings);
    by_code(&mut page, checked);
    archive(&mut page, checked);
    backups(&mut page, checked);
    space(&mut page, checked);
    primary(&mut page, checked);
    let mut text = page.text;
    // What is printed ends its last line itself.
    text.truncate(text.trim_end().len());
    text
}

fn by_code(page: &mut Page, checked: &Checked) {
    let mut counts = std::collections::BTreeMap::<(&str, Severity), f64>::new();
    for found in &checked.findings {
        *counts.entry((found.finding.code.as_ref(), found.finding.severity)).or_default() += 1.0;
    }
    let samples = counts
        .into_iter()
        .map(|((code, severity), count)| (vec![("code", code.to_owned()), ("severity", severity.to_string())], count));
    page.add("check_findings_by_code", Kind::Gauge, "Findings of the check, by code.", samples);
}

fn archive(page: &mut Page, checked: &Checked) {
    let rows = &checked.timelines;
    let of = |value: fn(&super::checked::TimelineRow) -> Option<f64>| {
        let sample =
            move |row: &super::checked::TimelineRow| Some((vec![("timeline", row.id.to_string())], value(row)?));
        rows.iter().filter_map(sample).collect::<Vec<_>>()
    };
    let gauge = Kind::Gauge;
    page.add("segments", gauge, "Segments in the archive.", of(|row| Some(row.segments as f64)));
    page.add(
        "missing_segments",
        gauge,
        "Segments that are missing between others.",
        of(|row| Some(row.missing as f64)),
    );
    page.add("damaged_segments", gauge, "Segments that are damaged or foreign.", of(|row| Some(row.damaged as f64)));
    page.add(
        "last_commit_timestamp_seconds",
        gauge,
        "The last commit or rollback in the archive.",
        of(|row| row.last_commit_at.map(seconds)),
    );
    let oldest = checked.retention.first();
    page.gauge(
        "unneeded_segments",
        "Segments before those that the oldest usable base backup needs.",
        oldest.map(|oldest| oldest.segments as f64),
    );
    page.gauge("unneeded_bytes", "Bytes that these take.", oldest.map(|oldest| oldest.bytes as f64));
}

fn backups(page: &mut Page, checked: &Checked) {
    let rows = &checked.backups;
    let of = |value: fn(&super::checked::BackupRow) -> Option<f64>| {
        let sample = move |row: &super::checked::BackupRow| Some((vec![("backup", row.id.clone())], value(row)?));
        rows.iter().filter_map(sample).collect::<Vec<_>>()
    };
    let gauge = Kind::Gauge;
    page.gauge("backups", "Base backups.", Some(rows.len() as f64));
    page.add(
        "backup_usable",
        gauge,
        "Whether recovery from the base backup works, as far as was looked.",
        of(|row| Some(yes(row.usable))),
    );
    page.add("backup_size_bytes", gauge, "Bytes that the base backup takes.", of(|row| Some(row.size_bytes as f64)));
    page.add(
        "backup_timestamp_seconds",
        gauge,
        "When the base backup ended, or began where that is not known.",
        of(|row| row.finished_at.or(row.started_at).map(seconds)),
    );
    page.add(
        "backup_verified",
        gauge,
        "Whether all of the base backup was read, and nothing is wrong with it.",
        of(|row| row.verified.map(yes)),
    );
    page.gauge(
        "backup_age_seconds",
        "How old the newest usable base backup was when the check ended.",
        checked.backup_age_h.map(|hours| hours * 3600.0),
    );
}

fn space(page: &mut Page, checked: &Checked) {
    let rooms: Vec<(String, u64, u64)> = checked
        .space
        .iter()
        .filter_map(|space| {
            let (free, all) = space.bytes.as_ref().ok()?;
            Some((space.directories.first()?.display().to_string(), *free, *all))
        })
        .collect();
    let sample = |directory: &String, bytes: u64| (vec![("directory", directory.clone())], bytes as f64);
    let free = rooms.iter().map(|(directory, free, _)| sample(directory, *free));
    page.add("free_bytes", Kind::Gauge, "Bytes that are free where a directory of the source is.", free);
    let all = rooms.iter().map(|(directory, _, all)| sample(directory, *all));
    page.add("size_bytes", Kind::Gauge, "Bytes of that file system.", all);
}

fn primary(page: &mut Page, checked: &Checked) {
    let Some(answer) = &checked.primary else { return };
    page.gauge("primary_up", "Whether the primary answered.", Some(yes(answer.is_ok())));
    let Ok(primary) = answer else { return };
    page.gauge(
        "archive_lag_segments",
        "Segments that wait on the primary to be archived.",
        primary.lag_segments.map(|n| n as f64),
    );
    page.gauge("archive_lag_seconds", "For how long the oldest of them has waited.", primary.lag_seconds);
    page.gauge(
        "archive_behind_segments",
        "Segments that the primary has archived and that are not here.",
        primary.behind_segments.map(|n| n as f64),
    );
    page.gauge("archiver_failing", "Whether the last attempt to archive failed.", Some(yes(primary.failing)));
    let counter = |value: u64| [(Vec::new(), value as f64)];
    page.add(
        "archiver_archived_total",
        Kind::Counter,
        "Files that the primary has archived.",
        counter(primary.archived_count),
    );
    page.add("archiver_failed_total", Kind::Counter, "Attempts to archive that failed.", counter(primary.failed_count));
    page.gauge("wal_bytes_per_hour", "WAL that the primary writes, on average.", primary.wal_bytes_per_hour);
    page.gauge("archive_space_days", "Days for which the room for the archive lasts, on average.", primary.space_days);
    let slots = &primary.details.slots;
    let named = |name: &String, value: f64| (vec![("slot", name.clone())], value);
    page.add(
        "slot_active",
        Kind::Gauge,
        "Whether somebody uses the replication slot.",
        slots.iter().map(|slot| named(&slot.name, yes(slot.active))),
    );
    page.add(
        "slot_held_bytes",
        Kind::Gauge,
        "WAL that the replication slot keeps on the primary.",
        slots.iter().filter_map(|slot| Some(named(&slot.name, slot.held_bytes? as f64))),
    );
}
