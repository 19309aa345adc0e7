//! Semantics 7: postStart and preStop.

use crate::story::{find, shown, story};

const HOOKED: &str = "containers: [{name: a, image: i, lifecycle: {postStart: {exec: {command: [x]}},
                      preStop: {exec: {command: [z]}}}}, {name: b, image: i}], terminationGracePeriodSeconds: 5";

#[test]
fn a_start_is_not_finished_until_the_hook_has_returned() {
    let life = story(HOOKED, "0s:hook:a/postStart=3s");
    assert_eq!(life.starts(), ["0 a#0", "3 b#0"]);
    assert_eq!(life.states("a"), ["0 Waiting ContainerCreating", "3 Running started ready"]);
    assert_eq!(life.phases(), ["0 Pending", "3 Running"]);
    assert_eq!(life.events(&["Started"]), ["0 Started: Container started", "3 Started: Container started"]);
}

#[test]
fn a_failed_hook_kills_and_the_restart_policy_decides() {
    for (policy, code, states, starts) in [
        ("Always", 0, "Waiting PostStartHookError", 2),
        ("OnFailure", 1, "Waiting PostStartHookError", 2),
        // A stop that is obeyed with 0 is no failure, and so nothing to restart.
        ("OnFailure", 0, "Completed(0)", 1),
        ("Never", 1, "Error(1)", 1),
    ] {
        let spec = format!("restartPolicy: {policy}, {HOOKED}");
        let life = story(&spec, &format!("0s:term:a={code} 0s:hook:a/postStart=fail 1s:hook:a/postStart=ok"));
        assert_eq!(life.states("a")[1], format!("0 {states}"), "{policy} {code}\n{}", life.text());
        let starts_of_a: Vec<_> = life.starts().into_iter().filter(|s| s.contains("a#")).collect();
        assert!(starts_of_a.len() >= starts.min(2), "{policy} {code}: {starts_of_a:?}");
        assert_eq!(life.stops()[..2], ["0 hook a", "0 term a"]);
        assert_eq!(
            life.events(&["FailedPostStartHook", "Killing"])[..2],
            ["0 FailedPostStartHook: PostStartHook failed", "0 Killing: FailedPostStartHook"]
        );
    }
}

#[test]
fn the_next_container_waits_for_the_end_of_one_whose_hook_failed() {
    let life = story(HOOKED, "0s:ignore-term:a 0s:hook:a/postStart=fail 0s:hook:a/preStop=2s 9s:delete");
    assert_eq!(life.stops()[..3], ["0 hook a", "2 term a", "5 kill a"]);
    assert_eq!(life.starts()[..2], ["0 a#0", "5 b#0"]);
    assert_eq!(shown(find(life.at(4), "a").expect("a")), "Waiting ContainerCreating");
    let a = find(life.at(5), "a").expect("a");
    assert_eq!(a.last_state.as_ref().map(|end| end.exit_code), Some(137));
}

#[test]
fn a_failed_hook_backs_off_like_a_crash() {
    let life = story(HOOKED, "0s:hook:a/postStart=fail 50s:delete");
    let starts: Vec<_> = life.starts().into_iter().filter(|s| s.contains("a#")).collect();
    assert_eq!(starts, ["0 a#0", "0 a#1", "10 a#2", "30 a#3"]);
    assert_eq!(find(life.at(20), "a").map(shown).expect("a"), "Waiting CrashLoopBackOff");
}

#[test]
fn a_container_that_ends_takes_its_hook_with_it() {
    // A command dies with the container and has failed; what the container did by itself is what counts.
    let life = story(HOOKED, "0s:hook:a/postStart=hang 4s:exit:a=3 60s:hook:a/postStart=ok");
    assert_eq!(
        life.states("a")[..2],
        ["0 Waiting ContainerCreating", "4 Waiting PostStartHookError"],
        "{}",
        life.text()
    );
    assert_eq!(find(life.at(4), "a").and_then(|a| a.last_state.as_ref()).map(|end| end.exit_code), Some(3));
    // A sleep says nothing.
    let spec = HOOKED.replace("postStart: {exec: {command: [x]}}", "postStart: {sleep: {seconds: 5}}");
    let life = story(&spec, "0s:hook:a/postStart=5s 3s:exit:a=3 4s:hook:a/postStart=ok");
    assert_eq!(life.events(&["FailedPostStartHook"]), [""; 0]);
    assert_eq!(life.starts()[..2], ["0 a#0", "3 b#0"]);
}

#[test]
fn a_pod_that_is_over_has_told_why_its_hook_failed() {
    let spec = "restartPolicy: Never, containers: [{name: a, image: i, lifecycle: {postStart: {exec: {command: [x]}}}}]";
    let life = story(spec, "0s:hook:a/postStart=hang 4s:exit:a=0");
    assert_eq!(life.events(&["FailedPostStartHook"]), ["4 FailedPostStartHook: PostStartHook failed"]);
    assert_eq!(life.phases(), ["0 Pending", "4 Succeeded"]);
}

#[test]
fn nobody_waits_for_the_hook_of_a_pod_that_ends() {
    let life = story(HOOKED, "0s:hook:a/postStart=60s 4s:delete");
    assert_eq!(life.stops(), ["4 hook a", "4 term a", "4 sandbox"]);
    assert_eq!(
        life.states("a"),
        ["0 Waiting ContainerCreating", "4 Running started ready", "4 Completed(0)"]
    );
    assert_eq!(life.status().phase.as_str(), "Failed", "b never ran");
    let life = story(HOOKED, "0s:hook:a/postStart=60s 4s:sandbox-lost");
    assert_eq!(life.starts()[..2], ["0 a#0", "4 a#1"]);
}

#[test]
fn pre_stop_runs_where_a_running_container_is_killed_and_nowhere_else() {
    let live = HOOKED.replace(
        "name: a, image: i",
        "name: a, image: i, livenessProbe: {tcpSocket: {port: 1}, failureThreshold: 1, periodSeconds: 1}",
    );
    for (script, runs) in [
        ("5s:delete", true),
        ("5s:probe:a/liveness=fail 6s:delete=0", true),
        ("5s:evict=big. ", true),
        ("0s:hook:a/postStart=fail 1s:delete=0", true),
        ("5s:exit:a=1", false),
        ("5s:oom:a", false),
        ("5s:sandbox-lost", false),
        ("5s:delete=0", false),
        ("5s:exit:a=1 5s:exit:a=1 7s:delete", false),
    ] {
        let life = story(&live, script);
        assert_eq!(life.stops().iter().any(|s| s.contains("hook a")), runs, "{script}\n{}", life.text());
    }
}

#[test]
fn a_failed_pre_stop_hook_changes_nothing_but_the_events() {
    let well = story(HOOKED, "5s:delete");
    let badly = story(HOOKED, "5s:delete 0s:hook:a/preStop=fail");
    assert_eq!(well.stops(), badly.stops());
    assert_eq!(well.events(&["FailedPreStopHook"]), [""; 0]);
    assert_eq!(badly.events(&["FailedPreStopHook"]), ["5 FailedPreStopHook: PreStopHook failed"]);
}
