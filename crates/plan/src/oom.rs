//! `oom_score_adj`: whom the kernel kills first when the machine runs out of memory.

use podrun_spec::model::{Container, PodSpec, QosClass};

/// For what must go last; the kubelet's own is -999.
const GUARANTEED: i32 = -997;
const BEST_EFFORT: i32 = 1000;
/// The priority of the class `system-node-critical`, the highest there is.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// Returns the `oom_score_adj` of a container.
///
/// The kernel adds it to the share of memory that a process uses, both in thousandths. A container of a Burstable Pod
/// gets what its request leaves of the machine, so that one which stays within its request is never the first victim.
/// Without CAP_SYS_RESOURCE a process cannot lower its own value; see proc_pid_oom_score_adj(5).
pub(crate) fn oom_score_adj(spec: &PodSpec, container: &Container, memory_bytes: u64) -> i32 {
    if spec.priority >= NODE_CRITICAL_PRIORITY {
        return GUARANTEED;
    }
    match spec.qos_class {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => burstable(requested(spec, container), memory_bytes),
    }
}

fn burstable(request: u64, memory_bytes: u64) -> i32 {
    let share = u128::from(request) * 1000 / u128::from(memory_bytes.max(1));
    let score = BEST_EFFORT - i32::try_from(share.min(1000)).unwrap_or(1000);
    // Above Guaranteed, and below BestEffort even with the smallest request.
    score.clamp(BEST_EFFORT + GUARANTEED, BEST_EFFORT - 1)
}

/// Returns the memory that a container requests, with its share of what the Pod requests beyond its containers.
fn requested(spec: &PodSpec, container: &Container) -> u64 {
    let own = |container: &Container| container.resources.memory_request().unwrap_or(0);
    let Some(whole) = spec.resources.memory_request() else { return own(container) };
    let beyond = whole.saturating_sub(spec.containers.iter().map(own).sum());
    own(container) + beyond / (spec.containers.len().max(1) as u64)
}

#[cfg(test)]
mod tests {
    use podrun_spec::quantity::Quantity;

    use super::*;
    use crate::test_support::{container, pod};

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn scores_of_burstable_containers() {
        for (request, expected) in
            [(0, 999), (MIB, 999), (100 * MIB, 988), (GIB, 875), (4 * GIB, 500), (8 * GIB, 3), (9 * GIB, 3)]
        {
            assert_eq!(burstable(request, 8 * GIB), expected, "{request}");
        }
        assert_eq!(burstable(1, 0), 3, "a machine that hides its memory must not end us");
    }

    #[test]
    fn the_class_decides_and_priority_overrides() {
        let mut pod = pod("web");
        let of = |spec: &PodSpec| oom_score_adj(spec, &spec.containers[0], 8 * GIB);
        pod.spec.qos_class = QosClass::BestEffort;
        assert_eq!(of(&pod.spec), 1000);
        pod.spec.qos_class = QosClass::Guaranteed;
        assert_eq!(of(&pod.spec), -997);
        pod.spec.qos_class = QosClass::Burstable;
        assert_eq!(of(&pod.spec), 999);
        pod.spec.priority = NODE_CRITICAL_PRIORITY;
        assert_eq!(of(&pod.spec), -997);
    }

    #[test]
    fn what_the_pod_requests_beyond_its_containers_is_shared_out() {
        let mut pod = pod("web");
        pod.spec.containers.push(container("second"));
        pod.spec.qos_class = QosClass::Burstable;
        let bytes = |amount| ("memory".to_owned(), Quantity::from_millis(i128::from(amount) * 1000));
        pod.spec.resources.requests.extend([bytes(4 * GIB)]);
        pod.spec.containers[0].resources.requests.extend([bytes(2 * GIB)]);
        // (4 - 2) / 2 = 1 GiB more for each.
        assert_eq!(oom_score_adj(&pod.spec, &pod.spec.containers[0], 8 * GIB), 625);
        assert_eq!(oom_score_adj(&pod.spec, &pod.spec.containers[1], 8 * GIB), 875);
    }
}
