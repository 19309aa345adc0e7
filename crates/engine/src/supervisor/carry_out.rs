//! Actions of the state machine, carried out.

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use podrun_lifecycle::{Action, Input, Stage, StartFailure};
use podrun_plan::complete;
use podrun_plan::facts::{ImageFacts, Images};
use podrun_plan::model::ContainerSetup;
use podrun_sandbox::{Sandbox, SandboxError, volumes};
use podrun_spec::env::{NodeFacts, assemble_env};
use podrun_spec::model::ContainerKind;

use super::images::NoImage;
use super::{Connection, Done, Supervisor, network};
use crate::error::chain;

/// How long the removal of something that resists waits for its next try, at first and at the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Carries one action out. Its answer is queued, now or when slow work is done.
    pub(super) fn carry_out(&mut self, action: Action) {
        if self.machine.stage() >= Stage::Stopping {
            self.give_up_pulls();
        }
        match action {
            Action::PrepareVolumes => self.prepare_volumes(),
            Action::CreateSandbox => self.create_sandbox(),
            Action::EnsureImage { container, volume } => self.ensure_image(container, volume),
            Action::Start { container, attempt } => self.start(container, attempt),
            Action::RunHook { container, attempt, hook } => self.run_hook(container, attempt, hook),
            Action::SendStopSignal { container, attempt } => self.send_stop_signal(&container, attempt),
            Action::Kill { container, attempt } => self.kill(&container, attempt),
            Action::RemoveAttempt { container, attempt } => self.remove_attempt(&container, attempt),
            Action::StopSandbox => self.stop_sandbox(),
            Action::CleanUp => self.clean_up(),
            Action::Emit(event) => self.emit(event),
            Action::Finish { remove } => {
                self.finished = true;
                Self::warn_on_error(self.claims.release(&self.pod.meta.uid));
                self.remove = remove;
            }
        }
    }

    fn prepare_volumes(&mut self) {
        for volume in &self.plan.sandbox.volumes {
            if let Err(error) = volumes::prepare(volume) {
                let message =
                    format!("MountVolume.SetUp failed for volume \"{}\" : {}", volume.name, chain(&error));
                self.inputs.push_back(Input::VolumesFailed { message });
                return;
            }
        }
        self.inputs.push_back(Input::VolumesReady);
    }

    fn create_sandbox(&mut self) {
        let (plan, mount) = (&self.plan.sandbox, &self.host.cgroup.mount);
        // The network does not wait for init, which has its own work meanwhile, unless that work is parameters of the
        // kernel: links inherit some of them when they are made.
        let early = plan.sysctls.is_empty();
        let create =
            || Sandbox::create_while(plan, &self.init, mount, |init| early.then(|| self.attach(init)));
        let created = match create() {
            // One that no state knows of is of no use. Its processes go, and their names with them.
            Err(SandboxError::Exists { .. }) => podrun_sandbox::stop(plan, mount)
                .map_err(|mut errors| errors.remove(0))
                .and_then(|()| create()),
            created => created,
        };
        let ready = created.map_err(|error| self.detach(chain(&error))).and_then(|(sandbox, attached)| {
            let attached = attached.unwrap_or_else(|| self.attach(sandbox.pidfd().as_fd()));
            let addresses = attached.map_err(|message| self.give_up(message))?;
            self.connect(sandbox).map(|()| addresses)
        });
        self.inputs.push_back(sandbox_input(ready));
    }

    /// Takes back the network of a sandbox that has not come to be.
    fn detach(&self, message: String) -> String {
        match network::leave(&self.paths.run, &self.pod.meta.uid, &self.plan.sandbox.network) {
            Ok(()) => message,
            Err(errors) => format!("{message} (and taking its network back: {})", errors.join("; ")),
        }
    }

    /// Ends a sandbox that has no network. It is made anew with the next attempt.
    fn give_up(&self, message: String) -> String {
        match podrun_sandbox::stop(&self.plan.sandbox, &self.host.cgroup.mount) {
            Ok(()) => message,
            Err(errors) => {
                let undo: Vec<_> = errors.iter().map(|error| chain(error)).collect();
                format!("{message} (and taking it back: {})", undo.join("; "))
            }
        }
    }

    /// Registers the sandbox's fds with the runtime and keeps it.
    pub(super) fn connect(&mut self, sandbox: Sandbox) -> std::result::Result<(), String> {
        let connection = Connection::new(&sandbox).map_err(|error| format!("watch the sandbox: {error}"))?;
        self.connection = Some(connection);
        self.sandbox = Some(sandbox);
        self.executors.clear();
        self.stopping = false;
        Ok(())
    }

    fn start(&mut self, container: String, attempt: u32) {
        let started = self.prepare_and_start(&container, attempt);
        // The mount keeps the layers now, or nobody needs them.
        self.hold = None;
        match started {
            Ok(()) => self.look_ahead(&container),
            Err(Unstartable::Config { reason, message }) => {
                let failure = StartFailure::Config { reason, message };
                self.inputs.push_back(Input::StartFailed { container, attempt, failure });
            }
            // Init is gone: its pidfd tells, and the machine with it.
            Err(Unstartable::InitGone) => {}
        }
    }

    fn prepare_and_start(&mut self, container: &str, attempt: u32) -> std::result::Result<(), Unstartable> {
        let (setup, prepared) = match self.take_next(container, attempt) {
            Some(next) => next,
            None => {
                let setup = self.setup(container, attempt)?;
                let sandbox = self.sandbox.as_ref().ok_or(Unstartable::InitGone)?;
                let prepared = podrun_container::prepare(&setup, sandbox)?;
                (setup, prepared)
            }
        };
        let sandbox = self.sandbox.as_ref().ok_or(Unstartable::InitGone)?;
        self.renew_hosts().map_err(|error| Unstartable::config(format!("write /etc/hosts: {error}")))?;
        sandbox.start(&setup, prepared).map_err(|error| match error {
            SandboxError::InitGone { .. } => Unstartable::InitGone,
            error => Unstartable::create(chain(&error)),
        })
    }

    /// Completes the plan of a container with its image and environment.
    fn setup(&mut self, name: &str, attempt: u32) -> std::result::Result<ContainerSetup, Unstartable> {
        // A supervisor that took over has not looked yet.
        self.find_volumes(name)?;
        if !self.images.contains_key(name) {
            let image = self.present_image(name)?.ok_or_else(|| no_such_container(name))?;
            self.hold = Some(image.hold);
            self.keep_image(name, image.facts);
        }
        let facts = self.images.get(name).ok_or_else(|| no_such_container(name))?;
        self.setup_with(name, attempt, facts)
    }

    pub(super) fn setup_with(
        &self,
        name: &str,
        attempt: u32,
        image: &ImageFacts,
    ) -> std::result::Result<ContainerSetup, Unstartable> {
        let plan = self.plan.container(name).ok_or_else(|| no_such_container(name))?;
        let (_, container) = self.pod.spec.container(name).ok_or_else(|| no_such_container(name))?;
        let (objects, node) = (&self.record.objects, self.node_facts());
        let env = assemble_env(&self.pod, container, objects, &node, &self.addresses())
            .map_err(|fault| Unstartable::config(fault.to_string()))?;
        let grace = self.pod.spec.termination_grace_period;
        let images = Images { own: image, volumes: &self.volume_images };
        complete(&self.plan, plan, container, attempt, images, &env, grace).map_err(|fault| {
            Unstartable::Config { reason: fault.reason().to_owned(), message: fault.to_string() }
        })
    }

    fn node_facts(&self) -> NodeFacts {
        NodeFacts { name: self.node.name.clone(), allocatable: self.node.allocatable.clone() }
    }

    fn send_stop_signal(&self, container: &str, attempt: u32) {
        // What runs has been started with an image, and that was written down then.
        let signal = self.stop_signals.get(container).copied().unwrap_or(libc::SIGTERM);
        if let Some(sandbox) = &self.sandbox {
            let result = sandbox.signal(&self.id(container, attempt), signal);
            Self::note(result);
        }
    }

    fn kill(&self, container: &str, attempt: u32) {
        if let Some(sandbox) = &self.sandbox {
            let result = sandbox.kill(&self.id(container, attempt));
            Self::note(result);
        }
    }

    /// Removes the files of an ended attempt; its cgroup went when it ended, its log stays.
    fn remove_attempt(&self, container: &str, attempt: u32) {
        let Some(plan) = self.plan.container(container) else { return };
        if let Some(sandbox) = &self.sandbox {
            Self::note(sandbox.release(&self.id(container, attempt)));
        }
        if let Err(error) = podrun_container::remove(&plan.dir.join(attempt.to_string())) {
            super::fail(&error);
        }
    }

    /// Kills what is left and ends init, on a thread: waiting for the last process may take a while.
    fn stop_sandbox(&mut self) {
        self.stopping = true;
        self.hold = None;
        self.next = None;
        self.connection = None;
        self.executors.clear();
        self.hooks.clear();
        let sandbox = self.sandbox.take();
        let (plan, mount) = (self.plan.sandbox.clone(), self.host.cgroup.mount.clone());
        let run = self.paths.run.clone();
        self.in_background("FailedKillPod", Input::SandboxStopped, move || {
            podrun_sandbox::stop(&plan, &mount).map_err(chains)?;
            network::leave(&run, &plan.uid, &plan.network)?;
            // Init is this process's child unless an earlier supervisor made it; then ECHILD says that somebody else
            // reaps it.
            if let Some(sandbox) = &sandbox {
                drop(sandbox.pidfd().wait());
            }
            Ok(())
        });
    }

    fn clean_up(&mut self) {
        let (plan, mount) = (self.plan.sandbox.clone(), self.host.cgroup.mount.clone());
        let run = self.paths.run.clone();
        self.in_background("FailedCleanUp", Input::CleanedUp, move || {
            podrun_sandbox::remove(&plan, &mount).map_err(chains)?;
            network::leave(&run, &plan.uid, &plan.network)
        });
    }

    /// Works on a thread until it succeeds: a Pod of which something is left must not be forgotten. What stands in the
    /// way is told by a warning with that reason.
    fn in_background(
        &self,
        reason: &'static str,
        answer: Input,
        work: impl Fn() -> std::result::Result<(), Vec<String>> + Send + Sync + 'static,
    ) {
        let (done, work) = (self.done.clone(), Arc::new(work));
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let attempt = Arc::clone(&work);
                let message = match tokio::task::spawn_blocking(move || attempt()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(errors)) => errors.join("; "),
                    Err(error) => chain(&error),
                };
                // The loop is gone only when the process is ending.
                let _ = done.send(Done::Trouble(reason, message)).await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // As above.
            let _ = done.send(Done::Answer(answer)).await;
        });
    }

    /// Notes an error in the supervisor's log; init being gone is told by its pidfd.
    pub(super) fn note(result: std::result::Result<(), SandboxError>) {
        match result {
            Ok(()) | Err(SandboxError::InitGone { .. }) => {}
            Err(error) => {
                super::fail(&error);
            }
        }
    }

    pub(super) fn id(&self, container: &str, attempt: u32) -> String {
        podrun_lifecycle::container_id(&self.pod.meta.uid, container, attempt)
    }

    /// Removes the cgroup of an attempt whose end is written down, then lets init forget it.
    pub(super) fn forget(&self, id: &str) {
        if let Some(sandbox) = &self.sandbox {
            Self::note(sandbox.release(id));
            Self::note(sandbox.forget(id));
        }
    }

    /// Returns whether a container is an init container.
    pub(super) fn kind(&self, container: &str) -> Option<ContainerKind> {
        self.pod.spec.container(container).map(|(kind, _)| kind)
    }
}

