//! Names for the numbers of databases and of relations' files, as a base backup has them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::PgMajor;
use crate::pgdata::system_rows::{Class, classes, named};

use super::suspect::Suspect;

/// The schema of TOAST tables and their indexes: their names say nothing to a user, being made of the table's OID.
const TOAST: &str = "pg_toast.";

/// What a file of a relation belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationName {
    /// `schema.name`, as it stands in the catalogs: not fit for a terminal unescaped.
    pub name: String,
    /// What it is: `r` a table, `i` an index, `t` a TOAST table, `S` a sequence, `m` a materialized view.
    pub kind: char,
}

/// Names of databases and relations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelationNames {
    databases: BTreeMap<u32, String>,
    /// Those of them that were there when the backup was made.
    current: BTreeSet<u32>,
    relations: HashMap<(u32, u32), RelationName>,
}

impl RelationNames {
    /// Takes in a file of `pg_database`.
    pub fn add_databases(&mut self, file: &[u8]) {
        for row in named(file) {
            if row.current {
                self.current.insert(row.oid);
            }
            // What is current wins, whatever order they come in.
            if row.current || !self.databases.contains_key(&row.oid) {
                self.databases.insert(row.oid, row.name);
            }
        }
    }

    /// Takes in the files of `pg_class` and `pg_namespace` of one database.
    pub fn add_relations(&mut self, database: u32, major: PgMajor, pg_class: &[u8], pg_namespace: &[u8]) {
        let mut schemas = HashMap::new();
        for row in named(pg_namespace) {
            if row.current || !schemas.contains_key(&row.oid) {
                schemas.insert(row.oid, row.name);
            }
        }
        let with_files = classes(pg_class, major).filter(|class| class.relfilenode != 0);
        for class in with_files {
            let key = (database, class.relfilenode);
            if class.current || !self.relations.contains_key(&key) {
                self.relations.insert(key, named_in(&class, &schemas));
            }
        }
    }

    /// A database's name.
    #[must_use]
    pub fn database(&self, oid: u32) -> Option<&str> {
        self.databases.get(&oid).map(String::as_str)
    }

    /// The database that users made, where it is the only one.
    #[must_use]
    pub fn only_database(&self) -> Option<&str> {
        let current = self.databases.iter().filter(|(oid, _)| self.current.contains(*oid));
        let mut own = current.map(|(_, name)| name.as_str()).filter(|name| is_of_users(name));
        own.next().filter(|_| own.next().is_none())
    }

    /// Whose files have this number in this database.
    #[must_use]
    pub fn relation(&self, database: u32, relfilenode: u32) -> Option<&RelationName> {
        self.relations.get(&(database, relfilenode))
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.relations.is_empty()
    }

    /// Gives the relations of a suspect their names, tables first, then what belongs to them.
    pub fn name(&self, suspect: &mut Suspect) {
        for relation in &mut suspect.relations {
            relation.database_name = self.database(relation.database).map(str::to_owned);
            relation.name = match relation.relfilenode {
                Some(number) => self.relation(relation.database, number).map(|known| known.name.clone()),
                None => self.database(relation.database).map(str::to_owned),
            };
        }
        suspect.relations.sort_by_key(|relation| {
            let known = relation.relfilenode.and_then(|number| self.relation(relation.database, number));
            (std::cmp::Reverse(relation.rows), known.map_or(u8::MAX, RelationName::rank))
        });
    }
}

/// Whether a database of this name is none of those that `initdb` makes.
#[must_use]
pub fn is_of_users(database: &str) -> bool {
    !matches!(database, "postgres" | "template0" | "template1")
}

impl RelationName {
    /// What users care for comes first.
    fn rank(&self) -> u8 {
        match self.kind {
            _ if self.name.starts_with(TOAST) => 4,
            'r' | 'p' => 0,
            'm' => 1,
            'S' => 2,
            _ => 3,
        }
    }
}

fn named_in(class: &Class, schemas: &HashMap<u32, String>) -> RelationName {
    let name = match schemas.get(&class.namespace) {
        Some(schema) => format!("{schema}.{}", class.name),
        None => class.name.clone(),
    };
    RelationName { name, kind: class.kind }
}
