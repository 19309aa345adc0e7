//! Sidecars start before the regular containers and stop after them, also in a Pod that crashes and is slow to stop.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Podrun, pod, sh, state, with, with_dir, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

/// Says in /t/log when it starts and when it is told to stop.
fn witness(name: &str, code: u32) -> Value {
    let script = format!(
        "trap 'echo {name} stops >> /t/log; exit {code}' TERM; echo {name} starts >> /t/log; sleep 3600 & wait"
    );
    sh(name, &script)
}

fn sidecar(name: &str) -> Value {
    with(witness(name, 0), json!({ "restartPolicy": "Always" }))
}

fn log(podrun: &Podrun) -> String {
    fs::read_to_string(podrun.dir().join("t/log")).unwrap_or_default()
}

#[test]
fn sidecars_start_first_and_end_last_in_reverse() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let init =
        json!({ "initContainers": [sidecar("first"), sh("init", "echo init >> /t/log"), sidecar("second")] });
    let job = sh("job", "echo job >> /t/log");
    let manifest = with_dir(with_spec(pod("job", &[job]), init), &podrun.dir().join("t"));
    podrun.start(&with_spec(manifest, json!({ "terminationGracePeriodSeconds": 30 })));
    // The job is done, which nothing keeps alive.
    podrun.wait_for("job", "{.status.phase}", "Succeeded");
    let log = log(&podrun);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        ["first starts", "init", "second starts", "job", "second stops", "first stops"],
        "in this order"
    );
    podrun.finish();
}

#[test]
fn a_pod_that_crashes_is_stopped_in_order() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let slow = json!({ "lifecycle": { "preStop": { "exec": {
        "command": ["sh", "-c", "echo hook begins >> /t/log; sleep 2; echo hook ends >> /t/log"],
    } } } });
    let containers = [sh("crashes", "exit 3"), with(witness("slow", 4), slow)];
    let spec = json!({
        "initContainers": [sidecar("side")],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
    });
    let manifest = with_dir(with_spec(pod("mixed", &containers), spec), &podrun.dir().join("t"));
    podrun.start(&manifest);
    podrun.wait_for("mixed", &state("crashes", "waiting.reason"), "CrashLoopBackOff");
    let ends = format!(
        "{{.status.phase}} {} {} {{.status.initContainerStatuses[0].state.terminated.exitCode}}",
        state("crashes", "terminated.exitCode"),
        state("slow", "terminated.exitCode"),
    );
    let watch = podrun.watch("mixed", &ends);
    let begun = Instant::now();
    podrun.delete("mixed");
    let took = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(25)).contains(&took), "{took:?}");
    let seen = watch.finish().ok();
    assert_eq!(seen.lines().last(), Some("Failed 3 4 0"), "{seen}");
    let log = log(&podrun);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        ["side starts", "slow starts", "hook begins", "hook ends", "slow stops", "side stops"],
        "in this order"
    );
    podrun.finish();
}

#[test]
fn a_pod_has_no_more_time_than_its_deadline() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let spec = json!({ "activeDeadlineSeconds": 1, "restartPolicy": "Always" });
    podrun.start(&with_spec(pod("late", &[sh("c", "trap 'exit 0' TERM; sleep 3600 & wait")]), spec));
    podrun.wait_for("late", "{.status.phase} {.status.reason}", "Failed DeadlineExceeded");
    let message = podrun.get("late", "{.status.message}");
    assert_eq!(message, "Pod was active on the node longer than the specified deadline");
    assert!(podrun.events("late").contains("DeadlineExceeded"));
    podrun.finish();
}
