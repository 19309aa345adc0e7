//! `oom_score_adj`: whom the kernel kills first when the machine runs out of memory.

use podrun_cgroups::resources::{self, OomScoreInputs, request_with_share};
use podrun_spec::model::{Container, ContainerKind, PodSpec};

use crate::cgroup::qos_class;

/// The priority of the class `system-node-critical`, the highest there is.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// Returns the `oom_score_adj` of a container.
///
/// The kernel adds it to the share of memory that a process uses, both in thousandths. A container of a Burstable Pod
/// gets what its request leaves of the machine, so that one which stays within its request is never the first victim.
/// Without CAP_SYS_RESOURCE a process cannot lower its own value; see proc_pid_oom_score_adj(5).
/// A sidecar is not to die before the regular containers, so it gets no more than the one of them with the least.
pub(crate) fn oom_score_adj(
    spec: &PodSpec,
    kind: ContainerKind,
    container: &Container,
    memory_bytes: u64,
) -> i32 {
    let smallest = || spec.containers.iter().map(|main| requested(spec, main)).min();
    resources::oom_score_adj(&OomScoreInputs {
        qos: qos_class(spec),
        node_critical: spec.priority >= NODE_CRITICAL_PRIORITY,
        memory_request: requested(spec, container),
        smallest_main_request: if kind == ContainerKind::Sidecar { smallest() } else { None },
        node_memory: memory_bytes,
    })
}

/// Returns the memory that a container requests, with its share of what the Pod requests beyond its containers.
fn requested(spec: &PodSpec, container: &Container) -> u64 {
    let own = |container: &Container| container.resources.memory_request().unwrap_or(0);
    let Some(whole) = spec.resources.memory_request() else { return own(container) };
    let sum = spec.containers.iter().map(own).sum();
    request_with_share(own(container), whole, sum, spec.containers.len() as u64)
}

#[cfg(test)]
mod tests {
    use podrun_spec::model::QosClass;
    use podrun_spec::quantity::Quantity;

    use super::*;
    use crate::test_support::{container, pod};

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_class_decides_and_priority_overrides() {
        let mut pod = pod("web");
        let of = |spec: &PodSpec| oom_score_adj(spec, ContainerKind::Regular, &spec.containers[0], 8 * GIB);
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
        assert_eq!(oom_score_adj(&pod.spec, ContainerKind::Regular, &pod.spec.containers[0], 8 * GIB), 625);
        assert_eq!(oom_score_adj(&pod.spec, ContainerKind::Regular, &pod.spec.containers[1], 8 * GIB), 875);
    }

    #[test]
    fn a_sidecar_does_not_die_before_those_it_serves() {
        let mut pod = pod("web");
        pod.spec.qos_class = QosClass::Burstable;
        let bytes = |amount| ("memory".to_owned(), Quantity::from_millis(i128::from(amount) * 1000));
        pod.spec.containers[0].resources.requests.extend([bytes(2 * GIB)]);
        let helper = container("helper");
        assert_eq!(oom_score_adj(&pod.spec, ContainerKind::Init, &helper, 8 * GIB), 999);
        assert_eq!(oom_score_adj(&pod.spec, ContainerKind::Sidecar, &helper, 8 * GIB), 750);
    }
}
