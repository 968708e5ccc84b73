//! Transactions that destroyed data, told from what they did to the files of relations.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::core::{Lsn, Target, TargetKind, TimelineChoice, TimelineId, Timestamp, Xid};
use crate::wal::RelFileLocator;
use crate::wal::summary::{DatabaseDrop, Ended, Fate, RelationWork, SharedDelete, Summary, Work};

use super::destroyed::Files;

pub mod words;

/// Deletes or updates of at least so many rows are suspects, unless the configuration says otherwise.
pub const MANY_ROWS: u64 = 1000;

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
    /// The database's name, where that is known.
    pub database_name: Option<String>,
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
    // A database that moves to another tablespace loses its files too, but not its row.
    if let Some(delete) = work.shared_delete {
        let dropped = |drop| dropped_database(ended, timeline, drop, delete.mark);
        found.extend(work.databases.iter().map(dropped));
    }
    if let Some((kind, note)) = files.destroyed_by(ended) {
        let relations = files.gone.iter().map(|relation| SuspectRelation::of(*relation, 0)).collect();
        found.push(Suspect { note: note.map(str::to_owned), ..suspect(ended, timeline, kind, relations) });
    }
    for (kind, of, beyond) in [
        (SuspectKind::Delete, (|work: &RelationWork| work.deleted) as fn(&RelationWork) -> u64, work.deleted_beyond),
        (SuspectKind::Update, |work: &RelationWork| work.updated, work.updated_beyond),
    ] {
        let relations = changed(work, of);
        let changed = relations.iter().map(|relation| relation.rows).sum::<u64>() + beyond;
        if changed >= rows.max(1) {
            let note = row_note(work, &relations, beyond);
            found.push(Suspect { rows: changed, note, ..suspect(ended, timeline, kind, relations) });
        }
    }
    found
}

/// The relations of users of which rows were changed, those with the most first.
fn changed(work: &Work, of: fn(&RelationWork) -> u64) -> Vec<SuspectRelation> {
    let users = work.relations.iter().filter(|work| work.relation.is_of_users() && !work.created && of(work) > 0);
    let mut relations: Vec<SuspectRelation> = users.map(|work| SuspectRelation::of(work.relation, of(work))).collect();
    relations.sort_by_key(|relation| (std::cmp::Reverse(relation.rows), relation.database, relation.relfilenode));
    relations
}

/// What the numbers of rows do not tell.
fn row_note(work: &Work, relations: &[SuspectRelation], beyond: u64) -> Option<String> {
    if work.rows_beyond {
        return Some(MORE_ROWS.to_owned());
    }
    if beyond > 0 {
        return Some(format!("{beyond} of these rows are in more relations than are told apart"));
    }
    // A TOAST table is made right behind its table, so that its number is a little higher.
    let toast = |relation: &SuspectRelation| {
        let number = relation.relfilenode.unwrap_or(0);
        let owner = |work: &&RelationWork| {
            let distance = number.saturating_sub(work.relation.relation);
            (1..=TOAST_DISTANCE).contains(&distance) && work.updated + work.deleted > 0 && !work.created
        };
        work.relations.iter().filter(owner).map(|owner| (number, owner.relation.relation)).max()
    };
    let (toast, owner) = relations.iter().find_map(toast)?;
    Some(format!(
        "{toast} may be the TOAST table of {owner}, which holds long values in pieces: its rows count here, and WAL does not tell it from another table"
    ))
}

/// So much higher is the number of a TOAST table than that of its table, at most, where both are as they were made:
/// between them are the types of the table's rows.
const TOAST_DISTANCE: u32 = 6;

