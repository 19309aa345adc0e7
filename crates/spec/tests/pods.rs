//! From manifests to the domain, and back to a `v1 Pod`.

use podrun_spec::model::{
    EnvSource, HostPathType, Medium, MountPropagation, ObjectKind, PullPolicy, QosClass, RecursiveReadOnly,
    Resources, RestartPolicy, SeccompProfile, SupplementalGroupsPolicy, VolumeSource,
};
use podrun_spec::quantity::Quantity;
use podrun_spec::resources::{effective_limits, effective_requests};
use podrun_spec::status::{
    Condition, ContainerState, ContainerStatus, MountStatus, Phase, PodStatus, Terminated, UserStatus,
};
use podrun_spec::time::Timestamp;
use podrun_spec::{Manifest, decode_strict, from_json, parse};
use serde_json::json;

fn read(text: &str) -> Manifest {
    parse("pod.yaml", text).unwrap_or_else(|faults| panic!("{faults}"))
}

const FULL: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: full
  namespace: shop
  labels: {app: web}
  annotations: {note: hello}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  shareProcessNamespace: true
  hostname: h
  subdomain: s
  setHostnameAsFQDN: true
  nodeName: here
  serviceAccountName: sa
  overhead: {memory: 10Mi}
  dnsPolicy: Default
  priorityClassName: high
  tolerations: [{operator: Exists}]
  securityContext:
    runAsUser: 1000
    runAsGroup: 1001
    runAsNonRoot: true
    fsGroup: 2000
    fsGroupChangePolicy: OnRootMismatch
    supplementalGroups: [3000]
    supplementalGroupsPolicy: Strict
    seccompProfile: {type: Unconfined}
    sysctls: [{name: net/ipv4/tcp_syncookies, value: "0"}]
  initContainers:
  - {name: prepare, image: "busybox:1", command: [sh], resources: {requests: {cpu: 2}}}
  containers:
  - name: c
    image: nginx
    imagePullPolicy: Never
    command: [a]
    args: [$(X)]
    workingDir: /w
    ports: [{name: http, containerPort: 80}]
    envFrom: [{prefix: P_, configMapRef: {name: m}}]
    env:
    - {name: X, value: "1"}
    - {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}
    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {ephemeral-storage: 1Gi}}
    volumeMounts:
    - {name: tmp, mountPath: data, subPathExpr: $(X), readOnly: true, recursiveReadOnly: IfPossible}
    - {name: host, mountPath: /h, mountPropagation: HostToContainer}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {add: [CAP_net_bind_service], drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
  volumes:
  - {name: tmp, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: /srv, type: Directory}}
  - name: plain
  - {name: files, image: {reference: "data:1", pullPolicy: Never}}
  - {name: newest, image: {reference: data}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: m, namespace: shop}
data: {a: b}
binaryData: {c: AAE=}
---
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "b2xk"}, "stringData": {"k": "new"}}
"#;

