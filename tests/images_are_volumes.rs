//! Images as volumes: their files are seen and cannot be changed, they stay as long as the Pod, and what is missing is told.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use common::{Podrun, WAIT_FOR_TERM, pod, processes, sh, state, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

/// Makes an image `localhost/<name>:1` of a few files, of which `data/file` is `content`; returns its name.
fn files(podrun: &Podrun, name: &str, content: &str) -> String {
    let dir = podrun.dir().join(format!("{name}.files"));
    fs::create_dir_all(dir.join("data/deep")).expect("mkdir");
    fs::write(dir.join("data/file"), content).expect("write");
    fs::write(dir.join("data/deep/more"), "more\n").expect("write");
    fs::write(dir.join("program"), "#!/bin/sh\necho it ran\n").expect("write");
    fs::set_permissions(dir.join("program"), fs::Permissions::from_mode(0o755)).expect("chmod");
    symlink("/data/deep", dir.join("current")).expect("symlink");
    let reference = format!("localhost/{name}:1");
    podrun.podrun(&["image", "import", &dir.display().to_string(), &reference]).ok();
    fs::remove_dir_all(dir).expect("it is ours");
    reference
}

/// Returns a container that mounts a volume at /v.
fn mounting(name: &str, script: &str, volume: &str, more: Value) -> Value {
    let mount = with(json!({ "name": volume, "mountPath": "/v" }), more);
    with(sh(name, &format!("exec 2>&1; {script}")), json!({ "volumeMounts": [mount] }))
}

/// Returns a Pod with image volumes, each by its name and its image, never pulled.
fn with_images(pod: Value, images: &[(&str, &str)]) -> Value {
    let volume = |(name, image): &(&str, &str)| json!({ "name": name, "image": { "reference": image, "pullPolicy": "Never" } });
    with_spec(pod, json!({ "volumes": images.iter().map(volume).collect::<Vec<_>>() }))
}

#[test]
fn files_are_seen_and_cannot_be_changed_or_executed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let image = files(&podrun, "data", "hello\n");
    let containers = [
        mounting("init", "cat /v/data/file", "v", json!({})),
        mounting("whole", "ls /v; rm /v/data/file; echo x > /v/new; /v/program", "v", json!({})),
        mounting("part", "ls /v; cat /v/file; mkdir /v/new", "v", json!({ "subPath": "data" })),
        mounting("file", "cat /v", "v", json!({ "subPath": "data/file" })),
        mounting("link", "cat /v/more", "v", json!({ "subPath": "current" })),
        with(
            mounting("named", "cat /v/more", "v", json!({ "subPathExpr": "data/$(WHICH)" })),
            json!({ "env": [{ "name": "WHICH", "value": "deep" }] }),
        ),
    ];
    let mut manifest = with_images(pod("reader", &containers[1..]), &[("v", &image)]);
    manifest["spec"]["initContainers"] = json!([containers[0]]);
    podrun.run(&manifest);
    for (container, expected) in [
        ("init", "hello\n"),
        (
            "whole",
            "current\ndata\nprogram\nrm: can't remove '/v/data/file': Read-only file system\n\
             sh: can't create /v/new: Read-only file system\nsh: /v/program: Permission denied\n",
        ),
        ("part", "deep\nfile\nhello\nmkdir: can't create directory '/v/new': Read-only file system\n"),
        ("file", "hello\n"),
        ("link", "more\n"),
        ("named", "more\n"),
    ] {
        assert_eq!(podrun.logs("reader", container), expected, "{container}");
    }
    let described = podrun.podrun(&["describe", "pod", "reader"]).ok();
    for line in ["Image (the files of an image)", &image, "Never"] {
        assert!(described.contains(line), "{line}: {described}");
    }
    let told = format!("Container image \"{image}\" already present on machine");
    assert!(podrun.events("reader").contains(&told), "{}", podrun.events("reader"));
    let written = podrun.json("reader")["spec"]["volumes"][0].clone();
    assert_eq!(written["image"], json!({ "reference": image, "pullPolicy": "Never" }));
    podrun.delete("reader");
    podrun.finish();
}

#[test]
fn nobody_removes_what_a_pod_has_as_a_volume() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let image = files(&podrun, "data", "kept\n");
    // Every start sees the files, also those after the supervisor was killed and the name went to another image.
    let script = "cat /v/data/file; [ -e /t/stop ] && exit 0; trap 'exit 1' TERM; sleep 3600 & wait";
    let dir = podrun.dir().join("t");
    fs::create_dir(&dir).expect("mkdir");
    let mut manifest = with_images(pod("user", &[mounting("c", script, "v", json!({}))]), &[("v", &image)]);
    manifest["spec"]["restartPolicy"] = json!("OnFailure");
    let volumes = manifest["spec"]["volumes"].as_array_mut().expect("a list");
    volumes.push(json!({ "name": "t", "hostPath": { "path": dir } }));
    let mounts = manifest["spec"]["containers"][0]["volumeMounts"].as_array_mut().expect("a list");
    mounts.push(json!({ "name": "t", "mountPath": "/t" }));
    let uid = podrun.start(&manifest);
    podrun.wait_log("user", "c", "kept");

    let told = podrun.podrun(&["image", "rm", &image]).fails(5);
    assert!(told.contains("in use"), "{told}");
    podrun.podrun(&["image", "prune", "--all"]).ok();
    processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
    podrun.podrun(&["image", "prune", "--all"]).ok();
    assert!(podrun.podrun(&["image", "ls"]).ok().contains("localhost/data"));

    podrun.podrun(&["exec", "user", "--", "cat", "/v/data/deep/more"]).ok();
    fs::write(dir.join("stop"), "").expect("write");
    // The container may end before the command is known to have begun.
    podrun.podrun(&["exec", "user", "--", "sh", "-c", "kill 1"]);
    podrun.wait_for("user", "{.status.phase}", "Succeeded");
    assert_eq!(podrun.get("user", "{.status.containerStatuses[0].restartCount}"), "1");
    assert_eq!(podrun.logs("user", "c"), "kept\n");
    podrun.delete("user");

    podrun.podrun(&["image", "rm", &image]).ok();
    podrun.podrun(&["image", "check"]).ok();
    fs::remove_dir_all(dir).expect("it is ours");
    podrun.finish();
}

