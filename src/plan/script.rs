//! The runbook: the plan as a shell script and as Markdown, to be carried out by hand with PostgreSQL's own programs.
//! Pure: it is text.
//!
//! Both are made of the same pieces of shell. Everything that came from outside stands in single quotes, in a here-document
//! that expands nothing, or in a comment or a text without control characters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::catalog::{BackupKind, Compression, Part, PartContents};
use crate::core::archive::{Archive, in_order};
use crate::core::{Action, Zone};
use crate::pgdata::TablespaceMap;
use crate::pgdata::configuration::SET_ASIDE;
use crate::resolve::Requirements;

use super::build::{OWN_DIRECTORY, server_command};
use super::settings::{RECOVERY_SETTINGS, shell_quote};
use super::{DATABASE, Plan, files, way};

mod chain;

/// A piece of the runbook.
struct Section {
    title: &'static str,
    /// What it does and why, in sentences of one line.
    text: Vec<String>,
    code: String,
}

/// The plan as a script for any POSIX shell. Run as root or as the server's user, it comes to the same place as the
/// plan, says whether that is the predicted one, and leaves the server there.
#[must_use]
pub fn shell(plan: &Plan, zone: Zone) -> String {
    let plan = &plan.by_hand();
    let mut text = format!(
        "#!/bin/sh\n# shellcheck disable=SC1003,SC2016 # What stands in single quotes is expanded by the shell that gets it.\n\n\
         # Recovery {}, as Walback planned it.\n#\n",
        one_line(&plan.recovery)
    );
    for (name, value) in summary(plan, zone) {
        let _ = writeln!(text, "# {name:<11}{}", one_line(&value));
    }
    text.push_str(
        "#\n# Run it with “sh FILE”, as root or as the server's user. It changes nothing but the new directory, and stops\n\
         # at the first thing that is not as it should be. Walback itself does not know a recovery that was made by hand.\n",
    );
    for (number, section) in sections(plan).iter().enumerate() {
        let _ = write!(text, "\n# {number}. {}\n", section.title);
        for line in &section.text {
            let _ = writeln!(text, "# {}", one_line(line));
        }
        if number > 0 {
            let _ = writeln!(text, "say {}", shell_quote(&format!("{number}. {}", section.title)));
        }
        text.push_str(&section.code);
    }
    text
}

/// The same as Markdown, to be read, and to be typed into one shell.
#[must_use]
pub fn markdown(plan: &Plan, zone: Zone) -> String {
    let plan = &plan.by_hand();
    let mut text = format!("# Recovery {}, by hand\n\n", in_text(&plan.recovery));
    let facts: Vec<String> =
        summary(plan, zone).iter().map(|(name, value)| format!("{name:<11}{}", one_line(value))).collect();
    text.push_str(&fenced("text", &format!("{}\n", facts.join("\n"))));
    text.push_str(
        "\nAll steps belong into one `sh`, started as root or as the server's user: later ones use what earlier ones set.\n\
         Nothing is changed but the new directory.\n",
    );
    if !plan.findings.is_empty() {
        text.push_str("\n## What was found\n\n");
        for finding in &plan.findings {
            let _ = writeln!(text, "- {}: {}", finding.severity, in_text(&finding.message));
        }
    }
    for (number, section) in sections(plan).iter().enumerate() {
        let _ = write!(text, "\n## {number}. {}\n\n", section.title);
        for line in &section.text {
            let _ = writeln!(text, "{}", in_text(line));
        }
        let _ = write!(text, "\n{}", fenced("sh", &section.code));
    }
    text
}

/// What is recovered, from what, and where it will stop.
fn summary(plan: &Plan, zone: Zone) -> Vec<(&'static str, String)> {
    let resolved = &plan.resolved;
    let at = |at: Option<crate::core::Timestamp>| at.map(|at| format!(", {}", at.in_zone(zone))).unwrap_or_default();
    let place = |place: &crate::resolve::Place| {
        let xid = place.xid.map(|xid| format!("transaction {xid}, ")).unwrap_or_default();
        format!("{xid}LSN {}{}", place.lsn, at(place.at))
    };
    vec![
        ("Target", plan.target.in_words_on(zone, resolved.timeline)),
        ("Way", format!("{}{}", way::draw_ascii(resolved), at(resolved.at))),
        ("Replayed", format!("up to {}", resolved.replay_end)),
        ("Kept", resolved.last_kept.as_ref().map_or("no transaction after the base backup".to_owned(), place)),
        ("Lost", resolved.first_lost.as_ref().map_or("nothing that is in the archive".to_owned(), place)),
        ("Backup", backups(plan)),
        ("WAL", archives_in_words(plan)),
        ("Into", plan.directory.display().to_string()),
        ("Server", format!("PostgreSQL {}, run by {}", plan.server.major, plan.server.run_as)),
        ("Planned", plan.made_at.in_zone(zone)),
    ]
}

