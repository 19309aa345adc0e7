//! Events about a Pod, as the API knows them.

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value as Json, json};

use super::status::{time, write_null};
use crate::model::Meta;
use crate::time::Timestamp;

/// What happened to a Pod, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFields<'a> {
    /// Something to look at: `Warning` instead of `Normal`.
    pub warning: bool,
    /// A word: `Started`.
    pub reason: &'a str,
    /// The reason in words.
    pub message: &'a str,
    /// `spec.containers{web}` for an event about a container.
    pub field_path: Option<&'a str>,
    /// How often it happened, at least 1.
    pub count: u32,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

/// An event as the API knows it: a `v1 Event`.
///
/// Its name is made of the Pod's and of what happened when it happened first, so that the same event keeps its name when
/// it is counted up.
///
/// ```
/// use podrun_spec::model::Meta;
/// use podrun_spec::time::Timestamp;
/// use podrun_spec::{EventFields, WireEvent};
///
/// let pod = Meta { name: "web".into(), namespace: "default".into(), ..Meta::default() };
/// let at = Timestamp::from_unix_seconds(1_800_000_000);
/// let event = WireEvent::new(&pod, "here", &EventFields {
///     warning: false,
///     reason: "Started",
///     message: "Container started",
///     field_path: Some("spec.containers{c}"),
///     count: 1,
///     first: at,
///     last: at,
/// });
/// assert_eq!(event.to_json()["involvedObject"]["fieldPath"], "spec.containers{c}");
/// assert_eq!(WireEvent::list(&[event])["kind"], "List");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WireEvent(api::Event);

impl WireEvent {
    /// Returns the event about a Pod that the machine called `node` tells of.
    pub fn new(pod: &Meta, node: &str, fields: &EventFields<'_>) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let kind = if fields.warning { "Warning" } else { "Normal" };
        Self(api::Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:016x}", pod.name, identity(pod, fields))),
                namespace: some(&pod.namespace),
                creation_timestamp: Some(time(fields.first)),
                ..ObjectMeta::default()
            },
            involved_object: api::ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: some(&pod.name),
                namespace: some(&pod.namespace),
                uid: some(&pod.uid),
                field_path: fields.field_path.map(str::to_owned),
                ..api::ObjectReference::default()
            },
            type_: Some(kind.to_owned()),
            reason: some(fields.reason),
            message: some(fields.message),
            count: Some(i32::try_from(fields.count).unwrap_or(i32::MAX)),
            first_timestamp: Some(time(fields.first)),
            last_timestamp: Some(time(fields.last)),
            source: Some(api::EventSource { component: Some(COMPONENT.to_owned()), host: some(node) }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(node.to_owned()),
            ..api::Event::default()
        })
    }

    /// Returns the `v1 Event` as JSON.
    pub fn to_json(&self) -> Json {
        // A struct of maps with string keys always has a JSON form.
        let mut json = serde_json::to_value(&self.0).unwrap_or_default();
        // The API server writes the time of the newer kind of event although it is nothing.
        write_null(&mut json, "eventTime");
        json
    }

    /// Returns a `v1 List` of events as JSON.
    pub fn list(events: &[Self]) -> Json {
        let items: Vec<_> = events.iter().map(Self::to_json).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
    }
}

const COMPONENT: &str = "podrun";

/// Returns a number for what happened and when it happened first: FNV-1a, 64 bits.
fn identity(pod: &Meta, fields: &EventFields<'_>) -> u64 {
    let first = fields.first.0.to_be_bytes();
    let path = fields.field_path.unwrap_or_default();
    let parts =
        [pod.uid.as_bytes(), &first, fields.reason.as_bytes(), fields.message.as_bytes(), path.as_bytes()];
    // A byte that no text has keeps the parts from running into each other.
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> EventFields<'static> {
        let at = |second: i64| Timestamp::from_unix_seconds(1_800_000_000 + second);
        EventFields {
            warning: true,
            reason: "BackOff",
            message: "Back-off restarting failed container c in pod web_shop(u1)",
            field_path: Some("spec.containers{c}"),
            count: 3,
            first: at(0),
            last: at(60),
        }
    }

    fn pod() -> Meta {
        Meta { name: "web".into(), namespace: "shop".into(), uid: "u1".into(), ..Meta::default() }
    }

    #[test]
    fn events_are_those_of_the_api() {
        let json = WireEvent::new(&pod(), "here", &fields()).to_json();
        let name = json["metadata"]["name"].clone();
        assert!(name.as_str().unwrap().starts_with("web."), "{name}");
        assert_eq!(
            json,
            json!({
                "apiVersion": "v1", "kind": "Event",
                "metadata": {"name": name, "namespace": "shop", "creationTimestamp": "2027-01-15T08:00:00Z"},
                "involvedObject": {
                    "apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": "shop", "uid": "u1",
                    "fieldPath": "spec.containers{c}",
                },
                "type": "Warning", "reason": "BackOff",
                "message": "Back-off restarting failed container c in pod web_shop(u1)",
                "count": 3, "firstTimestamp": "2027-01-15T08:00:00Z", "lastTimestamp": "2027-01-15T08:01:00Z",
                "eventTime": null,
                "source": {"component": "podrun", "host": "here"},
                "reportingComponent": "podrun", "reportingInstance": "here",
            })
        );
        let again: api::Event = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(WireEvent(again).to_json(), json, "a decoder of the API loses nothing");
    }

    #[test]
    fn names_tell_events_apart_and_stay() {
        let name = |fields: &EventFields<'_>| WireEvent::new(&pod(), "n", fields).0.metadata.name;
        let one = fields();
        assert_eq!(name(&one), name(&EventFields { count: 9, last: one.first, ..one }));
        for other in [
            EventFields { reason: "Started", ..one },
            EventFields { message: "", ..one },
            EventFields { field_path: None, ..one },
            EventFields { first: Timestamp(1), ..one },
        ] {
            assert_ne!(name(&one), name(&other));
        }
    }
}
