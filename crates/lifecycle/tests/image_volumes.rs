//! Images that are volumes: looked for before the container's own, and missed by the containers that mount them only. One
//! that nobody mounts is pulled all the same, and nobody waits for it.

mod common;

use std::time::Duration;

use common::{Bench, image_volume, mount, pod, start};
use podrun_lifecycle::{Action, Input, Machine, PodEvent, PulledImage};
use podrun_spec::model::{Pod, PullPolicy, RestartPolicy, VolumeSource};
use podrun_spec::status::{ContainerState, Phase};

/// Returns a Pod of which `a` mounts the images `data:1` and `data:2`, and `b` none.
fn with_images() -> Pod {
    let mut pod = pod(RestartPolicy::Always, &[], &["a", "b"]);
    pod.spec.volumes = vec![image_volume("v1", "data:1"), image_volume("v2", "data:2")];
    // The same volume in two places is one image.
    pod.spec.containers[0].volume_mounts = vec![mount("v2", "/2"), mount("v1", "/1"), mount("v1", "/other")];
    pod
}

fn ensure(container: &str, volume: Option<&str>) -> Action {
    Action::EnsureImage { container: Some(container.to_owned()), volume: volume.map(str::to_owned) }
}

fn ready(bench: &mut Bench, volume: Option<&str>, pulled: Option<PulledImage>) -> Vec<Action> {
    ready_for(bench, Some("a"), volume, pulled)
}

fn ready_for(
    bench: &mut Bench,
    container: Option<&str>,
    volume: Option<&str>,
    pulled: Option<PulledImage>,
) -> Vec<Action> {
    let (container, volume) = (container.map(str::to_owned), volume.map(str::to_owned));
    bench.step(Input::ImageReady { container, volume, image_id: "sha256:1".to_owned(), pulled })
}

fn failed(bench: &mut Bench, volume: &str, reason: &str) -> Vec<Action> {
    failed_for(bench, Some("a"), volume, reason)
}

fn failed_for(bench: &mut Bench, container: Option<&str>, volume: &str, reason: &str) -> Vec<Action> {
    let (container, volume) = (container.map(str::to_owned), Some(volume.to_owned()));
    bench.step(Input::ImageFailed { container, volume, reason: reason.to_owned(), message: "why".to_owned() })
}

/// Returns a Pod whose container `a` mounts none of the images `data:1` and `data:2`.
fn unmounted() -> Pod {
    let mut pod = pod(RestartPolicy::Always, &[], &["a"]);
    pod.spec.volumes = vec![image_volume("v1", "data:1"), image_volume("v2", "data:2")];
    pod
}

fn ensure_unmounted(volume: &str) -> Action {
    Action::EnsureImage { container: None, volume: Some(volume.to_owned()) }
}

/// Returns the events as `object reason: message` and forgets them.
fn told(bench: &mut Bench) -> Vec<String> {
    let line = |event: &&PodEvent| {
        let about = event.field_path.as_deref().unwrap_or("pod");
        format!("{about} {}: {}", event.reason, event.message)
    };
    let lines = bench.events().iter().map(line).collect();
    bench.actions.clear();
    lines
}

