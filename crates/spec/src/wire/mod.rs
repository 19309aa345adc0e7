//! What was typed: the Pod of the API, defaulted. Opaque outside this crate.

pub(crate) mod convert;
pub(crate) mod decode;
pub(crate) mod defaults;
mod event;
pub(crate) mod schema;
mod status;
mod strict;
pub(crate) mod suggest;

use std::collections::BTreeMap;

pub use event::{EventFields, WireEvent};
use k8s_openapi::api::core::v1 as api;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
pub use strict::decode_strict;

use crate::model::Pod;
use crate::status::PodStatus;
use crate::time::Timestamp;

/// A Pod as the API knows it: with its defaults and, once it runs, with its status.
///
/// It serialises to a valid `v1 Pod`. Keep it beside the [`Pod`] that it belongs to: the domain type has what podrun
/// acts upon, this one has everything that the user wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct WirePod(api::Pod);

/// Why a stored Pod cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredPodError {
    /// It is no `v1 Pod`.
    #[error("decode stored pod")]
    Decode {
        /// What the decoder says.
        #[source]
        source: serde_json::Error,
    },
    /// It asks for something that this version does not know, such as a Pod stored by a later one.
    #[error("use stored pod: {path} is {value:?}")]
    Unfit {
        /// The field.
        path: String,
        /// Its value.
        value: String,
    },
}

impl WirePod {
    pub(crate) fn new(mut pod: api::Pod) -> Self {
        let qos = pod.spec.as_ref().and_then(|spec| convert::spec(spec).ok()).map(|spec| spec.qos_class);
        pod.status = qos.map(|class| api::PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(format!("{class:?}")),
            ..api::PodStatus::default()
        });
        Self(pod)
    }

    /// Returns the Pod with the identity that it got when it was created.
    ///
    /// `deletion` is when the Pod ends at the latest and the grace period in seconds, once its deletion was asked for. As on
    /// an API server the generation is then one more than `generation`.
    #[must_use]
    pub fn with_metadata(
        &self,
        uid: &str,
        created: Timestamp,
        generation: i64,
        deletion: Option<(Timestamp, i64)>,
    ) -> Self {
        let mut pod = self.0.clone();
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.creation_timestamp = Some(status::time(created));
        pod.metadata.generation = Some(generation + i64::from(deletion.is_some()));
        pod.metadata.deletion_timestamp = deletion.map(|(at, _)| status::time(at));
        pod.metadata.deletion_grace_period_seconds = deletion.map(|(_, grace)| grace);
        Self(pod)
    }

    /// Returns the Pod as it stands on a node: with its name, unless the Pod has one already.
    #[must_use]
    pub fn with_node_name(&self, name: &str) -> Self {
        let mut pod = self.0.clone();
        pod.spec.get_or_insert_default().node_name.get_or_insert_with(|| name.to_owned());
        Self(pod)
    }

    /// Returns the Pod with annotations set (a value) or removed (none).
    ///
    /// # Errors
    ///
    /// What is wrong with them, one text each: a key that is none, a value that cannot be meant, or one that is read only
    /// when a Pod is created.
    pub fn with_annotations(&self, changes: &BTreeMap<String, Option<String>>) -> Result<Self, Vec<String>> {
        let mut pod = self.0.clone();
        let annotations = pod.metadata.annotations.get_or_insert_default();
        for (key, value) in changes {
            match value {
                Some(value) => drop(annotations.insert(key.clone(), value.clone())),
                None => drop(annotations.remove(key)),
            }
        }
        let mut causes = Vec::new();
        crate::validate::annotations(&pod.metadata, &mut causes);
        crate::annotations::check(&pod, &mut causes);
        let mut faults: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.path, cause.message)).collect();
        let fixed = changes.keys().filter(|key| crate::annotations::is_fixed(key));
        faults
            .extend(fixed.map(|key| format!("metadata.annotations[{key}]: is read when the Pod is created")));
        if faults.is_empty() { Ok(Self(pod)) } else { Err(faults) }
    }

    /// Returns the Pod with this status in place of its own.
    #[must_use]
    pub fn with_status(&self, status: &PodStatus) -> Self {
        let mut pod = self.0.clone();
        let spec = pod.spec.get_or_insert_default();
        pod.status = Some(status::status(status, spec));
        Self(pod)
    }

    /// Returns the `v1 Pod` as JSON.
    pub fn to_json(&self) -> Json {
        // A struct of maps with string keys always has a JSON form.
        let mut json = serde_json::to_value(&self.0).unwrap_or_default();
        if let Some(status) = json.get_mut("status") {
            status::write_nulls(status);
        }
        json
    }

    /// Returns the `v1 Pod` as YAML.
    pub fn to_yaml(&self) -> String {
        crate::yaml::write(&self.to_json())
    }
}

impl Serialize for WirePod {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WirePod {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        api::Pod::deserialize(deserializer).map(Self)
    }
}

/// Reads a Pod that was stored with [`WirePod::to_json`].
///
/// Nothing is defaulted or validated again: what was accepted once stays as it was accepted.
///
/// # Errors
///
/// [`StoredPodError`] where the value is no `v1 Pod`, or was stored by a version that honours more.
pub fn from_json(stored: Json) -> Result<(Pod, WirePod), StoredPodError> {
    let wire: api::Pod =
        serde_json::from_value(stored).map_err(|source| StoredPodError::Decode { source })?;
    let pod = convert::pod(&wire)
        .map_err(|unfit| StoredPodError::Unfit { path: unfit.path.to_string(), value: unfit.value })?;
    Ok((pod, WirePod(wire)))
}
