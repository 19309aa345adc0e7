//! Probes decide about readiness, restarts and startup, with every kind of handler.

mod common;

use common::{Podrun, pod, sh, with};
use podrun_testkit::require;
use serde_json::{Value, json};

/// A probe that is made ten times a second: see [`often`].
fn probe(handler: Value) -> Value {
    with(handler, json!({ "periodSeconds": 1, "failureThreshold": 2 }))
}

fn exec(script: &str) -> Value {
    json!({ "exec": { "command": ["sh", "-c", script] } })
}

/// Makes all probes of a Pod ten times a second.
fn often(mut pod: Value) -> Value {
    pod["metadata"]["annotations"] = json!({ "podrun.io/probe-period-ms": "100" });
    pod
}

#[test]
fn readiness_follows_a_command() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script =
        "trap 'rm /tmp/ok' USR1; trap 'exit 0' TERM; touch /tmp/ok; while :; do sleep 3600 & wait; done";
    let container = with(
        sh("c", script),
        json!({ "readinessProbe": probe(exec("test -e /tmp/ok || { echo gone; false; }")) }),
    );
    podrun.start(&often(pod("ready", &[container])));
    podrun.wait_ready("ready");
    podrun.finish();
}
