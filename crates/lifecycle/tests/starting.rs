//! Rules of starting and restarting, one test each, under a clock that the test moves.

mod common;

use std::time::Duration;

use common::{Bench, container, ensure, pod, remove, start};
use podrun_lifecycle::{Action, ExitStatus, Input, PulledImage, Stage, StartFailure};
use podrun_spec::model::{PullPolicy, RestartPolicy};
use podrun_spec::status::{ContainerState, ContainerStatus, Phase};

/// Returns `Waiting Reason`, `Running` or `Terminated code Reason`.
fn shown(status: &ContainerStatus) -> String {
    match &status.state {
        ContainerState::Waiting { reason, .. } => format!("Waiting {reason}"),
        ContainerState::Running { .. } => "Running".to_owned(),
        ContainerState::Terminated(end) => format!("Terminated {} {}", end.exit_code, end.reason),
    }
}

fn states(bench: &Bench, container: usize) -> Vec<String> {
    let mut states: Vec<_> =
        bench.statuses.iter().filter_map(|s| s.container_statuses.get(container)).map(shown).collect();
    states.dedup();
    states
}

fn config_error() -> StartFailure {
    StartFailure::Config { reason: "CreateContainerConfigError".to_owned(), message: "no".to_owned() }
}

fn exec_error(bench: &Bench) -> StartFailure {
    StartFailure::Exec { message: "no such file".to_owned(), exit_code: 128, at: bench.wall() }
}

#[test]
fn everything_starts_one_after_the_other() {
    let mut bench = Bench::new(&pod(RestartPolicy::Always, &["i1", "i2"], &["b", "a"]));
    assert_eq!(bench.step(Input::Created), [Action::PrepareVolumes]);
    assert_eq!(bench.step(Input::VolumesReady), [Action::CreateSandbox]);
    assert_eq!(bench.step(Input::SandboxReady { pod_ips: Vec::new() }), [ensure("i1")]);
    assert_eq!(bench.start("i1", 0), []);
    assert_eq!(bench.machine.status().phase, Phase::Pending);
    assert_eq!(bench.exited("i1", 0, 0), [ensure("i2")]);
    assert_eq!(bench.start("i2", 0), []);
    assert_eq!(bench.exited("i2", 0, 0), [ensure("b")]);
    assert_eq!(bench.start("b", 0), [ensure("a")]);
    assert_eq!(bench.machine.status().phase, Phase::Pending);
    assert_eq!(bench.start("a", 0), []);
    assert_eq!(bench.machine.status().phase, Phase::Running);
    assert_eq!(bench.machine.deadline(), None);
    let status = bench.machine.status();
    assert_eq!(status.container_statuses.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        status.init_container_statuses.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["i1", "i2"]
    );
}

#[test]
fn a_failing_regular_container_does_not_keep_the_next_from_starting() {
    for policy in [RestartPolicy::Always, RestartPolicy::Never] {
        let mut bench = Bench::ready(&pod(policy, &[], &["a", "b"]));
        assert_eq!(bench.image_ready("a"), [start("a", 0)]);
        assert_eq!(bench.start_failed("a", 0, config_error()), [ensure("b")]);
        assert_eq!(bench.start("b", 0), []);
        // What was never created is tried again under every policy, with the same number.
        assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("a")]), "{policy:?}");
        assert_eq!(bench.start("a", 0), []);
        assert_eq!(
            states(&bench, 0),
            ["Waiting ContainerCreating", "Waiting CreateContainerConfigError", "Running"]
        );
    }
}

#[test]
fn a_container_that_fails_at_once_is_retried_after_the_others_were_tried() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a", "b"]));
    bench.image_ready("a");
    let failure = exec_error(&bench);
    assert_eq!(bench.start_failed("a", 0, failure), [ensure("b")]);
    assert_eq!(bench.start("b", 0), [ensure("a")]);
}

#[test]
fn a_failing_init_container_is_waited_for() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &["i1", "i2"], &["a"]));
    assert_eq!(bench.image_ready("i1"), [start("i1", 0)]);
    assert_eq!(bench.start_failed("i1", 0, config_error()), []);
    assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("i1")]));
    bench.start("i1", 0);
    assert_eq!(bench.exited("i1", 0, 1), [ensure("i1")], "the first restart is immediate");
    bench.start("i1", 1);
    assert_eq!(
        bench.exited_with("i1", 1, ExitStatus::Code(0), true, ""),
        [remove("i1", 0)],
        "OOMKilled is a failure"
    );
    assert_eq!(bench.tick_at_deadline(), (0, vec![]), "the back-off is shown");
    assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("i1")]));
}

