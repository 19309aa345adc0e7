//! Quantities of the Pod API: `250m`, `1.5Gi`, `2e3`.
//!
//! A quantity is a decimal number with one suffix: binary (`Ki` to `Ei`), decimal (`n` to `E`) or an exponent
//! (`e3`, `E-2`). Amounts are exact down to a thousandth; what is finer is rounded away from zero, so that asking
//! for a little never becomes asking for nothing. Magnitudes end at 2^63-1, as in the API.
//!
//! ```
//! use podrun_spec::quantity::Quantity;
//!
//! let memory: Quantity = "1.5Gi".parse()?;
//! assert_eq!(memory.units(), 1_610_612_736);
//! assert_eq!(memory.to_string(), "1536Mi");
//! # Ok::<(), podrun_spec::quantity::QuantityError>(())
//! ```

mod parse;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// The largest magnitude of a quantity, in thousandths.
const MAX_MILLIS: i128 = (i64::MAX as i128) * 1000;

/// An amount of a resource, at milli precision.
///
/// Equality and order look at the amount alone: `1024Mi` equals `1Gi`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    millis: i128,
    format: Format,
}

/// The family of suffixes in which a quantity was written; it is printed in the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// No digit, two points, or a character that is none of digits, point and sign.
    #[error("read number of quantity {text:?}")]
    ReadNumber {
        /// What was given.
        text: String,
    },
    /// The number is followed by something that is no suffix.
    #[error("read suffix {suffix:?} of quantity {text:?}")]
    ReadSuffix {
        /// What was given.
        text: String,
        /// What follows the number.
        suffix: String,
    },
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self::from_millis(0);

    /// Returns the quantity of that many thousandths.
    pub const fn from_millis(millis: i128) -> Self {
        Self { millis, format: Format::Decimal }
    }

    /// Returns the quantity of that many whole units: bytes, cores.
    pub const fn from_units(units: u64) -> Self {
        Self { millis: units as i128 * 1000, format: Format::Decimal }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    ///
    /// [`QuantityError`] where the text does not follow the grammar of the Pod API.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }

    /// Returns thousandths, rounded up; 0 for negative amounts.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.millis.max(0)).unwrap_or(u64::MAX)
    }

    /// Returns whole units (bytes, cores), rounded up; 0 for negative amounts.
    pub fn units(&self) -> u64 {
        u64::try_from((self.millis.max(0) + 999) / 1000).unwrap_or(u64::MAX)
    }

    /// Returns thousandths with their sign.
    pub const fn signed_millis(&self) -> i128 {
        self.millis
    }

    /// Returns true for nothing.
    pub const fn is_zero(&self) -> bool {
        self.millis == 0
    }

    /// Returns true below zero.
    pub const fn is_negative(&self) -> bool {
        self.millis < 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.millis == other.millis
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.millis.cmp(&other.millis)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.millis.hash(state);
    }
}

/// Adds amounts; the sum stops at the largest magnitude and keeps the left side's suffixes, unless that is zero.
impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let millis = self.millis.saturating_add(other.millis).clamp(-MAX_MILLIS, MAX_MILLIS);
        Self { millis, format: if self.is_zero() { other.format } else { self.format } }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

/// Prints the canonical form: no fraction, and the largest suffix that allows it.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0");
        }
        let whole = self.millis % 1000 == 0;
        // Small and fractional amounts leave the binary suffixes, as they cannot be said in them.
        if self.format == Format::Binary && whole && (self.millis / 1000).abs() >= 1024 {
            let (number, thousands) = reduce(self.millis / 1000, 1024);
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][thousands]);
        }
        let (number, thousands) = reduce(self.millis, 1000);
        match (self.format, thousands) {
            (Format::Exponent, 0) => write!(f, "{number}e-3"),
            (Format::Exponent, 1) => write!(f, "{number}"),
            (Format::Exponent, n) => write!(f, "{number}e{}", (n - 1) * 3),
            (_, n) => write!(f, "{number}{}", ["m", "", "k", "M", "G", "T", "P", "E"][n]),
        }
    }
}