#[test]
fn what_is_missing_is_told_of_the_container_that_mounts_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let image = files(&podrun, "data", "hello\n");
    let absent = "localhost/absent:1";
    let containers = [
        mounting("without", "cat /v", "absent", json!({})),
        mounting("nowhere", "cat /v", "v", json!({ "subPath": "data/none" })),
        sh("other", WAIT_FOR_TERM),
    ];
    // What no container mounts is told of the Pod alone.
    let images = [("absent", absent), ("v", &image), ("unused", "localhost/unused:1")];
    podrun.start(&with_images(pod("incomplete", &containers), &images));
    podrun.wait_running("incomplete", "other");
    podrun.wait_for("incomplete", &state("without", "waiting.reason"), "ErrImageNeverPull");
    let message = podrun.get("incomplete", &state("without", "waiting.message"));
    assert_eq!(message, format!("Container image \"{absent}\" is not present with pull policy of Never"));
    podrun.wait_for("incomplete", &state("nowhere", "waiting.reason"), "CreateContainerError");
    let message = podrun.get("incomplete", &state("nowhere", "waiting.message"));
    let expected = "find subPath \"data/none\" in the image of volume \"v\": ";
    assert!(message.starts_with(expected), "{message}");
    let told = "Container image \"localhost/unused:1\" is not present with pull policy of Never";
    podrun.wait_event("incomplete", told);

    // Once it is there the container starts.
    files(&podrun, "absent", "late\n");
    podrun.wait_event("incomplete", "Container image \"localhost/absent:1\" already present on machine");
    podrun.wait_exit("incomplete", "without");
    podrun.delete("incomplete");
    podrun.finish();
}

#[test]
fn what_no_container_mounts_is_pulled_and_not_waited_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let image = files(&podrun, "data", "hello\n");
    // One is here, one cannot be had, and one is at a registry that takes connections and never answers.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let registry_name = registry.local_addr().expect("it is bound").to_string();
    let etc = podrun.state().join("etc");
    fs::create_dir_all(&etc).expect("mkdir");
    let text = format!("[registry.\"{registry_name}\"]\nplain-http = true\n");
    fs::write(etc.join("registries.toml"), text).expect("write");
    let (absent, silent) = ("localhost/absent:1", format!("{registry_name}/silent:1"));
    let go = podrun.dir().join("go");
    fs::create_dir(&go).expect("mkdir");
    let script = "echo up; while [ ! -e /go/on ]; do sleep 0.1; done";
    let mount = json!({ "volumeMounts": [{ "name": "go", "mountPath": "/go" }] });
    let mut manifest = pod("idle", &[with(sh("c", script), mount)]);
    let of_image = |name: &str, image: &str| json!({ "name": name, "image": { "reference": image, "pullPolicy": "IfNotPresent" } });
    manifest["spec"]["volumes"] = json!([
        { "name": "go", "hostPath": { "path": go } },
        of_image("here", &image),
        of_image("absent", absent),
        of_image("silent", &silent),
    ]);
    let uid = podrun.start(&manifest);
    podrun.wait_log("idle", "c", "up");
    podrun.wait_event("idle", &format!("Pulling image \"{silent}\""));
    let told = podrun.podrun(&["describe", "pod", "idle"]).ok();
    for words in [
        format!("Container image \"{image}\" already present on machine"),
        format!("Pulling image \"{absent}\""),
        format!("Failed to pull image \"{absent}\": "),
        format!("Back-off pulling image \"{absent}\""),
    ] {
        let line =
            told.lines().find(|line| line.contains(&words)).unwrap_or_else(|| panic!("{words}: {told}"));
        assert!(!line.contains("spec.containers"), "{line}");
    }
    assert!(!told.contains("Error: "), "{told}");
    assert_eq!(podrun.get("idle", "{.status.phase}"), "Running");
    // It is the Pod's as if it were mounted.
    let kept = podrun.podrun(&["image", "rm", &image]).fails(5);
    assert!(kept.contains("in use"), "{kept}");

    // The next supervisor goes on with the pull.
    registry.set_nonblocking(true).expect("it is a socket");
    let call = || registry.accept().ok();
    let first = processes::wait_for("a call of the registry", call);
    processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
    assert_eq!(podrun.get("idle", "{.status.phase}"), "Running");
    let second = processes::wait_for("another call of the registry", call);

    // The Pod ends although one is still being pulled.
    fs::write(go.join("on"), "").expect("write");
    podrun.wait_for("idle", "{.status.phase}", "Succeeded");
    podrun.delete("idle");
    drop((first, second));
    podrun.podrun(&["image", "rm", &image]).ok();
    fs::remove_dir_all(go).expect("it is ours");
    fs::remove_dir_all(etc).expect("it is ours");
    podrun.finish();
}
