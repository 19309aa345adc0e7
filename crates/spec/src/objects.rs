//! ConfigMaps and Secrets of a manifest.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value as Json;

use crate::model::{Object, ObjectKind};
use crate::path::Path;
use crate::validate::{Cause, names};

/// A field with the values that it holds.
type List = (&'static str, BTreeMap<String, Vec<u8>>);

/// Returns the object with its values decoded and merged; of a Secret's, `stringData` wins.
pub(crate) fn object(json: Json, kind: ObjectKind, causes: &mut Vec<Cause>) -> Option<Object> {
    let decoded = match kind {
        ObjectKind::ConfigMap => serde_json::from_value(json).map(|map: api::ConfigMap| {
            check_overlap(&map, causes);
            let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            (map.metadata, String::new(), [("data", text.collect()), ("binaryData", bytes(map.binary_data))])
        }),
        ObjectKind::Secret => serde_json::from_value(json).map(|secret: api::Secret| {
            let text = secret.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            let kind = secret.type_.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "Opaque".to_owned());
            (secret.metadata, kind, [("data", bytes(secret.data)), ("stringData", text.collect())])
        }),
    };
    let (metadata, secret_type, lists): (ObjectMeta, String, [List; 2]) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            causes.push(Cause::new(&Path::default(), error.to_string()));
            return None;
        }
    };
    crate::validate::metadata(&metadata, causes);
    if metadata.generate_name.is_some() {
        causes.push(Cause::refusal(&Path::new("metadata").child("generateName"), "give the object a name"));
    }
    let mut data = BTreeMap::new();
    for (field, values) in lists {
        for key in values.keys() {
            let path = Path::new(field).key(key);
            causes.extend(names::config_key(key).into_iter().map(|why| Cause::invalid(&path, key, &why)));
        }
        data.extend(values);
    }
    check_type(&secret_type, &metadata, &data, causes);
    Some(Object {
        kind,
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
        name: metadata.name.unwrap_or_default(),
        secret_type,
        data,
    })
}

fn bytes(data: Option<BTreeMap<String, ByteString>>) -> BTreeMap<String, Vec<u8>> {
    data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()
}

fn check_overlap(map: &api::ConfigMap, causes: &mut Vec<Cause>) {
    let text = map.data.iter().flat_map(BTreeMap::keys);
    for key in text.filter(|key| map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(*key))) {
        let message = format!("Invalid value: {key:?}: duplicate of key present in binaryData");
        causes.push(Cause::new(&Path::new("data").key(key), message));
    }
}

/// Adds a cause for each key that a Secret of this type lacks, as the API server does.
fn check_type(kind: &str, meta: &ObjectMeta, data: &BTreeMap<String, Vec<u8>>, causes: &mut Vec<Cause>) {
    let path = Path::new("data");
    let mut require = |keys: &[&str]| {
        let missing = keys.iter().filter(|key| !data.contains_key(**key));
        causes.extend(missing.map(|key| Cause::required(&path.key(key), "")));
    };
    match kind {
        "kubernetes.io/dockerconfigjson" => require(&[".dockerconfigjson"]),
        "kubernetes.io/dockercfg" => require(&[".dockercfg"]),
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"]),
        // One of the two is enough.
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            require(&["username", "password"]);
        }
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            let named = meta.annotations.as_ref().and_then(|all| all.get(ACCOUNT));
            if named.is_none_or(String::is_empty) {
                let path = Path::new("metadata").child("annotations").key(ACCOUNT);
                causes.push(Cause::required(&path, ""));
            }
        }
        _ => {}
    }
    let document = match kind {
        "kubernetes.io/dockerconfigjson" => ".dockerconfigjson",
        "kubernetes.io/dockercfg" => ".dockercfg",
        _ => return,
    };
    if let Some(bytes) = data.get(document)
        && let Err(error) = serde_json::from_slice::<serde_json::Map<String, Json>>(bytes)
    {
        // What the decoder says may quote the document, so only the place is told.
        let why = format!("must be a JSON object (line {}, column {})", error.line(), error.column());
        causes.push(Cause::invalid(&path.key(document), "<secret contents redacted>", &why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RegistryConfig;

    fn secret(kind: &str, data: &str) -> (Object, Vec<String>) {
        let data: Json = serde_json::from_str(data).unwrap();
        let json = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": kind, "stringData": data,
        });
        let mut causes = Vec::new();
        let object = object(json, ObjectKind::Secret, &mut causes).unwrap();
        (object, causes.iter().map(|cause| format!("{}: {}", cause.path, cause.message)).collect())
    }

    #[test]
    fn secrets_have_the_keys_of_their_type() {
        let table: &[(&str, &str, &[&str])] = &[
            ("", "{}", &[]),
            ("Opaque", "{}", &[]),
            ("example.com/own", "{}", &[]),
            ("kubernetes.io/dockerconfigjson", "{}", &["data[.dockerconfigjson]: Required value"]),
            ("kubernetes.io/dockercfg", "{}", &["data[.dockercfg]: Required value"]),
            ("kubernetes.io/tls", r#"{"tls.crt": ""}"#, &["data[tls.key]: Required value"]),
            ("kubernetes.io/ssh-auth", "{}", &["data[ssh-privatekey]: Required value"]),
            ("kubernetes.io/basic-auth", r#"{"password": "x"}"#, &[]),
            (
                "kubernetes.io/basic-auth",
                "{}",
                &["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                "kubernetes.io/dockerconfigjson",
                r#"{".dockerconfigjson": "hunter2"}"#,
                &[
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": must be a JSON object (line 1, \
                     column 1)",
                ],
            ),
            (
                "kubernetes.io/service-account-token",
                "{}",
                &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ];
        for (kind, data, expected) in table {
            assert_eq!(secret(kind, data).1, *expected, "{kind} {data}");
        }
    }

    #[test]
    fn credentials_for_registries_are_those_of_the_right_type_and_key() {
        let both = r#"{".dockerconfigjson": "{\"auths\": {}}", ".dockercfg": "{}"}"#;
        let of = |kind: &str| secret(kind, both).0;
        let object = of("kubernetes.io/dockerconfigjson");
        assert_eq!(object.registry_config(), Some(RegistryConfig::ConfigJson(br#"{"auths": {}}"#)));
        assert_eq!(of("kubernetes.io/dockercfg").registry_config(), Some(RegistryConfig::Config(b"{}")));
        let opaque = of("");
        assert_eq!((opaque.secret_type.as_str(), opaque.registry_config()), ("Opaque", None));
    }
}
