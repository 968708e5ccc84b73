//! `~/.pgpass`: passwords of connections, a line each (`passwordFromFile`, `src/interfaces/libpq/fe-connect.c`, 13 to 18).

/// What a connection is to, as the file's lines name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The host; `localhost` for the socket in its usual directory.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: &'a str,
    /// The role.
    pub role: &'a str,
}

/// The password of the first line that fits: `host:port:database:role:password`, where each of the first four may be `*`,
/// and a backslash takes away what `:` and `\` mean.
#[must_use]
pub fn find(text: &str, wanted: &Wanted<'_>) -> Option<String> {
    let port = wanted.port.to_string();
    let fields = [wanted.host, &port, wanted.database, wanted.role];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let parts = split(line);
        let (password, named) = parts.get(..5)?.split_last()?;
        let fits = named.iter().zip(fields).all(|(named, field)| named.raw == "*" || named.value == field);
        (fits && !password.value.is_empty()).then(|| password.value.clone())
    })
}

/// One field of a line.
#[derive(Default)]
struct Field {
    /// As it stands there: an escaped star is none.
    raw: String,
    value: String,
}

fn split(line: &str) -> Vec<Field> {
    let mut fields = vec![Field::default()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == ':' {
            fields.push(Field::default());
            continue;
        }
        let Some(field) = fields.last_mut() else { continue };
        field.raw.push(character);
        let meant = if character == '\\' { characters.next().unwrap_or(character) } else { character };
        field.value.push(meant);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WANTED: Wanted<'_> = Wanted { host: "db1", port: 5432, database: "postgres", role: "walback" };

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        for (text, password) in [
            ("db1:5432:postgres:walback:secret", Some("secret")),
            ("# db1:5432:postgres:walback:no\n*:*:*:*:se\\:cr\\\\et\n", Some("se:cr\\et")),
            ("db2:5432:*:*:no\ndb1:*:*:walback:yes\n*:*:*:*:later", Some("yes")),
            ("db1:5433:*:*:no", None),
            ("\\*:*:*:*:no", None),
            ("db1:5432:postgres:walback:", None),
            ("db1:5432:postgres", None),
            ("", None),
        ] {
            assert_eq!(find(text, &WANTED).as_deref(), password, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[*:\\\\a\n]{0,60}") {
            let _ = find(&text, &WANTED);
        }

        #[test]
        fn a_password_that_was_escaped_comes_back(password in "[ -~]{1,20}") {
            let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
            prop_assert_eq!(find(&format!("*:*:*:*:{escaped}"), &WANTED), Some(password));
        }
    }
}
