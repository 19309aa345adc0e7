//! A Pod runs its whole life: it is made, followed, looked at and removed.

mod common;

use std::io::Read as _;

use common::{Podrun, Running, WAIT_FOR_TERM, pod, sh, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

fn life() -> Value {
    let mount = json!({ "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }] });
    let containers = [
        with(sh("first", "cat /shared/page; touch /shared/done; echo to stderr >&2"), mount.clone()),
        with(sh("second", "until [ -e /shared/done ]; do :; done; echo saw it"), mount.clone()),
    ];
    with_spec(
        pod("life", &containers),
        json!({
            "volumes": [{ "name": "shared", "emptyDir": {} }],
            "initContainers": [with(sh("setup", "echo a page > /shared/page; echo prepared"), mount)],
        }),
    )
}

#[test]
fn nobody_speaks_before_its_start_is_told() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let path = podrun.write(&life());
    for _ in 0..5 {
        // Both streams go to one place, as on a terminal.
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = podrun.command(&["run", "--rm", &path]);
        command.stderr(writer.try_clone().expect("a pipe")).stdout(writer);
        let mut run = command.spawn().expect("podrun runs");
        drop(command);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        assert_eq!(run.wait().expect("our own child").code(), Some(0), "{text}");
        for name in ["setup", "first", "second"] {
            let place = |wanted: &dyn Fn(&str) -> bool| text.lines().position(wanted).expect("it is told");
            let started = place(&|line| line.contains(&format!("Started      {name} ")));
            let spoke = place(&|line| line.starts_with(&format!("[{name}] ")));
            assert!(started < spoke, "{name}:\n{text}");
        }
    }
    // Nor is anybody kept from it by a hook that takes long.
    let hook = json!({ "postStart": { "exec": { "command": ["sleep", "1000"] } } });
    let hooked = with(sh("app", "echo early; exec sleep 1000"), json!({ "lifecycle": hook }));
    let mut run = podrun.spawn(&["run", "-q", &podrun.write(&pod("hooked", &[hooked]))]);
    assert_eq!(run.line().as_deref(), Some("[app] early"));
    podrun.podrun(&["delete", "pod", "hooked", "--force"]).ok();
    run.finish();
    podrun.finish();
}

#[test]
fn run_follows_a_pod_to_its_end() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();

    let run = podrun.run(&life());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let mut lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[0], "[setup] prepared", "init containers come first");
    lines.sort_unstable();
    assert_eq!(lines, ["[first] a page", "[first] to stderr", "[second] saw it", "[setup] prepared"]);
    for (reason, about) in [
        ("Pulled", "setup"),
        ("Created", "setup"),
        ("Started", "setup"),
        ("Started", "first"),
        ("Started", "second"),
    ] {
        let told = |line: &str| line.contains(reason) && line.split_whitespace().any(|word| word == about);
        assert!(run.stderr.lines().any(told), "{reason} {about} is missing in\n{}", run.stderr);
    }
    let order: Vec<usize> = ["setup", "first", "second"]
        .iter()
        .map(|name| {
            let started = |line: &&str| line.contains("Started") && line.contains(name);
            run.stderr.lines().position(|line| started(&line)).expect("it started")
        })
        .collect();
    assert!(order.is_sorted(), "{}", run.stderr);
    podrun.finish();
}

