//! Exit codes, reasons and restarts are what really happened.

mod common;

use common::{Podrun, container, pod, sh, state, status, with, with_spec};
use podrun_testkit::require;
use serde_json::{Value, json};

/// Returns the exit code, the reason and the number of restarts of each container.
fn ends(pod: &Value) -> Vec<(String, i64, String, i64)> {
    let statuses = pod["status"]["containerStatuses"].as_array().expect("a list");
    let ends = statuses.iter().map(|status| {
        let ended = &status["state"]["terminated"];
        (
            status["name"].as_str().expect("text").to_owned(),
            ended["exitCode"].as_i64().unwrap_or_else(|| panic!("it has ended: {status:#}")),
            ended["reason"].as_str().expect("text").to_owned(),
            status["restartCount"].as_i64().expect("a number"),
        )
    });
    ends.collect()
}

#[test]
fn each_container_has_its_own_code() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    // Process 1 of a namespace is spared the signals that it sends itself, so they share the Pod's.
    let containers = [
        sh("code-0", "exit 0"),
        sh("code-1", "exit 1"),
        sh("code-255", "exit 255"),
        sh("code-42", "exit 42"),
        sh("kill", "kill -KILL $$$$"),
        sh("real-time", "kill -40 $$$$"),
        sh("segv", "kill -SEGV $$$$"),
        sh("term", "kill -TERM $$$$"),
    ];
    podrun.run(&with_spec(pod("codes", &containers), json!({ "shareProcessNamespace": true })));
    let pod = podrun.json("codes");
    assert_eq!(pod["status"]["phase"], "Failed");
    let expected = [
        ("code-0", 0, "Completed"),
        ("code-1", 1, "Error"),
        ("code-255", 255, "Error"),
        ("code-42", 42, "Error"),
        ("kill", 137, "Error"),
        ("real-time", 168, "Error"),
        ("segv", 139, "Error"),
        ("term", 143, "Error"),
    ];
    let expected: Vec<_> =
        expected.map(|(name, code, reason)| (name.to_owned(), code, reason.to_owned(), 0)).into();
    assert_eq!(ends(&pod), expected);
    podrun.finish();
}

#[test]
fn run_ends_with_the_code_of_the_container_that_failed_first() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    for code in [0, 1, 42] {
        let name = format!("code-{code}");
        assert_eq!(podrun.run(&pod(&name, &[sh("c", &format!("exit {code}"))])).code, code);
    }
    let volume = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let late = with(sh("a", "until [ -e /v/now ]; do :; done; sleep 1.1; exit 3"), volume.clone());
    let early = with(sh("b", "touch /v/now; exit 4"), volume);
    let both =
        with_spec(pod("both", &[late, early]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
    assert_eq!(podrun.run(&both).code, 4);
    podrun.finish();
}

#[test]
fn a_program_that_cannot_be_executed_is_a_start_error() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let table = [
        ("absent", container("c", &["/no/such/program"]), "no such file or directory"),
        ("forbidden", container("c", &["/etc/passwd"]), "permission denied"),
        ("not-in-path", container("c", &["no-such-program"]), "not found"),
        ("directory", with(sh("c", "pwd"), json!({ "workingDir": "/etc/passwd/x" })), "not a directory"),
    ];
    for (name, container, text) in table {
        let run = podrun.run(&pod(name, &[container]));
        assert_eq!(run.code, 128, "{name}: {}", run.stderr);
        let pod = podrun.json(name);
        assert_eq!(ends(&pod), [("c".to_owned(), 128, "StartError".to_owned(), 0)]);
        assert_eq!(pod["status"]["phase"], "Failed");
        let message = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"].to_string();
        assert!(message.to_lowercase().contains(text), "{name}: {message}");
        assert!(run.stderr.contains("Failed"), "{}", run.stderr);
    }
    podrun.finish();
}

