//! Questions to recovered servers: checks of the configuration, and SQL that can change nothing.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::{Cluster, Directory, Format, Operator, Options, Server, ask, assert_paused, sql};

/// Paused with the row 1, of a cluster whose sessions are serializable by default: no query of one is taken in recovery.
fn paused<'a>(directory: &'a Directory, server: &Server) -> Operator<'a> {
    let settings = vec![("default_transaction_isolation", "serializable".to_owned())];
    let original = Cluster::create(directory, server, &Options { segment_mib: 1, settings, ..Options::default() });
    original.base_backup(Format::Tar, "before");
    original.psql("create table kept (n int); insert into kept values (1)");
    original.restore_point("good");
    original.switch_and_wait_archived();
    let (backups, archive) = (directory.path().join("backups/before"), original.archive.clone());
    let operator = Operator { directory, backups, archive };
    let bin_dir = server.bin_dir.display().to_string();
    let recovery =
        ask(&mut operator.restore("copy", &["--name", "good", "--bin-dir", &bin_dir])).ended_with(0).recovery();
    assert_paused(&recovery, "1");
    operator
}

fn questions_are_answered(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let operator = paused(&directory, &server);

    let answer = operator.about(&["sql", "select n, null as nothing from kept"]).ended_with(0).json();
    assert_eq!(answer["answer"], json!({"columns": ["n", "nothing"], "rows": [["1", null]], "more": false}));
    let answer =
        operator.about(&["sql", "select generate_series(1, 100000)", "copy", "--rows", "2"]).ended_with(0).json();
    assert_eq!(answer["answer"]["rows"], json!([["1"], ["2"]]));
    assert_eq!(answer["answer"]["more"], true);
    let refused = |query: &str, why: &str| {
        let answer = operator.about(&["sql", query]).ended_with(1);
        assert_eq!(answer.json()["error"]["code"], "query-refused");
        assert!(answer.err.contains(why), "{}", answer.shown);
    };
    refused("insert into kept values (2)", "read-only transaction");
    refused("select 1; select 2", "multiple commands");
    refused("select nobody", "does not exist");

    let checks = "
sources:
  shop:
    backups: [{path: /nowhere}]
    checks:
      - {name: a row, sql: SELECT count(*) FROM kept, expect: 1}
      - {name: more rows, sql: SELECT count(*) FROM kept, expect: '> 1'}
      - {name: nobody, database: nobody, sql: SELECT 1, expect: = 1}
      - {name: nothing, sql: SELECT n FROM kept WHERE n > 1, expect: <> 1}
";
    let file = directory.write("checks.yaml", checks).display().to_string();
    let checks = operator.about(&["--config", &file, "checks", "copy"]).ended_with(3).json();
    let told: Vec<_> =
        checks["checks"].as_array().unwrap().iter().map(|check| (&check["passed"], &check["value"])).collect();
    let (yes, no, null, one) = (json!(true), json!(false), json!(null), json!("1"));
    assert_eq!(told, [(&yes, &one), (&no, &one), (&no, &null), (&no, &null)]);
    assert!(checks["checks"][2]["error"].as_str().unwrap().contains("nobody"));

    // A promoted server takes writes, but not this way.
    let recovery = operator.about(&["promote", "copy", "--yes"]).ended_with(0).recovery();
    assert_eq!(sql(&recovery, "insert into kept values (2) returning n"), "2");
    refused("insert into kept values (3)", "read-only transaction");
    refused("commit; insert into kept values (3)", "multiple commands");
    operator.about(&["sql", "commit"]).ended_with(0);
    // Times are read and told as everywhere else.
    let zone = operator.about(&["sql", "show timezone", "--time-zone", "America/New_York"]).ended_with(0).json();
    assert_eq!(zone["answer"]["rows"], json!([["America/New_York"]]));
    assert_eq!(sql(&recovery, "select count(*) from kept"), "2");
    let without = operator.about(&["checks", "copy", "--backups", "/nowhere"]).ended_with(2);
    assert_eq!(without.json()["error"]["code"], "no-checks");
}

#[test]
fn questions_are_answered_by_13() {
    questions_are_answered(13);
}

#[test]
fn questions_are_answered_by_18() {
    questions_are_answered(18);
}
