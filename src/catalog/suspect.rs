//! Transactions that destroyed data, told from what they did to the files of relations.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::core::{Lsn, Target, TargetKind, TimelineChoice, TimelineId, Timestamp, Xid};
use crate::wal::RelFileLocator;
use crate::wal::summary::{DatabaseDrop, Ended, RelationWork, Summary, Work};

/// Deletes or updates of at least so many rows are suspects, unless the configuration says otherwise.
pub const MANY_ROWS: u64 = 1000;

/// Catalogs that tell a dropped table from a dropped index (`src/include/catalog/`): their files have these numbers
/// unless somebody rewrote the catalog.
const PG_CLASS: u32 = 1259;
const PG_TYPE: u32 = 1247;
const PG_INDEX: u32 = 2610;

/// How a transaction destroyed data. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspectKind {
    /// `DROP DATABASE`.
    DropDatabase,
    /// Tables, materialized views or sequences were dropped.
    Drop,
    /// Tables were emptied.
    Truncate,
    /// Many rows were deleted.
    Delete,
    /// Many rows were updated.
    Update,
    /// A relation got new contents: `ALTER TABLE` that rewrites, `REFRESH MATERIALIZED VIEW`.
    Rewrite,
}

impl SuspectKind {
    /// Its name as the contract has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DropDatabase => "drop-database",
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Delete => "delete",
            Self::Update => "update",
            Self::Rewrite => "rewrite",
        }
    }
}

/// A transaction that destroyed data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// How.
    pub kind: SuspectKind,
    /// The transaction.
    pub xid: Xid,
    /// The timeline whose WAL it is in.
    pub timeline: TimelineId,
    /// Where its commit record starts.
    pub lsn: Lsn,
    /// When it committed.
    pub at: Timestamp,
    /// What it destroyed: the files of relations; tables, indexes and TOAST are not told apart.
    pub relations: Vec<SuspectRelation>,
    /// Rows in all of them together that were deleted or updated.
    pub rows: u64,
    /// The options that make recovery stop just before it.
    pub stop_before: Vec<String>,
    /// Its first record that took a lock which shuts out even readers. A server that is paused behind that, and before
    /// the commit, has the lock too: what it is about cannot be read there.
    pub locked_from: Option<Lsn>,
    /// What WAL does not tell, in words.
    pub note: Option<String>,
}

/// A relation that a transaction destroyed, or rows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectRelation {
    /// The database's OID; 0 for what all databases share.
    pub database: u32,
    /// The number that its files had. Often, but not always, the relation's OID. `null` for a whole database.
    pub relfilenode: Option<u32>,
    /// Its name, where that is known.
    pub name: Option<String>,
    /// Rows that were deleted or updated.
    pub rows: u64,
}

impl Suspect {
    /// For lists with the worst first: by kind, then by how much, then the newest first.
    fn order(&self) -> impl Ord + use<> {
        let much = (self.rows, self.relations.len());
        (self.kind, std::cmp::Reverse(much), std::cmp::Reverse((self.timeline, self.lsn)))
    }
}

/// Sorts with the worst first.
pub fn sort_worst_first(suspects: &mut [Suspect]) {
    suspects.sort_by_cached_key(Suspect::order);
}

/// What a transaction destroyed, by all that it did. A transaction may be several suspects, one of each kind.
#[must_use]
pub fn suspects_of(ended: &Ended, timeline: TimelineId, rows: u64) -> Vec<Suspect> {
    let files = Files::of(ended);
    let work = &ended.work;
    let mut found = Vec::new();
    for drop in &work.databases {
        found.push(dropped_database(ended, timeline, drop));
    }
    if let Some((kind, note)) = files.destroyed_by(work) {
        let relations = files.gone.iter().map(|relation| SuspectRelation::of(*relation, 0)).collect();
        found.push(Suspect { note: note.map(str::to_owned), ..suspect(ended, timeline, kind, relations) });
    }
    for (kind, of) in [
        (SuspectKind::Delete, (|work: &RelationWork| work.deleted) as fn(&RelationWork) -> u64),
        (SuspectKind::Update, |work: &RelationWork| work.updated),
    ] {
        let relations = changed(work, of);
        if relations.iter().map(|relation| relation.rows).sum::<u64>() >= rows.max(1) {
            found.push(suspect(ended, timeline, kind, relations));
        }
    }
    found
}

