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
            (map.metadata, [("data", text.collect()), ("binaryData", bytes(map.binary_data))])
        }),
        ObjectKind::Secret => serde_json::from_value(json).map(|secret: api::Secret| {
            let text = secret.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            (secret.metadata, [("data", bytes(secret.data)), ("stringData", text.collect())])
        }),
    };
    let (metadata, lists): (ObjectMeta, [List; 2]) = match decoded {
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
    Some(Object {
        kind,
        namespace: metadata.namespace.unwrap_or_else(|| "default".to_owned()),
        name: metadata.name.unwrap_or_default(),
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
