//! Where the variables of a container come from, in kubectl's words.

use podrun_engine::PodView;
use podrun_spec::model::{Container, EnvFrom, EnvSource, FieldPath, ObjectKind};

use super::super::get::pod_document;

/// Returns a line for each variable of its own, with names in one column.
pub(super) fn variables(container: &Container, field: impl Fn(&FieldPath) -> String) -> Vec<String> {
    let width = container.env.iter().map(|variable| variable.name.chars().count()).max().unwrap_or(0) + 1;
    let line = |name: &str, text: String| format!("{:<width$}  {text}", format!("{name}:"));
    container.env.iter().map(|variable| line(&variable.name, text(&variable.source, &field))).collect()
}

/// Returns a line for each object whose keys are variables.
pub(super) fn objects(container: &Container) -> Vec<String> {
    let line = |from: &EnvFrom| {
        let kind = match from.kind {
            ObjectKind::ConfigMap => "ConfigMap",
            ObjectKind::Secret => "Secret",
        };
        let prefix =
            if from.prefix.is_empty() { String::new() } else { format!(" with prefix '{}'", from.prefix) };
        format!("{}  {kind}{prefix}  Optional: {}", from.name, from.optional)
    };
    container.env_from.iter().map(line).collect()
}

/// Returns the value of a field of a Pod as it is now.
pub(super) fn value(view: &PodView, field: &FieldPath) -> String {
    let meta = &view.pod.meta;
    match field {
        FieldPath::Name => meta.name.clone(),
        FieldPath::Namespace => meta.namespace.clone(),
        FieldPath::Uid => meta.uid.clone(),
        FieldPath::Label(key) => meta.labels.get(key).cloned().unwrap_or_default(),
        FieldPath::Annotation(key) => meta.annotations.get(key).cloned().unwrap_or_default(),
        FieldPath::NodeName => view.options.node_name.clone(),
        FieldPath::ServiceAccountName => view.pod.spec.service_account_name.clone(),
        FieldPath::PodIp => view.published.status.pod_ips.first().cloned().unwrap_or_default(),
        FieldPath::PodIps => view.published.status.pod_ips.join(","),
        FieldPath::HostIp => {
            let document = pod_document(view);
            document.pointer("/status/hostIP").and_then(|ip| ip.as_str()).unwrap_or_default().to_owned()
        }
        FieldPath::HostIps => {
            let document = pod_document(view);
            let list = document.pointer("/status/hostIPs").and_then(|ips| ips.as_array());
            let ips: Vec<&str> =
                list.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()).collect();
            ips.join(",")
        }
    }
}

/// Secrets are named, never shown.
fn text(source: &EnvSource, field: &impl Fn(&FieldPath) -> String) -> String {
    match source {
        EnvSource::Value(value) => value.clone(),
        EnvSource::Key { kind, name, key, optional } => {
            let object = match kind {
                ObjectKind::ConfigMap => format!("of config map '{name}'"),
                ObjectKind::Secret => format!("in secret '{name}'"),
            };
            format!("<set to the key '{key}' {object}>  Optional: {optional}")
        }
        EnvSource::Field(path) => format!("{} (v1:{})", field(path), path_text(path)),
        EnvSource::Resource(resource) => {
            let list = if resource.limit { "limits" } else { "requests" };
            let of = resource.container.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            format!("<{list}.{}{of}>", resource.resource)
        }
    }
}

fn path_text(path: &FieldPath) -> String {
    match path {
        FieldPath::Name => "metadata.name".to_owned(),
        FieldPath::Namespace => "metadata.namespace".to_owned(),
        FieldPath::Uid => "metadata.uid".to_owned(),
        FieldPath::Label(key) => format!("metadata.labels['{key}']"),
        FieldPath::Annotation(key) => format!("metadata.annotations['{key}']"),
        FieldPath::NodeName => "spec.nodeName".to_owned(),
        FieldPath::ServiceAccountName => "spec.serviceAccountName".to_owned(),
        FieldPath::HostIp => "status.hostIP".to_owned(),
        FieldPath::HostIps => "status.hostIPs".to_owned(),
        FieldPath::PodIp => "status.podIP".to_owned(),
        FieldPath::PodIps => "status.podIPs".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_described_as_kubectl_does() {
        let text = "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: c
    image: i
    envFrom:
    - {configMapRef: {name: cm}, prefix: CM_}
    - {secretRef: {name: s, optional: true}}
    env:
    - {name: A, value: '$(B) c'}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}
    - {name: K, valueFrom: {configMapKeyRef: {name: cm, key: k, optional: true}}}
    - {name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}
    - {name: M, valueFrom: {resourceFieldRef: {resource: limits.memory, containerName: c}}}
";
        let pod = podrun_spec::parse("p.yaml", text).unwrap().pods.remove(0).pod;
        let container = &pod.spec.containers[0];
        assert_eq!(
            variables(container, |_| "front".to_owned()),
            [
                "A:     $(B) c",
                "TIER:  front (v1:metadata.labels['tier'])",
                "K:     <set to the key 'k' of config map 'cm'>  Optional: true",
                "S:     <set to the key 'k' in secret 's'>  Optional: false",
                "M:     <limits.memory of c>",
            ]
        );
        assert_eq!(
            objects(container),
            ["cm  ConfigMap with prefix 'CM_'  Optional: false", "s  Secret  Optional: true"]
        );
    }
}
