//! `podrun delete`: end Pods and remove everything of them.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_engine::{Client, Engine, Error, Message, PodView};

use crate::cli::{DeleteArgs, Global};
use crate::exit_code::Code;
use crate::print::println;
use crate::report::{self, CommandError, CommandResult};
use crate::selection::Selection;
use crate::{context, manifests};

/// How long others may keep a Pod busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look meanwhile.
const INTERVAL: Duration = Duration::from_millis(5);
/// So many supervisors may die while they end the same Pod.
const SUPERVISORS: u32 = 5;

pub(crate) fn run(global: &Global, args: &DeleteArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let grace = match (args.grace_period, args.force, args.now) {
        (None, true, _) => Some(0),
        (None, _, true) => Some(1),
        // Less than nothing is kubectl's word for what the Pod says itself.
        (grace, _, _) => grace.and_then(|seconds| u64::try_from(seconds).ok()),
    };
    let mut failed: Vec<CommandError> = Vec::new();
    let mut waiting = Vec::new();
    // All are told before the first is waited for: they end side by side.
    engine.sweep()?;
    let wanted = wanted(global, args, &engine)?;
    for (namespace, name) in &wanted {
        let wish = Wish { namespace, name, uid: None, grace, force: args.force };
        match begin(&engine, &wish) {
            Ok(begun) => waiting.push((wish, begun)),
            Err(Error::NotFound { .. }) if args.ignore_not_found => {}
            Err(error) => failed.push(error.into()),
        }
    }
    for (wish, begun) in waiting {
        if let Begun::Told(client) = begun
            && args.wait
            && let Err(error) = finish(&engine, client, &wish, deadline)
        {
            failed.push(error);
            continue;
        }
        println!("pod \"{}\" deleted", wish.name);
    }
    report::all(failed, global.json_errors())
}

fn wanted(
    global: &Global,
    args: &DeleteArgs,
    engine: &Engine,
) -> Result<Vec<(String, String)>, CommandError> {
    if !args.files.is_empty() {
        let manifest = manifests::read(global, &args.files)?;
        return Ok(manifest.pods.into_iter().map(|p| (p.pod.meta.namespace, p.pod.meta.name)).collect());
    }
    let selection = Selection::read(&args.what, args.all, args.filter.filter())?;
    let here = global.namespace().to_owned();
    if let Selection::Named(names) = selection {
        if names.is_empty() {
            return Err(CommandError::new(Code::Usage, "no Pod is named")
                .with_hint("podrun delete pod NAME, or -l SELECTOR, or --all"));
        }
        return Ok(names.into_iter().map(|name| (here.clone(), name)).collect());
    }
    let pods = engine.pods()?;
    let meant = pods.views.iter().filter(|view| view.pod.meta.namespace == here && selection.matches(view));
    let mut wanted: Vec<_> = meant.map(|view| (here.clone(), view.pod.meta.name.clone())).collect();
    // Whoever deletes all means those too that cannot be read.
    for fault in pods.faults.into_iter().filter(|_| selection == Selection::All) {
        // One that has lost its name goes by its UID.
        let name = fault.name.unwrap_or_else(|| (here.clone(), fault.uid));
        if name.0 == here && !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    if wanted.is_empty() {
        context::tell_nothing_found(global, false);
    }
    Ok(wanted)
}

/// How far a deletion is.
enum Begun {
    /// The supervisor knows; it says when it is done.
    Told(Box<Client>),
    /// Everything is gone.
    Done,
}

/// What is to be deleted, and how.
#[derive(Clone, Copy)]
struct Wish<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Once it is known which Pod it is: another one of that name is not meant.
    uid: Option<&'a str>,
    grace: Option<u64>,
    force: bool,
}

/// Asks the supervisor to end the Pod, or removes one that has ended.
///
/// Others may be about the same at the same time, and every process may be killed: the Pod is looked at again until it
/// is gone or somebody has taken the wish.
fn begin(engine: &Engine, wish: &Wish<'_>) -> Result<Begun, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut uid = wish.uid.map(str::to_owned);
    let mut lives = SUPERVISORS;
    loop {
        let view = match engine.pod(wish.namespace, wish.name) {
            Err(Error::NotFound { .. }) if uid.is_some() => return Ok(Begun::Done),
            // Its name and UID are enough for this.
            Err(error) if wish.force => engine.stand_in(wish.namespace, wish.name).map_err(|_| error)?,
            view => view?,
        };
        let known = uid.get_or_insert_with(|| view.pod.meta.uid.clone());
        if *known != view.pod.meta.uid {
            return Ok(Begun::Done);
        }
        match try_once(engine, &view, wish) {
            Err(Error::Unreachable { .. } | Error::Busy { .. } | Error::Gone { .. })
                if Instant::now() < deadline && lives > 0 =>
            {
                // One that is started here and dies before it has taken the wish will hardly fare better the next time.
                lives -= u32::from(!view.supervised);
                pause();
            }
            begun => return begun,
        }
    }
}

fn try_once(engine: &Engine, view: &PodView, wish: &Wish<'_>) -> Result<Begun, Error> {
    if view.published.status.phase.is_terminal() && !view.supervised {
        engine.remove(view)?;
        return Ok(Begun::Done);
    }
    // Only a supervisor knows how to end a Pod gracefully.
    if !view.supervised {
        match engine.launch(&view.pod.meta.uid) {
            // What it needs to know cannot be read.
            Err(Error::SupervisorEnded { .. }) if wish.force => {
                engine.remove(view)?;
                return Ok(Begun::Done);
            }
            launched => launched?,
        }
    }
    let mut client = engine.connect(&view.pod)?;
    client.watch()?;
    client.delete(wish.grace)?;
    Ok(Begun::Told(Box::new(client)))
}

#[expect(clippy::disallowed_methods, reason = "no event tells that another process is done with a Pod")]
fn pause() {
    std::thread::sleep(INTERVAL);
}

/// Waits until the Pod is gone. If its supervisor dies meanwhile, the next one is asked.
fn finish(
    engine: &Engine,
    mut client: Box<Client>,
    wish: &Wish<'_>,
    deadline: Option<Instant>,
) -> Result<(), CommandError> {
    let uid = client.pod().1.to_owned();
    let wish = Wish { uid: Some(&uid), ..*wish };
    let mut lives = SUPERVISORS;
    loop {
        if !client.has_buffered() {
            wait(&client, wish.name, deadline)?;
        }
        match client.next() {
            Ok(Some(Message::Finished { removed: true })) => return Ok(()),
            // A supervisor that is gone by now is noticed at the next read.
            Ok(Some(Message::Ended)) => drop(client.drained()),
            Ok(Some(Message::Finished { removed: false }) | None) | Err(_) => {
                if lives == 0 {
                    let message = format!("the supervisors of pod \"{}\" die again and again", wish.name);
                    return Err(CommandError::new(Code::Engine, message));
                }
                lives -= 1;
                match begin(engine, &wish)? {
                    Begun::Told(next) => client = next,
                    Begun::Done => return Ok(()),
                }
            }
            Ok(Some(_)) => {}
        }
    }
}

fn wait(client: &Client, name: &str, deadline: Option<Instant>) -> Result<(), CommandError> {
    let timed_out =
        || CommandError::new(Code::Timeout, format!("timed out waiting for pod \"{name}\" to be deleted"));
    let timeout = match deadline {
        None => PollTimeout::NONE,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    };
    let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(0) => Err(timed_out()),
        // An error shows itself at the read.
        _ => Ok(()),
    }
}
