//! The stop of one container: preStop hook, its turn, the stop signal, the kill, and how the grace is spent.
//!
//! The arithmetic is that of the kubelet's `killContainer`: hook and turn may take as long as the grace lasts; the whole seconds
//! that they took are subtracted; what is left, but at least two seconds, lies between stop signal and kill.

use std::time::Duration;

use podrun_spec::model::{Hook, HookKind};
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::events::{self, Text};
use crate::machine::Step;

/// The shortest time between a container's stop signal and its kill, however little was asked for.
const SHORTEST: Duration = Duration::from_secs(2);

/// A stop in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) cause: Cause,
    pub(crate) step: StopStep,
    /// When the step began.
    since: Duration,
    /// What was left of the grace then.
    left: Duration,
    /// The preStop hook was started and has not returned.
    hook_runs: bool,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// A startup or liveness probe failed.
    Probe,
    /// Its postStart hook failed.
    PostStart,
    /// All containers are to be started anew.
    RestartAll,
    /// All regular containers have ended for good.
    PodEnd,
    /// The Pod was deleted, has failed or was evicted.
    PodStop,
}

impl Cause {
    /// Returns whether the stop belongs to the end of the Pod, in which sidecars go last.
    const fn is_ordered(self) -> bool {
        matches!(self, Self::PodEnd | Self::PodStop)
    }

    /// Returns whether a deletion that comes now sets the grace anew. A second deletion does not.
    const fn yields_to_delete(self) -> bool {
        !matches!(self, Self::PodStop)
    }
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StopStep {
    /// The preStop hook runs.
    Hook,
    /// A sidecar waits for the containers that have to end before it.
    Turn,
    /// The stop signal was sent.
    Signal,
    /// It was killed.
    Killed,
}

impl Stop {
    /// Returns when time alone leads to the next step.
    pub(crate) fn due(&self) -> Option<Duration> {
        match self.step {
            StopStep::Hook | StopStep::Turn => Some(self.since.saturating_add(self.left)),
            StopStep::Signal => Some(self.since.saturating_add(self.left.max(SHORTEST))),
            StopStep::Killed => None,
        }
    }

    /// Goes on to the next step; the whole seconds that this one took are gone.
    fn advance(&mut self, step: StopStep, now: Duration) {
        let passed = Duration::from_secs(now.saturating_sub(self.since).as_secs());
        self.left = self.left.saturating_sub(passed);
        self.since = now;
        self.step = step;
    }

    /// Returns the action that the step began with, for a supervisor that takes over.
    pub(crate) fn outstanding(&self, container: String, attempt: u32) -> Option<Action> {
        match self.step {
            StopStep::Hook => Some(Action::RunHook { container, attempt, hook: HookKind::PreStop }),
            StopStep::Turn => None,
            StopStep::Signal => Some(Action::SendStopSignal { container, attempt }),
            StopStep::Killed => Some(Action::Kill { container, attempt }),
        }
    }
}

impl Step<'_> {
    /// Begins to stop a container, unless it does not run or is being stopped already.
    pub(crate) fn begin_stop(&mut self, container: usize, cause: Cause, grace: Duration, text: Text) {
        let record = &self.state.containers[container];
        let Some(attempt) = record.running().filter(|_| record.stop.is_none()) else { return };
        self.emit(text, Some(container));
        let hook_runs = self.pod.containers[container].life.pre_stop.is_some() && !grace.is_zero();
        let step = if hook_runs { StopStep::Hook } else { StopStep::Turn };
        if hook_runs {
            self.actions.push(Action::RunHook {
                container: self.name(container),
                attempt,
                hook: HookKind::PreStop,
            });
        }
        let stop = Stop { cause, step, since: self.now.boot, left: grace, hook_runs };
        self.state.containers[container].stop = Some(stop);
        self.continue_stop(container);
    }

    /// Takes the steps of a stop that are due.
    pub(crate) fn continue_stop(&mut self, container: usize) {
        let now = self.now.boot;
        loop {
            let record = &self.state.containers[container];
            let (Some(attempt), Some(mut stop)) = (record.running(), record.stop) else { return };
            let is_due = stop.due().is_some_and(|at| at <= now);
            match stop.step {
                StopStep::Hook if is_due => stop.advance(StopStep::Turn, now),
                StopStep::Turn if is_due || !stop.cause.is_ordered() || self.has_turn(container) => {
                    stop.advance(StopStep::Signal, now);
                    self.actions.push(Action::SendStopSignal { container: self.name(container), attempt });
                }
                StopStep::Signal if is_due => {
                    stop.step = StopStep::Killed;
                    self.actions.push(Action::Kill { container: self.name(container), attempt });
                }
                _ => return,
            }
            self.state.containers[container].stop = Some(stop);
        }
    }

    /// Kills a container that runs, whatever its stop has come to.
    pub(crate) fn kill_now(&mut self, container: usize) {
        let record = &self.state.containers[container];
        let (Some(attempt), stop) = (record.running(), record.stop) else { return };
        if stop.is_some_and(|stop| stop.step == StopStep::Killed) {
            return;
        }
        if stop.is_none() {
            self.emit(events::stopping(&self.pod.containers[container].name), Some(container));
        }
        self.actions.push(Action::Kill { container: self.name(container), attempt });
        self.state.containers[container].stop = Some(Stop {
            cause: Cause::PodStop,
            step: StopStep::Killed,
            since: self.now.boot,
            left: Duration::ZERO,
            hook_runs: stop.is_some_and(|stop| stop.hook_runs),
        });
    }

    /// Gives a stop that had another cause the grace of the deletion. Its hook is not run again, its signal not sent again.
    pub(crate) fn restart_stop(&mut self, container: usize, grace: Duration) {
        let Some(stop) = self.state.containers[container].stop.filter(|s| s.cause.yields_to_delete()) else {
            return;
        };
        self.emit(events::stopping(&self.pod.containers[container].name), Some(container));
        let stop = Stop { cause: Cause::PodStop, since: self.now.boot, left: grace, ..stop };
        self.state.containers[container].stop = Some(stop);
    }

    /// Takes in that the preStop hook has returned.
    pub(crate) fn pre_stop_done(&mut self, container: usize, failed: bool) {
        let now = self.now.boot;
        let Some(stop) = self.state.containers[container].stop.as_mut().filter(|s| s.hook_runs) else {
            return;
        };
        stop.hook_runs = false;
        if stop.step == StopStep::Hook {
            stop.advance(StopStep::Turn, now);
        }
        if failed {
            self.emit(events::pre_stop_failed(), Some(container));
        }
    }

    /// Tells of a preStop hook that died with its container. Only a command does: a request or a sleep goes on.
    pub(crate) fn end_pre_stop(&mut self, container: usize) {
        let is_command = matches!(self.pod.containers[container].life.pre_stop, Some(Hook::Exec(_)));
        if is_command && self.state.containers[container].stop.is_some_and(|stop| stop.hook_runs) {
            self.emit(events::pre_stop_failed(), Some(container));
        }
    }
}
