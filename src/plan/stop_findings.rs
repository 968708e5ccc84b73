//! What is to be said about the place where recovery stops: where it is not what the words of the target suggest, and
//! what is not as it seems there. Pure.

use crate::core::progress::counted;
use crate::core::{Action, Lsn, Target, TargetKind, Zone};
use crate::resolve::{BeforeWhat, Locked, Place, Resolved, StopBefore};

use super::Finding;
use super::suspects_kept::suspects_kept;

/// So many of a kind are named one by one.
const NAMED: usize = 3;

/// Everything that is to be said about this stop.
#[must_use]
pub fn stop_findings(target: &Target, resolved: &Resolved, zone: Zone) -> Vec<Finding> {
    let stop = Stopped { target, resolved, zone };
    let mut findings = Vec::new();
    findings.extend(stop.subtransaction());
    findings.extend(stop.pause());
    findings.extend(stop.chosen());
    findings.extend(stop.databases());
    findings.extend(stop.locks());
    findings.extend(stop.names());
    findings.extend(stop.times());
    findings.extend(stop.losses());
    findings.extend(suspects_kept(resolved, zone));
    findings
}

struct Stopped<'a> {
    target: &'a Target,
    resolved: &'a Resolved,
    zone: Zone,
}

impl Stopped<'_> {
    fn subtransaction(&self) -> Option<Finding> {
        let TargetKind::Xid(asked) = self.target.kind else { return None };
        let top = match (&self.resolved.told.as_ref()?.kind, self.at_commit()) {
            (TargetKind::Xid(top), _) => *top,
            (_, Some(_)) => self.resolved.first_lost?.xid?,
            _ => self.resolved.xid?,
        };
        (top != asked).then(|| {
            Finding::warning(
                "subtransaction",
                format!("{asked} is a subtransaction of transaction {top}: PostgreSQL stops at the latter only, and would never stop at {asked}; it is told {top}"),
            )
            .hint(format!("--xid {top} says the same"))
        })
    }

    fn pause(&self) -> Option<Finding> {
        if self.resolved.is_readable || self.target.action != Action::Pause {
            return None;
        }
        let message = "the server cannot pause at this stop, and shuts down there instead: when the base backup began, a transaction ran with more subtransactions than WAL lists, so that nobody can connect yet, and PostgreSQL would promote instead of pausing";
        let otherwise =
            "or have it take writes at this stop with --action promote, or give another base backup with --backup";
        let hint = match self.resolved.readable_from {
            Some(lsn) => format!("a pause is possible from {lsn} on: --lsn {lsn}; {otherwise}"),
            None => format!(
                "nobody can connect anywhere up to the end of what was read; choose a later target, {otherwise}"
            ),
        };
        Some(Finding::warning("pause-impossible", message).hint(hint))
    }

    /// The place at the commit, among several.
    fn at_commit(&self) -> Option<&StopBefore> {
        self.choice(BeforeWhat::Commit)
    }

    fn choice(&self, what: BeforeWhat) -> Option<&StopBefore> {
        self.resolved.before.iter().find(|place| place.what == what)
    }

    /// That recovery stops before the commit, and why.
    fn chosen(&self) -> Option<Finding> {
        let (place, commit) = (self.resolved.before.iter().find(|place| place.chosen)?, self.at_commit()?);
        let (_, xid) = self.resolved.before_it_began()?;
        let message = |why: &str| {
            format!(
                "recovery stops at {}, before transaction {xid} {why}; its commit is at {}, and no other lies between",
                place.lsn, commit.lsn
            )
        };
        let finding = match place.what {
            BeforeWhat::Commit => return None,
            BeforeWhat::FirstLock => {
                Finding::note("stops-before-lock", message("locks anything, so that all of it can be read"))
            }
            BeforeWhat::DatabaseDrop => Finding::note(
                "stops-before-drop",
                message("marks its database as dropped: at its commit the files are gone"),
            ),
        };
        Some(finding.hint(format!("{} stops at the commit", commit.target.join(" "))))
    }

    /// Databases that are gone at the stop, though the transactions that drop them have not committed there.
    fn databases(&self) -> Vec<Finding> {
        let gone = self.resolved.dropping.iter().map(|dropping| {
            let finding = Finding::warning(
                "database-dropped-before",
                format!(
                    "the database that transaction {} drops is gone at this stop, though its commit is not replayed: DROP DATABASE removes files, and begins at {}",
                    dropping.xid, dropping.from
                ),
            );
            let place = self.choice(BeforeWhat::DatabaseDrop).filter(|place| place.lsn == dropping.from);
            finding.hint(self.instead(dropping.from, place, "saves the database"))
        });
        gone.collect()
    }

    /// How to stop at `lsn` instead, and what that costs.
    fn instead(&self, lsn: Lsn, place: Option<&StopBefore>, does: &str) -> String {
        if lsn < self.resolved.consistent_at {
            return format!("only an older base backup leads to before {lsn}, which {does}: give it with --backups");
        }
        let options = match place {
            Some(place) => place.target.join(" "),
            None => {
                let target = Target { kind: TargetKind::Lsn(lsn), inclusive: false, ..self.target.clone() };
                target.to_options().join(" ")
            }
        };
        let cost = match place.map(|place| place.commits_lost) {
            Some(0) => ", and loses no other commit",
            Some(commits) => &format!(", and loses {}", counted(commits, "more commit")),
            None => "",
        };
        format!("{options} {does}{cost}")
    }

    fn locks(&self) -> Option<Finding> {
        let locked = &self.resolved.locked;
        let first = locked.first()?;
        if self.resolved.action(self.target) != Action::Pause {
            return None;
        }
        let relations = counted(locked.iter().map(|locked| locked.relations).sum(), "relation");
        let by = |locked: &Locked| format!("transaction {} since {}", locked.xid, locked.from);
        let holders = named(locked, by);
        let is_prepared = locked.iter().any(|locked| locked.prepared);
        let (state, until) = if is_prepared {
            ("was prepared", "it is committed or rolled back after promotion")
        } else {
            ("ends behind the stop", "the server is promoted")
        };
        let message = format!(
            "{relations} cannot be read while recovery is paused here: locked by {holders}, which {state}; whoever reads waits until {until}"
        );
        let place = self.choice(BeforeWhat::FirstLock).filter(|place| place.lsn == first.from);
        let hint = self.instead(first.from, place, "leaves everything readable");
        Some(Finding::warning("relations-locked", message).hint(if is_prepared {
            hint
        } else {
            format!("{hint}; or promote")
        }))
    }

    fn names(&self) -> Option<Finding> {
        let again = &self.resolved.named_again;
        let TargetKind::Name(name) = &self.target.kind else { return None };
        let first = again.first()?;
        let place = |place: &Place| self.place(place);
        let message = format!(
            "there is more than one restore point “{}”, and PostgreSQL stops at the first: the others are at {}",
            name.as_str(),
            named(again, place)
        );
        let options = |place: &Place| {
            let target = Target { kind: TargetKind::Lsn(place.lsn), inclusive: true, ..self.target.clone() };
            target.to_options().join(" ")
        };
        let hint = match again.len() {
            1 => format!("{} stops at the other", options(first)),
            _ => format!("to stop at them: {}", named(again, options)),
        };
        Some(Finding::warning("restore-point-twice", message).hint(hint))
    }

    fn times(&self) -> Option<Finding> {
        let (others, at) = (&self.resolved.ambiguous, self.resolved.at?);
        let all = named(others, |place| place.xid.map_or_else(|| place.lsn.to_string(), |xid| xid.to_string()));
        let (at, is) = (at.in_zone(self.zone), if others.len() == 1 { "transaction" } else { "transactions" });
        let hint = "--xid stops at one of them exactly";
        match self.target.kind {
            _ if others.is_empty() => None,
            TargetKind::Time(_) => Some(
                Finding::warning(
                    "same-time",
                    format!("{is} {all} ended at the very time of the one at the stop, {at}: a time cannot part them"),
                )
                .hint(hint),
            ),
            _ => Some(Finding::note(
                "same-time",
                format!(
                    "{is} {all} ended at the very time of the one at the stop, {at}; what is kept goes by the order in WAL"
                ),
            )),
        }
    }

    fn losses(&self) -> Option<Finding> {
        let to = self.resolved.counted_to?;
        Some(
            Finding::note(
                "losses-uncounted",
                format!("what is lost is counted up to {to} only: WAL is missing or broken there, and the archive has more behind that"),
            )
            .hint("“walback check” says what is missing or broken"),
        )
    }

    fn place(&self, place: &Place) -> String {
        let at = place.at.map(|at| format!(", {}", at.in_zone(self.zone))).unwrap_or_default();
        format!("{}{at}", place.lsn)
    }
}