#[test]
fn every_honoured_field_reaches_the_domain() {
    let manifest = read(FULL);
    let pod = &manifest.pods[0].pod;
    assert_eq!((pod.meta.name.as_str(), pod.meta.namespace.as_str()), ("full", "shop"));
    assert_eq!(pod.meta.labels["app"], "web");
    let spec = &pod.spec;
    assert_eq!(spec.restart_policy, RestartPolicy::OnFailure);
    assert_eq!(spec.termination_grace_period.as_secs(), 5);
    assert!(spec.share_process_namespace && spec.set_hostname_as_fqdn && !spec.host_network);
    assert_eq!(spec.qos_class, QosClass::Burstable);
    let security = &spec.security;
    assert_eq!(
        (security.run_as_user, security.run_as_group, security.fs_group),
        (Some(1000), Some(1001), Some(2000))
    );
    assert_eq!(security.supplemental_groups_policy, SupplementalGroupsPolicy::Strict);
    assert_eq!(security.seccomp, Some(SeccompProfile::Unconfined));
    assert_eq!(security.sysctls["net.ipv4.tcp_syncookies"], "0");
    let container = &spec.containers[0];
    assert_eq!(container.pull_policy, PullPolicy::Never);
    assert_eq!(container.env_from[0].prefix, "P_");
    assert_eq!(container.env[0].source, EnvSource::Value("1".to_owned()));
    assert_eq!(container.resources.cpu_request_millis(), Some(500), "requests follow limits");
    let mount = &container.volume_mounts[0];
    assert_eq!((mount.mount_path.as_str(), mount.sub_path_expr.as_deref()), ("/data", Some("$(X)")));
    assert_eq!(mount.recursive_read_only, RecursiveReadOnly::IfPossible);
    assert_eq!(container.volume_mounts[1].propagation, MountPropagation::HostToContainer);
    assert_eq!(container.security.capabilities.add, ["NET_BIND_SERVICE"]);
    assert_eq!(container.security.allow_privilege_escalation, Some(false));
    let size_limit = Some(Quantity::from_units(1 << 20));
    assert_eq!(spec.volumes[0].source, VolumeSource::EmptyDir { medium: Medium::Memory, size_limit });
    let kind = HostPathType::Directory;
    assert_eq!(spec.volumes[1].source, VolumeSource::HostPath { path: "/srv".to_owned(), kind });
    assert_eq!(spec.volumes[2].source, VolumeSource::EmptyDir { medium: Medium::Disk, size_limit: None });
    for (volume, reference, pull_policy) in
        [(3, "data:1", PullPolicy::Never), (4, "data", PullPolicy::Always)]
    {
        let expected = VolumeSource::Image { reference: reference.to_owned(), pull_policy };
        assert_eq!(spec.volumes[volume].source, expected);
    }
    let objects = &manifest.objects;
    assert_eq!((objects[0].kind, objects[0].data["c"].as_slice()), (ObjectKind::ConfigMap, &[0_u8, 1][..]));
    assert_eq!((objects[1].namespace.as_str(), objects[1].data["k"].as_slice()), ("default", &b"new"[..]));
}

#[test]
fn the_whole_pod_requests_the_larger_of_init_and_regular_containers() {
    let spec = &read(FULL).pods[0].pod.spec;
    let requests = effective_requests(spec);
    assert_eq!(requests["cpu"], Quantity::from_units(2), "the init container asks for more");
    assert_eq!(requests["memory"].to_string(), "74Mi", "with overhead");
    assert_eq!(requests["ephemeral-storage"].to_string(), "1Gi");
    let limits = effective_limits(spec);
    assert_eq!(
        (limits["cpu"].to_string(), limits["memory"].to_string()),
        ("500m".to_owned(), "74Mi".to_owned())
    );
}

