//! A report, for tests.

use super::{
    By, CheckKind, DrillCheck, DrillPhase, DrillReport, DrillResult, Drilled, DrilledBackup, DrilledStop, FORMAT,
    Forecast, Skipped,
};
use crate::core::{Lsn, PgMajor, Target, TargetKind, Timestamp};

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
