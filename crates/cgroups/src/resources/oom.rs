//! Who dies first when the machine runs out of memory.

use super::QosClass;

/// What the score of a container's processes depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OomScoreInputs {
    /// The QoS class.
    pub qos: QosClass,
    /// Whether the machine cannot do without the container.
    pub node_critical: bool,
    /// The container's memory request, 0 for none.
    pub memory_request: u64,
    /// For a container that accompanies others (a sidecar): the smallest memory request among those others. It is not
    /// to die before them.
    pub smallest_main_request: Option<u64>,
    /// The memory of the machine.
    pub node_memory: u64,
}

/// Returns the `oom_score_adj` of a container's processes, from -1000 (never killed) to 1000 (killed first).
///
/// As `GetContainerOOMScoreAdjust` in `pkg/kubelet/qos/policy.go`: the Burstable class lies between the others, the
/// lower the larger the part of the machine's memory that was requested. Write it to `/proc/PID/oom_score_adj`; lowering
/// it needs `CAP_SYS_RESOURCE`.
pub fn oom_score_adj(inputs: &OomScoreInputs) -> i32 {
    const GUARANTEED: i32 = -997;
    const BEST_EFFORT: i32 = 1000;
    if inputs.node_critical {
        return GUARANTEED;
    }
    match inputs.qos {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => {
            let share = |request: u64| {
                let per_mille = u128::from(request) * 1000 / u128::from(inputs.node_memory.max(1));
                1000 - i32::try_from(per_mille).unwrap_or(i32::MAX)
            };
            let own = share(inputs.memory_request);
            let score = inputs.smallest_main_request.map_or(own, |request| own.min(share(request)));
            score.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
        }
    }
}

/// Returns a container's request for [`oom_score_adj`] where the `group` of containers it belongs to has a memory request
/// of its own: what the group asks for beyond its containers is divided among them.
pub fn request_with_share(own: u64, group: u64, sum_of_containers: u64, containers: u64) -> u64 {
    own + group.saturating_sub(sum_of_containers) / containers.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: u64 = 1 << 20;
    const NODE: u64 = 8 << 30;

    fn inputs(qos: QosClass, memory_request: u64) -> OomScoreInputs {
        OomScoreInputs {
            qos,
            node_critical: false,
            memory_request,
            smallest_main_request: None,
            node_memory: NODE,
        }
    }

    #[test]
    fn burstable_scores_by_request() {
        for (request, score) in [
            (0, 999),
            (MI, 999),
            (100 * MI, 988),
            (1024 * MI, 875),
            (4096 * MI, 500),
            (NODE, 3),
            (2 * NODE, 3),
            (u64::MAX, 3),
        ] {
            assert_eq!(oom_score_adj(&inputs(QosClass::Burstable, request)), score, "{request}");
        }
    }

    #[test]
    fn other_classes_are_fixed() {
        assert_eq!(oom_score_adj(&inputs(QosClass::Guaranteed, MI)), -997);
        assert_eq!(oom_score_adj(&inputs(QosClass::BestEffort, 0)), 1000);
        let critical = OomScoreInputs { node_critical: true, ..inputs(QosClass::BestEffort, 0) };
        assert_eq!(oom_score_adj(&critical), -997);
    }

    #[test]
    fn a_sidecar_does_not_die_before_those_it_serves() {
        let sidecar = |main| OomScoreInputs {
            smallest_main_request: Some(main),
            ..inputs(QosClass::Burstable, 100 * MI)
        };
        assert_eq!(oom_score_adj(&sidecar(1024 * MI)), 875);
        assert_eq!(oom_score_adj(&sidecar(MI)), 988);
    }

    #[test]
    fn a_group_s_surplus_is_shared() {
        assert_eq!(request_with_share(100, 1000, 400, 3), 300);
        assert_eq!(request_with_share(100, 400, 400, 3), 100);
        assert_eq!(request_with_share(100, 0, 400, 0), 100);
    }
}
