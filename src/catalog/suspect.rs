//! Transactions that destroyed data, told from what they did to the files of relations.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::core::{Lsn, Target, TargetKind, TimelineChoice, TimelineId, Timestamp, Xid};
use crate::wal::RelFileLocator;
use crate::wal::summary::{DatabaseDrop, Ended, RelationWork, SharedDelete, Summary, Work};

/// Deletes or updates of at least so many rows are suspects, unless the configuration says otherwise.
pub const MANY_ROWS: u64 = 1000;

/// Catalogs that tell a dropped table from a dropped index, by their files' numbers.
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
    relations.sort_by_key(|relation| std::cmp::Reverse(relation.rows));
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
        work.relations.iter().find(owner).map(|owner| (number, owner.relation.relation))
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

/// Its files go before it commits: only stopping before they do, and before it is marked invalid, saves the database.
fn dropped_database(ended: &Ended, timeline: TimelineId, drop: &DatabaseDrop, mark: Option<Lsn>) -> Suspect {
    let relation = SuspectRelation { database: drop.database, relfilenode: None, name: None, rows: 0 };
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

/// The files that a transaction removed, and those that it made.
///
/// Every statement that destroys a relation or what is in it removes files, and they are told apart by those that it
/// makes (observed on PostgreSQL 13 to 18):
///
/// - `TRUNCATE`, `REINDEX` and a move to another tablespace give a relation new files, with numbers of their own. That
///   of a truncated table has no page to begin with.
/// - What writes a whole table anew makes another relation for that, exchanges the files and drops it: `ALTER TABLE`
///   and `REFRESH MATERIALIZED VIEW` insert the rows into it, `VACUUM FULL` and `CLUSTER` write its pages.
/// - What `DROP` removes has no file instead.
struct Files<'a> {
    /// Removed, and not made by itself.
    gone: Vec<RelFileLocator>,
    /// Made and kept, for relations that there were: new contents.
    replaced: Vec<&'a RelationWork>,
    /// Made and kept, with relations of their own, in order.
    fresh: Vec<&'a RelationWork>,
}

impl<'a> Files<'a> {
    fn of(ended: &'a Ended) -> Files<'a> {
        let work = &ended.work.relations;
        let created = |relation: &RelFileLocator| work.iter().any(|work| work.created && work.relation == *relation);
        let kept = work.iter().filter(|work| work.created && !ended.dropped.contains(&work.relation));
        let (fresh, replaced) = kept.partition(|work| work.fresh);
        Files { gone: ended.dropped.iter().filter(|relation| !created(relation)).copied().collect(), replaced, fresh }
    }

    /// How this destroyed data, if it did, and what is to be said of it.
    fn destroyed_by(&self, ended: &Ended) -> Option<(SuspectKind, Option<&'static str>)> {
        if !self.gone.iter().any(RelFileLocator::is_of_users) {
            return None;
        }
        let catalogs = Catalogs::of(&ended.work);
        let exchanged = self.exchanged(ended, &catalogs);
        let instead = self.replaced.len() + exchanged.iter().map(|group| group.files).sum::<usize>();
        let without = self.gone.len().saturating_sub(instead) as u64;
        if without > 0 && !catalogs.lost_only_indexes(without, !exchanged.is_empty()) {
            return Some((SuspectKind::Drop, ended.work.created_beyond.then_some(MORE_FILES)));
        }
        if !ended.work.truncated.is_empty() {
            return Some((SuspectKind::Truncate, None));
        }
        if let Some(emptied) = self.replaced.iter().find(|made| self.is_emptied(made)) {
            return Some((SuspectKind::Truncate, emptied.unlogged.then_some(UNLOGGED)));
        }
        if exchanged.iter().any(|group| group.table.unlogged) {
            return Some((SuspectKind::Rewrite, Some(MADE_UNLOGGED)));
        }
        // Rows that are inserted later go to a table whose pages were written whole.
        let by_rows = exchanged.iter().any(|group| group.table.inserted > 0 && group.table.pages == 0);
        by_rows.then_some((SuspectKind::Rewrite, Some(REWRITTEN)))
    }

    /// The files that came with relations which the transaction dropped again without them: it exchanged them for those
    /// of other relations.
    fn exchanged(&self, ended: &Ended, catalogs: &Catalogs) -> Vec<Group<'a>> {
        let groups = Group::all(&self.fresh);
        if !ended.dropped_oids.is_empty() {
            let dropped = |group: &Group| ended.dropped_oids.contains(&group.table.relation.relation);
            return groups.into_iter().filter(dropped).collect();
        }
        let toast = groups.iter().filter(|group| group.files > 1).count() as u64;
        let made = self.replaced.len() + self.fresh.len();
        if catalogs.exchange(toast).unwrap_or(self.gone.len() <= made) { groups } else { Vec::new() }
    }