/// The relations of users of which rows were changed, those with the most first.
fn changed(work: &Work, of: fn(&RelationWork) -> u64) -> Vec<SuspectRelation> {
    let users = work.relations.iter().filter(|work| work.relation.is_of_users() && !work.created && of(work) > 0);
    let mut relations: Vec<SuspectRelation> = users.map(|work| SuspectRelation::of(work.relation, of(work))).collect();
    relations.sort_by_key(|relation| std::cmp::Reverse(relation.rows));
    relations
}

impl SuspectRelation {
    fn of(relation: RelFileLocator, rows: u64) -> SuspectRelation {
        SuspectRelation { database: relation.database, relfilenode: Some(relation.relation), name: None, rows }
    }
}

fn suspect(ended: &Ended, timeline: TimelineId, kind: SuspectKind, relations: Vec<SuspectRelation>) -> Suspect {
    let target = Target {
        inclusive: false,
        timeline: TimelineChoice::Number(timeline),
        ..Target::new(TargetKind::Xid(ended.xid))
    };
    Suspect {
        kind,
        xid: ended.xid,
        timeline,
        lsn: ended.lsn,
        at: ended.at,
        rows: relations.iter().map(|relation| relation.rows).sum(),
        relations,
        stop_before: target.to_options(),
        locked_from: ended.work.first_lock,
        note: None,
    }
}

/// Its files go before it commits: only stopping before they do saves the database.
fn dropped_database(ended: &Ended, timeline: TimelineId, drop: &DatabaseDrop) -> Suspect {
    let relation = SuspectRelation { database: drop.database, relfilenode: None, name: None, rows: 0 };
    let target = Target {
        inclusive: false,
        timeline: TimelineChoice::Number(timeline),
        ..Target::new(TargetKind::Lsn(drop.lsn))
    };
    Suspect {
        stop_before: target.to_options(),
        note: Some(format!(
            "DROP DATABASE cannot be taken back by stopping before its commit: the files go earlier, at {}",
            drop.lsn
        )),
        ..suspect(ended, timeline, SuspectKind::DropDatabase, vec![relation])
    }
}

/// The files that a transaction removed, and those that it made.
struct Files<'a> {
    /// Removed, and not made by itself.
    gone: Vec<RelFileLocator>,
    /// Made, and not removed by itself, in order.
    made: Vec<&'a RelationWork>,
}

impl<'a> Files<'a> {
    fn of(ended: &'a Ended) -> Files<'a> {
        let work = &ended.work.relations;
        let created = |relation: &RelFileLocator| work.iter().any(|work| work.created && work.relation == *relation);
        Files {
            gone: ended.dropped.iter().filter(|relation| !created(relation)).copied().collect(),
            made: work.iter().filter(|work| work.created && !ended.dropped.contains(&work.relation)).collect(),
        }
    }

    /// How this destroyed data, if it did, and what cannot be told.
    ///
    /// Every one of these statements removes files (observed on PostgreSQL 13 to 18): `DROP` makes none for them and
    /// deletes rows of `pg_class`; `TRUNCATE` makes an empty one for the table first; a rewrite inserts rows into the
    /// new one; `VACUUM FULL`, `CLUSTER`, `REINDEX` and a move to another tablespace write it page by page.
    fn destroyed_by(&self, work: &Work) -> Option<(SuspectKind, Option<&'static str>)> {
        if self.gone.is_empty() {
            return None;
        }
        if !work.truncated.is_empty() {
            return Some((SuspectKind::Truncate, None));
        }
        let classes = Catalog::of(work, PG_CLASS);
        let indexes = Catalog::of(work, PG_INDEX);
        let types = Catalog::of(work, PG_TYPE);
        let only_indexes = indexes.deleted > 0 && classes.deleted <= indexes.deleted && types.deleted == 0;
        if self.made.is_empty() {
            return (!only_indexes).then_some((SuspectKind::Drop, None));
        }
        if classes.deleted > classes.inserted && !only_indexes {
            return Some((SuspectKind::Drop, None));
        }
        if self.made.iter().any(|made| made.inserted > 0) {
            return Some((SuspectKind::Rewrite, Some(REWRITTEN)));
        }
        self.emptied().then_some((SuspectKind::Truncate, Some(EMPTIED)))
    }

    /// Whether the new files say that a table was emptied: the first one made is empty, or a table's and its TOAST
    /// table's next to each other.
    fn emptied(&self) -> bool {
        let empty: Vec<bool> = self.made.iter().map(|made| made.inserted + made.pages == 0).collect();
        empty.first() == Some(&true) || empty.windows(2).any(|pair| pair == [true, true])
    }
}

const REWRITTEN: &str = "the rows were written anew into other files, as ALTER TABLE does where it changes their form, and REFRESH MATERIALIZED VIEW: WAL does not tell what became of them";
const EMPTIED: &str = "TRUNCATE and VACUUM FULL of an empty table look alike in WAL";

/// Rows of a catalog that a transaction inserted and deleted.
#[derive(Default)]
struct Catalog {
    inserted: u64,
    deleted: u64,
}

impl Catalog {
    fn of(work: &Work, number: u32) -> Catalog {
        let catalog = work.relations.iter().filter(|work| work.relation.relation == number);
        catalog.fold(Catalog::default(), |sum, work| Catalog {
            inserted: sum.inserted + work.inserted,
            deleted: sum.deleted + work.deleted,
        })
    }
}

/// How a transaction ended that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fate {
    /// It committed, having done this in the segment.
    Committed(Box<Ended>),
    /// It was rolled back.
    RolledBack,
}

