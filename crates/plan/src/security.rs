//! Identity and confinement of a container: its own settings over the Pod's.

use podrun_spec::model::{Container, PodSpec, SeccompProfile, SupplementalGroupsPolicy};

use crate::capabilities::{Refused, all, container_set};
use crate::facts::HostFacts;
use crate::fault::PlanFault;
use crate::model::SecurityPlan;

/// What tells about the host or reaches its hardware, as containerd, CRI-O and runc hide it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What may be read but not set.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What select(2) can handle; programs that can do with more raise it themselves.
const NOFILE_SOFT: u64 = 1024;
/// As systemd gives to services.
const NOFILE_HARD: u64 = 524_288;
/// RLIM_INFINITY.
const UNLIMITED: u64 = u64::MAX;

/// Returns the security settings of a container.
pub(crate) fn security(
    spec: &PodSpec,
    container: &Container,
    host: &HostFacts,
    faults: &mut Vec<PlanFault>,
) -> SecurityPlan {
    let pod = &spec.security;
    let own = &container.security;
    let privileged = own.privileged;
    let hidden =
        |paths: &[&str]| paths.iter().filter(|_| !privileged).map(|path| (*path).to_owned()).collect();
    // With nothing written the filter is on: safer than a kubelet's default, and what its `seccompDefault` does.
    let profile = own.seccomp.as_ref().or(pod.seccomp.as_ref()).unwrap_or(&SeccompProfile::RuntimeDefault);
    SecurityPlan {
        run_as_user: own.run_as_user.or(pod.run_as_user),
        run_as_group: own.run_as_group.or(pod.run_as_group),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false),
        supplemental_groups: pod.fs_group.iter().chain(&pod.supplemental_groups).copied().collect(),
        merge_image_groups: pod.supplemental_groups_policy == SupplementalGroupsPolicy::Merge,
        capabilities: capabilities(container, host, faults),
        no_new_privs: own.allow_privilege_escalation == Some(false) && !privileged,
        seccomp: *profile == SeccompProfile::RuntimeDefault && !privileged,
        privileged,
        read_only_rootfs: own.read_only_root_filesystem,
        masked_paths: hidden(&MASKED),
        read_only_paths: hidden(&READ_ONLY),
        rlimits: rlimits(host),
    }
}

fn capabilities(container: &Container, host: &HostFacts, faults: &mut Vec<PlanFault>) -> u64 {
    if container.security.privileged {
        return all(host.last_capability);
    }
    container_set(&container.security.capabilities, host.last_capability).unwrap_or_else(|refused| {
        let container = &container.name;
        faults.extend(refused.into_iter().map(|refused| match refused {
            Refused::Unknown(name) => PlanFault::UnknownCapability { container: container.clone(), name },
            Refused::NotInKernel(name) => {
                PlanFault::CapabilityNotInKernel { container: container.clone(), name }
            }
        }));
        0
    })
}

