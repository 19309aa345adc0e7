//! What Pods have of the network is tied to the boot: after the next one it is free, and a Pod that comes back gets its own anew.
//!
//! A boot is a thread with a network namespace of its own, and a mount namespace in which the machine has another boot id. The
//! state directory outlives it whole, also what a reboot would take away: that must not be relied on.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Podrun, WAIT_FOR_TERM, pod, processes, sh, with, with_spec};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use podrun_testkit::{links, own_network, require};
use serde_json::{Value, json};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FIRST: &str = "11111111-1111-4111-8111-111111111111";
const SECOND: &str = "22222222-2222-4222-8222-222222222222";

/// Calls `body` on a thread that sees another boot of this machine.
fn in_boot<T: Send>(podrun: &Podrun, id: &str, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let booted = scope.spawn(|| {
            own_network();
            see_boot_id(&podrun.dir().join("boot_id"), id).expect("a mount namespace");
            body()
        });
        booted.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

/// Puts a file over the machine's boot id, for this thread and what it starts.
fn see_boot_id(file: &Path, id: &str) -> std::io::Result<()> {
    const NONE: Option<&str> = None;
    fs::write(file, format!("{id}\n"))?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some(file), BOOT_ID, NONE, MsFlags::MS_BIND, NONE)?;
    assert_eq!(fs::read_to_string(BOOT_ID)?.trim(), id);
    Ok(())
}

fn publishing(name: &str, policy: &str, port: u16) -> Value {
    let ports = json!({ "ports": [
        { "containerPort": 80, "hostPort": port },
        { "containerPort": 53, "hostPort": port, "protocol": "UDP" },
    ] });
    let mut pod =
        with_spec(pod(name, &[with(sh("c", WAIT_FOR_TERM), ports)]), json!({ "restartPolicy": policy }));
    pod["metadata"]["annotations"] = json!({ "kubernetes.io/egress-bandwidth": "10M" });
    pod
}

/// Returns the holders of all addresses and ports: `<uid>@<boot id>`, without where a port leads.
fn holders(podrun: &Podrun) -> Vec<String> {
    let mut holders = Vec::new();
    for dir in ["leases", "ports"] {
        for entry in fs::read_dir(podrun.state().join("run/network").join(dir)).expect("it was made") {
            let target = fs::read_link(entry.expect("it is ours").path()).expect("a link");
            holders.push(target.to_string_lossy().split('/').next().unwrap_or_default().to_owned());
        }
    }
    holders.sort();
    holders
}

#[test]
fn a_reboot_frees_what_pods_had() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let podrun = Podrun::new();
    let (ends, returns) = in_boot(&podrun, FIRST, || {
        let ends = podrun.start(&publishing("ends", "Never", 20_003));
        let returns = podrun.start(&publishing("returns", "Always", 20_004));
        podrun.wait_running("ends", "c");
        podrun.wait_running("returns", "c");
        // As if the power were cut: nobody says goodbye.
        for uid in [&ends, &returns] {
            processes::supervisor(&podrun, uid).iter().for_each(processes::kill);
            processes::init(uid).iter().for_each(processes::kill);
        }
        (ends, returns)
    });
    let expected = |uids: &[&str], boot: &str| {
        let mut all: Vec<_> = uids.iter().flat_map(|uid| vec![format!("{uid}@{boot}"); 3]).collect();
        all.sort();
        all
    };
    assert_eq!(holders(&podrun), expected(&[&ends, &returns], FIRST), "an address and two ports each");

    in_boot(&podrun, SECOND, || {
        assert!(links().is_empty(), "this boot has a network of its own");
        // Whoever looks first starts the supervisors, which find that all is gone.
        podrun.wait_for("ends", "{.status.phase}", "Failed");
        podrun.wait_until("returns", "{.status.containerStatuses[0].state.running.startedAt}", |at| {
            !at.is_empty()
        });
        podrun.wait_for("returns", "{.status.phase}", "Running");
        // A Pod's own of the boot before, which it has no use for: it lives, and yet this is nobody's.
        let stray = podrun.state().join("run/network/leases/10.88.9.9");
        symlink(format!("{returns}@{FIRST}"), &stray).expect("nobody has that address");
        podrun.podrun(&["gc"]).ok();
        assert_eq!(holders(&podrun), expected(&[&returns], SECOND), "nothing of the boot before is left");
        let node =
            fs::read_to_string(podrun.state().join("run/network/node.json")).expect("there is a bridge");
        assert!(node.contains(SECOND) && !node.contains(FIRST), "{node}");
        podrun.podrun(&["net", "verify"]).ok();

        // What the one that ended had can be had again.
        let takes = podrun.start(&publishing("takes", "Never", 20_003));
        podrun.wait_running("takes", "c");
        assert_eq!(holders(&podrun), expected(&[&takes, &returns], SECOND));
        podrun.podrun(&["net", "verify"]).ok();
        podrun.podrun(&["delete", "--all", "--force", "--grace-period=0"]).ok();
        processes::wait_for("the network to go", || {
            (links().is_empty() && holders(&podrun).is_empty()).then_some(())
        });
    });
    fs::remove_file(podrun.dir().join("boot_id")).expect("it was made");
    podrun.finish();
}
