//! `wait`, readiness gates and `condition`, events, and documents that a strict decoder takes.

mod common;

use std::fs;

use common::{Podrun, WAIT_FOR_TERM, container, pod, sh, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

const READY: &str = "{.status.conditions[?(@.type==\"Ready\")].status}";

#[test]
fn a_readiness_gate_waits_for_its_condition() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let gates = json!({ "readinessGates": [{ "conditionType": "example.com/in-rotation" }] });
    podrun.start(&with_spec(pod("gated", &[sh("c", WAIT_FOR_TERM)]), gates));
    podrun.podrun(&["wait", "gated", "--for=condition=ContainersReady", "--timeout=60s"]).ok();
    assert_eq!(podrun.get("gated", READY), "False");
    let reason = podrun.get("gated", "{.status.conditions[?(@.type==\"Ready\")].reason}");
    assert_eq!(reason, "ReadinessGatesNotReady");
    podrun.podrun(&["wait", "gated", "--for=condition=Ready", "--timeout=1s"]).fails(124);

    let mut wait = podrun.spawn(&["wait", "pod/gated", "--for=condition=Ready", "--timeout=60s"]);
    podrun.podrun(&["condition", "gated", "example.com/in-rotation=True", "--reason=Registered"]).ok();
    assert_eq!(wait.line().as_deref(), Some("pod/gated condition met"));
    assert_eq!(wait.finish().code, 0);
    podrun.podrun(&["condition", "gated", "example.com/in-rotation=False"]).ok();
    podrun.podrun(&["wait", "gated", "--for=condition=Ready=False", "--timeout=60s"]).ok();
    let error = podrun.podrun(&["condition", "gated", "Ready=True"]).fails(3);
    assert!(error.contains("condition Ready follows from what the pod does"), "{error}");
    podrun.podrun(&["condition", "nobody", "a=True"]).fails(4);
    podrun.finish();
}

#[test]
fn values_ends_and_deletions_are_waited_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("brief", &[sh("c", "exit 0")]));
    podrun.podrun(&["wait", "brief", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]).ok();
    // What has ended will not become ready.
    let error = podrun.podrun(&["wait", "brief", "--for=condition=Ready", "--timeout=60s"]).fails(1);
    assert!(error.contains("has ended (Succeeded) without the condition"), "{error}");
    let mut wait = podrun.spawn(&["wait", "brief", "--for=delete", "--timeout=60s"]);
    podrun.delete("brief");
    assert_eq!(wait.line().as_deref(), Some("pod/brief deleted"));
    assert_eq!(wait.finish().code, 0);
    podrun.podrun(&["wait", "brief", "--for=delete"]).ok();
    podrun.podrun(&["wait", "brief", "--for=condition=Ready"]).fails(4);
    podrun.finish();
}

#[test]
fn events_are_watched_counted_and_printed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mut watch = podrun.spawn(&["events", "-w"]);
    let crash = with_spec(pod("crash", &[sh("c", "exit 3")]), json!({ "restartPolicy": "OnFailure" }));
    podrun.start(&crash);
    // A watch sees Pods that come after it.
    watch.wait_line(|line| line.contains("Back-off restarting failed container c in pod crash_default("));
    watch.kill();
    let described = podrun.podrun(&["describe", "pod", "crash"]).ok();
    for shown in [podrun.events("crash"), described] {
        assert!(shown.lines().any(|line| line.contains("Started") && line.contains("(x2 over ")), "{shown}");
    }
    let warnings = podrun.podrun(&["events", "--for=pod/crash", "--types=Warning", "--no-headers"]).ok();
    assert!(
        warnings.lines().all(|line| line.contains("Warning")) && warnings.contains("BackOff"),
        "{warnings}"
    );
    let list: Value =
        serde_json::from_str(&podrun.podrun(&["events", "crash", "-o", "json"]).ok()).expect("JSON");
    let started =
        list["items"].as_array().expect("a list").iter().find(|e| e["reason"] == "Started").expect("it did");
    assert_eq!((&started["kind"], &started["count"]), (&json!("Event"), &json!(2)));
    assert_eq!(started["involvedObject"]["fieldPath"], "spec.containers{c}");
    let wide = podrun.podrun(&["events", "crash", "-o", "wide"]).ok();
    assert!(wide.starts_with("LAST SEEN   TYPE"), "{wide}");
    podrun.podrun(&["events", "nobody"]).fails(4);
    podrun.finish();
}

#[test]
fn a_pod_is_printed_as_a_strict_decoder_takes_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: full, annotations: {podrun.io/probe-period-ms: '100'}}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 2
  readinessGates: [{conditionType: example.com/gate}]
  nodeSelector: {kubernetes.io/os: linux}
  activeDeadlineSeconds: 600
  initContainers:
  - {name: side, image: 'localhost/busybox:test', restartPolicy: Always, command: [sleep, '3600']}
  containers:
  - name: c
    image: localhost/busybox:test
    command: [sh, -c, 'trap \"exit 0\" TERM; sleep 3600 & wait']
    ports: [{name: web, containerPort: 8080}]
    startupProbe: {exec: {command: ['true']}}
    livenessProbe: {exec: {command: ['true']}}
    readinessProbe: {tcpSocket: {port: web}}
    lifecycle: {postStart: {sleep: {seconds: 0}}, preStop: {exec: {command: ['true']}}}
  - {name: crashes, image: 'localhost/busybox:test', command: ['false']}
";
    let path = podrun.dir().join("full.yaml");
    fs::write(&path, text).expect("a writable directory");
    podrun.podrun(&["run", "-d", &path.display().to_string()]).ok();
    podrun.wait_for(
        "full",
        "{.status.containerStatuses[?(@.name==\"crashes\")].state.waiting.reason}",
        "CrashLoopBackOff",
    );
    let yaml = podrun.podrun(&["get", "pod", "full", "-o", "yaml"]).ok();
    podrun_spec::decode_strict("full.yaml", &yaml).expect("a v1 Pod");
    assert!(yaml.contains("readinessProbe:") && yaml.contains("lastProbeTime: null"), "{yaml}");
    podrun.finish();
}

#[test]
fn a_pod_is_waited_for_that_is_not_there_yet() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let errors = podrun.podrun(&["wait", "pod/web", "--for=create", "--timeout=0"]).fails(124);
    assert_eq!(errors, "error: timed out waiting for the condition on pods/web\n");
    let mut wait = podrun.spawn(&["wait", "pod/web", "pod/db", "--for=create", "--timeout=-1s"]);
    podrun.start(&pod("web", &[container("app", &["sleep", "1000"])]));
    assert_eq!(wait.line().as_deref(), Some("pod/web condition met"));
    podrun.start(&pod("db", &[container("app", &["sleep", "1000"])]));
    assert_eq!(wait.finish().ok(), "pod/db condition met\n");
    podrun.podrun(&["wait", "--all", "--for=create"]).fails(2);
    // -1 is the Pod's own time.
    podrun.podrun(&["delete", "pods", "--all", "--grace-period=-1"]).ok();
    podrun.finish();
}
