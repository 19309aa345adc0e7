//! The machine, driven with the facts of recordings of a real kubelet, goes through the recorded statuses in order.
//!
//! It may show more: statuses that live shorter than one sync of a kubelet. Differences that are meant stand with the
//! recording, each kind with its reason. Recordings that are left out stand in `LEFT_OUT`. Left out of the comparison
//! everywhere:
//! - times (the kubelet's waits are jittered; the rules of times have tests of their own);
//! - `podIP`, which podrun shows with the sandbox and the kubelet one sync later; `hostIP`; `resources`;
//! - statuses that differ only in what is left out.

mod common;
mod recording;

use recording::{Recording, replay};
use serde_json::Value;

/// A deliberate difference.
#[derive(Clone, Copy, PartialEq)]
enum Difference {
    /// The container of a failed exec shows no `user`: there was no process that had one.
    NoUserAfterStartError,
    /// The kubelet, having dropped the older record, repeats the ended run as its own predecessor.
    LastStateIsThePredecessor,
    /// The API object is gone at once; podrun still shows how the containers ended.
    OutlivesTheObject,
    /// What a restart of all containers has removed is not ready and has no id any more; the kubelet keeps both where the
    /// container had ended before.
    RemovedHasNoId,
    /// Containers die with the sandbox and how they ended is lost; the kubelet's outlive it and are stopped.
    DiesWithTheSandbox,
    /// A kubelet without an API server has no generation, and its own list shows the terminal phase before everything has ended.
    StaticPod,
    /// The replay asks for the deletion while the container is still being stopped, and with it the generation is another.
    DeletedBeforeItsEnd,
    /// The kubelet's client drops events when it has sent 25 about one object; here those of the deletion.
    DropsLastEvents,
    /// At this time the kubelet shows the sandbox gone and the phase Running; podrun's phase is terminal with the sandbox.
    TerminalWithTheSandbox(f64),
    /// At this time the kubelet had not yet drawn a conclusion; podrun draws them in the same step.
    ConcludesAtOnce(f64),
    /// At this time the container waits as at the end of the Pod, before it is declared lost; podrun does both at once.
    LostAtOnce(f64),
}

impl Difference {
    /// Returns the time of a recorded status that podrun does not show.
    const fn not_shown(self) -> Option<f64> {
        match self {
            TerminalWithTheSandbox(t) | ConcludesAtOnce(t) | LostAtOnce(t) => Some(t),
            _ => None,
        }
    }
}

use Difference::*;

