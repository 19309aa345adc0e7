//! The cgroups of a Pod and of its containers, and what is written to them.
//!
//! All Pods are children of one cgroup, whatever their quality of service: `podrun/pod<uid>`. The kubelet puts a tier
//! between for Burstable and BestEffort Pods, whose weight is the sum of what those Pods request; with the handful of
//! Pods of one machine, weights of their own do the same.

use std::collections::BTreeMap;

use podrun_cgroups::resources::{self, Limits, MemoryQos, MemoryReservation, Policy, Requests, Swap, Values};
use podrun_cgroups::{CpuMax, HugePageSize};
use podrun_spec::model::{Container, Pod, PodSpec, QosClass, ResourceList, Resources};
use podrun_spec::quantity::Quantity;
use podrun_spec::resources::{effective_limits, effective_requests};

use crate::enforce::{Enforcement, Origin, Wanted};
use crate::facts::HostFacts;
use crate::fault::PlanFault;
use crate::model::CgroupPlan;

/// How the Pod is called where containers are called `container "web"`.
const POD: &str = "pod";
const HUGE_PAGES: &str = "hugepages-";
/// The kernel rounds `memory.high` down to pages; where they are larger, it rounds once more.
const PAGE: u64 = 4096;

/// Returns the Pod's cgroup.
pub(crate) fn pod_cgroup(
    pod: &Pod,
    uid: &str,
    host: &HostFacts,
    enforcement: &mut Enforcement<'_>,
) -> CgroupPlan {
    CgroupPlan {
        path: format!("{}/pod{uid}", host.cgroup.parent),
        controllers: controllers(host, enforcement),
        values: enforcement.writable(POD, pod_values(&pod.spec, host)),
    }
}

/// Returns the cgroup of a container, below that of its Pod.
pub(crate) fn container_cgroup(
    spec: &PodSpec,
    container: &Container,
    pod: &CgroupPlan,
    host: &HostFacts,
    enforcement: &mut Enforcement<'_>,
) -> CgroupPlan {
    CgroupPlan {
        path: format!("{}/{}", pod.path, container.name),
        controllers: pod.controllers.clone(),
        values: enforcement.writable(&named(container), container_values(spec, container, host)),
    }
}

/// Returns the Pod's memory limit: the sum over its containers where all have one, or its own.
pub(crate) fn pod_memory_limit(spec: &PodSpec) -> Option<u64> {
    limited(spec, "memory").then(|| positive(&effective_limits(spec), "memory", Quantity::units)).flatten()
}

/// Adds a fault for each limit on huge pages of a size that the host does not have.
pub(crate) fn check_huge_pages(spec: &PodSpec, host: &HostFacts, faults: &mut Vec<PlanFault>) {
    let containers = spec.all_containers().map(|(_, container)| (named(container), &container.resources));
    for (object, resources) in containers.chain([(POD.to_owned(), &spec.resources)]) {
        for resource in resources.limits.keys().filter(|name| name.starts_with(HUGE_PAGES)) {
            let size = huge_page_size(resource);
            if !size.is_some_and(|size| host.huge_page_sizes.contains(&size.to_string())) {
                faults.push(PlanFault::NoSuchHugePages {
                    object: object.clone(),
                    resource: resource.clone(),
                    available: host.huge_page_sizes.clone(),
                });
            }
        }
    }
}

/// Returns the controllers to enable: those with values, and those that only count (`memory.events` tells of OOM
/// kills, `pids.current` of processes).
fn controllers(host: &HostFacts, enforcement: &Enforcement<'_>) -> Vec<String> {
    let mut names = vec!["cpu", "memory", "pids"];
    if !host.huge_page_sizes.is_empty() {
        names.push("hugetlb");
    }
    enforcement.available(&names)
}

fn pod_values(spec: &PodSpec, host: &HostFacts) -> Vec<Wanted> {
    let requests = effective_requests(spec);
    let limits = effective_limits(spec);
    let cpu = positive(&limits, "cpu", Quantity::millis).filter(|_| limited(spec, "cpu"));
    let values = resources::group_values(
        &Requests {
            millicores: positive(&requests, "cpu", Quantity::millis),
            memory: positive(&requests, "memory", Quantity::units),
        },
        &Limits { millicores: cpu, memory: pod_memory_limit(spec), huge_pages: huge_pages(&limits) },
        host.pod_pids_limit,
        &policy(spec, host),
    );
    wanted(&values, &spec.resources)
}

