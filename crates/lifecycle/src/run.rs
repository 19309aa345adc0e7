//! Runs of containers: how they begin, or do not, and how they end.

use std::time::Duration;

use podrun_spec::status::{Terminated, UserStatus};
use podrun_spec::time::Timestamp;

use crate::action::Action;
use crate::container::{Run, RunState, container_id, exit_code_and_reason, lost};
use crate::events;
use crate::input::{ExitStatus, StartFailure};
use crate::machine::Step;
use crate::start::ERROR_RETRY;
use crate::state::Stage;

impl Step<'_> {
    pub(crate) fn started(&mut self, name: &str, attempt: u32, at: Timestamp, user: UserStatus) {
        let Some(container) = self.start_in_flight(name, attempt) else { return };
        self.state.in_flight = None;
        self.emit(events::created(), Some(container));
        self.emit(events::started(), Some(container));
        let started_boot = self.boot_of(at);
        let is_hidden = self.begin_post_start(container, attempt);
        let record = &mut self.state.containers[container];
        record.begin(Run {
            attempt,
            image_id: record.image_id.clone(),
            user: Some(user),
            is_hidden,
            state: RunState::Running { started_at: at, started_boot },
        });
        self.end_reset();
    }

    pub(crate) fn start_failed(&mut self, name: &str, attempt: u32, failure: StartFailure) {
        let Some(container) = self.start_in_flight(name, attempt) else { return };
        self.state.in_flight = None;
        match failure {
            StartFailure::Config { reason, message } => {
                self.emit(events::failed(&message), Some(container));
                let record = &mut self.state.containers[container];
                record.outcome_shown = false;
                record.retry_at = Some(self.now.boot + ERROR_RETRY);
                if self.state.stage == Stage::Running {
                    self.set_waiting(container, &reason, message);
                }
            }
            StartFailure::Exec { message, exit_code, at } => {
                self.emit(events::created(), Some(container));
                self.emit(events::failed(&message), Some(container));
                let terminated = Terminated {
                    exit_code,
                    reason: "StartError".to_owned(),
                    message: Some(message.clone()),
                    started_at: None,
                    finished_at: Some(at),
                    container_id: format!("podrun://{}", container_id(&self.pod.uid, name, attempt)),
                };
                let finished_boot = self.boot_of(at);
                let record = &mut self.state.containers[container];
                record.begin(Run {
                    attempt,
                    image_id: record.image_id.clone(),
                    user: None,
                    is_hidden: false,
                    state: RunState::Ended { terminated, finished_boot },
                });
                if self.state.stage == Stage::Running {
                    self.set_waiting(container, "RunContainerError", message);
                    self.remove_previous(container);
                }
                self.check_restart_all(container);
            }
        }
    }

    pub(crate) fn exited(
        &mut self,
        name: &str,
        attempt: u32,
        status: ExitStatus,
        oom_killed: bool,
        message: String,
        at: Timestamp,
    ) {
        let Some(container) = self.pod.index_of(name) else { return };
        let Some(Run { attempt: current, state: RunState::Running { started_at, .. }, .. }) =
            self.state.containers[container].run
        else {
            return;
        };
        if current != attempt {
            return;
        }
        let id = format!("podrun://{}", container_id(&self.pod.uid, name, attempt));
        let terminated = if status == ExitStatus::Lost {
            lost(Some(started_at), Some(at), id)
        } else {
            let (exit_code, reason) = exit_code_and_reason(status, oom_killed);
            Terminated {
                exit_code,
                reason: reason.to_owned(),
                message: (!message.is_empty()).then_some(message),
                started_at: Some(started_at),
                finished_at: Some(at),
                container_id: id,
            }
        };
        self.end_pre_stop(container);
        self.end_run(container, terminated, at);
        self.plan_restart_after_probe(container);
        self.container_of_hook_ended(container);
        self.check_restart_all(container);
    }

    /// Ends all runs without knowing how they ended.
    pub(crate) fn lose_running(&mut self) {
        for container in 0..self.state.containers.len() {
            if let Some(Run { attempt, state: RunState::Running { started_at, .. }, .. }) =
                self.state.containers[container].run
            {
                let id = container_id(&self.pod.uid, &self.pod.containers[container].name, attempt);
                let terminated = lost(Some(started_at), Some(self.now.wall), format!("podrun://{id}"));
                self.end_run(container, terminated, self.now.wall);
            }
        }
    }

    fn end_run(&mut self, container: usize, terminated: Terminated, at: Timestamp) {
        let finished_boot = self.boot_of(at);
        self.state.containers[container].end(terminated, finished_boot);
        if matches!(self.state.stage, Stage::Running | Stage::Restarting) {
            self.remove_previous(container);
        }
    }

    /// Removes what is older than the newest ended run, so that a crash loop does not fill the disk.
    fn remove_previous(&mut self, container: usize) {
        let previous = self.state.containers[container].previous.as_ref();
        if let Some(attempt) = previous.and_then(|past| past.attempt) {
            self.actions.push(Action::RemoveAttempt { container: self.name(container), attempt });
        }
    }

    /// Returns the boot time of something that happened at a wall-clock time not later than now.
    fn boot_of(&self, at: Timestamp) -> Duration {
        let ago = u64::try_from(self.now.wall.0.saturating_sub(at.0)).unwrap_or(0);
        self.now.boot.saturating_sub(Duration::from_nanos(ago))
    }
}
