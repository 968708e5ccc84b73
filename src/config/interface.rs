//! How the interactive program looks, as configured.

use std::fmt::Write;

use serde::{Deserialize, Deserializer};

/// `interface` in the configuration. What is `None` the terminal decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interface {
    /// How many colours.
    #[serde(deserialize_with = "choice")]
    pub colours: Option<Colours>,
    /// On which background.
    #[serde(deserialize_with = "choice")]
    pub theme: Option<Background>,
    /// Which signs.
    #[serde(deserialize_with = "choice")]
    pub glyphs: Option<Glyphs>,
    /// What bars are made of.
    #[serde(deserialize_with = "choice")]
    pub chart: Option<Bars>,
}

/// How many colours the terminal has, or shall be used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Any.
    Truecolor,
    /// Those of xterm.
    Many,
    /// Its own.
    Sixteen,
    /// None.
    None,
}

/// What colours are seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Black, or nearly.
    Dark,
    /// White, or nearly.
    Light,
}

/// Which signs the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    /// All of them.
    Unicode,
    /// ASCII's alone.
    Ascii,
}

/// What the bars of the chart are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bars {
    /// Dots of Braille: two bars a column.
    Braille,
    /// Blocks.
    Blocks,
    /// ASCII.
    Ascii,
}

/// Something that is chosen by a word.
trait Choice: Copy + 'static {
    /// The words, in the order in which they are explained.
    const WORDS: &'static [(&'static str, Self)];
}

impl Choice for Colours {
    const WORDS: &'static [(&'static str, Self)] =
        &[("truecolor", Self::Truecolor), ("256", Self::Many), ("16", Self::Sixteen), ("none", Self::None)];
}

impl Choice for Background {
    const WORDS: &'static [(&'static str, Self)] = &[("dark", Self::Dark), ("light", Self::Light)];
}

impl Choice for Glyphs {
    const WORDS: &'static [(&'static str, Self)] = &[("unicode", Self::Unicode), ("ascii", Self::Ascii)];
}

impl Choice for Bars {
    const WORDS: &'static [(&'static str, Self)] =
        &[("braille", Self::Braille), ("blocks", Self::Blocks), ("ascii", Self::Ascii)];
}

fn choice<'de, D: Deserializer<'de>, T: Choice>(deserializer: D) -> Result<Option<T>, D::Error> {
    // `256` is a number to YAML.
    let word = super::Scalar::deserialize(deserializer)?.into_text();
    if word == "auto" {
        return Ok(None);
    }
    let known = T::WORDS.iter().find(|(known, _)| *known == word);
    known.map(|(_, value)| Some(*value)).ok_or_else(|| {
        let mut words = String::from("auto");
        for (known, _) in T::WORDS {
            let _ = write!(words, ", {known}");
        }
        serde::de::Error::custom(format!("“{word}” is none of {words}"))
    })
}
