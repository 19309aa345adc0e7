//! Semantics 10: Pods that have to wait for room, and Pods that a node rejects.

use crate::story::story;

const SPEC: &str = "containers: [{name: c, image: i}], readinessGates: [{conditionType: x/gate}]";

#[test]
fn a_pod_without_room_is_pending_and_starts_when_there_is_some() {
    let text = "0/1 nodes are available: 1 Insufficient cpu.";
    let more = "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.";
    let life = story(
        SPEC,
        &format!("0s:unschedulable={text} 3s:unschedulable={text} 4s:unschedulable={more} 9s:admit"),
    );
    let before = life.at(3);
    assert_eq!(
        (before.phase.as_str(), before.start_time, before.observed_generation),
        ("Pending", None, None)
    );
    assert!(before.container_statuses.is_empty());
    assert_eq!(before.conditions.len(), 1);
    let c = &before.conditions[0];
    assert_eq!((c.kind.as_str(), c.status), ("PodScheduled", false));
    assert_eq!((c.reason.as_deref(), c.message.as_deref()), (Some("Unschedulable"), Some(text)));
    assert_eq!(life.at(8).conditions[0].message.as_deref(), Some(more));
    assert_eq!(
        life.events(&["FailedScheduling"]),
        [format!("0 FailedScheduling: {text}"), format!("4 FailedScheduling: {more}")]
    );
    assert_eq!(life.condition("PodScheduled"), ["0 False Unschedulable", "9 True"]);
    assert_eq!(life.starts(), ["9 c#0"]);
    assert_eq!(life.status().start_time.map(podrun_spec::time::Timestamp::unix_seconds), Some(9));
}

#[test]
fn a_rejected_pod_fails_and_nothing_is_known_of_its_containers() {
    for (reason, message) in [
        ("OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000000, used: 0, capacity: 2000"),
        ("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"),
        ("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
    ] {
        for script in ["", " 0s:unschedulable=none", " 3s:delete"] {
            let life = story(SPEC, &format!("0s:reject:{reason}={message}{script}"));
            let status = life.status();
            assert_eq!(status.phase.as_str(), "Failed", "{script}");
            assert_eq!(status.reason.as_deref(), Some(reason));
            assert_eq!(status.message.as_deref(), Some(format!("Pod was rejected: {message}").as_str()));
            assert!(status.conditions.is_empty() && status.container_statuses.is_empty());
            assert!(status.start_time.is_some());
            assert_eq!(life.events(&[reason]), [format!("0 {reason}: {message}")]);
            assert!(life.starts().is_empty() && life.stops().is_empty());
        }
    }
    // After a wait, the wait is forgotten.
    let life = story(SPEC, "0s:unschedulable=none 0s:condition:x/gate=True 5s:reject:Why=so");
    let kinds: Vec<_> = life.status().conditions.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(kinds, ["x/gate"]);
}

#[test]
fn neither_can_be_said_of_a_pod_that_was_accepted() {
    let life = story(SPEC, "2s:unschedulable=none 3s:reject:Why=so");
    assert_eq!(life.phases(), ["0 Pending", "0 Running"]);
    assert!(life.events(&["FailedScheduling", "Why"]).is_empty());
}

#[test]
fn a_pod_that_waits_for_room_can_be_deleted() {
    let life = story(SPEC, "0s:unschedulable=none 5s:delete");
    assert_eq!(life.status().phase.as_str(), "Failed");
    assert!(life.starts().is_empty() && life.stops().is_empty());
}
