//! `podrun logs`: what containers wrote.

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_engine::{Client, Engine, Message, PodView};
use podrun_spec::status::{ContainerState, ContainerStatus, PodStatus, Terminated};
use podrun_spec::time::Timestamp;

use crate::cli::{Global, LogsArgs};
use crate::exit_code::Code;
use crate::fields::Fields;
use crate::follow::{Changes, Entry, LogFile};
use crate::output::now;
use crate::report::{CommandError, CommandResult};
use crate::selection::{Filter, Selection, pod_and_container};
use crate::watch::is_readable;
use crate::{context, print, report};

/// So many lines of each container are printed where several Pods are asked for at once, as in kubectl.
const TAIL_OF_SEVERAL: i64 = 10;

pub(crate) fn run(global: &Global, args: &LogsArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let (name, slashed) = pod_and_container(args.pod.as_deref().unwrap_or_default());
    let asked = args.container.as_deref().or(args.container_arg.as_deref()).or(slashed);
    let views = match &args.selector {
        Some(labels) => {
            let filter = Filter { labels: labels.clone(), fields: Fields::default() };
            let (views, _) = context::select(&engine, global, &Selection::Filtered(filter), false)?;
            views
        }
        None => vec![engine.pod(global.namespace(), name)?],
    };
    if views.is_empty() {
        context::tell_nothing_found(global, false);
    }
    if args.follow && views.len() > 1 {
        let message = format!("{} Pods have these labels, and one log can be followed", views.len());
        return Err(CommandError::new(Code::Usage, message).with_hint("podrun logs -f NAME"));
    }
    let mut failed = Vec::new();
    for view in &views {
        let mut sources = Vec::new();
        for container in containers(view, asked, args.all_containers)? {
            match source(&engine, view, container, args) {
                Ok(source) => sources.push(source),
                // What there is of the others is printed all the same.
                Err(error) if args.all_containers || views.len() > 1 => failed.push(error),
                Err(error) => return Err(error),
            }
        }
        let printer = Printer { args, pod: view.pod.meta.name.clone(), left: args.limit_bytes };
        printer.print(&engine, view, sources)?;
    }
    report::all(failed, global.json_errors())
}

fn source(
    engine: &Engine,
    view: &PodView,
    container: String,
    args: &LogsArgs,
) -> Result<Source, CommandError> {
    let attempt = attempt(view, &container, args.previous)?;
    let path = engine.log_dir(&view.pod, &container).join(format!("{attempt}.log"));
    Source::open(container, attempt, path, args)
}

/// Returns the containers whose logs are wanted.
fn containers(view: &PodView, asked: Option<&str>, all: bool) -> Result<Vec<String>, CommandError> {
    if all {
        return Ok(view.pod.spec.all_containers().map(|(_, c)| c.name.clone()).collect());
    }
    Ok(vec![context::container(view, asked, false)?])
}

/// Returns which start of the container has the wanted log, as the kubelet chooses.
fn attempt(view: &PodView, container: &str, previous: bool) -> Result<u32, CommandError> {
    let pod = &view.pod.meta.name;
    let waiting = |why: &str| {
        let message = format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}");
        CommandError::new(Code::Failure, message)
    };
    let status = find(&view.published.status, container).ok_or_else(|| waiting("ContainerCreating"))?;
    let of = |ended: &Terminated| attempt_of(&ended.container_id);
    if previous {
        return status.last_state.as_ref().and_then(of).ok_or_else(|| {
            let message = format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
            CommandError::new(Code::NotFound, message)
        });
    }
    let chosen = match &status.state {
        ContainerState::Running { .. } => attempt_of(&status.container_id),
        ContainerState::Terminated(ended) => of(ended).or_else(|| status.last_state.as_ref().and_then(of)),
        ContainerState::Waiting { reason, .. } => match status.last_state.as_ref().and_then(of) {
            Some(attempt) => Some(attempt),
            None => {
                return Err(waiting(match reason.as_str() {
                    "ErrImagePull" => "image can't be pulled",
                    "ImagePullBackOff" => "trying and failing to pull image",
                    other => other,
                }));
            }
        },
    };
    chosen.ok_or_else(|| waiting("ContainerCreating"))
}

fn find<'a>(status: &'a PodStatus, container: &str) -> Option<&'a ContainerStatus> {
    status.init_container_statuses.iter().chain(&status.container_statuses).find(|c| c.name == container)
}

/// Returns the attempt in `podrun://<uid>_<name>_<attempt>`.
fn attempt_of(container_id: &str) -> Option<u32> {
    container_id.rsplit_once('_')?.1.parse().ok()
}

/// The log of one start of one container.
struct Source {
    container: String,
    attempt: u32,
    dir: PathBuf,
    file: Option<LogFile>,
    line_begins: bool,
}

