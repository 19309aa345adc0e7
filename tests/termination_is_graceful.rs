//! Ending is graceful: a signal, time to end, and only then force.

mod common;

use std::time::{Duration, Instant};

use common::{Podrun, container, pod, sh, state, with_spec};
use podrun_testkit::require;
use serde_json::json;

/// What a container shows while it ends.
fn end_of(container: &str) -> String {
    format!(
        "{{.status.phase}} {} {}",
        state(container, "terminated.exitCode"),
        state(container, "terminated.reason")
    )
}

/// Deletes a Pod and returns what was seen of it last, its events, and how long that took.
fn delete(podrun: &Podrun, name: &str, arguments: &[&str]) -> (String, Duration) {
    let mut watch = podrun.watch(name, &end_of("c"));
    watch.wait_line(|line| line.starts_with("Running"));
    let begun = Instant::now();
    podrun.podrun(&[&["delete", "pod", name], arguments].concat()).ok();
    let took = begun.elapsed();
    let seen = watch.finish().ok();
    (seen.lines().last().unwrap_or_default().to_owned(), took)
}

#[test]
fn a_container_that_heeds_the_signal_succeeds() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "trap 'echo bye; exit 0' TERM; echo up; sleep 3600 & wait";
    podrun
        .start(&with_spec(pod("heeds", &[sh("c", script)]), json!({ "terminationGracePeriodSeconds": 60 })));
    podrun.wait_log("heeds", "c", "up");
    let mut logs = podrun.spawn(&["logs", "heeds", "-f"]);
    assert_eq!(logs.line().as_deref(), Some("up"));
    let (last, took) = delete(&podrun, "heeds", &[]);
    assert_eq!(last, "Succeeded 0 Completed");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(logs.finish().ok(), "bye\n", "a follower sees the last line");
    podrun.finish();
}

#[test]
fn a_container_that_ignores_the_signal_is_killed_after_the_grace_period() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // As process 1 without a handler it does not even notice.
    podrun.start(&pod("ignores", &[container("c", &["sleep", "3600"])]));
    let (last, took) = delete(&podrun, "ignores", &[]);
    assert_eq!(last, "Failed 137 Error");
    assert!(took >= Duration::from_secs(2), "{took:?}");

    let long = json!({ "terminationGracePeriodSeconds": 600 });
    podrun.start(&with_spec(pod("shorter", &[container("c", &["sleep", "3600"])]), long));
    let (last, took) = delete(&podrun, "shorter", &["--grace-period=2"]);
    assert_eq!(last, "Failed 137 Error");
    assert!((Duration::from_secs(2)..Duration::from_secs(60)).contains(&took), "{took:?}");
    podrun.finish();
}

#[test]
fn force_does_not_wait() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let spec = json!({ "terminationGracePeriodSeconds": 600 });
    let script = "trap '' TERM; while :; do sleep 3600; done";
    podrun.start(&with_spec(pod("forced", &[sh("c", script)]), spec));
    podrun.wait_running("forced", "c");
    let begun = Instant::now();
    podrun.podrun(&["delete", "pod", "forced", "--force", "--grace-period=0"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    podrun.podrun(&["get", "pod", "forced"]).fails(4);
    podrun.finish();
}

#[test]
fn delete_without_waiting_returns_at_once() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let spec = json!({ "terminationGracePeriodSeconds": 600 });
    podrun.start(&with_spec(pod("slow", &[container("c", &["sleep", "3600"])]), spec));
    podrun.wait_running("slow", "c");
    let generations = "{.metadata.generation} {.status.observedGeneration}";
    assert_eq!(podrun.get("slow", generations), "1 1");
    podrun.podrun(&["delete", "pod", "slow", "--wait=false"]).ok();
    assert_eq!(podrun.get("slow", generations), "2 2");
    let row = podrun.podrun(&["get", "pods", "--no-headers"]).ok();
    assert!(row.contains("Terminating"), "{row}");
    assert_eq!(podrun.get("slow", "{.metadata.deletionGracePeriodSeconds}"), "600");
    podrun.podrun(&["delete", "pod", "slow", "--timeout=1s"]).fails(124);
    assert_eq!(podrun.get("slow", generations), "2 2", "the second wish is no new one");
    podrun.podrun(&["delete", "pod", "slow", "--force", "--grace-period=0"]).ok();
    podrun.finish();
}

#[test]
fn interrupting_run_ends_the_pod_gracefully() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "trap 'echo bye; exit 0' TERM; echo up; sleep 3600 & wait";
    let path = podrun.write(&pod("polite", &[sh("c", script)]));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut run = podrun.spawn(&["run", &path]);
        assert_eq!(run.line().as_deref(), Some("[c] up"));
        run.signal(signal);
        let output = run.finish();
        assert_eq!((output.code, output.stdout.as_str()), (130, "[c] bye\n"), "{}", output.stderr);
        podrun.podrun(&["get", "pod", "polite"]).fails(4);
    }
    podrun.finish();
}

#[test]
fn interrupting_run_twice_kills() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "trap 'echo not yet' TERM; echo up; while :; do sleep 3600 & wait; done";
    let spec = json!({ "terminationGracePeriodSeconds": 600 });
    let path = podrun.write(&with_spec(pod("stubborn", &[sh("c", script)]), spec));
    let mut run = podrun.spawn(&["run", &path]);
    assert_eq!(run.line().as_deref(), Some("[c] up"));
    run.signal(libc::SIGINT);
    assert_eq!(run.line().as_deref(), Some("[c] not yet"));
    let begun = Instant::now();
    run.signal(libc::SIGINT);
    let output = run.finish();
    assert_eq!(output.code, 130, "{}", output.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    podrun.podrun(&["get", "pod", "stubborn"]).fails(4);
    podrun.finish();
}
