//! How drills of a source are made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::Scalar;
use crate::core::amount::{parse_duration, parse_size};

/// All of a drill, where the configuration does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// One check, likewise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3600);

/// How drills of a source are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillConfig {
    /// The directory below which each makes a new one, absolute. Unset: it has to be named.
    pub scratch: Option<PathBuf>,
    /// A drill whose recovery took longer fails.
    pub rto: Option<Duration>,
    /// A drill that would have lost more fails.
    pub rpo: Option<Duration>,
    /// A drill that would take more bytes fails, and is given up where it does.
    pub max_bytes: Option<u64>,
    /// What was restored stays.
    pub keep: bool,
    /// What the shell runs where a drill fails.
    pub on_failure: Option<String>,
    /// A drill that takes longer is given up, and fails.
    pub timeout: Duration,
    /// A check that takes longer is given up, and fails.
    pub check_timeout: Duration,
    /// Whether the copy is promoted before what reads all of it: then `pg_amcheck` can be run in every database.
    pub promote: bool,
    /// Whether `pg_amcheck` is run. Unset: where it can be.
    pub amcheck: Option<bool>,
    /// Whether `pg_checksums` is run. Unset: where the cluster has checksums, and the program is there.
    pub checksums: Option<bool>,
    /// Whether everything is read by `pg_dumpall`.
    pub dump: bool,
    /// The operator's own check: a program that ends with 0 where all is well.
    pub script: Option<PathBuf>,
}

impl Default for DrillConfig {
    fn default() -> DrillConfig {
        DrillConfig {
            scratch: None,
            rto: None,
            rpo: None,
            max_bytes: None,
            keep: false,
            on_failure: None,
            timeout: TIMEOUT,
            check_timeout: CHECK_TIMEOUT,
            promote: false,
            amcheck: None,
            checksums: None,
            dump: false,
            script: None,
        }
    }
}

/// The same as the file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileDrill {
    scratch: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    rto: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    rpo: Option<Duration>,
    #[serde(deserialize_with = "size")]
    max_bytes: Option<u64>,
    keep: bool,
    on_failure: Option<String>,
    #[serde(deserialize_with = "duration")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    check_timeout: Option<Duration>,
    promote: bool,
    amcheck: Option<bool>,
    checksums: Option<bool>,
    dump: bool,
    script: Option<PathBuf>,
}

impl FileDrill {
    /// Paths that are relative are so to `base`.
    pub(super) fn resolve(self, base: &Path) -> DrillConfig {
        DrillConfig {
            scratch: self.scratch.map(|path| base.join(path)),
            rto: self.rto,
            rpo: self.rpo,
            max_bytes: self.max_bytes,
            keep: self.keep,
            on_failure: self.on_failure,
            timeout: self.timeout.unwrap_or(TIMEOUT),
            check_timeout: self.check_timeout.unwrap_or(CHECK_TIMEOUT),
            promote: self.promote,
            amcheck: self.amcheck,
            checksums: self.checksums,
            dump: self.dump,
            script: self.script.map(|path| base.join(path)),
        }
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Scalar::deserialize(deserializer)?.into_text();
    parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Scalar::deserialize(deserializer)?.into_text();
    parse_size(&text).map(Some).map_err(serde::de::Error::custom)
}
