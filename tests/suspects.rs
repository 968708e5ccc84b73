//! What `suspects` lists and what it does not, asked of real servers: every statement that looks like an accident in
//! WAL, and every one that only resembles it.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::{Cluster, Directory, Format, Operator, Options, Server, Stop, ask, assert_is, client, run, sql, walback};
use walback::core::Lsn;

/// A statement, and what `suspects` has to say of it.
struct Case {
    /// For messages.
    name: &'static str,
    /// What there has to be: a statement a line.
    given: &'static str,
    /// What is done: a line is what one connection sends at once.
    done: &'static str,
    /// What is listed.
    listed: &'static [Listed],
}

/// Of one suspect: its kind, its rows, and whose files it names.
type Listed = (&'static str, u64, Of);

/// Whose files a suspect names.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// All that were there before and not after.
    Gone,
    /// Those that these relations had.
    Named(&'static [&'static str]),
}

use Of::{Gone, Named};

const fn case(name: &'static str, given: &'static str, done: &'static str, listed: &'static [Listed]) -> Case {
    Case { name, given, done, listed }
}

const MANY: &str = "insert into t select n, repeat('x', 20) from generate_series(1, 1500) n";

const CASES: &[Case] = &[
    // Dropped.
    case("drop table", "create table a1 (n int)\ninsert into a1 values (1)", "drop table a1", &[("drop", 0, Gone)]),
    case("drop empty table", "create table a2 (n int)", "drop table a2", &[("drop", 0, Gone)]),
    case(
        "drop table with index, toast and sequence",
        "create table a3 (n serial primary key, t text, unique (t))\ninsert into a3 (t) select n::text from generate_series(1, 50) n",
        "drop table a3",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop schema cascade",
        "create schema s\ncreate table s.one (n int primary key)\ncreate table s.two (t text)\ncreate view s.v as select * from s.one",
        "drop schema s cascade",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop materialized view",
        "create materialized view m1 as select n from generate_series(1, 10) n",
        "drop materialized view m1",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop materialized view with index",
        "create materialized view m2 as select n from generate_series(1, 10) n\ncreate unique index on m2 (n)",
        "drop materialized view m2",
        &[("drop", 0, Gone)],
    ),
    case("drop index", "create table a4 (n int)\ncreate index a4_n on a4 (n)", "drop index a4_n", &[]),
    case(
        "drop several indexes",
        "create table a5 (n int, t text)\ncreate index a5_n on a5 (n)\ncreate index a5_t on a5 using hash (t)",
        "drop index a5_n, a5_t",
        &[],
    ),
    case(
        "drop constraint with its index",
        "create table a6 (n int primary key)",
        "alter table a6 drop constraint a6_pkey",
        &[],
    ),
    case("drop sequence", "create sequence q1", "drop sequence q1", &[("drop", 0, Gone)]),
    case("drop view", "create view v1 as select 1", "drop view v1", &[]),
    case(
        "drop partitioned table",
        "create table p1 (n int) partition by range (n)\ncreate table p1a partition of p1 for values from (0) to (10)\ncreate table p1b partition of p1 for values from (10) to (20)",
        "drop table p1",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop column",
        "create table a7 (n int, t text)\ninsert into a7 values (1, 'x')",
        "alter table a7 drop column t",
        &[],
    ),
    case(
        "drop owned",
        "create role r1\ncreate table a8 (n int)\nalter table a8 owner to r1",
        "drop owned by r1",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop in a subtransaction",
        "create table a9 (n int)",
        "begin; savepoint s; drop table a9; release s; commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop rolled back to a savepoint",
        "create table b1 (n int)",
        "begin; savepoint s; drop table b1; rollback to s; commit",
        &[],
    ),
    case("drop rolled back", "create table b2 (n int)", "begin; drop table b2; rollback", &[]),
    case(
        "drop prepared and committed",
        "create table b3 (n int)",
        "begin; drop table b3; prepare transaction 'x1'\ncheckpoint\ncommit prepared 'x1'",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop prepared and rolled back",
        "create table b4 (n int)",
        "begin; drop table b4; prepare transaction 'x2'\nrollback prepared 'x2'",
        &[],
    ),
    case(
        "drop and create again",
        "create table b5 (n int)\ninsert into b5 values (1)",
        "begin; drop table b5; create table b5 (n int); insert into b5 values (2); commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "create as, drop, rename",
        "create table b6 (n int primary key, t text)",
        "begin; create table b6_new as select * from b6; drop table b6; alter table b6_new rename to b6; commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "create and drop in one transaction",
        "",
        "begin; create table b7 (n serial primary key, t text); insert into b7 (t) values ('x'); drop table b7; commit",
        &[],
    ),
    case(
        "create as and drop in one transaction",
        "",
        "begin; create table b8 as select n, n::text as t from generate_series(1, 3000) n; delete from b8; drop table b8; commit",
        &[],
    ),
    case(
        "several drops",
        "create table b9 (n int)\ncreate table c1 (n int primary key)",
        "begin; drop table b9; drop table c1; commit",
        &[("drop", 0, Gone)],
    ),
    case("unlogged table dropped", "create unlogged table c2 (n int)", "drop table c2", &[("drop", 0, Gone)]),
    case(
        "drop and create several",
        "create table n1 (n int)\ninsert into n1 values (1)",
        "begin; drop table n1; create table n1 (n int primary key, t text); create table n2 (t text); commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "create as, drop, rename, no index",
        "create table n3 (n int)",
        "begin; create table n3_new as select * from n3; drop table n3; alter table n3_new rename to n3; commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "create as, drop, rename, with toast",
        "create table n4 (n int, t text)\ninsert into n4 values (1)",
        "begin; create table n4_new as select * from n4; drop table n4; alter table n4_new rename to n4; commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop index and create table",
        "create table n5 (n int primary key, t text)\ncreate index n5_t on n5 (t)",
        "begin; drop index n5_t; create table n6 (n int primary key); insert into n6 values (1); commit",
        &[],
    ),
    case(
        "drop of one, another form of another",
        "create table n7 (n int)\ncreate table n8 (n int)\ninsert into n8 values (1)",
        "begin; drop table n7; alter table n8 alter n type bigint; commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop role and function",
        "create role r2\ncreate function fn() returns int language sql as 'select 1'",
        "drop role r2\ndrop function fn()",
        &[],
    ),
    case(
        "drop partition with an index of the whole",
        "create table o1 (n int primary key) partition by range (n)\ncreate table o1a partition of o1 for values from (0) to (10)",
        "drop table o1",
        &[("drop", 0, Gone)],
    ),
    case(
        "drop domain and view",
        "create view v2 as select 1 as n\ncreate type ty as (n int)",
        "drop view v2\ndrop type ty",
        &[],
    ),
    case(
        "drop index of what has a temporary table",
        "create table o2 (n int)\ncreate index o2_n on o2 (n)",
        "begin; create temp table o3 (n int); drop index o2_n; commit",
        &[],
    ),
    // Truncated.
    case("truncate", "create table d1 (n int)\ninsert into d1 values (1)", "truncate d1", &[("truncate", 0, Gone)]),
    case(
        "truncate with toast and an index",
        "create table d2 (n serial primary key, t text)\ninsert into d2 (t) values ('x')",
        "truncate d2",
        &[("truncate", 0, Gone)],
    ),
    case(
        "truncate several",
        "create table d3 (n int primary key)\ncreate table d4 (t text)\ninsert into d3 values (1)",
        "truncate d3, d4",
        &[("truncate", 0, Gone)],
    ),
    case(
        "truncate with indexes of several kinds",
        "create table d5 (n int, t text, p point, a int[])\ncreate index on d5 using hash (n)\ncreate index on d5 using gist (p)\ncreate index on d5 using gin (a)\ncreate index on d5 using brin (n)\ncreate index on d5 using spgist (p)\ninsert into d5 values (1, 'x', '(1,1)', '{1}')",
        "truncate d5",
        &[("truncate", 0, Gone)],
    ),
    case("truncate an empty table", "create table d6 (n int)", "truncate d6", &[("truncate", 0, Gone)]),
    case(
        "truncate and restart",
        "create table d7 (n serial, t text)\ninsert into d7 (t) values ('x')",
        "truncate d7 restart identity",
        &[("truncate", 0, Gone)],
    ),
    case("truncate rolled back", "create table d8 (n int)", "begin; truncate d8; rollback", &[]),
    case(
        "truncate, then filled again",
        "create table d9 (n int primary key)\ninsert into d9 values (1)",
        "begin; truncate d9; insert into d9 values (2); commit",
        &[("truncate", 0, Gone)],
    ),
    case(
        "truncate in an exception block",
        "create table e1 (n int)\ninsert into e1 values (1)",
        "do $$ begin begin truncate e1; exception when division_by_zero then null; end; end $$",
        &[("truncate", 0, Gone)],
    ),
    case(
        "truncate what was created by itself",
        "",
        "begin; create table e2 (n int primary key); insert into e2 values (1); truncate e2; commit",
        &[],
    ),
    case(
        "truncate twice",
        "create table e3 (n int)\ninsert into e3 values (1)",
        "begin; truncate e3; insert into e3 values (2); truncate e3; commit",
        &[("truncate", 0, Gone)],
    ),
    case(
        "drop and truncate",
        "create table e4 (n int)\ncreate table e5 (n int)",
        "begin; truncate e4; drop table e5; commit",
        &[("drop", 0, Gone)],
    ),
    case(
        "truncate partitions",
        "create table e6 (n int) partition by range (n)\ncreate table e6a partition of e6 for values from (0) to (10)\ncreate table e6b partition of e6 for values from (10) to (20)\ninsert into e6 values (1), (11)",
        "truncate e6",
        &[("truncate", 0, Gone)],
    ),
    case(
        "truncate beside a new table and a view",
        "create table o4 (n int)\ninsert into o4 values (1)",
        "begin; truncate o4; create table o5 (n int); create view o5v as select * from o4; commit",
        &[("truncate", 0, Gone)],
    ),
    case(
        "truncate of an unlogged table",
        "create unlogged table o6 (n int)\ninsert into o6 values (1)",
        "truncate o6",
        &[("truncate", 0, Gone)],
    ),
    case(
        "reindex beside a new table",
        "create table o7 (n int primary key)",
        "begin; reindex index o7_pkey; create table o8 (n int); commit",
        &[],
    ),
    case("alter sequence", "create sequence q2", "alter sequence q2 increment 2 restart 7", &[]),
    case(
        "alter sequence behind other work",
        "create sequence q3\ncreate table o9 (n int)",
        "begin; insert into o9 values (1); alter sequence q3 increment 2; commit",
        &[],
    ),
    case("setval", "create sequence q4", "select setval('q4', 7), nextval('q4')", &[]),
    case(
        "add identity",
        "create table o10 (n int not null)\ninsert into o10 values (1)",
        "alter table o10 alter n add generated always as identity (start 2)",
        &[],
    ),
    // Rows.
    case("delete many", "create table t (n int, t text)\n-- many", "delete from t", &[("delete", 1500, Named(&["t"]))]),
    case(
        "delete few",
        "create table f1 (n int)\ninsert into f1 select generate_series(1, 1500)",
        "delete from f1 where n <= 999",
        &[],
    ),
    case(
        "delete just enough",
        "create table f2 (n int)\ninsert into f2 select generate_series(1, 1500)",
        "delete from f2 where n <= 1000",
        &[("delete", 1000, Named(&["f2"]))],
    ),
    case(
        "delete of two tables",
        "create table f3 (n int)\ninsert into f3 select generate_series(1, 600)\ncreate table f4 (n int)\ninsert into f4 select generate_series(1, 700)",
        "begin; delete from f3; delete from f4; commit",
        &[("delete", 1300, Named(&["f4", "f3"]))],
    ),
    case(
        "update many",
        "create table f5 (n int, t text)\ninsert into f5 select generate_series(1, 1500)",
        "update f5 set n = n + 1",
        &[("update", 1500, Named(&["f5"]))],
    ),
    case(
        "update many, indexed",
        "create table f6 (n int primary key, t text)\ninsert into f6 select generate_series(1, 1500)",
        "update f6 set n = n + 10000",
        &[("update", 1500, Named(&["f6"]))],
    ),
    case(
        "delete and update",
        "create table f7 (n int)\ninsert into f7 select generate_series(1, 3000)",
        "begin; delete from f7 where n <= 1200; update f7 set n = n + 1; commit",
        &[("delete", 1200, Named(&["f7"])), ("update", 1800, Named(&["f7"]))],
    ),
    case(
        "delete in savepoints",
        "create table f8 (n int)\ninsert into f8 select generate_series(1, 1500)",
        "begin; savepoint a; delete from f8 where n <= 700; savepoint b; delete from f8 where n > 700; release b; commit",
        &[("delete", 1500, Named(&["f8"]))],
    ),
    case(
        "delete half rolled back",
        "create table f9 (n int)\ninsert into f9 select generate_series(1, 1500)",
        "begin; delete from f9 where n <= 700; savepoint b; delete from f9 where n > 700; rollback to b; commit",
        &[],
    ),
    case(
        "delete in exception blocks",
        "create table g1 (n int)\ninsert into g1 select generate_series(1, 1500)",
        "do $$ begin for i in 1 .. 1500 loop begin delete from g1 where n = i; exception when division_by_zero then null; end; end loop; end $$",
        &[("delete", 1500, Named(&["g1"]))],
    ),
    case(
        "delete undone in exception blocks",
        "create table g2 (n int)\ninsert into g2 select generate_series(1, 1500)",
        "do $$ begin for i in 1 .. 15 loop begin delete from g2 where n % 15 = i - 1; perform 1 / 0; exception when division_by_zero then null; end; end loop; end $$",
        &[],
    ),
    case(
        "delete over several segments",
        "create table r1 (n int, t text)\ninsert into r1 select n, 'x' from generate_series(1, 40000) n",
        "delete from r1",
        &[("delete", 40000, Named(&["r1"]))],
    ),
    case(
        "update over several segments, in exception blocks, prepared",
        "create table r2 (n int primary key, t text)\ninsert into r2 select n, 'x' from generate_series(1, 20000) n",
        "begin; do $$ begin for i in 1 .. 20 loop begin update r2 set t = 'y' where n % 20 = i - 1; exception when division_by_zero then null; end; end loop; end $$; prepare transaction 'x5'\ninsert into r1 select n, 'y' from generate_series(1, 20000) n\ncheckpoint\ncommit prepared 'x5'",
        &[("update", 20000, Named(&["r2"]))],
    ),
    case(
        "truncate, then filled over several segments",
        "create table r3 (n int primary key, t text)\ninsert into r3 values (1)",
        "begin; truncate r3; insert into r3 select n, 'x' from generate_series(1, 20000) n; commit",
        &[("truncate", 0, Gone)],
    ),
    case(
        "alter over several segments",
        "",
        "alter table r3 alter t type varchar(10) using t || 'y', alter n type bigint",
        &[("rewrite", 0, Gone)],
    ),
    case("vacuum full over several segments", "", "vacuum full r3", &[]),
    case(
        "delete rolled back",
        "create table g3 (n int)\ninsert into g3 select generate_series(1, 1500)",
        "begin; delete from g3; rollback",
        &[],
    ),
    case(
        "delete prepared and committed",
        "create table g4 (n int)\ninsert into g4 select generate_series(1, 1500)",
        "begin; delete from g4; prepare transaction 'x3'\nselect pg_switch_wal()\ncommit prepared 'x3'",
        &[("delete", 1500, Named(&["g4"]))],
    ),
    case(
        "delete prepared and rolled back",
        "create table g5 (n int)\ninsert into g5 select generate_series(1, 1500)",
        "begin; delete from g5; prepare transaction 'x4'\nrollback prepared 'x4'",
        &[],
    ),
    case(
        "rows that go to another partition",
        "create table g6 (n int) partition by range (n)\ncreate table g6a partition of g6 for values from (0) to (10000)\ncreate table g6b partition of g6 for values from (10000) to (20000)\ninsert into g6 select generate_series(1, 1500)",
        "update g6 set n = n + 10000",
        &[("update", 1500, Named(&["g6a"]))],
    ),
    case(
        "upsert",
        "create table g7 (n int primary key, t text)\ninsert into g7 select generate_series(1, 1500)",
        "insert into g7 select n, 'x' from generate_series(1, 1500) n on conflict (n) do update set t = excluded.t",
        &[("update", 1500, Named(&["g7"]))],
    ),
    case(
        "upsert that does nothing",
        "create table g8 (n int primary key)\ninsert into g8 select generate_series(1, 1500)",
        "insert into g8 select n from generate_series(1, 3000) n on conflict do nothing",
        &[],
    ),
    case(
        "rows with toast",
        "create table g9 (n int, t text)\nalter table g9 alter t set storage external\ninsert into g9 select n, repeat('x', 5000) from generate_series(1, 300) n",
        "delete from g9",
        &[("delete", 1200, Named(&["g9", "toast of g9"]))],
    ),
    case(
        "many rows with toast",
        "create table h1 (n int, t text)\nalter table h1 alter t set storage external\ninsert into h1 select n, repeat('x', 5000) from generate_series(1, 1100) n",
        "delete from h1",
        &[("delete", 4400, Named(&["h1", "toast of h1"]))],
    ),
    case(
        "update with toast",
        "create table h7 (n int, t text)\nalter table h7 alter t set storage external\ninsert into h7 select n, repeat('x', 5000) from generate_series(1, 300) n",
        "update h7 set t = repeat('y', 5000)",
        &[],
    ),
    case("insert many", "create table h2 (n int)", "insert into h2 select generate_series(1, 5000)", &[]),
    case("copy", "create table h3 (n int)", "copy h3 from program 'seq 5000'", &[]),
    case(
        "merge of cascade",
        "create table h4 (n int primary key)\ncreate table h5 (n int references h4 on delete cascade)\ninsert into h4 values (1)\ninsert into h5 select 1 from generate_series(1, 1500)",
        "delete from h4",
        &[("delete", 1501, Named(&["h5", "h4"]))],
    ),
    case(
        "lock rows",
        "create table h6 (n int)\ninsert into h6 select generate_series(1, 1500)",
        "begin; select count(*) from (select * from h6 for update) x; commit",
        &[],
    ),
    // Written anew.
    case(
        "alter type",
        "create table i1 (n int primary key, t text)\ninsert into i1 select n, 'x' from generate_series(1, 10) n",
        "alter table i1 alter n type bigint",
        &[("rewrite", 0, Gone)],
    ),
    case(
        "alter type of an empty table",
        "create table i2 (n int primary key, t text)",
        "alter table i2 alter n type bigint",
        &[],
    ),
    case("add column", "create table i3 (n int)\ninsert into i3 values (1)", "alter table i3 add column t text", &[]),
    case(
        "add column with a constant",
        "create table i4 (n int)\ninsert into i4 values (1)",
        "alter table i4 add column t text default 'x'",
        &[],
    ),
    case(
        "add column with a volatile default",
        "create table i5 (n int)\ninsert into i5 select generate_series(1, 10)",
        "alter table i5 add column r float default random()",
        &[("rewrite", 0, Gone)],
    ),
    case(
        "refresh materialized view",
        "create table i6 (n int)\ninsert into i6 values (1)\ncreate materialized view i6m as select * from i6",
        "refresh materialized view i6m",
        &[("rewrite", 0, Gone)],
    ),
    case(
        "refresh to nothing",
        "create table i7 (n int)\ninsert into i7 values (1)\ncreate materialized view i7m as select * from i7\ndelete from i7",
        "refresh materialized view i7m",
        &[],
    ),
    case(
        "refresh concurrently",
        "create table i8 (n int)\ninsert into i8 values (1)\ncreate materialized view i8m as select * from i8\ncreate unique index on i8m (n)\ninsert into i8 values (2)",
        "refresh materialized view concurrently i8m",
        &[],
    ),
    case(
        "alter in one transaction with another",
        "create table p3 (n int, t text)\ninsert into p3 values (1, 'x')\ncreate table p4 (n int)\ninsert into p4 values (1)",
        "begin; alter table p3 alter n type bigint; alter table p4 alter n type bigint; commit",
        &[("rewrite", 0, Gone)],
    ),
    case(
        "alter and drop a constraint",
        "create table p5 (n int primary key, m int, t text)\ninsert into p5 values (1, 1, 'x')",
        "begin; alter table p5 drop constraint p5_pkey; alter table p5 alter m type bigint; commit",
        &[("rewrite", 0, Gone)],
    ),
    case(
        "alter and truncate",
        "create table p6 (n int)\ncreate table p7 (n int, t text)\ninsert into p7 values (1)",
        "begin; truncate p6; alter table p7 alter n type bigint; commit",
        &[("truncate", 0, Gone)],
    ),
    case(
        "refresh with no data",
        "create materialized view p8m as select 1 as n",
        "refresh materialized view p8m with no data",
        &[],
    ),
    case(
        "cluster in a transaction",
        "create table p9 (n int primary key, t text)\ninsert into p9 select n, 'x' from generate_series(1, 100) n",
        "begin; cluster p9 using p9_pkey; insert into p9 values (0); commit",
        &[],
    ),
    case(
        "vacuum full",
        "create table j1 (n int primary key, t text)\ninsert into j1 select n, 'x' from generate_series(1, 100) n",
        "vacuum full j1",
        &[],
    ),
    case(
        "vacuum full with toast",
        "create table j2 (n int primary key, t text)\nalter table j2 alter t set storage external\ninsert into j2 select n, repeat('x', 5000) from generate_series(1, 10) n",
        "vacuum full j2",
        &[],
    ),
    case("vacuum full of an empty table", "create table j3 (n int)", "vacuum full j3", &[]),
    case(
        "vacuum full of an empty table with toast and index",
        "create table j4 (n int primary key, t text)",
        "vacuum full j4",
        &[],
    ),
    case(
        "cluster",
        "create table j5 (n int primary key, t text)\ninsert into j5 select n, 'x' from generate_series(1, 100) n",
        "cluster j5 using j5_pkey",
        &[],
    ),
    case(
        "reindex table",
        "create table j6 (n int primary key, t text)\ncreate index on j6 using hash (t)\ncreate index on j6 using brin (n)\ninsert into j6 select n, 'x' from generate_series(1, 100) n",
        "reindex table j6",
        &[],
    ),
    case(
        "reindex of an empty table",
        "create table j7 (n int, t text, p point, a int[])\ncreate index j7_hash on j7 using hash (n)\ncreate index j7_gist on j7 using gist (p)\ncreate index j7_gin on j7 using gin (a)\ncreate index j7_brin on j7 using brin (n)\ncreate index j7_spgist on j7 using spgist (p)\ncreate index j7_btree on j7 (n)",
        "reindex table j7",
        &[],
    ),
    case("reindex hash", "", "reindex index j7_hash", &[]),
    case("reindex gist", "", "reindex index j7_gist", &[]),
    case("reindex gin", "", "reindex index j7_gin", &[]),
    case("reindex brin", "", "reindex index j7_brin", &[]),
    case("reindex spgist", "", "reindex index j7_spgist", &[]),
    case("reindex btree", "", "reindex index j7_btree", &[]),
    case(
        "reindex two of an empty table at once",
        "create table j8 (n int)\ncreate index on j8 using brin (n)\ncreate index on j8 using hash (n)",
        "reindex table j8",
        &[],
    ),
    case(
        "reindex concurrently",
        "create table j9 (n int primary key, t text)\ninsert into j9 values (1)",
        "reindex table concurrently j9",
        &[],
    ),
    case("create index", "create table k1 (n int)\ninsert into k1 values (1)", "create index on k1 (n)", &[]),
    case(
        "create index concurrently",
        "create table k2 (n int)\ninsert into k2 values (1)",
        "create index concurrently on k2 (n)",
        &[],
    ),
    case(
        "set tablespace",
        "create table k3 (n int primary key, t text)\ninsert into k3 values (1)",
        "alter table k3 set tablespace elsewhere",
        &[],
    ),
    case("set tablespace of an empty table", "create table k4 (n int)", "alter table k4 set tablespace elsewhere", &[]),
    case(
        "set unlogged",
        "create table k5 (n int, t text)\ninsert into k5 values (1)",
        "alter table k5 set unlogged",
        &[("rewrite", 0, Gone)],
    ),
    case("set logged", "", "alter table k5 set logged", &[("rewrite", 0, Gone)]),
    case(
        "vacuum that truncates",
        "create table k6 (n int)\ninsert into k6 select generate_series(1, 900)\ndelete from k6",
        "vacuum k6",
        &[],
    ),
    case("vacuum full of a catalog", "", "vacuum full pg_description", &[]),
    case("vacuum full of a mapped catalog", "", "vacuum full pg_class", &[]),
    case("analyze", "", "analyze", &[]),
    case("drop after the catalog moved", "create table k7 (n int primary key)", "drop table k7", &[("drop", 0, Gone)]),
    case(
        "drop index after the catalog moved",
        "create table k8 (n int)\ncreate index k8_n on k8 (n)",
        "drop index k8_n",
        &[],
    ),
    // Temporary.
    case(
        "temporary table",
        "",
        "create temp table l1 (n serial primary key, t text); insert into l1 (t) select 'x' from generate_series(1, 3000); delete from l1; truncate l1; drop table l1",
        &[],
    ),
    case(
        "temporary table, dropped by itself",
        "",
        "begin; create temp table l2 (n int) on commit drop; insert into l2 select generate_series(1, 3000); update l2 set n = 1; commit",
        &[],
    ),
    case("temporary table until the session ends", "", "create temp table l3 (n int primary key, t text)", &[]),
    case(
        "unlogged rows",
        "create unlogged table l4 (n int)\ninsert into l4 select generate_series(1, 3000)",
        "delete from l4",
        &[],
    ),
    // Large objects.
    case("large object", "select lo_from_bytea(4711, repeat('x', 100000)::bytea)", "select lo_unlink(4711)", &[]),
    case(
        "many large objects",
        "select count(lo_from_bytea(50000 + n, 'x')) from generate_series(1, 1200) n",
        "select count(lo_unlink(50000 + n)) from generate_series(1, 1200) n",
        &[("delete", 1200, Named(&["pg_largeobject"]))],
    ),
    // Databases.
    case("create database", "", "create database other", &[]),
    case("move a database", "create database moved", "alter database moved set tablespace elsewhere", &[]),
    case("rename a database", "", "alter database moved rename to renamed", &[]),
    case("drop database", "", "drop database other", &[("drop-database", 0, Named(&[]))]),
];

