//! Supervisors, commands and inits are killed at every kind of moment. The Pod goes on or ends as its spec says, starts
//! nothing twice, loses no line, and its deletion leaves nothing.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Podrun, cgroup, pod, processes, sh, state, status, with, with_spec};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use podrun_testkit::{podrun_bin, require};
use serde_json::{Value, json};

/// A Pod with one of everything: what each container says and how it ends tells whether it was started once.
fn witness(name: &str) -> Value {
    let mounts = json!({ "volumeMounts": [
        { "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" },
    ] });
    let b = "trap 'echo term; exit 0' TERM; echo b; sleep 3600 & wait";
    let containers =
        [with(sh("a", "echo a; touch /disk/a; exit 3"), mounts.clone()), with(sh("b", b), mounts)];
    let spec = json!({
        "initContainers": [sh("i", "echo i")],
        "volumes": [
            { "name": "disk", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } },
        ],
    });
    with_spec(pod(name, &containers), spec)
}

/// Waits until the witness is where it should be, and sees that nothing was started twice or lost on the way.
fn assert_whole(podrun: &Podrun, name: &str) {
    let template = format!(
        "{{.status.phase}} {} {} {}",
        state("a", "terminated.exitCode"),
        status("a", "restartCount"),
        status("b", "started"),
    );
    settle(podrun, name, &template, "Running 3 0 true");
    for (container, said) in [("i", "i\n"), ("a", "a\n")] {
        assert_eq!(podrun.logs(name, container), said, "{container} ran once");
    }
    // It has been started, but what it says may be on its way.
    podrun.wait_log(name, "b", "b");
    assert_eq!(podrun.logs(name, "b"), "b\n");
}

/// Waits for a value, also beyond the ends of supervisors: a watch ends with the supervisor that it watches.
#[track_caller]
fn settle(podrun: &Podrun, name: &str, template: &str, wanted: &str) {
    let mut seen = Vec::new();
    for _ in 0..20 {
        let mut watch = podrun.watch(name, template);
        while let Some(line) = watch.line() {
            if line == wanted {
                watch.kill();
                return;
            }
            seen.push(line);
        }
        seen.push(watch.finish().stderr);
    }
    let state: Vec<_> = pod_dirs(podrun)
        .iter()
        .map(|uid| fs::read_to_string(podrun.state().join("data/pods").join(uid).join("state.json")))
        .collect();
    panic!("{name} never was {wanted:?}: {seen:#?}\n{state:?}");
}

