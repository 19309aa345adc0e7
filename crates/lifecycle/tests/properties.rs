//! What holds for every machine, whatever it is told and in whichever order.

mod common;

use std::time::Duration;

use common::Bench;
use podrun_lifecycle::{Action, ExitStatus, Input, PulledImage, Stage, StartFailure};
use podrun_spec::model::{Pod, RestartPolicy};
use podrun_spec::status::{ContainerState, PodStatus};
use podrun_spec::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

const NAMES: [&str; 5] = ["i1", "i2", "a", "b", "nobody"];

fn any_pod() -> impl Strategy<Value = Pod> {
    let policy =
        prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)];
    (policy, 0..=2_usize, 1..=2_usize, 0..4_u64).prop_map(|(policy, init, regular, grace)| {
        let mut pod = common::pod(policy, &NAMES[..init], &NAMES[2..2 + regular]);
        pod.spec.termination_grace_period = Duration::from_secs(grace * 10);
        pod
    })
}

/// What the world does next.
#[derive(Clone, Debug)]
enum Move {
    /// Answers the action that has waited longest, well or badly.
    Answer {
        well: bool,
    },
    /// A running container ends.
    Exit {
        which: usize,
        code: i32,
    },
    /// Time passes, to the deadline if that comes first.
    Pass {
        seconds: u64,
    },
    /// Something that may not fit at all.
    Noise(Input),
    Delete(Option<u64>),
    LoseSandbox,
}

