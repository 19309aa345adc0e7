//! What a Pod may send and receive is kept to, changes while it runs, and is read back; what is nobody's is collected.

mod common;

use common::processes::{kill, supervisor, wait_for};
use common::{Podrun, WAIT_FOR_TERM, pod, sh};
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
    let wrong = podrun.podrun(&["annotate", "pod", "shaped", &format!("{rate}=1"), "--overwrite"]);
    assert!(wrong.stderr.contains("resource is unreasonably small (< 1kbit)"), "{}", wrong.stderr);
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
