//! Probes decide about readiness, restarts and startup, with every kind of handler.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::health::{Health, HealthServer};
use common::{
    Podrun, WAIT_FOR_TERM, cgroup, pod, probed_every, processes, sh, state, status, with, with_dir, with_spec,
};
use podrun_testkit::require;
use serde_json::{Value, json};

/// A file that the test makes and removes, as it is seen by the container and by the test.
const SEEN: &str = "/t/file";
const FILE: &str = "t/file";

fn command(script: &str) -> Value {
    json!({ "exec": { "command": ["sh", "-c", script] } })
}

/// A probe that fails after the second failure in a row.
fn probe(handler: Value) -> Value {
    with(handler, json!({ "failureThreshold": 2 }))
}

/// A Pod whose only container has these fields, and whose probes are made ten times a second.
fn probed(podrun: &Podrun, name: &str, script: &str, fields: Value) -> Value {
    let pod = probed_every(pod(name, &[with(sh("c", script), fields)]), 100);
    with_dir(pod, &podrun.dir().join("t"))
}

/// How often an event has happened, by a line of `podrun events`.
fn times(line: &str) -> u32 {
    let count = line.split_once("(x").and_then(|(_, rest)| rest.split_once(' '));
    count.map_or(1, |(count, _)| count.parse().expect("a number"))
}

fn make(podrun: &Podrun) {
    fs::write(podrun.dir().join(FILE), "").expect("the directory is ours");
}

fn remove(podrun: &Podrun) {
    fs::remove_file(podrun.dir().join(FILE)).expect("the file is there");
}

/// Makes the directory that the container sees as /t.
fn podrun() -> Podrun {
    let podrun = Podrun::new();
    fs::create_dir(podrun.dir().join("t")).expect("the directory is ours");
    podrun
}

#[test]
fn readiness_comes_and_goes_without_restarts() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let fields =
        json!({ "readinessProbe": probe(command(&format!("test -e {SEEN} || {{ echo not yet; false; }}"))) });
    podrun.start(&probed(&podrun, "ready", WAIT_FOR_TERM, fields));
    podrun.wait_running("ready", "c");
    podrun.wait_event("ready", "Unhealthy   Pod/ready   Readiness probe failed: not yet");
    let mut watch = podrun.watch(
        "ready",
        &format!("{} {{.status.conditions[?(@.type==\"Ready\")].status}}", status("c", "ready")),
    );
    assert_eq!(watch.line().as_deref(), Some("false False"));
    for _ in 0..2 {
        make(&podrun);
        watch.wait_line(|line| line == "true True");
        remove(&podrun);
        watch.wait_line(|line| line == "false False");
    }
    watch.kill();
    assert_eq!(podrun.get("ready", &status("c", "restartCount")), "0");
    podrun.finish();
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_restarted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let script = format!("touch {SEEN}; echo up; trap 'exit 7' TERM; sleep 3600 & wait");
    let fields = json!({ "livenessProbe": probe(command(&format!("test -e {SEEN}"))) });
    let manifest = probed(&podrun, "alive", &script, fields);
    podrun.start(&with_spec(manifest, json!({ "restartPolicy": "Always" })));
    podrun.wait_log("alive", "c", "up");
    let restarted =
        format!("{} {}", status("c", "restartCount"), status("c", "lastState.terminated.exitCode"));
    let mut watch = podrun.watch("alive", &restarted);
    remove(&podrun);
    watch.wait_line(|line| line == "1 7");
    watch.kill();
    let events = podrun.events("alive");
    assert!(events.contains("Unhealthy") && events.contains("Liveness probe failed:"), "{events}");
    assert!(
        events.contains("Killing") && events.contains("Container c failed liveness probe, will be restarted")
    );
    podrun.finish();
}

#[test]
fn a_container_that_is_never_restarted_ends_with_its_liveness() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    podrun.start(&probed(
        &podrun,
        "once",
        WAIT_FOR_TERM,
        json!({ "livenessProbe": probe(command("false")) }),
    ));
    podrun.wait_for("once", "{.status.phase}", "Succeeded");
    let events = podrun.events("once");
    assert!(events.contains("Stopping container c"), "{events}");
    podrun.finish();
}

