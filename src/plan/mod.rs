//! A plan: pure data that says everything that a recovery will do, before anything is done.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::catalog::Backup;
use crate::core::time::Timestamp;
use crate::core::{PgMajor, PlacedCommand, SegmentSize, Target};
use crate::error::{Error, Result};
use crate::pgdata::configuration::NotFollowed;
use crate::resolve::Resolved;

pub mod archive;
pub mod archiving;
pub mod audit;
pub mod build;
pub mod candidates;
pub mod chain;
pub mod checklist;
pub mod estimate;
pub mod fetch;
pub mod files;
pub mod finding;
pub mod make_way;
pub mod parameters;
pub mod preflight;
pub mod primary;
pub mod pristine;
pub mod retarget;
pub mod retention;
pub mod script;
pub mod settings;
pub mod step;
pub mod stop_findings;
pub mod suspects_kept;
pub mod tablespaces;
pub mod way;

pub use chain::{Chain, CombineFacts, Link};
pub use fetch::Fetch;
pub use finding::{Finding, Severity};
pub use make_way::MakeWay;
pub use pristine::Pristine;
pub use retarget::{Approach, StepTo, Strategy};
pub use step::{Step, StepId};
pub use tablespaces::PlacedTablespace;

/// Everything about a recovery before it is begun. Making one changes nothing; the one that was shown is the one
/// that runs, which its [`Plan::hash`] proves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The recovery's name, unique on this machine; what the operator types to confirm.
    pub recovery: String,
    /// The new data directory.
    pub directory: PathBuf,
    /// The base backup.
    pub backup: Backup,
    /// With what it is combined, where it is an incremental one.
    #[serde(default)]
    pub chain: Option<Chain>,
    /// Where its tablespaces go.
    #[serde(default)]
    pub tablespaces: Vec<PlacedTablespace>,
    /// The target as it was given.
    pub target: Target,
    /// Where recovery will stop for it.
    pub resolved: Resolved,
    /// The settings that are put into `postgresql.auto.conf`, in the order in which they are written.
    #[serde(with = "ordered")]
    pub settings: Vec<(String, String)>,
    /// How the server gets segments: the value of `restore_command`.
    pub restore_command: String,
    /// How it does that by Walback itself, where `cp` is not enough.
    #[serde(default)]
    pub fetch: Option<Fetch>,
    /// The WAL archives, in the order in which they are asked.
    pub wal: Vec<PathBuf>,
    /// Commands that WAL is asked of too, each with its place among the directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<PlacedCommand>,
    /// The server that will be started.
    pub server: ServerPlan,
    /// What will be done, in order.
    pub steps: Vec<Step>,
    /// What preflight found, errors first.
    pub findings: Vec<Finding>,
    /// What it will take.
    pub estimate: Estimate,
    /// All base backups that there are, the chosen one first, then the others that lead to the target, the best ones
    /// first, then those that do not.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// Lines of the backup's configuration that are made comments, as far as it was looked into: what they include does
    /// not come with it.
    #[serde(default)]
    pub set_aside: Vec<NotFollowed>,
    /// How a copy of the unpacked data is kept to go back to; `None` for none.
    #[serde(default)]
    pub pristine: Option<Pristine>,
    /// The data directory that is there and makes way; `None` where the directory is new or empty.
    #[serde(default)]
    pub make_way: Option<MakeWay>,
    /// When the plan was made.
    pub made_at: Timestamp,
}

/// The server that a plan starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// The backup's major version, which the programs must have too.
    pub major: PgMajor,
    /// Where its programs are.
    pub bin_dir: PathBuf,
    /// The size of the cluster's WAL segments, in bytes.
    pub segment_size: SegmentSize,
    /// Its own port.
    pub port: u16,
    /// Its own directory for sockets, which only its user can enter.
    pub socket_directory: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
    /// The operating system's user that owns the directory and runs the server.
    pub run_as: String,
    /// The database that is looked at first: that of what is near the stop, where that is known.
    #[serde(default = "first_database")]
    pub database: String,
    /// The role that Walback connects as.
    pub role: String,
}

