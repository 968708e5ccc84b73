//! Puts a plan together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::catalog::{Backup, BackupKind, Compression, Gap, Layouts, Part, PartContents};
use crate::core::time::Timestamp;
use crate::core::{Action, PgMajor, PlacedCommand, SegmentName, SegmentSize, Target, Zone};
use crate::resolve::{Requirements, Resolved};

use super::estimate::wal_to_replay;
use super::fetch::copied_program;
use super::make_way::{self, MakeWay, Occupant};
use super::parameters;
use super::preflight::{BackupFacts, HostFacts, OwnProgram, Preflight};
use super::settings::{
    Isolation, Stored, WAY_BACK_SETTINGS, is_reserved, restore_by_commands, restore_command, shell_quote,
    target_settings,
};
use super::stop_findings::stop_findings;
use super::tablespaces::PlacedTablespace;
use super::{Candidate, Chain, DATABASE, Estimate, Fetch, Finding, Link, Plan, Pristine, ServerPlan, Step, StepId};

/// Where Walback keeps what is its own inside a data directory that it made.
pub const OWN_DIRECTORY: &str = ".walback";
/// The longest path of a Unix socket that works everywhere (`UNIXSOCK_PATH_BUFLEN`, `src/include/libpq/pqcomm.h`).
const SOCKET_PATH_MAX: usize = 107;

/// Everything that a plan is made of.
pub struct Draft<'a> {
    /// The recovery's name.
    pub recovery: String,
    /// The new data directory, absolute.
    pub directory: PathBuf,
    /// The base backup.
    pub backup: &'a Backup,
    /// It with all that it builds upon, the full one first; empty for a full one.
    pub chain: &'a [&'a Backup],
    /// Its version.
    pub major: PgMajor,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
    /// The target as it was given.
    pub target: &'a Target,
    /// Where it leads.
    pub resolved: Resolved,
    /// Segments that are missing on the way.
    pub missing: Vec<Gap>,
    /// What the backup's own files say.
    pub facts: &'a BackupFacts,
    /// What was found while the way was chosen.
    pub notices: Vec<Finding>,
    /// All base backups as ways to the target, the chosen one first.
    pub candidates: Vec<Candidate>,
    /// The WAL archives.
    pub archives: &'a [PathBuf],
    /// The commands among them.
    pub commands: &'a [PlacedCommand],
    /// The segments on the way that no archive has, see [`Fetch::absent`].
    pub absent: BTreeSet<SegmentName>,
    /// How segments in them are compressed.
    pub compressions: &'a BTreeSet<Compression>,
    /// How those are compressed whose names do not say so.
    pub unmarked: &'a BTreeSet<Compression>,
    /// Where below the archives' directories they lie.
    pub layouts: Layouts,
    /// The segments in which timelines fork off, with the older timelines' files of them.
    pub older_files: BTreeMap<SegmentName, BTreeSet<SegmentName>>,
    /// The segments on the way that are there as `.partial` only.
    pub partials: BTreeSet<SegmentName>,
    /// The server's port.
    pub port: u16,
    /// The database that is looked at first.
    pub database: String,
    /// The role that Walback connects as.
    pub role: String,
    /// The operator's own settings; they win.
    pub settings: Vec<(String, String)>,
    /// Where the backup's tablespaces go.
    pub tablespaces: Vec<PlacedTablespace>,
    /// What this machine is like.
    pub host: &'a HostFacts,
    /// Whether Walback runs as root, and so starts the server as another user.
    pub as_root: bool,
    /// How a copy of the unpacked data is kept.
    pub pristine: Option<Pristine>,
    /// Whether a data directory that is there shall make way.
    pub make_way: bool,
    /// For saying times.
    pub zone: Zone,
    /// Now.
    pub now: Timestamp,
}