/// The files of all relations in the database that WAL is written for, by name.
fn files(cluster: &Cluster<'_>) -> BTreeMap<String, u64> {
    let rows = cluster.psql(
        "select coalesce('toast of ' || (select o.oid::regclass from pg_class o where o.reltoastrelid = c.oid), \
         oid::regclass::text), pg_relation_filenode(oid) from pg_class c where relpersistence <> 't' and pg_relation_filenode(oid) is not null",
    );
    rows.lines()
        .map(|row| {
            let (name, file) = row.split_once('|').unwrap();
            (name.to_owned(), file.parse().unwrap())
        })
        .collect()
}

struct Done<'a> {
    case: &'a Case,
    from: Lsn,
    to: Lsn,
    before: BTreeMap<String, u64>,
    after: BTreeMap<String, u64>,
}

impl Done<'_> {
    fn expected(&self) -> BTreeSet<(String, u64, BTreeSet<u64>)> {
        let after: BTreeSet<u64> = self.after.values().copied().collect();
        let relations = |of: Of| match of {
            Gone => self.before.values().copied().filter(|file| !after.contains(file)).collect(),
            Named(names) => names.iter().map(|name| self.before[*name]).collect::<BTreeSet<u64>>(),
        };
        self.case.listed.iter().map(|(kind, rows, of)| ((*kind).to_owned(), *rows, relations(*of))).collect()
    }

    fn found(&self, suspects: &[Value]) -> BTreeSet<(String, u64, BTreeSet<u64>)> {
        let mine = suspects.iter().filter(|suspect| {
            let lsn: Lsn = suspect["lsn"].as_str().unwrap().parse().unwrap();
            (self.from..self.to).contains(&lsn)
        });
        mine.map(|suspect| {
            let files = suspect["relations"].as_array().unwrap().iter();
            let files = files.filter_map(|relation| relation["relfilenode"].as_u64()).collect();
            (suspect["kind"].as_str().unwrap().to_owned(), suspect["rows"].as_u64().unwrap(), files)
        })
        .collect()
    }
}