impl ServerPlan {
    /// A libpq connection string to it, to the database that is looked at first, as `role` or as the planned one.
    #[must_use]
    pub fn connection(&self, role: Option<&str>) -> String {
        self.connection_to(&self.database, role)
    }

    /// The same to another database.
    #[must_use]
    pub fn connection_to(&self, database: &str, role: Option<&str>) -> String {
        format!(
            "host={} port={} user={} dbname={}",
            conninfo_value(&self.socket_directory.display().to_string()),
            self.port,
            conninfo_value(role.unwrap_or(&self.role)),
            conninfo_value(database)
        )
    }
}

/// The same connection string to another database.
#[must_use]
pub fn to_database(connection: &str, database: &str) -> String {
    let to = connection.rsplit_once(" dbname=").map_or(connection, |(to, _)| to);
    format!("{to} dbname={}", conninfo_value(database))
}

/// The database that every server has, to ask of it what no database has of its own.
pub const DATABASE: &str = "postgres";

/// The database that is looked at first where nothing says which.
#[must_use]
pub fn first_database() -> String {
    DATABASE.to_owned()
}

/// A value in a libpq connection string, quoted where it has to be.
#[must_use]
pub fn conninfo_value(value: &str) -> String {
    let plain = !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !matches!(c, '\'' | '\\'));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")) }
}

/// A base backup as a way to the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The backup's name.
    pub backup: String,
    /// What a recovery from it would take; `None` where it does not lead to the target.
    pub estimate: Option<Estimate>,
    /// Why it does not lead there, in words.
    pub why_not: Option<String>,
}

/// What a recovery will take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Bytes that the base backup's files take when unpacked; where that is not known, the bytes to read from it. Of an
    /// incremental one with what is unpacked to be combined with it.
    pub unpack_bytes: u64,
    /// Bytes to read from the base backup, as it lies there.
    #[serde(default)]
    pub read_bytes: u64,
    /// Bytes of WAL to replay.
    pub wal_bytes: u64,
    /// Segments that hold them.
    pub wal_segments: u64,
    /// Seconds for unpacking; `None` where nothing was ever measured.
    pub unpack_s: Option<f64>,
    /// Seconds for replay; `None` where nothing was ever measured.
    pub replay_s: Option<f64>,
    /// Seconds for everything; `None` where nothing was ever measured.
    pub total_s: Option<f64>,
    /// What the seconds rest on, in words.
    pub basis: String,
    /// Bytes that will be left free where the data goes; `None` where that could not be asked.
    #[serde(default)]
    pub free_after_bytes: Option<u64>,
}

