//! Init's part in commands: it starts them, and ends those that nobody waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use podrun_cgroups::Cgroup;
use podrun_sandbox::mount::{Attributes, Filesystem};
use podrun_sandbox::protocol::{ContainerState, ExecRequest, ExecTarget, Failure, Request, Stage};

use super::command::{Caller, Command, Wish};
use super::container::{Container, Source};
use super::{Init, SOURCES, SUPERVISOR};
use crate::exec::{Fds, Place, exec};
use crate::spawn::{at, failure};

/// Callers that have said nothing yet. Who calls and says nothing is not waited for when others call.
const MAX_CALLERS: usize = 64;

/// Returns what epoll tells of a connection.
const fn connection(serial: u64) -> u64 {
    serial * SOURCES + Source::Connection as u64
}

impl Init {
    /// Takes in whoever calls. What they want, they say first.
    pub(super) fn accept(&mut self) {
        // A shortage of descriptors passes, and the caller waits; the Pod must not end for it.
        while let Ok(Some(channel)) = self.listener.accept() {
            self.serial += 1;
            let serial = self.serial;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, connection(serial));
            // One that is not heard is hung up on, and calls again.
            if self.epoll.add(channel.as_fd(), event).is_ok() {
                if self.callers.len() == MAX_CALLERS {
                    self.callers.remove(0);
                }
                self.callers.push(Caller { serial, channel });
                // Mostly it has spoken already.
                self.connection_event(serial);
            }
        }
    }

    pub(super) fn connection_event(&mut self, serial: u64) {
        if let Some(index) = self.callers.iter().position(|caller| caller.serial == serial) {
            self.first_message(index);
        } else if let Some(index) = self.commands.iter().position(|command| command.serial == serial) {
            self.command_event(index);
        }
    }

    fn first_message(&mut self, index: usize) {
        match self.callers[index].channel.recv::<Request>() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(Some((Request::Exec(request), fds))) => {
                let caller = self.callers.remove(index);
                self.exec(caller, &request, fds);
            }
            Ok(Some((request @ (Request::Setup(_) | Request::Hello), fds))) => {
                let caller = self.callers.remove(index);
                self.take_supervisor(caller);
                self.handle(request, fds);
            }
            // It is gone, or makes no sense. Its end is closed with ours.
            Ok(_) | Err(_) => drop(self.callers.remove(index)),
        }
    }

    /// Takes the newest caller as the supervisor. What the one before was to be told is in the snapshot.
    fn take_supervisor(&mut self, caller: Caller) {
        // What the one before has asked for in its last moment is done.
        self.requests();
        self.hang_up();
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN, SUPERVISOR);
        let watched = self.epoll.modify(caller.channel.as_fd(), &mut event);
        self.supervisor = watched.is_ok().then_some(caller.channel);
    }

    fn exec(&mut self, caller: Caller, request: &ExecRequest, fds: Vec<OwnedFd>) {
        // Without a pipe for reports there is nothing to say why; the connection is closed.
        let Some(fds) = Fds::sort(request, fds) else { return };
        if let Err(failure) = self.start_command(caller, request, &fds) {
            fds.fail(failure);
        }
    }

    fn start_command(&mut self, caller: Caller, request: &ExecRequest, fds: &Fds) -> Result<(), Failure> {
        let Self { containers, filters, proc, commands, serial, .. } = self;
        let running = containers.iter().find(|container| {
            let named = match &request.container {
                ExecTarget::Id(id) => container.id == *id,
                ExecTarget::Name(name) => container.name == *name,
            };
            named && matches!(container.state, ContainerState::Running(_))
        });
        let place = running.and_then(|container| Some((container, container.place()?)));
        let Some((container, (context, main, cgroup))) = place else {
            let message = format!("container {} is not running", request.container);
            return Err(Failure { stage: Stage::Sandbox, errno: libc::ESRCH, message });
        };
        let security = &context.security;
        let filtered = security.seccomp && !security.privileged;
        let filter = filtered.then(|| filters.filter(security.capabilities));
        let proc = own_proc(proc)?;
        let leaf = make_leaf(cgroup, serial)?;
        let started = {
            let connection = caller.channel.as_fd();
            let place = Place { context, main, leaf: leaf.as_fd(), proc, filter, connection };
            // SAFETY: this is init, which has one thread, and clones into its own pid namespace.
            unsafe { exec(&place, request, fds) }
        };
        match started {
            Ok(helper) => {
                commands.push(Command::new(caller, container.serial, helper, container.pids, leaf));
                Ok(())
            }
            Err(failure) => {
                // Nothing has run in it; what matters is why.
                drop(leaf.remove_if_empty());
                Err(failure)
            }
        }
    }

    fn command_event(&mut self, index: usize) {
        match self.commands[index].wish() {
            Wish::Kill => return self.kill_command(index),
            Wish::Leave => {
                self.unwatch(index);
                self.commands[index].release();
                self.await_end(index);
            }
            Wish::Wait => {}
        }
        if self.commands[index].has_ended() {
            self.forget_command(index);
        }
    }

    /// Kills a command. Its end is awaited, and it may have come already.
    fn kill_command(&mut self, index: usize) {
        self.unwatch(index);
        let command = &mut self.commands[index];
        if command.is_over() {
            return self.forget_command(index);
        }
        let container = self.containers.iter().find(|container| container.serial == command.container);
        if command.kill(container.and_then(Container::cgroup)) {
            self.await_end(index);
        }
    }

    /// Goes on with what could not be killed yet.
    pub(super) fn kill_doomed(&mut self) {
        for index in (0..self.commands.len()).rev() {
            if self.commands[index].is_doomed() {
                self.kill_command(index);
            }
        }
    }

    fn await_end(&mut self, index: usize) {
        let command = &mut self.commands[index];
        let serial = command.serial;
        if let Some(events) = command.await_end() {
            let event = EpollEvent::new(EpollFlags::EPOLLPRI, connection(serial));
            // Without a watch the end is found when something else is reaped.
            let _ = self.epoll.add(events, event);
        }
    }

    /// Stops to listen to a caller: a connection that has ended would be reported for ever.
    fn unwatch(&self, index: usize) {
        if let Some(connection) = self.commands[index].connection() {
            // ENOENT if it was not watched any more.
            let _ = self.epoll.delete(connection);
        }
    }

    /// Children that are being started have copies of all descriptors, so that to close them is not enough.
    fn forget_command(&mut self, index: usize) {
        self.unwatch(index);
        let command = self.commands.remove(index);
        if let Some(events) = command.events() {
            // As above.
            let _ = self.epoll.delete(events);
        }
    }

    /// Ends the commands in a container whose main process has ended. In its own pid namespace they are dead already.
    pub(super) fn end_commands_of(&mut self, container: u64) {
        for index in (0..self.commands.len()).rev() {
            if self.commands[index].container == container {
                self.kill_command(index);
            }
        }
    }

    /// Takes note of a helper's end.
    pub(super) fn helper_ended(&mut self, pid: i32) {
        if let Some(command) = self.commands.iter_mut().find(|command| command.helper == Some(pid)) {
            command.helper = None;
        }
    }

    /// Forgets the commands of which nothing is left.
    pub(super) fn drop_ended_commands(&mut self) {
        for index in (0..self.commands.len()).rev() {
            let command = &self.commands[index];
            if command.helper.is_none() && command.is_over() {
                self.forget_command(index);
            }
        }
    }
}

