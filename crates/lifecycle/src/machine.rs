//! The machine: takes one input at a time, decides, and writes the status.

use std::time::Duration;

use podrun_spec::model::{HookKind, Pod};
use podrun_spec::status::{Phase, PodStatus};

use crate::action::{Action, PodEvent};
use crate::container::Record;
use crate::events::{self, Text};
use crate::facts::PodFacts;
use crate::input::{Input, Now};
use crate::state::{InFlight, Setup, Stage, StartStep, State, Unmounted};
use crate::{deadline, images, restart_all, start, status};

/// The life of one Pod.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) pod: PodFacts,
    pub(crate) state: State,
}

impl Machine {
    /// Returns the machine of a Pod to which nothing has happened yet.
    pub fn new(pod: &Pod) -> Self {
        let facts = PodFacts::of(pod);
        let status = PodStatus { phase: Phase::Pending, qos_class: facts.qos_class, ..PodStatus::default() };
        let containers = vec![Record::default(); facts.containers.len()];
        let unmounted = vec![Unmounted::default(); facts.unmounted.len()];
        Self { pod: facts, state: State { unmounted, containers, status, ..State::default() } }
    }

    /// Returns the machine of a Pod whose supervisor has died, as it was when `state` was read.
    ///
    /// What [`outstanding`](Self::outstanding) returns has to be carried out again.
    pub fn restore(pod: &Pod, state: State) -> Self {
        let facts = PodFacts::of(pod);
        let mut state = state;
        // The spec of a Pod does not change; a state of another Pod must not lead to a panic all the same.
        state.containers.resize_with(facts.containers.len(), Record::default);
        state.unmounted.resize_with(facts.unmounted.len(), Unmounted::default);
        state.in_flight = state.in_flight.filter(|f| f.container < facts.containers.len());
        // Nobody knows how far a postStart hook came. The container runs, so a kubelet that starts takes it as it is; a hook
        // that has failed already has led to a stop, which goes on.
        if let Some(InFlight { container, step: StartStep::PostStart { .. } }) = state.in_flight
            && state.containers[container].hook_error.is_none()
        {
            state.in_flight = None;
            state.containers[container].reveal();
        }
        Self { pod: facts, state }
    }

    /// Takes in a fact and returns what is to be done, in that order.
    ///
    /// Inputs that are late or do not fit are ignored.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Action> {
        self.state.clock = self.state.clock.max(now.boot);
        let now = Now { boot: self.state.clock, ..now };
        let mut step = Step { pod: &self.pod, state: &mut self.state, now, actions: Vec::new() };
        step.take(input);
        step.advance();
        let actions = step.actions;
        status::publish(&self.pod, &mut self.state, now);
        actions
    }

    /// Returns the boot time at which a [`Tick`](Input::Tick) is wanted.
    ///
    /// A time that has passed wants one at once: it is how an outcome stands in a status before the back-off that
    /// follows from it.
    pub fn deadline(&self) -> Option<Duration> {
        let (pod, state) = (&self.pod, &self.state);
        let stops = state.containers.iter().filter(|r| r.is_running()).filter_map(|r| r.stop);
        let stops = stops.filter_map(|stop| stop.due()).min();
        let stage = match state.stage {
            Stage::Volumes | Stage::Sandbox => state.retry_at,
            Stage::Running => {
                [start::deadline(pod, state), images::deadline(pod, state)].into_iter().flatten().min()
            }
            Stage::Restarting => restart_all::deadline(state),
            Stage::New
            | Stage::Rebuilding
            | Stage::Stopping
            | Stage::StoppingSandbox
            | Stage::CleaningUp
            | Stage::Finished => None,
        };
        [stage, stops, deadline::deadline(pod, state)].into_iter().flatten().min()
    }

    /// Returns the status after the last step.
    ///
    /// `host_ips` is left empty: the machine does not know the host.
    pub fn status(&self) -> PodStatus {
        self.state.status.clone()
    }

    /// Returns what has to be written down for a supervisor that takes over.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Returns where the Pod is in its life.
    pub const fn stage(&self) -> Stage {
        self.state.stage
    }

    /// Returns the actions that were asked for and not answered yet, for a supervisor that takes over.
    ///
    /// It cannot know how far the one before came: each has to be carried out as if it were new or half done.
    pub fn outstanding(&self) -> Vec<Action> {
        let state = &self.state;
        let name = |i: usize| self.pod.containers[i].name.clone();
        let mut actions = Vec::new();
        match state.setup {
            Some(Setup::Volumes) => actions.push(Action::PrepareVolumes),
            Some(Setup::Sandbox) => actions.push(Action::CreateSandbox),
            None => {}
        }
        actions.extend(images::outstanding(&self.pod, state));
        if let Some(start) = state.in_flight {
            let container = name(start.container);
            let hook = HookKind::PostStart;
            match start.step {
                StartStep::Start { attempt } => actions.push(Action::Start { container, attempt }),
                StartStep::PostStart { attempt }
                    if state.containers[start.container].hook_error.is_none() =>
                {
                    actions.push(Action::RunHook { container, attempt, hook });
                }
                StartStep::Image { .. } | StartStep::PostStart { .. } => {}
            }
        }
        for (index, record) in state.containers.iter().enumerate() {
            if let (Some(attempt), Some(stop)) = (record.running(), record.stop) {
                actions.extend(stop.outstanding(name(index), attempt));
            }
        }
        match state.stage {
            Stage::Rebuilding | Stage::StoppingSandbox => actions.push(Action::StopSandbox),
            Stage::CleaningUp => actions.push(Action::CleanUp),
            Stage::Finished => actions.push(Action::Finish { remove: state.deletion.is_some() }),
            Stage::New
            | Stage::Volumes
            | Stage::Sandbox
            | Stage::Running
            | Stage::Restarting
            | Stage::Stopping => {}
        }
        actions
    }
}

