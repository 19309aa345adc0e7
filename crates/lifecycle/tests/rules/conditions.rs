//! Semantics 4: the conditions, their words and their times.

use podrun_spec::status::PodStatus;
use podrun_spec::time::Timestamp;

use crate::story::{life, pod, story};

const INIT: &str = "initContainers: [{name: j1, image: i}, {name: s, image: i, restartPolicy: Always,
                    startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 60}}, {name: j2, image: i}],
                    containers: [{name: b, image: i}, {name: a, image: i}]";

fn shown(status: &PodStatus, kind: &str) -> String {
    let c = status.conditions.iter().find(|c| c.kind == kind).expect(kind);
    let word = |w: &Option<String>| w.as_deref().map(|w| format!(" {w}")).unwrap_or_default();
    format!("{}{}{}", if c.status { "True" } else { "False" }, word(&c.reason), word(&c.message))
}

#[test]
fn they_stand_in_the_kubelets_order() {
    let rule = "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [1]}}]";
    for (spec, more) in [
        ("containers: [{name: c, image: i}]".to_owned(), vec![]),
        (format!("containers: [{{name: c, image: i, {rule}}}]"), vec!["AllContainersRestarting"]),
    ] {
        let life = story(&spec, "3s:condition:x/gate=True 4s:condition:y/gate=False");
        let kinds: Vec<_> = life.status().conditions.iter().map(|c| c.kind.as_str()).collect();
        let mut expected = vec![
            "x/gate",
            "y/gate",
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ];
        expected.extend(more);
        assert_eq!(kinds, expected);
        for c in &life.status().conditions {
            let own = !c.kind.ends_with("gate") && c.kind != "AllContainersRestarting";
            assert_eq!(c.observed_generation, own.then_some(1), "{}", c.kind);
        }
        assert_eq!(life.status().observed_generation, Some(1));
    }
}

#[test]
fn initialized_and_ready_name_who_is_missing_in_spec_order() {
    let script = "0s:probe:s/startup=fail 3s:probe:s/startup=ok 0s:start:a=9s";
    let life = story(INIT, script);
    for (at, initialized, ready) in [
        (0, "False ContainersNotInitialized containers with incomplete status: [j1 s j2]", "[s b a]"),
        (1, "False ContainersNotInitialized containers with incomplete status: [s j2]", "[s b a]"),
        (3, "False ContainersNotInitialized containers with incomplete status: [j2]", "[b a]"),
        (4, "True", "[a]"),
    ] {
        assert_eq!(shown(life.at(at), "Initialized"), initialized, "{at}\n{}", life.text());
        let expected = format!("False ContainersNotReady containers with unready status: {ready}");
        assert_eq!(shown(life.at(at), "Ready"), expected, "{at}");
        assert_eq!(shown(life.at(at), "ContainersReady"), expected, "{at}");
    }
    assert_eq!(shown(life.status(), "Ready"), "True");
}

#[test]
fn initialized_stays_true() {
    let life = story(INIT, "5s:sandbox-lost");
    assert_eq!(life.condition("Initialized"), ["0 False ContainersNotInitialized", "2 True"]);
    assert!(life.phases().contains(&"5 Pending".to_owned()), "{:?}", life.phases());
    let sidecar =
        "initContainers: [{name: s, image: i, restartPolicy: Always}], containers: [{name: c, image: i}]";
    let life = story(sidecar, "0s:start:c=60s 5s:exit:s=1");
    assert_eq!(life.condition("Initialized"), ["0 False ContainersNotInitialized", "0 True"]);
}

#[test]
fn the_end_has_reasons_of_its_own() {
    for (script, initialized, ready) in [
        ("5s:exit:c=0", "True PodCompleted", "False PodCompleted"),
        ("5s:exit:c=1", "True", "False PodFailed"),
        ("5s:delete", "True PodCompleted", "False PodCompleted"),
        ("0s:pull:c=fail 5s:delete", "True", "False ContainersNotReady containers with unready status: [c]"),
    ] {
        let life = story("restartPolicy: Never, containers: [{name: c, image: i}]", script);
        assert_eq!(shown(life.status(), "Initialized"), initialized, "{script}");
        assert_eq!(shown(life.status(), "Ready"), ready, "{script}");
        assert_eq!(shown(life.status(), "PodReadyToStartContainers"), "False", "{script}");
        assert_eq!(shown(life.status(), "PodScheduled"), "True", "{script}");
    }
}