#[test]
fn a_probe_may_have_a_grace_of_its_own() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let liveness = with(probe(command("false")), json!({ "terminationGracePeriodSeconds": 1 }));
    let deaf = "trap '' TERM; while :; do sleep 3600; done";
    let manifest = probed(&podrun, "deaf", deaf, json!({ "livenessProbe": liveness }));
    let begun = Instant::now();
    // Of a container that is not restarted the Pod's own would count: it ends with its Pod.
    let spec = json!({ "terminationGracePeriodSeconds": 600, "restartPolicy": "OnFailure" });
    podrun.start(&with_spec(manifest, spec));
    podrun.wait_for("deaf", &status("c", "lastState.terminated.exitCode"), "137");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    podrun.finish();
}

#[test]
fn a_startup_probe_holds_the_others_back() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let fields = json!({
        "startupProbe": with(command(&format!("echo startup >> /t/log; test -e {SEEN}")), json!({ "failureThreshold": 1000 })),
        "livenessProbe": probe(command("echo liveness >> /t/log")),
        "readinessProbe": probe(command("echo readiness >> /t/log")),
    });
    podrun.start(&probed(&podrun, "slow", WAIT_FOR_TERM, fields));
    podrun.wait_event("slow", "Unhealthy   Pod/slow   Startup probe failed:");
    let shown = format!("{} {}", status("c", "started"), status("c", "ready"));
    assert_eq!(podrun.get("slow", &shown), "false false");
    let log = fs::read_to_string(podrun.dir().join("t/log")).expect("a log");
    assert!(log.lines().all(|line| line == "startup"), "{log}");
    make(&podrun);
    podrun.wait_for("slow", &shown, "true true");
    processes::wait_for("all probes were made", || {
        let log = fs::read_to_string(podrun.dir().join("t/log")).expect("a log");
        let (_, others) = log.rsplit_once("startup")?;
        (others.contains("liveness") && others.contains("readiness")).then_some(())
    });
    podrun.finish();
}

#[test]
fn a_container_that_does_not_start_up_is_killed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let fields = json!({ "startupProbe": probe(command("false")) });
    let manifest = probed(&podrun, "stuck", "trap 'exit 3' TERM; sleep 3600 & wait", fields);
    podrun.start(&with_spec(manifest, json!({ "restartPolicy": "OnFailure" })));
    podrun.wait_until("stuck", &status("c", "restartCount"), |count| count == "1");
    assert_eq!(podrun.get("stuck", &status("c", "lastState.terminated.exitCode")), "3");
    let events = podrun.events("stuck");
    assert!(events.contains("Container c failed startup probe, will be restarted"), "{events}");
    podrun.finish();
}

#[test]
fn a_command_that_takes_too_long_is_killed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let fields = json!({ "readinessProbe": probe(command("echo begun; (setsid sleep 1000 &); sleep 1000")) });
    let uid = podrun.start(&probed(&podrun, "hangs", WAIT_FOR_TERM, fields));
    podrun.wait_event("hangs", "Readiness probe failed: command timed out: \"sh -c echo begun;");
    let events = podrun.events("hangs");
    assert!(events.contains("timed out after 1s"), "{events}");
    let mut watch = podrun.spawn(&["events", "hangs", "--no-headers", "-w"]);
    watch.wait_line(|line| line.contains("timed out after 1s") && times(line) >= 3);
    watch.kill();
    // Two of the container itself, and three of an attempt that is under way.
    let left = cgroup::processes_of(&uid, "c").len();
    assert!(left <= 5, "{left}");
    podrun.finish();
}

#[test]
fn a_server_is_asked_by_http() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    let serve = "trap 'exit 0' TERM; httpd -f -p 0.0.0.0:8080 -h /t & wait";
    let fields = json!({
        "ports": [{ "name": "web", "containerPort": 8080 }],
        "readinessProbe": probe(json!({ "httpGet": { "port": "web", "path": "/file" } })),
    });
    podrun.start(&probed(&podrun, "http", serve, fields));
    podrun.wait_event("http", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    make(&podrun);
    podrun.wait_ready("http");
    remove(&podrun);
    podrun.wait_for("http", &status("c", "ready"), "false");
    podrun.finish();
}

#[test]
fn a_server_that_does_not_answer_in_time_has_failed() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    let silent = "trap 'exit 0' TERM; while :; do nc -l -p 8080 -e sleep 1000 & wait; done";
    let fields = json!({ "readinessProbe": probe(json!({ "httpGet": { "port": 8080 } })) });
    podrun.start(&probed(&podrun, "silent", silent, fields));
    podrun.wait_event("silent", "context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
    podrun.finish();
}

