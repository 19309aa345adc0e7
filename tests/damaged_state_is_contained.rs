//! Files of state that cannot be read concern one Pod, and a reboot concerns none for long.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use common::{Podrun, WAIT_FOR_TERM, cgroup, pod, processes, sh, state, status, with_spec};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use podrun_testkit::require;
use serde_json::{Value, json};

fn file(podrun: &Podrun, uid: &str, name: &str) -> PathBuf {
    podrun.state().join("data/pods").join(uid).join(name)
}

/// Starts a Pod, waits until it runs, and kills its supervisor.
fn start_and_orphan(podrun: &Podrun, name: &str) -> String {
    let uid = podrun.start(&pod(name, &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running(name, "c");
    orphan(podrun, &uid);
    uid
}

fn orphan(podrun: &Podrun, uid: &str) {
    processes::kill(&processes::supervisor(podrun, uid).expect("it lives"));
}

const DAMAGE: [&str; 4] = ["", "{", "garbage\u{0}", "{\"version\":1}"];

#[test]
fn an_unreadable_record_hides_no_other_pod_and_can_be_deleted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("whole", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("whole", "c");
    for damage in DAMAGE {
        let uid = start_and_orphan(&podrun, "broken");
        let path = file(&podrun, &uid, "record.json");
        fs::write(&path, damage).expect("it is there");

        let list = podrun.podrun(&["get", "pods", "-o", "name"]);
        assert_eq!((list.code, list.stdout.as_str()), (0, "pod/whole\n"), "{}", list.stderr);
        assert!(list.stderr.contains(&path.display().to_string()), "{}", list.stderr);
        assert!(list.stderr.contains("podrun delete pod broken -n default --force"), "{}", list.stderr);
        let one = podrun.podrun(&["get", "pod", "broken"]).fails(125);
        assert!(one.contains(&path.display().to_string()), "{one}");
        podrun.podrun(&["delete", "pod", "broken"]).fails(125);
        // Its name is not free yet.
        let again = podrun.write(&pod("broken", &[sh("c", "true")]));
        podrun.podrun(&["run", "-d", &again]).fails(5);

        podrun.podrun(&["delete", "pod", "broken", "--force"]).ok();
        assert_eq!(cgroup::of_pod(&uid), None);
        podrun.podrun(&["get", "pod", "broken"]).fails(4);
        assert_eq!(podrun.get("whole", "{.status.phase}"), "Running");
    }
    podrun.finish();
}

#[test]
fn an_unreadable_record_does_not_keep_a_living_supervisor_from_ending_its_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = podrun.start(&pod("alive", &[sh("c", WAIT_FOR_TERM)]));
    podrun.wait_running("alive", "c");
    fs::write(file(&podrun, &uid, "record.json"), "?").expect("it is there");
    podrun.podrun(&["delete", "pod", "alive", "--force"]).ok();
    assert_eq!(cgroup::of_pod(&uid), None);
    podrun.finish();
}

#[test]
fn a_pod_without_record_and_name_goes_by_its_uid() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let uid = start_and_orphan(&podrun, "nameless");
    fs::write(file(&podrun, &uid, "record.json"), "").expect("it is there");
    fs::remove_file(podrun.state().join("data/names/default_nameless")).expect("it is there");
    let list = podrun.podrun(&["get", "pods"]);
    assert!(list.stderr.contains(&format!("podrun delete pod {uid} --force")), "{}", list.stderr);
    podrun.podrun(&["delete", "pod", &uid, "--force"]).ok();
    assert_eq!(cgroup::of_pod(&uid), None);
    podrun.finish();
}

#[test]
fn an_unreadable_status_is_written_again() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for damage in DAMAGE {
        let uid = start_and_orphan(&podrun, "status");
        let path = file(&podrun, &uid, "status.json");
        fs::write(&path, damage).expect("it is there");
        let list = podrun.podrun(&["get", "pods", "-o", "name"]);
        assert_eq!((list.code, list.stdout.as_str()), (0, "pod/status\n"), "{}", list.stderr);
        podrun.wait_ready("status");
        let facts = format!("{{.status.phase}} {}", status("c", "restartCount"));
        assert_eq!(podrun.get("status", &facts), "Running 0");
        podrun.delete("status");
    }
    // Also that of a Pod which has ended.
    let uid = podrun.start(&pod("ended", &[sh("c", "exit 3")]));
    podrun.wait_for("ended", "{.status.phase}", "Failed");
    processes::wait_for("the supervisor ends", || {
        processes::supervisor(&podrun, &uid).is_none().then_some(())
    });
    fs::write(file(&podrun, &uid, "status.json"), "{").expect("it is there");
    podrun.podrun(&["get", "pods"]).ok();
    podrun.wait_for("ended", &state("c", "terminated.exitCode"), "3");
    podrun.finish();
}

#[test]
fn an_unreadable_state_is_told_and_its_pod_can_be_deleted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&pod("whole", &[sh("c", WAIT_FOR_TERM)]));
    let other = start_and_orphan(&podrun, "zzz");
    for damage in DAMAGE {
        let uid = start_and_orphan(&podrun, "broken");
        let path = file(&podrun, &uid, "state.json");
        fs::write(&path, damage).expect("it is there");
        let list = podrun.podrun(&["get", "pods", "--no-headers"]);
        assert_eq!((list.code, list.stdout.lines().count()), (0, 3), "{}{}", list.stdout, list.stderr);
        assert!(list.stdout.contains("Unknown"), "{}", list.stdout);
        assert!(list.stderr.contains(&path.display().to_string()), "{}", list.stderr);
        assert_eq!(podrun.get("zzz", "{.status.phase}"), "Running", "one behind it got a supervisor");
        podrun.podrun(&["delete", "pod", "broken"]).fails(125);
        podrun.podrun(&["delete", "pod", "broken", "--force"]).ok();
        assert_eq!(cgroup::of_pod(&uid), None);
        orphan(&podrun, &other);
    }
    podrun.finish();
}

