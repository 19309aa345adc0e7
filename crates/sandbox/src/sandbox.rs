//! The handle of a living sandbox: requests to its init, and events from it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use podrun_cgroups::Cgroup;
use podrun_namespaces::{Kind, Namespace, PidFd};
use podrun_plan::model::{ContainerSetup, SandboxPlan};

use crate::protocol::{
    Channel, ContainerRecord, DeviceNode, Event, Exited, LogError, MountOrigin, Request, StartFailed,
    StartRequest, Started,
};
use crate::{SandboxError, remove};

/// A sandbox: its init, the connection to it, its cgroup.
///
/// Dropping it changes nothing: the sandbox lives on and can be [adopted](Sandbox::adopt).
#[derive(Debug)]
pub struct Sandbox {
    pub(crate) uid: String,
    pub(crate) pod: String,
    pub(crate) channel: Channel,
    pub(crate) init: PidFd,
    pub(crate) cgroup: Cgroup,
}

/// The descriptors of a container that is ready to start.
#[derive(Debug)]
pub struct Prepared {
    /// Directory of the attempt's cgroup, values written.
    pub cgroup: OwnedFd,
    /// Detached mount of the root file system.
    pub rootfs: OwnedFd,
    /// The log, open for appending.
    pub log: OwnedFd,
    /// Detached copy of the host's /dev/shm, if the container shows that.
    pub host_shm: Option<OwnedFd>,
    /// Detached mount for each of the setup's mounts; none for those from a tmpfs of the sandbox.
    pub mounts: Vec<Option<OwnedFd>>,
    /// Device nodes besides the usual ones.
    pub devices: Vec<DeviceNode>,
}

/// A container's main process.
#[derive(Debug)]
pub struct Process {
    /// The process, by descriptor.
    pub pidfd: PidFd,
    /// Its id as the caller sees it; none once it has been reaped.
    pub pid: Option<i32>,
}

impl Process {
    fn of(fd: OwnedFd) -> Option<Self> {
        let pidfd = PidFd::try_from(fd).ok()?;
        let pid = pidfd.pid().ok().flatten();
        Some(Self { pidfd, pid })
    }
}

/// What happens in a sandbox.
#[derive(Debug)]
pub enum InitEvent {
    /// A container's program has been executed.
    Started {
        /// When, as whom.
        started: Started,
        /// Its process; none if that has been reaped already.
        process: Option<Process>,
    },
    /// A container could not be started.
    StartFailed(StartFailed),
    /// A container has ended; what it wrote before is in its log.
    Exited(Exited),
    /// A container's log lacks lines, or is complete again from here on.
    LogError(LogError),
    /// A request was refused.
    Refused {
        /// Which.
        request: String,
        /// Why.
        message: String,
    },
}

/// A container that a new supervisor finds.
#[derive(Debug)]
pub struct Adopted {
    /// What init knows about it.
    pub record: ContainerRecord,
    /// Its process, if it runs.
    pub process: Option<Process>,
}

impl Sandbox {
    /// Returns the socket that is readable when [`recv`](Self::recv) has something.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Returns the pidfd of init, readable once it has ended.
    pub fn pidfd(&self) -> &PidFd {
        &self.init
    }

    /// Returns the Pod's UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Returns the Pod as the kubelet names it in messages: `name_namespace(uid)`.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Returns the Pod's cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Opens the network namespace that the containers share: the Pod's own, or the host's.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Namespace`]: `ESRCH` if init has ended.
    pub fn net_namespace(&self) -> Result<Namespace, SandboxError> {
        Namespace::of_process(self.init.as_fd(), Kind::Net)
            .map_err(|source| SandboxError::Namespace { uid: self.uid.clone(), source })
    }

    /// Returns the next event, or none if nothing has happened. Does not wait.
    ///
    /// # Errors
    ///
    /// [`SandboxError::InitGone`] once the connection is closed; [`SandboxError::Channel`].
    pub fn recv(&mut self) -> Result<Option<InitEvent>, SandboxError> {
        let Some((event, fds)) = self.receive()? else { return Ok(None) };
        let mut fds = fds.into_iter();
        Ok(Some(match event {
            Event::Started(started) => {
                InitEvent::Started { started, process: fds.next().and_then(Process::of) }
            }
            Event::StartFailed(failed) => InitEvent::StartFailed(failed),
            Event::Exited(exited) => InitEvent::Exited(exited),
            Event::LogError(error) => InitEvent::LogError(error),
            Event::Refused { request, message } => InitEvent::Refused { request, message },
            // Answers that create and adopt wait for; another one has no taker.
            Event::Ready | Event::Snapshot(_) => return Ok(None),
            Event::SetupFailed(failure) => return Err(SandboxError::Setup(failure)),
        }))
    }

    /// Starts a container. [`InitEvent::Started`] or [`InitEvent::StartFailed`] follows.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Channel`] if init cannot be told.
    pub fn start(&self, setup: &ContainerSetup, prepared: Prepared) -> Result<(), SandboxError> {
        let Prepared { cgroup, rootfs, log, host_shm, mounts, devices } = prepared;
        let mut fds = vec![cgroup.as_fd(), rootfs.as_fd(), log.as_fd()];
        fds.extend(host_shm.iter().map(AsFd::as_fd));
        fds.extend(mounts.iter().flatten().map(AsFd::as_fd));
        let origin = |mount: &Option<OwnedFd>| match mount {
            Some(_) => MountOrigin::Fd,
            None => MountOrigin::Sandbox,
        };
        let request = Request::Start(StartRequest {
            setup: setup.clone(),
            mounts: mounts.iter().map(origin).collect(),
            host_shm: host_shm.is_some(),
            devices,
        });
        self.send(&request, &fds)
    }

