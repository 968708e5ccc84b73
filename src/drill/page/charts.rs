//! The pictures of a report, as SVG inside of its page.

use std::fmt::Write as _;

use super::in_html;
use crate::core::Zone;
use crate::core::progress::{Bytes, Seconds};
use crate::event::{DrillReport, DrillResult};

/// The size of a picture, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
/// What the names of bars need.
const NAMES: f64 = 110.0;
const ROW: f64 = 22.0;
/// What is written left and right of what is drawn.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 116.0;
/// A limit that is more than so many times what was measured is not drawn: nothing else could be seen.
const IN_SIGHT: f64 = 5.0;
/// A drill's part of a chart, where there are few.
const WIDEST: f64 = 72.0;
/// Two times need so much beside each other.
const TWO_TIMES: f64 = 140.0;
/// Of so many drills each bar has its value above it.
const FEW: usize = 10;

/// What matters most, large.
pub(super) fn figures(report: &DrillReport) -> String {
    let seconds = |seconds: Option<f64>| seconds.map_or("not measured".to_owned(), |s| Seconds(s).to_string());
    let limit = |what: &str, limit: Option<f64>| {
        let limit = limit.map_or("no limit".to_owned(), |s| format!("at most {}", Seconds(s)));
        format!("{what}; {limit}")
    };
    let (passed, all) = report.passed_checks();
    let not_run = report.skipped.len();
    let checks = match (all, not_run) {
        (0, _) => ("none".to_owned(), "it did not come to them".to_owned()),
        (_, 0) => (format!("{passed} of {all}"), "passed".to_owned()),
        _ => (format!("{passed} of {all}"), format!("passed; {not_run} not run")),
    };
    let over = |measured: Option<f64>, limit: Option<f64>| measured.zip(limit).is_some_and(|(m, l)| m > l);
    let stop = match report.matches_prediction {
        Some(true) => ("as predicted", "to the byte", false),
        Some(false) => ("NOT as predicted", "see below", true),
        None => ("not at all", "it did not come to that", false),
    };
    let figures = [
        (
            "RTO",
            seconds(report.rto_s),
            limit("until the data can be used", report.rto_limit_s),
            over(report.rto_s, report.rto_limit_s),
        ),
        (
            "RPO",
            seconds(report.rpo_s),
            limit("work that would be lost", report.rpo_limit_s),
            over(report.rpo_s, report.rpo_limit_s),
        ),
        ("Checks", checks.0, checks.1, passed < all),
        ("Recovery stopped", stop.0.to_owned(), stop.1.to_owned(), stop.2),
    ];
    let mut out = "<div class=\"figures\">\n".to_owned();
    for (name, value, note, is_bad) in figures {
        let class = if is_bad { " class=\"bad\"" } else { "" };
        let _ = writeln!(
            out,
            "<div><small>{name}</small><b{class}>{}</b><small>{}</small></div>",
            in_html(&value),
            in_html(&note)
        );
    }
    out.push_str("</div>\n");
    out
}

/// How long each part took, one bar below the other.
pub(super) fn phases(report: &DrillReport) -> String {
    let longest = report.phases.iter().map(|phase| phase.seconds).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let height = ROW * report.phases.len() as f64;
    let mut out = opening("How long each part took; in grey what is no part of the RTO", height);
    for (place, phase) in report.phases.iter().enumerate() {
        let y = ROW * place as f64;
        let width = (WIDTH - NAMES - RIGHT) * phase.seconds / longest;
        let class = if phase.counts { "bar" } else { "none" };
        let rate = phase.rate().map(|rate| format!(", {}/s", Bytes(rate as u64))).unwrap_or_default();
        let label = format!("{}{rate}", Seconds(phase.seconds));
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{NAMES:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            y + 15.0,
            in_html(&phase.name),
            y + 4.0,
            width.max(1.0),
            ROW - 8.0,
            NAMES + width.max(1.0) + 6.0,
            y + 15.0,
            in_html(&label)
        );
    }
    out.push_str("</svg></figure>\n");
    out
}

