//! `podrun run`: create Pods and follow them to their end.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use podrun_engine::{Client, Engine, EventRecord, HeldBack, Launcher, Message, PodView};
use podrun_spec::status::{ContainerState, Phase, PodStatus};
use podrun_spec::time::Timestamp;

use crate::cli::{Global, RunArgs};
use crate::exit_code::Code;
use crate::follow::{Changes, ContainerLog, Lines};
use crate::output::{harmless, now, since};
use crate::print::{self, eprintln, println};
use crate::report::{CommandError, CommandResult, hint, warning};
use crate::watch::is_readable;
use crate::{context, manifests, report};

pub(crate) fn run(global: &Global, args: &RunArgs) -> CommandResult {
    let begun = now();
    let engine = context::engine(global)?;
    // Forked before the manifest is read: the supervisor inherits nothing of that.
    let mut launcher = Some(engine.launcher()?);
    let options = context::options(&engine, &args.node, args.rm)?;
    let manifest = manifests::read(global, args.manifests.names())?;
    // All or none: nothing is made while one of them cannot be.
    for parsed in &manifest.pods {
        let unenforced = engine.check(&parsed.pod, &options)?;
        // Who follows sees the events, which say the same.
        for limit in unenforced.into_iter().filter(|_| args.detach || args.quiet) {
            let (object, value, controller, why) = (limit.object, limit.value, limit.controller, limit.why);
            warning(&format!("{object}: {value} is not enforced: the {controller} controller {why}"));
        }
    }
    let mut views = Vec::new();
    for parsed in manifest.pods {
        let created = engine.create(parsed.pod, parsed.wire, manifest.objects.clone(), options.clone());
        match created.and_then(|view| launch(&engine, launcher.take(), view)) {
            Ok(view) => {
                let held_back =
                    if args.detach || args.quiet { engine.held_back(&view.pod.meta.uid) } else { None };
                if let Some(HeldBack { why, ports }) = held_back {
                    warning(&format!("pod \"{}\" is not started: {why}", view.pod.meta.name));
                    ports.iter().for_each(|port| hint(Some(port)));
                }
                views.push(view);
            }
            Err(error) => {
                undo(&engine, &views);
                return Err(error.into());
            }
        }
    }
    if args.detach {
        for view in &views {
            println!("pod/{} created", view.pod.meta.name);
        }
        return Ok(Code::Ok);
    }
    Ok(Follower::new(&engine, views, args.quiet, begun)?.follow())
}

/// Starts the supervisor; a Pod whose supervisor cannot be started is not left behind.
fn launch(engine: &Engine, launcher: Option<Launcher>, view: PodView) -> podrun_engine::Result<PodView> {
    let launched = launcher.map_or_else(|| engine.launcher(), Ok);
    match launched.and_then(|launcher| launcher.launch(&view.pod.meta.uid)) {
        Ok(()) => Ok(view),
        Err(error) => {
            if let Err(also) = engine.remove(&view) {
                warning(&report::chain(&also));
            }
            Err(error)
        }
    }
}

/// Takes back the Pods that were made before one could not be.
fn undo(engine: &Engine, views: &[PodView]) {
    for view in views {
        let ended = engine.connect(&view.pod).and_then(|mut client| client.delete(Some(0)));
        if let Err(error) = ended {
            warning(&report::chain(&error));
        }
    }
}

/// How long a supervisor may be out of reach before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which logs are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those of containers whose start was told: nobody should speak before that.
    OfStarted,
    /// All.
    All,
    /// All, with lines that nothing will end any more.
    Last,
}

/// Reason, message, object and count of events.
type Told = BTreeSet<(String, String, Option<String>, u32)>;

/// One Pod that is followed.
struct Followed {
    view: PodView,
    client: Option<Client>,
    logs: Vec<(String, ContainerLog, Lines)>,
    status: PodStatus,
    /// Events of a Pod that ended before it told them.
    missed: Vec<EventRecord>,
    /// What was told of events: each supervisor begins with those that there are.
    told: Told,
}

/// All Pods of the manifest, until they have ended.
struct Follower<'a> {
    engine: &'a Engine,
    pods: Vec<Followed>,
    changes: Changes,
    signals: SignalFd,
    interrupts: u32,
    quiet: bool,
    begun: Timestamp,
}

