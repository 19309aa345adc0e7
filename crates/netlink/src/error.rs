//! What can go wrong, by what was attempted.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::protocol::Protocol;

/// A `Result` whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a request is for, in words: a verb and the object. Every error of the request carries it.
///
/// ```
/// use podrun_netlink::Action;
/// assert_eq!(Action::new("create link", "\"veth0\"").to_string(), "create link \"veth0\"");
/// assert_eq!(Action::new("list links", "").to_string(), "list links");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    verb: &'static str,
    object: Cow<'static, str>,
}

impl Action {
    /// Returns an action; an empty object is left out of the text.
    pub fn new(verb: &'static str, object: impl Into<Cow<'static, str>>) -> Self {
        Self { verb, object: object.into() }
    }

    /// Returns the verb, such as `create link`.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Returns the object, such as `"veth0"`; may be empty.
    pub fn object(&self) -> &str {
        &self.object
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb)?;
        if self.object.is_empty() { Ok(()) } else { write!(f, " {}", self.object) }
    }
}

/// A netlink operation that failed: the verb and the object are in the text, the cause is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A socket could not be opened.
    #[error("open a {protocol} socket")]
    Open {
        /// Which netlink protocol.
        protocol: Protocol,
        /// The cause; `EPROTONOSUPPORT` if the kernel lacks the protocol.
        source: io::Error,
    },
    /// A network namespace could not be entered to open a socket in it.
    #[error("enter a network namespace to open a {protocol} socket")]
    Enter {
        /// Which netlink protocol.
        protocol: Protocol,
        /// The cause; `EINVAL` if the descriptor is not that of a network namespace, `EPERM` without `CAP_SYS_ADMIN`
        /// over it.
        source: io::Error,
    },
    /// A request could not be sent.
    #[error("{action}: send the request")]
    Send {
        /// What the request was for.
        action: Action,
        /// The cause; `EMSGSIZE` if it is larger than the send buffer.
        source: io::Error,
    },
    /// An answer could not be received.
    #[error("{action}: receive the answer")]
    Receive {
        /// What the request was for.
        action: Action,
        /// The cause; `ENOBUFS` if answers were lost because the receive buffer is too small.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{action}")]
    Refused {
        /// What the request was for.
        action: Action,
        /// The kernel's answer.
        source: KernelError,
    },
    /// The kernel refused one message of a transaction, and with it all.
    #[error("{action}: {}", place(*index))]
    TransactionRefused {
        /// What the transaction was for.
        action: Action,
        /// The place of the message, from 0; `None` if all were taken but the commit failed.
        index: Option<usize>,
        /// The kernel's answer.
        source: KernelError,
    },
    /// An answer does not have the layout it should have.
    #[error("{action}: read the answer")]
    Malformed {
        /// What the request was for.
        action: Action,
        /// What is wrong.
        source: Malformed,
    },
    /// A dump was interrupted by changes each time it was tried.
    #[error("{action}: the list changed while it was read, {attempts} times in a row")]
    DumpInterrupted {
        /// What the dump was for.
        action: Action,
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel's answer lacks what was asked for.
    #[error("{action}: the kernel did not answer")]
    NoAnswer {
        /// What the request was for.
        action: Action,
    },
    /// A request has more bytes than its length fields can tell.
    #[error("{action}: an attribute of the request is larger than 65535 bytes")]
    TooLarge {
        /// What the request was for.
        action: Action,
    },
    /// A name cannot be the name of a link.
    #[error("use {name:?} as the name of a link: it {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A value is outside of what the kernel takes.
    #[error("{action}: {reason}")]
    InvalidValue {
        /// What the request was for.
        action: Action,
        /// Which value, and why not.
        reason: String,
    },
    /// Something with the same identity exists, but it differs.
    #[error("{action}: {existing} is in its place")]
    Conflict {
        /// What was to be added.
        action: Action,
        /// What exists.
        existing: String,
    },
}

fn place(index: Option<usize>) -> String {
    index.map_or("commit the transaction".to_owned(), |index| format!("message {index} of the transaction"))
}

impl Error {
    /// Returns the errno of the cause, if the kernel is the cause.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Open { source, .. }
            | Self::Enter { source, .. }
            | Self::Send { source, .. }
            | Self::Receive { source, .. } => source.raw_os_error(),
            Self::Refused { source, .. } | Self::TransactionRefused { source, .. } => Some(source.errno),
            _ => None,
        }
    }

    /// Returns the kernel's answer, if it refused.
    pub fn kernel(&self) -> Option<&KernelError> {
        match self {
            Self::Refused { source, .. } | Self::TransactionRefused { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether the object, or the link it is on, does not exist: `ENODEV`, `ENOENT`, `ESRCH`, `ENXIO` or
    /// `EADDRNOTAVAIL`.
    pub fn is_not_found(&self) -> bool {
        let absent = [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::ENXIO, libc::EADDRNOTAVAIL];
        self.kernel().is_some_and(|kernel| absent.contains(&kernel.errno))
    }

    /// Whether the object exists already: `EEXIST`, or [`Error::Conflict`].
    pub fn already_exists(&self) -> bool {
        matches!(self, Self::Conflict { .. })
            || self.kernel().is_some_and(|kernel| kernel.errno == libc::EEXIST)
    }

    /// Whether the kernel lacks what was asked for: `EOPNOTSUPP`, `EPROTONOSUPPORT` or `EAFNOSUPPORT`.
    pub fn is_unsupported(&self) -> bool {
        let unsupported = [libc::EOPNOTSUPP, libc::EPROTONOSUPPORT, libc::EAFNOSUPPORT];
        self.raw_os_error().is_some_and(|errno| unsupported.contains(&errno))
    }

    /// Whether the caller lacks a capability: `EPERM` or `EACCES`.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }
}

/// The kernel's refusal: the errno, and what the extended ack says, if it says anything.
///
/// Many refusals have no text: `EEXIST` of a link and `ENODEV` never do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelError {
    /// The errno, positive.
    pub errno: i32,
    /// The text of the extended ack (`NLMSGERR_ATTR_MSG`).
    pub message: Option<String>,
    /// Where in the request the offending attribute begins, in bytes from its header (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<u32>,
    /// The type of an attribute that the request should have had (`NLMSGERR_ATTR_MISS_TYPE`).
    pub missing: Option<u32>,
}

impl KernelError {
    /// Returns a refusal without text.
    pub fn new(errno: i32) -> Self {
        Self { errno, message: None, offset: None, missing: None }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (at byte {offset} of the request)")?;
        }
        if let Some(missing) = self.missing {
            write!(f, " (attribute {missing} is missing)")?;
        }
        Ok(())
    }
}

