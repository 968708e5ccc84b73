//! What lies in one segment: small enough to keep for every segment of an archive.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use super::Record;
use super::locks::{LockChanges, Locks};
use super::rmgr::{Body, Checkpoint, Outcome, ParameterChange, RelFileLocator, RowChange, Rows};
use super::run::{ManyRows, PlainCommit, Run};
use crate::core::{Lsn, PgMajor, TimelineId, Timestamp, Xid};

mod oldest;

pub use oldest::{Fate, OldestEnds};

/// Relations of one transaction that are told apart; rows of further ones are added up.
const RELATIONS: usize = 256;
/// Locked relations that are kept of one transaction: the file of a new one is made next to its lock.
const LOCKED: usize = 16;
/// Files that are kept of those which were made by nobody yet: as long as a transaction has no id, its records have none.
const UNOWNED: usize = 16;
/// So many changes of rows are only noted down before they are counted by relation.
const LATEST: usize = 8;
/// Transactions that are followed at once; what further ones do is not counted, and [`Summary::truncated`] says so.
const FOLLOWED: usize = 1 << 17;
/// Transactions without an end in the segment that a summary keeps: those with the most rows.
const KEPT_OPEN: usize = 4096;
/// Transactions without an end in the segment that only inserted and are kept nevertheless: those with the most rows.
const KEPT_INSERTING: usize = 64;
/// Damaged places that are kept; an archive that is damaged all over is no better known by more.
const KEPT_DAMAGE: usize = 64;

/// What lies in one segment.
///
/// A record belongs to the segment that it starts in. Of a timeline's first segment, which begins with a copy of its
/// parent's WAL, only what lies behind the fork is counted and listed; what transactions did before it is not lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the cluster, as the segment's header has it.
    pub system_identifier: u64,
    /// The major version that wrote it.
    pub major: PgMajor,
    /// Where the first record starts.
    pub first: Option<Lsn>,
    /// Where the first record says that the one before it starts: the last one of the segment before.
    pub before_first: Option<Lsn>,
    /// Where the last record starts.
    pub last: Option<Lsn>,
    /// Just behind the last whole record that starts here.
    pub end: Lsn,
    /// How the segment ends.
    pub tail: Tail,
    /// Records.
    pub records: u64,
    /// Transactions that committed.
    pub commits: u32,
    /// Transactions that were rolled back.
    pub aborts: u32,
    /// Transactions that were prepared.
    pub prepares: u32,
    /// The earliest and the latest time of a commit or rollback. Times are not strictly in order.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The time of the first and the last commit or rollback, in WAL's order.
    pub first_and_last_time: Option<(Timestamp, Timestamp)>,
    /// The last transaction that committed.
    pub last_commit: Option<End>,
    /// The last transaction that committed or was rolled back.
    pub last_end: Option<End>,
    /// The lowest and the highest transaction or subtransaction that ended here, as [`Xid::precedes`] orders them.
    pub xids: Option<(Xid, Xid)>,
    /// All transactions before this one have ended, by the last record that says so.
    pub oldest_running: Option<Xid>,
    /// There is a complete list of the transactions that run: one that has all subtransactions, or is empty.
    pub complete_list: bool,
    /// Locks that shut out even readers.
    pub locks: LockChanges,
    /// Restore points, checkpoints, ends of backups and of recovery, in order.
    pub marks: Vec<Mark>,
    /// Changes of settings that a server in recovery has to match, with their positions.
    pub parameter_changes: Vec<(Lsn, ParameterChange)>,
    /// Records that not every server can replay, in order.
    pub obstacles: Vec<Obstacle>,
    /// Transactions that committed here and may have destroyed something, in order.
    pub notable: Vec<Ended>,
    /// How the oldest of the transactions ended that ended here and are not notable.
    pub oldest_ends: OldestEnds,
    /// What transactions did here that did not end here, by their own or a subtransaction's id.
    pub open: Vec<(Xid, Work)>,
    /// The last record that overwrote a row which all databases share where it stands, see [`SharedDelete::mark`].
    pub last_mark: Option<Lsn>,
    /// There was more than could be followed: counts of rows are too low.
    pub truncated: bool,
    /// Damaged places, in order; the first of them, where there are many.
    pub damage: Vec<Damage>,
    /// How many damaged places there are.
    pub damaged_places: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Where its commit or abort record starts.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: Xid,
    /// When it ended.
    pub at: Timestamp,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tail {
    /// Its last record ends with it or goes on in the next segment, and is whole; or a switch of segments ends it.
    Full,
    /// Its last record goes on in the next segment, which is not there, or not whole.
    CutOff,
    /// WAL ends within it: behind its last record nothing more was written.
    Ends,
}

/// A place in WAL that is worth finding again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Where its record starts.
    pub lsn: Lsn,
    /// Just behind its record.
    pub end_lsn: Lsn,
    /// The time in the record.
    pub at: Option<Timestamp>,
    /// What it is.
    pub kind: MarkKind,
}

/// A record that keeps a server from replaying what follows, or that does harm where it is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// Where it starts.
    pub lsn: Lsn,
    /// What it is.
    pub kind: ObstacleKind,
}

