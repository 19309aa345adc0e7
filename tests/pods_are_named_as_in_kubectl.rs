//! Which Pods a command line means is what it means to kubectl: kinds, names, selectors, namespaces, files, directories.

mod common;

use std::fs;

use common::{Podrun, container, pod, with};
use podrun_testkit::require;
use serde_json::{Value, json};

/// Returns a Pod with a label that waits.
fn labelled(name: &str, app: &str) -> Value {
    let mut pod = pod(name, &[container("app", &["sleep", "1000"])]);
    pod["metadata"] = with(pod["metadata"].take(), json!({ "labels": { "app": app } }));
    pod
}

/// Returns the Pods that there are: `NAMESPACE/NAME`.
fn all(podrun: &Podrun) -> Vec<String> {
    let template = r#"jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;
    podrun.podrun(&["get", "pods", "-A", "-o", template]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_deployment_is_not_the_pod_of_that_name() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&labelled("web", "web"));
    for words in [["delete", "deploy", "web"].as_slice(), &["delete", "svc/web"], &["get", "pods,svc"]] {
        let errors = podrun.podrun(words).fails(2);
        assert!(errors.contains("podrun knows Pods only"), "{errors}");
    }
    assert!(podrun.podrun(&["get", "deployments"]).fails(4).contains("hint: podrun knows Pods only"));
    assert_eq!(all(&podrun), ["default/web"]);
    podrun.finish();
}

#[test]
fn all_pods_and_those_with_a_label_are_meant() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for (name, app) in [("a", "web"), ("b", "web"), ("c", "db")] {
        podrun.start(&labelled(name, app));
    }
    let condition = "--for=condition=Ready";
    podrun.podrun(&["wait", "pods", "--all", condition]).ok();
    assert_eq!(podrun.podrun(&["wait", "pod", "-l", "app=db", condition]).ok(), "pod/c condition met\n");
    podrun.podrun(&["wait", "-l", "app=none", condition]).fails(4);
    assert_eq!(podrun.podrun(&["describe", "pods", "-l", "app=web"]).ok().matches("Namespace:").count(), 2);
    podrun.podrun(&["delete", "pod", "a", "-l", "app=web"]).fails(2);
    podrun.podrun(&["delete", "pod", "a", "--all"]).fails(2);
    podrun.podrun(&["delete", "pods", "-l", "app=web", "--now"]).ok();
    assert_eq!(all(&podrun), ["default/c"]);
    podrun.podrun(&["delete", "pods", "--all", "--now"]).ok();
    assert_eq!(
        podrun.podrun(&["delete", "pods", "--all"]).stderr,
        "No resources found in default namespace.\n"
    );
    podrun.finish();
}

#[test]
fn what_is_there_is_shown_beside_what_is_missing() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&labelled("web", "web"));
    for verb in ["get", "describe"] {
        let output = podrun.podrun(&[verb, "pod", "none", "web", "gone"]);
        assert_eq!(output.code, 4, "{verb}");
        assert!(output.stdout.contains("web"), "{verb}: {}", output.stdout);
        for name in ["none", "gone"] {
            assert!(
                output.stderr.contains(&format!("pod \"default/{name}\" not found")),
                "{}",
                output.stderr
            );
        }
    }
    podrun.finish();
}

#[test]
fn a_manifest_goes_to_the_namespace_that_is_asked_for() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mut placed = labelled("placed", "web");
    placed["metadata"]["namespace"] = json!("shop");
    let (free, placed) = (podrun.write(&labelled("free", "web")), podrun.write(&placed));
    podrun.podrun(&["run", "-d", "-n", "shop", &free, &placed]).ok();
    assert_eq!(all(&podrun), ["shop/free", "shop/placed"]);
    let errors = podrun.podrun(&["run", "-d", "-n", "test", &placed]).fails(3);
    assert!(errors.contains("\"shop\" does not match the namespace \"test\""), "{errors}");
    let errors = podrun.podrun(&["run", "-d", &placed]).fails(5);
    assert!(errors.contains("hint: podrun delete pod placed -n shop removes it"), "{errors}");
    for words in [["get", "pod", "free"].as_slice(), &["logs", "free"], &["delete", "-f", &free]] {
        let errors = podrun.podrun(words).fails(4);
        assert_eq!(errors, "error: pod \"default/free\" not found\n  hint: there is one with -n shop\n");
    }
    podrun.podrun(&["delete", "--now", "-n", "shop", "-f", &free, "-f", &placed]).ok();
    assert!(all(&podrun).is_empty());
    podrun.finish();
}

