//! Quantities of the Pod API: `250m`, `1.5Gi`, `2e3`.

/// An amount of a resource, at milli precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    millis: i128,
}

impl Quantity {
    /// Returns the quantity of that many thousandths.
    pub const fn from_millis(millis: i128) -> Self {
        Self { millis }
    }

    /// Returns thousandths, rounded up; 0 for negative amounts.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.millis.max(0)).unwrap_or(u64::MAX)
    }

    /// Returns whole units (bytes, cores), rounded up; 0 for negative amounts.
    pub fn units(&self) -> u64 {
        u64::try_from((self.millis.max(0) + 999) / 1000).unwrap_or(u64::MAX)
    }
}
