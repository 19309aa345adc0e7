//! Whatever became of a Pod, nothing is left of it after its deletion.

mod common;

use common::{Podrun, WAIT_FOR_TERM, container, pod, sh, state, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};
use serial_test::file_serial;

#[test]
#[file_serial(kernel)]
fn twenty_pods_come_and_go() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::watching_the_host();
    let volumes = json!({ "volumes": [
        { "name": "disk", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } },
    ] });
    let mounts = json!({ "volumeMounts": [
        { "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" },
    ] });
    let names: Vec<String> = (0..20).map(|n| format!("pod-{n}")).collect();
    let paths: Vec<String> = names
        .iter()
        .map(|name| {
            let containers =
                [with(sh("a", WAIT_FOR_TERM), mounts.clone()), with(sh("b", WAIT_FOR_TERM), mounts.clone())];
            podrun.write(&with_spec(pod(name, &containers), volumes.clone()))
        })
        .collect();
    // Side by side, as one who types `&` would.
    let starting: Vec<_> = paths.iter().map(|path| podrun.spawn(&["run", "-d", path])).collect();
    starting.into_iter().for_each(|run| drop(run.finish().ok()));
    names.iter().for_each(|name| podrun.wait_ready(name));
    let ending: Vec<_> = names.iter().map(|name| podrun.spawn(&["delete", "pod", name])).collect();
    ending.into_iter().for_each(|delete| drop(delete.finish().ok()));
    assert_eq!(podrun.podrun(&["get", "pods", "-o", "name"]).ok(), "");
    podrun.finish();
}

#[test]
#[file_serial(kernel)]
fn failed_starts_leave_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::watching_the_host();
    let missing = podrun.dir().join("missing");
    let volume = |source: Value| {
        let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
        let volumes = json!({ "volumes": [with(json!({ "name": "v" }), source)] });
        move |name: &str| with_spec(pod(name, &[with(sh("c", "true"), mount.clone())]), volumes.clone())
    };
    let waiting = |reason: &str| (state("c", "waiting.reason"), reason.to_owned());
    let table = [
        (
            pod("command", &[container("c", &["/no/such"])]),
            ("{.status.phase}".to_owned(), "Failed".to_owned()),
        ),
        (
            pod(
                "image",
                &[with(sh("c", "true"), json!({ "image": "localhost/no:1", "imagePullPolicy": "Never" }))],
            ),
            waiting("ErrImageNeverPull"),
        ),
        (
            volume(json!({ "hostPath": { "path": missing, "type": "Directory" } }))("volume"),
            waiting("ContainerCreating"),
        ),
        (
            pod("root", &[with(sh("c", "true"), json!({ "securityContext": { "runAsNonRoot": true } }))]),
            waiting("CreateContainerConfigError"),
        ),
        (
            with_spec(pod("loop", &[container("c", &["/no/such"])]), json!({ "restartPolicy": "Always" })),
            waiting("CrashLoopBackOff"),
        ),
    ];
    for (manifest, (template, value)) in &table {
        let name = manifest["metadata"]["name"].as_str().expect("text");
        podrun.start(manifest);
        podrun.wait_for(name, template, value);
    }
    for (manifest, _) in &table {
        podrun.delete(manifest["metadata"]["name"].as_str().expect("text"));
    }
    podrun.finish();
}

#[test]
#[file_serial(kernel)]
fn a_pod_can_be_deleted_in_every_state() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::watching_the_host();
    let endless = json!({ "initContainers": [sh("i", WAIT_FOR_TERM)] });
    let table = [
        (pod("succeeded", &[sh("c", "true")]), "{.status.phase}", "Succeeded"),
        (pod("failed", &[sh("c", "false")]), "{.status.phase}", "Failed"),
        (pod("running", &[sh("c", WAIT_FOR_TERM)]), "{.status.phase}", "Running"),
        (
            with_spec(pod("initializing", &[sh("c", "true")]), endless),
            "{.status.initContainerStatuses[0].started}",
            "true",
        ),
        (
            with_spec(pod("looping", &[sh("c", "false")]), json!({ "restartPolicy": "Always" })),
            "{.status.containerStatuses[0].state.waiting.reason}",
            "CrashLoopBackOff",
        ),
        (pod("half", &[sh("c", WAIT_FOR_TERM), sh("d", "true")]), &state("d", "terminated.exitCode"), "0"),
    ];
    for (manifest, template, value) in table {
        let name = manifest["metadata"]["name"].as_str().expect("text").to_owned();
        podrun.start(&manifest);
        podrun.wait_for(&name, template, value);
        podrun.delete(&name);
        let again = podrun.podrun(&["delete", "pod", &name]).fails(4);
        assert!(again.contains("not found"), "{again}");
        podrun.podrun(&["delete", "pod", &name, "--ignore-not-found"]).ok();
    }
    // In the first moment, whatever that is.
    for round in 0..10 {
        let name = format!("early-{round}");
        let path = podrun.write(&pod(&name, &[sh("c", WAIT_FOR_TERM)]));
        podrun.podrun(&["run", "-d", &path]).ok();
        podrun.delete(&name);
    }
    podrun.finish();
}

#[test]
#[file_serial(kernel)]
fn what_a_container_leaves_running_goes_with_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::watching_the_host();
    let script = "for n in 1 2 3 4 5; do (trap '' TERM HUP; setsid sleep 3600 &) ; done; exit 0";
    for (name, spec) in [
        ("apart", json!({})),
        ("together", json!({ "shareProcessNamespace": true })),
        ("host", json!({ "hostPID": true })),
    ] {
        podrun.run(&with_spec(pod(name, &[sh("c", script)]), spec)).ok();
    }
    podrun.podrun(&["delete", "--all"]).ok();
    podrun.finish();
}
