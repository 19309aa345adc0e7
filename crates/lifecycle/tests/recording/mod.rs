//! A recording: what is in the file, and the facts to be drawn from it.

mod normal;
mod script;
mod world;

use std::collections::{BTreeSet, VecDeque};

use podrun_lifecycle::Input;
use podrun_spec::model::Pod;
use serde_json::{Map, Value};

pub(crate) use world::replay;

/// Type, reason, field path, message.
pub(crate) type Event = (String, String, String, String);

pub(crate) struct Recording {
    file: Value,
}

impl Recording {
    pub(crate) fn load(name: &str) -> Self {
        let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the recording");
        Self { file: serde_json::from_str(&text).expect("JSON") }
    }

    fn sequence(&self) -> &[Value] {
        self.file["sequence"].as_array().expect("a sequence")
    }

    /// Returns the times of the recorded statuses, in seconds since the submit.
    pub(crate) fn times(&self) -> Vec<f64> {
        self.sequence().iter().map(|e| e["t"].as_f64().expect("a time")).collect()
    }

    /// Returns the recorded statuses in comparable form.
    pub(crate) fn statuses(&self) -> Vec<Value> {
        let statuses: Vec<_> = self.sequence().iter().map(|e| e["status"].clone()).collect();
        normal::normal(&statuses)
    }

    pub(crate) fn events(&self) -> BTreeSet<Event> {
        let events = self.file["events"].as_array().expect("events");
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .map(|e| {
                normal::event(word(e, "type"), word(e, "reason"), word(e, "fieldPath"), &word(e, "message"))
            })
            .collect()
    }

    /// Returns the messages of events with that reason about that container, empty for the Pod's own.
    fn messages(&self, reason: &str, container: &str) -> Vec<String> {
        let path = format!("{{{container}}}");
        let fits =
            |e: &Event| e.1 == reason && (e.2.ends_with(&path) || (e.2.is_empty() && container.is_empty()));
        self.events().into_iter().filter(fits).map(|e| e.3).collect()
    }

    fn pod(&self) -> Pod {
        // What the machine does not look at need not be honoured by podrun.
        let mut manifest = self.file["manifest"].clone();
        let spec = manifest["spec"].as_object_mut().expect("a spec");
        spec.remove("securityContext");
        spec.remove("os");
        for container in spec["containers"].as_array_mut().expect("containers") {
            container.as_object_mut().expect("a container").remove("ports");
        }
        for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            *volume = serde_json::json!({"name": volume["name"], "emptyDir": {}});
        }
        let parsed = podrun_spec::parse("recording", &manifest.to_string()).expect("a valid Pod");
        let mut pod = parsed.pods.into_iter().next().expect("a Pod").pod;
        "UID".clone_into(&mut pod.meta.uid);
        pod.meta.generation = 1;
        if self.is_static() {
            pod.meta.name.push_str("-node-1");
        }
        pod
    }

    /// Returns whether a kubelet without an API server ran it.
    fn is_static(&self) -> bool {
        self.file["steps"][0]["do"] == "write the manifest file"
    }

    /// Returns what was done from outside, each with its time.
    fn steps(&self) -> VecDeque<(f64, Vec<Input>)> {
        let steps = self.file["steps"].as_array().expect("steps");
        let mut found: VecDeque<_> = self
            .messages("Evicted", "")
            .into_iter()
            .map(|message| (0.5, vec![Input::Evicted { message }]))
            .collect();
        for step in steps {
            let inputs = match step["do"].as_str().expect("a word") {
                "delete" => vec![Input::Delete { grace_seconds: step["grace"].as_u64() }],
                "remove the manifest file" => vec![Input::Delete { grace_seconds: None }],
                "kill -9 the sandbox process" => vec![Input::SandboxLost],
                "patch" => conditions(&step["patch"]["status"]["conditions"]),
                _ => continue,
            };
            found.push_back((step["t"].as_f64().expect("a time"), inputs));
        }
        found
    }

    /// Returns the input that the Pod's life begins with: it is accepted, or the node rejects it.
    fn beginning(&self) -> Input {
        let last = &self.sequence().last().expect("a status")["status"];
        let message = last["message"].as_str().and_then(|m| m.strip_prefix("Pod was rejected: "));
        message.map_or(Input::Created, |message| Input::Rejected {
            reason: last["reason"].as_str().expect("a reason").to_owned(),
            message: message.to_owned(),
        })
    }

    fn sandbox_was_ready(&self) -> bool {
        self.sequence().iter().any(|e| {
            let conditions = e["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "PodReadyToStartContainers" && c["status"] == "True")
        })
    }
}

fn conditions(patch: &Value) -> Vec<Input> {
    let list = patch.as_array().expect("conditions");
    list.iter()
        .map(|c| Input::ConditionSet {
            kind: c["type"].as_str().expect("a type").to_owned(),
            status: c["status"] == "True",
            reason: None,
            message: None,
        })
        .collect()
}

/// Applies `change` to each container of each status.
pub(crate) fn each_container(statuses: &mut [Value], mut change: impl FnMut(&mut Map<String, Value>)) {
    for status in statuses {
        for list in ["initContainerStatuses", "containerStatuses"] {
            let list = status[list].as_array_mut().into_iter().flatten();
            list.filter_map(Value::as_object_mut).for_each(&mut change);
        }
    }
}

/// Reads the number of `containerd://ID7`.
fn number(id: &Value) -> u32 {
    id.as_str().and_then(|id| id.rsplit("ID").next()?.parse().ok()).expect("an id")
}

/// Reads the seconds of `T+7`.
fn second(time: &Value) -> i64 {
    time.as_str().and_then(|t| t.strip_prefix('T')?.parse().ok()).unwrap_or(0)
}