#[test]
fn stored_pods_come_back_as_they_were() {
    let parsed = &read(FULL).pods[0];
    let created = Timestamp::from_unix_seconds(1_800_000_000);
    let wire = parsed.wire.with_metadata("uid-1", created, 1, Some((created, 30)));
    let text = serde_json::to_string(&wire).unwrap();
    let (pod, again) = from_json(serde_json::from_str(&text).unwrap()).unwrap();
    let mut expected = parsed.pod.clone();
    expected.meta.uid = "uid-1".to_owned();
    expected.meta.generation = 2;
    assert_eq!(pod, expected, "its deletion is a generation of its own");
    assert_eq!(again.to_json(), wire.to_json());
    let meta = &wire.to_json()["metadata"];
    assert_eq!(meta["creationTimestamp"], "2027-01-15T08:00:00Z");
    assert_eq!(
        (&meta["deletionTimestamp"], &meta["deletionGracePeriodSeconds"]),
        (&json!("2027-01-15T08:00:00Z"), &json!(30))
    );
    assert!(
        from_json(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": 5}]}})).is_err()
    );
}

#[test]
fn an_exported_pod_can_be_run_again() {
    let parsed = &read(FULL).pods[0];
    let at = Timestamp::from_unix_seconds(1_800_000_000);
    let exported = parsed.wire.with_metadata("uid-1", at, 3, None).with_status(&status());
    for text in [exported.to_yaml(), serde_json::to_string_pretty(&exported).unwrap()] {
        let again = read(&text);
        assert_eq!(again.pods[0].pod, parsed.pod, "{text}");
        assert_eq!(again.pods[0].wire, parsed.wire);
    }
}

fn status() -> PodStatus {
    let at = |seconds: i64| Timestamp::from_unix_seconds(1_800_000_000 + seconds);
    let end = |started_at| Terminated {
        exit_code: 137,
        reason: "OOMKilled".to_owned(),
        message: None,
        started_at,
        finished_at: started_at,
        container_id: "podrun://1".to_owned(),
    };
    PodStatus {
        phase: Phase::Running,
        conditions: vec![Condition {
            kind: "Ready".to_owned(),
            status: false,
            reason: Some("ContainersNotReady".to_owned()),
            message: None,
            last_transition_time: Some(at(1)),
            observed_generation: Some(1),
        }],
        host_ips: vec!["10.0.0.1".to_owned()],
        pod_ips: vec!["10.1.0.2".to_owned()],
        start_time: Some(at(0)),
        qos_class: QosClass::Burstable,
        observed_generation: Some(1),
        init_container_statuses: vec![ContainerStatus {
            name: "prepare".to_owned(),
            state: ContainerState::Waiting { reason: "PodInitializing".to_owned(), message: None },
            last_state: None,
            ready: false,
            started: false,
            restart_count: 0,
            image: "busybox:1".to_owned(),
            image_id: String::new(),
            container_id: String::new(),
            ..ContainerStatus::default()
        }],
        container_statuses: vec![ContainerStatus {
            name: "c".to_owned(),
            state: ContainerState::Running { started_at: Timestamp(1_800_000_002_900_000_000) },
            last_state: Some(end(None)),
            ready: true,
            started: true,
            restart_count: 1,
            image: "nginx".to_owned(),
            image_id: "sha256:1".to_owned(),
            container_id: "podrun://2".to_owned(),
            volume_mounts: vec![MountStatus {
                name: "tmp".to_owned(),
                mount_path: "/data".to_owned(),
                read_only: true,
                recursive_read_only: Some(false),
                propagation: MountPropagation::None,
            }],
            user: Some(UserStatus { uid: 0, gid: 0, supplemental_groups: vec![0] }),
            ..ContainerStatus::default()
        }],
        ..PodStatus::default()
    }
}

#[test]
fn the_status_is_written_as_the_api_writes_it() {
    let wire = read(FULL).pods[0].wire.with_status(&status());
    assert_eq!(
        wire.to_json()["status"],
        json!({
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastProbeTime": null,
                "lastTransitionTime": "2027-01-15T08:00:01Z", "observedGeneration": 1,
            }],
            "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}],
            "podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}],
            "startTime": "2027-01-15T08:00:00Z",
            "qosClass": "Burstable",
            "observedGeneration": 1,
            "initContainerStatuses": [{
                "name": "prepare", "state": {"waiting": {"reason": "PodInitializing"}}, "lastState": {}, "ready": false,
                "started": false, "restartCount": 0, "image": "busybox:1", "imageID": "",
            }],
            "containerStatuses": [{
                "name": "c",
                "state": {"running": {"startedAt": "2027-01-15T08:00:02Z"}},
                "lastState": {"terminated": {
                    "exitCode": 137, "reason": "OOMKilled", "startedAt": null, "finishedAt": null,
                    "containerID": "podrun://1",
                }},
                "ready": true, "started": true, "restartCount": 1, "image": "nginx", "imageID": "sha256:1",
                "containerID": "podrun://2",
                "allocatedResources": {"cpu": "500m", "memory": "64Mi", "ephemeral-storage": "1Gi"},
                "resources": {
                    "limits": {"cpu": "500m", "memory": "64Mi"},
                    "requests": {"cpu": "500m", "memory": "64Mi", "ephemeral-storage": "1Gi"},
                },
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/data", "readOnly": true, "recursiveReadOnly": "Disabled"},
                ],
                "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
            }],
        })
    );
}

