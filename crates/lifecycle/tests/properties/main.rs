//! What holds for every machine, whatever it is told and in whichever order.

#[path = "../common/mod.rs"]
mod common;
mod pods;
mod world;

use std::time::Duration;

use podrun_lifecycle::{Action, ExitStatus, Input, PulledImage, Stage};
use podrun_spec::model::{HookKind, ProbeKind};
use podrun_spec::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use pods::any_pod;
use world::{Move, World};

fn any_input() -> impl Strategy<Value = Input> {
    let names = ["i1", "i2", "a", "b", "nobody"];
    let container = move || (0..names.len()).prop_map(move |i| names[i].to_owned());
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
        container().prop_map(|container| Input::ImagePulling { container, volume: None }),
        container().prop_map(|container| Input::ImageReady {
            container,
            volume: None,
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
    }
}