fn every_statement(major: u16, settings: &[(&'static str, &str)]) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let mut settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    settings.extend([("max_prepared_transactions", "4".to_owned()), ("autovacuum", "off".to_owned())]);
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, settings, ..Options::default() });
    let elsewhere = directory.create("elsewhere");
    cluster.psql(&format!("create tablespace elsewhere location '{}'", elsewhere.display()));
    let position = || cluster.psql("select pg_current_wal_insert_lsn()").parse::<Lsn>().unwrap();
    let mut done = Vec::new();
    for case in CASES {
        for line in case.given.lines() {
            cluster.psql(if line == "-- many" { MANY } else { line });
        }
        let (before, from) = (files(&cluster), position());
        for line in case.done.lines() {
            cluster.psql(line);
        }
        done.push(Done { case, from, to: position(), before, after: files(&cluster) });
    }
    cluster.switch_and_wait_archived();
    let mut command = walback(&directory);
    let suspects = ask(command.arg("--json").arg("--wal").arg(&cluster.archive).arg("suspects")).ended_with(0).json();
    let suspects = suspects["suspects"].as_array().unwrap();
    let mut wrong = String::new();
    for done in &done {
        let (expected, found) = (done.expected(), done.found(suspects));
        if expected != found {
            wrong += &format!(
                "{} ({} to {})\n  expected {expected:?}\n  found    {found:?}\n",
                done.case.name, done.from, done.to
            );
        }
    }
    assert!(wrong.is_empty(), "{major}:\n{wrong}");
    // Making the cluster, and what the cases are given, destroys nothing.
    let expected: usize = CASES.iter().map(|case| case.listed.len()).sum();
    assert_eq!(suspects.len(), expected, "{major}: {suspects:#?}");
}

