//! What destroyed data and is kept all the same: a target that is given as a time easily lies behind the accident. Pure.

use crate::catalog::suspect::sort_worst_first;
use crate::catalog::{Suspect, SuspectKind};
use crate::core::progress::counted;
use crate::core::{Target, Timestamp, Zone};
use crate::resolve::{Place, Resolved};

use super::Finding;

/// How long before the last kept transaction a suspect may have committed to be spoken of, in seconds.
pub const NEAR: f64 = 3600.0;
/// So many of a stop are kept in a plan, besides the transactions next to the stop.
const HELD: usize = 20;
/// So many are named in a finding.
const NAMED: usize = 3;
/// So many relations of one are named.
const RELATIONS: usize = 2;

/// Of what was found in WAL about a stop, what is told with it: what the first transaction that is lost destroyed, and
/// the transactions that did and are kept, where they are the last one or committed within an hour before it. The worst
/// first.
#[must_use]
pub fn around(resolved: &Resolved, found: Vec<Suspect>) -> Vec<Suspect> {
    let (mut next_to, mut near) = (Vec::new(), Vec::new());
    for suspect in found {
        let is_at = |place: &Option<Place>| place.is_some_and(|place| is_of(&suspect, &place));
        if is_at(&resolved.first_lost) || is_at(&resolved.last_kept) {
            next_to.push(suspect);
        } else if is_kept(&suspect, resolved) && suspect.kind != SuspectKind::Rewrite {
            near.push(suspect);
        }
    }
    sort_worst_first(&mut near);
    near.truncate(HELD);
    next_to.append(&mut near);
    sort_worst_first(&mut next_to);
    next_to
}

/// What the transaction that ends there destroyed, as far as the plan knows, the worst first.
pub fn destroyed_by(resolved: &Resolved, place: Option<Place>) -> impl Iterator<Item = &Suspect> {
    resolved.suspects.iter().filter(move |suspect| place.is_some_and(|place| is_of(suspect, &place)))
}

/// The suspects that a finding speaks of: the last transaction that is kept first, then the worst. New contents of a
/// relation, as `REFRESH MATERIALIZED VIEW` gives it, are no accident.
#[must_use]
pub fn kept(resolved: &Resolved) -> Vec<&Suspect> {
    let all = resolved.suspects.iter().filter(|suspect| suspect.kind != SuspectKind::Rewrite);
    let mut kept: Vec<&Suspect> = all.filter(|suspect| is_kept(suspect, resolved)).collect();
    kept.sort_by_key(|suspect| !is_last(suspect, resolved));
    kept
}

/// Whether the very last transaction that is kept is one of them.
#[must_use]
pub fn keeps_last(resolved: &Resolved) -> bool {
    kept(resolved).first().is_some_and(|suspect| is_last(suspect, resolved))
}

/// The target that stops before the first of them.
#[must_use]
pub fn instead(target: &Target, resolved: &Resolved) -> Option<Target> {
    let (before, _) = Target::from_options(&kept(resolved).first()?.stop_before)?;
    Some(Target { action: target.action, ..before })
}

/// What is to be said of them: a warning where the very last transaction that is kept is one.
#[must_use]
pub fn suspects_kept(resolved: &Resolved, zone: Zone) -> Option<Finding> {
    let kept = kept(resolved);
    let first = kept.first()?;
    let named = kept.iter().take(NAMED).map(|suspect| suspect.with_time(RELATIONS, zone));
    let named = named.collect::<Vec<_>>().join("; ");
    let more = match kept.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {}", counted(more as u64, "more suspect")),
    };
    let hints = kept.iter().take(NAMED).map(|suspect| before(suspect, resolved));
    let hint = hints.collect::<Vec<_>>().join("; ");
    let finding = if is_last(first, resolved) {
        let before = if kept.len() > 1 { ", and others shortly before it are kept too" } else { "" };
        Finding::warning(
            "suspect-kept",
            format!("the last transaction that is kept destroyed data{before}: {named}{more}"),
        )
    } else {
        let what = if kept.len() == 1 {
            "a transaction is kept that destroyed data"
        } else {
            "transactions are kept that destroyed data"
        };
        Finding::note("suspect-kept", format!("{what}, within the hour before the stop: {named}{more}"))
    };
    Some(finding.hint(hint))
}

/// `--xid 827 --exclusive --timeline 1 stops before 827`.
fn before(suspect: &Suspect, resolved: &Resolved) -> String {
    let options = suspect.stop_before.join(" ");
    let older = if suspect.lsn < resolved.consistent_at { ", from an older base backup" } else { "" };
    format!("{options} stops before {}{older}", suspect.xid)
}

fn is_of(suspect: &Suspect, place: &Place) -> bool {
    suspect.lsn == place.lsn && Some(suspect.xid) == place.xid
}

fn is_last(suspect: &Suspect, resolved: &Resolved) -> bool {
    resolved.last_kept.is_some_and(|last| is_of(suspect, &last))
}

