//! One container as init knows it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podrun_cgroups::Cgroup;
use podrun_namespaces::PidFd;
use podrun_plan::model::{ContainerSetup, Owner};
use podrun_sandbox::protocol::{
    ContainerRecord, ContainerState, Event, ExitStatus, Exited, LogError, LogLoss, START_ERROR_CODE,
    StartFailed, Started,
};
use podrun_spec::time::Timestamp;

use crate::exec::Context;
use crate::log::{Framer, LogFile, Stream};
use crate::spawn::{Report, ReportReader, Spawned};

/// How much is read at once: what a pipe holds by default.
pub(super) const CHUNK: usize = 64 * 1024;

/// How often the pipe is read after the end of the main process. What it wrote before is read then, as a pipe holds
/// less; a grandchild that goes on writing must not keep the end from being told.
const MAX_DRAIN: usize = 32;

/// A descriptor of a container that init watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Report = 0,
    Stdout = 1,
    Stderr = 2,
    /// Not a container's: the connection of a caller or a command.
    Connection = 3,
}

impl Source {
    pub(super) const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Report),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Connection),
            _ => None,
        }
    }
}

/// A pipe that a container writes to.
struct Output {
    pipe: Option<File>,
    framer: Framer,
}

impl Output {
    fn new(pipe: OwnedFd, stream: Stream) -> Self {
        Self { pipe: Some(pipe.into()), framer: Framer::new(stream) }
    }
}

pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) serial: u64,
    /// None once it is reaped: the number may be another's.
    pub(super) pid: Option<i32>,
    pub(super) state: ContainerState,
    /// The supervisor has written its end down.
    pub(super) forgotten: bool,
    /// Whose pid namespace it is in.
    pub(super) pids: Owner,
    pidfd: Option<PidFd>,
    /// None once it has ended: then it is another's to remove.
    cgroup: Option<Cgroup>,
    context: Option<Context>,
    report: Option<ReportReader>,
    outputs: Vec<Output>,
    log: Option<LogFile>,
}

impl Container {
    pub(super) fn new(setup: &ContainerSetup, serial: u64, spawned: Spawned, log: OwnedFd) -> Self {
        Self {
            id: setup.id.clone(),
            name: setup.name.clone(),
            serial,
            pid: Some(spawned.pid),
            state: ContainerState::Starting,
            forgotten: false,
            pids: setup.namespaces.pid,
            pidfd: Some(spawned.pidfd),
            // Without it there are no commands beside its main process, and that is told when one is asked for.
            cgroup: Cgroup::from_fd(spawned.cgroup, &setup.cgroup.path).ok(),
            context: Some(Context::new(setup)),
            report: Some(ReportReader::new(spawned.report)),
            outputs: vec![
                Output::new(spawned.stdout, Stream::Stdout),
                Output::new(spawned.stderr, Stream::Stderr),
            ],
            log: Some(LogFile::new(log)),
        }
    }

    /// A container that has no process.
    pub(super) fn failed(failed: StartFailed) -> Self {
        Self {
            id: failed.id.clone(),
            name: String::new(),
            serial: 0,
            pid: None,
            state: ContainerState::StartFailed(failed),
            forgotten: false,
            pids: Owner::Container,
            pidfd: None,
            cgroup: None,
            context: None,
            report: None,
            outputs: Vec::new(),
            log: None,
        }
    }

    pub(super) fn record(&self) -> ContainerRecord {
        ContainerRecord { id: self.id.clone(), state: self.state.clone(), lost: self.lost() }
    }

    fn lost(&self) -> LogLoss {
        self.log.as_ref().map(LogFile::lost).unwrap_or_default()
    }