fn container_values(spec: &PodSpec, container: &Container, host: &HostFacts) -> Vec<Wanted> {
    let Resources { requests, limits } = &container.resources;
    let pod_limits = &spec.resources.limits;
    let limit = |name: &str, read: fn(&Quantity) -> u64| {
        positive(limits, name, read).or_else(|| positive(pod_limits, name, read))
    };
    let memory = limit("memory", Quantity::units);
    let policy = Policy {
        // A limit that swap does not count in would be none.
        swap: memory.map(|_| Swap::None),
        ..policy(spec, host)
    };
    let values = resources::container_values(
        &Requests {
            // Where only a limit was written, the request is equal to it already; a limit of the Pod is no request.
            millicores: Some(requests.get("cpu").map_or(0, Quantity::millis)),
            memory: positive(requests, "memory", Quantity::units),
        },
        &Limits { millicores: limit("cpu", Quantity::millis), memory, huge_pages: huge_pages(limits) },
        &policy,
    );
    wanted(&values, &container.resources)
}

fn policy(spec: &PodSpec, host: &HostFacts) -> Policy {
    Policy {
        qos: qos_class(spec),
        cpu_period: CpuMax::DEFAULT_PERIOD,
        // One process of a container killed for memory takes the others along: half a container helps nobody.
        oom_group: true,
        swap: None,
        memory_qos: host.memory_qos.then_some(MemoryQos {
            factor: MemoryQos::DEFAULT_FACTOR,
            node_allocatable: host.memory_bytes,
            reservation: MemoryReservation::Tiered,
        }),
        huge_page_sizes: host.huge_page_sizes.iter().filter_map(|size| size.parse().ok()).collect(),
        page_size: PAGE,
    }
}

/// Returns the QoS class as the conversions know it.
pub(crate) fn qos_class(spec: &PodSpec) -> resources::QosClass {
    match spec.qos_class {
        QosClass::Guaranteed => resources::QosClass::Guaranteed,
        QosClass::Burstable => resources::QosClass::Burstable,
        QosClass::BestEffort => resources::QosClass::BestEffort,
    }
}

/// Returns the values with their origins, which `own` tells: what the object itself requests and limits. What only sums
/// up containers, or comes down from the Pod, is not missed again when the other one is missed already.
fn wanted(values: &Values, own: &Resources) -> Vec<Wanted> {
    let origin = |file: &str| match file {
        "cpu.weight" => request_origin(own, "cpu"),
        "cpu.max" => limit_origin(own, "cpu"),
        "memory.min" | "memory.low" => request_origin(own, "memory"),
        "memory.max" => limit_origin(own, "memory"),
        "pids.max" => Origin::Ceiling,
        file if own
            .limits
            .keys()
            .filter_map(|name| huge_page_size(name))
            .any(|size| file == huge_page_file(size)) =>
        {
            Origin::Limit
        }
        _ => Origin::Derived,
    };
    values
        .iter()
        // A new cgroup keeps no memory from others, so only what it is to keep has to be written.
        .filter(|(file, value)| !(matches!(*file, "memory.min" | "memory.low") && *value == "0"))
        .map(|(file, value)| Wanted::new(file, value, origin(file)))
        .collect()
}

/// Returns the limits on huge pages. Every size of the host that is not among them is limited to nothing.
fn huge_pages(limits: &ResourceList) -> BTreeMap<HugePageSize, u64> {
    limits.iter().filter_map(|(name, bytes)| Some((huge_page_size(name)?, bytes.units()))).collect()
}

/// Returns whether the Pod can be limited as a whole: it has a limit of its own, or all its containers have one.
fn limited(spec: &PodSpec, name: &str) -> bool {
    let above_zero = |limits: &ResourceList| limits.get(name).is_some_and(|limit| *limit > Quantity::ZERO);
    above_zero(&spec.resources.limits) || spec.all_containers().all(|(_, c)| above_zero(&c.resources.limits))
}