/// Changes the state as a reboot would: another boot, and a clock that had gone much further.
fn as_of_an_earlier_boot(podrun: &Podrun, uid: &str) {
    let path = file(podrun, uid, "state.json");
    let text = fs::read_to_string(&path).expect("it is there");
    let mut saved: Value = serde_json::from_str(&text).expect("JSON");
    saved["boot_id"] = json!("6e2f2f2e-0000-4000-8000-000000000000");
    let clock = &mut saved["state"]["clock"]["secs"];
    *clock = json!(clock.as_u64().expect("seconds") + 1_000_000);
    fs::write(&path, saved.to_string()).expect("it is there");
}

#[test]
fn after_a_reboot_the_restart_policy_decides() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for (policy, phase, restarts) in
        [("Always", "Running", "1"), ("OnFailure", "Running", "1"), ("Never", "Failed", "0")]
    {
        let script = format!("echo up; {WAIT_FOR_TERM}");
        let uid = podrun.start(&with_spec(pod("p", &[sh("c", &script)]), json!({ "restartPolicy": policy })));
        podrun.wait_log("p", "c", "up");
        orphan(&podrun, &uid);
        // What a reboot ends as well.
        processes::kill(&processes::init(&uid).expect("it lives"));
        as_of_an_earlier_boot(&podrun, &uid);
        podrun.wait_until("p", &format!("{{.status.phase}} {}", status("c", "restartCount")), |text| {
            text == format!("{phase} {restarts}")
        });
        if policy == "Always" {
            // Times are still kept: two seconds of grace are two seconds, and no more.
            podrun.wait_ready("p");
            orphan(&podrun, &uid);
            podrun.wait_ready("p");
        }
        podrun.podrun(&["delete", "pod", "p", "--timeout=30s"]).ok();
        assert_eq!(cgroup::of_pod(&uid), None);
    }
    podrun.finish();
}

#[test]
fn grace_periods_are_kept_after_a_reboot() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let deaf = "trap 'echo term' TERM; echo up; while :; do sleep 1; done";
    let uid = podrun.start(&with_spec(pod("deaf", &[sh("c", deaf)]), json!({ "restartPolicy": "Always" })));
    podrun.wait_log("deaf", "c", "up");
    orphan(&podrun, &uid);
    processes::kill(&processes::init(&uid).expect("it lives"));
    as_of_an_earlier_boot(&podrun, &uid);
    podrun.wait_for("deaf", &status("c", "restartCount"), "1");
    podrun.wait_ready("deaf");
    podrun.podrun(&["delete", "pod", "deaf", "--timeout=30s"]).ok();
    podrun.finish();
}

/// A mount over a volume, on the host.
struct Obstacle(PathBuf);

impl Obstacle {
    fn put(path: PathBuf) -> Self {
        mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mounted");
        Self(path)
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("unmounted");
    }
}

#[test]
fn what_cannot_be_removed_is_not_forgotten() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let manifest = with_spec(
        pod("stuck", &[sh("c", WAIT_FOR_TERM)]),
        json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }),
    );
    let uid = podrun.start(&manifest);
    podrun.wait_running("stuck", "c");
    let volumes = podrun.state().join("data/pods").join(&uid).join("volumes");
    let obstacle = Obstacle::put(volumes);
    podrun.podrun(&["delete", "pod", "stuck", "--timeout=1s"]).fails(124);
    let told = processes::wait_for("the trouble is told", || {
        let told = podrun.podrun(&["describe", "pod", "stuck"]).ok();
        told.contains("FailedCleanUp").then_some(told)
    });
    assert!(told.contains("volumes"), "{told}");
    // The next supervisor goes on with it.
    orphan(&podrun, &uid);
    let waiting = podrun.spawn(&["delete", "pod", "stuck"]);
    drop(obstacle);
    waiting.finish().ok();
    podrun.finish();
}

#[test]
fn a_full_disk_and_a_read_only_one_are_told_and_leave_nothing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // This thread's own mounts, and of what it starts.
    unshare(CloneFlags::CLONE_NEWNS).expect("root may have its own mounts");
    let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, all, None::<&str>).expect("nothing leads out");
    let data = podrun.state().join("data/names");
    fs::create_dir_all(&data).expect("a writable directory");
    mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("a tmpfs");
    let path = podrun.write(&pod("web", &[sh("app", "exit 0")]));
    let fill = data.join("fill");
    // Full is what takes no byte any more.
    let mut file = fs::File::create(&fill).expect("room for a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let errors = podrun.podrun(&["run", &path]).fails(125);
    assert!(errors.contains("No space left on device"), "{errors}");
    fs::remove_file(&fill).expect("our own");
    assert_eq!(fs::read_dir(&data).expect("readable").count(), 0, "what was written in part");
    podrun.podrun(&["run", "--rm", &path]).ok();
    umount2(&data, MntFlags::MNT_DETACH).expect("our own");

    let data = podrun.state().join("data");
    let finds = |words: &str| {
        let findings = podrun.podrun(&["doctor"]);
        let line =
            findings.stdout.lines().find(|line| line.contains(" state ")).expect("a finding").to_owned();
        assert!(line.contains(words), "{line}");
    };
    finds("ok ");
    mount(Some("tmpfs"), &data, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("a tmpfs");
    let mut file = fs::File::create(data.join("fill")).expect("room for a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    finds("No space left on device");
    mount(None::<&str>, &data, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
        .expect("a remount");
    finds("Read-only file system");
    umount2(&data, MntFlags::MNT_DETACH).expect("our own");
    podrun.finish();
}