/// Every archive in order; a command as it is run.
fn archives_in_words(plan: &Plan) -> String {
    let words = in_order(&plan.wal, &plan.commands).into_iter().map(|archive| match archive {
        Archive::Directory(path) => path.display().to_string(),
        Archive::Command(fetch) => fetch.command.clone(),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The base backup and its place; of an incremental one with those that it builds upon.
fn backups(plan: &Plan) -> String {
    let named = plan.backups_read().map(|backup| format!("{} in {}", backup.id, backup.location.display()));
    named.collect::<Vec<_>>().join(", combined with ")
}

fn sections(plan: &Plan) -> [Section; 7] {
    let unpack = if plan.chain.is_some() { chain::unpack(plan) } else { unpack(plan) };
    [names(plan), checks(plan), unpack, configure(plan), start(plan), wait(plan), compare(plan)]
}

/// `name=value`, in a form that no shell understands otherwise.
fn set(code: &mut String, name: &str, value: &str) {
    let _ = writeln!(code, "{name}={}", shell_quote(value));
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn names(plan: &Plan) -> Section {
    let mut code = "set -eu\numask 077\nLC_ALL=C\nexport LC_ALL\ncd /\n".to_owned();
    set(&mut code, "directory", &path(&plan.directory));
    if let Some(former) = &plan.make_way {
        set(&mut code, "former", &path(&former.to));
        set(&mut code, "identity", &format!("{}:{}", former.identity.device, former.identity.inode));
    }
    set(&mut code, "own", &path(&plan.directory.join(OWN_DIRECTORY)));
    set(&mut code, "bin_dir", &path(&plan.server.bin_dir));
    set(&mut code, "run_as", &plan.server.run_as);
    set(&mut code, "socket_directory", &path(&plan.server.socket_directory));
    set(&mut code, "log", &path(&plan.server.log));
    set(&mut code, "connection", &plan.server.connection_to(DATABASE, None));
    set(&mut code, "expected", &plan.resolved.replay_end.to_string());
    code.push_str(
        r#"say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
uid=$(id -u -- "$run_as") || fail "there is no user $run_as"
gid=$(id -g -- "$run_as")
# PostgreSQL refuses to run as root: root does everything in the new directory with the rights of the server's user.
as_user() {
    if [ "$(id -u)" = "$uid" ]; then
        "$@"
    elif command -v setpriv >/dev/null 2>&1; then
        setpriv --reuid="$uid" --regid="$gid" --init-groups -- "$@"
    elif command -v runuser >/dev/null 2>&1; then
        runuser -u "$run_as" -- "$@"
    else
        su -s /bin/sh -c 'exec "$@"' -- "$run_as" sh "$@"
    fi
}
# Writes what comes in to a file.
write() { as_user sh -c 'cat >"$1"' sh "$1"; }
append() { as_user sh -c 'cat >>"$1"' sh "$1"; }
# Text of a log, fit for a terminal.
plain() { tr -cd '[:print:]\n'; }
"#,
    );
    let text = vec!["What the steps below use.".to_owned()];
    Section { title: "Names", text, code }
}

/// The programs that unpack the backup and the segments.
fn programs(plan: &Plan) -> Vec<&'static str> {
    let mut programs = vec!["tar", "grep", "tail"];
    let parts = plan.backups_read().flat_map(|backup| &backup.parts);
    let needed = parts.filter_map(|part| part.compression.program());
    programs.extend(needed.map(|(program, _)| program));
    let of_segments = Compression::PACKED.iter().filter_map(|compression| compression.program());
    programs.extend(
        of_segments
            .filter(|(program, options)| plan.restore_command.contains(&format!("{program} {options} <")))
            .map(|(program, _)| program),
    );
    programs.sort_unstable();
    programs.dedup();
    programs
}

fn checks(plan: &Plan) -> Section {
    let mut readable = String::new();
    for part in plan.backups_read().flat_map(|backup| &backup.parts) {
        let part = shell_quote(&path(&part.path));
        let _ = writeln!(readable, "[ -r {part} ] || fail \"the base backup cannot be read:\" {part}");
    }
    for archive in &plan.wal {
        let archive = shell_quote(&path(archive));
        let _ = writeln!(
            readable,
            "as_user test -r {archive}/. || fail \"$run_as, who runs the server, cannot read the archive:\" {archive}"
        );
    }
    let parent = shell_quote(&path(plan.directory.parent().unwrap_or(&plan.directory)));
    let bytes = plan.amounts().peak();
    let needed = bytes.saturating_add(plan.estimate.wal_bytes.min(super::preflight::WAL_KEPT)).div_ceil(1024);
    let major = plan.server.major;
    let programs = programs(plan).join(" ");
    let combines = plan.chain.as_ref().map(|chain| chain::check(chain, major)).unwrap_or_default();
    let place = if plan.make_way.is_some() { OCCUPIED } else { FREE };
    let code = format!(
        r#"[ "$(id -u)" = 0 ] || [ "$(id -u)" = "$uid" ] || fail "run this as root or as $run_as"
[ "$uid" != 0 ] || fail "PostgreSQL never runs as root: $run_as"
for program in {programs}; do
    command -v "$program" >/dev/null 2>&1 || fail "this program is not on this machine: $program"
done
version=$(as_user "$bin_dir/postgres" --version) || fail "PostgreSQL {major} is not in $bin_dir, or $run_as cannot run it"
case $version in
    *"(PostgreSQL) {major}" | *"(PostgreSQL) {major}"[!0-9]*) ;;
    *) fail "the backup is of PostgreSQL {major}, the programs in $bin_dir are $version" ;;
esac
[ -d {parent} ] || fail "the parent directory does not exist: $directory"
[ ! -L "$directory" ] || fail "this is a link: $directory"
{combines}{place}{readable}free=$(df -Pk -- {parent} | awk 'NR == 2 {{ print $4 }}')
case $free in
    '' | *[!0-9]*) ;;
    *) [ "$free" -ge {needed} ] || fail "too little space: $free kB are free, and {needed} kB are needed" ;;
esac
"#
    );
    let text = vec![
        "Nothing is done where the directory holds something already, where programs are missing or of another version,"
            .to_owned(),
        "or where the backup or the archive cannot be read.".to_owned(),
    ];
    Section { title: "Look whether it can be done", text, code }
}