fn limit_origin(resources: &Resources, name: &str) -> Origin {
    if resources.limits.contains_key(name) { Origin::Limit } else { Origin::Derived }
}

/// A request equal to the limit is most likely the limit's own default, and the limit already speaks for both.
fn request_origin(resources: &Resources, name: &str) -> Origin {
    match resources.requests.get(name) {
        Some(request) if *request > Quantity::ZERO && resources.limits.get(name) != Some(request) => {
            Origin::Request
        }
        _ => Origin::Derived,
    }
}

fn positive(list: &ResourceList, name: &str, read: fn(&Quantity) -> u64) -> Option<u64> {
    list.get(name).map(read).filter(|amount| *amount > 0)
}

/// Returns the size that `hugepages-2Mi` speaks of.
fn huge_page_size(resource: &str) -> Option<HugePageSize> {
    HugePageSize::new(Quantity::parse(resource.strip_prefix(HUGE_PAGES)?).ok()?.units())
}

fn huge_page_file(size: HugePageSize) -> String {
    format!("hugetlb.{size}.max")
}

fn named(container: &Container) -> String {
    format!("container \"{}\"", container.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::UnenforcedLimits;
    use crate::model::FileValue;
    use crate::test_support::{container, host, hybrid_host, limit, pod, request};

    fn lines(values: &[FileValue]) -> Vec<String> {
        values.iter().map(|value| format!("{} {}", value.file, value.value)).collect()
    }

    /// Returns what is written to the Pod's cgroup and to that of its first container.
    fn planned(host: &HostFacts, change: impl FnOnce(&mut PodSpec)) -> (Vec<String>, Vec<String>) {
        let mut pod = pod("web");
        change(&mut pod.spec);
        pod.spec.qos_class = podrun_spec::resources::qos_class(&pod.spec);
        let mut enforcement = Enforcement::new(&host.cgroup);
        let whole = pod_cgroup(&pod, "7f3c", host, &mut enforcement);
        let first = container_cgroup(&pod.spec, &pod.spec.containers[0], &whole, host, &mut enforcement);
        enforcement.conclude(UnenforcedLimits::Refuse).unwrap();
        (lines(&whole.values), lines(&first.values))
    }

    #[test]
    fn best_effort_pods_get_the_smallest_share() {
        let (whole, first) = planned(&host(), |_| {});
        assert_eq!(whole, ["cpu.weight 1"]);
        assert_eq!(first, ["cpu.weight 1", "memory.oom.group 1"]);
    }

    #[test]
    fn guaranteed_pods_are_limited_as_a_whole() {
        let (whole, first) = planned(&host(), |spec| {
            spec.containers.push(container("second"));
            for container in &mut spec.containers {
                limit(container, "cpu", "500m");
                limit(container, "memory", "64Mi");
            }
        });
        assert_eq!(whole, ["cpu.weight 39", "cpu.max 100000 100000", "memory.max 134217728"]);
        assert_eq!(
            first,
            [
                "cpu.weight 59",
                "cpu.max 50000 100000",
                "memory.max 67108864",
                "memory.swap.max 0",
                "memory.oom.group 1"
            ]
        );
    }

    #[test]
    fn a_burstable_pod_is_limited_only_if_all_its_containers_are() {
        let two = |second: Option<&str>, init: Option<&str>| {
            let (whole, _) = planned(&host(), |spec| {
                limit(&mut spec.containers[0], "memory", "64Mi");
                let mut other = container("other");
                if let Some(amount) = second {
                    limit(&mut other, "memory", amount);
                }
                spec.containers.push(other);
                let mut first = container("init");
                if let Some(amount) = init {
                    limit(&mut first, "memory", amount);
                }
                spec.init_containers.push(first);
            });
            whole.iter().find_map(|line| line.strip_prefix("memory.max ").map(str::to_owned))
        };
        let mib = |amount: u64| Some((amount << 20).to_string());
        assert_eq!(two(Some("64Mi"), Some("1Mi")), mib(128));
        assert_eq!(two(Some("64Mi"), Some("1Gi")), mib(1024), "init containers run one by one");
        assert_eq!(two(None, Some("1Mi")), None);
        assert_eq!(two(Some("64Mi"), None), None);
        assert_eq!(two(Some("0"), Some("1Mi")), None, "0 is no limit");
    }

    #[test]
    fn limits_of_the_pod_reach_containers_without_their_own() {
        let (whole, first) = planned(&host(), |spec| {
            let mut all = container("all");
            limit(&mut all, "cpu", "2");
            limit(&mut all, "memory", "1Gi");
            spec.resources = all.resources;
            let mut second = container("second");
            limit(&mut second, "memory", "64Mi");
            spec.containers.push(second);
        });
        assert_eq!(whole, ["cpu.weight 79", "cpu.max 200000 100000", "memory.max 1073741824"]);
        assert!(first.contains(&"cpu.max 200000 100000".to_owned()), "{first:?}");
        assert!(first.contains(&"memory.max 1073741824".to_owned()), "{first:?}");
        assert!(first.contains(&"cpu.weight 1".to_owned()), "a limit of the Pod is no request: {first:?}");
    }

    #[test]
    fn weight_follows_the_request_and_then_the_limit() {
        let weight =
            |change: fn(&mut Container)| planned(&host(), |spec| change(&mut spec.containers[0])).1.remove(0);
        assert_eq!(weight(|c| request(c, "cpu", "250m")), "cpu.weight 35");
        assert_eq!(weight(|c| limit(c, "cpu", "1")), "cpu.weight 100");
        assert_eq!(
            weight(|c| {
                request(c, "cpu", "0");
                limit(c, "cpu", "1");
            }),
            "cpu.weight 1"
        );
    }

    #[test]
    fn huge_pages_are_limited_in_every_size() {
        let host = HostFacts { huge_page_sizes: vec!["2MB".into(), "1GB".into()], ..host() };
        let (whole, first) = planned(&host, |spec| {
            limit(&mut spec.containers[0], "hugepages-2Mi", "64Mi");
            let mut second = container("second");
            limit(&mut second, "hugepages-2Mi", "32Mi");
            spec.containers.push(second);
        });
        assert_eq!(whole[1..], ["hugetlb.2MB.max 100663296", "hugetlb.1GB.max 0"]);
        assert_eq!(first[2..], ["hugetlb.2MB.max 67108864", "hugetlb.1GB.max 0"]);
    }

    #[test]
    fn huge_pages_that_the_host_does_not_have_are_refused() {
        let mut pod = pod("web");
        limit(&mut pod.spec.containers[0], "hugepages-1Gi", "1Gi");
        let mut faults = Vec::new();
        check_huge_pages(
            &pod.spec,
            &HostFacts { huge_page_sizes: vec!["2MB".into()], ..host() },
            &mut faults,
        );
        check_huge_pages(&pod.spec, &host(), &mut faults);
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "container \"c\" limits hugepages-1Gi, but this host has huge pages of 2MB only",
                "container \"c\" limits hugepages-1Gi, but this host has huge pages of no size"
            ]
        );
    }

    #[test]
    fn memory_qos_reserves_and_slows_down() {
        let host = HostFacts { memory_qos: true, ..host() };
        let (whole, first) = planned(&host, |spec| {
            request(&mut spec.containers[0], "memory", "128Mi");
            limit(&mut spec.containers[0], "memory", "256Mi");
        });
        assert_eq!(whole[1..], ["memory.low 134217728", "memory.max 268435456"]);
        assert_eq!(first[1..4], ["memory.low 134217728", "memory.high 255012864", "memory.max 268435456"]);

        let (whole, first) = planned(&host, |spec| {
            limit(&mut spec.containers[0], "memory", "256Mi");
            limit(&mut spec.containers[0], "cpu", "1");
        });
        assert!(whole.contains(&"memory.min 268435456".to_owned()), "{whole:?}");
        assert!(first.contains(&"memory.min 268435456".to_owned()), "{first:?}");
        assert!(!first.iter().any(|line| line.starts_with("memory.high")), "{first:?}");

        let (whole, first) = planned(&host, |_| {});
        assert_eq!((whole.len(), first.len()), (1, 2), "nothing was asked for: {whole:?} {first:?}");
    }

    #[test]
    fn the_pids_limit_is_the_pods() {
        let host = HostFacts { pod_pids_limit: Some(100), ..host() };
        let (whole, first) = planned(&host, |_| {});
        assert_eq!(whole, ["cpu.weight 1", "pids.max 100"]);
        assert_eq!(first, ["cpu.weight 1", "memory.oom.group 1"]);
    }

    fn limited_pod() -> Pod {
        let mut pod = pod("web");
        limit(&mut pod.spec.containers[0], "cpu", "500m");
        limit(&mut pod.spec.containers[0], "memory", "64Mi");
        let mut second = container("second");
        request(&mut second, "cpu", "100m");
        request(&mut second, "memory", "1Mi");
        pod.spec.containers.push(second);
        pod.spec.qos_class = QosClass::Burstable;
        pod
    }

    #[test]
    fn limits_that_cannot_be_enforced_refuse_the_pod_once_per_controller() {
        let faults = crate::plan(&limited_pod(), &hybrid_host(UnenforcedLimits::Refuse)).unwrap_err();
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [("cpu", "cpu.max = 50000 100000"), ("memory", "memory.max = 67108864")].map(|(name, limit)| format!(
                "cannot enforce {limit} (container \"c\"): this needs the {name} controller, which is bound to the \
                 cgroup v1 mount /sys/fs/cgroup/{name}; boot the host with cgroup v2 alone \
                 (systemd.unified_cgroup_hierarchy=1), or run without these limits: --unenforced-limits=warn"
            ))
        );
    }

    #[test]
    fn limits_and_requests_that_cannot_be_enforced_are_listed() {
        let plan = crate::plan(&limited_pod(), &hybrid_host(UnenforcedLimits::Warn)).unwrap();
        let listed: Vec<_> = plan.unenforced.iter().map(|u| format!("{}: {}", u.object, u.value)).collect();
        assert_eq!(
            listed,
            [
                "container \"c\": cpu.max = 50000 100000",
                "container \"c\": memory.max = 67108864",
                "container \"second\": cpu.weight = 17"
            ]
        );
        assert_eq!(
            plan.unenforced[2].why,
            "is bound to the cgroup v1 mount /sys/fs/cgroup/cpu; the request has no effect under contention"
        );
        assert!(plan.containers.iter().all(|container| container.cgroup.values.is_empty()));
    }

    #[test]
    fn requests_alone_do_not_refuse_a_pod() {
        let mut pod = pod("web");
        request(&mut pod.spec.containers[0], "cpu", "100m");
        let plan = crate::plan(&pod, &hybrid_host(UnenforcedLimits::Refuse)).unwrap();
        assert_eq!(plan.unenforced.len(), 1);
    }

    #[test]
    fn a_ceiling_on_every_pod_refuses_none() {
        let host = HostFacts { pod_pids_limit: Some(4096), ..hybrid_host(UnenforcedLimits::Refuse) };
        let plan = crate::plan(&pod("web"), &host).unwrap();
        let listed: Vec<_> = plan.unenforced.iter().map(|u| (u.object.as_str(), u.value.as_str())).collect();
        assert_eq!(listed, [("pod", "pids.max = 4096")]);
    }

    #[test]
    fn a_limit_of_the_pod_is_missed_once() {
        let mut pod = pod("web");
        let mut all = container("all");
        limit(&mut all, "memory", "1Gi");
        pod.spec.resources = all.resources;
        pod.spec.containers.push(container("second"));
        let plan = crate::plan(&pod, &hybrid_host(UnenforcedLimits::Warn)).unwrap();
        let listed: Vec<_> = plan.unenforced.iter().map(|u| format!("{}: {}", u.object, u.value)).collect();
        assert_eq!(listed, ["pod: memory.max = 1073741824"]);
    }

    #[test]
    fn only_controllers_that_are_there_are_enabled() {
        let pod = pod("web");
        let enabled = |host: &HostFacts| crate::plan(&pod, host).unwrap().sandbox.cgroup.controllers;
        assert_eq!(enabled(&host()), ["cpu", "memory", "pids"]);
        let huge = HostFacts { huge_page_sizes: vec!["2MB".into()], ..hybrid_host(UnenforcedLimits::Warn) };
        assert_eq!(enabled(&huge), ["hugetlb"]);
    }
}