/// What an [`Obstacle`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObstacleKind {
    /// `CREATE TABLESPACE`: replay makes it at the same place.
    TablespaceCreated {
        /// Its OID.
        oid: u32,
        /// The place.
        location: String,
    },
    /// The first record in the segment of an extension's resource manager, by its number.
    Extension(u8),
    /// From here on WAL was written with `wal_level = minimal`: it does not have everything.
    WalLevelMinimal,
}

/// What a [`Mark`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkKind {
    /// `pg_create_restore_point`, with its name as it stands in WAL.
    RestorePoint(String),
    /// A checkpoint, with its redo pointer.
    Checkpoint(Lsn),
    /// A base backup ended that had started there.
    BackupEnd(Lsn),
    /// A server ended its recovery, and began this timeline.
    EndOfRecovery(TimelineId),
}

/// A transaction that committed, with what it did in its segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Where its commit record starts.
    pub lsn: Lsn,
    /// Just behind its commit record.
    pub end_lsn: Lsn,
    /// The transaction.
    pub xid: Xid,
    /// When it committed.
    pub at: Timestamp,
    /// Its subtransactions.
    pub subxacts: Vec<Xid>,
    /// The relations' files that it removed.
    pub dropped: Vec<RelFileLocator>,
    /// The OIDs of the relations that it dropped; not known before PostgreSQL 15.
    pub dropped_oids: Vec<u32>,
    /// What it and its subtransactions did in this segment.
    pub work: Work,
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// To which relations, in the order in which it came to them.
    pub relations: Vec<RelationWork>,
    /// Rows of still more relations that were deleted.
    pub deleted_beyond: u64,
    /// Rows of still more relations that were updated.
    pub updated_beyond: u64,
    /// The last relations, by their OIDs, that it shut even readers out of: whoever makes a relation does so.
    pub locked: Vec<u32>,
    /// The last row that it deleted of a relation that all databases share, where `pg_database` may be meant.
    pub shared_delete: Option<SharedDelete>,
    /// Its first record that took a lock which shuts out even readers.
    pub first_lock: Option<Lsn>,
    /// The OIDs of the relations that it truncated; known only with `wal_level = logical`.
    pub truncated: Vec<u32>,
    /// Databases that it dropped.
    pub databases: Vec<DatabaseDrop>,
    /// It made files of still more relations: of those that it removed, it may have made some itself, or made others
    /// instead.
    pub created_beyond: bool,
    /// It had more subtransactions than are followed: it changed more rows than are counted.
    pub rows_beyond: bool,
}

/// What a transaction did to the files of one relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationWork {
    /// Whose.
    pub relation: RelFileLocator,
    /// It made the file.
    pub created: bool,
    /// It made the relation with the file, and not new contents for one that there was: a new relation's file has the
    /// number that its OID is.
    pub fresh: bool,
    /// The file that it made is of an unlogged relation.
    pub unlogged: bool,
    /// Rows that it inserted.
    pub inserted: u64,
    /// Rows that it updated, or moved to another partition.
    pub updated: u64,
    /// Rows that it deleted.
    pub deleted: u64,
    /// Pages that it wrote whole, as building an index does.
    pub pages: u64,
}

/// A row of a relation that all databases share was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedDelete {
    /// Where.
    pub lsn: Lsn,
    /// The record shortly before it that overwrote a row of such a relation where it stands: `DROP DATABASE` marks its
    /// database invalid so, before it deletes its row and then removes its files.
    pub mark: Option<Lsn>,
}

impl SharedDelete {
    /// So close in front of the delete of its row is the mark that makes a database invalid; what lies farther away is
    /// another one, that `VACUUM` made.
    const MARK_DISTANCE: u64 = 64 << 10;

    /// A delete at `lsn` behind this mark, where it is close enough.
    #[must_use]
    pub fn behind(lsn: Lsn, mark: Option<Lsn>) -> SharedDelete {
        let mark = mark.filter(|mark| *mark <= lsn && lsn.bytes_since(*mark) <= Self::MARK_DISTANCE);
        SharedDelete { lsn, mark }
    }
}

/// A database that was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDrop {
    /// Its OID.
    pub database: u32,
    /// Where the record starts that says that its files are removed.
    pub lsn: Lsn,
}

/// A place that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Just behind the last record that could be read: recovery ends here.
    pub at: Lsn,
    /// The start of the page or record that was found to be wrong. Where the record goes on behind its page, the
    /// damage can be on any of its pages.
    pub found: Lsn,
    /// Where the next record starts that could be read; `None` where there is none in the segment.
    pub resumed: Option<Lsn>,
    /// What is wrong, in words.
    pub reason: String,
}

impl Obstacle {
    /// The obstacle that a record is, if any.
    #[must_use]
    pub fn of(record: &Record) -> Option<Obstacle> {
        let kind = match &record.body {
            Body::TablespaceCreate { tablespace, location } => {
                ObstacleKind::TablespaceCreated { oid: *tablespace, location: location.clone() }
            }
            Body::Extension { rmgr } => ObstacleKind::Extension(*rmgr),
            Body::ParameterChange(change) if change.wal_level == ParameterChange::MINIMAL => {
                ObstacleKind::WalLevelMinimal
            }
            _ => return None,
        };
        Some(Obstacle { lsn: record.lsn, kind })
    }
}