const RECORDINGS: &[(&str, &[Difference])] = &[
    ("bad-command-always", &[NoUserAfterStartError, LastStateIsThePredecessor]),
    ("bad-command", &[NoUserAfterStartError]),
    ("bad-workdir", &[NoUserAfterStartError]),
    ("completed-then-delete", &[]),
    ("configmap-env-missing", &[]),
    ("configmap-volume-missing", &[]),
    ("container-restart-never-under-always", &[]),
    ("container-restart-rule", &[]),
    ("crash-loop", &[]),
    ("deadline-init", &[]),
    ("deadline-term-ignored", &[]),
    ("deadline", &[]),
    ("delete-crash-loop", &[]),
    ("delete-during-init", &[]),
    ("delete-grace-override", &[]),
    ("delete-grace-shortened", &[]),
    ("delete-grace-zero", &[OutlivesTheObject]),
    ("delete-pending-volume", &[]),
    ("delete-while-image-pull", &[]),
    ("emptydir-limit-evicted-137", &[DeletedBeforeItsEnd]),
    ("emptydir-limit-evicted", &[]),
    ("exit-signal", &[]),
    ("exit-while-kubelet-down", &[]),
    ("host-network", &[]),
    ("hostpath-missing", &[]),
    ("hostport-conflict", &[]),
    ("image-invalid-name", &[]),
    ("image-never-absent", &[]),
    ("image-not-found", &[]),
    ("image-pulled", &[]),
    ("image-second-unreachable", &[]),
    ("image-unreachable", &[]),
    ("init-fail-always", &[]),
    ("init-fail-never", &[]),
    ("init-fail-onfailure-then-ok", &[]),
    ("init-ok", &[]),
    ("kubelet-restart", &[ConcludesAtOnce(2.39)]),
    ("liveness-exec-never", &[TerminalWithTheSandbox(2.28)]),
    ("liveness-exec-timeout", &[]),
    ("liveness-exec", &[LastStateIsThePredecessor]),
    ("liveness-http", &[]),
    ("liveness-kill-137", &[]),
    ("node-selector-mismatch", &[]),
    ("oom-pid1", &[]),
    ("oom-restart", &[]),
    ("os-windows", &[]),
    ("out-of-cpu", &[]),
    ("out-of-memory", &[]),
    ("poststart-fail", &[LastStateIsThePredecessor]),
    ("poststart-slow", &[]),
    ("prestop-fail", &[]),
    ("prestop-overrun", &[]),
    ("prestop", &[]),
    ("readiness-exec", &[]),
    ("readiness-gate", &[ConcludesAtOnce(2.32), ConcludesAtOnce(4.35)]),
    ("readiness-http-404", &[]),
    ("readiness-http-ok", &[]),
    ("readiness-tcp", &[]),
    ("readiness-terminating", &[]),
    ("restart-all-containers", &[RemovedHasNoId, DropsLastEvents, ConcludesAtOnce(5.62)]),
    ("run-always-exit0", &[]),
    ("run-as-non-root-violation", &[]),
    ("run-delete-term", &[]),
    ("run-never-failed", &[]),
    ("run-never-succeeded", &[]),
    ("run-onfailure-retry", &[]),
    ("sandbox-killed", &[DiesWithTheSandbox, ConcludesAtOnce(3.44), ConcludesAtOnce(3.8)]),
    ("sidecar-crash", &[LostAtOnce(22.73)]),
    ("sidecar-grace-exceeded", &[]),
    ("sidecar-image-missing", &[]),
    ("sidecar-job", &[TerminalWithTheSandbox(4.65)]),
    ("sidecar-order", &[]),
    ("sidecar-readiness", &[]),
    ("startup-fail", &[LastStateIsThePredecessor]),
    ("startup-slow", &[]),
    ("static-crash-loop", &[StaticPod, OutlivesTheObject]),
    ("static-deadline", &[StaticPod]),
    ("static-delete", &[StaticPod, OutlivesTheObject]),
    ("static-hostport-conflict", &[StaticPod]),
    ("static-node-selector", &[StaticPod]),
    ("static-run-never", &[StaticPod]),
    ("subpath-expr-dotdot", &[]),
    ("subpath-symlink", &[]),
    ("sysctl-forbidden", &[]),
    ("term-ignored-never", &[]),
    ("term-ignored", &[]),
    ("termination-message", &[]),
    ("two-mixed-always", &[]),
    ("two-mixed-never", &[]),
    ("two-mixed-onfailure", &[]),
];

/// Recordings that are not replayed, each with its reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("defaults", "no Pod was run; podrun-spec compares it"),
    ("ephemeral-container", "a container is added to a running Pod, which podrun does not do"),
    (
        "kubelet-restart-young",
        "a new agent forgets the verdicts of containers younger than 10 s; podrun's supervisor keeps them",
    ),
    ("resize-cpu", "resources are changed in a running Pod, which podrun does not do"),
    ("validation", "no Pod was run; podrun-spec compares it"),
];

