//! What can go wrong with a Pod's network.

use std::io;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use podrun_plan::model::PortMapping;

/// A `Result` whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a Pod's network that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be made, read or removed.
    #[error("{action} {}", path.display())]
    File {
        /// `create`, `list`, `lock`, `read`, `remove`, `write`.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// All addresses are in use.
    #[error("no free address in {subnet}: all {addresses} are taken")]
    NoFreeAddress {
        /// The subnet.
        subnet: Ipv4Net,
        /// How many Pods it has addresses for.
        addresses: u32,
    },
    /// Another Pod has a port of the machine.
    #[error("host port {port} is in use by the pod with UID {uid}")]
    PortTaken {
        /// The port.
        port: PortMapping,
        /// UID of its holder.
        uid: String,
    },
    /// Subnets that cannot be the Pods'.
    #[error("use {} as the subnets of pods: {why}", list(subnets))]
    Subnets {
        /// What was asked for.
        subnets: Vec<IpNet>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Pods have addresses of other subnets.
    #[error("use {} as the subnets of pods: pods have addresses of {}", list(asked), list(used))]
    SubnetsInUse {
        /// What was asked for.
        asked: Vec<IpNet>,
        /// What there is.
        used: Vec<IpNet>,
    },
    /// Routes of the machine lead to all subnets that might be the Pods'.
    #[error("find a subnet for pods: routes of this machine lead to all that are tried")]
    NoFreeSubnet,
    /// Something else has the name of the bridge.
    #[error("make the bridge {name:?}: a link of kind {kind:?} has that name")]
    NameTaken {
        /// The name.
        name: String,
        /// What has it.
        kind: String,
    },
    /// What is kept about the bridge cannot be understood.
    #[error("read {}", path.display())]
    Corrupt {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A setup failed, and so did taking back what had been done.
    #[error("{first} (and taking it back: {})", texts(undo))]
    NotUndone {
        /// Why it failed.
        #[source]
        first: Box<Error>,
        /// What could not be taken back.
        undo: Vec<Error>,
    },
    /// A network namespace could not be made.
    #[error("make a network namespace")]
    Unshare(#[source] io::Error),
    /// Traffic could not be sent to be measured.
    #[error("measure what goes through the link of the pod")]
    Measure(#[source] io::Error),
    /// Traffic could not be shaped, or what shapes it not be read.
    #[error("shape traffic")]
    Shaping(#[from] podrun_tc::Error),
    /// The kernel refused, or did not answer.
    #[error(transparent)]
    Netlink(#[from] podrun_netlink::Error),
}

impl Error {
    /// Returns a function that wraps an error of the file system.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

fn list(subnets: &[IpNet]) -> String {
    let texts: Vec<_> = subnets.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

fn texts(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
