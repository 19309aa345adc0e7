//! Semantics 5: who is started again, and after which wait.

use crate::story::{find, shown, story};

const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const OWN: [Option<&str>; 4] = [None, Some("Always"), Some("OnFailure"), Some("Never")];

/// A rule: what is written, and which exit codes are restarted by it.
type Rule = (&'static str, fn(i32) -> bool);

const RULES: [Rule; 4] = [
    ("", |_| false),
    ("In, values: [42]", |code| code == 42),
    ("NotIn, values: [0, 1]", |code| code != 0 && code != 1),
    ("In, values: [0, 137]", |code| code == 0 || code == 137),
];

/// Returns a container's own policy and rules as they are written.
fn written(own: Option<&str>, rules: &str) -> String {
    let policy = own.map(|own| format!(", restartPolicy: {own}")).unwrap_or_default();
    if rules.is_empty() {
        return policy;
    }
    format!("{policy}, restartPolicyRules: [{{action: Restart, exitCodes: {{operator: {rules}}}}}]")
}

/// The rule, written down a second time.
fn restarts(policy: &str, own: Option<&str>, by_rule: bool, code: i32) -> bool {
    by_rule
        || match own.unwrap_or(policy) {
            "Always" => true,
            "OnFailure" => code != 0,
            _ => false,
        }
}

#[test]
fn rules_come_before_the_containers_policy_and_that_before_the_pods() {
    let mut cases = 0;
    for policy in POLICIES {
        for own in OWN {
            for (rules, by_rule) in RULES {
                if own.is_none() && !rules.is_empty() {
                    continue;
                }
                for code in [0, 1, 42, 137, 255] {
                    let spec = format!(
                        "restartPolicy: {policy}, containers: [{{name: c, image: i{}}}, {{name: d, image: i}}]",
                        written(own, rules)
                    );
                    let life = story(&spec, &format!("5s:exit:c={code}"));
                    let again = life.starts().contains(&"5 c#1".to_owned());
                    assert_eq!(
                        again,
                        restarts(policy, own, by_rule(code), code),
                        "{spec} {code}\n{}",
                        life.text()
                    );
                    // It is Running while anything runs.
                    assert_eq!(life.status().phase.as_str(), "Running", "{spec} {code}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 195);
}

#[test]
fn init_containers_follow_the_same_rules_when_they_have_failed() {
    for policy in POLICIES {
        // Always of its own would make it a sidecar.
        for own in [None, Some("OnFailure"), Some("Never")] {
            for (rules, by_rule) in RULES {
                if own.is_none() && !rules.is_empty() {
                    continue;
                }
                for code in [0, 1, 42, 137] {
                    let spec = format!(
                        "restartPolicy: {policy}, initContainers: [{{name: j, image: i{}}}], containers: [{{name: c, image: i}}]",
                        written(own, rules)
                    );
                    let life = story(&spec, &format!("0s:run:j=1s/{code}"));
                    let starts = life.starts();
                    let is_init_policy = own.unwrap_or(policy) != "Never";
                    let (next, phase) = match code {
                        0 => ("1 c#0", "Running"),
                        _ if by_rule(code) || is_init_policy => ("1 j#1", "Pending"),
                        _ => ("", "Failed"),
                    };
                    assert_eq!(starts.get(1).map_or("", String::as_str), next, "{spec} {code}");
                    assert_eq!(life.status().phase.as_str(), phase, "{spec} {code}\n{}", life.text());
                }
            }
        }
    }
}

#[test]
fn a_sidecar_comes_back_whatever_happened() {
    for policy in POLICIES {
        for code in [0, 1, 137] {
            let spec = format!(
                "restartPolicy: {policy}, initContainers: [{{name: s, image: i, restartPolicy: Always}}],
                 containers: [{{name: c, image: i}}]"
            );
            let life = story(&spec, &format!("5s:exit:s={code}"));
            assert_eq!(life.starts(), ["0 s#0", "0 c#0", "5 s#1"], "{policy} {code}");
        }
    }
}

#[test]
fn a_probe_has_a_container_restarted_whatever_its_exit_code() {
    for policy in POLICIES {
        for own in OWN {
            for (rules, by_rule) in RULES {
                if own.is_none() && !rules.is_empty() {
                    continue;
                }
                for code in [0, 1, 42] {
                    let spec = format!(
                        "restartPolicy: {policy}, containers: [{{name: d, image: i}}, {{name: c, image: i,
                         livenessProbe: {{tcpSocket: {{port: 1}}, failureThreshold: 1, periodSeconds: 1}}{}}}]",
                        written(own, rules)
                    );
                    let script =
                        format!("0s:term:c={code} 5s:probe:c/liveness=fail 5s:probe:c/liveness=fail");
                    let life = story(&spec, &script);
                    let comes_back = own.unwrap_or(policy) != "Never";
                    let again = life.starts().contains(&"5 c#1".to_owned());
                    // Where the kill does not restart it, its exit code may.
                    assert_eq!(again, comes_back || by_rule(code), "{spec} {code}\n{}", life.text());
                    let text = if comes_back {
                        "5 Killing: Container c failed liveness probe, will be restarted"
                    } else {
                        "5 Killing: Container c failed liveness probe"
                    };
                    assert_eq!(life.events(&["Killing"])[0], text, "{spec}");
                }
            }
        }
    }
}

#[test]
fn a_pod_that_has_nothing_left_beside_a_failing_probe_ends_as_a_whole() {
    let probe = "livenessProbe: {tcpSocket: {port: 1}, failureThreshold: 1, periodSeconds: 1, terminationGracePeriodSeconds: 3}";
    let spec = format!(
        "restartPolicy: Never, terminationGracePeriodSeconds: 9,
         initContainers: [{{name: s, image: i, restartPolicy: Always}}],
         containers: [{{name: c, image: i, {probe}}}, {{name: d, image: i}}]"
    );
    for (script, text, stops, phase) in [
        // The other one runs on, and is left alone.
        ("5s:probe:c/liveness=fail", "Container c failed liveness probe", vec!["5 term c"], "Running"),
        // The other one has ended: the Pod's grace, and the sidecar after the container.
        (
            "4s:exit:d=0 0s:ignore-term:c 5s:probe:c/liveness=fail",
            "Stopping container c",
            vec!["5 term c", "14 kill c", "14 term s", "14 sandbox"],
            "Failed",
        ),
        (
            "4s:exit:d=0 5s:probe:c/liveness=fail",
            "Stopping container c",
            vec!["5 term c", "5 term s", "5 sandbox"],
            "Succeeded",
        ),
    ] {
        let life = story(&spec, script);
        assert_eq!(life.stops(), stops, "{script}\n{}", life.text());
        assert_eq!(life.events(&["Killing"])[0], format!("5 Killing: {text}"), "{script}");
        assert_eq!(life.status().phase.as_str(), phase, "{script}");
    }
}

/// Returns the seconds between the end of each run and the next start.
fn waits(spec: &str, script: &str, runs: usize, seconds: u64) -> Vec<u64> {
    let life = story(spec, script);
    let starts: Vec<u64> = life
        .starts()
        .iter()
        .filter(|s| s.contains(" c#"))
        .map(|s| s.split(' ').next().and_then(|t| t.parse().ok()).expect("whole seconds"))
        .collect();
    starts.windows(2).map(|two| two[1] - two[0] - seconds).take(runs).collect()
}

#[test]
fn the_wait_doubles_from_10_to_300_seconds_and_counts_from_the_end() {
    for seconds in [0, 1, 7, 59] {
        let script = format!("0s:run:c={seconds}s/1 2000s:delete");
        let waits = waits("containers: [{name: c, image: i}]", &script, 8, seconds);
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300], "{seconds}");
    }
    // Exit code 0 backs off as well; so do init containers and sidecars.
    let ok = "0s:run:c=1s/0 700s:delete";
    assert_eq!(waits("containers: [{name: c, image: i}]", ok, 5, 1), [0, 10, 20, 40, 80]);
    let failed = "0s:run:c=1s/1 700s:delete";
    let init = "initContainers: [{name: c, image: i}], containers: [{name: d, image: i}]";
    assert_eq!(waits(init, failed, 5, 1), [0, 10, 20, 40, 80]);
    let sidecar =
        "initContainers: [{name: c, image: i, restartPolicy: Always}], containers: [{name: d, image: i}]";
    assert_eq!(waits(sidecar, failed, 5, 1), [0, 10, 20, 40, 80]);
}

#[test]
fn ten_minutes_of_running_start_over() {
    // 600 s is not more than 600 s.
    for (seconds, expected) in
        [(599, [0, 10, 20, 40]), (600, [0, 10, 20, 40]), (601, [0, 0, 0, 0]), (900, [0, 0, 0, 0])]
    {
        let script = format!("0s:run:c={seconds}s/1 5000s:delete");
        assert_eq!(waits("containers: [{name: c, image: i}]", &script, 4, seconds), expected, "{seconds}");
    }
}

#[test]
fn after_a_failed_probe_the_wait_counts_from_the_run_before() {
    // As recorded (liveness-exec, startup-fail): two restarts at once, then a wait; none at all while each run lasts longer
    // than the wait would be.
    let spec = |delay: u64| {
        format!(
            "containers: [{{name: c, image: i, livenessProbe:
             {{tcpSocket: {{port: 1}}, failureThreshold: 1, periodSeconds: 1, initialDelaySeconds: {delay}}}}}]"
        )
    };
    for (delay, expected) in [
        (6, vec![0, 0, 10, 20, 40]),
        (12, vec![0, 0, 0, 20, 40]),
        (30, vec![0, 0, 0, 0, 40]),
        (300, vec![0, 0, 0, 0, 0]),
    ] {
        let script = "0s:probe:c/liveness=fail 3000s:delete";
        assert_eq!(waits(&spec(delay), script, 5, delay), expected, "{delay}");
    }
}

