//! How a transaction destroyed relations, told from the files that it removed and those that it made.

use crate::wal::RelFileLocator;
use crate::wal::summary::{Ended, RelationWork, Work};

use super::SuspectKind;

/// Catalogs that tell a dropped table from a dropped index, by their files' numbers.
const PG_CLASS: u32 = 1259;
const PG_TYPE: u32 = 1247;
const PG_INDEX: u32 = 2610;

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
pub(super) struct Files<'a> {
    /// Removed, and not made by itself.
    pub(super) gone: Vec<RelFileLocator>,
    /// Made and kept, for relations that there were: new contents.
    replaced: Vec<&'a RelationWork>,
    /// Made and kept, with relations of their own, by number: in the order in which they were made.
    fresh: Vec<&'a RelationWork>,
}

impl<'a> Files<'a> {
    pub(super) fn of(ended: &'a Ended) -> Files<'a> {
        let work = &ended.work.relations;
        let created = |relation: &RelFileLocator| work.iter().any(|work| work.created && work.relation == *relation);
        let kept = work.iter().filter(|work| work.created && !ended.dropped.contains(&work.relation));
        let (mut fresh, replaced): (Vec<&RelationWork>, _) = kept.partition(|work| work.fresh);
        fresh.sort_by_key(|work| work.relation.relation);
        Files { gone: ended.dropped.iter().filter(|relation| !created(relation)).copied().collect(), replaced, fresh }
    }

    /// How this destroyed data, if it did, and what is to be said of it.
    pub(super) fn destroyed_by(&self, ended: &Ended) -> Option<(SuspectKind, Option<&'static str>)> {
        if !self.gone.iter().any(RelFileLocator::is_of_users) {
            return None;
        }
        let catalogs = Catalogs::of(&ended.work);
        let exchanged = self.exchanged(ended, &catalogs);
        let instead = self.replaced.len() + exchanged.iter().map(|group| group.files).sum::<usize>();
        let without = self.gone.len().saturating_sub(instead) as u64;
        if without > 0 && !catalogs.lost_only_indexes(without, !exchanged.is_empty()) {
            return Some((SuspectKind::Drop, None));
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
        let deleted = classes.deleted.saturating_sub(self.indexes.deleted);
        Some(classes.inserted > 0 && deleted > 0 && updated > deleted)
    }
}