#[test]
fn a_failed_init_container_ends_the_pod_under_never() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Never, &["i1", "i2"], &["a"]));
    bench.start("i1", 0);
    assert_eq!(bench.exited("i1", 0, 1), [Action::StopSandbox]);
    assert_eq!(bench.machine.status().phase, Phase::Pending);
    assert_eq!(bench.step(Input::SandboxStopped), [Action::CleanUp]);
    assert_eq!(bench.machine.status().phase, Phase::Failed);
}

#[test]
fn crashes_wait_0_10_20_40_80_160_300_300_seconds() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    let mut waits = Vec::new();
    for attempt in 0..8 {
        bench.start("a", attempt);
        let mut waited = 0;
        let mut actions = bench.exited("a", attempt, 1);
        if attempt > 0 {
            assert_eq!(actions.remove(0), remove("a", attempt - 1), "older than the newest dead one");
        }
        while actions.is_empty() {
            let (seconds, next) = bench.tick_at_deadline();
            waited += seconds;
            actions = next;
        }
        assert_eq!(actions, [ensure("a")]);
        waits.push(waited);
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn the_exit_is_shown_before_the_back_off() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.start("a", 0);
    bench.exited("a", 0, 1);
    bench.start("a", 1);
    bench.take_events();
    bench.exited("a", 1, 2);
    assert_eq!(bench.tick_at_deadline(), (0, vec![]));
    let status = &bench.machine.status().container_statuses[0];
    assert_eq!(
        status.state,
        ContainerState::Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: Some("back-off 10s restarting failed container=a pod=p_default(UID)".to_owned()),
        }
    );
    assert_eq!(status.last_state.as_ref().map(|end| end.exit_code), Some(2));
    assert_eq!(status.restart_count, 1);
    assert_eq!(
        bench.take_events(),
        ["BackOff: Back-off restarting failed container a in pod p_default(UID)"]
    );
    assert_eq!(bench.tick_at_deadline().0, 10);
    assert_eq!(
        states(&bench, 0),
        [
            "Waiting ContainerCreating",
            "Running",
            "Terminated 1 Error",
            "Running",
            "Terminated 2 Error",
            "Waiting CrashLoopBackOff"
        ]
    );
}

#[test]
fn ten_minutes_of_running_forget_the_back_off() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.start("a", 0);
    bench.exited("a", 0, 1);
    bench.start("a", 1);
    bench.pass(601);
    assert_eq!(bench.exited("a", 1, 1), [remove("a", 0), ensure("a")]);
    bench.start("a", 2);
    bench.exited("a", 2, 1);
    bench.tick_at_deadline();
    assert_eq!(bench.tick_at_deadline().0, 10);
}

#[test]
fn the_back_off_counts_from_the_end_of_the_process_however_late_it_is_learnt() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.start("a", 0);
    bench.exited("a", 0, 1);
    bench.start("a", 1);
    let at = bench.wall();
    bench.pass(4);
    let (container, message) = ("a".to_owned(), String::new());
    bench.step(Input::Exited {
        container,
        attempt: 1,
        status: ExitStatus::Code(1),
        oom_killed: false,
        message,
        at,
    });
    bench.tick_at_deadline();
    assert_eq!(bench.tick_at_deadline().0, 6);
}

#[test]
fn images_back_off_on_their_own() {
    let mut two = pod(RestartPolicy::Always, &[], &["a", "b"]);
    two.spec.containers[1].image = "localhost/other:1".to_owned();
    let mut bench = Bench::ready(&two);
    bench.take_events();
    assert_eq!(bench.image_failed("a", "ErrImagePull", "refused"), [ensure("b")]);
    assert_eq!(
        bench.take_events(),
        [
            "Pulling: Pulling image \"localhost/test:1\"",
            "Failed: Failed to pull image \"localhost/test:1\": refused",
            "Failed: Error: ErrImagePull"
        ]
    );
    assert_eq!(bench.tick_at_deadline(), (0, vec![]), "shown while the start of b goes on");
    assert_eq!(
        bench.take_events(),
        ["BackOff: Back-off pulling image \"localhost/test:1\"", "Failed: Error: ImagePullBackOff"]
    );
    let backing_off = ContainerState::Waiting {
        reason: "ImagePullBackOff".to_owned(),
        message: Some("Back-off pulling image \"localhost/test:1\": ErrImagePull: refused".to_owned()),
    };
    assert_eq!(bench.machine.status().container_statuses[0].state, backing_off);
    bench.start("b", 0);
    assert_eq!(bench.machine.status().phase, Phase::Pending, "although b runs");
    for wait in [10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(bench.tick_at_deadline(), (wait, vec![ensure("a")]));
        bench.image_failed("a", "ErrImagePull", "refused");
        assert_eq!(bench.tick_at_deadline(), (0, vec![]), "the failure is shown before the back-off");
    }
}

