//! Reads Rust just well enough to see which paths a file names: no types, no macros, no build.

/// A word, a number or a sign of a source text. Comments, lifetimes and the insides of strings are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// As it is written; `""` stands for any string or character.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

/// A path that a source text names, with `use` groups written out and `self` and `super` resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Whether it starts at the crate's root; otherwise at another crate or at something in scope.
    pub of_crate: bool,
    /// Its names; the last may be `*`.
    pub names: Vec<String>,
    /// Where it starts, counted from 1.
    pub line: usize,
}

impl Path {
    /// Whether the names of `pattern` (`a::b`) stand in it, side by side.
    pub fn contains(&self, pattern: &str) -> bool {
        let pattern: Vec<&str> = pattern.split("::").collect();
        self.names.windows(pattern.len()).any(|names| names == pattern)
    }
}

/// Signs that are longer than a character, the longest first.
const SIGNS: [&str; 9] = ["..=", "::", "..", "<=", ">=", "==", "!=", "->", "=>"];

/// Splits a source text.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (text, length) = token_at(rest, first);
        if let Some(text) = text {
            tokens.push(Token { text: text.to_owned(), line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The token at the start of `rest`, if it is one that counts, and how many bytes it takes.
fn token_at(rest: &str, first: char) -> (Option<&str>, usize) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if rest.starts_with("//") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, block_comment(rest));
    }
    if let Some(length) = string(rest) {
        return (Some("\"\""), length);
    }
    if first == '\'' {
        return quote(rest);
    }
    if is_word(first) {
        let raw = if rest.starts_with("r#") { 2 } else { 0 };
        let length = rest[raw..].find(|c| !is_word(c)).map_or(rest.len(), |end| end + raw);
        return (Some(&rest[raw..length]), length);
    }
    if first.is_whitespace() {
        return (None, first.len_utf8());
    }
    let length = SIGNS.iter().find(|sign| rest.starts_with(**sign)).map_or(first.len_utf8(), |sign| sign.len());
    (Some(&rest[..length]), length)
}

/// How long the comment is that starts here; such comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// How long the string is that starts here, if one does: `"…"`, `b"…"`, `c"…"`, and raw ones.
fn string(rest: &str) -> Option<usize> {
    let body = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - body.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = body.strip_prefix('r') {
        let text = raw.trim_start_matches('#');
        let hashes = raw.len() - text.len();
        let text = text.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(text.find(&end).map_or(rest.len(), |at| prefix + 1 + hashes + 1 + at + end.len()));
    }
    let text = body.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == '"' && !escaped {
            return Some(prefix + 1 + at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    Some(rest.len())
}

/// A character in quotes, or a lifetime.
fn quote(rest: &str) -> (Option<&str>, usize) {
    let mut inside = rest[1..].chars();
    match (inside.next(), inside.next()) {
        (Some('\\'), Some(escaped)) => {
            let skipped = 2 + escaped.len_utf8();
            (Some("\"\""), rest[skipped..].find('\'').map_or(rest.len(), |end| skipped + end + 1))
        }
        (Some(c), Some('\'')) => (Some("\"\""), c.len_utf8() + 2),
        _ => (None, rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |end| end + 1)),
    }
}

/// The program without its tests: no `#[cfg(test)]` and no `#[test]` item. Also the names of the modules declared so
/// that lie in files of their own.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let (mut kept, mut test_modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if text(at) == "#" && text(at + 1) == "!" && is_test_attribute(&tokens[at + 2..]) {
            return (Vec::new(), test_modules);
        }
        if text(at) != "#" || !is_test_attribute(&tokens[at + 1..]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        while text(at) == "#" {
            at = end_of_group(tokens, at + 1);
        }
        let end = end_of_item(tokens, at);
        if text(end - 1) == ";" && text(end - 3) == "mod" {
            test_modules.push(text(end - 2).to_owned());
        }
        at = end;
    }
    (kept, test_modules)
}

