//! One container as init knows it.

use std::fs::File;
use std::io;
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
use crate::spawn::{Birth, Process, Report, ReportReader, Spawned};
use crate::sys;

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

/// Who bears the main process among others.
struct Helper {
    /// Its id. It has not been reaped.
    pid: i32,
    /// How the process ended that it has borne, if that was reaped before it.
    end: Option<ExitStatus>,
    /// What the process is to be sent when it is there.
    signals: Vec<i32>,
}

pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) serial: u64,
    /// None before it is born, and once it is reaped: the number may be another's.
    pid: Option<i32>,
    pub(super) state: ContainerState,
    /// The supervisor has written its end down.
    pub(super) forgotten: bool,
    /// Whose pid namespace it is in.
    pub(super) pids: Owner,
    pidfd: Option<PidFd>,
    helper: Option<Helper>,
    /// Until it has been seen.
    birth: Option<Birth>,
    /// None once it has ended: then it is another's to remove.
    cgroup: Option<Cgroup>,
    context: Option<Context>,
    report: Option<ReportReader>,
    outputs: Vec<Output>,
    log: Option<LogFile>,
}

impl Container {
    pub(super) fn new(setup: &ContainerSetup, serial: u64, spawned: Spawned, log: OwnedFd) -> Self {
        let (pid, pidfd, helper, birth) = match spawned.process {
            Process::Main(pid, pidfd) => (Some(pid), Some(pidfd), None, None),
            Process::Helper(pid, birth) => {
                (None, None, Some(Helper { pid, end: None, signals: Vec::new() }), Some(birth))
            }
        };
        Self {
            id: setup.id.clone(),
            name: setup.name.clone(),
            serial,
            pid,
            state: ContainerState::Starting,
            forgotten: false,
            pids: setup.namespaces.pid,
            pidfd,
            helper,
            birth,
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
            helper: None,
            birth: None,
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
        let known = self.pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
        known.or_else(|| PidFd::open(self.process()?).ok()).map(OwnedFd::from)
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

    /// Sends a signal to the main process. One that has ended gets none, one that is not born yet gets it then.
    pub(super) fn signal(&mut self, signal: i32) -> podrun_namespaces::Result<()> {
        self.meet();
        match (&self.pidfd, self.process(), &mut self.helper) {
            (Some(pidfd), Some(_), _) => return pidfd.send_signal(signal),
            (None, Some(pid), _) => sys::signal_child(pid, signal),
            (_, None, Some(_)) if signal == libc::SIGKILL => self.kill(),
            (_, None, Some(helper)) => helper.signals.push(signal),
            (_, None, None) => {}
        }
        Ok(())
    }

    /// Returns the id of the main process as long as it is nobody else's.
    fn process(&self) -> Option<i32> {
        let is_reaped = self.helper.as_ref().is_some_and(|helper| helper.end.is_some());
        self.pid.filter(|_| !is_reaped)
    }

    /// Kills a process that cannot be used. It is reaped as any other.
    pub(super) fn kill(&mut self) {
        // All at once: a helper may be about to bear a process.
        if self.cgroup.as_ref().is_some_and(|cgroup| cgroup.kill().is_ok()) {
            return;
        }
        self.meet();
        // They are our unreaped children, so there is nothing that could refuse the signal.
        for pid in self.helper.iter().map(|helper| helper.pid).chain(self.process()) {
            sys::signal_child(pid, libc::SIGKILL);
        }
    }

    /// Returns whether a child of init is its main process, or who bears that.
    pub(super) fn has(&mut self, pid: i32) -> bool {
        if self.birth.as_ref().and_then(Birth::pid) == Some(pid) {
            // It has been reaped already, so that there is nothing to open any more.
            self.birth = None;
            self.pid = Some(pid);
        }
        self.pid == Some(pid) || self.helper.as_ref().is_some_and(|helper| helper.pid == pid)
    }

    /// Takes the main process in if it has been born. It has not been reaped, or [`has`](Self::has) would know.
    fn meet(&mut self) {
        if let Some(pid) = self.birth.as_ref().and_then(Birth::pid) {
            self.birth = None;
            self.pid = Some(pid);
            self.pidfd = PidFd::open(pid).ok();
        }
    }

    /// A child of init that is its own has been reaped.
    pub(super) fn reaped(
        &mut self,
        pid: i32,
        status: ExitStatus,
        buffer: &mut Vec<u8>,
        now: Timestamp,
    ) -> Vec<Event> {
        if self.pid == Some(pid) {
            if let Some(helper) = &mut self.helper {
                // It ends in this moment. Until then it holds the report open.
                helper.end = Some(status);
                return Vec::new();
            }
            return self.ended(status, buffer, now);
        }
        match self.helper.take() {
            Some(Helper { end: Some(status), .. }) => self.ended(status, buffer, now),
            Some(Helper { signals, .. }) => {
                self.meet();
                // Who is not born by now never will be, and its report says so.
                for signal in signals {
                    drop(self.signal(signal));
                }
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Reads what the process tells about its start.
    pub(super) fn read_report(&mut self, now: Timestamp) -> Vec<Event> {
        match self.report.as_mut().and_then(ReportReader::read) {
            Some(report) => self.take_in(report, now),
            None => Vec::new(),
        }
    }

    fn take_in(&mut self, report: Report, now: Timestamp) -> Vec<Event> {
        self.report = None;
        self.meet();
        let report = match report {
            Report::Ready { .. } if self.birth.take().is_some() => Report::silence(),
            report => report,
        };
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
    pub(super) fn read_output(&mut self, source: Source, buffer: &mut Vec<u8>, now: Timestamp) -> Vec<Event> {
        let index = usize::from(source == Source::Stderr);
        let mut batch = Vec::new();
        let mut entries = 0;
        if let Some(output) = self.outputs.get_mut(index) {
            read(output, buffer, now, &mut batch, &mut entries);
        }
        self.append(batch, entries)
    }

    /// Its main process has been reaped. What it wrote is logged before its end is told.
    fn ended(&mut self, status: ExitStatus, buffer: &mut Vec<u8>, now: Timestamp) -> Vec<Event> {
        // An end that comes before the start was told: both are told, in order.
        let mut events = match self.report.as_mut().map(ReportReader::conclude) {
            Some(report) => self.take_in(report, now),
            None => Vec::new(),
        };
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
    buffer: &mut Vec<u8>,
    now: Timestamp,
    batch: &mut Vec<u8>,
    entries: &mut u64,
) -> bool {
    let Some(pipe) = &mut output.pipe else { return false };
    buffer.clear();
    match sys::read(pipe.as_fd(), buffer) {
        Ok(count) if count > 0 => {
            *entries += output.framer.push(buffer, now, batch);
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
