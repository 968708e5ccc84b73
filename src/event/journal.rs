//! The journal's lines: one event each, as JSON.

use super::types::Event;

/// An event as a line of the journal, with its newline.
///
/// # Errors
/// When a path in it is not UTF-8, which JSON cannot carry.
pub fn encode(event: &Event) -> Result<String, serde_json::Error> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    Ok(line)
}

/// The events of a journal. A last line without its newline was being written when the machine or the program went
/// down: what it announced was not done, and it is left out.
///
/// # Errors
/// With the number of the first whole line that does not parse, from 1, and why.
pub fn decode(text: &str) -> Result<Vec<Event>, (usize, serde_json::Error)> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| (number + 1, error)))
        .collect()
}