    /// Sends a signal to a container's main process. One that has ended gets nothing, which is no error.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Channel`] if init cannot be told.
    pub fn signal(&self, id: &str, signal: i32) -> Result<(), SandboxError> {
        self.send(&Request::Signal { id: id.to_owned(), signal }, &[])
    }

    /// Kills every process of a container, those in cgroups that it has made included. Needs no help from init.
    ///
    /// # Errors
    ///
    /// [`SandboxError::ForeignContainer`], or [`SandboxError::Cgroup`]; a cgroup that is gone is no error.
    pub fn kill(&self, id: &str) -> Result<(), SandboxError> {
        let name = self.cgroup_name(id)?;
        match self.cgroup.child(&name).and_then(|cgroup| cgroup.kill()) {
            Err(error) if error.is_gone() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Makes the cgroup of a container.
    ///
    /// # Errors
    ///
    /// [`SandboxError::ForeignContainer`], or [`SandboxError::Cgroup`].
    pub fn container_cgroup(&self, id: &str) -> Result<Cgroup, SandboxError> {
        Ok(self.cgroup.ensure_child(&self.cgroup_name(id)?)?)
    }

    /// Opens the cgroup of a container, if it has one.
    ///
    /// # Errors
    ///
    /// [`SandboxError::ForeignContainer`], or [`SandboxError::Cgroup`].
    pub fn existing_cgroup(&self, id: &str) -> Result<Option<Cgroup>, SandboxError> {
        match self.cgroup.child(&self.cgroup_name(id)?) {
            Err(error) if error.is_gone() => Ok(None),
            cgroup => Ok(Some(cgroup?)),
        }
    }

    /// Kills what is left of a container and removes its cgroup. May be repeated.
    ///
    /// # Errors
    ///
    /// [`SandboxError::ForeignContainer`], or [`SandboxError::Cgroup`].
    pub fn release(&self, id: &str) -> Result<(), SandboxError> {
        Ok(self.cgroup.remove_child(&self.cgroup_name(id)?, Instant::now() + remove::PATIENCE)?)
    }

    /// Ends the sandbox: kills every process in it, init included, and reaps init if this process is its parent. What is
    /// left are names, for [`stop`](crate::stop) or [`remove`](crate::remove).
    ///
    /// # Errors
    ///
    /// [`SandboxError::Cgroup`]: a process in uninterruptible sleep outlives ten seconds.
    pub fn stop(self) -> Result<(), SandboxError> {
        match self.cgroup.kill() {
            Err(error) if error.is_gone() => {}
            other => other?,
        }
        self.cgroup.wait_empty(Instant::now() + remove::PATIENCE)?;
        reap(&self.init);
        Ok(())
    }

    /// Lets init drop what it knows about a container that has ended.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Channel`] if init cannot be told.
    pub fn forget(&self, id: &str) -> Result<(), SandboxError> {
        self.send(&Request::Forget { id: id.to_owned() }, &[])
    }

    /// Returns the name of a container's cgroup below the Pod's: `<name>.<attempt>` of `<uid>_<name>_<attempt>`.
    fn cgroup_name(&self, id: &str) -> Result<String, SandboxError> {
        id.strip_prefix(self.uid.as_str())
            .and_then(|rest| rest.strip_prefix('_'))
            .and_then(|rest| rest.rsplit_once('_'))
            .map(|(name, attempt)| format!("{name}.{attempt}"))
            .ok_or_else(|| SandboxError::ForeignContainer { id: id.to_owned(), uid: self.uid.clone() })
    }

    pub(crate) fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        self.channel.send(request, fds).map_err(|error| self.broken("send to", error))
    }

    pub(crate) fn receive(&mut self) -> Result<Option<(Event, Vec<OwnedFd>)>, SandboxError> {
        match self.channel.recv() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Ok(None) => Err(SandboxError::InitGone { uid: self.uid.clone() }),
            Err(error) => Err(self.broken("receive from", error)),
            Ok(message) => Ok(message),
        }
    }

    fn broken(&self, action: &'static str, source: io::Error) -> SandboxError {
        let uid = self.uid.clone();
        match source.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => SandboxError::InitGone { uid },
            _ => SandboxError::Channel { action, uid, source },
        }
    }

    pub(crate) fn adopted(records: Vec<ContainerRecord>, fds: Vec<OwnedFd>) -> Vec<Adopted> {
        let mut fds = fds.into_iter();
        let with_process = |record: ContainerRecord| {
            let runs = matches!(record.state, crate::protocol::ContainerState::Running(_));
            let process = if runs { fds.next().and_then(Process::of) } else { None };
            Adopted { record, process }
        };
        records.into_iter().map(with_process).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // One that has ended must not stay a zombie. If it lives, or is another process's child, nothing happens.
        drop(self.init.try_wait());
    }
}

/// Reaps an init that has been killed. A cgroup counts as empty an instant before its last process can be reaped.
pub(crate) fn reap(init: &PidFd) {
    // ECHILD: another process is its parent, and reaps it.
    drop(init.wait());
}

/// Returns the Pod as the kubelet names it in messages.
pub(crate) fn pod_text(plan: &SandboxPlan) -> String {
    format!("{}_{}({})", plan.name, plan.namespace, plan.uid)
}
