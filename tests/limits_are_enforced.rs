//! Limits hold, and what the kernel holds is what was asked for.
//!
//! The tests take turns: what one of them eats, another one measures.

mod common;

use std::time::{Duration, Instant};

use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, sh, state, status, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};
use serial_test::serial;

fn limited(container: Value, limits: Value) -> Value {
    with(container, json!({ "resources": { "limits": limits } }))
}

/// Returns the microseconds of processor time that a cgroup has used.
fn usage(dir: &std::path::Path) -> u64 {
    let text = cgroup::value(dir, "cpu.stat");
    let line = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    line.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
#[serial]
fn the_kernel_holds_what_was_asked_for() {
    require!(
        root,
        cgroup2,
        overlay,
        controller("cpu"),
        controller("memory"),
        controller("pids"),
        program("busybox")
    );
    let podrun = Podrun::new();
    let container = with(
        sh("c", WAIT_FOR_TERM),
        json!({ "resources": {
            "limits": { "cpu": "500m", "memory": "64Mi" }, "requests": { "cpu": "250m", "memory": "32Mi" },
        } }),
    );
    let path = podrun.write(&pod("values", &[container]));
    podrun.podrun(&["run", "-d", "--pod-max-pids=64", &path]).ok();
    podrun.wait_running("values", "c");
    let uid = podrun.get("values", "{.metadata.uid}");
    let (pod, container) = (cgroup::of_pod(&uid).expect("it runs"), cgroup::of_container(&uid, "c"));
    for (dir, file, value) in [
        (&container, "cpu.max", "50000 100000"),
        (&container, "cpu.weight", "35"),
        (&container, "memory.max", "67108864"),
        (&container, "memory.oom.group", "1"),
        (&pod, "cpu.max", "50000 100000"),
        (&pod, "cpu.weight", "10"),
        (&pod, "memory.max", "67108864"),
        (&pod, "pids.max", "64"),
    ] {
        assert_eq!(cgroup::value(dir, file), value, "{} of {}", file, dir.display());
    }
    let description = podrun.podrun(&["describe", "pod", "values"]).ok();
    for text in ["50000 100000", "67108864", "pids.max"] {
        assert!(description.contains(text), "{text} is missing in\n{description}");
    }
    podrun.delete("values");
    podrun.finish();
}

#[test]
#[serial]
fn a_container_over_its_memory_limit_is_oom_killed() {
    require!(root, cgroup2, overlay, controller("memory"), program("busybox"));
    let podrun = Podrun::new();
    // tail keeps the one endless line in memory.
    let eater = limited(sh("eater", "tail /dev/zero"), json!({ "memory": "16Mi" }));
    let sibling = sh("sibling", WAIT_FOR_TERM);
    podrun.start(&pod("oom", &[eater, sibling]));
    assert_eq!(podrun.wait_exit("oom", "eater"), 137);
    assert_eq!(podrun.get("oom", &state("eater", "terminated.reason")), "OOMKilled");
    let yaml = podrun.podrun(&["get", "pod", "oom", "-o", "yaml"]).ok();
    assert!(yaml.contains("exitCode: 137") && yaml.contains("reason: OOMKilled"), "{yaml}");
    assert!(podrun.podrun(&["get", "pods"]).ok().contains("OOMKilled"));
    assert!(!podrun.get("oom", &state("sibling", "running.startedAt")).is_empty(), "the other one lives");
    podrun.delete("oom");
    podrun.finish();
}

#[test]
#[serial]
fn a_child_that_eats_too_much_takes_its_container_along() {
    require!(root, cgroup2, overlay, controller("memory"), program("busybox"));
    let podrun = Podrun::new();
    let container = limited(sh("c", "tail /dev/zero; echo survived; exit 0"), json!({ "memory": "16Mi" }));
    let spec = json!({ "restartPolicy": "OnFailure" });
    podrun.start(&with_spec(pod("group", &[container]), spec));
    podrun.wait_for("group", &status("c", "restartCount"), "1");
    assert_eq!(podrun.get("group", &status("c", "lastState.terminated.reason")), "OOMKilled");
    assert_eq!(podrun.podrun(&["logs", "group", "--previous"]).ok(), "");
    podrun.finish();
}

#[test]
#[serial]
fn half_a_processor_is_half_a_processor() {
    require!(root, cgroup2, overlay, controller("cpu"), program("busybox"));
    let podrun = Podrun::new();
    let spinner =
        limited(sh("spinner", "while :; do :; done & while :; do :; done"), json!({ "cpu": "500m" }));
    let uid = podrun.start(&pod("half", &[spinner]));
    podrun.wait_running("half", "spinner");
    let dir = cgroup::of_container(&uid, "spinner");
    // The first period may have begun before the limit did; two loops want two processors.
    let begun = Instant::now();
    while usage(&dir) == 0 && begun.elapsed() < Duration::from_secs(60) {}
    let (first, begun) = (usage(&dir), Instant::now());
    // Nothing tells that time has passed but a clock: the timeout of a wait for what never comes.
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    never.recv_timeout(Duration::from_secs(6)).expect_err("nobody sends");
    let (used, wall) = (usage(&dir) - first, begun.elapsed());
    let percent = Duration::from_micros(used).as_secs_f64() / wall.as_secs_f64() * 100.0;
    assert!((47.0..=53.0).contains(&percent), "{percent:.1} % of a processor in {wall:?}");
    podrun.finish();
}

#[test]
#[serial]
fn a_fork_bomb_stays_in_its_pod_and_is_removed_in_bounded_time() {
    require!(root, cgroup2, overlay, controller("pids"), program("busybox"));
    let podrun = Podrun::new();
    // A shell that cannot fork ends, so the first one leaves that to the others.
    let bomb = "echo begun; bomb() { while :; do bomb & done; }; bomb 2>/dev/null & exec tail -f /dev/null";
    let path = podrun.write(&pod("bomb", &[sh("c", bomb)]));
    podrun.podrun(&["run", "-d", "--pod-max-pids=64", &path]).ok();
    podrun.wait_log("bomb", "c", "begun");
    let uid = podrun.get("bomb", "{.metadata.uid}");
    let pod = cgroup::of_pod(&uid).expect("it runs");
    let hits = |text: &str| text.lines().find_map(|line| line.strip_prefix("max ")?.parse::<u64>().ok());
    let begun = Instant::now();
    while hits(&cgroup::value(&pod, "pids.events.local")).unwrap_or(0) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never hits its limit");
    }
    let count: u64 = cgroup::value(&pod, "pids.current").parse().expect("a number");
    assert!(count <= 64, "{count} processes");
    let begun = Instant::now();
    podrun.podrun(&["delete", "pod", "bomb", "--force"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!pod.exists());
    podrun.finish();
}