impl Draft<'_> {
    /// The plan, with what preflight found.
    #[must_use]
    pub fn build(self) -> Plan {
        let (wal_bytes, _) = wal_to_replay(self.backup, self.resolved.replay_end, self.segment_size);
        let preflight = Preflight {
            backup: self.backup,
            chain: self.chain,
            major: self.major,
            directory: &self.directory,
            tablespaces: &self.tablespaces,
            port: self.port,
            target: self.target,
            missing: &self.missing,
            resolved: &self.resolved,
            facts: self.facts,
            settings: &self.settings,
            wal_bytes,
            pristine: self.pristine,
            make_way: self.make_way,
            zone: self.zone,
            now: self.now,
        };
        let server = self.server();
        let isolation = self.isolation(&server);
        let mut findings = preflight.findings(self.host);
        findings.extend(self.own_settings(&isolation));
        findings.extend(self.parameters());
        findings.extend(stop_findings(self.target, &self.resolved, self.zone));
        findings.extend(self.notices.iter().cloned());
        let chain = self.chain();
        findings.extend(chain.as_ref().and_then(Chain::note));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let settings = self.settings(isolation);
        let make_way = self.make_way();
        let steps = self.steps(&server, chain.as_ref());
        Plan {
            restore_command: self.restore_command(),
            fetch: self.fetch(),
            wal: self.archives.to_vec(),
            commands: self.commands.to_vec(),
            estimate: self.candidates.first().and_then(|chosen| chosen.estimate.clone()).unwrap_or_default(),
            recovery: self.recovery,
            directory: self.directory,
            backup: self.backup.clone(),
            chain,
            tablespaces: self.tablespaces,
            target: self.target.clone(),
            resolved: self.resolved,
            settings,
            server,
            steps,
            findings,
            candidates: self.candidates,
            set_aside: self.facts.configuration.as_ref().map(|own| own.not_followed.clone()).unwrap_or_default(),
            pristine: self.pristine,
            make_way,
            made_at: self.now,
        }
    }

    /// What makes way, where that was asked for and is possible.
    fn make_way(&self) -> Option<MakeWay> {
        match &self.host.occupant {
            Some(Occupant::Stopped(stopped)) if self.make_way => {
                Some(MakeWay { to: stopped.to.clone(), identity: stopped.identity })
            }
            _ => None,
        }
    }

    /// With what the backup is combined.
    fn chain(&self) -> Option<Chain> {
        Chain::of(self.chain, &self.directory, &self.host.combine.clone().unwrap_or_default())
    }

    fn server(&self) -> ServerPlan {
        let own = self.directory.join(OWN_DIRECTORY);
        ServerPlan {
            major: self.major,
            bin_dir: self.host.bin_dir.clone().unwrap_or_default(),
            segment_size: self.segment_size,
            port: self.port,
            socket_directory: socket_directory(&own, &self.recovery, self.port),
            log: own.join("server.log"),
            run_as: self.host.run_as.clone().unwrap_or_default(),
            database: self.database.clone(),
            role: self.role.clone(),
        }
    }

    fn isolation(&self, server: &ServerPlan) -> Vec<(String, String)> {
        let own = self.directory.join(OWN_DIRECTORY);
        let isolation = Isolation {
            major: self.major,
            port: self.port,
            socket_directory: &server.socket_directory,
            hba_file: &own.join("pg_hba.conf"),
            ident_file: &own.join("pg_ident.conf"),
            external_pid_file: &own.join("server.pid"),
        };
        isolation.settings()
    }

    fn settings(&self, isolation: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut settings = isolation;
        let adapted = self.facts.adapted(&self.host.missing_locales);
        settings.extend(adapted.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        if let Some(needed) = self.needed() {
            parameters::raise(&mut settings, self.configured().map_or(needed, |configured| needed.and(configured)));
        }
        if self.target.action == Action::Pause {
            settings.extend(WAY_BACK_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        // The operator's own take the place of ours.
        settings.retain(|(name, _)| !self.settings.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        settings.extend(self.settings.iter().cloned());
        settings.push(("restore_command".to_owned(), self.restore_command()));
        settings.extend(target_settings(self.target, &self.resolved));
        settings
    }

    fn restore_command(&self) -> String {
        self.fetch().map_or_else(|| self.restore_by_hand(), |fetch| fetch.restore_command(&self.recovery))
    }

    fn restore_by_hand(&self) -> String {
        let &Draft { compressions, unmarked, layouts, .. } = self;
        let of_directories = |archives: &[PathBuf]| {
            let stored = Stored { archives, compressions, unmarked, layouts };
            restore_command(stored, &self.older_files, &self.partials, self.segment_size)
        };
        match self.commands {
            [] => of_directories(self.archives),
            commands => restore_by_commands(self.archives, commands, &of_directories),
        }
    }

    /// How Walback fetches WAL itself: where it has to, and the server can run it.
    fn fetch(&self) -> Option<Fetch> {
        let (program, copied) = match self.host.own_program.as_ref()? {
            OwnProgram::Runs(program) => (program.clone(), false),
            OwnProgram::Closed { .. } => (copied_program(&self.directory), true),
            OwnProgram::Unusable(_) => return None,
        };
        Some(Fetch {
            program,
            copied,
            older_files: self.older_files.clone(),
            partials: self.partials.clone(),
            absent: self.absent.clone(),
            by_hand: self.restore_by_hand(),
        })
    }

    /// The least that recovery goes on with, as far as it is known before the backup is unpacked.
    fn needed(&self) -> Option<Requirements> {
        let control = self.facts.files.control().map(|control| parameters::of_control(&control));
        control.into_iter().chain(self.resolved.requires).reduce(Requirements::and)
    }

    fn configured(&self) -> Option<Requirements> {
        self.facts.configuration.as_ref().map(parameters::of_configuration)
    }

    fn parameters(&self) -> Vec<Finding> {
        let Some(needed) = self.needed() else { return Vec::new() };
        let mut findings = parameters::too_low(&self.settings, needed);
        let raised = self.configured().and_then(|configured| parameters::raised(configured, needed, &self.settings));
        findings.extend(raised);
        findings
    }

    /// What the operator's own settings would break.
    fn own_settings(&self, isolation: &[(String, String)]) -> Vec<Finding> {
        let judge = |(name, value): &(String, String)| {
            if is_reserved(name) {
                let finding = Finding::error("setting-reserved", format!("{name} is set by Walback itself"));
                return Some(finding.hint(format!(
                    "leave {name} out of the settings; --port and the target have options of their own"
                )));
            }
            let isolates = isolation.iter().any(|(own, ours)| own.eq_ignore_ascii_case(name) && ours != value);
            isolates.then(|| {
                Finding::warning(
                    "isolation-weakened",
                    format!("{name} = '{value}' takes away a part of the copy's isolation"),
                )
                .hint(format!("be sure that this cannot touch production, or leave {name} out"))
            })
        };
        self.settings.iter().filter_map(judge).collect()
    }

    fn steps(&self, server: &ServerPlan, chain: Option<&Chain>) -> Vec<Step> {
        let directory = shell_quote(&self.directory.display().to_string());
        let become_user = if self.as_root {
            format!("setpriv --reuid={0} --regid={0} --init-groups ", server.run_as)
        } else {
            String::new()
        };
        let discard = Some(format!("walback discard {}", shell_quote(&self.recovery)));
        let mut unpack = vec![match self.as_root {
            true => format!("install -d -m 0700 -o {0} {directory}", shell_quote(&server.run_as)),
            false => format!("install -d -m 0700 {directory}"),
        }];
        match chain {
            None => unpack.extend(
                self.backup
                    .parts
                    .iter()
                    .flat_map(|part| unpack_commands(self.backup.kind, part, &self.directory, &self.tablespaces)),
            ),
            Some(chain) => unpack.extend(chain.links.iter().flat_map(link_commands)),
        }
        if !self.tablespaces.is_empty() && chain.is_none() {
            unpack.push(format!(
                "# let {directory} find its tablespaces there, in tablespace_map or by links in pg_tblspc"
            ));
        }
        let start =
            server_command(server, &self.directory).iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" ");
        let log = shell_quote(&server.log.display().to_string());
        let connection = shell_quote(&server.connection_to(DATABASE, None));
        let mut steps = vec![
            Step {
                id: StepId::Unpack,
                title: match chain {
                    None => "unpack the base backup".to_owned(),
                    Some(chain) => format!("unpack the base backups {}", chain.names()),
                },
                commands: unpack,
                undo: discard.clone(),
            },
            Step {
                id: StepId::Configure,
                title: "write the settings and recovery.signal".to_owned(),
                commands: self.configure_commands(&directory, server),
                undo: discard.clone(),
            },
            Step {
                id: StepId::Start,
                title: "start the server, isolated".to_owned(),
                commands: vec![format!("{become_user}setsid {start} >>{log} 2>&1 &")],
                undo: Some(format!("walback stop {}", shell_quote(&self.recovery))),
            },
            Step {
                id: StepId::Replay,
                title: replay_title(self.resolved.action(self.target)),
                commands: vec![
                    format!("tail -f {log}"),
                    format!("psql {connection} -c 'SELECT pg_last_wal_replay_lsn(), pg_is_wal_replay_paused()'"),
                ],
                undo: None,
            },
        ];
        if let Some(chain) = chain {
            let combine = Step {
                id: StepId::Combine,
                title: format!("combine them with {}", super::chain::PROGRAM),
                commands: chain.commands(&self.directory, &self.tablespaces, &become_user),
                undo: discard.clone(),
            };
            steps.insert(1, combine);
        }
        if let Some(kind) = self.pristine {
            let (from, to) = (self.directory.display().to_string(), self.directory.display().to_string() + ".pristine");
            let keep = Step {
                id: StepId::Snapshot,
                title: "keep a copy of the unpacked data, to go back to".to_owned(),
                commands: vec![Plan::pristine_command(kind, &from, &to)],
                undo: discard,
            };
            let behind = if chain.is_some() { 2 } else { 1 };
            steps.insert(behind, keep);
        }
        if let Some(MakeWay { to, .. }) = self.make_way() {
            let rename = Step {
                id: StepId::MakeWay,
                title: "rename the data directory that is there".to_owned(),
                commands: vec![make_way::command(&self.directory, &to)],
                undo: Some(make_way::back_command(&self.directory, &to)),
            };
            steps.insert(0, rename);
        }
        steps
    }
}

impl Draft<'_> {
    fn configure_commands(&self, directory: &str, server: &ServerPlan) -> Vec<String> {
        let mut commands =
            vec![format!("# replace in {directory}/postgresql.auto.conf: the settings of this plan, in their order")];
        if let (Some(OwnProgram::Closed { program, .. }), Some(fetch)) = (&self.host.own_program, self.fetch()) {
            let (from, to) = (program.display().to_string(), fetch.program.display().to_string());
            let owner = if self.as_root { format!(" -o {}", shell_quote(&server.run_as)) } else { String::new() };
            commands.push(format!("install -m 0755{owner} {} {}", shell_quote(&from), shell_quote(&to)));
        }
        commands.push(format!("touch {directory}/recovery.signal"));
        commands
    }
}

impl Plan {
    /// The same with nothing of Walback's in it: WAL is restored by the system's own programs.
    #[must_use]
    pub fn by_hand(&self) -> Plan {
        let mut plan = self.clone();
        if let Some(fetch) = plan.fetch.take() {
            for (_, value) in plan.settings.iter_mut().filter(|(name, _)| name == "restore_command") {
                value.clone_from(&fetch.by_hand);
            }
            plan.restore_command = fetch.by_hand;
        }
        plan
    }

    /// The same recovery with another target: the settings that say where to stop are replaced, everything else
    /// stays. `findings` is what is to be said about the new way, `estimate` what it takes.
    #[must_use]
    pub fn retargeted(
        &self,
        target: &Target,
        resolved: Resolved,
        findings: Vec<Finding>,
        estimate: Estimate,
        now: Timestamp,
    ) -> Plan {
        let mut settings = self.settings.clone();
        let new = target_settings(target, &resolved);
        settings.retain(|(name, _)| !new.iter().any(|(replaced, _)| replaced == name));
        if let Some(needed) = resolved.requires {
            parameters::raise(&mut settings, needed);
        }
        settings.extend(new);
        let mut steps = self.steps.clone();
        // What made way did so when the recovery was begun.
        steps.retain(|step| step.id != StepId::MakeWay);
        for step in steps.iter_mut().filter(|step| step.id == StepId::Replay) {
            step.title = replay_title(resolved.action(target));
        }
        Plan {
            target: target.clone(),
            candidates: vec![Candidate {
                backup: self.backup.id.clone(),
                estimate: Some(estimate.clone()),
                why_not: None,
            }],
            estimate,
            resolved,
            settings,
            steps,
            findings,
            made_at: now,
            ..self.clone()
        }
    }
}

fn replay_title(action: Action) -> String {
    format!("replay WAL and {action} at the target")
}

/// Inside the recovery's own directory, which nobody else can enter; where that path cannot be a socket's, below `/tmp`, in a directory that only the server's user can enter.
fn socket_directory(own: &Path, recovery: &str, port: u16) -> PathBuf {
    let inside = own.join("socket");
    let socket = inside.join(format!(".s.PGSQL.{port}"));
    // libpq takes a comma for the border between two hosts.
    let usable = socket.as_os_str().len() <= SOCKET_PATH_MAX && !socket.to_string_lossy().contains(',');
    if usable {
        return inside;
    }
    let digest = Sha256::digest(own.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("/tmp/walback-{recovery}-{digest}"))
}

/// The command that starts the server, as separate words.
///
/// `data_directory` is given on the command line, where it wins: a copied `postgresql.conf` may name the original's.
#[must_use]
pub fn server_command(server: &ServerPlan, directory: &Path) -> Vec<String> {
    let directory = directory.display();
    vec![
        server.bin_dir.join("postgres").display().to_string(),
        "-D".to_owned(),
        directory.to_string(),
        "-c".to_owned(),
        format!("data_directory={directory}"),
    ]
}

/// What unpacks a part; for a tablespace, what makes its directory too.
fn unpack_commands(kind: BackupKind, part: &Part, directory: &Path, tablespaces: &[PlacedTablespace]) -> Vec<String> {
    let placed = |oid| tablespaces.iter().find(|tablespace| tablespace.oid == oid);
    let into = match part.holds {
        PartContents::Data => directory.to_path_buf(),
        PartContents::Wal => directory.join("pg_wal"),
        PartContents::Tablespace(oid) => placed(oid).map(|tablespace| tablespace.to.clone()).unwrap_or_default(),
    };
    let made = matches!(part.holds, PartContents::Tablespace(_))
        .then(|| format!("mkdir -p -m 0700 {}", shell_quote(&into.display().to_string())));
    made.into_iter().chain([unpack_command(kind, part, &into)]).collect()
}

/// What unpacks one of a chain.
fn link_commands(link: &Link) -> Vec<String> {
    let quoted = |path: &Path| shell_quote(&path.display().to_string());
    if link.in_place {
        return vec![format!("# {} is read where it lies", quoted(&link.directory))];
    }
    let Link { backup, directory, tablespaces, .. } = link;
    let mut commands = vec![format!("mkdir -p -m 0700 {}", quoted(directory))];
    commands.extend(backup.parts.iter().flat_map(|part| unpack_commands(backup.kind, part, directory, tablespaces)));
    for tablespace in tablespaces {
        let place = directory.join("pg_tblspc").join(tablespace.oid.to_string());
        commands.push(format!("ln -sfn {} {}", quoted(&tablespace.to), quoted(&place)));
    }
    if !tablespaces.is_empty() {
        commands.push(format!("rm -f {}", quoted(&directory.join("tablespace_map"))));
    }
    commands
}

fn unpack_command(kind: BackupKind, part: &Part, into: &Path) -> String {
    let from = part.path.display().to_string();
    let mut into = shell_quote(&into.display().to_string());
    let inside = part.inside.display().to_string();
    let leading = inside.split('/').filter(|name| !name.is_empty()).count();
    if leading > 0 {
        into = format!("{into} --strip-components={leading} {}", shell_quote(&inside));
    }
    match (kind, part.compression) {
        (BackupKind::Directory, _) => format!("cp -a {} {into}", shell_quote(&format!("{from}/."))),
        (BackupKind::Tar, Compression::Gzip) => format!("tar -xzf {} -C {into}", shell_quote(&from)),
        (BackupKind::Tar, compression) => {
            let from = shell_quote(&from);
            match compression.program() {
                Some((program, _)) => format!("tar --use-compress-program={program} -xf {from} -C {into}"),
                None => format!("tar -xf {from} -C {into}"),
            }
        }
    }
}

/// A name for a recovery into `directory` that none of `taken` has: the directory's own, in harmless letters.
#[must_use]
pub fn name_recovery(directory: &Path, taken: &dyn Fn(&str) -> bool) -> String {
    let base = directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut harmless = String::new();
    for c in base.chars().take(40) {
        match c {
            'a'..='z' | '0'..='9' | '_' => harmless.push(c),
            _ if harmless.ends_with('-') => {}
            _ => harmless.push('-'),
        }
    }
    let base = match harmless.trim_matches('-') {
        "" => "recovery",
        name => name,
    };
    if !taken(base) {
        return base.to_owned();
    }
    // There is always a next number.
    (2_u64..).map(|number| format!("{base}-{number}")).find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recoveries_are_named_after_their_directory_in_harmless_letters() {
        let name = |directory: &str, taken: &[&str]| name_recovery(Path::new(directory), &|name| taken.contains(&name));
        assert_eq!(name("/srv/Shop, 'restore'", &[]), "shop-restore");
        assert_eq!(name("/srv/shop", &["shop", "shop-2"]), "shop-3");
        assert_eq!(name("/", &[]), "recovery");
        assert_eq!(name("/srv/\u{1b}[2J", &[]), "2j");
    }

    #[test]
    fn a_socket_never_has_a_path_that_is_too_long() {
        let short = socket_directory(Path::new("/srv/x/.walback"), "x", 5499);
        assert_eq!(short, Path::new("/srv/x/.walback/socket"));
        let deep = PathBuf::from(format!("/{}/.walback", "d".repeat(100)));
        let elsewhere = |own: &Path| socket_directory(own, "x", 5499).display().to_string();
        assert!(elsewhere(&deep).starts_with("/tmp/walback-x-") && elsewhere(&deep).len() == 23);
        assert_ne!(elsewhere(&deep), elsewhere(Path::new("/a,b/.walback")), "a directory of its own each");
    }

    #[test]
    fn nobody_sets_what_walback_sets_itself() {
        for reserved in ["port", "recovery_target_xid", "Restore_Command", "data_directory"] {
            assert!(is_reserved(reserved), "{reserved}");
        }
        assert!(!is_reserved("shared_buffers") && !is_reserved("archive_mode"));
    }
}
