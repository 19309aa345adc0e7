//! A world that may do anything, and what has to hold in it after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use podrun_lifecycle::{Action, ExitStatus, Input, Machine, PodView, RunView, Stage, StartFailure, State};
use podrun_spec::model::{ContainerKind, HookKind, Pod, ProbeKind};
use podrun_spec::status::{ContainerState, ContainerStatus, PodStatus};

use crate::common::{self, Bench};

/// What the world does next.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    /// Answers an action that waits, well or badly.
    Answer {
        which: usize,
        well: bool,
    },
    /// A running container ends.
    Exit {
        which: usize,
        code: i32,
    },
    /// A probe of a running container has a verdict.
    Probe {
        which: usize,
        kind: ProbeKind,
        healthy: bool,
    },
    /// Time passes, to the deadline if that comes first.
    Pass {
        millis: u64,
    },
    /// Something that may not fit at all.
    Noise(Input),
    Delete(Option<u64>),
    LoseSandbox,
    /// The supervisor dies, and another one takes over.
    TakeOver,
}

/// A stop of which the end is awaited.
struct Stop {
    since: Duration,
    killed: bool,
}

/// A machine and the actions that it waits for.
pub(crate) struct World {
    pod: Pod,
    pub(crate) bench: Bench,
    pub(crate) waiting: Vec<Action>,
    deleted: bool,
    /// Attempts that run, whether the machine shows them or not.
    running: BTreeMap<String, u32>,
    stops: BTreeMap<String, Stop>,
    /// The longest and the shortest grace that anybody may give.
    longest: Duration,
    shortest: Duration,
    /// Attempts that were started, to see that none is used twice.
    attempts: BTreeSet<(String, u32)>,
    /// Volumes with an image that no container mounts and that is not here, with the time from which it may be asked for.
    pub(crate) absent: BTreeMap<String, Duration>,
    /// All that the machine was told and when; none where another supervisor took over.
    pub(crate) told: Vec<(Duration, Option<Input>)>,
}

