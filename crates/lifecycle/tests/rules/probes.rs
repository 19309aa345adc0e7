//! Semantics 6: what verdicts of probes do to `started`, `ready` and to the container.

use std::time::Duration;

use podrun_lifecycle::{Input, Machine, Now, PodView, RunView};
use podrun_spec::model::{Pod, ProbeKind};
use podrun_spec::status::UserStatus;
use podrun_spec::time::Timestamp;

use crate::story::{find, pod, shown, story};

fn probe(kind: &str, more: &str) -> String {
    format!("{kind}Probe: {{tcpSocket: {{port: 1}}, periodSeconds: 1{more}}}")
}

#[test]
fn started_and_ready_follow_the_probes_that_there_are() {
    for startup in [false, true] {
        for readiness in [false, true] {
            for sidecar in [false, true] {
                let mut probes = Vec::new();
                let mut script = vec!["40s:delete".to_owned()];
                if startup {
                    probes.push(probe("startup", ", failureThreshold: 30"));
                    script.push("0s:probe:x/startup=fail".to_owned());
                    script.push("5s:probe:x/startup=ok".to_owned());
                }
                if readiness {
                    probes.push(probe("readiness", ", failureThreshold: 1"));
                    script.push("0s:probe:x/readiness=fail".to_owned());
                    script.push("8s:probe:x/readiness=ok".to_owned());
                    script.push("12s:probe:x/readiness=fail".to_owned());
                }
                let comma = if probes.is_empty() { "" } else { ", " };
                let x = format!("name: x, image: i{comma}{}", probes.join(", "));
                let spec = if sidecar {
                    format!(
                        "initContainers: [{{{x}, restartPolicy: Always}}], containers: [{{name: c, image: i}}]"
                    )
                } else {
                    format!("containers: [{{{x}}}]")
                };
                let life = story(&spec, &script.join(" "));
                let expected: Vec<&str> = match (startup, readiness) {
                    (false, false) => vec!["0 Running started ready"],
                    (true, false) => vec!["0 Running", "5 Running started ready"],
                    (false, true) => {
                        vec!["0 Running started", "8 Running started ready", "12 Running started"]
                    }
                    (true, true) => {
                        vec![
                            "0 Running",
                            "5 Running started",
                            "8 Running started ready",
                            "12 Running started",
                        ]
                    }
                };
                let states: Vec<_> = life.states("x").into_iter().filter(|s| s.contains("Running")).collect();
                assert_eq!(states, expected, "{spec}\n{}", life.text());
                // A sidecar holds the next container back until it has come up, not until it is ready.
                let begins = if startup && sidecar { "5 c#0" } else { "0 c#0" };
                assert!(!sidecar || life.starts().contains(&begins.to_owned()), "{spec}");
                // Ready and ContainersReady say the same.
                assert_eq!(life.condition("Ready"), life.condition("ContainersReady"));
            }
        }
    }
}

#[test]
fn a_readiness_probe_never_kills() {
    let spec =
        format!("containers: [{{name: c, image: i, {}}}]", probe("readiness", ", failureThreshold: 1"));
    let life = story(&spec, "0s:probe:c/readiness=fail 100s:delete");
    assert_eq!(life.starts(), ["0 c#0"]);
    assert_eq!(life.stops(), ["100 term c", "100 sandbox"]);
}

#[test]
fn a_failed_probe_kills_after_its_threshold_and_says_so() {
    for (kind, sidecar, text) in [
        ("liveness", false, "Container x failed liveness probe, will be restarted"),
        ("startup", false, "Container x failed startup probe, will be restarted"),
        ("liveness", true, "Init container x failed liveness probe"),
        ("startup", true, "Init container x failed startup probe"),
    ] {
        for threshold in [1, 3] {
            let x =
                format!("name: x, image: i, {}", probe(kind, &format!(", failureThreshold: {threshold}")));
            let spec = if sidecar {
                format!(
                    "initContainers: [{{{x}, restartPolicy: Always}}], containers: [{{name: c, image: i}}]"
                )
            } else {
                format!("containers: [{{{x}}}]")
            };
            let life = story(&spec, &format!("0s:probe:x/{kind}=fail 0s:probe:x/{kind}=fail"));
            let at = threshold - 1;
            assert_eq!(
                life.events(&["Killing"])[0],
                format!("{at} Killing: {text}"),
                "{spec}\n{}",
                life.text()
            );
            assert_eq!(life.stops()[0], format!("{at} term x"));
            assert!(life.starts().contains(&format!("{at} x#1")), "{spec}");
            let unhealthy = life.events(&["Unhealthy"]);
            assert_eq!(unhealthy.iter().filter(|e| e.starts_with(&format!("{at} "))).count().min(1), 1);
        }
    }
}

#[test]
fn a_sidecar_that_is_killed_again_and_again_holds_only_those_behind_it() {
    let spec = format!(
        "initContainers: [{{name: s, image: i, restartPolicy: Always, {}}}, {{name: j, image: i}}],
         containers: [{{name: c, image: i}}]",
        probe("startup", ", failureThreshold: 2")
    );
    let life = story(&spec, "0s:probe:s/startup=fail 5s:probe:s/startup=ok");
    // Killed after 1 s twice in a row, then the back-off; then it comes up.
    assert_eq!(life.starts(), ["0 s#0", "1 s#1", "2 s#2", "13 s#3", "13 j#0", "14 c#0"], "{}", life.text());
    // Once the Pod is initialized its startup probe holds nobody back.
    let life = story(&spec, "5s:exit:s=1 5s:probe:s/startup=fail 6s:exit:c=1");
    assert_eq!(life.starts()[3..5], ["5 s#1", "6 c#1"], "{}", life.text());
}

