//! Confirmations: typed at the terminal, or given with `--yes`. Nothing else stands for them.

use std::io::{BufRead, IsTerminal};

use crate::error::{Error, ErrorKind, Result};

use super::note;

/// Has the operator type `word` to go on with what `question` says.
///
/// # Errors
/// When there is no terminal to ask at, or something else was typed.
pub fn confirm(yes: bool, question: &str, word: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::new(ErrorKind::Unconfirmed, "unconfirmed", format!("{question}: nobody confirmed it"))
            .hint("add --yes, or run it at a terminal"));
    }
    note(&format!("{question}.\nType {word} to go on:"));
    let mut typed = String::new();
    let read = stdin.lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == word {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unconfirmed, "unconfirmed", "not confirmed; nothing was changed"))
}
