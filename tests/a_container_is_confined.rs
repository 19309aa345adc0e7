//! A container is confined as its Pod says, and by default.

mod common;

use std::fs;

use common::{Podrun, pod, sh, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

/// CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP.
const DEFAULT_CAPABILITIES: &str = "00000000800405fb";
const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";

/// Runs a script under a security context and returns what it printed.
fn run(podrun: &Podrun, name: &str, script: &str, context: Value, pod_context: Value) -> String {
    let container = with(sh("c", script), json!({ "securityContext": context }));
    let manifest = with_spec(pod(name, &[container]), json!({ "securityContext": pod_context }));
    let run = podrun.run(&manifest);
    assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
    podrun.logs(name, "c")
}

/// Returns the value of a line of /proc/self/status.
fn value<'a>(status: &'a str, key: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{key} is not in {status}")).trim()
}

#[test]
fn a_process_has_three_descriptors() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // The fourth one is the directory that ls reads.
    let log = run(
        &podrun,
        "fds",
        "ls /proc/self/fd; for n in 0 1 2; do readlink /proc/self/fd/$n; done",
        json!({}),
        json!({}),
    );
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..5], ["0", "1", "2", "3", "/dev/null"], "{log}");
    assert!(lines[5..].iter().all(|target| target.starts_with("pipe:")) && lines[5] != lines[6], "{log}");
    podrun.finish();
}

#[test]
fn privileges_are_few_by_default_and_as_asked_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let only_ports = json!({ "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] } });
    let none = "0000000000000000";
    let table = [
        ("default", json!({}), DEFAULT_CAPABILITIES, DEFAULT_CAPABILITIES, "0", "2"),
        ("user", json!({ "runAsUser": 1000 }), none, DEFAULT_CAPABILITIES, "0", "2"),
        ("ports", only_ports, "0000000000000400", "0000000000000400", "0", "2"),
        (
            "strict",
            json!({ "allowPrivilegeEscalation": false }),
            DEFAULT_CAPABILITIES,
            DEFAULT_CAPABILITIES,
            "1",
            "2",
        ),
        (
            "unconfined",
            json!({ "seccompProfile": { "type": "Unconfined" } }),
            DEFAULT_CAPABILITIES,
            DEFAULT_CAPABILITIES,
            "0",
            "0",
        ),
    ];
    for (name, context, effective, bounding, no_new_privs, seccomp) in table {
        let status = run(&podrun, name, STATUS, context, json!({}));
        assert_eq!(value(&status, "CapEff"), effective, "{name}");
        assert_eq!(value(&status, "CapPrm"), effective, "{name}");
        assert_eq!(value(&status, "CapBnd"), bounding, "{name}");
        assert_eq!((value(&status, "CapInh"), value(&status, "CapAmb")), (none, none), "{name}");
        assert_eq!(
            (value(&status, "NoNewPrivs"), value(&status, "Seccomp")),
            (no_new_privs, seccomp),
            "{name}"
        );
    }
    podrun.finish();
}

#[test]
fn a_privileged_container_has_what_the_host_can_give() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = format!(
        "{STATUS}; mkdir /m && mount -t tmpfs none /m && echo mounted; [ -c /dev/kmsg ] && echo kmsg"
    );
    let log = run(&podrun, "privileged", &script, json!({ "privileged": true }), json!({}));
    let ours = fs::read_to_string("/proc/self/status").expect("proc");
    assert_eq!(value(&log, "CapEff"), value(&ours, "CapBnd"));
    assert_eq!(value(&log, "Seccomp"), "0");
    assert!(log.ends_with("mounted\nkmsg\n"), "{log}");
    podrun.finish();
}