#[test]
fn a_port_is_connected_to() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    let listen = format!(
        "trap 'exit 0' TERM; until test -e {SEEN}; do usleep 10000; done; httpd -f -p 0.0.0.0:8080 -h /t & wait"
    );
    let fields = json!({ "readinessProbe": probe(json!({ "tcpSocket": { "port": 8080 } })) });
    podrun.start(&probed(&podrun, "tcp", &listen, fields));
    podrun.wait_event("tcp", "connect: connection refused");
    make(&podrun);
    podrun.wait_ready("tcp");
    podrun.finish();
}

#[test]
fn the_health_that_a_service_tells_by_grpc_decides() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    let grpc = |service: &str| json!({ "grpc": { "port": 50051, "service": service } });
    let fields = json!({
        // Whoever does not serve yet is tried again until a second is over.
        "startupProbe": with(grpc("shop"), json!({ "failureThreshold": 100 })),
        "readinessProbe": probe(grpc("shop")),
    });
    let uid = podrun.start(&probed(&podrun, "health", WAIT_FOR_TERM, fields));
    podrun.wait_running("health", "c");
    let server = HealthServer::start(&uid, 50051, "shop", Health::Serving);
    podrun.wait_ready("health");
    server.change(Health::NotServing);
    podrun.wait_for("health", &status("c", "ready"), "false");
    let words = "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
    podrun.wait_event("health", words);
    server.change(Health::Serving);
    podrun.wait_ready("health");
    assert_eq!(podrun.get("health", &status("c", "restartCount")), "0");

    // Of the same server another service, which it does not know, is not healthy.
    let fields = json!({ "livenessProbe": probe(grpc("stock")) });
    let uid = podrun.start(&probed(&podrun, "unknown", WAIT_FOR_TERM, fields));
    podrun.wait_running("unknown", "c");
    let _server = HealthServer::start(&uid, 50051, "shop", Health::Serving);
    // The code of gRPC for what is not found.
    podrun.wait_event("unknown", "code = NotFound");
    podrun.wait_until("unknown", &state("c", "terminated.exitCode"), |code| code == "0");
    podrun.finish();
}

#[test]
fn a_service_is_asked_by_grpc() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = podrun();
    // Speaks HTTP/1, which is not what was asked.
    let serve = "trap 'exit 0' TERM; httpd -f -p 0.0.0.0:8080 -h /t & wait";
    let fields = json!({ "livenessProbe": probe(json!({ "grpc": { "port": 8080, "service": "s" } })) });
    podrun.start(&probed(&podrun, "grpc", serve, fields));
    podrun.wait_event("grpc", "Unhealthy   Pod/grpc   Liveness probe failed: ");
    podrun.wait_until("grpc", &state("c", "terminated.exitCode"), |code| code == "0");
    podrun.finish();
}

#[test]
fn a_probe_that_cannot_be_made_decides_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    let fields = json!({
        "livenessProbe": probe(json!({ "tcpSocket": { "port": "nowhere" } })),
        "readinessProbe": probe(json!({ "exec": { "command": ["no-such-program"] } })),
    });
    podrun.start(&probed(&podrun, "errs", WAIT_FOR_TERM, fields));
    for words in [
        "Liveness probe errored and resulted in unknown state: strconv.Atoi: parsing \"nowhere\": invalid syntax",
        "Readiness probe errored and resulted in unknown state: ",
    ] {
        let mut events = podrun.spawn(&["events", "errs", "--no-headers", "-w"]);
        events.wait_line(|line| line.contains(words) && times(line) >= 4);
        events.kill();
    }
    let shown = format!("{} {}", status("c", "ready"), status("c", "restartCount"));
    assert_eq!(podrun.get("errs", &shown), "false 0");
    podrun.finish();
}

#[test]
fn probes_that_are_alike_are_made_once() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = podrun();
    // Whoever comes while another one is at it leaves a trace.
    let alone = "mkdir /t/at-it || touch /t/twice; echo >> /t/runs; usleep 50000; rmdir /t/at-it";
    let fields = json!({ "livenessProbe": probe(command(alone)), "readinessProbe": probe(command(alone)) });
    podrun.start(&probed(&podrun, "twins", WAIT_FOR_TERM, fields));
    podrun.wait_ready("twins");
    processes::wait_for("some runs", || {
        let runs = fs::read_to_string(podrun.dir().join("t/runs")).unwrap_or_default();
        (runs.lines().count() >= 10).then_some(())
    });
    assert!(!podrun.dir().join("t/twice").exists());
    podrun.finish();
}
