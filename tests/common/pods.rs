//! Pods in few words, and templates for what they show.

use std::path::Path;

use podrun_testkit::BUSYBOX_REFERENCE;
use serde_json::{Value, json};

/// Does nothing, and ends well when it is told to.
pub(crate) const WAIT_FOR_TERM: &str = "trap 'exit 0' TERM; sleep 3600 & wait";

/// Returns a Pod that is not restarted and has two seconds to end.
pub(crate) fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "containers": containers,
        },
    })
}

/// Returns a busybox container that runs a program.
pub(crate) fn container(name: &str, command: &[&str]) -> Value {
    json!({ "name": name, "image": BUSYBOX_REFERENCE, "command": command })
}

/// Returns a busybox container that runs a script.
pub(crate) fn sh(name: &str, script: &str) -> Value {
    container(name, &["sh", "-c", script])
}

/// Returns `object` with more fields.
pub(crate) fn with(mut object: Value, fields: Value) -> Value {
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// Returns `pod` with more fields in its spec.
pub(crate) fn with_spec(mut pod: Value, fields: Value) -> Value {
    pod["spec"] = with(pod["spec"].take(), fields);
    pod
}

/// Returns the template of a field of a regular container's state.
pub(crate) fn state(container: &str, field: &str) -> String {
    status(container, &format!("state.{field}"))
}

/// Returns the template of a field of a regular container's status.
pub(crate) fn status(container: &str, field: &str) -> String {
    format!("{{.status.containerStatuses[?(@.name==\"{container}\")].{field}}}")
}

/// Returns `pod` with a directory of the host at `/t` in all its containers.
pub(crate) fn with_dir(mut pod: Value, dir: &Path) -> Value {
    let spec = &mut pod["spec"];
    spec["volumes"] = json!([{ "name": "t", "hostPath": { "path": dir, "type": "DirectoryOrCreate" } }]);
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["volumeMounts"] = json!([{ "name": "t", "mountPath": "/t" }]);
        }
    }
    pod
}

/// Returns `pod` whose probes are made so often.
pub(crate) fn probed_every(mut pod: Value, milliseconds: u32) -> Value {
    pod["metadata"]["annotations"] = json!({ "podrun.io/probe-period-ms": milliseconds.to_string() });
    pod
}
