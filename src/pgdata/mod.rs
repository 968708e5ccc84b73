//! The other files that PostgreSQL writes: bytes to values and back, without I/O.
//!
//! Nothing here panics, hangs or allocates more than a small multiple of its input, whatever the bytes. Errors
//! say what is wrong with the content; whoever read the file adds its path.

pub mod auto_conf;
pub mod backup_label;
mod bytes;
pub mod checksum;
pub mod configuration;
pub mod control_file;
pub mod filenode_map;
pub mod history;
pub mod incremental_file;
pub mod log_zone;
pub mod manifest;
mod moment;
pub mod page;
pub mod password_file;
pub mod postmaster_pid;
pub mod server_log;
pub mod system_rows;
pub mod tablespace_map;

pub use auto_conf::{AutoConf, is_setting_name};
pub use backup_label::{BackupHistory, BackupLabel, BadBackupLabel};
pub use checksum::RunningChecksum;
pub use configuration::{Configuration, ConfigurationFiles, NotFollowed};
pub use control_file::{BadControlFile, ClusterState, ControlFile};
pub use filenode_map::{BadFilenodeMap, FilenodeMap};
pub use history::{BadHistory, History, HistoryEntry};
pub use log_zone::LogZone;
pub use manifest::{BadManifest, Checksum, ChecksumAlgorithm, Manifest, ManifestFile, WalRange};
pub use postmaster_pid::{BadPostmasterPid, PostmasterPid, ServerStatus};
pub use server_log::{LogEvent, LogLine, Severity, StopKind, Stopped};
pub use tablespace_map::{BadTablespaceMap, TablespaceMap};