/// Divides by `base` while nothing is lost; returns what is left and how often it was divided.
fn reduce(mut number: i128, base: i128) -> (i128, usize) {
    let mut times = 0;
    // Six divisions reach Ei; seven would need an amount beyond the largest for both families of suffixes.
    let most = if base == 1024 { 6 } else { 7 };
    while times < most && number % base == 0 {
        number /= base;
        times += 1;
    }
    (number, times)
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_exactly_and_printed_in_canonical_form() {
        let table: &[(&str, i128, &str)] = &[
            ("0", 0, "0"),
            ("1", 1000, "1"),
            ("+1", 1000, "1"),
            ("-1", -1000, "-1"),
            ("1.5", 1500, "1500m"),
            ("0.5", 500, "500m"),
            (".5", 500, "500m"),
            ("5.", 5000, "5"),
            ("100m", 100, "100m"),
            ("1000m", 1000, "1"),
            ("0.1m", 1, "1m"),
            ("-0.1m", -1, "-1m"),
            ("1n", 1, "1m"),
            ("1001u", 2, "2m"),
            ("1.5Gi", 1_610_612_736_000, "1536Mi"),
            ("0.5Gi", 536_870_912_000, "512Mi"),
            ("1024Mi", 1_073_741_824_000, "1Gi"),
            ("1Ki", 1_024_000, "1Ki"),
            ("0.5Ki", 512_000, "512"),
            ("0.0001Ki", 103, "103m"),
            ("1000k", 1_000_000_000, "1M"),
            ("128974848", 128_974_848_000, "128974848"),
            ("1e3", 1_000_000, "1e3"),
            ("1E3", 1_000_000, "1e3"),
            ("12e-1", 1200, "1200e-3"),
            ("1E", 1_000_000_000_000_000_000_000, "1E"),
            ("9223372036854775807", MAX_MILLIS, "9223372036854775807"),
            ("8Ei", MAX_MILLIS, "9223372036854775807"),
            ("1e99", MAX_MILLIS, "9223372036854775807"),
            ("1e-99", 1, "1e-3"),
        ];
        for (text, millis, printed) in table {
            let got = Quantity::parse(text).unwrap();
            assert_eq!((got.millis, got.to_string().as_str()), (*millis, *printed), "{text}");
        }
    }

    #[test]
    fn many_digits_round_once() {
        let third = Quantity::parse("0.333333333333333333333333333333333333333333Ei").unwrap();
        assert_eq!(third.millis, 384_307_168_202_282_325_334);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", ".", "-", "abc", "64mb", "1K", "1ki", "1 Gi", " 1", "1 ", "1.2.3", "--1", "1e", "1e+",
            "1e1.5", "0x10", "1KiB", "1_000", "e3", "٣",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_round_up_to_whole_units() {
        assert_eq!(Quantity::parse("100m").unwrap().units(), 1);
        assert_eq!(Quantity::parse("-5").unwrap().units(), 0);
        assert_eq!(Quantity::parse("2500m").unwrap().units(), 3);
    }

    proptest! {
        #[test]
        fn printing_loses_nothing(millis in -MAX_MILLIS..=MAX_MILLIS, format in 0..3) {
            let format = [Format::Binary, Format::Decimal, Format::Exponent][usize::try_from(format).unwrap()];
            let quantity = Quantity { millis, format };
            let printed = quantity.to_string();
            prop_assert_eq!(Quantity::parse(&printed).unwrap(), quantity, "{}", printed);
            prop_assert_eq!(Quantity::parse(&printed).unwrap().to_string(), printed);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?[0-9.]{0,30}(Ki|Ei|m|n|E|e-?[0-9]{1,12}|x)?") {
            if let Ok(quantity) = Quantity::parse(&text) {
                prop_assert!(quantity.millis.abs() <= MAX_MILLIS);
            }
        }

        #[test]
        fn decimals_agree_with_integer_arithmetic(whole in 0_u32.., thousandths in 0_i128..1000) {
            let read = Quantity::parse(&format!("{whole}.{thousandths:03}")).unwrap();
            prop_assert_eq!(read.millis, i128::from(whole) * 1000 + thousandths);
        }
    }
}
