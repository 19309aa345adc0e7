//! The hugetlb controller: one set of files per size of huge pages.

use std::fmt;
use std::str::FromStr;

use crate::cgroup::Cgroup;
use crate::error::{ParseError, Result};
use crate::value::{Limit, Number, flat_value, number};

/// A size of huge pages, a power of two from 64 KiB on, written as the kernel names its files: `2MB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HugePageSize(u64);

impl HugePageSize {
    /// Returns the size, or nothing if no processor has pages of so many bytes.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 16 << 10 { Some(Self(bytes)) } else { None }
    }

    /// Returns the size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    fn file(self, name: &str) -> String {
        format!("hugetlb.{self}.{name}")
    }
}

/// As `mem_fmt` in `mm/hugetlb_cgroup.c`.
impl fmt::Display for HugePageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{}GB", bytes >> 30),
            bytes if bytes >= 1 << 20 => write!(f, "{}MB", bytes >> 20),
            bytes => write!(f, "{}KB", bytes >> 10),
        }
    }
}

impl FromStr for HugePageSize {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a size of huge pages, such as 2MB";
        let wrong = || ParseError::new(EXPECTED, text);
        let (digits, shift) = [("KB", 10), ("MB", 20), ("GB", 30)]
            .into_iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
            .ok_or_else(wrong)?;
        let bytes = number(digits, EXPECTED)?.checked_mul(1 << shift).ok_or_else(wrong)?;
        // Only the one spelling that the kernel uses names a file.
        Self::new(bytes).filter(|size| size.to_string() == text).ok_or_else(wrong)
    }
}

/// The content of `hugetlb.SIZE.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HugetlbEvents {
    /// Allocations that failed because of the limit.
    pub max: u64,
}

impl FromStr for HugetlbEvents {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(Self { max: flat_value(text, "max")? })
    }
}

/// The hugetlb files of one cgroup, from [`Cgroup::hugetlb`].
///
/// Every method fails with [`crate::Error::ControllerMissing`] without the controller, and with `ENOENT` if the machine
/// has no pages of that size.
#[derive(Debug, Clone, Copy)]
pub struct Hugetlb<'a>(&'a Cgroup);

impl Cgroup {
    /// Returns the files of the hugetlb controller.
    pub fn hugetlb(&self) -> Hugetlb<'_> {
        Hugetlb(self)
    }
}

impl Hugetlb<'_> {
    /// Returns the sizes that this machine has, from small to large; none without the controller.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Read`] if the directory cannot be listed.
    pub fn sizes(&self) -> Result<Vec<HugePageSize>> {
        let mut sizes: Vec<HugePageSize> = self
            .0
            .files()?
            .iter()
            .filter_map(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".max")?.parse().ok())
            .collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// Reads `hugetlb.SIZE.max`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn max(&self, size: HugePageSize) -> Result<Limit> {
        self.0.read_as(&size.file("max"))
    }

    /// Reads `hugetlb.SIZE.rsvd.max`: the limit on reservations, which fails at mmap(2) instead of at first use.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn reserved_max(&self, size: HugePageSize) -> Result<Limit> {
        self.0.read_as(&size.file("rsvd.max"))
    }

    /// Reads `hugetlb.SIZE.current`, in bytes.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn current(&self, size: HugePageSize) -> Result<u64> {
        self.0.read_as::<Number>(&size.file("current")).map(|bytes| bytes.0)
    }

    /// Reads `hugetlb.SIZE.events`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn events(&self, size: HugePageSize) -> Result<HugetlbEvents> {
        self.0.read_as(&size.file("events"))
    }

    /// Writes `hugetlb.SIZE.max`; the kernel rounds down to whole pages.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_max(&self, size: HugePageSize, limit: Limit) -> Result<()> {
        self.0.write(&size.file("max"), &limit.to_string())
    }

    /// Writes `hugetlb.SIZE.rsvd.max`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_reserved_max(&self, size: HugePageSize, limit: Limit) -> Result<()> {
        self.0.write(&size.file("rsvd.max"), &limit.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    const TWO_MB: HugePageSize = HugePageSize(2 << 20);

    #[test]
    fn sizes_round_trip_in_the_kernels_spelling() {
        for (text, bytes) in [("64KB", 64 << 10), ("2MB", 2 << 20), ("512MB", 512 << 20), ("16GB", 16 << 30)]
        {
            let size: HugePageSize = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes);
            assert_eq!(size.to_string(), text);
        }
        for text in ["", "MB", "3MB", "2048KB", "2Mi", "1KB", "+2MB", "99999999999999GB"] {
            assert!(text.parse::<HugePageSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_file_is_read_and_written() {
        let stand_in = StandIn::new(&[
            ("hugetlb.1GB.max", "max\n"),
            ("hugetlb.2MB.max", "0\n"),
            ("hugetlb.2MB.rsvd.max", "max\n"),
            ("hugetlb.2MB.current", "4194304\n"),
            ("hugetlb.2MB.events", "max 2\n"),
        ]);
        let hugetlb = stand_in.cgroup.hugetlb();
        assert_eq!(hugetlb.sizes().unwrap(), [TWO_MB, HugePageSize(1 << 30)]);
        assert_eq!(hugetlb.max(TWO_MB).unwrap(), Limit::Bytes(0));
        assert_eq!(hugetlb.reserved_max(TWO_MB).unwrap(), Limit::Max);
        assert_eq!(hugetlb.current(TWO_MB).unwrap(), 4 << 20);
        assert_eq!(hugetlb.events(TWO_MB).unwrap().max, 2);
        hugetlb.set_max(TWO_MB, Limit::Bytes(2 << 20)).unwrap();
        hugetlb.set_reserved_max(TWO_MB, Limit::Max).unwrap();
        assert_eq!(stand_in.content("hugetlb.2MB.max"), "2097152");
        assert_eq!(stand_in.content("hugetlb.2MB.rsvd.max"), "max");
    }

    #[test]
    fn missing_files_are_errors() {
        let stand_in = StandIn::new(&[]);
        let hugetlb = stand_in.cgroup.hugetlb();
        assert!(hugetlb.sizes().unwrap().is_empty());
        assert!(hugetlb.max(TWO_MB).is_err() && hugetlb.reserved_max(TWO_MB).is_err());
        assert!(hugetlb.current(TWO_MB).is_err() && hugetlb.events(TWO_MB).is_err());
        assert!(hugetlb.set_max(TWO_MB, Limit::Max).is_err());
        assert!(hugetlb.set_reserved_max(TWO_MB, Limit::Max).is_err());
    }
}