impl<'a> Follower<'a> {
    fn new(
        engine: &'a Engine,
        views: Vec<PodView>,
        quiet: bool,
        begun: Timestamp,
    ) -> Result<Self, CommandError> {
        let failed =
            |what: &str, error: std::io::Error| CommandError::new(Code::Engine, format!("{what}: {error}"));
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block().map_err(|errno| failed("block signals", errno.into()))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| failed("open a signalfd", errno.into()))?;
        let changes = Changes::new().map_err(|error| failed("open inotify", error))?;
        let mut pods = Vec::new();
        for view in views {
            let logs = view
                .pod
                .spec
                .all_containers()
                .map(|(_, c)| {
                    (c.name.clone(), ContainerLog::new(engine.log_dir(&view.pod, &c.name)), Lines::default())
                })
                .collect();
            let mut pod = Followed {
                client: None,
                logs,
                status: PodStatus::default(),
                missed: Vec::new(),
                told: BTreeSet::new(),
                view,
            };
            pod.watch(engine);
            pods.push(pod);
        }
        Ok(Self { engine, pods, changes, signals, interrupts: 0, quiet, begun })
    }

    fn follow(mut self) -> Code {
        self.print_missed();
        while self.pods.iter().any(|pod| pod.client.is_some()) {
            self.wait();
            self.changes.clear();
            self.take_signals();
            for index in 0..self.pods.len() {
                self.take_messages(index);
            }
            self.print_missed();
            self.print_logs(Which::OfStarted);
        }
        self.print_logs(Which::Last);
        self.code()
    }

    /// Waits until a supervisor speaks, a log grows or a signal comes.
    fn wait(&self) {
        let clients: Vec<&Client> = self.pods.iter().filter_map(|pod| pod.client.as_ref()).collect();
        if clients.iter().any(|client| client.has_buffered()) {
            return;
        }
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(clients.iter().map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)));
        // EINTR: the loop looks at everything anyway.
        let _ = poll(&mut fds, PollTimeout::NONE);
    }

    fn take_signals(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {
            self.interrupts += 1;
            let grace = if self.interrupts == 1 { None } else { Some(0) };
            if !self.quiet {
                let text = if grace.is_none() { "stopping; once more kills at once" } else { "killing" };
                eprintln!("{text}");
            }
            for pod in &mut self.pods {
                if let Some(Err(error)) = pod.client.as_mut().map(|client| client.request_delete(grace)) {
                    warning(&report::chain(&error));
                }
            }
        }
    }

    fn take_messages(&mut self, index: usize) {
        loop {
            let pod = &mut self.pods[index];
            let Some(client) = &mut pod.client else { return };
            if !client.has_buffered() && !is_readable(client) {
                return;
            }
            match client.next() {
                Ok(Some(Message::Status { status, .. })) => pod.status = *status,
                Ok(Some(Message::Event { event })) => self.print_event(index, &event),
                Ok(Some(Message::Finished { .. })) => pod.client = None,
                Ok(Some(Message::Ok)) => {}
                Ok(Some(Message::Ended)) => {
                    self.print_logs(Which::All);
                    self.pods[index].drained();
                    return;
                }
                Ok(Some(Message::Error { message })) => warning(&message),
                // The supervisor was killed. The Pod goes on, and so does the next supervisor.
                Ok(None) | Err(_) => pod.watch_again(self.engine),
            }
        }
    }

    fn print_missed(&mut self) {
        for index in 0..self.pods.len() {
            for event in std::mem::take(&mut self.pods[index].missed) {
                self.print_event(index, &event);
            }
        }
    }

    fn print_event(&mut self, index: usize, event: &EventRecord) {
        let told = (event.reason.clone(), event.message.clone(), event.field_path.clone(), event.count);
        if !self.pods[index].told.insert(told) || self.quiet {
            return;
        }
        let name = self.pods[index].view.pod.meta.name.as_str();
        print_event(event, self.begun, (self.pods.len() > 1).then_some(name));
    }

    fn print_logs(&mut self, which: Which) {
        let several = self.pods.len() > 1;
        let mut output = anstream::stdout().lock();
        for pod in &mut self.pods {
            let name = &pod.view.pod.meta.name;
            for (container, log, lines) in &mut pod.logs {
                self.changes.watch(log.dir());
                if which == Which::OfStarted && !has_started(container, &pod.status, &pod.told) {
                    continue;
                }
                let entries = match log.read_new() {
                    Ok(entries) => entries,
                    Err(error) => {
                        warning(&format!("read the log of {container}: {error}"));
                        continue;
                    }
                };
                let finished = (which == Which::Last).then(|| lines.finish()).flatten();
                let complete: Vec<Vec<u8>> =
                    entries.iter().filter_map(|e| lines.add(e)).chain(finished).collect();
                let prefix =
                    if several { format!("[{name}/{container}] ") } else { format!("[{container}] ") };
                for line in complete {
                    // A reader that has gone away (`| head`) wants no more.
                    let written = print::write(&mut output, &[prefix.as_bytes(), &line, b"\n"].concat());
                    if !written {
                        return;
                    }
                }
            }
        }
    }

    fn code(&self) -> Code {
        if self.interrupts > 0 {
            return Code::Interrupted;
        }
        self.pods.iter().map(|pod| exit_code(&pod.status)).find(|code| *code != Code::Ok).unwrap_or(Code::Ok)
    }
}

/// Returns whether a container has started as far as was told: by the event, or, where that was lost with its supervisor,
/// by the status, which comes later and not before a postStart hook is done.
fn has_started(container: &str, status: &PodStatus, told: &Told) -> bool {
    let about = format!("{{{container}}}");
    let is_start = |(reason, _, path, _): &(String, String, Option<String>, u32)| {
        reason == "Started" && path.as_ref().is_some_and(|path| path.ends_with(&about))
    };
    let mut statuses = status.init_container_statuses.iter().chain(&status.container_statuses);
    let is_known = statuses.any(|status| {
        let waits = matches!(status.state, ContainerState::Waiting { .. });
        status.name == container && (!waits || status.last_state.is_some())
    });
    is_known || told.iter().any(is_start)
}

