//! How the oldest transactions ended that ended in a segment.
//!
//! Whoever puts together what transactions did over several segments wants to know how one ended that did much before, and in
//! its last segment too little to be kept. It is older than nearly all that end there, so a few of the oldest ends spare
//! reading the segment again.

use serde::{Deserialize, Serialize};

use super::Ended;
use crate::core::Xid;

/// So many are kept of a segment.
const KEPT: usize = 4;
/// Those with more subtransactions or relations than this are not kept.
const LARGE: usize = 16;

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It committed, having done this in the segment.
    Committed(Box<Ended>),
    /// It was rolled back.
    RolledBack,
}

/// The oldest transactions that ended in a segment, but for those that are notable there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OldestEnds {
    /// The oldest first.
    kept: Vec<OldEnd>,
    /// This transaction or newer ones may have ended here too.
    missing_from: Option<Xid>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OldEnd {
    xid: Xid,
    subxacts: Vec<Xid>,
    fate: Fate,
}

impl OldEnd {
    fn is_large(&self) -> bool {
        let relations = match &self.fate {
            Fate::Committed(ended) => ended.work.relations.len(),
            Fate::RolledBack => 0,
        };
        self.subxacts.len().max(relations) > LARGE
    }
}

impl OldestEnds {
    /// Whether it is known if this transaction ended here, as itself or as a subtransaction: those have higher ids than what
    /// they are part of (`AssignTransactionId`, `src/backend/access/transam/xact.c`).
    #[inline]
    #[must_use]
    pub fn knows(&self, xid: Xid) -> bool {
        self.missing_from.is_none_or(|missing| xid.precedes(missing))
    }

    /// How this transaction ended, or the one whose subtransaction it is, if it is one of these.
    #[must_use]
    pub fn of(&self, xid: Xid) -> Option<&Fate> {
        let old = self.kept.iter().find(|old| old.xid == xid || old.subxacts.contains(&xid));
        old.map(|old| &old.fate)
    }

    /// Takes the end of a transaction that had these subtransactions.
    pub fn add(&mut self, xid: Xid, subxacts: &[Xid], fate: Fate) {
        if !self.knows(xid) {
            return;
        }
        let old = OldEnd { xid, subxacts: subxacts.to_vec(), fate };
        if old.is_large() {
            self.forget_from(xid);
            return;
        }
        let place = self.kept.partition_point(|kept| kept.xid.precedes(xid));
        self.kept.insert(place, old);
        if let Some(newest) = self.kept.get(KEPT).map(|old| old.xid) {
            self.forget_from(newest);
        }
    }

    fn forget_from(&mut self, xid: Xid) {
        self.missing_from = Some(xid);
        self.kept.retain(|old| old.xid.precedes(xid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Also where ids begin anew.
        #[test]
        fn nothing_is_known_wrongly_and_the_oldest_are(
            ends in proptest::collection::btree_map(0u32..40, prop::bool::weighted(0.1), 0..12),
            order in any::<u64>(),
            first in prop_oneof![Just(700u32), Just(u32::MAX - 1000)],
        ) {
            let xid = |number: u32| Xid(first.wrapping_add(number * 50));
            let mut shuffled: Vec<(u32, bool)> = ends.clone().into_iter().collect();
            shuffled.sort_by_key(|(number, _)| (u64::from(*number) + 1).wrapping_mul(order | 1));
            let mut oldest = OldestEnds::default();
            for (number, large) in &shuffled {
                let subxacts = 1..=if *large { LARGE as u32 + 1 } else { 2 };
                let subxacts: Vec<Xid> = subxacts.map(|next| Xid(xid(*number).0.wrapping_add(next))).collect();
                oldest.add(xid(*number), &subxacts, Fate::RolledBack);
            }
            for number in (0..40).filter(|number| oldest.knows(xid(*number))) {
                prop_assert_eq!(oldest.of(xid(number)).is_some(), ends.contains_key(&number));
                prop_assert_eq!(oldest.of(Xid(xid(number).0.wrapping_add(2))), oldest.of(xid(number)));
            }
            let known = ends.iter().take(KEPT).take_while(|(_, large)| !**large);
            for (number, _) in known {
                prop_assert!(oldest.knows(xid(*number)));
            }
            prop_assert!(oldest.kept.len() <= KEPT);
        }
    }
}
