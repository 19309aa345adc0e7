//! Rules of deletion, one test each, under a clock that the test moves.

mod common;

use std::time::Duration;

use common::{Bench, ensure, kill, pod, signal, start};
use podrun_lifecycle::{Action, ExitStatus, Input, Machine, Stage, StartFailure, State};
use podrun_spec::model::RestartPolicy;
use podrun_spec::status::{ContainerState, Phase};

fn running(grace: u64, containers: &[&str]) -> Bench {
    let mut pod = pod(RestartPolicy::Always, &[], containers);
    pod.spec.termination_grace_period = Duration::from_secs(grace);
    let mut bench = Bench::ready(&pod);
    for container in containers {
        bench.start(container, 0);
    }
    bench
}

/// Answers what is left to answer until the machine has finished.
fn finish(bench: &mut Bench) -> Vec<Action> {
    assert_eq!(bench.machine.stage(), Stage::StoppingSandbox);
    assert_eq!(bench.step(Input::SandboxStopped), [Action::CleanUp]);
    bench.step(Input::CleanedUp)
}

#[test]
fn the_grace_is_the_deletes_or_the_pods_and_at_least_two_seconds() {
    for (spec, asked, seconds) in [
        (30, None, 30),
        (0, None, 2),
        (1, None, 2),
        (30, Some(1), 2),
        (30, Some(2), 2),
        (30, Some(5), 5),
        (5, Some(60), 60),
    ] {
        let mut bench = running(spec, &["a"]);
        assert_eq!(bench.delete(asked), [signal("a", 0)]);
        assert_eq!(bench.tick_at_deadline(), (seconds, vec![kill("a", 0)]), "spec {spec}, asked {asked:?}");
        assert_eq!(bench.machine.deadline(), None);
    }
}

#[test]
fn no_grace_is_immediate_at_once_or_later() {
    let mut bench = running(30, &["a", "b"]);
    assert_eq!(bench.delete(Some(0)), [kill("a", 0), kill("b", 0)]);
    let mut bench = running(30, &["a", "b"]);
    assert_eq!(bench.delete(None), [signal("a", 0), signal("b", 0)]);
    bench.exited("a", 0, 0);
    assert_eq!(bench.delete(Some(0)), [kill("b", 0)]);
    assert_eq!(bench.delete(Some(0)), []);
}

#[test]
fn a_shorter_grace_does_not_interrupt_a_stop() {
    let mut bench = running(60, &["a"]);
    bench.delete(Some(30));
    bench.pass(3);
    assert_eq!(bench.delete(Some(1)), []);
    assert_eq!(bench.tick_at_deadline(), (27, vec![kill("a", 0)]));
}

#[test]
fn a_shorter_grace_counts_for_what_was_not_told_to_stop_yet() {
    for (second, seconds) in [(5, 5), (60, 30)] {
        let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
        bench.image_ready("a");
        bench.delete(Some(30));
        bench.delete(Some(second));
        assert_eq!(bench.started("a", 0), [signal("a", 0)]);
        assert_eq!(bench.tick_at_deadline(), (seconds, vec![kill("a", 0)]));
    }
}

#[test]
fn the_sandbox_is_stopped_after_the_last_container() {
    let mut bench = running(30, &["a", "b"]);
    bench.delete(None);
    assert_eq!(bench.exited("a", 0, 0), []);
    assert_eq!(bench.tick_at_deadline(), (30, vec![kill("b", 0)]));
    assert_eq!(bench.exited_with("b", 0, ExitStatus::Signal(9), false, ""), [Action::StopSandbox]);
    assert_eq!(bench.machine.status().phase, Phase::Running);
    assert_eq!(finish(&mut bench), [Action::Finish { remove: true }]);
    assert_eq!(bench.machine.status().phase, Phase::Failed);
    let killing: Vec<_> =
        bench.events().iter().filter(|e| e.reason == "Killing").map(|e| e.message.clone()).collect();
    assert_eq!(killing, ["Stopping container a", "Stopping container b"]);
}

#[test]
fn the_phase_of_a_deleted_pod_is_what_its_containers_ended_with() {
    for (codes, phase) in [([0, 0], Phase::Succeeded), ([0, 143], Phase::Failed)] {
        let mut bench = running(30, &["a", "b"]);
        bench.delete(None);
        bench.exited("a", 0, codes[0]);
        bench.exited("b", 0, codes[1]);
        finish(&mut bench);
        assert_eq!(bench.machine.status().phase, phase);
    }
}

