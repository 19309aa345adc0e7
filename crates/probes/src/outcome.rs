//! What a probe says, and the events that come of it, in the kubelet's words.

use std::fmt;

use crate::prober::Attempt;
use crate::{Error, Result};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Whether the container has started; until then the two others are not made. Its failure kills the container.
    Startup,
    /// Whether the container works. Its failure kills the container.
    Liveness,
    /// Whether the container may be sent work.
    Readiness,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        })
    }
}

/// What one probe found.
///
/// The texts are bounded by [`MAX_OUTPUT`](crate::MAX_OUTPUT) and hold no control characters but tab and newline. What
/// was sent, for instance an `Authorization` header, is never in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container is well.
    Success {
        /// What the command wrote or the server said.
        output: String,
    },
    /// The container counts as well, but the manifest should be looked at: the server sent a redirect that is not
    /// followed.
    Warning {
        /// What the event says.
        output: String,
    },
    /// The container is not well.
    Failure {
        /// What the event says: why the server cannot be reached, or what the command wrote.
        output: String,
    },
}

impl Outcome {
    pub(crate) fn failure(output: impl Into<String>) -> Self {
        Self::Failure { output: output.into() }
    }

    /// Returns whether it counts as a success. A warning does.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Success { .. } | Self::Warning { .. })
    }

    /// Returns the text.
    pub fn output(&self) -> &str {
        match self {
            Self::Success { output } | Self::Warning { output } | Self::Failure { output } => output,
        }
    }
}

/// Returns how the attempt counts for a [`Prober`](crate::Prober): an error does not count at all.
impl<E> From<&Result<Outcome, E>> for Attempt {
    fn from(result: &Result<Outcome, E>) -> Self {
        match result {
            Ok(outcome) if outcome.is_success() => Self::Succeeded,
            Ok(_) => Self::Failed,
            Err(_) => Self::Errored,
        }
    }
}

/// An event about a container. Its type is `Warning`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `Unhealthy`, `ProbeWarning`, `FailedPostStartHook`, `FailedPreStopHook` or `LifecycleHTTPFallback`.
    pub reason: &'static str,
    /// The text.
    pub message: String,
}

/// Returns the event that a probe makes; a plain success makes none.
///
/// ```
/// use podrun_probes::{Kind, Outcome, probe_event};
///
/// let failure = Outcome::Failure { output: "HTTP probe failed with statuscode: 500".to_owned() };
/// let event = probe_event(Kind::Liveness, Ok(&failure)).unwrap();
/// assert_eq!(event.reason, "Unhealthy");
/// assert_eq!(event.message, "Liveness probe failed: HTTP probe failed with statuscode: 500");
/// ```
pub fn probe_event(kind: Kind, result: Result<&Outcome, &Error>) -> Option<Event> {
    let (reason, message) = match result {
        Ok(Outcome::Success { .. }) => return None,
        Ok(Outcome::Warning { output }) => ("ProbeWarning", format!("{kind} probe warning: {output}")),
        Ok(Outcome::Failure { output }) => ("Unhealthy", format!("{kind} probe failed: {output}")),
        Err(error) => (
            "Unhealthy",
            format!("{kind} probe errored and resulted in unknown state: {}", error.in_one_line()),
        ),
    };
    Some(Event { reason, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_words_of_the_kubelet() {
        let output = || "out".to_owned();
        for (result, reason, message) in [
            (Ok(Outcome::Warning { output: output() }), "ProbeWarning", "Readiness probe warning: out"),
            (Ok(Outcome::Failure { output: output() }), "Unhealthy", "Readiness probe failed: out"),
            (Ok(Outcome::failure("")), "Unhealthy", "Readiness probe failed: "),
            (
                Err(Error::PortName { name: "http".to_owned() }),
                "Unhealthy",
                "Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing \"http\": invalid syntax",
            ),
        ] {
            let event = probe_event(Kind::Readiness, result.as_ref()).expect("an event");
            assert_eq!((event.reason, event.message.as_str()), (reason, message));
        }
        assert_eq!(probe_event(Kind::Startup, Ok(&Outcome::Success { output: output() })), None);
    }

    #[test]
    fn warnings_count_as_success_and_errors_not_at_all() {
        let text = String::new;
        for (result, attempt) in [
            (Ok(Outcome::Success { output: text() }), Attempt::Succeeded),
            (Ok(Outcome::Warning { output: text() }), Attempt::Succeeded),
            (Ok(Outcome::Failure { output: text() }), Attempt::Failed),
            (Err(Error::NoExec), Attempt::Errored),
        ] {
            assert_eq!(Attempt::from(&result), attempt, "{result:?}");
        }
    }
}
