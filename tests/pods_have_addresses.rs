//! Pods reach each other and the machine, publish ports, and find in their files what a kubelet would write.

mod common;

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::processes::{kill, supervisor};
use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, sh, state, with, with_spec};
use podrun_testkit::{links, require};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// Serves its own name, and nothing else.
fn server(name: &str) -> String {
    format!("mkdir /www; echo {name} > /www/index.html; httpd -p 80 -h /www; {WAIT_FOR_TERM}")
}

/// Returns what an HTTP server has at its root.
fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default())
}

/// Fetches until somebody answers: a Pod that runs does not listen yet.
#[expect(clippy::disallowed_methods, reason = "a server in a container tells nobody when it listens")]
fn fetched(address: SocketAddr) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match fetch(address) {
            Ok(text) => return text,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn address_of(podrun: &Podrun, pod: &str) -> IpAddr {
    podrun.wait_until(pod, "{.status.podIP}", |text| !text.is_empty()).parse().expect("an address")
}

#[test]
fn pods_reach_each_other_by_their_addresses() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("a", &[sh("server", &server("a"))]));
    podrun.start(&pod("b", &[sh("server", &server("b"))]));
    let (a, b) = (address_of(&podrun, "a"), address_of(&podrun, "b"));
    assert_ne!(a, b);
    // From the machine, from each other, and from itself.
    assert_eq!((fetched((a, 80).into()), fetched((b, 80).into())), ("a".into(), "b".into()));
    for (other, address) in [("a", b), ("b", a), ("a", a)] {
        let run =
            podrun.podrun(&["exec", other, "--", "wget", "-q", "-O", "-", &format!("http://{address}/")]);
        let expected = if address == a { "a\n" } else { "b\n" };
        assert_eq!(run.ok(), expected);
    }
    podrun.finish();
}

#[test]
fn containers_are_told_the_addresses() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let env = json!({ "env": [
        { "name": "POD_IP", "valueFrom": field("status.podIP") },
        { "name": "POD_IPS", "valueFrom": field("status.podIPs") },
    ] });
    let script =
        "echo $POD_IP $POD_IPS; ip -4 addr show dev eth0 | grep -o 'inet [0-9.]*'; ip route show default";
    let run = podrun.run(&pod("told", &[with(sh("c", script), env)]));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let address = address_of(&podrun, "told");
    let log = podrun.logs("told", "c");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], [format!("{address} {address}"), format!("inet {address}")], "{log}");
    assert!(lines[2].starts_with("default via 10.88.0.1 dev eth0"), "{log}");
    podrun.finish();
}

#[test]
fn names_and_resolvers_follow_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let spec = json!({
        "hostname": "web",
        "subdomain": "sub",
        "hostAliases": [{ "ip": "192.0.2.7", "hostnames": ["one.example", "two.example"] }],
        "dnsPolicy": "None",
        "dnsConfig": {
            "nameservers": ["192.0.2.53"],
            "searches": ["example.org"],
            "options": [{ "name": "ndots", "value": "3" }, { "name": "rotate" }],
        },
    });
    let script =
        "tail -n 4 /etc/hosts; cat /etc/resolv.conf; stat -c %a /etc/hosts /etc/resolv.conf; hostname";
    podrun.run(&with_spec(pod("named", &[sh("c", script)]), spec));
    let address = address_of(&podrun, "named");
    let expected = format!(
        "{address}\tweb.sub.default.svc.cluster.local\tweb\n\n# Entries added by HostAliases.\n\
         192.0.2.7\tone.example\ttwo.example\nsearch example.org\nnameserver 192.0.2.53\noptions ndots:3 rotate\n\
         644\n644\nweb\n"
    );
    assert_eq!(podrun.logs("named", "c"), expected);
    podrun.finish();
}

