//! Containers of a Pod share its network, IPC, host name and volumes, and nothing else.

mod common;

use std::fs;

use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, sh, with, with_spec};
use podrun_testkit::{child, require};
use serde_json::json;

/// Prints the identity of each namespace, as `net:[4026531840]`, and waits for the other container to have done so:
/// the number of one that is gone may be used again.
const NAMESPACES: &str = "for kind in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$kind; done
    touch /v/$ME; until [ -e /v/a ] && [ -e /v/b ]; do :; done";

#[test]
fn containers_reach_each_other_on_localhost() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let server = "mkdir /www; echo hello there > /www/index.html; trap 'exit 0' TERM
        httpd -p 127.0.0.1:8080 -h /www; sleep 3600 & wait";
    let client = "until wget -q -O - http://localhost:8080/ 2>/dev/null; do :; done; cat /proc/net/dev";
    podrun.start(&pod("net", &[sh("server", server), sh("client", client)]));
    assert_eq!(podrun.wait_exit("net", "client"), 0);
    let log = podrun.logs("net", "client");
    assert!(log.starts_with("hello there\n"), "{log}");
    let links: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert_eq!(links, ["lo", "eth0"], "the network is the Pod's own");
    podrun.finish();
}

#[test]
fn containers_share_posix_and_system_v_ipc() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let reader = "until grep -q shared /dev/shm/word 2>/dev/null; do :; done; echo posix
        until grep -q '^ *42 ' /proc/sysvipc/msg; do :; done; echo system v";
    let writer = format!("echo shared > /dev/shm/word; {WAIT_FOR_TERM}");
    let uid = podrun.start(&pod("ipc", &[sh("writer", &writer), sh("reader", reader)]));
    podrun.wait_running("ipc", "writer");
    // Nothing in busybox makes a message queue, so one is made in the namespace of the container that does not look.
    let writer = cgroup::processes_of(&uid, "writer")[0];
    let ipc = fs::File::open(format!("/proc/{writer}/ns/ipc")).expect("the container runs");
    child::run(|| {
        nix::sched::setns(&ipc, nix::sched::CloneFlags::CLONE_NEWIPC).expect("setns");
        // SAFETY: msgget takes numbers only.
        let queue = unsafe { libc::msgget(42, libc::IPC_CREAT | 0o600) };
        assert!(queue >= 0, "{}", std::io::Error::last_os_error());
    });
    assert_eq!(podrun.wait_exit("ipc", "reader"), 0);
    assert_eq!(podrun.logs("ipc", "reader"), "posix\nsystem v\n");
    podrun.finish();
}

#[test]
fn the_host_name_is_that_of_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "hostname; cat /etc/hostname; grep -w named-pod /etc/hosts | tr '\\t' ' '; hostname other";
    let named =
        with_spec(pod("plain", &[sh("a", script), sh("b", "hostname")]), json!({ "hostname": "named-pod" }));
    let run = podrun.run(&named);
    let log = podrun.logs("plain", "a");
    let in_hosts = format!("{} named-pod", podrun.get("plain", "{.status.podIP}"));
    assert_eq!(
        log.lines().take(3).collect::<Vec<_>>(),
        ["named-pod", "named-pod", in_hosts.as_str()],
        "{log}"
    );
    assert_eq!(podrun.logs("plain", "b"), "named-pod\n");
    assert_ne!(run.code, 0, "a container may not change the host name");
    podrun.finish();
}

#[test]
fn volumes_are_shared_and_each_is_what_its_medium_says() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mounts = json!({ "volumeMounts": [
        { "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" },
    ] });
    let writer = "echo on disk > /disk/file; echo in memory > /memory/file; touch /private";
    let reader = "until cat /disk/file && cat /memory/file; do :; done 2>/dev/null
        grep -E ' /memory ' /proc/mounts | cut -d ' ' -f 1,3; stat -c '%a' /disk /memory; ls -d /private";
    let volumes = json!({ "volumes": [
        { "name": "disk", "emptyDir": {} },
        { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
    ] });
    let containers =
        [with(sh("writer", writer), mounts.clone()), with(sh("reader", reader), mounts.clone()), {
            with(sh("filler", "dd if=/dev/zero of=/memory/big bs=1k count=2048"), mounts)
        }];
    assert_ne!(podrun.run(&with_spec(pod("volumes", &containers), volumes)).code, 0);
    let log = podrun.logs("volumes", "reader");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        &lines[lines.len() - 4..],
        ["tmpfs tmpfs", "777", "1777", "ls: /private: No such file or directory"]
    );
    assert!(log.contains("on disk\nin memory\n"), "{log}");
    let full = podrun.logs("volumes", "filler");
    assert!(full.contains("No space left on device"), "{full}");
    podrun.finish();
}

#[test]
fn process_namespaces_are_separate_unless_shared() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // The file in the shared directory appears after the process that is looked for.
    let containers = [
        sh("watched", "trap 'exit 0' TERM; sleep 4242 & touch /dev/shm/ready; wait"),
        sh(
            "watcher",
            "until [ -e /dev/shm/ready ]; do :; done; echo $$$$; ps -o args | grep -c '[s]leep 4242$'; true",
        ),
    ];
    for (name, shared) in [("apart", false), ("together", true)] {
        podrun.start(&with_spec(pod(name, &containers), json!({ "shareProcessNamespace": shared })));
        assert_eq!(podrun.wait_exit(name, "watcher"), 0);
        let log = podrun.logs(name, "watcher");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[0] == "1", !shared, "process 1 is the container's own unless shared: {log}");
        assert_eq!(lines[1], if shared { "1" } else { "0" }, "{name}");
    }
    podrun.finish();
}

#[test]
fn namespaces_of_the_host_are_joined_only_on_request() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let ours: Vec<String> = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .iter()
        .map(|kind| {
            fs::read_link(format!("/proc/thread-self/ns/{kind}")).expect("proc").display().to_string()
        })
        .collect();
    let table = [
        ("own", json!({}), [false; 6]),
        ("host-net", json!({ "hostNetwork": true }), [false, false, false, true, false, true]),
        ("host-ipc", json!({ "hostIPC": true }), [false, true, false, false, false, false]),
        ("host-pid", json!({ "hostPID": true }), [false, false, false, false, true, false]),
    ];
    let printer = |name| {
        let fields = json!({
            "env": [{ "name": "ME", "value": name }], "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        });
        with(sh(name, NAMESPACES), fields)
    };
    let volumes = json!({ "volumes": [{ "name": "v", "emptyDir": {} }] });
    for (name, spec, expected) in table {
        let manifest = with_spec(with_spec(pod(name, &[printer("a"), printer("b")]), spec), volumes.clone());
        let run = podrun.run(&manifest);
        assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
        let (a, b) = (podrun.logs(name, "a"), podrun.logs(name, "b"));
        let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
        for (index, host) in expected.into_iter().enumerate() {
            assert_eq!(
                a[index] == ours[index],
                host,
                "{name}: {} where the host has {}",
                a[index],
                ours[index]
            );
        }
        for index in [1, 3, 5] {
            assert_eq!(a[index], b[index], "{name}: ipc, net and uts are shared");
        }
        for index in [0, 2] {
            assert_ne!(a[index], b[index], "{name}: cgroup and mnt are each container's own");
        }
    }
    podrun.finish();
}
