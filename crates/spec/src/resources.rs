//! What a Pod as a whole requests and may use, and the quality of service that follows.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use crate::model::{Container, ContainerKind, PodSpec, QosClass, ResourceList, Resources};
use crate::quantity::Quantity;

/// Returns what the Pod requests per resource: the larger of what its regular containers and sidecars request together
/// and what any one init container requests with the sidecars before it (init containers run one by one), or the Pod's
/// own request where it has one, plus overhead.
pub fn effective_requests(spec: &PodSpec) -> ResourceList {
    let mut total = aggregate(spec, |resources| &resources.requests);
    total.extend(spec.resources.requests.iter().map(|(name, amount)| (name.clone(), *amount)));
    for (name, amount) in &spec.overhead {
        let sum = total.get(name).copied().unwrap_or(Quantity::ZERO) + *amount;
        total.insert(name.clone(), sum);
    }
    total
}

/// Returns what the Pod may use per resource, as [`effective_requests`] does for requests.
///
/// A resource is listed as soon as one container limits it, even if others do not: whether all do, and the Pod can
/// thus be limited as a whole, is for the caller to see. Overhead is added only to limits that are not zero.
pub fn effective_limits(spec: &PodSpec) -> ResourceList {
    let mut total = aggregate(spec, |resources| &resources.limits);
    total.extend(spec.resources.limits.iter().map(|(name, amount)| (name.clone(), *amount)));
    for (name, amount) in &spec.overhead {
        if let Some(sum) = total.get_mut(name).filter(|sum| !sum.is_zero()) {
            *sum = *sum + *amount;
        }
    }
    total
}

/// Returns the quality of service class: cpu and memory of all containers decide, or those of the Pod as a whole
/// where it has any.
pub fn qos_class(spec: &PodSpec) -> QosClass {
    let counted = |resources: &Resources| !resources.requests.is_empty() || !resources.limits.is_empty();
    if counted(&spec.resources) {
        return class_of(std::iter::once(&spec.resources));
    }
    class_of(spec.all_containers().map(|(_, container)| &container.resources))
}

