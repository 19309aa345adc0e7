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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::annotations;
    use crate::model::{DnsPolicy, EnvSource, FieldPath, Pod, Protocol};
    use crate::wire::convert;

    /// Returns the Pod with these fields beside one container; the support table, which refuses some, is not asked.
    fn pod(meta: Json, spec: Json, container: Json) -> Pod {
        let merged = |mut base: Json, more: Json| {
            let Json::Object(more) = more else { panic!("an object") };
            base.as_object_mut().unwrap().extend(more);
            base
        };
        let container = merged(json!({"name": "c", "image": "i:1"}), container);
        let json = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": merged(json!({"name": "p"}), meta),
            "spec": merged(json!({"containers": [container]}), spec),
        });
        let mut causes = Vec::new();
        let wire = crate::manifest::api_pod(&json, &mut causes).unwrap();
        annotations::check(&wire, &mut causes);
        assert!(causes.is_empty(), "{causes:?}");
        convert::pod(&wire).unwrap()
    }

    #[test]
    fn names_and_resolvers_reach_the_domain() {
        let spec = json!({
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b.c"]}, {"ip": "::1"}],
            "dnsPolicy": "None",
            "dnsConfig": {
                "nameservers": ["1.1.1.1"],
                "searches": ["a.b", "."],
                "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
            },
            "imagePullSecrets": [{"name": "one"}, {}, {"name": "two"}],
        });
        let spec = pod(json!({}), spec, json!({})).spec;
        assert_eq!((spec.host_aliases[0].ip.as_str(), spec.host_aliases[0].hostnames.len()), ("1.2.3.4", 2));
        assert_eq!((spec.host_aliases[1].ip.as_str(), spec.host_aliases[1].hostnames.len()), ("::1", 0));
        assert_eq!(spec.dns_policy, DnsPolicy::None);
        assert_eq!((spec.dns_config.nameservers.len(), spec.dns_config.searches.len()), (1, 2));
        let options = [("ndots".to_owned(), Some("2".to_owned())), ("rotate".to_owned(), None)];
        assert_eq!(spec.dns_config.options, options);
        assert_eq!(spec.image_pull_secrets, ["one", "two"]);
        for (policy, expected) in [
            ("ClusterFirst", DnsPolicy::ClusterFirst),
            ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
            ("Default", DnsPolicy::Default),
        ] {
            let spec = pod(json!({}), json!({"dnsPolicy": policy}), json!({})).spec;
            assert_eq!(spec.dns_policy, expected);
        }
    }

    #[test]
    fn ports_of_the_host_reach_the_domain() {
        let ports = json!({"ports": [
            {"containerPort": 53, "hostPort": 5353, "hostIP": "127.0.0.1", "protocol": "UDP"},
            {"containerPort": 80},
        ]});
        let spec = pod(json!({}), json!({}), ports.clone()).spec;
        let port = &spec.containers[0].ports[0];
        assert_eq!(
            (port.container_port, port.host_port, port.host_ip.as_deref(), port.protocol),
            (53, Some(5353), Some("127.0.0.1"), Protocol::Udp)
        );
        assert_eq!(spec.containers[0].ports[1].host_port, None);
        let ports = json!({"ports": [{"containerPort": 80}]});
        let spec = pod(json!({}), json!({"hostNetwork": true}), ports).spec;
        assert_eq!(
            spec.containers[0].ports[0].host_port,
            Some(80),
            "in the host's network they are the same"
        );
    }

    #[test]
    fn bandwidth_reaches_the_domain() {
        let annotations = json!({"annotations": {
            "kubernetes.io/ingress-bandwidth": "10M",
            "kubernetes.io/egress-bandwidth": "1Gi",
            "podrun.io/egress-burst": "64k",
            "podrun.io/unshaped-subnets": "10.0.0.0/8",
        }});
        let bandwidth = pod(annotations, json!({}), json!({})).spec.bandwidth;
        assert_eq!((bandwidth.ingress, bandwidth.egress), (Some(10_000_000), Some(1 << 30)));
        assert_eq!((bandwidth.ingress_burst, bandwidth.egress_burst), (None, Some(64_000)));
        assert_eq!((bandwidth.unshaped, bandwidth.cni), (vec!["10.0.0.0/8".to_owned()], false));
    }

    #[test]
    fn addresses_in_the_environment_reach_the_domain() {
        for (path, expected) in [
            ("status.podIP", FieldPath::PodIp),
            ("status.podIPs", FieldPath::PodIps),
            ("status.hostIP", FieldPath::HostIp),
            ("status.hostIPs", FieldPath::HostIps),
        ] {
            let env = json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]});
            let spec = pod(json!({}), json!({}), env).spec;
            assert_eq!(spec.containers[0].env[0].source, EnvSource::Field(expected));
        }
    }
}
