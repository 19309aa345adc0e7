//! The program that is a Pod's init: parent of all its containers.
//!
//! It has one thread and one loop. It starts containers when the supervisor says so, reaps whatever ends, writes logs,
//! and tells the supervisor, if there is one. It decides nothing.

mod command;
mod container;
mod exec;
mod outbox;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use podrun_namespaces::PidFd;
use podrun_sandbox::init::{Listener, enter};
use podrun_sandbox::protocol::{
    Channel, ContainerState, Event, Failure, InitSetup, Request, START_ERROR_CODE, Snapshot, Stage,
    StartFailed, StartRequest,
};
use podrun_spec::time::Timestamp;

use crate::seccomp::FilterCache;
use crate::spawn::{SharedProcesses, share_processes, spawn};
use crate::sys;
use command::{Caller, Command};
use container::{Container, Source};
use outbox::Outbox;

/// What an event of epoll belongs to, in its 64 bits of data.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const SUPERVISOR: u64 = 2;
/// Source `s` of a container, a caller or a command is `serial * SOURCES + s`, with serials from 1.
const SOURCES: u64 = 4;

/// When to look again after commands that could not be killed yet.
const SOON_MS: u8 = 1;

/// Runs the init of a Pod until it is told to end, or fails to make the sandbox.
///
/// # Errors
///
/// What made it impossible to go on: it was not started by podrun, or the kernel refuses what every init needs.
///
/// # Safety
///
/// To be called once, at the start of a program of one thread, before anything else has opened a descriptor.
pub unsafe fn run() -> io::Result<()> {
    // SAFETY: as promised by the caller.
    let listener = unsafe { Listener::inherited() }?;
    // Nobody in the sandbox may look into this process, or into its clones until they have executed a program.
    nix::sys::prctl::set_dumpable(false)?;
    sys::ignore_broken_pipes_alone();
    // Each container takes a handful of descriptors. Its own limit is part of its plan.
    sys::raise_descriptor_limit()?;
    let mut init = Init::new(listener)?;
    while !init.ended {
        init.step()?;
    }
    Ok(())
}