impl Summary {
    /// Recovery points that are listed: commits, rollbacks, restore points, ends of backups and of recovery.
    #[must_use]
    pub fn listed(&self) -> u64 {
        let listed = self.marks.iter().filter(|mark| !matches!(mark.kind, MarkKind::Checkpoint(_)));
        u64::from(self.commits) + u64::from(self.aborts) + listed.count() as u64
    }

    /// Notes records: where the first of them and the one before it start, where the last of them starts and ends.
    #[inline(always)]
    fn note_records(&mut self, records: u64, (first, before_first): (Lsn, Option<Lsn>), (last, end): (Lsn, Lsn)) {
        if self.first.is_none() {
            (self.first, self.before_first) = (Some(first), before_first);
        }
        (self.last, self.end) = (Some(last), end);
        self.records += records;
    }

    /// Notes when and where a transaction ended.
    #[inline]
    fn note_end(&mut self, end: End, committed: bool) {
        let at = end.at;
        self.last_end = Some(end);
        if committed {
            self.last_commit = self.last_end;
        }
        self.times = Some(self.times.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
        self.first_and_last_time = Some(self.first_and_last_time.map_or((at, at), |(first, _)| (first, at)));
    }

    /// Notes that a transaction or subtransaction ended.
    #[inline]
    fn note_ended(&mut self, xid: Xid) {
        let (lowest, highest) = self.xids.unwrap_or((xid, xid));
        let lowest = if xid.precedes(lowest) { xid } else { lowest };
        self.xids = Some((lowest, if highest.precedes(xid) { xid } else { highest }));
    }

    /// Whether the end of this transaction can be in the segment.
    #[must_use]
    pub fn may_end(&self, xid: Xid) -> bool {
        self.xids.is_some_and(|(lowest, highest)| !xid.precedes(lowest) && !highest.precedes(xid))
    }
}

impl Ended {
    fn by(record: &Record, outcome: &Outcome, work: Work) -> Ended {
        Ended {
            lsn: record.lsn,
            end_lsn: record.end_lsn,
            xid: outcome.xid,
            at: outcome.at,
            subxacts: outcome.subxacts.clone(),
            dropped: outcome.dropped.clone(),
            dropped_oids: outcome.dropped_statistics.clone(),
            work,
        }
    }
}

impl RelFileLocator {
    /// The first OID that is given to what users make (`FirstNormalObjectId`, `src/include/access/transam.h`). The
    /// catalogs' files have smaller numbers, unless they were rewritten.
    pub const FIRST_USER: u32 = 16384;
    /// `pg_largeobject` (`src/include/catalog/pg_largeobject.h`): a catalog whose rows are the users' data.
    const LARGE_OBJECTS: u32 = 2613;

    /// Whether its rows are data of users, as far as its number tells.
    #[must_use]
    pub fn is_of_users(&self) -> bool {
        self.relation >= Self::FIRST_USER || self.relation == Self::LARGE_OBJECTS
    }
}

impl RelationWork {
    /// Nothing yet.
    #[must_use]
    pub fn on(relation: RelFileLocator) -> RelationWork {
        RelationWork {
            relation,
            created: false,
            fresh: false,
            unlogged: false,
            inserted: 0,
            updated: 0,
            deleted: 0,
            pages: 0,
        }
    }

    fn count(&mut self, change: RowChange, rows: u64) {
        let counter = match change {
            RowChange::Insert => &mut self.inserted,
            RowChange::Update => &mut self.updated,
            RowChange::Delete => &mut self.deleted,
        };
        *counter += rows;
    }

    /// Adds what was done later.
    pub fn add(&mut self, more: &RelationWork) {
        self.created |= more.created;
        self.fresh |= more.fresh;
        self.unlogged |= more.unlogged;
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.deleted += more.deleted;
        self.pages += more.pages;
    }
}

impl Work {
    /// Rows of users' relations that were deleted or updated, outside of relations that the transaction made itself.
    #[must_use]
    pub fn rows_changed(&self) -> u64 {
        let users = self.relations.iter().filter(|work| work.relation.is_of_users() && !work.created);
        users.map(|work| work.updated + work.deleted).sum::<u64>() + self.deleted_beyond + self.updated_beyond
    }

    /// Adds what was done later, or by a subtransaction.
    pub fn add(&mut self, more: Work) {
        for work in &more.relations {
            let fresh = work.created && self.locked.contains(&work.relation.relation);
            match self.on(work.relation) {
                Some(mine) => {
                    mine.add(work);
                    mine.fresh |= fresh;
                }
                None => {
                    self.deleted_beyond += work.deleted;
                    self.updated_beyond += work.updated;
                    self.created_beyond |= work.created;
                }
            }
        }
        self.created_beyond |= more.created_beyond;
        self.rows_beyond |= more.rows_beyond;
        self.deleted_beyond += more.deleted_beyond;
        self.updated_beyond += more.updated_beyond;
        for oid in more.locked {
            self.lock(oid);
        }
        self.shared_delete = more.shared_delete.or(self.shared_delete);
        self.first_lock = match (self.first_lock, more.first_lock) {
            (Some(mine), Some(other)) => Some(mine.min(other)),
            (mine, other) => mine.or(other),
        };
        self.truncated.extend(more.truncated);
        self.databases.extend(more.databases);
    }

