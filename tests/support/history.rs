//! A cluster's past with everything in it at which recovery can stop, kept as backups and an archive.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::backup::Format;
use super::cluster::{Cluster, Options, Stop};
use super::digest::{TreeDigest, tree_digest};
use super::directory::Directory;
use super::server::Server;

/// A transaction that ended, and what the table `kept` held on both sides of its end.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its XID.
    pub xid: String,
    /// When it committed, to the microsecond, as PostgreSQL prints it; empty where it was rolled back.
    pub at: String,
    /// Where the record of its end starts.
    pub lsn: String,
    /// The rows before.
    pub before: String,
    /// The rows after.
    pub after: String,
}

/// The past of a cluster with segments of 1 MB, of PostgreSQL 15 where no other one is asked for. Its server is stopped; nothing writes there any more.
///
/// In this order, all on timeline 1: a base backup by SQL (`by-sql`) with the transaction `meanwhile` and restore point
/// `inside` between its start and its end; base backups (`gz`, `tar-none`, `plain-stream`, `tar-stream`, `plain-none`);
/// the transaction `one`, restore point `first`, `two` with a subtransaction, `aborted`, `prepared` with restore point `while prepared` between
/// its halves, restore point `fork`, where timeline 2 branches off with `branch` and restore point `on the branch`;
/// `three`, restore point `trunk`, `accident`, `after`. Each line of it begins a segment.
#[derive(Debug)]
pub struct History {
    /// What holds it.
    pub directory: &'static Directory,
    /// The directory of the backups.
    pub backups: PathBuf,
    /// The archive.
    pub archive: PathBuf,
    /// Its transactions by name.
    pub transactions: BTreeMap<&'static str, Transaction>,
    /// The rows at its restore points.
    pub restore_points: BTreeMap<&'static str, String>,
    /// The XID of the subtransaction of `two`.
    pub subtransaction: String,
    /// The cluster's identifier.
    pub system_identifier: String,
    /// Backups and archive as they were when it was over.
    digests: [TreeDigest; 2],
}

impl History {
    /// Makes it, in a directory that lasts as long as the test program.
    #[track_caller]
    pub fn make() -> History {
        History::of(&Server::v15())
    }

    /// The same past of a server of another major.
    #[track_caller]
    pub fn of(server: &Server) -> History {
        let directory = Directory::lasting();
        let settings = [
            ("max_prepared_transactions", "4"),
            ("track_commit_timestamp", "on"),
            ("autovacuum", "off"),
            ("bgwriter_lru_maxpages", "0"),
        ];
        let settings = settings.map(|(name, value)| (name, value.to_owned())).to_vec();
        let options = Options { segment_mib: 1, settings, ..Options::default() };
        let cluster = Cluster::create(directory, server, &options);
        let mut making = Making { cluster, transactions: BTreeMap::new(), restore_points: BTreeMap::new() };
        let subtransaction = making.live();
        let Making { cluster, transactions, restore_points } = making;
        let system_identifier = cluster.psql("select system_identifier from pg_control_system()");
        cluster.stop(Stop::Fast);
        let (backups, archive) = (directory.path().join("backups"), cluster.archive);
        let digests = [tree_digest(&backups), tree_digest(&archive)];
        History {
            directory,
            backups,
            archive,
            transactions,
            restore_points,
            subtransaction,
            system_identifier,
            digests,
        }
    }

    /// The transaction of that name.
    pub fn transaction(&self, name: &str) -> &Transaction {
        &self.transactions[name]
    }

    /// Panics where its backups or its archive are not byte for byte what they were.
    #[track_caller]
    pub fn assert_untouched(&self) {
        tree_digest(&self.backups).assert_same_as(&self.digests[0]);
        tree_digest(&self.archive).assert_same_as(&self.digests[1]);
    }
}

struct Making {
    cluster: Cluster<'static>,
    transactions: BTreeMap<&'static str, Transaction>,
    restore_points: BTreeMap<&'static str, String>,
}

