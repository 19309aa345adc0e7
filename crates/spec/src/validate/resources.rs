//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use super::{Cause, names};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::resources::{aggregate_wire, is_pod_level_resource, wire_amounts};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

pub(super) fn container(resources: Option<&api::ResourceRequirements>, path: &Path, causes: &mut Vec<Cause>) {
    let Some(resources) = resources else { return };
    each(resources.limits.as_ref(), &path.child("limits"), container_name, causes);
    each(resources.requests.as_ref(), &path.child("requests"), container_name, causes);
    within_limits(resources, path, causes);
}

fn each(
    list: Option<&BTreeMap<String, WireQuantity>>,
    path: &Path,
    name_rule: fn(&str, &Path, &mut Vec<Cause>),
    causes: &mut Vec<Cause>,
) {
    for (name, amount) in wire_amounts(list) {
        let path = path.key(&name);
        name_rule(&name, &path, causes);
        if amount.is_negative() {
            causes.push(Cause::invalid(&path, &amount.to_string(), NOT_NEGATIVE));
        } else if name.contains('/') && amount.signed_millis() % 1000 != 0 {
            causes.push(Cause::invalid(&path, &amount.to_string(), "must be an integer"));
        }
    }
}

fn container_name(name: &str, path: &Path, causes: &mut Vec<Cause>) {
    super::invalid_text(path, name, names::qualified_name(name), causes);
    let standard = is_pod_level_resource(name) || name == "ephemeral-storage";
    if !name.contains('/') && !standard {
        let quota = matches!(name, "pods" | "services" | "secrets" | "configmaps" | "storage");
        if !quota {
            causes.push(Cause::invalid(path, name, "must be a standard resource type or fully qualified"));
        }
        causes.push(Cause::invalid(path, name, "must be a standard resource for containers"));
    } else if name.starts_with("requests.") && name.contains('/') {
        causes.push(Cause::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

fn within_limits(resources: &api::ResourceRequirements, path: &Path, causes: &mut Vec<Cause>) {
    let limits = wire_amounts(resources.limits.as_ref());
    let requests = wire_amounts(resources.requests.as_ref());
    let at = path.child("requests");
    for (name, request) in &requests {
        // Huge pages and extended resources are given out whole: none may be promised twice.
        let whole = name.starts_with("hugepages-") || name.contains('/');
        let place = at.key(name);
        match limits.get(name) {
            Some(limit) if whole && request != limit => {
                let why = format!("must be equal to {name} limit of {limit}");
                causes.push(Cause::invalid(&at, &request.to_string(), &why).at(&place));
            }
            Some(limit) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                causes.push(Cause::invalid(&at, &request.to_string(), &why).at(&place));
            }
            None if whole => {
                causes.push(Cause::required(
                    &path.child("limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
            _ => {}
        }
    }
    let mut named = limits.keys().chain(requests.keys());
    let huge = named.clone().any(|name| name.starts_with("hugepages-"));
    if huge && !named.any(|name| matches!(name.as_str(), "cpu" | "memory")) {
        causes.push(Cause::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn pod_name(name: &str, path: &Path, causes: &mut Vec<Cause>) {
    if !is_pod_level_resource(name) {
        causes.push(Cause::unsupported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Checks `spec.resources`, by itself and against the containers.
pub(super) fn pod_level(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    let overhead = path_of_spec().child("overhead");
    each(spec.overhead.as_ref(), &overhead, |_, _, _| {}, causes);
    let Some(resources) = &spec.resources else { return };
    each(resources.limits.as_ref(), &path.child("limits"), pod_name, causes);
    each(resources.requests.as_ref(), &path.child("requests"), pod_name, causes);
    within_limits(resources, path, causes);
    let requests = wire_amounts(resources.requests.as_ref());
    let aggregated = aggregate_wire(spec, |resources| resources.requests.as_ref());
    for (name, request) in &requests {
        let total = aggregated.get(name).copied().unwrap_or(Quantity::ZERO);
        if is_pod_level_resource(name) && total > *request {
            let path = path.child("requests").key(name);
            let why = format!("must be greater than or equal to aggregate container requests of {total}");
            causes.push(Cause::invalid(&path, &request.to_string(), &why));
        }
    }
    let limits = wire_amounts(resources.limits.as_ref());
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (field, list) in [("containers", spec.containers.as_slice()), ("initContainers", init)] {
        for (index, container) in list.iter().enumerate() {
            let own = wire_amounts(container.resources.as_ref().and_then(|r| r.limits.as_ref()));
            for (name, limit) in own {
                let Some(most) = limits.get(&name).filter(|most| limit > **most) else { continue };
                // The API server builds this path from the wrong end.
                let named = path.child(field).index(index).key(&name).child("limits");
                let place =
                    path_of_spec().child(field).index(index).child("resources").child("limits").key(&name);
                let why = format!("must be less than or equal to pod limits of {most}");
                causes.push(Cause::invalid(&named, &limit.to_string(), &why).at(&place));
            }
        }
    }
}

fn path_of_spec() -> Path {
    Path::new("spec")
}
