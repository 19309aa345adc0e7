//! The Pod and what its containers share.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;

use super::container::{Kind, Surroundings};
use super::{Cause, affinity, container, dns, names, one_of, optional_text, os, resources, security, volume};
use crate::path::Path;

/// Adds why an API server would refuse the Pod, which has its defaults.
pub(crate) fn pod(pod: &api::Pod, causes: &mut Vec<Cause>) {
    super::metadata(&pod.metadata, causes);
    let Some(spec) = &pod.spec else { return };
    let path = Path::new("spec");
    let volumes =
        volume::volumes(spec.volumes.as_deref().unwrap_or_default(), &path.child("volumes"), causes);
    containers(spec, &path, volumes, causes);
    let security = spec.security_context.as_ref();
    security::pod(security, &path.child("securityContext"), causes);
    words(spec, &path, causes);
    hosts(spec, &path, causes);
    dns::policy(spec, &path, causes);
    affinity::nodes(spec, &path, causes);
    os::os(spec, &path, causes);
    resources::pod_level(spec, &path.child("resources"), causes);
    tolerations(spec, &path.child("tolerations"), causes);
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        super::invalid_text(&path, &gate.condition_type, names::qualified_name(&gate.condition_type), causes);
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let path = path.child("activeDeadlineSeconds");
        causes.push(Cause::out_of_range(&path, seconds, 1, i64::from(i32::MAX)));
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        causes.push(Cause::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
}

fn containers(spec: &api::PodSpec, path: &Path, volumes: Vec<String>, causes: &mut Vec<Cause>) {
    let around = Surroundings {
        volumes,
        host_network: spec.host_network.unwrap_or(false),
        host_users: spec.host_users.unwrap_or(true),
        restart_policy: spec.restart_policy.clone().unwrap_or_default(),
        grace: spec.termination_grace_period_seconds.unwrap_or_default(),
        os: spec.os.as_ref().map(|os| os.name.clone()).unwrap_or_default(),
    };
    let regular = path.child("containers");
    if spec.containers.is_empty() {
        causes.push(Cause::required(&regular, ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let regular = spec.containers.iter().enumerate().map(|(i, c)| (regular.index(i), c, Kind::Regular));
    let init = init.iter().enumerate().map(|(i, c)| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        (path.child("initContainers").index(i), c, if sidecar { Kind::Sidecar } else { Kind::Init })
    });
    let mut ports = Vec::new();
    for (path, one, kind) in regular.chain(init) {
        container::container(one, &path, kind, &around, causes);
        if !one.name.is_empty() && seen.contains(&one.name.as_str()) {
            causes.push(Cause::duplicate(&path.child("name"), &one.name));
        }
        seen.push(&one.name);
        // Init containers run one by one, so only their own ports can be in each other's way.
        if kind != Kind::Regular {
            ports.clear();
        }
        super::ports::conflicts(
            one.ports.as_deref().unwrap_or_default(),
            &path.child("ports"),
            &mut ports,
            causes,
        );
    }
}

fn words(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    let policies = ["Always", "OnFailure", "Never"];
    one_of(&path.child("restartPolicy"), spec.restart_policy.as_ref(), &policies, causes);
    let policies = ["Never", "PreemptLowerPriority"];
    one_of(&path.child("preemptionPolicy"), spec.preemption_policy.as_ref(), &policies, causes);
    for (field, value) in [
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
        ("serviceAccountName", &spec.service_account_name),
    ] {
        optional_text(&path.child(field), value.as_ref(), names::dns_subdomain, causes);
    }
    if let Some(os) = &spec.os {
        match os.name.as_str() {
            "linux" | "windows" => {}
            "" => causes.push(Cause::required(&path.child("os").child("name"), "cannot be empty")),
            other => causes.push(Cause::unsupported(&path.child("os"), other, &["linux", "windows"])),
        }
    }
}

/// Host names, and namespaces taken from the host.
fn hosts(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    optional_text(&path.child("hostname"), spec.hostname.as_ref(), names::dns_label, causes);
    optional_text(&path.child("subdomain"), spec.subdomain.as_ref(), names::dns_label, causes);
    let on = |flag: Option<bool>| flag.unwrap_or(false);
    if let Some(name) = &spec.hostname_override {
        let path = path.child("hostnameOverride");
        optional_text(&path, Some(name), names::dns_subdomain, causes);
        if name.len() > 64 {
            causes.push(Cause::invalid(&path, name, "must be no more than 64 characters"));
        }
        if on(spec.set_hostname_as_fqdn) {
            causes.push(Cause::forbidden(&path, "may not be specified when setHostnameAsFQDN is true"));
        }
        if on(spec.host_network) {
            causes.push(Cause::forbidden(&path, "may not be specified when hostNetwork is true"));
        }
    }
    if on(spec.share_process_namespace) && on(spec.host_pid) {
        // The API server files this under the security context.
        let named = path.child("securityContext").child("shareProcessNamespace");
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        causes.push(Cause::invalid_raw(&named, true, why).at(&path.child("shareProcessNamespace")));
    }
    if spec.host_users == Some(false) {
        for (set, named, field) in [
            (spec.host_network, "hostNetwork", "hostNetwork"),
            (spec.host_pid, "HostPID", "hostPID"),
            (spec.host_ipc, "HostIPC", "hostIPC"),
        ] {
            if on(set) {
                let cause = Cause::forbidden(&path.child(named), "when `hostUsers` is false");
                causes.push(cause.at(&path.child(field)));
            }
        }
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(index);
        if alias.ip.parse::<IpAddr>().is_err() {
            causes.push(Cause::invalid(&path.child("ip"), &alias.ip, dns::NO_ADDRESS));
        }
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            super::invalid_text(
                &path.child("hostnames").index(index),
                name,
                names::dns_subdomain(name),
                causes,
            );
        }
    }
}

fn tolerations(spec: &api::PodSpec, path: &Path, causes: &mut Vec<Cause>) {
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        let path = path.index(index);
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        if !key.is_empty() {
            super::invalid_text(&path.child("key"), key, names::qualified_name(key), causes);
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            causes.push(Cause::invalid(&path.child("operator"), operator, why));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.push(Cause::invalid(&path.child("effect"), effect, why));
        }
        match operator {
            "" | "Equal" => {
                super::invalid_text(&path.child("operator"), value, names::label_value(value), causes);
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                causes.push(Cause::invalid(&path.child("operator"), value, why));
            }
            "Exists" => {}
            other => causes.push(Cause::unsupported(&path.child("operator"), other, &["Equal", "Exists"])),
        }
        let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
        if !effects.contains(&effect) {
            causes.push(Cause::unsupported(&path.child("effect"), effect, &effects[1..]));
        }
    }
}
