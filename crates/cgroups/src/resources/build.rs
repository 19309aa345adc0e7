//! From requests and limits to values.

use std::collections::BTreeMap;

use super::cpu::{CpuShares, WeightConversion, cpu_max};
use super::memory::{MemoryQos, MemoryReservation, Swap, memory_high, swap_max};
use super::{QosClass, Values};
use crate::cpu::CpuMax;
use crate::hugetlb::HugePageSize;
use crate::value::Micros;

/// What a container, or a group of them, asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Requests {
    /// CPU in thousandths of a core.
    pub millicores: Option<u64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
}

/// What a container, or a group of them, may not exceed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// CPU in thousandths of a core.
    pub millicores: Option<u64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Huge pages in bytes, by size.
    pub huge_pages: BTreeMap<HugePageSize, u64>,
}

/// How the machine and its administrator want requests and limits to be enforced.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The QoS class of the container, or of the group.
    pub qos: QosClass,
    /// The period of `cpu.max`.
    pub cpu_period: Micros,
    /// Whether the OOM killer takes the whole container, which is the default of Kubernetes on cgroup v2.
    pub oom_group: bool,
    /// How swap is used; nothing if the kernel has no `memory.swap.max`.
    pub swap: Option<Swap>,
    /// Throttling and protection of memory; nothing to leave both alone.
    pub memory_qos: Option<MemoryQos>,
    /// The sizes of huge pages that the machine has. Each is limited, to nothing if no limit allows it.
    pub huge_page_sizes: Vec<HugePageSize>,
    /// The size of a page.
    pub page_size: u64,
}

impl Policy {
    /// Returns the policy of a machine with default settings: no swap accounting, no MemoryQoS, no huge pages.
    pub fn new(qos: QosClass) -> Self {
        Self {
            qos,
            cpu_period: CpuMax::DEFAULT_PERIOD,
            oom_group: true,
            swap: None,
            memory_qos: None,
            huge_page_sizes: Vec::new(),
            page_size: super::apply::page_size(),
        }
    }
}

/// Returns the values of a container's cgroup.
///
/// - `cpu.weight` from the request, or from the limit if there is no request, by [`WeightConversion::Logarithmic`];
/// - `cpu.max` and `memory.max` if there are limits;
/// - `memory.swap.max`, `memory.min`, `memory.low`, `memory.high` and `hugetlb.SIZE.max` as the policy says;
/// - `memory.oom.group`.
pub fn container_values(requests: &Requests, limits: &Limits, policy: &Policy) -> Values {
    let mut values = Values::default();
    // A request of zero is a request: only an absent one is taken from the limit.
    let millicores = requests.millicores.or(limits.millicores).unwrap_or(0);
    set_cpu(&mut values, millicores, WeightConversion::Logarithmic, limits, policy);
    set_protection(&mut values, requests, policy);
    if let Some(qos) = policy.memory_qos {
        let request = requests.memory.unwrap_or(0);
        let allocatable = qos.node_allocatable;
        let high = memory_high(request, limits.memory, qos.factor, allocatable, policy.page_size);
        if let Some(high) = high {
            values.set("memory.high", high.to_string());
        }
    }
    set_memory_max(&mut values, limits);
    if let Some(swap) = policy.swap {
        let burstable = policy.qos == QosClass::Burstable;
        let max = swap_max(swap, burstable, requests.memory, limits.memory);
        values.set("memory.swap.max", max.to_string());
    }
    values.set("memory.oom.group", if policy.oom_group { "1" } else { "0" });
    set_huge_pages(&mut values, limits, policy);
    values
}

/// Returns the values of a cgroup that holds several containers.
///
/// The sums are the caller's: `requests` are the effective ones of the group, and `limits` has an entry only where every
/// container has a limit. `pids` limits the processes of all containers together.
///
/// - `cpu.weight` from the request by [`WeightConversion::Linear`], the least for the BestEffort class;
/// - `cpu.max` and `memory.max` if there are limits, `pids.max` if there is one;
/// - `memory.min`, `memory.low` and `hugetlb.SIZE.max` as the policy says.
pub fn group_values(requests: &Requests, limits: &Limits, pids: Option<u64>, policy: &Policy) -> Values {
    let mut values = Values::default();
    let best_effort = policy.qos == QosClass::BestEffort;
    let millicores = requests.millicores.filter(|_| !best_effort).unwrap_or(0);
    set_cpu(&mut values, millicores, WeightConversion::Linear, limits, policy);
    set_protection(&mut values, requests, policy);
    set_memory_max(&mut values, limits);
    if let Some(pids) = pids.filter(|pids| *pids > 0) {
        values.set("pids.max", pids.to_string());
    }
    set_huge_pages(&mut values, limits, policy);
    values
}

fn set_cpu(
    values: &mut Values,
    millicores: u64,
    conversion: WeightConversion,
    limits: &Limits,
    policy: &Policy,
) {
    let shares = CpuShares::from_millicores(millicores);
    values.set("cpu.weight", conversion.weight(shares).to_string());
    let max = cpu_max(limits.millicores, policy.cpu_period);
    if max.quota.is_some() {
        values.set("cpu.max", max.to_string());
    }
}

fn set_memory_max(values: &mut Values, limits: &Limits) {
    if let Some(memory) = limits.memory.filter(|memory| *memory > 0) {
        values.set("memory.max", memory.to_string());
    }
}

