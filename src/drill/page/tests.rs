//! Reports as documents.

use super::*;
use crate::event::Failure;
use crate::event::drill::tests::report;

#[test]
fn a_page_says_what_the_report_says_and_asks_nobody_for_anything() {
    let former = DrillReport { rto_s: Some(200.0), result: DrillResult::Failed, ..report() };
    let page = html(&report(), std::slice::from_ref(&former), Zone::UTC);
    for said in ["monday", "db1", "6.8 s", "orders are there", "pg_amcheck", "the limit is 30 min 00 s", "×</text>"] {
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
    let over = DrillReport { rto_limit_s: Some(6.0), ..report() };
    assert!(html(&over, &[], Zone::UTC).contains("class=\"over\"") && !page.contains("class=\"over\""));
    let text = markdown(&report(), &[former], Zone::UTC);
    for said in ["# Restore drill of shop: passed", "| orders are there | passed | 42 | > 0 |"] {
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
    // That nothing would have been lost is something.
    assert_eq!(page.matches("<svg").count(), 1, "{page}");
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    report.rpo_s = None;
    assert!(!html(&report, &[], Zone::UTC).contains("<svg"));
}
