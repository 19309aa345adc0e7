//! A Pod that does not fit on this node waits, says why in the scheduler's words, and starts when it fits.

mod common;

use std::fs;
use std::net::{TcpListener, UdpSocket};

use common::{Podrun, WAIT_FOR_TERM, pod, processes, sh, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

/// The phase, and what is wrong with the placement of the Pod.
const PLACED: &str = "{.status.phase} {.status.conditions[?(@.type==\"PodScheduled\")].reason}";
/// Why it is not placed.
const WHY: &str = "{.status.conditions[?(@.type==\"PodScheduled\")].message}";
/// How the scheduler ends when ending other Pods could help.
const NO_VICTIMS: &str = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found \
                          for incoming pod.";
/// And where it could not.
const NO_HELP: &str = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

/// A Pod that waits for its end and requests so many thousandths of a CPU.
fn requesting(name: &str, millis: usize) -> Value {
    let requests = json!({ "resources": { "requests": { "cpu": format!("{millis}m") } } });
    pod(name, &[with(sh("c", WAIT_FOR_TERM), requests)])
}

fn cpu_millis() -> usize {
    std::thread::available_parallelism().expect("a number of CPUs").get() * 1000
}

fn configure(podrun: &Podrun, text: &str) {
    let dir = podrun.state().join("etc");
    fs::create_dir_all(&dir).expect("the directory is ours");
    // In one step, as editors do.
    fs::write(dir.join(".new"), text)
        .and_then(|()| fs::rename(dir.join(".new"), dir.join("config.toml")))
        .expect("a file");
}

fn forget_configuration(podrun: &Podrun) {
    fs::remove_dir_all(podrun.state().join("etc")).expect("it was made");
}

/// Starts a Pod that is held back, and returns what podrun says to that.
fn start_waiting(podrun: &Podrun, manifest: &Value, arguments: &[&str]) -> String {
    let path = podrun.write(manifest);
    let output = podrun.podrun(&[&["run", "-d", "--unenforced-limits=warn"], arguments, &[&path]].concat());
    assert_eq!(output.code, 0, "{}", output.stderr);
    output.stderr
}

#[test]
fn a_pod_starts_when_another_one_makes_room() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&requesting("first", cpu_millis()));
    let why = format!("0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIMS}");
    let told = start_waiting(&podrun, &requesting("second", 1), &[]);
    assert!(told.contains(&format!("pod \"second\" is not started: {why}")), "{told}");
    assert_eq!(podrun.get("second", PLACED), "Pending Unschedulable");
    assert_eq!(podrun.get("second", WHY), why);
    assert_eq!(
        podrun.get("second", "{.status.startTime}{.status.containerStatuses}"),
        "",
        "nothing has begun"
    );
    let events = podrun.podrun(&["events", "second", "--no-headers"]).ok();
    assert!(events.contains("Warning   FailedScheduling   Pod/second   0/1 nodes"), "{events}");
    // What wants nothing finds room all the same.
    podrun.start(&pod("third", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_ready("third");

    let mut watch = podrun.watch("second", PLACED);
    watch.wait_line(|line| line == "Pending Unschedulable");
    podrun.delete("first");
    watch.wait_line(|line| line.starts_with("Running"));
    watch.kill();
    podrun.wait_ready("second");
    podrun.finish();
}

#[test]
fn a_pod_that_wants_more_than_the_node_has_can_be_deleted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let told = start_waiting(&podrun, &requesting("huge", cpu_millis() + 1), &[]);
    assert!(told.contains(&format!("1 Insufficient cpu. {NO_HELP}")), "{told}");
    let mut watch = podrun.watch("huge", "{.status.phase}");
    assert_eq!(watch.line().as_deref(), Some("Pending"));
    podrun.delete("huge");
    let seen = watch.finish().ok();
    assert!(seen.lines().all(|line| matches!(line, "Pending" | "Failed")), "{seen}");
    podrun.finish();
}

