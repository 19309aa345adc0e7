//! `tcpSocket`: whether a connection can be made.

use std::time::Duration;

use tokio::time::Instant;

use crate::network::Unconnected;
use crate::{Network, Outcome, Result};

/// A port to connect to, as `tcpSocket` of a probe describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpSocket {
    /// The host to connect to; `None` is the Pod itself.
    pub host: Option<String>,
    /// The port; see [`resolve_port`](crate::resolve_port) for names.
    pub port: u16,
}

/// Connects, and closes at once: that it works is the success.
///
/// `pod` is the host where the handler names none.
///
/// # Errors
///
/// [`Error::Enter`](crate::Error::Enter), [`Error::Socket`](crate::Error::Socket) and
/// [`Error::Thread`](crate::Error::Thread) if the connection could not be attempted.
pub async fn probe(network: &Network, handler: &TcpSocket, pod: &str, timeout: Duration) -> Result<Outcome> {
    let host = handler.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod);
    match network.connect(host, handler.port, Some(Instant::now() + timeout)).await {
        Ok(_) => Ok(Outcome::Success { output: String::new() }),
        Err(Unconnected::Failed(text)) => Ok(Outcome::Failure { output: text }),
        Err(Unconnected::TimedOut { what }) => Ok(Outcome::failure(format!("{what}: i/o timeout"))),
        Err(Unconnected::Error(error)) => Err(error),
    }
}