/// The first few, and how many more there are.
fn named<T>(all: &[T], name: impl Fn(&T) -> String) -> String {
    let mut names: Vec<String> = all.iter().take(NAMED).map(name).collect();
    if all.len() > NAMED {
        names.push(format!("{} more", all.len() - NAMED));
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{RestorePointName, TimelineId, Timestamp, Xid};
    use crate::plan::Severity;
    use crate::resolve::{Dropping, StopSide};

    const STOP: Lsn = Lsn(0x300_0000);

    fn before(xid: u32) -> Target {
        Target { inclusive: false, ..Target::new(TargetKind::Xid(Xid(xid))) }
    }

    /// A stop before the commit of 700.
    fn resolved() -> Resolved {
        let place = Place { lsn: STOP, xid: Some(Xid(700)), at: Some(Timestamp::UNIX_EPOCH) };
        Resolved {
            consistent_at: Lsn(0x200_0000),
            xid: place.xid,
            at: place.at,
            first_lost: Some(place),
            ..Resolved::new(TimelineId(1), StopSide::Before, STOP)
        }
    }

    fn choice(what: BeforeWhat, lsn: u64, commits_lost: u64, chosen: bool) -> StopBefore {
        let target = vec!["--lsn".to_owned(), Lsn(lsn).to_string(), "--exclusive".to_owned()];
        StopBefore { what, lsn: Lsn(lsn), commits_lost, is_readable: true, saves: true, chosen, target }
    }

    /// (severity, code, message and hint)
    fn said(target: &Target, resolved: &Resolved) -> Vec<(Severity, String, String)> {
        let findings = stop_findings(target, resolved, Zone::UTC).into_iter();
        findings.map(|f| (f.severity, f.code.into_owned(), f.message + "; " + &f.hint.unwrap_or_default())).collect()
    }

    #[track_caller]
    fn assert_says(target: &Target, resolved: &Resolved, code: &str, severity: Severity, parts: &[&str]) {
        let all = said(target, resolved);
        let (found, _, text) = all.iter().find(|(_, found, _)| found == code).unwrap_or_else(|| panic!("{all:?}"));
        assert_eq!(*found, severity, "{text}");
        parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in {text:?}"));
    }

    #[test]
    fn there_is_nothing_to_say_of_an_ordinary_stop() {
        assert_eq!(said(&before(700), &resolved()), []);
    }

    #[test]
    fn the_transaction_of_a_subtransaction_is_named() {
        let told = Resolved { told: Some(before(700)), ..resolved() };
        assert_says(&before(702), &told, "subtransaction", Severity::Warning, &["702", "--xid 700"]);
        // Also where it is stopped before at its first lock.
        let lock = Target { kind: TargetKind::Lsn(Lsn(0x280_0000)), ..before(702) };
        let before_lock =
            vec![choice(BeforeWhat::FirstLock, 0x280_0000, 0, true), choice(BeforeWhat::Commit, STOP.0, 0, false)];
        let told = Resolved { told: Some(lock.clone()), before: before_lock.clone(), xid: None, ..resolved() };
        assert_says(&before(702), &told, "subtransaction", Severity::Warning, &["--xid 700"]);
        assert_says(&before(702), &told, "stops-before-lock", Severity::Note, &["0/2800000", "--lsn 0/3000000"]);
        let told = Resolved { told: Some(lock), before: before_lock, xid: None, ..resolved() };
        assert!(said(&before(700), &told).iter().all(|(_, code, _)| code != "subtransaction"));
    }

    #[test]
    fn where_a_pause_is_possible_is_said() {
        let down = Resolved { is_readable: false, readable_from: Some(Lsn(0x400_0000)), ..resolved() };
        assert_says(
            &before(700),
            &down,
            "pause-impossible",
            Severity::Warning,
            &["--lsn 0/4000000", "--action promote"],
        );
        let never = Resolved { readable_from: None, ..down.clone() };
        assert_says(&before(700), &never, "pause-impossible", Severity::Warning, &["later target"]);
        let promote = Target { action: Action::Promote, ..before(700) };
        assert_eq!(said(&promote, &down), [], "it needs nobody to connect");
    }

    #[test]
    fn what_an_earlier_stop_saves_and_costs_is_said() {
        let (lock, drop) = (0x280_0000, 0x290_0000);
        let all = Resolved {
            locked: vec![Locked { xid: Xid(700), from: Lsn(lock), relations: 2, prepared: false }],
            dropping: vec![Dropping { xid: Xid(700), from: Lsn(drop) }],
            before: vec![
                choice(BeforeWhat::FirstLock, lock, 3, false),
                choice(BeforeWhat::DatabaseDrop, drop, 1, false),
                choice(BeforeWhat::Commit, STOP.0, 0, true),
            ],
            ..resolved()
        };
        let warning = Severity::Warning;
        assert_says(
            &before(700),
            &all,
            "relations-locked",
            warning,
            &["2 relations", "--lsn 0/2800000", "3 more commits"],
        );
        assert_says(
            &before(700),
            &all,
            "database-dropped-before",
            warning,
            &["--lsn 0/2900000 --exclusive", "1 more commit"],
        );
        let promote = Target { action: Action::Promote, ..before(700) };
        assert!(said(&promote, &all).iter().all(|(_, code, _)| code == "database-dropped-before"));
        let early = Resolved { consistent_at: STOP, ..all };
        assert_says(&before(700), &early, "database-dropped-before", warning, &["older base backup"]);
    }

    #[test]
    fn names_and_times_that_are_there_again_are_told() {
        let again = |lsn| Place { lsn: Lsn(lsn), xid: None, at: Some(Timestamp::UNIX_EPOCH) };
        let name = Target::new(TargetKind::Name(RestorePointName::try_from("x".to_owned()).unwrap()));
        let twice = Resolved { named_again: vec![again(0x400_0000)], ..resolved() };
        assert_says(&name, &twice, "restore-point-twice", Severity::Warning, &["0/4000000, 1970", "--lsn 0/4000000"]);
        let often = Resolved { named_again: (0..5).map(|i| again(0x400_0000 + i)).collect(), ..resolved() };
        assert_says(&name, &often, "restore-point-twice", Severity::Warning, &["2 more"]);
        let same = Place { xid: Some(Xid(701)), ..again(0x300_0100) };
        let same = Resolved { ambiguous: vec![same], ..resolved() };
        assert_says(&before(700), &same, "same-time", Severity::Note, &["701"]);
        let time = Target::new(TargetKind::Time(Timestamp::UNIX_EPOCH));
        assert_says(&time, &same, "same-time", Severity::Warning, &["701", "--xid"]);
        let cut = Resolved { counted_to: Some(Lsn(0x500_0000)), ..resolved() };
        assert_says(&before(700), &cut, "losses-uncounted", Severity::Note, &["0/5000000"]);
    }
}