fn any_input() -> impl Strategy<Value = Input> {
    let container = || (0..NAMES.len()).prop_map(|i| NAMES[i].to_owned());
    let attempt = || 0..4_u32;
    prop_oneof![
        Just(Input::Created),
        Just(Input::Tick),
        Just(Input::VolumesReady),
        Just(Input::SandboxReady { pod_ips: Vec::new() }),
        Just(Input::SandboxStopped),
        Just(Input::CleanedUp),
        container().prop_map(|container| Input::ImagePulling { container }),
        container().prop_map(|container| Input::ImageReady {
            container,
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
    prop_oneof![
        8 => prop::bool::weighted(0.8).prop_map(|well| Move::Answer { well }),
        4 => (0..4_usize, prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(which, code)| Move::Exit { which, code }),
        4 => (0..400_u64).prop_map(|seconds| Move::Pass { seconds }),
        1 => any_input().prop_map(Move::Noise),
        1 => prop_oneof![Just(None), Just(Some(u64::MAX)), (0..40_u64).prop_map(Some)].prop_map(Move::Delete),
        1 => Just(Move::LoseSandbox),
    ]
}

/// A machine and the actions that it waits for.
struct World {
    bench: Bench,
    waiting: Vec<Action>,
    deleted: bool,
}

impl World {
    fn send(&mut self, input: Input) {
        let before = self.bench.machine.status();
        self.deleted |= matches!(input, Input::Delete { .. });
        let actions = self.bench.step(input);
        for action in actions {
            assert!(
                !(self.deleted && matches!(action, Action::Start { .. } | Action::EnsureImage { .. })),
                "{action:?}"
            );
            self.waiting.push(action);
        }
        self.check(&before, &self.bench.machine.status());
    }

    fn check(&self, before: &PodStatus, after: &PodStatus) {
        assert!(!before.phase.is_terminal() || before.phase == after.phase, "{before:?} {after:?}");
        let all = |s: &PodStatus| [s.init_container_statuses.clone(), s.container_statuses.clone()].concat();
        for (old, new) in all(before).iter().zip(all(after)) {
            assert!(old.restart_count <= new.restart_count, "{before:?} {after:?}");
        }
        let is_true = |kind: &str| after.conditions.iter().any(|c| c.kind == kind && c.status);
        assert!(!is_true("Ready") || is_true("ContainersReady"));
        assert!(!after.phase.is_terminal() || all(after).iter().all(|c| !is_running(&c.state)), "{after:?}");
        // Who waits for nobody waits for a time.
        let machine = &self.bench.machine;
        let waits = !machine.outstanding().is_empty()
            || all(after).iter().any(|c| is_running(&c.state))
            || matches!(machine.stage(), Stage::New | Stage::Finished);
        assert!(waits || machine.deadline().is_some(), "{machine:?}");
    }

    /// Answers the oldest action.
    fn answer(&mut self, well: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let action = self.waiting.remove(0);
        let at = self.bench.wall();
        let message = "no".to_owned();
        let input = match action {
            Action::PrepareVolumes if well => Input::VolumesReady,
            Action::PrepareVolumes => Input::VolumesFailed { message },
            Action::CreateSandbox if well => Input::SandboxReady { pod_ips: Vec::new() },
            Action::CreateSandbox => Input::SandboxFailed { message },
            Action::EnsureImage { container } if well => {
                Input::ImageReady { container, image_id: String::new(), pulled: None }
            }
            Action::EnsureImage { container } => {
                Input::ImageFailed { container, reason: "ErrImagePull".to_owned(), message }
            }
            Action::Start { container, attempt } if well => {
                Input::Started { container, attempt, at, user: common::user() }
            }
            Action::Start { container, attempt } => {
                let failure = if attempt % 2 == 0 {
                    StartFailure::Exec { message, exit_code: 128, at }
                } else {
                    StartFailure::Config { reason: "CreateContainerError".to_owned(), message }
                };
                Input::StartFailed { container, attempt, failure }
            }
            Action::SendStopSignal { .. } if !well => return,
            Action::SendStopSignal { container, attempt } | Action::Kill { container, attempt } => {
                Input::Exited {
                    container,
                    attempt,
                    status: ExitStatus::Signal(15),
                    oom_killed: false,
                    message,
                    at,
                }
            }
            Action::StopSandbox => Input::SandboxStopped,
            Action::CleanUp => Input::CleanedUp,
            Action::RunHook { .. }
            | Action::RemoveAttempt { .. }
            | Action::Emit(_)
            | Action::Finish { .. } => return,
        };
        self.send(input);
    }

    /// Ticks as often as the machine wants it within that time.
    fn pass(&mut self, seconds: u64) {
        let end = self.bench.boot + Duration::from_secs(seconds);
        let mut at_once = 0;
        while let Some(at) = self.bench.machine.deadline().filter(|at| *at <= end) {
            at_once = if at > self.bench.boot { 0 } else { at_once + 1 };
            assert!(at_once < 10, "it wants to tick for ever: {:?}", self.bench.machine);
            self.bench.boot = self.bench.boot.max(at);
            self.send(Input::Tick);
        }
        self.bench.boot = end;
    }

    fn take(&mut self, next: Move) {
        match next {
            Move::Answer { well } => self.answer(well),
            Move::Pass { seconds } => self.pass(seconds),
            Move::Noise(input) => self.send(input),
            Move::Delete(grace_seconds) => self.send(Input::Delete { grace_seconds }),
            Move::LoseSandbox => self.send(Input::SandboxLost),
            Move::Exit { which, code } => {
                let status = self.bench.machine.status();
                let name = NAMES[which];
                let all = [status.init_container_statuses, status.container_statuses].concat();
                if let Some(c) = all.iter().find(|c| c.name == name && is_running(&c.state)) {
                    self.bench.exited(name, c.restart_count, code);
                    // The bench keeps what it was asked; this world answers it too.
                    self.waiting = self.bench.machine.outstanding();
                }
            }
        }
    }
}

fn is_running(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Running { .. })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_a_deleted_pod_ends(pod in any_pod(), moves in vec(any_move(), 0..80)) {
        let mut world = World { bench: Bench::new(&pod), waiting: Vec::new(), deleted: false };
        world.send(Input::Created);
        for next in moves {
            world.take(next);
        }
        world.send(Input::Delete { grace_seconds: None });
        for _ in 0..200 {
            world.waiting = world.bench.machine.outstanding();
            world.answer(true);
            world.pass(60);
        }
        prop_assert_eq!(world.bench.machine.stage(), Stage::Finished);
        prop_assert!(world.bench.machine.status().phase.is_terminal());
        let removed = Action::Finish { remove: true };
        prop_assert!(world.bench.actions.contains(&removed));
        prop_assert_eq!(world.bench.machine.deadline(), None);
    }

    #[test]
    fn a_written_and_read_machine_is_the_same(pod in any_pod(), moves in vec(any_move(), 0..40)) {
        let mut world = World { bench: Bench::new(&pod), waiting: Vec::new(), deleted: false };
        world.send(Input::Created);
        for next in moves {
            world.take(next);
        }
        let state = world.bench.machine.state().clone();
        let text = serde_json::to_string(&state).expect("it is written");
        prop_assert_eq!(serde_json::from_str::<podrun_lifecycle::State>(&text).expect("it is read"), state);
    }
}
