//! Environment variables.

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use super::{Cause, names};
use crate::path::Path;
use crate::quantity::Quantity;

pub(super) fn env(env: &[api::EnvVar], path: &Path, causes: &mut Vec<Cause>) {
    for (index, variable) in env.iter().enumerate() {
        let path = path.index(index);
        if variable.name.is_empty() {
            causes.push(Cause::required(&path.child("name"), ""));
        } else {
            super::invalid_text(&path.child("name"), &variable.name, names::env_name(&variable.name), causes);
        }
        if let Some(source) = &variable.value_from {
            let has_value = variable.value.as_ref().is_some_and(|value| !value.is_empty());
            value_from(source, has_value, &path.child("valueFrom"), causes);
        }
    }
}

fn value_from(source: &api::EnvVarSource, has_value: bool, path: &Path, causes: &mut Vec<Cause>) {
    let mut count = 0;
    if let Some(field) = &source.field_ref {
        count += 1;
        field_ref(field, ENV_FIELDS, &path.child("fieldRef"), causes);
    }
    if let Some(field) = &source.resource_field_ref {
        count += 1;
        resource_ref(field, &path.child("resourceFieldRef"), causes);
    }
    if let Some(key) = &source.config_map_key_ref {
        count += 1;
        key_ref(&key.name, &key.key, &path.child("configMapKeyRef"), causes);
    }
    if let Some(key) = &source.secret_key_ref {
        count += 1;
        key_ref(&key.name, &key.key, &path.child("secretKeyRef"), causes);
    }
    if source.file_key_ref.is_some() {
        count += 1;
    }
    if count == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        causes.push(Cause::invalid(path, "", why));
    }
    if has_value && count > 0 {
        causes.push(Cause::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if count > 1 {
        causes.push(Cause::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn key_ref(name: &str, key: &str, path: &Path, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        causes.push(Cause::required(&path.child("name"), ""));
    }
    if key.is_empty() {
        causes.push(Cause::required(&path.child("key"), ""));
    } else {
        super::invalid_text(&path.child("key"), key, names::config_key(key), causes);
    }
}

/// What a variable may be taken from.
pub(super) const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a file of a volume may be taken from.
pub(super) const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Other fields that the API knows by path but gives to nobody.
const OTHER_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "spec.hostNetwork",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.nominatedNodeName",
    "status.phase",
];

pub(super) fn field_ref(
    field: &api::ObjectFieldSelector,
    supported: &[&str],
    path: &Path,
    causes: &mut Vec<Cause>,
) {
    let path = path.child("fieldPath");
    let text = field.field_path.as_str();
    if text.is_empty() {
        causes.push(Cause::required(&path, ""));
        return;
    }
    let subscript = text.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            super::invalid_text(&path, key, names::qualified_name(&key.to_lowercase()), causes);
        }
        Some(("metadata.labels", key)) => super::invalid_text(&path, key, names::label_key(key), causes),
        Some((_, _)) => {
            let why = format!("error converting fieldPath: field label does not support subscript: {text}");
            causes.push(Cause::invalid(&path, text, &why));
        }
        None if supported.contains(&text) => {}
        None if OTHER_FIELDS.contains(&text) || ENV_FIELDS.contains(&text) => {
            causes.push(Cause::unsupported(&path, text, supported));
        }
        None => {
            let why = format!("error converting fieldPath: field label not supported: {text}");
            causes.push(Cause::invalid(&path, text, &why));
        }
    }
}

pub(super) fn resource_ref(field: &api::ResourceFieldSelector, path: &Path, causes: &mut Vec<Cause>) {
    let supported = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = field.resource.as_str();
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if resource.is_empty() {
        causes.push(Cause::required(&path.child("resource"), ""));
    } else if !huge && !supported.contains(&resource) {
        causes.push(Cause::unsupported(&path.child("resource"), resource, &supported));
    } else {
        divisor(resource, field.divisor.as_ref(), &path.child("divisor"), causes);
    }
}

const SIZES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// The API server puts the resource, not the divisor, into its message.
fn divisor(resource: &str, divisor: Option<&WireQuantity>, path: &Path, causes: &mut Vec<Cause>) {
    let Some(Ok(divisor)) = divisor.map(|quantity| Quantity::parse(&quantity.0)) else { return };
    let name = resource.split_once('.').map_or(resource, |(_, name)| name);
    let (allowed, listed, called) = match name {
        "cpu" => (&["1m", "1"][..], "1m and 1".to_owned(), "cpu"),
        "memory" => (&SIZES[..], SIZES.join(", "), "memory"),
        "ephemeral-storage" => (&SIZES[..], SIZES.join(", "), "local ephemeral storage"),
        _ => (&SIZES[..], SIZES.join(", "), "hugepages"),
    };
    if divisor.is_zero() || allowed.iter().any(|text| Quantity::parse(text).as_ref() == Ok(&divisor)) {
        return;
    }
    let why = format!("only divisor's values {listed} are supported with the {called} resource");
    causes.push(Cause::invalid(path, resource, &why));
}

pub(super) fn env_from(list: &[api::EnvFromSource], path: &Path, causes: &mut Vec<Cause>) {
    for (index, source) in list.iter().enumerate() {
        let place = path.index(index);
        super::optional_text(&place.child("prefix"), source.prefix.as_ref(), names::env_name, causes);
        let objects = [
            ("configMapRef", source.config_map_ref.as_ref().map(|object| &object.name)),
            ("secretRef", source.secret_ref.as_ref().map(|object| &object.name)),
        ];
        let mut count = 0;
        for (field, name) in objects.into_iter().filter_map(|(field, name)| Some((field, name?))) {
            count += 1;
            let path = place.child(field).child("name");
            if name.is_empty() {
                causes.push(Cause::required(&path, ""));
            } else {
                super::invalid_text(&path, name, names::dns_subdomain(name), causes);
            }
        }
        // Both messages name the list only.
        if count == 0 {
            let why = "must specify one of: `configMapRef` or `secretRef`";
            causes.push(Cause::invalid(path, "", why).at(&place));
        } else if count > 1 {
            let why = "may not have more than one field specified at a time";
            causes.push(Cause::invalid(path, "", why).at(&place));
        }
    }
}