#[test]
fn an_ended_pod_can_be_looked_at_until_it_is_deleted() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.run(&life()).ok();

    let table = podrun.podrun(&["get", "pods"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(rows[1][..4], ["life", "0/2", "Completed", "0"]);
    assert_eq!(podrun.podrun(&["get", "pod", "life", "-o", "name"]).ok(), "pod/life\n");
    assert_eq!(podrun.get("life", "{.status.phase} {.spec.restartPolicy}"), "Succeeded Never");

    let json = podrun.json("life");
    assert_eq!((&json["apiVersion"], &json["kind"]), (&json!("v1"), &json!("Pod")));
    let setup = &json["status"]["initContainerStatuses"][0];
    assert_eq!(setup["ready"], true, "{setup:#}");
    for status in [setup, &json["status"]["containerStatuses"][0], &json["status"]["containerStatuses"][1]] {
        let ended = &status["state"]["terminated"];
        assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(0), &json!("Completed")), "{status:#}");
        let (started, finished) = (&ended["startedAt"], &ended["finishedAt"]);
        assert!(started.as_str().is_some_and(|s| finished.as_str().is_some_and(|f| s <= f)), "{ended:#}");
        assert_eq!(status["restartCount"], 0);
    }
    let conditions = json["status"]["conditions"].as_array().expect("a list");
    let reason = |kind: &str| {
        let found = conditions.iter().find(|condition| condition["type"] == kind).expect("there");
        (found["status"].as_str().expect("text"), found["reason"].as_str())
    };
    assert_eq!(reason("Initialized"), ("True", Some("PodCompleted")));
    assert_eq!(reason("Ready"), ("False", Some("PodCompleted")));
    assert_eq!(reason("PodScheduled").0, "True");

    let yaml = podrun.podrun(&["get", "pod", "life", "-o", "yaml"]).ok();
    assert!(yaml.contains("\nkind: Pod\n") && yaml.contains("phase: Succeeded"), "{yaml}");
    let strict =
        podrun_spec::decode_strict("get -o yaml", &yaml).unwrap_or_else(|faults| panic!("{faults}\n{yaml}"));
    assert_eq!(strict.to_json(), json, "YAML and JSON say the same, and a strict decoder loses nothing");
    assert!(json["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty()), "{json:#}");
    let description = podrun.podrun(&["describe", "pod", "life"]).ok();
    for text in ["Name:", "Succeeded", "setup", "second", "Exit Code:", "Events:", "Started"] {
        assert!(description.contains(text), "{text} is missing in\n{description}");
    }
    assert_eq!(podrun.logs("life", "setup"), "prepared\n");
    assert_eq!(podrun.logs("life", "second"), "saw it\n");

    assert_eq!(podrun.podrun(&["delete", "pod", "life"]).ok(), "pod \"life\" deleted\n");
    assert!(podrun.podrun(&["get", "pod", "life"]).fails(4).contains("not found"));
    podrun.podrun(&["logs", "life"]).fails(4);
    let none = podrun.podrun(&["get", "pods"]);
    assert_eq!((none.code, none.stderr.as_str()), (0, "No resources found in default namespace.\n"));
    podrun.finish();
}

#[test]
fn a_detached_pod_runs_on_by_itself() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let manifest = pod("quiet", &[sh("c", &format!("echo up; {WAIT_FOR_TERM}"))]);
    let path = podrun.write(&manifest);

    let run = podrun.podrun(&["run", "-d", &path]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "pod/quiet created\n"), "{}", run.stderr);
    podrun.wait_ready("quiet");
    podrun.wait_log("quiet", "c", "up");
    let row = podrun.podrun(&["get", "pods", "--no-headers"]).ok();
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["quiet", "1/1", "Running", "0"]);

    let again = podrun.podrun(&["run", "-d", &path]).fails(5);
    assert!(again.contains("quiet"), "{again}");
    podrun.delete("quiet");
    podrun.podrun(&["run", "-d", &path]).ok();
    podrun.podrun(&["delete", "-f", &path]).ok();
    podrun.finish();
}

#[test]
fn run_reads_standard_input_and_removes_what_it_ran() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let manifest = pod("once", &[sh("c", "echo hello; exit 3")]).to_string();

    let run = Running::start_with_input(podrun.command(&["run", "--rm", "--quiet", "-"]), &manifest).finish();
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (3, "[c] hello\n", ""));
    podrun.podrun(&["get", "pod", "once"]).fails(4);
    podrun.finish();
}

#[test]
fn several_pods_of_one_manifest_run_beside_each_other() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
        pod("one", &[sh("c", "echo 1")]), pod("two", &[sh("c", "echo 2")]),
    ] });

    let run = podrun.run(&list);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let mut lines: Vec<&str> = run.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[one/c] 1", "[two/c] 2"]);
    podrun.finish();
}