/// Returns what is wrong with the replay of a recording, empty if nothing is.
fn check(name: &str, differences: &[Difference]) -> Vec<String> {
    let recording = Recording::load(name);
    let ours = replay(&recording);
    let mut expected: Vec<_> = recording.times().into_iter().zip(recording.statuses()).collect();
    expected.retain(|(t, _)| !differences.iter().any(|d| d.not_shown() == Some(*t)));
    let mut expected: Vec<_> = expected.into_iter().map(|(_, status)| status).collect();
    let mut found = ours.statuses;
    for difference in differences {
        for statuses in [&mut expected, &mut found] {
            difference.level(statuses);
        }
    }
    expected.dedup();
    found.dedup();

    let mut wrong = Vec::new();
    let mut rest = found.iter();
    for (at, status) in expected.iter().enumerate() {
        if !rest.any(|s| s == status) {
            wrong.push(format!(
                "{name}: recorded status {at} is not shown (or not in this order):\n  {status}"
            ));
            wrong.extend(found.iter().map(|s| format!("  shown: {s}")));
            return wrong;
        }
    }
    if !differences.contains(&OutlivesTheObject) && rest.next().is_some() {
        wrong.push(format!("{name}: shows more after the last recorded status: {}", found[found.len() - 1]));
    }
    let missing = recording
        .events()
        .difference(&ours.events)
        .map(|e| format!("{name}: no event {e:?}"))
        .collect::<Vec<_>>();
    let extra = ours
        .events
        .difference(&recording.events())
        .filter(|e| !differences.contains(&DropsLastEvents) || !e.3.starts_with("Stopping container"))
        .map(|e| format!("{name}: event {e:?}"))
        .collect::<Vec<_>>();
    wrong.extend(missing);
    wrong.extend(extra);
    wrong
}

impl Difference {
    /// Makes statuses equal in what differs on purpose.
    fn level(self, statuses: &mut [Value]) {
        match self {
            NoUserAfterStartError => recording::each_container(statuses, |c| {
                c.remove("user");
            }),
            LastStateIsThePredecessor => recording::each_container(statuses, |c| {
                if c["state"].get("terminated").is_some() {
                    c.remove("lastState");
                }
            }),
            RemovedHasNoId => recording::each_container(statuses, |c| {
                if c["state"]["waiting"][0] == "RestartingAllContainers" {
                    for key in ["ready", "id", "imageID", "user"] {
                        c.remove(key);
                    }
                }
            }),
            DiesWithTheSandbox => recording::each_container(statuses, |c| {
                for key in ["state", "lastState"] {
                    if c["name"] == "c" && c[key].get("terminated").is_some() {
                        c[key] = "ended".into();
                    }
                }
            }),
            StaticPod => statuses.iter_mut().for_each(level_static),
            DeletedBeforeItsEnd => statuses.iter_mut().for_each(forget_generation),
            OutlivesTheObject
            | DropsLastEvents
            | TerminalWithTheSandbox(_)
            | ConcludesAtOnce(_)
            | LostAtOnce(_) => {}
        }
    }
}

fn forget_generation(status: &mut Value) {
    status["observedGeneration"] = Value::Null;
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition[4] = Value::Null;
    }
}

fn level_static(status: &mut Value) {
    forget_generation(status);
    status["qosClass"] = Value::Null;
    let mut has_sandbox = false;
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        has_sandbox |= condition[0] == "PodReadyToStartContainers" && condition[1] == "True";
    }
    let is_early = has_sandbox && (status["phase"] == "Succeeded" || status["phase"] == "Failed");
    if is_early {
        status["phase"] = "Running".into();
        status["reason"] = Value::Null;
        status["message"] = Value::Null;
    }
}

#[test]
fn every_recorded_status_is_shown_in_order() {
    let wrong: Vec<_> = RECORDINGS.iter().flat_map(|(name, differences)| check(name, differences)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recording_is_replayed() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    for entry in std::fs::read_dir(directory).expect("the recordings") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        if let Some(name) = name.strip_suffix(".json") {
            assert!(RECORDINGS.iter().any(|(listed, _)| *listed == name), "{name}");
        }
    }
    for (name, reason) in LEFT_OUT {
        assert!(!RECORDINGS.iter().any(|(listed, _)| listed == name), "{name} is left out: {reason}");
    }
    assert_eq!(RECORDINGS.len(), 90, "of 93 recordings of Pods");
}
