//! `podrun delete`: end Pods and remove everything of them.

use std::os::fd::AsFd as _;
use std::time::Instant;

use anstream::println;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podrun_engine::{Client, Engine, Error, Message, PodView};

use crate::cli::{DeleteArgs, Global};
use crate::context;
use crate::exit_code::Code;
use crate::report::{self, CommandError, CommandResult};

pub(crate) fn run(global: &Global, args: &DeleteArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let grace = match (args.grace_period, args.force, args.now) {
        (None, true, _) => Some(0),
        (None, _, true) => Some(1),
        (grace, _, _) => grace,
    };
    let mut failed: Option<CommandError> = None;
    let mut waiting = Vec::new();
    // All are told before the first is waited for: they end side by side.
    for (namespace, name) in wanted(global, args, &engine)? {
        match begin(&engine, &namespace, &name, grace) {
            Ok(begun) => waiting.push((name, begun)),
            Err(Error::NotFound { .. }) if args.ignore_not_found => {}
            Err(error) => report_and_go_on(error.into(), &mut failed, global),
        }
    }
    for (name, begun) in waiting {
        if let Begun::Told(client) = begun
            && args.wait
            && let Err(error) = finish(&engine, client, &name, deadline)
        {
            report_and_go_on(error, &mut failed, global);
            continue;
        }
        println!("pod \"{name}\" deleted");
    }
    failed.map_or(Ok(Code::Ok), Err)
}

/// Prints an error if another one follows it: the last one is reported by the caller.
fn report_and_go_on(error: CommandError, failed: &mut Option<CommandError>, global: &Global) {
    if let Some(earlier) = failed.replace(error) {
        report::error(&earlier, global.json_errors());
    }
}

fn wanted(
    global: &Global,
    args: &DeleteArgs,
    engine: &Engine,
) -> Result<Vec<(String, String)>, CommandError> {
    if args.all {
        let pods = engine.pods()?.into_iter().map(|view| view.pod.meta);
        return Ok(pods
            .filter(|meta| meta.namespace == global.namespace)
            .map(|m| (m.namespace, m.name))
            .collect());
    }
    if let Some(file) = &args.file {
        let manifest = context::manifest_with_pods(file)?;
        return Ok(manifest.pods.into_iter().map(|p| (p.pod.meta.namespace, p.pod.meta.name)).collect());
    }
    let names = context::pod_names(&args.what);
    if names.is_empty() {
        return Err(
            CommandError::new(Code::Usage, "no Pod is named").with_hint("podrun delete pod NAME, or --all")
        );
    }
    Ok(names.into_iter().map(|name| (global.namespace.clone(), name)).collect())
}

/// How far a deletion is.
enum Begun {
    /// The supervisor knows; it says when it is done.
    Told(Box<Client>),
    /// Everything is gone.
    Done,
}

fn begin(engine: &Engine, namespace: &str, name: &str, grace: Option<u64>) -> Result<Begun, Error> {
    let view = engine.pod(namespace, name)?;
    if view.published.status.phase.is_terminal() && !view.supervised {
        engine.remove(&view)?;
        return Ok(Begun::Done);
    }
    let told = connect(engine, &view).and_then(|mut client| {
        client.watch()?;
        client.delete(grace)?;
        Ok(client)
    });
    match told {
        Ok(client) => Ok(Begun::Told(Box::new(client))),
        // It ended while we spoke: there are records to remove, or nothing at all.
        Err(error @ Error::Unreachable { .. }) => match engine.pod(namespace, name) {
            Ok(now) if now.pod.meta.uid != view.pod.meta.uid => Ok(Begun::Done),
            Ok(now) if now.published.status.phase.is_terminal() && !now.supervised => {
                engine.remove(&now)?;
                Ok(Begun::Done)
            }
            Err(Error::NotFound { .. }) => Ok(Begun::Done),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Connects to the supervisor, after starting one where it is missing: only it knows how to end a Pod gracefully.
fn connect(engine: &Engine, view: &PodView) -> Result<Client, Error> {
    if !view.supervised {
        engine.launch(&view.pod.meta.uid)?;
    }
    engine.connect(&view.pod)
}

fn finish(
    engine: &Engine,
    mut client: Box<Client>,
    name: &str,
    deadline: Option<Instant>,
) -> Result<(), CommandError> {
    loop {
        if !client.has_buffered() {
            wait(&client, name, deadline)?;
        }
        match client.next() {
            Ok(Some(Message::Finished { removed: true })) => return Ok(()),
            Ok(Some(Message::Ended)) => client.drained()?,
            // It had ended just before the wish came: what is left are its records.
            Ok(Some(Message::Finished { removed: false }) | None) | Err(_) => {
                return remove_rest(engine, name, client.pod());
            }
            Ok(Some(_)) => {}
        }
    }
}

fn remove_rest(engine: &Engine, name: &str, namespace_and_uid: (&str, &str)) -> Result<(), CommandError> {
    let (namespace, uid) = namespace_and_uid;
    match engine.pod(namespace, name) {
        Ok(view) if view.pod.meta.uid == uid => Ok(engine.remove(&view)?),
        // Gone, or another Pod of the same name already.
        Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
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