    /// The entry of a relation; `None` where there are too many.
    fn on(&mut self, relation: RelFileLocator) -> Option<&mut RelationWork> {
        // Most records are about the relation of the one before.
        let known = self.relations.iter().rposition(|work| work.relation == relation);
        let place = match known {
            Some(place) => place,
            None if self.relations.len() >= RELATIONS => return None,
            None => {
                self.relations.push(RelationWork::on(relation));
                self.relations.len() - 1
            }
        };
        self.relations.get_mut(place)
    }

    #[inline]
    fn count(&mut self, relation: RelFileLocator, change: RowChange, rows: u64) {
        // Most records are about the relation of the one before.
        match self.relations.last_mut() {
            Some(work) if work.relation == relation => work.count(change, rows),
            _ => self.count_elsewhere(relation, change, rows),
        }
    }

    /// Counts rows of another relation than the one that it came to last.
    #[inline(never)]
    fn count_elsewhere(&mut self, relation: RelFileLocator, change: RowChange, rows: u64) {
        match (self.on(relation), change) {
            (Some(work), _) => work.count(change, rows),
            (None, RowChange::Delete) if relation.is_of_users() => self.deleted_beyond += rows,
            (None, RowChange::Update) if relation.is_of_users() => self.updated_beyond += rows,
            (None, _) => {}
        }
    }

    /// Notes that a file was made.
    fn create(&mut self, relation: RelFileLocator, unlogged: bool) {
        let fresh = self.locked.contains(&relation.relation);
        match self.on(relation) {
            Some(work) => {
                work.created = true;
                work.unlogged |= unlogged;
                work.fresh |= fresh;
            }
            None => self.created_beyond = true,
        }
    }

    /// Notes that even readers were shut out of a relation. Its own file is made just before or after that, where it is
    /// new.
    fn lock(&mut self, oid: u32) {
        let mut made = self.relations.iter_mut().filter(|work| work.created && work.relation.relation == oid);
        if let Some(work) = made.next() {
            work.fresh = true;
            return;
        }
        if self.locked.contains(&oid) {
            return;
        }
        if self.locked.len() >= LOCKED {
            self.locked.remove(0);
        }
        self.locked.push(oid);
    }

    fn clear(&mut self) {
        self.relations.clear();
        self.locked.clear();
        (self.deleted_beyond, self.updated_beyond, self.first_lock, self.shared_delete) = (0, 0, None, None);
        self.truncated.clear();
        self.databases.clear();
        (self.created_beyond, self.rows_beyond) = (false, false);
    }
}

/// What a transaction did, as it is followed.
#[derive(Debug, Default)]
struct Followed {
    /// Without what is in `latest`.
    work: Work,
    /// Rows that it changed since then: most transactions end after few, and then nobody wants to know.
    latest: [(RelFileLocator, RowChange, u64); LATEST],
    /// How many of those there are.
    count: usize,
    /// Rows in `latest` that were not inserted.
    changed: u64,
}

impl Followed {
    #[inline]
    fn count(&mut self, relation: RelFileLocator, change: RowChange, rows: u64) {
        self.changed += if change == RowChange::Insert { 0 } else { rows };
        if let Some((of, how, counted)) = self.latest.get_mut(self.count.wrapping_sub(1))
            && (*of, *how) == (relation, change)
        {
            *counted += rows;
            return;
        }
        if self.count == LATEST {
            self.work();
        }
        if let Some(latest) = self.latest.get_mut(self.count) {
            *latest = (relation, change, rows);
            self.count += 1;
        }
    }

    /// What it did, with all rows.
    #[inline(never)]
    fn work(&mut self) -> &mut Work {
        for (relation, change, rows) in self.latest.iter().take(self.count) {
            self.work.count(*relation, *change, *rows);
        }
        (self.count, self.changed) = (0, 0);
        &mut self.work
    }

    /// Whether it is certain, without counting by relation, that it changed fewer rows than `floor` and dropped no
    /// database.
    fn is_minor(&self, floor: u64) -> bool {
        self.work.relations.is_empty() && self.work.databases.is_empty() && self.changed < floor
    }

    fn clear(&mut self) {
        (self.count, self.changed) = (0, 0);
        self.work.clear();
    }
}

/// Open transactions that are found without looking into a table: as many as their ids end differently.
const NEAR: usize = 256;

/// What the open transactions did, so far.
#[derive(Debug)]
struct Open {
    /// Places in `works`, by the lower bits of the ids. One that comes to where another one is, drives it out.
    near: Vec<Place>,
    /// Places in `works` of those that were driven out.
    far: HashMap<Xid, u32, BuildHasherDefault<XidHasher>>,
    works: Vec<Followed>,
    free: Vec<u32>,
    /// How many there are.
    count: usize,
    truncated: bool,
}

/// Where the work of a transaction is, if there is one.
#[derive(Debug, Clone, Copy)]
struct Place {
    xid: Xid,
    work: Option<u32>,
}

impl Open {
    fn new() -> Open {
        let near = vec![Place { xid: Xid(0), work: None }; NEAR];
        Open { near, far: HashMap::default(), works: Vec::new(), free: Vec::new(), count: 0, truncated: false }
    }

