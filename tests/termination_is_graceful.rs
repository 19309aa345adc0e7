//! Ending is graceful: a signal, time to end, and only then force.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Podrun, container, pod, processes, sh, state, with, with_spec};
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

/// Makes an image of busybox that names a stop signal.
fn image(podrun: &Podrun, name: &str, stop_signal: &str) {
    let rootfs = podrun.dir().join("rootfs");
    fs::create_dir_all(rootfs.join("bin")).expect("mkdir");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    for program in ["sh", "sleep"] {
        fs::copy(busybox.expect("required"), rootfs.join("bin").join(program)).expect("copy");
    }
    let rootfs = rootfs.display().to_string();
    podrun.podrun(&["image", "import", "--replace", "--stop-signal", stop_signal, &rootfs, name]).ok();
}

#[test]
fn a_new_supervisor_sends_the_signal_that_the_image_had_named() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let (own, data) = ("localhost/own:1", "localhost/data:1");
    let script = "trap 'exit 7' USR1; trap 'exit 8' TERM; echo up; sleep 3600 & wait";
    let mut ends = Vec::new();
    // What the store says of a name then is not what the container was started with.
    for (name, lost) in [("moved", None), ("gone", Some(own)), ("volume", Some(data))] {
        image(&podrun, own, "SIGUSR1");
        image(&podrun, data, "SIGTERM");
        let mounts = json!({ "image": own, "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
        let volume = json!({ "name": "v", "image": { "reference": data } });
        let one = pod(name, &[with(sh("c", script), mounts)]);
        let uid = podrun.start(&with_spec(one, json!({ "volumes": [volume] })));
        podrun.wait_log(name, "c", "up");
        processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
        match lost {
            Some(lost) => drop(podrun.podrun(&["image", "rm", "--force", lost]).ok()),
            None => image(&podrun, own, "SIGTERM"),
        }
        ends.push(format!("{name}: {}", delete(&podrun, name, &[]).0));
    }
    assert_eq!(ends, ["moved: Failed 7 Error", "gone: Failed 7 Error", "volume: Failed 7 Error"]);
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