#[test]
fn the_sandbox_is_what_pod_ready_to_start_containers_speaks_of() {
    let spec = "containers: [{name: c, image: i}]";
    let life = story(spec, "0s:volumes=fail 4s:volumes=ok 0s:pull:c=20s 40s:sandbox-lost 50s:delete");
    assert_eq!(
        life.condition("PodReadyToStartContainers"),
        ["0 False", "7 True", "40 False", "40 True", "50 False"]
    );
}

#[test]
fn times_move_with_the_status_and_only_then() {
    let probe = "readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 1}";
    let spec = format!("restartPolicy: Never, containers: [{{name: c, image: i, {probe}}}]");
    let life = story(&spec, "3s:probe:c/readiness=fail 7s:probe:c/readiness=ok 9s:exit:c=1");
    let time = |at: u64, kind: &str| {
        let c = life.at(at).conditions.iter().find(|c| c.kind == kind).expect(kind);
        c.last_transition_time.map(Timestamp::unix_seconds)
    };
    for (at, expected) in [(0, 0), (2, 0), (3, 3), (6, 3), (7, 7), (8, 7), (9, 9), (20, 9)] {
        assert_eq!(time(at, "Ready"), Some(expected), "{at}");
    }
    // From unready to failed the reason changes, not the status.
    let life = story(&spec, "0s:probe:c/readiness=fail 9s:exit:c=1");
    let c = life.status().conditions.iter().find(|c| c.kind == "Ready").expect("Ready");
    assert_eq!((c.reason.as_deref(), c.last_transition_time), (Some("PodFailed"), Some(Timestamp(0))));
}

#[test]
fn readiness_gates_are_asked_when_the_containers_are_ready() {
    let missing =
        |gate: &str| format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.");
    let unmet =
        |gate: &str| format!("the status of pod readiness gate \"{gate}\" is not \"True\", but False");
    let gates = [None, Some(false), Some(true)];
    for x in gates {
        for y in gates {
            for ready in [false, true] {
                let mut pod = pod(
                    "containers: [{name: c, image: i, readinessProbe: {tcpSocket: {port: 1}, failureThreshold: 1}}]",
                );
                pod.spec.readiness_gates = vec!["x/gate".to_owned(), "y/gate".to_owned()];
                let mut script = format!("0s:probe:c/readiness={}", if ready { "ok" } else { "fail" });
                for (gate, status) in [("x/gate", x), ("y/gate", y)] {
                    if let Some(status) = status {
                        script += if status { " 2s:condition:" } else { " 3s:condition:" };
                        script += &format!("{gate}={}", if status { "True" } else { "False" });
                    }
                }
                let life = life(&pod, &script);
                let texts: Vec<_> = [("x/gate", x), ("y/gate", y)]
                    .into_iter()
                    .filter_map(|(gate, status)| match status {
                        None => Some(missing(gate)),
                        Some(false) => Some(unmet(gate)),
                        Some(true) => None,
                    })
                    .collect();
                let expected = match (ready, texts.is_empty()) {
                    (false, _) => "False ContainersNotReady containers with unready status: [c]".to_owned(),
                    (true, true) => "True".to_owned(),
                    (true, false) => format!("False ReadinessGatesNotReady {}", texts.join(", ")),
                };
                assert_eq!(shown(life.status(), "Ready"), expected, "{x:?} {y:?}");
                assert_eq!(shown(life.status(), "ContainersReady").starts_with("True"), ready);
            }
        }
    }
}

#[test]
fn conditions_of_others_are_kept_and_podruns_own_cannot_be_set() {
    let spec = "containers: [{name: c, image: i}]";
    let life = story(spec, "2s:condition:x=False 4s:condition:x=False 6s:condition:x=True 8s:delete");
    assert_eq!(life.condition("x"), ["2 False", "6 True"]);
    for (at, expected) in [(3, 2), (5, 2), (7, 6), (9, 6)] {
        let time = life.at(at).conditions[0].last_transition_time;
        assert_eq!(time.map(Timestamp::unix_seconds), Some(expected), "{at}");
    }
    for kind in ["Ready", "PodScheduled", "Initialized", "DisruptionTarget", "PodResizePending"] {
        let life = story(spec, &format!("2s:condition:{kind}=False"));
        assert_eq!(life.status().conditions.len(), 5, "{kind}");
    }
    assert_eq!(shown(story(spec, "2s:condition:Ready=False").status(), "Ready"), "True");
}
