//! The machine, driven with the facts of recordings of a real kubelet, goes through the recorded statuses in order.
//!
//! It may show more: statuses that live shorter than one sync of a kubelet. Differences that are meant stand in
//! `DIFFERENCES`, each with its reason. Left out of the comparison everywhere:
//! - times (the kubelet's waits are jittered; the rules of times have tests of their own);
//! - the number in `observedGeneration`: the API server raises the generation when deletion is asked for;
//! - `podIP`, which podrun shows with the sandbox and the kubelet one sync later; `hostIP`; `resources`;
//! - statuses that differ only in what is left out.

mod common;
mod recording;

use recording::{Recording, replay};

/// A deliberate difference.
enum Difference {
    /// The container of a failed exec shows no `user`: there was no process that had one.
    NoUserAfterStartError,
    /// The kubelet, having dropped the older record, repeats the ended run as its own predecessor.
    LastStateIsThePredecessor,
    /// The API object is gone at once; podrun still shows how the containers ended.
    OutlivesTheObject,
}

use Difference::{LastStateIsThePredecessor, NoUserAfterStartError, OutlivesTheObject};

const RECORDINGS: &[(&str, &[Difference])] = &[
    ("bad-command", &[NoUserAfterStartError]),
    ("bad-command-always", &[NoUserAfterStartError, LastStateIsThePredecessor]),
    ("bad-workdir", &[NoUserAfterStartError]),
    ("completed-then-delete", &[]),
    ("configmap-env-missing", &[]),
    ("crash-loop", &[]),
    ("delete-crash-loop", &[]),
    ("delete-during-init", &[]),
    ("delete-grace-override", &[]),
    ("delete-grace-shortened", &[]),
    ("delete-grace-zero", &[OutlivesTheObject]),
    ("delete-pending-volume", &[]),
    ("delete-while-image-pull", &[]),
    ("exit-signal", &[]),
    ("image-invalid-name", &[]),
    ("image-never-absent", &[]),
    ("image-not-found", &[]),
    ("image-pulled", &[]),
    ("image-second-unreachable", &[]),
    ("init-fail-always", &[]),
    ("init-fail-never", &[]),
    ("init-fail-onfailure-then-ok", &[]),
    ("init-ok", &[]),
    ("oom-pid1", &[]),
    ("oom-restart", &[]),
    ("run-always-exit0", &[]),
    ("run-as-non-root-violation", &[]),
    ("run-delete-term", &[]),
    ("run-never-failed", &[]),
    ("run-never-succeeded", &[]),
    ("run-onfailure-retry", &[]),
    ("term-ignored", &[]),
    ("term-ignored-never", &[]),
    ("termination-message", &[]),
    ("two-mixed-always", &[]),
    ("two-mixed-never", &[]),
    ("two-mixed-onfailure", &[]),
];

/// Returns what is wrong with the replay of a recording, empty if nothing is.
fn check(name: &str, differences: &[Difference]) -> Vec<String> {
    let recording = Recording::load(name);
    let ours = replay(&recording);
    let (mut expected, mut found) = (recording.statuses(), ours.statuses);
    let mut outlives = false;
    for difference in differences {
        match difference {
            NoUserAfterStartError => {
                for statuses in [&mut expected, &mut found] {
                    recording::each_container(statuses, |c| {
                        c.remove("user");
                    });
                }
            }
            LastStateIsThePredecessor => {
                for statuses in [&mut expected, &mut found] {
                    recording::each_container(statuses, |c| {
                        if c["state"].get("terminated").is_some() {
                            c.remove("lastState");
                        }
                    });
                }
            }
            OutlivesTheObject => outlives = true,
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
    if !outlives && rest.next().is_some() {
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
        .map(|e| format!("{name}: event {e:?}"))
        .collect::<Vec<_>>();
    wrong.extend(missing);
    wrong.extend(extra);
    wrong
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
}
