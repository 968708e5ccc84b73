//! The piece of the runbook that makes the data of an incremental backup and those that it builds upon.

use std::fmt::Write as _;
use std::path::Path;

use crate::core::PgMajor;
use crate::plan::chain::{PROGRAM, combined, combined_tablespace, staging};
use crate::plan::settings::shell_quote;
use crate::plan::{Chain, Link, Plan};

use super::{RENAMED, Section, make_directory, make_root, path, tidy, unpack_parts};

/// Whether the program is there, and is that of the server.
pub(super) fn check(chain: &Chain, major: PgMajor) -> String {
    let program = shell_quote(&path(&chain.program));
    format!(
        r#"combines=$(as_user {program} --version) || fail "$run_as cannot run" {program}
case $combines in
    *"(PostgreSQL) {major}" | *"(PostgreSQL) {major}"[!0-9]*) ;;
    *) fail "the backups are of PostgreSQL {major}, and what combines them is $combines" ;;
esac
"#
    )
}

/// Unpacks each of the chain beside the data, combines them, and puts that into place.
pub(super) fn unpack(plan: &Plan) -> Section {
    let links = plan.chain.iter().flat_map(|chain| &chain.links);
    let mut code = make_directory(plan);
    for root in plan.tablespace_roots() {
        code.push_str(&make_root(root));
    }
    let staging = quoted(&staging(&plan.directory));
    let _ = write!(code, "data=$directory\nas_user mkdir -p -m 0700 -- \"$own\" {staging}\n");
    for (i, link) in links.enumerate().filter(|(_, link)| !link.in_place) {
        code.push_str(&unpack_link(&plan.of_link(i + 1, link), link));
    }
    code.push_str("directory=$data\n");
    code.push_str(&combine(plan));
    code.push_str(&tidy(plan));
    let mut text = vec![
        "The backup is an incremental one: it and those that it builds upon are unpacked beside the data, as far as the"
            .to_owned(),
        format!("server's user cannot read them where they lie, and {PROGRAM} makes the data of them. They are only read."),
    ];
    if plan.make_way.is_some() {
        text.insert(0, RENAMED.to_owned());
    }
    Section { title: "Unpack the base backups and combine them", text, code }
}

/// Unpacks one of them, as if it was the data.
fn unpack_link(plan: &Plan, link: &Link) -> String {
    let mut code = format!("directory={}\nas_user mkdir -m 0700 -- \"$directory\"\n", quoted(&link.directory));
    code.push_str(&unpack_parts(plan));
    for tablespace in &link.tablespaces {
        let _ =
            writeln!(code, "as_user ln -s -- {} \"$directory/pg_tblspc/{}\"", quoted(&tablespace.to), tablespace.oid);
    }
    code.push_str("as_user rm -f -- \"$directory/tablespace_map\"\n");
    if link.backup.manifest {
        let manifest = quoted(&link.backup.manifest_path());
        let _ =
            writeln!(code, "[ -e \"$directory/backup_manifest\" ] || write \"$directory/backup_manifest\" <{manifest}");
    }
    code
}

/// Has the program make the data, and puts it into place.
fn combine(plan: &Plan) -> String {
    let Some(chain) = &plan.chain else { return String::new() };
    let arguments = chain.arguments(&plan.directory, &plan.tablespaces);
    let words: Vec<String> = arguments.iter().map(|word| shell_quote(word)).collect();
    let mut code = String::from(
        r#"# put FROM INTO: renames everything in one directory into another on the same file system.
put() {
    as_user find "$1" -mindepth 1 -maxdepth 1 ! -name .walback -exec mv -t "$2" -- {} +
}
"#,
    );
    let program = shell_quote(&path(&chain.program));
    let _ = writeln!(
        code,
        "as_user {program} \\\n    {} ||\n    fail \"the base backups cannot be combined\"",
        words.join(" \\\n    ")
    );
    let _ = writeln!(code, "put {} \"$directory\"", quoted(&combined(&plan.directory)));
    for tablespace in &plan.tablespaces {
        let (from, to) = (quoted(&combined_tablespace(tablespace)), quoted(&tablespace.to));
        let link = format!("\"$directory/pg_tblspc/{}\"", tablespace.oid);
        let _ = writeln!(code, "as_user mkdir -p -m 0700 -- {to}\nput {from} {to}\nas_user ln -sfn -- {to} {link}");
    }
    let left: Vec<String> =
        crate::plan::chain::leftovers(&plan.directory, &plan.tablespaces).iter().map(|left| quoted(left)).collect();
    let _ =
        writeln!(code, "as_user rm -rf -- {}\nas_user rm -f -- \"$directory/tablespace_map\"\nsync", left.join(" "));
    code
}

fn quoted(to: &Path) -> String {
    shell_quote(&path(to))
}