#[test]
fn nothing_starts_after_a_delete() {
    // While it waits for its restart.
    let mut bench = running(30, &["a"]);
    bench.exited("a", 0, 1);
    bench.start("a", 1);
    bench.exited("a", 1, 1);
    bench.tick_at_deadline();
    assert_eq!(bench.delete(None), [Action::StopSandbox]);
    let state = &bench.machine.status().container_statuses[0].state;
    assert!(matches!(state, ContainerState::Terminated(end) if end.exit_code == 1), "{state:?}");
    assert_eq!(bench.machine.deadline(), None);
    finish(&mut bench);

    // While its image is looked for: the answer comes too late.
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    assert_eq!(bench.delete(None), [Action::StopSandbox]);
    assert_eq!(bench.image_ready("a"), []);
    assert_eq!(finish(&mut bench), [Action::Finish { remove: true }]);
}

#[test]
fn a_start_under_way_is_waited_for_and_stopped() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a", "b"]));
    assert_eq!(bench.image_ready("a"), [start("a", 0)]);
    assert_eq!(bench.delete(None), []);
    assert_eq!(bench.started("a", 0), [signal("a", 0)]);
    assert_eq!(bench.exited("a", 0, 0), [Action::StopSandbox]);

    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.image_ready("a");
    bench.delete(None);
    let failure =
        StartFailure::Config { reason: "CreateContainerError".to_owned(), message: "no".to_owned() };
    assert_eq!(bench.start_failed("a", 0, failure), [Action::StopSandbox]);

    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &[], &["a"]));
    bench.image_ready("a");
    assert_eq!(bench.delete(Some(0)), [Action::StopSandbox], "no grace waits for nothing");
}

#[test]
fn a_request_under_way_is_waited_for_unless_there_is_no_grace() {
    let fresh = || Bench::new(&pod(RestartPolicy::Always, &[], &["a"]));

    let mut bench = fresh();
    assert_eq!(bench.delete(None), [Action::CleanUp], "before it was created");

    let mut bench = fresh();
    bench.step(Input::Created);
    assert_eq!(bench.delete(None), []);
    assert_eq!(bench.step(Input::VolumesReady), [Action::CleanUp]);

    let mut bench = fresh();
    bench.step(Input::Created);
    bench.step(Input::VolumesFailed { message: "no".to_owned() });
    assert_eq!(bench.delete(None), [Action::CleanUp]);

    let mut bench = fresh();
    bench.step(Input::Created);
    assert_eq!(bench.delete(Some(0)), [Action::CleanUp]);

    let mut bench = fresh();
    bench.step(Input::Created);
    bench.step(Input::VolumesReady);
    assert_eq!(bench.delete(None), []);
    assert_eq!(bench.step(Input::SandboxReady { pod_ips: Vec::new() }), [Action::StopSandbox]);

    let mut bench = fresh();
    bench.step(Input::Created);
    bench.step(Input::VolumesReady);
    assert_eq!(bench.delete(Some(0)), [Action::StopSandbox]);
}

#[test]
fn the_sandbox_may_be_lost_while_containers_stop() {
    let mut bench = running(30, &["a"]);
    bench.delete(None);
    assert_eq!(bench.step(Input::SandboxLost), [Action::StopSandbox]);
    finish(&mut bench);
    let status = bench.machine.status();
    assert_eq!(status.phase, Phase::Failed);
    let ContainerState::Terminated(end) = &status.container_statuses[0].state else { panic!("{status:?}") };
    assert_eq!((end.exit_code, end.reason.as_str()), (137, "ContainerStatusUnknown"));
    assert_eq!(
        end.message.as_deref(),
        Some("The container could not be located when the pod was terminated")
    );
    assert!(end.started_at.is_some() && end.finished_at.is_some());

    let mut bench = running(30, &["a"]);
    bench.step(Input::SandboxLost);
    assert_eq!(bench.delete(None), [], "the sandbox is being stopped already");
    assert_eq!(finish(&mut bench), [Action::Finish { remove: true }]);
}

