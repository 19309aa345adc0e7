//! What can go wrong in the engine.

use std::io;
use std::path::{Path, PathBuf};

/// A result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine. The text names the attempt and its object; the cause is its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be used.
    #[error("{verb} {}", path.display())]
    Io {
        /// What was attempted.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A Pod of that name exists.
    #[error("pod \"{namespace}/{name}\" already exists")]
    AlreadyExists {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// No Pod of that name exists.
    #[error("pod \"{namespace}/{name}\" not found")]
    NotFound {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// The Pod was removed meanwhile.
    #[error("pod {uid} was removed meanwhile")]
    Gone {
        /// The Pod.
        uid: String,
    },
    /// Another process is starting, ending or removing the Pod at this moment.
    #[error("pod \"{name}\" is in use by another process")]
    Busy {
        /// The Pod.
        name: String,
    },
    /// A Pod whose supervisor was killed could not get a new one.
    #[error("look after pod \"{namespace}/{name}\"")]
    Revive {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Why not.
        source: Box<Error>,
    },
    /// A file of state does not hold what it should.
    #[error("read state in {}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration file is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The host cannot do what the Pod asks for.
    #[error("{}", faults.join("; "))]
    Unplannable {
        /// Each thing that cannot be done.
        faults: Vec<String>,
    },
    /// The host lacks something that every Pod needs.
    #[error("{what}")]
    Host {
        /// What is missing.
        what: String,
    },
    /// The Pod's supervisor did not answer.
    #[error("reach the supervisor of pod \"{name}\"")]
    Unreachable {
        /// The Pod.
        name: String,
        /// The errno.
        source: io::Error,
    },
    /// The supervisor answered something else than was asked.
    #[error("supervisor of pod \"{name}\" answered: {answer}")]
    Refused {
        /// The Pod.
        name: String,
        /// What it said.
        answer: String,
    },
    /// A supervisor could not be started.
    #[error("start the supervisor")]
    Launch {
        /// The errno.
        source: io::Error,
    },
    /// A supervisor ended before it had taken over.
    #[error("the supervisor ended at once: {reason}")]
    SupervisorEnded {
        /// What it left in its log.
        reason: String,
    },
    /// The timer that wakes a supervisor could not be used.
    #[error("set the timer of the supervisor")]
    Alarm {
        /// The errno.
        source: io::Error,
    },
    /// The threads of this process could not be counted.
    #[error("count the threads of this process")]
    Threads(#[source] podrun_namespaces::Error),
    /// Something of a Pod could not be removed.
    #[error("remove what is left of the pod: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Remove(Vec<podrun_sandbox::SandboxError>),
    /// A command could not be asked for.
    #[error("exec in pod \"{name}\"")]
    Exec {
        /// The Pod.
        name: String,
        /// Why.
        source: podrun_sandbox::SandboxError,
    },
    /// The network namespace of a Pod could not be opened.
    #[error("open the network namespace of the pod")]
    Namespace {
        /// Why.
        source: podrun_namespaces::Error,
    },
    /// A Pod could not be taken out of the network.
    #[error("take the pod out of the network: {}", errors.join("; "))]
    Leave {
        /// What stood in the way.
        errors: Vec<String>,
    },
    /// The machine's side of the Pods' network could not be used.
    #[error(transparent)]
    Network(#[from] podrun_network::Error),
    /// The image store could not be used.
    #[error("use the image store")]
    Image(#[source] podrun_image::Error),
    /// `registries.toml` is not what it should be.
    #[error(transparent)]
    Registries(#[from] podrun_image::registry::SettingsError),
    /// A file with credentials for registries is not what it should be.
    #[error("read credentials for registries in {}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: podrun_image::registry::AuthFileError,
    },
    /// The cgroup hierarchy could not be used.
    #[error("use cgroup v2")]
    Cgroup(#[source] podrun_cgroups::Error),
}

impl Error {
    pub(crate) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Corrupt { path: path.to_owned(), source: source.into() }
    }
}

/// Returns an error and its causes on one line. A cause that the error has told already is not told again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.ends_with(&why) {
            text.push_str(": ");
            text.push_str(&why);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("f.toml:{0}")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("1:1: unknown field"));
        assert_eq!(chain(&outer), "f.toml:1:1: unknown field");
        let read = Error::io("read", Path::new("/f"), io::Error::other("no luck"));
        assert_eq!(chain(&read), "read /f: no luck");
    }
}
