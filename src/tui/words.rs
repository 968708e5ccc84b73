//! Where recovery stops, in words.

use super::glyphs;
use super::text::clean;
use crate::core::{Lsn, Timestamp, Zone};
use crate::pgdata::server_log::{LogLine, Severity, StopKind, Stopped};
use crate::plan::suspects_kept::{destroyed_by, kept};
use crate::resolve::{Place, Resolved, StopSide};

/// Where recovery will stop: `before the commit of transaction 735`.
#[must_use]
pub(crate) fn predicted(resolved: &Resolved) -> String {
    let side = match resolved.stop {
        StopSide::EndOfWal => return "at the end of the WAL that there is".to_owned(),
        StopSide::Consistency => return "as soon as the data is consistent".to_owned(),
        StopSide::Before => "before",
        StopSide::After => "after",
    };
    if let Some((what, xid)) = resolved.before_it_began() {
        return format!("{side} {}", what.of(xid));
    }
    if let Some(name) = &resolved.name {
        return format!("at restore point “{}”", clean(name));
    }
    let is_commit = [resolved.last_kept, resolved.first_lost].iter().flatten().any(|p| p.lsn == resolved.lsn);
    match resolved.xid {
        Some(xid) if is_commit => format!("{side} the commit of transaction {xid}"),
        Some(xid) => format!("{side} the end of transaction {xid}"),
        None => format!("{side} the record at {}", resolved.lsn),
    }
}

/// Where recovery stopped, as PostgreSQL reported it.
#[must_use]
pub(crate) fn happened(stopped: &Stopped) -> String {
    let side = if stopped.before { "before" } else { "after" };
    let xid = stopped.xid.map_or("a transaction".to_owned(), |xid| format!("transaction {xid}"));
    match stopped.kind {
        StopKind::Commit => format!("{side} the commit of {xid}"),
        StopKind::Abort => format!("{side} the rollback of {xid}"),
        StopKind::Lsn => format!("{side} the record at {}", stopped.lsn.map_or("?".to_owned(), |l| l.to_string())),
        StopKind::RestorePoint => {
            format!("at restore point “{}”", clean(stopped.name.as_deref().unwrap_or("?")))
        }
        StopKind::Consistency => "as soon as the data is consistent".to_owned(),
    }
}

/// Whether the server only said that it could not let Walback in yet, which asks it several times a second (`FATAL` in
/// `ProcessStartupPacket`, src/backend/tcop/backend_startup.c, PostgreSQL 18).
#[must_use]
pub(crate) fn is_not_yet(line: &str) -> bool {
    ["the database system is starting up", "the database system is not yet accepting connections"]
        .iter()
        .any(|words| line.contains(words))
}

/// The same two in a few words, to stand beside each other: `before commit of 735`.
pub(crate) fn in_short(words: &str) -> String {
    let parts = ["commit", "rollback", "first lock", "database drop"];
    parts.iter().fold(words.to_owned(), |words, part| {
        words.replace(&format!("the {part} of transaction"), &format!("{part} of"))
    })
}

/// A transaction's end: `xid 735, 2024-10-02 14:30:05.123456 +02:00, 0/3000148`.
#[must_use]
pub(crate) fn place(place: &Place, zone: Zone) -> String {
    let xid = place.xid.map(|xid| format!("xid {xid}"));
    let at = place.at.map(|at| at.in_zone(zone));
    let parts = [xid, at, Some(place.lsn.to_string())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What the transaction that ends there destroyed: `deletes 4,000 rows of public.invoices in database shop`.
pub(crate) fn destroyed(resolved: &Resolved, place: Option<Place>) -> impl Iterator<Item = String> {
    const RELATIONS: usize = 2;
    destroyed_by(resolved, place).map(|suspect| format!("{} {}", glyphs::SUSPECT, suspect.in_full(RELATIONS)))
}

/// The worst that is kept besides the last transaction: `⚠ 827 deletes 4,000 rows of public.invoices, … is kept`.
pub(crate) fn also_kept(resolved: &Resolved, zone: Zone) -> Option<String> {
    let last: Vec<_> = destroyed_by(resolved, resolved.last_kept).collect();
    let others: Vec<_> = kept(resolved).into_iter().filter(|suspect| !last.contains(suspect)).collect();
    let (worst, more) = others.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!("; and {} more", more.len()) };
    Some(format!("{} kept too: {}{more}", glyphs::SUSPECT, worst.with_time(1, zone)))
}

/// A moment in the operator's zone, with its offset; `unknown` where there is none.
#[must_use]
pub(crate) fn moment(at: Option<Timestamp>, zone: Zone) -> String {
    at.map_or("unknown".to_owned(), |at| at.in_zone(zone))
}

/// A position; `unknown` where there is none.
#[must_use]
pub(crate) fn position(lsn: Option<Lsn>) -> String {
    lsn.map_or("unknown".to_owned(), |lsn| lsn.to_string())
}

/// A line of the server's log without what is the same in all of them: `14:30:05 FATAL: text`, in the operator's zone.
#[must_use]
pub(crate) fn log_line(line: &str, zone: Zone) -> String {
    let parsed = LogLine::parse(line);
    let (Some(at), Some(severity)) = (parsed.at, parsed.severity) else { return line.to_owned() };
    let time = at.clock(zone);
    match severity {
        Severity::Log => format!("{time} {}", parsed.text),
        other => format!("{time} {}: {}", other.word(), parsed.text),
    }
}

/// `10-02 14:30:05.123456` in the operator's zone, for rows of a list.
#[must_use]
pub(crate) fn row_time(at: Timestamp, zone: Zone) -> String {
    at.in_row(zone, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_have_room_for_what_they_say() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let short = |line| log_line(line, berlin);
        let line = "2026-11-20 21:21:00.373 UTC [24656] startup 00000: LOG:  redo starts at 0/2000028";
        assert_eq!(short(line), "22:21:00 redo starts at 0/2000028");
        let line = "2026-07-20 21:21:00.373 UTC [24656] startup 58P01: FATAL:  could not open file: no";
        assert_eq!(short(line), "23:21:00 FATAL: could not open file: no");
        assert_eq!(short("cp: cannot stat 'x'"), "cp: cannot stat 'x'");
    }
}