#[test]
fn a_failed_init_container_fails_the_pod() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let init = json!({ "initContainers": [sh("one", "exit 0"), sh("two", "exit 9"), sh("three", "exit 0")] });
    assert_eq!(podrun.run(&with_spec(pod("init", &[sh("c", "echo never")]), init)).code, 9);
    let pod = podrun.json("init");
    assert_eq!(pod["status"]["phase"], "Failed");
    let inits = pod["status"]["initContainerStatuses"].as_array().expect("a list");
    assert_eq!(inits[0]["state"]["terminated"]["exitCode"], 0);
    assert_eq!(inits[1]["state"]["terminated"]["exitCode"], 9);
    for status in [&inits[2], &pod["status"]["containerStatuses"][0]] {
        assert_eq!(status["state"]["waiting"]["reason"], "PodInitializing", "{status:#}");
    }
    let row = podrun.podrun(&["get", "pods", "--no-headers"]).ok();
    assert_eq!(row.split_whitespace().nth(2), Some("Init:Error"));
    podrun.finish();
}

#[test]
fn on_failure_restarts_until_it_succeeds() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let containers = [
        with(sh("flaky", "echo try; [ -e /v/once ] || { touch /v/once; exit 5; }"), mount),
        sh("fine", "true"),
    ];
    let spec = json!({ "restartPolicy": "OnFailure", "volumes": [{ "name": "v", "emptyDir": {} }] });
    podrun.run(&with_spec(pod("flaky", &containers), spec)).ok();
    let pod = podrun.json("flaky");
    assert_eq!(pod["status"]["phase"], "Succeeded");
    let expected = [("fine", 0), ("flaky", 1)];
    let expected: Vec<_> =
        expected.map(|(name, count)| (name.to_owned(), 0, "Completed".to_owned(), count)).into();
    assert_eq!(ends(&pod), expected);
    let last = &pod["status"]["containerStatuses"][1]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(5), &json!("Error")));
    podrun.finish();
}

#[test]
fn a_crash_loop_backs_off() {
    require!(root, cgroup2, overlay, program("busybox"));
    let podrun = Podrun::new();
    let spec = json!({ "restartPolicy": "Always" });
    podrun.start(&with_spec(pod("loop", &[sh("c", "echo again; exit 6")]), spec));
    // The first restart comes at once, the second after ten seconds.
    podrun.wait_for("loop", &state("c", "waiting.reason"), "CrashLoopBackOff");
    let pod = podrun.json("loop");
    let container = &pod["status"]["containerStatuses"][0];
    assert_eq!(
        (&container["restartCount"], &pod["status"]["phase"]),
        (&json!(1), &json!("Running")),
        "{pod:#}"
    );
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 6, "{container:#}");
    let message = container["state"]["waiting"]["message"].as_str().expect("text");
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=loop_default("), "{message}");
    let finished = podrun.get("loop", &status("c", "lastState.terminated.finishedAt"));
    let row = podrun.podrun(&["get", "pods", "--no-headers"]).ok();
    assert!(row.contains("CrashLoopBackOff"), "{row}");
    assert!(
        podrun.podrun(&["describe", "pod", "loop"]).ok().contains("Back-off restarting failed container")
    );

    podrun.wait_for("loop", &status("c", "restartCount"), "2");
    podrun.wait_for("loop", &state("c", "waiting.reason"), "CrashLoopBackOff");
    let again = podrun.json("loop");
    let container = &again["status"]["containerStatuses"][0];
    assert!(container["state"]["waiting"]["message"].to_string().contains("back-off 20s"), "{container:#}");
    let second =
        |text: &str| text.trim_end_matches('Z').rsplit(':').next().and_then(|s| s.parse::<i32>().ok());
    let started =
        container["lastState"]["terminated"]["startedAt"].as_str().and_then(second).expect("a time");
    let waited = (started - second(&finished).expect("a time")).rem_euclid(60);
    assert!((9..=20).contains(&waited), "it waited {waited} seconds");
    podrun.finish();
}