#[test]
fn containers_that_never_ran_end_unknown_where_the_pod_was_initialized() {
    let end = |bench: &Bench| {
        let status = bench.machine.status();
        let code = |list: &[podrun_spec::status::ContainerStatus]| {
            list.iter()
                .map(|c| match &c.state {
                    ContainerState::Terminated(end) => Some(end.exit_code),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        (code(&status.init_container_statuses), code(&status.container_statuses))
    };
    // Deleted before the first init container ran.
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &["i1", "i2"], &["a"]));
    bench.delete(None);
    finish(&mut bench);
    assert_eq!(end(&bench), (vec![Some(137), None], vec![None]));
    // Deleted while the second one runs.
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &["i1", "i2"], &["a"]));
    bench.start("i1", 0);
    bench.exited("i1", 0, 0);
    bench.start("i2", 0);
    assert_eq!(bench.delete(None), [signal("i2", 0)]);
    bench.exited("i2", 0, 0);
    finish(&mut bench);
    assert_eq!(
        end(&bench),
        (vec![Some(0), Some(0)], vec![None]),
        "it was not initialized when it was deleted"
    );
    // Deleted while the image of the second regular container is looked for.
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &["i1"], &["a", "b"]));
    bench.start("i1", 0);
    bench.exited("i1", 0, 0);
    bench.start("a", 0);
    bench.delete(None);
    bench.exited("a", 0, 0);
    finish(&mut bench);
    assert_eq!(end(&bench), (vec![Some(0)], vec![Some(0), Some(137)]));
    assert_eq!(bench.machine.status().phase, Phase::Failed);
    assert_eq!(bench.machine.status().conditions[2].reason.as_deref(), Some("ContainersNotReady"));
}

#[test]
fn a_delete_during_the_natural_end_removes_the_pod() {
    for stopped in [false, true] {
        let mut bench = Bench::ready(&pod(RestartPolicy::Never, &[], &["a"]));
        bench.start("a", 0);
        assert_eq!(bench.exited("a", 0, 0), [Action::StopSandbox]);
        if stopped {
            bench.step(Input::SandboxStopped);
            assert_eq!(bench.delete(None), []);
            assert_eq!(bench.step(Input::CleanedUp), [Action::Finish { remove: true }]);
        } else {
            assert_eq!(bench.delete(None), []);
            assert_eq!(finish(&mut bench), [Action::Finish { remove: true }]);
        }
        assert_eq!(bench.machine.status().phase, Phase::Succeeded);
    }
}

#[test]
fn a_supervisor_that_takes_over_goes_on_where_the_other_stopped() {
    let pod = pod(RestartPolicy::Always, &[], &["a", "b"]);
    let mut bench = Bench::ready(&pod);
    bench.start("a", 0);
    let text = serde_json::to_string(bench.machine.state()).expect("it is written");
    let state: State = serde_json::from_str(&text).expect("it is read");
    assert_eq!(&state, bench.machine.state());
    let restored = Machine::restore(&pod, state);
    assert_eq!(restored.status(), bench.machine.status());
    assert_eq!(restored.outstanding(), [ensure("b")]);

    bench.machine = restored;
    bench.start("b", 0);
    assert_eq!(bench.machine.outstanding(), []);
    bench.delete(None);
    assert_eq!(bench.machine.outstanding(), [signal("a", 0), signal("b", 0)]);
    bench.tick_at_deadline();
    assert_eq!(bench.machine.outstanding(), [kill("a", 0), kill("b", 0)]);
    bench.exited("a", 0, 0);
    bench.exited("b", 0, 0);
    assert_eq!(bench.machine.outstanding(), [Action::StopSandbox]);
    finish(&mut bench);
    assert_eq!(bench.machine.outstanding(), [Action::Finish { remove: true }]);
}

#[test]
fn the_state_of_another_pod_does_not_panic() {
    let mut bench = Bench::ready(&pod(RestartPolicy::Always, &["i"], &["a", "b", "c"]));
    bench.start("i", 0);
    bench.exited("i", 0, 0);
    bench.start("a", 0);
    bench.start("b", 0);
    let other = pod(RestartPolicy::Always, &[], &["a"]);
    bench.machine = Machine::restore(&other, bench.machine.state().clone());
    bench.tick();
    bench.delete(None);
    bench.machine.outstanding();
}
