//! What a Pod may send and receive is kept to, changes while it runs, and is read back; what is nobody's is collected.

mod common;

use common::processes::{kill, supervisor, wait_for};
use common::{Podrun, WAIT_FOR_TERM, pod, sh};
use podrun_netlink::{Action, Connection, LinkFilter, Message, Protocol, Rtnetlink};
use podrun_tc::{Handle, Qdisc, QdiscKind, TrafficControl};
use podrun_testkit::{links, require};
use serde_json::{Value, json};

/// Returns a Pod with limits in both directions, in megabits per second.
fn limited(name: &str, ingress: u32, egress: u32) -> Value {
    let mut pod = pod(name, &[sh("c", WAIT_FOR_TERM)]);
    pod["metadata"]["annotations"] = json!({
        "kubernetes.io/ingress-bandwidth": format!("{ingress}M"),
        "kubernetes.io/egress-bandwidth": format!("{egress}M"),
    });
    pod
}

#[test]
fn a_pod_is_as_fast_as_its_annotations_say() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&limited("shaped", 20, 10));
    podrun.wait_running("shaped", "c");
    let measured = podrun.podrun(&["net", "verify", "shaped", "--probe=2"]).ok();
    assert!(measured.contains(" of 20.0 Mbit/s") && measured.contains(" of 10.0 Mbit/s"), "{measured}");

    let rate = "kubernetes.io/egress-bandwidth";
    let refused = podrun.podrun(&["annotate", "pod", "shaped", &format!("{rate}=30M")]).fails(5);
    assert!(refused.contains(&format!("'{rate}' already has a value (10M)")), "{refused}");
    let wrong = podrun.podrun(&["annotate", "pod", "shaped", &format!("{rate}=1"), "--overwrite"]).fails(3);
    assert!(wrong.contains("resource is unreasonably small (< 1kbit)"), "{wrong}");
    podrun.podrun(&["annotate", "pod", "shaped", &format!("{rate}=30M"), "--overwrite"]).ok();
    assert_eq!(podrun.json("shaped")["metadata"]["annotations"][rate], "30M");
    let measured = podrun.podrun(&["net", "verify", "shaped", "--probe=2"]).ok();
    assert!(measured.contains(" of 30.0 Mbit/s"), "{measured}");
    let described = podrun.podrun(&["describe", "pod", "shaped"]).ok();
    let egress = described.lines().find(|line| line.trim().starts_with("Egress:")).expect("it is told");
    for word in ["limit 30.0 Mbit/s", "drops", "overlimits", "backlog"] {
        assert!(egress.contains(word), "{word}: {egress}");
    }

    podrun
        .podrun(&["annotate", "pod", "shaped", &format!("{rate}-"), "kubernetes.io/ingress-bandwidth-"])
        .ok();
    let measured = podrun.podrun(&["net", "verify", "shaped", "--probe=1"]).ok();
    assert!(measured.contains("no limit"), "{measured}");
    podrun.finish();
}

#[test]
fn a_new_limit_outlives_the_supervisor() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&limited("kept", 20, 10));
    podrun.wait_running("kept", "c");
    podrun.podrun(&["annotate", "pod", "kept", "kubernetes.io/egress-bandwidth=5M", "--overwrite"]).ok();
    kill(&supervisor(&podrun, &uid).expect("it runs"));
    podrun.podrun(&["net", "verify"]).ok();
    assert_eq!(podrun.json("kept")["metadata"]["annotations"]["kubernetes.io/egress-bandwidth"], "5M");
    podrun.finish();
}

/// Takes away all tables of nftables in this network: `nft flush ruleset`.
fn flush_ruleset() {
    const NFTABLES: u8 = 10;
    const DELETE_TABLE: u8 = 2;
    let message = Message::new(u16::from_be_bytes([NFTABLES, DELETE_TABLE]), 0, &[0; 4]);
    let mut netfilter = Connection::open(Protocol::Netfilter).expect("nfnetlink");
    let action = Action::new("flush", "nftables");
    netfilter.transaction::<()>(&action, NFTABLES.into(), &[message], |_| Ok(None)).expect("root may");
}