/// Puts together what transactions did in several segments of one timeline.
///
/// A summary says what lies in one segment alone. Fed with the summaries in order, this keeps what transactions did
/// that have not ended, and adds it to their end. Only where much is at stake and a summary does not say how a
/// transaction ended, it asks.
#[derive(Debug, Clone, Default)]
pub struct Stitch {
    rows: u64,
    open: HashMap<Xid, Work>,
}

impl Stitch {
    /// For finding transactions that deleted or updated at least `rows` rows. The summaries' floor has to be at most
    /// half of it: a transaction that did enough did half of it in its last segment, or before.
    #[must_use]
    pub fn new(rows: u64) -> Stitch {
        Stitch { rows, open: HashMap::new() }
    }

    /// Takes the next segment. `ask` is to find the ends of these transactions in this very segment, or of those whose
    /// subtransactions they are. Gives the notable transactions that committed in it, with all that they did.
    pub fn feed(&mut self, summary: &Summary, ask: &mut dyn FnMut(&[Xid]) -> BTreeMap<Xid, Fate>) -> Vec<Ended> {
        let mut whole: Vec<Ended> = summary.notable.iter().map(|ended| self.complete(ended.clone())).collect();
        let unknown = self.unknown(summary);
        if !unknown.is_empty() {
            for (xid, fate) in ask(&unknown) {
                match fate {
                    Fate::Committed(ended) => whole.push(self.complete(*ended)),
                    Fate::RolledBack => {
                        self.open.remove(&xid);
                    }
                }
            }
            whole.sort_by_key(|ended| ended.lsn);
            whole.dedup_by_key(|ended| ended.lsn);
        }
        for (xid, work) in &summary.open {
            self.open.entry(*xid).or_default().add(work.clone());
        }
        if let Some(oldest) = summary.oldest_running {
            let still = |xid: &Xid| !xid.precedes(oldest) || summary.open.iter().any(|(open, _)| open == xid);
            self.open.retain(|xid, _| still(xid));
        }
        whole
    }

    /// The transactions with much at stake that may have ended in this segment without its summary saying so.
    fn unknown(&self, summary: &Summary) -> Vec<Xid> {
        let much = self.open.iter().filter(|(_, work)| work.rows_changed() * 2 >= self.rows || !work.is_rows_only());
        let mut unknown: Vec<Xid> = much.map(|(xid, _)| *xid).filter(|xid| summary.may_end(*xid)).collect();
        unknown.retain(|xid| !summary.open.iter().any(|(open, _)| open == xid));
        unknown.sort_unstable();
        unknown
    }

    /// Adds what the transaction and its subtransactions did before.
    fn complete(&mut self, mut ended: Ended) -> Ended {
        let mut before = Work::default();
        for xid in std::iter::once(&ended.xid).chain(&ended.subxacts) {
            if let Some(work) = self.open.remove(xid) {
                before.add(work);
            }
        }
        before.add(std::mem::take(&mut ended.work));
        Ended { work: before, ..ended }
    }
}
