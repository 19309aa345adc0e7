//! Somebody removes what a Pod is known by while it runs. It is not left behind: it ends, or stays within reach.

mod common;

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, processes, sh, with, with_spec};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_namespaces::PidFd;
use podrun_testkit::require;
use serde_json::{Value, json};

/// A Pod that leaves word of its end outside of podrun's directories.
fn witness(outside: &Path) -> Value {
    let mount = json!({ "volumeMounts": [{ "name": "outside", "mountPath": "/outside" }] });
    let script = "trap 'echo term >/outside/word; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let volumes = json!({ "volumes": [
        { "name": "outside", "hostPath": { "path": outside } }, { "name": "own", "emptyDir": {} },
    ] });
    with_spec(pod("p", &[with(sh("c", script), mount)]), volumes)
}

fn ends(process: &PidFd) {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(60_000_u16)), Ok(1), "the supervisor ends");
}

#[test]
fn a_pod_whose_record_is_removed_is_ended_gracefully() {
    require!(root, cgroup2, overlay, program("busybox"));
    for removed in ["data/pods/UID", "data/pods/UID/record.json", "data/pods", "data", ""] {
        let podrun = Podrun::new();
        let outside = podrun.dir().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        // With the leases goes what podrun knows of the bridge, which the next Pod takes up again.
        let network = json!({ "hostNetwork": removed.is_empty() });
        let uid = podrun.start(&with_spec(witness(&outside), network));
        podrun.wait_log("p", "c", "up");
        let supervisor = processes::supervisor(&podrun, &uid).expect("it lives");
        let path = podrun.state().join(removed.replace("UID", &uid));
        if path.is_dir() {
            // The Pod's own files may come while it is removed.
            processes::wait_for("it is removed", || {
                drop(fs::remove_dir_all(&path));
                (!path.exists()).then_some(())
            });
        } else {
            fs::remove_file(&path).expect("it is there");
        }
        ends(&supervisor);
        assert_eq!(fs::read_to_string(outside.join("word")).as_deref().ok(), Some("term\n"), "{removed}");
        assert_eq!(cgroup::of_pod(&uid), None, "{removed}");
        podrun.finish();
    }
}

#[test]
fn whoever_follows_a_pod_is_told_that_its_record_is_gone() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("p", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("p", "c");
    let supervisor = processes::supervisor(&podrun, &uid).expect("it lives");
    let mut events = podrun.spawn(&["events", "p", "--no-headers", "-w"]);
    events.wait_line(|line| line.contains("Started"));
    fs::remove_file(podrun.state().join("data/pods").join(&uid).join("record.json")).expect("it is there");
    events.wait_line(|line| line.contains("RecordRemoved"));
    events.wait_line(|line| line.contains("Killing"));
    events.kill();
    ends(&supervisor);
    assert_eq!(cgroup::of_pod(&uid), None);
    podrun.finish();
}

#[test]
fn a_supervisor_without_lock_and_socket_makes_them_again() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("p", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("p", "c");
    let supervisor = processes::supervisor(&podrun, &uid).expect("it lives").pid().expect("readable");
    let place = podrun.state().join("run/supervisors").join(&uid);
    for removed in ["", "lock", "supervisor.sock"] {
        let path = place.join(removed);
        if removed.is_empty() {
            // Some of it may be there again before the rest is removed.
            drop(fs::remove_dir_all(&path));
        } else {
            fs::remove_file(&path).expect("it is there");
        }
        processes::wait_for("it is back", || {
            (place.join("lock").exists() && place.join("supervisor.sock").exists()).then_some(())
        });
        assert_eq!(podrun.get("p", "{.status.phase}"), "Running", "{removed}");
        let now = processes::supervisor(&podrun, &uid).expect("it lives").pid().expect("readable");
        assert_eq!(now, supervisor, "{removed}: the same one looks after it");
    }
    podrun.delete("p");
    podrun.finish();
}