    /// Whether new contents are those of a truncated table: they have no page to begin with, and lie where the old ones
    /// did.
    fn is_emptied(&self, made: &RelationWork) -> bool {
        let place = |relation: &RelFileLocator| (relation.tablespace, relation.database);
        made.pages == 0 && self.gone.iter().any(|gone| place(gone) == place(&made.relation))
    }
}

/// A new relation with its TOAST table and the index of that, which are made right behind it.
struct Group<'a> {
    table: &'a RelationWork,
    files: usize,
}

impl<'a> Group<'a> {
    /// So much higher are the numbers of a TOAST table and its index, at most: others take numbers meanwhile.
    const DISTANCE: u32 = 64;

    fn all(fresh: &[&'a RelationWork]) -> Vec<Group<'a>> {
        let mut groups = Vec::new();
        let mut rest = fresh;
        while let [table, behind @ ..] = rest {
            let files = match behind {
                [toast, index, ..] if Self::belong_together(table, toast, index) => 3,
                _ => 1,
            };
            groups.push(Group { table, files });
            rest = rest.get(files..).unwrap_or_default();
        }
        groups
    }

    fn belong_together(table: &RelationWork, toast: &RelationWork, index: &RelationWork) -> bool {
        let near = |one: &RelationWork, other: &RelationWork| {
            let distance = other.relation.relation.checked_sub(one.relation.relation);
            distance.is_some_and(|distance| distance <= Self::DISTANCE)
        };
        // An index has a page from the beginning.
        toast.pages == 0 && index.pages > 0 && near(table, toast) && near(toast, index)
    }
}

const MORE_FILES: &str = "it made files of more relations than are told apart: what it removed may be old files of relations that it emptied, wrote anew or moved to another tablespace, or relations that it had made itself";
const MORE_ROWS: &str = "it had more subtransactions than are followed: it changed more rows than are counted here";
const REWRITTEN: &str = "the rows were written anew, as by ALTER TABLE where it changes their form, or by REFRESH MATERIALIZED VIEW: WAL does not tell what became of them";
const UNLOGGED: &str = "the table is unlogged: recovery brings it back empty in any case";
const MADE_UNLOGGED: &str = "the new files are unlogged, as by ALTER TABLE … SET UNLOGGED, or VACUUM FULL of an unlogged table: recovery to any time behind this brings the table back empty";

/// What a transaction did to the rows of some catalogs. They are known by the numbers that their files have unless
/// somebody rewrote them (`src/include/catalog/`).
struct Catalogs {
    classes: RelationWork,
    indexes: RelationWork,
    types: RelationWork,
}

impl Catalogs {
    fn of(work: &Work) -> Catalogs {
        let of = |number| {
            let mut sum = RelationWork::on(RelFileLocator { tablespace: 0, database: 0, relation: number });
            work.relations.iter().filter(|work| work.relation.relation == number).for_each(|work| sum.add(work));
            sum
        };
        Catalogs { classes: of(PG_CLASS), indexes: of(PG_INDEX), types: of(PG_TYPE) }
    }

    /// Whether the files that are gone and have none instead, so many, are those of indexes alone.
    fn lost_only_indexes(&self, files: u64, exchanged: bool) -> bool {
        // What is exchanged is dropped too, with its type; then only the numbers can speak.
        let no_tables = exchanged || (self.classes.deleted <= self.indexes.deleted && self.types.deleted == 0);
        self.indexes.deleted >= files && no_tables
    }

    /// Whether relations were made, exchanged their files with others, and were dropped. Before PostgreSQL 15, WAL does
    /// not say which relations were dropped. But an exchange takes two updates of `pg_class`, where making a relation
    /// takes none, or one for its TOAST table, of which there were so many. `None` where `pg_class` is not known by its
    /// number.
    fn exchange(&self, toast: u64) -> Option<bool> {
        let classes = &self.classes;
        if classes.inserted + classes.updated + classes.deleted == 0 {
            return None;
        }
        let updated = classes.updated.saturating_sub(toast);
        Some(classes.inserted > 0 && classes.deleted > 0 && updated > classes.deleted)
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
mod tests {
    use super::*;
    use crate::core::PgMajor;
    use crate::wal::summary::{Summarizer, Tail};

    fn relation(number: u32) -> RelFileLocator {
        RelFileLocator { tablespace: 1663, database: 5, relation: number }
    }

    fn ended(dropped: Vec<RelFileLocator>, work: Work) -> Ended {
        let at = Timestamp::from_unix_seconds(1_700_000_000).unwrap();
        let (lsn, end_lsn) = (Lsn(0x20_0028), Lsn(0x20_0068));
        Ended { lsn, end_lsn, xid: Xid(10), at, subxacts: vec![Xid(11)], dropped, dropped_oids: Vec::new(), work }
    }

    fn deleted(rows: u64) -> Work {
        Work {
            relations: vec![RelationWork { deleted: rows, ..RelationWork::on(relation(20_000)) }],
            ..Work::default()
        }
    }

    fn summary() -> Summary {
        Summarizer::new(1, PgMajor(15), Lsn::INVALID, 50).finish(Tail::Full)
    }

    #[test]
    fn where_more_files_were_made_than_are_told_apart_that_is_said() {
        for (relations, said) in [(200, false), (300, true)] {
            let made = |number| RelationWork { created: true, ..RelationWork::on(relation(number)) };
            let (mut work, mut more) = (Work::default(), Work::default());
            more.relations = (30_000..30_000 + relations).map(made).collect();
            work.add(more);
            // None instead of the last of them.
            let dropped = (20_000..20_000 + relations + 1).map(relation).collect();
            let suspects = suspects_of(&ended(dropped, work), TimelineId(1), 1000);
            let notes: Vec<_> = suspects.iter().map(|suspect| (suspect.kind, suspect.note.is_some())).collect();
            assert_eq!(notes, [(SuspectKind::Drop, said)], "{relations}");
        }
    }

    #[test]
    fn where_rows_of_subtransactions_are_not_known_that_is_said() {
        for (truncated, newest, said) in [(true, 10, true), (true, 9, false), (false, 10, false)] {
            let mut stitch = Stitch::new(1000);
            let before = Summary { truncated, open: vec![(Xid(newest), deleted(600))], ..summary() };
            assert_eq!(stitch.feed(&before, &mut |_| BTreeMap::new()), []);
            let last = Summary { notable: vec![ended(Vec::new(), deleted(1000))], ..summary() };
            let whole = stitch.feed(&last, &mut |_| BTreeMap::new());
            let suspects: Vec<_> = whole.iter().flat_map(|ended| suspects_of(ended, TimelineId(1), 1000)).collect();
            let notes: Vec<_> = suspects.iter().map(|suspect| suspect.note.is_some()).collect();
            assert_eq!(notes, [said], "{truncated} {newest}");
        }
    }
}
