//! `postStart` and `preStop`: what is done when a container has started and before it is stopped.

use std::fmt;
use std::time::Duration;

use crate::exec::{self, End, Leftovers, Spawner};
use crate::http::{self, Hooked, HttpGet};
use crate::tcp::TcpSocket;
use crate::text::harmless;
use crate::{Error, Event, Network, Result};

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// Right after the container's start, beside its entrypoint.
    PostStart,
    /// Before the container is sent its stop signal.
    PreStop,
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PostStart => "PostStart",
            Self::PreStop => "PreStop",
        })
    }
}

impl HookKind {
    /// Returns the event of a hook that failed. It tells no details, which may be secret.
    pub fn failure_event(self) -> Event {
        let reason = match self {
            Self::PostStart => "FailedPostStartHook",
            Self::PreStop => "FailedPreStopHook",
        };
        Event { reason, message: format!("{self}Hook failed") }
    }
}

/// What a hook does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Runs a command in the container, without a timeout of its own. Exit code 0 is the success.
    Exec(Vec<String>),
    /// Makes a request, without a timeout of its own. Any answer is a success, whatever its status.
    HttpGet(HttpGet),
    /// Waits.
    Sleep(Duration),
    /// Fails: the API accepts it, a kubelet cannot do it.
    TcpSocket(TcpSocket),
}

/// What is to be told of a hook that has succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookDone {
    /// The event `LifecycleHTTPFallback`: TLS was asked for, and the server answered in the clear only.
    pub event: Option<Event>,
}

/// Why a hook failed. For the status message of the container; the event is that of [`HookKind::failure_event`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The command ended with another code than 0, or by a signal.
    #[error("command '{command}' {end}: {output}")]
    Command {
        /// The command's words, joined.
        command: String,
        /// `exited with 3` or `exited with 137`: a signal counts 128 more than its number.
        end: String,
        /// The beginning of what it wrote.
        output: String,
    },
    /// The server gave no answer.
    #[error("{message}")]
    Request {
        /// Why.
        message: String,
    },
    /// The handler is none that a hook can have.
    #[error("invalid handler: {handler}")]
    InvalidHandler {
        /// `tcpSocket`.
        handler: &'static str,
    },
    /// It could not be attempted.
    #[error("the hook could not be run")]
    Attempt(#[from] Error),
}

/// Runs a hook to its end.
///
/// Hooks have no timeout: a `preStop` hook is bounded by the grace period, by whoever calls this. Dropping the future
/// kills a command and ends a request; to abandon a hook instead, as a kubelet does at the end of the grace period, leave
/// the future in a task.
pub(crate) async fn run<S: Spawner>(
    spawner: &S,
    network: &Network,
    pod: &str,
    version: &str,
    hook: &Hook,
) -> Result<HookDone, HookError> {
    match hook {
        Hook::Exec(command) => {
            // As with a kubelet: a hook may leave a daemon.
            let finished = exec::run_with(spawner, command, None, Leftovers::Leave).await?;
            // A command that is given up has told all that it had to tell.
            drop(finished.cleanup);
            let code = match finished.end {
                End::Ended(status) => status.code().or(status.signal().map(|signal| 128 + signal)),
                End::TimedOut => None,
            };
            if code == Some(0) {
                return Ok(HookDone::default());
            }
            let end = code.map_or_else(|| "did not end".to_owned(), |code| format!("exited with {code}"));
            let output = harmless(&finished.output);
            Err(HookError::Command { command: command.join(" "), end, output })
        }
        Hook::HttpGet(request) => match http::hook(network, request, pod, version).await? {
            Hooked::Answered => Ok(HookDone::default()),
            Hooked::AnsweredInTheClear { authority } => {
                let message = format!(
                    "request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded"
                );
                Ok(HookDone { event: Some(Event { reason: "LifecycleHTTPFallback", message }) })
            }
            Hooked::Failed(message) => Err(HookError::Request { message }),
        },
        Hook::Sleep(duration) => {
            tokio::time::sleep(*duration).await;
            Ok(HookDone::default())
        }
        Hook::TcpSocket(_) => Err(HookError::InvalidHandler { handler: "tcpSocket" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_events_have_the_words_of_the_kubelet() {
        for (kind, reason, message) in [
            (HookKind::PostStart, "FailedPostStartHook", "PostStartHook failed"),
            (HookKind::PreStop, "FailedPreStopHook", "PreStopHook failed"),
        ] {
            let event = kind.failure_event();
            assert_eq!((event.reason, event.message.as_str()), (reason, message));
        }
    }
}