impl Source {
    fn open(container: String, attempt: u32, path: PathBuf, args: &LogsArgs) -> Result<Self, CommandError> {
        let failed = |error: &io::Error| CommandError::io("read", &path, error);
        let file = match LogFile::open(&path) {
            Ok(mut file) => {
                let several = if args.selector.is_some() { TAIL_OF_SEVERAL } else { -1 };
                if let Ok(count) = u64::try_from(args.tail.unwrap_or(several)) {
                    file.skip_to_tail(count).map_err(|error| failed(&error))?;
                }
                Some(file)
            }
            // A container whose program could not be executed has no log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&error)),
        };
        let dir = path.parent().map(PathBuf::from).unwrap_or_default();
        Ok(Self { container, attempt, dir, file, line_begins: true })
    }

    fn runs(&self, status: &PodStatus) -> bool {
        find(status, &self.container).is_some_and(|container| {
            matches!(container.state, ContainerState::Running { .. })
                && attempt_of(&container.container_id) == Some(self.attempt)
        })
    }
}

struct Printer<'a> {
    args: &'a LogsArgs,
    pod: String,
    left: Option<u64>,
}

impl Printer<'_> {
    fn print(mut self, engine: &Engine, view: &PodView, mut sources: Vec<Source>) -> CommandResult {
        // Watched before reading: what comes in between is not missed.
        let mut following =
            if self.args.follow { Some(Following::begin(engine, view, &sources)?) } else { None };
        loop {
            let over = following.as_ref().is_none_or(|f| !sources.iter().any(|s| s.runs(&f.status)));
            for source in &mut sources {
                if !self.drain(source)? {
                    return Ok(Code::Ok);
                }
            }
            match &mut following {
                Some(following) if !over => following.wait(),
                _ => return Ok(Code::Ok),
            }
        }
    }

    /// Prints what is new; false once nobody wants more.
    fn drain(&mut self, source: &mut Source) -> Result<bool, CommandError> {
        let Some(file) = &mut source.file else { return Ok(true) };
        let entries = file.read_new().map_err(|error| CommandError::io("read", &source.dir, &error))?;
        let since = match (self.args.since, self.args.since_time) {
            (Some(ago), _) => Some(Timestamp(now().0 - i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))),
            (None, time) => time,
        };
        let mut output = io::stdout().lock();
        for entry in entries.iter().filter(|entry| since.is_none_or(|since| entry.time >= since)) {
            let mut text = self.before(source, entry);
            text.extend_from_slice(&entry.content);
            if entry.ends_line {
                text.push(b'\n');
            }
            source.line_begins = entry.ends_line;
            if let Some(left) = &mut self.left {
                text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= text.len() as u64;
            }
            // A reader that has gone away (`| head`) wants no more.
            if !print::write(&mut output, &text) || self.left == Some(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn before(&self, source: &Source, entry: &Entry) -> Vec<u8> {
        let mut text = String::new();
        if source.line_begins {
            if self.args.prefix {
                text.push_str(&format!("[pod/{}/{}] ", self.pod, source.container));
            }
            if self.args.timestamps {
                text.push_str(&entry.time_text);
                text.push(' ');
            }
        }
        text.into_bytes()
    }
}

/// What wakes a reader that follows.
struct Following {
    changes: Changes,
    client: Option<Client>,
    status: PodStatus,
}

impl Following {
    fn begin(engine: &Engine, view: &PodView, sources: &[Source]) -> Result<Self, CommandError> {
        let mut changes = Changes::new()
            .map_err(|error| CommandError::new(Code::Engine, format!("open inotify: {error}")))?;
        sources.iter().for_each(|source| changes.watch(&source.dir));
        let mut client = None;
        if view.supervised {
            let mut connected = engine.connect(&view.pod)?;
            connected.watch()?;
            client = Some(connected);
        }
        Ok(Self { changes, client, status: view.published.status.clone() })
    }

    /// Waits for more of a log, or for news about the containers.
    fn wait(&mut self) {
        let Some(client) = &mut self.client else {
            // Without a supervisor nothing tells when the container ends, so what is there is all there is.
            self.status = PodStatus::default();
            return;
        };
        if !client.has_buffered() {
            let mut fds = [
                PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
                PollFd::new(client.as_fd(), PollFlags::POLLIN),
            ];
            // EINTR: the caller looks at everything anyway.
            let _ = poll(&mut fds, PollTimeout::NONE);
        }
        self.changes.clear();
        while client.has_buffered() || is_readable(client) {
            match client.next() {
                Ok(Some(Message::Status { status, .. })) => self.status = *status,
                // The file is open: what is in it can be read after it is gone.
                Ok(Some(Message::Ended)) => drop(client.drained()),
                Ok(Some(Message::Finished { .. }) | None) | Err(_) => {
                    self.client = None;
                    self.status = PodStatus::default();
                    return;
                }
                Ok(Some(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::attempt_of;

    #[test]
    fn the_attempt_stands_at_the_end_of_the_id() {
        assert_eq!(attempt_of("podrun://0-0_web_12"), Some(12));
        assert_eq!(attempt_of(""), None);
    }
}
