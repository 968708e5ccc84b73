//! What lies in WAL between a base backup and the stop that not every server can replay.

use std::collections::BTreeMap;

use super::{Obstacle, ObstacleKind, Requirements, Resolved};
use crate::core::Lsn;
use crate::wal::rmgr::ParameterChange;
use crate::wal::{Body, Record, Summary};

/// Collects it from records and from summaries of segments, in whatever order they come, and the same more than once.
#[derive(Debug, Clone, Default)]
pub struct OnTheWay {
    obstacles: BTreeMap<Lsn, ObstacleKind>,
    parameters: BTreeMap<Lsn, ParameterChange>,
}

impl OnTheWay {
    /// Takes a record.
    pub fn record(&mut self, record: &Record) {
        if let Body::ParameterChange(change) = &record.body {
            self.parameters.insert(record.lsn, *change);
        }
        if let Some(Obstacle { lsn, kind }) = Obstacle::of(record) {
            self.obstacles.insert(lsn, kind);
        }
    }

    /// Takes all of a segment.
    pub fn segment(&mut self, summary: &Summary) {
        self.parameters.extend(summary.parameter_changes.iter().copied());
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
        let asked = self.parameters.range(replayed).map(|(_, change)| Requirements::of(change));
        resolved.requires = asked.chain(resolved.requires).reduce(Requirements::and);
    }
}

impl Requirements {
    /// From what [`Requirements::settings`] gives, in its order.
    #[must_use]
    pub fn of_settings(settings: [(&'static str, u32); 5]) -> Requirements {
        let [connections, processes, senders, prepared, locks] = settings.map(|(_, value)| value);
        Requirements {
            max_connections: connections,
            max_worker_processes: processes,
            max_wal_senders: senders,
            max_prepared_transactions: prepared,
            max_locks_per_transaction: locks,
        }
    }

    /// What a record asks for that says that the settings were changed.
    #[must_use]
    pub fn of(change: &ParameterChange) -> Requirements {
        let value = |value: i32| u32::try_from(value).unwrap_or(0);
        Requirements {
            max_connections: value(change.max_connections),
            max_worker_processes: value(change.max_worker_processes),
            max_wal_senders: value(change.max_wal_senders),
            max_prepared_transactions: value(change.max_prepared_transactions),
            max_locks_per_transaction: value(change.max_locks_per_transaction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::TimelineId;
    use crate::resolve::StopSide;

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
    fn only_what_is_replayed_counts_and_the_most_is_asked_for() {
        let mut way = OnTheWay::default();
        for record in [change(300, 500, 0), change(100, 200, 1), change(200, 50, 0), change(250, 60, 0)] {
            way.record(&record);
            way.record(&record);
        }
        let told = |end: u64| {
            let mut resolved = Resolved::new(TimelineId(1), StopSide::Before, Lsn(end));
            way.tell(&mut resolved);
            (resolved.requires.map(|needed| needed.max_connections), resolved.obstacles)
        };
        let minimal = |lsn| vec![Obstacle { lsn: Lsn(lsn), kind: ObstacleKind::WalLevelMinimal }];
        assert_eq!(told(100), (None, Vec::new()), "the record at the stop is not replayed");
        assert_eq!(told(101), (Some(200), Vec::new()));
        assert_eq!(told(300), (Some(200), minimal(200)));
        assert_eq!(told(301), (Some(500), minimal(200)));
    }
}
