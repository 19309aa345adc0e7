//! Facts from the sandbox: while the Pod runs, and when a supervisor takes over from one that died.

use std::io;
use std::os::fd::AsFd as _;

use podrun_lifecycle::{Action, EventKind, ExitStatus, Input, PodEvent, Stage, StartFailure};
use podrun_sandbox::protocol::{self, ContainerState};
use podrun_sandbox::{InitEvent, Sandbox};
use podrun_spec::status::UserStatus;

use super::async_fd::readable;
use super::carry_out::sandbox_input;
use super::{Connection, Done, SandboxInput, Supervisor};
use crate::clock;
use crate::error::chain;

impl Connection {
    pub(super) fn new(sandbox: &Sandbox) -> io::Result<Self> {
        Ok(Self { events: readable(sandbox.events())?, process: readable(sandbox.pidfd().as_fd())? })
    }
}

impl Supervisor {
    /// Finds the sandbox that a supervisor before this one made, and takes up what was not finished.
    ///
    /// Nothing is to be found for a Pod that is new.
    pub(super) fn take_up(&mut self) {
        let outstanding = self.machine.outstanding();
        let running = matches!(self.machine.stage(), Stage::Running | Stage::Restarting | Stage::Stopping);
        if self.machine.stage() == Stage::New {
            return;
        }
        if self.machine.stage() != Stage::Finished {
            self.look_at_node();
            Self::warn_on_error(self.claims.keep(&self.pod));
            Self::warn_on_error(self.journal.write(&self.record.pod, &self.machine));
        }
        let known = self.adopt();
        if self.sandbox.is_none() && running {
            self.inputs.push_back(Input::SandboxLost);
        }
        // Annotations may have been recorded and not carried out.
        if let Err(message) = self.shape(&self.plan.sandbox.network) {
            Self::complain(message);
        }
        for action in outstanding {
            let done = match &action {
                Action::Start { container, attempt } => known.contains(&self.id(container, *attempt)),
                // The sandbox was made before the answer was written down.
                Action::CreateSandbox => match &self.sandbox {
                    // Its network may be half made.
                    Some(sandbox) => match self.attach(sandbox.pidfd().as_fd()) {
                        Ok(addresses) => {
                            self.inputs.push_back(sandbox_input(Ok(addresses)));
                            true
                        }
                        Err(message) => {
                            Self::complain(message);
                            false
                        }
                    },
                    None => false,
                },
                _ => false,
            };
            if !done {
                self.carry_out(action);
            }
        }
    }

    /// Connects to the sandbox if it lives, and takes in what its init knows. Returns the ids of its containers.
    ///
    /// One that does not answer, or is not understood, is as good as none: what is made of it is the same.
    fn adopt(&mut self) -> Vec<String> {
        let adopted = Sandbox::adopt(&self.plan.sandbox, &self.host.cgroup.mount).map_err(|e| chain(&e));
        let connected = adopted.and_then(|adopted| {
            let Some((sandbox, containers)) = adopted else { return Ok(Vec::new()) };
            self.connect(sandbox).map(|()| containers)
        });
        let containers = connected.unwrap_or_else(|message| {
            Self::complain(message);
            Vec::new()
        });
        let mut known = Vec::new();
        for container in containers {
            known.push(container.record.id.clone());
            self.on_record(container.record);
        }
        known
    }

    /// Takes in what a sandbox fd tells.
    pub(super) fn on_sandbox(&mut self, input: SandboxInput) {
        self.drain();
        if matches!(input, SandboxInput::Dead) {
            self.lose_sandbox();
        }
    }

    /// Takes in all messages that are waiting.
    fn drain(&mut self) {
        loop {
            let received = match &mut self.sandbox {
                Some(sandbox) => sandbox.recv(),
                None => return,
            };
            match received {
                Ok(Some(event)) => self.on_event(event),
                Ok(None) => return,
                Err(error) => {
                    Self::complain(chain(&error));
                    self.lose_sandbox();
                    return;
                }
            }
        }
    }

    /// Gives the connection up. Init may have hung up on a supervisor that did not listen for long: then it is called
    /// again, and tells what was missed.
    fn lose_sandbox(&mut self) {
        self.connection = None;
        if self.sandbox.take().is_some() && !self.stopping {
            self.adopt();
            if self.sandbox.is_none() {
                self.inputs.push_back(Input::SandboxLost);
            }
        }
    }

