//! What a container sees and what it may do.

use std::collections::BTreeMap;
use std::fs;

use podrun_plan::model::Owner;
use podrun_testkit::require;

use crate::common::{DEFAULT_CAPS, Pod, content, eventually};

/// Reads `Key:\tvalue` lines.
fn fields(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn it_has_three_descriptors_and_a_tree_of_its_own() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    // `ls` itself opens the directory as 3.
    assert_eq!(pod.output("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3 ");
    assert_eq!(pod.output("readlink /proc/self/fd/0"), "/dev/null\n");
    assert_eq!(
        pod.output("pwd; umask; grep -c . /proc/self/mountinfo >/dev/null; echo $HOME"),
        "/\n0022\n/root\n"
    );
    let mounts = pod
        .output("cut -d' ' -f5 /proc/self/mountinfo | grep -v -E '^/proc/|^/sys/(devices|firmware)' | sort");
    assert_eq!(mounts, "/\n/dev\n/dev/mqueue\n/dev/pts\n/dev/shm\n/proc\n/sys\n/sys/fs/cgroup\n");
    let root = pod.root.path().display().to_string();
    assert_eq!(pod.output(&format!("grep -c {root} /proc/self/mountinfo")), "0\n", "no path of the host");
    pod.remove();
}

#[test]
fn every_user_may_use_the_usual_devices() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.shell(
        "c",
        "stat -c %a:%n /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; echo x >/dev/null && echo ok",
    );
    setup.security.run_as_user = Some(1000);
    let expected =
        ["null", "zero", "full", "random", "urandom", "tty"].map(|name| format!("666:/dev/{name}\n"));
    assert_eq!(content(&pod.run(&setup).log), expected.concat() + "ok\n");
    pod.remove();
}

#[test]
fn every_user_may_open_its_outputs_by_name() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup =
        pod.shell("c", "echo one >/dev/stdout; echo two >/dev/stderr; echo three >>/proc/self/fd/1");
    setup.security.run_as_user = Some(1000);
    let log = pod.run(&setup).log;
    let mut lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F two", "stdout F one", "stdout F three"]);
    pod.remove();
}

#[test]
fn nothing_of_a_pod_is_in_the_mount_table_of_the_host() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let mut pod = Pod::new();
    let setup = pod.shell("c", "sleep 1000");
    pod.start(&setup);
    let marker = pod.plan.uid.clone();
    let dir = pod.root.path().display().to_string();
    let ours = mounts().lines().any(|line| line.contains(&marker) || line.contains(&dir));
    assert!(!ours, "{}", mounts());
    pod.remove();
}

#[test]
fn capabilities_are_those_of_the_plan() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let permitted = fields(&fs::read_to_string("/proc/self/status").expect("readable"))["CapPrm"].clone();
    let permitted = u64::from_str_radix(&permitted, 16).expect("a mask");
    let table = [
        // mask of the plan, user, no_new_privs; what is permitted and effective
        (DEFAULT_CAPS, 0, false, DEFAULT_CAPS),
        (DEFAULT_CAPS, 0, true, DEFAULT_CAPS),
        (DEFAULT_CAPS, 1000, false, 0),
        (DEFAULT_CAPS, 1000, true, 0),
        (1, 0, false, 1),
        (0, 0, false, 0),
        (u64::MAX >> 23, 0, false, permitted),
    ];
    for (index, (mask, user, no_new_privs, expected)) in table.into_iter().enumerate() {
        let mut setup = pod.setup(&format!("c{index}"), &["cat", "/proc/self/status"]);
        setup.security.capabilities = mask;
        setup.security.run_as_user = Some(user);
        setup.security.no_new_privs = no_new_privs;
        let ended = pod.run(&setup);
        let status = fields(&content(&ended.log));
        let caps = |name: &str| u64::from_str_radix(&status[name], 16).expect("a mask");
        let what = format!("{mask:x} as {user}, no_new_privs {no_new_privs}");
        assert_eq!((caps("CapPrm"), caps("CapEff")), (expected, expected), "{what}");
        assert_eq!((caps("CapInh"), caps("CapAmb")), (0, 0), "{what}");
        assert_eq!(caps("CapBnd") & !mask, 0, "{what}");
        assert_eq!(status["NoNewPrivs"], if no_new_privs { "1" } else { "0" }, "{what}");
        assert_eq!((status["Seccomp"].as_str(), status["Seccomp_filters"].as_str()), ("2", "1"), "{what}");
        assert_eq!(status["Uid"], format!("{user}\t{user}\t{user}\t{user}"), "{what}");
    }
    pod.remove();
}