fn waiting(bench: &Bench, container: usize) -> (String, String) {
    match &bench.machine.status().container_statuses[container].state {
        ContainerState::Waiting { reason, message } => (reason.clone(), message.clone().unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn they_are_ensured_one_after_the_other_before_the_containers_own() {
    let mut bench = Bench::new(&with_images());
    bench.step(Input::Created);
    bench.step(Input::VolumesReady);
    assert_eq!(bench.step(Input::SandboxReady { pod_ips: Vec::new() }), [ensure("a", Some("v1"))]);
    // Answers about others are late or wrong.
    assert_eq!(ready(&mut bench, None, None), []);
    assert_eq!(ready(&mut bench, Some("v2"), None), []);
    assert_eq!(ready(&mut bench, Some("v1"), None), [ensure("a", Some("v2"))]);
    bench.step(Input::ImagePulling { container: Some("a".to_owned()), volume: Some("v2".to_owned()) });
    bench.boot += Duration::from_secs(2);
    let pulled = Some(PulledImage { took: Duration::from_secs(1), bytes: 7 });
    assert_eq!(ready(&mut bench, Some("v2"), pulled), [ensure("a", None)]);
    assert_eq!(ready(&mut bench, None, None), [start("a", 0)]);
    assert_eq!(
        told(&mut bench),
        [
            "pod Pulled: Container image \"data:1\" already present on machine",
            "pod Pulling: Pulling image \"data:2\"",
            "pod Pulled: Successfully pulled image \"data:2\" in 1s (2s including waiting). Image size: 7 bytes.",
            "spec.containers{a} Pulled: Container image \"localhost/test:1\" already present on machine",
        ]
    );
}

#[test]
fn with_always_the_pull_is_announced_when_it_is_asked_for() {
    let mut pod = with_images();
    pod.spec.volumes[0].source =
        VolumeSource::Image { reference: "data".to_owned(), pull_policy: PullPolicy::Always };
    let mut bench = Bench::ready(&pod);
    assert_eq!(told(&mut bench), ["pod Pulling: Pulling image \"data\""]);
}

#[test]
fn what_cannot_be_pulled_is_told_of_the_container_that_mounts_it_and_backed_off_from() {
    let mut bench = Bench::ready(&with_images());
    assert_eq!(ready(&mut bench, Some("v1"), None), [ensure("a", Some("v2"))]);
    told(&mut bench);
    // The next container is not kept waiting.
    assert_eq!(failed(&mut bench, "v2", "ErrImagePull"), [ensure("b", None)]);
    assert_eq!(
        told(&mut bench),
        [
            "pod Pulling: Pulling image \"data:2\"",
            "pod Failed: Failed to pull image \"data:2\": why",
            "spec.containers{a} Failed: Error: ErrImagePull",
        ]
    );
    assert_eq!(waiting(&bench, 0), ("ErrImagePull".to_owned(), "why".to_owned()));
    bench.start("b", 0);
    let back_off = "Back-off pulling image \"data:2\": ErrImagePull: why";
    assert_eq!(waiting(&bench, 0), ("ImagePullBackOff".to_owned(), back_off.to_owned()));
    assert_eq!(
        told(&mut bench)[1..3],
        [
            "pod BackOff: Back-off pulling image \"data:2\"",
            "spec.containers{a} Failed: Error: ImagePullBackOff"
        ]
    );
    for wait in [10, 20, 40] {
        assert_eq!(bench.tick_at_deadline(), (wait, vec![ensure("a", Some("v1"))]));
        assert_eq!(ready(&mut bench, Some("v1"), None), [ensure("a", Some("v2"))]);
        assert_eq!(failed(&mut bench, "v2", "ErrImagePull"), []);
        assert_eq!(bench.tick_at_deadline(), (0, vec![]), "the failure is shown before the back-off");
    }
}

#[test]
fn an_image_that_is_never_pulled_is_looked_for_again_after_10_seconds() {
    let mut bench = Bench::ready(&with_images());
    told(&mut bench);
    assert_eq!(failed(&mut bench, "v1", "ErrImageNeverPull"), [ensure("b", None)]);
    assert_eq!(
        told(&mut bench),
        ["pod ErrImageNeverPull: why", "spec.containers{a} Failed: Error: ErrImageNeverPull"]
    );
    assert_eq!(waiting(&bench, 0).0, "ErrImageNeverPull");
    bench.start("b", 0);
    assert_eq!(bench.tick_at_deadline(), (10, vec![ensure("a", Some("v1"))]));
}

#[test]
fn a_supervisor_that_takes_over_asks_for_the_same_image() {
    let pod = with_images();
    let mut bench = Bench::ready(&pod);
    ready(&mut bench, Some("v1"), None);
    let state = serde_json::to_string(bench.machine.state()).expect("a state is JSON");
    let restored = Machine::restore(&pod, serde_json::from_str(&state).expect("it was just written"));
    assert_eq!(restored.outstanding(), [ensure("a", Some("v2"))]);
}

#[test]
fn a_container_that_is_restarted_asks_again() {
    let mut bench = Bench::ready(&with_images());
    for volume in [Some("v1"), Some("v2")] {
        ready(&mut bench, volume, None);
    }
    bench.start("a", 0);
    bench.start("b", 0);
    assert_eq!(bench.exited("a", 0, 0), [ensure("a", Some("v1"))]);
}

#[test]
fn images_that_nobody_mounts_are_pulled_beside_the_start() {
    let mut bench = Bench::new(&unmounted());
    bench.step(Input::Created);
    bench.step(Input::VolumesReady);
    let first = [common::ensure("a"), ensure_unmounted("v1")];
    assert_eq!(bench.step(Input::SandboxReady { pod_ips: Vec::new() }), first);
    // The start does not wait, and neither does what runs.
    bench.start("a", 0);
    assert_eq!(bench.machine.deadline(), None);
    assert_eq!(bench.exited("a", 0, 1), [common::ensure("a")]);
    bench.start("a", 1);
    told(&mut bench);
    // Answers about others are late or wrong.
    assert_eq!(ready_for(&mut bench, None, Some("v2"), None), []);
    assert_eq!(ready_for(&mut bench, None, None, None), []);
    assert_eq!(ready_for(&mut bench, Some("a"), Some("v1"), None), []);
    bench.step(Input::ImagePulling { container: None, volume: Some("v1".to_owned()) });
    bench.boot += Duration::from_secs(2);
    let pulled = Some(PulledImage { took: Duration::from_secs(1), bytes: 7 });
    assert_eq!(ready_for(&mut bench, None, Some("v1"), pulled), [ensure_unmounted("v2")]);
    assert_eq!(ready_for(&mut bench, None, Some("v2"), None), []);
    assert_eq!(
        told(&mut bench),
        [
            "pod Pulling: Pulling image \"data:1\"",
            "pod Pulled: Successfully pulled image \"data:1\" in 1s (2s including waiting). Image size: 7 bytes.",
            "pod Pulled: Container image \"data:2\" already present on machine",
        ]
    );
    // They are here from now on.
    assert_eq!(bench.machine.deadline(), None);
    assert_eq!(bench.machine.outstanding(), []);
}

#[test]
fn a_failed_pull_that_nobody_waits_for_is_told_and_backed_off_from() {
    let mut bench = Bench::ready(&unmounted());
    bench.start("a", 0);
    let status = bench.machine.status();
    told(&mut bench);
    assert_eq!(failed_for(&mut bench, None, "v1", "ErrImagePull"), [ensure_unmounted("v2")]);
    let failure = [
        "pod Pulling: Pulling image \"data:1\"",
        "pod Failed: Failed to pull image \"data:1\": why",
        "pod BackOff: Back-off pulling image \"data:1\"",
    ];
    assert_eq!(told(&mut bench), failure);
    // One is asked for at a time.
    bench.pass(60);
    assert_eq!(bench.tick(), []);
    assert_eq!(ready_for(&mut bench, None, Some("v2"), None), [ensure_unmounted("v1")]);
    told(&mut bench);
    for wait in [20, 40, 80] {
        assert_eq!(failed_for(&mut bench, None, "v1", "ErrImagePull"), []);
        assert_eq!(told(&mut bench), failure);
        assert_eq!(bench.tick_at_deadline(), (wait, vec![ensure_unmounted("v1")]));
    }
    assert_eq!(ready_for(&mut bench, None, Some("v1"), None), []);
    assert_eq!(bench.machine.deadline(), None);
    assert_eq!(bench.machine.status(), status, "no status tells of it");
}

#[test]
fn an_image_that_nobody_mounts_and_that_is_never_pulled_is_looked_for_with_each_sync() {
    let mut bench = Bench::ready(&unmounted());
    bench.start("a", 0);
    told(&mut bench);
    for reason in ["ErrImageNeverPull", "InvalidImageName", "ImageInspectError"] {
        failed_for(&mut bench, None, "v1", reason);
        let event = if reason == "ErrImageNeverPull" { reason } else { "InspectFailed" };
        assert_eq!(told(&mut bench), [format!("pod {event}: why")]);
        ready_for(&mut bench, None, Some("v2"), None);
        assert_eq!(bench.tick_at_deadline(), (60, vec![ensure_unmounted("v1")]));
        told(&mut bench);
    }
}

#[test]
fn who_waits_for_the_same_pull_makes_the_wait_no_longer() {
    let mut pod = unmounted();
    pod.spec.volumes = vec![image_volume("v1", &pod.spec.containers[0].image)];
    let mut bench = Bench::ready(&pod);
    assert_eq!(failed_for(&mut bench, None, "v1", "ErrImagePull"), []);
    bench.image_failed("a", "ErrImagePull", "why");
    bench.tick();
    assert_eq!(waiting(&bench, 0).0, "ImagePullBackOff");
    assert_eq!(bench.tick_at_deadline(), (10, vec![common::ensure("a"), ensure_unmounted("v1")]));
}

#[test]
fn a_supervisor_that_takes_over_goes_on_with_an_image_that_nobody_mounts() {
    let pod = unmounted();
    let mut bench = Bench::ready(&pod);
    bench.start("a", 0);
    ready_for(&mut bench, None, Some("v1"), None);
    let state = serde_json::to_string(bench.machine.state()).expect("a state is JSON");
    bench.machine = Machine::restore(&pod, serde_json::from_str(&state).expect("it was just written"));
    assert_eq!(bench.machine.outstanding(), [ensure_unmounted("v2")]);
    // The loss of a sandbox ends no pull, and all are looked for again with the next one.
    assert_eq!(bench.step(Input::SandboxLost), [Action::StopSandbox]);
    assert_eq!(bench.step(Input::SandboxStopped), [Action::CreateSandbox]);
    assert_eq!(ready_for(&mut bench, None, Some("v2"), None), []);
    let next = [common::ensure("a"), ensure_unmounted("v1")];
    assert_eq!(bench.step(Input::SandboxReady { pod_ips: Vec::new() }), next);
}

#[test]
fn a_pod_that_ends_waits_for_no_image() {
    let mut pod = unmounted();
    pod.spec.restart_policy = RestartPolicy::Never;
    let mut bench = Bench::ready(&pod);
    bench.start("a", 0);
    assert_eq!(bench.exited("a", 0, 0), [Action::StopSandbox]);
    assert_eq!(bench.machine.outstanding(), [Action::StopSandbox]);
    told(&mut bench);
    assert_eq!(failed_for(&mut bench, None, "v1", "ErrImagePull"), []);
    assert_eq!(bench.step(Input::SandboxStopped), [Action::CleanUp]);
    bench.step(Input::CleanedUp);
    assert_eq!(bench.machine.deadline(), None);
    assert_eq!(bench.machine.status().phase, Phase::Succeeded);
    assert!(told(&mut bench).is_empty());
}
