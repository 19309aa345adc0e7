//! The kernel's unit of time for queueing disciplines, and what is measured in it.

use std::fs;
use std::io;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::units::{Bytes, Rate};

/// The length of the kernel's tick, as `/proc/net/psched` tells it. It has been 64 ns since Linux 2.6.31.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Psched {
    ticks_per_microsecond: f64,
}

impl Default for Psched {
    fn default() -> Self {
        Self { ticks_per_microsecond: 15.625 }
    }
}

impl Psched {
    /// Reads `/proc/net/psched`.
    ///
    /// # Errors
    ///
    /// [`Error::Psched`]: `ENOENT` without a mounted `/proc`.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/net/psched").map_err(|source| Error::Psched { source })?;
        Self::parse(&text).ok_or_else(|| Error::Psched { source: io::ErrorKind::InvalidData.into() })
    }

    /// Reads the text of `/proc/net/psched`, four hexadecimal numbers.
    ///
    /// ```
    /// use podrun_tc::Psched;
    /// assert_eq!(Psched::parse("000003e8 00000040 000f4240 3b9aca00\n"), Some(Psched::default()));
    /// assert_eq!(Psched::parse("no numbers"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(|word| u32::from_str_radix(word, 16));
        let mut next = || numbers.next()?.ok().filter(|number| *number > 0).map(f64::from);
        let (tick, microsecond, resolution) = (next()?, next()?, next()?);
        Some(Self { ticks_per_microsecond: tick / microsecond * (resolution / 1e6) })
    }

    /// Returns the ticks that bytes take at a rate, rounded down to microseconds before, as `tc(8)` does.
    pub(crate) fn ticks(self, bytes: Bytes, rate: Rate) -> u32 {
        let microseconds = 1e6 * (to_float(bytes.get()) / to_float(rate.bytes_per_second()));
        truncate(f64::from(truncate(microseconds)) * self.ticks_per_microsecond)
    }

    /// Returns the bytes of a burst as they come back from the kernel, which counts them as 32 bits of ticks and starts
    /// at zero again after 274 seconds.
    pub(crate) fn read_back(self, bytes: Bytes, rate: Rate) -> Bytes {
        let seconds = to_float(bytes.get()) / to_float(rate.bytes_per_second());
        let ticks = (seconds * 1e6 * self.ticks_per_microsecond) % (f64::from(u32::MAX) + 1.0);
        self.bytes(truncate(ticks), rate)
    }

    /// Returns the bytes that pass in a number of ticks.
    pub(crate) fn bytes(self, ticks: u32, rate: Rate) -> Bytes {
        let seconds = f64::from(ticks) / self.ticks_per_microsecond / 1e6;
        Bytes::new(truncate_long(seconds * to_float(rate.bytes_per_second())))
    }

    /// Returns the bytes by which two bursts may differ only because of rounding.
    pub(crate) fn tolerance(self, bytes: Bytes, rate: Rate) -> u64 {
        // A microsecond was lost on the way there, a tick on the way back.
        let microseconds = 1.0 + 3.0 / self.ticks_per_microsecond;
        truncate_long(microseconds * to_float(rate.bytes_per_second()) / 1e6) + bytes.get() / 1_000_000 + 2
    }

    /// Returns the ticks of a time.
    pub(crate) fn ticks_of(self, time: Duration) -> u32 {
        truncate(time.as_secs_f64() * 1e6 * self.ticks_per_microsecond)
    }

    /// Returns the time of ticks, to the nanosecond.
    pub(crate) fn time_of(self, ticks: u32) -> Duration {
        Duration::from_nanos(truncate_long(f64::from(ticks) * 1e3 / self.ticks_per_microsecond))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounds down and saturates, as wanted"
)]
fn truncate(number: f64) -> u32 {
    number as u32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounds down and saturates, as wanted"
)]
fn truncate_long(number: f64) -> u64 {
    number as u64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the 53 bits of a float are more than the kernel's 32 of the result"
)]
fn to_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::from_bits_per_second(10_000_000);

    #[test]
    fn ticks_are_those_of_tc() {
        let psched = Psched::default();
        // tc says 32 KiB at 10 Mbit/s: 26214.4 µs, rounded down, times 15.625.
        assert_eq!(psched.ticks(Bytes::new(32 << 10), RATE), 409_593);
        assert_eq!(psched.ticks(Bytes::new(u64::MAX), RATE), u32::MAX);
        assert_eq!(psched.ticks(Bytes::new(1), Rate::from_bits_per_second(0)), u32::MAX);
    }

    #[test]
    fn bursts_come_back_but_for_rounding() {
        let psched = Psched::default();
        for rate in [1_000, 10_000_000, 40_000_000_000].map(Rate::from_bits_per_second) {
            for bytes in [1_514, 71_680, 50_000_000].map(Bytes::new) {
                if bytes.get() * 8 > rate.bits_per_second() * 200 {
                    continue;
                }
                let back = psched.bytes(psched.ticks(bytes, rate), rate);
                let expected = psched.read_back(bytes, rate);
                assert!(
                    back.get().abs_diff(expected.get()) <= psched.tolerance(bytes, rate),
                    "{bytes} at {rate}: {back}"
                );
            }
        }
    }

    #[test]
    fn a_burst_of_many_minutes_comes_back_shorter() {
        // CNI's half a gigabyte at 10 Mbit/s is 429 s, of which 32 bits of ticks leave 154.6 s.
        let back = Psched::default().read_back(Bytes::new(536_870_911), RATE);
        assert!((193_000_000..194_000_000).contains(&back.get()), "{back}");
    }

    #[test]
    fn times_go_there_and_back() {
        let psched = Psched::default();
        assert_eq!(psched.ticks_of(Duration::from_millis(10)), 156_250);
        assert_eq!(psched.time_of(156_250), Duration::from_millis(10));
    }

    #[test]
    fn a_text_with_a_zero_or_too_few_numbers_is_none() {
        for text in ["", "3e8 40", "3e8 0 f4240", "x y z w"] {
            assert_eq!(Psched::parse(text), None, "{text:?}");
        }
    }
}