/// Both files are always written, so that a cgroup from before a change of class or policy is protected as it should.
fn set_protection(values: &mut Values, requests: &Requests, policy: &Policy) {
    let Some(qos) = policy.memory_qos else { return };
    let request = requests.memory.unwrap_or(0);
    let (min, low) = match (qos.reservation, policy.qos) {
        (MemoryReservation::Tiered, QosClass::Guaranteed) => (request, 0),
        (MemoryReservation::Tiered, QosClass::Burstable) => (0, request),
        _ => (0, 0),
    };
    values.set("memory.min", min.to_string());
    values.set("memory.low", low.to_string());
}

fn set_huge_pages(values: &mut Values, limits: &Limits, policy: &Policy) {
    for size in &policy.huge_page_sizes {
        let limit = limits.huge_pages.get(size).copied().unwrap_or(0);
        values.set(&format!("hugetlb.{size}.max"), limit.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: u64 = 1 << 20;

    fn requests(millicores: Option<u64>, memory: Option<u64>) -> Requests {
        Requests { millicores, memory }
    }

    fn limits(millicores: Option<u64>, memory: Option<u64>) -> Limits {
        Limits { millicores, memory, ..Limits::default() }
    }

    fn lines(values: &Values) -> Vec<String> {
        values.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_container_with_requests_and_limits() {
        let policy = Policy { swap: Some(Swap::None), ..Policy::new(QosClass::Burstable) };
        let values = container_values(
            &requests(Some(250), Some(64 * MI)),
            &limits(Some(500), Some(128 * MI)),
            &policy,
        );
        assert_eq!(
            lines(&values),
            [
                "cpu.weight 35",
                "cpu.max 50000 100000",
                "memory.max 134217728",
                "memory.swap.max 0",
                "memory.oom.group 1"
            ]
        );
    }

    #[test]
    fn a_container_without_anything() {
        let policy = Policy { oom_group: false, ..Policy::new(QosClass::BestEffort) };
        let values = container_values(&Requests::default(), &Limits::default(), &policy);
        assert_eq!(lines(&values), ["cpu.weight 1", "memory.oom.group 0"]);
    }

    #[test]
    fn weight_comes_from_the_limit_only_without_a_request() {
        let policy = Policy::new(QosClass::Burstable);
        let weight = |request, limit| {
            let values = container_values(&requests(request, None), &limits(limit, None), &policy);
            values.get("cpu.weight").map(str::to_owned)
        };
        assert_eq!(weight(None, Some(1000)).as_deref(), Some("100"));
        assert_eq!(weight(Some(0), Some(1000)).as_deref(), Some("1"));
        assert_eq!(weight(Some(500), Some(1000)).as_deref(), Some("59"));
    }

    #[test]
    fn memory_qos_protects_by_class_and_throttles_containers_only() {
        let memory_qos = |reservation| {
            Some(MemoryQos { factor: MemoryQos::DEFAULT_FACTOR, node_allocatable: 8 << 30, reservation })
        };
        let cases = [
            (QosClass::Guaranteed, MemoryReservation::Tiered, 128 * MI, ("134217728", "0"), None),
            (QosClass::Burstable, MemoryReservation::Tiered, 256 * MI, ("0", "134217728"), Some("255012864")),
            (QosClass::Burstable, MemoryReservation::None, 256 * MI, ("0", "0"), Some("255012864")),
        ];
        for (qos, reservation, limit, (min, low), high) in cases {
            let policy = Policy { memory_qos: memory_qos(reservation), page_size: 4096, ..Policy::new(qos) };
            let (requests, limits) = (requests(None, Some(128 * MI)), limits(None, Some(limit)));
            let container = container_values(&requests, &limits, &policy);
            let group = group_values(&requests, &limits, None, &policy);
            for values in [&container, &group] {
                assert_eq!((values.get("memory.min"), values.get("memory.low")), (Some(min), Some(low)));
            }
            assert_eq!(container.get("memory.high"), high, "{qos:?}");
            assert_eq!(group.get("memory.high"), None, "{qos:?}");
        }
    }

    #[test]
    fn groups_use_the_other_weight_and_carry_the_pids_limit() {
        let burstable = Policy::new(QosClass::Burstable);
        let (requests, limits) = (requests(Some(1000), Some(MI)), limits(Some(2000), Some(2 * MI)));
        let values = group_values(&requests, &limits, Some(64), &burstable);
        let expected = ["cpu.weight 39", "cpu.max 200000 100000", "memory.max 2097152", "pids.max 64"];
        assert_eq!(lines(&values), expected);
        let values = group_values(&Requests::default(), &Limits::default(), None, &burstable);
        assert_eq!(lines(&values), ["cpu.weight 1"]);
        let best_effort = Policy::new(QosClass::BestEffort);
        let values = group_values(&requests, &Limits::default(), None, &best_effort);
        assert_eq!(lines(&values), ["cpu.weight 1"]);
    }

    #[test]
    fn every_size_of_huge_pages_is_limited() {
        let size = |text: &str| text.parse::<HugePageSize>().unwrap();
        let policy =
            Policy { huge_page_sizes: vec![size("2MB"), size("1GB")], ..Policy::new(QosClass::Burstable) };
        let huge_pages = BTreeMap::from([(size("2MB"), 4 * MI)]);
        let limits = Limits { huge_pages, ..Limits::default() };
        for values in [
            container_values(&Requests::default(), &limits, &policy),
            group_values(&Requests::default(), &limits, None, &policy),
        ] {
            assert_eq!(values.get("hugetlb.2MB.max"), Some("4194304"));
            assert_eq!(values.get("hugetlb.1GB.max"), Some("0"));
        }
    }
}
