//! postStart and preStop hooks of every kind: success, failure, too much time, and supervisors that die meanwhile.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Podrun, WAIT_FOR_TERM, pod, processes, sh, state, with, with_dir, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

fn podrun() -> Podrun {
    let podrun = Podrun::new();
    fs::create_dir(podrun.dir().join("t")).expect("the directory is ours");
    podrun
}

fn command(script: &str) -> Value {
    json!({ "exec": { "command": ["sh", "-c", script] } })
}

/// A Pod whose only container has these hooks.
fn hooked(podrun: &Podrun, name: &str, script: &str, hooks: Value) -> Value {
    with_dir(pod(name, &[with(sh("c", script), json!({ "lifecycle": hooks }))]), &podrun.dir().join("t"))
}

/// Returns what containers and hooks have written to /t/log.
fn log(podrun: &Podrun) -> String {
    fs::read_to_string(podrun.dir().join("t/log")).unwrap_or_default()
}

#[test]
fn a_container_is_ready_when_its_post_start_hook_has_returned() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let hook =
        command("echo hook >> /t/log; until test -e /t/go; do usleep 10000; done; echo done >> /t/log");
    podrun.start(&hooked(&podrun, "begins", WAIT_FOR_TERM, json!({ "postStart": hook })));
    processes::wait_for("the hook runs", || (log(&podrun) == "hook\n").then_some(()));
    assert_eq!(podrun.get("begins", "{.status.phase}"), "Pending");
    fs::write(podrun.dir().join("t/go"), "").expect("the directory is ours");
    podrun.wait_ready("begins");
    assert_eq!(log(&podrun), "hook\ndone\n");
    podrun.finish();
}

#[test]
fn a_container_whose_post_start_hook_fails_is_killed() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    for (name, hook) in [
        ("command", command("echo secret; exit 3")),
        ("request", json!({ "httpGet": { "port": 8080 } })),
        ("socket", json!({ "tcpSocket": { "port": 8080 } })),
    ] {
        let script = "trap 'exit 5' TERM; sleep 3600 & wait";
        podrun.start(&hooked(&podrun, name, script, json!({ "postStart": hook })));
        podrun.wait_for(name, "{.status.phase}", "Failed");
        assert_eq!(podrun.get(name, &state("c", "terminated.exitCode")), "5", "{name}");
        let events = podrun.events(name);
        assert!(
            events.contains("FailedPostStartHook") && events.contains("PostStartHook failed"),
            "{events}"
        );
        assert!(!events.contains("secret"), "{events}");
    }
    podrun.finish();
}

#[test]
fn a_container_is_told_to_stop_when_its_pre_stop_hook_has_returned() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    let script =
        "trap 'echo term >> /t/log; exit 0' TERM; httpd -p 0.0.0.0:8080 -h /t; echo up; sleep 3600 & wait";
    for (name, hook, logged) in [
        ("command", command("echo hook >> /t/log"), "hook\nterm\n"),
        ("fails", command("echo hook >> /t/log; exit 1"), "hook\nterm\n"),
        ("request", json!({ "httpGet": { "port": 8080, "path": "/" } }), "term\n"),
        ("sleeps", json!({ "sleep": { "seconds": 1 } }), "term\n"),
        ("socket", json!({ "tcpSocket": { "port": 8080 } }), "term\n"),
    ] {
        let _ = fs::remove_file(podrun.dir().join("t/log"));
        let manifest = hooked(&podrun, name, script, json!({ "preStop": hook }));
        podrun.start(&with_spec(manifest, json!({ "terminationGracePeriodSeconds": 60 })));
        podrun.wait_log(name, "c", "up");
        let mut events = podrun.spawn(&["events", name, "--no-headers", "-w"]);
        events.wait_line(|line| line.contains("Started"));
        let begun = Instant::now();
        podrun.delete(name);
        let took = begun.elapsed();
        assert_eq!(log(&podrun), logged, "{name}");
        assert!(
            took < Duration::from_secs(40) && (name != "sleeps" || took >= Duration::from_secs(1)),
            "{took:?}"
        );
        if matches!(name, "fails" | "socket") {
            events
                .wait_line(|line| line.contains("FailedPreStopHook") && line.contains("PreStopHook failed"));
        }
        events.kill();
    }
    podrun.finish();
}

#[test]
fn a_pre_stop_hook_has_no_more_time_than_the_grace_period() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let script = "trap 'echo term >> /t/log; exit 0' TERM; echo up; sleep 3600 & wait";
    let hook = command("echo hook >> /t/log; sleep 600");
    let manifest = hooked(&podrun, "overruns", script, json!({ "preStop": hook }));
    podrun.start(&with_spec(manifest, json!({ "terminationGracePeriodSeconds": 3 })));
    podrun.wait_log("overruns", "c", "up");
    let begun = Instant::now();
    podrun.delete("overruns");
    let took = begun.elapsed();
    assert_eq!(log(&podrun), "hook\nterm\n");
    assert!((Duration::from_secs(3)..Duration::from_secs(40)).contains(&took), "{took:?}");
    podrun.finish();
}

#[test]
fn a_supervisor_may_die_while_a_hook_runs() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let wait = |what: &str| format!("echo {what} >> /t/log; until test -e /t/{what}; do usleep 10000; done");
    let hooks = json!({ "postStart": command(&wait("begin")), "preStop": command(&wait("end")) });
    let script = "trap 'echo term >> /t/log; exit 0' TERM; sleep 3600 & wait";
    let manifest = hooked(&podrun, "adopted", script, hooks);
    let uid = podrun.start(&with_spec(manifest, json!({ "terminationGracePeriodSeconds": 600 })));
    let kill = || processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
    let wait_for = |text: &str| processes::wait_for(text, || (log(&podrun) == text).then_some(()));
    // A hook is killed with the supervisor that has begun it. The container runs, and is taken as it is.
    wait_for("begin\n");
    kill();
    podrun.wait_ready("adopted");
    podrun.podrun(&["delete", "pod", "adopted", "--wait=false"]).ok();
    // The hook before the stop signal is begun again by the next supervisor.
    wait_for("begin\nend\n");
    kill();
    podrun.podrun(&["get", "pods"]).ok();
    wait_for("begin\nend\nend\n");
    fs::write(podrun.dir().join("t/end"), "").expect("the directory is ours");
    podrun.podrun(&["wait", "adopted", "--for=delete", "--timeout=60s"]).ok();
    assert_eq!(log(&podrun), "begin\nend\nend\nterm\n");
    podrun.finish();
}
