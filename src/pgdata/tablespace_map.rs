//! `tablespace_map`: where the tablespaces of a base backup were, and where the restored ones are to be.

/// A cluster's tablespaces outside its data directory, in the order of the file: OID, and path.
///
/// When a server starts from a backup with this file, it makes the links in `pg_tblspc` anew from it. As it comes
/// in a backup it names the original cluster's own directories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TablespaceMap(pub Vec<(u32, String)>);

/// Why a text is not a tablespace map. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTablespaceMap {
    /// Not a tablespace.
    #[error("line {line}, “{}”, is not a tablespace's OID, a space and a path", .text.escape_debug())]
    Syntax {
        /// Which line.
        line: usize,
        /// How it begins, without its escapes.
        text: String,
    },
    /// The last line has no end.
    #[error("it is cut off: its last line has no end")]
    CutOff,
}

impl TablespaceMap {
    /// Reads a `tablespace_map` as the server does (`read_tablespace_map`,
    /// `src/backend/access/transam/xlogrecovery.c`): a backslash takes the next character as it is, even a line's end.
    ///
    /// # Errors
    /// See [`BadTablespaceMap`].
    pub fn parse(text: &str) -> Result<TablespaceMap, BadTablespaceMap> {
        let mut entries = Vec::new();
        let mut line = String::new();
        let mut number = 1;
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => line.push(characters.next().ok_or(BadTablespaceMap::CutOff)?),
                // A carriage return before a line feed leaves an empty line behind.
                '\n' | '\r' if line.is_empty() => {}
                '\n' | '\r' => {
                    entries.push(entry(&line).ok_or_else(|| BadTablespaceMap::Syntax {
                        line: number,
                        text: line.chars().take(80).collect(),
                    })?);
                    number += 1;
                    line.clear();
                }
                _ => line.push(character),
            }
        }
        if line.is_empty() { Ok(TablespaceMap(entries)) } else { Err(BadTablespaceMap::CutOff) }
    }

    /// As the server reads it.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (oid, path) in &self.0 {
            text.push_str(&oid.to_string());
            text.push(' ');
            for character in path.chars() {
                if matches!(character, '\n' | '\r' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
            text.push('\n');
        }
        text
    }
}

fn entry(line: &str) -> Option<(u32, String)> {
    let (oid, path) = line.split_once(' ')?;
    let oid = oid.parse().ok().filter(|id| *id > 0 && oid.bytes().all(|b| b.is_ascii_digit()))?;
    (!path.is_empty()).then(|| (oid, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_may_hold_spaces_and_escapes() {
        let map = TablespaceMap::parse("16384 /srv/ts one\n16385 /srv/a\\\nb\\\\c\n").unwrap();
        assert_eq!(map.0, [(16384, "/srv/ts one".to_owned()), (16385, "/srv/a\nb\\c".to_owned())]);
        assert_eq!(map.render(), "16384 /srv/ts one\n16385 /srv/a\\\nb\\\\c\n");
        assert_eq!(TablespaceMap::parse("16384 /srv/x\r\n\n"), Ok(TablespaceMap(vec![(16384, "/srv/x".into())])));
        assert_eq!(TablespaceMap::parse(""), Ok(TablespaceMap::default()));
    }

    #[test]
    fn what_the_server_refuses_is_refused() {
        for bad in ["x /srv\n", "16384\n", "16384 \n", " /srv\n", "0 /srv\n", "+1 /srv\n", "99999999999 /srv\n"] {
            let error = TablespaceMap::parse(&format!("1 /a\n{bad}")).unwrap_err();
            assert!(matches!(error, BadTablespaceMap::Syntax { line: 2, .. }), "{bad:?}: {error:?}");
        }
        for cut in ["16384 /srv", "16384 /srv\\", "1"] {
            assert_eq!(TablespaceMap::parse(cut), Err(BadTablespaceMap::CutOff), "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_rendered_reads_back(entries in prop::collection::vec((1u32.., "[ -~\n\r\\\\\u{e9}]{1,12}"), 0..5)) {
            let map = TablespaceMap(entries);
            prop_assert_eq!(TablespaceMap::parse(&map.render()), Ok(map));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = TablespaceMap::parse(&text);
        }
    }
}