/// Nothing is where the new data directory goes.
const FREE: &str = r#"if [ -e "$directory" ]; then
    [ -d "$directory" ] || fail "this is not a directory: $directory"
    [ -z "$(ls -A -- "$directory")" ] || fail "the directory is not empty: $directory"
fi
"#;

/// A data directory is there whose server does not run, and that makes way.
const OCCUPIED: &str = r#"[ -f "$directory/PG_VERSION" ] && [ -f "$directory/global/pg_control" ] || fail "this is no data directory: $directory"
[ ! -e "$directory/postmaster.pid" ] || fail "a server runs there, or was killed: look, and remove postmaster.pid where it was: $directory"
[ ! -e "$former" ] && [ ! -L "$former" ] || fail "there is something of this name already: $former"
[ "$(stat -c %d:%i -- "$directory")" = "$identity" ] || fail "this is not the directory that was planned with; make the plan again: $directory"
"#;

/// Renames it, over nothing.
///
/// Where the system refuses that from one file system to another (`EXDEV`, `rename(2)`), `mv` copies and removes. From
/// coreutils 9.5 on it can be told not to; before, it must not come to that: some layers of overlayfs refuse it too.
const MAKE_WAY: &str = r#"if mv --help 2>/dev/null | grep -q -e --no-copy; then
    mv --no-copy -nT -- "$directory" "$former" || fail "it could not be renamed: $directory"
else
    [ "$(stat -c %d -- "$directory")" = "$(stat -c %d -- "$(dirname -- "$directory")")" ] || fail "a file system is mounted there, and cannot be renamed: $directory"
    [ "$(stat -f -c %T -- "$directory")" != overlayfs ] || fail "on overlayfs, this mv may copy instead of renaming; rename it by another program: $directory"
    mv -nT -- "$directory" "$former" || fail "it could not be renamed: $directory"
fi
[ ! -e "$directory" ] && [ "$(stat -c %d:%i -- "$former")" = "$identity" ] || fail "it could not be renamed: $directory"
say "what was there is $former now"
"#;

fn unpack(plan: &Plan) -> Section {
    let mut code = make_directory(plan);
    for root in plan.tablespace_roots() {
        code.push_str(&make_root(root));
    }
    code.push_str(&unpack_parts(plan));
    code.push_str(&place_tablespaces(plan));
    code.push_str(&tidy(plan));
    let mut text = vec![
        "The backup is only read. What a running server leaves behind, and what would make the new one take itself for"
            .to_owned(),
        "another, is removed from the copy.".to_owned(),
    ];
    if plan.make_way.is_some() {
        text.insert(0, RENAMED.to_owned());
    }
    Section { title: "Unpack the base backup", text, code }
}

const RENAMED: &str = "The data directory that is there is renamed first; nothing of it is changed or removed.";