#[test]
fn the_last_room_goes_to_one_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    configure(&podrun, "[node]\nmax-pods = 1\n");
    podrun.start(&pod("first", &[sh("c", WAIT_FOR_TERM)]));
    let names = ["a", "b", "c", "d"];
    for name in names {
        let told = start_waiting(&podrun, &pod(name, &[sh("c", WAIT_FOR_TERM)]), &[]);
        assert!(told.contains(&format!("1 Too many pods. {NO_VICTIMS}")), "{told}");
    }
    let mut left: Vec<&str> = names.to_vec();
    let mut last = "first".to_owned();
    while !left.is_empty() {
        podrun.delete(&last);
        // Every end makes room for exactly one.
        let running = processes::wait_for("one of them starts", || {
            left.iter().position(|name| podrun.get(name, "{.status.phase}") == "Running")
        });
        last = left.remove(running).to_owned();
        for name in &left {
            assert_eq!(podrun.get(name, PLACED), "Pending Unschedulable", "{name} beside {last}");
        }
    }
    podrun.delete(&last);
    forget_configuration(&podrun);
    podrun.finish();
}

#[test]
fn labels_decide_and_may_change() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    configure(&podrun, "[node]\nname = \"here\"\n");
    let wants = |name: &str, selector: Value| {
        with_spec(pod(name, &[sh("c", WAIT_FOR_TERM)]), json!({ "nodeSelector": selector }))
    };
    // The well-known labels are there, and those of the command line.
    let known = json!({ "kubernetes.io/hostname": "here", "kubernetes.io/os": "linux", "zone": "a" });
    let told = start_waiting(&podrun, &wants("known", known), &["--node-label=zone=a"]);
    assert_eq!(told, "");
    podrun.wait_ready("known");

    let told = start_waiting(&podrun, &wants("picky", json!({ "disk": "ssd" })), &[]);
    let why = format!("1 node(s) didn't match Pod's node affinity/selector. {NO_HELP}");
    assert!(told.contains(&why), "{told}");
    // A supervisor that dies meanwhile is followed by one that waits on.
    let uid = podrun.get("picky", "{.metadata.uid}");
    processes::kill(&processes::supervisor(&podrun, &uid).expect("it waits"));
    assert_eq!(podrun.get("picky", PLACED), "Pending Unschedulable");
    configure(&podrun, "[node]\nname = \"here\"\nlabels = { disk = \"ssd\" }\n");
    podrun.wait_ready("picky");

    let affinity = json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": ["there"] },
        ] }] } } } });
    let elsewhere = with_spec(pod("elsewhere", &[sh("c", WAIT_FOR_TERM)]), affinity);
    let told = start_waiting(&podrun, &elsewhere, &[]);
    assert!(told.contains("1 node(s) didn't satisfy plugin(s) [NodeAffinity]"), "{told}");
    let named = with_spec(pod("named", &[sh("c", WAIT_FOR_TERM)]), json!({ "nodeName": "there" }));
    let told = start_waiting(&podrun, &named, &[]);
    assert!(told.contains("1 node(s) didn't match the requested node name"), "{told}");
    forget_configuration(&podrun);
    podrun.finish();
}

#[test]
fn ports_of_the_node_are_held_by_one_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let with_port = |name: &str, port: u16| {
        let ports = json!({ "ports": [{ "containerPort": port, "hostPort": port }] });
        with_spec(pod(name, &[with(sh("c", WAIT_FOR_TERM), ports)]), json!({ "hostNetwork": true }))
    };
    podrun.start(&with_port("first", 8080));
    podrun.start(&with_port("other", 8081));
    podrun.wait_ready("other");
    let told = start_waiting(&podrun, &with_port("second", 8080), &[]);
    let why = format!("1 node(s) didn't have free ports for the requested pod ports. {NO_VICTIMS}");
    assert!(told.contains(&why), "{told}");
    let holder = "host port 8080/TCP of container \"c\" is held by container \"c\" of pod default/first";
    assert!(told.contains(&format!("hint: {holder}")), "{told}");
    assert!(podrun.events("second").contains(&format!("HostPortTaken      Pod/second   {holder}")));
    podrun.delete("first");
    podrun.wait_ready("second");
    podrun.finish();
}