/// One step in the making.
pub(crate) struct Step<'a> {
    pub(crate) pod: &'a PodFacts,
    pub(crate) state: &'a mut State,
    pub(crate) now: Now,
    pub(crate) actions: Vec<Action>,
}

impl Step<'_> {
    /// Writes the fact down.
    fn take(&mut self, input: Input) {
        match input {
            Input::Created => self.created(),
            // Time is looked at by `advance`, whatever the input.
            Input::Tick => {}
            Input::VolumesReady => self.volumes_ready(),
            Input::VolumesFailed { message } => self.volumes_failed(message),
            Input::SandboxReady { pod_ips } => self.sandbox_ready(pod_ips),
            Input::SandboxFailed { message } => self.sandbox_failed(&message),
            Input::SandboxLost => self.sandbox_lost(),
            Input::ImagePulling { container, volume } => {
                self.image_pulling(container.as_deref(), volume.as_deref());
            }
            Input::ImageReady { container, volume, image_id, pulled } => {
                self.image_ready(container.as_deref(), volume.as_deref(), image_id, pulled);
            }
            Input::ImageFailed { container, volume, reason, message } => {
                self.image_failed(container.as_deref(), volume.as_deref(), &reason, message);
            }
            Input::Started { container, attempt, at, user } => self.started(&container, attempt, at, user),
            Input::StartFailed { container, attempt, failure } => {
                self.start_failed(&container, attempt, failure);
            }
            Input::Exited { container, attempt, status, oom_killed, message, at } => {
                self.exited(&container, attempt, status, oom_killed, message, at);
            }
            Input::Unschedulable { message } => self.unschedulable(message),
            Input::Rejected { reason, message } => self.rejected(reason, &message),
            Input::Probed { container, attempt, probe, healthy, event } => {
                self.probed(&container, attempt, probe, healthy, event);
            }
            Input::HookDone { container, attempt, hook, failure, event } => {
                self.hook_done(&container, attempt, hook, failure, event);
            }
            Input::ConditionSet { kind, status, reason, message } => {
                self.condition_set(kind, status, reason, message);
            }
            Input::Evicted { message } => self.evicted(message),
            Input::Delete { grace_seconds } => self.delete(grace_seconds),
            Input::SandboxStopped => self.sandbox_stopped(),
            Input::CleanedUp => self.cleaned_up(),
        }
    }

    /// Does what is due.
    fn advance(&mut self) {
        self.check_deadline();
        if matches!(self.state.stage, Stage::Volumes | Stage::Sandbox) {
            self.retry_setup();
        }
        if self.state.stage == Stage::Restarting {
            self.restart_all();
        }
        if self.state.stage == Stage::Running {
            self.sync_containers();
        }
        if self.state.stage == Stage::Running {
            self.ask_unmounted();
        }
        if self.state.stage == Stage::Stopping {
            self.stop_containers();
        }
    }

    /// Records the warning that comes with news of a container's run. Returns the container, unless it was an earlier run.
    pub(crate) fn hear_of(
        &mut self,
        name: &str,
        attempt: u32,
        warning: Option<(String, String)>,
    ) -> Option<usize> {
        let container = self.pod.index_of(name)?;
        self.state.containers[container].run.as_ref().filter(|run| run.attempt == attempt)?;
        if let Some((reason, message)) = warning {
            self.emit(events::warning(reason, message), Some(container));
        }
        Some(container)
    }

    /// Records an event of the Pod, or of one of its containers.
    pub(crate) fn emit(&mut self, text: Text, about: Option<usize>) {
        let event: PodEvent = text.at(self.now.wall, about.map(|i| &self.pod.containers[i]));
        self.actions.push(Action::Emit(event));
    }

    pub(crate) fn name(&self, container: usize) -> String {
        self.pod.containers[container].name.clone()
    }
}
