//! The random past of a real cluster: everything that can confuse where recovery stops, in an order nobody chose.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use walback::core::Lsn;

use crate::support::Random;
use crate::support::{Backup, Cluster, Directory, Format, Options, Server, Session, Stop};

/// Names of restore points; a past uses some of them several times.
pub(crate) const NAMES: [&str; 9] = [
    "a",
    "before deploy",
    "it's",
    "say \"when\"",
    "täglich – ✓",
    "100 % %f %p",
    r"back\slash\\",
    " spaces around ",
    "x23456789012345678901234567890123456789012345678901234567890123",
];

/// Subtransactions of one transaction of which a snapshot does not hold all any more (`PGPROC_MAX_CACHED_SUBXIDS` is 64).
const OVERFLOWING: usize = 70;
/// As high as `max_connections` ever gets.
pub(crate) const MOST_CONNECTIONS: usize = 60;

/// What is left of it: base backups and an archive. Its servers are stopped.
#[derive(Debug)]
pub(crate) struct Past {
    /// What holds it.
    pub(crate) directory: Directory,
    /// The programs that made it.
    pub(crate) server: Server,
    /// The directory of the backups.
    pub(crate) backups: PathBuf,
    /// The archive.
    pub(crate) archive: PathBuf,
    /// The backups by the names that they have for Walback.
    pub(crate) taken: Vec<(String, Backup)>,
    /// What happened, in order.
    pub(crate) story: Vec<String>,
}

impl Past {
    /// Makes the past of that seed.
    #[track_caller]
    pub(crate) fn make(server: &Server, random: Random) -> Past {
        let directory = Directory::in_memory();
        let mut maker = Maker::new(&directory, server, random);
        maker.live();
        let Maker { cluster, taken, story, hands, .. } = maker;
        drop(hands);
        cluster.stop(Stop::Fast);
        let (backups, archive) = (directory.path().join("backups"), cluster.archive.clone());
        Past { server: server.clone(), backups, archive, taken, story, directory }
    }
}

/// Builds what makes clocks bad, where there is a C compiler.
fn bad_clock(directory: &Directory) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/clock.c");
    let library = directory.path().join("clock.so");
    let status = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    status.is_ok_and(|status| status.success()).then_some(library)
}

/// Who makes it: a cluster, and who works on it.
struct Maker<'d> {
    cluster: Cluster<'d>,
    hands: Hands,
    taken: Vec<(String, Backup)>,
    story: Vec<String>,
    /// Of each backup, its timeline and where WAL was when it had ended.
    ends: Vec<(u32, Lsn)>,
    copies: usize,
}

/// Those who work on a cluster, over several connections at the same time.
struct Hands {
    random: Random,
    sessions: Vec<Work>,
    /// Transactions that are prepared and not ended.
    prepared: Vec<String>,
    /// Databases that were made.
    databases: Vec<String>,
    /// Whatever must not be used twice.
    serial: usize,
    major: u16,
}

/// What a session is in the middle of.
struct Work {
    session: Session,
    /// The savepoints of the open transaction, if one is open.
    open: Option<Vec<String>>,
}

const TABLES: &str = "
create table kept (n int, by int);
create table large (v text); alter table large alter v set storage external;
insert into kept select n, 0 from generate_series(1, 2000) n;
create procedure burst(who int, times int) language plpgsql as $$
begin
  for i in 1..times loop
    insert into kept values (i, who);
    if i % 5 = 4 then rollback; else commit; end if;
  end loop;
end $$;
create procedure nest(who int, times int) language plpgsql as $$
begin
  for i in 1..times loop
    begin
      insert into kept values (i, who);
      begin
        insert into kept values (-i, who);
        if i % 3 = 0 then raise exception 'no'; end if;
      exception when raise_exception then null; end;
      if i % 4 = 0 then raise exception 'no'; end if;
    exception when raise_exception then null; end;
  end loop;
end $$;";