/// Returns the UIDs that have a directory.
fn pod_dirs(podrun: &Podrun) -> BTreeSet<String> {
    let entries = fs::read_dir(podrun.state().join("data/pods")).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Deletes a Pod, if it is there, and sees that nothing of it is left.
#[track_caller]
fn delete(podrun: &Podrun, name: &str) {
    let uids = pod_dirs(podrun);
    podrun.podrun(&["delete", "pod", name, "--ignore-not-found"]).ok();
    assert_nothing_left(podrun, &uids);
}

#[track_caller]
fn assert_nothing_left(podrun: &Podrun, uids: &BTreeSet<String>) {
    for dir in ["data/pods", "data/names", "data/logs", "run/pods", "run/supervisors"] {
        let entries = fs::read_dir(podrun.state().join(dir)).into_iter().flatten().filter_map(Result::ok);
        let left: Vec<_> = entries.map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    for uid in uids {
        assert_eq!(cgroup::of_pod(uid), None, "the cgroup of Pod {uid}");
    }
}

/// What is killed when it makes its so-manieth call of that name.
struct Blow<'a> {
    call: &'a str,
    count: u32,
    victims: Victims,
}

/// Who is watched for the call; each process counts its own.
#[derive(Clone, Copy, PartialEq)]
enum Victims {
    /// The command alone.
    Command,
    /// Those that it forks too, until they execute another program: supervisors.
    Supervisors,
    /// Everybody: init and the processes of containers too.
    All,
}

impl Blow<'_> {
    /// Runs podrun so that the blow is struck at the entry of the call. Returns the tracer's report, which grows while
    /// processes of podrun live.
    fn strike(&self, podrun: &Podrun, arguments: &[&str]) -> Report {
        let report = podrun.dir().join(format!("strace-{}-{}", self.call, self.count));
        #[expect(clippy::disallowed_methods, reason = "the tracer and the program under test")]
        let mut command = Command::new("strace");
        // -D: the tracer is the grandchild, and the child that we wait for is podrun. The calls of other machines are
        // optional (`?`).
        let calls: Vec<String> = self.call.split(',').map(|call| format!("?{call}")).collect();
        command.args(["-D", "-o"]).arg(&report);
        command.args(["-e", &format!("trace={}", calls.join(",")), "-e"]);
        command.arg(format!("inject={}:signal=KILL:when={}", calls.join(","), self.count));
        command.args(match self.victims {
            Victims::Command => &[][..],
            Victims::Supervisors => &["-f", "-b", "execve"],
            Victims::All => &["-f"],
        });
        command.arg(podrun_bin()).arg("--root").arg(podrun.state()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("strace runs");
        Report(report)
    }
}

struct Report(std::path::PathBuf);

impl Report {
    /// Returns whether somebody was killed.
    fn struck(self) -> bool {
        // The tracer ends with the last process that it traces.
        processes::wait_for("the tracer ends", || (!processes::is_named(&self.0)).then_some(()));
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        // One that shared a file system with the next would be read again.
        fs::remove_file(self.0).expect("the tracer has made it");
        text.contains("killed by SIGKILL")
    }
}

/// Tries each call of a list at its first, second, … time, until there is no such time. Returns how many were killed.
fn strike_each(calls: &[(&str, u32)], victims: Victims, mut scene: impl FnMut(&Blow<'_>) -> bool) -> u32 {
    let mut struck = 0;
    for &(call, times) in calls {
        for count in 1..=times {
            if !scene(&Blow { call, count, victims }) {
                break;
            }
            struck += 1;
        }
    }
    struck
}

/// Records a Pod and kills the command before it has started the supervisor.
fn record_only(podrun: &Podrun, path: &str) {
    // The first two writes are the name and the record, the third would give the Pod to the waiting supervisor.
    let blow = Blow { call: "write", count: 3, victims: Victims::Command };
    assert!(blow.strike(podrun, &["run", "-d", "--unenforced-limits=warn", path]).struck());
}

#[test]
fn a_supervisor_may_be_killed_at_any_call_of_a_start() {
    require!(root, cgroup2, overlay, program("busybox"), program("strace"));
    let podrun = Podrun::new();
    let path = podrun.write(&witness("start"));
    let calls = [
        ("clone3", 2),
        ("sendmsg", 4),
        ("recvmsg", 4),
        ("connect", 2),
        ("bind", 2),
        ("listen", 2),
        ("fsopen", 3),
        ("fsmount", 3),
        ("open_tree", 3),
        ("rename,renameat", 8),
        ("fsync", 3),
        ("mkdir,mkdirat", 8),
        ("unlink,unlinkat", 3),
        ("openat2", 3),
        ("epoll_wait,epoll_pwait", 6),
    ];
    let struck = strike_each(&calls, Victims::Supervisors, |blow| {
        record_only(&podrun, &path);
        let report = blow.strike(&podrun, &["get", "pod", "start"]);
        assert_whole(&podrun, "start");
        delete(&podrun, "start");
        report.struck()
    });
    assert!(struck > 20, "only {struck} were killed");
    podrun.finish();
}

#[test]
fn a_command_may_be_killed_at_any_call_of_run() {
    require!(root, cgroup2, overlay, program("busybox"), program("strace"));
    let podrun = Podrun::new();
    let path = podrun.write(&witness("run"));
    let run = ["run", "-d", "--unenforced-limits=warn", &path];
    let calls = [
        ("mkdir,mkdirat", 6),
        ("rename,renameat", 2),
        ("fsync", 4),
        ("fcntl", 4),
        ("flock", 1),
        ("clone,fork,vfork", 1),
        ("pipe2", 1),
        ("poll,ppoll", 2),
        ("unlink,unlinkat", 2),
    ];
    let struck = strike_each(&calls, Victims::Command, |blow| {
        let report = blow.strike(&podrun, &run);
        match podrun.podrun(&["get", "pod", "run"]).code {
            0 => {}
            // It was killed before there was a Pod: the name is free.
            4 => drop(podrun.podrun(&run).ok()),
            other => panic!("get ended with {other}"),
        }
        assert_whole(&podrun, "run");
        delete(&podrun, "run");
        report.struck()
    });
    assert!(struck > 8, "only {struck} were killed");
    podrun.finish();
}

#[test]
fn supervisor_and_command_may_be_killed_at_any_call_of_an_end() {
    require!(root, cgroup2, overlay, program("busybox"), program("strace"));
    let podrun = Podrun::new();
    let path = podrun.write(&witness("end"));
    let calls = [
        ("sendmsg", 2),
        ("connect", 3),
        ("rename,renameat", 8),
        ("unlink,unlinkat", 8),
        ("rmdir", 2),
        ("write", 4),
        ("clone3", 2),
        ("openat2", 3),
        ("fsync", 2),
    ];
    let struck = strike_each(&calls, Victims::Supervisors, |blow| {
        podrun.podrun(&["run", "-d", "--unenforced-limits=warn", &path]).ok();
        assert_whole(&podrun, "end");
        let uid = podrun.get("end", "{.metadata.uid}");
        processes::kill(&processes::supervisor(&podrun, &uid).expect("it lives"));
        let report = blow.strike(&podrun, &["delete", "pod", "end"]);
        delete(&podrun, "end");
        assert_nothing_left(&podrun, &BTreeSet::from([uid]));
        report.struck()
    });
    assert!(struck > 10, "only {struck} were killed");
    podrun.finish();
}

#[test]
fn supervisor_and_command_may_be_killed_at_any_time_of_a_start() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let path = podrun.write(&witness("any"));
    for round in 0..24_u64 {
        let run = podrun.spawn(&["run", "-d", "--unenforced-limits=warn", &path]);
        processes::let_pass(Duration::from_millis(round * 37 % 120));
        processes::of_root(&podrun).iter().for_each(processes::kill);
        drop(run.finish());
        if podrun.podrun(&["get", "pod", "any"]).code == 4 {
            podrun.podrun(&["run", "-d", "--unenforced-limits=warn", &path]).ok();
        }
        assert_whole(&podrun, "any");
        delete(&podrun, "any");
    }
    podrun.finish();
}

#[test]
fn a_supervisor_may_be_killed_between_the_stop_signal_and_the_end() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let deaf = "trap 'echo term' TERM; echo up; while :; do sleep 1; done";
    let spec = json!({ "terminationGracePeriodSeconds": 4 });
    let uid = podrun.start(&with_spec(pod("deaf", &[sh("c", deaf)]), spec));
    podrun.wait_log("deaf", "c", "up");
    let first = podrun.spawn(&["delete", "pod", "deaf"]);
    for _ in 0..3 {
        podrun.wait_log("deaf", "c", "term");
        if let Some(supervisor) = processes::supervisor(&podrun, &uid) {
            processes::kill(&supervisor);
        }
    }
    // Whoever waits for the first deletion sees its end too, through all supervisors.
    let second = podrun.spawn(&["delete", "pod", "deaf", "--ignore-not-found"]);
    first.finish().ok();
    second.finish().ok();
    assert_nothing_left(&podrun, &BTreeSet::from([uid]));
    podrun.finish();
}