#[test]
fn what_others_have_taken_away_is_repaired() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mut manifest = limited("shaped", 20, 10);
    manifest["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 80, "hostPort": 20005 }]);
    podrun.start(&manifest);
    podrun.wait_running("shaped", "c");
    assert_eq!(podrun.podrun(&["net", "repair"]).ok(), "ok       node\nok       pod/shaped\n");

    let mut route = Rtnetlink::open().expect("rtnetlink");
    let all = route.links(LinkFilter::new()).expect("links");
    let of_kind = |kind| all.iter().find(|link| link.kind.as_deref() == Some(kind)).expect("it is there");
    let (veth, ifb) = (of_kind("veth"), of_kind("ifb"));
    flush_ruleset();
    assert!(TrafficControl::new(&mut route).unwrap().delete_qdisc(veth.index, Handle::ROOT).unwrap());
    assert!(route.delete_link(ifb.index).unwrap());
    let verified = podrun.podrun(&["net", "verify"]);
    assert_eq!(verified.code, 1, "{}", verified.stderr);
    let told = [
        "chain postrouting: there expected, found nothing".to_owned(),
        format!("{}: root: kind: tbf expected, found ", veth.name),
        format!("{}: link: ", ifb.name),
    ];
    for words in &told {
        assert!(verified.stdout.contains(words), "{words}: {}", verified.stdout);
    }
    let repaired = podrun.podrun(&["net", "repair"]).ok();
    assert!(
        repaired.starts_with("repaired node\n") && repaired.contains("repaired pod/shaped\n"),
        "{repaired}"
    );
    for words in &told {
        assert!(repaired.contains(words) && repaired.contains("was "), "{words}: {repaired}");
    }
    podrun.podrun(&["net", "verify", "--probe=1"]).ok();

    // Who asks nobody is helped by the next Pod.
    flush_ruleset();
    assert_eq!(podrun.podrun(&["net", "verify", "shaped"]).code, 1);
    podrun.start(&pod("next", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("next", "c");
    podrun.podrun(&["net", "verify"]).ok();
    podrun.finish();
}

#[test]
fn a_pod_that_may_change_its_links_stays_limited() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mut manifest = limited("mighty", 20, 10);
    let capable = json!({ "capabilities": { "add": ["NET_ADMIN", "NET_RAW"] } });
    manifest["spec"]["containers"][0]["securityContext"] = capable;
    let uid = podrun.start(&manifest);
    podrun.wait_running("mighty", "c");
    for command in [
        "ip link set eth0 qlen 100000 || ifconfig eth0 txqueuelen 100000",
        "ip link set eth0 mtu 1400 && ip link set eth0 mtu 1500",
        "ip link set eth0 down && ip link set eth0 up && ip route add default via 10.88.0.1",
    ] {
        podrun.podrun(&["exec", "mighty", "--", "sh", "-c", command]).ok();
    }
    // busybox cannot change disciplines, so it is done for the Pod: whatever it has at its end, it has got rid of.
    let process = common::cgroup::processes_of(&uid, "c")[0];
    let netns = std::fs::File::open(format!("/proc/{process}/ns/net")).expect("the container runs");
    let mut route = Rtnetlink::open_in(&netns).expect("rtnetlink");
    let eth0 = route.link("eth0").expect("its link").index;
    let mut inside = TrafficControl::new(&mut route).unwrap();
    let fifo = Qdisc::root(Handle::qdisc(9), QdiscKind::Pfifo { limit: 100_000 });
    inside.replace_qdisc(eth0, &fifo).unwrap();
    for handle in [Handle::ROOT, Handle::INGRESS] {
        inside.delete_qdisc(eth0, handle).unwrap();
    }
    assert!(inside.qdiscs(eth0).unwrap().iter().all(|found| !matches!(found.qdisc.kind, QdiscKind::Tbf(_))));
    drop((route, netns));
    // One that is lifted would fail this by far: what is too fast is a difference.
    let measured = podrun.podrun(&["net", "verify", "mighty", "--probe=2"]).ok();
    assert!(measured.contains(" of 20.0 Mbit/s") && measured.contains(" of 10.0 Mbit/s"), "{measured}");
    podrun.finish();
}

#[test]
fn what_is_nobodys_is_collected() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&limited("lost", 20, 10));
    podrun.wait_running("lost", "c");
    assert_eq!(podrun.podrun(&["gc"]).ok(), "", "everything is somebody's");
    // As if the machine had lost the Pod and all that podrun knows of it, but not the Pod's network.
    kill(&supervisor(&podrun, &uid).expect("it runs"));
    kill(&common::processes::init(&uid).expect("it runs"));
    let cgroup = common::cgroup::of_pod(&uid).expect("it is there");
    let data = podrun.state().join("data");
    for path in [data.join("pods").join(&uid), podrun.state().join("run/supervisors").join(&uid)] {
        std::fs::remove_dir_all(path).unwrap();
    }
    std::fs::remove_file(data.join("names/default_lost")).unwrap();
    let collected = podrun.podrun(&["gc"]).ok();
    assert!(collected.contains("bridge podrun-") || links().is_empty(), "{collected}");
    wait_for("the links to go", || links().is_empty().then_some(()));
    assert_eq!(podrun.podrun(&["gc"]).ok(), "");
    // Somebody else might be about to use a cgroup that is young.
    let cgroup = podrun_testkit::cgroup2_mount().expect("required").join(cgroup);
    for child in ["init", "c.0"] {
        let _ = std::fs::remove_dir(cgroup.join(child));
    }
    wait_for("the cgroup to be empty", || std::fs::remove_dir(&cgroup).ok());
    let _ = std::fs::remove_dir(cgroup.parent().expect("below podrun's"));
    podrun.finish();
}

#[test]
fn the_doctor_tries_the_network_out() {
    require!(root);
    let podrun = Podrun::empty();
    let text = podrun.podrun(&["doctor", "-o", "json"]).stdout;
    let findings: Value = serde_json::from_str(&text).expect("JSON");
    let network = findings.as_array().unwrap().iter().find(|finding| finding["what"] == "pod network");
    assert_eq!(network.expect("it is told")["verdict"], "ok", "{text}");
    assert!(links().is_empty());
    podrun.finish();
}