impl Plan {
    /// Whether a finding forbids it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// SHA-256 of the plan as JSON, in hexadecimal: the plan that runs is the plan that was shown.
    ///
    /// # Errors
    /// When a path in it is not UTF-8, which JSON cannot carry.
    pub fn hash(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|error| {
            Error::failed("plan-unhashable", "the plan cannot be carried out")
                .caused_by(&error)
                .hint("paths have to be UTF-8")
        })?;
        let digest = Sha256::digest(json);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The directories besides the data directory that the recovery makes, for tablespaces: each once.
    #[must_use]
    pub fn tablespace_roots(&self) -> Vec<&Path> {
        let mut roots: Vec<&Path> = self.tablespaces.iter().map(|tablespace| tablespace.root.as_path()).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// A setting's value.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Pairs as a JSON object that keeps their order: the order of settings matters to the server.
mod ordered {
    use std::fmt;

    use serde::de::{MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(pairs.len()))?;
        for (name, value) in pairs {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, String)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A plan for tests.
#[cfg(test)]
pub(crate) fn example() -> Plan {
    use crate::catalog::{BackupKind, Compression, Part, PartContents};
    use crate::core::{Lsn, TargetKind, TimelineId, Xid};
    use crate::resolve::{Place, StopSide};

    let part = Part {
        path: PathBuf::from("/backups/monday/base.tar.gz"),
        holds: PartContents::Data,
        compression: Compression::Gzip,
        size_bytes: 3_000_000,
        inside: PathBuf::new(),
    };
    let backup = Backup {
        id: "monday".to_owned(),
        kind: BackupKind::Tar,
        location: PathBuf::from("/backups/monday"),
        compression: Compression::Gzip,
        pg_version: Some(PgMajor(15)),
        system_identifier: Some(7_380_000_000_000_000_001),
        segment_size: Some(SegmentSize::DEFAULT),
        timeline: Some(TimelineId(1)),
        start_lsn: Some(Lsn(0x200_0028)),
        start_wal: None,
        stop_lsn: Some(Lsn(0x200_0100)),
        started_at: Timestamp::from_unix_seconds(1_700_000_000),
        finished_at: None,
        size_bytes: 3_000_000,
        unpacked_bytes: Some(38_000_000),
        parent: None,
        incremental_from: None,
        tablespaces: Vec::new(),
        manifest: true,
        label: None,
        from_standby: false,
        log_timezone: None,
        parts: vec![part],
        own_wal: Vec::new(),
        problems: Vec::new(),
    };
    let place = |lsn, xid, at| Place { lsn: Lsn(lsn), xid: Some(Xid(xid)), at: Timestamp::from_unix_seconds(at) };
    let target = Target { inclusive: false, ..Target::new(TargetKind::Xid(Xid(735))) };
    let resolved = Resolved {
        xid: Some(Xid(735)),
        at: Timestamp::from_unix_seconds(1_700_000_100),
        consistent_at: Lsn(0x200_0100),
        last_kept: Some(place(0x300_0100, 734, 1_700_000_090)),
        first_lost: Some(place(0x300_0148, 735, 1_700_000_100)),
        backups: vec!["monday".to_owned()],
        ..Resolved::new(TimelineId(1), StopSide::Before, Lsn(0x300_0148))
    };
    Plan {
        recovery: "restore".to_owned(),
        directory: PathBuf::from("/srv/restore"),
        settings: settings::target_settings(&target, &resolved),
        backup,
        chain: None,
        tablespaces: Vec::new(),
        target,
        resolved,
        restore_command: settings::restore_command(
            settings::Stored {
                archives: &[PathBuf::from("/wal")],
                compressions: &std::collections::BTreeSet::new(),
                unmarked: &std::collections::BTreeSet::new(),
                layouts: crate::catalog::Layouts::default(),
            },
            &std::collections::BTreeMap::new(),
            &std::collections::BTreeSet::new(),
            SegmentSize::DEFAULT,
        ),
        fetch: None,
        wal: vec![PathBuf::from("/wal")],
        commands: Vec::new(),
        server: ServerPlan {
            major: PgMajor(15),
            bin_dir: PathBuf::from("/usr/lib/postgresql/15/bin"),
            segment_size: SegmentSize::DEFAULT,
            port: 5499,
            socket_directory: PathBuf::from("/srv/restore/.walback/socket"),
            log: PathBuf::from("/srv/restore/.walback/server.log"),
            run_as: "postgres".to_owned(),
            database: first_database(),
            role: "postgres".to_owned(),
        },
        steps: Vec::new(),
        findings: Vec::new(),
        estimate: Estimate { unpack_bytes: 3_000_000, wal_bytes: 16_777_504, wal_segments: 2, ..Estimate::default() },
        candidates: Vec::new(),
        set_aside: Vec::new(),
        pristine: None,
        make_way: None,
        made_at: Timestamp::UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_from_json_with_its_hash_and_the_order_of_its_settings() {
        let plan = example();
        let back: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!((&back, back.hash().unwrap()), (&plan, plan.hash().unwrap()));
        assert_eq!(back.settings, plan.settings);
        let other = Plan { directory: PathBuf::from("/srv/other"), ..plan.clone() };
        assert_ne!(other.hash().unwrap(), plan.hash().unwrap());
    }

    #[test]
    fn connection_strings_are_quoted_where_they_have_to_be() {
        for (value, quoted) in [("/tmp", "/tmp"), ("", "''"), ("a b", "'a b'"), (r"it's\", r"'it\'s\\'")] {
            assert_eq!(conninfo_value(value), quoted);
        }
    }
}
