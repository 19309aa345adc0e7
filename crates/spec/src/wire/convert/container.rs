//! Containers.

use k8s_openapi::api::core::v1 as api;

use super::{Result, id, life, present, quantity, seccomp, string, unfit};
use crate::model::{
    Capabilities, Container, ContainerPort, ContainerSecurity, EnvFrom, EnvSource, EnvVar, FieldPath,
    MountPropagation, ObjectKind, Protocol, PullPolicy, RecursiveReadOnly, ResourceField, Resources,
    TerminationMessagePolicy, VolumeMount,
};
use crate::path::Path;
use crate::quantity::Quantity;
use crate::resources::wire_amounts;

pub(super) fn container(wire: &api::Container, path: &Path) -> Result<Container> {
    Ok(Container {
        name: wire.name.clone(),
        image: string(wire.image.as_ref()),
        pull_policy: pull_policy(wire.image_pull_policy.as_deref(), &path.child("imagePullPolicy"))?,
        command: wire.command.clone().unwrap_or_default(),
        args: wire.args.clone().unwrap_or_default(),
        working_dir: present(wire.working_dir.as_ref()),
        ports: each(wire.ports.as_deref(), &path.child("ports"), port)?,
        env_from: each(wire.env_from.as_deref(), &path.child("envFrom"), env_from)?,
        env: each(wire.env.as_deref(), &path.child("env"), env)?,
        resources: resources(wire.resources.as_ref()),
        volume_mounts: each(wire.volume_mounts.as_deref(), &path.child("volumeMounts"), mount)?,
        termination_message_path: string(wire.termination_message_path.as_ref()),
        termination_message_policy: match wire.termination_message_policy.as_deref() {
            Some("File") => TerminationMessagePolicy::File,
            Some("FallbackToLogsOnError") => TerminationMessagePolicy::FallbackToLogsOnError,
            other => return unfit(&path.child("terminationMessagePolicy"), other.unwrap_or_default()),
        },
        security: match &wire.security_context {
            Some(context) => security(context, &path.child("securityContext"))?,
            None => ContainerSecurity::default(),
        },
        life: life::life(wire, path)?,
    })
}

/// Returns when an image is pulled.
pub(super) fn pull_policy(wire: Option<&str>, path: &Path) -> Result<PullPolicy> {
    match wire {
        Some("Always") => Ok(PullPolicy::Always),
        Some("IfNotPresent") => Ok(PullPolicy::IfNotPresent),
        Some("Never") => Ok(PullPolicy::Never),
        other => unfit(path, other.unwrap_or_default()),
    }
}

/// Converts each element of a list.
pub(super) fn each<W, T>(wire: Option<&[W]>, path: &Path, one: fn(&W, &Path) -> Result<T>) -> Result<Vec<T>> {
    let wire = wire.unwrap_or_default();
    wire.iter().enumerate().map(|(index, element)| one(element, &path.index(index))).collect()
}

/// Returns requests and limits.
pub(super) fn resources(wire: Option<&api::ResourceRequirements>) -> Resources {
    Resources {
        requests: wire_amounts(wire.and_then(|resources| resources.requests.as_ref())),
        limits: wire_amounts(wire.and_then(|resources| resources.limits.as_ref())),
    }
}

fn port(wire: &api::ContainerPort, path: &Path) -> Result<ContainerPort> {
    let number = |value: i32, field: &str| {
        u16::try_from(value).or_else(|_| unfit(&path.child(field), value.to_string()))
    };
    Ok(ContainerPort {
        name: present(wire.name.as_ref()),
        container_port: number(wire.container_port, "containerPort")?,
        host_port: match wire.host_port {
            None | Some(0) => None,
            Some(port) => Some(number(port, "hostPort")?),
        },
        host_ip: present(wire.host_ip.as_ref()),
        protocol: match wire.protocol.as_deref() {
            Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            other => return unfit(&path.child("protocol"), other.unwrap_or_default()),
        },
    })
}

fn env_from(wire: &api::EnvFromSource, path: &Path) -> Result<EnvFrom> {
    let (kind, name, optional) = match (&wire.config_map_ref, &wire.secret_ref) {
        (Some(object), None) => (ObjectKind::ConfigMap, object.name.clone(), object.optional),
        (None, Some(object)) => (ObjectKind::Secret, object.name.clone(), object.optional),
        _ => return unfit(path, ""),
    };
    Ok(EnvFrom { prefix: string(wire.prefix.as_ref()), kind, name, optional: optional.unwrap_or_default() })
}

fn env(wire: &api::EnvVar, path: &Path) -> Result<EnvVar> {
    let source = match &wire.value_from {
        None => EnvSource::Value(string(wire.value.as_ref())),
        Some(source) => env_source(source, &path.child("valueFrom"))?,
    };
    Ok(EnvVar { name: wire.name.clone(), source })
}

