//! A check as a plugin of Nagios, Icinga and their kin says it: one line with figures, and their own exit status
//! (Monitoring Plugins Development Guidelines).

use crate::core::Limits;
use crate::core::progress::counted;
use crate::error::Error;
use crate::plan::Severity;

use super::checked::Checked;
use crate::cli::table::plain;

/// The longest message: some read no more than 4 KB of a line, and the figures have to fit too.
const LONGEST: usize = 1000;
/// What Nagios takes for “nobody knows”.
pub const UNKNOWN: u8 = 3;

/// The line, and the exit status.
pub(super) fn line(checked: &Checked) -> (String, u8) {
    let (word, status) = match checked.worst() {
        Some(Severity::Error) => ("CRITICAL", 2),
        Some(Severity::Warning) => ("WARNING", 1),
        Some(Severity::Note) | None => ("OK", 0),
    };
    let said = match checked.findings.first().filter(|found| found.finding.severity > Severity::Note) {
        Some(worst) => {
            let (errors, warnings) = (checked.count(Severity::Error), checked.count(Severity::Warning));
            let others: Vec<String> = [(errors, "error"), (warnings, "warning")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, word)| counted(count, word))
                .collect();
            format!("{}: {}: {}", others.join(", "), worst.finding.code, worst.finding.message)
        }
        None => format!(
            "{} of {}, {}",
            counted(checked.archive.segments, "segment"),
            counted(checked.archive.timelines, "timeline"),
            counted(checked.archive.backups, "base backup")
        ),
    };
    (format!("WALBACK {word} - {} | {}", text(&said), figures(checked).join(" ")), status)
}

/// What is said where the check itself failed.
#[must_use]
pub fn failed(error: &Error) -> String {
    format!("WALBACK UNKNOWN - {}", text(&error.in_words()))
}

/// One line without the sign that ends it.
fn text(said: &str) -> String {
    let said = plain(said).replace('|', "/");
    match said.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", said.get(..end).unwrap_or_default()),
        None => said,
    }
}

fn figures(checked: &Checked) -> Vec<String> {
    let limits = &checked.thresholds;
    let mut found = vec![
        format!("errors={};;0", checked.count(Severity::Error)),
        format!("warnings={};0", checked.count(Severity::Warning)),
        format!("segments={}", checked.archive.segments),
        format!("missing={};;0", checked.timelines.iter().map(|timeline| timeline.missing).sum::<u64>()),
        format!("damaged={};;0", checked.timelines.iter().map(|timeline| timeline.damaged).sum::<u64>()),
        format!("backups={}", checked.backups.iter().filter(|backup| backup.usable).count()),
    ];
    if let Some(hours) = checked.backup_age_h {
        let limits = limits.backup_age_hours.map(|limits| rising(limits, 3600.0)).unwrap_or_default();
        found.push(format!("backup_age={:.0}s{limits}", hours * 3600.0));
    }
    for space in &checked.space {
        let (Some(percent), Some(directory)) = (space.percent(), space.directories.first()) else { continue };
        let Limits { warning, critical } = limits.free_space_percent;
        found.push(format!(
            "{}={percent}%;{warning}:;{critical}:;0;100",
            label(&format!("free {}", directory.display()))
        ));
    }
    if let Some(Ok(primary)) = &checked.primary {
        let lag = primary.lag_segments;
        found.extend(lag.map(|lag| format!("archive_lag={lag}{}", rising(limits.archive_lag_segments, 1.0))));
        let age = primary.lag_seconds;
        found.extend(age.map(|age| format!("archive_lag_time={age:.0}s{}", rising(limits.archive_lag_minutes, 60.0))));
        let behind = primary.behind_segments;
        found.extend(behind.map(|n| format!("archive_behind={n}{}", rising(limits.archive_lag_segments, 1.0))));
        found.push(format!("archive_failures={}c", primary.failed_count));
    }
    found
}

/// `;10;50`: Nagios warns above a value, and we warn from it on.
fn rising(limits: Limits, unit: f64) -> String {
    let above = |limit: f64| (limit * unit).ceil() - 1.0;
    format!(";{};{};0", above(limits.warning).max(0.0), above(limits.critical).max(0.0))
}

/// The name of a figure: in quotes, without the signs that would end it.
fn label(name: &str) -> String {
    let name: String = plain(name).chars().map(|c| if matches!(c, '=' | '\'' | '|') { '_' } else { c }).collect();
    format!("'{name}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_the_line_or_a_name_is_taken_out() {
        assert_eq!(text("a|b\nc\x1b[1m"), text("a/b\nc\x1b[1m"));
        assert!(!text("a|b\nc").contains(['|', '\n']));
        assert_eq!(label("free /a=b'c|d e"), "'free /a_b_c_d e'");
        assert_eq!(text(&"ü".repeat(2000)).chars().count(), LONGEST + 2);
    }

    #[test]
    fn limits_are_said_as_nagios_reads_them() {
        // It warns above the number, Walback from the number on.
        assert_eq!(rising(Limits { warning: 10.0, critical: 50.0 }, 1.0), ";9;49;0");
        assert_eq!(rising(Limits { warning: 0.0, critical: 0.5 }, 60.0), ";0;29;0");
    }
}