    /// What a transaction did.
    fn work(&mut self, xid: Xid) -> Option<&mut Work> {
        self.followed(xid).map(Followed::work)
    }

    #[inline]
    fn followed(&mut self, xid: Xid) -> Option<&mut Followed> {
        let work = match self.near.get(xid.0 as usize % NEAR) {
            Some(Place { xid: known, work: Some(work) }) if *known == xid => *work,
            _ => self.far_or_new(xid)?,
        };
        self.works.get_mut(work as usize)
    }

    /// The place in `works` of a transaction that is not near.
    #[inline(never)]
    fn far_or_new(&mut self, xid: Xid) -> Option<u32> {
        if let Some(work) = self.far.get(&xid) {
            return Some(*work);
        }
        if self.count >= FOLLOWED {
            self.truncated = true;
            return None;
        }
        let work = self.free.pop().unwrap_or_else(|| {
            self.works.push(Followed::default());
            (self.works.len() - 1) as u32
        });
        let near = self.near.get_mut(xid.0 as usize % NEAR)?;
        if let Place { xid, work: Some(work) } = std::mem::replace(near, Place { xid, work: Some(work) }) {
            self.far.insert(xid, work);
        }
        self.count += 1;
        Some(work)
    }

    /// Whether it is certain, as far as is quickly told, that a transaction changed fewer rows than `floor`.
    #[inline]
    fn is_minor(&self, xid: Xid, floor: u64) -> bool {
        match self.near.get(xid.0 as usize % NEAR) {
            Some(Place { xid: known, work: Some(work) }) if *known == xid => {
                self.works.get(*work as usize).is_some_and(|followed| followed.is_minor(floor))
            }
            _ => floor > 0 && self.far.is_empty(),
        }
    }

    /// What the transaction did, where anything is known; what was set aside for it is used again.
    fn end(&mut self, xid: Xid, look: impl FnOnce(&mut Followed)) -> bool {
        let near = self.near.get_mut(xid.0 as usize % NEAR).filter(|near| near.xid == xid);
        let place = match near.and_then(|near| near.work.take()) {
            Some(place) => place,
            None if self.far.is_empty() => return false,
            None => match self.far.remove(&xid) {
                Some(place) => place,
                None => return false,
            },
        };
        self.count -= 1;
        self.free.push(place);
        if let Some(followed) = self.works.get_mut(place as usize) {
            look(followed);
            followed.clear();
        }
        true
    }