/// Makes the new data directory, and what unpacks into it.
fn make_directory(plan: &Plan) -> String {
    let mut code = if plan.make_way.is_some() { MAKE_WAY.to_owned() } else { String::new() };
    code.push_str(
        r#"[ -d "$directory" ] || mkdir -m 0700 -- "$directory"
[ "$(id -u)" != 0 ] || chown "$uid:$gid" "$directory"
chmod 0700 "$directory"
# unpack INTO PROGRAM ARGUMENT...: unpacks the tar that the program writes, as the words in $picked say. It is read to
# its end, and a program that fails there is noticed: a checksum comes last.
unpack() {
    into=$1
    shift
    [ -d "$into" ] || as_user mkdir -p -- "$into"
    failed=$(
        {
            { "$@" 3>&- || printf failed >&3; } | {
                eval "as_user tar -xf - -C \"\$into\" $picked" 3>&- >&2
                cat >/dev/null
            }
        } 3>&1
    ) || fail "it cannot be unpacked"
    [ -z "$failed" ] || fail "the base backup cannot be read to its end"
}
"#,
    );
    code.push_str("picked=\n");
    code
}

/// Unpacks the parts of the plan's backup.
fn unpack_parts(plan: &Plan) -> String {
    let unpack = |part: &Part| {
        let into = unpacked_into(plan, part);
        match (plan.backup.kind, part.holds) {
            (BackupKind::Tar, _) => unpack_tar(plan, part, &into),
            (BackupKind::Directory, PartContents::Data) => copy_directory(plan, part),
            (BackupKind::Directory, _) => copy_tablespace(part, &into),
        }
    };
    plan.backup.parts.iter().map(unpack).collect()
}

/// Removes what a running server leaves behind, and makes what it needs.
fn tidy(plan: &Plan) -> String {
    let left: Vec<String> = files::LEFT_OUT.iter().map(|name| format!("\"$directory/{name}\"")).collect();
    let needed: Vec<String> = files::NEEDED_DIRECTORIES.iter().map(|name| format!("\"$directory/{name}\"")).collect();
    format!(
        "chmod 0700 \"$directory\"\nas_user rm -f -- {}\n{}as_user mkdir -p -- {}\n",
        left.join(" "),
        remove_fleeting(plan),
        needed.join(" ")
    )
}

/// Removes what a running server makes for itself, and a copy that was made of its files may have.
fn remove_fleeting(plan: &Plan) -> String {
    let places = plan.tablespaces.iter().map(|tablespace| format!(" {}", shell_quote(&path(&tablespace.to))));
    let names: Vec<String> = files::TEMPORARY.iter().map(|name| format!("-name '{name}*'")).collect();
    format!(
        r#"for name in {}; do
    [ ! -d "$directory/$name" ] || as_user find "$directory/$name" -mindepth 1 -delete
done
as_user find "$directory"{} \( {} \) -prune -exec rm -rf -- {{}} +
"#,
        files::EMPTIED.join(" "),
        places.collect::<String>(),
        names.join(" -o ")
    )
}

/// A directory for tablespaces, which the server's user owns, and in which there is nothing yet.
fn make_root(root: &Path) -> String {
    let root = shell_quote(&path(root));
    format!(
        r#"root={root}
[ ! -L "$root" ] || fail "this is a link: $root"
[ -d "$root" ] || mkdir -m 0700 -- "$root"
[ -z "$(ls -A -- "$root")" ] || fail "the directory for tablespaces is not empty: $root"
[ "$(id -u)" != 0 ] || chown "$uid:$gid" "$root"
chmod 0700 "$root"
"#
    )
}

/// Where a part goes, as a word of shell.
fn unpacked_into(plan: &Plan, part: &Part) -> String {
    match part.holds {
        PartContents::Data => "\"$directory\"".to_owned(),
        PartContents::Wal => "\"$directory/pg_wal\"".to_owned(),
        PartContents::Tablespace(oid) => {
            let placed = plan.tablespaces.iter().find(|tablespace| tablespace.oid == oid);
            shell_quote(&placed.map(|tablespace| path(&tablespace.to)).unwrap_or_default())
        }
    }
}

fn unpack_tar(plan: &Plan, part: &Part, into: &str) -> String {
    let file = shell_quote(&path(&part.path));
    let picked = shell_quote(&picked(plan, part));
    match part.compression.program() {
        Some((program, options)) => format!("picked={picked}\nunpack {into} {program} {options} <{file}\n"),
        None => format!("picked={picked}\nunpack {into} cat <{file}\n"),
    }
}