#[test]
fn what_is_printed_is_accepted_by_a_strict_decoder() {
    let at = Timestamp::from_unix_seconds(1_800_000_000);
    let pod = read(FULL).pods[0].wire.with_node_name("other").with_metadata("uid-1", at, 2, Some((at, 30)));
    let mut more = status();
    more.phase = Phase::Unknown;
    more.reason = Some("DeadlineExceeded".to_owned());
    more.message = Some("words".to_owned());
    more.host_ips.push("fd00::1".to_owned());
    more.pod_ips.push("fd00::2".to_owned());
    more.conditions.push(Condition {
        kind: "DisruptionTarget".to_owned(),
        status: true,
        reason: Some("TerminationByKubelet".to_owned()),
        message: Some("words".to_owned()),
        last_transition_time: Some(at),
        observed_generation: None,
    });
    let container = &mut more.container_statuses[0];
    container.stop_signal = Some("SIGUSR1".to_owned());
    let amount = |text: &str| Quantity::parse(text).unwrap();
    container.allocated_resources = Some([("cpu".to_owned(), amount("250m"))].into());
    container.resources =
        Some(Resources { limits: [("cpu".to_owned(), amount("1"))].into(), ..Resources::default() });
    for wire in [pod.with_status(&status()), pod.with_status(&more)] {
        let json = wire.to_json();
        for text in [wire.to_yaml(), json.to_string()] {
            let decoded = decode_strict("pod", &text).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(decoded.to_json(), json, "nothing is lost");
        }
    }
    let json = pod.with_status(&more).to_json();
    assert_eq!(json["spec"]["nodeName"], "here", "what the Pod wants is not replaced");
    let status = &json["status"];
    assert_eq!((&status["phase"], &status["hostIP"]), (&json!("Unknown"), &json!("10.0.0.1")));
    assert_eq!(status["hostIPs"], json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]));
    assert_eq!(status["podIPs"], json!([{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["stopSignal"], "SIGUSR1");
    assert_eq!(container["allocatedResources"], json!({"cpu": "250m"}));
    assert_eq!(container["resources"], json!({"limits": {"cpu": "1"}}));
}

#[test]
fn a_strict_decoder_lets_nothing_pass() {
    let fault = |text: &str| decode_strict("p", text).map(|_| ()).unwrap_err().to_string();
    let pod = "{apiVersion: v1, kind: Pod, metadata: {}, spec: {containers: []}, status: STATUS}";
    let status = |text: &str| fault(&pod.replace("STATUS", text));
    for (text, expected) in [
        ("{fase: Running}", "status.fase: unknown field"),
        ("{phase: 1}", "status.phase: expected string, got number 1"),
        ("{conditions: [{type: Ready, state: a}]}", "status.conditions[0].state: unknown field"),
        (
            "{containerStatuses: [{restartCount: many}]}",
            "status.containerStatuses[0].restartCount: expected integer, got string \"many\"",
        ),
        ("{startTime: now}", "status.startTime: expected an RFC 3339 time, got string \"now\""),
    ] {
        assert!(status(text).contains(expected), "{}", status(text));
    }
    assert!(
        fault("{apiVersion: v1, kind: Secret}").contains("Pod"),
        "{}",
        fault("{apiVersion: v1, kind: Secret}")
    );
    assert_eq!(fault("a: 1\n---\nb: 2"), "p: the text has 2 documents");
    assert_eq!(fault(""), "p: the text has 0 documents");
}

#[test]
fn a_running_pod_names_its_node() {
    let text =
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: 'i:1'}]}}";
    let wire = &read(text).pods[0].wire;
    assert!(wire.to_json()["spec"]["nodeName"].is_null());
    assert_eq!(wire.with_node_name("here").to_json()["spec"]["nodeName"], "here");
}

#[test]
fn a_list_and_octal_modes_are_read() {
    let text = "
apiVersion: v1
kind: List
metadata: {resourceVersion: ''}
items:
- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: 'i:1'}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{name: c, image: 'i:1'}]}}
";
    assert_eq!(read(text).pods.len(), 2);
}

#[test]
fn a_list_of_pods_says_what_its_items_are() {
    let text = "
apiVersion: v1
kind: PodList
items:
- {metadata: {name: a}, spec: {containers: [{name: c, image: 'i:1'}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{name: c, image: 'i:1'}]}}
";
    assert_eq!(read(text).pods.len(), 2);
}