impl SuspectRelation {
    fn of(relation: RelFileLocator, rows: u64) -> SuspectRelation {
        SuspectRelation {
            database: relation.database,
            database_name: None,
            relfilenode: Some(relation.relation),
            name: None,
            rows,
        }
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

/// Its files go before it commits: only stopping before they do, and before it is marked invalid, saves the database.
fn dropped_database(ended: &Ended, timeline: TimelineId, drop: &DatabaseDrop, mark: Option<Lsn>) -> Suspect {
    let relation =
        SuspectRelation { database: drop.database, database_name: None, relfilenode: None, name: None, rows: 0 };
    let harmed = mark.unwrap_or(drop.lsn);
    let target =
        Target { inclusive: false, timeline: TimelineChoice::Number(timeline), ..Target::new(TargetKind::Lsn(harmed)) };
    Suspect {
        stop_before: target.to_options(),
        note: Some(format!(
            "DROP DATABASE is not undone by stopping before its commit: its files are gone by then; it begins at {harmed}"
        )),
        ..suspect(ended, timeline, SuspectKind::DropDatabase, vec![relation])
    }
}

/// What is said where rows of subtransactions are not counted.
const MORE_ROWS: &str = "it had more subtransactions than are followed: it changed more rows than are counted here";

/// Puts together what transactions did in several segments of one timeline.
///
/// A summary says what lies in one segment alone. Fed with the summaries in order, this keeps what transactions did
/// that have not ended, and adds it to their end. Only where much is at stake and a summary does not say how a
/// transaction ended, it asks.
#[derive(Debug, Clone, Default)]
pub struct Stitch {
    rows: u64,
    open: HashMap<Xid, Work>,
    /// [`Summary::last_mark`] of the segments so far.
    last_mark: Option<Lsn>,
    /// A transaction that is not newer than this one may have done more than the summaries say.
    cut_at: Option<Xid>,
}

impl Stitch {
    /// For finding transactions that deleted or updated at least `rows` rows. The summaries' floor has to be at most
    /// half of it: a transaction that did enough did half of it in its last segment, or before.
    #[must_use]
    pub fn new(rows: u64) -> Stitch {
        Stitch { rows, open: HashMap::new(), last_mark: None, cut_at: None }
    }

    /// Takes the next segment. `ask` is to find the ends of these transactions in this very segment, or of those whose
    /// subtransactions they are, where its summary does not know them. Gives the notable transactions that committed in it,
    /// with all that they did.
    pub fn feed(&mut self, summary: &Summary, ask: &mut dyn FnMut(&[Xid]) -> BTreeMap<Xid, Fate>) -> Vec<Ended> {
        let mut whole: Vec<Ended> = summary.notable.iter().map(|ended| self.complete(ended.clone())).collect();
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.in_doubt(summary).into_iter().partition(|xid| summary.oldest_ends.knows(*xid));
        let known = known.into_iter().filter_map(|xid| Some((xid, summary.oldest_ends.of(xid)?.clone())));
        let asked = if unknown.is_empty() { BTreeMap::new() } else { ask(&unknown) };
        for (xid, fate) in known.chain(asked) {
            match fate {
                // It may be a subtransaction of one that is complete already.
                Fate::Committed(ended) if self.open.contains_key(&xid) => whole.push(self.complete(*ended)),
                Fate::Committed(_) => {}
                Fate::RolledBack => {
                    self.open.remove(&xid);
                }
            }
        }
        whole.sort_by_key(|ended| ended.lsn);
        whole.dedup_by_key(|ended| ended.lsn);
        for (xid, work) in &summary.open {
            let work = self.marked(work.clone());
            self.open.entry(*xid).or_default().add(work);
        }
        if summary.truncated {
            let newest = summary.open.iter().map(|(xid, _)| *xid).reduce(|a, b| if a.precedes(b) { b } else { a });
            self.cut_at = newest.or(self.cut_at);
        }
        self.last_mark = summary.last_mark.or(self.last_mark);
        if let Some(oldest) = summary.oldest_running {
            let still = |xid: &Xid| !xid.precedes(oldest) || summary.open.iter().any(|(open, _)| open == xid);
            self.open.retain(|xid, _| still(xid));
        }
        whole
    }

    /// The transactions with much at stake that may have ended in this segment without being notable there.
    fn in_doubt(&self, summary: &Summary) -> Vec<Xid> {
        let much = self.open.iter().filter(|(_, work)| work.rows_changed() * 2 >= self.rows || !work.is_rows_only());
        let mut in_doubt: Vec<Xid> = much.map(|(xid, _)| *xid).filter(|xid| summary.may_end(*xid)).collect();
        in_doubt.retain(|xid| !summary.open.iter().any(|(open, _)| open == xid));
        in_doubt.sort_unstable();
        in_doubt
    }

    /// Adds what the transaction and its subtransactions did before.
    fn complete(&mut self, mut ended: Ended) -> Ended {
        let mut before = Work::default();
        for xid in std::iter::once(&ended.xid).chain(&ended.subxacts) {
            if let Some(work) = self.open.remove(xid) {
                before.add(work);
            }
        }
        let work = self.marked(std::mem::take(&mut ended.work));
        before.add(work);
        let was_cut = self.cut_at.is_some_and(|cut_at| !cut_at.precedes(ended.xid));
        before.rows_beyond |= was_cut && !ended.subxacts.is_empty();
        Ended { work: before, ..ended }
    }

    /// What was done in one segment, with the mark in front of its delete, where that is in the segment before.
    fn marked(&self, mut work: Work) -> Work {
        work.shared_delete = work.shared_delete.map(|delete| match delete.mark {
            None => SharedDelete::behind(delete.lsn, self.last_mark),
            Some(_) => delete,
        });
        work
    }
}

#[cfg(test)]
mod tests;