impl World {
    pub(crate) fn new(pod: &Pod) -> Self {
        let probes = pod.spec.all_containers().flat_map(|(_, c)| [&c.life.startup, &c.life.liveness]);
        let graces = probes.flatten().filter_map(|p| p.termination_grace_period);
        let own = pod.spec.termination_grace_period.max(Duration::from_secs(1));
        Self {
            pod: pod.clone(),
            bench: Bench::new(pod),
            waiting: Vec::new(),
            deleted: false,
            running: BTreeMap::new(),
            stops: BTreeMap::new(),
            longest: graces.fold(own, Duration::max),
            // A stop that is no deletion may leave no time at all, and then nobody waits for anybody.
            shortest: pod.spec.termination_grace_period,
            attempts: BTreeSet::new(),
            absent: unmounted(pod).map(|name| (name.to_owned(), Duration::ZERO)).collect(),
            told: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, next: Move) {
        let names: Vec<_> = self.running.keys().cloned().collect();
        let pick = |which: usize| names.get(which % names.len().max(1)).cloned();
        match next {
            Move::Answer { which, well } => self.answer(which, well),
            Move::Pass { millis } => self.pass(Duration::from_millis(millis)),
            Move::Noise(input) => self.send(input),
            Move::Delete(grace_seconds) => self.send(Input::Delete { grace_seconds }),
            Move::LoseSandbox => {
                let machine = &self.bench.machine;
                let stages = [Stage::Running, Stage::Restarting, Stage::Stopping];
                let has_one = is_true(&machine.status(), "PodReadyToStartContainers");
                if has_one && stages.contains(&machine.stage()) {
                    self.running.clear();
                    self.stops.clear();
                }
                self.send(Input::SandboxLost);
            }
            Move::TakeOver => self.take_over(),
            Move::Exit { which, code } => {
                if let Some(name) = pick(which) {
                    self.exit(&name, ExitStatus::Code(code));
                }
            }
            Move::Probe { which, kind, healthy } => {
                if let Some(container) = pick(which) {
                    let attempt = self.running[&container];
                    let healthy = Some(healthy);
                    self.send(Input::Probed { container, attempt, probe: kind, healthy, event: None });
                }
            }
        }
    }

    fn take_over(&mut self) {
        let text = serde_json::to_string(self.bench.machine.state()).expect("it is written");
        let state: State = serde_json::from_str(&text).expect("it is read");
        assert_eq!(&state, self.bench.machine.state());
        self.told.push((self.bench.boot, None));
        self.bench.machine = Machine::restore(&self.pod, state);
        self.waiting = self.bench.machine.outstanding();
    }

    fn exit(&mut self, container: &str, status: ExitStatus) {
        if let Some(&attempt) = self.running.get(container) {
            let at = self.bench.wall();
            let (container, message) = (container.to_owned(), String::new());
            self.send(Input::Exited { container, attempt, status, oom_killed: false, message, at });
        }
    }

    pub(crate) fn send(&mut self, input: Input) {
        let before = self.bench.machine.status();
        let stage = self.bench.machine.stage();
        self.note_input(&input);
        self.told.push((self.bench.boot, Some(input.clone())));
        let known = self.bench.actions.len();
        self.bench.step(input);
        for index in known..self.bench.actions.len() {
            let action = self.bench.actions[index].clone();
            self.note(&action, stage);
            self.waiting.push(action);
        }
        self.check(&before, &self.bench.machine.status());
    }

    /// Keeps what the machine is about to learn.
    fn note_input(&mut self, input: &Input) {
        match input {
            Input::Delete { grace_seconds } => {
                let asked = grace_seconds.map_or(self.pod.spec.termination_grace_period, Duration::from_secs);
                self.longest = self.longest.max(asked);
                self.shortest = self.shortest.min(asked.max(Duration::from_secs(1)));
                self.deleted = true;
            }
            Input::Started { container, attempt, .. } if self.is_awaited(container, *attempt) => {
                assert!(self.attempts.insert((container.clone(), *attempt)), "{container} {attempt} twice");
                self.running.insert(container.clone(), *attempt);
            }
            Input::StartFailed { container, attempt, failure: StartFailure::Exec { .. } }
                if self.is_awaited(container, *attempt) =>
            {
                assert!(self.attempts.insert((container.clone(), *attempt)), "{container} {attempt} twice");
            }
            Input::Exited { container, attempt, .. } if self.running.get(container) == Some(attempt) => {
                self.running.remove(container);
                self.stops.remove(container);
            }
            Input::ImageReady { container: None, volume: Some(volume), .. } if self.is_wanted(volume) => {
                self.absent.remove(volume);
            }
            Input::ImageFailed { container: None, volume: Some(volume), .. } if self.is_wanted(volume) => {
                self.absent.insert(volume.clone(), self.bench.boot + Duration::from_secs(10));
            }
            // All are looked for again with the next sandbox.
            Input::SandboxStopped if self.bench.machine.stage() == Stage::Rebuilding => {
                for volume in unmounted(&self.pod) {
                    self.absent.entry(volume.to_owned()).or_default();
                }
            }
            _ => {}
        }
    }

    /// Checks an action when it is asked for.
    fn note(&mut self, action: &Action, before: Stage) {
        let now = self.bench.boot;
        match action {
            Action::Start { .. } | Action::EnsureImage { .. } => {
                assert!(!self.deleted, "{action:?} after a deletion");
                let stage = self.bench.machine.stage();
                assert!(stage == Stage::Running, "{action:?} in {stage:?}");
                if let Action::EnsureImage { container: None, volume } = action {
                    let volume = volume.as_ref().expect("nothing else is needed by no container");
                    let from = self.absent.get(volume).expect("nobody mounts it, and it is not here");
                    assert!(*from <= now, "{volume} is not backed off from");
                    let outstanding = self.bench.machine.outstanding();
                    assert_eq!(outstanding.iter().filter(|action| is_unmounted(action)).count(), 1);
                }
            }
            Action::RunHook { hook: HookKind::PostStart, .. } => assert!(!self.deleted, "{action:?}"),
            // A stop begins with this event, and so does its grace when it is given anew.
            Action::Emit(event) if event.reason == "Killing" => {
                let path = event.field_path.as_deref().unwrap_or_default();
                let name = path.split(['{', '}']).nth(1).expect("about a container");
                if self.running.contains_key(name) {
                    // Who has been killed is not given any more time, and has not ended only because nobody told so yet.
                    let killed = self.stops.get(name).is_some_and(|stop| stop.killed);
                    self.stops.insert(name.to_owned(), Stop { since: now, killed });
                }
            }
            Action::SendStopSignal { container, .. } => self.check_turn(container, before),
            Action::Kill { container, .. } => self.stops.get_mut(container).expect("a stop").killed = true,
            _ => {}
        }
    }

    /// A sidecar is told to stop while a regular container runs only when the grace is over.
    fn check_turn(&self, container: &str, before: Stage) {
        let kind = |name: &str| self.pod.spec.container(name).map(|(kind, _)| kind);
        let stage = self.bench.machine.stage();
        let is_pod_stop = stage >= Stage::Stopping || stage == Stage::Restarting;
        if kind(container) != Some(ContainerKind::Sidecar) || !is_pod_stop || before < Stage::Running {
            return;
        }
        let regular_runs = self.running.keys().any(|c| kind(c) == Some(ContainerKind::Regular));
        let waited = self.bench.boot.saturating_sub(self.stops[container].since);
        let is_over = waited >= self.shortest && stage != Stage::Restarting;
        assert!(!regular_runs || is_over, "{container} does not outlive them");
    }

    fn check(&self, before: &PodStatus, after: &PodStatus) {
        assert!(!before.phase.is_terminal() || before.phase == after.phase, "{before:?} {after:?}");
        for (old, new) in all(before).iter().zip(all(after)) {
            assert!(old.restart_count <= new.restart_count, "{before:?} {after:?}");
        }
        assert!(!is_true(after, "Ready") || is_true(after, "ContainersReady"));
        assert!(!is_true(before, "Initialized") || is_true(after, "Initialized"), "Initialized stays True");
        assert!(!after.phase.is_terminal() || all(after).iter().all(|c| !is_running(c)), "{after:?}");
        for c in all(after) {
            let is_init =
                self.pod.spec.container(&c.name).is_some_and(|(kind, _)| kind == ContainerKind::Init);
            assert!(is_init || !c.ready || c.started, "ready without being started: {c:?}");
            assert!(!c.started || is_running(&c), "started without running: {c:?}");
            // What is shown as running does run; a container whose hook has not returned is not shown.
            assert!(!is_running(&c) || self.running.contains_key(&c.name), "{c:?}");
            self.check_view(&c);
        }
        // Nobody is given more than the longest grace and the two seconds of the end.
        for (name, stop) in &self.stops {
            let allowed = self.longest.saturating_add(Duration::from_secs(2));
            let until = stop.since.saturating_add(allowed);
            assert!(stop.killed || self.bench.boot <= until, "{name} was given too long");
        }
        // Who waits for nobody waits for a time.
        let machine = &self.bench.machine;
        let waits = !machine.outstanding().is_empty()
            || !self.running.is_empty()
            || matches!(machine.stage(), Stage::New | Stage::Finished);
        assert!(waits || machine.deadline().is_some(), "{machine:?}");
    }

    /// What probers see is what the status shows.
    fn check_view(&self, status: &ContainerStatus) {
        let view = self.bench.machine.probe_view(&status.name).expect("a container of the Pod");
        let runs = matches!(view.container.map(|c| c.run), Some(RunView::Running { .. }));
        assert_eq!(runs, is_running(status), "{view:?} {status:?}");
        if let Some(RunView::Running { started, .. }) = view.container.map(|c| c.run) {
            assert_eq!(started, status.started);
            assert_ne!(view.pod, PodView::Ended);
        }
    }

    /// Answers an action.
    pub(crate) fn answer(&mut self, which: usize, well: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let action = self.waiting.remove(which % self.waiting.len());
        let at = self.bench.wall();
        let message = "no".to_owned();
        let input = match action {
            Action::PrepareVolumes if well => Input::VolumesReady,
            Action::PrepareVolumes => Input::VolumesFailed { message },
            Action::CreateSandbox if well => Input::SandboxReady { pod_ips: Vec::new() },
            Action::CreateSandbox => Input::SandboxFailed { message },
            Action::EnsureImage { container, volume } if well => {
                Input::ImageReady { container, volume, image_id: String::new(), pulled: None }
            }
            Action::EnsureImage { container, volume } => {
                Input::ImageFailed { container, volume, reason: "ErrImagePull".to_owned(), message }
            }
            Action::Start { container, attempt } if !self.is_awaited(&container, attempt) => return,
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
            Action::RunHook { container, attempt, hook } => {
                let failure = (!well).then_some(message);
                Input::HookDone { container, attempt, hook, failure, event: None }
            }
            Action::SendStopSignal { .. } if !well => return,
            Action::SendStopSignal { container, attempt } | Action::Kill { container, attempt } => {
                if self.running.get(&container) == Some(&attempt) {
                    self.exit(&container, ExitStatus::Signal(15));
                }
                return;
            }
            Action::StopSandbox => {
                self.running.clear();
                self.stops.clear();
                Input::SandboxStopped
            }
            Action::CleanUp => Input::CleanedUp,
            Action::RemoveAttempt { container, attempt } => {
                assert_ne!(self.running.get(&container), Some(&attempt), "it runs");
                return;
            }
            Action::Emit(_) | Action::Finish { .. } => return,
        };
        self.send(input);
    }

    /// Returns whether the machine still waits for that start: one that was given up has no process.
    fn is_awaited(&self, container: &str, attempt: u32) -> bool {
        self.bench.machine.outstanding().contains(&common::start(container, attempt))
    }

    /// Returns whether the machine waits for the image of that volume, which no container mounts.
    fn is_wanted(&self, volume: &str) -> bool {
        let action = Action::EnsureImage { container: None, volume: Some(volume.to_owned()) };
        self.bench.machine.outstanding().contains(&action)
    }

    /// Ticks as often as the machine wants it within that time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.bench.boot + time;
        let mut at_once = 0;
        while let Some(at) = self.bench.machine.deadline().filter(|at| *at <= end) {
            at_once = if at > self.bench.boot { 0 } else { at_once + 1 };
            assert!(at_once < 10, "it wants to tick for ever: {:?}", self.bench.machine);
            self.bench.boot = self.bench.boot.max(at);
            self.send(Input::Tick);
        }
        self.bench.boot = end;
    }
}

/// Returns the volumes with an image that no container mounts.
pub(crate) fn unmounted(pod: &Pod) -> impl Iterator<Item = &str> {
    let is_mounted = |name: &str| {
        pod.spec.all_containers().any(|(_, c)| c.volume_mounts.iter().any(|mount| mount.name == name))
    };
    pod.spec.volumes.iter().map(|volume| &*volume.name).filter(move |name| !is_mounted(name))
}

/// Returns whether it asks for an image that no container mounts.
pub(crate) fn is_unmounted(action: &Action) -> bool {
    matches!(action, Action::EnsureImage { container: None, .. })
}

fn all(status: &PodStatus) -> Vec<ContainerStatus> {
    [status.init_container_statuses.clone(), status.container_statuses.clone()].concat()
}

fn is_true(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().any(|c| c.kind == kind && c.status)
}

fn is_running(status: &ContainerStatus) -> bool {
    matches!(status.state, ContainerState::Running { .. })
}
