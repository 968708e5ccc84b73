//! From where on it is a warning, and from where on it is critical.

use std::fmt;

/// The two limits of one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// It is a warning from here on.
    pub warning: f64,
    /// It is critical from here on.
    pub critical: f64,
}

/// How bad a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Within the limits.
    Fine,
    /// Beyond the first limit.
    Warning,
    /// Beyond the second one.
    Critical,
}

/// Why two numbers are no limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLimits {
    /// One of them is negative, or none that can be compared.
    Negative,
    /// One of them is more than 100 percent.
    MoreThanAll,
    /// More is worse, and the warning would come after the critical value.
    WarningIsHigher,
    /// Less is worse, and the warning would come after the critical value.
    WarningIsLower,
}

impl fmt::Display for BadLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negative => "a limit is a number that is not negative",
            Self::MoreThanAll => "a limit in percent is at most 100",
            Self::WarningIsHigher => {
                "the warning is the first of the two numbers, and here it would come after the critical one: more is worse"
            }
            Self::WarningIsLower => {
                "the warning is the first of the two numbers, and here it would come after the critical one: less is worse"
            }
        })
    }
}

impl std::error::Error for BadLimits {}

impl Limits {
    /// Of something that is worse the more there is of it.
    ///
    /// # Errors
    /// See [`BadLimits`].
    pub fn rising(warning: f64, critical: f64) -> Result<Limits, BadLimits> {
        match () {
            () if !(warning >= 0.0 && critical >= 0.0) => Err(BadLimits::Negative),
            () if warning > critical => Err(BadLimits::WarningIsHigher),
            () => Ok(Limits { warning, critical }),
        }
    }

    /// Of a share in percent that is worse the less there is of it.
    ///
    /// # Errors
    /// See [`BadLimits`].
    pub fn falling(warning: f64, critical: f64) -> Result<Limits, BadLimits> {
        match () {
            () if !(warning >= 0.0 && critical >= 0.0) => Err(BadLimits::Negative),
            () if warning > 100.0 || critical > 100.0 => Err(BadLimits::MoreThanAll),
            () if warning < critical => Err(BadLimits::WarningIsLower),
            () => Ok(Limits { warning, critical }),
        }
    }

    /// The grade of a value of which more is worse.
    #[must_use]
    pub fn at_least(self, value: f64) -> Grade {
        match () {
            () if value >= self.critical => Grade::Critical,
            () if value >= self.warning => Grade::Warning,
            () => Grade::Fine,
        }
    }

    /// The grade of a value of which less is worse.
    #[must_use]
    pub fn below(self, value: f64) -> Grade {
        match () {
            () if value < self.critical => Grade::Critical,
            () if value < self.warning => Grade::Warning,
            () => Grade::Fine,
        }
    }
}

/// What is judged by limits, with those that the field uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Segments that wait to be archived.
    pub archive_lag_segments: Limits,
    /// Minutes for which the oldest of them has waited.
    pub archive_lag_minutes: Limits,
    /// Percent of a file system that are free.
    pub free_space_percent: Limits,
    /// Hours since the newest base backup that can be used; `None` where nobody is to be told.
    pub backup_age_hours: Option<Limits>,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            archive_lag_segments: Limits { warning: 10.0, critical: 50.0 },
            archive_lag_minutes: Limits { warning: 5.0, critical: 30.0 },
            free_space_percent: Limits { warning: 20.0, critical: 5.0 },
            backup_age_hours: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_graded_from_their_limits_on() {
        let lag = Limits::rising(10.0, 50.0).unwrap();
        assert_eq!(
            [9.0, 10.0, 49.9, 50.0].map(|value| lag.at_least(value)),
            [Grade::Fine, Grade::Warning, Grade::Warning, Grade::Critical]
        );
        let free = Limits::falling(20.0, 5.0).unwrap();
        assert_eq!(
            [20.0, 19.9, 5.0, 4.9].map(|value| free.below(value)),
            [Grade::Fine, Grade::Warning, Grade::Warning, Grade::Critical]
        );
        assert!(Grade::Critical > Grade::Warning && Grade::Warning > Grade::Fine);
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        assert_eq!(Limits::rising(50.0, 10.0), Err(BadLimits::WarningIsHigher));
        assert_eq!(Limits::rising(-1.0, 10.0), Err(BadLimits::Negative));
        assert_eq!(Limits::rising(f64::NAN, 10.0), Err(BadLimits::Negative));
        assert_eq!(Limits::falling(5.0, 20.0), Err(BadLimits::WarningIsLower));
        assert_eq!(Limits::falling(120.0, 20.0), Err(BadLimits::MoreThanAll));
        assert_eq!(Limits::falling(5.0, -1.0), Err(BadLimits::Negative));
        assert!(Limits::rising(10.0, 10.0).is_ok() && Limits::falling(5.0, 5.0).is_ok());
    }
}