#[test]
fn a_port_of_a_process_is_left_to_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let publishing = |name: &str, protocol: &str, port: u16| {
        let ports = json!({ "ports": [
            { "containerPort": 80, "hostPort": port, "protocol": protocol, "hostIP": "127.0.0.1" },
        ] });
        pod(name, &[with(sh("c", WAIT_FOR_TERM), ports)])
    };
    let tcp = TcpListener::bind("127.0.0.1:8085").expect("this network is the test's own");
    let udp = UdpSocket::bind("0.0.0.0:8086").expect("the same");
    let why = format!("1 node(s) didn't have free ports for the requested pod ports. {NO_VICTIMS}");
    let me = std::process::id();
    for (name, protocol, port, there) in
        [("tcp", "TCP", 8085, "127.0.0.1:8085"), ("udp", "UDP", 8086, "0.0.0.0:8086")]
    {
        let told = start_waiting(&podrun, &publishing(name, protocol, port), &[]);
        assert!(told.contains(&why), "{told}");
        assert_eq!(podrun.get(name, PLACED), "Pending Unschedulable");
        let begin = format!("host port 127.0.0.1:{port}/{protocol} of container \"c\" is held by process ");
        let end = format!("(PID {me}), which listens on {there}");
        assert!(told.lines().any(|line| line.contains(&begin) && line.ends_with(&end)), "{told}");
        let described = podrun.podrun(&["describe", "pod", name]).ok();
        assert!(described.lines().any(|line| line.contains(&begin) && line.ends_with(&end)), "{described}");
    }
    // The same port at another address, and of the other protocol, is nobody's.
    podrun.start(&publishing("other", "UDP", 8085));
    podrun.wait_ready("other");
    drop((tcp, udp));
    podrun.wait_ready("tcp");
    podrun.wait_ready("udp");
    podrun.finish();
}

#[test]
fn in_the_machines_network_a_rival_is_told() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let rival = TcpListener::bind("127.0.0.1:8087").expect("this network is the test's own");
    let ports = json!({ "ports": [{ "containerPort": 8087 }] });
    let manifest =
        with_spec(pod("shared", &[with(sh("c", WAIT_FOR_TERM), ports)]), json!({ "hostNetwork": true }));
    podrun.start(&manifest);
    // Whether a port may be shared is for bind(2) to say.
    podrun.wait_ready("shared");
    let events = podrun.events("shared");
    assert!(
        events.contains("HostPortTaken") && events.contains("which listens on 127.0.0.1:8087"),
        "{events}"
    );
    drop(rival);
    podrun.finish();
}

#[test]
fn an_ended_pod_holds_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let requests = json!({ "resources": { "requests": { "cpu": format!("{}m", cpu_millis()) } } });
    podrun.start(&pod("ends", &[with(sh("c", "true"), requests)]));
    podrun.wait_for("ends", "{.status.phase}", "Succeeded");
    start_waiting(&podrun, &requesting("next", 1), &[]);
    podrun.wait_ready("next");
    podrun.finish();
}

#[test]
fn what_no_waiting_can_mend_is_rejected() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let sysctl = json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax", "value": "65536" }] } });
    for (name, spec, reason, message) in [
        ("sysctl", sysctl, "SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
        (
            "system",
            json!({ "os": { "name": "windows" } }),
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
    ] {
        let manifest = with_spec(pod(name, &[sh("c", "echo must not run")]), spec);
        let output = podrun.run(&manifest);
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{}", output.stderr);
        assert!(output.stderr.contains(reason) && output.stderr.contains(message), "{}", output.stderr);
        let seen = podrun.get(name, "{.status.phase} {.status.reason} {.status.message}");
        assert_eq!(seen, format!("Failed {reason} Pod was rejected: {message}"));
        assert_eq!(podrun.get(name, "{.status.conditions}{.status.containerStatuses}"), "");
        let row = podrun.podrun(&["get", "pod", name, "--no-headers"]).ok();
        assert!(row.contains(reason), "{row}");
    }
    podrun.finish();
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    configure(&podrun, "[node]\nmaxpods = 1\n");
    let path = podrun.write(&pod("p", &[sh("c", "true")]));
    let error = podrun.podrun(&["run", "-d", &path]).fails(125);
    assert!(error.contains("config.toml:2:1: unknown field `maxpods`"), "{error}");
    forget_configuration(&podrun);
    podrun.finish();
}
