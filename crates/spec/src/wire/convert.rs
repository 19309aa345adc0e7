//! From the wire (defaulted, validated, supported) to the domain.
//!
//! Only what the support table calls honoured arrives here. Should something else do so all the same, for instance
//! from a state file of another version, it is an error and never left out.

pub(crate) mod container;
mod life;
mod placement;
mod volume;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1 as api;

use crate::annotations;
use crate::model::{Meta, Pod, PodSecurity, PodSpec, SeccompProfile, SupplementalGroupsPolicy};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::resources::{qos_class, wire_amounts};

/// A value that has no place in the domain.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) path: Path,
    pub(crate) value: String,
}

type Result<T> = std::result::Result<T, Unfit>;

fn unfit<T>(path: &Path, value: impl Into<String>) -> Result<T> {
    Err(Unfit { path: path.clone(), value: value.into() })
}

/// Returns the domain's Pod.
pub(crate) fn pod(wire: &api::Pod) -> Result<Pod> {
    let meta = &wire.metadata;
    let default = api::PodSpec::default();
    let mut spec = spec(wire.spec.as_ref().unwrap_or(&default))?;
    annotated(&mut spec, meta.annotations.as_ref())?;
    Ok(Pod {
        meta: Meta {
            name: string(meta.name.as_ref()),
            namespace: string(meta.namespace.as_ref()),
            uid: string(meta.uid.as_ref()),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or(1),
        },
        spec,
    })
}

/// Fills in what the annotations say.
fn annotated(spec: &mut PodSpec, wire: Option<&BTreeMap<String, String>>) -> Result<()> {
    let Some(wire) = wire else { return Ok(()) };
    let mut mistakes = Vec::new();
    spec.bandwidth = annotations::bandwidth(wire, &mut mistakes);
    annotations::set_probe_periods(wire, spec, &mut mistakes);
    match mistakes.into_iter().next() {
        None => Ok(()),
        Some(mistake) => unfit(&Path::new("metadata").child("annotations").key(mistake.key), mistake.value),
    }
}

/// Returns the domain's spec, without what annotations say.
pub(crate) fn spec(wire: &api::PodSpec) -> Result<PodSpec> {
    let path = Path::new("spec");
    let each = |list: &[api::Container], field: &str| {
        let path = path.child(field);
        list.iter()
            .enumerate()
            .map(|(i, c)| container::container(c, &path.index(i)))
            .collect::<Result<Vec<_>>>()
    };
    let security_path = path.child("securityContext");
    let security = wire.security_context.as_ref();
    let account = present(wire.service_account_name.as_ref()).or(present(wire.service_account.as_ref()));
    let gates = wire.readiness_gates.iter().flatten();
    let mut spec = PodSpec {
        init_containers: each(wire.init_containers.as_deref().unwrap_or_default(), "initContainers")?,
        containers: each(&wire.containers, "containers")?,
        volumes: volume::volumes(wire, &path.child("volumes"))?,
        restart_policy: life::restart_policy(wire.restart_policy.as_deref(), &path.child("restartPolicy"))?
            .unwrap_or_default(),
        termination_grace_period: Duration::from_secs(
            u64::try_from(wire.termination_grace_period_seconds.unwrap_or(30)).unwrap_or(1),
        ),
        host_network: wire.host_network.unwrap_or_default(),
        host_pid: wire.host_pid.unwrap_or_default(),
        host_ipc: wire.host_ipc.unwrap_or_default(),
        share_process_namespace: wire.share_process_namespace.unwrap_or_default(),
        hostname: present(wire.hostname.as_ref()),
        subdomain: present(wire.subdomain.as_ref()),
        hostname_override: present(wire.hostname_override.as_ref()),
        set_hostname_as_fqdn: wire.set_hostname_as_fqdn.unwrap_or_default(),
        node_name: present(wire.node_name.as_ref()),
        service_account_name: account.unwrap_or_else(|| "default".to_owned()),
        security: security
            .map(|context| pod_security(context, &security_path))
            .transpose()?
            .unwrap_or_default(),
        resources: container::resources(wire.resources.as_ref()),
        overhead: wire_amounts(wire.overhead.as_ref()),
        qos_class: crate::model::QosClass::default(),
        priority: wire.priority.unwrap_or_default(),
        active_deadline: match wire.active_deadline_seconds.map(u64::try_from) {
            None => None,
            Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
            Some(Err(_)) => return unfit(&path.child("activeDeadlineSeconds"), "negative"),
        },
        readiness_gates: gates.map(|gate| gate.condition_type.clone()).collect(),
        node_selector: wire.node_selector.clone().unwrap_or_default(),
        node_affinity: placement::node_affinity(wire, &path)?,
        os: wire.os.as_ref().and_then(|os| present(Some(&os.name))),
        host_aliases: placement::host_aliases(wire.host_aliases.as_deref()),
        dns_policy: placement::dns_policy(wire.dns_policy.as_deref(), &path.child("dnsPolicy"))?,
        dns_config: placement::dns_config(wire.dns_config.as_ref()),
        bandwidth: crate::model::Bandwidth::default(),
        image_pull_secrets: placement::pull_secrets(wire.image_pull_secrets.as_deref()),
    };
    spec.qos_class = qos_class(&spec);
    Ok(spec)
}