#[test]
fn containers_with_the_same_image_share_its_back_off() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a", "b"]));
    assert_eq!(bench.image_failed("a", "ErrImagePull", "refused"), []);
    bench.tick_at_deadline();
    assert_eq!(shown(&bench.machine.status().container_statuses[1]), "Waiting ImagePullBackOff");
}

#[test]
fn what_no_pull_can_mend_is_tried_again_after_10_seconds() {
    for (reason, event) in [
        ("ErrImageNeverPull", "ErrImageNeverPull: why"),
        ("InvalidImageName", "InspectFailed: why"),
        ("ImageInspectError", "InspectFailed: why"),
    ] {
        let mut bench = Bench::ready(&pod(RestartPolicy::Never, &[], &["a"]));
        bench.take_events();
        assert_eq!(bench.image_failed("a", reason, "why"), []);
        assert_eq!(bench.take_events(), [event.to_owned(), format!("Failed: Error: {reason}")]);
        assert_eq!(shown(&bench.machine.status().container_statuses[0]), format!("Waiting {reason}"));
        assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("a")]));
        assert_eq!(bench.image_failed("a", reason, "why"), []);
        assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("a")]));
    }
}

#[test]
fn a_pull_is_announced_once_and_timed() {
    for (policy, announced) in
        [(PullPolicy::Always, false), (PullPolicy::IfNotPresent, true), (PullPolicy::IfNotPresent, false)]
    {
        let mut one = pod(RestartPolicy::Always, &[], &["a"]);
        one.spec.containers[0].pull_policy = policy;
        let mut bench = Bench::ready(&one);
        if announced {
            bench.step(Input::ImagePulling { container: Some("a".to_owned()), volume: None });
            bench.step(Input::ImagePulling { container: Some("a".to_owned()), volume: None });
        }
        bench.boot += Duration::from_millis(1500);
        bench.step(Input::ImageReady {
            container: Some("a".to_owned()),
            volume: None,
            image_id: "sha256:1".to_owned(),
            pulled: Some(PulledImage { took: Duration::from_millis(1200), bytes: 2_120_203 }),
        });
        assert_eq!(
            bench.take_events(),
            [
                "Pulling: Pulling image \"localhost/test:1\"",
                "Pulled: Successfully pulled image \"localhost/test:1\" in 1.2s (1.5s including waiting). Image size: 2120203 bytes."
            ],
            "{policy:?} {announced}"
        );
    }
}

#[test]
fn a_command_that_cannot_be_executed_is_a_run_that_ended() {
    for (policy, state, phase) in [
        (RestartPolicy::Always, "Waiting RunContainerError", Phase::Running),
        (RestartPolicy::OnFailure, "Waiting RunContainerError", Phase::Running),
        (RestartPolicy::Never, "Terminated 128 StartError", Phase::Pending),
    ] {
        let mut bench = Bench::ready(&pod(policy, &[], &["a"]));
        bench.image_ready("a");
        let failure = exec_error(&bench);
        bench.start_failed("a", 0, failure);
        let status = bench.machine.status();
        assert_eq!(shown(&status.container_statuses[0]), state);
        assert_eq!(status.phase, phase, "{policy:?}");
        assert_eq!(status.container_statuses[0].restart_count, 0);
        let ended = policy == RestartPolicy::Never;
        assert_eq!(bench.machine.stage() == Stage::StoppingSandbox, ended);
        assert_eq!(
            status.container_statuses[0].last_state.as_ref().map(|e| e.exit_code),
            (!ended).then_some(128)
        );
    }
}