#[test]
fn a_restarted_container_is_probed_from_the_beginning() {
    let spec = format!(
        "containers: [{{name: c, image: i, {}, {}}}]",
        probe("startup", ", failureThreshold: 30"),
        probe("readiness", ", failureThreshold: 1")
    );
    let life = story(&spec, "5s:exit:c=1 5s:probe:c/startup=fail 9s:probe:c/startup=ok");
    assert_eq!(
        life.states("c"),
        [
            "0 Waiting ContainerCreating",
            "0 Running",
            "0 Running started",
            "0 Running started ready",
            "5 Error(1)",
            "5 Running",
            "9 Running started",
            "9 Running started ready"
        ],
        "{}",
        life.text()
    );
}

#[test]
fn while_the_pod_is_stopped_only_readiness_counts() {
    let spec = format!(
        "containers: [{{name: c, image: i, {}, {}}}], terminationGracePeriodSeconds: 20",
        probe("liveness", ", failureThreshold: 1"),
        probe("readiness", ", failureThreshold: 1")
    );
    let life = story(&spec, "0s:ignore-term:c 5s:delete 7s:probe:c/readiness=fail 7s:probe:c/liveness=fail");
    assert_eq!(life.stops(), ["5 term c", "25 kill c", "25 sandbox"]);
    assert_eq!(life.condition("Ready")[1..], ["0 True", "7 False ContainersNotReady", "25 False PodFailed"]);
    assert!(life.events(&["Killing"]).len() == 1);
}

/// A machine whose one container runs, with the boot time at which it started.
fn running(pod: &Pod) -> (Machine, Now) {
    let mut machine = Machine::new(pod);
    let now = Now { wall: Timestamp(0), boot: Duration::from_secs(50) };
    let name = pod.spec.containers[0].name.clone();
    machine.step(now, Input::Created);
    machine.step(now, Input::VolumesReady);
    machine.step(now, Input::SandboxReady { pod_ips: Vec::new() });
    machine.step(
        now,
        Input::ImageReady {
            container: Some(name.clone()),
            volume: None,
            image_id: String::new(),
            pulled: None,
        },
    );
    let user = UserStatus { uid: 0, gid: 0, supplemental_groups: Vec::new() };
    machine.step(now, Input::Started { container: name, attempt: 0, at: now.wall, user });
    (machine, now)
}

fn verdict(attempt: u32, probe: ProbeKind, healthy: Option<bool>, event: bool) -> Input {
    let event = event.then(|| ("Unhealthy".to_owned(), "Liveness probe failed: no".to_owned()));
    Input::Probed { container: "c".to_owned(), attempt, probe, healthy, event }
}

#[test]
fn verdicts_of_another_run_are_ignored() {
    let pod = pod(&format!("containers: [{{name: c, image: i, {}}}]", probe("liveness", "")));
    let (mut machine, now) = running(&pod);
    assert_eq!(machine.step(now, verdict(1, ProbeKind::Liveness, Some(false), true)), []);
    assert_eq!(
        machine.step(
            now,
            Input::Probed {
                container: "nobody".to_owned(),
                attempt: 0,
                probe: ProbeKind::Liveness,
                healthy: Some(false),
                event: None,
            }
        ),
        []
    );
    // Its event comes through although it has nothing new to say.
    assert_eq!(machine.step(now, verdict(0, ProbeKind::Liveness, None, true)).len(), 1);
    assert_eq!(shown(find(&machine.status(), "c").expect("c")), "Running started ready");
    // A second failure while it is being stopped changes nothing.
    assert_eq!(machine.step(now, verdict(0, ProbeKind::Liveness, Some(false), false)).len(), 2);
    assert_eq!(machine.step(now, verdict(0, ProbeKind::Liveness, Some(false), false)), []);
}

#[test]
fn probers_see_what_concerns_them() {
    let pod = pod(&format!(
        "restartPolicy: OnFailure, containers: [{{name: c, image: i, {}, lifecycle: {{postStart: {{sleep: {{seconds: 3}}}}}}}}]",
        probe("startup", "")
    ));
    let (mut machine, now) = running(&pod);
    let view = |machine: &Machine| {
        let view = machine.probe_view("c").expect("c");
        (view.pod, view.container.map(|c| (c.attempt, c.run)))
    };
    assert_eq!(machine.probe_view("nobody"), None);
    assert_eq!(view(&machine), (PodView::Active, None), "its postStart hook runs");
    machine.step(
        now,
        Input::HookDone {
            container: "c".to_owned(),
            attempt: 0,
            hook: podrun_spec::model::HookKind::PostStart,
            failure: None,
            event: None,
        },
    );
    let run = |started| Some((0, RunView::Running { since: now.boot, started }));
    assert_eq!(view(&machine), (PodView::Active, run(false)));
    machine.step(now, verdict(0, ProbeKind::Startup, Some(true), false));
    assert_eq!(view(&machine), (PodView::Active, run(true)));
    for (code, comes_back) in [(1, true), (0, false)] {
        let mut machine = machine.clone();
        let status = podrun_lifecycle::ExitStatus::Code(code);
        machine.step(
            now,
            Input::Exited {
                container: "c".to_owned(),
                attempt: 0,
                status,
                oom_killed: false,
                message: String::new(),
                at: now.wall,
            },
        );
        let pod = if comes_back { PodView::Active } else { PodView::Ended };
        assert_eq!(view(&machine), (pod, Some((0, RunView::Stopped { comes_back }))));
    }
    machine.step(now, Input::Delete { grace_seconds: None });
    assert_eq!(view(&machine), (PodView::Deleting, run(true)));
}