fn chains(errors: Vec<SandboxError>) -> Vec<String> {
    errors.iter().map(|error| chain(error)).collect()
}

/// Returns what the state machine is told about a sandbox.
pub(super) fn sandbox_input(ready: std::result::Result<Vec<IpAddr>, String>) -> Input {
    match ready {
        Ok(addresses) => Input::SandboxReady { pod_ips: addresses.iter().map(ToString::to_string).collect() },
        Err(message) => Input::SandboxFailed { message: format!("Failed to create pod sandbox: {message}") },
    }
}

/// Why a container cannot be started.
#[derive(Debug)]
pub(super) enum Unstartable {
    /// Its configuration cannot be carried out.
    Config { reason: String, message: String },
    /// There is no init to start it.
    InitGone,
}

impl Unstartable {
    fn config(message: String) -> Self {
        Self::Config { reason: "CreateContainerConfigError".to_owned(), message }
    }

    fn create(message: String) -> Self {
        Self::Config { reason: "CreateContainerError".to_owned(), message }
    }
}

impl From<NoImage> for Unstartable {
    fn from(NoImage { reason, message }: NoImage) -> Self {
        Self::Config { reason: reason.to_owned(), message }
    }
}

impl From<podrun_container::PrepareError> for Unstartable {
    fn from(error: podrun_container::PrepareError) -> Self {
        Self::Config { reason: error.reason().to_owned(), message: chain(&error) }
    }
}

fn no_such_container(name: &str) -> Unstartable {
    Unstartable::create(format!("container \"{name}\" is not part of the Pod"))
}