    /// Takes in what slow work tells.
    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Answer(input) => self.inputs.push_back(input),
            Done::Probed(probed) => self.on_probed(probed),
            Done::Room => self.seek_room(),
            Done::Pulled(pulled) => self.on_pulled(*pulled),
            Done::Trouble(reason, message) => {
                Self::complain(message.clone());
                self.warn(reason, message, None);
            }
        }
    }

    fn on_event(&mut self, event: InitEvent) {
        match event {
            InitEvent::Started { started, .. } => self.on_started(started),
            InitEvent::StartFailed(failed) => self.on_start_failed(failed),
            InitEvent::Exited(exited) => self.on_exited(exited),
            InitEvent::LogError(error) => {
                let container = split_id(&error.id).map(|(name, _)| name.to_owned());
                let message = format!(
                    "log of the container: {} entries of {} bytes were not written: {}",
                    error.lost.entries,
                    error.lost.bytes,
                    io::Error::from_raw_os_error(error.errno),
                );
                if error.errno != 0 {
                    self.warn("LogLost", message, container.as_deref());
                }
            }
            InitEvent::Refused { request, message } => {
                Self::complain(format!("init refused {request}: {message}"));
            }
        }
    }

    /// Takes in what init remembers of a container. Facts that the machine has already are ignored by it.
    fn on_record(&mut self, record: protocol::ContainerRecord) {
        match record.state {
            ContainerState::Starting => {}
            ContainerState::Running(started) => self.on_started(started),
            ContainerState::StartFailed(failed) => self.on_start_failed(failed),
            ContainerState::Exited { started, exited } => {
                self.on_started(started);
                self.on_exited(exited);
            }
        }
    }

    fn on_started(&mut self, started: protocol::Started) {
        let Some((name, attempt)) = split_id(&started.id) else { return };
        let container = name.to_owned();
        for warning in started.warnings {
            self.warn("Unenforced", warning, Some(&container));
        }
        let user = UserStatus {
            uid: started.user.uid,
            gid: started.user.gid,
            supplemental_groups: started.user.groups,
        };
        self.inputs.push_back(Input::Started { container, attempt, at: started.started_at, user });
    }

    fn on_start_failed(&mut self, failed: protocol::StartFailed) {
        let Some((name, attempt)) = split_id(&failed.id) else { return };
        let message = failed.failure.message;
        let failure = match failed.failure.stage.reason() {
            "RunContainerError" => {
                StartFailure::Exec { message, exit_code: failed.exit_code, at: failed.failed_at }
            }
            reason => StartFailure::Config { reason: reason.to_owned(), message },
        };
        let container = name.to_owned();
        self.forgettable.push(failed.id.clone());
        self.inputs.push_back(Input::StartFailed { container, attempt, failure });
    }

    fn on_exited(&mut self, exited: protocol::Exited) {
        let Some((name, attempt)) = split_id(&exited.id) else { return };
        let status = match exited.status {
            protocol::ExitStatus::Code(code) => ExitStatus::Code(code),
            protocol::ExitStatus::Signal(signal) => ExitStatus::Signal(signal),
        };
        let (oom_killed, message) = self.last_words(name, attempt, exited.status.exit_code());
        self.forgettable.push(exited.id.clone());
        self.inputs.push_back(Input::Exited {
            container: name.to_owned(),
            attempt,
            status,
            oom_killed,
            message,
            at: exited.finished_at,
        });
    }

    /// Looks at what goes with the attempt: whether memory ran out, and its termination message.
    ///
    /// Then whatever its first process left behind is killed. Its cgroup stays until the end is written down: the
    /// supervisor after this one may have to look again.
    fn last_words(&self, name: &str, attempt: u32, exit_code: i32) -> (bool, String) {
        let (Some(plan), Some(sandbox)) = (self.plan.container(name), &self.sandbox) else {
            return (false, String::new());
        };
        let id = self.id(name, attempt);
        // A cgroup without the memory controller, or gone, has counted nothing.
        let oom_killed = sandbox.existing_cgroup(&id).is_ok_and(|cgroup| {
            cgroup.is_some_and(|cgroup| podrun_container::oom_killed(&cgroup).ok().flatten().unwrap_or(false))
        });
        Self::note(sandbox.kill(&id));
        let dir = plan.dir.join(attempt.to_string());
        let log = plan.log_dir.join(format!("{attempt}.log"));
        let policy = plan.termination_message_policy;
        let message = podrun_container::read_termination_message(&dir, policy, exit_code, &log);
        (oom_killed, message.unwrap_or_default())
    }

    /// Records a warning of podrun's own.
    pub(super) fn warn(&mut self, reason: &str, message: String, container: Option<&str>) {
        let field_path = container.and_then(|name| {
            let list = match self.kind(name)? {
                podrun_spec::model::ContainerKind::Init | podrun_spec::model::ContainerKind::Sidecar => {
                    "initContainers"
                }
                podrun_spec::model::ContainerKind::Regular => "containers",
            };
            Some(format!("spec.{list}{{{name}}}"))
        });
        self.emit(PodEvent {
            kind: EventKind::Warning,
            reason: reason.to_owned(),
            message,
            field_path,
            at: clock::wall(),
        });
    }

    /// Notes a trouble in the supervisor's log.
    pub(super) fn complain(message: String) {
        super::fail(&io::Error::other(message));
    }
}

/// Returns the container and the attempt of an id `<uid>_<name>_<attempt>`.
fn split_id(id: &str) -> Option<(&str, u32)> {
    let (_, rest) = id.split_once('_')?;
    let (name, attempt) = rest.rsplit_once('_')?;
    Some((name, attempt.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::split_id;

    #[test]
    fn an_id_names_its_container_and_attempt() {
        assert_eq!(split_id("0-0_web_12"), Some(("web", 12)));
        assert_eq!(split_id("0-0_web"), None);
        assert_eq!(split_id("x"), None);
    }
}