fn pod_security(wire: &api::PodSecurityContext, path: &Path) -> Result<PodSecurity> {
    let groups = path.child("supplementalGroups");
    let sysctls = wire.sysctls.iter().flatten();
    Ok(PodSecurity {
        run_as_user: id(wire.run_as_user, &path.child("runAsUser"))?,
        run_as_group: id(wire.run_as_group, &path.child("runAsGroup"))?,
        run_as_non_root: wire.run_as_non_root,
        fs_group: id(wire.fs_group, &path.child("fsGroup"))?,
        supplemental_groups: wire
            .supplemental_groups
            .iter()
            .flatten()
            .filter_map(|group| id(Some(*group), &groups).transpose())
            .collect::<Result<_>>()?,
        supplemental_groups_policy: match wire.supplemental_groups_policy.as_deref() {
            None | Some("Merge") => SupplementalGroupsPolicy::Merge,
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            Some(other) => return unfit(&path.child("supplementalGroupsPolicy"), other),
        },
        seccomp: seccomp(wire.seccomp_profile.as_ref(), &path.child("seccompProfile"))?,
        sysctls: sysctls.map(|sysctl| (crate::sysctl::dotted(&sysctl.name), sysctl.value.clone())).collect(),
    })
}

fn seccomp(wire: Option<&api::SeccompProfile>, path: &Path) -> Result<Option<SeccompProfile>> {
    match wire.map(|profile| profile.type_.as_str()) {
        None => Ok(None),
        Some("RuntimeDefault") => Ok(Some(SeccompProfile::RuntimeDefault)),
        Some("Unconfined") => Ok(Some(SeccompProfile::Unconfined)),
        Some(other) => unfit(&path.child("type"), other),
    }
}

fn id(wire: Option<i64>, path: &Path) -> Result<Option<u32>> {
    match wire.map(u32::try_from) {
        None => Ok(None),
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(_)) => unfit(path, wire.unwrap_or_default().to_string()),
    }
}

fn string(field: Option<&String>) -> String {
    field.cloned().unwrap_or_default()
}

/// Returns the text where it is not empty: the API takes both for unset.
fn present(field: Option<&String>) -> Option<String> {
    field.filter(|text| !text.is_empty()).cloned()
}

fn quantity(wire: &k8s_openapi::apimachinery::pkg::api::resource::Quantity, path: &Path) -> Result<Quantity> {
    Quantity::parse(&wire.0).or_else(|_| unfit(path, wire.0.as_str()))
}
