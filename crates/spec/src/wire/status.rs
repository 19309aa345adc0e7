//! The status as the API writes it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value as Json;

use crate::model::ResourceList;
use crate::status::{
    Condition, ContainerState, ContainerStatus, MountStatus, PodStatus, Terminated, UserStatus,
};
use crate::time::Timestamp;

/// Returns the wire form of a status; `spec` gives the requests and limits that it repeats.
pub(super) fn status(status: &PodStatus, spec: &api::PodSpec) -> api::PodStatus {
    let ip_of = |ip: &String| api::PodIP { ip: ip.clone() };
    let containers = |list: &[ContainerStatus], specs: &[api::Container]| {
        let list: Vec<_> = list
            .iter()
            .map(|status| {
                let spec = specs.iter().find(|container| container.name == status.name);
                container(status, spec.and_then(|container| container.resources.as_ref()))
            })
            .collect();
        (!list.is_empty()).then_some(list)
    };
    api::PodStatus {
        phase: Some(status.phase.as_str().to_owned()),
        reason: status.reason.clone(),
        message: status.message.clone(),
        conditions: some(status.conditions.iter().map(condition).collect()),
        host_ip: status.host_ips.first().cloned(),
        host_ips: some(status.host_ips.iter().map(|ip| api::HostIP { ip: ip.clone() }).collect()),
        pod_ip: status.pod_ips.first().cloned(),
        pod_ips: some(status.pod_ips.iter().map(ip_of).collect()),
        start_time: status.start_time.map(time),
        qos_class: Some(format!("{:?}", status.qos_class)),
        observed_generation: status.observed_generation,
        init_container_statuses: containers(
            &status.init_container_statuses,
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        container_statuses: containers(&status.container_statuses, &spec.containers),
        ..api::PodStatus::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Status times have a resolution of one second.
pub(super) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_unix_seconds(at.unix_seconds()).to_jiff())
}

fn condition(condition: &Condition) -> api::PodCondition {
    api::PodCondition {
        type_: condition.kind.clone(),
        status: if condition.status { "True" } else { "False" }.to_owned(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_transition_time: condition.last_transition_time.map(time),
        last_probe_time: None,
        observed_generation: condition.observed_generation,
    }
}

fn container(
    status: &ContainerStatus,
    resources: Option<&api::ResourceRequirements>,
) -> api::ContainerStatus {
    // Resources are facts of a container, not wishes: they appear once there is one.
    let created = !status.container_id.is_empty();
    let resources = resources.filter(|_| created);
    let allocated = status.allocated_resources.as_ref().and_then(quantities);
    let own = status.resources.as_ref().map(|own| api::ResourceRequirements {
        requests: quantities(&own.requests),
        limits: quantities(&own.limits),
        ..api::ResourceRequirements::default()
    });
    api::ContainerStatus {
        name: status.name.clone(),
        state: Some(state(&status.state)),
        last_state: Some(api::ContainerState {
            terminated: status.last_state.as_ref().map(terminated),
            ..api::ContainerState::default()
        }),
        ready: status.ready,
        started: Some(status.started),
        restart_count: i32::try_from(status.restart_count).unwrap_or(i32::MAX),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        container_id: created.then(|| status.container_id.clone()),
        allocated_resources: allocated.or_else(|| resources.and_then(|resources| resources.requests.clone())),
        resources: own.or_else(|| resources.cloned()),
        volume_mounts: some(status.volume_mounts.iter().map(mount).collect()),
        user: status.user.as_ref().map(user),
        stop_signal: status.stop_signal.clone(),
        ..api::ContainerStatus::default()
    }
}

fn quantities(list: &ResourceList) -> Option<BTreeMap<String, Quantity>> {
    let list: BTreeMap<_, _> =
        list.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect();
    (!list.is_empty()).then_some(list)
}

fn state(state: &ContainerState) -> api::ContainerState {
    let mut wire = api::ContainerState::default();
    match state {
        ContainerState::Waiting { reason, message } => {
            wire.waiting =
                Some(api::ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() });
        }
        ContainerState::Running { started_at } => {
            wire.running = Some(api::ContainerStateRunning { started_at: Some(time(*started_at)) });
        }
        ContainerState::Terminated(end) => wire.terminated = Some(terminated(end)),
    }
    wire
}

fn terminated(end: &Terminated) -> api::ContainerStateTerminated {
    api::ContainerStateTerminated {
        exit_code: end.exit_code,
        reason: Some(end.reason.clone()),
        message: end.message.clone(),
        started_at: end.started_at.map(time),
        finished_at: end.finished_at.map(time),
        container_id: (!end.container_id.is_empty()).then(|| end.container_id.clone()),
        signal: None,
    }
}

fn mount(mount: &MountStatus) -> api::VolumeMountStatus {
    let recursive = mount.recursive_read_only.filter(|_| mount.read_only);
    api::VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.then_some(true),
        recursive_read_only: recursive.map(|on| if on { "Enabled" } else { "Disabled" }.to_owned()),
        ..api::VolumeMountStatus::default()
    }
}

fn user(user: &UserStatus) -> api::ContainerUser {
    api::ContainerUser {
        linux: Some(api::LinuxContainerUser {
            uid: i64::from(user.uid),
            gid: i64::from(user.gid),
            supplemental_groups: some(user.supplemental_groups.iter().map(|gid| i64::from(*gid)).collect()),
        }),
    }
}

/// Writes what an API server writes although it is nothing: a probe time that is never set, and times of a container
/// that never ran.
pub(super) fn write_nulls(status: &mut Json) {
    for condition in elements(status, "conditions") {
        write_null(condition, "lastProbeTime");
    }
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in elements(status, list) {
            for state in ["state", "lastState"] {
                let Some(end) = container.get_mut(state).and_then(|state| state.get_mut("terminated")) else {
                    continue;
                };
                write_null(end, "startedAt");
                write_null(end, "finishedAt");
            }
        }
    }
}

fn elements<'a>(object: &'a mut Json, key: &str) -> impl Iterator<Item = &'a mut Json> {
    object.get_mut(key).and_then(Json::as_array_mut).into_iter().flatten()
}

pub(super) fn write_null(object: &mut Json, key: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.entry(key).or_insert(Json::Null);
    }
}
