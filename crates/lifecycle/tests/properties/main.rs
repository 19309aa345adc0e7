//! What holds for every machine, whatever it is told and in whichever order.

#[path = "../common/mod.rs"]
mod common;
mod pods;
mod world;

use std::time::Duration;

use podrun_lifecycle::{Action, ExitStatus, Input, Machine, PulledImage, Stage};
use podrun_spec::model::{HookKind, ProbeKind};
use podrun_spec::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use common::Bench;
use pods::any_pod;
use world::{Move, World};

fn any_input() -> impl Strategy<Value = Input> {
    let names = ["i1", "i2", "a", "b", "nobody"];
    let container = move || (0..names.len()).prop_map(move |i| names[i].to_owned());
    // An image is a container's own, or that of a volume which a container may mount.
    let image = move || {
        let volume = prop_oneof![Just(None), Just(Some("v".to_owned())), Just(Some("w".to_owned()))];
        (prop::option::weighted(0.7, container()), volume)
    };
    let attempt = || 0..4_u32;
    prop_oneof![
        Just(Input::Created),
        Just(Input::Tick),
        Just(Input::VolumesReady),
        Just(Input::SandboxReady { pod_ips: Vec::new() }),
        Just(Input::SandboxStopped),
        Just(Input::CleanedUp),
        Just(Input::Unschedulable { message: String::new() }),
        Just(Input::Rejected { reason: "Late".to_owned(), message: String::new() }),
        any::<bool>().prop_map(|status| Input::ConditionSet {
            kind: "x/gate".to_owned(),
            status,
            reason: None,
            message: None
        }),
        (container(), attempt(), any::<bool>()).prop_map(|(container, attempt, post)| Input::HookDone {
            container,
            attempt,
            hook: if post { HookKind::PostStart } else { HookKind::PreStop },
            failure: Some("no".to_owned()),
            event: None,
        }),
        image().prop_map(|(container, volume)| Input::ImagePulling { container, volume }),
        image().prop_map(|(container, volume)| Input::ImageReady {
            container,
            volume,
            image_id: String::new(),
            pulled: Some(PulledImage { took: Duration::ZERO, bytes: 0 })
        }),
        (container(), attempt()).prop_map(|(container, attempt)| Input::Started {
            container,
            attempt,
            at: Timestamp(0),
            user: common::user()
        }),
        (container(), attempt(), any::<i64>()).prop_map(|(container, attempt, at)| Input::Exited {
            container,
            attempt,
            status: ExitStatus::Lost,
            oom_killed: true,
            message: String::new(),
            at: Timestamp(at),
        }),
    ]
}

fn any_move() -> impl Strategy<Value = Move> {
    let kind = prop_oneof![Just(ProbeKind::Startup), Just(ProbeKind::Liveness), Just(ProbeKind::Readiness)];
    let delete = prop_oneof![Just(None), Just(Some(u64::MAX)), (0..40_u64).prop_map(Some)];
    prop_oneof![
        // Mostly the oldest action is answered, and well.
        12 => (prop_oneof![4 => Just(0), 1 => 0..8_usize], prop::bool::weighted(0.8))
            .prop_map(|(which, well)| Move::Answer { which, well }),
        4 => (0..8_usize, prop_oneof![Just(0), Just(1), Just(137)])
            .prop_map(|(which, code)| Move::Exit { which, code }),
        4 => (0..8_usize, kind, prop::bool::weighted(0.6))
            .prop_map(|(which, kind, healthy)| Move::Probe { which, kind, healthy }),
        4 => prop_oneof![0..3000_u64, 0..400_000_u64].prop_map(|millis| Move::Pass { millis }),
        1 => any_input().prop_map(Move::Noise),
        1 => delete.prop_map(Move::Delete),
        1 => Just(Move::LoseSandbox),
        1 => Just(Move::TakeOver),
    ]
}

/// An image that nothing but volumes have that no container mounts.
const SPARE: &str = "spare:1";

