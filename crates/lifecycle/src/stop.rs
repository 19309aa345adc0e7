//! Ending: deletion, stop signals and kills, the sandbox, and what is left behind.

use std::time::Duration;

use crate::action::Action;
use crate::container::{Run, RunState, Stop, init_failed, lost};
use crate::events;
use crate::machine::Step;
use crate::state::{Deletion, Stage, StartStep};

/// The shortest time between a container's stop signal and its kill, however little was asked for.
const CONTAINER_GRACE: Duration = Duration::from_secs(2);

impl Step<'_> {
    pub(crate) fn delete(&mut self, grace_seconds: Option<u64>) {
        let asked = grace_seconds.map_or(self.pod.grace, Duration::from_secs);
        let forced = grace_seconds == Some(0);
        let first = self.state.deletion.is_none();
        self.state.deletion = Some(match self.state.deletion {
            None => Deletion { grace: asked, forced },
            // A shorter grace counts for what has not been told to stop yet.
            Some(d) => Deletion { grace: d.grace.min(asked), forced: d.forced || forced },
        });
        match self.state.stage {
            Stage::New | Stage::Volumes | Stage::Sandbox | Stage::Running => self.begin_stopping(),
            // The same request is on its way; only what comes after it changes.
            Stage::Rebuilding => {
                self.note_initialized();
                self.state.stage = Stage::StoppingSandbox;
            }
            Stage::Finished if first => self.actions.push(Action::Finish { remove: true }),
            Stage::Stopping | Stage::StoppingSandbox | Stage::CleaningUp | Stage::Finished => {}
        }
        if first {
            // The kubelet's statuses lose the waiting reasons at this point.
            self.state.containers.iter_mut().for_each(|r| r.waiting = None);
        }
    }

    /// From here on nothing is started.
    pub(crate) fn begin_stopping(&mut self) {
        self.note_initialized();
        self.state.stage = Stage::Stopping;
        self.state.retry_at = None;
        // Nothing of a container exists while its image is looked for, and a pull may take long: its answer is not
        // waited for. A start is waited for, so that the container can be stopped as it should be.
        if matches!(self.state.in_flight.map(|f| f.step), Some(StartStep::Image { .. })) {
            self.state.in_flight = None;
        }
    }

    fn note_initialized(&mut self) {
        let (init, regular) = self.state.containers.split_at(self.pod.init_count);
        let last_succeeded = init.last().and_then(|r| r.ended()).is_some_and(|end| !init_failed(end));
        self.state.ended_initialized =
            init.is_empty() || last_succeeded || regular.iter().any(|r| r.run.is_some());
    }

    /// Stops all containers in parallel, then the sandbox.
    pub(crate) fn stop_containers(&mut self) {
        let Deletion { grace, forced } =
            self.state.deletion.unwrap_or(Deletion { grace: self.pod.grace, forced: false });
        if forced {
            self.state.setup = None;
            self.abandon_start();
        }
        let mut running = false;
        for container in 0..self.state.containers.len() {
            if let Some(Run { attempt: Some(attempt), state: RunState::Running { .. }, .. }) =
                self.state.containers[container].run
            {
                running = true;
                self.stop_container(container, attempt, grace.max(CONTAINER_GRACE), forced);
            }
        }
        if running || self.state.in_flight.is_some() || self.state.setup.is_some() {
            return;
        }
        if self.state.sandbox_asked {
            self.state.stage = Stage::StoppingSandbox;
            self.actions.push(Action::StopSandbox);
        } else {
            self.clean_up();
        }
    }

    fn stop_container(&mut self, container: usize, attempt: u32, grace: Duration, forced: bool) {
        let now = self.now.boot;
        let stop = if let Some(stop) = self.state.containers[container].stop {
            stop
        } else {
            let name = self.name(container);
            self.emit(events::killing(&name), Some(container));
            if !forced {
                self.actions.push(Action::SendStopSignal { container: name, attempt });
            }
            Stop { kill_at: now.saturating_add(grace), killed: false }
        };
        let kill = !stop.killed && (forced || stop.kill_at <= now);
        if kill {
            self.actions.push(Action::Kill { container: self.name(container), attempt });
        }
        self.state.containers[container].stop = Some(Stop { killed: stop.killed || kill, ..stop });
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

    /// Gives containers that never ran their last state: the kubelet's `TerminatePod`.
    ///
    /// In a Pod that was initialized every regular container counts as one that should have run. Of the init containers
    /// those count that come before one that ran, and at least the first.
    fn close(&mut self) {
        let init_count = self.pod.init_count;
        let ran = self.state.containers[..init_count].iter().rposition(|r| r.run.is_some());
        let init = ran.map_or(init_count.min(1), |last| last + 1);
        let regular = if self.state.ended_initialized { self.state.containers.len() } else { init_count };
        for container in (0..init).chain(init_count..regular) {
            let record = &mut self.state.containers[container];
            if record.run.is_none() {
                record.run = Some(Run {
                    attempt: None,
                    image_id: String::new(),
                    user: None,
                    state: RunState::Ended {
                        terminated: lost(None, None, String::new()),
                        finished_boot: self.now.boot,
                    },
                });
            }
        }
        self.state.closed = true;
    }
}
