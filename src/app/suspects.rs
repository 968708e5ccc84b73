//! Suspects in words, and which of them is worse.

use crate::catalog::{Point, PointKind, Suspect, SuspectKind};
use crate::core::Lsn;

/// How many relations are named before the others are only counted.
const NAMED: usize = 2;

pub use crate::catalog::suspect::words::verb;

/// What it is done to: `orders, customers and 2 more`; relations without a name by the number of their file.
#[must_use]
pub fn relations(suspect: &Suspect) -> String {
    suspect.relations_in_words(NAMED)
}

/// What it does: `drops orders, 2 more`, `deletes 48,211 rows of orders`.
#[must_use]
pub fn in_words(suspect: &Suspect) -> String {
    suspect.in_words(NAMED)
}

/// Its commit, as a point of the list.
#[must_use]
pub fn point(suspect: &Suspect) -> Point {
    let drops = matches!(suspect.kind, SuspectKind::Drop | SuspectKind::Truncate | SuspectKind::DropDatabase);
    Point {
        xid: Some(suspect.xid),
        at: Some(suspect.at),
        drops: if drops { suspect.relations.len().max(1) as u64 } else { 0 },
        deletes: if suspect.kind == SuspectKind::Delete { suspect.rows } else { 0 },
        ..Point::at(PointKind::Commit, suspect.timeline, suspect.lsn, suspect.lsn)
    }
}

/// The position at which recovery has to stop so that this does not happen, where that is not its commit: a dropped
/// database's files go before.
#[must_use]
pub fn stop_lsn(suspect: &Suspect) -> Option<Lsn> {
    suspect.stop_before.iter().find_map(|option| option.parse().ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::catalog::SuspectRelation;
    use crate::core::{TimelineId, Timestamp, Xid};

    pub(crate) fn suspect(kind: SuspectKind, lsn: u64, relations: &[(Option<&str>, u64)]) -> Suspect {
        let number = |name: &(Option<&str>, u64), number| SuspectRelation {
            database: 5,
            database_name: None,
            relfilenode: Some(number),
            name: name.0.map(str::to_owned),
            rows: name.1,
        };
        Suspect {
            kind,
            xid: Xid(lsn as u32),
            timeline: TimelineId(1),
            lsn: Lsn(lsn),
            at: Timestamp::UNIX_EPOCH,
            relations: relations.iter().zip(16_384..).map(|(relation, n)| number(relation, n)).collect(),
            rows: relations.iter().map(|(_, rows)| rows).sum(),
            stop_before: Vec::new(),
            locked_from: None,
            note: None,
        }
    }

    #[test]
    fn what_is_known_is_said() {
        let drop = |relations: &[_]| in_words(&suspect(SuspectKind::Drop, 1, relations));
        assert_eq!(drop(&[(None, 0), (None, 0)]), "drops 2 relations");
        assert_eq!(drop(&[(None, 0)]), "drops file 16384");
        assert_eq!(drop(&[(Some("orders"), 0), (None, 0), (None, 0)]), "drops orders, 2 more");
        assert_eq!(drop(&[]), "drops");
        let deleted = suspect(SuspectKind::Delete, 1, &[(Some("a"), 1200), (Some("b"), 1)]);
        assert_eq!(in_words(&deleted), "deletes 1,201 rows of a, b");
    }
}