#[test]
fn users_and_groups_are_found_in_the_image() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup =
        pod.shell("c", "id -u; id -g; id -G; echo $HOME; touch /tmp/x && ls -ln /tmp/x | cut -c1-10");
    setup.image_user = "app".to_owned();
    setup.security.supplemental_groups = vec![3000];
    let ended = pod.run(&setup);
    assert_eq!(content(&ended.log), "1000\n1001\n1001 2000 3000\n/home/app\n-rw-r--r--\n");
    let user = ended.started.expect("told").user;
    assert_eq!((user.uid, user.gid, user.groups), (1000, 1001, vec![1001, 3000, 2000]));
    pod.remove();
}

#[test]
fn masked_and_read_only_paths_are() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    assert_eq!(pod.output("cat /proc/keys /proc/timer_list /proc/interrupts | wc -c"), "0\n");
    assert_eq!(pod.output("stat -c %t:%T /proc/timer_list"), "1:3\n");
    assert_eq!(
        pod.output("ls /sys/firmware | wc -l; touch /sys/firmware/x 2>/dev/null || echo no"),
        "0\nno\n"
    );
    for path in ["/proc/sys/kernel/domainname", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/ksm/run"] {
        let script = format!("(echo x > {path}) 2>&1 | grep -o 'Read-only file system'");
        assert_eq!(pod.output(&script), "Read-only file system\n", "{path}");
    }
    assert_eq!(
        pod.output("mkdir /sys/fs/cgroup/x 2>&1 | grep -o 'Read-only file system'"),
        "Read-only file system\n"
    );
    assert_eq!(pod.output("cat /proc/self/cgroup | grep ^0"), "0::/\n");
    pod.remove();
}

#[test]
fn devices_are_the_usual_ones_and_no_others_can_be_opened() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let nodes = pod.output("cd /dev; for d in *; do test -c $d -a ! -L $d && echo $d; done | tr '\\n' ' '");
    assert_eq!(nodes, "full null random tty urandom zero ");
    assert_eq!(pod.output("head -c 4 /dev/zero | wc -c; echo x > /dev/null && echo ok"), "4\nok\n");
    let mut setup = pod.shell(
        "mknod",
        "mknod /tmp/mem c 1 1 2>&1; mknod /dev/disk b 8 0 2>&1; ls /tmp /dev | grep -c -E 'mem|disk'",
    );
    setup.security.capabilities |= 1 << 27;
    assert!(content(&pod.run(&setup).log).ends_with("\n0\n"));
    pod.remove();
}

#[test]
fn the_system_call_filter_is_on() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.shell("c", "unshare -U true 2>&1; mount -t tmpfs none /tmp 2>&1; true");
    setup.security.capabilities = DEFAULT_CAPS;
    let log = content(&pod.run(&setup).log);
    assert_eq!(
        log.matches("Operation not permitted").count() + log.matches("permission denied").count(),
        2,
        "{log}"
    );
    let mut open = pod.setup("open", &["cat", "/proc/self/status"]);
    open.security.seccomp = false;
    assert_eq!(fields(&content(&pod.run(&open).log))["Seccomp"], "0");
    pod.remove();
}

#[test]
fn containers_share_host_name_network_and_ipc() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let namespaces = "cd /proc/self/ns; for n in net ipc uts mnt pid cgroup; do readlink $n; done; hostname";
    let (a, b) = (pod.output(namespaces), pod.output(namespaces));
    let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
    // The other three have ended with the first container, so that their numbers may have been given again.
    assert_eq!(a[..3], b[..3]);
    assert_eq!(a[6], "the-pod");
    for (index, name) in ["net", "ipc", "uts", "mnt", "pid", "cgroup"].into_iter().enumerate() {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).expect("a link");
        assert_ne!(a[index], host.to_string_lossy(), "{name} is not the host's");
    }
    assert_eq!(
        pod.output("cat /sys/class/net/lo/operstate; ip addr show lo | grep -o 127.0.0.1"),
        "unknown\n127.0.0.1\n"
    );
    assert_eq!(pod.output("ls /sys/class/net"), "lo\n");
    pod.output("touch /dev/mqueue/queue; echo shared > /dev/shm/file");
    assert_eq!(pod.output("ls /dev/mqueue; cat /dev/shm/file"), "queue\nshared\n");
    pod.remove();
}

