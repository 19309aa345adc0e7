//! What is wrong with a manifest is told in one line with its place, and nothing is made.

mod common;

use std::fs;

use common::{Podrun, Running, pod, sh, with};
use podrun_testkit::{Requirement, require};
use serde_json::{Value, json};

/// A manifest, where its fault is, and what is said about it.
const BROKEN: [(&str, &str, &[&str]); 12] = [
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: c\n      image: x:1\n      imagePullPolcy: Never\n",
        "9:7",
        &["spec.containers[0].imagePullPolcy", "imagePullPolicy"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  restartpolicy: Never\n  containers:\n    - name: c\n      image: x:1\n",
        "6:3",
        &["spec.restartpolicy", "restartPolicy"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers: []\n",
        "6:3",
        &["spec.containers", "Required"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: Bad_Name\nspec:\n  containers:\n    - name: c\n      image: x:1\n",
        "4:3",
        &["metadata.name", "Bad_Name"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: c\n      image: x:1\n    - name: c\n      image: y:1\n",
        "9:7",
        &["spec.containers[1].name", "Duplicate"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: c\n      image: x:1\n      resources:\n        limits:\n          memory: 64mb\n",
        "11:11",
        &["spec.containers[0].resources.limits", "64mb"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: c\n      image: x:1\n      volumeMounts:\n        - name: nowhere\n          mountPath: /v\n",
        "10:11",
        &["spec.containers[0].volumeMounts[0].name", "nowhere"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: c\n      image: x:1\n      env:\n        - name: A\n          value: 1\n",
        "11:11",
        &["spec.containers[0].env[0].value", "string"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  restartPolicy: Sometimes\n  containers:\n    - name: c\n      image: x:1\n",
        "6:3",
        &["spec.restartPolicy", "Sometimes"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n    - name: c\n      image: x:1\n      tty: true\n",
        "9:7",
        &["spec.containers[0].tty"],
    ),
    ("apiVersion: v1\nkind: Deployment\nmetadata:\n  name: a\n", "2:1", &["Deployment"]),
    ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n spec: {}\n", "5:", &[]),
];

#[test]
fn each_fault_is_one_line_with_its_place() {
    require!(root);
    let podrun = Podrun::empty();
    for (manifest, place, words) in BROKEN {
        let path = podrun.write_text(manifest);
        for arguments in [&["run", &path][..], &["run", "-d", &path], &["plan", &path]] {
            let error = podrun.podrun(arguments).fails(3);
            let mut lines = error.lines();
            let line = lines.next().unwrap_or_default();
            assert!(line.starts_with(&format!("error: {path}:{place}")), "{place}: {error}");
            assert!(lines.all(|line| line.starts_with("  hint: ")), "one error: {error}");
            for word in words {
                assert!(error.contains(word), "{word} is missing in {error}");
            }
        }
    }
    assert!(!podrun.state().exists(), "nothing was made");
    podrun.finish();
}

#[test]
fn all_faults_are_told_at_once() {
    require!(root);
    let podrun = Podrun::empty();
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: A\nspec:\n  restartPolicy: Nope\n  containers:\n    - name: C\n";
    let path = podrun.write_text(manifest);
    let error = podrun.podrun(&["run", &path]).fails(3);
    let places: Vec<&str> =
        error.lines().filter_map(|line| line.strip_prefix("error: ")?.strip_prefix(path.as_str())).collect();
    for place in [":4:3: metadata.name", ":6:3: spec.restartPolicy", ":8:7: spec.containers[0].name"] {
        assert!(places.iter().any(|found| found.starts_with(place)), "{place} is missing in {error}");
    }

    let mut command = podrun.command(&["--error-format=json", "run", &path]);
    command.env("NO_COLOR", "1");
    let json: Value = serde_json::from_str(&Running::start(command).finish().fails(3)).expect("JSON");
    assert_eq!(json["error"]["exitCode"], 3);
    let faults = json["error"]["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), places.len());
    assert_eq!((&faults[0]["line"], &faults[0]["column"]), (&json!(4), &json!(3)), "{json:#}");
    podrun.finish();
}

#[test]
fn one_bad_pod_keeps_the_good_one_from_running() {
    require!(root);
    let podrun = Podrun::empty();
    let path = podrun.write_text(&format!(
        "{}\n---\n{}",
        pod("good", &[sh("c", "true")]),
        pod("Bad", &[sh("c", "true")])
    ));
    podrun.podrun(&["run", &path]).fails(3);
    assert!(!podrun.state().exists(), "nothing was made");
    podrun.podrun(&["run", "/no/such/file.yaml"]).fails(4);
    podrun.finish();
}

#[test]
fn a_limit_that_cannot_be_enforced_is_refused_with_the_way_out() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let limits = json!({ "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } } });
    let path = podrun.write(&pod("limited", &[with(sh("c", "echo ran"), limits)]));
    let run = podrun.podrun(&["run", &path]);
    if Requirement::controller("memory").check().is_ok() && Requirement::controller("cpu").check().is_ok() {
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (0, "[c] ran\n"),
            "this host enforces it: {}",
            run.stderr
        );
        podrun.finish();
        return;
    }
    let error = run.fails(3);
    assert!(error.contains("--unenforced-limits=warn"), "{error}");
    assert!(error.contains("memory.max = 67108864 (container \"c\")"), "{error}");
    assert!(fs::read_dir(podrun.state().join("data/pods")).is_err(), "nothing was made");

    let run = podrun.podrun(&["run", "--unenforced-limits=warn", &path]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "[c] ran\n"), "{}", run.stderr);
    assert!(run.stderr.contains("memory.max"), "it is said: {}", run.stderr);
    podrun.finish();
}

#[test]
fn the_longest_names_are_served_and_longer_ones_refused() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // What a kubelet could not keep logs of either.
    let long = "a".repeat(253);
    let path = podrun.write(&pod(&long, &[sh("app", "true")]));
    for verb in ["run", "plan"] {
        let errors = podrun.podrun(&[verb, &path]).fails(3);
        assert!(errors.contains("namespace and name have 260 characters together"), "{errors}");
        assert!(errors.contains("has room for 217"), "{errors}");
    }
    for name in [long.as_str(), "../../x"] {
        podrun.podrun(&["get", "pod", name]).fails(4);
        podrun.podrun(&["delete", "pod", name, "--force"]).fails(4);
    }
    let longest = "a".repeat(210);
    podrun.start(&pod(&longest, &[sh("app", "echo hello from $(hostname)")]));
    // A host name has room for less.
    podrun.wait_log(&longest, "app", &format!("hello from {}", "a".repeat(63)));
    podrun.delete(&longest);
    podrun.finish();
}