#[test]
fn a_container_killed_by_a_probe_comes_back_from_its_back_off_whatever_its_exit_code() {
    let spec = "restartPolicy: OnFailure, containers: [{name: c, image: i, livenessProbe:
                {tcpSocket: {port: 1}, failureThreshold: 1, periodSeconds: 1, initialDelaySeconds: 6}}]";
    let life = story(spec, "0s:probe:c/liveness=fail");
    assert_eq!(life.starts()[..5], ["0 c#0", "6 c#1", "12 c#2", "28 c#3", "54 c#4"], "{}", life.text());
    assert_eq!(shown(find(life.at(20), "c").expect("c")), "Waiting CrashLoopBackOff");
    assert!(life.statuses().all(|s| !s.phase.is_terminal()));
}

#[test]
fn all_containers_are_restarted_where_a_rule_says_so() {
    let rule = "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]";
    let spec = format!(
        "initContainers: [{{name: j, image: i}}, {{name: s, image: i, restartPolicy: Always}}],
         containers: [{{name: a, image: i, lifecycle: {{preStop: {{exec: {{command: [x]}}}}}}}}, {{name: b, image: i, {rule}}}],
         terminationGracePeriodSeconds: 30"
    );
    let life = story(&spec, "0s:ignore-term:a 0s:ignore-term:s 5s:exit:b=88");
    // Two seconds each and no hook; regular containers first; then everything anew, without a wait.
    assert_eq!(life.stops(), ["5 term a", "7 kill a", "7 term s", "9 kill s"]);
    assert_eq!(life.starts(), ["0 j#0", "1 s#0", "1 a#0", "1 b#0", "9 j#1", "10 s#1", "10 a#1", "10 b#1"]);
    assert_eq!(
        life.condition("AllContainersRestarting"),
        ["0 False", "5 True RestartAllContainersStarted", "9 False"]
    );
    assert_eq!(life.events(&["Killing"]), ["5 Killing: killing", "7 Killing: killing"]);
    for name in ["j", "s", "a", "b"] {
        let status = find(life.status(), name).expect(name);
        assert_eq!(status.restart_count, 1, "{name}");
        let last = status.last_state.as_ref().expect(name);
        assert_eq!(
            (last.exit_code, last.reason.as_str(), last.started_at),
            (137, "RestartingAllContainers", None)
        );
    }
    assert_eq!(life.condition("Initialized"), ["0 False ContainersNotInitialized", "1 True"]);
    // Other exit codes follow the policy.
    let life = story(&spec, "5s:exit:b=87");
    assert_eq!(life.starts().len(), 4);
    assert_eq!(life.condition("AllContainersRestarting"), ["0 False"]);
}