#[test]
fn a_failed_attempt_after_a_run_keeps_its_end_in_sight() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.start("a", 0);
    bench.exited("a", 0, 7);
    bench.image_ready("a");
    bench.start_failed("a", 1, config_error());
    let status = &bench.machine.status().container_statuses[0];
    assert_eq!(shown(status), "Waiting CreateContainerConfigError");
    assert_eq!(status.last_state.as_ref().map(|end| end.exit_code), Some(7));
    assert_eq!(bench.machine.status().phase, Phase::Running);
    // First the back-off of the crash that the try has begun is over, then the error's wait.
    assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("a")]));
}

#[test]
fn volumes_and_sandbox_are_tried_again() {
    let mut bench = Bench::new(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.step(Input::Created);
    let mut waits = Vec::new();
    for _ in 0..11 {
        assert_eq!(bench.step(Input::VolumesFailed { message: "no".to_owned() }), []);
        let before = bench.boot;
        assert_eq!(bench.tick_at_deadline().1, [Action::PrepareVolumes]);
        waits.push(bench.boot.saturating_sub(before).as_millis());
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 64000, 122_000, 122_000, 122_000]);
    bench.step(Input::VolumesReady);
    assert_eq!(bench.step(Input::SandboxFailed { message: "no".to_owned() }), []);
    assert_eq!(bench.tick_at_deadline(), (10, vec![Action::CreateSandbox]));
    let events = bench.take_events();
    assert_eq!(events[0], "FailedMount: no");
    assert_eq!(events[11], "FailedCreatePodSandBox: Failed to create pod sandbox: no");
}

#[test]
fn onfailure_ends_when_all_have_succeeded() {
    let mut bench = Bench::ready(&pod(RestartPolicy::OnFailure, &[], &["a", "b"]));
    bench.start("a", 0);
    bench.start("b", 0);
    assert_eq!(bench.exited("a", 0, 0), []);
    assert_eq!(bench.exited("b", 0, 1), [ensure("b")]);
    bench.start("b", 1);
    assert_eq!(bench.exited("b", 1, 0), [remove("b", 0), Action::StopSandbox]);
    let status = bench.machine.status();
    assert_eq!(status.phase, Phase::Running);
    assert_eq!(status.conditions[2].reason.as_deref(), Some("PodCompleted"));
    assert_eq!(bench.step(Input::SandboxStopped), [Action::CleanUp]);
    assert_eq!(bench.machine.status().phase, Phase::Succeeded);
    assert!(!bench.machine.status().conditions[0].status);
    assert_eq!(bench.step(Input::CleanedUp), [Action::Finish { remove: false }]);
    assert_eq!(bench.delete(None), [Action::Finish { remove: true }]);
    assert_eq!(bench.delete(None), []);
}

#[test]
fn the_loss_of_the_sandbox_begins_anew_or_ends_by_policy() {
    let rebuilds = [
        // policy, exit code of a before the loss, whether there is a new sandbox, containers started in it
        (RestartPolicy::Always, None, true, vec!["i", "b", "a"]),
        (RestartPolicy::Always, Some(0), true, vec!["i", "b", "a"]),
        (RestartPolicy::OnFailure, Some(0), true, vec!["i", "b"]),
        (RestartPolicy::Never, Some(0), false, vec![]),
        (RestartPolicy::Never, None, false, vec![]),
    ];
    for (policy, exit, rebuilt, order) in rebuilds {
        let mut bench = Bench::ready(&pod(policy, &["i"], &["b", "a"]));
        bench.start("i", 0);
        bench.exited("i", 0, 0);
        bench.start("b", 0);
        bench.start("a", 0);
        if let Some(code) = exit {
            bench.exited("a", 0, code);
            if policy == RestartPolicy::Always {
                bench.start("a", 1);
            }
        }
        let actions = bench.step(Input::SandboxLost);
        assert!(actions.contains(&Action::StopSandbox), "{policy:?} {exit:?}: {actions:?}");
        let status = bench.machine.status();
        assert_eq!(shown(&status.container_statuses[1]), "Terminated 137 ContainerStatusUnknown");
        assert!(!status.conditions[0].status && !status.conditions[2].status && status.conditions[1].status);
        let next = bench.step(Input::SandboxStopped);
        if !rebuilt {
            assert_eq!(next, [Action::CleanUp], "{policy:?} {exit:?}");
            assert_eq!(bench.machine.status().phase, Phase::Failed);
            continue;
        }
        assert_eq!(next, [Action::CreateSandbox], "{policy:?} {exit:?}");
        assert!(bench.events().iter().any(|e| e.reason == "SandboxChanged" && e.field_path.is_none()));
        bench.step(Input::SandboxReady { pod_ips: vec!["10.0.0.3".to_owned()] });
        let mut started = Vec::new();
        for _ in 0..20 {
            let Some(Action::EnsureImage { container: Some(container), .. }) =
                bench.machine.outstanding().first().cloned()
            else {
                if bench.machine.deadline().is_some() {
                    bench.tick_at_deadline();
                }
                continue;
            };
            let attempt = match bench.image_ready(&container).first() {
                Some(Action::Start { attempt, .. }) => *attempt,
                other => panic!("{other:?}"),
            };
            assert!(attempt > 0);
            bench.started(&container, attempt);
            if container == "i" {
                assert_eq!(bench.machine.status().phase, Phase::Pending);
                bench.exited("i", attempt, 0);
            }
            started.push(container);
        }
        assert_eq!(started, order, "{policy:?} {exit:?}");
        assert_eq!(bench.machine.status().pod_ips, ["10.0.0.3"]);
        assert_eq!(bench.machine.status().phase, Phase::Running);
    }
}

