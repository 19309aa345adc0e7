//! Whatever part of podrun is killed, the Pod is not lost and nothing about it either.

mod common;

use std::fs;
use std::os::fd::AsFd as _;

use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, sh, state, status, with_spec};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_namespaces::PidFd;
use podrun_testkit::require;
use serde_json::json;

/// Opens a process of a Pod under test.
fn open(pid: i32) -> PidFd {
    PidFd::open(pid).unwrap_or_else(|error| panic!("process {pid}: {error}"))
}

/// Waits until a process that is no child of ours has ended.
fn wait_end(process: &PidFd) {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(60_000_u16)), Ok(1), "the process ends");
}

fn kill(process: &PidFd) {
    process.send_signal(libc::SIGKILL).expect("it lives");
    wait_end(process);
}

/// Returns the supervisor of a Pod: the process that holds its lock.
fn supervisor(podrun: &Podrun, uid: &str) -> PidFd {
    let lock = podrun.state().join("run/supervisors").join(uid).join("lock");
    let processes = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let holds = |pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target == lock)
    };
    open(pids.find(holds).expect("the Pod has a supervisor"))
}

#[test]
fn a_killed_front_end_leaves_the_pod_running() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script =
        "trap 'exit 0' TERM; echo up; until [ -e /dev/shm/go ]; do :; done; echo more; sleep 3600 & wait";
    let path = podrun.write(&pod("orphan", &[sh("c", script)]));
    let mut run = podrun.spawn(&["run", "--unenforced-limits=warn", &path]);
    assert_eq!(run.line().as_deref(), Some("[c] up"));
    run.kill();

    let uid = podrun.get("orphan", "{.metadata.uid}");
    let process = cgroup::processes_of(&uid, "c")[0];
    fs::write(format!("/proc/{process}/root/dev/shm/go"), "").expect("it lives");
    podrun.wait_log("orphan", "c", "more");
    assert_eq!(
        podrun.get("orphan", &format!("{{.status.phase}} {}", status("c", "restartCount"))),
        "Running 0"
    );
    podrun.delete("orphan");
    podrun.finish();
}

#[test]
fn a_container_that_ends_without_a_supervisor_keeps_its_code_and_its_log() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "echo before; until [ -e /dev/shm/go ]; do :; done; seq 20000; echo -n unfinished; exit 7";
    let uid = podrun.start(&pod("alone", &[sh("c", script)]));
    podrun.wait_log("alone", "c", "before");
    let container = cgroup::processes_of(&uid, "c")[0];
    let process = open(container);
    kill(&supervisor(&podrun, &uid));

    fs::write(format!("/proc/{container}/root/dev/shm/go"), "").expect("it lives");
    wait_end(&process);
    assert_eq!(podrun.wait_exit("alone", "c"), 7);
    podrun.wait_for("alone", "{.status.phase}", "Failed");
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(podrun.logs("alone", "c"), format!("before\n{expected}unfinished\n"));
    podrun.finish();
}

#[test]
fn the_next_supervisor_adopts_what_runs() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("adopted", &[sh("c", &format!("echo up; {WAIT_FOR_TERM}"))]));
    podrun.wait_log("adopted", "c", "up");
    let facts = "{.metadata.uid} {.status.startTime}";
    let before = (podrun.get("adopted", facts), podrun.get("adopted", &status("c", "containerID")));
    let process = cgroup::processes_of(&uid, "c")[0];

    for _ in 0..3 {
        kill(&supervisor(&podrun, &uid));
        podrun.wait_ready("adopted");
        let after = (podrun.get("adopted", facts), podrun.get("adopted", &status("c", "containerID")));
        assert_eq!(after, before);
        assert_eq!(cgroup::processes_of(&uid, "c")[0], process, "it is the same process");
        assert_eq!(podrun.get("adopted", &status("c", "restartCount")), "0");
    }
    let mut watch = podrun.watch("adopted", &state("c", "terminated.exitCode"));
    assert_eq!(watch.line().as_deref(), Some(""));
    podrun.delete("adopted");
    assert!(
        watch.finish().ok().lines().any(|line| line == "0"),
        "the adopted container was ended gracefully"
    );
    podrun.finish();
}

#[test]
fn run_follows_the_pod_beyond_its_supervisor() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "echo up; until [ -e /dev/shm/go ]; do :; done; echo down; exit 5";
    let path = podrun.write(&pod("followed", &[sh("c", script)]));
    let mut run = podrun.spawn(&["run", "--unenforced-limits=warn", &path]);
    assert_eq!(run.line().as_deref(), Some("[c] up"));
    let uid = podrun.get("followed", "{.metadata.uid}");
    kill(&supervisor(&podrun, &uid));
    let container = cgroup::processes_of(&uid, "c")[0];
    fs::write(format!("/proc/{container}/root/dev/shm/go"), "").expect("it lives");
    let output = run.finish();
    assert_eq!((output.code, output.stdout.as_str()), (5, "[c] down\n"), "{}", output.stderr);
    podrun.finish();
}

#[test]
fn delete_works_without_a_supervisor() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("headless", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("headless", "c");
    kill(&supervisor(&podrun, &uid));
    podrun.delete("headless");
    podrun.podrun(&["get", "pod", "headless"]).fails(4);
    podrun.finish();
}

#[test]
fn a_killed_init_takes_its_containers_with_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // With a process namespace of the Pod's own init is its first process; without, the cgroup is what ends them.
    for (name, shared) in [("apart", false), ("together", true)] {
        let spec = json!({ "shareProcessNamespace": shared });
        let uid = podrun.start(&with_spec(pod(name, &[sh("c", "sleep 3600 & wait")]), spec));
        podrun.wait_running(name, "c");
        let process = open(cgroup::processes_of(&uid, "c")[0]);
        kill(&open(cgroup::processes_of(&uid, "init")[0]));
        wait_end(&process);
        podrun.wait_for(name, "{.status.phase}", "Failed");
        assert_eq!(podrun.get(name, &state("c", "terminated.exitCode")), "137");
    }
    podrun.finish();
}

#[test]
fn a_pod_that_is_restarted_gets_a_new_sandbox() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let manifest = with_spec(
        pod("rebuilt", &[sh("c", WAIT_FOR_TERM)]),
        json!({ "restartPolicy": "Always", "initContainers": [sh("i", "echo init")] }),
    );
    let uid = podrun.start(&manifest);
    podrun.wait_ready("rebuilt");
    kill(&open(cgroup::processes_of(&uid, "init")[0]));
    podrun.wait_for("rebuilt", &status("c", "restartCount"), "1");
    podrun.wait_ready("rebuilt");
    let description = podrun.podrun(&["describe", "pod", "rebuilt"]).ok();
    assert!(description.contains("Pod sandbox changed, it will be killed and re-created."), "{description}");
    podrun.delete("rebuilt");
    podrun.finish();
}