    /// What was done by those that have not ended, in the order of their ids.
    fn into_works(mut self) -> Vec<(Xid, Work)> {
        let near = self.near.into_iter().filter_map(|near| Some((near.xid, near.work?)));
        let mut places: Vec<(Xid, u32)> = near.chain(self.far).collect();
        places.sort_unstable_by_key(|(xid, _)| *xid);
        let mut take = |place: u32| {
            self.works.get_mut(place as usize).map(|followed| std::mem::take(followed.work())).unwrap_or_default()
        };
        places.into_iter().map(|(xid, place)| (xid, take(place))).collect()
    }
}

/// Transaction ids are as good as random in their lower bits: multiplying spreads them enough.
#[derive(Debug, Default)]
struct XidHasher(u64);

impl Hasher for XidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }

    fn write_u32(&mut self, xid: u32) {
        self.0 = (self.0 ^ u64::from(xid)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

/// Makes a segment's [`Summary`] of its records.
#[derive(Debug)]
pub struct Summarizer {
    /// What lies before is not listed or counted: the fork of the timeline.
    from: Lsn,
    /// So many rows deleted or updated make a transaction notable.
    floor: u64,
    open: Open,
    /// Files that were made before it can be told by whom, and whether they are unlogged.
    unowned: VecDeque<(RelFileLocator, bool)>,
    locks: Locks,
    /// The transactions that gave locks back.
    unlocked: Vec<Xid>,
    summary: Summary,
}

impl Summarizer {
    /// For a segment of this cluster and major. What starts before `from` is not listed or counted, and transactions
    /// that delete or update fewer than `floor` rows within the segment are not notable.
    #[must_use]
    pub fn new(system_identifier: u64, major: PgMajor, from: Lsn, floor: u64) -> Summarizer {
        let summary = Summary {
            system_identifier,
            major,
            first: None,
            before_first: None,
            last: None,
            end: from,
            tail: Tail::Full,
            records: 0,
            commits: 0,
            aborts: 0,
            prepares: 0,
            times: None,
            first_and_last_time: None,
            last_commit: None,
            last_end: None,
            xids: None,
            oldest_running: None,
            complete_list: false,
            locks: LockChanges::default(),
            marks: Vec::new(),
            parameter_changes: Vec::new(),
            obstacles: Vec::new(),
            notable: Vec::new(),
            oldest_ends: OldestEnds::default(),
            open: Vec::new(),
            last_mark: None,
            truncated: false,
            damage: Vec::new(),
            damaged_places: 0,
        };
        let (open, unowned) = (Open::new(), VecDeque::new());
        Summarizer { from, floor, open, unowned, locks: Locks::default(), unlocked: Vec::new(), summary }
    }

    /// Takes the next record.
    #[inline]
    pub fn feed(&mut self, record: &Record) {
        self.summary.note_records(1, (record.lsn, record.previous), (record.lsn, record.end_lsn));
        match &record.body {
            Body::Other => {}
            Body::Rows(rows) => self.count_rows(record, rows),
            Body::Commit(outcome) => self.commit(record, outcome),
            Body::Abort(outcome) => self.abort(record, outcome),
            body => self.feed_rare(record, body),
        }
    }

    /// Takes the next records, where they come together.
    #[inline(always)]
    pub fn feed_run(&mut self, run: &Run) {
        self.summary.note_records(run.records, (run.first, run.before_first), (run.last, run.end));
        if let Some(ManyRows { xid: Some(xid), relation, change, rows }) = run.rows {
            self.count(xid, relation, change, rows);
        }
    }

    /// Takes the next record, a commit of which there is no more to say, unless it has to come as a record: where it ends
    /// the wait for a lock, may have destroyed something, or is one of the oldest.
    #[inline]
    pub fn feed_commit(&mut self, commit: &PlainCommit) -> bool {
        let PlainCommit { lsn, before, end, xid, at } = *commit;
        let is_oldest = self.summary.oldest_ends.knows(xid);
        if is_oldest || self.locks.awaits_ends() || !self.open.is_minor(xid, self.floor) {
            return false;
        }
        let summary = &mut self.summary;
        summary.note_records(1, (lsn, before), (lsn, end));
        if lsn >= self.from {
            summary.commits += 1;
            summary.note_end(End { lsn, xid, at }, true);
            summary.note_ended(xid);
        }
        self.open.end(xid, |_| {});
        true
    }

    #[inline]
    fn count_rows(&mut self, record: &Record, rows: &Rows) {
        let Some(xid) = record.xid else { return };
        let Rows { relation, change, rows } = *rows;
        self.count(xid, relation, change, rows.into());
        if relation.database == 0 && change == RowChange::Delete {
            self.delete_shared(record.lsn, xid);
        }
    }

    /// Counts rows that a transaction changed.
    #[inline(never)]
    fn count(&mut self, xid: Xid, relation: RelFileLocator, change: RowChange, rows: u64) {
        if !self.unowned.is_empty() {
            self.claim(xid, |made| *made == relation);
        }
        if let Some(followed) = self.open.followed(xid) {
            followed.count(relation, change, rows);
        }
    }

    /// Notes that a transaction deleted a row that all databases share.
    fn delete_shared(&mut self, lsn: Lsn, xid: Xid) {
        let delete = SharedDelete::behind(lsn, self.summary.last_mark);
        if let Some(work) = self.open.work(xid) {
            let known = work.shared_delete.filter(|known| delete.mark.is_none() && known.mark.is_some());
            work.shared_delete = known.or(Some(delete));
        }
    }

    #[inline(never)]
    fn feed_rare(&mut self, record: &Record, body: &Body) {
        self.locks.feed(record);
        match body {
            Body::FileCreate(relation) => self.create(record, *relation, false),
            Body::InitFileCreate(relation) => self.create(record, *relation, true),
            Body::PageImages { relation, pages } => {
                if let Some(xid) = record.xid {
                    self.claim(xid, |made| made == relation);
                }
                if let Some(work) = self.relation_of(record, *relation) {
                    work.pages += u64::from(*pages);
                }
            }
            Body::RelationTruncate { relations, .. } => {
                if let Some(work) = record.xid.and_then(|xid| self.open.work(xid)) {
                    work.truncated.extend(relations);
                }
            }
            Body::DatabaseDrop { database } => self.drop_database(record, *database),
            Body::HeapInplace(relation) if relation.database == 0 => self.summary.last_mark = Some(record.lsn),
            Body::Locks(locks) => {
                for lock in locks {
                    self.claim(lock.xid, |made| made.relation == lock.relation);
                    if let Some(work) = self.open.work(lock.xid) {
                        work.first_lock.get_or_insert(record.lsn);
                        work.lock(lock.relation);
                    }
                }
            }
            Body::RunningTransactions(running) => {
                self.summary.oldest_running = Some(running.oldest_running);
                self.summary.complete_list |= running.is_complete();
            }
            Body::Prepare { .. } => self.summary.prepares += 1,
            Body::ParameterChange(change) => self.summary.parameter_changes.push((record.lsn, *change)),
            Body::TablespaceCreate { .. } | Body::Extension { .. } => self.obstacle(record),
            body => self.mark(record, body),
        }
    }

    fn relation_of(&mut self, record: &Record, relation: RelFileLocator) -> Option<&mut RelationWork> {
        self.open.work(record.xid?)?.on(relation)
    }

    fn create(&mut self, record: &Record, relation: RelFileLocator, unlogged: bool) {
        let Some(xid) = record.xid else {
            if self.unowned.len() >= UNOWNED {
                self.unowned.pop_front();
            }
            self.unowned.push_back((relation, unlogged));
            return;
        };
        if let Some(work) = self.open.work(xid) {
            work.create(relation, unlogged);
        }
    }

    /// Gives a transaction the file that it made before it had an id.
    fn claim(&mut self, xid: Xid, is_it: impl Fn(&RelFileLocator) -> bool) {
        let Some(place) = self.unowned.iter().position(|(made, _)| is_it(made)) else { return };
        if let Some((relation, unlogged)) = self.unowned.remove(place)
            && let Some(work) = self.open.work(xid)
        {
            work.create(relation, unlogged);
        }
    }

    fn obstacle(&mut self, record: &Record) {
        let Some(obstacle) = Obstacle::of(record) else { return };
        let known = |known: &Obstacle| known.kind == obstacle.kind;
        if !self.summary.obstacles.iter().any(known) {
            self.summary.obstacles.push(obstacle);
        }
    }

    fn drop_database(&mut self, record: &Record, database: u32) {
        if let Some(work) = record.xid.and_then(|xid| self.open.work(xid)) {
            work.databases.push(DatabaseDrop { database, lsn: record.lsn });
        }
    }

    fn mark(&mut self, record: &Record, body: &Body) {
        self.summary.complete_list |= matches!(body, Body::Checkpoint(checkpoint) if checkpoint.shutdown);
        let (kind, at) = match body {
            Body::RestorePoint { name, at } => (MarkKind::RestorePoint(name.clone()), Some(*at)),
            Body::Checkpoint(Checkpoint { redo, at, .. }) => (MarkKind::Checkpoint(*redo), Some(*at)),
            Body::BackupEnd { start } => (MarkKind::BackupEnd(*start), None),
            Body::EndOfRecovery { timeline, at, .. } => (MarkKind::EndOfRecovery(*timeline), Some(*at)),
            _ => return,
        };
        if record.lsn >= self.from {
            self.summary.marks.push(Mark { lsn: record.lsn, end_lsn: record.end_lsn, at, kind });
        }
    }

    fn abort(&mut self, record: &Record, outcome: &Outcome) {
        self.ended(record, outcome);
        self.summary.aborts += u32::from(record.lsn >= self.from);
        if self.summary.oldest_ends.knows(outcome.xid) {
            self.summary.oldest_ends.add(outcome.xid, &outcome.subxacts, Fate::RolledBack);
        }
        for xid in std::iter::once(&outcome.xid).chain(&outcome.subxacts) {
            self.open.end(*xid, |_| {});
        }
    }

    fn commit(&mut self, record: &Record, outcome: &Outcome) {
        self.ended(record, outcome);
        let listed = record.lsn >= self.from;
        self.summary.commits += u32::from(listed);
        let is_oldest = listed && self.summary.oldest_ends.knows(outcome.xid);
        let (mut kept, mut rows) = (None, 0);
        let (floor, simple) = (self.floor, outcome.subxacts.is_empty() && outcome.dropped.is_empty());
        self.open.end(outcome.xid, |followed| {
            if simple && !is_oldest && followed.is_minor(floor) {
                return;
            }
            let work = followed.work();
            rows = work.rows_changed();
            if !simple || is_oldest || rows >= floor || !work.databases.is_empty() {
                kept = Some(work.clone());
            }
        });
        if simple && !is_oldest && kept.is_none() && floor > 0 {
            return;
        }
        let mut work = kept.unwrap_or_default();
        // A subtransaction has an id only where it wrote something: what is not known of it lies in another segment.
        let mut elsewhere = false;
        for xid in &outcome.subxacts {
            let known = self.open.end(*xid, |followed| work.add(followed.work().clone()));
            elsewhere |= !known;
        }
        // Those that were not followed are as unknown as those of another segment.
        work.rows_beyond |= elsewhere && self.open.truncated;
        rows = rows.max(work.rows_changed());
        let notable = !outcome.dropped.is_empty() || rows >= floor || elsewhere || !work.databases.is_empty();
        match notable {
            true if listed => self.summary.notable.push(Ended::by(record, outcome, work)),
            false if is_oldest => {
                let fate = Fate::Committed(Box::new(Ended::by(record, outcome, work)));
                self.summary.oldest_ends.add(outcome.xid, &outcome.subxacts, fate);
            }
            _ => {}
        }
    }

    /// Notes time and id of a transaction that ended.
    fn ended(&mut self, record: &Record, outcome: &Outcome) {
        if outcome.locks || self.locks.awaits_ends() {
            self.locks.feed(record);
        }
        if outcome.locks {
            self.unlocked.extend(std::iter::once(outcome.xid).chain(outcome.subxacts.iter().copied()));
        }
        if record.lsn < self.from {
            return;
        }
        let end = End { lsn: record.lsn, xid: outcome.xid, at: outcome.at };
        self.summary.note_end(end, matches!(record.body, Body::Commit(_)));
        std::iter::once(&outcome.xid).chain(&outcome.subxacts).for_each(|xid| self.summary.note_ended(*xid));
    }

    /// Notes a damaged place.
    pub fn damaged(&mut self, damage: Damage) {
        self.summary.damaged_places += 1;
        if self.summary.damage.len() < KEPT_DAMAGE {
            self.summary.damage.push(damage);
        }
    }

    /// The summary, when all records that start in the segment have been fed.
    #[must_use]
    pub fn finish(self, tail: Tail) -> Summary {
        let Summarizer { open, mut summary, locks, unlocked, .. } = self;
        summary.locks = locks.into_changes(unlocked);
        let truncated = open.truncated;
        let (matters, mut inserts): (Vec<_>, Vec<_>) =
            open.into_works().into_iter().partition(|(_, work)| work.matters());
        summary.open = matters;
        summary.truncated = truncated || summary.open.len() > KEPT_OPEN;
        if summary.open.len() > KEPT_OPEN {
            summary.open.sort_by_key(|(_, work)| std::cmp::Reverse(work.rows_changed()));
            summary.open.truncate(KEPT_OPEN);
        }
        // What only inserted is nobody's loss, unless it was into a file that it made in a segment before, and with
        // which it replaces another.
        inserts.retain(|(_, work)| work.inserted() > 0);
        inserts.sort_by_key(|(_, work)| std::cmp::Reverse(work.inserted()));
        inserts.truncate(KEPT_INSERTING);
        summary.open.extend(inserts);
        Summary { tail, ..summary }
    }
}

impl Work {
    /// Whether it changed rows and nothing else: no files, no databases.
    #[must_use]
    pub fn is_rows_only(&self) -> bool {
        self.databases.is_empty()
            && self.truncated.is_empty()
            && self.shared_delete.is_none()
            && self.relations.iter().all(|work| !work.created)
    }

    fn inserted(&self) -> u64 {
        self.relations.iter().map(|work| work.inserted).sum()
    }

    /// Whether any of it can tell later what the transaction destroyed.
    fn matters(&self) -> bool {
        let told = |work: &RelationWork| work.created || work.updated + work.deleted > 0 || work.pages > 0;
        self.deleted_beyond + self.updated_beyond > 0
            || self.shared_delete.is_some()
            || self.first_lock.is_some()
            || !self.truncated.is_empty()
            || !self.databases.is_empty()
            || self.relations.iter().any(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn rows(xid: Xid, relation: u32) -> Record {
        let relation =
            RelFileLocator { tablespace: 1663, database: 5, relation: RelFileLocator::FIRST_USER + relation };
        let body = Body::Rows(Rows { relation, change: RowChange::Delete, rows: 1 });
        Record { lsn: Lsn(8), end_lsn: Lsn(16), xid: Some(xid), body, ..Record::blank(TimelineId(1)) }
    }

    fn commit(xid: Xid) -> Record {
        let body = Body::Commit(Outcome::plain(Timestamp::UNIX_EPOCH, xid));
        Record { body, ..rows(xid, 0) }
    }

    proptest! {
        /// Also of those whose ids drive each other out.
        #[test]
        fn what_each_transaction_did_is_told_apart(
            steps in proptest::collection::vec((0u32..3, 0u32..4, 0u32..3, prop::bool::weighted(0.2)), 0..200),
            floor in 0u64..4,
        ) {
            let mut summarizer = Summarizer::new(7, PgMajor(15), Lsn::INVALID, floor);
            let mut open: BTreeMap<Xid, BTreeMap<u32, u64>> = BTreeMap::new();
            let mut notable = Vec::new();
            for (low, high, relation, ends) in steps {
                let xid = Xid(700 + low + high * NEAR as u32);
                if ends {
                    summarizer.feed(&commit(xid));
                    let deleted = open.remove(&xid).unwrap_or_default().values().sum::<u64>();
                    if deleted >= floor {
                        notable.push((xid, deleted));
                    }
                } else {
                    summarizer.feed(&rows(xid, relation));
                    *open.entry(xid).or_default().entry(RelFileLocator::FIRST_USER + relation).or_default() += 1;
                }
            }
            let summary = summarizer.finish(Tail::Full);
            let found: Vec<_> = summary.notable.iter().map(|ended| (ended.xid, ended.work.rows_changed())).collect();
            prop_assert_eq!(found, notable);
            let deleted = |work: &Work| work.relations.iter().map(|work| (work.relation.relation, work.deleted)).collect();
            let found: BTreeMap<Xid, BTreeMap<u32, u64>> =
                summary.open.iter().map(|(xid, work)| (*xid, deleted(work))).collect();
            prop_assert_eq!(summary.open.len(), found.len());
            prop_assert!(summary.open.is_sorted_by_key(|(xid, _)| *xid));
            prop_assert_eq!(found, open);
        }
    }

    #[test]
    fn more_transactions_than_are_followed_are_not_counted_and_said_to_be() {
        let mut summarizer = Summarizer::new(7, PgMajor(15), Lsn::INVALID, 1);
        let last = Xid(1000 + FOLLOWED as u32);
        for xid in 1000..last.0 {
            summarizer.feed(&rows(Xid(xid), 0));
        }
        summarizer.feed(&commit(Xid(1000)));
        summarizer.feed(&commit(Xid(1000 + NEAR as u32)));
        for xid in [last, Xid(last.0 + 1), Xid(last.0 + 2), Xid(last.0 + 2)] {
            summarizer.feed(&rows(xid, 0));
        }
        for xid in [last, Xid(last.0 + 1), Xid(last.0 + 2)] {
            summarizer.feed(&commit(xid));
        }
        let summary = summarizer.finish(Tail::Full);
        let ended: Vec<u32> = summary.notable.iter().map(|ended| ended.xid.0).collect();
        assert_eq!(ended, [1000, 1000 + NEAR as u32, last.0, last.0 + 1], "two had room, the third had none");
        assert!(summary.truncated);
    }
}
