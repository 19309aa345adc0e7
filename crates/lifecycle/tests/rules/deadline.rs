//! Semantics 15.1 and 15.6: Pods that have been active for too long, and evictions.

use crate::story::{find, shown, story};

const TEXT: &str = "Pod was active on the node longer than the specified deadline";

#[test]
fn a_pod_is_failed_when_its_time_is_up_whatever_its_containers_do() {
    for policy in ["Always", "OnFailure", "Never"] {
        for code in [0, 143] {
            let spec = format!(
                "restartPolicy: {policy}, activeDeadlineSeconds: 5, containers: [{{name: c, image: i}}]"
            );
            let life = story(&spec, &format!("0s:term:c={code} 2s:exit:c=0 2s:exit:c=0"));
            if policy != "Always" {
                assert_eq!(life.status().phase.as_str(), "Succeeded", "it was over before");
                continue;
            }
            assert_eq!(life.phases().last().expect("a phase"), "5 Failed");
            let status = life.status();
            assert_eq!(
                (status.reason.as_deref(), status.message.as_deref()),
                (Some("DeadlineExceeded"), Some(TEXT))
            );
            assert_eq!(life.events(&["DeadlineExceeded"]), [format!("5 DeadlineExceeded: {TEXT}")]);
        }
    }
}

#[test]
fn the_phase_comes_when_the_containers_have_ended_within_the_pods_grace() {
    let spec = "activeDeadlineSeconds: 5, terminationGracePeriodSeconds: 7,
                initContainers: [{name: s, image: i, restartPolicy: Always}], containers: [{name: c, image: i}]";
    let life = story(spec, "0s:ignore-term:c");
    assert_eq!(life.stops(), ["5 term c", "12 kill c", "12 term s", "12 sandbox"]);
    assert_eq!(life.phases(), ["0 Pending", "0 Running", "12 Failed"]);
    assert_eq!(life.at(8).reason, None);
    assert_eq!(life.condition("Ready"), ["0 False ContainersNotReady", "0 True", "5 False PodFailed"]);
    assert_eq!(find(life.at(8), "c").map(shown).expect("c"), "Running started ready");
    // A deletion that comes then does not interrupt it.
    let life = story(spec, "0s:ignore-term:c 6s:delete=2");
    assert_eq!(life.stops()[1], "12 kill c");
    assert_eq!(life.status().reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn it_counts_from_the_acceptance_and_waits_for_what_is_under_way() {
    let spec = |more: &str| format!("activeDeadlineSeconds: 5, containers: [{{name: c, image: i{more}}}]");
    let hook = ", lifecycle: {postStart: {exec: {command: [x]}}}";
    for (more, script, at) in [
        ("", "0s:unschedulable=none 20s:admit", 25),
        ("", "0s:pull:c=3s 0s:run:c=on", 5),
        ("", "0s:pull:c=9s 0s:run:c=on", 9),
        ("", "0s:start:c=9s 0s:run:c=on", 9),
        (hook, "0s:hook:c/postStart=9s 0s:run:c=on", 9),
        // What failed is not under way.
        ("", "0s:pull:c=fail 0s:run:c=on", 5),
        ("", "0s:volumes=fail 0s:run:c=on", 5),
        ("", "0s:sandbox=fail 0s:run:c=on", 5),
        ("", "0s:run:c=1s/1 9s:run:c=on", 5),
    ] {
        let life = story(&spec(more), script);
        assert_eq!(
            life.events(&["DeadlineExceeded"]),
            [format!("{at} DeadlineExceeded: {TEXT}")],
            "{script}"
        );
        assert_eq!(
            life.phases().last().expect("a phase"),
            &format!("{at} Failed"),
            "{script}\n{}",
            life.text()
        );
    }
}

#[test]
fn it_ends_init_containers_and_restarts_of_everything() {
    let spec =
        "activeDeadlineSeconds: 5, initContainers: [{name: j, image: i}], containers: [{name: c, image: i}]";
    let life = story(spec, "0s:run:j=60s/0");
    assert_eq!(life.stops(), ["5 term j", "5 sandbox"]);
    assert_eq!(life.states("c"), ["0 Waiting PodInitializing"]);
    let rule = "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [8]}}]";
    let spec = format!(
        "activeDeadlineSeconds: 5, terminationGracePeriodSeconds: 3, containers: [{{name: c, image: i}}, {{name: d, image: i, {rule}}}]"
    );
    let life = story(&spec, "0s:ignore-term:c 4s:exit:d=8");
    assert_eq!(life.stops(), ["4 term c", "6 kill c", "6 sandbox"]);
    assert_eq!(life.status().reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn an_evicted_pod_has_a_second_and_may_still_succeed() {
    let spec = "containers: [{name: c, image: i}]";
    let text = "Usage of EmptyDir volume \"d\" exceeds the limit \"1Mi\". ";
    for (script, stops, phase, reason) in [
        ("", vec!["5 term c", "5 sandbox"], "Succeeded", None),
        ("0s:term:c=143 ", vec!["5 term c", "5 sandbox"], "Failed", Some("Evicted")),
        ("0s:ignore-term:c ", vec!["5 term c", "7 kill c", "7 sandbox"], "Failed", Some("Evicted")),
        ("0s:pull:c=fail ", vec!["5 sandbox"], "Failed", Some("Evicted")),
    ] {
        let life = story(spec, &format!("{script}5s:evict={text}"));
        assert_eq!(life.stops(), stops, "{script}");
        assert_eq!(
            (life.status().phase.as_str(), life.status().reason.as_deref()),
            (phase, reason),
            "{script}"
        );
        assert_eq!(life.status().message.as_deref(), reason.map(|_| text), "{script}");
        assert_eq!(life.events(&["Evicted"]), [format!("5 Evicted: {text}")]);
    }
    // A Pod that ends already is not evicted.
    assert!(story(spec, "0s:ignore-term:c 4s:delete 5s:evict=big. ").events(&["Evicted"]).is_empty());
}