/// The options that have `tar` unpack what belongs to a part and nothing else, quoted: of a tar with leading directories
/// what lies in the right one, and never what has a part of its own, or leads to where a tablespace was.
fn picked(plan: &Plan, part: &Part) -> String {
    let inside = path(&part.inside);
    let inside = inside.trim_end_matches('/');
    let mut options = Vec::new();
    if part.holds == PartContents::Data {
        for tablespace in &plan.tablespaces {
            let link = format!("pg_tblspc/{}", tablespace.oid);
            let names = if inside.is_empty() {
                vec![link.clone(), format!("./{link}")]
            } else {
                vec![format!("{inside}/{link}")]
            };
            options.extend(names.iter().map(|name| shell_quote(&format!("--exclude={name}"))));
        }
    }
    if !options.is_empty() {
        options.insert(0, "--anchored --no-wildcards".to_owned());
    }
    if !inside.is_empty() {
        let names = inside.split('/').filter(|name| !name.is_empty()).count();
        options.push(format!("--strip-components={names}"));
        options.push(format!("-- {}", shell_quote(inside)));
    }
    options.join(" ")
}

/// Links are not followed, but for `pg_wal`, which is often one to another disk; without a manifest it may lead to the
/// original's, and is left out. Those of tablespaces are left out.
fn copy_directory(plan: &Plan, part: &Part) -> String {
    let from = shell_quote(&path(&part.path));
    let (mut pruned, mut excluded) = (String::new(), String::new());
    for tablespace in &plan.tablespaces {
        let _ = write!(pruned, "-path ./pg_tblspc/{} -prune -o ", tablespace.oid);
        let _ = write!(excluded, " --exclude=./pg_tblspc/{}", tablespace.oid);
    }
    let unlinked = if plan.backup.manifest { "" } else { " && [ ! -L \"$backup/pg_wal\" ]" };
    format!(
        r#"backup={from}
odd=$(cd -- "$backup" && find . -path ./pg_wal -prune -o {pruned}! -type d ! -type f -print)
[ -z "$odd" ] || fail "links and special files are not copied: $odd"
unpack "$directory" sh -c 'cd -- "$1" && exec tar -cf - --exclude=./pg_wal{excluded} .' sh "$backup"
if [ -d "$backup/pg_wal" ]{unlinked}; then
    unpack "$directory/pg_wal" sh -c 'cd -- "$1" && exec tar -cf - .' sh "$backup/pg_wal"
fi
"#
    )
}

fn copy_tablespace(part: &Part, into: &str) -> String {
    let from = shell_quote(&path(&part.path));
    format!(
        r#"backup={from}
odd=$(cd -- "$backup" && find . ! -type d ! -type f -print)
[ -z "$odd" ] || fail "links and special files are not copied: $odd"
unpack {into} sh -c 'cd -- "$1" && exec tar -cf - .' sh "$backup"
"#
    )
}

/// Has the server find its tablespaces where they are now, and never where they were.
fn place_tablespaces(plan: &Plan) -> String {
    if plan.tablespaces.is_empty() {
        return String::new();
    }
    let places = plan.tablespaces.iter().map(|tablespace| (tablespace.oid, path(&tablespace.to)));
    let map = TablespaceMap(places.collect()).render();
    let mut code =
        "# The server makes its links from this map; the one in the backup leads to where the tablespaces were.\n\
                    as_user rm -f -- \"$directory/tablespace_map\"\n"
            .to_owned();
    match plan.backup.kind {
        BackupKind::Tar => code.push_str(&here_document("write \"$directory/tablespace_map\"", &map)),
        BackupKind::Directory => {
            for tablespace in &plan.tablespaces {
                let to = shell_quote(&path(&tablespace.to));
                let _ = writeln!(code, "as_user ln -s -- {to} \"$directory/pg_tblspc/{}\"", tablespace.oid);
            }
        }
    }
    code
}