#[test]
fn a_host_port_leads_to_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let ports = json!({ "ports": [
        { "containerPort": 80, "hostPort": 18080 },
        { "containerPort": 80, "hostPort": 18081, "hostIP": "127.0.0.2" },
        { "containerPort": 53, "hostPort": 18053, "protocol": "UDP" },
    ] });
    let uid = podrun.start(&pod("web", &[with(sh("server", &server("published")), ports)]));
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(fetched(at("127.0.0.1:18080")), "published");
    assert_eq!(fetched(at("127.0.0.2:18081")), "published");
    assert!(fetch(at("127.0.0.1:18081")).is_err());

    // Nothing in busybox listens to UDP, so somebody does it in the Pod's network.
    let server = cgroup::processes_of(&uid, "server")[0];
    let netns = fs::File::open(format!("/proc/{server}/ns/net")).expect("the container runs");
    let server = std::thread::scope(|scope| {
        let bound = scope.spawn(|| {
            nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
            UdpSocket::bind("0.0.0.0:53").unwrap()
        });
        bound.join().unwrap()
    });
    drop(netns);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"ping", at("127.0.0.1:18053")).unwrap();
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer).expect("a question");
    server.send_to(b"pong", from).unwrap();
    let (length, _) = client.recv_from(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..length], b"pong");
    drop(server);

    podrun.delete("web");
    assert!(fetch(at("127.0.0.1:18080")).is_err());
    podrun.finish();
}

#[test]
fn a_pod_waits_for_its_port() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let with_port = |name: &str| {
        let ports = json!({ "ports": [{ "containerPort": 80, "hostPort": 18090 }] });
        pod(name, &[with(sh("server", &server(name)), ports)])
    };
    podrun.start(&with_port("first"));
    assert_eq!(fetched("127.0.0.1:18090".parse().unwrap()), "first");
    podrun.start(&with_port("second"));
    assert_eq!(podrun.get("second", "{.status.phase}"), "Pending");
    podrun.delete("first");
    podrun.wait_running("second", "server");
    assert_eq!(fetched("127.0.0.1:18090".parse().unwrap()), "second");
    podrun.finish();
}

#[test]
fn a_pod_may_do_without() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let manifest = podrun.write(&pod("alone", &[sh("c", "ip -o link | wc -l")]));
    podrun.podrun(&["run", "--network=none", &manifest]);
    assert_eq!(podrun.logs("alone", "c"), "1\n");
    assert_eq!(podrun.get("alone", "{.status.podIP}"), "");
    assert!(links().is_empty());
    podrun.finish();
}

#[test]
fn an_address_outlives_the_supervisor() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("kept", &[sh("server", &server("kept"))]));
    let address = address_of(&podrun, "kept");
    assert_eq!(fetched((address, 80).into()), "kept");
    kill(&supervisor(&podrun, &uid).expect("it runs"));
    assert_eq!(fetched((address, 80).into()), "kept", "nobody is needed for that");
    podrun.wait_running("kept", "server");
    assert_eq!(address_of(&podrun, "kept"), address);
    assert_eq!(fs::read_dir(podrun.state().join("run/network/leases")).unwrap().count(), 1);
    podrun.finish();
}

#[test]
fn a_container_that_ends_is_restarted_at_the_same_address() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let script =
        "ip -4 addr show dev eth0 | grep -o 'inet [0-9.]*'; [ -e /v/again ] || { touch /v/again; exit 1; }";
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let spec = json!({ "restartPolicy": "OnFailure", "volumes": [{ "name": "v", "emptyDir": {} }] });
    let run = podrun.run(&with_spec(pod("again", &[with(sh("c", script), mount)]), spec));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let addresses: Vec<_> = run.stdout.lines().filter(|line| line.contains("inet")).collect();
    assert!(addresses.len() == 2 && addresses[0] == addresses[1], "{}", run.stdout);
    assert_eq!(podrun.get("again", &state("c", "terminated.exitCode")), "0");
    podrun.finish();
}