    /// Whether its process has not ended.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, ContainerState::Starting | ContainerState::Running(_))
    }

    /// Whether somebody may still write to its log.
    pub(super) fn is_open(&self) -> bool {
        self.outputs.iter().any(|output| output.pipe.is_some())
    }

    /// Returns a descriptor of its process to send away.
    pub(super) fn share_process(&self) -> Option<OwnedFd> {
        self.pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok()).map(OwnedFd::from)
    }

    /// Returns what a command beside the main process needs of it: what it was made with, itself, and where it is.
    pub(super) fn place(&self) -> Option<(&Context, &PidFd, &Cgroup)> {
        Some((self.context.as_ref()?, self.pidfd.as_ref()?, self.cgroup.as_ref()?))
    }

    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Returns the descriptors to watch.
    pub(super) fn sources(&self) -> Vec<(Source, BorrowedFd<'_>)> {
        let mut sources: Vec<_> = self.report.iter().map(|report| (Source::Report, report.as_fd())).collect();
        for (source, output) in [Source::Stdout, Source::Stderr].into_iter().zip(&self.outputs) {
            sources.extend(output.pipe.iter().map(|pipe| (source, pipe.as_fd())));
        }
        sources
    }

    /// Returns what was told about its last change, to be told again.
    pub(super) fn answer(&self) -> (Option<Event>, Vec<OwnedFd>) {
        match &self.state {
            ContainerState::Starting => (None, Vec::new()),
            ContainerState::Running(started) => {
                (Some(Event::Started(started.clone())), self.share_process().into_iter().collect())
            }
            ContainerState::Exited { exited, .. } => (Some(Event::Exited(exited.clone())), Vec::new()),
            ContainerState::StartFailed(failed) => (Some(Event::StartFailed(failed.clone())), Vec::new()),
        }
    }

    /// Sends a signal to the main process. One that has ended gets none.
    pub(super) fn signal(&self, signal: i32) -> podrun_namespaces::Result<()> {
        match &self.pidfd {
            Some(pidfd) if self.pid.is_some() => pidfd.send_signal(signal),
            _ => Ok(()),
        }
    }

    /// Kills a process that cannot be used. It is reaped as any other.
    pub(super) fn kill(&self) {
        // It is our unreaped child, so there is nothing that could refuse the signal.
        drop(self.signal(libc::SIGKILL));
    }

    /// Reads what the process tells about its start.
    pub(super) fn read_report(&mut self, now: Timestamp) -> Vec<Event> {
        let Some(report) = self.report.as_mut().and_then(ReportReader::read) else { return Vec::new() };
        self.report = None;
        match report {
            Report::Ready { user, home, warnings } => {
                let pid = self.pid.unwrap_or(0);
                if let Some(context) = &mut self.context {
                    context.runs_as(user.clone(), home);
                }
                let started = Started { id: self.id.clone(), pid, started_at: now, user, warnings };
                self.state = ContainerState::Running(started.clone());
                vec![Event::Started(started)]
            }
            Report::Failed(failure) => {
                let failed =
                    StartFailed { id: self.id.clone(), failure, exit_code: START_ERROR_CODE, failed_at: now };
                self.state = ContainerState::StartFailed(failed.clone());
                self.outputs.clear();
                vec![Event::StartFailed(failed)]
            }
        }
    }

    /// Reads a chunk of what it writes, and logs it.
    pub(super) fn read_output(&mut self, source: Source, buffer: &mut [u8], now: Timestamp) -> Vec<Event> {
        let index = usize::from(source == Source::Stderr);
        let mut batch = Vec::new();
        let mut entries = 0;
        if let Some(output) = self.outputs.get_mut(index) {
            read(output, buffer, now, &mut batch, &mut entries);
        }
        self.append(batch, entries)
    }

    /// Its main process has been reaped. What it wrote is logged before its end is told.
    pub(super) fn ended(&mut self, status: ExitStatus, buffer: &mut [u8], now: Timestamp) -> Vec<Event> {
        // An end that comes before the start was told: both are told, in order.
        let mut events = self.read_report(now);
        self.pid = None;
        self.pidfd = None;
        (self.cgroup, self.context) = (None, None);
        let ContainerState::Running(started) = &self.state else { return events };
        let started = started.clone();
        for index in 0..self.outputs.len() {
            let mut drained = false;
            for _ in 0..MAX_DRAIN {
                let (mut batch, mut entries) = (Vec::new(), 0);
                drained = !read(&mut self.outputs[index], buffer, now, &mut batch, &mut entries);
                events.extend(self.append(batch, entries));
                if drained {
                    break;
                }
            }
            if drained {
                let mut batch = Vec::new();
                let entries = self.outputs[index].framer.flush(now, &mut batch);
                events.extend(self.append(batch, entries));
            }
        }
        let exited = Exited { id: self.id.clone(), status, finished_at: now };
        self.state = ContainerState::Exited { started, exited: exited.clone() };
        events.push(Event::Exited(exited));
        events
    }

    fn append(&mut self, mut batch: Vec<u8>, entries: u64) -> Vec<Event> {
        let Some(log) = &mut self.log else { return Vec::new() };
        let Some(errno) = log.append(&mut batch, entries) else { return Vec::new() };
        vec![Event::LogError(LogError { id: self.id.clone(), errno, lost: log.lost() })]
    }
}

/// Reads a chunk and frames it; at the end of the stream also what is held of a line. Returns whether there may be more.
fn read(
    output: &mut Output,
    buffer: &mut [u8],
    now: Timestamp,
    batch: &mut Vec<u8>,
    entries: &mut u64,
) -> bool {
    let Some(pipe) = &mut output.pipe else { return false };
    match pipe.read(buffer) {
        Ok(count) if count > 0 => {
            *entries += output.framer.push(&buffer[..count], now, batch);
            true
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
        _ => {
            *entries += output.framer.flush(now, batch);
            output.pipe = None;
            false
        }
    }
}
