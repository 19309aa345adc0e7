//! Where the Pod may run, and what it wants of its network.

use k8s_openapi::api::core::v1 as api;

use super::container::each;
use super::{Result, present, string, unfit};
use crate::model::{DnsConfig, DnsPolicy, HostAlias, NodeOperator, NodeRequirement, NodeSelectorTerm};
use crate::path::Path;

/// Returns the terms of the required node affinity, where there is one.
pub(super) fn node_affinity(spec: &api::PodSpec, path: &Path) -> Result<Option<Vec<NodeSelectorTerm>>> {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let path = path
        .child("affinity")
        .child("nodeAffinity")
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    required.map(|selector| each(Some(&selector.node_selector_terms), &path, term)).transpose()
}

fn term(wire: &api::NodeSelectorTerm, path: &Path) -> Result<NodeSelectorTerm> {
    Ok(NodeSelectorTerm {
        expressions: each(wire.match_expressions.as_deref(), &path.child("matchExpressions"), requirement)?,
        fields: each(wire.match_fields.as_deref(), &path.child("matchFields"), requirement)?,
    })
}

fn requirement(wire: &api::NodeSelectorRequirement, path: &Path) -> Result<NodeRequirement> {
    Ok(NodeRequirement {
        key: wire.key.clone(),
        operator: match wire.operator.as_str() {
            "In" => NodeOperator::In,
            "NotIn" => NodeOperator::NotIn,
            "Exists" => NodeOperator::Exists,
            "DoesNotExist" => NodeOperator::DoesNotExist,
            "Gt" => NodeOperator::Gt,
            "Lt" => NodeOperator::Lt,
            other => return unfit(&path.child("operator"), other),
        },
        values: wire.values.clone().unwrap_or_default(),
    })
}

pub(super) fn dns_policy(wire: Option<&str>, path: &Path) -> Result<DnsPolicy> {
    match wire {
        None | Some("" | "ClusterFirst") => Ok(DnsPolicy::ClusterFirst),
        Some("ClusterFirstWithHostNet") => Ok(DnsPolicy::ClusterFirstWithHostNet),
        Some("Default") => Ok(DnsPolicy::Default),
        Some("None") => Ok(DnsPolicy::None),
        Some(other) => unfit(path, other),
    }
}

pub(super) fn dns_config(wire: Option<&api::PodDNSConfig>) -> DnsConfig {
    let Some(wire) = wire else { return DnsConfig::default() };
    let options = wire.options.iter().flatten();
    DnsConfig {
        nameservers: wire.nameservers.clone().unwrap_or_default(),
        searches: wire.searches.clone().unwrap_or_default(),
        // An option without a value differs from one with an empty value: `rotate`, `ndots:`.
        options: options.map(|option| (string(option.name.as_ref()), option.value.clone())).collect(),
    }
}

pub(super) fn host_aliases(wire: Option<&[api::HostAlias]>) -> Vec<HostAlias> {
    let aliases = wire.unwrap_or_default().iter();
    aliases
        .map(|alias| HostAlias {
            ip: alias.ip.clone(),
            hostnames: alias.hostnames.clone().unwrap_or_default(),
        })
        .collect()
}

/// Returns the names of the Secrets; an entry without a name says nothing.
pub(super) fn pull_secrets(wire: Option<&[api::LocalObjectReference]>) -> Vec<String> {
    wire.unwrap_or_default().iter().filter_map(|secret| present(Some(&secret.name))).collect()
}
