//! What can go wrong, by what was attempted.

use std::io;

/// A `Result` whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Traffic control that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused, or could not be talked to: verb, object, errno and the kernel's text are inside.
    #[error(transparent)]
    Netlink(#[from] podrun_netlink::Error),
    /// The kernel's units of time could not be read.
    #[error("read /proc/net/psched")]
    Psched {
        /// The cause; `InvalidData` if it is not four numbers.
        source: io::Error,
    },
    /// A value is outside of what the kernel takes, or would drop packets that it should not.
    #[error("{what} of {value}: {reason}")]
    InvalidValue {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A link has the name of the ifb, but is something else.
    #[error("use link {name:?} as an ifb: it is of kind {kind}")]
    NotIfb {
        /// The link's name.
        name: String,
        /// Its kind.
        kind: String,
    },
}

impl Error {
    /// Returns the errno of the cause, if the kernel is the cause.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Netlink(error) => error.raw_os_error(),
            Self::Psched { source } => source.raw_os_error(),
            Self::InvalidValue { .. } | Self::NotIfb { .. } => None,
        }
    }

    /// Whether something that was to be found is not there, or the link it should be on is not.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Netlink(error) if error.is_not_found())
    }

    /// Whether something was to be added that is there already.
    pub fn already_exists(&self) -> bool {
        matches!(self, Self::Netlink(error) if error.already_exists())
    }
}
