//! From millicores and bytes to the values of cgroup files.

/// The period of `cpu.max`, in microseconds.
const PERIOD: u64 = 100_000;
/// The kernel refuses shorter quotas.
const QUOTA_MIN: u64 = 1000;
/// The kernel rounds `memory.high` down to pages.
const PAGE: u64 = 4096;
/// Shares that make a whole cgroup; more is cut.
const SHARES_MAX: u64 = 262_144;

/// Returns CPU shares, the unit of cgroup v1 that Kubernetes still counts in.
pub(crate) fn cpu_shares(millis: u64) -> u64 {
    (millis.saturating_mul(1024) / 1000).clamp(2, SHARES_MAX)
}

/// Returns `cpu.weight` by the straight line that the kubelet uses for the cgroups of Pods.
pub(crate) fn pod_cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, SHARES_MAX) - 2) * 9999 / (SHARES_MAX - 2)
}

/// Returns `cpu.weight` by the curve that runtimes use for the cgroups of containers: the default of v1, 1024
/// shares, becomes the default of v2, 100.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "shares and weights are small and positive"
)]
#[expect(clippy::cast_possible_truncation, reason = "the largest weight is 10000")]
pub(crate) fn container_cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        SHARES_MAX.. => 10_000,
        shares => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// Returns the text of `cpu.max`.
pub(crate) fn cpu_max(millis: u64) -> String {
    let quota = (millis.saturating_mul(PERIOD) / 1000).max(QUOTA_MIN);
    format!("{quota} {PERIOD}")
}

/// Returns `memory.high`: nine tenths of the way from the request to the ceiling, in whole pages. Nothing where that
/// would not lie above the request.
pub(crate) fn memory_high(request: u64, ceiling: u64) -> Option<u64> {
    // Within 128 bits the product cannot overflow, and the quotient is below the ceiling.
    let way = u64::try_from(u128::from(ceiling.saturating_sub(request)) * 9 / 10).unwrap_or(u64::MAX);
    let high = request.saturating_add(way) / PAGE * PAGE;
    (high > request).then_some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_millicores() {
        for (millis, shares, pod, container) in [
            (0, 2, 1, 1),
            (2, 2, 1, 1),
            (3, 3, 1, 2),
            (10, 10, 1, 4),
            (100, 102, 4, 17),
            (250, 256, 10, 35),
            (500, 512, 20, 59),
            (1000, 1024, 39, 100),
            (1500, 1536, 59, 138),
            (8000, 8192, 313, 532),
            (64_000, 65_536, 2500, 3023),
            (256_000, 262_144, 10_000, 10_000),
            (1_000_000, 262_144, 10_000, 10_000),
        ] {
            assert_eq!(cpu_shares(millis), shares, "{millis}m");
            assert_eq!(pod_cpu_weight(shares), pod, "{millis}m");
            assert_eq!(container_cpu_weight(shares), container, "{millis}m");
        }
    }

    #[test]
    fn quotas() {
        assert_eq!(cpu_max(500), "50000 100000");
        assert_eq!(cpu_max(2500), "250000 100000");
        assert_eq!(cpu_max(1), "1000 100000");
    }

    #[test]
    fn memory_high_lies_between_request_and_limit() {
        let mib = 1 << 20;
        assert_eq!(memory_high(128 * mib, 256 * mib), Some(255_012_864));
        assert_eq!(memory_high(64 * mib, 128 * mib), Some(127_504_384));
        assert_eq!(memory_high(mib, mib), None);
        assert_eq!(memory_high(mib, mib + 4096), None);
        assert_eq!(memory_high(2 * mib, mib), None);
    }
}
