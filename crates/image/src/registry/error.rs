//! What can go wrong between this machine and a registry.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::digest::DigestError;

/// Longest text of a server that is repeated in an error, in characters.
const SHOWN: usize = 300;

/// The errors of talking to a registry. No text holds a password or token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The request could not be carried out.
    #[error("failed to do request: {method} {url:?}")]
    Request {
        /// `Head`, `Get` or `Post`.
        method: &'static str,
        /// The URL, without its query: that of a signed URL is a secret.
        url: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The host's name has no address.
    #[error("look up {host}")]
    Lookup {
        /// The host.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No connection to the host.
    #[error("dial tcp {address}: connect")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// The cause, such as ECONNREFUSED.
        source: io::Error,
    },
    /// A server pointed to an address where it has no business: see the module's notes on addresses.
    #[error("refuse to follow a server's direction to {host} ({address})")]
    Address {
        /// The host that it named.
        host: String,
        /// Its address.
        address: std::net::IpAddr,
    },
    /// The TLS handshake failed: the certificate is not valid for the host, or the other side speaks no TLS.
    #[error("tls: {host}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Certificates to trust could not be read.
    #[error("read certificates {path}")]
    Certificates {
        /// The file, or `of this host`.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke or the other side does not speak HTTP.
    #[error("talk to {host}")]
    Http {
        /// The host.
        host: String,
        /// Why.
        source: hyper::Error,
    },
    /// Nothing, or next to nothing, came for so long.
    #[error("{host} {what} for {} s", after.as_secs())]
    Stalled {
        /// The host.
        host: String,
        /// What it did not do.
        what: &'static str,
        /// The patience that is at an end.
        after: Duration,
    },
    /// Data ended before its announced length.
    #[error("data ended after {actual} of {expected} bytes")]
    Cut {
        /// The bytes that came in all.
        actual: u64,
        /// The announced length.
        expected: u64,
    },
    /// A document or error text is longer than any honest one.
    #[error("{what} has more than {max} bytes")]
    TooLarge {
        /// `manifest`, `token`, …
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// The registry does not have it.
    #[error("{what}: not found")]
    NotFound {
        /// The image or digest.
        what: String,
    },
    /// The registry wants other credentials than those there are, or some at all.
    #[error("{what}: {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Denied {
        /// What was asked for.
        what: String,
        /// `401 Unauthorized` or `403 Forbidden`.
        status: String,
        /// What the server says.
        message: String,
    },
    /// An answer that fits no question.
    #[error("unexpected status from {method} request to {url}: {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// `HEAD`, `GET` or `POST`.
        method: &'static str,
        /// The URL, without its query.
        url: String,
        /// Code and name.
        status: hyper::StatusCode,
        /// What the server says.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// A redirect after the last that is followed.
    #[error("{url} redirects more than {max} times")]
    Redirects {
        /// The first URL.
        url: String,
        /// The bound.
        max: usize,
    },
    /// A server wants to leave TLS.
    #[error("refuse to follow {from} from https to {to}")]
    Downgrade {
        /// Where from.
        from: String,
        /// Where to.
        to: String,
    },
    /// A URL that is not used.
    #[error("URL {url:?} {reason}")]
    Url {
        /// The URL, shortened.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// A registry wants its users' passwords to be sent somewhere that is none of its own.
    #[error(
        "{registry} asks for its credentials to be sent to {realm}; allow it with auth-hosts in registries.toml"
    )]
    Realm {
        /// The registry.
        registry: String,
        /// The host that would get them.
        realm: String,
    },
    /// No token where there should be one.
    #[error("failed to fetch oauth token from {realm}")]
    Token {
        /// The token server.
        realm: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// An answer that cannot be understood.
    #[error("{what}: {reason}")]
    Answer {
        /// The document.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A digest from the registry is none.
    #[error("parse digest {digest:?} from the registry")]
    Digest {
        /// The text, shortened.
        digest: String,
        /// Why.
        source: DigestError,
    },
    /// A credential helper could not be asked.
    #[error("ask credential helper {program:?}: {reason}")]
    Helper {
        /// `docker-credential-…`
        program: String,
        /// Why, without what it printed to its output.
        reason: String,
    },
    /// Credentials that only a helper knows, and helpers are not executed.
    #[error(
        "credentials for {registry} are kept by {program:?}, and podrun executes no programs of the host: \
         set run-credential-helpers = true in registries.toml, or put them into an auth file"
    )]
    HelperNotRun {
        /// The registry.
        registry: String,
        /// `docker-credential-…`
        program: String,
    },
}

impl RegistryError {
    /// Returns whether the registry does not have what was asked for.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Request { source, .. } => source.is_not_found(),
            _ => false,
        }
    }

    /// Returns whether other credentials might help.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Request { source, .. } | Self::Token { source, .. } => source.is_denied(),
            _ => false,
        }
    }

    /// Returns whether the registry is there but cannot serve just now: 429 and 5xx.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Status { status, .. } => status.as_u16() == 429 || status.is_server_error(),
            Self::Request { source, .. } | Self::Token { source, .. } => source.is_unavailable(),
            _ => false,
        }
    }

    /// Returns whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Http { .. } | Self::Stalled { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            Self::Request { source, .. } | Self::Token { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// Returns how long the server wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Request { source, .. } | Self::Token { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}

/// A text from elsewhere, fit for an error: shortened, on one line, without control characters.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
