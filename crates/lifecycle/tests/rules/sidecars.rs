//! Semantics 2.4 and 8.3: how sidecars start, and how they stop.

use std::time::Duration;

use crate::story::story;

/// Returns a Pod with so many sidecars and regular containers.
fn spec(sidecars: usize, regular: usize, grace: u64, hook: &str) -> String {
    let sidecar = |n| format!("{{name: s{n}, image: i, restartPolicy: Always{hook}}}");
    let container = |n| format!("{{name: c{n}, image: i}}");
    format!(
        "terminationGracePeriodSeconds: {grace}, initContainers: [{}], containers: [{}]",
        (1..=sidecars).map(sidecar).collect::<Vec<_>>().join(", "),
        (1..=regular).map(container).collect::<Vec<_>>().join(", "),
    )
}

/// The rule, written down a second time: seconds after the deletion at which each sidecar, from the last to the first, gets
/// its signal and ends.
fn rule(grace: u64, regular_takes: &[u64], sidecars_take: &[u64]) -> Vec<(u64, u64)> {
    let ends = |signal: u64, left: u64, takes: u64| signal + takes.min(left.max(2));
    let mut turn = regular_takes.iter().map(|&takes| ends(0, grace, takes)).max().unwrap_or(0);
    let mut found = Vec::new();
    for &takes in sidecars_take.iter().rev() {
        let signal = turn.min(grace);
        let end = ends(signal, grace - signal, takes);
        found.push((signal, end));
        turn = end;
    }
    found
}

