//! CPU: millicores to shares, weights and quotas.
//!
//! Kubernetes still counts requests in the shares of cgroup v1 (`pkg/kubelet/cm/helpers_linux.go`), and two conversions
//! to weights are in use. See [`WeightConversion`].

use crate::cpu::{CpuMax, CpuWeight};
use crate::value::Micros;

/// CPU shares of cgroup v1: 2 to 262144, where 1024 is one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuShares(u64);

impl CpuShares {
    /// The fewest shares.
    pub const MIN: Self = Self(2);
    /// The most shares.
    pub const MAX: Self = Self(262_144);

    /// Returns the shares of a request of `millicores`, cut to what exists.
    ///
    /// ```
    /// use podrun_cgroups::resources::CpuShares;
    /// assert_eq!(CpuShares::from_millicores(1000).get(), 1024);
    /// ```
    pub fn from_millicores(millicores: u64) -> Self {
        Self((millicores.saturating_mul(1024) / 1000).clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the shares that [`WeightConversion::Linear`] turns into `weight`, as good as integers can tell.
    pub fn from_linear_weight(weight: CpuWeight) -> Self {
        Self((u64::from(weight.get()) - 1) * 262_142 / 9_999 + 2)
    }
}

/// How shares become a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightConversion {
    /// From range to range in a straight line, so that the default of 1024 shares becomes 39. The kubelet uses it for
    /// the cgroups it manages itself, which hold the containers that belong together.
    Linear,
    /// Along a curve through the defaults, so that 1024 shares become the default weight of 100. OCI runtimes use it
    /// for the cgroups of containers (runc since 1.3.2, crun since 1.23).
    Logarithmic,
}

impl WeightConversion {
    /// Returns the weight of `shares`.
    ///
    /// ```
    /// use podrun_cgroups::resources::{CpuShares, WeightConversion};
    /// let one_cpu = CpuShares::from_millicores(1000);
    /// assert_eq!(WeightConversion::Linear.weight(one_cpu).get(), 39);
    /// assert_eq!(WeightConversion::Logarithmic.weight(one_cpu).get(), 100);
    /// ```
    pub fn weight(self, shares: CpuShares) -> CpuWeight {
        let weight = match self {
            Self::Linear => 1 + (shares.0 - 2) * 9_999 / 262_142,
            Self::Logarithmic => logarithmic(shares),
        };
        CpuWeight::new(weight).unwrap_or(CpuWeight::MAX)
    }
}

/// `ConvertCPUSharesToCgroupV2Value` of opencontainers/cgroups: a quadratic in the logarithm that meets (2, 1),
/// (1024, 100) and (262144, 10000).
fn logarithmic(shares: CpuShares) -> u64 {
    if shares <= CpuShares::MIN {
        return 1;
    }
    if shares >= CpuShares::MAX {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18")]
    let l = (shares.0 as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 10000")]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight
}

/// Returns the `cpu.max` of a limit of `millicores`. No limit, and a limit of zero, are unlimited.
///
/// The kernel takes no quota below 1 ms, so limits below 10m act as 10m at the default period.
///
/// ```
/// use podrun_cgroups::{CpuMax, resources::cpu_max};
/// assert_eq!(cpu_max(Some(250), CpuMax::DEFAULT_PERIOD).to_string(), "25000 100000");
/// assert_eq!(cpu_max(None, CpuMax::DEFAULT_PERIOD), CpuMax::UNLIMITED);
/// ```
pub fn cpu_max(millicores: Option<u64>, period: Micros) -> CpuMax {
    const SMALLEST: u64 = 1000;
    let quota = millicores
        .filter(|millicores| *millicores > 0)
        .map(|millicores| Micros((millicores.saturating_mul(period.0) / 1000).max(SMALLEST)));
    CpuMax { quota, period }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millicores_become_shares_and_both_weights() {
        // millicores, shares, linear, logarithmic
        let table = [
            (0, 2, 1, 1),
            (1, 2, 1, 1),
            (2, 2, 1, 1),
            (3, 3, 1, 2),
            (10, 10, 1, 4),
            (50, 51, 2, 11),
            (100, 102, 4, 17),
            (200, 204, 8, 29),
            (250, 256, 10, 35),
            (500, 512, 20, 59),
            (750, 768, 30, 80),
            (1000, 1024, 39, 100),
            (1500, 1536, 59, 138),
            (2000, 2048, 79, 174),
            (4000, 4096, 157, 303),
            (8000, 8192, 313, 532),
            (16_000, 16_384, 625, 942),
            (32_000, 32_768, 1250, 1681),
            (64_000, 65_536, 2500, 3023),
            (256_000, 262_144, 10_000, 10_000),
            (u64::MAX, 262_144, 10_000, 10_000),
        ];
        for (millicores, shares, linear, logarithmic) in table {
            let found = CpuShares::from_millicores(millicores);
            assert_eq!(found.get(), shares, "{millicores}m");
            assert_eq!(WeightConversion::Linear.weight(found).get(), linear, "{millicores}m");
            assert_eq!(WeightConversion::Logarithmic.weight(found).get(), logarithmic, "{millicores}m");
        }
    }

    #[test]
    fn linear_weights_survive_the_way_back() {
        for weight in 1..=10_000 {
            let weight = CpuWeight::new(weight).unwrap();
            let shares = CpuShares::from_linear_weight(weight);
            let again = WeightConversion::Linear.weight(shares);
            // The integer divisions lose at most one step.
            assert!(weight.get() - again.get() <= 1, "{weight} -> {} -> {again}", shares.get());
        }
        assert_eq!(CpuShares::from_linear_weight(CpuWeight::MIN), CpuShares::MIN);
        assert_eq!(CpuShares::from_linear_weight(CpuWeight::MAX), CpuShares::MAX);
        assert_eq!(CpuShares::from_linear_weight(CpuWeight::new(39).unwrap()).get(), 998);
    }

    #[test]
    fn quotas_have_a_floor_and_no_ceiling() {
        for (millicores, period, text) in [
            (None, 100_000, "max 100000"),
            (Some(0), 100_000, "max 100000"),
            (Some(1), 100_000, "1000 100000"),
            (Some(10), 100_000, "1000 100000"),
            (Some(11), 100_000, "1100 100000"),
            (Some(500), 100_000, "50000 100000"),
            (Some(1500), 100_000, "150000 100000"),
            (Some(500), 10_000, "5000 10000"),
            (Some(1_000_000), 100_000, "100000000 100000"),
        ] {
            assert_eq!(cpu_max(millicores, Micros(period)).to_string(), text);
        }
    }
}
