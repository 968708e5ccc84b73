//! What lies in WAL between a base backup and the stop that not every server can replay.

use std::collections::BTreeMap;

use super::{Obstacle, ObstacleKind, Resolved};
use crate::core::Lsn;
use crate::wal::rmgr::ParameterChange;
use crate::wal::{Record, Summary};

/// Collects it from records and from summaries of segments, in whatever order they come, and the same more than once.
#[derive(Debug, Clone, Default)]
pub struct OnTheWay {
    obstacles: BTreeMap<Lsn, ObstacleKind>,
}

impl OnTheWay {
    /// Takes a record.
    pub fn record(&mut self, record: &Record) {
        if let Some(Obstacle { lsn, kind }) = Obstacle::of(record) {
            self.obstacles.insert(lsn, kind);
        }
    }

    /// Takes all of a segment.
    pub fn segment(&mut self, summary: &Summary) {
        let minimal =
            summary.parameter_changes.iter().filter(|(_, change)| change.wal_level == ParameterChange::MINIMAL);
        self.obstacles.extend(minimal.map(|(lsn, _)| (*lsn, ObstacleKind::WalLevelMinimal)));
        self.obstacles.extend(summary.obstacles.iter().map(|known| (known.lsn, known.kind.clone())));
    }

    /// Says what of it is replayed on the way to the stop: each kind once, where it comes first.
    pub fn tell(&self, resolved: &mut Resolved) {
        let replayed = ..resolved.replay_end;
        let mut obstacles: Vec<Obstacle> = Vec::new();
        for (lsn, kind) in self.obstacles.range(replayed) {
            if !obstacles.iter().any(|known| known.kind == *kind) {
                obstacles.push(Obstacle { lsn: *lsn, kind: kind.clone() });
            }
        }
        resolved.obstacles = obstacles;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::TimelineId;
    use crate::resolve::StopSide;
    use crate::wal::Body;

    fn change(lsn: u64, max_connections: i32, wal_level: i32) -> Record {
        let change = ParameterChange {
            max_connections,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
            wal_level,
            wal_log_hints: false,
            track_commit_timestamp: false,
        };
        Record {
            lsn: Lsn(lsn),
            end_lsn: Lsn(lsn + 80),
            previous: None,
            timeline: TimelineId(1),
            xid: None,
            rmgr: 0,
            info: 0x60,
            body: Body::ParameterChange(change),
        }
    }

    #[test]
    fn only_what_is_replayed_counts() {
        let mut way = OnTheWay::default();
        for record in [change(300, 500, 0), change(100, 200, 1), change(200, 50, 0), change(250, 60, 0)] {
            way.record(&record);
            way.record(&record);
        }
        let told = |end: u64| {
            let mut resolved = Resolved::new(TimelineId(1), StopSide::Before, Lsn(end));
            way.tell(&mut resolved);
            resolved.obstacles
        };
        let minimal = |lsn| vec![Obstacle { lsn: Lsn(lsn), kind: ObstacleKind::WalLevelMinimal }];
        assert_eq!(told(200), Vec::new(), "the record at the stop is not replayed");
        assert_eq!(told(201), minimal(200));
        assert_eq!(told(301), minimal(200), "each kind is told once, where it comes first");
    }
}