/// Returns the limits of every container, the same whoever started the Pod: a shell's `ulimit` is not part of a
/// manifest.
///
/// A hard limit can be raised only with CAP_SYS_RESOURCE, so without it there is less to promise. See getrlimit(2).
fn rlimits(host: &HostFacts) -> Vec<(String, u64, u64)> {
    let limit = |name: &str, soft, hard| (name.to_owned(), soft, hard);
    if host.sys_resource {
        return vec![
            limit("CORE", 0, UNLIMITED),
            limit("NOFILE", NOFILE_SOFT, NOFILE_HARD),
            limit("NPROC", UNLIMITED, UNLIMITED),
        ];
    }
    let hard = NOFILE_HARD.min(host.nofile_hard);
    // The hard limit on core files may be anything here, and 0 is the one value that always can be set.
    vec![limit("CORE", 0, 0), limit("NOFILE", NOFILE_SOFT.min(hard), hard)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{host, pod};

    fn planned(change: impl FnOnce(&mut PodSpec)) -> SecurityPlan {
        let mut pod = pod("web");
        change(&mut pod.spec);
        let mut faults = Vec::new();
        let plan = security(&pod.spec, &pod.spec.containers[0], &host(), &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        plan
    }

    #[test]
    fn a_container_wins_over_its_pod_field_by_field() {
        let plan = planned(|spec| {
            spec.security.run_as_user = Some(1000);
            spec.security.run_as_group = Some(2000);
            spec.security.run_as_non_root = Some(true);
            let own = &mut spec.containers[0].security;
            own.run_as_user = Some(0);
            own.run_as_non_root = Some(false);
        });
        assert_eq!((plan.run_as_user, plan.run_as_group), (Some(0), Some(2000)));
        assert!(!plan.run_as_non_root);
    }

    #[test]
    fn seccomp_is_on_unless_somebody_turns_it_off() {
        use SeccompProfile::{RuntimeDefault, Unconfined};
        for (pod, own, privileged, expected) in [
            (None, None, false, true),
            (Some(Unconfined), None, false, false),
            (None, Some(Unconfined), false, false),
            (Some(Unconfined), Some(RuntimeDefault), false, true),
            (Some(RuntimeDefault), Some(Unconfined), false, false),
            (None, None, true, false),
            (None, Some(RuntimeDefault), true, false),
        ] {
            let case = format!("{pod:?} {own:?} {privileged}");
            let plan = planned(|spec| {
                spec.security.seccomp = pod;
                spec.containers[0].security.seccomp = own;
                spec.containers[0].security.privileged = privileged;
            });
            assert_eq!(plan.seccomp, expected, "{case}");
        }
    }

    #[test]
    fn no_new_privs_follows_allow_privilege_escalation() {
        for (written, expected) in [(None, false), (Some(true), false), (Some(false), true)] {
            let plan = planned(|spec| spec.containers[0].security.allow_privilege_escalation = written);
            assert_eq!(plan.no_new_privs, expected, "{written:?}");
        }
    }

    #[test]
    fn fs_group_comes_before_supplemental_groups() {
        let plan = planned(|spec| {
            spec.security.fs_group = Some(7);
            spec.security.supplemental_groups = vec![3, 5];
            spec.security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict;
        });
        assert_eq!(plan.supplemental_groups, [7, 3, 5]);
        assert!(!plan.merge_image_groups);
    }

    #[test]
    fn privileged_containers_have_everything() {
        let plan = planned(|spec| {
            spec.containers[0].security.privileged = true;
            spec.containers[0].security.capabilities.drop = vec!["ALL".into()];
        });
        assert_eq!(plan.capabilities, 0x1ff_ffff_ffff);
        assert!(plan.masked_paths.is_empty() && plan.read_only_paths.is_empty());
    }

    #[test]
    fn unknown_capabilities_name_their_container() {
        let mut pod = pod("web");
        pod.spec.containers[0].security.capabilities.add = vec!["NET_ADMN".into(), "BPF".into()];
        let mut faults = Vec::new();
        let old = HostFacts { last_capability: 37, ..host() };
        security(&pod.spec, &pod.spec.containers[0], &old, &mut faults);
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "container \"c\" names the capability \"NET_ADMN\", which does not exist",
                "container \"c\" adds the capability \"BPF\", which this kernel does not have"
            ]
        );
    }

    #[test]
    fn limits_stay_below_what_the_caller_may_set() {
        let of = |sys_resource, nofile_hard| {
            let limits = rlimits(&HostFacts { sys_resource, nofile_hard, ..host() });
            let nofile = limits.iter().find(|(name, ..)| name == "NOFILE").cloned().unwrap();
            (nofile.1, nofile.2)
        };
        assert_eq!(of(true, 20), (1024, 524_288));
        assert_eq!(of(false, 20_000), (1024, 20_000));
        assert_eq!(of(false, 1 << 30), (1024, 524_288));
        assert_eq!(of(false, 20), (20, 20));
    }
}
