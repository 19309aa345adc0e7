//! `RestartAllContainers`: all containers are stopped and forgotten, then everything starts anew in the same sandbox.

use std::time::Duration;

use podrun_spec::status::Terminated;

use crate::action::Action;
use crate::container::{Past, Record, Waiting};
use crate::events;
use crate::grace::Cause;
use crate::machine::Step;
use crate::rules::{Next, next};
use crate::state::{Stage, StartStep, State};

/// Reason of what becomes of a container's record.
pub(crate) const REASON: &str = "RestartingAllContainers";
const MESSAGE: &str = "The container is removed because RestartAllContainers in place";

/// Two restarts of all containers begin at least so far apart. The kubelet looks for exits once a second, which keeps a Pod
/// whose rule always matches from spinning.
const APART: Duration = Duration::from_secs(1);

/// Returns when all containers may be started anew; none while something of them is still to end.
pub(crate) fn deadline(state: &State) -> Option<Duration> {
    state.reset_at.filter(|_| is_quiet(state))
}

/// Returns whether no container runs or is being started.
fn is_quiet(state: &State) -> bool {
    state.in_flight.is_none() && !state.containers.iter().any(Record::is_running)
}

impl Step<'_> {
    /// Begins to restart all containers if that follows from the end of this one.
    pub(crate) fn check_restart_all(&mut self, container: usize) {
        let record = &self.state.containers[container];
        let is_decided = record.comes_back || self.state.stage != Stage::Running;
        let Some(end) = record.ended().filter(|_| !is_decided) else { return };
        if next(self.pod, &self.pod.containers[container], end) != Next::RestartAll {
            return;
        }
        self.state.stage = Stage::Restarting;
        self.state.is_resetting = true;
        self.abandon_post_start();
        if matches!(self.state.in_flight.map(|f| f.step), Some(StartStep::Image { .. })) {
            self.state.in_flight = None;
        }
    }

    /// Stops what runs, regular containers first; when nothing runs any more, starts anew.
    pub(crate) fn restart_all(&mut self) {
        let is_alive = |s: &Self, c: usize| s.state.containers[c].is_running();
        let regular = self.pod.regular();
        let first = if regular.clone().any(|c| is_alive(self, c)) { regular } else { 0..self.pod.init_count };
        for container in first {
            self.begin_stop(container, Cause::RestartAll, Duration::ZERO, events::killing("killing"));
        }
        for container in 0..self.pod.containers.len() {
            self.continue_stop(container);
        }
        if is_quiet(self.state) && self.state.reset_at.is_none_or(|at| at <= self.now.boot) {
            self.reset();
            self.state.reset_at = Some(self.now.boot + APART);
            self.state.stage = Stage::Running;
        }
    }

    /// Forgets all runs: each container is to be started for the first time, with the next number.
    pub(crate) fn reset(&mut self) {
        self.state.is_resetting = false;
        self.state.cursor = 0;
        for container in 0..self.state.containers.len() {
            let name = self.name(container);
            let record = &mut self.state.containers[container];
            let Some(run) = record.run.take() else { continue };
            self.actions.push(Action::RemoveAttempt { container: name, attempt: run.attempt });
            let terminated = Terminated {
                exit_code: 137,
                reason: REASON.to_owned(),
                message: Some(MESSAGE.to_owned()),
                started_at: None,
                finished_at: None,
                container_id: String::new(),
            };
            record.previous = Some(Past {
                attempt: None,
                image_id: String::new(),
                user: None,
                terminated,
                finished_boot: None,
            });
            record.waiting = Some(Waiting { reason: REASON.to_owned(), message: Some(MESSAGE.to_owned()) });
            record.outcome_shown = true;
            record.is_current = false;
            record.comes_back = false;
            record.is_restart_due = false;
            record.retry_at = None;
        }
    }

    /// Shows containers that still wait for their first start after a restart of all as that.
    pub(crate) fn end_reset(&mut self) {
        for record in &mut self.state.containers {
            record.waiting.take_if(|waiting| waiting.reason == REASON);
        }
    }
}