impl Followed {
    /// Connects to the supervisor, a new one where the Pod should have one, and asks for its messages.
    fn watch(&mut self, engine: &Engine) {
        let deadline = Instant::now() + PATIENCE;
        self.client = loop {
            let connected = engine.connect(&self.view.pod).and_then(|mut client| {
                client.watch()?;
                Ok(client)
            });
            let error = match connected {
                Ok(client) => break Some(client),
                Err(error) => error,
            };
            // A Pod that ended before it could be watched has left its last status.
            let Ok(view) = engine.pod(&self.view.pod.meta.namespace, &self.view.pod.meta.name) else {
                warning(&report::chain(&error));
                break None;
            };
            let is_supervised = view.supervised;
            if self.take_end(view) {
                break None;
            }
            let launched = if is_supervised { Ok(()) } else { engine.launch(&self.view.pod.meta.uid) };
            if let Err(error) = launched {
                warning(&report::chain(&error));
                break None;
            }
            if Instant::now() >= deadline {
                warning(&report::chain(&error));
                break None;
            }
            // One that is being killed holds its lock to the last moment, and one that begins has no socket yet.
            pause();
        };
    }

    /// Takes in what a Pod has left; returns whether it has ended.
    fn take_end(&mut self, view: PodView) -> bool {
        let has_ended = view.published.status.phase.is_terminal();
        self.status = view.published.status;
        if has_ended {
            self.missed = view.published.events;
        }
        has_ended
    }

    /// Tells the supervisor that the logs were read. If it is gone, so are they.
    fn drained(&mut self) {
        if let Some(Err(error)) = self.client.as_mut().map(Client::drained) {
            warning(&report::chain(&error));
        }
    }

    /// Goes on with the next supervisor where the Pod should have one.
    fn watch_again(&mut self, engine: &Engine) {
        self.client = None;
        // A Pod that is gone has told all that it had to tell.
        let Ok(view) = engine.pod(&self.view.pod.meta.namespace, &self.view.pod.meta.name) else { return };
        if !self.take_end(view) {
            self.watch(engine);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lock that is given up and a socket that appears tell nobody"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

fn print_event(event: &EventRecord, begun: Timestamp, pod: Option<&str>) {
    let about = event
        .field_path
        .as_deref()
        .and_then(|path| Some(path.split_once('{')?.1.trim_end_matches('}')))
        .unwrap_or_default();
    let pod = pod.map(|pod| format!("{pod}  ")).unwrap_or_default();
    let seconds = since(begun, event.last).as_secs_f64();
    let style = match event.kind {
        podrun_engine::EventKind::Normal => anstyle::Style::new(),
        podrun_engine::EventKind::Warning => anstyle::AnsiColor::Yellow.on_default(),
    };
    let message = harmless(&event.message);
    eprintln!("{seconds:>8.3}s  {pod}{style}{:<12}{style:#} {about:<12} {message}", event.reason);
}

/// Returns the code of the container that failed first.
fn exit_code(status: &PodStatus) -> Code {
    if status.phase == Phase::Succeeded {
        return Code::Ok;
    }
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses);
    let failed: BTreeMap<_, _> = statuses
        .filter_map(|container| match &container.state {
            ContainerState::Terminated(ended) if ended.exit_code != 0 => {
                Some((ended.finished_at, ended.exit_code))
            }
            _ => None,
        })
        .rev()
        .collect();
    match failed.values().next().map(|&code| u8::try_from(code & 0xff).unwrap_or(1)) {
        Some(code) if code != 0 => Code::Container(code),
        _ => Code::Failure,
    }
}

#[cfg(test)]
mod tests {
    use podrun_spec::status::{ContainerStatus, Terminated};

    use super::*;

    fn ended(name: &str, exit_code: i32, second: i64) -> ContainerStatus {
        ContainerStatus {
            name: name.into(),
            state: ContainerState::Terminated(Terminated {
                exit_code,
                reason: "Error".into(),
                message: None,
                started_at: None,
                finished_at: Some(Timestamp::from_unix_seconds(second)),
                container_id: String::new(),
            }),
            ..ContainerStatus::default()
        }
    }

    #[test]
    fn the_first_failure_gives_the_code() {
        let mut status = PodStatus { phase: Phase::Failed, ..PodStatus::default() };
        status.container_statuses = vec![ended("a", 3, 20), ended("b", 0, 5), ended("c", 137, 10)];
        assert_eq!(exit_code(&status), Code::Container(137));
        status.phase = Phase::Succeeded;
        assert_eq!(exit_code(&status), Code::Ok);
        assert_eq!(exit_code(&PodStatus::default()), Code::Failure);
    }
}