impl Making {
    /// Gives the XID of the subtransaction.
    fn live(&mut self) -> String {
        self.cluster.psql("create table kept (n int)");
        self.backup_by_sql();
        self.cluster.base_backup(Format::TarGz, "gz");
        let backup = self.cluster.base_backup_without_wal(Format::Tar, "tar-none");
        self.cluster.base_backup(Format::Plain, "plain-stream");
        self.cluster.base_backup(Format::Tar, "tar-stream");
        self.cluster.base_backup_without_wal(Format::Plain, "plain-none");
        self.transaction("one", "insert into kept values (1)", "commit");
        self.restore_point("first");
        self.transaction("two", "insert into kept values (2); savepoint s; insert into kept values (22)", "commit");
        let subtransaction = self.cluster.psql("select xmin from kept where n = 22");
        self.transaction("aborted", "insert into kept values (99)", "rollback");
        self.prepared();
        self.restore_point("fork");
        self.branch(&backup);
        self.transaction("three", "insert into kept values (3)", "commit");
        self.restore_point("trunk");
        self.transaction("accident", "delete from kept", "commit");
        self.transaction("after", "insert into kept values (4)", "commit");
        subtransaction
    }

    fn backup_by_sql(&mut self) {
        let mut meanwhile = None;
        self.cluster.base_backup_by_sql(Format::Tar, "by-sql", || {
            let xid = self.cluster.psql("begin; insert into kept values (0); select txid_current(); commit");
            self.cluster.restore_point("inside");
            meanwhile = Some(xid);
        });
        self.ended("meanwhile", &meanwhile.unwrap(), "", String::new());
    }

    fn transaction(&mut self, name: &'static str, work: &str, end: &str) {
        let before = rows(&self.cluster);
        let told =
            self.cluster.psql(&format!("begin; {work}; select txid_current(), pg_current_wal_insert_lsn(); {end}"));
        let (xid, lsn) = told.split_once('|').unwrap();
        self.ended(name, xid, lsn, before);
    }

    fn prepared(&mut self) {
        let before = rows(&self.cluster);
        let xid =
            self.cluster.psql("begin; insert into kept values (5); select txid_current(); prepare transaction 'half'");
        self.restore_point("while prepared");
        let lsn = self.cluster.psql("select pg_current_wal_insert_lsn()");
        self.cluster.psql("commit prepared 'half'");
        self.ended("prepared", &xid, &lsn, before);
    }

    fn ended(&mut self, name: &'static str, xid: &str, lsn: &str, before: String) {
        let at = self.cluster.psql(&format!("select pg_xact_commit_timestamp('{xid}')"));
        let after = rows(&self.cluster);
        self.transactions.insert(name, Transaction { xid: xid.to_owned(), at, lsn: lsn.to_owned(), before, after });
        self.cluster.switch_and_wait_archived();
    }

    fn restore_point(&mut self, name: &'static str) {
        self.cluster.restore_point(name);
        self.restore_points.insert(name, rows(&self.cluster));
        self.cluster.switch_and_wait_archived();
    }

    /// Timeline 2, which nobody goes on from.
    fn branch(&mut self, backup: &super::Backup) {
        let trunk = &self.cluster;
        let copy = trunk.promote_copy(backup, "branch", &[("recovery_target_name", "fork")]);
        let mut branch = Making { cluster: copy, transactions: BTreeMap::new(), restore_points: BTreeMap::new() };
        branch.transaction("branch", "insert into kept values (100)", "commit");
        branch.restore_point("on the branch");
        branch.cluster.stop(Stop::Fast);
        self.transactions.append(&mut branch.transactions);
        self.restore_points.append(&mut branch.restore_points);
    }
}

/// What the table `kept` holds: its numbers in order, with commas.
#[track_caller]
pub fn rows(cluster: &Cluster<'_>) -> String {
    cluster.psql(ROWS)
}

/// The query for it.
pub const ROWS: &str = "select coalesce(string_agg(n::text, ',' order by n), '') from kept";
