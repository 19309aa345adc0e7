//! Memory: when to throttle, what to protect, how much to swap.

/// Slowing containers down before their limit kills them, Kubernetes' MemoryQoS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryQos {
    /// Where between request and limit `memory.high` lies: 0 to 1, 0.9 by default.
    pub factor: f64,
    /// The memory of the machine that containers may use; stands in for a missing limit.
    pub node_allocatable: u64,
    /// Which requests are protected from reclaim.
    pub reservation: MemoryReservation,
}

impl MemoryQos {
    /// The kubelet's `memoryThrottlingFactor`.
    pub const DEFAULT_FACTOR: f64 = 0.9;
}

/// Which requests are protected from reclaim, the kubelet's `memoryReservationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemoryReservation {
    /// None.
    #[default]
    None,
    /// Those of the Guaranteed class always (`memory.min`), those of the Burstable class as long as something else can
    /// be reclaimed (`memory.low`).
    Tiered,
}

/// Returns the `memory.high` of a container, or nothing if it should have none: without room between request and limit.
///
/// As in `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`: request plus `factor` of what is between request and
/// limit, in whole pages.
///
/// ```
/// use podrun_cgroups::resources::memory_high;
/// assert_eq!(memory_high(128 << 20, Some(256 << 20), 0.9, 16 << 30, 4096), Some(255_012_864));
/// ```
pub fn memory_high(
    request: u64,
    limit: Option<u64>,
    factor: f64,
    node_allocatable: u64,
    page_size: u64,
) -> Option<u64> {
    if request == limit.unwrap_or(0) {
        return None;
    }
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(node_allocatable);
    let high = float(request) + (float(limit) - float(request)) * factor;
    let high = whole(high / float(page_size)).saturating_mul(page_size);
    (high > request).then_some(high)
}

/// How a container may use the swap space of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Swap {
    /// Not at all, Kubernetes' `NoSwap`.
    None,
    /// In proportion to its memory request, `LimitedSwap`.
    Limited {
        /// The memory of the machine.
        node_memory: u64,
        /// The swap space of the machine that containers may use.
        node_swap: u64,
        /// Whether the container is critical for the machine, which rules swap out.
        critical: bool,
    },
}

/// Returns the `memory.swap.max` of a container with a memory `request` and `limit`.
///
/// Only containers of the Burstable class whose request differs from their limit may swap.
pub fn swap_max(swap: Swap, burstable: bool, request: Option<u64>, limit: Option<u64>) -> u64 {
    match (swap, request) {
        (Swap::Limited { node_memory, node_swap, critical: false }, Some(request))
            if burstable && request > 0 && Some(request) != limit && node_memory > 0 =>
        {
            whole(float(request) / float(node_memory) * float(node_swap))
        }
        _ => 0,
    }
}

/// The kubelet computes in floating point, and so do we, to come to the same page.
#[expect(clippy::cast_precision_loss, reason = "no machine has more than 2^53 bytes of memory")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from floating point saturates, and negative amounts become none"
)]
fn whole(bytes: f64) -> u64 {
    bytes.floor() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: u64 = 1 << 20;
    const GI: u64 = 1 << 30;

    #[test]
    fn high_lies_between_request_and_limit() {
        for (request, limit, high) in [
            (128 * MI, Some(256 * MI), Some(255_012_864)),
            (64 * MI, Some(128 * MI), Some(127_504_384)),
            (128 * MI, Some(128 * MI), None),
            (0, None, None),
            (0, Some(0), None),
            // Without a limit, the machine is the limit: 0.1 * 1 GiB + 0.9 * 8 GiB.
            (GI, None, Some(7_838_314_496)),
            (128 * MI, Some(128 * MI + 4096), None),
            (8 * GI, None, None),
        ] {
            assert_eq!(memory_high(request, limit, 0.9, 8 * GI, 4096), high, "{request} {limit:?}");
        }
    }

    #[test]
    fn swap_follows_the_request() {
        let limited = Swap::Limited { node_memory: 8 * GI, node_swap: 4 * GI, critical: false };
        for (swap, burstable, request, limit, max) in [
            (limited, true, Some(GI), None, GI / 2),
            (limited, true, Some(GI), Some(2 * GI), GI / 2),
            (limited, true, Some(GI), Some(GI), 0),
            (limited, true, None, Some(GI), 0),
            (limited, true, Some(0), Some(GI), 0),
            (limited, false, Some(GI), None, 0),
            (Swap::None, true, Some(GI), None, 0),
            (Swap::Limited { node_memory: 8 * GI, node_swap: GI, critical: true }, true, Some(GI), None, 0),
            (Swap::Limited { node_memory: 0, node_swap: GI, critical: false }, true, Some(GI), None, 0),
        ] {
            assert_eq!(swap_max(swap, burstable, request, limit), max, "{swap:?} {request:?} {limit:?}");
        }
    }
}