impl Hands {
    fn next(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    fn sit_down(&mut self, cluster: &Cluster<'_>) {
        let session = |sync: bool| {
            let mut session = cluster.session();
            session.query(&format!("set synchronous_commit = {};", if sync { "on" } else { "off" }));
            Work { session, open: None }
        };
        self.sessions = (0..5).map(|_| session(self.random.chance(60))).collect();
    }

    /// So many things happen.
    fn work(&mut self, cluster: &Cluster<'_>, times: usize) {
        for _ in 0..times {
            match self.random.below(100) {
                0..68 => self.go_on(),
                68..75 => self.restore_point(cluster),
                75..80 => self.end_prepared(cluster),
                80..83 => drop(cluster.psql("select pg_switch_wal()")),
                83..86 => drop(cluster.psql("checkpoint")),
                86..92 => self.message(cluster),
                92..96 => self.burst(),
                96..98 => self.database(cluster),
                _ => self.define(cluster),
            }
        }
    }

    /// Somebody goes on with what he is at.
    fn go_on(&mut self) {
        let who = self.random.below(self.sessions.len());
        let sql = match self.sessions[who].open.take() {
            None => self.idle(who),
            Some(savepoints) => self.within(who, savepoints),
        };
        self.sessions[who].session.query(&sql);
    }

    /// What somebody does who has no transaction open.
    fn idle(&mut self, who: usize) -> String {
        let n = self.next();
        match self.random.below(10) {
            0..2 => format!("insert into kept values ({n}, {who});"),
            2 => format!("delete from kept where n = {n} and by = 0;"),
            3 => format!("update kept set by = {who} where n = {n} and by = 0;"),
            4 => format!("call nest({who}, {});", self.random.between(1, 12)),
            5 => "begin; select 1; rollback;".to_owned(),
            6 => {
                self.sessions[who].open = Some(Vec::new());
                "begin;".to_owned()
            }
            _ => {
                self.sessions[who].open = Some(Vec::new());
                format!("begin; insert into kept values ({n}, {who});")
            }
        }
    }

    /// What somebody does with an open transaction.
    fn within(&mut self, who: usize, mut savepoints: Vec<String>) -> String {
        let n = self.next();
        let sql = match self.random.below(13) {
            0..3 => return "commit;".to_owned(),
            3 => return "rollback;".to_owned(),
            4 | 5 if self.prepared.len() < 6 => {
                let gid = format!("prepared {n}, it's");
                let sql = format!("prepare transaction '{}';", gid.replace('\'', "''"));
                self.prepared.push(gid);
                return sql;
            }
            6 | 7 => {
                savepoints.push(format!("s{n}"));
                format!("savepoint s{n}; insert into kept values ({n}, {who});")
            }
            8 if !savepoints.is_empty() => {
                let to = self.random.below(savepoints.len());
                savepoints.truncate(to + 1);
                format!("rollback to {};", savepoints[to])
            }
            9 if !savepoints.is_empty() => {
                let to = self.random.below(savepoints.len());
                let sql = format!("release {};", savepoints[to]);
                savepoints.truncate(to);
                sql
            }
            10 => format!("call nest({who}, {});", self.random.between(1, 12)),
            11 => {
                format!("insert into large select repeat('x', {}) from generate_series(1, 3);", 100 + n * 37 % 20_000)
            }
            _ => format!("insert into kept values ({n}, {who}); delete from kept where n = {n} and by = 0;"),
        };
        self.sessions[who].open = Some(savepoints);
        sql
    }

    /// A transaction with more subtransactions than a snapshot holds stays open.
    fn overflow(&mut self) {
        let work = &mut self.sessions[0];
        let begin = if work.open.is_none() { "begin; " } else { "" };
        let times = OVERFLOWING * 4;
        work.session.query(&format!("{begin}insert into kept values (0, 0); call nest(0, {times});"));
        work.open.get_or_insert_default();
    }

    fn restore_point(&mut self, cluster: &Cluster<'_>) {
        let name = self.random.pick(&NAMES).unwrap();
        cluster.restore_point(name);
    }

    fn end_prepared(&mut self, cluster: &Cluster<'_>) {
        if self.prepared.is_empty() {
            return;
        }
        let gid = self.prepared.swap_remove(self.random.below(self.prepared.len())).replace('\'', "''");
        let how = if self.random.chance(60) { "commit" } else { "rollback" };
        cluster.psql(&format!("{how} prepared '{gid}'"));
    }

    /// Moves what follows to any place in a page, and sometimes over several.
    fn message(&mut self, cluster: &Cluster<'_>) {
        let size = self.random.below(if self.random.clone().chance(20) { 60_000 } else { 900 });
        let transactional = self.random.chance(30);
        cluster.psql(&format!("select 1 from pg_logical_emit_message({transactional}, 'm', repeat('m', {size}))"));
    }

    /// All who have nothing open end transactions as fast as they can.
    fn burst(&mut self) {
        let times = self.random.between(5, 60);
        thread::scope(|scope| {
            for (who, work) in self.sessions.iter_mut().enumerate().filter(|(_, work)| work.open.is_none()) {
                scope.spawn(move || work.session.query(&format!("call burst({who}, {times});")));
            }
        });
    }

    fn database(&mut self, cluster: &Cluster<'_>) {
        if !self.databases.is_empty() && self.random.chance(60) {
            let name = self.databases.swap_remove(self.random.below(self.databases.len()));
            return drop(cluster.psql(&format!("drop database {name}")));
        }
        let name = format!("d{}", self.next());
        let how = if self.major >= 15 && self.random.chance(70) { " strategy file_copy" } else { "" };
        cluster.psql(&format!("create database {name} template template0{how}"));
        self.databases.push(name);
    }

    /// Makes, empties and drops a table.
    fn define(&mut self, cluster: &Cluster<'_>) {
        let n = self.next();
        let words = [
            format!("create table x{n} (n int)"),
            format!("insert into x{n} select generate_series(1, {n})"),
            format!("truncate x{n}"),
            format!("insert into x{n} values (1)"),
            format!("alter table x{n} add column m int default 5, alter n type text"),
            format!("drop table x{n}"),
        ];
        let until = self.random.between(2, words.len());
        let all = words[..until].join("; ");
        cluster.psql(&if self.random.chance(50) { format!("begin; {all}; commit") } else { all });
    }

    /// All leave; what is open is rolled back, what is prepared stays.
    fn leave(&mut self) {
        self.sessions.clear();
    }
}

impl<'d> Maker<'d> {
    #[track_caller]
    fn new(directory: &'d Directory, server: &Server, mut random: Random) -> Maker<'d> {
        let settings = [
            ("max_prepared_transactions", "8"),
            ("track_commit_timestamp", "on"),
            ("autovacuum", "off"),
            ("max_connections", "30"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("shared_buffers", "8MB"),
        ];
        let preload = if random.chance(70) { bad_clock(directory) } else { None };
        let options = Options {
            segment_mib: 1,
            checksums: random.chance(30),
            gzip: false,
            settings: settings.map(|(name, value)| (name, value.to_owned())).to_vec(),
            preload: preload.clone(),
        };
        let cluster = Cluster::create(directory, server, &options);
        let hands = Hands {
            random,
            sessions: Vec::new(),
            prepared: Vec::new(),
            databases: Vec::new(),
            serial: 0,
            major: server.major,
        };
        let story = vec![if preload.is_some() { "bad clock" } else { "good clock" }.to_owned()];
        Maker { cluster, hands, taken: Vec::new(), story, ends: Vec::new(), copies: 0 }
    }

    #[track_caller]
    fn live(&mut self) {
        self.cluster.psql(TABLES);
        self.hands.sit_down(&self.cluster);
        self.work(5, 30);
        self.backup();
        self.work(20, 60);
        for _ in 0..self.hands.random.between(2, 4) {
            match self.hands.random.below(6) {
                0 => self.crash(),
                1 => self.restart(),
                2 | 3 => self.fork(),
                _ => self.backup(),
            }
            self.work(10, 50);
        }
        self.hands.leave();
    }

    fn work(&mut self, from: usize, to: usize) {
        let times = self.hands.random.between(from, to);
        self.hands.work(&self.cluster, times);
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    #[track_caller]
    fn backup(&mut self) {
        let name = format!("b{}", self.taken.len() + 1);
        let random = &mut self.hands.random;
        let format = *random.pick(&[Format::Plain, Format::Plain, Format::Tar, Format::TarGz]).unwrap();
        let (overflows, is_idle, is_by_sql) = (random.chance(15), random.chance(30), random.chance(60));
        if overflows {
            self.hands.overflow();
        }
        let idle = || {
            if is_idle {
                // A label's times are whole seconds.
                thread::sleep(Duration::from_millis(1100));
            }
        };
        let backup = if is_by_sql || self.cluster.server.pg_basebackup().is_none() {
            let (cluster, hands) = (&self.cluster, &mut self.hands);
            cluster.base_backup_by_sql(format, &name, || {
                idle();
                if !is_idle || hands.random.chance(30) {
                    let times = hands.random.between(0, 25);
                    hands.work(cluster, times);
                }
                idle();
            })
        } else {
            idle();
            let backup = if self.hands.random.chance(50) {
                self.cluster.base_backup(format, &name)
            } else {
                self.cluster.base_backup_without_wal(format, &name)
            };
            idle();
            backup
        };
        let of = self.cluster.timeline();
        let words = [(overflows, ", overflowed"), (is_idle, ", idle"), (is_by_sql, ", by SQL")];
        let words: String = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        self.tell(format!("{name} of timeline {of}{words}"));
        self.taken.push((name, backup));
        let end = self.cluster.psql("select pg_current_wal_insert_lsn()").parse().unwrap();
        self.ends.push((of, end));
    }

    #[track_caller]
    fn crash(&mut self) {
        self.tell("crash");
        self.cluster.stop(Stop::Immediate);
        self.hands.leave();
        self.cluster.start();
        self.look_again();
    }

    #[track_caller]
    fn restart(&mut self) {
        let connections = self.hands.random.between(20, MOST_CONNECTIONS).to_string();
        self.tell(format!("max_connections {connections}"));
        self.hands.leave();
        self.cluster.stop(Stop::Fast);
        self.cluster.configure(&[("max_connections", &connections)]);
        self.cluster.start();
        self.look_again();
    }

    /// Who was lost in a crash, or is of another timeline, is found out, and all sit down again.
    #[track_caller]
    fn look_again(&mut self) {
        let list = |sql: &str| self.cluster.psql(sql).lines().map(str::to_owned).collect();
        self.hands.prepared = list("select gid from pg_prepared_xacts");
        self.hands.databases = list("select datname from pg_database where datname like 'd%'");
        self.hands.sit_down(&self.cluster);
    }

    /// A copy of a backup is promoted and goes on into the same archive: beside this cluster, or instead of it.
    #[track_caller]
    fn fork(&mut self) {
        self.copies += 1;
        let name = format!("copy{}", self.copies);
        let chosen = self.hands.random.below(self.taken.len());
        let instead = self.hands.random.chance(50);
        // Something has to be written for a segment to end.
        let until = self.cluster.restore_point("fork").parse().unwrap();
        let segment = self.cluster.switch_and_wait_archived();
        let replaces = self.promoted(chosen, until, &name);
        let of = self.taken[chosen].0.clone();
        self.tell(format!(
            "timeline {} of {of}, {}, while the other is in {segment}",
            replaces.timeline(),
            if instead { "instead" } else { "beside" }
        ));
        self.hands.leave();
        let original = std::mem::replace(&mut self.cluster, replaces);
        self.look_again();
        self.work(5, 40);
        if instead {
            return original.stop(Stop::Fast);
        }
        if self.hands.random.chance(30) {
            self.backup();
        }
        self.hands.leave();
        self.cluster.stop(Stop::Fast);
        self.cluster = original;
        self.look_again();
    }

    /// Recovered to its end, or to a random place of this cluster's timeline where it is of that, before the end of the
    /// restore point at `until`, and promoted.
    #[track_caller]
    fn promoted(&mut self, chosen: usize, until: Lsn, name: &str) -> Cluster<'d> {
        let connections = MOST_CONNECTIONS.to_string();
        let (timeline, end) = self.ends[chosen];
        // A restore point is over a hundred bytes long.
        let room = usize::try_from((until.0 - 100).saturating_sub(end.0)).unwrap();
        let lsn = Lsn(end.0 + self.hands.random.below(room.max(1)) as u64).to_string();
        let mut settings = vec![("recovery_target_timeline", "current"), ("max_connections", &*connections)];
        // The backup of a copy has the copy's own target in its configuration. What is set to nothing comes first.
        settings.extend(match timeline == self.cluster.timeline() && room > 0 && self.hands.random.chance(70) {
            true => [("recovery_target", ""), ("recovery_target_lsn", &*lsn)],
            false => [("recovery_target_lsn", ""), ("recovery_target", "immediate")],
        });
        self.cluster.promote_copy(&self.taken[chosen].1, name, &settings)
    }
}