fn configure(plan: &Plan) -> Section {
    let own = files::auto_conf("", plan, None);
    let names: Vec<String> = RECOVERY_SETTINGS
        .iter()
        .map(|name| (*name).to_owned())
        .chain(plan.settings.iter().map(|(name, _)| name.replace('.', "\\.")))
        .collect();
    let pattern = shell_quote(&format!("^[[:space:]]*({})([^[:alnum:]_.:/-]|$)", names.join("|")));
    let sockets = ["", ".lock"].map(|ending| format!("\"$socket_directory/.s.PGSQL.{}{ending}\"", plan.server.port));
    let (auto_conf, copied, signal) = (files::AUTO_CONF, files::COPIED_AUTO_CONF, files::SIGNAL);
    let mut code = format!(
        r#"[ -d "$own" ] || as_user mkdir -m 0700 -- "$own"
[ -d "$socket_directory" ] || as_user mkdir -m 0700 -- "$socket_directory"
[ -n "$(find "$socket_directory" -prune -type d -user "$run_as" -perm 0700)" ] ||
    fail "this directory is not the server's own: $socket_directory"
as_user rm -f -- {}
"#,
        sockets.join(" ")
    );
    code.push_str(&here_document("write \"$own/pg_hba.conf\"", files::HBA));
    code.push_str(&here_document("write \"$own/pg_ident.conf\"", files::IDENT));
    code.push_str(
        r#"# Debian keeps postgresql.conf elsewhere. What a standby must not have less of stands in pg_control.
if [ ! -e "$directory/postgresql.conf" ]; then
    control=$(as_user "$bin_dir/pg_controldata" -D "$directory") ||
        fail "the backup has no postgresql.conf, and there is no pg_controldata to tell what has to stand in it"
    printf '%s\n' "$control" |
        sed -n 's/^\(max_[a-z_]*\) setting: */\1 = /; s/_xacts = /_transactions = /; s/_xact = /_transaction = /; /^max_.* = /p' |
        write "$directory/postgresql.conf"
fi
"#,
    );
    code.push_str(&set_aside(plan));
    let _ = write!(
        code,
        r#"if [ -e "$directory/{auto_conf}" ]; then
    as_user cp -- "$directory/{auto_conf}" "$own/{copied}"
else
    as_user touch "$own/{copied}"
fi
# Of the copied settings stay those that are not set here and do not belong to recovery.
as_user sh -c 'grep -ivE -e "$1" -- "$2" >"$3" || [ $? -eq 1 ]' sh \
    {pattern} "$own/{copied}" "$own/kept.conf"
"#
    );
    code.push_str(&here_document("write \"$own/planned.conf\"", &own));
    let _ = write!(
        code,
        r#"as_user sh -c 'cat -- "$1" "$2" >"$3"' sh "$own/kept.conf" "$own/planned.conf" "$directory/{auto_conf}"
as_user touch "$directory/{signal}"
"#
    );
    let known = |name| plan.setting(name).is_some();
    if !Requirements::default().settings().into_iter().all(|(name, _)| known(name)) {
        code.push_str(&raise(auto_conf));
    }
    let text = vec![
        "The copy is isolated: no TCP, a socket of its own, no archiving, no subscriptions. The empty targets come before the"
            .to_owned(),
        "one that is meant: PostgreSQL refuses the other order.".to_owned(),
    ];
    Section { title: "Write the settings and recovery.signal", text, code }
}

/// Turns includes into comments that lead nowhere, or out of the backup. What the files were is kept.
fn set_aside(plan: &Plan) -> String {
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for include in &plan.set_aside {
        lines.entry(&include.file).or_default().push(include.line);
    }
    let mut code = String::new();
    for (name, lines) in lines {
        let file = shell_quote(name);
        let kept = shell_quote(&format!("{}.from-backup", name.replace('/', "_")));
        let edits: Vec<String> = lines.iter().map(|line| format!("{line}s/^/{SET_ASIDE}/")).collect();
        let _ = write!(
            code,
            r#"# These lines of the configuration include what does not come with the backup.
as_user cp -- "$directory/"{file} "$own/"{kept}
as_user sh -c 'sed -e "$1" -- "$2" >"$3"' sh {} "$own/"{kept} "$directory/"{file}
"#,
            shell_quote(&edits.join(";"))
        );
    }
    code
}