fn class_of<'a>(all: impl Iterator<Item = &'a Resources>) -> QosClass {
    let mut requests = ResourceList::new();
    let mut limits = ResourceList::new();
    let mut every_one_limited = true;
    for resources in all {
        for (list, sums) in [(&resources.requests, &mut requests), (&resources.limits, &mut limits)] {
            for (name, amount) in positive(list) {
                let sum = sums.get(name).copied().unwrap_or(Quantity::ZERO) + *amount;
                sums.insert(name.clone(), sum);
            }
        }
        every_one_limited &= positive(&resources.limits).count() == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return QosClass::BestEffort;
    }
    let equal = requests.iter().all(|(name, amount)| limits.get(name) == Some(amount));
    if every_one_limited && equal && requests.len() == limits.len() {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// Returns cpu and memory where they are above zero.
fn positive(list: &ResourceList) -> impl Iterator<Item = (&String, &Quantity)> {
    list.iter()
        .filter(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && **amount > Quantity::ZERO)
}

fn aggregate(spec: &PodSpec, pick: fn(&Resources) -> &ResourceList) -> ResourceList {
    let of = |container: &Container| pick(&container.resources).clone();
    let sidecar = |container: &Container| container.init_kind() == ContainerKind::Sidecar;
    let init = spec.init_containers.iter().map(|container| (sidecar(container), of(container)));
    aggregate_lists(spec.containers.iter().map(of), init)
}

/// Returns what counts for the Pod as a whole: regular containers and sidecars together, or one init container with
/// the sidecars started before it, whichever is more.
///
/// `init` says of each list whether it belongs to a sidecar.
fn aggregate_lists(
    regular: impl Iterator<Item = ResourceList>,
    init: impl Iterator<Item = (bool, ResourceList)>,
) -> ResourceList {
    let mut sidecars = ResourceList::new();
    let mut peak = ResourceList::new();
    for (sidecar, list) in init {
        let mut moment = sidecars.clone();
        add(&mut moment, &list);
        if sidecar {
            sidecars.clone_from(&moment);
        }
        for (name, amount) in moment {
            let highest = peak.get(&name).map_or(amount, |earlier| amount.max(*earlier));
            peak.insert(name, highest);
        }
    }
    let mut total = ResourceList::new();
    regular.for_each(|list| add(&mut total, &list));
    add(&mut total, &sidecars);
    for (name, amount) in peak {
        let highest = total.get(&name).map_or(amount, |sum| amount.max(*sum));
        total.insert(name, highest);
    }
    total
}

fn add(total: &mut ResourceList, list: &ResourceList) {
    for (name, amount) in list {
        let sum = total.get(name).copied().unwrap_or(Quantity::ZERO) + *amount;
        total.insert(name.clone(), sum);
    }
}

/// As [`aggregate`], before the Pod has been checked.
pub(crate) fn aggregate_wire(
    spec: &api::PodSpec,
    pick: fn(&api::ResourceRequirements) -> Option<&BTreeMap<String, WireQuantity>>,
) -> ResourceList {
    let of = |container: &api::Container| wire_amounts(container.resources.as_ref().and_then(pick));
    let init = spec.init_containers.iter().flatten();
    aggregate_lists(
        spec.containers.iter().map(of),
        init.map(|container| (container.restart_policy.as_deref() == Some("Always"), of(container))),
    )
}

/// Returns the amounts of a wire list, whose quantities have been checked while decoding.
pub(crate) fn wire_amounts(list: Option<&BTreeMap<String, WireQuantity>>) -> ResourceList {
    let amount = |text: &str| Quantity::parse(text).unwrap_or(Quantity::ZERO);
    list.into_iter().flatten().map(|(name, text)| (name.clone(), amount(&text.0))).collect()
}

/// Returns true for the resources that a Pod as a whole may request and limit.
pub(crate) fn is_pod_level_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns requests and limits from `requests|limits`, each a list of `name=amount`.
    fn resources(text: &str) -> Resources {
        let (requests, limits) = text.split_once('|').unwrap();
        let list = |text: &str| {
            let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
            pairs.map(|(name, amount)| (name.to_owned(), Quantity::parse(amount).unwrap())).collect()
        };
        Resources { requests: list(requests), limits: list(limits) }
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let both = "cpu=1 memory=1Gi|cpu=1 memory=1Gi";
        let table: &[(&[&str], QosClass)] = &[
            (&["|"], QosClass::BestEffort),
            (&["cpu=0|memory=0"], QosClass::BestEffort),
            (&["ephemeral-storage=1Gi|"], QosClass::BestEffort),
            (&[both], QosClass::Guaranteed),
            (&[both, both], QosClass::Guaranteed),
            (&["cpu=1000m memory=1024Mi|cpu=1 memory=1Gi"], QosClass::Guaranteed),
            (&[both, "|"], QosClass::Burstable),
            (&["cpu=1|cpu=1"], QosClass::Burstable),
            (&["cpu=500m memory=1Gi|cpu=1 memory=1Gi"], QosClass::Burstable),
            (&["memory=1Gi|cpu=1 memory=1Gi"], QosClass::Burstable),
            (&["cpu=1m|"], QosClass::Burstable),
        ];
        for (containers, expected) in table {
            let all: Vec<_> = containers.iter().map(|text| resources(text)).collect();
            assert_eq!(class_of(all.iter()), *expected, "{containers:?}");
        }
    }

    #[test]
    fn sidecars_count_beside_what_runs_after_them() {
        let list = |text: &str| resources(&format!("{text}|")).requests;
        let total = |regular: &[&str], init: &[(bool, &str)]| {
            let sum = aggregate_lists(
                regular.iter().map(|text| list(text)),
                init.iter().map(|(sidecar, text)| (*sidecar, list(text))),
            );
            sum.get("cpu").map(Quantity::to_string).unwrap_or_default()
        };
        assert_eq!(total(&["cpu=1", "cpu=2"], &[]), "3");
        assert_eq!(total(&["cpu=1"], &[(false, "cpu=2"), (false, "cpu=3")]), "3");
        assert_eq!(total(&["cpu=1"], &[(true, "cpu=2"), (false, "cpu=3")]), "5");
        assert_eq!(total(&["cpu=4"], &[(false, "cpu=3"), (true, "cpu=2")]), "6");
        assert_eq!(total(&["memory=1"], &[(false, "cpu=3")]), "3");
    }
}
