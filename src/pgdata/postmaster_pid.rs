//! `postmaster.pid`: which server runs in a data directory, where it listens, and how far it is.

use crate::core::Timestamp;

/// What a server writes into its lock file, line by line (`src/include/utils/pidfile.h`).
///
/// The file grows while the server starts, so that everything but the process id can be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostmasterPid {
    /// The server's process. A stale file names one that is gone, or by now another program's.
    pub pid: u32,
    /// Its data directory, absolute.
    pub data_directory: Option<String>,
    /// When it was started, to the second.
    pub started_at: Option<Timestamp>,
    /// Its port, which also names its Unix socket.
    pub port: Option<u16>,
    /// The first of its `unix_socket_directories`.
    pub socket_directory: Option<String>,
    /// The first of its `listen_addresses`, `*` for all; `None` also where it listens on Unix sockets only.
    pub listen: Option<String>,
    /// How far it is; the line is missing at first.
    pub status: Option<ServerStatus>,
}

/// How far a server is, in its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerStatus {
    /// Starting, or replaying WAL before it takes connections.
    Starting,
    /// Replaying WAL with `hot_standby` off.
    Standby,
    /// Takes connections; in recovery, read-only ones.
    Ready,
    /// Stopping.
    Stopping,
}

/// Why a text is not a server's lock file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPostmasterPid {
    /// It has been made and not been written yet; or the disk was full.
    #[error("it is empty: a server is just starting, or could not write it")]
    Empty,
    /// It starts with something else.
    #[error("its first line, “{}”, is not a process id", .0.escape_debug())]
    NotAPid(String),
}

impl PostmasterPid {
    /// Reads a `postmaster.pid`. A single-user server's has a minus sign before its process id, which is dropped.
    ///
    /// # Errors
    /// See [`BadPostmasterPid`].
    pub fn parse(text: &str) -> Result<PostmasterPid, BadPostmasterPid> {
        let mut lines = text.lines().map(str::trim_end);
        let first = lines.next().unwrap_or_default();
        if first.is_empty() {
            return Err(BadPostmasterPid::Empty);
        }
        let digits = first.strip_prefix('-').unwrap_or(first);
        let pid = digits.parse().ok().filter(|pid| *pid > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
        let mut next = || lines.next().filter(|line| !line.is_empty());
        Ok(PostmasterPid {
            pid: pid.ok_or_else(|| BadPostmasterPid::NotAPid(first.chars().take(80).collect()))?,
            data_directory: next().map(str::to_owned),
            started_at: next().and_then(|line| line.parse().ok()).and_then(Timestamp::from_unix_seconds),
            port: next().and_then(|line| line.parse().ok()).filter(|port| *port > 0),
            socket_directory: next().map(str::to_owned),
            listen: next().map(str::to_owned),
            status: {
                let _shared_memory_key = next();
                next().and_then(status)
            },
        })
    }
}

/// The words are padded to eight characters with spaces.
fn status(word: &str) -> Option<ServerStatus> {
    match word {
        "starting" => Some(ServerStatus::Starting),
        "standby" => Some(ServerStatus::Standby),
        "ready" => Some(ServerStatus::Ready),
        "stopping" => Some(ServerStatus::Stopping),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By a 15.18 server paused at a recovery target, with `listen_addresses` empty.
    const PAUSED: &str = "8118\n/srv/restore/name\n1795206280\n5731\n/srv/restore\n\n 10014096        11\nready   \n";

    #[test]
    fn every_line_is_read() {
        assert_eq!(
            PostmasterPid::parse(PAUSED),
            Ok(PostmasterPid {
                pid: 8118,
                data_directory: Some("/srv/restore/name".into()),
                started_at: Timestamp::from_unix_seconds(1_795_206_280),
                port: Some(5731),
                socket_directory: Some("/srv/restore".into()),
                listen: None,
                status: Some(ServerStatus::Ready),
            })
        );
        assert_eq!(PostmasterPid::parse(&PAUSED.replace("\n\n", "\n*\n")).unwrap().listen.as_deref(), Some("*"));
    }

    #[test]
    fn every_status_has_its_word() {
        let status = |word| PostmasterPid::parse(&PAUSED.replace("ready   ", word)).unwrap().status;
        assert_eq!(status("starting"), Some(ServerStatus::Starting));
        assert_eq!(status("standby "), Some(ServerStatus::Standby));
        assert_eq!(status("stopping"), Some(ServerStatus::Stopping));
        assert_eq!(status("waiting "), None);
    }

    #[test]
    fn lines_may_be_missing_from_the_end() {
        for lines in 1..8 {
            let text: String = PAUSED.lines().take(lines).map(|line| format!("{line}\n")).collect();
            let file = PostmasterPid::parse(&text).unwrap();
            let known = (file.data_directory.is_some(), file.port.is_some(), file.status.is_some());
            assert_eq!((file.pid, known), (8118, (lines >= 2, lines >= 4, false)), "{lines} lines");
        }
    }

    #[test]
    fn what_names_no_process_is_refused() {
        assert_eq!(PostmasterPid::parse(""), Err(BadPostmasterPid::Empty));
        assert_eq!(PostmasterPid::parse("\n/data\n"), Err(BadPostmasterPid::Empty));
        for bad in ["x", "0", "+1", "--1", "1 2", "99999999999", "-"] {
            assert!(matches!(PostmasterPid::parse(bad), Err(BadPostmasterPid::NotAPid(_))), "{bad:?}");
        }
        assert_eq!(PostmasterPid::parse("-42\n/data\n").unwrap().pid, 42);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = PostmasterPid::parse(&text);
        }

        #[test]
        fn no_lines_make_it_panic(lines in prop::collection::vec("[ -~]{0,12}", 0..10)) {
            let _ = PostmasterPid::parse(&format!("1\n{}", lines.join("\n")));
        }
    }
}