/// Whether `[cfg(test)]`, `[cfg(all(test, …))]` or `[test]` stands here.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let starts = |words: &[&str]| tokens.len() >= words.len() && tokens.iter().zip(words).all(|(t, w)| t.text == *w);
    starts(&["[", "cfg", "(", "test", ")"])
        || starts(&["[", "test", "]"])
        || (starts(&["[", "cfg", "(", "all", "("])
            && tokens[..end_of_group(tokens, 0)].iter().any(|token| token.text == "test"))
}

/// Past the bracket that closes the one at `at`.
fn end_of_group(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// Past the item, or the field or arm, that starts at `at`.
fn end_of_item(tokens: &[Token], at: usize) -> usize {
    const ITEMS: [&str; 14] = [
        "pub", "mod", "use", "fn", "struct", "enum", "impl", "const", "static", "type", "trait", "async", "extern",
        "let",
    ];
    let is_item = tokens.get(at).is_some_and(|token| ITEMS.contains(&token.text.as_str()));
    let mut index = at;
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            ";" => return index + 1,
            "{" => return end_of_group(tokens, index),
            "," if !is_item => return index + 1,
            ")" | "]" | "}" => return index,
            "(" | "[" => index = end_of_group(tokens, index),
            _ => index += 1,
        }
    }
    tokens.len()
}

/// Every path that the tokens of module `module` name.
pub fn paths(tokens: &[Token], module: &[&str]) -> Vec<Path> {
    let mut reader = Reader {
        tokens,
        at: 0,
        module: module.iter().map(|name| (*name).to_owned()).collect(),
        inline_modules: Vec::new(),
        depth: 0,
        paths: Vec::new(),
    };
    reader.read();
    reader.paths
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The module in which `at` lies.
    module: Vec<String>,
    /// The depths of braces at which modules written out in this file were opened.
    inline_modules: Vec<usize>,
    depth: usize,
    paths: Vec<Path>,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn is_name(&self, at: usize) -> bool {
        self.text(at).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    fn read(&mut self) {
        while self.at < self.tokens.len() {
            let previous = if self.at == 0 { "" } else { self.text(self.at - 1) };
            if self.text(self.at) == "mod" && self.text(self.at + 2) == "{" {
                self.module.push(self.text(self.at + 1).to_owned());
                self.inline_modules.push(self.depth);
                self.at += 2;
            } else if self.is_name(self.at) && previous != "." {
                self.tree(&[]);
            } else {
                self.brace();
                self.at += 1;
            }
        }
    }

    fn brace(&mut self) {
        match self.text(self.at) {
            "{" => self.depth += 1,
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.inline_modules.last() == Some(&self.depth) {
                    self.inline_modules.pop();
                    self.module.pop();
                }
            }
            _ => {}
        }
    }

    /// Reads a path, or a tree of paths in braces, that continues `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let mut names = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text(self.at) {
                "{" => return self.group(&names),
                "*" => names.push("*".to_owned()),
                _ if self.is_name(self.at) => names.push(self.text(self.at).to_owned()),
                // A path's end in generic arguments: `Vec::<u8>`.
                _ => break,
            }
            self.at += 1;
            if self.text(self.at) != "::" {
                break;
            }
            self.at += 1;
        }
        let renamed = self.text(self.at) == "as";
        self.keep(names, line, renamed);
    }

    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() && self.text(self.at) != "}" {
            if self.is_name(self.at) || matches!(self.text(self.at), "*" | "{") {
                self.tree(prefix);
                if self.text(self.at) == "as" {
                    self.at += 2;
                }
            } else {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn keep(&mut self, mut names: Vec<String>, line: usize, renamed: bool) {
        if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
            names.pop();
        }
        let first = names.first().map_or("", String::as_str);
        let of_crate = matches!(first, "crate" | "self" | "super");
        // `pub(crate)`, `&self`: no path. `use crate as us` is one.
        if of_crate && names.len() == 1 && !renamed {
            return;
        }
        if of_crate {
            let mut absolute = if first == "crate" { Vec::new() } else { self.module.clone() };
            for name in names {
                match name.as_str() {
                    "crate" | "self" => {}
                    "super" => drop(absolute.pop()),
                    _ => absolute.push(name),
                }
            }
            names = absolute;
        }
        self.paths.push(Path { of_crate, names, line });
    }
}
