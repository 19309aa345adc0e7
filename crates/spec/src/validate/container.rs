//! Containers.

use k8s_openapi::api::core::v1 as api;

use super::{Cause, env, handlers, names, one_of, ports, resources, security};
use crate::path::Path;

/// What rules a container follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    /// An init container that keeps running.
    Sidecar,
    Init,
}

/// What a container's rules depend on.
pub(super) struct Surroundings {
    /// Names of the Pod's volumes.
    pub(super) volumes: Vec<String>,
    pub(super) host_network: bool,
    pub(super) host_users: bool,
    pub(super) restart_policy: String,
    pub(super) grace: i64,
    /// `os.name`; empty where none is set.
    pub(super) os: String,
}

pub(super) fn container(
    container: &api::Container,
    path: &Path,
    kind: Kind,
    around: &Surroundings,
    causes: &mut Vec<Cause>,
) {
    let name = path.child("name");
    if container.name.is_empty() {
        causes.push(Cause::required(&name, ""));
    } else {
        super::invalid_text(&name, &container.name, names::dns_label(&container.name), causes);
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        causes.push(Cause::required(&path.child("image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        causes.push(Cause::invalid(&path.child("image"), image, why));
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    one_of(&path.child("imagePullPolicy"), container.image_pull_policy.as_ref(), &policies, causes);
    let policies = ["File", "FallbackToLogsOnError"];
    let policy = container.termination_message_policy.as_ref();
    one_of(&path.child("terminationMessagePolicy"), policy, &policies, causes);
    handlers::all(container, path, kind, around, causes);
    ports::ports(container.ports.as_deref().unwrap_or_default(), &path.child("ports"), around, causes);
    env::env_from(container.env_from.as_deref().unwrap_or_default(), &path.child("envFrom"), causes);
    env::env(container.env.as_deref().unwrap_or_default(), &path.child("env"), causes);
    mounts(container, &path.child("volumeMounts"), around, causes);
    devices(container, &path.child("volumeDevices"), around, causes);
    resources::container(container.resources.as_ref(), &path.child("resources"), causes);
    restart_rules(container, path, causes);
    resize_policy(container, &path.child("resizePolicy"), around, causes);
    let context = container.security_context.as_ref();
    security::container(context, &path.child("securityContext"), around.host_users, causes);
}

/// Several messages about mounts name the list only, as the API server's do.
fn mounts(container: &api::Container, path: &Path, around: &Surroundings, causes: &mut Vec<Cause>) {
    let privileged =
        container.security_context.as_ref().and_then(|context| context.privileged).unwrap_or(false);
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    for (index, mount) in mounts.iter().enumerate() {
        let place = path.index(index);
        let mut push = |field: &str, make: &dyn Fn(&Path) -> Cause| {
            causes.push(make(&path.child(field)).at(&place.child(field)));
        };
        let (sub_path, expression) = (
            mount.sub_path.as_deref().unwrap_or_default(),
            mount.sub_path_expr.as_deref().unwrap_or_default(),
        );
        for (field, value) in [("subPath", sub_path), ("subPathExpr", expression)] {
            for why in descending_path(value) {
                push(field, &|path| Cause::invalid(path, value, &why));
            }
        }
        let modes = ["Bidirectional", "HostToContainer", "None"];
        let propagation = mount.mount_propagation.as_deref();
        match propagation {
            Some("Bidirectional") if !privileged => {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                push("mountPropagation", &|path| Cause::forbidden(path, why));
            }
            Some(mode) if !modes.contains(&mode) => {
                push("mountPropagation", &|path| Cause::unsupported(path, mode, &modes));
            }
            _ => {}
        }
        let modes = ["Disabled", "Enabled", "IfPossible"];
        match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => {
                if mount.read_only != Some(true) {
                    let why = "may only be specified when readOnly is true";
                    push("recursiveReadOnly", &|path| Cause::forbidden(path, why));
                }
                if !matches!(propagation, None | Some("None")) {
                    let why = "may only be specified when mountPropagation is None or not specified";
                    push("recursiveReadOnly", &|path| Cause::forbidden(path, why));
                }
            }
            Some(mode) if !modes.contains(&mode) => {
                push("recursiveReadOnly", &|path| Cause::unsupported(path, mode, &modes));
            }
            _ => {}
        }
        if mount.name.is_empty() {
            causes.push(Cause::required(&place.child("name"), ""));
        } else if !around.volumes.contains(&mount.name) {
            causes.push(Cause::new(&place.child("name"), format!("Not found: {:?}", mount.name)));
        }
        if mount.mount_path.is_empty() {
            causes.push(Cause::required(&place.child("mountPath"), ""));
        } else if mounts[..index].iter().any(|earlier| earlier.mount_path == mount.mount_path) {
            causes.push(Cause::invalid(&place.child("mountPath"), &mount.mount_path, "must be unique"));
        }
        if !sub_path.is_empty() && !expression.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            causes.push(Cause::invalid(&place.child("subPathExpr"), expression, why));
        }
    }
}

/// Returns why a path does not lead downwards from a directory.
pub(super) fn descending_path(path: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if path.starts_with('/') {
        reasons.push("must be a relative path".to_owned());
    }
    reasons.extend(names::dots(path));
    reasons
}

fn devices(container: &api::Container, path: &Path, around: &Surroundings, causes: &mut Vec<Cause>) {
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    if !devices.is_empty() && !around.host_users {
        causes.push(Cause::forbidden(path, "when `hostUsers` is false"));
    }
    for (index, device) in devices.iter().enumerate() {
        let path = path.index(index);
        for (field, value) in [("name", &device.name), ("devicePath", &device.device_path)] {
            if value.is_empty() {
                causes.push(Cause::required(&path.child(field), ""));
            }
        }
    }
}

fn restart_rules(container: &api::Container, path: &Path, causes: &mut Vec<Cause>) {
    let policy = path.child("restartPolicy");
    one_of(&policy, container.restart_policy.as_ref(), &["Always", "Never", "OnFailure"], causes);
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    if !rules.is_empty() && container.restart_policy.is_none() {
        causes.push(Cause::required(&policy, "must specify restartPolicy when restart rules are used"));
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        causes.push(Cause::new(&path, format!("Too long: {}: must have at most 20 items", rules.len())));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        one_of(&path.child("action"), Some(&rule.action), &["Restart", "RestartAllContainers"], causes);
        let path = path.child("exitCodes");
        let Some(codes) = &rule.exit_codes else {
            causes.push(Cause::required(&path, "must be specified"));
            continue;
        };
        one_of(&path.child("operator"), Some(&codes.operator), &["In", "NotIn"], causes);
        let count = codes.values.as_ref().map_or(0, Vec::len);
        if count > 255 {
            causes.push(Cause::new(&path.child("values"), "Too long: must have at most 255 items"));
        }
    }
}

fn resize_policy(container: &api::Container, path: &Path, around: &Surroundings, causes: &mut Vec<Cause>) {
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    for (index, policy) in policies.iter().enumerate() {
        let (resource, restart) = (&policy.resource_name, &policy.restart_policy);
        if policies[..index].iter().any(|earlier| earlier.resource_name == *resource) {
            causes.push(Cause::duplicate(path, resource).at(&path.index(index)));
        }
        one_of(path, Some(resource), &["cpu", "memory"], causes);
        one_of(path, Some(restart), &["NotRequired", "RestartContainer"], causes);
        if around.restart_policy == "Never" && restart == "RestartContainer" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            causes.push(Cause::invalid(path, restart, why).at(&path.index(index)));
        }
    }
}