#[test]
fn an_init_may_be_killed_at_any_time() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for round in 0..12_u64 {
        let restarts = round % 2 == 0;
        let policy = if restarts { "Always" } else { "Never" };
        let name = format!("pod-{round}");
        let script = "trap 'exit 0' TERM; echo up; sleep 3600 & wait";
        let manifest = with_spec(
            pod(&name, &[sh("c", script), sh("d", script)]),
            json!({ "restartPolicy": policy, "initContainers": [sh("i", "true")] }),
        );
        let path = podrun.write(&manifest);
        podrun.podrun(&["run", "-d", "--unenforced-limits=warn", &path]).ok();
        let uid = podrun.get(&name, "{.metadata.uid}");
        let init = processes::wait_for("the Pod gets an init", || processes::init(&uid));
        processes::let_pass(Duration::from_millis(round * 7 % 50));
        processes::kill(&init);
        if restarts {
            podrun.wait_ready(&name);
        } else {
            // If nothing has run yet, another sandbox is made; the loss of what has run ends the Pod.
            let seen = podrun.wait_until(
                &name,
                "{.status.phase} {.status.conditions[?(@.type==\"Ready\")].status}",
                |text| matches!(text, "Failed False" | "Running True"),
            );
            if seen == "Failed False" {
                let running = podrun.get(&name, "{.status.containerStatuses[*].state.running.startedAt}");
                assert_eq!(running, "", "nothing runs without an init");
            }
        }
        delete(&podrun, &name);
        assert_nothing_left(&podrun, &BTreeSet::from([uid]));
    }
    podrun.finish();
}

#[test]
fn inits_and_containers_may_be_killed_at_any_call() {
    require!(root, cgroup2, overlay, program("busybox"), program("strace"));
    let podrun = Podrun::new();
    let path = podrun.write(&with_spec(witness("deep"), json!({ "restartPolicy": "OnFailure" })));
    let calls = [
        ("clone3", 4),
        ("accept4", 2),
        ("sethostname", 1),
        ("pivot_root", 1),
        ("move_mount", 4),
        ("umount2", 1),
        ("mount", 1),
        ("recvmsg", 5),
        ("sendmsg", 4),
        ("execve,execveat", 2),
        ("waitid", 3),
        ("seccomp", 1),
        ("writev,write", 6),
    ];
    let struck = strike_each(&calls, Victims::All, |blow| {
        record_only(&podrun, &path);
        let report = blow.strike(&podrun, &["get", "pod", "deep"]);
        podrun.podrun(&["get", "pod", "deep"]).ok();
        processes::let_pass(Duration::from_millis(20));
        delete(&podrun, "deep");
        report.struck()
    });
    assert!(struck > 15, "only {struck} were killed");
    podrun.finish();
}

#[test]
fn a_supervisor_that_init_has_hung_up_on_calls_again() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("deposed", &[sh("c", "trap 'exit 4' TERM; echo up; sleep 3600 & wait")]));
    podrun.wait_log("deposed", "c", "up");
    for _ in 0..3 {
        // Init listens to the newest caller, and this one goes away at once.
        let flags = SockFlag::SOCK_CLOEXEC;
        let caller = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("a socket");
        let path = podrun.state().join("run/pods").join(&uid).join("init.sock");
        connect(caller.as_raw_fd(), &UnixAddr::new(&path).expect("a short path")).expect("init listens");
    }
    let mut watch = podrun
        .watch("deposed", &format!("{} {}", state("c", "terminated.exitCode"), status("c", "restartCount")));
    podrun.podrun(&["delete", "pod", "deposed"]).ok();
    watch.wait_line(|line| line == "4 0");
    podrun.finish();
}