#[test]
fn a_rule_that_always_matches_restarts_once_a_second() {
    let rule = "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: NotIn, values: [0]}}]";
    let spec = format!("containers: [{{name: a, image: i}}, {{name: b, image: i, {rule}}}]");
    let life = story(&spec, "0s:run:b=0s/1 6s:run:b=on 20s:delete");
    let starts: Vec<_> = life.starts().into_iter().filter(|s| s.contains(" b#")).collect();
    assert_eq!(
        starts,
        ["0 b#0", "0 b#1", "1 b#2", "2 b#3", "3 b#4", "4 b#5", "5 b#6", "6 b#7"],
        "{}",
        life.text()
    );
}

#[test]
fn a_restart_of_all_containers_ends_where_the_pod_does() {
    let rule = "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]";
    let spec = format!("containers: [{{name: a, image: i}}, {{name: b, image: i, {rule}}}]");
    let life = story(&spec, "0s:ignore-term:a 5s:exit:b=88 6s:delete=9");
    // The deletion's grace counts from the deletion.
    assert_eq!(life.stops(), ["5 term a", "15 kill a", "15 sandbox"]);
    assert_eq!(life.starts(), ["0 a#0", "0 b#0"]);
    assert_eq!(life.status().phase.as_str(), "Failed");
    assert_eq!(life.condition("AllContainersRestarting").last().expect("it"), "15 False PodFailed");
    // It goes on in the next sandbox.
    for policy in POLICIES {
        let spec = format!("restartPolicy: {policy}, {spec}");
        let life = story(&spec, "0s:ignore-term:a 5s:exit:b=88 6s:sandbox-lost");
        assert_eq!(life.starts(), ["0 a#0", "0 b#0", "6 a#1", "6 b#1"], "{policy}");
    }
}