#[test]
fn pid_namespaces_are_as_planned() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut own = Pod::new();
    assert_eq!(own.output("echo $$"), "1\n");
    own.remove();

    let mut pod = Pod::planned();
    pod.plan.namespaces.pid = Owner::Pod;
    let mut pod = pod.created();
    let sleeper = pod.shell("sleeper", "exec sleep 1234");
    let started = pod.start(&sleeper);
    assert!(started.pid > 1);
    // A program that has just been executed has no arguments to show yet.
    let seen = pod.output("cat /proc/1/comm; until ps | grep -q '[s]leep 1234'; do :; done");
    assert_eq!(seen, "init\n");
    assert_eq!(pod.output("readlink /proc/1/exe >/dev/null 2>&1 || echo hidden"), "hidden\n");
    assert_eq!(pod.output("kill -9 1; echo alive"), "alive\n", "process 1 is immune to the Pod");
    let setup = pod.shell("orphan", "(sleep 0.1; true) & exit 0");
    pod.run(&setup);
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    eventually("the orphan is reaped", || cgroup.procs().is_ok_and(|pids| pids.is_empty()));
    drop(cgroup);
    pod.remove();

    let mut pod = Pod::planned();
    pod.plan.namespaces.pid = Owner::Host;
    let mut pod = pod.created();
    let host = fs::read_link("/proc/self/ns/pid").expect("a link").to_string_lossy().into_owned();
    assert_eq!(pod.output("readlink /proc/self/ns/pid").trim(), host);
    // Its orphans go to init.
    let setup = pod.shell("orphan", "(sleep 0.2; true) & exit 0");
    pod.run(&setup);
    let cgroup = pod.sandbox().container_cgroup(&setup.id).expect("there");
    eventually("the orphan is reaped", || cgroup.procs().is_ok_and(|pids| pids.is_empty()));
    drop(cgroup);
    pod.remove();
}

#[test]
fn the_hosts_namespaces_are_shared_when_planned() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::planned();
    pod.plan.namespaces.net = Owner::Host;
    pod.plan.namespaces.ipc = Owner::Host;
    pod.plan.namespaces.uts = Owner::Host;
    pod.plan.hostname = None;
    pod.plan.shm_size = None;
    let mut pod = pod.created();
    let seen = pod.output("cd /proc/self/ns; for n in net ipc uts; do readlink $n; done");
    let host: String = ["net", "ipc", "uts"]
        .iter()
        .map(|name| {
            format!("{}\n", fs::read_link(format!("/proc/self/ns/{name}")).expect("a link").display())
        })
        .collect();
    assert_eq!(seen, host);
    let name = format!("/dev/shm/{}", pod.plan.uid);
    fs::write(&name, "from the host").expect("write");
    assert_eq!(pod.output(&format!("cat {name}")), "from the host");
    fs::remove_file(&name).expect("unlink");
    pod.remove();
}

#[test]
fn a_privileged_container_is_not_confined() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.shell(
        "c",
        "mkdir /sys/fs/cgroup/x 2>/dev/null; test -d /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x && echo cgroup; \
         mount -t tmpfs none /tmp && echo mount; test -c /dev/kmsg -o -c /dev/mem && echo devices; \
         grep Seccomp: /proc/self/status | tr -d '\\t'",
    );
    setup.security.privileged = true;
    setup.security.seccomp = false;
    setup.security.capabilities = u64::MAX >> 23;
    setup.security.masked_paths.clear();
    setup.security.read_only_paths.clear();
    setup.namespaces.cgroup = Owner::Host;
    let log = content(&pod.run(&setup).log);
    let expected = ["mount", "devices", "Seccomp:0"];
    for word in expected {
        assert!(log.lines().any(|line| line == word), "{word}: {log}");
    }
    pod.remove();
}

#[test]
fn limits_are_set_and_what_is_refused_is_told() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.shell("c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    setup.security.rlimits = vec![("NOFILE".to_owned(), 123, 456)];
    let ended = pod.run(&setup);
    assert_eq!(content(&ended.log), "123\n456\n1000\n");
    assert_eq!(ended.started.expect("told").warnings, Vec::<String>::new());

    let mut greedy = pod.shell("greedy", "ulimit -Hn");
    greedy.security.rlimits = vec![("NOFILE".to_owned(), 64, u64::from(u32::MAX))];
    greedy.oom_score_adj = -999;
    let ended = pod.run(&greedy);
    let warnings = ended.started.expect("told").warnings;
    if podrun_testkit::Requirement::cap("SYS_RESOURCE").check().is_err() {
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("oom_score_adj stays as it is, -999 was refused"), "{warnings:?}");
        assert!(warnings[1].starts_with("limit NOFILE is "), "{warnings:?}");
    }
    pod.remove();
}

#[test]
fn a_read_only_root_keeps_volumes_writable() {
    require!(root, cgroup2, overlay, program("busybox"));
    let mut pod = Pod::new();
    let mut setup = pod.shell("c", "touch /x 2>&1; touch /dev/shm/x && echo shm");
    setup.security.read_only_rootfs = true;
    let log = content(&pod.run(&setup).log);
    assert_eq!(log, "touch: /x: Read-only file system\nshm\n");
    pod.remove();
}

#[test]
fn kernel_parameters_are_the_pods_own() {
    require!(root, cgroup2, overlay, program("busybox"));
    let host = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("readable");
    let mut pod = Pod::planned();
    pod.plan.sysctls = vec![
        ("net.ipv4.ip_unprivileged_port_start".to_owned(), "77".to_owned()),
        ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
    ];
    let mut pod = pod.created();
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced";
    assert_eq!(pod.output(script), "77\n1\n");
    let after = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("readable");
    assert_eq!(after, host);
    pod.remove();
}
