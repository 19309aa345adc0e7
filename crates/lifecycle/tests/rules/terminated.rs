//! Semantics 3: waiting and terminated reasons, `lastState`, `restartCount`, and the end of containers that never ran.

use crate::story::{find, story};

const C: &str = "containers: [{name: c, image: i}]";

#[test]
fn each_failure_to_start_has_its_reason() {
    for (script, init, reason) in [
        ("0s:volumes=fail", "", "ContainerCreating"),
        ("0s:volumes=fail", "initContainers: [{name: j, image: i}], ", "PodInitializing"),
        ("0s:sandbox=fail", "", "ContainerCreating"),
        ("0s:pull:c=60s", "", "ContainerCreating"),
        ("0s:pull:c=absent", "", "ErrImageNeverPull"),
        ("0s:pull:c=fail", "", "ImagePullBackOff"),
        ("0s:start:c=error", "", "CreateContainerError"),
        ("0s:start:c=fail", "", "CrashLoopBackOff"),
        ("0s:run:c=0s/1", "", "CrashLoopBackOff"),
    ] {
        let life = story(&format!("{init}{C}"), &format!("{script} 30s:delete"));
        let states = life.states("c");
        assert!(states.iter().any(|s| s.ends_with(&format!("Waiting {reason}"))), "{script}: {states:?}");
    }
    // What failed last shows before the back-off, at the first failure and later.
    assert_eq!(
        story(C, "0s:pull:c=fail 25s:delete").states("c")[1..5],
        [
            "0 Waiting ErrImagePull",
            "0 Waiting ImagePullBackOff",
            "10 Waiting ErrImagePull",
            "10 Waiting ImagePullBackOff"
        ]
    );
    assert_eq!(story(C, "0s:start:c=fail").states("c")[1], "0 Waiting RunContainerError");
}

#[test]
fn how_a_run_ended_is_told_exactly() {
    for (script, state) in [
        ("5s:exit:c=0", "5 Completed(0)"),
        ("5s:exit:c=3", "5 Error(3)"),
        ("5s:oom:c", "5 OOMKilled(137)"),
        ("0s:start:c=fail", "0 StartError(128)"),
        ("5s:delete=0", "5 Error(137)"),
        ("0s:ignore-term:c 5s:delete=4", "9 Error(137)"),
        ("0s:term:c=143 5s:delete", "5 Error(143)"),
        ("5s:sandbox-lost", "5 ContainerStatusUnknown(137)"),
    ] {
        let life = story(&format!("restartPolicy: Never, {C}"), script);
        assert_eq!(life.states("c").last().expect("a state"), state, "{script}\n{}", life.text());
    }
}

#[test]
fn last_state_is_the_run_before_and_restart_count_its_number() {
    let life = story(C, "5s:exit:c=1 6s:exit:c=2 30s:exit:c=3");
    for (at, count, last) in
        [(0, 0, None), (5, 1, Some(1)), (8, 1, Some(2)), (16, 2, Some(2)), (31, 2, Some(3))]
    {
        let c = find(life.at(at), "c").expect("c");
        assert_eq!(c.restart_count, count, "{at}\n{}", life.text());
        assert_eq!(c.last_state.as_ref().map(|end| end.exit_code), last, "{at}");
        let id = format!("podrun://UID_c_{count}");
        assert_eq!(c.container_id, id, "{at}");
    }
}

#[test]
fn a_deleted_pod_declares_lost_what_should_have_run() {
    let init = "initContainers: [{name: j1, image: i}, {name: j2, image: i}], ";
    let sidecar = "initContainers: [{name: s1, image: i, restartPolicy: Always}, {name: s2, image: i, restartPolicy: Always}], ";
    let codes = |spec: &str, script: &str| {
        let life = story(spec, script);
        let status = life.status();
        let all = status.init_container_statuses.iter().chain(&status.container_statuses);
        all.map(|c| match &c.state {
            podrun_spec::status::ContainerState::Terminated(end) => end.exit_code,
            _ => -1,
        })
        .collect::<Vec<_>>()
    };
    let two = "containers: [{name: c, image: i}, {name: d, image: other}]";
    for (init, script, expected) in [
        ("", "0s:pull:c=fail 5s:delete", vec![137, 0]),
        ("", "0s:sandbox=fail 5s:delete", vec![137, 137]),
        (init, "0s:pull:j1=fail 5s:delete", vec![137, -1, -1, -1]),
        (init, "0s:pull:j2=fail 5s:delete", vec![0, -1, -1, -1]),
        (init, "0s:run:j2=60s/0 5s:delete", vec![0, 0, -1, -1]),
        (init, "0s:pull:c=fail 0s:pull:d=fail 5s:delete", vec![0, 0, 137, 137]),
        (sidecar, "0s:pull:s1=absent 5s:delete", vec![137, -1, -1, -1]),
        (sidecar, "0s:pull:s2=absent 5s:delete", vec![0, -1, -1, -1]),
        (sidecar, "0s:pull:c=fail 5s:delete", vec![0, 0, 137, 0]),
    ] {
        assert_eq!(codes(&format!("{init}{two}"), script), expected, "{init} {script}");
    }
}

#[test]
fn the_phase_never_leaves_its_end_and_comes_when_nothing_runs() {
    for script in [
        "5s:exit:c=0",
        "5s:exit:c=1",
        "5s:delete",
        "0s:ignore-term:c 5s:delete=9",
        "5s:sandbox-lost",
        "5s:evict=big. ",
    ] {
        let life = story(&format!("restartPolicy: Never, {C}"), script);
        let mut ended = false;
        for status in life.statuses() {
            assert!(!ended || status.phase.is_terminal(), "{script}");
            ended |= status.phase.is_terminal();
            let runs = find(status, "c")
                .is_some_and(|c| matches!(c.state, podrun_spec::status::ContainerState::Running { .. }));
            assert!(!(ended && runs), "{script}");
        }
        assert!(ended, "{script}");
    }
}
