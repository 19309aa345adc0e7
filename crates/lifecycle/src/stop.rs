//! Ending: deletion, the stop of all containers, the sandbox, and what is left behind.

use std::time::Duration;

use podrun_spec::model::ContainerKind;

use crate::action::Action;
use crate::container::Record;
use crate::events;
use crate::grace::Cause;
use crate::machine::Step;
use crate::probes::is_started;
use crate::state::{Deletion, Stage, StartStep};
use crate::status::is_waiting;

/// The shortest grace of a Pod that is deleted or has failed. One that has come to its end has its own, even if that is none.
const SHORTEST: Duration = Duration::from_secs(1);

impl Step<'_> {
    pub(crate) fn delete(&mut self, grace_seconds: Option<u64>) {
        let asked = grace_seconds.map_or(self.pod.grace, Duration::from_secs);
        let forced = grace_seconds == Some(0);
        let first = self.state.deletion.is_none();
        let deletion = match self.state.deletion {
            None => Deletion { grace: asked, forced },
            // A shorter grace counts for what has not been told to stop yet.
            Some(d) => Deletion { grace: d.grace.min(asked), forced: d.forced || forced },
        };
        self.state.deletion = Some(deletion);
        self.stop_in_any_stage(deletion.grace);
        if first && self.state.stage == Stage::Finished {
            self.actions.push(Action::Finish { remove: true });
        }
        if first && !self.state.closed {
            // The kubelet's statuses lose the waiting reasons at this point.
            self.state.containers.iter_mut().for_each(|r| r.waiting = None);
        }
    }

    /// Ends the Pod from outside. Containers that are being stopped for another reason get the new grace.
    pub(crate) fn stop_in_any_stage(&mut self, grace: Duration) {
        match self.state.stage {
            Stage::New | Stage::Volumes | Stage::Sandbox | Stage::Running | Stage::Restarting => {
                self.begin_stopping();
            }
            // The same request is on its way; only what comes after it changes.
            Stage::Rebuilding => {
                self.note_initialized();
                self.state.stage = Stage::StoppingSandbox;
            }
            Stage::Stopping | Stage::StoppingSandbox | Stage::CleaningUp | Stage::Finished => {}
        }
        for container in self.pod.stop_order() {
            self.restart_stop(container, grace.max(SHORTEST));
        }
    }

    /// From here on nothing is started.
    pub(crate) fn begin_stopping(&mut self) {
        self.note_initialized();
        self.state.stage = Stage::Stopping;
        self.state.retry_at = None;
        self.state.is_resetting = false;
        self.abandon_post_start();
        // Nothing of a container exists while its image is looked for, and a pull may take long: its answer is not
        // waited for. A start is waited for, so that the container can be stopped as it should be.
        if matches!(self.state.in_flight.map(|f| f.step), Some(StartStep::Image { .. })) {
            self.state.in_flight = None;
        }
    }

    /// Notes whether the Pod has been initialized: the kubelet's `hasPodInitialized`.
    fn note_initialized(&mut self) {
        let (init, regular) = self.state.containers.split_at(self.pod.init_count);
        let last_is_done = self.pod.containers[..self.pod.init_count].last().zip(init.last()).is_none_or(
            |(facts, record)| match facts.kind {
                ContainerKind::Sidecar => is_started(facts, record),
                ContainerKind::Init | ContainerKind::Regular => {
                    let past = record.previous.as_ref().map(|past| &past.terminated);
                    record.ended().into_iter().chain(past).any(|end| end.exit_code == 0)
                }
            },
        );
        self.state.ended_initialized = last_is_done || regular.iter().any(Record::has_run);
    }

    /// Stops all containers in parallel, sidecars in their turn, then the sandbox.
    pub(crate) fn stop_containers(&mut self) {
        if self.state.deletion.is_some_and(|deletion| deletion.forced) {
            self.state.setup = None;
            self.abandon_start();
            for container in self.pod.stop_order() {
                self.kill_now(container);
            }
        }
        let failed = self.state.failure.as_ref().map(|failure| failure.grace.unwrap_or(self.pod.grace));
        let (cause, grace) = match self.state.deletion.map(|deletion| deletion.grace).or(failed) {
            Some(grace) => (Cause::PodStop, grace.max(SHORTEST)),
            None => (Cause::PodEnd, self.pod.grace),
        };
        for container in self.pod.stop_order() {
            self.begin_stop(container, cause, grace, events::stopping(&self.pod.containers[container].name));
            self.continue_stop(container);
        }
        let is_running = self.state.containers.iter().any(Record::is_running);
        if is_running || self.state.in_flight.is_some() || self.state.setup.is_some() {
            return;
        }
        if self.state.sandbox_asked {
            self.state.stage = Stage::StoppingSandbox;
            self.actions.push(Action::StopSandbox);
        } else {
            self.clean_up();
        }
    }

    pub(crate) fn sandbox_stopped(&mut self) {
        match self.state.stage {
            Stage::Rebuilding => self.rebuild(),
            Stage::StoppingSandbox => {
                self.state.sandbox_ready = false;
                self.clean_up();
            }
            _ => {}
        }
    }

    fn clean_up(&mut self) {
        self.state.stage = Stage::CleaningUp;
        self.actions.push(Action::CleanUp);
    }

    pub(crate) fn cleaned_up(&mut self) {
        if self.state.stage == Stage::CleaningUp {
            self.close();
            self.state.stage = Stage::Finished;
            self.actions.push(Action::Finish { remove: self.state.deletion.is_some() });
        }
    }

    /// Gives containers that wait their last state: the kubelet's `TerminatePod`.
    ///
    /// In a Pod that was initialized every regular container counts as one that should have run. Of the init containers
    /// those count that come before one that ran, and at least the first.
    fn close(&mut self) {
        let init_count = self.pod.init_count;
        let ran = self.state.containers[..init_count].iter().rposition(Record::has_run);
        let init = ran.map_or(init_count.min(1), |last| last + 1);
        let regular = if self.state.ended_initialized { self.state.containers.len() } else { init_count };
        for container in (0..init).chain(init_count..regular) {
            if is_waiting(self.pod, self.state, container) {
                self.state.containers[container].is_lost = true;
            }
        }
        self.state.closed = true;
    }
}
