//! The values that several controllers share, and how the kernel's flat files are taken apart.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::ParseError;

/// Microseconds, the unit of every time in cgroup files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// Returns the same time as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Micros {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        number(text, "microseconds").map(Self)
    }
}

/// A number of bytes that may be unlimited: `memory.max` and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// At most so many bytes.
    Bytes(u64),
    /// No limit.
    Max,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

impl FromStr for Limit {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim() {
            "max" => Ok(Self::Max),
            bytes => number(bytes, "a number of bytes or \"max\"").map(Self::Bytes),
        }
    }
}

/// A count that may be unlimited: `pids.max`, `cgroup.max.descendants`, operations per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountLimit {
    /// At most so many.
    Count(u64),
    /// No limit.
    Max,
}

impl fmt::Display for CountLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

impl FromStr for CountLimit {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim() {
            "max" => Ok(Self::Max),
            count => number(count, "a count or \"max\"").map(Self::Count),
        }
    }
}

/// A plain number, as in `memory.current`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl FromStr for Number {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        number(text, "a number").map(Self)
    }
}

/// `0` or `1`, as in `memory.oom.group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch(pub(crate) bool);

impl FromStr for Switch {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim() {
            "0" => Ok(Self(false)),
            "1" => Ok(Self(true)),
            _ => Err(ParseError::new("0 or 1", text)),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u8::from(self.0).fmt(f)
    }
}

/// Parses a decimal number as the kernel prints it: digits, nothing else.
pub(crate) fn number(text: &str, expected: &'static str) -> Result<u64, ParseError> {
    let text = text.trim();
    // `u64::from_str` takes a leading `+`, which no cgroup file prints.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::new(expected, text));
    }
    text.parse().map_err(|_| ParseError::new(expected, text))
}

/// Calls `each` for every `KEY VALUE` line of a flat keyed file.
///
/// Callers ignore keys they do not know, because every kernel release adds some.
pub(crate) fn flat_keyed(
    text: &str,
    mut each: impl FnMut(&str, u64) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (key, value) = line.split_once(' ').ok_or_else(|| ParseError::new("a key and a number", line))?;
        each(key, number(value, "a key and a number")?)?;
    }
    Ok(())
}

/// Returns the value of one key of a flat keyed file, 0 if it is not there.
pub(crate) fn flat_value(text: &str, wanted: &str) -> Result<u64, ParseError> {
    let mut found = 0;
    flat_keyed(text, |key, value| {
        if key == wanted {
            found = value;
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_round_trip() {
        for text in ["max", "0", "4096", "18446744073709551615"] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), text);
            assert_eq!(text.parse::<CountLimit>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn limits_refuse_what_the_kernel_never_prints() {
        for text in ["", "-1", "+1", "1k", "MAX", "18446744073709551616", "1 2"] {
            assert!(text.parse::<Limit>().is_err(), "{text:?}");
            assert!(text.parse::<CountLimit>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn unlimited_is_more_than_any_number() {
        assert!(Limit::Max > Limit::Bytes(u64::MAX));
        assert!(CountLimit::Max > CountLimit::Count(u64::MAX));
    }

    #[test]
    fn flat_keyed_names_the_wrong_line() {
        let error = flat_keyed("a 1\nb\n", |_, _| Ok(())).unwrap_err();
        assert_eq!(error.found, "b");
        let error = flat_keyed("a 1\nb x\n", |_, _| Ok(())).unwrap_err();
        assert_eq!(error.found, "x");
    }

    #[test]
    fn switch_is_zero_or_one() {
        assert_eq!("1\n".parse(), Ok(Switch(true)));
        assert_eq!("0".parse(), Ok(Switch(false)));
        assert!("2".parse::<Switch>().is_err());
    }
}