#[test]
fn the_kernel_is_out_of_reach() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let attempts = [
        ("mount -t tmpfs none /tmp", "permission denied"),
        ("unshare -m true", "Operation not permitted"),
        ("unshare -U true", "Operation not permitted"),
        ("mknod /tmp/disk b 8 0", "Operation not permitted"),
        ("echo 1 > /proc/sys/kernel/panic", "Read-only file system"),
        ("echo h > /proc/sysrq-trigger", ""),
        ("mkdir /sys/x", ""),
        ("mkdir /sys/fs/cgroup/x", "Read-only file system"),
        ("ls /sys/kernel/debug/x", ""),
        ("cat /proc/1/root/../../../etc/shadow", "No such file"),
        ("chroot /proc/1/cwd cat /etc/shadow", "No such file"),
    ];
    let script: String = attempts
        .iter()
        .map(|(attempt, _)| format!("({attempt}) >/tmp/out 2>&1 && echo done; cat /tmp/out; echo @\n"))
        .collect();
    let log = run(&podrun, "attempts", &script, json!({}), json!({}));
    let answers: Vec<&str> = log.split("@\n").collect();
    for ((attempt, error), answer) in attempts.iter().zip(answers) {
        assert!(!answer.contains("done") && answer.contains(error), "{attempt}: {answer}");
    }
    podrun.finish();
}

#[test]
fn what_the_kernel_tells_about_the_host_is_masked() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let files = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"];
    let dirs = ["/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"];
    let script = format!(
        "for f in {}; do [ -e $f ] && head -c 1 $f; done; for d in {}; do [ -e $d ] && ls $d; done; true",
        files.join(" "),
        dirs.join(" ")
    );
    assert_eq!(run(&podrun, "masked", &script, json!({}), json!({})), "");
    let seen = run(&podrun, "unmasked", &script, json!({ "privileged": true }), json!({}));
    assert!(!seen.is_empty(), "there is something to mask");
    podrun.finish();
}

#[test]
fn users_and_groups_are_those_of_the_pod_and_the_image() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let groups = json!({ "fsGroup": 3000, "supplementalGroups": [4000] });
    let both = json!({ "runAsUser": 1000, "runAsGroup": 7 });
    // The image puts user 1000 into group 1000 and, in addition, 2000.
    let table = [
        ("root", json!({}), json!({}), "0 0 0"),
        ("number", json!({ "runAsUser": 1000 }), json!({}), "1000 1000 1000 2000"),
        ("group", both, json!({}), "1000 7 7 2000"),
        ("stranger", json!({ "runAsUser": 1234 }), json!({}), "1234 0 0"),
        ("added", json!({ "runAsUser": 1000 }), groups, "1000 1000 1000 2000 3000 4000"),
    ];
    for (name, context, pod_context, expected) in table {
        let log = run(&podrun, name, "echo $(id -u) $(id -g) $(id -G)", context, pod_context);
        let mut words: Vec<&str> = log.split_whitespace().collect();
        words[3..].sort_unstable();
        words.dedup();
        let mut expected: Vec<&str> = expected.split(' ').collect();
        expected.dedup();
        assert_eq!(words, expected, "{name}");
    }
    podrun.finish();
}

#[test]
fn a_volume_belongs_to_the_group_of_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script = "stat -c '%g %A' /disk /memory; echo x > /disk/file && stat -c %g /disk/file";
    let mounts =
        json!([{ "name": "disk", "mountPath": "/disk" }, { "name": "memory", "mountPath": "/memory" }]);
    let manifest = with_spec(
        pod("group", &[with(sh("c", script), json!({ "volumeMounts": mounts }))]),
        json!({
            "securityContext": { "fsGroup": 3000, "runAsUser": 1000 },
            "volumes": [{ "name": "disk", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } }],
        }),
    );
    podrun.run(&manifest).ok();
    let log = podrun.logs("group", "c");
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[..2].iter().all(|line| line.starts_with("3000 drwxrws")), "{log}");
    assert_eq!(lines[2], "3000", "{log}");
    podrun.finish();
}

#[test]
fn a_read_only_root_leaves_volumes_writable() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script =
        "exec 2>&1; touch /x; touch /etc/y; touch /data/z && touch /dev/shm/w && echo volumes are writable";
    let read_only = json!({
        "securityContext": { "readOnlyRootFilesystem": true },
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    let manifest = with_spec(
        pod("read-only", &[with(sh("c", script), read_only)]),
        json!({ "volumes": [{ "name": "data", "emptyDir": {} }] }),
    );
    podrun.run(&manifest).ok();
    let log = podrun.logs("read-only", "c");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    assert!(log.ends_with("volumes are writable\n"), "{log}");
    podrun.finish();
}
