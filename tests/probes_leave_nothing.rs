//! Probes leave no process, descriptor, thread or zombie, however often they are made and whatever dies meanwhile.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, probed_every, processes, sh, status, with, with_dir};
use podrun_testkit::require;
use serde_json::{Value, json};

/// A Pod that is asked a hundred times a second, and whose probe leaves a byte in /t/runs each time.
fn counted(podrun: &Podrun, name: &str, also: &str) -> Value {
    let script = format!("printf . >> /t/runs; {also}");
    let probe = json!({ "readinessProbe": { "exec": { "command": ["sh", "-c", script] } } });
    let pod = probed_every(pod(name, &[with(sh("c", WAIT_FOR_TERM), probe)]), 10);
    let dir = podrun.dir().join("t");
    fs::create_dir_all(&dir).expect("the directory is ours");
    with_dir(pod, &dir)
}

fn wait_runs(podrun: &Podrun, count: u64) {
    processes::wait_for("probes are made", || {
        let runs = fs::metadata(podrun.dir().join("t/runs")).map_or(0, |file| file.len());
        (runs >= count).then_some(())
    });
}

/// Descriptors and threads of a process, at their least of some looks: a probe may be under way.
fn held(pid: i32) -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("it lives").count();
    let looks = (0..40).map(|_| {
        processes::let_pass(Duration::from_millis(2));
        (count("fd"), count("task"))
    });
    looks.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).expect("some looks")
}

fn zombies_of(parent: i32) -> usize {
    let entries = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let stat = |path: &Path| fs::read_to_string(path.join("stat")).unwrap_or_default();
    let is_zombie = |text: &String| {
        let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
    };
    entries.map(|entry| stat(&entry.path())).filter(is_zombie).count()
}

fn pid_of(process: &podrun_namespaces::PidFd) -> i32 {
    process.pid().expect("proc tells").expect("it lives")
}

#[test]
fn a_thousand_probes_cost_nothing_that_lasts() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&counted(&podrun, "often", "true"));
    podrun.wait_ready("often");
    wait_runs(&podrun, 50);
    let supervisor = pid_of(&processes::supervisor(&podrun, &uid).expect("it lives"));
    let init = pid_of(&processes::init(&uid).expect("it lives"));
    let before = (held(supervisor), held(init));
    // In steps: an emulated machine may need longer for all of them than anything in a test may take.
    for runs in (150..=1050).step_by(100) {
        wait_runs(&podrun, runs);
    }
    let after = (held(supervisor), held(init));
    assert!(after.0.0 <= before.0.0 + 1 && after.0.1 <= before.0.1 + 1, "supervisor: {before:?} {after:?}");
    assert!(after.1.0 <= before.1.0 + 1 && after.1.1 <= before.1.1, "init: {before:?} {after:?}");
    assert!(zombies_of(init) <= 1, "one may be about to be reaped");
    assert_eq!(podrun.get("often", &status("c", "ready")), "true");
    podrun.finish();
}

#[test]
fn what_a_probe_leaves_behind_is_killed() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let fork = "(setsid sh -c 'sleep 1000 & sleep 1000' > /dev/null 2>&1 &)";
    let uid = podrun.start(&counted(&podrun, "forks", fork));
    podrun.wait_ready("forks");
    wait_runs(&podrun, 100);
    // Two of the container itself, and those of a probe that is under way.
    let left = cgroup::processes_of(&uid, "c").len();
    assert!(left <= 7, "{left} processes after 100 probes");
    podrun.delete("forks");
    assert_eq!(cgroup::of_pod(&uid), None);
    podrun.finish();
}

#[test]
fn a_supervisor_may_die_while_it_probes() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&counted(&podrun, "dies", "usleep 30000"));
    podrun.wait_ready("dies");
    let mut watch = podrun.watch("dies", &format!("{{.status.phase}} {}", status("c", "ready")));
    assert_eq!(watch.line().as_deref(), Some("Running true"));
    for round in 0..5_u64 {
        processes::let_pass(Duration::from_millis(round * 13));
        let supervisor = processes::wait_for("it lives", || processes::supervisor(&podrun, &uid));
        processes::kill(&supervisor);
        // Whoever watches sees the phase, starts the next supervisor, and the container has been ready all the time.
        assert_eq!(watch.line().as_deref(), Some("Unknown true"));
        assert_eq!(watch.line().as_deref(), Some("Running true"));
    }
    watch.kill();
    let runs = fs::metadata(podrun.dir().join("t/runs")).expect("a file").len();
    wait_runs(&podrun, runs + 10);
    assert!(cgroup::processes_of(&uid, "c").len() <= 5);
    assert_eq!(podrun.get("dies", &status("c", "restartCount")), "0");
    podrun.finish();
}