/// Has the server have no less than recovery needs; of a backup that was not looked into nobody knew what it has.
fn raise(auto_conf: &str) -> String {
    format!(
        r#"# Recovery needs no less of these than the server had that wrote the WAL.
control=$(as_user "$bin_dir/pg_controldata" -D "$directory") || fail "there is no pg_controldata to tell what is needed"
for name in max_connections max_worker_processes max_wal_senders max_prepared_transactions max_locks_per_transaction; do
    least=$(printf '%s
' "$control" | sed -n 's/_xacts /_transactions /; s/_xact /_transaction /; s/^'"$name"' setting: *//p')
    now=$(as_user "$bin_dir/postgres" -D "$directory" -C "$name") || fail "the settings in $directory are not understood"
    [ "$now" -ge "${{least:-0}}" ] || printf '%s = %s
' "$name" "$least" | append "$directory/{auto_conf}"
done
"#
    )
}

/// `command <<'WORD'`, with a word that is no line of the text. Nor does a line begin as the word does, if that can be:
/// dash 0.5.12 loses bytes of a line that begins like the word and goes on with others than ASCII.
fn here_document(command: &str, text: &str) -> String {
    let begins_no_line = |letter: &char| !text.lines().any(|line| line.starts_with(*letter));
    let letter = ('A'..='Z').find(begins_no_line).unwrap_or('A');
    let mut word = format!("{letter}_END_OF_FILE");
    while text.lines().any(|line| line == word) {
        word.push('_');
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{command} <<'{word}'\n{text}{end}{word}\n")
}

fn start(plan: &Plan) -> Section {
    // The words of the command that the engine runs, with the variables in the places of what they stand for.
    let command = server_command(&plan.server, Path::new("$directory"));
    let words: Vec<String> = command.iter().skip(1).map(|word| format!("\"{word}\"")).collect();
    let code = format!(
        r#"detach='nohup'
command -v setsid >/dev/null 2>&1 && detach='setsid'
# Nothing of it holds on to the terminal, or to a pipe behind this script.
(
    exec </dev/null >/dev/null 2>&1
    as_user sh -c 'log=$1; shift; exec "$@" >>"$log" 2>&1' sh \
        "$log" "$detach" "$bin_dir/postgres" {}
) &
server=$!
"#,
        words.join(" ")
    );
    let text = vec!["It runs on when this shell ends.".to_owned()];
    Section { title: "Start the server", text, code }
}

fn wait(plan: &Plan) -> Section {
    let (done, wrong) = match plan.resolved.action(&plan.target) {
        Action::Pause => (
            "LOG:  pausing at the end of recovery",
            "if said 'LOG:  recovery has paused'; then\n        fail \"replay has paused, and not at the target: $log\"\n    fi\n    \
             if said 'LOG:  selected new timeline ID'; then\n        \
             fail \"the server has ended recovery instead of pausing; do not use it: $log\"\n    fi\n    ",
        ),
        Action::Promote => ("LOG:  database system is ready to accept connections", ""),
        Action::Shutdown => ("LOG:  shutdown at recovery target", ""),
    };
    let code = format!(
        r#"said() {{ grep -q -e "$1" -- "$log" 2>/dev/null; }}
looked=0
while ! said '{done}'; do
    {wrong}if ! kill -0 "$server" 2>/dev/null; then
        # What it said last may have come since.
        said '{done}' && break
        [ ! -e "$log" ] || tail -n 20 -- "$log" | plain >&2
        fail "the server ended before it came to the target: $log"
    fi
    sleep 1
    looked=$((looked + 1))
    [ $((looked % 15)) -ne 0 ] || tail -n 1 -- "$log" | plain
done
"#
    );
    let text = vec!["The server's log says when it has come there. This takes as long as replay does.".to_owned()];
    Section { title: "Wait for the target", text, code }
}

fn compare(plan: &Plan) -> Section {
    let mut code = "grep -e 'recovery stopping' -- \"$log\" | tail -n 1 | plain\n".to_owned();
    if plan.resolved.action(&plan.target) == Action::Pause {
        code.push_str(
            r#"psql=$bin_dir/psql
[ -x "$psql" ] || psql=$(command -v psql) || psql=
replayed=
if [ -n "$psql" ]; then
    replayed=$(as_user "$psql" -XAtq -d "$connection" -c 'SELECT pg_last_wal_replay_lsn()') || replayed=
fi
if [ -z "$replayed" ]; then
    say "the server is paused; it was not asked how far it has come: $expected was predicted"
elif [ "$replayed" = "$expected" ]; then
    say "replayed up to $replayed, as predicted"
else
    fail "replayed up to $replayed, and $expected was predicted: look before you promote"
fi
"#,
        );
    }
    code.push_str(&here_document("cat", &afterwards(plan)));
    let text = vec!["What to do next is printed, and left to you.".to_owned()];
    Section { title: "Compare with the prediction", text, code }
}

/// What may follow, as commands.
fn afterwards(plan: &Plan) -> String {
    let connection = shell_quote(&plan.server.connection_to(DATABASE, None));
    let directory = shell_quote(&path(&plan.directory));
    let pg_ctl = shell_quote(&path(&plan.server.bin_dir.join("pg_ctl")));
    let user = &plan.server.run_as;
    let roots = plan.tablespace_roots().into_iter().map(|root| format!(" {}", shell_quote(&path(root))));
    let tablespaces = roots.collect::<String>();
    let stop = format!("  stop it:    {pg_ctl} -D {directory} stop -m fast\n");
    let next = match plan.resolved.action(&plan.target) {
        Action::Pause => format!(
            "  look:       psql -d {connection}\n  promote it: psql -d {connection} -c 'SELECT pg_promote()'\n{stop}"
        ),
        Action::Promote => format!("  look:       psql -d {connection}\n{stop}"),
        Action::Shutdown => format!("  start it:   with another target in {directory}/{}\n", files::AUTO_CONF),
    };
    format!(
        "Now, as {}:\n{next}  discard it: stop it, then rm -r -- {directory}{tablespaces}\n\
         After promotion, remove the settings of recovery and isolation from {directory}/{} and restart it.\n",
        one_line(user),
        files::AUTO_CONF
    )
}

/// Text without anything that ends a line or steers a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The same with nothing in it that Markdown takes for a sign.
fn in_text(text: &str) -> String {
    let special = |c: char| matches!(c, '`' | '*' | '_' | '<' | '[' | '\\' | '#' | '|');
    one_line(text).chars().map(|c| if special(c) { format!("\\{c}") } else { c.to_string() }).collect()
}

/// A block of code, in a fence that is longer than any in it.
fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{code}{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Target, TargetKind};
    use crate::plan::{PlacedTablespace, example};
    use proptest::prelude::*;

    /// A plan in which everything that comes from outside is this.
    fn called(name: &str) -> Plan {
        let mut plan = example();
        let place = Path::new("/").join(name);
        plan.recovery = name.to_owned();
        plan.directory = place.join("data");
        plan.backup.id = name.to_owned();
        plan.backup.location = place.clone();
        plan.backup.parts.iter_mut().for_each(|part| {
            part.path = place.join("base.tar.gz");
            part.inside = Path::new(name).join("main");
        });
        plan.wal = vec![place.clone()];
        plan.server.bin_dir = place.join("bin");
        plan.server.run_as = name.to_owned();
        plan.server.role = name.to_owned();
        plan.server.socket_directory = place.join("socket");
        plan.server.log = place.join("log");
        plan.tablespaces = vec![PlacedTablespace {
            oid: 16385,
            from: name.to_owned(),
            to: place.join("ts/1"),
            root: place.join("ts"),
        }];
        plan.settings.push(("work_mem".to_owned(), name.to_owned()));
        plan
    }

    /// What a shell that reads the script, and runs nothing of it, says.
    fn read_by_a_shell(script: &str) -> String {
        use std::io::Write as _;
        let mut shell = std::process::Command::new("sh")
            .arg("-n")
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        String::from_utf8_lossy(&shell.wait_with_output().unwrap().stderr).into_owned()
    }

    #[test]
    fn names_are_names_whatever_is_in_them() {
        for name in
            ["a b", "it's", "$(touch x)", "-rf", "a\nrm -rf /\n", "`x`", "END_OF_FILE", "\u{1b}[2J", "ä*?[", "a\\"]
        {
            let plan = called(name);
            let script = shell(&plan, Zone::UTC);
            assert_eq!(read_by_a_shell(&script), "", "{name:?}");
            let assigned = script.split("say() {").next().unwrap();
            let tail = "\nprintf '%s|' \"$directory\" \"$run_as\" \"$log\"";
            let said = std::process::Command::new("sh").arg("-c").arg(format!("{assigned}{tail}")).output().unwrap();
            let expected = format!("/{name}/data|{name}|/{name}/log|");
            assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{name:?}");
            let mut comments = script.lines().filter(|line| line.starts_with('#'));
            assert!(comments.all(|line| !line.contains('\u{1b}')), "{name:?}");
        }
    }

    #[test]
    fn each_action_is_waited_for() {
        let with = |action| {
            let target = Target { action, ..Target::new(TargetKind::Latest) };
            shell(&Plan { target, ..example() }, Zone::UTC)
        };
        assert!(with(Action::Pause).contains("pausing at the end of recovery"));
        assert!(with(Action::Promote).contains("ready to accept connections"));
        assert!(with(Action::Shutdown).contains("shutdown at recovery target"));
        for action in [Action::Pause, Action::Promote, Action::Shutdown] {
            assert_eq!(read_by_a_shell(&with(action)), "", "{action}");
        }
    }

    #[test]
    fn code_in_markdown_ends_where_it_ends() {
        assert_eq!(fenced("sh", "a\n"), "```sh\na\n```\n");
        assert_eq!(fenced("sh", "a ```` b\n"), "`````sh\na ```` b\n`````\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_it_is_called_nothing_is_run(name in "[^\\x00/]{1,12}", text in "([AE]_END_OF_FILE_?\n|[^\\x00]{0,6}|[A-D][^\\x00]\n)*") {
            prop_assert_eq!(read_by_a_shell(&shell(&called(&name), Zone::UTC)), "");
            let code = here_document("cat", &text);
            let said = std::process::Command::new("sh").arg("-c").arg(&code).output().unwrap();
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            prop_assert_eq!(String::from_utf8_lossy(&said.stdout), format!("{text}{end}"));
        }
    }
}