fn env_source(wire: &api::EnvVarSource, path: &Path) -> Result<EnvSource> {
    let key = |kind, name: &str, key: &str, optional: Option<bool>| EnvSource::Key {
        kind,
        name: name.to_owned(),
        key: key.to_owned(),
        optional: optional.unwrap_or_default(),
    };
    if let Some(source) = &wire.config_map_key_ref {
        return Ok(key(ObjectKind::ConfigMap, &source.name, &source.key, source.optional));
    }
    if let Some(source) = &wire.secret_key_ref {
        return Ok(key(ObjectKind::Secret, &source.name, &source.key, source.optional));
    }
    if let Some(source) = &wire.field_ref {
        let path = path.child("fieldRef").child("fieldPath");
        return field_path(&source.field_path)
            .map_or_else(|| unfit(&path, &*source.field_path), |f| Ok(EnvSource::Field(f)));
    }
    if let Some(source) = &wire.resource_field_ref {
        let path = path.child("resourceFieldRef");
        let Some((kind, resource)) = source.resource.split_once('.') else {
            return unfit(&path.child("resource"), &*source.resource);
        };
        let divisor = match &source.divisor {
            Some(divisor) => quantity(divisor, &path.child("divisor"))?,
            None => Quantity::ZERO,
        };
        return Ok(EnvSource::Resource(ResourceField {
            container: present(source.container_name.as_ref()),
            limit: kind == "limits",
            resource: resource.to_owned(),
            // No divisor, which defaulting writes as 0, means 1.
            divisor: if divisor.is_zero() { Quantity::from_units(1) } else { divisor },
        }));
    }
    unfit(path, "")
}

/// Returns the field that a path names.
pub(crate) fn field_path(path: &str) -> Option<FieldPath> {
    let key_of = |map: &str| {
        let rest = path.strip_prefix(map)?.strip_prefix("['")?;
        Some(rest.strip_suffix("']")?.to_owned())
    };
    match path {
        "metadata.name" => Some(FieldPath::Name),
        "metadata.namespace" => Some(FieldPath::Namespace),
        "metadata.uid" => Some(FieldPath::Uid),
        "spec.nodeName" => Some(FieldPath::NodeName),
        "spec.serviceAccountName" => Some(FieldPath::ServiceAccountName),
        "status.hostIP" => Some(FieldPath::HostIp),
        "status.hostIPs" => Some(FieldPath::HostIps),
        "status.podIP" => Some(FieldPath::PodIp),
        "status.podIPs" => Some(FieldPath::PodIps),
        _ => key_of("metadata.labels")
            .map(FieldPath::Label)
            .or_else(|| key_of("metadata.annotations").map(FieldPath::Annotation)),
    }
}

fn mount(wire: &api::VolumeMount, path: &Path) -> Result<VolumeMount> {
    Ok(VolumeMount {
        name: wire.name.clone(),
        // A relative path starts at the root.
        mount_path: if wire.mount_path.starts_with('/') {
            wire.mount_path.clone()
        } else {
            format!("/{}", wire.mount_path)
        },
        sub_path: present(wire.sub_path.as_ref()),
        sub_path_expr: present(wire.sub_path_expr.as_ref()),
        read_only: wire.read_only.unwrap_or_default(),
        recursive_read_only: match wire.recursive_read_only.as_deref() {
            None | Some("Disabled") => RecursiveReadOnly::Disabled,
            Some("IfPossible") => RecursiveReadOnly::IfPossible,
            Some("Enabled") => RecursiveReadOnly::Enabled,
            Some(other) => return unfit(&path.child("recursiveReadOnly"), other),
        },
        propagation: match wire.mount_propagation.as_deref() {
            None | Some("None") => MountPropagation::None,
            Some("HostToContainer") => MountPropagation::HostToContainer,
            Some("Bidirectional") => MountPropagation::Bidirectional,
            Some(other) => return unfit(&path.child("mountPropagation"), other),
        },
    })
}

fn security(wire: &api::SecurityContext, path: &Path) -> Result<ContainerSecurity> {
    let capabilities = wire.capabilities.as_ref();
    let names =
        |list: Option<&Vec<String>>| list.into_iter().flatten().map(|name| capability(name)).collect();
    Ok(ContainerSecurity {
        run_as_user: id(wire.run_as_user, &path.child("runAsUser"))?,
        run_as_group: id(wire.run_as_group, &path.child("runAsGroup"))?,
        run_as_non_root: wire.run_as_non_root,
        privileged: wire.privileged.unwrap_or_default(),
        read_only_root_filesystem: wire.read_only_root_filesystem.unwrap_or_default(),
        allow_privilege_escalation: wire.allow_privilege_escalation,
        capabilities: Capabilities {
            add: names(capabilities.and_then(|list| list.add.as_ref())),
            drop: names(capabilities.and_then(|list| list.drop.as_ref())),
        },
        seccomp: seccomp(wire.seccomp_profile.as_ref(), &path.child("seccompProfile"))?,
    })
}

/// Returns a capability's name in upper case and without `CAP_`.
pub(crate) fn capability(name: &str) -> String {
    let name = name.to_uppercase();
    name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)
}
