//! What a suspect did, in words.

use crate::core::Zone;
use crate::core::progress::{counted, grouped};

use super::{Suspect, SuspectKind, SuspectRelation};

/// What it does, in a word.
#[must_use]
pub fn verb(kind: SuspectKind) -> &'static str {
    match kind {
        SuspectKind::DropDatabase => "drops database",
        SuspectKind::Drop => "drops",
        SuspectKind::Truncate => "truncates",
        SuspectKind::Delete => "deletes",
        SuspectKind::Rewrite => "rewrites",
        SuspectKind::Update => "updates",
    }
}

/// A relation without a name, by the number of its file; a database by its own.
fn numbered(relation: &SuspectRelation) -> String {
    match relation.relfilenode {
        Some(number) => format!("file {number}"),
        None => format!("number {}", relation.database),
    }
}

impl Suspect {
    /// What it is done to, at most so many by their names: `orders, customers, 2 more`; a relation without a name by
    /// the number of its file. Not fit for a terminal unescaped.
    #[must_use]
    pub fn relations_in_words(&self, most: usize) -> String {
        let named: Vec<&str> = self.relations.iter().filter_map(|relation| relation.name.as_deref()).collect();
        let unnamed = self.relations.len() - named.len();
        let mut parts: Vec<String> = named.iter().take(most).map(|name| (*name).to_owned()).collect();
        let more = named.len().saturating_sub(most) + unnamed;
        match (parts.is_empty(), more) {
            (true, 0) => return String::new(),
            (true, 1) => return self.relations.first().map_or(String::new(), numbered),
            (true, more) => return counted(more as u64, "relation"),
            (false, 0) => {}
            (false, more) => parts.push(format!("{} more", grouped(more as u64))),
        }
        parts.join(", ")
    }

    /// What it does: `drops orders, 2 more`, `deletes 48,211 rows of orders`.
    #[must_use]
    pub fn in_words(&self, most: usize) -> String {
        let (what, to) = (verb(self.kind), self.relations_in_words(most));
        match self.kind {
            SuspectKind::Delete | SuspectKind::Update => {
                let of = if to.is_empty() { String::new() } else { format!(" of {to}") };
                format!("{what} {}{of}", counted(self.rows, "row"))
            }
            _ if to.is_empty() => what.to_owned(),
            _ => format!("{what} {to}"),
        }
    }

    /// The same with the databases: `deletes 48,211 rows of orders in database shop`.
    #[must_use]
    pub fn in_full(&self, most: usize) -> String {
        format!("{}{}", self.in_words(most), self.in_databases())
    }

    /// ` in database shop`, where that is known and not said anyway.
    #[must_use]
    pub fn in_databases(&self) -> String {
        let databases = if self.kind == SuspectKind::DropDatabase { Vec::new() } else { self.databases() };
        match databases.as_slice() {
            [] => String::new(),
            [one] => format!(" in database {one}"),
            several => format!(" in databases {}", several.join(", ")),
        }
    }

    /// The names of the databases that it was in, once each, as far as they are known.
    #[must_use]
    pub fn databases(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for name in self.relations.iter().filter_map(|relation| relation.database_name.as_deref()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// `827 deletes 48,211 rows of orders in database shop, 2026-10-25 02:40:33.000000 +02:00`.
    #[must_use]
    pub fn with_time(&self, most: usize, zone: Zone) -> String {
        format!("{} {}, {}", self.xid, self.in_full(most), self.at.in_zone(zone))
    }
}