/// Makes the cgroup of a command below that of its container. What the container may use, it uses too; and as controllers
/// are not handed down there, the container's own processes may stay where they are. If the container itself hands them
/// down, the leaf is still one.
fn make_leaf(container: &Cgroup, serial: &mut u64) -> Result<Cgroup, Failure> {
    const TRIES: usize = 100;
    let mut last = Errno::EEXIST.into();
    for _ in 0..TRIES {
        *serial += 1;
        match container.create_child(&format!("exec-{serial}")) {
            Ok(leaf) => return Ok(leaf),
            // A container that may make cgroups could have made this one.
            Err(podrun_cgroups::Error::Create { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists =>
            {
                last = source;
            }
            Err(error) => {
                let source =
                    error.raw_os_error().map_or(io::ErrorKind::Other.into(), io::Error::from_raw_os_error);
                return Err(failure(Stage::Clone, "make a cgroup", &source));
            }
        }
    }
    Err(failure(Stage::Clone, "make a cgroup", &last))
}

/// Returns a /proc of this process's pid namespace, which is nobody else's. It is mounted when it is needed first.
pub(super) fn own_proc(known: &mut Option<OwnedFd>) -> Result<BorrowedFd<'_>, Failure> {
    let attributes = Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
    let proc: &OwnedFd = match known {
        Some(proc) => proc,
        None => {
            let mounted = Filesystem::new(c"proc").and_then(|proc| proc.mount(attributes));
            known.insert(at(Stage::Sandbox, "mount a /proc", mounted)?)
        }
    };
    Ok(proc.as_fd())
}