/// Returns what becomes of the image of a volume; none where it is not known yet.
fn any_answer() -> impl Strategy<Value = Option<fn(String) -> Input>> {
    let pulling: fn(String) -> Input = |volume| Input::ImagePulling { container: None, volume: Some(volume) };
    let ready: fn(String) -> Input = |volume| Input::ImageReady {
        container: None,
        volume: Some(volume),
        image_id: String::new(),
        pulled: None,
    };
    let failed: fn(String) -> Input = |volume| Input::ImageFailed {
        container: None,
        volume: Some(volume),
        reason: "ErrImagePull".to_owned(),
        message: SPARE.to_owned(),
    };
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(pulling)),
        1 => Just(Some(ready)),
        2 => Just(Some(failed)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_a_deleted_pod_ends(pod in any_pod(), moves in vec(any_move(), 0..120)) {
        let mut world = World::new(&pod);
        world.send(Input::Created);
        for next in moves {
            world.take(next);
        }
        world.send(Input::Delete { grace_seconds: None });
        for _ in 0..200 {
            world.waiting = world.bench.machine.outstanding();
            world.answer(0, true);
            world.pass(Duration::from_secs(60));
        }
        prop_assert_eq!(world.bench.machine.stage(), Stage::Finished);
        prop_assert!(world.bench.machine.status().phase.is_terminal());
        let removed = Action::Finish { remove: true };
        prop_assert!(world.bench.actions.contains(&removed));
        prop_assert_eq!(world.bench.machine.deadline(), None);
    }

    #[test]
    fn a_pod_that_is_left_alone_comes_to_rest_or_goes_on_for_ever(pod in any_pod(), moves in vec(any_move(), 0..60)) {
        let mut world = World::new(&pod);
        world.send(Input::Created);
        for next in moves {
            world.take(next);
        }
        // Everything goes well from here on: nothing that was asked for stays undone.
        for _ in 0..400 {
            world.answer(0, true);
            world.pass(Duration::from_secs(1));
        }
        // What the last second asked for is done too.
        for _ in 0..20 {
            world.answer(0, true);
        }
        let status = world.bench.machine.status();
        let machine = &world.bench.machine;
        let is_done = machine.outstanding().is_empty() || machine.stage() == Stage::Finished;
        prop_assert!(is_done || machine.deadline().is_some(), "{status:?} {machine:?}");
        let is_at_rest = machine.outstanding().is_empty() && machine.deadline().is_none();
        if is_at_rest && machine.stage() == Stage::Running {
            prop_assert!(world.absent.is_empty(), "forgotten: {machine:?}");
        }
    }

    #[test]
    fn images_that_nobody_mounts_change_nothing_else(
        pod in any_pod(),
        moves in vec(any_move(), 0..60),
        answers in vec(any_answer(), 1..20),
    ) {
        // The life of a Pod that has none of them is lived again by one that has two, whatever becomes of them.
        let mut plain = pod;
        let spare: Vec<_> = world::unmounted(&plain).map(str::to_owned).collect();
        plain.spec.volumes.retain(|volume| !spare.contains(&volume.name));
        let mut pod = plain.clone();
        pod.spec.volumes.extend(["x", "y"].map(|name| common::image_volume(name, SPARE)));
        let mut world = World::new(&plain);
        world.send(Input::Created);
        for next in moves {
            world.take(next);
        }
        let (mut with, mut without, mut answers) = (Bench::new(&pod), Bench::new(&plain), answers.iter().cycle());
        for (boot, input) in world.told {
            (with.boot, without.boot) = (boot, boot);
            let Some(input) = input else {
                with.machine = Machine::restore(&pod, with.machine.state().clone());
                without.machine = Machine::restore(&plain, without.machine.state().clone());
                continue;
            };
            without.step(input.clone());
            with.step(input);
            let asked = with.machine.outstanding().into_iter().find(world::is_unmounted);
            if let Some(Action::EnsureImage { volume: Some(volume), .. }) = asked
                && let Some(answer) = answers.next().copied().flatten()
            {
                with.step(answer(volume));
                // News of any kind shows what time alone would show.
                without.tick();
            }
        }
        let is_spare = |action: &Action| match action {
            Action::Emit(event) => event.message.contains(SPARE),
            action => world::is_unmounted(action),
        };
        with.actions.retain(|action| !is_spare(action));
        prop_assert_eq!(with.actions, without.actions);
        prop_assert_eq!(with.statuses, without.statuses);
    }
}