#[test]
fn a_start_that_was_under_way_when_the_sandbox_was_lost_gets_a_new_number() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.image_ready("a");
    assert_eq!(bench.step(Input::SandboxLost), [Action::StopSandbox]);
    assert_eq!(bench.started("a", 0), []);
    assert_eq!(bench.step(Input::SandboxStopped), [remove("a", 0), Action::CreateSandbox]);
    bench.step(Input::SandboxReady { pod_ips: Vec::new() });
    assert_eq!(bench.image_ready("a"), [start("a", 1)]);
}

#[test]
fn termination_messages_share_12_kib() {
    let names: Vec<_> = (0..6).map(|i| format!("c{i}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::ready(&pod(RestartPolicy::Never, &[], &names));
    for name in &names {
        bench.start(name, 0);
    }
    // Six containers: 2048 bytes each; the last two-byte character would be cut in half.
    let message = format!("x{}", "é".repeat(2000));
    bench.exited_with("c0", 0, ExitStatus::Code(1), false, &message);
    bench.exited_with("c1", 0, ExitStatus::Code(1), false, "short");
    let status = bench.machine.status();
    let length = |i: usize| match &status.container_statuses[i].state {
        ContainerState::Terminated(end) => end.message.as_ref().map(String::len),
        _ => None,
    };
    assert_eq!((length(0), length(1)), (Some(2047), Some(5)));
}

#[test]
fn inputs_that_do_not_fit_are_ignored() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    let before = bench.machine.status();
    assert_eq!(bench.step(Input::Created), []);
    assert_eq!(bench.step(Input::VolumesReady), []);
    assert_eq!(bench.step(Input::SandboxStopped), []);
    assert_eq!(bench.step(Input::CleanedUp), []);
    assert_eq!(bench.image_ready("nobody"), []);
    assert_eq!(bench.started("a", 0), [], "its image is not here yet");
    assert_eq!(bench.exited("a", 0, 1), [], "it does not run");
    assert_eq!(bench.machine.status(), before);
    bench.start("a", 0);
    assert_eq!(bench.started("a", 0), [], "twice");
    assert_eq!(bench.exited("a", 1, 1), [], "another attempt");
    assert_eq!(shown(&bench.machine.status().container_statuses[0]), "Running");
}

#[test]
fn volume_mounts_stand_in_the_status_from_the_beginning() {
    let mut one = pod(RestartPolicy::Always, &[], &[]);
    let mut c = container("a");
    c.volume_mounts = vec![common::mount("v", "/v"), common::mount("w", "/w")];
    c.volume_mounts[1].read_only = true;
    one.spec.containers.push(c);
    let mut bench = Bench::new(&one);
    bench.step(Input::Created);
    let mounts = &bench.machine.status().container_statuses[0].volume_mounts;
    assert_eq!(mounts.iter().map(|m| m.mount_path.as_str()).collect::<Vec<_>>(), ["/v", "/w"]);
    assert_eq!(mounts.iter().map(|m| m.recursive_read_only).collect::<Vec<_>>(), [None, Some(false)]);
}
