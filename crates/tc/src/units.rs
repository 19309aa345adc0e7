//! Rates and sizes that cannot be taken for each other.

use std::fmt;
use std::time::Duration;

/// A rate of data. The constructors say whether bits or bytes are meant, and nothing else makes one.
///
/// The kernel counts whole bytes per second: the last three bits are lost there.
///
/// ```
/// use podrun_tc::Rate;
/// let rate = Rate::from_bits_per_second(10_000_000);
/// assert_eq!(rate, Rate::from_bytes_per_second(1_250_000));
/// assert_eq!(rate.to_string(), "10 Mbit/s");
/// assert_eq!(Rate::from_bits_per_second(1_500).to_string(), "1500 bit/s");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate {
    bits: u64,
}

impl Rate {
    /// Returns a rate of bits per second.
    pub const fn from_bits_per_second(bits: u64) -> Self {
        Self { bits }
    }

    /// Returns a rate of bytes per second, at most 2.3 exabytes.
    pub const fn from_bytes_per_second(bytes: u64) -> Self {
        Self { bits: bytes.saturating_mul(8) }
    }

    /// Returns the bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.bits
    }

    /// Returns the whole bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.bits / 8
    }

    /// Returns how much passes in some time, rounded down to bytes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use podrun_tc::{Bytes, Rate};
    /// let rate = Rate::from_bits_per_second(10_000_000);
    /// assert_eq!(rate.bytes_in(Duration::from_millis(10)), Bytes::new(12_500));
    /// ```
    pub fn bytes_in(self, time: Duration) -> Bytes {
        let bytes = u128::from(self.bytes_per_second()).saturating_mul(time.as_nanos()) / 1_000_000_000;
        Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    /// The 32 bits that the kernel's older structures have for it: `u32::MAX` stands for more, which an attribute of 64
    /// bits then tells.
    pub(crate) fn in_32_bits(self) -> u32 {
        u32::try_from(self.bytes_per_second()).unwrap_or(u32::MAX)
    }

    pub(crate) fn needs_64_bits(self) -> bool {
        self.bytes_per_second() > u64::from(u32::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] = [
            (1_000_000_000_000_000, "P"),
            (1_000_000_000_000, "T"),
            (1_000_000_000, "G"),
            (1_000_000, "M"),
            (1_000, "k"),
        ];
        let unit = UNITS.into_iter().find(|(size, _)| self.bits >= *size && self.bits.is_multiple_of(*size));
        let (size, prefix) = unit.unwrap_or((1, ""));
        write!(f, "{} {prefix}bit/s", self.bits / size)
    }
}

/// A number of bytes.
///
/// ```
/// use podrun_tc::Bytes;
/// assert_eq!(Bytes::from_bits(4_294_967_295).get(), 536_870_911);
/// assert_eq!(Bytes::new(1514).to_string(), "1514 bytes");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Bytes(pub(crate) u64);

impl Bytes {
    /// Returns so many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns so many bits as whole bytes.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits / 8)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the sum, or the largest number.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) fn in_32_bits(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_print_in_the_largest_unit_that_divides_them() {
        for (bits, text) in [
            (0, "0 bit/s"),
            (999, "999 bit/s"),
            (1_000, "1 kbit/s"),
            (10_485_760, "10485760 bit/s"),
            (1_500_000, "1500 kbit/s"),
            (40_000_000_000, "40 Gbit/s"),
            (1_000_000_000_000_000, "1 Pbit/s"),
        ] {
            assert_eq!(Rate::from_bits_per_second(bits).to_string(), text);
        }
    }

    #[test]
    fn nothing_overflows() {
        let petabit = Rate::from_bits_per_second(1_000_000_000_000_000);
        assert_eq!(petabit.bytes_in(Duration::from_secs(3600)).get(), 450_000_000_000_000_000);
        assert_eq!(petabit.in_32_bits(), u32::MAX);
        assert_eq!(Rate::from_bytes_per_second(u64::MAX).bits_per_second(), u64::MAX);
        assert!(!Rate::from_bytes_per_second(u32::MAX.into()).needs_64_bits());
    }
}