#[test]
fn every_statement_is_told_by_13() {
    every_statement(13, &[]);
}

#[test]
fn every_statement_is_told_by_14() {
    every_statement(14, &[]);
}

#[test]
fn every_statement_is_told_by_15() {
    every_statement(15, &[]);
}

#[test]
fn every_statement_is_told_by_17() {
    every_statement(17, &[]);
}

#[test]
fn every_statement_is_told_by_18() {
    every_statement(18, &[]);
}

#[test]
fn every_statement_is_told_where_wal_is_written_for_decoding() {
    every_statement(15, &[("wal_level", "logical")]);
}

/// Asks a recovered server, in another of its databases.
fn sql_in(recovery: &Value, database: &str, query: &str) -> String {
    let connection = support::connection_to(recovery, database);
    run(client("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-c", query]))
}

/// Every kind of accident, one after the other; recovery to before each has what it destroyed, and what came before.
fn what_was_destroyed_comes_back(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
    cluster
        .psql("create table dropped (n int); create table emptied (n int primary key); create table cleared (n int)");
    for table in ["dropped", "emptied", "cleared"] {
        cluster.psql(&format!("insert into {table} select generate_series(1, 1500)"));
    }
    cluster.psql("create database other");
    cluster.psql("create database another");
    // A pg_basebackup refuses servers that are newer, and the functions have other names in older ones.
    let backup = match major {
        ..=15 => cluster.base_backup(Format::Tar, "base"),
        _ => cluster.base_backup_by_sql(Format::Tar, "base", || {}),
    };
    let ready = cluster.psql("select count(*) from pg_database");
    cluster.psql("delete from cleared");
    cluster.psql("truncate emptied");
    cluster.psql("drop table dropped");
    cluster.psql("drop database other");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let operator = Operator { directory: &directory, backups: backup.path.clone(), archive: cluster.archive.clone() };
    let suspects = ask(&mut operator.command(&["suspects"])).ended_with(0).json();
    let suspects = suspects["suspects"].as_array().unwrap();
    let kinds: Vec<&str> = suspects.iter().map(|suspect| suspect["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["drop-database", "drop", "truncate", "delete"], "the worst first: {suspects:#?}");
    let named: Vec<&Value> = suspects.iter().map(|suspect| &suspect["relations"][0]["name"]).collect();
    assert_eq!(named, ["other", "public.dropped", "public.emptied", "public.cleared"], "{suspects:#?}");
    let words = |suspect: &Value| -> Vec<String> {
        suspect["stop_before"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let counts =
        "select (select count(*) from dropped), (select count(*) from emptied), (select count(*) from cleared)";
    let recover = |name: &str, words: &[&str]| {
        let mut restore = operator.restore(name, words);
        let recovery = ask(restore.arg("--bin-dir").arg(&server.bin_dir)).ended_with(0).recovery();
        assert_is(&recovery, "matches_prediction", true);
        recovery
    };

    // A database is there again, can be entered, and nothing that came before is lost or undone.
    let stop = words(&suspects[0]);
    let recovery = recover("database", &stop.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(sql_in(&recovery, "other", "select 1"), "1");
    assert_eq!(sql(&recovery, "select count(*) from pg_database"), ready);
    assert_eq!(sql(&recovery, "select to_regclass('dropped') is null, (select count(*) from emptied)"), "t|0");
    operator.discards("database");

    for (suspect, name, expected) in [(&suspects[1], "drop", "1500|0|0"), (&suspects[2], "truncate", "1500|1500|0")] {
        // The lock of the transaction is replayed before its commit: only a promoted server can be asked.
        let mut stop = words(suspect);
        stop.extend(["--action".to_owned(), "promote".to_owned()]);
        let recovery = recover(name, &stop.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(sql(&recovery, counts), expected, "{name} of {major}");
        operator.about(&["stop", name]).ended_with(0);
        // Or one that stops before the lock.
        let lock = suspect["locked_from"].as_str().unwrap();
        let paused = recover(&format!("{name}-paused"), &["--lsn", lock, "--exclusive"]);
        assert_eq!(sql(&paused, counts), expected, "{name} of {major}, before its lock at {lock}");
        operator.discards(&format!("{name}-paused"));
    }

    let stop = words(&suspects[3]);
    let recovery = recover("delete", &stop.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(sql(&recovery, counts), "1500|1500|1500");
    operator.discards("delete");
}

#[test]
fn what_was_destroyed_comes_back_from_13() {
    what_was_destroyed_comes_back(13);
}

#[test]
fn what_was_destroyed_comes_back_from_15() {
    what_was_destroyed_comes_back(15);
}

#[test]
fn what_was_destroyed_comes_back_from_18() {
    what_was_destroyed_comes_back(18);
}
