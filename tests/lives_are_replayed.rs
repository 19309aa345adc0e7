//! What became of a Pod can be derived anew from its journal, and what would become of it can be seen before.

mod common;

use std::fs;

use common::{Podrun, WAIT_FOR_TERM, pod, probed_every, processes, sh, state, status, with, with_spec};
use podrun_testkit::require;
use serde_json::json;

#[test]
fn every_decision_about_a_pod_is_made_again() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let probes = json!({
        "readinessProbe": { "exec": { "command": ["true"] } },
        "lifecycle": { "postStart": { "exec": { "command": ["false"] } } },
    });
    let containers = [with(sh("hooked", WAIT_FOR_TERM), probes), sh("crashes", "exit 3")];
    let manifest = probed_every(pod("replayed", &containers), 100);
    let spec = json!({ "restartPolicy": "OnFailure", "initContainers": [sh("i", "true")] });
    let uid = podrun.start(&with_spec(manifest, spec));
    podrun.wait_for("replayed", &state("crashes", "waiting.reason"), "CrashLoopBackOff");
    processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
    podrun.wait_for("replayed", &state("crashes", "waiting.reason"), "CrashLoopBackOff");

    let told = podrun.podrun(&["replay", "replayed"]).ok();
    assert!(told.contains("crashes#1 ended with 3"), "{told}");
    assert!(told.contains("FailedPostStartHook"), "{told}");
    assert!(told.ends_with(" 1 supervisors that took over, 0 other decisions\n"), "{told}");

    // A copy outlives the Pod, and shows where somebody has tampered with it.
    let raw = podrun.podrun(&["replay", "replayed", "--raw"]).ok();
    podrun.delete("replayed");
    let copy = podrun.dir().join("copy.jsonl").display().to_string();
    fs::write(&copy, &raw).expect("a writable directory");
    podrun.podrun(&["replay", &copy, "--quiet"]).ok();
    fs::write(&copy, raw.replace("\"attempt\":1", "\"attempt\":2")).expect("a writable directory");
    let output = podrun.podrun(&["replay", &copy, "--quiet"]);
    assert_eq!(output.code, 1, "{}", output.stdout);
    assert!(output.stdout.contains(": another decision\n"), "{}", output.stdout);
    fs::write(&copy, "{}\n").expect("a writable directory");
    podrun.podrun(&["replay", &copy]).fails(3);
    podrun.podrun(&["replay", "replayed"]).fails(4);
    podrun.finish();
}

#[test]
fn a_life_is_seen_before_it_is_lived() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let manifest = with_spec(pod("planned", &[sh("c", "exit 3")]), json!({ "restartPolicy": "OnFailure" }));
    let path = podrun.write(&manifest);
    let seen = podrun.podrun(&["simulate", &path, "--at", "0s:run:c=0s/3", "--for=1m"]).ok();
    assert!(seen.contains("CrashLoopBackOff") && seen.contains("c#2 ended with 3"), "{seen}");
    assert!(seen.ends_with("Running: and so on\n"), "{seen}");
    let error = podrun.podrun(&["simulate", &path, "--at", "0s:exit:x=1"]).fails(2);
    assert!(error.contains("no container `x`"), "{error}");
    let error = podrun.podrun(&["simulate", &path, "--at", "nonsense"]).fails(2);
    assert!(error.contains("TIME:FACT"), "{error}");

    // What is seen is what becomes of it.
    podrun.start(&manifest);
    podrun.wait_for("planned", &state("c", "waiting.reason"), "CrashLoopBackOff");
    assert_eq!(podrun.get("planned", &status("c", "restartCount")), "1");
    podrun.finish();
}
