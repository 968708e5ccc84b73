//! Questions to a recovered cluster: what queries give, and checks of it, a query and what its first value should be.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A check, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is called.
    pub name: String,
    /// The database that is asked.
    pub database: String,
    /// The query.
    pub sql: String,
    /// What the first column of its first row should be.
    pub expect: Expectation,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What it is called.
    pub name: String,
    /// Whether the value is as expected.
    pub passed: bool,
    /// The value; `None` for a null, where there was no row, and where the query failed.
    pub value: Option<String>,
    /// What was expected, as it is configured.
    pub expected: String,
    /// Why there is no value.
    pub error: Option<String>,
}

/// What a query gave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, as PostgreSQL prints their values; `None` for a null.
    pub rows: Vec<Vec<Option<String>>>,
    /// There are more, which were not asked for.
    pub more: bool,
}

/// What a value should be: `> 0`, `<> 'text'`, `42`, `within 5% of last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation(Expected);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Compared(Relation, Value),
    /// No further from the value of the last time than so many percent of that.
    NearLast(Decimal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

/// Longer ones first: `<=` is not `<`.
const RELATIONS: [(&str, Relation); 7] = [
    ("!=", Relation::Unequal),
    ("<>", Relation::Unequal),
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("<", Relation::Less),
    (">", Relation::Greater),
    ("=", Relation::Equal),
];

impl Relation {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Unequal => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::Greater => ordering.is_gt(),
            Self::AtMost => ordering.is_le(),
            Self::AtLeast => ordering.is_ge(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(Decimal),
    Text(String),
}

/// A decimal number of any size: counts and sums of money are not rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// Without zeros in front.
    whole: String,
    /// Without zeros at its end.
    fraction: String,
}

impl Decimal {
    fn parse(text: &str) -> Option<Decimal> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Decimal { negative: negative && !is_zero, whole: whole.to_owned(), fraction: fraction.to_owned() })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        let size = |of: &Decimal, to: &Decimal| {
            let whole = of.whole.len().cmp(&to.whole.len()).then_with(|| of.whole.cmp(&to.whole));
            whole.then_with(|| of.fraction.cmp(&to.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a text is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "“{0}” says nothing about a value: write = <> < > <= or >= and a number or a 'text', like > 0, or within 5% of last"
)]
pub struct BadExpectation(String);

impl FromStr for Expectation {
    type Err = BadExpectation;

    fn from_str(text: &str) -> Result<Expectation, BadExpectation> {
        let text = text.trim();
        let bad = || BadExpectation(text.to_owned());
        if let Some(percent) = text.strip_prefix("within ").and_then(|rest| rest.strip_suffix(" of last")) {
            let percent = percent.trim().strip_suffix('%').and_then(|number| Decimal::parse(number.trim()));
            let percent = percent.filter(|percent| !percent.negative).ok_or_else(bad)?;
            return Ok(Expectation(Expected::NearLast(percent)));
        }
        let found = RELATIONS.iter().find_map(|(sign, relation)| Some((*relation, text.strip_prefix(sign)?)));
        let (relation, value) = found.unwrap_or((Relation::Equal, text));
        let value = value.trim();
        let quoted = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let value = match quoted {
            Some(inner) if !inner.replace("''", "").contains('\'') => Value::Text(inner.replace("''", "'")),
            Some(_) => return Err(bad()),
            None => Value::Number(Decimal::parse(value).ok_or_else(bad)?),
        };
        Ok(Expectation(Expected::Compared(relation, value)))
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Expected::NearLast(percent) => write!(f, "within {percent}% of last"),
            Expected::Compared(relation, value) => {
                let sign = RELATIONS.iter().rev().find(|(_, other)| other == relation).map_or("=", |(sign, _)| sign);
                match value {
                    Value::Text(text) => write!(f, "{sign} '{}'", text.replace('\'', "''")),
                    Value::Number(number) => write!(f, "{sign} {number}"),
                }
            }
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decimal { negative, whole, fraction } = self;
        let minus = if *negative { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{minus}{whole}{point}{fraction}")
    }
}

impl Expectation {
    /// Whether a value, as PostgreSQL prints it, is as expected; `last` is what it was the last time, where it is known. A
    /// null never is. Numbers are compared as numbers, to the last digit; texts by their bytes. What is to be near the last
    /// one is so where there is none yet, as long as it is a number.
    #[must_use]
    pub fn holds(&self, value: Option<&str>, last: Option<&str>) -> bool {
        let Some(value) = value else { return false };
        let (relation, expected) = match &self.0 {
            Expected::Compared(relation, expected) => (relation, expected),
            Expected::NearLast(percent) => return is_near(value, last, percent),
        };
        let ordering = match expected {
            Value::Text(text) => Some(value.cmp(text.as_str())),
            Value::Number(number) => match Decimal::parse(value) {
                Some(found) => Some(found.cmp(number)),
                // 1e+20, Infinity: what a float can be.
                None => value.parse::<f64>().ok().and_then(|found| found.partial_cmp(&number.rounded())),
            },
        };
        ordering.is_some_and(|ordering| relation.holds(ordering))
    }

    /// Whether it is about what the value was the last time.
    #[must_use]
    pub fn is_about_last(&self) -> bool {
        matches!(self.0, Expected::NearLast(_))
    }

    /// What is expected, in words; with what the value was the last time, where it is about that.
    #[must_use]
    pub fn in_words(&self, last: Option<&str>) -> String {
        match (self.is_about_last(), last) {
            (true, Some(last)) => format!("{self}, which was {last}"),
            (true, None) => format!("{self}, and there is none yet"),
            (false, _) => self.to_string(),
        }
    }
}

fn is_near(value: &str, last: Option<&str>, percent: &Decimal) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let (Some(value), last) = (number(value), last.and_then(number)) else { return false };
    // What doubles cannot tell apart is not told apart here either.
    last.is_none_or(|last| (value - last).abs() <= last.abs() * percent.rounded() / 100.0 * (1.0 + f64::EPSILON * 4.0))
}

impl Decimal {
    fn rounded(&self) -> f64 {
        let size: f64 = format!("0{}.{}0", self.whole, self.fraction).parse().unwrap_or(f64::NAN);
        if self.negative { -size } else { size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(expectation: &str, value: &str) -> bool {
        expectation.parse::<Expectation>().unwrap().holds(Some(value), None)
    }

    #[test]
    fn numbers_are_compared_to_the_last_digit() {
        assert!(holds("> 0", "1") && !holds("> 0", "0") && !holds(">0", "-1") && holds(">= 0", "-0"));
        assert!(holds("= 12345678901234567890.10", "12345678901234567890.1"));
        assert!(holds("<> 12345678901234567890", "12345678901234567891"), "doubles would take these for the same");
        assert!(holds("< -1.5", "-1.51") && holds("<= 007", "7") && holds("!= 7", "7.0001") && holds("7", "7.000"));
        assert!(holds("> 0", "1e+20") && holds("> 0", "Infinity") && !holds("> 0", "NaN"));
        assert!(!holds("> 0", "many"), "a text is no number");
    }

    #[test]
    fn texts_are_compared_as_they_are() {
        assert!(holds("'on'", "on") && holds("= 'it''s'", "it's") && holds("<> ''", "x") && holds(">= 'b'", "b"));
        assert!(!holds("'7'", "7.0"));
        assert!(!"'x'".parse::<Expectation>().unwrap().holds(None, None), "a null is nothing");
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for bad in [
            "",
            ">",
            "many",
            "> many",
            "'open",
            "'a' b'",
            "> 1 2",
            "=> 1",
            "> 1e5",
            ".",
            "within 5 of last",
            "within -1% of last",
            "within % of last",
            "within 5%",
        ] {
            assert!(bad.parse::<Expectation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_near_the_last_one_is_told() {
        let near = |expectation: &str, value: &str, last: Option<&str>| {
            expectation.parse::<Expectation>().unwrap().holds(Some(value), last)
        };
        assert!(near("within 5% of last", "105", Some("100")) && near("within 5 % of last", "95", Some("100")));
        assert!(!near("within 5% of last", "106", Some("100")) && !near("within 5% of last", "94", Some("100")));
        assert!(near("within 0% of last", "7", Some("7.0")) && !near("within 0% of last", "8", Some("7")));
        assert!(near("within 0.1% of last", "-1000", Some("-1001")) && !near("within 5% of last", "5", Some("-5")));
        assert!(near("within 5% of last", "7", None), "nothing to compare it with");
        assert!(!near("within 5% of last", "many", None) && !near("within 5% of last", "NaN", Some("1")));
        let near: Expectation = "within 05.50% of last".parse().unwrap();
        assert!(near.is_about_last() && !near.holds(None, Some("1")));
        assert_eq!(near.to_string(), "within 5.5% of last");
        assert_eq!(near.to_string().parse(), Ok(near.clone()));
        assert_eq!(near.in_words(Some("7")), "within 5.5% of last, which was 7");
    }

    proptest! {
        #[test]
        fn it_is_shown_as_it_can_be_read(sign in prop::sample::select(vec!["=", "<>", "<", ">", "<=", ">="]), text in "[a' ]{0,5}", number in any::<i32>(), cents in 0u8..100) {
            for value in [format!("'{}'", text.replace('\'', "''")), format!("{number}.{cents:02}")] {
                let read: Expectation = format!("{sign} {value}").parse().unwrap();
                prop_assert_eq!(&read.to_string().parse::<Expectation>().unwrap(), &read);
            }
        }

        #[test]
        fn integers_are_ordered_as_integers(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(holds(&format!("< {b}"), &a.to_string()), a < b);
            prop_assert_eq!(holds(&format!("= {b}"), &a.to_string()), a == b);
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,12}", value in "\\PC{0,12}") {
            if let Ok(expectation) = text.parse::<Expectation>() {
                let _ = expectation.holds(Some(&value), Some(&value));
            }
        }
    }
}
