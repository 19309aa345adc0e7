//! The form in which recorded statuses and ours are compared.

use podrun_spec::status::{Condition, ContainerState, ContainerStatus, PodStatus, Terminated};
use podrun_spec::time::Timestamp;
use serde_json::{Map, Value, json};

/// Returns all container statuses of a status, init containers first.
pub(super) fn containers(status: &Value) -> Vec<&Value> {
    let list = |key: &str| status[key].as_array().into_iter().flatten();
    list("initContainerStatuses").chain(list("containerStatuses")).collect()
}

/// Keeps what is compared of v1 PodStatus values; container ids are numbered in the order of their appearance.
pub(super) fn normal(statuses: &[Value]) -> Vec<Value> {
    let mut ids: Vec<String> = Vec::new();
    let mut container = |c: &Value| {
        let mounts = c["volumeMounts"].as_array().cloned().unwrap_or_default();
        let mounts: Vec<_> = mounts.iter().map(|m| json!([m["name"], m["mountPath"]])).collect();
        // The predecessor comes first, so that ids are numbered by age.
        let last = state(&c["lastState"], &mut ids);
        let id = number(&c["containerID"], &mut ids);
        json!({
            "name": c["name"], "lastState": last, "id": id, "state": state(&c["state"], &mut ids),
            "ready": c["ready"], "started": c["started"], "restartCount": c["restartCount"], "image": c["image"],
            "imageID": c["imageID"].as_str().is_some_and(|i| !i.is_empty()), "user": c.get("user"), "mounts": mounts,
        })
    };
    let mut list = |status: &Value, key: &str| {
        let list = status[key].as_array().cloned().unwrap_or_default();
        list.iter().map(&mut container).collect::<Vec<_>>()
    };
    let mut one = |status: &Value| {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let conditions: Vec<_> = conditions
            .iter()
            .map(|c| json!([c["type"], c["status"], c["reason"], c["message"], c["observedGeneration"]]))
            .collect();
        json!({
            "phase": status["phase"], "reason": status["reason"], "message": status["message"], "qosClass": status["qosClass"], "conditions": conditions,
            "observedGeneration": status["observedGeneration"],
            "startTime": status["startTime"].is_string(),
            "initContainerStatuses": list(status, "initContainerStatuses"),
            "containerStatuses": list(status, "containerStatuses"),
        })
    };
    statuses.iter().map(&mut one).collect()
}

/// Returns the number of a container id, none where there is none.
fn number(id: &Value, ids: &mut Vec<String>) -> Value {
    match id.as_str() {
        None | Some("") => Value::Null,
        Some(text) => json!(ids.iter().position(|i| i == text).unwrap_or_else(|| {
            ids.push(text.to_owned());
            ids.len() - 1
        })),
    }
}

fn state(state: &Value, ids: &mut Vec<String>) -> Value {
    let mut found = Map::new();
    if let Some(waiting) = state.get("waiting") {
        found.insert("waiting".to_owned(), json!([waiting["reason"], waiting["message"]]));
    }
    if state.get("running").is_some() {
        found.insert("running".to_owned(), json!({}));
    }
    if let Some(end) = state.get("terminated") {
        let id = number(&end["containerID"], ids);
        let finished = end["finishedAt"].is_string();
        found.insert(
            "terminated".to_owned(),
            json!([end["exitCode"], end["reason"], end["message"], id, finished]),
        );
    }
    Value::Object(found)
}

/// Returns an event in comparable form.
pub(super) fn event(kind: String, reason: String, path: String, message: &str) -> super::Event {
    // Whether a Pod may use an image is a matter of pull secrets, which one machine does not have.
    let mut message = message.replace(" and can be accessed by the pod", "");
    if let Some((image, rest)) = message.split_once("\" in ")
        && let Some((_, size)) = rest.split_once(" including waiting). ")
    {
        message = format!("{image}\" in DURATION (DURATION including waiting). {size}");
    }
    (kind, reason, path, message)
}

/// Returns a status as v1 PodStatus, as far as it is compared.
pub(super) fn wire(status: &PodStatus) -> Value {
    let list = |list: &[ContainerStatus]| list.iter().map(container).collect::<Vec<_>>();
    json!({
        "phase": status.phase.as_str(),
        "reason": status.reason,
        "message": status.message,
        "qosClass": format!("{:?}", status.qos_class),
        "conditions": status.conditions.iter().map(condition).collect::<Vec<_>>(),
        "observedGeneration": status.observed_generation,
        "startTime": time(status.start_time),
        "initContainerStatuses": list(&status.init_container_statuses),
        "containerStatuses": list(&status.container_statuses),
    })
}

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(Timestamp::to_rfc3339_seconds)
}

fn condition(c: &Condition) -> Value {
    json!({
        "type": c.kind, "status": if c.status { "True" } else { "False" }, "reason": c.reason,
        "message": c.message, "observedGeneration": c.observed_generation,
    })
}

fn container(c: &ContainerStatus) -> Value {
    let state = match &c.state {
        ContainerState::Waiting { reason, message } => {
            json!({"waiting": {"reason": reason, "message": message}})
        }
        ContainerState::Running { started_at } => {
            json!({"running": {"startedAt": started_at.to_rfc3339_seconds()}})
        }
        ContainerState::Terminated(end) => json!({"terminated": terminated(end)}),
    };
    let mut wire = json!({
        "name": c.name, "state": state, "ready": c.ready, "started": c.started, "restartCount": c.restart_count,
        "image": c.image, "imageID": c.image_id, "containerID": c.container_id,
        "lastState": c.last_state.as_ref().map_or_else(|| json!({}), |end| json!({"terminated": terminated(end)})),
        "volumeMounts": c.volume_mounts.iter().map(|m| json!({"name": m.name, "mountPath": m.mount_path})).collect::<Vec<_>>(),
    });
    if let Some(user) = &c.user {
        wire["user"] = json!({"linux": {"uid": user.uid, "gid": user.gid, "supplementalGroups": user.supplemental_groups}});
    }
    wire
}

fn terminated(end: &Terminated) -> Value {
    json!({
        "exitCode": end.exit_code, "reason": end.reason, "message": end.message,
        "finishedAt": time(end.finished_at), "containerID": end.container_id,
    })
}