#[test]
fn sidecars_get_their_signal_behind_the_containers_and_in_reverse_order() {
    let takes = [0, 1, 3, 100];
    let mut cases = 0;
    for grace in [1, 2, 5, 10] {
        for first in takes {
            for second in takes {
                for s1 in takes {
                    for s2 in takes {
                        for s3 in [0, 3] {
                            let script = format!(
                                "0s:term:c1={first}s 0s:term:c2={second}s 0s:term:s1={s1}s 0s:term:s2={s2}s 0s:term:s3={s3}s 20s:delete={grace}"
                            );
                            let life = story(&spec(3, 2, 30, ""), &script);
                            let expected = rule(grace, &[first, second], &[s1, s2, s3]);
                            for (name, (signal, end)) in ["s3", "s2", "s1"].into_iter().zip(expected) {
                                let signal = format!("{} term {name}", 20 + signal);
                                assert!(
                                    life.stops().contains(&signal),
                                    "{script}: {signal}\n{}",
                                    life.text()
                                );
                                let end = Duration::from_secs(20 + end);
                                assert_eq!(life.ended(name), Some(end), "{script}: {name}\n{}", life.text());
                            }
                            let outlives =
                                |c| life.ended("s1") >= life.ended(c) && life.ended("s3") >= life.ended(c);
                            let in_time = grace >= 2 + first.max(second).min(grace);
                            assert!(!in_time || (outlives("c1") && outlives("c2")), "{script}");
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 2048);
}

#[test]
fn hooks_of_sidecars_do_not_wait_for_their_turn() {
    let hook = ", lifecycle: {preStop: {exec: {command: [x]}}}";
    let life =
        story(&spec(2, 1, 20, hook), "0s:hook:s1/preStop=1s 0s:hook:s2/preStop=6s 0s:term:c1=4s 5s:delete");
    assert_eq!(
        life.stops(),
        ["5 term c1", "5 hook s2", "5 hook s1", "11 term s2", "11 term s1", "11 sandbox"],
        "{}",
        life.text()
    );
}

#[test]
fn whoever_does_not_run_blocks_nobody() {
    for (script, stops) in [
        // The one between is in its back-off.
        ("0s:run:s2=1s/1 5s:delete", vec!["5 term c1", "5 term s3", "5 term s1", "5 sandbox"]),
        // The last one is: those before it wait for the container alone.
        ("0s:run:s3=1s/1 0s:term:c1=2s 5s:delete", vec!["5 term c1", "7 term s2", "7 term s1", "7 sandbox"]),
        // The next one is still being started.
        ("0s:start:s2=20s 5s:delete", vec!["5 term s1", "20 term s2", "20 sandbox"]),
        // A container that is still being started counts: its sidecars are there for it.
        ("0s:start:c1=9s 5s:delete", vec!["9 term c1", "9 term s3", "9 term s2", "9 term s1", "9 sandbox"]),
    ] {
        let life = story(&spec(3, 1, 30, ""), script);
        assert_eq!(life.stops(), stops, "{script}\n{}", life.text());
    }
}

#[test]
fn sidecars_do_not_keep_a_finished_pod_alive() {
    for policy in ["Never", "OnFailure"] {
        for (code, phase) in [(0, "Succeeded"), (3, "Failed")] {
            if policy == "OnFailure" && code != 0 {
                continue;
            }
            let spec = format!("restartPolicy: {policy}, {}", spec(2, 2, 30, ""));
            // How they end does not matter.
            let script = format!("0s:term:s1=7 0s:ignore-term:s2 4s:exit:c1=0 5s:exit:c2={code}");
            let life = story(&spec, &script);
            assert_eq!(life.stops(), ["5 term s2", "35 kill s2", "35 term s1", "35 sandbox"], "{policy}");
            assert_eq!(
                life.phases(),
                ["0 Pending".to_owned(), "0 Running".to_owned(), format!("35 {phase}")]
            );
            assert_eq!(life.events(&["Killing"]).len(), 2);
            // A sidecar that ends while the Pod ends stays so.
            let life =
                story(&spec, &format!("0s:ignore-term:s2 5s:exit:c1=0 5s:exit:c2={code} 8s:exit:s2=1"));
            assert_eq!(life.starts().len(), 4, "{policy}");
        }
    }
}

#[test]
fn a_sidecar_in_its_back_off_is_lost_at_the_natural_end_and_keeps_its_exit_at_a_deletion() {
    let spec = format!("restartPolicy: Never, {}", spec(1, 1, 30, ""));
    let life = story(&spec, "0s:run:s1=2s/1 8s:exit:c1=0");
    let state = life.states("s1").pop().expect("a state");
    assert_eq!(state, "8 ContainerStatusUnknown(137)", "{}", life.text());
    let s1 = &life.status().init_container_statuses[0];
    assert_eq!(s1.last_state.as_ref().map(|end| end.exit_code), Some(1));
    let life = story(&spec, "0s:run:s1=2s/1 8s:delete");
    assert_eq!(life.states("s1").pop().expect("a state"), "8 Error(1)");
}

#[test]
fn init_containers_and_sidecars_start_in_spec_order_and_wait_for_each_other() {
    let spec = "initContainers: [{name: s1, image: i, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 60}},
                {name: j1, image: i}, {name: s2, image: i, restartPolicy: Always}, {name: j2, image: i}],
                containers: [{name: c, image: i}]";
    for (script, starts) in [
        ("", vec!["0 s1#0", "0 j1#0", "1 s2#0", "1 j2#0", "2 c#0"]),
        (
            "0s:probe:s1/startup=fail 4s:probe:s1/startup=ok",
            vec!["0 s1#0", "4 j1#0", "5 s2#0", "5 j2#0", "6 c#0"],
        ),
        // A sidecar that ends comes back beside the init container that runs.
        ("0s:run:j1=9s/0 3s:exit:s1=1", vec!["0 s1#0", "0 j1#0", "3 s1#1", "9 s2#0", "9 j2#0", "10 c#0"]),
        // It has to come up again before what is behind it.
        (
            "0s:run:j1=9s/0 3s:exit:s1=1 3s:probe:s1/startup=fail 20s:probe:s1/startup=ok",
            vec!["0 s1#0", "0 j1#0", "3 s1#1", "9 s2#0", "9 j2#0", "10 c#0"],
        ),
        // An init container that fails is retried; the sidecars before it run on.
        (
            "0s:run:j2=1s/1 3s:run:j2=1s/0",
            vec!["0 s1#0", "0 j1#0", "1 s2#0", "1 j2#0", "2 j2#1", "13 j2#2", "14 c#0"],
        ),
        // A sidecar that cannot be started holds back what is behind it, and is retried.
        (
            "0s:start:s2=error 8s:start:s2=ok",
            vec!["0 s1#0", "0 j1#0", "1 s2#0", "11 s2#0", "11 j2#0", "12 c#0"],
        ),
        // Once a container runs, only sidecars are started again.
        (
            "5s:exit:s2=0 6s:exit:s1=0",
            vec!["0 s1#0", "0 j1#0", "1 s2#0", "1 j2#0", "2 c#0", "5 s2#1", "6 s1#1"],
        ),
    ] {
        let life = story(spec, script);
        assert_eq!(life.starts(), starts, "{script}\n{}", life.text());
    }
}

#[test]
fn a_failed_init_container_ends_the_pod_with_its_sidecars() {
    let spec = "restartPolicy: Never, initContainers: [{name: s, image: i, restartPolicy: Always}, {name: j, image: i}],
                containers: [{name: c, image: i}]";
    let life = story(spec, "0s:run:j=3s/1 0s:term:s=2s");
    assert_eq!(life.starts(), ["0 s#0", "0 j#0"]);
    assert_eq!(life.stops(), ["3 term s", "5 sandbox"]);
    assert_eq!(life.phases(), ["0 Pending", "5 Failed"]);
    assert_eq!(life.states("c").pop().expect("a state"), "0 Waiting PodInitializing");
}
