//! Semantics 2.3: the loss of the sandbox, and what is started in the next one.

use crate::story::story;

#[test]
fn init_containers_and_sidecars_run_again_in_a_new_sandbox() {
    let spec = "initContainers: [{name: j, image: i}, {name: s, image: i, restartPolicy: Always}], containers: [{name: c, image: i}]";
    let life = story(spec, "5s:sandbox-lost");
    assert_eq!(life.starts(), ["0 j#0", "1 s#0", "1 c#0", "5 j#1", "6 s#1", "6 c#1"], "{}", life.text());
    assert_eq!(life.events(&["SandboxChanged"]).len(), 1);
    assert_eq!(life.phases(), ["0 Pending", "1 Running", "5 Pending", "6 Running"]);
    // A sidecar that is lost before the containers have begun.
    let life = story(spec, "0s:run:j=9s/0 5s:sandbox-lost");
    assert_eq!(life.starts(), ["0 j#0", "5 j#1", "14 s#0", "14 c#0"]);
}

#[test]
fn whether_there_is_a_new_one_depends_on_what_is_left_to_run() {
    let own = |policy: &str| format!(", restartPolicy: {policy}");
    let sidecar = "initContainers: [{name: s, image: i, restartPolicy: Always}], ";
    for (policy, init, c_policy, script, rebuilt) in [
        ("Always", "", String::new(), "5s:sandbox-lost", true),
        ("OnFailure", "", String::new(), "5s:sandbox-lost", true),
        ("Never", "", String::new(), "5s:sandbox-lost", false),
        // Never: anything that has run counts, sidecars too.
        ("Never", sidecar, String::new(), "0s:pull:c=60s 5s:sandbox-lost", false),
        ("Never", "", String::new(), "0s:pull:c=60s 5s:sandbox-lost", true),
        // OnFailure: what was lost has failed; sidecars are nothing to run for.
        ("OnFailure", sidecar, String::new(), "4s:exit:d=0 5s:sandbox-lost", true),
        // A container's own policy decides about it.
        ("Always", sidecar, own("Never"), "5s:sandbox-lost", true),
        ("OnFailure", sidecar, own("Never"), "4s:exit:d=0 5s:sandbox-lost", false),
        ("OnFailure", sidecar, own("Always"), "4s:exit:d=0 5s:sandbox-lost", true),
    ] {
        let spec = format!(
            "restartPolicy: {policy}, {init}containers: [{{name: c, image: i{c_policy}}}, {{name: d, image: i}}]"
        );
        let life = story(&spec, script);
        assert_eq!(!life.events(&["SandboxChanged"]).is_empty(), rebuilt, "{spec} {script}\n{}", life.text());
        let restarted = life.starts().iter().any(|s| s.ends_with("#1") || s.starts_with("60"));
        assert!(rebuilt || !restarted, "{spec} {script}");
        assert_eq!(life.status().phase.is_terminal(), !rebuilt, "{spec} {script}");
    }
}

#[test]
fn what_is_over_is_not_started_again() {
    let spec = "restartPolicy: OnFailure, containers: [{name: c, image: i}, {name: d, image: i}]";
    let life = story(spec, "4s:exit:c=0 5s:sandbox-lost");
    assert_eq!(life.starts(), ["0 c#0", "0 d#0", "5 d#1"]);
    let own = "containers: [{name: c, image: i, restartPolicy: Never}, {name: d, image: i}]";
    assert_eq!(story(own, "5s:sandbox-lost").starts(), ["0 c#0", "0 d#0", "5 d#1"]);
}