/// Whether it committed up to the last transaction that is kept, and not long before.
fn is_kept(suspect: &Suspect, resolved: &Resolved) -> bool {
    let near = |last: Timestamp| last.seconds_since(suspect.at) <= NEAR;
    resolved.last_kept.is_some_and(|last| suspect.lsn <= last.lsn && last.at.is_none_or(near))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SuspectRelation;
    use crate::core::{Lsn, TargetKind, TimelineId, Xid};
    use crate::plan::Severity;
    use crate::resolve::StopSide;

    /// A transaction whose commit is at the LSN of its number, so many seconds after 1970.
    fn suspect(kind: SuspectKind, xid: u32, second: i64, rows: u64) -> Suspect {
        let relation = SuspectRelation {
            database: 5,
            database_name: Some("shop".to_owned()),
            relfilenode: Some(16_384),
            name: Some("public.orders".to_owned()),
            rows,
        };
        Suspect {
            kind,
            xid: Xid(xid),
            timeline: TimelineId(1),
            lsn: Lsn(u64::from(xid)),
            at: Timestamp::from_unix_seconds(second).unwrap(),
            relations: vec![relation],
            rows,
            stop_before: ["--xid", &xid.to_string(), "--exclusive", "--timeline", "1"].map(str::to_owned).to_vec(),
            locked_from: None,
            note: None,
        }
    }

    /// Behind the commit of 700, two hours after 1970.
    fn resolved(found: Vec<Suspect>) -> Resolved {
        let place = |xid, second| {
            Some(Place { lsn: Lsn(xid), xid: Some(Xid(xid as u32)), at: Timestamp::from_unix_seconds(second) })
        };
        let resolved = Resolved {
            consistent_at: Lsn(100),
            last_kept: place(700, 7200),
            first_lost: place(800, 7300),
            ..Resolved::new(TimelineId(1), StopSide::After, Lsn(700))
        };
        Resolved { suspects: around(&resolved, found), ..resolved }
    }

    fn said(found: Vec<Suspect>) -> Option<(Severity, String, String)> {
        let finding = suspects_kept(&resolved(found), Zone::UTC)?;
        Some((finding.severity, finding.message, finding.hint.unwrap_or_default()))
    }

    #[test]
    fn the_last_transaction_is_a_warning() {
        let (severity, message, hint) = said(vec![suspect(SuspectKind::Delete, 700, 7200, 4000)]).unwrap();
        assert_eq!(severity, Severity::Warning);
        let did = "700 deletes 4,000 rows of public.orders in database shop, 1970-01-01 02:00:00.000000 +00:00";
        assert!(message.ends_with(did), "{message}");
        assert_eq!(hint, "--xid 700 --exclusive --timeline 1 stops before 700");
    }

    #[test]
    fn one_within_the_hour_is_a_note() {
        let at = |second| said(vec![suspect(SuspectKind::Drop, 600, second, 0)]).map(|(severity, ..)| severity);
        assert_eq!((at(3600), at(7199)), (Some(Severity::Note), Some(Severity::Note)));
        assert_eq!(at(3599), None, "it was long before");
        assert_eq!(said(vec![suspect(SuspectKind::Delete, 800, 7300, 4000)]), None, "it is lost");
        assert_eq!(said(vec![suspect(SuspectKind::Rewrite, 700, 7200, 0)]), None, "new contents are no accident");
    }

    #[test]
    fn few_are_named_and_the_last_transaction_first() {
        let many = (500..510).map(|xid| suspect(SuspectKind::Drop, xid, 7000, 0));
        let last = suspect(SuspectKind::Update, 700, 7200, 1500);
        let (severity, message, hint) = said(many.clone().chain([last]).collect()).unwrap();
        assert_eq!(severity, Severity::Warning);
        let places = [": 700 updates", "; 509 drops", "; 508 drops", "; and 8 more suspects"];
        let places: Vec<_> = places.iter().map(|words| message.find(words)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{message}");
        assert_eq!(hint.matches("stops before").count(), NAMED);
        let held = resolved((200..700).map(|xid| suspect(SuspectKind::Drop, xid, 7000, 0)).collect()).suspects;
        assert_eq!(held.len(), HELD);
    }

    #[test]
    fn what_the_backup_has_already_takes_an_older_one() {
        let (_, _, hint) = said(vec![suspect(SuspectKind::Drop, 99, 7000, 0)]).unwrap();
        assert!(hint.ends_with("from an older base backup"), "{hint}");
    }

    #[test]
    fn the_way_out_has_the_action_that_was_asked_for() {
        use crate::core::Action;
        let target = Target { action: Action::Promote, ..Target::new(TargetKind::Latest) };
        let before = instead(&target, &resolved(vec![suspect(SuspectKind::Drop, 700, 7200, 0)])).unwrap();
        assert_eq!((before.kind, before.inclusive, before.action), (TargetKind::Xid(Xid(700)), false, Action::Promote));
        assert_eq!(instead(&target, &resolved(vec![suspect(SuspectKind::Drop, 800, 7300, 0)])), None);
    }
}