struct Init {
    listener: Listener,
    signals: SignalFd,
    epoll: Epoll,
    supervisor: Option<Channel>,
    outbox: Outbox,
    ready: bool,
    ended: bool,
    /// A container has been started in this round, which takes more memory than all that comes after it.
    started: bool,
    containers: Vec<Container>,
    /// Who has called and has not said yet what for.
    callers: Vec<Caller>,
    commands: Vec<Command>,
    serial: u64,
    filters: FilterCache,
    /// Process 1 of the pid namespace that the containers share, if they do.
    reaper: Option<(i32, PidFd)>,
    /// A /proc of this process's pid namespace, once it was needed.
    proc: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl Init {
    fn new(listener: Listener) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        // Besides its children's ends, what somebody may send by mistake: init ends when its work does.
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(signals.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        Ok(Self {
            listener,
            signals,
            epoll,
            supervisor: None,
            outbox: Outbox::default(),
            ready: false,
            ended: false,
            started: false,
            containers: Vec::new(),
            callers: Vec::new(),
            commands: Vec::new(),
            serial: 0,
            filters: FilterCache::default(),
            reaper: None,
            proc: None,
            buffer: Vec::with_capacity(container::CHUNK),
        })
    }

    /// Waits for something to happen and handles it.
    fn step(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 16];
        let doomed = self.commands.iter().any(Command::is_doomed);
        let timeout = if doomed { EpollTimeout::from(SOON_MS) } else { EpollTimeout::NONE };
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => return Ok(()),
            count => count?,
        };
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                SIGNALS => self.reap()?,
                SUPERVISOR => {
                    self.flush();
                    self.requests();
                }
                source => self.event(source / SOURCES, source % SOURCES),
            }
        }
        if doomed {
            self.kill_doomed();
        }
        self.flush();
        if std::mem::take(&mut self.started) {
            sys::release_memory();
        }
        Ok(())
    }

    fn hang_up(&mut self) {
        self.supervisor = None;
        self.outbox.clear();
    }

    fn requests(&mut self) {
        while let Some(channel) = &mut self.supervisor {
            match channel.recv::<Request>() {
                Ok(Some((request, fds))) => self.handle(request, fds),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.refuse("a message", &error.to_string());
                }
                // It has closed without reading all that was for it. What it sent before is still there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Ok(None) | Err(_) => self.hang_up(),
            }
        }
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Setup(_) if self.ready => self.refuse("setup", "the sandbox has been made"),
            Request::Setup(setup) => match self.set_up(&setup, fds) {
                Ok(()) => {
                    self.ready = true;
                    self.send(&Event::Ready, Vec::new());
                }
                Err(failure) => {
                    self.send(&Event::SetupFailed(failure), Vec::new());
                    self.flush();
                    self.ended = true;
                }
            },
            Request::Hello => self.tell_all(),
            Request::Start(request) => self.start(&request, fds),
            Request::Signal { id, signal } => self.signal(&id, signal),
            Request::Forget { id } => self.forget(&id),
            Request::Exec(_) => self.refuse("exec", "a command has a connection of its own"),
            Request::Shutdown => {
                if self.containers.iter().any(Container::is_alive) {
                    self.refuse("shutdown", "containers are running");
                } else {
                    self.ended = true;
                }
            }
        }
    }

    fn set_up(&mut self, setup: &InitSetup, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        enter(setup, fds).map_err(|(what, error)| crate::spawn::failure(Stage::Sandbox, &what, &error))?;
        if setup.shared_processes {
            // SAFETY: this is init, which has one thread.
            self.reaper = Some(unsafe { share_processes(self.filters.filter(0)) }?);
        }
        Ok(())
    }

    fn tell_all(&mut self) {
        let known: Vec<&Container> = self.containers.iter().filter(|c| !c.forgotten).collect();
        let containers = known.iter().map(|container| container.record()).collect();
        let snapshot = Event::Snapshot(Snapshot { ready: self.ready, containers });
        let own = PidFd::open(nix::unistd::getpid().as_raw()).ok().map(OwnedFd::from);
        let running = known.iter().filter(|c| matches!(c.state, ContainerState::Running(_)));
        let processes = running.map(|container| container.share_process());
        // They are told apart by their order, so one that is missing would make others of those that follow.
        match std::iter::once(own).chain(processes).collect() {
            Some(fds) => self.send(&snapshot, fds),
            None => self.hang_up(),
        }
    }

    fn start(&mut self, request: &StartRequest, fds: Vec<OwnedFd>) {
        let id = &request.setup.id;
        if let Some(known) = self.containers.iter().find(|container| container.id == *id) {
            // Asked again: the answer is the same again.
            let (event, fds) = known.answer();
            if let Some(event) = event {
                self.send(&event, fds);
            }
            return;
        }
        let container = if self.ready {
            self.spawn(request, fds)
        } else {
            Err(Failure {
                stage: Stage::Sandbox,
                errno: 0,
                message: "the sandbox is not made yet".to_owned(),
            })
        };
        match container {
            Ok(container) => self.containers.push(container),
            Err(failure) => {
                let failed =
                    StartFailed { id: id.clone(), failure, exit_code: START_ERROR_CODE, failed_at: now() };
                self.send(&Event::StartFailed(failed.clone()), Vec::new());
                self.containers.push(Container::failed(failed));
            }
        }
    }

    fn spawn(&mut self, request: &StartRequest, fds: Vec<OwnedFd>) -> Result<Container, Failure> {
        let security = &request.setup.security;
        let filtered = security.seccomp && !security.privileged;
        let filter = filtered.then(|| self.filters.filter(security.capabilities));
        let shared = match &self.reaper {
            Some((_, reaper)) => Some(SharedProcesses { reaper, proc: exec::own_proc(&mut self.proc)? }),
            None => None,
        };
        // SAFETY: this is init, which has one thread.
        let (spawned, log) = unsafe { spawn(request, fds, filter, shared) }?;
        self.serial += 1;
        let mut container = Container::new(&request.setup, self.serial, spawned, log);
        let watched = container.sources().into_iter().try_for_each(|(source, fd)| {
            let data = self.serial * SOURCES + source as u64;
            self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, data))
        });
        if let Err(errno) = watched {
            // Without a watch its log would stall it: it is killed, and its end is reaped as any other.
            container.kill();
            return Err(crate::spawn::failure(Stage::Clone, "watch the process", &errno.into()));
        }
        Ok(container)
    }

    fn signal(&mut self, id: &str, signal: i32) {
        let Some(container) = self.containers.iter_mut().find(|container| container.id == id) else {
            return self.refuse("signal", &format!("there is no container {id}"));
        };
        if let Err(error) = container.signal(signal) {
            self.refuse("signal", &format!("signal {signal} to {id}: {error}"));
        }
    }

    fn forget(&mut self, id: &str) {
        let Some(container) = self.containers.iter_mut().find(|container| container.id == id) else { return };
        if container.is_alive() {
            return self.refuse("forget", &format!("{id} has not ended"));
        }
        container.forgotten = true;
        self.drop_forgotten();
    }

    /// Drops what is forgotten, once nothing writes to its log any more.
    fn drop_forgotten(&mut self) {
        self.containers.retain(|container| !container.forgotten || container.is_open());
    }

    fn event(&mut self, serial: u64, source: u64) {
        let Some(source) = Source::from_number(source) else { return };
        if source == Source::Connection {
            return self.connection_event(serial);
        }
        let Some(index) = self.containers.iter().position(|container| container.serial == serial) else {
            return;
        };
        let events = match source {
            Source::Report => {
                self.started = true;
                self.containers[index].read_report(now())
            }
            source => self.containers[index].read_output(source, &mut self.buffer, now()),
        };
        self.send_all(index, events);
        if self.containers[index].forgotten {
            self.drop_forgotten();
        }
    }

    /// Reaps every child that has ended, orphans of the Pod included.
    fn reap(&mut self) -> io::Result<()> {
        while self.signals.read_signal()?.is_some() {}
        // An error is ECHILD: there are no children at all.
        while let Ok(Some((pid, status))) = sys::reap_any() {
            if self.reaper.as_ref().is_some_and(|(reaper, _)| *reaper == pid) {
                // With it the kernel has ended all containers, and there can be no more of them.
                self.ended = true;
            }
            let Some(index) = self.containers.iter_mut().position(|container| container.has(pid)) else {
                self.helper_ended(pid);
                continue;
            };
            let events = self.containers[index].reaped(pid, status, &mut self.buffer, now());
            self.send_all(index, events);
            if !self.containers[index].is_alive() {
                self.end_commands_of(self.containers[index].serial);
            }
        }
        self.drop_ended_commands();
        Ok(())
    }

    fn send_all(&mut self, index: usize, events: Vec<Event>) {
        for event in events {
            let process = match &event {
                Event::Started(_) => self.containers[index].share_process(),
                _ => None,
            };
            self.send(&event, process.into_iter().collect());
        }
    }

    fn refuse(&mut self, request: &str, message: &str) {
        let event = Event::Refused { request: request.to_owned(), message: message.to_owned() };
        self.send(&event, Vec::new());
    }

    fn send(&mut self, event: &Event, fds: Vec<OwnedFd>) {
        if self.supervisor.is_some() && !self.outbox.push(event, fds) {
            self.hang_up();
        }
    }

    fn flush(&mut self) {
        let Some(channel) = &self.supervisor else { return };
        match self.outbox.flush(channel) {
            Ok(None) => {}
            Ok(Some(waiting)) => {
                let flags =
                    if waiting { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
                let mut event = EpollEvent::new(flags, SUPERVISOR);
                if self.epoll.modify(channel.as_fd(), &mut event).is_err() {
                    self.hang_up();
                }
            }
            Err(_) => {
                // Nobody listens any more, but what was asked for before that is done all the same.
                self.requests();
                self.hang_up();
            }
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
