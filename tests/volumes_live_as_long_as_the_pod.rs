//! Volumes outlive containers and end with their Pod; what belongs to the host stays the host's.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;

use common::{Podrun, WAIT_FOR_TERM, pod, sh, state, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

/// Returns a Pod whose containers mount the volume `v` at /v.
fn pod_with(name: &str, volume: &Value, containers: &[(&str, &str, Value)]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, script, mount)| {
            let mount = with(json!({ "name": "v", "mountPath": "/v" }), mount.clone());
            with(sh(name, script), json!({ "volumeMounts": [mount] }))
        })
        .collect();
    with_spec(pod(name, &containers), json!({ "volumes": [with(json!({ "name": "v" }), volume.clone())] }))
}

fn host_path(path: &std::path::Path, kind: &str) -> Value {
    json!({ "hostPath": { "path": path, "type": kind } })
}

#[test]
fn they_keep_their_content_across_restarts_and_go_with_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for (name, volume) in
        [("disk", json!({ "emptyDir": {} })), ("memory", json!({ "emptyDir": { "medium": "Memory" } }))]
    {
        let script = "cat /v/file && exit 0; echo kept > /v/file; touch /private; exit 1";
        let manifest = pod_with(name, &volume, &[("c", script, json!({}))]);
        let uid = podrun.start(&with_spec(manifest, json!({ "restartPolicy": "OnFailure" })));
        podrun.wait_for(name, "{.status.phase}", "Succeeded");
        assert_eq!(podrun.logs(name, "c"), "kept\n");
        podrun.delete(name);
        assert!(!podrun.state().join("data/pods").join(uid).exists());
    }
    podrun.finish();
}

#[test]
fn host_paths_are_made_or_checked_as_their_type_says() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let at = |name: &str| podrun.dir().join(name);
    fs::write(at("file"), "of the host\n").expect("write");
    fs::create_dir(at("dir")).expect("mkdir");
    let _socket = UnixListener::bind(at("socket")).expect("bind");
    let table = [
        ("file", host_path(&at("file"), "File"), "cat /v"),
        ("dir", host_path(&at("dir"), "Directory"), "echo written > /v/new"),
        ("made", host_path(&at("a/b"), "DirectoryOrCreate"), "echo written > /v/new"),
        ("empty", host_path(&at("empty"), "FileOrCreate"), "echo written > /v"),
        ("socket", host_path(&at("socket"), "Socket"), "[ -S /v ]"),
        ("device", host_path("/dev/zero".as_ref(), "CharDevice"), "[ -c /v ]"),
        ("unset", host_path(&at("dir"), ""), "cat /v/new"),
    ];
    for (name, volume, script) in table {
        let run = podrun.run(&pod_with(name, &volume, &[("c", script, json!({}))]));
        assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
    }
    for (path, mode) in [("a/b/new", 0o644), ("dir/new", 0o644), ("empty", 0o644), ("a/b", 0o755)] {
        assert_eq!(fs::metadata(at(path)).expect("made").mode() & 0o7777, mode, "{path}");
    }
    podrun.finish();
}

#[test]
fn a_missing_host_path_is_waited_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let path = podrun.dir().join("later");
    podrun.start(&pod_with("patient", &host_path(&path, "Directory"), &[("c", "ls -a /v", json!({}))]));
    podrun.wait_for("patient", &state("c", "waiting.reason"), "ContainerCreating");
    let message = format!(
        "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {} is not a directory",
        path.display()
    );
    let description = podrun.podrun(&["describe", "pod", "patient"]).ok();
    assert!(description.contains("FailedMount") && description.contains(&message), "{description}");
    fs::create_dir(&path).expect("mkdir");
    podrun.wait_for("patient", "{.status.phase}", "Succeeded");
    podrun.finish();
}

#[test]
fn a_read_only_mount_cannot_be_written() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // One stream: what is written to two at the same moment may stand in the log in either order.
    let reader = "exec 2>&1; until [ -e /v/file ]; do :; done; echo x > /v/file; touch /v/other; cat /v/file";
    let containers =
        [("writer", "echo original > /v/file", json!({})), ("reader", reader, json!({ "readOnly": true }))];
    podrun.run(&pod_with("shared", &json!({ "emptyDir": {} }), &containers)).ok();
    let log = podrun.logs("shared", "reader");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    assert!(log.ends_with("original\n"), "{log}");
    podrun.finish();
}

#[test]
fn a_sub_path_is_a_part_of_the_volume() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let containers = [
        ("part", "echo deep > /v/file", json!({ "subPath": "one/two" })),
        ("whole", "until cat /v/one/two/file; do :; done 2>/dev/null", json!({})),
    ];
    podrun.run(&pod_with("part", &json!({ "emptyDir": {} }), &containers)).ok();
    assert_eq!(podrun.logs("part", "whole"), "deep\n");
    podrun.finish();
}

#[test]
fn a_sub_path_does_not_lead_out_of_the_volume() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let canary = podrun.dir().join("canary");
    fs::create_dir(&canary).expect("mkdir");
    for (name, target) in
        [("absolute", canary.display().to_string()), ("climbing", "../../../../../../..".to_owned())]
    {
        let manifest =
            pod_with(name, &json!({ "emptyDir": {} }), &[("c", "touch /v/x", json!({ "subPath": "link" }))]);
        let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
        let init = with(sh("i", &format!("ln -s {target} /v/link")), mount);
        podrun.start(&with_spec(manifest, json!({ "initContainers": [init] })));
        podrun.wait_for(name, &state("c", "waiting.reason"), "CreateContainerConfigError");
        let message = podrun.get(name, &state("c", "waiting.message"));
        assert!(
            message.starts_with("failed to prepare subPath for volumeMount \"v\" of container \"c\""),
            "{message}"
        );
    }
    assert_eq!(fs::read_dir(&canary).expect("it is there").count(), 0);
    podrun.finish();
}

#[test]
fn removing_a_pod_follows_no_link_and_leaves_the_host_alone() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let canary = podrun.dir().join("canary");
    fs::create_dir_all(canary.join("sub")).expect("mkdir");
    fs::write(canary.join("sub/file"), "precious").expect("write");
    symlink("sub", canary.join("link")).expect("symlink");
    let path = canary.display();
    let script = format!(
        "ln -s {path} /v/dir; ln -s {path}/sub/file /v/file; ln -s {path} /root-link
         mkdir -p /v/a/b; chmod 0 /v/a; ln -s ../.. /v/up; touch /v/done; ls /host; {WAIT_FOR_TERM}"
    );
    let mut manifest = pod("links", &[sh("c", &script)]);
    manifest["spec"]["volumes"] = json!([
        { "name": "v", "emptyDir": {} },
        with(json!({ "name": "host" }), host_path(&canary, "Directory")),
    ]);
    manifest["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "v", "mountPath": "/v" }, { "name": "host", "mountPath": "/host" }]);
    podrun.start(&manifest);
    podrun.wait_log("links", "c", "sub");
    podrun.podrun(&["delete", "pod", "links", "--force"]).ok();
    assert_eq!(fs::read_to_string(canary.join("link/file")).expect("it is there"), "precious");
    podrun.finish();
}
