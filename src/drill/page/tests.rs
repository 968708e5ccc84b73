//! Reports as documents.

use super::*;
use crate::core::{Lsn, PgMajor, Target, TargetKind, Timestamp};
use crate::event::Failure;
use crate::event::drill::{
    By, CheckKind, DrillCheck, DrillPhase, Drilled, DrilledBackup, DrilledStop, FORMAT, Forecast, Skipped,
};

/// A drill that passed.
pub(crate) fn report() -> DrillReport {
    let at = |seconds: i64| Timestamp::from_unix_seconds(1_795_000_000 + seconds).unwrap();
    let phase = |name: &str, seconds, bytes, counts| DrillPhase { name: name.to_owned(), seconds, bytes, counts };
    let stop = DrilledStop { replay_end: Some(Lsn(0x300_0148)), at: Some(at(-60)), ..DrilledStop::default() };
    DrillReport {
        format: FORMAT,
        id: "drill-shop-20261122031500".to_owned(),
        number: 0,
        previous: None,
        result: DrillResult::Passed,
        summary: "drill drill-shop-20261122031500 passed".to_owned(),
        failures: Vec::new(),
        notes: Vec::new(),
        begun_at: at(0),
        ended_at: at(20),
        by: By { user: "postgres".to_owned(), host: "db1".to_owned(), walback: "0.2.0".to_owned(), postgresql: None },
        source: Drilled { name: "shop".to_owned(), system_identifier: Some("7".to_owned()), ..Drilled::default() },
        chosen: "the newest base backup, to the end of WAL".to_owned(),
        backup: Some(DrilledBackup {
            id: "monday".to_owned(),
            location: "/backups/monday".into(),
            pg_version: PgMajor(15),
            started_at: Some(at(-3600)),
            size_bytes: 3_000_000,
            unpacked_bytes: Some(38_000_000),
        }),
        target: Some(Target::new(TargetKind::Latest)),
        directory: "/srv/drills/drill-shop-20261122031500".into(),
        predicted: Some(stop.clone()),
        actual: Some(stop),
        matches_prediction: Some(true),
        phases: vec![
            phase("plan", 0.5, None, true),
            phase("unpack", 4.0, Some(3_000_000), true),
            phase("replay", 2.0, Some(16_000_000), true),
            phase("checks", 0.25, None, true),
            phase("teardown", 1.0, None, false),
        ],
        rto_s: Some(6.75),
        rto_limit_s: Some(1800.0),
        rpo_s: Some(60.0),
        rpo_limit_s: None,
        rpo_against: Some("the primary's clock".to_owned()),
        recoverable_at: Some(at(-60)),
        newest_known_at: Some(at(-60)),
        primary_at: Some(at(0)),
        wal_bytes: Some(16_000_000),
        wal_bytes_per_hour: Some(16e6),
        forecast: Some(Forecast { predicted_s: 5.0, actual_s: Some(6.0), basis: "replay assumed".to_owned() }),
        checks: vec![DrillCheck {
            name: "orders are there".to_owned(),
            kind: CheckKind::Sql,
            passed: true,
            value: Some("42".to_owned()),
            expected: "> 0".to_owned(),
            said: Vec::new(),
            seconds: 0.1,
        }],
        skipped: vec![Skipped { name: "pg_amcheck".to_owned(), why: "it is not there".to_owned() }],
        findings: Vec::new(),
        failure: None,
        kept: false,
        removed: true,
        documents: std::collections::BTreeMap::new(),
    }
}

#[test]
fn a_page_says_what_the_report_says_and_asks_nobody_for_anything() {
    let former = DrillReport { rto_s: Some(200.0), result: DrillResult::Failed, ..report() };
    let page = html(&report(), std::slice::from_ref(&former), Zone::UTC);
    for said in
        ["monday", "db1", "6.8 s", "orders are there", "pg_amcheck", "the limit is 30 min 00 s", "class=\"over\""]
    {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert_eq!(page.matches("<svg").count(), 3, "phases, RTO and RPO");
    // The name of SVG's namespace is no address.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for fetching in ["http:", "https:", "src=", "href=", "url(", "<script", "@import"] {
        assert!(!page.contains(fetching), "{fetching}");
    }
    let near = DrillReport { rto_limit_s: Some(10.0), ..report() };
    assert!(html(&near, &[], Zone::UTC).contains("limit 10 s</text>"));
    let text = markdown(&report(), &[former], Zone::UTC);
    for said in ["# Drill drill-shop-20261122031500: passed", "| orders are there | passed | 42 | &gt; 0 |"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn nothing_from_outside_becomes_a_part_of_a_document() {
    let evil = "<script>alert(1)</script>\u{1b}[2J\u{202e} | `x` [a](http://b)";
    let mut report = report();
    let failure = Failure {
        step: None,
        code: "x".into(),
        message: evil.to_owned(),
        causes: vec![evil.to_owned()],
        hint: Some(evil.to_owned()),
    };
    report.failure = Some(failure);
    report.id = evil.to_owned();
    report.summary = evil.to_owned();
    report.source.name = evil.to_owned();
    report.notes.push(evil.to_owned());
    report.phases[0].name = evil.to_owned();
    report.checks[0].value = Some(evil.to_owned());
    report.checks[0].said.push(evil.to_owned());
    let page = html(&report, &[report.clone()], Zone::UTC);
    let text = markdown(&report, &[report.clone()], Zone::UTC);
    for document in [&page, &text] {
        assert!(!document.contains("<script") && !document.contains('\u{1b}') && !document.contains('\u{202e}'));
    }
    assert!(!text.contains("[a](") && !text.contains(" `x`"), "{text}");
}

/// Pictures have to be drawn of whatever was measured.
#[test]
fn what_was_not_measured_is_not_drawn() {
    let mut report = report();
    (report.rto_s, report.rpo_s, report.rto_limit_s) = (None, Some(0.0), None);
    report.phases.clear();
    let page = html(&report, &[], Zone::UTC);
    assert!(!page.contains("<svg") && !page.contains("NaN") && !page.contains("inf"), "{page}");
}
