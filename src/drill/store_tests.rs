//! The chain of reports.

use super::*;
use crate::core::{Target, TargetKind};
use crate::event::drill::tests::report;
use crate::event::drill::{CheckKind, DrillResult};

struct Kept {
    _directory: tempfile::TempDir,
    host: Host,
    drills: Drills,
}

/// With reports of drills `a`, `b` and `c` in the chain.
fn kept() -> Kept {
    let directory = tempfile::tempdir().unwrap();
    let drills = Drills::below(directory.path());
    let kept = Kept { host: Host::new(false).unwrap(), drills, _directory: directory };
    for id in ["a", "b", "c"] {
        kept.seal(id, "1");
    }
    kept
}

impl Kept {
    fn seal(&self, id: &str, value: &str) -> Sealed {
        let mut report = DrillReport { id: id.to_owned(), ..report() };
        report.checks[0].value = Some(value.to_owned());
        self.drills.seal(&self.host, report, Zone::UTC).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.drills.directory.join(name)
    }

    /// Lets go of a journal. A program that another test is just starting may have its lock for a moment longer.
    fn let_go(&self, journal: DrillJournal, id: &str) {
        drop(journal);
        while lock::holder(&self.file(id).join(JOURNAL)).is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn problems(&self) -> String {
        self.drills.verify().unwrap().problems.join("; ")
    }

    fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(self.file(name), text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn each_report_has_the_hash_of_the_one_before() {
    let kept = kept();
    let chain = kept.drills.chain().unwrap();
    let reports: Vec<DrillReport> = chain.iter().map(|link| kept.drills.report(&link.id).unwrap()).collect();
    assert_eq!(reports.iter().map(|report| report.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(reports[0].previous, None);
    assert_eq!(reports[1].previous.as_ref(), Some(&chain[0].hash));
    assert_eq!(reports[2].previous.as_ref(), Some(&chain[1].hash));
    let verified = kept.drills.verify().unwrap();
    assert_eq!((verified.reports, verified.head.as_ref(), verified.problems.len()), (3, Some(&chain[2].hash), 0));
}

#[test]
fn what_was_changed_or_removed_shows() {
    type Harm = (&'static str, fn(&Kept));
    let harms: [Harm; 9] = [
        ("a: its report was removed", |kept| fs::remove_file(kept.file("a/report.json")).unwrap()),
        ("b: its report was removed", |kept| fs::remove_dir_all(kept.file("b")).unwrap()),
        ("b: its report was changed", |kept| kept.change("b/report.json", "\"passed\"", "\"failed\"")),
        ("c: report.html was changed", |kept| kept.change("c/report.html", "passed", "failed")),
        ("c: report.md was removed", |kept| fs::remove_file(kept.file("c/report.md")).unwrap()),
        ("line 2 of the chain is for report 3", |kept| {
            let text = fs::read_to_string(kept.file(CHAIN)).unwrap();
            let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"b\"")).collect();
            fs::write(kept.file(CHAIN), lines.join("\n") + "\n").unwrap();
        }),
        ("a: this report is not in the chain", |kept| fs::remove_file(kept.file(CHAIN)).unwrap()),
        ("the chain of reports is broken", |kept| fs::write(kept.file(CHAIN), "{}\n").unwrap()),
        ("it names no drill", |kept| kept.change(CHAIN, "\"id\":\"a\"", "\"id\":\"../a\"")),
    ];
    for (told, harm) in harms {
        let kept = kept();
        assert_eq!(kept.problems(), "");
        harm(&kept);
        assert!(kept.problems().contains(told), "{told}: {}", kept.problems());
    }
}

/// A report that was made anew with everything that follows from it is told by the hash that was kept elsewhere only; one
/// that was put in place of another, with its own line, by the one behind it.
#[test]
fn a_report_that_was_replaced_with_its_line_does_not_fit_the_next_one() {
    let kept = kept();
    kept.change("b/report.json", "\"passed\"", "\"failed\"");
    let before = kept.drills.chain().unwrap()[1].hash.clone();
    let after = hash(&fs::read(kept.file("b/report.json")).unwrap());
    kept.change(CHAIN, &before, &after);
    assert_eq!(kept.problems(), "c: its report does not follow the one before it");
}

/// What is given on the command line is called the same, whatever cluster it is.
#[test]
fn a_report_shows_the_former_ones_of_its_own_cluster() {
    let kept = kept();
    let of = |id: &str, cluster: Option<&str>, failure: &str| {
        let mut report = DrillReport { id: id.to_owned(), ..report() };
        report.source.system_identifier = cluster.map(str::to_owned);
        report.failures = vec![failure.to_owned()];
        kept.drills.seal(&kept.host, report, Zone::UTC).unwrap().report
    };
    of("other", Some("8"), "of the other cluster");
    let not_come_so_far = of("unknown", None, "not come so far");
    let mine = of("mine", Some("7"), "of this cluster");
    let former = |report: &DrillReport| {
        let former = kept.drills.former(&kept.drills.chain().unwrap(), &report.source);
        former.into_iter().map(|report| report.id).collect::<Vec<_>>()
    };
    assert_eq!(former(&mine), ["a", "b", "c", "unknown", "mine"]);
    assert_eq!(former(&not_come_so_far), ["a", "b", "c", "other", "unknown", "mine"]);
}

#[test]
fn the_last_value_is_that_of_the_same_source() {
    let kept = kept();
    kept.seal("d", "7");
    assert_eq!(kept.drills.last_value("shop", "orders are there").as_deref(), Some("7"));
    assert_eq!(kept.drills.last_value("other", "orders are there"), None);
    assert_eq!(kept.drills.last_value("shop", "nothing"), None);
    let mut of_a_database = DrillReport { id: "e".to_owned(), ..report() };
    of_a_database.checks[0].kind = CheckKind::Database;
    let elsewhere = Target::new(TargetKind::Immediate);
    let elsewhere = DrillReport { id: "f".to_owned(), target: Some(elsewhere), ..report() };
    for report in [of_a_database, elsewhere] {
        kept.drills.seal(&kept.host, report, Zone::UTC).unwrap();
    }
    assert_eq!(kept.drills.last_value("shop", "orders are there").as_deref(), Some("7"));
}

#[test]
fn what_was_killed_is_told_from_what_goes_on() {
    let kept = kept();
    let mut journal = kept.drills.begin(&kept.host, "d").unwrap();
    let draft = Draft { judged: false, promotes: true, report: DrillReport { id: "d".to_owned(), ..report() } };
    journal.note_promotion(&kept.host, &draft.report).unwrap();
    let last = || kept.drills.all().unwrap().pop().unwrap();
    assert!(matches!(last(), Known::Running(report, Some(_)) if report.id == "d"));
    kept.let_go(journal, "d");
    assert_eq!(last(), Known::Killed(Box::new(draft)));
    assert_eq!(kept.problems(), "", "it is no report yet");
    kept.seal("d", "1");
    assert!(matches!(last(), Known::Over(report) if report.result == DrillResult::Passed));
}

/// Drills have journals besides their reports: one whose line is missing looks like one that was killed.
#[test]
fn a_report_whose_line_is_missing_shows_and_is_put_back_as_it_was() {
    let kept = kept();
    for id in ["a", "b", "c"] {
        let report = kept.drills.report(id).unwrap();
        let mut journal = kept.drills.begin(&kept.host, id).unwrap();
        journal.note(&kept.host, &report, true).unwrap();
        kept.let_go(journal, id);
    }
    let before = kept.drills.chain().unwrap();
    for left in [2, 1, 0] {
        let lines = before[..left].iter().map(|link| serde_json::to_string(link).unwrap() + "\n");
        fs::write(kept.file(CHAIN), lines.collect::<String>()).unwrap();
        assert!(kept.problems().contains("c: this report is not in the chain"), "{}", kept.problems());
    }
    // One that is being sealed just now is no problem.
    let at_work = kept.drills.begin(&kept.host, "c").unwrap();
    assert!(!kept.problems().contains("c: "), "{}", kept.problems());
    drop(at_work);
    let again = |id: &str| kept.drills.link_again(&kept.host, id).map(|report| report.map(|report| report.number));
    assert_eq!(again("b").unwrap_err().report().code, "chain-broken", "it is the second one");
    assert_eq!(again("gone").unwrap(), None);
    kept.change("c/report.html", "passed", "failed");
    assert_eq!((again("a").unwrap(), again("b").unwrap()), (Some(1), Some(2)));
    assert_eq!(again("c").unwrap_err().report().code, "chain-broken", "it was changed");
    kept.change("c/report.html", "failed", "passed");
    assert_eq!(again("c").unwrap(), Some(3));
    assert_eq!((kept.drills.chain().unwrap(), kept.problems()), (before, String::new()));
}