/// How RTO and RPO have come to be what they are.
pub(super) fn trends(report: &DrillReport, former: &[DrillReport], zone: Zone) -> String {
    let all: Vec<&DrillReport> = former.iter().chain([report]).collect();
    let rto = trend(
        "RTO of the last drills; orange is over the limit, × below is a drill that failed",
        &all,
        &|drill| drill.rto_s,
        report.rto_limit_s,
        zone,
    );
    rto + &trend(
        "RPO of the last drills; orange is over the limit, × below is a drill that failed",
        &all,
        &|drill| drill.rpo_s,
        report.rpo_limit_s,
        zone,
    )
}

/// One bar for each drill; a line where the limit is. What could not be measured is a short grey one.
fn trend(
    title: &str,
    drills: &[&DrillReport],
    measured: &dyn Fn(&DrillReport) -> Option<f64>,
    limit: Option<f64>,
    zone: Zone,
) -> String {
    let most = drills.iter().filter_map(|drill| measured(drill)).fold(0.0, f64::max);
    let in_sight = limit.filter(|limit| *limit <= most * IN_SIGHT);
    if drills.iter().all(|drill| measured(drill).is_none()) {
        return String::new();
    }
    // Where nothing was lost at all, that is to be seen.
    let highest = if most > 0.0 { most.max(in_sight.unwrap_or(0.0)) } else { 1.0 };
    let beyond = limit.filter(|_| in_sight.is_none()).map(|limit| format!("; the limit is {}", Seconds(limit)));
    let mut out = opening(&format!("{title}{}", beyond.unwrap_or_default()), HEIGHT);
    let (base, top) = (HEIGHT - 32.0, 20.0);
    let y = |seconds: f64| base - (base - top) * seconds / highest;
    let width = ((WIDTH - LEFT - RIGHT) / drills.len() as f64).min(WIDEST);
    for (place, drill) in drills.iter().enumerate() {
        let x = LEFT + width * place as f64;
        let value = measured(drill);
        let class = match (value, limit) {
            (None, _) => "none",
            (Some(value), Some(limit)) if value > limit => "over",
            _ if drill.result == DrillResult::Interrupted => "none",
            _ => "bar",
        };
        let top = y(value.unwrap_or(0.0)).min(base - 2.0);
        let told = value.map_or("not measured".to_owned(), |value| Seconds(value).to_string());
        let title = format!("{}: {told}, {}", drill.begun_at.in_zone(zone), drill.result);
        let bar = width * 0.7;
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{bar:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            x + width * 0.15,
            base - top,
            in_html(&title)
        );
        if drill.result == DrillResult::Failed {
            let (x, y) = (x + width * 0.15 + bar / 2.0, base + 10.0);
            let _ = writeln!(out, "<text class=\"cross\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">×</text>");
        }
        if drills.len() <= FEW && value.is_some() {
            let (x, y) = (x + width * 0.15 + bar / 2.0, top - 4.0);
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", in_html(&told));
        }
    }
    let (right, before) = (WIDTH - RIGHT, LEFT - 6.0);
    let _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{base}\" y2=\"{base}\"/>\
         <text x=\"{before}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"{before}\" y=\"{base}\" text-anchor=\"end\">0 s</text>",
        top + 4.0,
        in_html(&Seconds(highest).to_string())
    );
    if let Some(limit) = in_sight {
        let _ = writeln!(
            out,
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">limit {}</text>",
            y(limit),
            y(limit),
            right + 6.0,
            y(limit) + 4.0,
            in_html(&Seconds(limit).to_string())
        );
    }
    let end = LEFT + width * drills.len() as f64;
    let last = drills.last().filter(|_| end - LEFT > TWO_TIMES);
    for (drill, x, anchor) in [(drills.first(), LEFT, "start"), (last, end, "end")] {
        let Some(drill) = drill else { continue };
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            HEIGHT - 4.0,
            in_html(&drill.begun_at.short(zone))
        );
    }
    out.push_str("</svg></figure>\n");
    out
}

fn opening(title: &str, height: f64) -> String {
    format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n"
    )
}