#[test]
fn a_directory_is_all_manifests_in_it() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let dir = podrun.dir().join("manifests");
    fs::create_dir_all(dir.join("deeper")).expect("a writable directory");
    for (file, name) in
        [("b.yml", "b"), ("a.yaml", "a"), ("c.json", "c"), ("d.yaml-bak", "d"), ("deeper/e.yaml", "e")]
    {
        fs::write(dir.join(file), labelled(name, "web").to_string()).expect("a writable directory");
    }
    let path = dir.display().to_string();
    assert_eq!(
        podrun.podrun(&["run", "-d", "-f", &path]).ok(),
        "pod/a created\npod/b created\npod/c created\n"
    );
    podrun.podrun(&["delete", "--now", "-f", &path]).ok();
    assert!(all(&podrun).is_empty());
    let errors =
        podrun.podrun(&["run", "-d", &dir.join("deeper/..").join("x").display().to_string()]).fails(4);
    assert!(errors.contains("No such file"), "{errors}");
    podrun.finish();
}

#[test]
fn lists_are_filtered_and_sorted_and_have_columns() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    podrun.start(&labelled("late", "web"));
    podrun.wait_ready("late");
    let mut done = pod("done", &[container("app", &["true"])]);
    done["metadata"]["labels"] = json!({ "example.com/tier": "front" });
    podrun.start(&done);
    podrun.wait_for("done", "{.status.phase}", "Succeeded");
    let get = |options: &[&str]| podrun.podrun(&[&["get", "pods"], options].concat()).ok();
    assert_eq!(get(&["--field-selector=status.phase=Running", "-o", "name"]), "pod/late\n");
    assert_eq!(get(&["--field-selector=status.phase!=Running", "-o", "name"]), "pod/done\n");
    assert_eq!(get(&["--sort-by=.status.phase", "-o", "name"]), "pod/late\npod/done\n");
    let columns = "custom-columns=POD:.metadata.name,IMAGE:.spec.containers[*].image,X:.spec.x";
    let image = podrun_testkit::BUSYBOX_REFERENCE;
    let line = format!("{:<7}{image}   <none>\n", "done");
    assert_eq!(get(&["-o", columns]).lines().count(), 3);
    assert!(get(&["-o", columns, "--no-headers"]).starts_with(&line));
    let listed = get(&["--show-labels", "-L", "example.com/tier", "--no-headers"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][5..], ["front", "example.com/tier=front"]);
    assert_eq!(lines[1][5..], ["app=web"]);
    podrun.podrun(&["delete", "pods", "--field-selector=status.phase=Succeeded"]).ok();
    assert_eq!(all(&podrun), ["default/late"]);
    podrun.finish();
}

#[test]
fn a_watch_of_all_shows_new_pods_and_lines_up() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mut watch = podrun.spawn(&["get", "pods", "-w", "-l", "app=web"]);
    podrun.start(&labelled("other", "db"));
    podrun.start(&labelled("web", "web"));
    assert!(watch.line().expect("a header").starts_with("NAME "));
    let running = watch.wait_line(|line| line.contains("Running"));
    assert!(running.starts_with("web "), "{running}");
    podrun.podrun(&["delete", "pod", "web", "--now"]).ok();
    let last = watch.wait_line(|line| line.contains("Terminating"));
    // Longer words widen a column, and it never gets narrower.
    assert!(last.find(" 0 ") >= running.find(" 0 "), "{running}\n{last}");
    podrun.start(&labelled("web", "web"));
    watch.wait_line(|line| line.contains("Running"));
    watch.kill();
    podrun.finish();
}