impl std::error::Error for KernelError {}

/// Bytes that do not have the layout they should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {found} bytes, expected {expected}")]
pub struct Malformed {
    /// Which structure.
    pub what: &'static str,
    /// How many bytes there are.
    pub found: usize,
    /// How many there should be, at least.
    pub expected: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_refusal_has_the_errno_first() {
        let mut error = KernelError::new(libc::EINVAL);
        assert_eq!(error.to_string(), "Invalid argument (os error 22)");
        error.message = Some("Invalid qdisc name".to_owned());
        error.offset = Some(36);
        assert_eq!(
            error.to_string(),
            "Invalid argument (os error 22): Invalid qdisc name (at byte 36 of the request)"
        );
    }

    #[test]
    fn predicates_go_by_the_errno() {
        let refused = |errno| Error::Refused {
            action: Action::new("delete link", "\"a\""),
            source: KernelError::new(errno),
        };
        assert!(refused(libc::ENODEV).is_not_found());
        assert!(refused(libc::EEXIST).already_exists());
        assert!(refused(libc::EPERM).is_permission_denied());
        assert!(refused(libc::EOPNOTSUPP).is_unsupported());
        assert!(!refused(libc::EBUSY).is_not_found());
        assert_eq!(refused(libc::EBUSY).to_string(), "delete link \"a\"");
    }
}
