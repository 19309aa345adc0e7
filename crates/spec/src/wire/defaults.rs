//! Defaults as the API server fills them in, including those of its always-on admission plugins.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use crate::quantity::Quantity;
use crate::resources::{is_pod_level_resource, wire_amounts};

type WireList = BTreeMap<String, WireQuantity>;

/// File mode of volumes made of keys: 0644.
const DEFAULT_MODE: i32 = 0o644;

/// Fills in what was left out.
pub(crate) fn apply(pod: &mut api::Pod) {
    pod.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let spec = pod.spec.get_or_insert_default();
    pod_fields(spec);
    let host_network = spec.host_network.unwrap_or(false);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        self::container(container, host_network);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
    pod_level_resources(spec);
}

fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.to_owned());
    }
}

fn pod_fields(spec: &mut api::PodSpec) {
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    text(&mut spec.preemption_policy, "PreemptLowerPriority");
    spec.priority.get_or_insert(0);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    let grace = spec.termination_grace_period_seconds.get_or_insert(30);
    // The API server takes a negative period for the shortest one.
    if *grace < 0 {
        *grace = 1;
    }
    default_tolerations(spec.tolerations.get_or_insert_default());
}

/// Every Pod tolerates a node that is not ready or not reachable for five minutes, unless it says otherwise.
fn default_tolerations(tolerations: &mut Vec<api::Toleration>) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|toleration| {
            let effect = toleration.effect.as_deref().unwrap_or_default();
            let wanted = toleration.key.as_deref().unwrap_or_default();
            (wanted == key || wanted.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            tolerations.push(api::Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(300),
                ..api::Toleration::default()
            });
        }
    }
}

fn container(container: &mut api::Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = default_pull_policy(image);
    text(&mut container.image_pull_policy, policy);
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 && port.container_port != 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe]
        .into_iter()
        .flatten()
    {
        self::probe(probe);
    }
    lifecycle(&mut container.lifecycle);
    for source in container.env.iter_mut().flatten().filter_map(|env| env.value_from.as_mut()) {
        field_ref(source.field_ref.as_mut());
        resource_field_ref(source.resource_field_ref.as_mut());
    }
    if let Some(context) = &mut container.security_context
        && context.proc_mount.as_deref() == Some("")
    {
        context.proc_mount = Some("Default".to_owned());
    }
    let resources = container.resources.get_or_insert_default();
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

/// Returns when to ask the registry: always for the tag `latest`, written or implied.
fn default_pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut api::Probe) {
    for (field, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.unwrap_or(0) == 0 {
            *field = Some(default);
        }
    }
    http_get(probe.http_get.as_mut());
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(action: Option<&mut api::HTTPGetAction>) {
    if let Some(action) = action {
        text(&mut action.path, "/");
        text(&mut action.scheme, "HTTP");
    }
}

fn lifecycle(field: &mut Option<api::Lifecycle>) {
    let Some(lifecycle) = field else { return };
    for handler in [&mut lifecycle.post_start, &mut lifecycle.pre_stop].into_iter().flatten() {
        http_get(handler.http_get.as_mut());
    }
    if *lifecycle == api::Lifecycle::default() {
        *field = None;
    }
}

fn field_ref(field: Option<&mut api::ObjectFieldSelector>) {
    if let Some(field) = field {
        text(&mut field.api_version, "v1");
    }
}

fn resource_field_ref(field: Option<&mut api::ResourceFieldSelector>) {
    if let Some(field) = field {
        field.divisor.get_or_insert_with(|| WireQuantity("0".to_owned()));
    }
}

fn volume(volume: &mut api::Volume) {
    // No source at all is an emptyDir.
    if *volume == (api::Volume { name: volume.name.clone(), ..api::Volume::default() }) {
        volume.empty_dir = Some(api::EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        downward_items(source.items.as_mut());
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(DEFAULT_MODE);
        for projection in source.sources.iter_mut().flatten() {
            if let Some(downward) = &mut projection.downward_api {
                downward_items(downward.items.as_mut());
            }
            if let Some(token) = &mut projection.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
        }
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.image {
        let policy = default_pull_policy(source.reference.as_deref().unwrap_or_default());
        text(&mut source.pull_policy, policy);
    }
}

fn downward_items(items: Option<&mut Vec<api::DownwardAPIVolumeFile>>) {
    for item in items.into_iter().flatten() {
        field_ref(item.field_ref.as_mut());
        resource_field_ref(item.resource_field_ref.as_mut());
    }
}

/// Where the Pod as a whole has limits, its missing requests are what its containers request together, or the limit
/// where none of them requests that resource. Huge pages have no overcommit: their limit follows the containers too.
fn pod_level_resources(spec: &mut api::PodSpec) {
    if spec.resources.as_ref().is_none_or(|r| r.limits.is_none() && r.requests.is_none()) {
        return;
    }
    let aggregate = |pick: fn(&api::ResourceRequirements) -> Option<&WireList>| {
        crate::resources::aggregate_wire(spec, pick)
    };
    let requested = aggregate(|r| r.requests.as_ref());
    let limited = aggregate(|r| r.limits.as_ref());
    let Some(resources) = &mut spec.resources else { return };
    let mut limits = wire_amounts(resources.limits.as_ref());
    let mut requests = wire_amounts(resources.requests.as_ref());
    for (name, amount) in &limited {
        if name.starts_with("hugepages-") {
            limits.entry(name.clone()).or_insert(*amount);
        }
    }
    for (name, limit) in limits.iter().filter(|(name, _)| is_pod_level_resource(name)) {
        let request = requested.get(name).copied().unwrap_or(*limit);
        requests.entry(name.clone()).or_insert(request);
    }
    let wire = |list: BTreeMap<String, Quantity>| -> Option<WireList> {
        let list: WireList =
            list.into_iter().map(|(name, amount)| (name, WireQuantity(amount.to_string()))).collect();
        (!list.is_empty()).then_some(list)
    };
    resources.limits = wire(limits);
    resources.requests = wire(requests);
}
